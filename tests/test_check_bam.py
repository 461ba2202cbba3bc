"""The checks of the BAM exercises: solutions pass, mistakes get their message, stubs are quiet."""

import numpy as np
import pytest
import torch
from torch import nn

from attn_lib import check, layers
from attn_lib.train import over_seeds


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def wide(a):
    return a[:, :, None, None]


def dilated(x, kernel, d, *, rows=None, columns=None):
    rows, columns = rows or d, columns or d
    (height, width), padded = x.shape, np.pad(x, ((rows, rows), (columns, columns)))
    y = np.zeros((height, width))
    for p in range(3):
        for q in range(3):
            y += kernel[p, q] * padded[p * rows :, q * columns :][:height, :width]
    return y


def back(dy, x, a, t, *, one=1, slope=None, by=np.sum, branches=None):
    a, t = wide(a), t[:, None]
    u = sigmoid(a * t)
    dl = dy * x * (slope(u) if slope else u * (1 - u))
    to_a, to_t = branches(a, t) if branches else (t, a)
    return (one + u) * dy, by(dl * to_a, axis=(2, 3)), by(dl * to_t, axis=1)


def back_with(**options):
    return lambda *args: back(*args, **options)


class Module(nn.Module):
    """BAM; each keyword of the constructor is a mistake."""

    def __init__(
        self, channels, reduction, dilation=4, *, norm=True, end=False, bias=True, relu=True, wide=1
    ):
        super().__init__()
        h = wide * (channels // reduction)
        act = nn.ReLU if relu else nn.Identity

        def conv():
            return nn.Conv2d(h, h, 3, padding=dilation, dilation=dilation)

        self.channel = nn.Sequential(
            nn.Linear(channels, h, bias=bias),
            nn.BatchNorm1d(h) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Linear(h, channels),
            *([nn.BatchNorm1d(channels)] if end else []),
        )
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, h, 1), nn.BatchNorm2d(h), act(), conv(), nn.BatchNorm2d(h), act(),
            conv(), nn.BatchNorm2d(h), act(), nn.Conv2d(h, 1, 1),
        )  # fmt: skip

    def pool(self, x):
        return x.mean((2, 3))

    def gate(self, x):
        return 1 + torch.sigmoid(wide(self.channel(self.pool(x))) * self.spatial(x))

    def forward(self, x):
        return self.gate(x) * x


def module_with(**options):
    return lambda *args: Module(*args, **options)


class ReturnsGate(Module):
    def forward(self, x):
        return self.gate(x)


class NoOne(Module):
    def forward(self, x):
        return (self.gate(x) - 1) * x


class Adds(Module):
    def gate(self, x):
        return 1 + torch.sigmoid(wide(self.channel(self.pool(x))) + self.spatial(x))


class TwoSigmoids(Module):
    def gate(self, x):
        return 1 + torch.sigmoid(wide(self.channel(self.pool(x)))) * torch.sigmoid(self.spatial(x))


class Maximum(Module):
    def pool(self, x):
        return x.amax((2, 3))


class Narrow(Module):
    def __init__(self, channels, reduction, dilation):
        super().__init__(channels, reduction, 1)


class Empty(nn.Module):
    def __init__(self, *args):
        super().__init__()


class Network(nn.Module):
    """The network of the exercise; ``run`` makes of x, stages and gates what goes to the head."""

    def __init__(self, stem, stages, gates, head, run=None):
        super().__init__()
        self.stem, self.head, self.run = stem, head, run
        self.stages, self.gates = nn.ModuleList(stages), nn.ModuleList(gates)

    def forward(self, x):
        x, run = self.stem(x), self.run
        if run is not None:
            return self.head(run(x, self.stages, self.gates))
        for stage, gate in zip(self.stages, [*self.gates, nn.Identity()], strict=True):
            x = gate(stage(x))
        return self.head(x)


def network(run):
    return lambda *args: Network(*args, run)


def between(first=None, second=None):
    def run(x, stages, gates):
        one = gates[0] if first is None else first(gates[0])
        two = gates[1] if second is None else second(gates[1])
        return stages[2](two(stages[1](one(stages[0](x)))))

    return run


class Untouched(nn.Module):
    def __init__(self, *args):
        super().__init__()
        self.args = args

    def forward(self, x): ...


def short(x, stages, gates):
    for stage, gate in zip(stages, gates, strict=False):
        x = gate(stage(x))
    return x


def called_more(x, stages, gates):
    gates[0](stages[0](x))
    return between()(x, stages, gates)


def view(d1, d2):
    taps = (-1, 0, 1)
    along = len({p * d1 + q * d2 for p in taps for q in taps})
    return 1 + 2 * d1 + 2 * d2, along**2


