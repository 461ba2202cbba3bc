"""Checks of the exercises on Efficient Channel Attention."""

import copy
import math

import numpy as np
import torch
from torch import nn

from attn_lib import layers
from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.models.mobilenet_v2 import InvertedResidual
from attn_lib.reference import eca as reference

__all__ = [
    "ablation",
    "far",
    "faults",
    "gate_backward",
    "hidden",
    "inverted",
    "kernel_size",
    "logits",
    "module",
    "nearest_kernel",
    "reading",
    "slowdown",
    "turned",
]


def _logits(z, kernel):
    """Cross-correlation of the rows of z with the kernel, zeros beyond the ends."""
    half = len(kernel) // 2
    padded = np.pad(z, ((0, 0), (half, half)))
    return sum(w * padded[:, u : u + z.shape[1]] for u, w in enumerate(kernel))


def _sigmoid(a):
    return 1 / (1 + np.exp(-a))


@exercise
def kernel_size(attempt):
    """``attempt(channels, gamma=2, b=1)`` is k by equation 12, rounded as the paper's listing."""

    def rule(channels, gamma, b, log=math.log2, odd=lambda t: int(t) + (int(t) + 1) % 2):
        return odd(abs((log(channels) + b) / gamma))

    cases = [(c, 2, 1) for c in (16, 32, 40, 64, 128, 256, 512, 1024, 2048)]
    cases += [(64, 1, 0), (256, 2, 3), (16, -2, 1)]
    # all cases at once, so that a mistake is told from another that agrees with it on some
    got = [call(attempt, *case) for case in cases]
    expect(
        got,
        [rule(*case) for case in cases],
        "the list of kernel sizes",
        {
            "k must be odd: an even number becomes the next odd one": [
                rule(*case, odd=int) for case in cases
            ],
            "the logarithm is to base 2": [rule(*case, log=math.log) for case in cases],
            "b is missing: k = |log2(C) / gamma + b / gamma|": [
                rule(c, gamma, 0) for c, gamma, _ in cases
            ],
            "b is divided by gamma too: k = |log2(C) / gamma + b / gamma|": [
                rule(2 ** (math.log2(c) / gamma), 1, b) for c, gamma, b in cases
            ],
            "take the absolute value before you round": [
                int((math.log2(c) + b) / gamma) | 1 for c, gamma, b in cases
            ],
            "truncate, do not round to the nearest integer: 3.5 becomes 3": [
                rule(*case, odd=lambda t: round(t) | 1) for case in cases
            ],
            "truncate, do not round up: 3.16 becomes 3": [
                rule(*case, odd=lambda t: math.ceil(t) | 1) for case in cases
            ],
            "an even number goes up to the next odd one, not down": [
                rule(*case, odd=lambda t: max(1, int(t) - (int(t) + 1) % 2)) for case in cases
            ],
        },
    )


@exercise
def logits(attempt):
    """``attempt(z, kernel)``: (N, C) and (k,) -> a (N, C), the sum in equation 8."""
    rng = np.random.default_rng(0)
    z, kernel = rng.standard_normal((6, 6)), rng.standard_normal(5)  # a shape in which all fits
    inner = sum(w * z[:, u : u + 2] for u, w in enumerate(kernel))
    expect(
        call(attempt, z, kernel),
        _logits(z, kernel),
        "a",
        {
            "the kernel is turned round (numpy.convolve does that): weight 0 belongs to the "
            "channels before": _logits(z, kernel[::-1]),
            "the kernel slides along the batch: it slides along the channels, axis 1": _logits(
                z.T, kernel
            ).T,
            "the padding is missing: put p zeros at both ends, so that C numbers come out": inner,
            "the channels go round the ends: beyond the first and the last are zeros": sum(
                w * np.roll(z, 2 - u, axis=1) for u, w in enumerate(kernel)
            ),
            "the kernel begins on the channel that it gates: its middle belongs there": sum(
                w * np.pad(z, ((0, 0), (0, 4)))[:, u : u + 6] for u, w in enumerate(kernel)
            ),
            "that is the gate: the sigmoid comes afterwards": _sigmoid(_logits(z, kernel)),
        },
    )
    expect(call(attempt, z, np.array([2.0])), 2 * z, "a for a kernel of one weight")


