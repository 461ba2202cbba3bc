"""What a training step cannot do without: the passes over the map, and the small networks.

The floor has no autograd and no small networks: the poolings, the products and their derivatives
with given gates, in PyTorch's operations, each as often as the formulas of the chapters ask for
it. The networks are the layer's own, on what is pooled, by autograd. What a layer takes beyond
both is its overhead. (Blocks that stay in a cache, or a compiler that fuses passes, may go below.)
"""

import torch

from attn_lib.layers._fast import total


def _channel(x, dy, t):
    """SE and ECA: mean, product; the gate's gradient, that of x, and the mean's share of it."""
    n, c, _, _ = x.shape
    s = x.new_full((n, c, 1, 1), 0.5)

    def step():
        total(x, (2, 3))
        x * s
        dx = x * dy
        total(dx, (2, 3))
        torch.mul(dy, s, out=dx).add_(s)

    return step


def _cbam(x, dy, t):
    n, c, h, w = x.shape
    s, m = x.new_full((n, c, 1, 1), 0.5), x.new_full((n, 1, h, w), 0.5)

    def step():
        total(x, (2, 3)), x.amax((2, 3))
        scaled = x * s
        total(scaled, (1,)), scaled.amax(1)
        scaled.mul_(m)
        dscaled = (x * s).mul_(dy)
        total(dscaled, (1,))
        torch.mul(dy, m, out=dscaled).add_(m)
        dx = x * dscaled
        total(dx, (2, 3))
        torch.mul(dscaled, s, out=dx).add_(s)

    return step


def _coordinate(x, dy, t):
    n, c, h, w = x.shape
    format = torch.channels_last if x.stride(1) == 1 else torch.contiguous_format
    g_h = x.new_full((n, c, h, 1), 0.5).contiguous(memory_format=format)
    g_w = x.new_full((n, c, 1, w), 0.5).contiguous(memory_format=format)

    def step():
        total(x, (3,)), total(x, (2,))
        (x * g_h).mul_(g_w)
        dx = (dy * g_h).mul_(g_w)
        torch.mul(x, dx, out=t)
        total(t, (3,)), total(t, (2,))
        dx.add_(g_h).add_(g_w)

    return step


def _bam(x, dy, t):
    """Without the convolutions of the spatial branch, which are most of the layer."""
    n, c, h, w = x.shape
    a, b = x.new_full((n, c, 1, 1), 0.5), x.new_full((n, 1, h, w), 0.5)

    def step():
        total(x, (2, 3))
        torch.mul(a, b, out=torch.empty_like(x)).sigmoid_().add_(1).mul_(x)
        gate = torch.mul(a, b, out=t).sigmoid_()
        dx = torch.addcmul(dy, dy, gate)
        da = x * dy
        torch.ops.aten.sigmoid_backward.grad_input(da, gate, grad_input=da)
        total(torch.mul(da, b, out=gate), (2, 3))
        total(da.mul_(a), (1,))
        dx.add_(a)

    return step


_STEPS = {"se": _channel, "eca": _channel, "cbam": _cbam, "coordinate": _coordinate, "bam": _bam}


def floor(name, x, dy):
    """Function without arguments that does the passes of one training step."""
    x = x.detach()
    step = _STEPS[name](x, dy, torch.empty_like(x))
    return torch.no_grad()(step)


def networks(name, layer, x):
    """Function that goes forward and backward through the layer's small networks alone."""
    run, inputs = _NETWORKS[name](layer, x.detach())
    inputs = [z.requires_grad_() for z in inputs]
    ones = [torch.ones_like(a) for a in run(*inputs)]

    def step():
        layer.zero_grad(set_to_none=True)
        for z in inputs:
            z.grad = None
        torch.autograd.backward(run(*inputs), ones)

    return step


def _se_networks(layer, x):
    return lambda z: (torch.sigmoid(layer.fc2(torch.relu(layer.fc1(z)))),), [x.mean((2, 3))]


def _eca_networks(layer, x):
    return lambda z: (torch.sigmoid(layer.conv(z)),), [x.mean((2, 3))[:, None]]


def _cbam_networks(layer, x):
    def run(average, maximum, planes):
        return layer.channel._gate(average, maximum), layer.spatial._gate(planes)

    planes = x[:, :2].contiguous(memory_format=torch.channels_last)
    return run, [x.mean((2, 3)), x.amax((2, 3)), planes]


def _coordinate_networks(layer, x):
    def run(z):
        f_h, f_w = layer._encode(z).split((x.shape[2], x.shape[3]), 2)
        return layer.conv_h(f_h), layer.conv_w(f_w.transpose(2, 3))

    return run, [torch.cat((x.mean(3, keepdim=True), x.mean(2)[..., None]), 2)]


def _bam_networks(layer, x):
    def run(z, x):
        return layer.channel(z), layer.spatial(x)

    return run, [x.mean((2, 3)), x.clone()]


_NETWORKS = {
    "se": _se_networks,
    "eca": _eca_networks,
    "cbam": _cbam_networks,
    "coordinate": _coordinate_networks,
    "bam": _bam_networks,
}
