"""Checks of the exercises on Coordinate Attention."""

import copy
from itertools import combinations

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attn_lib import data, layers
from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.reference import ops
from attn_lib.train import over_seeds

__all__ = [
    "comparison",
    "coordinates",
    "crossed",
    "factor",
    "faults",
    "gate_gradients",
    "gates",
    "join",
    "module",
    "price",
    "reading",
    "redirected",
    "relative",
    "sandglass",
    "strips",
    "swish_slope",
]


def _toy(n=2, channels=3, h=4, w=5):
    return np.random.default_rng(0).standard_normal((n, channels, h, w))


def _sigmoid(a):
    return ops.sigmoid(a)[0]


def _pair(result, what):
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Failed(f"return a pair, {what}")
    return result


@exercise
def strips(attempt):
    """``attempt(x)``: (N, C, H, W) -> z_h (N, C, H, 1), z_w (N, C, 1, W); equations 4 and 5."""
    x = _toy()
    z_h, z_w = _pair(call(attempt, x), "z_h and z_w")
    rows, columns = x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True)
    swapped = "the wrong axis is pooled: {} keeps the {} and averages over the other axis"
    flat = "{} has shape {}: keep the pooled axis with length 1, it is multiplied with x later"
    summed = "you summed along the axis: equations 4 and 5 are means"
    constant = "you averaged over the whole feature map: that is SE's squeeze, which forgets where"
    whole = x.mean(axis=(2, 3), keepdims=True)
    expect(
        z_h,
        rows,
        "z_h",
        {
            swapped.format("z_h", "rows"): columns,
            flat.format("z_h", "(N, C, H)"): rows[..., 0],
            summed: x.sum(axis=3, keepdims=True),
            constant: whole,
        },
    )
    expect(
        z_w,
        columns,
        "z_w",
        {
            swapped.format("z_w", "columns"): rows,
            flat.format("z_w", "(N, C, W)"): columns[:, :, 0],
            summed: x.sum(axis=2, keepdims=True),
            constant: whole,
        },
    )


@exercise
def join(attempt):
    """``attempt(z_h, z_w)``: (N, C, H, 1), (N, C, 1, W) -> (N, C, H + W, 1)."""
    x = _toy()
    z_h, z_w = x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True)
    try:
        got = call(attempt, z_h, z_w)
    except ValueError as error:
        raise Failed(
            "the two strips do not fit together: turn z_w from (N, C, 1, W) to (N, C, W, 1) "
            f"before you concatenate (NumPy says: {error})"
        ) from None
    turned = z_w.swapaxes(2, 3)
    expect(
        got,
        np.concatenate([z_h, turned], axis=2),
        "the joint strip",
        {
            "the rows come first: [z_h, z_w]": np.concatenate([turned, z_h], axis=2),
            "you broadcast the strips to full size before you concatenated: the strips alone "
            "have H + W places": np.concatenate(
                [np.broadcast_to(z_h, x.shape), np.broadcast_to(z_w, x.shape)], axis=2
            ),
            "you concatenated before transposing: the result should have shape (N, C, H + W, 1)": (
                np.concatenate([z_h.swapaxes(2, 3), z_w], axis=3)
            ),
        },
    )


