"""Checks of the exercises on looking inside trained networks."""

import contextlib
import copy
from itertools import permutations

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.inspection import gradcam as library_gradcam

__all__ = [
    "borderless",
    "cause",
    "directions",
    "faults",
    "fold",
    "geometry",
    "gradcam",
    "lopsided",
    "matched",
    "occlusion",
    "p_value",
    "reading",
    "shares",
    "two_numbers",
]


@exercise
def shares(attempt):
    """``attempt(mean, std)``, both (K, …) -> the shares (fixed, by class, by image), LI-A."""
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
    """``attempt(bn, gate)`` -> a batch norm that computes gate * bn(u), LI-B."""
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


@exercise
def borderless(attempt):
    """``attempt(model)``: a copy in which every convolution pads with the opposite edge."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1),
        nn.Sequential(nn.ReLU(), nn.Conv2d(3, 3, 5, padding=2), nn.Conv2d(3, 1, 1)),
    )
    model = model.double().eval()
    before, x = copy.deepcopy(model), torch.randn(2, 2, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        made = _shared.is_module(call(attempt, model))
        if not torch.equal(model(x), before(x)):
            raise Failed("the given network was changed: work on a copy of it (copy.deepcopy)")
        y, wanted = call(made, x), copy.deepcopy(before)
        modes = {}
        for mode in ("circular", "replicate", "reflect"):
            modes[mode] = copy.deepcopy(before)
            for module in modes[mode].modules():
                if isinstance(module, nn.Conv2d):
                    module.padding_mode = mode
        wanted, first = modes["circular"], copy.deepcopy(before)
        first[0].padding_mode = "circular"
        if y.shape != x[:, :1].shape:
            raise Failed(f"the output has shape {tuple(y.shape)}: the size has to stay")
        expect(
            y,
            wanted(x),
            "the output",
            {
                "nothing has changed: every convolution still pads with zeros": before(x),
                "only the outermost convolutions are changed: modules() also finds those inside": (
                    first(x)
                ),
                "the border's own pixels are repeated; the opposite edge is wanted": modes[
                    "replicate"
                ](x),
                "the border is reflected; the opposite edge is wanted": modes["reflect"](x),
            },
        )


def _small_network(norm=False):
    """A network whose body ends with features of both signs."""
    torch.manual_seed(3)
    body = [nn.Conv2d(2, 4, 3, padding=1)] + ([nn.BatchNorm2d(4)] if norm else [nn.Tanh()])
    layers = [nn.Sequential(*body), nn.ReLU(inplace=True), nn.AdaptiveAvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(16, 5)).double().eval()


@exercise
def gradcam(attempt):
    """``attempt(model, x, classes, module)`` -> Grad-CAM (N, H, W), LI-C, with its ReLU."""
    model = _small_network()
    x, classes = torch.randn(3, 2, 4, 5, dtype=torch.float64), torch.tensor([1, 4, 0])
    got = call(attempt, model, x.clone(), classes, "0")
    if model[0]._forward_hooks or model[0]._forward_pre_hooks:
        raise Failed("the hook is still there: call its remove() when the features are seen")
    features = model[0](x).detach().requires_grad_()
    logits = model[1:](features.clone())
    (gradient,) = torch.autograd.grad(logits[range(3), classes].sum(), features, retain_graph=True)
    (likely,) = torch.autograd.grad(logits.amax(1).sum(), features, retain_graph=True)
    (chance,) = torch.autograd.grad(logits.softmax(1)[range(3), classes].sum(), features)
    features = features.detach()

    def summed(gradient, axes=(2, 3)):
        return (gradient.mean(axes, keepdim=True) * features).sum(1)

    alpha = gradient.mean((2, 3), keepdim=True)
    expect(
        got,
        summed(gradient).relu(),
        "the result",
        {
            "the ReLU is missing: only what speaks for the class is shown": summed(gradient),
            "the gradient has to be averaged over the positions first: alpha is one number a "
            "channel": (gradient * features).sum(1).relu(),
            "alpha was averaged over the batch: every image has its own": summed(
                gradient, (0, 2, 3)
            ).relu(),
            "the ReLU belongs around the sum; alpha may be negative": (alpha.relu() * features).sum(
                1
            ),
            "alpha may be negative: the ReLU is around the sum alone": (
                (alpha.relu() * features).sum(1).relu()
            ),
            "the ReLU belongs around the sum, not around each product": (
                (alpha * features).relu().sum(1)
            ),
            "sum over the channels; this is their mean": summed(gradient).relu() / 4,
            "alpha is the mean over the positions; this is the sum": 20 * summed(gradient).relu(),
            "the channel axis is still there: (N, H, W)": summed(gradient).relu()[:, None],
            "this is the gradient of the probability; take the logit's": summed(chance).relu(),
            "this explains the likeliest class; use the classes that are given": summed(
                likely
            ).relu(),
        },
    )


@exercise
def p_value(attempt):
    """``attempt(matrices, orders)`` -> share of agreements as large as that of the matrices."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=(6, 3))
    matrices = [np.corrcoef(base + 1.2 * rng.normal(size=base.shape)) for _ in range(3)]
    orders = np.array([[rng.permutation(6) for _ in matrices] for _ in range(60)])
    corner = np.triu_indices(6, 1)

    def agreement(found, where=corner):
        between = np.corrcoef([m[where] for m in found])
        return between[np.triu_indices(len(found), 1)].mean()

    def share(shuffle, plus=1, at_least=np.greater_equal):
        drawn = [agreement([shuffle(m, o) for m, o in zip(matrices, row, strict=True)])
                 for row in orders]  # fmt: skip
        return (at_least(drawn, agreement(matrices)).sum() + plus) / (len(orders) + plus)

    def both(m, order):
        return m[np.ix_(order, order)]

    others = orders.copy()
    others[:, 1:] = [[rng.permutation(6) for _ in matrices[1:]] for _ in orders]
    got, again = (call(attempt, [m.copy() for m in matrices], o.copy()) for o in (orders, others))
    mistakes = {
        "the order that was found counts as one of them: (how many + 1) / (shuffles + 1)": (
            share(both, plus=0)
        ),
        "that is the share of smaller agreements: count those that are as large or larger": (
            share(both, at_least=np.less)
        ),
        "that is the share of smaller agreements, without the one found": share(both, 0, np.less),
        "rows and columns are the same classes: shuffle both by the same order": share(
            lambda m, order: m[order]
        ),
        "rows and columns are the same classes; only the columns were shuffled": share(
            lambda m, order: m[:, order]
        ),
    }
    known = [share(both), *mistakes.values()]
    if np.size(got) == 1 and got == again and not np.isclose(got, known).any():
        raise Failed(
            "the result depends on the first seed's orders alone: shuffle each seed by its own, "
            "since one order for all changes no agreement"
        )
    expect(got, share(both), "the p-value", mistakes, tolerance=1e-9)


