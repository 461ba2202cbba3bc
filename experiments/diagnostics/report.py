"""Print what the stored grid shows.

    python -m experiments.diagnostics.report

First the outcome of every mechanism on every task, one letter a level (S solves, h helps, - cannot,
? unfinished), then every prediction that failed with both accuracies that it is judged by.
"""

import json

from attn_lib import diagnostics, outcomes
from experiments.diagnostics import grid

LETTERS = {"solves": "S", "helps": "h", "cannot": "-", "unfinished": "?"}
LEVELS = {name: task.levels for name, task in diagnostics.TASKS.items()}


def cells(lines=None):
    """Outcomes of the stored grid, read as it was decided before; or of other ``lines``."""
    lines = grid.finished() if lines is None else lines
    return outcomes.read(lines, comparisons=len(grid.runs()), networks=len(grid.SEEDS))


def predictions():
    """Task -> mechanism -> {"levels", "reason"}."""
    return json.loads((grid.HERE / "predictions.json").read_text())["predictions"]


def tasks():
    """Lines of Markdown: each level of each task with what is possible without and with."""
    lines = ["| task | level | without | best |", "|:--|:--|--:|--:|"]
    for name, task in diagnostics.TASKS.items():
        for level in task.levels:
            numbers = f"{task.without(*level):.3f} | {task.bayes(*level):.3f}"
            lines.append(f"| `{name}` | `{level}` | {numbers} |")
    return lines


def table(found):
    """Lines of Markdown: mechanisms down, tasks across, a letter for each level."""
    head = ["mechanism", *(f"`{name}`" for name in LEVELS)]
    lines = [f"| {' | '.join(head)} |", "|:--" + "|:-:" * len(LEVELS) + "|"]
    for mechanism in grid.MECHANISMS:
        letters = [
            " ".join(
                LETTERS[found[key].outcome] if (key := (mechanism, task, level)) in found else "?"
                for level in LEVELS[task]
            )
            for task in LEVELS
        ]
        lines.append(f"| {' | '.join([mechanism, *letters])} |")
    return lines


def failures(found):
    """A sentence for each prediction that failed."""
    rows = outcomes.against(found, predictions(), LEVELS)
    lines = []
    for row in rows:
        if row.predicted == row.found:
            continue
        cell = found[row.mechanism, row.task, row.level]
        lines.append(
            f"{row.mechanism} on {row.task} {row.level}: expected {row.predicted}, found "
            f"{row.found}. Median {cell.accuracy:.3f} [{cell.low:.3f}, {cell.high:.3f}], "
            f"{cell.passed} of {cell.networks} passed; without the ability {cell.without:.3f}, "
            f"best {cell.bayes:.3f}. The reason given was: {row.reason}"
        )
    return [f"{len(rows) - len(lines)} of {len(rows)} predictions held.", *lines]


def main():
    lines = grid.finished()
    found = cells(lines)
    print(f"{len(lines)} of {len(grid.runs())} networks; intervals are 95 % for all together.\n")
    print("\n".join([*table(found), "", *failures(found)]))


if __name__ == "__main__":
    main()