def _gate_gradients(ds, z, s, kernel, *, slope=None, turn=True, dturn=False, ring=False):
    da = ds * (s * (1 - s) if slope is None else slope(s))
    p, taps = len(kernel) // 2, range(len(kernel))
    if ring:
        dkernel = np.array([(da * np.roll(z, p - u, axis=1)).sum() for u in taps])
    else:
        padded = np.pad(z, ((0, 0), (p, p)))
        dkernel = np.array([(da * padded[:, u : u + z.shape[1]]).sum() for u in taps])
    return _logits(da, kernel[::-1] if turn else kernel), dkernel[::-1] if dturn else dkernel


@exercise
def gate_backward(attempt):
    """``attempt(ds, z, s, kernel)`` -> (dz, dkernel), ECA-B1 (second half) to ECA-B3."""
    rng = np.random.default_rng(1)
    z, ds, kernel = *rng.standard_normal((2, 3, 7)), rng.standard_normal(5)
    given = (ds, z, _sigmoid(_logits(z, kernel)), kernel)
    got = call(attempt, *given)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Failed("two arrays are wanted, (dz, dkernel)")
    if any(part is None or part is ... for part in got):
        raise _NotAttempted
    wrong = {
        "the derivative of the sigmoid is missing: da = ds s (1 - s)": {"slope": np.ones_like},
        "the derivative of the sigmoid is s (1 - s): you have only s": {"slope": lambda s: s},
        "dz slides the kernel as forward does: turn it round on the way back": {"turn": False},
        "dkernel is turned round: weight 0 met the channels before": {"dturn": True},
        "z goes round the ends: beyond the first and the last channel are zeros": {"ring": True},
    }
    mistakes = {message: _gate_gradients(*given, **options) for message, options in wrong.items()}
    dz, dkernel = _gate_gradients(*given)
    mistakes["you averaged over the batch: the kernel sums over its samples"] = (dz, dkernel / 3)
    mistakes["only one sample is in dkernel: sum over the batch"] = (
        dz,
        _gate_gradients(*(part[:1] for part in given[:3]), kernel)[1],
    )
    for i, (name, wanted) in enumerate((("dz", dz), ("dkernel", dkernel))):
        differ = {m: v[i] for m, v in mistakes.items() if not np.allclose(v[i], wanted)}
        expect(got[i], wanted, name, differ)


@exercise
def module(attempt):
    """``attempt``: an nn.Module class, ``attempt(channels, kernel_size=None)`` with ``conv``."""
    torch.manual_seed(0)
    made = _shared.is_module(call(attempt, 8, 3))
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    if not shapes:
        raise _NotAttempted
    if "conv.bias" in shapes:
        raise Failed("ECA's convolution has no bias")
    if shapes == {"conv.weight": (8, 8, 3)}:
        raise Failed(
            "the channel means are one signal of length C: Conv1d(1, 1, k), not Conv1d(C, C, k)"
        )
    if shapes != {"conv.weight": (1, 1, 3)}:
        raise Failed(f"its parameters are {shapes}; expected {{'conv.weight': (1, 1, 3)}}")
    x = torch.randn(8, 8, 3, 5)  # as many images as channels: a shape in which all fits
    z, kernel = x.mean((2, 3)).numpy(), made.conv.weight.detach()[0, 0].numpy()

    def gate(z):
        return torch.from_numpy(_sigmoid(_logits(z, kernel)))[:, :, None, None]

    a = torch.from_numpy(_logits(z, kernel))[:, :, None, None]
    try:
        got = call(made, x)
    except RuntimeError as error:
        raise Failed(f"forward fails: {error}. Does the padding keep the length C?") from None
    expect(
        got,
        gate(z) * x,
        "the output",
        {
            "this is the gate: the module returns the gate times x": gate(z),
            "the sigmoid is missing: the logits multiply x": a * x,
            "x is added to the gated x: that sum belongs to the residual block": x + gate(z) * x,
            "the kernel slides along the batch: z needs the shape (N, 1, C)": (
                gate(z.T).transpose(0, 1) * x
            ),
            "z is the maximum over the positions: it is their mean": (
                gate(x.amax((2, 3)).numpy()) * x
            ),
        },
        tolerance=1e-5,
    )
    for channels in (16, 256, 2048):
        size = call(attempt, channels).conv.weight.shape[-1]
        if size != reference.kernel_size_for(channels):
            raise Failed(
                f"with no kernel size given and C = {channels}, k is {size}; the rule gives "
                f"{reference.kernel_size_for(channels)}"
            )