def view_with(side=None, count=None):
    def wrong(d1, d2):
        a, b = view(d1, d2)
        return (side(d1, d2) if side else a), (count(a, b) if count else b)

    return wrong


def parameters(c, r, *, biases=1, norms=8, middle=2, outer=3, width=None):
    h = c // r
    weights = outer * c * h + middle * 9 * (width or h) * h + h
    return weights + biases * (2 * h + c + middle * h + 1) + norms * h


ALL = ("reach", "rank", "gradient")


class Faulty(Module):
    """The layer of the exercise; ``repaired`` lists which of its faults are gone."""

    def __init__(self, channels, reduction, repaired=()):
        super().__init__(channels, reduction, 4 if "reach" in repaired else 1)
        self.repaired = repaired

    def gate(self, x):
        a = wide(self.channel(self.pool(x)))
        t = self.spatial(x if "gradient" in self.repaired else x.detach())
        if "rank" in self.repaired:
            return 1 + torch.sigmoid(a * t)
        return 1 + torch.sigmoid(a) * torch.sigmoid(t)


def repaired(*names):
    return lambda channels, reduction: Faulty(channels, reduction, names)


class RepairedAndMore(Faulty):
    def forward(self, x):
        return 2 * super().forward(x)


class NoPadding(Module):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        for m in self.spatial:
            if isinstance(m, nn.Conv2d):
                m.padding = (0, 0)

    def forward(self, x):
        return self.spatial(x)


@torch.no_grad()
def start(layer):
    layer.channel.fc2.weight.zero_()
    layer.channel.fc2.bias.zero_()


@torch.no_grad()
def start_spatial(layer):
    layer.spatial.conv4.weight.zero_()
    layer.spatial.conv4.bias.zero_()


def start_both(layer):
    start(layer)
    start_spatial(layer)


@torch.no_grad()
def start_weight(layer):
    layer.channel.fc2.weight.zero_()


@torch.no_grad()
def start_all(layer):
    for name in ("fc1", "fc2"):
        getattr(layer.channel, name).weight.zero_()
        getattr(layer.channel, name).bias.zero_()


@torch.no_grad()
def start_small(layer):
    layer.channel.fc2.weight.mul_(0.1)
    layer.channel.fc2.bias.mul_(0.1)


def start_frozen(layer):
    start(layer)
    layer.spatial.requires_grad_(False)


def start_wider(layer):
    layer.channel.fc2 = nn.Linear(3, 8)


def difference(first, second, images, *, one=1, two=1, power=0.5):
    p, q = first / 100, second / 100
    return (q - p) / ((one * p * (1 - p) + two * q * (1 - q)) / images) ** power


def error(share, images):
    return (share / 100 * (1 - share / 100) / images) ** 0.5


RIGHT = {"a": True, "b": False, "c": False, "d": True, "e": False}


def rank_one(gate, *, rank=1, scale=True, axis=2):
    u, s, v = torch.linalg.svd(gate.flatten(axis), full_matrices=False)
    s = s if scale else torch.ones_like(s)
    return (u[..., :rank] * s[..., None, :rank] @ v[..., :rank, :]).reshape(gate.shape)


def means(gate):
    return gate.mean((2, 3), keepdim=True) * gate.mean(1, keepdim=True)


def makeable(open_):
    product = all((row == open_[0]).all() or (row != open_[0]).all() for row in open_)
    added = all((a <= b).all() or (b <= a).all() for a in open_ for b in open_)
    return product, added


def makeable_with(product=None, added=None):
    def wrong(open_):
        a, b = makeable(open_)
        return (product(open_) if product else a), (added(open_) if added else b)

    return wrong


def alike(open_):
    return all((row == open_[0]).all() for row in open_)


def sorted_rows(open_):
    return all((a >= b).all() for a, b in zip(open_[:-1], open_[1:], strict=True))


def compared(makers, split, seeds, **options):
    reached = [over_seeds(make, split, seeds, **options) for make in makers.values()]
    return {name: 100 * (r - reached[0]) for name, r in zip(makers, reached, strict=True)
            if r is not reached[0]}  # fmt: skip


def compared_with(change):
    def wrong(*args, **options):
        return {name: change(d) for name, d in compared(*args, **options).items()}

    return wrong


def accuracies(makers, split, seeds, **options):
    reached = {name: over_seeds(make, split, seeds, **options) for name, make in makers.items()}
    return {name: 100 * r for name, r in reached.items() if name != "plain"}


