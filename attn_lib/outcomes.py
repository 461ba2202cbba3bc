"""What trainings on the diagnostic tasks show: exact intervals, outcomes, predictions that held.

For the stored grid::

    import json
    from attn_lib import data, outcomes

    stored = data.measured("diagnostics/results.jsonl").read_text().splitlines()
    cells = outcomes.read([json.loads(line) for line in stored], comparisons=1200)
    cells["eca", "channel_order", (1,)].outcome

The rule was fixed before the grid was run and stands in experiments/diagnostics/grid.py. A network
passes if the lower end of the exact interval of its accuracy is above what is possible without the
ability. A mechanism passes a level if at least four of five networks do. It "solves" the level if,
besides, the median of its accuracies has come nine tenths of the way from there to the best
possible, and "helps" otherwise. Where it does not pass, it "cannot".
"""

from collections import defaultdict
from typing import NamedTuple

from attn_lib.diagnostics import TASKS

__all__ = ["OUTCOMES", "Cell", "Row", "against", "interval", "read"]

#: From best to worst; "unfinished" is what too few networks show.
OUTCOMES = ("solves", "helps", "cannot", "unfinished")
LEVEL = 0.05


class Cell(NamedTuple):
    """One mechanism at one level of a task.

    ``passed`` of ``networks`` are surely above ``without``. ``accuracy`` is the median over the
    networks, ``low`` and ``high`` the interval of the network that has it. ``way`` says how far
    the median has come from ``without``, at 0, to ``bayes``, at 1; it is None where they are equal.
    """

    outcome: str
    passed: int
    networks: int
    accuracy: float
    low: float
    high: float
    without: float
    bayes: float
    way: float | None


class Row(NamedTuple):
    """What was expected of one mechanism at one level of a task, and what was found."""

    task: str
    level: tuple
    mechanism: str
    predicted: str
    found: str
    reason: str


def interval(right, images, comparisons=1):
    """Exact interval of an accuracy: 95 % for ``comparisons`` intervals together.

    Of Clopper and Pearson (Biometrika 26, 1934), each for the level 1 - 0.05 / ``comparisons``
    (Bonferroni).

    Parameters
    ----------
    right, images : int
        How many of how many test images were right.
    comparisons : int

    Returns
    -------
    (low, high)

    Raises
    ------
    ValueError
        Not 0 <= right <= images with images above 0; comparisons below 1.
    """
    from scipy.stats import binomtest

    if not 0 <= right <= images or images < 1:
        raise ValueError(f"right must be from 0 to images, and images above 0: {right}, {images}")
    if comparisons < 1:
        raise ValueError(f"comparisons must be 1 or more; got {comparisons}")
    return tuple(binomtest(right, images).proportion_ci(1 - LEVEL / comparisons))


def read(lines, *, comparisons=None, networks=None):
    """Outcome of each mechanism at each level of each task.

    Parameters
    ----------
    lines : iterable of dict
        Of :func:`attn_lib.diagnostics.score`, each with the key mechanism besides.
    comparisons : int, optional
        Number of networks that the error of 5 % is shared by: those of the whole grid, also of one
        that is not finished. Without it, the number of lines.
    networks : int, optional
        How many a mechanism has at a level in the finished grid. One with fewer is "unfinished".
        Without it, the largest number that is found.

    Returns
    -------
    dict : (mechanism, task, level) -> :class:`Cell`, with tasks and levels in their usual order.

    Raises
    ------
    ValueError
        A line lacks a key; two lines for the same network; lines of different versions of
        a task.
    """
    lines = list(lines)
    groups = defaultdict(dict)
    for line in lines:
        missing = {"mechanism", *_KEYS} - set(line)
        if missing:
            raise ValueError(f"a line has no {', '.join(sorted(missing))}: {line}")
        group = groups[line["mechanism"], line["task"], tuple(line["level"])]
        if line["seed"] in group:
            raise ValueError(f"two lines for the same network: {line}")
        group[line["seed"]] = line
    versions = defaultdict(set)
    for line in lines:
        if "version" in line:
            versions[line["task"]].add(line["version"])
    for task, found in versions.items():
        if len(found) > 1:
            raise ValueError(f"versions {sorted(found)} of {task} do not compare")
    most = networks or max(map(len, groups.values()), default=0)
    return {
        key: _cell(list(group.values()), comparisons or len(lines), most)
        for key, group in sorted(
            groups.items(), key=lambda item: _ORDER.get(item[0][1:], len(_ORDER))
        )
    }


_ORDER = {key: n for n, key in enumerate((t, x) for t in TASKS for x in TASKS[t].levels)}
_KEYS = ("task", "level", "seed", "right", "images", "accuracy", "bayes", "without")


def _cell(lines, comparisons, networks):
    lines = sorted(lines, key=lambda line: line["accuracy"])
    without, bayes = lines[0]["without"], lines[0]["bayes"]
    passed = sum(interval(x["right"], x["images"], comparisons)[0] > without for x in lines)
    middle = lines[len(lines) // 2]
    accuracy = middle["accuracy"]
    if len(lines) < networks:
        outcome = "unfinished"
    elif passed < 0.8 * len(lines):
        outcome = "cannot"
    else:
        outcome = "solves" if accuracy >= without + 0.9 * (bayes - without) else "helps"
    ends = interval(middle["right"], middle["images"], comparisons)
    way = (accuracy - without) / (bayes - without) if bayes > without else None
    return Cell(outcome, passed, len(lines), accuracy, *ends, without, bayes, way)


def against(cells, predictions, levels):
    """Predictions beside outcomes, for the cells that are finished.

    Parameters
    ----------
    cells : dict
        Of :func:`read`.
    predictions : dict
        Task -> mechanism -> {"levels": one outcome a level, "reason": text}, which is the entry
        "predictions" of experiments/diagnostics/predictions.json.
    levels : dict
        Task -> its levels in the order of the predictions.

    Returns
    -------
    list of Row : a prediction failed where ``predicted`` is not ``found``.
    """
    rows = []
    for task, mechanisms in predictions.items():
        for mechanism, expected in mechanisms.items():
            for level, predicted in zip(levels[task], expected["levels"], strict=True):
                cell = cells.get((mechanism, task, tuple(level)))
                if cell and cell.outcome != "unfinished":
                    rows.append(
                        Row(
                            task,
                            tuple(level),
                            mechanism,
                            predicted,
                            cell.outcome,
                            expected["reason"],
                        )
                    )
    return rows
