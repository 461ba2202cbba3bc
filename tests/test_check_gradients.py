"""The checks of the exercises on gradients: solutions pass, mistakes get their message."""

import numpy as np

from attn_lib.reference import ops


def spread(dz, h, w):
    return dz[:, :, None, None] * np.ones((1, 1, h, w))


def sigmoid(a):
    return ops.sigmoid(a)[0]


def stable(a):
    small = np.exp(-np.abs(a))
    return np.where(a >= 0, 1, small) / (1 + small)


def twice(x, w, first=1.0, last=1.0, slope=True):
    a = x @ w.T
    h = np.maximum(a, 0)
    dy = np.ones_like(a)
    dh = dy @ w
    return h @ w.T, last * dy.T @ h + first * (dh * (a > 0) if slope else dh).T @ x


def highest(dz, x, which="first"):
    flat = x.reshape(*x.shape[:2], -1)
    at = flat.argmax(2) if which == "first" else flat.shape[2] - 1 - flat[..., ::-1].argmax(2)
    mask = np.arange(flat.shape[2]) == at[:, :, None]
    return (dz[:, :, None] * mask).reshape(x.shape)


def tied(x):
    return x == x.max((2, 3), keepdims=True)


def conv1d(dy, x, w, turn=True, cut=True, wrap=False):
    k = len(w)
    p = k // 2
    if wrap:
        dw = np.array([(dy * np.roll(x, p - u, axis=1)).sum() for u in range(k)])
    else:
        padded = np.pad(x, ((0, 0), (p, p)))
        dw = np.array([(dy * padded[:, u : u + x.shape[1]]).sum() for u in range(k)])
    full = np.stack([np.convolve(row, w if turn else w[::-1]) for row in dy])
    return (full[:, p : p + x.shape[1]] if cut else full), dw


def conv2d(dy, x, w, padding):
    _, cache = ops.conv(x, w, padding=padding)
    return ops.conv_backward(dy, cache)[:2]


def conv2d_dx(dy, x, w, padding, kernel, cut=True):
    k = w.shape[2]
    dx = ops.conv(dy, kernel(w.swapaxes(0, 1)), padding=k - 1 - padding * cut)[0]
    return dx, conv2d(dy, x, w, padding)[1]


def norm(dy, x_hat, inv_std, gamma, mean=1.0, var=1.0, scale=None):
    scale = gamma * inv_std if scale is None else scale
    dx = scale * (dy - mean * dy.mean(0) - var * x_hat * (dy * x_hat).mean(0))
    return dx, (dy * x_hat).sum(0), dy.sum(0)


def gated(dy, x, w, b, direct=1.0, through=1.0, right_way=True, slope=True, pool=np.sum):
    z = x.mean((2, 3))
    s = sigmoid(z @ w.T + b)
    ds = pool(dy * x, axis=(2, 3))
    da = ds * s * (1 - s) if slope else ds * s
    dz = da @ (w if right_way else w.T)
    share = dz[:, :, None, None] / (x.shape[2] * x.shape[3])
    dx = direct * s[:, :, None, None] * dy + through * share
    return dx, da.T @ z, da.sum(0)


def lme(x, w, b, t, dy, *, stable=True, count=True, over=True, direct=1, through=1, share=None):
    top = x.max((2, 3), keepdims=True) if stable else 0.0
    e = np.exp(t * (x - top))
    p = e / e.sum((2, 3), keepdims=True)
    mean = e.mean((2, 3), keepdims=True) if count else e.sum((2, 3), keepdims=True)
    z = (top + np.log(mean) / t)[:, :, 0, 0]
    s = sigmoid(w * (z if over else t * z) + b)
    da = (dy * x).sum((2, 3)) * s * (1 - s)
    shares = p if share is None else share(x, p, e, t)
    dx = direct * s[:, :, None, None] * dy + through * (da * w)[:, :, None, None] * shares
    dt = (da * w * ((p * x).sum((2, 3)) - z)).sum() / t
    return s[:, :, None, None] * x, dx, (da * z).sum(0), da.sum(0), dt


def part(function, index, change):
    """``function``, with ``change(result, *args)`` in place of its result number ``index``."""

    def changed(*args):
        made = list(function(*args))
        made[index] = change(made[index], *args)
        return tuple(made)

    return changed


def linear(da, z, w):
    return da @ w, da.T @ z, da.sum(0)


def gate(dy, x, s):
    return s * dy, (dy * x).sum((2, 3), keepdims=True)


SOLUTIONS = {
    "batch_norm_backward": norm,
    "central_difference": lambda f, x, h: (f(x + h) - f(x - h)) / (2 * h),
    "conv1d_backward": conv1d,
    "conv2d_backward": conv2d,
    "gate_backward": gate,
    "linear_backward": linear,
    "log_mean_exp_gate": lme,
    "max_pool_backward": highest,
    "mean_pool_backward": lambda dz, h, w: spread(dz, h, w) / (h * w),
    "repaired": gated,
    "same_weights": twice,
    "sigmoid_backward": lambda ds, s: ds * s * (1 - s),
    "stable_sigmoid": stable,
}

