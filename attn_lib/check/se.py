"""Checks of the exercises on Squeeze-and-Excitation."""

import copy

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attn_lib import data, layers
from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.models.googlenet import Inception
from attn_lib.reference import ops
from attn_lib.reference import se as reference

__all__ = [
    "alive",
    "backward",
    "budget",
    "excite",
    "faults",
    "fold",
    "gate_backward",
    "inception",
    "module",
    "paired",
    "reading",
    "scale",
    "squeeze",
    "stages",
    "standard_error",
    "swapped",
]


def _toy(channels=4, reduction=2, n=2, h=3, w=5):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, channels, h, w)), reference.init(channels, reduction, rng)


@exercise
def squeeze(attempt):
    """``attempt(x)``: (N, C, H, W) -> z (N, C), equation 2."""
    x, _ = _toy()
    expect(
        call(attempt, x),
        x.mean(axis=(2, 3)),
        "z",
        {
            "your z has shape (N, C, 1, 1): the linear map that follows wants (N, C)": x.mean(
                axis=(2, 3), keepdims=True
            ),
            "you summed over the feature map: equation 2 divides by H W": x.sum(axis=(2, 3)),
            "you averaged over the channels: the squeeze keeps them, and averages over H and W": (
                x.mean(axis=1)
            ),
            "your z has shape (C,): the batch axis is gone, one z per sample is wanted": x.mean(
                axis=(0, 2, 3)
            ),
            "you took the maximum: equation 2 is the mean": x.max(axis=(2, 3)),
        },
    )