def to_mean(makers, split, seeds, **options):
    plain = over_seeds(makers["plain"], split, seeds, **options).mean()
    return {k: v - 100 * plain for k, v in accuracies(makers, split, seeds, **options).items()}


def unpaired(makers, split, seeds, **options):
    plain = over_seeds(makers["plain"], split, seeds[::-1], **options)
    return {k: v - 100 * plain for k, v in accuracies(makers, split, seeds, **options).items()}


class Free(nn.Module):
    """A sigmoid of a 1x1 convolution: a logit for each channel at each place, 12 parameters."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 1)

    def gate(self, x):
        return torch.sigmoid(self.conv(x))

    def forward(self, x):
        return self.gate(x) * x


class OneForAll(nn.Module):
    """One factor a place: 4 parameters."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 1, 1)

    def forward(self, x):
        return torch.sigmoid(self.conv(x)) * x


class HalfOpen(Free):
    def gate(self, x):
        return (1 + super().gate(x)) / 2


class Amplifies(Free):
    def gate(self, x):
        return 1 + super().gate(x)


class Signed(Free):
    def gate(self, x):
        return torch.tanh(self.conv(x)) - 0.9


class GateOnly(Free):
    def forward(self, x):
        return self.gate(x).mean(1)


NO_EXERCISES = {"woven_digits"}
SOLUTIONS = {
    "joint": lambda a, t: 1 + sigmoid(wide(a) * t[:, None]),
    "dilated": dilated,
    "joint_backward": back,
    "module": Module,
    "place": Network,
    "view": view,
    "parameters": parameters,
    "faults": repaired(*ALL),
    "start": start,
    "difference": difference,
    "reading": RIGHT,
    "rank_one": rank_one,
    "makeable": makeable,
    "compared": compared,
    "budget": Free,
}

