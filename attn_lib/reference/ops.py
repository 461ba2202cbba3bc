"""Building blocks in NumPy: each operation, and the gradient of the loss through it.

An operation returns its result and a cache, ``y, cache = op(x, ...)``; its partner takes the
gradient of the loss with respect to y and returns the gradients with respect to the inputs,
``dx, ... = op_backward(dy, cache)``. The code keeps the usual Python spelling ``dx`` for what
the text writes as x with a bar.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

__all__ = [
    "batch_norm",
    "batch_norm_backward",
    "conv",
    "conv_backward",
    "hard_swish",
    "hard_swish_backward",
    "linear",
    "linear_backward",
    "max_pool",
    "max_pool_backward",
    "mean_pool",
    "mean_pool_backward",
    "relu",
    "relu_backward",
    "sigmoid",
    "sigmoid_backward",
    "tanh",
    "tanh_backward",
]


def sigmoid(a):
    """Logistic function 1 / (1 + exp(-a)), element by element, without overflow.

    Written as (1 + tanh(a / 2)) / 2, the same function: tanh saturates where exp would overflow.
    """
    s = 0.5 * (1.0 + np.tanh(0.5 * a))
    return s, s


def sigmoid_backward(ds, s):
    """Gradient through :func:`sigmoid`: da = ds * s * (1 - s)."""
    return ds * s * (1.0 - s)


def relu(a):
    """max(a, 0), element by element."""
    return np.maximum(a, 0.0), a > 0


def relu_backward(dh, positive):
    """Gradient through :func:`relu`: passes where a > 0, zero elsewhere (as PyTorch, at 0 too)."""
    return dh * positive


def tanh(a):
    """Hyperbolic tangent, element by element."""
    t = np.tanh(a)
    return t, t


def tanh_backward(dt, t):
    """Gradient through :func:`tanh`: da = dt * (1 - t**2)."""
    return dt * (1.0 - t * t)


def hard_swish(a):
    """A piecewise polynomial swish, a * clip(a + 3, 0, 6) / 6 (Howard et al., arXiv 1905.02244)."""
    return a * np.clip(a + 3.0, 0.0, 6.0) / 6.0, a


def hard_swish_backward(dh, a):
    """Gradient through :func:`hard_swish`: 0 for a <= -3, 1 for a >= 3, (2a + 3) / 6 between."""
    return dh * np.where(a <= -3.0, 0.0, np.where(a >= 3.0, 1.0, (2.0 * a + 3.0) / 6.0))


def linear(z, weight, bias=None):
    """Affine map of each row: (N, D) with weight (M, D) and bias (M,) gives (N, M)."""
    a = z @ weight.T
    return (a if bias is None else a + bias), (z, weight, bias is not None)


def linear_backward(da, cache):
    """Gradients through :func:`linear`: dz (N, D), dweight (M, D), dbias (M,) or None."""
    z, weight, has_bias = cache
    return da @ weight, da.T @ z, (da.sum(axis=0) if has_bias else None)


def mean_pool(x, axis=(2, 3)):
    """Mean over the given axes, which are kept with length 1."""
    return x.mean(axis=axis, keepdims=True), (x.shape, axis)


def mean_pool_backward(dz, cache):
    """Gradient through :func:`mean_pool`: every pooled entry receives dz / (their number)."""
    shape, axis = cache
    count = np.prod([shape[i] for i in np.atleast_1d(axis)])
    return np.broadcast_to(dz / count, shape)


def max_pool(x, axis=(2, 3)):
    """Maximum over the given axes, which are kept with length 1."""
    z = x.max(axis=axis, keepdims=True)
    first = _first_maximum(x, z, axis)
    return z, first


def max_pool_backward(dz, first):
    """Gradient through :func:`max_pool`: all of it goes to the first maximum in memory order.

    Where several entries share the maximum, any convex combination of them is a subgradient.
    This is the choice of ``torch.max(x, dim)`` and ``torch.nn.functional.max_pool2d``;
    ``torch.amax`` divides the gradient equally among the tied entries instead.
    """
    return dz * first


def _first_maximum(x, z, axis):
    """Boolean mask, of x's shape, of the first entry that equals the maximum along ``axis``."""
    axes = tuple(np.atleast_1d(axis) % x.ndim)
    pooled = [x.shape[i] for i in axes]
    to_last = np.moveaxis(x == z, axes, range(-len(axes), 0))
    flat = to_last.reshape(*to_last.shape[: -len(axes)], -1)
    first = np.arange(flat.shape[-1]) == flat.argmax(axis=-1)[..., None]
    return np.moveaxis(first.reshape(*flat.shape[:-1], *pooled), range(-len(axes), 0), axes)


