"""The checks on the one frame: solutions pass, mistakes get their message."""

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib import check, layers
from attn_lib.layers import gate
from attn_lib.layers.gate import Branches, Gate, Merge, chain


def se(channels, reduction, pool=gate.mean, end=torch.sigmoid):
    return Gate(pool, gate.bottleneck(channels, reduction), end)


def half(channels, reduction, *, merge=torch.add, ends=(torch.sigmoid,), order=1):
    parts = [gate.bottleneck(channels, reduction), Merge(merge)]
    return Gate(Branches(gate.mean, gate.maximum), *parts[::order], *ends)


def unmerged(channels, reduction):
    both = Branches(gate.mean, gate.maximum)
    return Gate(both, gate.bottleneck(channels, reduction), torch.sigmoid)


def late(channels, reduction):
    parts = gate.bottleneck(channels, reduction), torch.sigmoid, Merge(torch.add)
    return Gate(Branches(gate.mean, gate.maximum), *parts)


def two_maps(channels, reduction):
    each = [chain(pool, gate.bottleneck(channels, reduction)) for pool in (gate.mean, gate.maximum)]
    return Gate(Branches(*each), Merge(torch.add), torch.sigmoid)


def rows(h, w, *, by=None, length=None):
    row = torch.arange(h * w) // (by or w)
    return (row[:, None] == row).double() / (length or w)


def columns(h, w):
    column = torch.arange(h * w) % w
    return (column[:, None] == column).double() / h


def attend(theta, phi, g, *, over=2, scale=1, weights=None):
    a = torch.einsum("nmp,nmq->npq", theta.flatten(2), phi.flatten(2)) * scale
    a = weights(a) if weights else a.softmax(over)
    return (g.flatten(2) @ a.transpose(1, 2)).reshape(g.shape)


def listened(theta, phi, g):
    a = torch.einsum("nmp,nmq->npq", theta.flatten(2), phi.flatten(2)).softmax(2)
    return (g.flatten(2) @ a).reshape(g.shape)


NAMES = {"first": "gct", "second": "gc", "third": "triplet", "fourth": "simam", "fifth": "sk"}


def gc(x, m, *, weights=lambda a: a.softmax(2), combine=torch.add):
    z = (x.flatten(2) @ weights(m.mask(x).flatten(2)).transpose(1, 2))[:, :, 0]
    return combine(x, m.add(z)[:, :, None, None])


def view(t, branch, *, order=1, end=torch.sigmoid, norm=True):
    planes = (t.amax(1, keepdim=True), t.mean(1, keepdim=True))[::order]
    a = branch.conv(torch.cat(planes, 1))
    return t * end(branch.bn(a) if norm else a)


def scse(x, m, *, between=torch.relu, after=lambda a: a, join=torch.add):
    a = after(m.fc2(between(m.fc1(x.mean((2, 3))))))
    return join(x * a.sigmoid()[:, :, None, None], x * m.conv(x).sigmoid())


def spatial(x, m, *, planes=("amax", "mean"), norm=True, end=torch.sigmoid):
    a = m.conv(torch.cat([getattr(x, name)(1, keepdim=True) for name in planes], 1))
    return x * end(m.bn(a) if norm else a)


def coordinate(x, m, *, between=F.hardswish, end=torch.sigmoid, join=torch.mul, order=1):
    z = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)
    f_h, f_w = between(m.bn1(m.conv1(z))).split(x.shape[2:], 2)
    first, second = (m.conv_h, m.conv_w)[::order]
    return x * join(end(first(f_h)), end(second(f_w.transpose(2, 3))))


def same(a):
    return a


def pair(channels, bias=True):
    both = chain(Branches(gate.mean, gate.maximum), Merge(gate.concatenated(3)))
    weigh = nn.Conv2d(channels, channels, (1, 2), groups=channels, bias=bias)
    return Gate(both, weigh, torch.sigmoid)


class Unused(nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, z):
        return z


def moved(x, columns=-4):
    return x.roll(columns, 3)


