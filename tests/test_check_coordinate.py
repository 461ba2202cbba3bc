"""The checks of the Coordinate Attention exercises: solutions, mistakes, stubs."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attn_lib import layers
from attn_lib.train import over_seeds


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def strips(x):
    return x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True)


def join(z_h, z_w):
    return np.concatenate([z_h, z_w.swapaxes(2, 3)], axis=2)


def gates(f, w_h, b_h, w_w, b_w, height):
    f_h, f_w = f[:, :, :height, 0], f[:, :, height:, 0]
    s_h = sigmoid(w_h @ f_h + b_h[:, None])
    s_w = sigmoid(w_w @ f_w + b_w[:, None])
    return s_h[:, :, :, None], s_w[:, :, None, :]


def swish_slope(a):
    return np.where(a <= -3, 0.0, np.where(a >= 3, 1.0, (2 * a + 3) / 6))


def gate_gradients(dy, x, s_h, s_w):
    return (dy * x * s_w).sum(axis=3, keepdims=True), (dy * x * s_h).sum(axis=2, keepdims=True)


def factor(gate):
    s_h = gate.max(axis=1, keepdims=True)
    return s_h, gate.max(axis=0, keepdims=True) / gate.max()


def svd_factor(gate):
    u, s, v = np.linalg.svd(gate)
    sign = -np.sign(u[0, 0])
    return sign * u[:, :1] * s[0] / 2, sign * v[:1] * 2


def one(index, f, wrong):
    """The right pair, with one of the two changed."""

    def attempt(*args):
        pair = list(f(*args))
        pair[index] = wrong(pair[index], *args)
        return tuple(pair)

    return attempt


def logit(s, *_):
    return np.log(s / (1 - s))


FAULTS = ("means", "norm", "swish", "split", "turn")


class Layer(nn.Module):
    """The layer of the exercises; ``faults`` are planted, ``finish`` makes the output."""

    def __init__(self, channels, reduction=32, faults=(), floor=8):
        super().__init__()
        hidden = max(floor, channels // reduction)
        self.conv1, self.bn1 = nn.Conv2d(channels, hidden, 1), nn.BatchNorm2d(hidden)
        self.conv_h, self.conv_w = (nn.Conv2d(hidden, channels, 1) for _ in range(2))
        self.faults = faults

    def second(self):
        return self.conv_w

    def activate(self, a):
        if "swish" in self.faults:
            return a * a.clamp(0, 6) / 6
        return F.hardswish(a)

    def gates(self, x):
        h, w = x.shape[2:]
        z_h, z_w = x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT
        if "means" in self.faults:
            z_h, z_w = z_w, z_h
        a = self.conv1(torch.cat([z_h, z_w], 2))
        a = a if "norm" in self.faults else self.bn1(a)
        f_h, f_w = self.activate(a).split([w, h] if "split" in self.faults else [h, w], 2)
        f_w = f_w if "turn" in self.faults else f_w.mT
        return self.conv_h(f_h).sigmoid(), self.second()(f_w).sigmoid()

    def finish(self, x, s_h, s_w):
        return x * s_h * s_w

    def forward(self, x):
        return self.finish(x, *self.gates(x))


def changed(**methods):
    """A layer of which some methods are others."""
    return type("Changed", (Layer,), methods)


def finished(finish):
    return changed(finish=lambda self, x, s_h, s_w: finish(x, s_h, s_w))


class NoBias(Layer):
    def __init__(self, channels, reduction=32):
        super().__init__(channels, reduction)
        self.conv1.bias = None


class Empty(nn.Module):
    def __init__(self, *args):
        super().__init__()

    def forward(self, x): ...


def repaired(*names):
    """The layer of the exercise on faults, in which those of these names are gone."""
    left = [fault for fault in FAULTS if fault not in names]
    return lambda channels, reduction: Layer(channels, reduction, left)


class RepairedAndMore(Layer):
    def forward(self, x):
        return 2 * super().forward(x)


class OtherShape(Layer):
    def forward(self, x):
        return super().forward(x).mean((2, 3))


class Sandglass(nn.Module):
    def __init__(self, units, attention):
        super().__init__()
        self.units, self.attention = nn.ModuleList(units), attention

    def forward(self, x):
        a, b, c, d = self.units
        return x + d(c(b(self.attention(a(x)))))


def glass(run):
    """A block whose forward pass is run(x, units, attention)."""

    class Block(Sandglass):
        def forward(self, x):
            return run(x, self.units, self.attention)

    return Block


def price(c, k, h, w, shared):
    return (3 if shared else 4) * c * k, 2 * c * k * (h + w)


def redirected(network, images, others):
    x, s = parts(network, images)
    return network[4:](x * parts(network, others)[1]["height"] * s["width"])


def parts(network, images):
    x = network[:3](images)
    return x, network[3].gates(x)


def mixed(features, height, width):
    """Logits with features, row gates and column gates of images ("i") or others ("o")."""

    def attempt(network, images, others):
        x, s = {}, {}
        x["i"], s["i"] = parts(network, images)
        x["o"], s["o"] = parts(network, others)
        y = x[features]
        for name, sources in (("height", height), ("width", width)):
            for source in sources:
                y = y * s[source][name]
        return network[4:](y)

    return attempt


def relative(plain, gated):
    return 100 * (gated - plain) / (100 - plain)


RIGHT = {"a": False, "b": True, "c": False, "d": True, "e": False}


def coordinates(x, low=-1.0):
    n, _, h, w = x.shape
    row = torch.linspace(low, 1, h, dtype=x.dtype)[:, None].expand(n, 1, h, w)
    column = torch.linspace(low, 1, w, dtype=x.dtype).expand(n, 1, h, w)
    return torch.cat([x, row, column], dim=1)


def picked(*channels):
    """Some of the right output's channels, of which the last two are row and column."""
    return lambda x: coordinates(x)[:, list(channels)]


