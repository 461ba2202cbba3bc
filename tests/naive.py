"""Layers held to a second, naive writing of their equations: outputs and all gradients."""

import torch


def randomised(layer, seed=0):
    """The layer in float64 with random parameters and running statistics: nothing is 0 or 1."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double()
    for tensor in layer.state_dict().values():
        if tensor.is_floating_point():
            values = torch.randn(tensor.shape, generator=generator, dtype=torch.float64)
            tensor.copy_(0.4 * values)
    for name, buffer in layer.named_buffers():
        if name.endswith("running_var"):
            buffer.abs_().add_(0.5)
    return layer


def assert_same(layer, naive, shape, seed=1):
    """``layer(x)`` is ``naive(x, parameters by name)``, and so is every gradient, to 1e-9."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
    dy = torch.randn(shape, generator=generator, dtype=torch.float64)
    parameters = dict(layer.named_parameters())
    results = []
    for y in (layer(x), naive(x, parameters)):
        assert y.shape == x.shape
        inputs = [x, *parameters.values()]
        results.append([y.detach(), *torch.autograd.grad(y, inputs, dy)])
    for name, ours, wanted in zip(["y", "x", *parameters], *results, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9, msg=lambda m, n=name: n + m)


def normalise(z, weight, bias, axes):
    """(z - mean) / sqrt(variance + 1e-5) over ``axes``, then weight and bias for each channel."""
    mean = z.mean(axes, keepdim=True)
    variance = (z - mean).square().mean(axes, keepdim=True)
    per_channel = (1, -1) + (1,) * (z.dim() - 2)
    z = (z - mean) / (variance + 1e-5).sqrt()
    return z * weight.reshape(per_channel) + bias.reshape(per_channel)
