"""The checks of the SE exercises: solutions pass, mistakes get their message, stubs are quiet."""

import numpy as np
import torch
from torch import nn

from attn_lib import layers
from attn_lib.train import over_seeds


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


class Module(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def gate(self, x):
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))[:, :, None, None]

    def forward(self, x):
        return x * self.gate(x)


class ReturnsGate(Module):
    def forward(self, x):
        return self.gate(x)


class AddsInput(Module):
    def forward(self, x):
        return x + x * self.gate(x)


class NoRelu(Module):
    def gate(self, x):
        return torch.sigmoid(self.fc2(self.fc1(x.mean((2, 3)))))[:, :, None, None]


class NoBias(Module):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.fc1.bias = None


class Empty(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()


def excite(z, w1, b1, w2, b2):
    return sigmoid(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2)


def softmax(a):
    return np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)


def gate_backward(ds, z, h, s, w1, w2, *, slope=None, relu=True, batch="sum", turn=False):
    da2 = ds * (s * (1 - s) if slope is None else slope(s))
    da1 = da2 @ w2 * ((h > 0) if relu else 1)
    n = len(z) if batch == "mean" else 1
    dw1, dw2 = da1.T @ z / n, da2.T @ h / n
    db1, db2 = da1.sum(0) / n, da2.sum(0) / n
    return da1 @ w1, *((dw1.T, db1, dw2.T, db2) if turn else (dw1, db1, dw2, db2))


def backward_with(**options):
    return lambda *args: gate_backward(*args, **options)


class Inception(nn.Module):
    """``join`` makes of the four outputs and the attention what the block returns."""

    def __init__(self, branches, attention, join=None):
        super().__init__()
        self.branches, self.attention, self.join = nn.ModuleList(branches), attention, join

    def forward(self, x):
        parts = [branch(x) for branch in self.branches]
        if self.join is not None:
            return self.join(parts, self.attention)
        return self.attention(torch.cat(parts, dim=1))


def joined(join):
    return lambda branches, attention: Inception(branches, attention, join)


class Twice(Inception):
    def forward(self, x):
        super().forward(x)
        return super().forward(x)


def stages(blocks, channels, r, gated):
    return sum(2 * n * c * c // r for n, c, g in zip(blocks, channels, gated, strict=True) if g)


class Faulty(nn.Module):
    """The block of the exercise; ``repaired`` lists which of its faults are gone."""

    def __init__(self, channels, reduction, repaired=()):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)
        self.repaired = repaired

    def forward(self, x):
        seen = x if "gradient" in self.repaired else x.detach()
        z = seen.mean((2, 3)) if "squeeze" in self.repaired else seen.mean((0, 2, 3))[None]
        a = self.fc2(torch.relu(self.fc1(z)))
        a = a if "excitation" in self.repaired else torch.relu(a)
        return x * torch.sigmoid(a)[:, :, None, None]


ALL = ("squeeze", "excitation", "gradient")


def repaired(*names):
    return lambda channels, reduction: Faulty(channels, reduction, names)


class RepairedAndMore(Faulty):
    def forward(self, x):
        return 2 * super().forward(x)


class OtherShape(Faulty):
    def forward(self, x):
        return super().forward(x).mean((2, 3))