def conv(x, weight, bias=None, padding=0, dilation=1):
    """Cross-correlation of stride 1 in one or two dimensions: deep learning's convolution.

    Parameters
    ----------
    x : array, (N, C, H, W), or (N, C, L) for one dimension.
    weight : array, (M, C, k, k), or (M, C, k).
    bias : array, (M,), optional.
    padding, dilation : int
        Zeros added on every side, and the distance between neighbouring taps.

    Returns
    -------
    y : array, (N, M, H', W') with H' = H + 2 padding - dilation (k - 1), or (N, M, L').
    cache : what :func:`conv_backward` needs.
    """
    windows = _windows(x, weight.shape[2:], padding, dilation)
    space = weight.ndim - 2
    # windows: (N, C, *out, *kernel); contract the channels and the kernel's taps
    taps = tuple(range(2 + space, 2 + 2 * space))
    y = np.tensordot(windows, weight, axes=((1, *taps), tuple(range(1, 2 + space))))
    y = np.moveaxis(y, -1, 1)
    if bias is not None:
        y = y + bias.reshape(-1, *[1] * space)
    return y, (x, weight, bias is not None, padding, dilation)


def conv_backward(dy, cache):
    """Gradients through :func:`conv`: dx, dweight, and dbias or None.

    dweight correlates the input with dy. dx is itself a convolution: of dy, padded to the full
    overlap, with the kernel turned by 180 degrees and its two channel axes exchanged.
    """
    x, weight, has_bias, padding, dilation = cache
    space = weight.ndim - 2
    windows = _windows(x, weight.shape[2:], padding, dilation)
    out_axes = tuple(range(2, 2 + space))
    dweight = np.tensordot(dy, windows, axes=((0, *out_axes), (0, *out_axes)))
    dbias = dy.sum(axis=(0, *out_axes)) if has_bias else None
    turned = np.flip(weight, axis=out_axes).swapaxes(0, 1)
    full = [dilation * (k - 1) for k in weight.shape[2:]]
    dx, _ = conv(_pad(dy, full), turned, dilation=dilation)
    inside = tuple(slice(padding, padding + length) for length in x.shape[2:])
    dx = dx[(..., *inside)]  # the padding's share of the gradient is dropped
    return dx, dweight, dbias


def _pad(x, widths):
    return np.pad(x, [(0, 0), (0, 0), *[(w, w) for w in widths]])


def _windows(x, kernel, padding, dilation):
    """View of every window of x under the kernel: (N, C, *out, *kernel)."""
    space = len(kernel)
    x = _pad(x, [padding] * space)
    spans = tuple(dilation * (k - 1) + 1 for k in kernel)
    windows = sliding_window_view(x, spans, axis=tuple(range(2, 2 + space)))
    return windows[(..., *[slice(None, None, dilation)] * space)]


def batch_norm(x, weight, bias, running_mean, running_var, *, training, momentum=0.1, eps=1e-5):
    """Batch normalisation over every axis but the channel axis 1 (Ioffe & Szegedy, 1502.03167).

    In training the statistics are the batch's (variance with divisor n), and the running ones
    are updated as PyTorch does: running <- (1 - momentum) running + momentum batch, where the
    running variance takes the unbiased batch variance (divisor n - 1). In evaluation the running
    statistics are constants.

    Returns
    -------
    y, cache, (running_mean, running_var) : the last pair is new, the arguments are not changed.
    """
    axes = (0, *range(2, x.ndim))
    shape = (1, -1, *[1] * (x.ndim - 2))
    n = x.size // x.shape[1]
    if training:
        if n == 1:
            raise ValueError(
                f"batch_norm in training needs more than one value a channel; got shape {x.shape}"
            )
        mean, var = x.mean(axis=axes), x.var(axis=axes)
        running_mean = (1 - momentum) * running_mean + momentum * mean
        running_var = (1 - momentum) * running_var + momentum * var * n / (n - 1)
    else:
        mean, var = running_mean, running_var
    inv_std = 1.0 / np.sqrt(var + eps)
    x_hat = (x - mean.reshape(shape)) * inv_std.reshape(shape)
    y = weight.reshape(shape) * x_hat + bias.reshape(shape)
    return y, (x_hat, inv_std, weight, training), (running_mean, running_var)


def batch_norm_backward(dy, cache):
    """Gradients through :func:`batch_norm`: dx, dweight, dbias.

    In training the batch's mean and variance depend on x too, so the part of the gradient along
    the constant and along x_hat is projected out; in evaluation dx is a scaling of dy.
    """
    x_hat, inv_std, weight, training = cache
    axes = (0, *range(2, dy.ndim))
    shape = (1, -1, *[1] * (dy.ndim - 2))
    dweight = (dy * x_hat).sum(axis=axes)
    dbias = dy.sum(axis=axes)
    scale = (weight * inv_std).reshape(shape)
    if not training:
        return scale * dy, dweight, dbias
    n = dy.size // dy.shape[1]
    dx = scale * (dy - dbias.reshape(shape) / n - x_hat * dweight.reshape(shape) / n)
    return dx, dweight, dbias
