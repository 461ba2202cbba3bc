"""Checks of the exercises on gradients."""

import numpy as np
import torch

from attn_lib.check._core import Failed, call, exercise, expect
from attn_lib.reference import ops

__all__ = [
    "batch_norm_backward",
    "central_difference",
    "conv1d_backward",
    "conv2d_backward",
    "gate_backward",
    "linear_backward",
    "log_mean_exp_gate",
    "max_pool_backward",
    "mean_pool_backward",
    "repaired",
    "same_weights",
    "sigmoid_backward",
    "stable_sigmoid",
]


def _draw(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def _arrays(made, *names):
    """``made``, a tuple of as many arrays as there are names, or what is wrong with it."""
    if not isinstance(made, tuple) or len(made) != len(names):
        count = {2: "two", 3: "three", 4: "four"}[len(names)]
        raise Failed(f"{count} arrays are wanted, as a tuple: {', '.join(names)}")
    return made


@exercise
def central_difference(attempt):
    """``attempt(f, x, step)``: derivative of f at the number x by central difference."""
    f, x, step = np.exp, 0.5, 1e-2
    above, here, below = f(x + step), f(x), f(x - step)
    expect(
        call(attempt, f, x, step),
        (above - below) / (2 * step),
        "the difference",
        {
            "that is the forward difference, whose error falls with step, not step**2": (
                above - here
            )
            / step,
            "that is the backward difference, whose error falls with step, not step**2": (
                here - below
            )
            / step,
            "the two points are 2 step apart": (above - below) / step,
            "the sign: the value at x + step comes first": (below - above) / (2 * step),
            "the brackets: divide by (2 * step); / 2 * step multiplies by it": (above - below)
            / 2
            * step,
        },
        tolerance=1e-10,
    )


@exercise
def gate_backward(attempt):
    """``attempt(dy, x, s)``: y = s x with s (N, C, 1, 1) -> dx along the product, and ds."""
    x, dy = _draw(2, 3, 4, 5), _draw(2, 3, 4, 5, seed=1)
    s = np.random.default_rng(2).random((2, 3, 1, 1))
    dx, ds = _arrays(call(attempt, dy, x, s), "dx", "ds")
    expect(dx, s * dy, "dx", {"that is x dy: the factor beside x is s": x * dy})
    right = (dy * x).sum((2, 3), keepdims=True)
    expect(
        ds,
        right,
        "ds",
        {
            "ds has the shape of x: the gate was shared by all places, sum over them": dy * x,
            "a mean over the places: contributions to a shared number add up": right / 20,
            "the axes of length one are gone: ds has the shape of s": right[:, :, 0, 0],
            "the batch was summed too: every sample has its own gate": right.sum(0, keepdims=True),
        },
    )


@exercise
def same_weights(attempt):
    """``attempt(x, weight)`` -> y, dweight for y = W delta(W x), of the loss sum(y)."""
    x, weight = _draw(5, 3), _draw(3, 3, seed=1)
    y, dweight = _arrays(call(attempt, x, weight), "y", "dweight")
    a = x @ weight.T
    h = np.maximum(a, 0)
    expect(y, h @ weight.T, "y", {"the ReLU is missing": a @ weight.T})
    dy = np.ones_like(y)
    last = dy.T @ h
    first = ((dy @ weight) * (a > 0)).T @ x
    expect(
        dweight,
        first + last,
        "dweight",
        {
            "that is the second use alone; the weight was used twice, so two terms add up": last,
            "that is the first use alone; the weight was used twice, so two terms add up": first,
            "the mean of the two uses: they add up": (first + last) / 2,
            "the ReLU's slope is missing in the first use": (dy @ weight).T @ x + last,
            "transposed: dweight has row m for output m": (first + last).T,
        },
    )


@exercise
def mean_pool_backward(attempt):
    """``attempt(dz, height, width)``: dz (N, C) -> dx (N, C, H, W)."""
    dz = _draw(2, 3)
    right = np.broadcast_to(dz[:, :, None, None] / 20, (2, 3, 4, 5))
    expect(
        call(attempt, dz, 4, 5),
        right,
        "dx",
        {
            "every place owns 1/(H W) of the mean: divide by H W": right * 20,
            "divided twice": right / 20,
            "you divided by the height only": right * 5,
            "you divided by the width only": right * 4,
            "the shares must be repeated: dx has shape (N, C, height, width)": right[:, :, :1, :1],
        },
    )


@exercise
def max_pool_backward(attempt):
    """``attempt(dz, x)``: dz (N, C), x (N, C, H, W) -> dx, all to the first maximum."""
    x = np.random.default_rng(0).integers(0, 4, (2, 3, 4, 5)).astype(float)  # full of ties
    x[0, 0] = 0  # a silent channel
    dz = _draw(2, 3, seed=1)
    tied = x == x.max((2, 3), keepdims=True)
    spread = dz[:, :, None, None]
    first = ops.max_pool(x)[1]
    last = ops.max_pool(x[:, :, ::-1, ::-1])[1][:, :, ::-1, ::-1]
    expect(
        call(attempt, dz, x),
        spread * first,
        "dx",
        {
            "every tied place got all of dz: choose one of them": spread * tied,
            "dz is divided among the tied places, as torch.amax does; here the first gets "
            "all": spread * tied / tied.sum((2, 3), keepdims=True),
            "that is the last of the tied places; the first is wanted": spread * last,
            "dz is missing: that is 1 at the maximum": first,
            "that is the mean's gradient: only one place attains the maximum": spread
            * np.ones_like(x)
            / 20,
            "the maximum is multiplied in: its slope is 1, not x": spread * first * x,
        },
    )


@exercise
def linear_backward(attempt):
    """``attempt(da, z, weight)`` -> dz (N, D), dweight (M, D), dbias (M,)."""
    z, weight, da = _draw(5, 3), _draw(4, 3, seed=1), _draw(5, 4, seed=2)
    dz, dweight, dbias = _arrays(call(attempt, da, z, weight), "dz", "dweight", "dbias")
    expect(dz, da @ weight, "dz")
    right = da.T @ z
    expect(
        dweight,
        right,
        "dweight",
        {
            "dweight is transposed: it has the weight's shape, (M, D)": right.T,
            "the batch is summed, not averaged: the loss already says how samples count": right / 5,
        },
    )
    expect(
        dbias,
        da.sum(0),
        "dbias",
        {
            "dbias is a sum over the samples, not their mean": da.mean(0),
            "each sample has its own row: add them up": da,
        },
    )


@exercise
def sigmoid_backward(attempt):
    """``attempt(ds, s)``: the gradient before the sigmoid, from its output s."""
    rng = np.random.default_rng(0)
    ds, s = rng.standard_normal((3, 4)), rng.random((3, 4))
    again = ops.sigmoid(s)[0]
    expect(
        call(attempt, ds, s),
        ds * s * (1 - s),
        "da",
        {
            "you applied the sigmoid once more: s is its output already": ds * again * (1 - again),
            "the chain rule's factor ds is missing": s * (1 - s),
            "one of the two factors is missing: the slope is s (1 - s)": ds * s,
            "that is the slope of tanh, 1 - s**2; the sigmoid's is s (1 - s)": ds * (1 - s**2),
            "the sign: the sigmoid rises, so its slope is positive": ds * s * (s - 1),
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
                f"{error}: exp of a large number overflows; only take exp of numbers <= 0. Note "
                "that np.where computes both of its branches"
            ) from None

    def exact(a):  # to the last digit on both sides, which (1 + tanh(a / 2)) / 2 is not
        small = np.exp(-np.abs(a))
        return np.where(a >= 0, 1, small) / (1 + small)

    small = np.exp(-np.abs(a))
    mistakes = {
        "clipped: far to the left the sigmoid goes on falling, and keeps its digits": exact(
            np.clip(a, -20, 20)
        ),
        "that is sigma(-a): the sign of the exponent": exact(-a),
        "both halves are that of a >= 0: below, it is exp(a) / (1 + exp(a))": 1 / (1 + small),
        "both halves are that of a < 0: above, it is 1 / (1 + exp(-a))": small / (1 + small),
    }
    for text, wrong in mistakes.items():
        if np.shape(got) == a.shape and np.allclose(got, wrong, rtol=1e-9, atol=0):
            raise Failed(text)
    expect(got, exact(a), "the sigmoid", tolerance=1e-12)
    if not np.isclose(np.asarray(got)[1] / np.exp(-30.0), 1, atol=1e-3):
        raise Failed(
            "at a = -30 the digits are lost: 1 - sigma(30) is a difference of two equal numbers"
        )


def _conv1d(x, weight):
    """Sliding sums of x (N, L) under a kernel (k,), zeros around: y (N, L)."""
    y, cache = ops.conv(x[:, None], weight[None, None], padding=len(weight) // 2)
    return y[:, 0], cache


@exercise
def conv1d_backward(attempt):
    """``attempt(dy, x, weight)``: dy, x (N, L), weight (k,), k odd -> dx (N, L), dweight (k,)."""
    for length, k in ((7, 3), (9, 5)):
        x, weight, dy = _draw(2, length), _draw(k, seed=1), _draw(2, length, seed=2)
        dx, dweight = _arrays(call(attempt, dy, x, weight), "dx", "dweight")
        cache = _conv1d(x, weight)[1]
        right = [a[:, 0] if a.ndim == 3 else a for a in ops.conv_backward(dy[:, None], cache)[:2]]
        rights = right[0], ops.conv_backward(dy[:, None], cache)[1][0, 0]
        padded = np.pad(dy, ((0, 0), (k // 2, k // 2)))
        by_sample = np.stack([_dkernel(dy[n : n + 1], x[n : n + 1], k) for n in range(2)])
        expect(
            dx,
            rights[0],
            "dx",
            {
                "the kernel is not turned: the tap that reached right on the way there reaches "
                "left on the way back": _conv1d(dy, weight)[0],
                "the padding's share of the gradient belongs to nobody: dx has the length of "
                "x": np.stack([np.convolve(row, weight) for row in dy]),
                "that is dy at the same place times the sum of the kernel": dy * weight.sum(),
                "that is dy before the kernel, padded": padded,
            },
        )
        expect(
            dweight,
            rights[1],
            "dweight",
            {
                "dweight is turned round: tap u met x at i + u": rights[1][::-1],
                "the kernel is shared by the samples, so sum over them": by_sample,
                "a mean over the batch: contributions to a shared number add up": rights[1] / 2,
                "a mean over all uses: contributions to a shared number add up": rights[1]
                / dy.size,
                "the zeros around x are missing: the windows went round the end": np.array(
                    [(dy * np.roll(x, k // 2 - u, axis=1)).sum() for u in range(k)]
                ),
            },
        )


def _dkernel(dy, x, k):
    padded = np.pad(x, ((0, 0), (k // 2, k // 2)))
    return np.array([(dy * padded[:, u : u + dy.shape[1]]).sum() for u in range(k)])


@exercise
def conv2d_backward(attempt):
    """``attempt(dy, x, weight, padding)`` -> dx, dweight; x (N, C, H, W), weight (M, C, k, k)."""
    for k, padding, c, m in ((3, 1, 3, 2), (3, 0, 2, 4), (5, 2, 2, 3)):
        x, weight = _draw(2, c, 6, 7), _draw(m, c, k, k, seed=1)
        y, cache = ops.conv(x, weight, padding=padding)
        dy = _draw(*y.shape, seed=2)
        dx, dweight = _arrays(call(attempt, dy, x, weight, padding), "dx", "dweight")
        right = ops.conv_backward(dy, cache)
        unturned = ops.conv(dy, weight.swapaxes(0, 1), padding=k - 1 - padding)[0]
        one_axis = ops.conv(dy, weight.swapaxes(0, 1)[..., ::-1], padding=k - 1 - padding)[0]
        uncropped = ops.conv(dy, weight.swapaxes(0, 1)[..., ::-1, ::-1], padding=k - 1)[0]
        expect(
            dx,
            right[0],
            "dx",
            {
                "the kernel is not turned by 180 degrees": unturned,
                "the kernel is turned along one axis only": one_axis,
                "the padding's share of the gradient belongs to nobody: cut it off": uncropped,
            },
        )
        expect(
            dweight,
            right[1],
            "dweight",
            {
                "dweight is turned round: tap (u, v) met x at (i + u, j + v)": right[1][
                    ..., ::-1, ::-1
                ],
                "the two channel axes are exchanged: weight is (M, C, k, k)": right[1].swapaxes(
                    0, 1
                ),
                "a mean over the batch: contributions to a shared number add up": right[1] / 2,
                "the two axes of the kernel are exchanged": right[1].swapaxes(2, 3),
            },
        )


@exercise
def batch_norm_backward(attempt):
    """``attempt(dy, x_hat, inv_std, gamma)``: training mode, (n, C) -> dx, dgamma, dbeta."""
    x, dy, gamma, beta = _draw(6, 3), _draw(6, 3, seed=1), _draw(3, seed=2), np.zeros(3)
    _, cache, _ = ops.batch_norm(x, gamma, beta, beta, beta + 1, training=True)
    x_hat, inv_std = cache[:2]
    made = call(attempt, dy, x_hat, inv_std, gamma)
    dx, dgamma, dbeta = _arrays(made, "dx", "dgamma", "dbeta")
    right = ops.batch_norm_backward(dy, cache)
    scale, along = gamma * inv_std, (dy * x_hat).mean(0)
    expect(
        dx,
        right[0],
        "dx",
        {
            "that is the evaluation mode: in training mean and variance depend on x too": scale
            * dy,
            "the path through the variance is missing": scale * (dy - dy.mean(0)),
            "the path through the mean is missing": scale * (dy - x_hat * along),
            "sums, where means are wanted: mean and variance divide by n": scale
            * (dy - dy.sum(0) - x_hat * (dy * x_hat).sum(0)),
            "gamma is missing": right[0] / gamma,
            "the factor 1 / sqrt(v + eps) is missing": right[0] / inv_std,
        },
    )
    expect(
        dgamma,
        right[1],
        "dgamma",
        {
            "dgamma is a sum, not a mean": right[1] / 6,
            "gamma multiplies x_hat, so dgamma sums dy x_hat": right[2],
        },
    )
    expect(dbeta, right[2], "dbeta", {"dbeta is a sum, not a mean": right[2] / 6})


def _gate(x, weight, bias):
    s, _ = ops.sigmoid(x.mean((2, 3)) @ weight.T + bias)
    return s[:, :, None, None] * x


@exercise
def repaired(attempt):
    """``attempt(dy, x, weight, bias)`` -> dx, dweight, dbias; each planted fault is named."""
    x, dy = _draw(2, 3, 4, 5), _draw(2, 3, 4, 5, seed=1)
    weight, bias = _draw(3, 3, seed=2), _draw(3, seed=3)
    made = call(attempt, dy, x, weight, bias)
    dx, dweight, dbias = _arrays(made, "dx", "dweight", "dbias")
    z = x.mean((2, 3))
    s = ops.sigmoid(z @ weight.T + bias)[0]
    ds = (dy * x).sum((2, 3))
    da = ds * s * (1 - s)
    direct = s[:, :, None, None] * dy
    through = (da @ weight)[:, :, None, None] / 20
    expect(
        dbias,
        da.sum(0),
        "dbias",
        {
            "the gate's gradient is a mean over the places; a shared number collects a sum": (
                da / 20
            ).sum(0),
            "the sigmoid's slope is s (1 - s); a factor is missing": (ds * s).sum(0),
            "the sigmoid's slope is s (1 - s); a factor is missing, and the gate's gradient is a "
            "sum": (ds * s / 20).sum(0),
            "dbias is the sum over the batch, not the mean": da.mean(0),
        },
    )
    expect(
        dweight,
        da.T @ z,
        "dweight",
        {
            "dweight is transposed: row m belongs to output m": z.T @ da,
            "dweight is the sum over the batch, not the mean": da.T @ z / 2,
        },
    )
    expect(
        dx,
        direct + through,
        "dx",
        {
            "the direct path is missing: x is also what the gate multiplies": through
            + np.zeros_like(x),
            "the path through the mean is missing: x also decides its gate": direct,
            "each place owns 1/(H W) of the mean, so its share is divided by H W": direct
            + 20 * through,
            "the weight is the wrong way round on the way back: dz = da W": direct
            + (da @ weight.T)[:, :, None, None] / 20,
            "the weight is the wrong way round, and each place owns 1/(H W) of the mean": direct
            + (da @ weight.T)[:, :, None, None],
        },
    )


def _log_mean_exp_gate(x, weight, bias, t):
    """The project's gate in PyTorch: y, for tensors; its gradients are autograd's."""
    flat = x.flatten(2)
    count = torch.tensor(float(flat.shape[2]), dtype=x.dtype)
    z = (torch.logsumexp(t * flat, 2) - torch.log(count)) / t
    return torch.sigmoid(weight * z + bias)[:, :, None, None] * x, z


@exercise
def log_mean_exp_gate(attempt):
    """``attempt(x, weight, bias, t, dy)`` -> y, dx, dweight, dbias, dt, on unseen data.

    With z the log-mean-exp of each channel at sharpness t, s = sigmoid(weight z + bias) and
    y = s x. weight and bias have shape (C,), t is a number.
    """
    names = ("y", "dx", "dweight", "dbias", "dt")
    for seed, shape, t in (
        (51, (2, 3, 4, 5), 1.3),
        (52, (3, 2, 6, 3), 4.0),
        (53, (1, 4, 2, 2), 0.2),
    ):
        x, dy = _draw(*shape, seed=seed), _draw(*shape, seed=seed + 10)
        weight, bias = _draw(shape[1], seed=seed + 20), _draw(shape[1], seed=seed + 30)
        made = call(attempt, x.copy(), weight.copy(), bias.copy(), t, dy.copy())
        if not isinstance(made, tuple) or len(made) != 5:
            raise Failed("five things are wanted, as a tuple: y, dx, dweight, dbias, dt")
        leaves = [
            torch.tensor(a, dtype=torch.float64).requires_grad_() for a in (x, weight, bias, t)
        ]
        y, z = _log_mean_exp_gate(*leaves)
        y.backward(torch.from_numpy(dy))
        rights = [y.detach().numpy(), *(leaf.grad.numpy() for leaf in leaves)]
        z = z.detach().numpy()
        hw, s = shape[2] * shape[3], ops.sigmoid(weight * z + bias)[0]
        da = (dy * x).sum((2, 3)) * s * (1 - s)
        direct, dz = s[:, :, None, None] * dy, (da * weight)[:, :, None, None]
        e = np.exp(t * (x - x.max((2, 3), keepdims=True)))
        p = e / e.sum((2, 3), keepdims=True)
        no_mean = ops.sigmoid(weight * (z + np.log(hw) / t) + bias)[0][:, :, None, None] * x
        no_t = ops.sigmoid(weight * z * t + bias)[0][:, :, None, None] * x
        seen = (da * weight * (p * x).sum((2, 3)) / t).sum()
        mistakes = {
            "y": {
                "that is the log of a sum of exponentials; a mean is wanted": no_mean,
                "the logarithm is not divided by t": no_t,
            },
            "dx": {
                "the path through the summary is missing: x also decides its gate": direct,
                "the direct path is missing: x is also what the gate multiplies": dz * p,
                "that is the mean's gradient; here the shares are a softmax of t x": direct
                + dz / hw,
                "the shares sum to t: the t of the exponent cancels the 1 / t in front": direct
                + t * dz * p,
                "the shares are not divided by their sum": direct + dz * e,
            },
            "dweight": {"each sample has a row: add them up": da * z},
            "dbias": {"each sample has a row: add them up": da},
            "dt": {
                "t stands twice in z, in front and in the exponent: only the exponent's term is "
                "there": seen,
                "t stands twice in z, in front and in the exponent: only the front's term is "
                "there": -(da * weight * z).sum() / t,
                "t is one number, used by every channel of every sample: sum": da
                * weight
                * ((p * x).sum((2, 3)) - z)
                / t,
            },
        }
        for got, right, name in zip(made, rights, names, strict=True):
            expect(got, right, name, mistakes[name])
    x = 1e4 * _draw(1, 2, 3, 3)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        made = attempt(x, np.full(2, 1e-4), np.zeros(2), 2.0, np.ones_like(x))
    if not all(np.isfinite(np.asarray(part, dtype=float)).all() for part in made):
        raise Failed(
            "inputs of 10,000 overflow in exp: subtract each channel's maximum in the exponent, "
            "and add it to z again"
        )
