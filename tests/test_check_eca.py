"""The checks of the ECA exercises: solutions pass, mistakes get their message, stubs are quiet."""

import copy
import math

import numpy as np
import pytest
import torch
from torch import nn

from attn_lib import check, layers
from attn_lib.reference.eca import kernel_size_for
from attn_lib.train import over_seeds


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def rounded(rounding):
    return lambda c, gamma=2, b=1: rounding(abs((math.log2(c) + b) / gamma))


def kernel_size(channels, gamma=2, b=1):
    k = int(abs((math.log2(channels) + b) / gamma))
    return k if k % 2 else k + 1


def logits(z, kernel):
    p, channels = len(kernel) // 2, z.shape[1]
    padded = np.pad(z, ((0, 0), (p, p)))
    return sum(w * padded[:, u : u + channels] for u, w in enumerate(kernel))


def no_padding(z, kernel):
    if len(kernel) == 1:
        return logits(z, kernel)
    return sum(w * z[:, u : u + z.shape[1] - len(kernel) + 1] for u, w in enumerate(kernel))


def ring(z, kernel):
    return sum(w * np.roll(z, len(kernel) // 2 - u, axis=1) for u, w in enumerate(kernel))


def from_channel(z, kernel):
    padded = np.pad(z, ((0, 0), (0, len(kernel) - 1)))
    return sum(w * padded[:, u : u + z.shape[1]] for u, w in enumerate(kernel))


def gate_backward(ds, z, s, kernel, *, slope=lambda s: s * (1 - s), turn=-1, rounded=False):
    da = ds * slope(s)
    p, taps, channels = len(kernel) // 2, range(len(kernel)), z.shape[1]
    padded = np.pad(z, ((0, 0), (p, p)), mode="wrap" if rounded else "constant")
    dkernel = np.array([(da * padded[:, u : u + channels]).sum() for u in taps])
    return logits(da, kernel[::turn]), dkernel


def backward_with(**options):
    return lambda *args: gate_backward(*args, **options)


def dkernel_as(change):
    return lambda *args: (lambda dz, dkernel: (dz, change(dkernel)))(*gate_backward(*args))


class Module(nn.Module):
    bias = False

    def __init__(self, channels, kernel_size=None):
        super().__init__()
        k = kernel_size or kernel_size_for(channels)
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=self.bias)

    def summary(self, x):
        return x.mean((2, 3))

    def gate(self, x):
        return torch.sigmoid(self.conv(self.summary(x)[:, None])[:, 0])[:, :, None, None]

    def forward(self, x):
        return x * self.gate(x)


class ReturnsGate(Module):
    def forward(self, x):
        return self.gate(x)


class AddsInput(Module):
    def forward(self, x):
        return x + x * self.gate(x)


class NoSigmoid(Module):
    def gate(self, x):
        return self.conv(self.summary(x)[:, None])[:, 0, :, None, None]


class AlongBatch(Module):
    def gate(self, x):
        return torch.sigmoid(self.conv(self.summary(x).T[:, None])[:, 0]).T[:, :, None, None]


class Maximum(Module):
    def summary(self, x):
        return x.amax((2, 3))


class WithBias(Module):
    bias = True


class Exchanged(Module):
    def __init__(self, channels, kernel_size=None):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(channels, channels, self.conv.kernel_size[0], bias=False)


class Unpadded(Module):
    def __init__(self, channels, kernel_size=None):
        super().__init__(channels, kernel_size)
        self.conv = nn.Conv1d(1, 1, self.conv.kernel_size[0], bias=False)


class AlwaysThree(Module):
    def __init__(self, channels, kernel_size=None):
        super().__init__(channels, 3)


class Empty(nn.Module):
    def __init__(self, channels, kernel_size=None):
        super().__init__()


class Block(nn.Module):
    """``join`` makes of the convolutions, the attention and x what the block returns."""

    def __init__(self, convolutions, attention, join=lambda f, gate, x: x + gate(f(x))):
        super().__init__()
        self.convolutions, self.attention, self.join = convolutions, attention, join

    def forward(self, x):
        return self.join(self.convolutions, self.attention, x)


def block(join):
    return lambda convolutions, attention: Block(convolutions, attention, join)


def hidden(channels, share, first=0, count=math.comb):
    possible, m = (1 if first == 0 else 0), 0
    while possible < share * 2**channels and m < channels:
        m += 1
        possible += count(channels, m)
    return m


def hidden_of_units(channels, share):
    return next(m for m in range(channels + 1) if 2**m >= share * 2**channels)


def last_term(channels, share):
    sizes = [max(math.comb(channels, i) for i in range(m + 1)) for m in range(channels + 1)]
    return next((m for m, n in enumerate(sizes) if n >= share * 2**channels), channels)


class Faulty(nn.Module):
    """The layer of the exercise; ``repaired`` lists which of its faults are gone."""

    def __init__(self, channels, repaired=()):
        super().__init__()
        log = math.log2 if "log" in repaired else math.log
        k = int(abs((log(channels) + 1) / 2))
        k = k | 1 if "odd" in repaired else k
        out = 1 if "sharing" in repaired else channels
        self.conv = nn.Conv1d(1, out, k, padding=k // 2, bias="bias" not in repaired)
        self.axis, self.shared = "axis" in repaired, out == 1

    def forward(self, x):
        z = x.mean((2, 3))
        z = z[:, None] if self.axis else z.T[:, None]
        a = self.conv(z)
        if self.shared:
            a = a[:, 0] if self.axis else a[:, 0].T[: len(x)]
        elif self.axis:
            a = a.diagonal(dim1=1, dim2=2)
        else:
            a = a.diagonal(dim1=0, dim2=1)[: len(x)]
        return x * torch.sigmoid(a)[:, :, None, None]


ALL = ("log", "odd", "sharing", "bias", "axis")


def repaired(*names):
    return lambda channels: Faulty(channels, names)


def all_but(name):
    return repaired(*(part for part in ALL if part != name))


class RepairedAndMore(Faulty):
    def forward(self, x):
        return 2 * super().forward(x)


class OtherShape(Faulty):
    def forward(self, x):
        return super().forward(x).mean((2, 3))


def slowdown(plain, gated):
    return 100 * (1 - gated / plain)


RIGHT = {"a": False, "b": True, "c": False, "d": False, "e": True}


@torch.no_grad()
def turned(net, parts=("filters", "norm", "kernel", "readout"), axes=1, in_place=False):
    new = net if in_place else copy.deepcopy(net)
    conv, norm, gate, _, _, readout = new
    if "filters" in parts:
        conv.weight.copy_(conv.weight.flip(0))
    if "norm" in parts:
        for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
            values.copy_(values.flip(0))
    if "kernel" in parts:
        gate.conv.weight.copy_(gate.conv.weight.flip(-1))
    if "readout" in parts:
        columns = readout.weight.view(len(readout.weight), len(conv.weight), -1)
        readout.weight.copy_(columns.flip(axes).flatten(1))
    return new


@torch.no_grad()
def other_filters(net):
    new = turned(net)
    new[0].weight.copy_(net[0].weight.flip(1))
    return new


def nearest_kernel(weight, k, nearest=np.mean):
    return np.array([nearest(np.diagonal(weight, u - k // 2)) for u in range(k)])


def ablation(makers, split, seeds, change=lambda gated, plain: 100 * (gated - plain), **options):
    accuracy = {name: over_seeds(make, split, seeds, **options) for name, make in makers.items()}
    first, *others = makers
    return {name: change(accuracy[name], accuracy[first]) for name in others}


def changed(change):
    return lambda *args, **options: ablation(*args, change=change, **options)


def own_seeds(makers, split, seeds, **options):
    return ablation(makers, split, range(3), **options)


def with_baseline(makers, split, seeds, **options):
    others = ablation(makers, split, seeds, **options)
    return {next(iter(makers)): np.zeros(3), **others}


class Far(nn.Module):
    """A kernel over all channels; circular, or with zeros beyond the ends."""

    def __init__(self, channels, taps=17, mode="circular"):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, taps, padding=taps // 2, bias=False, padding_mode=mode)

    def forward(self, x):
        a = self.conv(x.mean((2, 3))[:, None])[:, 0]
        return x * torch.sigmoid(a)[:, :, None, None]


class FarOverBatch(Far):
    def forward(self, x):
        return super().forward(x.mean(0, keepdim=True)) * x / x.mean(0, keepdim=True)


class FarOverPlaces(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, 1, 1)

    def forward(self, x):
        return x * torch.sigmoid(self.conv(x))


class FarGateOnly(Far):
    def forward(self, x):
        return self.conv(x.mean((2, 3))[:, None])[:, 0]


class Untouched(nn.Module):
    def __init__(self, *_):
        super().__init__()

    def forward(self, x): ...


SOLUTIONS = {
    "kernel_size": kernel_size,
    "logits": logits,
    "gate_backward": gate_backward,
    "module": Module,
    "inverted": Block,
    "hidden": hidden,
    "faults": repaired(*ALL),
    "slowdown": slowdown,
    "reading": RIGHT,
    "turned": turned,
    "nearest_kernel": nearest_kernel,
    "ablation": ablation,
    "far": Far,
}

MISTAKES = [
    ("kernel_size", rounded(int), "must be odd"),
    ("kernel_size", lambda c, g=2, b=1: int(abs((math.log(c) + b) / g)) | 1, "base 2"),
    ("kernel_size", lambda c, g=2, b=1: int(abs(math.log2(c) / g)) | 1, "b is missing"),
    ("kernel_size", lambda c, g=2, b=1: int(abs(math.log2(c) / g + b)) | 1, "divided by gamma"),
    ("kernel_size", lambda c, g=2, b=1: int((math.log2(c) + b) / g) | 1, "absolute value"),
    ("kernel_size", rounded(lambda t: round(t) | 1), "do not round to the nearest"),
    ("kernel_size", rounded(lambda t: math.ceil(t) | 1), "do not round up"),
    ("kernel_size", rounded(lambda t: int(t) - 1 + int(t) % 2), "not down"),
    ("logits", lambda z, w: logits(z, w[::-1]), "turned round"),
    ("logits", lambda z, w: logits(z.T, w).T, "along the batch"),
    ("logits", no_padding, "the padding is missing"),
    ("logits", ring, "round the ends"),
    ("logits", from_channel, "its middle belongs there"),
    ("logits", lambda z, w: sigmoid(logits(z, w)), "that is the gate"),
    ("logits", lambda z, w: logits(z, w) if len(w) > 1 else z, "off by up to"),
    ("gate_backward", backward_with(slope=lambda s: 1), "derivative of the sigmoid is missing"),
    ("gate_backward", backward_with(slope=lambda s: s), "you have only s"),
    ("gate_backward", backward_with(turn=1), "turn it round on the way back"),
    ("gate_backward", dkernel_as(lambda d: d[::-1]), "dkernel is turned round"),
    ("gate_backward", dkernel_as(lambda d: d / 3), "averaged over the batch"),
    ("gate_backward", backward_with(rounded=True), "round the ends"),
    ("gate_backward", lambda ds, z, s, w: (
        gate_backward(ds, z, s, w)[0], gate_backward(ds[:1], z[:1], s[:1], w)[1]), "one sample"),
    ("gate_backward", lambda *args: gate_backward(*args)[0], "two arrays are wanted"),
    ("module", ReturnsGate, "this is the gate"),
    ("module", AddsInput, "belongs to the residual block"),
    ("module", NoSigmoid, "the sigmoid is missing"),
    ("module", AlongBatch, "slides along the batch"),
    ("module", Maximum, "it is their mean"),
    ("module", WithBias, "has no bias"),
    ("module", Exchanged, r"Conv1d\(1, 1, k\)"),
    ("module", Unpadded, "forward fails.*keep the length C"),
    ("module", AlwaysThree, "C = 256, k is 3; the rule gives 5"),
    ("module", lambda channels, kernel_size=None: 3, "a module is wanted; got int"),
    ("inverted", block(lambda f, gate, x: gate(f(x))), "the shortcut is missing"),
    ("inverted", block(lambda f, gate, x: gate(x + f(x))), "acts on the sum"),
    ("inverted", block(lambda f, gate, x: gate(x) + f(x)), "acts on the shortcut"),
    ("inverted", block(lambda f, gate, x: x + f(gate(x))), "acts on the input"),
    ("inverted", block(lambda f, gate, x: x + f(x)), "the gate is missing"),
    ("inverted", block(lambda f, gate, x: torch.relu(x + gate(f(x)))), "have none"),
    ("inverted", lambda convolutions, attention: 3, "a module is wanted; got int"),
    ("hidden", lambda c, share: hidden(c, share) - 1, "one too few"),
    ("hidden", lambda c, share: hidden(c, share) + 1, "one too many"),
    ("hidden", last_term, "the last term alone"),
    ("hidden", lambda c, share: hidden(c, share, first=1), "begins with i = 0"),
    ("hidden", hidden_of_units, "patterns of q hidden units"),
    ("hidden", lambda c, share: hidden(c, share / 2**c), r"all 2\*\*C patterns"),
    ("hidden", lambda c, share: c // max(1, hidden(c, share)), "reduction ratio"),
    ("faults", repaired("log"), "repaired: log. Still wrong: odd.*; sharing.*; bias.*; axis"),
    ("faults", all_but("log"), "Still wrong: log: the kernel is too narrow"),
    ("faults", repaired("log", "sharing", "bias"), "Still wrong: odd.*; axis"),
    ("faults", all_but("sharing"), "Still wrong: sharing: the layer has more than k weights"),
    ("faults", all_but("bias"), "Still wrong: bias: a channel whose"),
    ("faults", all_but("axis"), "Still wrong: axis: an image's output"),
    ("faults", all_but("odd"), "an even kernel gives one number too many"),
    ("faults", lambda c: RepairedAndMore(c, ALL), "something else has changed"),
    ("faults", lambda c: OtherShape(c, ALL), "the output has shape"),
    ("faults", Empty, "keep the layer conv"),
    ("slowdown", lambda plain, gated: slowdown(plain, gated) / 100, "this is a share"),
    ("slowdown", lambda plain, gated: -slowdown(plain, gated), "slower is positive"),
    ("slowdown", lambda plain, gated: 100 * gated / plain, "subtract it from 100"),
    ("slowdown", lambda plain, gated: 100 * (plain / gated - 1), "longer an image takes"),
    ("slowdown", lambda plain, gated: plain - gated, "images a second"),
    ("reading", {**RIGHT, "a": True}, "look at a again: the paper copies"),
    ("reading", {**RIGHT, "b": False}, "look at b again: compare 785"),
    ("reading", {**RIGHT, "c": True}, "look at c again"),
    ("reading", {**RIGHT, "d": True}, "look at d again: 0.14 points"),
    ("reading", {**RIGHT, "e": False}, "look at e again"),
    ("reading", {"a": True}, "a dict with the keys"),
    ("turned", lambda net: turned(net, ("filters", "norm", "readout")), "kernel is as it was"),
    ("turned", lambda net: turned(net, ("filters", "kernel", "readout")), "batch norm is in the"),
    ("turned", lambda net: turned(net, ("filters", "norm", "kernel")), "readout still reads"),
    ("turned", lambda net: turned(net, axes=(1, 2)), "not the pixels"),
    ("turned", lambda net: turned(net, ("filters",)), "only the filters are reversed"),
    ("turned", lambda net: turned(net, in_place=True), "work on a deep copy"),
    ("turned", copy.deepcopy, "nothing is reversed"),
    ("turned", other_filters, "flip axis 0"),
    ("turned", lambda net: 3, "a network is wanted; got int"),
    ("nearest_kernel", lambda w, k: nearest_kernel(w, k, np.sum), "those are sums"),
    ("nearest_kernel", lambda w, k: nearest_kernel(w, k, np.sum) / len(w), "divided by C"),
    ("nearest_kernel", lambda w, k: nearest_kernel(w, k)[::-1], "turned round"),
    ("nearest_kernel", lambda w, k: nearest_kernel(w, k, np.median), "medians"),
    ("nearest_kernel", lambda w, k: w[k // 2, :k], "a row of the matrix"),
    ("nearest_kernel", lambda w, k: nearest_kernel(w, k, lambda d: d[0]), "first entries"),
    ("nearest_kernel", lambda w, k: nearest_kernel(w, k) if k > 1 else np.trace(w) / len(w),
     r"shape \(\)"),
    ("ablation", changed(lambda gated, plain: 100 * (plain - gated)), "plain minus gated"),
    ("ablation", changed(lambda gated, plain: gated - plain), "these are shares"),
    ("ablation", changed(lambda gated, plain: 100 * (gated - plain).mean()), "this is their mean"),
    ("ablation", changed(lambda gated, plain: 100 * gated), "these are the accuracies"),
    ("ablation", changed(lambda gated, plain: 100 * (gated - plain.mean())), "seed by seed"),
    ("ablation", own_seeds, "the seeds from 0 on"),
    ("ablation", with_baseline, "leave .plain. out"),
    ("ablation", lambda *args, **options: [1, 2], "a dict is wanted"),
    ("far", lambda c: layers.SqueezeExcitation(c, 4), "148 parameters"),
    ("far", lambda c: Far(c, taps=3), "that is chance"),
    ("far", lambda c: Far(c, taps=15, mode="zeros"), "the channels form a ring"),
    ("far", FarOverPlaces, "differs between the pixels"),
    ("far", FarOverBatch, "other images of its batch"),
    ("far", FarGateOnly, "the output has shape"),
    ("far", lambda c: nn.Identity(), "no parameters"),
    ("far", lambda c: 3, "a module is wanted; got int"),
]  # fmt: skip


STUBS = [
    ("reading", dict.fromkeys("abcde", ...)),
    ("module", Empty),
    ("inverted", Untouched),
    ("faults", Faulty),
    ("far", Untouched),
    ("gate_backward", lambda *args: (..., ...)),
]  # that are not attempts, besides the usual


@pytest.mark.slow
def test_a_wide_kernel_with_zeros_sees_every_distance(capsys):
    check.eca.far(lambda channels: Far(channels, taps=31, mode="zeros"))
    assert capsys.readouterr().out.startswith("31 parameters")
