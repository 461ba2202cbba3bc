"""Checks of the exercises on feature maps, gates and gradients."""

import numpy as np

from attn_lib.check._core import Failed, call, exercise, expect
from attn_lib.reference import ops

__all__ = [
    "broadcast",
    "central_difference",
    "gate_backward",
    "linear_backward",
    "mean_pool_backward",
    "pools",
    "sigmoid_backward",
    "stable_sigmoid",
]


def _maps(n=2, c=3, h=4, w=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, c, h, w))


@exercise
def pools(attempt):
    """``attempt(x)`` -> means by channel (N, C), by place (N, H, W), by row (N, C, H)."""
    x = _maps()
    made = call(attempt, x)
    if not isinstance(made, tuple) or len(made) != 3:
        raise Failed("three arrays are wanted, as a tuple: by channel, by place, by row")
    names = ("the mean by channel", "the mean by place", "the mean by row")
    wanted = (x.mean((2, 3)), x.mean(1), x.mean(3))
    others = (
        {"that is a mean over the channels; one number a channel is wanted": x.mean(1)},
        {"that is a mean over the map; one number a place is wanted": x.mean((2, 3))},
        {"you averaged over the rows; average over the columns to keep the rows": x.mean(2)},
    )
    for got, want, name, mistakes in zip(made, wanted, names, others, strict=True):
        expect(got, want, name, mistakes)


@exercise
def broadcast(attempt):
    """``attempt(x, s)``: gate a map (N, C, H, W) by one number a row, s (N, C, H)."""
    x = _maps(4, 4, 4, 4)
    s = np.random.default_rng(1).random((4, 4, 4))
    expect(
        call(attempt, x, s),
        x * s[:, :, :, None],
        "y",
        {
            "shapes align from the right: s met C, H, W of every sample, not N, C, H": x * s,
            "s gates the columns: its last axis is H, which is axis 2 of x": x * s[:, :, None, :],
        },
    )


@exercise
def stable_sigmoid(attempt):
    """``attempt(a)``: 1 / (1 + exp(-a)) without overflow for any a."""
    a = np.array([-1e4, -30.0, -1.0, 0.0, 2.0, 30.0, 1e4])
    with np.errstate(over="raise", invalid="raise"):
        try:
            got = call(attempt, a)
        except FloatingPointError as error:
            raise Failed(
                f"{error}: exp of a large number overflows; only take exp of numbers <= 0"
            ) from None
    expect(got, ops.sigmoid(a)[0], "the sigmoid", tolerance=1e-12)


@exercise
def sigmoid_backward(attempt):
    """``attempt(ds, s)``: the gradient before the sigmoid, from its output s."""
    rng = np.random.default_rng(0)
    ds, s = rng.standard_normal((3, 4)), rng.random((3, 4))
    wrong_argument = ops.sigmoid(s)[0]
    expect(
        call(attempt, ds, s),
        ds * s * (1 - s),
        "da",
        {
            "you applied the sigmoid once more: s is its output already": ds
            * wrong_argument
            * (1 - wrong_argument),
            "the chain rule's factor ds is missing": s * (1 - s),
            "one of the two factors is missing: the slope is s (1 - s)": ds * s,
        },
    )


@exercise
def linear_backward(attempt):
    """``attempt(da, z, weight)`` -> dz (N, D), dweight (M, D), dbias (M,)."""
    rng = np.random.default_rng(0)
    z, weight, da = (rng.standard_normal(shape) for shape in ((5, 3), (4, 3), (5, 4)))
    made = call(attempt, da, z, weight)
    if not isinstance(made, tuple) or len(made) != 3:
        raise Failed("three arrays are wanted, as a tuple: dz, dweight, dbias")
    expect(made[0], da @ weight, "dz")
    expect(
        made[1],
        da.T @ z,
        "dweight",
        {
            "dweight is transposed: it has the weight's shape, (M, D)": z.T @ da,
            "the batch is summed, not averaged: the loss already says how samples count": da.T
            @ z
            / 5,
        },
    )
    expect(
        made[2],
        da.sum(0),
        "dbias",
        {
            "dbias is a sum over the samples, not their mean": da.mean(0),
            "each sample has its own row: add them up": da,
        },
    )


@exercise
def mean_pool_backward(attempt):
    """``attempt(dz, height, width)``: dz (N, C) -> dx (N, C, H, W)."""
    dz = _maps()[:, :, 0, 0]
    ones = np.ones((*dz.shape, 4, 5))
    right = dz[:, :, None, None] * ones / 20
    expect(
        call(attempt, dz, 4, 5),
        right,
        "dx",
        {
            "every pixel owns 1/(H W) of the mean: divide by H W": right * 20,
            "divided twice": right / 20,
            "you divided by the height only": right * 5,
        },
    )


@exercise
def gate_backward(attempt):
    """``attempt(dy, x, s)``: y = s x with s (N, C, 1, 1) -> dx along the product, and ds."""
    x, dy = _maps(), _maps(seed=1)
    s = np.random.default_rng(2).random((2, 3, 1, 1))
    made = call(attempt, dy, x, s)
    if not isinstance(made, tuple) or len(made) != 2:
        raise Failed("two arrays are wanted, as a tuple: dx, ds")
    expect(made[0], s * dy, "dx", {"that is x dy: the factor beside x is s": x * dy})
    ds = (dy * x).sum((2, 3), keepdims=True)
    expect(
        made[1],
        ds,
        "ds",
        {
            "ds has the shape of x: the gate was shared by all pixels, sum over them": dy * x,
            "a mean over the pixels: contributions to a shared number add up": ds / 20,
            "the axes of length one are gone: ds has the shape of s": ds[:, :, 0, 0],
        },
    )


@exercise
def central_difference(attempt):
    """``attempt(f, x, step)``: derivative of f at the number x by central difference."""
    f, x, step = np.exp, 0.5, 1e-2
    expect(
        call(attempt, f, x, step),
        (f(x + step) - f(x - step)) / (2 * step),
        "the difference",
        {
            "that is the forward difference, whose error falls with step, not step**2": (
                f(x + step) - f(x)
            )
            / step,
            "the two points are 2 step apart": (f(x + step) - f(x - step)) / step,
        },
        tolerance=1e-10,
    )
