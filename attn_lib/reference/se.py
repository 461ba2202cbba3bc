"""Squeeze-and-Excitation in NumPy (Hu et al., arXiv 1709.01507, equations 2 to 4).

z = mean of x over H and W, s = sigmoid(W2 relu(W1 z + b1) + b2), y = s x.
"""

import numpy as np

from attn_lib.reference import ops

__all__ = ["backward", "forward", "init"]


def init(channels, reduction=16, rng=None, *, bias=True):
    """Random parameters, uniform in +-1/sqrt(fan-in) as ``torch.nn.Linear`` draws them.

    Returns
    -------
    params : dict
        ``fc1.weight`` (C', C), ``fc1.bias`` (C',), ``fc2.weight`` (C, C'), ``fc2.bias`` (C,),
        with C' = max(1, channels // reduction); no biases where ``bias`` is False.
    """
    rng = np.random.default_rng(rng)
    hidden = max(1, channels // reduction)
    params = {}
    for name, fan_in, fan_out in (("fc1", channels, hidden), ("fc2", hidden, channels)):
        bound = 1.0 / np.sqrt(fan_in)
        params[f"{name}.weight"] = rng.uniform(-bound, bound, (fan_out, fan_in))
        if bias:
            params[f"{name}.bias"] = rng.uniform(-bound, bound, fan_out)
    return params


def forward(x, params, *, training=True):
    """y = s x for x (N, C, H, W). SE does the same in training and in evaluation.

    Returns
    -------
    y : array, (N, C, H, W).
    cache : dict for :func:`backward`; ``cache["gates"]["channel"]`` is s, (N, C, 1, 1).
    """
    z, squeeze = ops.mean_pool(x)
    a1, fc1 = ops.linear(z[:, :, 0, 0], params["fc1.weight"], params.get("fc1.bias"))
    h, positive = ops.relu(a1)
    a2, fc2 = ops.linear(h, params["fc2.weight"], params.get("fc2.bias"))
    s, excite = ops.sigmoid(a2)
    s = s[:, :, None, None]
    cache = {"x": x, "gates": {"channel": s}, "steps": (squeeze, fc1, positive, fc2, excite)}
    return s * x, cache


def backward(dy, cache):
    """Gradients of the loss: dx (N, C, H, W), and a dict with the keys of ``params``.

    dx has two terms. Along the product it is s dy; along the gate, every position of a channel
    receives the same share 1/(HW) of dz, because the gate saw the position only through the mean.
    """
    squeeze, fc1, positive, fc2, excite = cache["steps"]
    x, s = cache["x"], cache["gates"]["channel"]
    ds = (dy * x).sum(axis=(2, 3))
    da2 = ops.sigmoid_backward(ds, excite)
    dh, dw2, db2 = ops.linear_backward(da2, fc2)
    da1 = ops.relu_backward(dh, positive)
    dz, dw1, db1 = ops.linear_backward(da1, fc1)
    dx = s * dy + ops.mean_pool_backward(dz[:, :, None, None], squeeze)
    grads = {"fc1.weight": dw1, "fc1.bias": db1, "fc2.weight": dw2, "fc2.bias": db2}
    return dx, {name: grad for name, grad in grads.items() if grad is not None}
