"""Checks of the exercises on looking inside trained networks."""

import copy
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from attn_lib.check._core import Failed, call, exercise, expect

__all__ = ["fold", "geometry", "gradcam", "matched", "mean_gate", "shares"]


@exercise
def mean_gate(attempt):
    """``attempt(batches)`` -> mean over all images (1, C, 1, 1); batches of gates (n, C, 1, 1)."""
    generator = torch.Generator().manual_seed(0)
    batches = [torch.rand(n, 3, 1, 1, generator=generator, dtype=torch.float64) for n in (5, 5, 2)]
    gates = torch.cat(batches)
    mean = gates.mean(0, keepdim=True)
    expect(
        call(attempt, [batch.clone() for batch in batches]),
        mean,
        "the mean gate",
        {
            "this is the mean of the batches' means: the last batch is smaller, and its images "
            "count for too much": torch.stack([b.mean(0) for b in batches]).mean(0, keepdim=True),
            "the channels were averaged too: each keeps its own mean": gates.mean(),
            "the channels were averaged too: each keeps its own mean over the images": gates.mean(
                (0, 1), keepdim=True
            ),
            "the first axis is missing: keepdim=True, so that it broadcasts to (N, C, 1, 1)": mean[
                0
            ],
            "this is the sum over the images: divide by their number": gates.sum(0, keepdim=True),
            "divided by the number of batches: divide by the number of images": gates.sum(
                0, keepdim=True
            )
            / len(batches),
        },
    )


@exercise
def shares(attempt):
    """``attempt(mean, std)``, both (K, …) -> the shares (fixed, by class, by image), LI-1."""
    rng = np.random.default_rng(0)
    for shape in ((4, 5, 1, 1), (3, 1, 2, 4)):
        mean, std = rng.uniform(0, 1, shape), rng.uniform(0.1, 0.3, shape)
        flat, spread = mean.reshape(len(mean), -1), std.reshape(len(std), -1)
        parts = np.array([flat.mean(0).var(), flat.var(0).mean(), (spread**2).mean()])
        roots = np.array([flat.mean(0).std(), flat.std(0).mean(), spread.mean()])
        unsquared = np.array([*parts[:2], spread.mean()])
        sampled = [
            np.array([flat.mean(0).var(ddof=i), flat.var(0, ddof=k).mean(), parts[2]])
            for i, k in ((1, 1), (0, 1), (1, 0))
        ]
        whole = np.array([flat.var(), *parts[1:]])
        overall = np.array([parts[0], flat.mean(1).var(), parts[2]])
        right = dict(zip(("fixed", "by class", "by image"), parts / parts.sum(), strict=True))
        turned = {
            f"the order is fixed, by class, by image; this is {', '.join(order)}": [
                right[name] for name in order
            ]
            for order in permutations(right)
            if order != tuple(right)
        }
        biased = "the classes and channels are all there are: divide by their number (ddof=0)"
        expect(
            call(attempt, mean.copy(), std.copy()),
            list(right.values()),
            "(fixed, by class, by image)",
            {
                "these are the parts: divide by their sum": parts,
                "these are shares of standard deviations: only variances add up": roots
                / roots.sum(),
                "square the standard deviations within the classes": unsquared / unsquared.sum(),
                biased: sampled[0] / sampled[0].sum(),
                biased + " over the classes": sampled[1] / sampled[1].sum(),
                biased + " over the channels": sampled[2] / sampled[2].sum(),
                "the first part is the variance of the mean over the classes; the variance of all "
                "class means holds the second part too": whole / whole.sum(),
                "the second part compares the classes channel by channel: variance over the "
                "classes first, then the mean": overall / overall.sum(),
                **turned,
            },
        )


@exercise
def fold(attempt):
    """``attempt(bn, gate)`` -> a batch norm that computes gate * bn(u), LI-3."""
    generator = torch.Generator().manual_seed(0)
    channels = 4
    bn = nn.BatchNorm2d(channels, dtype=torch.float64).eval()
    with torch.no_grad():
        for name in ("weight", "bias", "running_mean", "running_var"):
            drawn = torch.rand(channels, generator=generator, dtype=torch.float64)
            getattr(bn, name).copy_(0.5 + drawn)
    gate = torch.rand(1, channels, 1, 1, generator=generator, dtype=torch.float64)
    u = torch.randn(3, channels, 2, 5, generator=generator, dtype=torch.float64)
    before = copy.deepcopy(bn)
    folded = call(attempt, bn, gate.clone())
    if not isinstance(folded, nn.Module):
        raise Failed(f"return a batch norm; got {type(folded).__name__}")
    known = before.state_dict()
    if any(not torch.equal(known[name], value) for name, value in bn.state_dict().items()):
        raise Failed("the given batch norm was changed: work on a copy of it (copy.deepcopy)")
    if bn.training:
        raise Failed("the given batch norm was put into training mode: work on a copy of it")
    if folded.training:
        raise Failed("the result is in training mode: there it would use the batch's statistics")

    def changed(**factors):
        other = copy.deepcopy(before)
        with torch.no_grad():
            for name, factor in factors.items():
                getattr(other, name).mul_(factor.flatten())
        return other(u)

    with torch.no_grad():
        expect(
            folded(u),
            gate * before(u),
            "the output",
            {
                "the weight is scaled; the bias has to be scaled too": changed(weight=gate),
                "the bias is scaled; the weight has to be scaled too": changed(bias=gate),
                "nothing has changed: the output is that of the given batch norm": before(u),
                "the gate multiplies what comes out, not the running statistics: scale weight "
                "and bias": changed(running_mean=gate, running_var=gate),
                "the running mean is scaled, and it belongs to u: scale weight and bias": changed(
                    running_mean=gate
                ),
                "weight and running mean are scaled; it is the bias that has to be, not the mean": (
                    changed(weight=gate, running_mean=gate)
                ),
                "the running variance is multiplied, and it belongs to u: scale weight and bias": (
                    changed(running_var=gate)
                ),
                "the running variance is divided, and it belongs to u: scale weight and bias": (
                    changed(running_var=1 / gate)
                ),
                "the running variance is divided by the gate's square, which leaves the bias as it "
                "was: scale weight and bias": changed(running_var=gate**-2),
                "the running variance is divided by the gate's square, which all but scales the "
                "weight; eps is added to it: scale the weight": changed(
                    bias=gate, running_var=gate**-2
                ),
                "the running variance is scaled as well: it belongs to u, which is as before": (
                    changed(weight=gate, bias=gate, running_var=gate)
                ),
                "the running mean is scaled as well: it belongs to u, which is as before": (
                    changed(weight=gate, bias=gate, running_mean=gate)
                ),
            },
        )