MISTAKES = [
    ("joint", lambda a, t: sigmoid(wide(a) * t[:, None]), "the 1 is missing"),
    ("joint", lambda a, t: 1 + sigmoid(wide(a)) * sigmoid(t[:, None]), "meet inside one"),
    ("joint", lambda a, t: 1 + sigmoid(wide(a) + t[:, None]), "you added the branches"),
    ("joint", lambda a, t: 1 + sigmoid(wide(a) * t), "t met the channels"),
    ("joint", lambda a, t: 1 + wide(a) * t[:, None], "sigmoid is missing"),
    ("joint", lambda a, t: 1 + sigmoid(a * t[:, None]), "a met the last two axes"),
    ("joint", lambda a, t: sigmoid(1 + wide(a) * t[:, None]), "inside the sigmoid"),
    ("dilated", lambda x, k, d: dilated(x, k, 1), "next to each other"),
    ("dilated", lambda x, k, d: dilated(x, k[::-1, ::-1], d), "turned by 180"),
    ("dilated", lambda x, k, d: dilated(x, k.T, d), "transposed"),
    ("dilated", lambda x, k, d: dilated(x, k, d)[d:-d, d:-d], "padding is missing"),
    ("dilated", lambda x, k, d: dilated(x, k, d, columns=1), "the columns are not"),
    ("dilated", lambda x, k, d: dilated(x, k, d, rows=1), "the rows are not"),
    ("dilated", lambda x, k, d: sum(k[p, q] * np.roll(x, ((1 - p) * d, (1 - q) * d), (0, 1))
                                    for p in range(3) for q in range(3)), "round the edge"),
    ("joint_backward", back_with(one=0), "x itself goes on"),
    ("joint_backward", back_with(slope=lambda u: 1), "slope of the sigmoid is missing"),
    ("joint_backward", back_with(slope=lambda u: -u * (1 + u)), "not with the gate"),
    ("joint_backward", back_with(by=np.mean), "collects a sum"),
    ("joint_backward", back_with(branches=lambda a, t: (1, 1)), "the sum's rule"),
    ("joint_backward", back_with(branches=lambda a, t: (a, t)), "multiplied by itself"),
    ("joint_backward", lambda *args: back(*args)[:2], "three arrays are wanted"),
    ("module", ReturnsGate, "this is the gate"),
    ("module", NoOne, "the 1 is missing"),
    ("module", Adds, "you added the branches"),
    ("module", TwoSigmoids, "meet inside one"),
    ("module", Narrow, "are not dilated"),
    ("module", Maximum, "takes the mean"),
    ("module", module_with(relu=False), "ReLUs of the spatial branch"),
    ("module", module_with(norm=False), "a batch norm is missing in channel"),
    ("module", module_with(end=True), "ends in a bare linear map"),
    ("module", module_with(bias=False), "a bias is missing in channel"),
    ("module", module_with(wide=2), "has parameters of the shapes"),
    ("module", lambda *args: nn.Linear(2, 2), "an nn.Sequential called channel"),
    ("module", lambda *args: 3, "a module is wanted; got int"),
    ("place", network(between(lambda g: nn.Identity(), lambda g: nn.Identity())), "gates are miss"),
    ("place", network(between(lambda g: nn.Identity())), "first gate is missing"),
    ("place", network(between(None, lambda g: nn.Identity())), "second gate is missing"),
    ("place", network(between(lambda g: lambda y: y + g(y), lambda g: lambda y: y + g(y))),
     "does that already"),
    ("place", network(between(lambda g: lambda y: g(g(y)), lambda g: lambda y: g(g(y)))),
     "applied twice"),
    ("place", network(short), "stops at the shorter"),
    ("place", network(called_more), "exactly once"),
    ("place", lambda *args: 3, "a module is wanted; got int"),
    ("view", view_with(lambda a, b: 2 * a + 2 * b), "position itself is missing"),
    ("view", view_with(lambda a, b: 1 + 3 * a + 3 * b), "two gaps"),
    ("view", view_with(lambda a, b: 1 + a + b), "to one side"),
    ("view", view_with(lambda a, b: 2 + 2 * a + 2 * b), "spans do not add"),
    ("view", view_with(lambda a, b: 5), "dilations are left out"),
    ("view", view_with(count=lambda side, n: side**2), "every position of the square"),
    ("view", view_with(count=lambda side, n: 81), "count each position once"),
    ("view", view_with(count=lambda side, n: round(n**0.5)), "along one axis"),
    ("view", view_with(count=lambda side, n: 9), "taps of one kernel"),
    ("view", view_with(count=lambda side, n: 18), "added the taps"),
    ("view", lambda a, b: 17, "two numbers are wanted"),
    ("parameters", lambda c, r: parameters(c, r, biases=0), "biases are missing"),
    ("parameters", lambda c, r: parameters(c, r, norms=0), "batch norms are missing"),
    ("parameters", lambda c, r: parameters(c, r, norms=16), "are buffers"),
    ("parameters", lambda c, r: parameters(c, r, norms=6), "channel branch's among them"),
    ("parameters", lambda c, r: parameters(c, r, middle=1), "two dilated convolutions"),
    ("parameters", lambda c, r: parameters(c, r, outer=2), "down and up"),
    ("parameters", lambda c, r: parameters(c, r, width=c), "from C/r to C/r"),
    ("faults", repaired("reach"), "repaired: reach. Still wrong: rank.*; gradient"),
    ("faults", repaired("rank"), "repaired: rank. Still wrong: reach.*; gradient"),
    ("faults", repaired("gradient"), "repaired: gradient. Still wrong: reach.*; rank"),
    ("faults", repaired("reach", "rank"), "repaired: reach, rank. Still wrong: gradient: the path"),
    ("faults", repaired("reach", "gradient"), "repaired: reach, gradient. Still wrong: rank: the"),
    ("faults", repaired("rank", "gradient"), "repaired: rank, gradient. Still wrong: reach: a"),
    ("faults", lambda c, r: RepairedAndMore(c, r, ALL), "something else has changed"),
    ("faults", NoPadding, "as much padding as dilation"),
    ("faults", lambda c, r: nn.Linear(c, c), "keep the layers of both branches"),
    ("start", start_both, "stay there: both branches end in 0"),
    ("start", start_weight, "channel.fc2.weight is 0, and a bias behind it is not"),
    ("start", start_small, "not all 1.5: a logit is 0"),
    ("start", start_all, "channel.fc1.weight is all 0"),
    ("start", start_frozen, "the spatial branch has not moved"),
    ("start", start_wider, "keep the layer's parameters"),
    ("difference", lambda a, b, n: -difference(a, b, n), "sign is turned round"),
    ("difference", lambda a, b, n: difference(a, b, n, two=0), "only one of the two"),
    ("difference", lambda a, b, n: difference(a, b, n, one=0), "only the second rate"),
    ("difference", lambda a, b, n: (b - a) / 100 / (error(a, n) + error(b, n)), "do not add"),
    ("difference", lambda a, b, n: difference(a, b, n, power=1), "square root is missing"),
    ("difference", lambda a, b, n: 100 * difference(a, b, n), "use one unit"),
    ("difference", lambda a, b, n: difference(a, b, 1), "number of images"),
    ("reading", {**RIGHT, "a": False}, "look at a again"),
    ("reading", {**RIGHT, "b": True}, "look at b again: 0.02 points"),
    ("reading", {**RIGHT, "c": True}, "look at c again"),
    ("reading", {**RIGHT, "d": False}, "look at d again"),
    ("reading", {**RIGHT, "e": True}, "look at e again"),
    ("reading", {"a": True}, "a dict with the keys"),
    ("rank_one", lambda g: means(g) / g.mean((1, 2, 3), keepdim=True), "but not nearest"),
    ("rank_one", means, "counts the mean of all twice"),
    ("rank_one", lambda g: rank_one(g, scale=False), "singular value is missing"),
    ("rank_one", lambda g: rank_one(g, rank=2), "keep one singular value"),
    ("rank_one", lambda g: rank_one(g.flatten(0, 1), axis=2).reshape(g.shape), "rows and columns"),
    ("rank_one", lambda g: g.mean((2, 3), keepdim=True).expand_as(g), "mean over the places"),
    ("rank_one", lambda g: rank_one(g.transpose(0, 1), axis=1).transpose(0, 1),
     "the images share one"),
    ("makeable", makeable_with(product=alike), "reverse of one another"),
    ("makeable", lambda o: makeable(o)[::-1], "exchanged the two"),
    ("makeable", makeable_with(product=lambda o: np.linalg.matrix_rank(o.astype(float)) <= 1),
     "what decides is the sign"),
    ("makeable", makeable_with(product=lambda o: np.linalg.matrix_rank(o.astype(float)) <= 2),
     "rank two is not enough"),
    ("makeable", makeable_with(product=lambda o: True), "not every pattern"),
    ("makeable", makeable_with(added=alike), "one contains the other"),
    ("makeable", makeable_with(added=sorted_rows), "compare each with each"),
    ("makeable", makeable_with(added=lambda o: makeable(o)[0]), "exchanged the two"),
    ("makeable", lambda o: True, "two answers are wanted"),
    ("compared", compared_with(lambda d: -d), "plain minus gated"),
    ("compared", compared_with(lambda d: d / 100), "these are shares"),
    ("compared", compared_with(lambda d: d.mean()), "this is their mean"),
    ("compared", accuracies, "these are the accuracies"),
    ("compared", to_mean, "subtract seed by seed"),
    ("compared", unpaired, "not paired"),
    ("compared", lambda m, s, seeds, **o: compared(m, s, range(3), **o), "seeds from 0 on"),
    ("compared", lambda m, s, seeds, **o: dict.fromkeys(m, 0), "leave .plain. out"),
    ("compared", lambda *args, **o: {"bam": 0}, "the names should be"),
    ("compared", lambda *args, **o: 3, "a dict is wanted"),
    ("budget", lambda: layers.BAM(3, 1), "232 parameters"),
    ("budget", OneForAll, "leaves 0.5"),
    ("budget", HalfOpen, "cannot get close to 0"),
    ("budget", Amplifies, "a gate is at most 1"),
    ("budget", Signed, "not negative"),
    ("budget", GateOnly, "the output has shape"),
    ("budget", lambda: 3, "a module is wanted; got int"),
]  # fmt: skip


