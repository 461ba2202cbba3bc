"""What the committed networks lose when their gates are interfered with, on the whole test set.

    python -m experiments.cifar10.interventions --data DIR

Takes the checkpoints of ``grid.py`` as they are and writes results/interventions.json.
"""

import argparse
import json

import torch

from attn_lib import train
from attn_lib.inspection import clamp_gates, record_gates
from attn_lib.train.record import replacing
from experiments.cifar10 import gates, grid

BATCH = 100


def without_positions(means):
    """Mean gates with one number a channel: fixed maps and profiles are levelled too."""
    return {
        module: {key: gate.mean((2, 3), keepdim=True) for key, gate in made.items()}
        for module, made in means.items()
    }


def estimate_again(model, x):
    """Replace the running statistics of all batch norms by those of images x."""
    norms = [m for m in model.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain mean over the batches
    model.train()
    with torch.no_grad():
        for batch in x.split(BATCH):
            model(batch)
    return model.eval()


@torch.no_grad()
def swapped_accuracy(model, x, y, partner):
    """Accuracy when every image's features are multiplied by the gates of image partner[n]."""
    model.eval()
    right = 0
    for mine in torch.arange(len(x)).split(BATCH):
        with record_gates(model) as theirs:
            model(x[partner[mine]])
        with clamp_gates(model, theirs):
            right += (model(x[mine]).argmax(1) == y[mine]).sum().item()
    return right / len(x)


def partners(y, generator):
    """For every image, the number of another one at random; and of one of the same class."""
    anybody = torch.empty_like(y)
    order = torch.randperm(len(y), generator=generator)
    anybody[order] = order.roll(1)  # one long chain: nobody is their own partner
    same = torch.empty_like(y)
    for label in y.unique():
        members = order[y[order] == label]
        same[members] = members.roll(1)
    return anybody, same


def interventions(variant, split):
    """Accuracies of a variant's committed network, kind of interference -> accuracy."""

    def network():
        return grid.trained(variant)

    def accuracy(model):
        return train.evaluate(model, x, y, batch_size=BATCH)

    x, y = split.x_test, split.y_test
    few = split.x_train[: grid.CLAMP_IMAGES]
    result = {
        "as trained": accuracy(network()),
        "batch norm estimated again": accuracy(estimate_again(network(), few)),
    }
    if variant == "none":
        return result
    model = network()
    means = gates.mean_gates(model, few)
    for name, held in (("held", means), ("held, levelled", without_positions(means))):
        model = network()
        with clamp_gates(model, held):
            result[name] = accuracy(model)
            result[f"{name}, batch norm estimated again"] = accuracy(estimate_again(model, few))
    anybody, same = partners(y, torch.Generator().manual_seed(0))
    result["another image's gates"] = swapped_accuracy(network(), x, y, anybody)
    result["gates of another image of the class"] = swapped_accuracy(network(), x, y, same)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds cifar-10-batches-bin/")
    split, provenance = grid.load(parser.parse_args().data)
    split = split.standardised()
    found = {"data": provenance, "machine": grid.machine(), "torch": torch.__version__}
    found["accuracy"] = {variant: interventions(variant, split) for variant in grid.VARIANTS}
    with replacing(grid.RESULTS / "interventions.json", "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