@exercise
def inverted(attempt):
    """``attempt(convolutions, attention)``: an inverted residual block with ECA in its place."""
    torch.manual_seed(0)
    block = InvertedResidual(
        8, 8, 1, 4, lambda c: layers.EfficientChannelAttention(c, 3), "projection"
    ).eval()
    conv, gate = block.conv, block.attention
    with torch.no_grad():
        gate.conv.weight.copy_(torch.tensor([[[2.0, -3.0, 1.0]]]))
        made = _shared.is_module(call(attempt, conv, gate))
        x = torch.randn(2, 8, 5, 5)
        expect(
            call(made, x),
            block(x),
            "the block's output",
            {
                "the shortcut is missing: add x at the end": gate(conv(x)),
                "the gate acts on the sum: first the gate, then the sum": gate(x + conv(x)),
                "the gate acts on the shortcut: it belongs to the branch": gate(x) + conv(x),
                "the gate acts on the input of the convolutions: it comes after them": x
                + conv(gate(x)),
                "the gate is missing: this is the plain block": x + conv(x),
                "there is a ReLU after the sum: the narrow features have none": torch.relu(
                    block(x)
                ),
            },
            tolerance=1e-5,
        )


@exercise
def hidden(attempt):
    """``attempt(channels, share)`` -> the smallest q with R(C, q) >= share 2**C, ECA-A1."""

    def smallest(channels, share, count=lambda c, q: sum(math.comb(c, i) for i in range(q + 1))):
        q = 0
        while count(channels, q) < share * 2**channels and q < channels:
            q += 1
        return q

    cases = [(16, 0.5), (16, 0.03), (10, 0.9), (64, 0.5), (7, 1.0), (12, 1e-4)]
    wanted = [smallest(*case) for case in cases]
    expect(
        [call(attempt, *case) for case in cases],
        wanted,
        "the list of widths",
        {
            "one too few: at q the sum must reach the share": [q - 1 for q in wanted],
            "one too many: the sum includes i = q": [q + 1 for q in wanted],
            "that is the last term alone: add the terms from i = 0 to q": [
                smallest(*case, count=lambda c, q: max(math.comb(c, i) for i in range(q + 1)))
                for case in cases
            ],
            "the sum begins with i = 0, the single pattern of a block without hidden units": [
                smallest(*case, count=lambda c, q: sum(math.comb(c, i) for i in range(1, q + 1)))
                for case in cases
            ],
            "those are the patterns of q hidden units, 2**q: count those of the gates": [
                smallest(*case, count=lambda c, q: 2**q) for case in cases
            ],
            "the share is of all 2**C patterns": [0] * len(cases),
            "that is the reduction ratio: return the number of hidden units": [
                case[0] // max(1, q) for case, q in zip(cases, wanted, strict=True)
            ],
        },
    )


def _rule_sizes(attempt):
    """Kernel size by number of channels, as the attempt makes it."""
    return {c: call(attempt, c).conv.kernel_size[0] for c in (8, 64, 256, 1024, 4096)}


_ECA_FAULTS = {
    "log": "the kernel is too narrow for wide layers, with 256 channels for one",
    "odd": "some kernels are even, so they have no middle",
    "sharing": "the layer has more than k weights",
    "bias": "a channel whose whole neighbourhood has mean zero gets another gate than 1/2",
    "axis": "an image's output changes with the other images of its batch",
}


@exercise
def faults(attempt):
    """``attempt(channels)``: an ECA layer with five planted faults, repaired.

    The message says which are repaired, and how those that remain show.
    """
    torch.manual_seed(0)
    made = call(attempt, 256)
    if not isinstance(made, nn.Module) or not isinstance(getattr(made, "conv", None), nn.Conv1d):
        raise Failed("keep the layer conv, an nn.Conv1d")
    x = torch.randn(4, 256, 3, 3)
    try:
        _shared.output(made, x)
    except RuntimeError as error:
        raise Failed(
            f"forward fails: {error}. Write the shapes of z and a beside their lines; with padding "
            "k // 2 an even kernel gives one number too many"
        ) from None
    sizes = _rule_sizes(attempt)
    wrong = {
        "log": any(k | 1 != reference.kernel_size_for(c) for c, k in sizes.items()),
        "odd": any(k % 2 == 0 for k in sizes.values()),
        "sharing": made.conv.weight.shape[:2] != (1, 1),
        "bias": made.conv.bias is not None,
        "axis": not torch.allclose(made(x)[:1], made(x[:1]), atol=1e-5),
    }
    shown = {fault: (fault, sign) for fault, sign in _ECA_FAULTS.items()}
    _shared.report(shown, [fault for fault, there in wrong.items() if there])
    healthy = layers.EfficientChannelAttention(256, sizes[256])
    healthy.load_state_dict(made.state_dict())
    expect(made(x), healthy(x), "the five are repaired, but something else has changed: the output")


