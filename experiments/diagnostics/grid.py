"""Train every mechanism on every diagnostic task.

    python -m experiments.diagnostics.grid [--workers 2]

What is expected stands in predictions.json, which was committed before the first run of this grid.
A finished run is a line of results.jsonl and is not run again. Seeds stand outermost, so a grid cut
short holds whole sets.

How the outcome is read was decided before, too. A network passes if the lower end of the exact
95 % interval (Clopper and Pearson) of its accuracy is above what is possible without the ability,
where 95 % is corrected for the number of networks of the grid (Bonferroni). A mechanism passes a
level if at least four of five networks do. It "solves" the level if, besides, the median of its
accuracies has come nine tenths of the way to the best possible, and "helps" otherwise.
"""

import argparse
import json
import os
import platform
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import torch
from scipy.stats import binomtest
from tqdm import tqdm

from attn_lib import diagnostics, layers

HERE = Path(__file__).parent
RESULTS = HERE / "results.jsonl"
SEEDS = range(100, 105)
LEVEL = 0.05
# A bottleneck of four units for eight channels; "wide" has hidden units instead of a gate: 16 have
# the parameters of CBAM, and 64 take more time than any gate but BAM.
MECHANISMS = {
    "none": {},
    "wide-16": {"hidden": 16},
    "wide-64": {"hidden": 64},
    "se": {"attention": lambda channels: layers.SqueezeExcitation(channels, reduction=2)},
    "channel": {"attention": lambda channels: layers.ChannelAttention(channels, reduction=2)},
    "spatial": {"attention": lambda channels: layers.SpatialAttention()},
    "cbam": {"attention": lambda channels: layers.CBAM(channels, reduction=2)},
    "bam": {"attention": lambda channels: layers.BAM(channels, reduction=2)},
    "eca": {"attention": lambda channels: layers.EfficientChannelAttention(channels)},
    "coordinate": {"attention": lambda channels: layers.CoordinateAttention(channels)},
}


def runs():
    """Every run: seed, task, level, mechanism."""
    return [
        (seed, task, level, mechanism)
        for seed in SEEDS
        for task in diagnostics.TASKS
        for level in diagnostics.TASKS[task].levels
        for mechanism in MECHANISMS
    ]


def train(seed, task, level, mechanism):
    """The line that is kept of one run."""
    torch.set_num_threads(1)
    start = time.perf_counter()
    line = diagnostics.one(task, level, seed, **MECHANISMS[mechanism])
    return {
        "mechanism": mechanism,
        **line,
        "parameters": sum(
            p.numel() for p in diagnostics.network(**MECHANISMS[mechanism]).parameters()
        ),
        "seconds": round(time.perf_counter() - start, 2),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "finished": time.strftime("%Y-%m-%d"),
    }


def finished():
    """Lines of the runs that are done."""
    return [json.loads(x) for x in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def outcome(lines, comparisons=None):
    """ "solves", "helps" or "cannot" for the lines of one mechanism at one level of a task.

    ``comparisons`` is the number of networks that the level is divided by: those of the grid.
    """
    alpha = LEVEL / (comparisons or len(runs()))
    passed = 0
    for line in lines:
        interval = binomtest(line["right"], line["images"]).proportion_ci(1 - alpha)
        passed += interval.low > line["without"]
    if passed < 0.8 * len(lines):
        return "cannot"
    accuracies = sorted(line["accuracy"] for line in lines)
    goal = lines[0]["without"] + 0.9 * (lines[0]["bayes"] - lines[0]["without"])
    return "solves" if accuracies[len(lines) // 2] >= goal else "helps"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=1, help="processes of one thread each")
    options = parser.parse_args()
    os.environ["TQDM_DISABLE"] = "1"  # the bars of the single trainings
    done = {(x["seed"], x["task"], tuple(x["level"]), x["mechanism"]) for x in finished()}
    left = [run for run in runs() if run not in done]
    bar = tqdm(total=len(left), desc="grid", unit="run", disable=False)
    with ProcessPoolExecutor(options.workers) as pool, open(RESULTS, "a") as file:
        for job in as_completed([pool.submit(train, *run) for run in left]):
            file.write(json.dumps(job.result()) + "\n")
            file.flush()
            bar.update()


if __name__ == "__main__":
    main()
