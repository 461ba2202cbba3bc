"""BAM in NumPy (Park et al., arXiv 1807.06514, equations 1 to 4).

y = g x, g = 1 + sigmoid(c * s) with c = linear-BN-ReLU-linear on the means of the channels, and
s = 1x1 convolution, two dilated 3x3 convolutions, each of the three with BN and ReLU, and a 1x1
convolution to one map. The paper writes c + s, the official code computes c * s.
"""

import numpy as np

from attn_lib.reference import ops

__all__ = ["backward", "forward", "init"]

# The two branches: (linear map or convolution, the batch norm and ReLU behind it, if any)
_CHANNEL = (("fc1", "bn1"), ("fc2", None))
_SPATIAL = (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3"), ("conv4", None))


def init(channels, reduction=16, rng=None, *, dilation=4, combine="product"):
    """Random parameters, uniform in +-1/sqrt(fan-in) as PyTorch draws them.

    ``dilation`` and ``combine`` are options of the layer that no parameter depends on;
    :func:`forward` needs them again.

    Returns
    -------
    params : dict
        ``channel.fc1.…``, ``channel.bn1.…``, ``channel.fc2.…``; ``spatial.conv1.…`` and
        ``spatial.bn1.…`` to ``spatial.bn3.…``, ``spatial.conv4.…``: weights and biases, and the
        batch norms' running statistics. The inner width is C' = max(1, channels // reduction).
    """
    rng = np.random.default_rng(rng)
    hidden = max(1, channels // reduction)
    shapes = {
        "channel.fc1": (hidden, channels),
        "channel.bn1": (hidden,),
        "channel.fc2": (channels, hidden),
        "spatial.conv1": (hidden, channels, 1, 1),
        "spatial.bn1": (hidden,),
        "spatial.conv2": (hidden, hidden, 3, 3),
        "spatial.bn2": (hidden,),
        "spatial.conv3": (hidden, hidden, 3, 3),
        "spatial.bn3": (hidden,),
        "spatial.conv4": (1, hidden, 1, 1),
    }
    params = {}
    for name, shape in shapes.items():
        if len(shape) > 1:
            bound = 1.0 / np.sqrt(np.prod(shape[1:]))
            params[f"{name}.weight"] = rng.uniform(-bound, bound, shape)
            params[f"{name}.bias"] = rng.uniform(-bound, bound, shape[0])
        else:
            params[f"{name}.weight"], params[f"{name}.bias"] = np.ones(shape), np.zeros(shape)
            params[f"{name}.running_mean"] = np.zeros(shape)
            params[f"{name}.running_var"] = np.ones(shape)
            params[f"{name}.num_batches_tracked"] = np.array(0)
    return params


def forward(x, params, *, training=True, dilation=4, combine="product"):
    """Compute y = g x for x (N, C, H, W); batch norm uses the batch's statistics in training.

    Returns
    -------
    y : array, (N, C, H, W).
    cache : dict for :func:`backward`; ``cache["gates"]["joint"]`` is g, (N, C, H, W), in (1, 2),
        and in training ``cache["buffers"]`` the new running statistics.
    """
    if combine not in ("product", "sum"):
        raise ValueError(f"combine must be 'product' or 'sum'; got {combine!r}")
    buffers = {}
    z, pool = ops.mean_pool(x)
    c, channel = _branch("channel", _CHANNEL, z[:, :, 0, 0], params, training, dilation, buffers)
    s, spatial = _branch("spatial", _SPATIAL, x, params, training, dilation, buffers)
    c = c[:, :, None, None]  # (N, C, 1, 1) meets (N, 1, H, W)
    u, _ = ops.sigmoid(c * s if combine == "product" else c + s)
    g = 1.0 + u
    cache = {"x": x, "gates": {"joint": g}, "steps": (pool, channel, spatial, c, s, u, combine)}
    if training:
        cache["buffers"] = buffers
    return g * x, cache


def backward(dy, cache):
    """Gradients of the loss: dx (N, C, H, W), and a dict with the trainable keys of ``params``.

    dx has three terms: g dy along the product (never less than dy, as g > 1), one through the
    channel branch's mean, one through the spatial branch.
    """
    pool, channel, spatial, c, s, u, combine = cache["steps"]
    da = ops.sigmoid_backward(dy * cache["x"], u)
    # c was spread over H and W, s over C: their gradients are summed back over those axes
    dc = (da * s if combine == "product" else da).sum(axis=(2, 3))
    ds = (da * c if combine == "product" else da).sum(axis=1, keepdims=True)
    grads = {}
    dz = _branch_backward("channel", dc, channel, grads)
    dx = _branch_backward("spatial", ds, spatial, grads)
    dx = dx + cache["gates"]["joint"] * dy + ops.mean_pool_backward(dz[:, :, None, None], pool)
    return dx, grads


def _branch(branch, layers, a, params, training, dilation, buffers):
    """Run one branch; returns its result and the caches, layer by layer."""
    caches = []
    for layer, norm in layers:
        weight, bias = params[f"{branch}.{layer}.weight"], params[f"{branch}.{layer}.bias"]
        if weight.ndim == 2:
            a, affine = ops.linear(a, weight, bias)
        elif weight.shape[-1] == 3:
            a, affine = ops.conv(a, weight, bias, padding=dilation, dilation=dilation)
        else:
            a, affine = ops.conv(a, weight, bias)
        normed = positive = None
        if norm:
            key = f"{branch}.{norm}"
            a, normed, (mean, var) = ops.batch_norm(
                a,
                params[f"{key}.weight"],
                params[f"{key}.bias"],
                params[f"{key}.running_mean"],
                params[f"{key}.running_var"],
                training=training,
            )
            a, positive = ops.relu(a)
            buffers[f"{key}.running_mean"], buffers[f"{key}.running_var"] = mean, var
            tracked = f"{key}.num_batches_tracked"
            buffers[tracked] = params[tracked] + 1
        caches.append((layer, norm, affine, normed, positive))
    return a, caches


def _branch_backward(branch, da, caches, grads):
    """Gradient of the loss with respect to the branch's input; fills ``grads``."""
    for layer, norm, affine, normed, positive in reversed(caches):
        if norm:
            da = ops.relu_backward(da, positive)
            da, dweight, dbias = ops.batch_norm_backward(da, normed)
            grads[f"{branch}.{norm}.weight"], grads[f"{branch}.{norm}.bias"] = dweight, dbias
        back = ops.linear_backward if layer.startswith("fc") else ops.conv_backward
        da, dweight, dbias = back(da, affine)
        grads[f"{branch}.{layer}.weight"], grads[f"{branch}.{layer}.bias"] = dweight, dbias
    return da