@exercise
def gates(attempt):
    """``attempt(f, w_h, b_h, w_w, b_w, height)`` -> s_h (N, C, H, 1), s_w (N, C, 1, W).

    f is (N, C', H + W, 1), the weights are (C, C'), the biases (C,); equations 7 and 8.
    """
    rng = np.random.default_rng(0)
    height, width = 4, 5
    f = rng.standard_normal((2, 3, height + width, 1))
    w_h, w_w = rng.standard_normal((2, 6, 3))
    b_h, b_w = rng.standard_normal((2, 6))

    def gate(part, weight, bias):
        return _sigmoid(np.einsum("ck,nkil->ncil", weight, part) + bias[:, None, None])

    f_h, f_w = f[:, :, :height], f[:, :, height:].swapaxes(2, 3)
    s_h, s_w = _pair(call(attempt, f, w_h, b_h, w_w, b_w, height), "s_h and s_w")
    right_h, right_w = gate(f_h, w_h, b_h), gate(f_w, w_w, b_w)
    without = "the {} of {} is missing"
    expect(
        s_h,
        right_h,
        "s_h",
        {
            "the strip is split in the wrong place: the first H entries belong to the rows": gate(
                f[:, :, width:], w_h, b_h
            ),
            "s_h uses the width's convolution": gate(f_h, w_w, b_w),
            without.format("bias", "s_h"): gate(f_h, w_h, 0 * b_h),
            without.format("sigmoid", "s_h"): np.log(right_h / (1 - right_h)),
        },
    )
    expect(
        s_w,
        right_w,
        "s_w",
        {
            "one shared output convolution: s_w has a weight and a bias of its own": gate(
                f_w, w_h, b_h
            ),
            "s_w still lies along axis 2: turn it to (N, C, 1, W), or it scales rows": (
                right_w.swapaxes(2, 3)
            ),
            "s_w was made from the rows' part of the strip": gate(f_h.swapaxes(2, 3), w_w, b_w),
            without.format("bias", "s_w"): gate(f_w, w_w, 0 * b_w),
            without.format("sigmoid", "s_w"): np.log(right_w / (1 - right_w)),
        },
    )


@exercise
def swish_slope(attempt):
    """``attempt(a)`` is the derivative of a clip(a + 3, 0, 6) / 6, element by element."""
    a = np.array([-5.0, -3.0, -2.9, -1.5, -0.7, 0.0, 1.0, 2.9, 3.0, 4.0])
    right = ops.hard_swish_backward(np.ones_like(a), a)
    inside = (-3 < a) & (a < 3)
    expect(
        call(attempt, a),
        right,
        "the slope",
        {
            "the product rule has two terms: the clip depends on a too": np.clip(a + 3, 0, 6) / 6,
            "the product rule has two terms: a times the clip's slope is only one": (
                np.where(inside, a / 6, 0)
            ),
            "beyond the kinks the slope is 0 on the left and 1 on the right": (2 * a + 3) / 6,
            "for a >= 3 the function is a itself: its slope there is 1": np.where(
                inside, (2 * a + 3) / 6, 0
            ),
            "at the kinks take what PyTorch takes: 0 at -3 and 1 at 3": np.where(
                (-3 <= a) & (a <= 3), (2 * a + 3) / 6, right
            ),
        },
    )


@exercise
def gate_gradients(attempt):
    """``attempt(dy, x, s_h, s_w)`` -> gradients of the gates, of their shapes."""
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 2, 3, 4, 5))
    s_h, s_w = rng.uniform(0.1, 0.9, (2, 3, 4, 1)), rng.uniform(0.1, 0.9, (2, 3, 1, 5))
    got_h, got_w = _pair(call(attempt, dy, x, s_h, s_w), "the gradients of s_h and s_w")
    for name, got, other, own, axis in (("s_h", got_h, s_w, s_h, 3), ("s_w", got_w, s_h, s_w, 2)):
        full = dy * x * other
        expect(
            got,
            full.sum(axis=axis, keepdims=True),
            f"the gradient of {name}",
            {
                f"the other gate is missing: y is x s_h s_w, so {name} is multiplied by two "
                "factors": (dy * x).sum(axis=axis, keepdims=True),
                f"the factor is the other gate, not {name} itself": (dy * x * own).sum(
                    axis=axis, keepdims=True
                ),
                f"sum over the axis along which {name} is shared, not over the one it keeps": (
                    full.sum(axis=5 - axis, keepdims=True)
                ),
                "a gate that is shared by several places collects the sum of their gradients, "
                "not the mean": full.mean(axis=axis, keepdims=True),
                f"sum over the axis along which {name} is shared": full,
            },
        )


