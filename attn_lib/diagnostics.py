"""What a layer can see: train it on every diagnostic task of :mod:`attn_lib.data`, in minutes.

For instance::

    from attn_lib import diagnostics, layers
    for line in diagnostics.score(layers.EfficientChannelAttention, seeds=range(3)):
        print(line)

A task at a level has two numbers, which its docstring derives: ``bayes``, the best accuracy that
there is, and ``without``, the best without the ability that the task asks for. A layer has the
ability if its accuracy passes ``without``.
"""

import functools
import math
from collections.abc import Callable
from statistics import NormalDist
from typing import NamedTuple

import torch
from torch import nn

from attn_lib import data
from attn_lib._progress import progress
from attn_lib.data.diagnostic import CHANNELS, CUE_CELLS, SIDE
from attn_lib.train import evaluate, fit

__all__ = ["TASKS", "Task", "network", "score"]

RECIPE = {"epochs": 30, "lr": 0.02, "batch_size": 64}
IMAGES = {"n_train": 4000, "n_test": 4000}

_phi = NormalDist().cdf


class Task(NamedTuple):
    """A diagnostic task.

    ``draw(*level, n_train, n_test, seed=...)`` makes it; ``asks`` is the ability in words;
    ``levels`` are from easy to difficult, or from near to far; ``bayes(*level)`` and
    ``without(*level)`` are the accuracies of the module's docstring. ``version`` changes whenever
    the task's feature maps, its bounds, the network or the recipe do: results of different
    versions do not compare.
    """

    draw: Callable
    asks: str
    levels: tuple
    bayes: Callable
    without: Callable
    version: int = 1


@functools.cache
def _peak_known(height):
    """Probability that the likelihood ratio of 48 cells tells whether one is higher: by drawing."""
    generator = torch.Generator().manual_seed(0)
    cells = torch.randn(2, 50_000, CUE_CELLS, generator=generator)
    cells[1, :, 0] += height
    evidence = (height * cells - height**2 / 2).logsumexp(2) - math.log(CUE_CELLS)
    return float(((evidence[0] < 0).double().mean() + (evidence[1] > 0).double().mean()) / 2)


def _switched(strength):
    return _phi(strength * math.sqrt(CUE_CELLS))


#: The tasks by name.
TASKS = {
    "global_switch": Task(
        data.global_switch,
        "a gate on channels that depends on a mean over the feature map",
        ((0.6,), (0.3,), (0.15,)),
        _switched,
        lambda strength: 0.75,
    ),
    "sparse_peak": Task(
        data.sparse_peak,
        "a gate that depends on more than the mean of a channel",
        ((6.0,), (5.0,), (4.0,)),
        lambda height: _peak_known(height),
        lambda height: (1 + _phi(height / (2 * math.sqrt(CUE_CELLS)))) / 2,
    ),
    "channel_order": Task(
        data.channel_order,
        "a gate of a channel that depends on another, however far in their order",
        ((1,), (2,), (3,)),
        lambda distance: _switched(0.6),
        lambda distance: 0.75,
    ),
    "marked_neighbour": Task(
        data.marked_neighbour,
        "a gate on places that depends on their neighbours",
        ((0.5,), (1.0,), (2.0,)),
        lambda noise: _phi(1 / noise),
        lambda noise: 0.5,
        version=2,
    ),
    "same_row": Task(
        data.same_row,
        "a gate on places that depends on the same row, however far",
        ((2,), (4,), (10,)),
        lambda distance: 1.0,
        lambda distance: 0.5,
    ),
    "channel_by_place": Task(
        data.channel_by_place,
        "a gate that depends on channel and place together",
        ((2, "rows"), (2, "mixed"), (4, "mixed")),
        lambda groups, arrangement: _phi(0.2 * SIDE),
        lambda groups, arrangement: _phi(0.2 * SIDE / math.sqrt(groups)),
    ),
    "plain_evidence": Task(
        data.plain_evidence,
        "nothing that a gate could add",
        ((0.2,), (0.1,), (0.05,)),
        lambda strength: _phi(strength * SIDE),
        lambda strength: _phi(strength * SIDE),
    ),
    "local_product": Task(
        data.local_product,
        "something that is not linear, at each place by itself",
        ((0.2,), (0.1,), (0.05,)),
        lambda strength: _phi(strength * SIDE),
        lambda strength: 0.5,
    ),
}


def network(attention=None, *, hidden=0):
    """The network of the tasks: a gate, the mean of each channel, a linear classifier.

    Parameters
    ----------
    attention : callable, optional
        ``channels -> nn.Module``, called with 8; without one there is no gate.
    hidden : int
        Units of a layer that works at each place by itself, before the means: the rival that is
        wider instead.

    Returns
    -------
    nn.Sequential
        (N, 8, 12, 12) -> logits (N, 2). Its batch norm brings the means to one scale, and is
        linear in evaluation.
    """
    parts = [] if attention is None else [attention(CHANNELS)]
    if hidden:
        parts += [nn.Conv2d(CHANNELS, hidden, 1), nn.ReLU()]
    width = hidden or CHANNELS
    pool = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(width), nn.Linear(width, 2)]
    return nn.Sequential(*parts, *pool)


def score(attention=None, *, tasks=None, seeds=range(3), hidden=0, images=None, recipe=None):
    """Train and test a layer on every task at every level.

    Parameters
    ----------
    attention, hidden
        Of :func:`network`.
    tasks : iterable of str, optional
        Names in ``TASKS``; all without it.
    seeds : iterable of int
        Of the feature maps, the initial weights and the order of training.
    images, recipe : dict, optional
        What differs from ``IMAGES`` (``n_train``, ``n_test``) and ``RECIPE`` (arguments of
        :func:`attn_lib.train.fit`). Results then do not compare with others.

    Returns
    -------
    list of dict
        With the keys task, level, seed, right, images, accuracy, bayes, without, version.

    Raises
    ------
    ValueError
        An unknown task; the message lists the known ones.
    """
    names = list(TASKS if tasks is None else tasks)
    for name in names:
        if name not in TASKS:
            raise ValueError(f"tasks must be among {', '.join(TASKS)}; got {name!r}")
    runs = [(name, level, seed) for name in names for level in TASKS[name].levels for seed in seeds]
    return [
        one(*run, attention, hidden=hidden, images=images, recipe=recipe)
        for run in progress(runs, desc="trainings")
    ]


def one(name, level, seed, attention=None, *, hidden=0, images=None, recipe=None):
    """One line of :func:`score`: a task at a level, with a seed."""
    task = TASKS[name]
    split = task.draw(*level, **{**IMAGES, **(images or {})}, seed=seed)
    torch.manual_seed(seed)
    model = network(attention, hidden=hidden)
    fit(model, split, seed=seed, **{**RECIPE, **(recipe or {})})
    tested = len(split.y_test)
    right = round(evaluate(model, split.x_test, split.y_test) * tested)
    return {
        "task": name,
        "level": list(level),
        "seed": seed,
        "right": right,
        "images": tested,
        "accuracy": right / tested,
        "bayes": task.bayes(*level),
        "without": task.without(*level),
        "version": task.version,
    }
