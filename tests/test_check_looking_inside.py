"""The checks of the exercises on looking inside: solutions pass, mistakes get their message."""

import copy
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from attn_lib import check


def shares(mean, std, normalise=True, ddof=(0, 0), power=2):
    mean, std = mean.reshape(len(mean), -1), std.reshape(len(std), -1)
    parts = np.array(
        [mean.mean(0).var(ddof=ddof[0]), mean.var(0, ddof=ddof[1]).mean(), (std**power).mean()]
    )
    return parts / parts.sum() if normalise else parts


def root_shares(mean, std):
    parts = np.array([mean.mean(0).std(), mean.std(0).mean(), std.mean()])
    return parts / parts.sum()


def fixed_with_classes(mean, std):
    parts = np.array([mean.var(), mean.var(0).mean(), (std**2).mean()])
    return parts / parts.sum()


def classes_overall(mean, std):
    parts = np.array(
        [mean.mean(0).var(), mean.reshape(len(mean), -1).mean(1).var(), (std**2).mean()]
    )
    return parts / parts.sum()


def fold(bn, gate, names=("weight", "bias"), copied=True, training=False, variance=0):
    bn = copy.deepcopy(bn) if copied else bn
    with torch.no_grad():
        for name in names:
            getattr(bn, name).mul_(gate.flatten())
        bn.running_var.mul_(gate.flatten() ** variance)
    return bn.train(training)


def fold_and_train(bn, gate):
    folded = fold(bn, gate)
    bn.train()
    return folded


def folded_otherwise(bn, gate):
    """The same map, as a depthwise convolution."""
    scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
    conv = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale), dtype=scale.dtype).eval()
    conv.weight.data = (gate.flatten() * scale)[:, None, None, None]
    conv.bias.data = gate.flatten() * (bn.bias - scale * bn.running_mean).detach()
    return conv


def gradcam(features, gradient, over=(2, 3)):
    return (gradient.mean(over, keepdim=True) * features).sum(1).relu()


def cosine(mean):
    left = mean - mean.mean(0)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    return left @ left.T


def matched(a, b, sign=-1):
    between = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    return between[linear_sum_assignment(sign * between)].mean()


def greedy(a, b):
    between = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    free, total = set(range(len(between))), 0
    pairs = sorted(np.ndindex(between.shape), key=lambda pair: -between[pair])
    taken = set()
    for i, j in pairs:
        if i in free and j not in taken:
            free.remove(i)
            taken.add(j)
            total += between[i, j]
    return total / len(between)


def in_turn(between):
    free, total = list(range(len(between))), 0
    for row in between:
        free.remove(best := max(free, key=lambda j: row[j]))
        total += row[best]
    return total / len(between)


def by_size(a, b, averaged):
    between = np.corrcoef(a.T, b.T)[:6, 6:]
    pairs = linear_sum_assignment(-abs(between))
    return averaged(between)[pairs].mean()


SOLUTIONS = {
    "mean_gate": lambda batches: torch.cat(batches).mean(0, keepdim=True),
    "shares": shares,
    "fold": fold,
    "gradcam": gradcam,
    "geometry": lambda mean: np.corrcoef(mean - mean.mean(0)),
    "matched": matched,
}


@pytest.mark.parametrize(
    "name, attempt",
    [
        ("mean_gate", lambda b: sum(x.sum(0, keepdim=True) for x in b) / sum(map(len, b))),
        ("shares", lambda m, s: torch.from_numpy(shares(m, s))),
        ("shares", lambda m, s: tuple(shares(m, s))),
        ("fold", folded_otherwise),
        (
            "gradcam",
            lambda f, g: torch.einsum("nc,nchw->nhw", g.flatten(2).mean(2), f).clamp(min=0).numpy(),
        ),
        ("geometry", lambda mean: torch.corrcoef(torch.from_numpy(mean - mean.mean(0)))),
    ],
)
def test_other_solutions_pass(name, attempt, capsys):
    getattr(check.looking_inside, name)(attempt)
    assert capsys.readouterr().out == f"looking_inside.{name}: passed\n"