@exercise
def factor(attempt):
    """``attempt(gate)``: a rank-one (H, W) with entries in (0, 1) -> s_h (H, 1), s_w (1, W).

    Any pair with entries in (0, 1] whose product is the gate.
    """
    rng = np.random.default_rng(2)
    for shape in ((4, 6), (5, 3)):
        gate = rng.uniform(0.05, 0.95, (shape[0], 1)) * rng.uniform(0.05, 0.95, (1, shape[1]))
        s_h, s_w = (np.asarray(g, dtype=float) for g in _pair(call(attempt, gate), "s_h and s_w"))
        if s_h.shape != (shape[0], 1) or s_w.shape != (1, shape[1]):
            raise Failed(
                f"the gates have shapes {s_h.shape} and {s_w.shape}; for a factor of shape {shape} "
                f"they should have {(shape[0], 1)} and {(1, shape[1])}"
            )
        rows, columns = gate.mean(axis=1, keepdims=True), gate.mean(axis=0, keepdims=True)
        expect(
            s_h * s_w,
            gate,
            "the product s_h s_w",
            {
                "the product of row and column means is too small by the mean of the factor": (
                    rows * columns
                ),
                "the product of row and column maxima is too small by the factor's maximum": (
                    gate.max(axis=1, keepdims=True) * gate.max(axis=0, keepdims=True)
                ),
                "the singular value is missing": gate / np.linalg.norm(gate, 2),
            },
        )
        if (s_h <= 0).any() or (s_w <= 0).any():
            raise Failed("the product is right, but the gates are negative: turn both signs")
        if (s_h > 1 + 1e-9).any() or (s_w > 1 + 1e-9).any():
            raise Failed(
                "the product is right, but a gate exceeds 1: move a factor from one to the other"
            )


# ---- modules

_FAULTS = {  # in the order of the lines of the exercise
    "means": "the row gates are made from the columns' means",
    "norm": "the batch norm is never called, though it is there",
    "swish": "the non-linearity is not h-swish: it is 0 for every negative number, for instance",
    "split": "on a feature map that is not square, conv_h does not get the first H places",
    "turn": "the column gate still lies along axis 2, where it scales rows",
}


def _variant_gates(m, x, faults=(), swish=F.hardswish, second=None):
    """Row gate and column gate of a layer with the parameters of ``m``, and with ``faults``."""
    h, w = x.shape[2:]
    strips = [x.mean(3, keepdim=True), x.mean(2, keepdim=True).mT]
    a = m.conv1(torch.cat(strips[::-1] if "means" in faults else strips, 2))
    if "norm" not in faults:
        a = m.bn1(a)
    f = a * a.clamp(0, 6) / 6 if "swish" in faults else swish(a)
    f_h, f_w = f.split([w, h] if "split" in faults else [h, w], 2)
    s_h, s_w = torch.sigmoid(m.conv_h(f_h)), torch.sigmoid((second or m.conv_w)(f_w))
    return s_h, s_w if "turn" in faults else s_w.mT


def _variant(m, x, faults=(), **options):
    s_h, s_w = _variant_gates(m, x, faults, **options)
    return x * s_h * s_w


def _lively(m):
    """Give the batch norm values that make its presence felt, and take it to evaluation."""
    generator = torch.Generator().manual_seed(5)
    for tensor in (m.bn1.weight, m.bn1.bias, m.bn1.running_mean):
        tensor.data += 0.5 * torch.randn(tensor.shape, generator=generator)
    m.bn1.running_var.uniform_(0.2, 0.6, generator=generator)
    return m.eval()


def _shapes(m):
    return {name: tuple(value.shape) for name, value in m.state_dict().items()}


