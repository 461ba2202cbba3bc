"""The checks of the ECA exercises: solutions pass, mistakes get their message, stubs are quiet."""

import math

import numpy as np
import pytest

from attn_lib import check


def pad(z, kernel):
    half = len(kernel) // 2
    return np.pad(z, ((0, 0), (half, half)))


def logits(z, kernel):
    padded = pad(z, kernel)
    return sum(w * padded[:, j : j + z.shape[1]] for j, w in enumerate(kernel))


def kernel_size(channels, gamma=2, b=1):
    k = int(abs((math.log2(channels) + b) / gamma))
    return k if k % 2 else k + 1


def band_matrix(kernel, channels):
    return sum(w * np.eye(channels, k=j - len(kernel) // 2) for j, w in enumerate(kernel))


def added_parameters(blocks, kernels):
    return sum(b * k for b, k in zip(blocks, kernels, strict=True))


def forward(x, kernel):
    a = logits(x.mean(axis=(2, 3)), kernel)
    return x / (1 + np.exp(-a))[:, :, None, None]


def kernel_gradient(z, da, k):
    padded = pad(z, range(k))
    return np.array([(da * padded[:, j : j + z.shape[1]]).sum() for j in range(k)])


def circular_logits(z, kernel):
    half = len(kernel) // 2
    return sum(w * np.roll(z, half - j, axis=1) for j, w in enumerate(kernel))


def relabel(weight, order):
    return weight[order][:, order]


def logit_jacobian(z, w1, w2):
    return w2 @ np.diag((w1 @ z > 0).astype(float)) @ w1


def nearest_kernel(weight, k):
    return np.array([np.diagonal(weight, j - k // 2).mean() for j in range(k)])


SOLUTIONS = [
    kernel_size,
    band_matrix,
    added_parameters,
    forward,
    kernel_gradient,
    circular_logits,
    relabel,
    logit_jacobian,
    nearest_kernel,
]


def test_every_check_has_a_solution_here():
    assert sorted(f.__name__ for f in SOLUTIONS) == sorted(check.eca.__all__)


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda f: f.__name__)
def test_solution_passes(solution, capsys):
    getattr(check.eca, solution.__name__)(solution)
    assert capsys.readouterr().out == f"eca.{solution.__name__}: passed\n"


@pytest.mark.parametrize("name", check.eca.__all__)
def test_stub_is_not_attempted(name, capsys):
    getattr(check.eca, name)(lambda *args: ...)
    getattr(check.eca, name)(lambda *args: None)
    assert capsys.readouterr().out == f"eca.{name}: not attempted yet\n" * 2


def rounded(rounding):
    return lambda c, gamma=2, b=1: rounding(abs((math.log2(c) + b) / gamma))


def convolve_rows(z, kernel):
    return np.stack([np.convolve(row, kernel, mode="same") for row in z])


def gate(x, kernel):
    return 1 / (1 + np.exp(-logits(x.mean(axis=(2, 3)), kernel)))[:, :, None, None]


def gated(x, a):
    return x / (1 + np.exp(-a))[:, :, None, None]


MISTAKES = [
    ("kernel_size", rounded(int), "must be odd"),
    ("kernel_size", lambda c, g=2, b=1: int(abs((math.log(c) + b) / g)) | 1, "base 2"),
    ("kernel_size", lambda c, g=2, b=1: int(abs(math.log2(c) / g)) | 1, "b is missing"),
    ("kernel_size", lambda c, g=2, b=1: int(abs(math.log2(c) / g + b)) | 1, "divided by gamma"),
    ("kernel_size", lambda c, g=2, b=1: int((math.log2(c) + b) / g) | 1, "absolute value"),
    ("kernel_size", rounded(lambda t: round(t) | 1), "do not round to the nearest"),
    ("kernel_size", rounded(lambda t: math.ceil(t) | 1), "do not round up"),
    ("kernel_size", rounded(lambda t: int(t) - 1 + int(t) % 2), "not down"),
    ("band_matrix", lambda w, c: band_matrix(w, c).T, "turned round"),
    (
        "band_matrix",
        lambda w, c: sum(v * np.roll(np.eye(c), j - len(w) // 2, axis=1) for j, v in enumerate(w)),
        "goes round",
    ),
    (
        "band_matrix",
        lambda w, c: sum(v * np.eye(c, k=j) for j, v in enumerate(w)),
        "begins on the diagonal",
    ),
    ("added_parameters", lambda blocks, kernels: sum(kernels), "one layer a stage"),
    (
        "added_parameters",
        lambda blocks, kernels: sum(
            b * k * c for b, k, c in zip(blocks, kernels, (256, 512, 1024, 2048), strict=True)
        ),
        "share the kernel",
    ),
    (
        "added_parameters",
        lambda blocks, kernels: sum(b * (k + 1) for b, k in zip(blocks, kernels, strict=True)),
        "no bias",
    ),
    (
        "added_parameters",
        lambda blocks, kernels: sum(b * k * k for b, k in zip(blocks, kernels, strict=True)),
        "not their square",
    ),
    ("forward", gate, "that is the gate; multiply"),
    ("forward", lambda x, w: gate(x, w)[:, :, 0, 0], "without its last two axes"),
    (
        "forward",
        lambda x, w: x * logits(x.mean(axis=(2, 3)), w)[:, :, None, None],
        "sigmoid is missing",
    ),
    ("forward", lambda x, w: gated(x, convolve_rows(x.mean(axis=(2, 3)), w)), "turned round"),
    ("forward", lambda x, w: gated(x, logits(x.mean(axis=(2, 3)).T, w).T), "along the batch"),
    ("forward", lambda x, w: gated(x, logits(x.sum(axis=(2, 3)), w)), "sum over positions"),
    ("forward", lambda x, w: gated(x, logits(x.max(axis=(2, 3)), w)), "maximum over positions"),
    ("forward", lambda x, w: gated(x, circular_logits(x.mean(axis=(2, 3)), w)), "round the ends"),
    ("kernel_gradient", lambda z, da, k: kernel_gradient(z, da, k)[::-1], "turned round"),
    ("kernel_gradient", lambda z, da, k: kernel_gradient(z, da, k) / len(z), "mean over the batch"),
    ("kernel_gradient", lambda z, da, k: kernel_gradient(z[:1], da[:1], k), "only one sample"),
    (
        "kernel_gradient",
        lambda z, da, k: [(da[:, 2:-2] * z[:, j : j + z.shape[1] - 4]).sum() for j in range(5)],
        "left out",
    ),
    (
        "kernel_gradient",
        lambda z, da, k: [(da * np.roll(z, 2 - j, axis=1)).sum() for j in range(5)],
        "goes round",
    ),
    ("circular_logits", logits, "zeros lie beyond"),
    ("circular_logits", lambda z, w: circular_logits(z, w[::-1]), "turned round"),
    (
        "circular_logits",
        lambda z, w: sum(v * np.roll(z, -j, axis=1) for j, v in enumerate(w)),
        "shifted",
    ),
    (
        "circular_logits",
        lambda z, w: sum(v * np.roll(z, 2 - j, axis=0) for j, v in enumerate(w)),
        "batch goes round",
    ),
    ("relabel", lambda w, order: w[order], "only the rows"),
    ("relabel", lambda w, order: w[:, order], "only the columns"),
    ("relabel", lambda w, order: relabel(w, np.argsort(order)), "inverse order"),
    ("relabel", lambda w, order: w, "unchanged"),
    ("logit_jacobian", lambda z, w1, w2: w2 @ w1, "ReLU is missing"),
    ("logit_jacobian", lambda z, w1, w2: logit_jacobian(z, w1, w2).T, "transpose"),
    (
        "logit_jacobian",
        lambda z, w1, w2: (
            (lambda s: (s * (1 - s))[:, None])(1 / (1 + np.exp(-logit_jacobian(z, w1, w2) @ z)))
            * logit_jacobian(z, w1, w2)
        ),
        "before the sigmoid",
    ),
    ("logit_jacobian", lambda z, w1, w2: w2 @ np.maximum(w1 @ z, 0), "that is the logit"),
    (
        "nearest_kernel",
        lambda w, k: [np.diagonal(w, j - k // 2).sum() for j in range(k)],
        "those are sums",
    ),
    (
        "nearest_kernel",
        lambda w, k: [np.diagonal(w, j - k // 2).sum() / len(w) for j in range(k)],
        "divided by C",
    ),
    ("nearest_kernel", lambda w, k: nearest_kernel(w, k)[::-1], "turned round"),
]


@pytest.mark.parametrize(
    "name, wrong, message", MISTAKES, ids=lambda v: v if type(v) is str else ""
)
def test_mistake_is_named(name, wrong, message):
    with pytest.raises(check.Failed, match=message):
        getattr(check.eca, name)(wrong)


def test_one_number_for_a_kernel_of_one_weight():
    def flat(weight, k):
        return nearest_kernel(weight, k) if k > 1 else float(np.trace(weight)) / len(weight)

    with pytest.raises(check.Failed, match=r"shape \(\)"):
        check.eca.nearest_kernel(flat)