MISTAKES = [
    (
        "mean_gate",
        lambda b: torch.stack([x.mean(0) for x in b]).mean(0, keepdim=True),
        "mean of the batches' means",
    ),
    ("mean_gate", lambda b: torch.cat(b).mean(), "channels were averaged too"),
    (
        "mean_gate",
        lambda b: torch.cat(b).mean((0, 1), keepdim=True),
        "channels were averaged too",
    ),
    ("mean_gate", lambda b: torch.cat(b).mean(0), "first axis is missing"),
    ("mean_gate", lambda b: torch.cat(b).sum(0, keepdim=True), "divide by their number"),
    (
        "mean_gate",
        lambda b: sum(x.sum(0, keepdim=True) for x in b) / len(b),
        "divide by the number of images",
    ),
    ("shares", lambda m, s: shares(m, s, normalise=False), "divide by their sum"),
    ("shares", root_shares, "only variances add up"),
    ("shares", lambda m, s: shares(m, s, power=1), "square the standard deviations"),
    ("shares", lambda m, s: shares(m, s, ddof=(1, 1)), r"ddof=0\)$"),
    ("shares", lambda m, s: shares(m, s, ddof=(0, 1)), "over the classes$"),
    ("shares", lambda m, s: shares(m, s, ddof=(1, 0)), "over the channels$"),
    ("shares", fixed_with_classes, "holds the second part too"),
    ("shares", classes_overall, "channel by channel"),
    *(
        ("shares", lambda m, s, order=order: shares(m, s)[list(order)], "the order is")
        for order in list(permutations(range(3)))[1:]
    ),
    ("shares", lambda m, s: shares(m, s)[::-1], "this is by image, by class, fixed"),
    ("fold", lambda bn, gate: fold(bn, gate, ["weight"]), "bias has to be scaled too"),
    ("fold", lambda bn, gate: fold(bn, gate, ["bias"]), "weight has to be scaled too"),
    ("fold", lambda bn, gate: copy.deepcopy(bn), "nothing has changed"),
    (
        "fold",
        lambda bn, gate: fold(bn, gate, ["running_mean", "running_var"]),
        "not the running statistics",
    ),
    (
        "fold",
        lambda bn, gate: fold(bn, gate, ["weight", "bias", "running_var"]),
        "running variance is scaled as well",
    ),
    (
        "fold",
        lambda bn, gate: fold(bn, gate, ["weight", "bias", "running_mean"]),
        "running mean is scaled as well",
    ),
    ("fold", lambda bn, gate: fold(bn, gate, ["running_mean"]), "running mean is scaled, and"),
    ("fold", lambda bn, gate: fold(bn, gate, ["weight", "running_mean"]), "not the mean"),
    ("fold", lambda bn, gate: fold(bn, gate, [], variance=1), "variance is multiplied"),
    ("fold", lambda bn, gate: fold(bn, gate, [], variance=-1), "variance is divided, and"),
    ("fold", lambda bn, gate: fold(bn, gate, [], variance=-2), "leaves the bias"),
    ("fold", lambda bn, gate: fold(bn, gate, ["bias"], variance=-2), "eps is added to it"),
    ("fold", lambda bn, gate: fold(bn, gate, copied=False), "was changed: work on a copy"),
    ("fold", fold_and_train, "was put into training mode"),
    ("fold", lambda bn, gate: fold(bn, gate, training=True), "result is in training mode"),
    ("fold", lambda bn, gate: gate, "return a batch norm; got Tensor"),
    ("gradcam", lambda f, g: (g.mean((2, 3), keepdim=True) * f).sum(1), "ReLU is missing"),
    ("gradcam", lambda f, g: (g * f).sum(1).relu(), "averaged over the positions first"),
    ("gradcam", lambda f, g: (g * f).sum(1), "positions, and the ReLU is missing"),
    ("gradcam", lambda f, g: gradcam(f, g, (0, 2, 3)), "averaged over the batch"),
    (
        "gradcam",
        lambda f, g: (g.mean((2, 3), keepdim=True).relu() * f).sum(1),
        "alpha may be negative",
    ),
    (
        "gradcam",
        lambda f, g: (g.mean((2, 3), keepdim=True) * f).relu().sum(1),
        "not around alpha or each product",
    ),
    (
        "gradcam",
        lambda f, g: (g.mean((2, 3), keepdim=True) * f).mean(1).relu(),
        "this is their mean",
    ),
    (
        "gradcam",
        lambda f, g: (g.sum((2, 3), keepdim=True) * f).sum(1).relu(),
        "this is the sum",
    ),
    ("gradcam", lambda f, g: gradcam(f, g)[:, None], "channel axis is still there"),
    ("geometry", np.corrcoef, "fixed pattern is still in it"),
    ("geometry", lambda m: np.corrcoef((m - m.mean(0)).T), "between channels"),
    ("geometry", lambda m: np.cov(m - m.mean(0)), "divide by both standard deviations$"),
    ("geometry", lambda m: np.cov(m - m.mean(0), ddof=0), "this is a covariance"),
    ("geometry", cosine, "this is the cosine"),
    (
        "geometry",
        lambda m: np.corrcoef((m - m.mean(0)) / m.std(0)),
        "brought to equal spread",
    ),
    ("matched", lambda a, b: matched(a, b, sign=1), "with a minus"),
    (
        "matched",
        lambda a, b: np.mean([np.corrcoef(p, q)[0, 1] for p, q in zip(a.T, b.T, strict=True)]),
        "match them first",
    ),
    ("matched", lambda a, b: np.corrcoef(a.T, b.T)[:6, 6:].max(1).mean(), "one to one"),
    ("matched", lambda a, b: np.corrcoef(a.T, b.T)[:6, 6:].max(0).mean(), "one to one"),
    ("matched", greedy, "best pair first"),
    ("matched", lambda a, b: in_turn(np.corrcoef(a.T, b.T)[:6, 6:]), "channel of a after"),
    ("matched", lambda a, b: in_turn(np.corrcoef(b.T, a.T)[:6, 6:]), "channel of b after"),
    ("matched", lambda a, b: by_size(a, b, lambda r: r), "channels were matched by the size"),
    ("matched", lambda a, b: by_size(a, b, abs), "mean of absolute correlations"),
]