def test_either_branch_may_start_at_zero(capsys):
    check.bam.start(start_spatial)
    assert capsys.readouterr().out == "bam.start: passed\n"


def raises(*args, **options):
    raise NotImplementedError


STUBS = [
    ("module", Empty),
    ("place", Untouched),
    ("faults", Faulty),
    ("reading", dict.fromkeys("abcde", ...)),
    ("reading", {**RIGHT, "d": ...}),
    ("joint_backward", lambda *args: (None,) * 3),
    ("view", lambda *args: (..., ...)),
    ("makeable", lambda *args: (..., ...)),
    ("budget", Untouched),
    ("joint", raises),
    ("start", raises),
]  # that are not attempts, besides the usual


@pytest.mark.parametrize("regions", ["halves", "blocks"])
def test_woven_digits_hold_the_two_pictures(regions):
    x, u = check.bam.woven_digits(images=50, seed=3, regions=regions)
    again, _ = check.bam.woven_digits(images=50, seed=3, regions=regions)
    assert torch.equal(x, again)
    assert x.shape == (50, 3, 8, 8) and u.shape == (50, 1, 8, 8)
    light = x[:, 2]
    assert (light.abs() == 1).all() and (light.sum((1, 2)) == 0).all()
    assert torch.equal(torch.where(light > 0, x[:, 0], x[:, 1]), u[:, 0])


def test_woven_digits_are_as_their_arguments_say():
    train, _ = check.bam.woven_digits(images=20, seed=3)
    test, _ = check.bam.woven_digits(images=20, seed=3, part="test")
    assert not torch.equal(train, test)
    with pytest.raises(ValueError, match="halves"):
        check.bam.woven_digits(regions="stripes")
