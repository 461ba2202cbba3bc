"""The checks of the exercises on gates: solutions pass, mistakes get their message."""

import numpy as np
import pytest

from attn_lib import check
from attn_lib.check import Failed


def spread(dz, h, w):
    return dz[:, :, None, None] * np.ones((1, 1, h, w))


def stable(a):
    small = np.exp(-np.abs(a))
    return np.where(a >= 0, 1, small) / (1 + small)


SOLUTIONS = {
    "pools": lambda x: (x.mean((2, 3)), x.mean(1), x.mean(3)),
    "broadcast": lambda x, s: x * s[:, :, :, None],
    "stable_sigmoid": stable,
    "sigmoid_backward": lambda ds, s: ds * s * (1 - s),
    "linear_backward": lambda da, z, weight: (da @ weight, da.T @ z, da.sum(0)),
    "mean_pool_backward": lambda dz, h, w: spread(dz, h, w) / (h * w),
    "gate_backward": lambda dy, x, s: (s * dy, (dy * x).sum((2, 3), keepdims=True)),
    "central_difference": lambda f, x, h: (f(x + h) - f(x - h)) / (2 * h),
}

MISTAKES = [
    ("pools", lambda x: (x.mean(1), x.mean(1), x.mean(3)), "mean over the channels"),
    ("pools", lambda x: (x.mean((2, 3)), x.mean((2, 3)), x.mean(3)), "mean over the map"),
    ("pools", lambda x: (x.mean((2, 3)), x.mean(1), x.mean(2)), "to keep the rows"),
    ("pools", lambda x: x.mean(1), "three arrays"),
    ("broadcast", lambda x, s: x * s, "align from the right"),
    ("broadcast", lambda x, s: x * s[:, :, None, :], "gates the columns"),
    ("stable_sigmoid", lambda a: 1 / (1 + np.exp(-a)), "overflow"),
    ("sigmoid_backward", lambda ds, s: s * (1 - s), "factor ds is missing"),
    ("sigmoid_backward", lambda ds, s: ds * s, "one of the two factors"),
    ("sigmoid_backward", lambda ds, s: ds * stable(s) * (1 - stable(s)), "once more"),
    ("linear_backward", lambda da, z, w: (da @ w, z.T @ da, da.sum(0)), "transposed"),
    ("linear_backward", lambda da, z, w: (da @ w, da.T @ z / 5, da.sum(0)), "summed, not averaged"),
    ("linear_backward", lambda da, z, w: (da @ w, da.T @ z, da.mean(0)), "not their mean"),
    ("linear_backward", lambda da, z, w: (da @ w, da.T @ z, da), "add them up"),
    ("linear_backward", lambda da, z, w: da @ w, "three arrays"),
    ("mean_pool_backward", lambda dz, h, w: spread(dz, h, w), "divide by H W"),
    ("mean_pool_backward", lambda dz, h, w: spread(dz, h, w) / h, "height only"),
    ("mean_pool_backward", lambda dz, h, w: spread(dz, h, w) / (h * w) ** 2, "twice"),
    ("gate_backward", lambda dy, x, s: (x * dy, (dy * x).sum((2, 3), keepdims=True)), "x dy"),
    ("gate_backward", lambda dy, x, s: (s * dy, dy * x), "shared by all pixels"),
    ("gate_backward", lambda dy, x, s: (s * dy, (dy * x).mean((2, 3), keepdims=True)), "add up"),
    ("gate_backward", lambda dy, x, s: (s * dy, (dy * x).sum((2, 3))), "shape of s"),
    ("gate_backward", lambda dy, x, s: s * dy, "two arrays"),
    ("central_difference", lambda f, x, h: (f(x + h) - f(x)) / h, "forward difference"),
    ("central_difference", lambda f, x, h: (f(x + h) - f(x - h)) / h, "2 step apart"),
]


def test_every_check_is_tested():
    assert sorted(SOLUTIONS) == sorted(check.gating.__all__)
    assert {name for name, _, _ in MISTAKES} == set(SOLUTIONS)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solution_passes(name, capsys):
    getattr(check.gating, name)(SOLUTIONS[name])
    assert capsys.readouterr().out == f"gating.{name}: passed\n"


@pytest.mark.parametrize("name, attempt, message", MISTAKES)
def test_mistake_is_named(name, attempt, message):
    with pytest.raises(Failed, match=message):
        getattr(check.gating, name)(attempt)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_stub_is_quiet(name, capsys):
    getattr(check.gating, name)(lambda *args: None)
    assert capsys.readouterr().out == f"gating.{name}: not attempted yet\n"
