"""What simple properties of a picture the committed networks' channel gates follow.

    python -m experiments.cifar10.early --data DIR

At every attention module the gates (N, C) of the test images have a first principal direction. How
much of its variance do four simple properties of the picture explain, and how much does the class?
Takes the checkpoints of ``grid.py`` as they are and writes results/early.json.
"""

import argparse
import json

import numpy as np
import torch

from attn_lib.train.record import replacing
from experiments.cifar10 import gates, grid

VARIANTS = ("se", "eca", "cbam")


def properties(x):
    """Images (N, 3, H, W) in [0, 1] -> name of a property -> (N,) array."""
    x = x.double()
    red, green, blue = x.mean((2, 3)).T
    grey, half = x.mean(1), x.shape[2] // 2
    found = {
        "brightness": grey.mean((1, 2)),
        "blue": blue - (red + green) / 2,
        "contrast": grey.flatten(1).std(1),
        "top less bottom": grey[:, :half].mean((1, 2)) - grey[:, half:].mean((1, 2)),
    }
    return {name: values.numpy() for name, values in found.items()}


def explained(target, columns):
    """Share of the variance of ``target`` (N,) that a linear map of ``columns`` (N, k) explains."""
    design = np.column_stack([np.ones(len(target)), columns])
    rest = target - design @ np.linalg.lstsq(design, target, rcond=None)[0]
    return 1 - rest.var() / target.var()


def early(variant, raw, x, y):
    """Module -> what its first direction follows, as a dictionary of numbers."""
    model = grid.trained(variant)
    made = {}
    for _, found in gates.recorded(model, x):
        for module, gate in found.items():
            made.setdefault(module, []).append(gate["channel"].flatten(1))
    known, classes = properties(raw), np.eye(gates.CLASSES)[y.numpy()]
    result = {}
    for module, parts in made.items():
        s = torch.cat(parts).double().numpy()
        s -= s.mean(0)
        power, directions = np.linalg.eigh(s.T @ s / len(s))
        first = s @ directions[:, -1]
        result[module] = {
            "share of the first direction": power[-1] / power.sum(),
            "explained by the properties": explained(first, np.column_stack(list(known.values()))),
            "explained by the class": explained(first, classes[:, 1:]),
            "correlation": {
                name: abs(np.corrcoef(first, values)[0, 1]) for name, values in known.items()
            },
        }
    return result


def rounded(value):
    """Numbers to three digits, in dictionaries of dictionaries."""
    if isinstance(value, dict):
        return {key: rounded(inner) for key, inner in value.items()}
    return round(float(value), 3)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds cifar-10-batches-bin/")
    raw, provenance = grid.load(parser.parse_args().data)
    split = raw.standardised()
    found = {"data": provenance, "torch": torch.__version__}
    found["networks"] = {
        variant: rounded(early(variant, raw.x_test, split.x_test, split.y_test))
        for variant in VARIANTS
    }
    with replacing(grid.RESULTS / "early.json", "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
