"""Time a training step of every variant, in turns, on an otherwise idle machine.

    python -m experiments.cifar10.speed

Writes results/speed.json. The seconds in runs.jsonl are those of a machine with other work to do;
these are what "the same cost" is judged by.
"""

import json
import statistics
import time

import torch
import torch.nn.functional as F
from tqdm import trange

from attn_lib.train import seed_everything
from attn_lib.train.record import replacing
from experiments.cifar10 import grid

ROUNDS = 15
STEPS = 4


def step_of(variant):
    """Function that trains a new network of this variant on one batch of noise."""
    model = grid.build(variant).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, nesterov=True)
    images = torch.randn(grid.RECIPE["batch_size"], 3, 32, 32)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.arange(len(images)) % 10

    def step():
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def measure():
    """Milliseconds a step: variant -> one number a round."""
    steps = {variant: step_of(variant) for variant in grid.VARIANTS}
    times = {variant: [] for variant in steps}
    for step in steps.values():
        step()  # warm up
    for _ in trange(ROUNDS, desc="rounds"):
        for variant, step in steps.items():
            started = time.perf_counter()
            for _ in range(STEPS):
                step()
            times[variant].append(1e3 * (time.perf_counter() - started) / STEPS)
    return times


def main():
    torch.set_num_threads(1)
    seed_everything(0)
    times = measure()
    medians = {variant: statistics.median(values) for variant, values in times.items()}
    result = {
        "milliseconds": {variant: round(value, 2) for variant, value in medians.items()},
        "relative": {variant: round(v / medians["none"], 3) for variant, v in medians.items()},
        "rounds": ROUNDS,
        "batch_size": grid.RECIPE["batch_size"],
        "machine": grid.machine(),
        "torch": torch.__version__,
        "measured": time.strftime("%Y-%m-%d"),
    }
    with replacing(grid.RESULTS / "speed.json", "w") as file:
        json.dump(result, file, indent=1)
    print(json.dumps(result["relative"]))


if __name__ == "__main__":
    main()