_FAULTS = {
    "mode": (
        "evaluation mode",
        "batch norm's running statistics change while the picture is made",
    ),
    "logit": (
        "the logit",
        "a larger bias of another class changes the result, though no feature has changed",
    ),
    "batch": ("a weight for each image", "an image's result changes with the other images"),
    "relu": ("the order of sum and ReLU", "features that cancel in the sum are shown all the same"),
    "hook": ("the hook", "every call leaves one more hook in the network"),
}


@exercise
def faults(attempt):
    """``attempt(model, x, classes, module)``: a Grad-CAM with five planted faults, repaired."""
    model, plain = _small_network(norm=True), _small_network()
    x, classes = torch.randn(3, 2, 4, 5, dtype=torch.float64), torch.tensor([1, 4, 0])
    before = copy.deepcopy(model.state_dict())
    call(attempt, model, x, classes, "0")
    moved = any(not torch.equal(v, model.state_dict()[k]) for k, v in before.items())
    wrong = {"mode": moved or model.training, "hook": len(model[0]._forward_hooks) > 0}

    def clean(network, *given):
        found = call(attempt, network, *given, "0")
        network[0]._forward_hooks.clear()
        return _unit(found)

    together = clean(copy.deepcopy(plain), x, classes)
    wrong["batch"] = not torch.allclose(
        together[:1], clean(copy.deepcopy(plain), x[:1], classes[:1]), atol=1e-6
    )
    biased = copy.deepcopy(plain)
    with torch.no_grad():
        biased[4].bias[3] += 3
        biased[4].weight[2] *= 2  # a class that is not explained
    wrong["logit"] = not torch.allclose(
        clean(copy.deepcopy(plain), x[:1], classes[:1]),
        clean(biased, x[:1], classes[:1]),
        atol=1e-6,
    )
    only = copy.deepcopy(plain)  # the logit of class 1 alone depends on the image
    with torch.no_grad():
        only[4].weight[[0, 2, 3, 4]] = 0
    wanted = library_gradcam(only, x[:1], classes[:1], "0")[0].relu()
    wrong["relu"] = not torch.allclose(clean(only, x[:1], classes[:1]), _unit(wanted), atol=1e-6)
    _shared.report(_FAULTS, [fault for fault, there in wrong.items() if there])
    wanted = library_gradcam(plain, x, classes, "0")[0].relu()
    expect(
        call(attempt, plain, x, classes, "0"),
        wanted,
        "the five are repaired, but something else has changed: the result",
    )