@exercise
def slowdown(attempt):
    """``attempt(plain, gated)``: images a second -> per cent by which the layer slows down."""
    for plain, gated in ((1855, 1620), (1024, 472), (1000, 1010)):
        expect(
            call(attempt, plain, gated),
            100 * (1 - gated / plain),
            "the slowdown",
            {
                "this is a share: times 100 makes it per cent": 1 - gated / plain,
                "the sign: slower is positive": 100 * (gated / plain - 1),
                "this is what is left of the speed: subtract it from 100": 100 * gated / plain,
                "this is by how much longer an image takes: divide by the plain speed": 100
                * (plain / gated - 1),
                "these are images a second: make them per cent of the plain speed": plain - gated,
            },
            tolerance=1e-9,
        )


_READING = {
    "a": (
        False,
        "the paper copies the accuracies of plain ResNet-50 and of SE from another paper (section "
        "4.2.2), so the three were not trained alike",
    ),
    "b": (True, "compare 785 with 759 and 1805 with 1620 images a second"),
    "c": (
        False,
        "in timm's measurements the speeds with SE and with ECA differ by two per cent at most",
    ),
    "d": (
        False,
        "0.14 points are 70 images of 50,000; the standard error of such a difference is twice "
        "that, and each network was trained once",
    ),
    "e": (True, "80 parameters of 25.6 million"),
}


@exercise
def reading(attempt):
    """``attempt``: a dict, ``"a"`` to ``"e"`` -> True or False, on the paper's Table 3."""
    _shared.statements(attempt, _READING)


_PARTS = ("filters", "norm", "kernel", "readout")


def _turned(net, parts=_PARTS, *, all_columns=False):
    """A copy of the chapter's network with the channels of some of its parts reversed."""
    new = copy.deepcopy(net)
    conv, norm, gate, _, _, readout = new
    with torch.no_grad():
        if "filters" in parts:
            conv.weight.copy_(conv.weight.flip(0))
        if "norm" in parts:
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                values.copy_(values.flip(0))
        if "kernel" in parts:
            gate.conv.weight.copy_(gate.conv.weight.flip(-1))
        if "readout" in parts:
            columns = readout.weight.view(len(readout.weight), len(conv.weight), -1)
            columns = columns.flip((1, 2)) if all_columns else columns.flip(1)
            readout.weight.copy_(columns.flatten(1))
    return new


