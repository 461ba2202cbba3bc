"""Efficient Channel Attention in NumPy (Wang et al., arXiv 1910.03151, equations 9 and 12).

z = mean of x over H and W, s = sigmoid(conv1d_k(z)) along the channels, y = s x.
"""

import math

import numpy as np

from attn_lib.reference import ops

__all__ = ["backward", "forward", "init", "kernel_size_for"]


def kernel_size_for(channels, gamma=2, b=1):
    """Kernel size by the paper's rule (equation 12), k = odd(abs(log2(C) / gamma + b / gamma)).

    Rounded as the paper's listing does, truncate and then add one to an even number. That is the
    nearest odd number, and where two are equally near (C = 8, 128, 2048 for the paper's gamma and
    b), the larger.
    """
    if gamma == 0 or not (math.isfinite(gamma) and math.isfinite(b)):
        raise ValueError(f"gamma must be non-zero, and both finite; got gamma={gamma}, b={b}")
    k = int(abs((math.log2(channels) + b) / gamma))
    return k if k % 2 else k + 1


def init(channels, kernel_size=None, rng=None, *, gamma=2, b=1):
    """Random kernel, uniform in +-1/sqrt(k) as ``torch.nn.Conv1d`` draws it.

    Returns
    -------
    params : dict
        ``conv.weight`` (1, 1, k), with k = ``kernel_size``, or :func:`kernel_size_for` where
        that is None.
    """
    rng = np.random.default_rng(rng)
    k = kernel_size_for(channels, gamma, b) if kernel_size is None else kernel_size
    bound = 1.0 / np.sqrt(k)
    return {"conv.weight": rng.uniform(-bound, bound, (1, 1, k))}


def forward(x, params, *, training=True):
    """y = s x for x (N, C, H, W). ECA does the same in training and in evaluation.

    Returns
    -------
    y : array, (N, C, H, W).
    cache : dict for :func:`backward`; ``cache["gates"]["channel"]`` is s, (N, C, 1, 1).
    """
    weight = params["conv.weight"]
    z, squeeze = ops.mean_pool(x)
    # the channels are the length of a signal that has one channel: (N, C, 1, 1) -> (N, 1, C)
    a, conv = ops.conv(z[:, None, :, 0, 0], weight, padding=weight.shape[-1] // 2)
    s, excite = ops.sigmoid(a[:, 0, :, None, None])
    cache = {"x": x, "gates": {"channel": s}, "steps": (squeeze, conv, excite)}
    return s * x, cache


def backward(dy, cache):
    """Gradients of the loss: dx (N, C, H, W), and ``{"conv.weight": (1, 1, k)}``.

    The kernel is shared by all channels, so its gradient sums over them (and over the batch);
    the gradient of z is da convolved with the kernel turned round.
    """
    squeeze, conv, excite = cache["steps"]
    x, s = cache["x"], cache["gates"]["channel"]
    ds = (dy * x).sum(axis=(2, 3), keepdims=True)
    da = ops.sigmoid_backward(ds, excite)
    dz, dweight, _ = ops.conv_backward(da[:, None, :, 0, 0], conv)
    dx = s * dy + ops.mean_pool_backward(dz[:, 0, :, None, None], squeeze)
    return dx, {"conv.weight": dweight}
