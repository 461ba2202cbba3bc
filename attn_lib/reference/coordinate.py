"""Coordinate Attention in NumPy (Hou et al., arXiv 2103.02907, equations 4 to 9).

z_h = means along the rows, z_w = means along the columns (4, 5);
f = hard_swish(BN(W1 [z_h, z_w] + b1)) (6); g_h = sigmoid(Wh f_h + bh) (7),
g_w = sigmoid(Ww f_w + bw) (8); y = x g_h g_w (9).
"""

import numpy as np

from attn_lib.reference import ops

__all__ = ["backward", "forward", "init"]

# gate -> (its convolution, the axis of x that it keeps, the axis that it averages away)
_AXES = {"height": ("conv_h", 2, 3), "width": ("conv_w", 3, 2)}


def init(channels, reduction=32, rng=None, *, axes="both"):
    """Random parameters, uniform in +-1/sqrt(fan-in) as ``torch.nn.Conv2d`` draws them.

    Returns
    -------
    params : dict
        ``conv1.weight`` (C', C, 1, 1), ``conv1.bias`` (C',) and the batch norm ``bn1.*``, each
        (C',), with C' = max(8, channels // reduction); ``conv_h.weight`` (C, C', 1, 1),
        ``conv_h.bias`` (C,), and the same two for ``conv_w``. ``axes="height"`` leaves out
        ``conv_w``, ``axes="width"`` leaves out ``conv_h``.
    """
    rng = np.random.default_rng(rng)
    hidden = max(8, channels // reduction)
    params = {}

    def conv(name, fan_in, fan_out):
        bound = 1.0 / np.sqrt(fan_in)
        params[f"{name}.weight"] = rng.uniform(-bound, bound, (fan_out, fan_in, 1, 1))
        params[f"{name}.bias"] = rng.uniform(-bound, bound, fan_out)

    conv("conv1", channels, hidden)
    params["bn1.weight"], params["bn1.bias"] = np.ones(hidden), np.zeros(hidden)
    params["bn1.running_mean"], params["bn1.running_var"] = np.zeros(hidden), np.ones(hidden)
    params["bn1.num_batches_tracked"] = np.array(0)
    for axis, (name, _, _) in _AXES.items():
        if axes in ("both", axis):
            conv(name, hidden, channels)
    return params


def forward(x, params, *, training=True):
    """y = x g_h g_w for x (N, C, H, W); batch norm uses the batch's statistics in training.

    Returns
    -------
    y : array, (N, C, H, W).
    cache : dict for :func:`backward`; ``cache["gates"]["height"]`` is g_h, (N, C, H, 1),
        ``cache["gates"]["width"]`` is g_w, (N, C, 1, W); in training ``cache["buffers"]`` holds
        the new running statistics.
    """
    axes = {axis: entry for axis, entry in _AXES.items() if f"{entry[0]}.weight" in params}

    strips, pools = [], {}
    for axis, (_, kept, averaged) in axes.items():
        z, pools[axis] = ops.mean_pool(x, averaged)
        strips.append(np.moveaxis(z, kept, 2))  # the strip of either gate lies along axis 2
    z = np.concatenate(strips, axis=2)  # (N, C, H + W, 1)

    a1, conv1 = ops.conv(z, params["conv1.weight"], params["conv1.bias"])
    a2, norm, (mean, var) = ops.batch_norm(
        a1,
        params["bn1.weight"],
        params["bn1.bias"],
        params["bn1.running_mean"],
        params["bn1.running_var"],
        training=training,
    )
    f, swish = ops.hard_swish(a2)  # (N, C', H + W, 1)

    y, gates, convs, start = x, {}, {}, 0
    for axis, (name, kept, _) in axes.items():
        stop = start + x.shape[kept]
        part = np.moveaxis(f[:, :, start:stop], 2, kept)  # (N, C', H, 1) or (N, C', 1, W)
        a, convs[axis] = ops.conv(part, params[f"{name}.weight"], params[f"{name}.bias"])
        gates[axis], _ = ops.sigmoid(a)
        y = y * gates[axis]
        start = stop

    cache = {"x": x, "gates": gates, "axes": axes, "steps": (pools, conv1, norm, swish, convs)}
    if training:
        cache["buffers"] = {
            "bn1.running_mean": mean,
            "bn1.running_var": var,
            "bn1.num_batches_tracked": params["bn1.num_batches_tracked"] + 1,
        }
    return y, cache


def backward(dy, cache):
    """Gradients of the loss: dx (N, C, H, W), and a dict with the trainable keys of ``params``.

    dx has three terms. Along the product it is g_h g_w dy; along the gate of the rows every
    position receives 1/W of its row's dz_h, along the gate of the columns 1/H of its column's
    dz_w. The two strips meet in the shared convolution and, in training, in the batch
    statistics: a row's gate depends on the columns' means through the latter alone.
    """
    x, gates, axes = cache["x"], cache["gates"], cache["axes"]
    pools, conv1, norm, swish, convs = cache["steps"]
    grads = {}

    dx, strips = dy, []
    for axis, (name, kept, averaged) in axes.items():
        dx = dx * gates[axis]
        rest = dy * x
        for other in axes.keys() - {axis}:
            rest = rest * gates[other]
        dgate = rest.sum(axis=averaged, keepdims=True)
        da = ops.sigmoid_backward(dgate, gates[axis])
        dpart, grads[f"{name}.weight"], grads[f"{name}.bias"] = ops.conv_backward(da, convs[axis])
        strips.append(np.moveaxis(dpart, kept, 2))
    df = np.concatenate(strips, axis=2)  # (N, C', H + W, 1)

    da2 = ops.hard_swish_backward(df, swish)
    da1, grads["bn1.weight"], grads["bn1.bias"] = ops.batch_norm_backward(da2, norm)
    dz, grads["conv1.weight"], grads["conv1.bias"] = ops.conv_backward(da1, conv1)

    start = 0
    for axis, (_, kept, _) in axes.items():
        stop = start + x.shape[kept]
        dstrip = np.moveaxis(dz[:, :, start:stop], 2, kept)
        dx = dx + ops.mean_pool_backward(dstrip, pools[axis])
        start = stop
    return dx, grads