@exercise
def module(attempt):
    """``attempt(channels, reduction)``: an nn.Module with conv1, bn1, conv_h and conv_w."""
    torch.manual_seed(0)
    made = _shared.is_module(call(attempt, 24, 2))
    if not made.state_dict():
        raise _NotAttempted
    for channels, reduction in ((24, 2), (16, 4)):
        got = _shapes(call(attempt, channels, reduction))
        wanted = _shapes(layers.CoordinateAttention(channels, reduction))
        if (channels, reduction) == (16, 4) and got.get("conv1.weight") == (4, 16, 1, 1):
            raise Failed("the bottleneck has at least 8 channels: max(8, channels // reduction)")
        if got != wanted:
            missing = sorted(wanted.keys() - got.keys())
            what = f"there is no {', '.join(missing)}" if missing else f"its parameters are {got}"
            raise Failed(f"for {channels} channels and r = {reduction}: {what}; wanted: {wanted}")
    made = _lively(made)
    x = torch.randn(2, 24, 5, 7)
    with torch.no_grad():
        s_h, s_w = _variant_gates(made, x)
        expect(
            call(made, x),
            x * s_h * s_w,
            "the output",
            {
                "these are the gates: the module returns their product with x": s_h * s_w,
                "the gates multiply x one after the other, they are not added": x * (s_h + s_w),
                "the column gate is missing": x * s_h,
                "the row gate is missing": x * s_w,
                "x is added to the gated x: that sum belongs to the block around it": x
                + x * s_h * s_w,
                "the batch norm is not called": _variant(made, x, ["norm"]),
                "the non-linearity is missing": _variant(made, x, swish=lambda a: a),
                "the non-linearity is h-swish, not ReLU": _variant(made, x, swish=F.relu),
                "both gates come from conv_h: the column gate has conv_w": _variant(
                    made, x, second=made.conv_h
                ),
            },
            tolerance=1e-5,
        )


class _Unit(nn.Sequential):
    """A stand-in for convolution and batch norm, with a ReLU6 where the block has one."""

    def __init__(self, channels, out_channels, kernel_size, relu):
        groups = channels if kernel_size == 3 else 1
        conv = nn.Conv2d(
            channels, out_channels, kernel_size, padding=kernel_size // 2, groups=groups
        )
        super().__init__(conv, nn.ReLU6() if relu else nn.Identity())


@exercise
def sandglass(attempt):
    """``attempt(units, attention)``: a sandglass block with the gate where its authors put it.

    Called with the four units in order and a module for the channels of the first one's output.
    """
    torch.manual_seed(0)
    plan = ((24, 24, 3, True), (24, 4, 1, False), (4, 24, 1, True), (24, 24, 3, False))
    units = [_Unit(*part) for part in plan]
    attention = _lively(layers.CoordinateAttention(24))
    made = _shared.is_module(call(attempt, units, attention))
    x = torch.randn(2, 24, 6, 5)

    def run(gated_after, shortcut=True):
        y = x
        for i, unit in enumerate(units):
            y = unit(y)
            if i == gated_after:
                y = attention(y)
        return x + y if shortcut else y

    with torch.no_grad():
        expect(
            call(made, x),
            run(0),
            "the output of the block",
            {
                "the attention is never called": run(None),
                "the shortcut is missing: the block returns x plus its branch": run(0, False),
                "the attention comes after the expansion: the authors put it behind the first "
                "depthwise convolution": run(2),
                "the attention comes last: the authors put it behind the first depthwise "
                "convolution": run(3),
                "the attention acts on the input: it belongs behind the first unit": (
                    x + units[3](units[2](units[1](units[0](attention(x)))))
                ),
                "the sum is gated as well: the attention acts inside the branch": attention(
                    run(None)
                ),
            },
            tolerance=1e-5,
        )


