"""CBAM in NumPy (Woo et al., arXiv 1807.06521, equations 1 to 3), and its two halves alone.

x' = s x with s = sigmoid(MLP(mean over H, W) + MLP(max over H, W)), and then
y = m x' with m = sigmoid(BN(conv([max over C; mean over C of x']))).

``init``, ``forward`` and ``backward`` are CBAM's; ``channel_…`` and ``spatial_…`` are the same
three functions of a half, under the same contract.
"""

import numpy as np

from attn_lib.reference import ops, se

__all__ = [
    "backward",
    "channel_backward",
    "channel_forward",
    "channel_init",
    "forward",
    "init",
    "spatial_backward",
    "spatial_forward",
    "spatial_init",
]

MOMENTUM = 0.01  # of the spatial gate's batch norm, as in the official code


def channel_init(channels, reduction=16, rng=None):
    """Random parameters of the channel half, whose MLP is SE's; see :func:`reference.se.init`."""
    return se.init(channels, reduction, rng)


def channel_forward(x, params, *, training=True):
    """Compute y = s x for x (N, C, H, W), the same in training and in evaluation.

    Returns
    -------
    y : array, (N, C, H, W).
    cache : dict for :func:`channel_backward`; ``cache["gates"]["channel"]`` is s, (N, C, 1, 1).
    """
    n = x.shape[0]
    z_mean, mean = ops.mean_pool(x)
    z_max, first = ops.max_pool(x)
    z = np.concatenate([z_mean, z_max])[:, :, 0, 0]  # (2N, C): one MLP, so one pass for both
    a1, fc1 = ops.linear(z, params["fc1.weight"], params["fc1.bias"])
    h, positive = ops.relu(a1)
    a2, fc2 = ops.linear(h, params["fc2.weight"], params["fc2.bias"])
    s, _ = ops.sigmoid(a2[:n] + a2[n:])
    s = s[:, :, None, None]
    cache = {"x": x, "gates": {"channel": s}, "steps": (mean, first, fc1, positive, fc2)}
    return s * x, cache


def channel_backward(dy, cache):
    """Gradients of the loss: dx (N, C, H, W), and a dict with the keys of ``params``.

    dx has three terms: s dy along the product; through the mean, an equal share for every
    position of the channel; through the maximum, all of it for the position that held it.
    """
    mean, first, fc1, positive, fc2 = cache["steps"]
    x, s = cache["x"], cache["gates"]["channel"]
    ds = (dy * x).sum(axis=(2, 3))
    da = ops.sigmoid_backward(ds, s[:, :, 0, 0])
    da2 = np.concatenate([da, da])  # a sum hands the same gradient to both of its terms
    dh, dw2, db2 = ops.linear_backward(da2, fc2)
    da1 = ops.relu_backward(dh, positive)
    dz, dw1, db1 = ops.linear_backward(da1, fc1)
    dz_mean, dz_max = np.split(dz[:, :, None, None], 2)
    dx = s * dy + ops.mean_pool_backward(dz_mean, mean) + ops.max_pool_backward(dz_max, first)
    return dx, {"fc1.weight": dw1, "fc1.bias": db1, "fc2.weight": dw2, "fc2.bias": db2}


def spatial_init(kernel_size=7, rng=None):
    """Random parameters of the spatial half, as PyTorch draws them.

    Returns
    -------
    params : dict
        ``conv.weight`` (1, 2, k, k), uniform in +-1/sqrt(2 k k), and the batch norm's
        ``bn.weight`` (1,), ones, ``bn.bias`` (1,), zeros, with its running statistics.
    """
    rng = np.random.default_rng(rng)
    bound = 1.0 / np.sqrt(2 * kernel_size**2)
    return {
        "conv.weight": rng.uniform(-bound, bound, (1, 2, kernel_size, kernel_size)),
        "bn.weight": np.ones(1),
        "bn.bias": np.zeros(1),
        "bn.running_mean": np.zeros(1),
        "bn.running_var": np.ones(1),
        "bn.num_batches_tracked": np.array(0),
    }