@exercise
def turned(attempt):
    """``attempt(net)``: the same function with the channels in reverse order."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 6, 4, stride=4, bias=False),
        nn.BatchNorm2d(6),
        layers.EfficientChannelAttention(6, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48, 10),
    )
    for values in net.state_dict().values():
        if values.is_floating_point():
            values.copy_(torch.rand_like(values) + 0.2)
    net[0].weight.data -= 0.7
    net[2].conv.weight.data = torch.tensor([[[3.0, -1.0, -2.0]]])
    net[5].weight.data -= 0.7
    net.eval()
    before, x = copy.deepcopy(net.state_dict()), torch.randn(5, 3, 8, 16)
    with torch.no_grad():
        wanted = net(x)
        new = call(attempt, net)
        if not isinstance(new, nn.Module):
            raise Failed(f"a network is wanted; got {type(new).__name__}")
        if any(not torch.equal(v, before[k]) for k, v in net.state_dict().items()):
            raise Failed("the network that was given has changed: work on a deep copy")
        if torch.equal(new[0].weight, net[0].weight):
            raise Failed("its first filters are in the old order: nothing is reversed there")
        if not torch.equal(new[0].weight, net[0].weight.flip(0)):
            raise Failed(
                "the filters are not in reverse order: flip axis 0, the output channels, alone"
            )
        forgotten = {
            "kernel": "the kernel is as it was: the channel before is now the channel after",
            "norm": "the batch norm is in the old order: it has four tensors, two of them buffers",
            "readout": "the readout still reads the channels in the old order",
        }
        mistakes = {
            message: _turned(net, [part for part in _PARTS if part != name]).eval()(x)
            for name, message in forgotten.items()
        }
        mistakes[
            "the readout's columns are all reversed: only the channels turn, not the pixels"
        ] = _turned(net, all_columns=True).eval()(x)
        mistakes["only the filters are reversed: what follows must be renumbered too"] = _turned(
            net, ["filters"]
        ).eval()(x)
        expect(new.eval()(x), wanted, "the output", mistakes, tolerance=1e-4)


@exercise
def nearest_kernel(attempt):
    """``attempt(weight, k)``: the kernel whose band matrix is nearest to weight (least squares)."""
    rng = np.random.default_rng(5)
    weight, k = rng.standard_normal((6, 6)), 5
    diagonals = [np.diagonal(weight, u - k // 2) for u in range(k)]
    wanted = np.array([d.mean() for d in diagonals])
    expect(
        call(attempt, weight, k),
        wanted,
        "the kernel",
        {
            "those are sums along the diagonals; the nearest constant is the mean": [
                d.sum() for d in diagonals
            ],
            "the sums are divided by C, but the diagonals off the middle are shorter": [
                d.sum() / 6 for d in diagonals
            ],
            "the kernel is turned round: its first weight lies below the diagonal": wanted[::-1],
            "those are medians: they are nearest in absolute values, the mean is in squares": [
                np.median(d) for d in diagonals
            ],
            "that is a row of the matrix: average along each diagonal": weight[2, :5],
            "those are the first entries of the diagonals: average along each": [
                d[0] for d in diagonals
            ],
        },
    )
    got = np.asarray(call(attempt, weight + 0.0, 1), dtype=float)
    if got.shape != (1,):
        raise Failed(f"for k = 1 the kernel has shape {got.shape}; it should have (1,)")


@exercise
def ablation(attempt):
    """``attempt(makers, split, seeds, **fit_options)`` -> label -> points above the first."""
    gate = layers.EfficientChannelAttention
    gates = {"plain": nn.Identity, "one": lambda: gate(4, 1), "three": lambda: gate(4, 3)}
    makers = {label: _shared.toy_network(gate, channels=4) for label, gate in gates.items()}
    split, seeds = _shared.toy_split(120, channels=4), (3, 5, 8)
    options = {"epochs": 3, "lr": 0.03, "batch_size": 20}
    got = call(attempt, dict(makers), split, seeds, **options)
    _shared.differences_by_name(got, makers, split, seeds, **options)


BUDGET = 40
_ENOUGH = 0.97
_DISTANCES = (5, 8, 11)


def _signs(n, seed):
    generator = torch.Generator().manual_seed(seed)
    keep = torch.randint(2, (n, 16), generator=generator) == 1
    noise = torch.randn(n, 16, 4, 4, generator=generator, dtype=torch.float64)
    return 2.0 * keep[:, :, None, None] - 1 + noise, keep


def _far_gates(layer, distance):
    """Which gates (images, channels) are right on new images, after training."""
    x, keep = _signs(1000, 200 + distance)
    new, new_keep = _signs(1000, 300 + distance)
    target = x * keep.roll(-distance, dims=1)[:, :, None, None]
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.03)
    for _ in range(400):
        loss = ((layer(x) - target) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        opened = (layer(new) / new).mean((2, 3)) > 0.5
    return opened == new_keep.roll(-distance, dims=1)


@exercise
def far(attempt):
    """``attempt(channels)``: a channel gate of at most 40 parameters that learns any distance.

    Trained for three distances on images that the page does not show.
    """
    torch.manual_seed(0)
    made, x = call(attempt, 16), torch.rand(4, 16, 4, 4) + 0.1
    size, y = _shared.within(BUDGET, made, x)
    if not size:
        raise Failed("it has no parameters, so it cannot learn a distance")
    several = "the gate differs between the pixels of a channel: one number a channel"
    _shared.one_number((y / x).detach(), (2, 3), several)
    _shared.one_image_alone(made, x, y)
    shares = []
    for distance in _DISTANCES:
        torch.manual_seed(distance)
        right = _far_gates(call(attempt, 16).double(), distance).double()
        shares.append(right.mean().item())
        if shares[-1] >= _ENOUGH:
            continue
        channel = right.mean(0)
        beyond = torch.arange(16) + distance > 15
        if channel[~beyond].min() > 0.9 > channel[beyond].max():
            why = "the channels whose partner lies beyond the end fail: the channels form a ring"
        elif channel[beyond].min() > 0.9 > channel[~beyond].max():
            why = "only the channels whose partner lies beyond the end succeed: look both ways"
        elif shares[-1] < 0.6:
            why = "that is chance: no gate reads the channel that decides it"
        else:
            why = "it reads the deciding channel, but not well enough"
        raise Failed(f"at distance {distance} {100 * shares[-1]:.0f} % are right; {why}")
    shown = ", ".join(f"{100 * share:.1f}" for share in shares)
    print(f"{size} parameters; gates right at three distances, new images: {shown} %")