@exercise
def price(attempt):
    """``attempt(channels, hidden, height, width, shared)`` -> (weights, multiply-adds).

    Of the convolutions of one layer: with one shared first convolution, or with one a strip.
    """
    for c, k, h, w in ((64, 8, 10, 14), (96, 12, 28, 20)):
        for shared in (True, False):
            got = _pair(call(attempt, c, k, h, w, shared), "weights and multiply-adds")
            weights, madds = (3 if shared else 4) * c * k, 2 * c * k * (h + w)
            kind = "shared" if shared else "not shared"
            expect(
                got[0],
                weights,
                f"the number of weights ({kind})",
                {
                    "you have the two numbers in the other order": madds,
                    "with sharing there is a single first convolution": 4 * c * k,
                    "without sharing there is a first convolution for each strip": 3 * c * k,
                    "there are two output convolutions, whose weights are not shared": 2 * c * k,
                    "biases and batch norm are not asked for": weights + 3 * k + 2 * c,
                },
                tolerance=1e-12,
            )
            expect(
                got[1],
                madds,
                f"the number of multiply-adds ({kind})",
                {
                    "sharing saves weights, not arithmetic: the shared convolution works on H + W "
                    "places, as the two separate ones do together": 3 * c * k * (h + w) // 2,
                    "sharing does not double anything: each place of the strips meets one first "
                    "convolution": 3 * c * k * (h + w),
                    "each output convolution works on its own strip, H or W places": (
                        3 * c * k * (h + w)
                    ),
                    "the convolutions work on the strips, H + W places, not H W": (
                        2 * c * k * h * w
                    ),
                    "the output convolutions are missing": c * k * (h + w),
                },
                tolerance=1e-12,
            )


@exercise
def faults(attempt):
    """``attempt(channels, reduction)``: a layer with five planted faults, repaired.

    The message says which are repaired, and how those that remain show.
    """
    torch.manual_seed(0)
    made = _shared.is_module(call(attempt, 16, 2))
    if _shapes(made) != _shapes(layers.CoordinateAttention(16, 2)):
        raise Failed("keep conv1, bn1, conv_h and conv_w: nothing is wrong with how they are made")
    made = _lively(copy.deepcopy(made))
    x = 2 * torch.randn(3, 16, 6, 6)
    seen = [f for f in _FAULTS if f != "split"]  # what a square feature map shows
    with torch.no_grad():
        got = _shared.output(made, x)
        sets = [s for n in range(len(seen) + 1) for s in combinations(seen, n)]
        fitting = [s for s in sets if torch.allclose(got, _variant(made, x, s), atol=1e-5)]
    if not fitting:
        raise Failed(
            "none of the planted faults explains this output: something else has changed. Repair "
            "the lines of forward one at a time"
        )
    left = [f for f in _FAULTS if f in fitting[0] or (f == "split" and _splits_wrongly(made))]
    _shared.report({fault: (fault, sign) for fault, sign in _FAULTS.items()}, left)


def _splits_wrongly(made):
    lengths = []
    hook = made.conv_h.register_forward_pre_hook(
        lambda _, args: lengths.append(args[0].shape[2] * args[0].shape[3])
    )
    try:
        with torch.no_grad():
            made(torch.randn(2, 16, 6, 4))
    except RuntimeError:
        pass  # another fault may stop it later, on a feature map that is not square
    hook.remove()
    return lengths[:1] != [6]


# ---- the task with four digits


def _patch_network(attention, channels=32):
    """The small network of the chapter's task; ``attention`` is a module for ``channels``."""
    return nn.Sequential(
        nn.Conv2d(2, channels, 4, stride=4, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        attention,
        nn.Conv2d(channels, channels, 1, bias=False), nn.BatchNorm2d(channels), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10),
    )  # fmt: skip