def spatial_forward(x, params, *, training=True):
    """Compute y = m x for x (N, C, H, W); batch norm uses the batch's statistics in training.

    Returns
    -------
    y : array, (N, C, H, W).
    cache : dict for :func:`spatial_backward`; ``cache["gates"]["spatial"]`` is m, (N, 1, H, W),
        and in training ``cache["buffers"]`` the new running statistics.
    """
    p_max, first = ops.max_pool(x, axis=1)
    p_mean, mean = ops.mean_pool(x, axis=1)
    p = np.concatenate([p_max, p_mean], axis=1)  # (N, 2, H, W)
    padding = params["conv.weight"].shape[-1] // 2
    a, conv = ops.conv(p, params["conv.weight"], padding=padding)
    b, norm, (running_mean, running_var) = ops.batch_norm(
        a,
        params["bn.weight"],
        params["bn.bias"],
        params["bn.running_mean"],
        params["bn.running_var"],
        training=training,
        momentum=MOMENTUM,
    )
    m, _ = ops.sigmoid(b)
    cache = {"x": x, "gates": {"spatial": m}, "steps": (first, mean, conv, norm)}
    if training:
        cache["buffers"] = {
            "bn.running_mean": running_mean,
            "bn.running_var": running_var,
            "bn.num_batches_tracked": params["bn.num_batches_tracked"] + 1,
        }
    return m * x, cache


def spatial_backward(dy, cache):
    """Gradients of the loss: dx (N, C, H, W), and a dict with the trainable keys of ``params``.

    dx has three terms: m dy along the product; through the mean, 1/C for every channel at a
    position; through the maximum, all of it for the channel that held it there.
    """
    first, mean, conv, norm = cache["steps"]
    x, m = cache["x"], cache["gates"]["spatial"]
    dm = (dy * x).sum(axis=1, keepdims=True)
    db = ops.sigmoid_backward(dm, m)
    da, dgamma, dbeta = ops.batch_norm_backward(db, norm)
    dp, dweight, _ = ops.conv_backward(da, conv)
    dp_max, dp_mean = dp[:, :1], dp[:, 1:]
    dx = m * dy + ops.max_pool_backward(dp_max, first) + ops.mean_pool_backward(dp_mean, mean)
    return dx, {"conv.weight": dweight, "bn.weight": dgamma, "bn.bias": dbeta}


def init(channels, reduction=16, rng=None, *, kernel_size=7):
    """Random parameters: the halves', under ``channel.…`` and ``spatial.…``."""
    rng = np.random.default_rng(rng)
    return _prefix("channel", channel_init(channels, reduction, rng)) | _prefix(
        "spatial", spatial_init(kernel_size, rng)
    )


def forward(x, params, *, training=True):
    """Scale x, (N, C, H, W), with the channel half, and the result with the spatial half.

    Returns
    -------
    y : array, (N, C, H, W).
    cache : dict for :func:`backward`; ``cache["gates"]`` holds ``"channel"``, (N, C, 1, 1), and
        ``"spatial"``, (N, 1, H, W); in training ``cache["buffers"]`` the new running statistics.
    """
    scaled, channel = channel_forward(x, _part("channel", params), training=training)
    y, spatial = spatial_forward(scaled, _part("spatial", params), training=training)
    cache = {"gates": channel["gates"] | spatial["gates"], "halves": (channel, spatial)}
    if training:
        cache["buffers"] = _prefix("spatial", spatial["buffers"])
    return y, cache


def backward(dy, cache):
    """Gradients of the loss: dx (N, C, H, W), and a dict with the trainable keys of ``params``."""
    channel, spatial = cache["halves"]
    dscaled, spatial_grads = spatial_backward(dy, spatial)
    dx, channel_grads = channel_backward(dscaled, channel)
    return dx, _prefix("channel", channel_grads) | _prefix("spatial", spatial_grads)


def _prefix(half, params):
    return {f"{half}.{name}": value for name, value in params.items()}


def _part(half, params):
    start = f"{half}."
    return {k.removeprefix(start): value for k, value in params.items() if k.startswith(start)}