def comparison(make_plain, variants, split, seeds, *, pair=None, **options):
    plain = over_seeds(make_plain, split, seeds, **options)
    table = {}
    for label, make in variants.items():
        gated = over_seeds(make, split, seeds, **options)
        d = 100 * (gated - plain)
        right = d.mean(), d.std(ddof=1) / len(d) ** 0.5
        table[label] = right if pair is None else pair(d, gated, plain, right)
    return table


def compared(pair):
    return lambda *args, **options: comparison(*args, pair=pair, **options)


def own_seeds(make_plain, variants, split, seeds, **options):
    return comparison(make_plain, variants, split, range(4), **options)


class Crossed(Layer):
    def __init__(self, channels):
        super().__init__(channels)
        self.conv1 = nn.Conv2d(2 * channels, 8, 1)

    def gates(self, x):
        z_h, z_w = x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT
        both = torch.cat([torch.cat([z_h, z_w], 1), torch.cat([z_w, z_h], 1)], 2)
        f_h, f_w = F.hardswish(self.bn1(self.conv1(both))).split(x.shape[2:], 2)
        return self.conv_h(f_h).sigmoid(), self.conv_w(f_w.mT).sigmoid()


class OverBatch(Crossed):
    def gates(self, x):
        return super().gates(x.mean(0, keepdim=True).expand_as(x))


class Constant(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, x):
        return x * self.logit.sigmoid()


SOLUTIONS = {
    "strips": strips,
    "join": join,
    "gates": gates,
    "swish_slope": swish_slope,
    "gate_gradients": gate_gradients,
    "factor": factor,
    "module": Layer,
    "sandglass": Sandglass,
    "price": price,
    "faults": repaired(*FAULTS),
    "redirected": redirected,
    "relative": relative,
    "reading": RIGHT,
    "coordinates": coordinates,
    "comparison": comparison,
    "crossed": Crossed,
}