@exercise
def excite(attempt):
    """``attempt(z, w1, b1, w2, b2)``: (N, C) -> s (N, C), equation 3 with biases."""
    x, params = _toy()
    z = x.mean(axis=(2, 3))
    w1, b1, w2, b2 = (params[k] for k in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"))
    b1 = b1 + 0.1  # so that the ReLU matters for some units and not for others
    hidden = np.maximum(z @ w1.T + b1, 0)
    logits = hidden @ w2.T + b2
    linear = (z @ w1.T + b1) @ w2.T + b2
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    s = ops.sigmoid(logits)[0]
    expect(
        call(attempt, z, w1, b1, w2, b2),
        s,
        "s",
        {
            "softmax makes the channels compete, its gates sum to 1: SE takes a sigmoid of each": (
                softmax
            ),
            "the ReLU between the two linear maps is missing": ops.sigmoid(linear)[0],
            "these are the logits: the sigmoid is missing": logits,
            "the biases are missing": ops.sigmoid(np.maximum(z @ w1.T, 0) @ w2.T)[0],
            "there is a ReLU under the sigmoid: such gates cannot fall below 1/2": ops.sigmoid(
                np.maximum(logits, 0)
            )[0],
        },
    )


@exercise
def scale(attempt):
    """``attempt(x, s)``: (N, C, H, W) and (N, C) -> y, equation 4."""
    rng = np.random.default_rng(1)
    x, s = rng.standard_normal((4, 4, 4, 4)), rng.random((4, 4))  # a shape in which all broadcasts
    gate = s[:, :, None, None]
    expect(
        call(attempt, x, s),
        gate * x,
        "y",
        {
            "s met the last two axes, H and W: it belongs to the first two, N and C": s * x,
            "s met the batch axis only": s[:, 0][:, None, None, None] * x,
            "s met the channels and the height: give it two trailing axes": s[:, :, None] * x,
            "you added the gate: it multiplies": gate + x,
            "you scaled by 1 + s: the sum with x belongs to the residual block": x + gate * x,
        },
    )


_GRADIENTS = ("dz", "dw1", "db1", "dw2", "db2")


def _gate_gradients(ds, z, h, s, w1, w2, *, sigmoid=True, relu=True, mean=False, flip=False):
    da2 = ds * s * (1 - s) if sigmoid else ds
    da1 = (da2 @ w2) * (h > 0) if relu else da2 @ w2
    db1, db2 = (da.mean(0) if mean else da.sum(0) for da in (da1, da2))
    dw1, dw2 = da1.T @ z, da2.T @ h
    if mean:
        dw1, dw2 = dw1 / len(z), dw2 / len(z)
    return da1 @ w1, *((dw1.T, db1, dw2.T, db2) if flip else (dw1, db1, dw2, db2))


@exercise
def gate_backward(attempt):
    """``attempt(ds, z, h, s, w1, w2)`` -> (dz, dw1, db1, dw2, db2), SE-B2 to SE-B4."""
    rng = np.random.default_rng(4)
    z, ds = rng.standard_normal((2, 3, 4))
    w1, w2, b1 = rng.standard_normal((2, 4)), rng.standard_normal((4, 2)), rng.standard_normal(2)
    h = np.maximum(z @ w1.T + b1, 0)
    s = ops.sigmoid(h @ w2.T)[0]
    given = (ds, z, h, s, w1, w2)
    got = call(attempt, *given)
    if not isinstance(got, (tuple, list)) or len(got) != 5:
        raise Failed(f"five arrays are wanted, ({', '.join(_GRADIENTS)}); got {_counted(got)}")
    if any(part is None or part is ... for part in got):
        raise _NotAttempted
    wrong = {
        "the derivative of the sigmoid is missing: da2 = ds s (1 - s)": {"sigmoid": False},
        "the ReLU is missing on the way back: a unit with h = 0 passes nothing on": {"relu": False},
        "you averaged over the batch: each parameter sums over its samples": {"mean": True},
        "dw1 and dw2 are transposed: each has the shape of its weight": {"flip": True},
    }
    mistakes = {message: _gate_gradients(*given, **options) for message, options in wrong.items()}
    no_slope = _gate_gradients(ds * s, z, h, s, w1, w2, sigmoid=False)
    mistakes["the derivative of the sigmoid is s (1 - s): you have only s"] = no_slope
    for i, wanted in enumerate(_gate_gradients(*given)):
        expect(
            got[i],
            wanted,
            _GRADIENTS[i],
            {m: v[i] for m, v in mistakes.items() if not _equal(v[i], wanted)},
        )


def _counted(value):
    return f"{len(value)}" if isinstance(value, (tuple, list)) else f"one {type(value).__name__}"


def _equal(a, b):
    return a.shape == b.shape and np.allclose(a, b)


@exercise
def backward(attempt):
    """``attempt(dy, x, s, dz)`` -> dx, where dz (N, C) is the gradient that reached z."""
    x, params = _toy()
    dy = np.random.default_rng(1).standard_normal(x.shape)
    y, cache = reference.forward(x, params)
    dx, _ = reference.backward(dy, cache)
    s = cache["gates"]["channel"]
    share = dx - s * dy  # dz / (H W) at every position
    pixels = x.shape[2] * x.shape[3]
    expect(
        call(attempt, dy, x, s[:, :, 0, 0], share[:, :, 0, 0] * pixels),
        dx,
        "dx",
        {
            "the path through the mean is missing: x also moved the gate": s * dy,
            "the direct path is missing: only the gate's gradient is here": share,
            "dz is not divided by H W: each position owns 1/(HW) of the mean": s * dy
            + share * pixels,
            "the direct path is s dy, not x dy: d(s x)/dx = s": x * dy + share,
            "the gate scales the direct path only: the share of the mean is dz / (H W)": s
            * (dy + share),
        },
        tolerance=1e-9,
    )


@exercise
def module(attempt):
    """``attempt``: an nn.Module class, ``attempt(channels, reduction)`` with layers fc1 and fc2."""
    torch.manual_seed(0)
    made = _shared.is_module(call(attempt, 8, 4))
    wanted = {"fc1.weight": (2, 8), "fc1.bias": (2,), "fc2.weight": (8, 2), "fc2.bias": (8,)}
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    if not shapes:
        raise _NotAttempted
    if shapes != wanted:
        raise Failed(f"its parameters are {shapes}; expected {wanted}")
    with torch.no_grad():  # one unit silent, one active: so that the ReLU matters
        made.fc1.bias.copy_(torch.tensor([-2.0, 2.0]))
    x = torch.randn(2, 8, 3, 5)
    z = x.mean((2, 3))
    s = torch.sigmoid(made.fc2(F.relu(made.fc1(z))))[:, :, None, None]
    expect(
        call(made, x),
        s * x,
        "the output",
        {
            "this is the gate: the module returns the gate times x": s,
            "x is added to the gated x: that sum belongs to the residual block": x + s * x,
            "the ReLU between fc1 and fc2 is missing": torch.sigmoid(made.fc2(made.fc1(z)))[
                :, :, None, None
            ]
            * x,
        },
    )


@exercise
def inception(attempt):
    """``attempt(branches, attention)``: an Inception block with the gate in the paper's place.

    Called with four modules and a module for the channels of all of them together.
    """
    torch.manual_seed(0)
    block = Inception(8, (4, 3, 6, 2, 3, 3), lambda c: layers.SqueezeExcitation(c, 4)).eval()
    branches = [block.branch1, block.branch2, block.branch3, block.branch4]
    made = _shared.is_module(call(attempt, branches, block.attention))
    x = torch.randn(2, 8, 5, 5)
    calls = [_count_calls(part) for part in (*branches, block.attention)]
    with torch.no_grad():
        got = call(made, x)
        ran = [count[0] for count in calls]
        parts = [branch(x) for branch in branches]
        joined = torch.cat(parts, 1)
        gate = block.attention.gates(joined)["channel"]
        wanted = gate * joined
    expect(
        got,
        wanted,
        "the block's output",
        {
            "the gate is missing: this is the plain Inception block": joined,
            "this is the gate: the block returns the gated channels": gate,
            "a sum with the ungated channels is for residual blocks: Inception has none": joined
            + wanted,
            "the gate was applied twice": block.attention(wanted).detach(),
            "the branches are joined in another order: 1x1, 3x3, 5x5, pooling": (
                block.attention(torch.cat(parts[::-1], 1)).detach()
            ),
        },
    )
    if ran != [1] * 5:
        raise Failed("each branch and the attention should be called exactly once")


def _count_calls(part):
    count = [0]
    part.register_forward_hook(lambda *_: count.__setitem__(0, count[0] + 1))
    return count


@exercise
def stages(attempt):
    """``attempt(blocks, channels, reduction, gated)`` -> the weights that SE adds (no biases)."""
    for blocks, channels, reduction, gated in (
        ((3, 4, 6, 3), (256, 512, 1024, 2048), 16, (True, True, True, False)),
        ((2, 5, 3), (64, 128, 320), 8, (False, True, True)),
    ):
        used = [(n, c) for n, c, g in zip(blocks, channels, gated, strict=True) if g]
        wanted = sum(2 * n * c * c // reduction for n, c in used)
        every = sum(2 * n * c * c // reduction for n, c in zip(blocks, channels, strict=True))
        expect(
            call(attempt, blocks, channels, reduction, gated),
            wanted,
            "the number of weights",
            {
                "you counted every stage: leave out those where gated is False": every,
                "you counted the stages that are left out": every - wanted,
                "there are two matrices, C/r x C and C x C/r: you counted one": wanted // 2,
                "each stage has several blocks: you counted one of them": sum(
                    2 * c * c // reduction for _, c in used
                ),
                "the number of blocks counts once, the channels are squared": sum(
                    2 * n * c // reduction for n, c in used
                ),
                "the biases are counted too: equation 5 has weights only": wanted
                + sum(n * (c + c // reduction) for n, c in used),
            },
            tolerance=1e-12,
        )


class _Probe:
    """What three small experiments say of a block that may have the planted faults."""

    def __init__(self, block):
        self.block = block
        self.x = torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0)) + 1

    def _set(self, w1, b1, w2, b2):
        with torch.no_grad():
            for layer, w, b in ((self.block.fc1, w1, b1), (self.block.fc2, w2, b2)):
                layer.weight.fill_(w)
                layer.bias.fill_(b)

    def one_gate_for_the_batch(self):
        self._set(0.2, 0.1, 0.5, -0.5)
        return not torch.allclose(self.block(self.x)[:1], self.block(self.x[:1]), atol=1e-5)

    def never_below_a_half(self):
        self._set(0.2, 0.1, 0.0, -3.0)
        return bool((self.block(self.x) / self.x).min() > 0.4)

    def gate_without_gradient(self):
        self._set(0.1, 1.0, 0.1, 1.0)  # everything active
        x = self.x.clone().requires_grad_()
        self.block(x)[0, 0, 0, 0].backward()
        return bool((x.grad[0, 1] == 0).all())


_FAULTS = {
    "one_gate_for_the_batch": (
        "squeeze",
        "an image's output changes with the other images of its batch",
    ),
    "never_below_a_half": ("excitation", "no gate falls below 1/2, whatever its bias"),
    "gate_without_gradient": ("gradient", "the path through the mean carries no gradient to x"),
}


@exercise
def faults(attempt):
    """``attempt(channels, reduction)``: an SE block with three planted faults, repaired.

    The message says which are repaired, and how those that remain show.
    """
    torch.manual_seed(0)
    made = call(attempt, 8, 2)
    names = sorted(made.state_dict()) if isinstance(made, nn.Module) else None
    if names != ["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"]:
        raise Failed("keep the layers fc1 and fc2 with their biases: nothing is wrong with them")
    x = torch.randn(3, 8, 4, 4)
    _shared.output(made, x)
    probe = _Probe(copy.deepcopy(made))
    _shared.report(_FAULTS, [fault for fault in _FAULTS if getattr(probe, fault)()])
    healthy = layers.SqueezeExcitation(8, 2)
    healthy.load_state_dict(made.state_dict())
    expect(
        made(x),
        healthy(x),
        "squeeze, excitation and gradient are repaired, but something else has changed: the output",
        tolerance=1e-5,
    )


@exercise
def standard_error(attempt):
    """``attempt(error, images)`` -> standard error, in points, of an error rate in per cent."""
    for error, images in ((22.28, 50_000), (40.0, 600)):
        p = error / 100
        expect(
            call(attempt, error, images),
            100 * (p * (1 - p) / images) ** 0.5,
            "the standard error",
            {
                "the square root is missing": 100 * p * (1 - p) / images,
                "this is the spread of a single image: divide by the number of images": 100
                * (p * (1 - p)) ** 0.5,
                "this is a share: times 100 makes it points": (p * (1 - p) / images) ** 0.5,
                "divide by the number of images before the square root is taken": 100
                * (p * (1 - p)) ** 0.5
                / images,
                "the variance of a yes or no is p (1 - p), not p": 100 * (p / images) ** 0.5,
            },
            tolerance=1e-9,
        )


_READING = {
    "a": (False, "SE-Identity gates the shortcut too, and has the lowest error of the four"),
    "b": (
        False,
        "0.08 points are 40 images of 50,000, each variant was trained once, and the standard "
        "error of one rate is more than twice that",
    ),
    "c": (True, "in the three that lie close together the gate acts before the sum"),
    "d": (
        False,
        "SE-PRE has the channels of the block's input, which are fewer in the first block of each "
        "stage",
    ),
    "e": (
        False,
        "the table has one network and one data set; nothing in it is about yours",
    ),
}


@exercise
def reading(attempt):
    """``attempt``: a dict, ``"a"`` to ``"e"`` -> True or False, on the paper's Table 14."""
    _shared.statements(attempt, _READING)


def _cued_network(attention, channels=8, classes=2):
    """The small network of the chapter's task; ``attention`` is a module for ``channels``."""

    def conv(a, b):
        return nn.Conv2d(a, b, 3, padding=1, bias=False)

    return nn.Sequential(
        conv(3, channels), nn.BatchNorm2d(channels), nn.ReLU(), attention,
        conv(channels, channels), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes),
    )  # fmt: skip


@exercise
def swapped(attempt):
    """``attempt(network, images, others)`` -> logits with the gates that ``others`` get."""
    torch.manual_seed(0)
    network = _cued_network(layers.SqueezeExcitation(8, 1)).eval()
    images, others = torch.randn(2, 5, 3, 8, 16)
    with torch.no_grad():
        got = call(attempt, network, images, others)
        before, attention, after = network[:3], network[3], network[4:]
        x, foreign = before(images), before(others)
        own, gate = attention.gates(x)["channel"], attention.gates(foreign)["channel"]
        expect(
            got,
            after(gate * x),
            "the logits",
            {
                "these are the network's own logits: the gates are those of images": network(
                    images
                ),
                "these are the logits of others: only their gates are wanted": network(others),
                "the features are those of others, and the gates of images: turn it round": after(
                    own * foreign
                ),
                "both gates multiply the features: replace the own gate": after(gate * own * x),
                "you averaged the two gates: replace the own gate": after((gate + own) / 2 * x),
            },
            tolerance=1e-5,
        )


@exercise
def alive(attempt):
    """``attempt(layer)``: changes a SqueezeExcitation so that no hidden unit starts dead."""
    generator = torch.Generator().manual_seed(17)
    for seed in range(30):
        torch.manual_seed(1000 + seed)
        layer = layers.SqueezeExcitation(8, reduction=8)
        before = copy.deepcopy(layer.state_dict())
        try:
            attempt(layer)
        except NotImplementedError:
            raise _NotAttempted from None
        after = layer.state_dict()
        if {k: v.shape for k, v in after.items()} != {k: v.shape for k, v in before.items()}:
            raise Failed("keep the layer's parameters: only their first values may change")
        if seed == 0 and all(torch.equal(after[k], before[k]) for k in before):
            raise _NotAttempted
        if not torch.equal(after["fc2.weight"], before["fc2.weight"]):
            raise Failed("fc2 needs no change: what dies is the ReLU behind fc1")
        weight, bias = after["fc1.weight"], after["fc1.bias"]
        if (weight == 0).all():
            raise Failed("every weight of fc1 is 0: the unit is active, and the same for all z")
        z = torch.rand(200, 8, generator=generator) * torch.tensor([0.01, 1.0]).repeat(100)[:, None]
        active = (layer.fc1(z) > 0).float().mean().item()
        if active < 1:
            cause = (
                "a weight of fc1 is negative, and z is not, behind a ReLU"
                if (weight < 0).any()
                else "the bias of fc1 is negative, which wins where z is small"
                if (bias < 0).any()
                else "its activation is never above zero"
            )
            raise Failed(f"a unit is silent for {100 * (1 - active):.0f} % of the inputs: {cause}")
        if weight.min() == weight.max():
            raise Failed("all weights of fc1 are equal: keep them different, as they were drawn")


@exercise
def fold(attempt):
    """``attempt(weight, s)``: the next convolution's weight, with the gate s in it."""
    rng = np.random.default_rng(3)
    weight, s = rng.standard_normal((3, 3, 3, 3)), rng.random(3)  # a shape in which all broadcasts
    expect(
        call(attempt, weight, s),
        weight * s[None, :, None, None],
        "the folded weight",
        {
            "you scaled the output channels (axis 0): the gate acts on the inputs, axis 1": weight
            * s[:, None, None, None],
            "you divided by the gate: it multiplies what the convolution reads": weight
            / s[None, :, None, None],
            "you scaled the kernel's columns: the gate belongs to axis 1": weight * s,
            "you scaled the kernel's rows: the gate belongs to axis 1": weight * s[:, None],
            "one number for all channels: each input channel has its own gate": weight * s.mean(),
        },
    )


@exercise
def paired(attempt):
    """``attempt(make_plain, make_gated, split, seeds, **fit_options)`` -> points, one a seed."""
    split, seeds = _shared.toy_split(), (3, 5, 8)
    options = {"epochs": 2, "lr": 0.03, "batch_size": 20}
    make_plain = _shared.toy_network(nn.Identity)
    make_gated = _shared.toy_network(lambda: layers.SqueezeExcitation(2, 1))
    got = call(attempt, make_plain, make_gated, split, seeds, **options)
    _shared.differences(got, make_plain, make_gated, split, seeds, **options)


BUDGET = 40
_ENOUGH = 0.95


@exercise
def budget(attempt):
    """``attempt(channels)``: a channel gate of at most 40 parameters that solves the cued digits.

    It is trained on digits paired anew and from seeds that the page does not use.
    """
    torch.manual_seed(0)
    made, x = call(attempt, 8), torch.rand(4, 8, 5, 7) + 0.1
    size, y = _shared.within(BUDGET, made, x)
    several = "the gate differs between the pixels of a channel: one number a channel"
    _shared.one_number((y / x).detach(), (2, 3), several)
    _shared.one_image_alone(made, x, y)
    _shared.three_of_four(
        lambda: _cued_network(call(attempt, 8)),
        lambda seed: data.cued_digits(dtype=torch.float64, seed=seed),
        (101, 102, 103, 104),
        _ENOUGH,
        size,
        lambda _: (
            "A gate that ends at 0.75 did not learn to use the cue: does it depend on x, and "
            "does every unit get a gradient?"
        ),
        epochs=20,
        lr=0.03,
        batch_size=50,
    )