def _unit(maps):
    """Maps (N, H, W), the largest value of each 1."""
    if not isinstance(maps, torch.Tensor) or maps.ndim != 3:
        raise Failed("the result should be a tensor (N, H, W)")
    maps = maps.detach()
    return maps / maps.abs().amax((1, 2), keepdim=True).clamp(min=1e-12)


@exercise
def directions(attempt):
    """``attempt(mean)``, class means (K, C) -> the participation ratio, LI-E."""
    rng = np.random.default_rng(0)
    line = np.outer(rng.normal(size=6), rng.normal(size=5)) + rng.normal(size=5)
    expect(call(attempt, line), 1, "the number of directions of classes on a line")
    mean = rng.normal(size=(6, 8)) * [3, 2, 1, 1, 1, 0.5, 0.5, 0.1] + rng.uniform(2, 3, 8)

    def ratio(m, power=2):
        values = np.linalg.svd(m, compute_uv=False) ** power
        return values.sum() ** 2 / (values**2).sum()

    left = mean - mean.mean(0)
    values = np.linalg.svd(left, compute_uv=False) ** 2
    expect(
        call(attempt, mean.copy()),
        ratio(left),
        "the number of directions",
        {
            "the fixed pattern is still in it: take each channel's mean over the classes off": (
                ratio(mean)
            ),
            "each class's mean over the channels was taken off; the fixed pattern is the mean "
            "over the classes": ratio(mean - mean.mean(1, keepdims=True)),
            "square the singular values first": ratio(left, 1),
            "that is the number of directions that are not zero: small ones count for less": (
                np.linalg.matrix_rank(left)
            ),
            "this is upside down": 1 / ratio(left),
            "the square of the sum is missing": values.sum() / (values**2).sum(),
        },
    )


@exercise
def lopsided(attempt):
    """``attempt(profile)``, (C, L) -> share of the variance along L that is odd in the mirror."""
    rng = np.random.default_rng(0)
    even = rng.normal(size=(3, 4))
    even = np.hstack([even, even[:, ::-1]])
    expect(call(attempt, even + 0.0), 0, "the share of a symmetric profile")
    profile = even + 0.7 * rng.normal(size=even.shape) + rng.uniform(1, 2, (3, 1))
    p = profile - profile.mean(1, keepdims=True)
    odd = (p - p[:, ::-1]) / 2
    mirrored = np.mean([np.corrcoef(row, row[::-1])[0, 1] for row in profile])
    expect(
        call(attempt, profile.copy()),
        (odd**2).sum() / (p**2).sum(),
        "the share",
        {
            "each channel's own mean has to be taken off first: it is no part of the shape": (
                (odd**2).sum() / (profile**2).sum()
            ),
            "one mean was taken off all channels: each has its own": (odd**2).sum()
            / ((profile - profile.mean()) ** 2).sum(),
            "the odd part is half of the difference": 4 * (odd**2).sum() / (p**2).sum(),
            "this is the symmetric share; the rest is asked for": 1 - (odd**2).sum() / (p**2).sum(),
            "the channels were mirrored: turn the profile along its axis": (
                (((p - p[::-1]) / 2) ** 2).sum() / (p**2).sum()
            ),
            "this is a mean of shares: add the squares of all channels before you divide": np.mean(
                (odd**2).sum(1) / (p**2).sum(1)
            ),
            "this is a share of sizes: square before you add": abs(odd).sum() / abs(p).sum(),
            "this is a correlation with the mirror image": mirrored,
        },
    )