MISTAKES = [
    ("strips", lambda x: strips(x)[::-1], "wrong axis is pooled: z_h keeps the rows"),
    ("strips", lambda x: (x.mean(axis=3), x.mean(axis=2)), r"z_h has shape \(N, C, H\)"),
    ("strips", lambda x: strips(x)[0], "return a pair, z_h and z_w"),
    ("strips", lambda x: (x.sum(axis=3, keepdims=True), x.sum(axis=2, keepdims=True)),
     "equations 4 and 5 are means"),
    ("strips", lambda x: (x.mean(axis=(2, 3), keepdims=True),) * 2, "SE's squeeze"),
    ("strips", lambda x: (strips(x)[0],) * 2, "wrong axis is pooled: z_w keeps the columns"),
    ("strips", lambda x: (strips(x)[0], x.mean(axis=2)), r"z_w has shape \(N, C, W\)"),
    ("join", lambda a, b: np.concatenate([a, b], axis=2), "turn z_w"),
    ("join", lambda a, b: join(a, b).swapaxes(2, 3), "concatenated before transposing"),
    ("join", lambda a, b: np.concatenate([b.swapaxes(2, 3), a], axis=2), "the rows come first"),
    ("join", lambda a, b: np.concatenate(np.broadcast_arrays(a, b), axis=2),
     "broadcast the strips to full size"),
    ("join", lambda a, b: join(a, b)[..., 0], "has shape"),
    ("gates", lambda f, a, b, c, d, h: gates(f, a, b, a, b, h), "one shared output convolution"),
    ("gates", lambda f, a, b, c, d, h: gates(f, a, b, c, d, f.shape[2] - h), "has shape"),
    ("gates", lambda f, a, b, c, d, h: gates(np.roll(f, h, axis=2), a, b, c, d, h),
     "split in the wrong place"),
    ("gates", lambda f, a, b, c, d, h: gates(f, c, d, c, d, h), "width's convolution"),
    ("gates", lambda f, a, b, c, d, h: gates(f, a, 0 * b, c, d, h), "bias of s_h is missing"),
    ("gates", lambda f, a, b, c, d, h: gates(f, a, b, c, 0 * d, h), "bias of s_w is missing"),
    ("gates", one(0, gates, logit), "sigmoid of s_h is missing"),
    ("gates", one(1, gates, logit), "sigmoid of s_w is missing"),
    ("gates", one(1, gates, lambda s, *_: s.swapaxes(2, 3)), "still lies along axis 2"),
    ("gates", one(1, gates, lambda s, f, a, b, c, d, h: gates(f[:, :, :h], c, d, c, d, 0)[1]),
     "from the rows' part"),
    ("swish_slope", lambda a: np.clip(a + 3, 0, 6) / 6, "the clip depends on a too"),
    ("swish_slope", lambda a: np.where(abs(a) < 3, a / 6, 0), "is only one"),
    ("swish_slope", lambda a: (2 * a + 3) / 6, "beyond the kinks"),
    ("swish_slope", lambda a: np.where(abs(a) < 3, (2 * a + 3) / 6, 0), "slope there is 1"),
    ("swish_slope", lambda a: np.where(abs(a) <= 3, (2 * a + 3) / 6, swish_slope(a)),
     "what PyTorch takes"),
    ("gate_gradients",
     lambda dy, x, h, w: ((dy * x).sum(3, keepdims=True), (dy * x).sum(2, keepdims=True)),
     "the other gate is missing"),
    ("gate_gradients", lambda dy, x, h, w: gate_gradients(dy, x * h / w, h, w), "is the other"),
    ("gate_gradients", lambda dy, x, h, w: (
        (dy * x * w).sum(2, keepdims=True), (dy * x * h).sum(3, keepdims=True)),
     "not over the one it keeps"),
    ("gate_gradients", lambda dy, x, h, w: ((dy * x * w).mean(3, keepdims=True), 0),
     "not the mean"),
    ("gate_gradients", lambda dy, x, h, w: (dy * x * w, dy * x * h), "along which s_h is shared"),
    ("factor", lambda g: (g.mean(1, keepdims=True), g.mean(0, keepdims=True)),
     "too small by the mean"),
    ("factor", lambda g: (g.max(1, keepdims=True), g.max(0, keepdims=True)), "maximum"),
    ("factor", lambda g: (np.linalg.svd(g)[0][:, :1], np.linalg.svd(g)[2][:1]), "singular value"),
    ("factor", svd_factor, "gates are negative"),
    ("factor", lambda g: (factor(g)[0] * 30, factor(g)[1] / 30), "a gate exceeds 1"),
    ("factor", lambda g: (factor(g)[0][:, 0], factor(g)[1]), "they should have"),
    ("module", finished(lambda x, s_h, s_w: s_h * s_w), "these are the gates"),
    ("module", finished(lambda x, s_h, s_w: x * (s_h + s_w)), "they are not added"),
    ("module", finished(lambda x, s_h, s_w: x * s_h), "the column gate is missing"),
    ("module", finished(lambda x, s_h, s_w: x * s_w), "the row gate is missing"),
    ("module", finished(lambda x, s_h, s_w: x + x * s_h * s_w), "the block around it"),
    ("module", lambda c, r: Layer(c, r, ["norm"]), "batch norm is not called"),
    ("module", changed(activate=lambda self, a: a), "non-linearity is missing"),
    ("module", changed(activate=lambda self, a: a.relu()), "not ReLU"),
    ("module", changed(second=lambda self: self.conv_h), "the column gate has conv_w"),
    ("module", lambda c, r: Layer(c, r, floor=1), "at least 8 channels"),
    ("module", NoBias, "there is no conv1.bias"),
    ("module", lambda c, r: 3, "a module is wanted; got int"),
    ("sandglass", glass(lambda x, u, a: x + u[3](u[2](u[1](u[0](x))))), "never called"),
    ("sandglass", glass(lambda x, u, a: u[3](u[2](u[1](a(u[0](x)))))), "shortcut is missing"),
    ("sandglass", glass(lambda x, u, a: x + u[3](a(u[2](u[1](u[0](x)))))), "after the expansion"),
    ("sandglass", glass(lambda x, u, a: x + a(u[3](u[2](u[1](u[0](x)))))), "comes last"),
    ("sandglass", glass(lambda x, u, a: x + u[3](u[2](u[1](u[0](a(x)))))), "acts on the input"),
    ("sandglass", glass(lambda x, u, a: a(x + u[3](u[2](u[1](u[0](x)))))), "sum is gated"),
    ("sandglass", lambda units, attention: 3, "a module is wanted; got int"),
    ("price", lambda *args: price(*args)[::-1], "in the other order"),
    ("price", lambda *args: price(*args)[0], "return a pair"),
    ("price", lambda c, k, h, w, s: (price(c, k, h, w, s)[0] - c * k, 0), "two output"),
    ("price", lambda c, k, h, w, s: price(c, k, h, w, True), "a first convolution for each"),
    ("price", lambda c, k, h, w, s: price(c, k, h, w, False), "a single first convolution"),
    ("price", lambda c, k, h, w, s: (price(c, k, h, w, s)[0] + 3 * k + 2 * c, 0), "biases"),
    ("price", lambda c, k, h, w, s: (
        price(c, k, h, w, s)[0], (1.5 if s else 2) * c * k * (h + w)), "not arithmetic"),
    ("price", lambda c, k, h, w, s: (
        price(c, k, h, w, s)[0], (2 if s else 3) * c * k * (h + w)), "does not double"),
    ("price", lambda c, k, h, w, s: (price(c, k, h, w, s)[0], 2 * c * k * h * w), "the strips"),
    ("price", lambda c, k, h, w, s: (price(c, k, h, w, s)[0], c * k * (h + w)),
     "output convolutions are missing"),
    ("faults", repaired("means"), "repaired: means. Still wrong: norm.*swish.*split.*turn"),
    ("faults", repaired("norm"), "repaired: norm. Still wrong: means.*swish.*split.*turn"),
    ("faults", repaired("swish"), "repaired: swish. Still wrong: means.*norm.*split.*turn"),
    ("faults", repaired("split"), "repaired: split. Still wrong: means.*norm.*swish.*turn"),
    ("faults", repaired("turn"), "repaired: turn. Still wrong: means.*norm.*swish.*split"),
    *(("faults", repaired(*(f for f in FAULTS if f != left)), f"Still wrong: {left}: [^;]*$")
      for left in FAULTS),
    ("faults", lambda c, r: RepairedAndMore(c, r), "something else has changed"),
    ("faults", lambda c, r: OtherShape(c, r), "the output has shape"),
    ("faults", NoBias, "keep conv1, bn1, conv_h and conv_w"),
    ("faults", lambda c, r: 3, "a module is wanted; got int"),
    ("redirected", lambda net, x, o: net(x), "own logits"),
    ("redirected", lambda net, x, o: net(o), "only their row gates are wanted"),
    ("redirected", mixed("i", "i", "o"), "column gates are exchanged"),
    ("redirected", mixed("i", "o", "o"), "keep the column gates"),
    ("redirected", mixed("i", "o", ""), "column gates of images are missing"),
    ("redirected", mixed("o", "o", "i"), "the features are those of others"),
    ("redirected", mixed("i", "oi", "i"), "multiply as well"),
    ("relative", lambda plain, gated: gated - plain, "gain in points"),
    ("relative", lambda plain, gated: 100 * (gated - plain) / plain, "not to what it misses"),
    ("relative", lambda plain, gated: relative(plain, gated) / 100, "share of 1"),
    ("relative", lambda plain, gated: -relative(gated, plain), "the gated network misses"),
    ("relative", lambda plain, gated: -relative(plain, gated), "the sign is wrong"),
    ("relative", lambda plain, gated: 100 - relative(plain, gated), "still missing"),
    ("reading", {**RIGHT, "a": True}, "look at a again: points of mean IoU"),
    ("reading", {**RIGHT, "b": False}, "look at b again"),
    ("reading", {**RIGHT, "c": True}, "look at c again"),
    ("reading", {**RIGHT, "d": False}, "look at d again"),
    ("reading", {**RIGHT, "e": True}, "look at e again"),
    ("reading", {"a": True}, "a dict with the keys"),
    ("coordinates", lambda x: coordinates(x, 0), "not from 0 to 1"),
    ("coordinates", picked(0, 1, 2, 4, 3), "the row comes first"),
    ("coordinates", picked(3, 4, 0, 1, 2), "behind the features"),
    ("coordinates", picked(3, 4), "features are gone"),
    ("coordinates", picked(0, 1, 2, 4, 4), "the column appears twice"),
    ("coordinates", picked(0, 1, 2, 3, 3), "the row appears twice"),
    ("coordinates", lambda x: coordinates(x.float()), "keep the type of x"),
    ("comparison", compared(lambda d, g, p, right: (-right[0], right[1])), "plain minus gated"),
    ("comparison", compared(lambda d, g, p, right: (d.mean() / 100, right[1])), "makes it points"),
    ("comparison", compared(lambda d, g, p, right: (100 * g.mean(), right[1])), "is the accuracy"),
    ("comparison", compared(lambda d, g, p, right: (d, right[1])), "return their mean"),
    ("comparison", own_seeds, "the seeds 0, 1, 2 and 3"),
    ("comparison", compared(lambda d, g, p, right: (right[0], d.std(ddof=1))), "one difference"),
    ("comparison", compared(lambda d, g, p, right: (right[0], d.std() / 2)), "ddof=1"),
    ("comparison", compared(lambda d, g, p, right: (right[0], right[1] / 2)), "not by the number"),
    ("comparison", compared(lambda d, g, p, right: (
        right[0], 100 * (g.var(ddof=1) + p.var(ddof=1)) ** 0.5 / 2)), "seeds are paired"),
    ("comparison", compared(lambda d, g, p, right: d), "return a pair"),
    ("comparison", lambda *args, **options: {}, "with the keys of variants"),
    ("crossed", lambda channels: layers.CoordinateAttention(channels, 1), "3232 parameters"),
    ("crossed", OverBatch, "other images of its batch"),
    ("crossed", lambda channels: nn.AvgPool2d(2), "the output has shape"),
    ("crossed", Constant, "let row k see column k"),
    ("crossed", layers.CoordinateAttention, "let row k see column k"),
    ("crossed", lambda channels: 3, "a module is wanted; got int"),
]  # fmt: skip


def raises(*args, **options):
    raise NotImplementedError


STUBS = [
    ("module", Empty),
    ("faults", repaired()),
    ("reading", dict.fromkeys("abcde", ...)),
    ("reading", {**RIGHT, "d": ...}),
    ("sandglass", glass(lambda x, units, attention: None)),
    ("comparison", lambda make, variants, *args, **kw: dict.fromkeys(variants)),
    ("crossed", Empty),
    ("strips", raises),
]  # that are not attempts, besides the usual
