"""Checks of the exercises on Efficient Channel Attention."""

import math

import numpy as np

from attn_lib import reference
from attn_lib.check._core import Failed, call, exercise, expect

__all__ = [
    "added_parameters",
    "band_matrix",
    "circular_logits",
    "forward",
    "kernel_gradient",
    "kernel_size",
    "logit_jacobian",
    "nearest_kernel",
    "relabel",
]


def _logits(z, kernel):
    """Cross-correlation of the rows of z with the kernel, zeros beyond the ends."""
    half = len(kernel) // 2
    padded = np.pad(z, ((0, 0), (half, half)))
    return sum(w * padded[:, j : j + z.shape[1]] for j, w in enumerate(kernel))


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
def band_matrix(attempt):
    """``attempt(kernel, channels)`` is the matrix T with a = T z: a banded Toeplitz matrix."""
    kernel, channels = np.array([0.5, -1.0, 2.0, 3.0, 0.25]), 7
    eye = np.eye(channels)

    def band(kernel, shift=lambda offset: np.eye(channels, k=offset)):
        return sum(w * shift(j - len(kernel) // 2) for j, w in enumerate(kernel))

    expect(
        call(attempt, kernel, channels),
        band(kernel),
        "the matrix",
        {
            "the band is turned round: a_i reads z_{i-1} with the weight left of the middle, so "
            "the first weights of the kernel lie below the diagonal": band(kernel[::-1]),
            "the band goes round the ends: beyond the first and last channel are zeros": band(
                kernel, lambda offset: np.roll(eye, offset, axis=1)
            ),
            "the kernel begins on the diagonal; its middle belongs there": band(
                kernel, lambda offset: np.eye(channels, k=offset + 2)
            ),
        },
    )
    expect(call(attempt, np.array([2.0]), 3), 2 * np.eye(3), "the matrix for k = 1")
    expect(
        call(attempt, np.arange(1.0, 8.0), 2),
        [[4.0, 5.0], [3.0, 4.0]],
        "the matrix for a kernel that is wider than the channels",
    )


@exercise
def added_parameters(attempt):
    """``attempt(blocks, kernels)``: what ECA adds to a network, both given stage by stage."""
    blocks, kernels = (3, 4, 23, 3), (3, 3, 5, 7)
    widths = (256, 512, 1024, 2048)
    expect(
        call(attempt, blocks, kernels),
        157,
        "the number of parameters",
        {
            "that is one layer a stage; every block has its own": sum(kernels),
            "the channels share the kernel: C is not in the count": sum(
                b * k * c for b, k, c in zip(blocks, kernels, widths, strict=True)
            ),
            "ECA's convolution has no bias": 157 + sum(blocks),
            "k counts the weights of one layer, not their square": sum(
                b * k * k for b, k in zip(blocks, kernels, strict=True)
            ),
        },
    )
    expect(call(attempt, (3, 4, 6, 3), (3, 5, 5, 7)), 80, "the number for ResNet-50")


@exercise
def forward(attempt):
    """``attempt(x, kernel)`` is the output of ECA for x (N, C, H, W) and a kernel (k,)."""
    rng = np.random.default_rng(0)
    x, kernel = rng.standard_normal((5, 6, 3, 4)), np.array([1.5, -0.5, 2.0])
    wanted, cache = reference.eca.forward(x, {"conv.weight": kernel[None, None]})
    z, gate = x.mean(axis=(2, 3)), cache["gates"]["channel"]
    a = _logits(z, kernel)

    def gated(logits):
        return x / (1 + np.exp(-logits[:, :, None, None]))

    expect(
        call(attempt, x, kernel),
        wanted,
        "the output",
        {
            "that is the gate; multiply x by it": gate,
            "that is the gate, without its last two axes; multiply x by it": gate[:, :, 0, 0],
            "x is multiplied by the logits; the sigmoid is missing": x * a[:, :, None, None],
            "the kernel is turned round (numpy.convolve does that): weight 0 belongs to the "
            "channel before": gated(_logits(z, kernel[::-1])),
            "the convolution runs along the batch; it runs along the channels": gated(
                _logits(z.T, kernel).T
            ),
            "z is a sum over positions; it is their mean": gated(12 * a),
            "z is the maximum over positions; it is their mean": gated(
                _logits(x.max(axis=(2, 3)), kernel)
            ),
            "the channels go round the ends; beyond the first and the last are zeros": gated(
                sum(w * np.roll(z, 1 - j, axis=1) for j, w in enumerate(kernel))
            ),
        },
    )
    wide = np.arange(-3.0, 4.0)
    expect(
        call(attempt, x, wide),
        reference.eca.forward(x, {"conv.weight": wide[None, None]})[0],
        "the output for a kernel of seven weights",
    )


@exercise
def kernel_gradient(attempt):
    """``attempt(z, da, k)`` is the gradient of the loss with respect to the kernel, (k,)."""
    rng = np.random.default_rng(1)
    z, da, k = rng.standard_normal((3, 8)), rng.standard_normal((3, 8)), 5

    def gradient(z, da):
        padded = np.pad(z, ((0, 0), (k // 2, k // 2)))
        return np.array([(da * padded[:, j : j + z.shape[1]]).sum() for j in range(k)])

    wanted = gradient(z, da)
    inner = z.shape[1] - k + 1
    expect(
        call(attempt, z, da, k),
        wanted,
        "the gradient",
        {
            "the gradient is turned round: weight 0 met the channel before, z_{i-2}": wanted[::-1],
            "that is the mean over the batch; every sample adds its share": wanted / 3,
            "only one sample is in it; sum over the batch": gradient(z[:1], da[:1]),
            "the channels near the ends are left out; pad z with zeros": [
                (da[:, 2:-2] * z[:, j : j + inner]).sum() for j in range(k)
            ],
            "z goes round the ends; beyond the first and the last channel are zeros": [
                (da * np.roll(z, 2 - j, axis=1)).sum() for j in range(k)
            ],
        },
    )


@exercise
def circular_logits(attempt):
    """``attempt(z, kernel)`` takes the channels as a ring: the last precedes the first."""
    rng = np.random.default_rng(2)
    z, kernel = rng.standard_normal((2, 6)), np.array([1.0, -2.0, 0.5, 3.0, 0.25])

    def ring(kernel):
        return sum(w * np.roll(z, 2 - j, axis=1) for j, w in enumerate(kernel))

    expect(
        call(attempt, z, kernel),
        ring(kernel),
        "the logits",
        {
            "zeros lie beyond the ends; the channels should go round": _logits(z, kernel),
            "the kernel is turned round": ring(kernel[::-1]),
            "the whole result is shifted: the kernel's middle weighs the channel itself": np.roll(
                ring(kernel), -2, axis=1
            ),
            "the batch goes round; the channels should": sum(
                w * np.roll(z, 2 - j, axis=0) for j, w in enumerate(kernel)
            ),
        },
    )


@exercise
def relabel(attempt):
    """``attempt(weight, order)``: the (C, C) weight that gates z[:, order] as weight gated z."""
    rng = np.random.default_rng(3)
    weight, order = rng.standard_normal((5, 5)), np.array([2, 0, 3, 4, 1])
    inverse = np.argsort(order)
    expect(
        call(attempt, weight.copy(), order),
        weight[np.ix_(order, order)],
        "the weight",
        {
            "only the rows are reordered: the gates come out in the new order, but the inputs are "
            "still expected in the old one": weight[order],
            "only the columns are reordered: the inputs are read in the new order, but the gates "
            "come out in the old one": weight[:, order],
            "that is the inverse order: entry i of the new list is channel order[i] of the old": (
                weight[np.ix_(inverse, inverse)]
            ),
            "the weight is unchanged": weight,
        },
    )


@exercise
def logit_jacobian(attempt):
    """``attempt(z, w1, w2)``: d logit_i / d z_j of SE without biases, (C, C), for one z (C,)."""
    rng = np.random.default_rng(4)
    z, w1, w2 = rng.standard_normal(8), rng.standard_normal((4, 8)), rng.standard_normal((8, 4))
    active = w1 @ z > 0
    assert 0 < active.sum() < 4  # the mistakes must differ from the answer
    wanted = (w2 * active) @ w1
    s = 1 / (1 + np.exp(-(w2 * active) @ w1 @ z))
    expect(
        call(attempt, z, w1, w2),
        wanted,
        "the Jacobian",
        {
            "the ReLU is missing: a hidden unit at rest passes no gradient": w2 @ w1,
            "that is the transpose: row i belongs to logit i": wanted.T,
            "that is the Jacobian of the gate; the logit comes before the sigmoid": (
                (s * (1 - s))[:, None] * wanted
            ),
            "that is the logit; the Jacobian is a matrix (C, C)": wanted @ z,
        },
    )


@exercise
def nearest_kernel(attempt):
    """``attempt(weight, k)``: the kernel whose band matrix is nearest to weight (least squares)."""
    rng = np.random.default_rng(5)
    weight, k = rng.standard_normal((6, 6)), 5
    diagonals = [np.diagonal(weight, j - k // 2) for j in range(k)]
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
        },
    )
    got = np.asarray(call(attempt, weight + 0.0, 1), dtype=float)
    if got.shape != (1,):
        raise Failed(f"for k = 1 the kernel has shape {got.shape}; it should have (1,)")