@exercise
def occlusion(attempt):
    """``attempt(score, x, side)`` -> (H // side, W // side), by how much the score falls."""
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.uniform(0, 1, (1, 3, 6, 9)))
    weight = torch.from_numpy(rng.normal(size=(3, 6, 9)))

    def score(images):
        if images.shape[1:] != x.shape[1:]:
            raise Failed(f"the score was asked for images of shape {tuple(images.shape)}")
        return torch.tanh((images * weight).sum((1, 2, 3)) / 4) + images.mean((1, 2, 3)) ** 2

    def fall(fill, sign=1):
        result = torch.zeros(2, 3, dtype=torch.float64)
        for i in range(2):
            for j in range(3):
                covered = x.clone()
                covered[:, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3] = fill
                result[i, j] = sign * (score(x) - score(covered))[0]
        return result

    given = x.clone()
    got = call(attempt, score, given, 3)
    if not torch.equal(given, x):
        raise Failed("the image was changed: cover a copy of it (clone)")
    colour = x.mean((2, 3), keepdim=True)
    left = (score(x) - fall(colour)).squeeze()
    cumulative, covered = torch.zeros(2, 3, dtype=torch.float64), x.clone()
    for i in range(2):
        for j in range(3):
            covered[:, :, 3 * i : 3 * i + 3, 3 * j : 3 * j + 3] = colour
            cumulative[i, j] = (score(x) - score(covered))[0]
    expect(
        got,
        fall(colour),
        "the result",
        {
            "the squares are covered with black; the image's mean colour is wanted": fall(0.0),
            "the squares are covered with one grey; each channel has its own mean": fall(x.mean()),
            "this is the score that is left: subtract it from the whole image's": left,
            "the sign: a fall of the score is positive": fall(colour, -1),
            "what was covered stays covered: begin every square with a fresh copy": cumulative,
            "rows and columns are exchanged": fall(colour).T,
        },
    )


_READING = {
    "a": (
        False,
        "a network without attention, trained alike, is as accurate; what is lost was relied on",
    ),
    "b": (True, "compare both rows with new statistics to those without"),
    "c": (
        False,
        "these are one network each, and the losses of five seeds scatter by more than a point",
    ),
    "d": (True, "levelling changes nothing that has no positions, so the rows must repeat"),
    "e": (
        False,
        "a wrong gate also harms; only the difference between held and swapped says by how much",
    ),
}


@exercise
def reading(attempt):
    """``attempt``: a dict, ``"a"`` to ``"e"`` -> True or False, on the table of interventions."""
    _shared.statements(attempt, _READING)


class _MakeBelieve:
    """A network of which only the accuracy is known, and that of its held copy."""

    def __init__(self, name, seed):
        rng = np.random.default_rng([ord(name[0]), seed])
        self.name, self.accuracy, self.held = name, rng.uniform(0.7, 0.9), False
        self.loss = rng.uniform(0.02, 0.2)


@exercise
def two_numbers(attempt):
    """``attempt(train, score, hold, seeds)`` -> (reliance, benefit), in points, one a seed."""
    seeds, calls = (4, 1, 7), []

    def train(name, seed):
        calls.append((name, seed))
        return _MakeBelieve(name, seed)

    def score(network):
        return network.accuracy - network.loss * network.held

    @contextlib.contextmanager
    def hold(network):
        if network.name == "none":
            raise Failed("the network without attention has no gate to hold")
        network.held = True
        yield
        network.held = False

    got = call(attempt, train, score, hold, seeds)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Failed("two arrays are wanted, (reliance, benefit)")
    if any(part is None or part is ... for part in got):
        raise _NotAttempted
    if len(calls) > 2 * len(seeds):
        raise Failed(f"{len(calls)} networks were trained; two for each seed are enough")
    gated, plain = ([_MakeBelieve(name, s) for s in seeds] for name in ("se", "none"))
    loss, with_se = np.array([n.loss for n in gated]), np.array([n.accuracy for n in gated])
    without = np.array([n.accuracy for n in plain])
    shared = {"these are shares: times 100 makes them points": 1}
    expect(
        got[0],
        100 * loss,
        "the reliance",
        {
            "the sign of the reliance: what is lost is positive": -100 * loss,
            "this is the held accuracy: subtract it from the trained one": 100 * (with_se - loss),
            "the held network was compared with the plain one; reliance compares it with itself": (
                100 * (without - with_se + loss)
            ),
            "nothing is lost: the score has to be taken inside the with block": 0 * loss,
            "this is the mean: return one number a seed": 100 * loss.mean(),
            **{message: loss for message in shared},
        },
    )
    expect(
        got[1],
        100 * (with_se - without),
        "the benefit",
        {
            "the sign of the benefit: what attention gains is positive": 100 * (without - with_se),
            "the held network was compared with the plain one; benefit compares the two that were "
            "trained": 100 * (with_se - loss - without),
            "the seeds are not paired": 100 * (with_se - without[::-1]),
            "this is the mean: return one number a seed": 100 * (with_se - without).mean(),
            **{message: with_se - without for message in shared},
        },
    )


