"""Time a training step of every variant, in turns, on an otherwise idle machine.

    python -m experiments.cifar10.speed

Writes results/speed.json. The seconds in runs.jsonl are those of a machine with other work to do;
these are what "the same cost" is judged by.
"""

import json
import time

import torch
import torch.nn.functional as F

from attn_lib.profiling import in_turns
from attn_lib.train import seed_everything
from attn_lib.train.record import replacing
from experiments.cifar10 import grid

ROUNDS = 15


def step_of(variant, size=grid.MODEL, recipe=grid.RECIPE):
    """Function that trains a new network of this variant on one batch of noise."""
    model = grid.build(variant, size).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images = torch.randn(recipe["batch_size"], 3, 32, 32)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(len(images)) % 10

    def step():
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe["precision"] == "bfloat16"):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure(**options):
    """What is written down: milliseconds a step, and relative to the network without attention."""
    torch.set_num_threads(1)
    seed_everything(0)
    steps = {variant: step_of(variant, **options) for variant in grid.VARIANTS}
    times = in_turns(steps, rounds=ROUNDS, min_seconds=0.5)
    plain = times["none"].median
    return {
        "milliseconds": {variant: round(1e3 * t.median, 2) for variant, t in times.items()},
        "quartiles": {v: [round(1e3 * t.low, 2), round(1e3 * t.high, 2)] for v, t in times.items()},
        "relative": {variant: round(t.median / plain, 3) for variant, t in times.items()},
        "rounds": ROUNDS,
        "batch_size": grid.RECIPE["batch_size"],
        "machine": grid.machine(),
        "torch": torch.__version__,
        "measured": time.strftime("%Y-%m-%d"),
    }


def write(path, **options):
    """Measure, and keep it in ``path``; ``options`` are those of :func:`step_of`."""
    result = measure(**options)
    with replacing(path, "w") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
    print(json.dumps(result["relative"]))


if __name__ == "__main__":
    write(grid.RESULTS / "speed.json")