@exercise
def gradcam(attempt):
    """``attempt(features, gradient)``, both (N, C, H, W) -> maps (N, H, W), LI-4."""
    generator = torch.Generator().manual_seed(1)
    features, gradient = (
        torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64) for _ in range(2)
    )
    alpha = gradient.mean((2, 3), keepdim=True)
    summed = (alpha * features).sum(1)
    local = (gradient * features).sum(1)
    expect(
        call(attempt, features.clone(), gradient.clone()),
        summed.relu(),
        "the maps",
        {
            "the ReLU is missing: only what speaks for the class is shown": summed,
            "the gradient has to be averaged over the positions first: alpha is one number a "
            "channel": local.relu(),
            "the gradient has to be averaged over the positions, and the ReLU is missing": local,
            "alpha was averaged over the batch: every image has its own": (
                (gradient.mean((0, 2, 3), keepdim=True) * features).sum(1).relu()
            ),
            "the ReLU belongs around the sum; alpha may be negative": (alpha.relu() * features).sum(
                1
            ),
            "the ReLU belongs around the sum, not around alpha or each product": (
                (alpha * features).relu().sum(1)
            ),
            "sum over the channels; this is their mean": (alpha * features).mean(1).relu(),
            "alpha is the mean over the positions; this is the sum": (
                (gradient.sum((2, 3), keepdim=True) * features).sum(1).relu()
            ),
            "the channel axis is still there: (N, H, W)": summed.relu()[:, None],
        },
    )


@exercise
def geometry(attempt):
    """``attempt(mean)``, class means (K, C) -> correlations between the classes (K, K)."""
    rng = np.random.default_rng(0)
    mean = rng.normal(0, 0.2, (4, 6)) + rng.uniform(0, 3, 6)
    left = mean - mean.mean(0)
    expect(
        call(attempt, mean.copy()),
        np.corrcoef(left),
        "the matrix",
        {
            "the fixed pattern is still in it, so that all classes look alike: take each "
            "channel's mean over the classes off": np.corrcoef(mean),
            "this is the cosine; a correlation takes each class's mean over the channels off, "
            "too": left @ left.T / np.outer(*[np.linalg.norm(left, axis=1)] * 2),
            "the channels were brought to equal spread; only their mean is taken off": np.corrcoef(
                left / left.std(0)
            ),
            "these are correlations between channels: correlate the classes": np.corrcoef(left.T),
            "this is a covariance: divide by both standard deviations": np.cov(left),
            "this is a covariance: divide by both standard deviations (np.corrcoef)": np.cov(
                left, ddof=0
            ),
        },
    )


@exercise
def matched(attempt):
    """``attempt(a, b)``, class means (K, C) -> mean correlation of the best one-to-one match."""
    a, b = _two_seeds()
    channels = a.shape[1]
    between = np.corrcoef(a.T, b.T)[:channels, channels:]
    expect(
        call(attempt, a.copy(), b.copy()),
        between[linear_sum_assignment(-between)].mean(),
        "the mean correlation",
        {
            "channel 1 was compared with channel 1, 2 with 2: match them first": np.diag(
                between
            ).mean(),
            "the assignment minimises its cost: hand over the correlations with a minus": between[
                linear_sum_assignment(between)
            ].mean(),
            "each channel took its best partner, and some partners were taken twice: one to one": (
                between.max(1).mean()
            ),
            "each channel took its best partner, and some were taken twice: one to one": (
                between.max(0).mean()
            ),
            "the best pair first, then the best of the rest: that is not yet the largest mean": (
                _greedy(between)
            ),
            "one channel of a after another took the best that was left: that is not yet the "
            "largest mean": _in_turn(between),
            "one channel of b after another took the best that was left: that is not yet the "
            "largest mean": _in_turn(between.T),
            "channels were matched by the size of their correlation: the sign counts": between[
                linear_sum_assignment(-abs(between))
            ].mean(),
            "this is a mean of absolute correlations, over a match by them: the sign counts": (
                abs(between)[linear_sum_assignment(-abs(between))].mean()
            ),
        },
    )


def _two_seeds():
    """Class means of two make-believe seeds: ten classes, six channels, shuffled and noisy."""
    rng = np.random.default_rng(46)  # with which every mistake above has a result of its own
    a = rng.normal(size=(10, 6))
    return a, 0.6 * a[:, rng.permutation(6)] + rng.normal(size=(10, 6))


def _greedy(between):
    left, found = between.copy(), []
    for _ in range(len(left)):
        i, j = np.unravel_index(left.argmax(), left.shape)
        found.append(between[i, j])
        left[i, :] = left[:, j] = -np.inf
    return np.mean(found)


def _in_turn(between):
    left, found = between.copy(), []
    for row in left:
        j = row.argmax()
        found.append(row[j])
        left[:, j] = -np.inf
    return np.mean(found)