class OtherLayers(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.fc = nn.Linear(channels, channels)


def standard_error(error, images):
    return 100 * (error / 100 * (1 - error / 100) / images) ** 0.5


RIGHT = {"a": False, "b": False, "c": True, "d": False, "e": False}


def gates(network, images):
    return network[3].gates(network[:3](images))["channel"]


def swapped(network, images, others):
    return network[4:](gates(network, others) * network[:3](images))


@torch.no_grad()
def alive(layer):
    layer.fc1.weight.abs_()
    layer.fc1.bias.abs_().add_(0.1)


@torch.no_grad()
def only_weights(layer):
    layer.fc1.weight.abs_()


@torch.no_grad()
def only_bias(layer):
    layer.fc1.bias.abs_()


@torch.no_grad()
def no_weights(layer):
    layer.fc1.weight.zero_()
    layer.fc1.bias.fill_(1)


@torch.no_grad()
def equal_weights(layer):
    layer.fc1.weight.fill_(0.1)
    layer.fc1.bias.fill_(0.1)


@torch.no_grad()
def also_second(layer):
    alive(layer)
    layer.fc2.weight.abs_()


def wider(layer):
    layer.fc1 = nn.Linear(8, 4)


@torch.no_grad()
def zeros(layer):
    layer.fc1.weight.abs_()
    layer.fc1.bias.fill_(-10)


def paired(make_plain, make_gated, split, seeds, **options):
    plain = over_seeds(make_plain, split, seeds, **options)
    return 100 * (over_seeds(make_gated, split, seeds, **options) - plain)


def unpaired(make_plain, make_gated, split, seeds, **options):
    plain = over_seeds(make_plain, split, seeds[::-1], **options)
    return 100 * (over_seeds(make_gated, split, seeds, **options) - plain)


def own_seeds(make_plain, make_gated, split, seeds, **options):
    return paired(make_plain, make_gated, split, range(3), **options)


class Small(nn.Module):
    """One linear hidden unit on the maxima, 25 parameters."""

    def __init__(self, channels, hidden=1):
        super().__init__()
        self.down, self.up = nn.Linear(channels, hidden), nn.Linear(hidden, channels)

    def statistic(self, x):
        return x.amax((2, 3))

    def forward(self, x):
        return x * torch.sigmoid(self.up(self.down(self.statistic(x))))[:, :, None, None]


class OverBatch(Small):
    def statistic(self, x):
        return x.amax((0, 2, 3))[None].expand(len(x), -1)


class OverPlaces(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.conv(x))


class GateOnly(Small):
    def forward(self, x):
        return self.up(self.down(self.statistic(x)))


class Constant(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.logit = nn.Parameter(torch.zeros(channels))

    def forward(self, x):
        return x * torch.sigmoid(self.logit)[:, None, None]


class Untouched(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x): ...


SOLUTIONS = {
    "squeeze": lambda x: x.mean(axis=(2, 3)),
    "excite": excite,
    "scale": lambda x, s: s[:, :, None, None] * x,
    "gate_backward": gate_backward,
    "backward": lambda dy, x, s, dz: s[:, :, None, None] * dy + dz[:, :, None, None] / 15,
    "module": Module,
    "inception": Inception,
    "stages": stages,
    "faults": repaired(*ALL),
    "standard_error": standard_error,
    "reading": RIGHT,
    "swapped": swapped,
    "alive": alive,
    "fold": lambda weight, s: weight * s[None, :, None, None],
    "paired": paired,
    "budget": Small,
}

MISTAKES = [
    ("squeeze", lambda x: x.mean(axis=(2, 3), keepdims=True), r"\(N, C, 1, 1\)"),
    ("squeeze", lambda x: x.sum(axis=(2, 3)), "divides by H W"),
    ("squeeze", lambda x: x.mean(axis=1), "averages over H and W"),
    ("squeeze", lambda x: x.mean(axis=(0, 2, 3)), "one z per sample"),
    ("squeeze", lambda x: x.max(axis=(2, 3)), "is the mean"),
    ("squeeze", lambda x: x.mean(axis=(2, 3)) + 1, "off by up to 1"),
    ("squeeze", lambda x: "mean", "should be numbers; got str"),
    ("excite", lambda z, w1, b1, w2, b2: softmax(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2),
     "softmax makes the channels compete"),
    ("excite", lambda z, w1, b1, w2, b2: sigmoid((z @ w1.T + b1) @ w2.T + b2), "ReLU between"),
    ("excite", lambda z, w1, b1, w2, b2: np.maximum(z @ w1.T + b1, 0) @ w2.T + b2, "logits"),
    ("excite", lambda z, w1, b1, w2, b2: sigmoid(np.maximum(z @ w1.T, 0) @ w2.T), "biases"),
    ("excite", lambda z, w1, b1, w2, b2: sigmoid(
        np.maximum(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2, 0)), "below 1/2"),
    ("scale", lambda x, s: s * x, "last two axes"),
    ("scale", lambda x, s: s[:, :, None] * x, "two trailing axes"),
    ("scale", lambda x, s: s[:, 0][:, None, None, None] * x, "batch axis only"),
    ("scale", lambda x, s: s[:, :, None, None] + x, "it multiplies"),
    ("scale", lambda x, s: (1 + s[:, :, None, None]) * x, "1 \\+ s"),
    ("gate_backward", backward_with(slope=lambda s: 1), "derivative of the sigmoid is missing"),
    ("gate_backward", backward_with(slope=lambda s: s), "you have only s"),
    ("gate_backward", backward_with(relu=False), "ReLU is missing on the way back"),
    ("gate_backward", backward_with(batch="mean"), "sums over its samples"),
    ("gate_backward", backward_with(turn=True), "are transposed"),
    ("gate_backward", lambda *args: gate_backward(*args)[0], "five arrays are wanted"),
    ("gate_backward", lambda *args: gate_backward(*args)[:3], "got 3"),
    ("backward", lambda dy, x, s, dz: s[:, :, None, None] * dy, "through the mean is missing"),
    ("backward", lambda dy, x, s, dz: 0 * dy + dz[:, :, None, None] / 15, "direct path is missing"),
    ("backward", lambda dy, x, s, dz: s[:, :, None, None] * dy + dz[:, :, None, None], "by H W"),
    ("backward", lambda dy, x, s, dz: x * dy + dz[:, :, None, None] / 15, "s dy, not x dy"),
    ("backward", lambda dy, x, s, dz: s[:, :, None, None] * (dy + dz[:, :, None, None] / 15),
     "scales the direct path only"),
    ("module", ReturnsGate, "this is the gate"),
    ("module", AddsInput, "belongs to the residual block"),
    ("module", NoRelu, "ReLU between fc1 and fc2"),
    ("module", NoBias, "its parameters are"),
    ("module", lambda channels, reduction: 3, "a module is wanted; got int"),
    ("inception", joined(lambda parts, se: torch.cat(parts, 1)), "the gate is missing"),
    ("inception", joined(lambda parts, se: se.gates(torch.cat(parts, 1))["channel"]),
     "this is the gate"),
    ("inception", joined(lambda parts, se: torch.cat(parts, 1) + se(torch.cat(parts, 1))),
     "Inception has none"),
    ("inception", joined(lambda parts, se: se(se(torch.cat(parts, 1)))), "applied twice"),
    ("inception", joined(lambda parts, se: se(torch.cat(parts[::-1], 1))), "another order"),
    ("inception", lambda branches, attention: 3, "a module is wanted; got int"),
    ("inception", Twice, "exactly once"),
    ("stages", lambda b, c, r, g: stages(b, c, r, [True] * len(b)), "counted every stage"),
    ("stages", lambda b, c, r, g: stages(b, c, r, [not x for x in g]), "that are left out"),
    ("stages", lambda b, c, r, g: stages(b, c, r, g) // 2, "you counted one"),
    ("stages", lambda b, c, r, g: stages([1] * len(b), c, r, g), "several blocks"),
    ("stages", lambda b, c, r, g: sum(
        2 * n * x // r for n, x, y in zip(b, c, g, strict=True) if y), "channels are squared"),
    ("stages", lambda b, c, r, g: stages(b, c, r, g) + sum(
        n * (x + x // r) for n, x, y in zip(b, c, g, strict=True) if y), "biases are counted too"),
    ("faults", repaired("squeeze"), "repaired: squeeze. Still wrong: excitation.*; gradient"),
    ("faults", repaired("excitation"), "repaired: excitation. Still wrong: squeeze.*; gradient"),
    ("faults", repaired("gradient"), "repaired: gradient. Still wrong: squeeze.*; excitation"),
    ("faults", repaired("squeeze", "gradient"), "repaired: squeeze, gradient. Still.*below 1/2"),
    ("faults", repaired("squeeze", "excitation"), "Still wrong: gradient: the path through"),
    ("faults", repaired("excitation", "gradient"), "Still wrong: squeeze: an image's output"),
    ("faults", lambda c, r: RepairedAndMore(c, r, ALL), "something else has changed"),
    ("faults", lambda c, r: OtherShape(c, r, ALL), "the output has shape"),
    ("faults", OtherLayers, "keep the layers fc1 and fc2"),
    ("standard_error", lambda e, n: standard_error(e, n) ** 2 / 100, "square root is missing"),
    ("standard_error", lambda e, n: standard_error(e, 1), "divide by the number of images"),
    ("standard_error", lambda e, n: standard_error(e, n) / 100, "this is a share"),
    ("standard_error", lambda e, n: standard_error(e, n * n), "before the square root"),
    ("standard_error", lambda e, n: 100 * (e / 100 / n) ** 0.5, "yes or no"),
    ("reading", {**RIGHT, "a": True}, "look at a again"),
    ("reading", {**RIGHT, "b": True}, "look at b again: 0.08 points"),
    ("reading", {**RIGHT, "c": False}, "look at c again"),
    ("reading", {**RIGHT, "d": True}, "look at d again"),
    ("reading", {**RIGHT, "e": True}, "look at e again"),
    ("reading", {"a": True}, "a dict with the keys"),
    ("swapped", lambda net, x, o: net(x), "own logits"),
    ("swapped", lambda net, x, o: net(o), "only their gates"),
    ("swapped", lambda net, x, o: swapped(net, o, x), "turn it round"),
    ("swapped", lambda net, x, o: net[4:](gates(net, o) * gates(net, x) * net[:3](x)),
     "both gates"),
    ("swapped", lambda net, x, o: net[4:]((gates(net, o) + gates(net, x)) / 2 * net[:3](x)),
     "averaged the two"),
    ("alive", only_weights, "bias of fc1 is negative"),
    ("alive", only_bias, "a weight of fc1 is negative"),
    ("alive", no_weights, "every weight of fc1 is 0"),
    ("alive", equal_weights, "all weights of fc1 are equal"),
    ("alive", also_second, "fc2 needs no change"),
    ("alive", wider, "keep the layer's parameters"),
    ("alive", zeros, "silent for 100 %"),
    ("fold", lambda weight, s: weight * s[:, None, None, None], "axis 1"),
    ("fold", lambda weight, s: weight / s[None, :, None, None], "it multiplies"),
    ("fold", lambda weight, s: weight * s, "kernel's columns"),
    ("fold", lambda weight, s: weight * s[:, None], "kernel's rows"),
    ("fold", lambda weight, s: weight * s.mean(), "one number for all"),
    ("paired", lambda *args, **kw: -paired(*args, **kw), "plain minus gated"),
    ("paired", lambda *args, **kw: paired(*args, **kw) / 100, "these are shares"),
    ("paired", lambda *args, **kw: paired(*args, **kw).mean(), "their mean"),
    ("paired", lambda p, g, *args, **kw: 100 * over_seeds(g, *args, **kw), "subtract those"),
    ("paired", unpaired, "not paired"),
    ("paired", own_seeds, "the seeds from 0 on"),
    ("budget", lambda channels: layers.SqueezeExcitation(channels, 2), "76 parameters"),
    ("budget", OverPlaces, "differs between the pixels"),
    ("budget", OverBatch, "other images of its batch"),
    ("budget", GateOnly, "the output has shape"),
    ("budget", Constant, "0 of 4 trainings"),
    ("budget", lambda channels: 3, "a module is wanted; got int"),
]  # fmt: skip


def raises(*args, **options):
    raise NotImplementedError


STUBS = [
    ("module", Empty),
    ("faults", Faulty),
    ("reading", dict.fromkeys("abcde", ...)),
    ("reading", {**RIGHT, "d": ...}),
    ("gate_backward", lambda *args: (None,) * 5),
    ("budget", Untouched),
    ("inception", joined(lambda parts, se: None)),
    ("squeeze", raises),
    ("alive", raises),
]  # that are not attempts, besides the usual