def placed(channels, *parts):
    return Gate(*(parts or (moved,)), nn.Conv2d(channels, channels, 1), torch.sigmoid)


SOLUTIONS = {
    "se": se,
    "channel_half": half,
    "rows_matrix": rows,
    "attend": attend,
    "names": NAMES,
    "gc": gc,
    "view": view,
    "scse": scse,
    "spatial": spatial,
    "coordinate": coordinate,
    "attention": pair,
    "channel_by_place": placed,
}
STUBS = [("names", dict.fromkeys(NAMES, ...))]
WRONG = {
    "se": [
        (lambda c, r: se(c, r, end=same), "the sigmoid is missing"),
        (lambda c, r: se(c, r, gate.maximum), "the mean, not the maximum"),
        (lambda c, r: se(c, r, end=F.hardsigmoid), "not the hard sigmoid"),
        (lambda c, r: se(c, 2 * r), "the layer has .* parameters"),
        (lambda c, r: layers.SqueezeExcitation(c, r), "return a layers.gate.Gate"),
        (
            lambda c, r: Gate(gate.mean, torch.sigmoid, gate.bottleneck(c, r)),
            "the sigmoid comes after the linear maps",
        ),
    ],
    "channel_half": [
        (unmerged, "nothing merges the branches"),
        (late, "the sum comes before the sigmoid"),
        (two_maps, "there is one MLP"),
        (lambda c, r: half(c, r, merge=gate.average), "do not average"),
        (lambda c, r: half(c, r, ends=()), "the sigmoid is missing"),
        (se, "the maximum is not gathered"),
        (lambda c, r: se(c, r, gate.maximum), "the mean is not gathered"),
        (lambda c, r: half(c, r, order=-1), "the linear maps come before the merge"),
        (lambda c, r: half(c, r, merge=torch.maximum), "not with the maximum"),
        (lambda c, r: half(c, r, merge=torch.mul), "not with the product"),
    ],
    "rows_matrix": [
        (lambda h, w: rows(h, w, length=1), "add up to 1"),
        (columns, "the mean along a column"),
        (lambda h, w: rows(h, w, length=h), "the length of a row, w"),
        (lambda h, w: rows(h, w, by=h, length=h), "p // w, not p // h"),
        (lambda h, w: torch.full((h * w, h * w), 1 / (h * w)), "over all positions"),
        (lambda h, w: rows(h, w)[:h], "has shape"),
    ],
    "attend": [
        (lambda *a: attend(*a, over=1), "the softmax is over q"),
        (lambda t, p, g: attend(p, t, g), "theta belongs to the position p"),
        (lambda *a: attend(*a, scale=3**-0.5), "does not divide the products by a root"),
        (lambda *a: attend(*a, weights=same), "the softmax is missing"),
        (lambda *a: attend(*a, weights=lambda s: s / 20), "the number of positions"),
        (listened, "the sum is over q"),
    ],
    "names": [
        (NAMES | {key: "se" if name != "se" else "eca"}, f"{key} is not 'se'")
        for key, name in NAMES.items()
    ]
    + [(NAMES | {"first": "GCT"}, "no name of layers.build"), ({"first": "gct"}, "with the keys")],
    "gc": [
        (lambda x, m: gc(x, m, weights=same), "that is the copy"),
        (lambda x, m: gc(x, m, weights=lambda a: a.softmax(1)), "axis 2"),
        (lambda x, m: gc(x, m, weights=torch.sigmoid), "a sigmoid does not"),
        (
            lambda x, m: gc(x, m, weights=lambda a: a / a.sum(2, keepdim=True)),
            "a mean are positive",
        ),
        (lambda x, m: gc(x, m, combine=torch.mul), "the block adds"),
    ],
    "view": [
        (lambda t, b: view(t, b, end=lambda a: a.relu().sigmoid()), "that is the copy"),
        (lambda t, b: view(t, b, order=-1), "the maximum comes first"),
        (lambda t, b: view(t, b, end=same), "the sigmoid is missing"),
        (lambda t, b: view(t, b, end=torch.relu), "the ReLU is still there"),
        (lambda t, b: view(t, b, norm=False), "the batch norm is missing"),
    ],
    "scse": [
        (lambda x, m: scse(x, m, between=same), "that is the copy"),
        (lambda x, m: scse(x, m, between=torch.sigmoid), "not a sigmoid"),
        (lambda x, m: scse(x, m, between=same, after=torch.relu), "not behind them"),
        (lambda x, m: scse(x, m, after=torch.relu), "one ReLU is enough"),
        (lambda x, m: scse(x, m, join=torch.maximum), "adds the two products"),
    ],
    "spatial": [
        (lambda x, m: spatial(x, m, planes=("mean", "amax")), "that is the copy"),
        (lambda x, m: spatial(x, m, planes=("amax", "amax")), "both planes are the maximum"),
        (lambda x, m: spatial(x, m, planes=("mean", "mean")), "both planes are the mean"),
        (lambda x, m: spatial(x, m, norm=False), "has a batch norm here"),
        (lambda x, m: spatial(x, m, end=same), "the sigmoid is missing"),
    ],
    "coordinate": [
        (lambda x, m: coordinate(x, m, between=torch.relu, end=same), "that is the copy"),
        (lambda x, m: coordinate(x, m, between=torch.relu), "function is still wrong"),
        (lambda x, m: coordinate(x, m, end=same), "still unbounded"),
        (lambda x, m: coordinate(x, m, between=F.hardsigmoid), "is not the hard sigmoid"),
        (lambda x, m: coordinate(x, m, join=lambda a, b: (a + b) / 2), "not averaged"),
        (lambda x, m: coordinate(x, m, order=-1), "conv_h makes the gate of the rows"),
    ],
    "attention": [
        (lambda c: se(c, 2), "the budget is 4 a channel"),
        (lambda c: Gate(nn.Conv2d(c, 1, 1), torch.sigmoid), "one factor a channel"),
        (lambda c: Gate(gate.mean, Unused(), torch.sigmoid), "no gradient reaches"),
        (lambda c: Gate(lambda x: torch.ones_like(x[:, :, :1, :1])), "does not depend on the"),
        (lambda c: layers.EfficientChannelAttention(c), "return a layers.gate.Gate"),
        (lambda c: 3, "a module is wanted"),
    ],
    "channel_by_place": [
        (lambda c: placed(c, same), "accuracy 0"),
        (lambda c: placed(c, lambda x: moved(x, -2)), "accuracy 0"),
        (lambda c: Gate(moved, nn.Conv2d(c, 1, 1), torch.sigmoid), "accuracy 0"),
        (lambda c: Gate(nn.Conv2d(c, c, (1, 9), padding=(0, 4)), torch.sigmoid), "budget is 100"),
        (lambda c: nn.Conv2d(c, c, 1, groups=c), "zeros must stay zeros"),
    ],
}
MISTAKES = [(name, *pair) for name, pairs in WRONG.items() for pair in pairs]


class Compete(nn.Module):
    """GCT's transform, as in the chapter: with gamma = 0 the gate begins as a constant."""

    def __init__(self, channels):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, z):
        u = self.alpha * z
        return self.gamma * u / (u.square().mean(1, keepdim=True) + 1e-5).sqrt()


def test_gates_with_a_quiet_start_are_accepted(capsys):
    for seed in range(5):  # a ReLU or a constant may let no gradient through at first
        torch.manual_seed(seed)
        check.one_frame.attention(lambda c: Gate(gate.maximum, Compete(c), gate.one_plus_tanh))
        check.one_frame.attention(lambda c: se(c, c, gate.maximum))
        parts = gate.AlongChannels(3), torch.sigmoid
        check.one_frame.attention(lambda c, parts=parts: Gate(gate.SoftmaxPooling(c), *parts))
    assert capsys.readouterr().out.count("passed") == 15