MISTAKES = [
    ("central_difference", lambda f, x, h: (f(x + h) - f(x)) / h, "forward difference"),
    ("central_difference", lambda f, x, h: (f(x) - f(x - h)) / h, "backward difference"),
    ("central_difference", lambda f, x, h: (f(x + h) - f(x - h)) / h, "2 step apart"),
    ("central_difference", lambda f, x, h: (f(x - h) - f(x + h)) / (2 * h), "the sign"),
    ("central_difference", lambda f, x, h: (f(x + h) - f(x - h)) / 2 * h, "brackets"),
    ("gate_backward", lambda dy, x, s: (x * dy, gate(dy, x, s)[1]), "x dy"),
    ("gate_backward", lambda dy, x, s: (s * dy, dy * x), "shared by all places"),
    ("gate_backward", lambda dy, x, s: (s * dy, (dy * x).mean((2, 3), keepdims=True)), "add up"),
    ("gate_backward", lambda dy, x, s: (s * dy, (dy * x).sum((2, 3))), "shape of s"),
    (
        "gate_backward",
        lambda dy, x, s: (s * dy, (dy * x).sum((0, 2, 3), keepdims=True)),
        "batch was summed",
    ),
    ("gate_backward", lambda dy, x, s: s * dy, "two arrays"),
    ("same_weights", lambda x, w: twice(x, w, first=0), "second use alone"),
    ("same_weights", lambda x, w: twice(x, w, last=0), "first use alone"),
    ("same_weights", lambda x, w: twice(x, w, 0.5, 0.5), "the mean of the two"),
    ("same_weights", lambda x, w: twice(x, w, slope=False), "slope is missing"),
    ("same_weights", part(twice, 1, lambda dw, x, w: dw.T), "transposed"),
    ("same_weights", part(twice, 0, lambda y, x, w: x @ w.T @ w.T), "ReLU is missing"),
    ("mean_pool_backward", lambda dz, h, w: spread(dz, h, w), "divide by H W"),
    ("mean_pool_backward", lambda dz, h, w: spread(dz, h, w) / h, "height only"),
    ("mean_pool_backward", lambda dz, h, w: spread(dz, h, w) / w, "width only"),
    ("mean_pool_backward", lambda dz, h, w: spread(dz, h, w) / (h * w) ** 2, "twice"),
    ("mean_pool_backward", lambda dz, h, w: dz[:, :, None, None] / (h * w), "must be repeated"),
    ("max_pool_backward", lambda dz, x: dz[:, :, None, None] * tied(x), "choose one"),
    (
        "max_pool_backward",
        lambda dz, x: dz[:, :, None, None] * tied(x) / tied(x).sum((2, 3), keepdims=True),
        "torch.amax",
    ),
    ("max_pool_backward", lambda dz, x: highest(dz, x, "last"), "the last of the tied"),
    ("max_pool_backward", lambda dz, x: highest(np.ones_like(dz), x), "dz is missing"),
    ("max_pool_backward", lambda dz, x: spread(dz, 4, 5) / 20, "mean's gradient"),
    ("max_pool_backward", lambda dz, x: highest(dz, x) * x, "multiplied in"),
    ("linear_backward", lambda da, z, w: (da @ w, z.T @ da, da.sum(0)), "transposed"),
    ("linear_backward", lambda da, z, w: (da @ w, da.T @ z / 5, da.sum(0)), "summed, not averaged"),
    ("linear_backward", lambda da, z, w: (da @ w, da.T @ z, da.mean(0)), "not their mean"),
    ("linear_backward", lambda da, z, w: (da @ w, da.T @ z, da), "add them up"),
    ("linear_backward", lambda da, z, w: da @ w, "three arrays"),
    ("sigmoid_backward", lambda ds, s: s * (1 - s), "factor ds is missing"),
    ("sigmoid_backward", lambda ds, s: ds * s, "one of the two factors"),
    ("sigmoid_backward", lambda ds, s: ds * stable(s) * (1 - stable(s)), "once more"),
    ("sigmoid_backward", lambda ds, s: ds * (1 - s**2), "tanh"),
    ("sigmoid_backward", lambda ds, s: -ds * s * (1 - s), "the sign"),
    ("stable_sigmoid", lambda a: 1 / (1 + np.exp(-a)), "overflow"),
    ("stable_sigmoid", lambda a: 1 / (1 + np.exp(-np.clip(a, -20, 20))), "clipped"),
    ("stable_sigmoid", lambda a: stable(-a), "exponent"),
    ("stable_sigmoid", lambda a: 1 / (1 + np.exp(-np.abs(a))), "that of a >= 0"),
    ("stable_sigmoid", lambda a: stable(-np.abs(a)), "that of a < 0"),
    (
        "stable_sigmoid",
        lambda a: np.where(a >= 0, stable(a), 1 - 1 / (1 + np.exp(-np.abs(a)))),
        "digits are lost",
    ),
    ("conv1d_backward", lambda dy, x, w: conv1d(dy, x, w, turn=False), "not turned"),
    ("conv1d_backward", lambda dy, x, w: conv1d(dy, x, w, cut=False), "padding's share"),
    ("conv1d_backward", part(conv1d, 0, lambda dx, dy, x, w: dy * w.sum()), "sum of the kernel"),
    ("conv1d_backward", part(conv1d, 1, lambda dw, dy, x, w: dw[::-1]), "dweight is turned"),
    ("conv1d_backward", part(conv1d, 1, lambda dw, dy, x, w: dw / 2), "mean over the batch"),
    ("conv1d_backward", part(conv1d, 1, lambda dw, dy, x, w: dw / dy.size), "mean over all uses"),
    (
        "conv1d_backward",
        part(
            conv1d,
            1,
            lambda dw, dy, x, w: np.stack(
                [conv1d(dy[n : n + 1], x[n : n + 1], w)[1] for n in (0, 1)]
            ),
        ),
        "shared by the samples",
    ),
    ("conv1d_backward", lambda dy, x, w: conv1d(dy, x, w, wrap=True), "round the end"),
    ("conv2d_backward", lambda *a: conv2d_dx(*a, lambda w: w), "not turned by 180"),
    ("conv2d_backward", lambda *a: conv2d_dx(*a, lambda w: w[..., ::-1]), "one axis only"),
    (
        "conv2d_backward",
        lambda *a: conv2d_dx(*a, lambda w: w[..., ::-1, ::-1], cut=False),
        "cut it off",
    ),
    ("conv2d_backward", part(conv2d, 1, lambda dw, *a: dw[..., ::-1, ::-1]), "dweight is turned"),
    ("conv2d_backward", part(conv2d, 1, lambda dw, *a: dw.swapaxes(0, 1)), "channel axes"),
    ("conv2d_backward", part(conv2d, 1, lambda dw, *a: dw.swapaxes(2, 3)), "axes of the kernel"),
    ("conv2d_backward", part(conv2d, 1, lambda dw, *a: dw / 2), "mean over the batch"),
    ("batch_norm_backward", lambda *a: norm(*a, mean=0, var=0), "evaluation mode"),
    ("batch_norm_backward", lambda *a: norm(*a, var=0), "through the variance"),
    ("batch_norm_backward", lambda *a: norm(*a, mean=0), "through the mean"),
    ("batch_norm_backward", lambda *a: norm(*a, mean=6, var=6), "means are wanted"),
    ("batch_norm_backward", lambda d, x, i, g: norm(d, x, i, g, scale=i), "gamma is missing"),
    ("batch_norm_backward", lambda d, x, i, g: norm(d, x, i, g, scale=g), "1 / sqrt"),
    ("batch_norm_backward", part(norm, 1, lambda dg, *a: dg / 6), "dgamma is a sum"),
    ("batch_norm_backward", part(norm, 1, lambda dg, dy, *a: dy.sum(0)), "sums dy x_hat"),
    ("batch_norm_backward", part(norm, 2, lambda db, *a: db / 6), "dbeta is a sum"),
    ("repaired", lambda *a: gated(*a, pool=np.mean, slope=False), "and the gate's gradient"),
    ("repaired", lambda *a: gated(*a, pool=np.mean), "collects a sum"),
    ("repaired", lambda *a: gated(*a, slope=False), "a factor is missing"),
    ("repaired", lambda *a: gated(*a, direct=0), "direct path is missing"),
    ("repaired", lambda *a: gated(*a, through=0), "path through the mean is missing"),
    ("repaired", lambda *a: gated(*a, through=20), "divided by H W"),
    ("repaired", lambda *a: gated(*a, right_way=False), "wrong way round on the way back"),
    ("repaired", lambda *a: gated(*a, right_way=False, through=20), "wrong way round, and each"),
    ("repaired", part(gated, 1, lambda dw, *a: dw.T), "transposed"),
    ("repaired", part(gated, 1, lambda dw, *a: dw / 2), "not the mean"),
    ("repaired", part(gated, 2, lambda db, *a: db / 2), "not the mean"),
    ("log_mean_exp_gate", lambda *a: lme(*a, stable=False), "overflow"),
    ("log_mean_exp_gate", lambda *a: lme(*a, count=False), "a mean is wanted"),
    ("log_mean_exp_gate", lambda *a: lme(*a, over=False), "not divided by t"),
    ("log_mean_exp_gate", lambda *a: lme(*a, direct=0), "direct path"),
    ("log_mean_exp_gate", lambda *a: lme(*a, through=0), "path through the summary"),
    (
        "log_mean_exp_gate",
        lambda *a: lme(*a, share=lambda x, p, e, t: 0 * p + 1 / x[0, 0].size),
        "mean's gradient",
    ),
    ("log_mean_exp_gate", lambda *a: lme(*a, share=lambda x, p, e, t: t * p), "shares sum to t"),
    ("log_mean_exp_gate", lambda *a: lme(*a, share=lambda x, p, e, t: e), "divided by their sum"),
    ("log_mean_exp_gate", lambda *a: lme(*a)[:4], "five things"),
]
