"""The question of the grid asked of a longer training: twenty epochs instead of five.

    python -m experiments.cifar10.longer --data DIR [--workers 2]

What is asked, and how it is answered, was written down here before the first of these runs
finished:

1. Is a mechanism more, or less, accurate than no attention after twenty epochs? The difference in
   test accuracy at the last epoch, seed by seed; a two-sided t-test for each of the five
   mechanisms, at the level 0.05 / 5.
2. And at equal time? The rivals are networks without attention, trained for 24 and for 32 epochs;
   a mechanism's is the one whose time is nearer to its own, by the step times of
   results/longer_speed.json, which were measured before the first run. The same test at the same
   level.

The network has 8 layers where that of ``grid.py`` has 14, and computes in float32, the fastest
that processors without instructions for bfloat16 have: four times the epochs in a third of the
time each. Else recipe and augmentation are those of ``grid.py``. The seeds are new, because BAM's
lead in the first five is what made one look again. They stand outermost: a grid cut short holds
whole sets of variants, and is read with as many seeds as are complete. results/longer.jsonl has a
line for each run.
"""

import json
import sys

from experiments.cifar10 import grid, speed

RUNS = grid.RESULTS / "longer.jsonl"
SPEED = grid.RESULTS / "longer_speed.json"
CHECKPOINTS = grid.RESULTS / "checkpoints" / "longer"
SEEDS = range(10, 15)
EPOCHS = 20
RIVALS = (24, 32)
MODEL = {"depth": 8, "width": 16}
RECIPE = {**grid.RECIPE, "precision": "full"}


def rival_epochs(variant):
    """Epochs of the network without attention whose time is nearest to a mechanism's."""
    relative = json.loads(SPEED.read_text())["relative"][variant]
    return min(RIVALS, key=lambda epochs: abs(epochs - EPOCHS * relative))


def runs():
    """Every run: all variants with one seed, then its rivals of equal time, then the next seed."""
    found = []
    for seed in SEEDS:
        found += [{"variant": v, "seed": seed, "epochs": EPOCHS} for v in grid.VARIANTS]
        found += [{"variant": "none", "seed": seed, "epochs": n} for n in RIVALS]
    return found


def work(root):
    """Train what is left of this grid and what no other worker holds."""
    if not SPEED.exists():
        speed.write(SPEED, size=MODEL, recipe=RECIPE)
    grid.train_all(runs(), RUNS, root, CHECKPOINTS, EPOCHS, size=MODEL, recipe=RECIPE)


if __name__ == "__main__":
    sys.exit(grid.command(work, "experiments.cifar10.longer", __doc__.splitlines()[0]))
