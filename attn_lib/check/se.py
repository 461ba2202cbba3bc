"""Checks of the exercises on Squeeze-and-Excitation."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attn_lib.check._core import Failed, call, exercise, expect
from attn_lib.reference import ops
from attn_lib.reference import se as reference

__all__ = [
    "backward",
    "block_output",
    "excite",
    "fold",
    "module",
    "multiply_adds",
    "parameters",
    "scale",
    "squeeze",
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
            "you summed over the map: equation 2 divides by H W": x.sum(axis=(2, 3)),
            "you averaged over the channels: the squeeze keeps them, and averages over H and W": (
                x.mean(axis=1)
            ),
            "your z has shape (C,): the batch axis is gone, one z per sample is wanted": x.mean(
                axis=(0, 2, 3)
            ),
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
    expect(
        call(attempt, x, s),
        s[:, :, None, None] * x,
        "y",
        {
            "s met the last two axes, H and W: it belongs to the first two, N and C": s * x,
            "s met the batch axis only": s[:, 0][:, None, None, None] * x,
            "s met the channels and the height: give it two trailing axes": s[:, :, None] * x,
            "you added the gate: it multiplies": s[:, :, None, None] + x,
        },
    )


@exercise
def parameters(attempt):
    """``attempt(channels, reduction, bias)`` -> the number of parameters of one SE block."""
    for channels, reduction in ((256, 16), (64, 4), (2048, 16)):
        hidden = channels // reduction
        weights = 2 * channels * hidden
        for bias in (False, True):
            expect(
                call(attempt, channels, reduction, bias),
                weights + bias * (channels + hidden),
                f"the count for C={channels}, r={reduction}, bias={bias}",
                {
                    "there are two matrices, C x C/r and C/r x C: you counted one": weights // 2
                    + bias * (channels + hidden),
                    "each bias has as many entries as its map has outputs: C/r and C": weights
                    + bias * 2 * channels,
                    "the two biases are missing": weights,
                },
            )


@exercise
def multiply_adds(attempt):
    """``attempt(channels, height, width, reduction)`` -> multiply-adds of one block, one image."""
    for channels, height, width, reduction in ((256, 56, 56, 16), (512, 7, 5, 8)):
        pixels = channels * height * width
        fc = 2 * channels * (channels // reduction)
        expect(
            call(attempt, channels, height, width, reduction),
            fc + 2 * pixels,
            f"the count for C={channels}, {height}x{width}, r={reduction}",
            {
                "the two linear maps run once an image, not once a pixel": fc * height * width
                + 2 * pixels,
                "you left out the mean (C H W additions) and the scaling (C H W products)": fc,
                "you counted one of the mean and the scaling: each touches every pixel once": fc
                + pixels,
            },
        )


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
        },
        tolerance=1e-9,
    )


@exercise
def module(attempt):
    """``attempt``: an nn.Module class, ``attempt(channels, reduction)`` with layers fc1 and fc2."""
    torch.manual_seed(0)
    made = call(attempt, 8, 4)
    if not isinstance(made, nn.Module):
        raise Failed(f"a module is wanted; got {type(made).__name__}")
    wanted = {"fc1.weight": (2, 8), "fc1.bias": (2,), "fc2.weight": (8, 2), "fc2.bias": (8,)}
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    if not shapes:
        return call(lambda: None)  # nothing in it yet: not attempted
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
def block_output(attempt):
    """``attempt(shortcut, residual, gate)``: a residual block's output with SE in its place.

    ``gate`` is a function, (N, C, H, W) -> (N, C, 1, 1).
    """
    rng = np.random.default_rng(2)
    shortcut, residual = rng.standard_normal((2, 2, 4, 3, 3))

    def gate(x):
        return ops.sigmoid(3 * x.mean(axis=(2, 3), keepdims=True))[0]

    def relu(x):
        return np.maximum(x, 0)

    total = shortcut + residual
    expect(
        call(attempt, shortcut, residual, gate),
        relu(shortcut + gate(residual) * residual),
        "the block's output",
        {
            "you gated the sum (SE-POST without its ReLU): the shortcut must stay untouched": relu(
                gate(total) * total
            ),
            "this is SE-POST, the gate after the sum and the ReLU": gate(relu(total)) * relu(total),
            "this is SE-Identity, the gate on the shortcut": relu(
                residual + gate(shortcut) * shortcut
            ),
            "the gate is computed from the shortcut, but it must see what it scales": relu(
                shortcut + gate(shortcut) * residual
            ),
            "the ReLU after the sum is missing": shortcut + gate(residual) * residual,
        },
    )


@exercise
def fold(attempt):
    """``attempt(weight, s)``: the next convolution's weight, with the gate s in it."""
    rng = np.random.default_rng(3)
    weight, s = rng.standard_normal((4, 4, 3, 3)), rng.random(4)
    expect(
        call(attempt, weight, s),
        weight * s[None, :, None, None],
        "the folded weight",
        {
            "you scaled the output channels (axis 0): the gate acts on the inputs, axis 1": weight
            * s[:, None, None, None],
            "you divided by the gate: it multiplies what the convolution reads": weight
            / s[None, :, None, None],
        },
    )