@exercise
def redirected(attempt):
    """``attempt(network, images, others)`` -> logits with the row gates that ``others`` get."""
    torch.manual_seed(0)
    network = _patch_network(_lively(layers.CoordinateAttention(32))).eval()
    images, others = torch.randn(2, 5, 2, 20, 20)
    with torch.no_grad():
        got = call(attempt, network, images, others)
        before, attention, after = network[:3], network[3], network[4:]
        x, foreign = before(images), before(others)
        own, other = attention.gates(x), attention.gates(foreign)
        h, w = other["height"], own["width"]
        expect(
            got,
            after(x * h * w),
            "the logits",
            {
                "these are the network's own logits: the row gates are those of images": network(
                    images
                ),
                "these are the logits of others: only their row gates are wanted": network(others),
                "the column gates are exchanged: it is the row gates, called height": after(
                    x * own["height"] * other["width"]
                ),
                "both gates are those of others: keep the column gates of images": after(
                    x * h * other["width"]
                ),
                "the column gates of images are missing": after(x * h),
                "the features are those of others: only their row gates are wanted": after(
                    foreign * h * w
                ),
                "the own row gates multiply as well: replace them": after(
                    x * h * w * own["height"]
                ),
            },
            tolerance=1e-5,
        )


@exercise
def relative(attempt):
    """``attempt(plain, gated)``: scores in per cent -> share of the missing score that is won."""
    for plain, gated in ((72.3, 74.3), (22.3, 24.5), (71.67, 71.28)):
        won = gated - plain
        expect(
            call(attempt, plain, gated),
            100 * won / (100 - plain),
            "the share, in per cent",
            {
                "this is the gain in points: divide by what the plain network misses": won,
                "this is relative to what the plain network has, not to what it misses": 100
                * won
                / plain,
                "this is a share of 1: times 100 makes it per cent": won / (100 - plain),
                "this is relative to what the gated network misses": 100 * won / (100 - gated),
                "the sign is wrong: a gain is positive": -100 * won / (100 - plain),
                "this is what is still missing, not what is won": 100
                * (100 - gated)
                / (100 - plain),
            },
            tolerance=1e-9,
        )


_READING = {
    "a": (
        False,
        "points of mean IoU and points of accuracy are different units; your function makes the "
        "two comparable, and even then each row is one training",
    ),
    "b": (
        True,
        "CBAM has 73.6 on ImageNet and SE 73.5, and in all three segmentation rows SE has the "
        "higher mean IoU",
    ),
    "c": (
        False,
        "the backbones were trained on ImageNet with their attention, so a better start and a use "
        "of position inside the new task come in one number",
    ),
    "d": (True, "the row of Pascal VOC 2007 has 71.7 three times"),
    "e": (
        False,
        "the tables print one number a row and no spread, so they cannot say how much two "
        "trainings of the same network differ",
    ),
}


@exercise
def reading(attempt):
    """``attempt``: a dict, ``"a"`` to ``"e"`` -> True or False, on the paper's tables."""
    _shared.statements(attempt, _READING)


@exercise
def coordinates(attempt):
    """``attempt(x)``: (N, C, H, W) -> (N, C + 2, H, W), row and column from -1 to 1 appended."""
    x = torch.from_numpy(_toy())
    n, _, h, w = x.shape

    def planes(low=-1.0, order=(0, 1), turn=False):
        rows = torch.linspace(low, 1, h, dtype=x.dtype)[:, None].expand(n, 1, h, w)
        columns = torch.linspace(low, 1, w, dtype=x.dtype).expand(n, 1, h, w)
        return [(rows, columns)[i] for i in order]

    got = call(attempt, x)
    expect(
        got,
        torch.cat([x, *planes()], 1),
        "the feature map with coordinates",
        {
            "the row comes first, then the column": torch.cat([x, *planes(order=(1, 0))], 1),
            "the coordinates should run from -1 to 1, not from 0 to 1": torch.cat(
                [x, *planes(low=0.0)], 1
            ),
            "append the coordinates behind the features": torch.cat([*planes(), x], 1),
            "the features are gone: append the coordinates to x": torch.cat(planes(), 1),
            "the column appears twice: the first new channel holds the row": torch.cat(
                [x, *planes(order=(1, 1))], 1
            ),
            "the row appears twice: the second new channel holds the column": torch.cat(
                [x, *planes(order=(0, 0))], 1
            ),
        },
    )
    if getattr(got, "dtype", None) != x.dtype:
        raise Failed(f"keep the type of x, {x.dtype}: pass dtype=x.dtype")


