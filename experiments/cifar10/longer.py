"""The question of the grid asked of a longer training: twenty epochs instead of five.

    python -m experiments.cifar10.longer --data DIR

What is asked, and how it is answered, was written down here before the first of these runs:

1. Is a mechanism more, or less, accurate than no attention after twenty epochs? The difference in
   test accuracy at the last epoch, seed by seed; a two-sided t-test for each of the five
   mechanisms, at the level 0.05 / 5.
2. And at equal time? The rival is the network without attention, trained for twenty epochs times
   the mechanism's step time relative to it, rounded, as results/speed.json has it when the first of
   those runs begins. The same test at the same level.

Network, recipe and augmentation are those of ``grid.py``. The seeds are new, because BAM's lead in
the first five is what made one look again. They stand outermost: a grid cut short holds whole sets
of variants, and is read with as many seeds as are complete. results/longer.jsonl has a line for
each run.
"""

import argparse
import json

from experiments.cifar10 import grid

RUNS = grid.RESULTS / "longer.jsonl"
CHECKPOINTS = grid.RESULTS / "checkpoints" / "longer"
SEEDS = range(10, 15)
EPOCHS = 20


def equal_time():
    """Epochs of the network without attention that take the time of a mechanism's EPOCHS."""
    relative = json.loads((grid.RESULTS / "speed.json").read_text())["relative"]
    return sorted({round(EPOCHS * ratio) for name, ratio in relative.items() if name != "none"})


def runs():
    """Every run: all variants with one seed, then its rivals of equal time, then the next seed."""
    found = []
    for seed in SEEDS:
        found += [{"variant": v, "seed": seed, "epochs": EPOCHS} for v in grid.VARIANTS]
        found += [{"variant": "none", "seed": seed, "epochs": n} for n in equal_time()]
    return found


def work(root):
    grid.train_all(runs(), RUNS, root, CHECKPOINTS, EPOCHS)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder that holds cifar-10-batches-bin/")
    work(parser.parse_args().data)