# ---- the project: what does a gate follow?


def _properties(x):
    grey, half = x.mean(1), x.shape[2] // 2
    return {
        "brightness": grey.mean((1, 2)),
        "blue": x[:, 2].mean((1, 2)) - x[:, :2].mean((1, 2, 3)),
        "contrast": grey.flatten(1).std(1),
        "top": grey[:, :half].mean((1, 2)) - grey[:, half:].mean((1, 2)),
    }


def _left(x):
    grey, half = x.mean(1), x.shape[3] // 2
    return grey[:, :, :half].mean((1, 2)) - grey[:, :, half:].mean((1, 2))


def _pictures(generator, n=160, size=12):
    """Images in which all the properties go together, as in the world bright skies do."""

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    common = normal(n, 1)
    brightness, blue, contrast, top, left = (0.93 * common + 0.37 * normal(n, 5)).T
    wide = torch.ones(size, dtype=torch.float64)
    wide[size // 2 :] = -1
    texture = normal(n, 1, size, size)
    texture -= texture.mean((2, 3), keepdim=True)
    x = (0.5 + 0.05 * brightness).view(n, 1, 1, 1) + (0.1 + 0.02 * contrast).abs().view(
        n, 1, 1, 1
    ) * texture
    x = x + 0.03 * top.view(n, 1, 1, 1) * wide.view(1, 1, size, 1)
    x = x + 0.03 * left.view(n, 1, 1, 1) * wide.view(1, 1, 1, size)
    tint = torch.tensor([-1, -1, 2], dtype=torch.float64) / 3
    return x + 0.06 * blue.view(n, 1, 1, 1) * tint.view(1, 3, 1, 1)


def _world(seed):
    """(what the gate follows, the gate, images) of a make-believe gate."""
    generator = torch.Generator().manual_seed(900 + seed)
    x = _pictures(generator)
    answer = [*_properties(x), None][seed % 5]

    def followed(images):
        return _left(images) if answer is None else _properties(images)[answer]

    known = followed(x)
    middle, width = known.mean(), known.std()
    bump = seed % 2 == 1  # such a gate is largest in the middle

    def gate(images):
        a = (followed(images) - middle) / width
        return torch.exp(-((a - 0.3) ** 2)) if bump else torch.sigmoid(2 * a)

    return answer, gate, x


_WORLDS = range(30)


@exercise
def cause(attempt):
    """``attempt(gate, x)`` -> the property that the gate follows, or None if none of the four.

    Runs in thirty make-believe worlds that the page does not show.
    """
    wrong = []
    for seed in _WORLDS:
        answer, gate, x = _world(seed)
        try:
            got = attempt(gate, x.clone())
        except NotImplementedError:
            raise _NotAttempted from None
        if got is ...:
            raise _NotAttempted
        if got is not None and got not in _properties(x):
            raise Failed(f"return one of {', '.join(_properties(x))}, or None; got {got!r}")
        if got != answer:
            wrong.append((answer, got))
    right = len(_WORLDS) - len(wrong)
    if right == sum(_world(seed)[0] is None for seed in _WORLDS) and all(
        g is None for _, g in wrong
    ):
        raise _NotAttempted
    print(f"right in {right} of {len(_WORLDS)} worlds that you have not seen")
    if right < 28:
        some = "; ".join(f"{a} was called {g}" for a, g in wrong[:3])
        raise Failed(
            f"right in {right} worlds, and 28 are asked for ({some}). In these images the four "
            "properties go together, so a correlation cannot tell them apart: change one of them "
            "in the images and look at the gate. Some gates are largest in the middle, so take the "
            "size of an image's change before you average; and the gate may follow something else"
        )