@exercise
def comparison(attempt):
    """``attempt(make_plain, variants, split, seeds, **fit_options)`` -> label -> two numbers.

    The mean difference to the plain network in points, and its standard error, over the seeds.
    """
    split, network = _shared.toy_split(80), _shared.toy_network(nn.Identity)
    variants = {
        axes: _shared.toy_network(lambda axes=axes: layers.CoordinateAttention(2, axes=axes))
        for axes in ("height", "both")
    }
    seeds, options = (3, 5, 8, 9), {"epochs": 2, "lr": 0.03, "batch_size": 20}
    got = call(attempt, network, variants, split, seeds, **options)
    if not isinstance(got, dict) or set(got) != set(variants):
        raise Failed(f"a dict with the keys of variants is wanted, {list(variants)}")
    if any(value is None or value is ... for value in got.values()):
        raise _NotAttempted
    plain = over_seeds(network, split, seeds, **options)
    for label, make in variants.items():
        mean, error = _pair(got[label], "the mean difference and its standard error")
        accuracy = over_seeds(make, split, seeds, **options)
        d = 100 * (accuracy - plain)
        expect(
            mean,
            d.mean(),
            f"the mean difference of {label!r}",
            {
                "this is plain minus gated: the difference is gated - plain": -d.mean(),
                "this is a share: times 100 makes it points": d.mean() / 100,
                "this is the accuracy: subtract that of the plain network": 100 * accuracy.mean(),
                "these are the differences: return their mean": d,
                "these are the seeds 0, 1, 2 and 3: use the seeds that are given": 100
                * (
                    over_seeds(make, split, range(4), **options)
                    - over_seeds(network, split, range(4), **options)
                ).mean(),
            },
        )
        root = len(d) ** 0.5
        expect(
            error,
            d.std(ddof=1) / root,
            f"the standard error of {label!r}",
            {
                "this is the spread of one difference: divide by the root of their number": d.std(
                    ddof=1
                ),
                "divide the sum of squares by n - 1: ddof=1": d.std() / root,
                "divide by the root of the number of seeds, not by the number": d.std(ddof=1)
                / len(d),
                "the seeds are paired: take the spread of the differences, not those of the two "
                "series": 100 * np.hypot(accuracy.std(ddof=1), plain.std(ddof=1)) / root,
                "this is a share: times 100 makes it points": d.std(ddof=1) / root / 100,
            },
        )


BUDGET = 1500
_ENOUGH = 0.75


def crossed_digits(split):
    """Pointed digits whose bars are crossed: each points from the other margin."""
    parts = [part.clone() for part in split]
    for images in (parts[0], parts[2]):
        images[:, 1] = images[:, 1].mT.clone()
    return data.Split(*parts)


@exercise
def crossed(attempt):
    """``attempt(channels)``: a layer of at most 1,500 parameters that reads crossed pointers.

    It is trained on digits drawn anew and from seeds that the page does not use.
    """
    torch.manual_seed(0)
    made, x = call(attempt, 32), torch.rand(4, 32, 5, 5) + 0.1
    size, y = _shared.within(BUDGET, made, x)
    _shared.one_image_alone(made, x, y)
    _shared.three_of_four(
        lambda: _patch_network(call(attempt, 32)),
        lambda seed: crossed_digits(data.pointed_digits(1500, dtype=torch.float64, seed=seed)),
        (201, 202, 203, 204),
        _ENOUGH,
        size,
        _why_crossed,
        epochs=10,
        lr=0.03,
        batch_size=100,
    )


def _why_crossed(accuracies):
    if max(accuracies) <= 0.58:
        return (
            "No layer whose row gates see rows alone and whose column gates see columns alone gets "
            "above 0.55: let row k see column k"
        )
    return "It uses the pointers, but not well enough: does every part get a gradient?"
