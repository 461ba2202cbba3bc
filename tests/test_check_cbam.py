"""The checks of the CBAM exercises: solutions pass, mistakes get their message, stubs are quiet."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from attn_lib import check

C = check.cbam


class ChannelGate(nn.Module):
    def __init__(self, channels, reduction, end=torch.sigmoid):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)
        self.end = end

    def mlp(self, z):
        return self.fc2(torch.relu(self.fc1(z)))

    def forward(self, x):
        a = self.mlp(x.mean((2, 3))) + self.mlp(x.amax((2, 3)))
        return self.end(a)[:, :, None, None]


class TwoMLPs(ChannelGate):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.other = ChannelGate(channels, reduction)


class MeanOnly(ChannelGate):
    def forward(self, x):
        return torch.sigmoid(self.mlp(x.mean((2, 3))))[:, :, None, None]


class Flat(ChannelGate):
    def forward(self, x):
        return super().forward(x)[:, :, 0, 0]


def spatial_gate(x, weight, order=("max", "mean"), end=torch.sigmoid, padding=None):
    maps = {"max": x.amax(1, keepdim=True), "mean": x.mean(1, keepdim=True)}
    pooled = torch.cat([maps[name] for name in order], 1)
    return end(F.conv2d(pooled, weight, padding=weight.shape[-1] // 2 if padding is None else 0))


def combine(x, channel_gate, spatial_gate):
    x = channel_gate(x) * x
    return spatial_gate(x) * x


def max_pool_backward(dz, x, share=False):
    flat = x.reshape(*x.shape[:2], -1)
    dx = np.zeros_like(flat)
    np.put_along_axis(dx, flat.argmax(-1)[..., None], dz[..., None], axis=-1)
    return dx.reshape(x.shape)


def share(dz, x):
    tied = x == x.max((2, 3), keepdims=True)
    return tied * (dz / tied.sum((2, 3)))[:, :, None, None]


def parameters(channels, reduction, kernel_size, mlps=1, norm=2):
    hidden = channels // reduction
    return mlps * (2 * channels * hidden + hidden + channels) + 2 * kernel_size**2 + norm


def receptive_field(convolutions):
    return 1 + sum(d * (k - 1) for k, d in convolutions)


def fold(conv, bn, eps=None):
    scale = bn.weight / torch.sqrt(bn.running_var + (bn.eps if eps is None else eps))
    return conv.weight * scale, bn.bias - scale * bn.running_mean


def conv_input_gradient(da, weight, turn=True):
    kernel = weight[::-1, ::-1] if turn else weight
    r = len(weight) // 2
    padded = np.pad(da, r)
    h, w = da.shape
    return sum(
        kernel[u, v] * padded[u : u + h, v : v + w]
        for u in range(len(weight))
        for v in range(len(weight))
    )


def lse_pool(x, t):
    x = x.flatten(2)
    return (torch.logsumexp(t * x, 2) - np.log(x.shape[2])) / t


def pool(x):
    return x.mean((2, 3)), x.amax((2, 3))


SOLUTIONS = {
    "pool": pool,
    "channel_gate": ChannelGate,
    "spatial_gate": spatial_gate,
    "combine": combine,
    "max_pool_backward": max_pool_backward,
    "parameters": parameters,
    "receptive_field": receptive_field,
    "fold": fold,
    "conv_input_gradient": conv_input_gradient,
    "lse_pool": lse_pool,
}

MISTAKES = [
    ("pool", lambda x: pool(x)[::-1], "swapped"),
    ("pool", lambda x: (x.mean(1), x.amax(1)), "wrong axes"),
    ("pool", lambda x: tuple(z[:, :, None, None] for z in pool(x)), "axes of length 1"),
    ("pool", lambda x: (x.mean((0, 2, 3)), x.amax((0, 2, 3))), "over the batch"),
    ("pool", lambda x: x.mean((2, 3)), "two tensors"),
    ("channel_gate", lambda c, r: ChannelGate(c, r, lambda a: a.softmax(1)), "compete"),
    ("channel_gate", TwoMLPs, "two MLPs"),
    ("channel_gate", MeanOnly, "that is SE"),
    ("channel_gate", Flat, r"shape \(N, C\)"),
    ("channel_gate", lambda c, r: nn.Linear(2 * c, c), "two nn.Linear"),
    ("channel_gate", lambda c, r: 3, "torch.nn.Module"),
    ("spatial_gate", lambda x, w: spatial_gate(x, w, ("mean", "max")), "maximum first"),
    ("spatial_gate", lambda x, w: spatial_gate(x, w, padding=0), "padding is missing"),
    ("spatial_gate", lambda x, w: spatial_gate(x, w) * x, "product with x"),
    (
        "spatial_gate",
        lambda x, w: F.conv2d(torch.cat((x.amax((2, 3)), x.mean((2, 3))), 1)[:, :, None, None], w),
        "over the channels",
    ),
    (
        "spatial_gate",
        lambda x, w: spatial_gate(x, w, end=lambda a: a.flatten(1).softmax(1).reshape(a.shape)),
        "positions compete",
    ),
    ("combine", lambda x, c, s: c(x) * s(x) * x, "original input .that is the parallel"),
    ("combine", lambda x, c, s: s(c(x) * x) * x, "multiplies the original input"),
    ("combine", lambda x, c, s: c(s(x) * x) * s(x) * x, "comes first"),
    ("max_pool_backward", share, "share the gradient"),
    (
        "max_pool_backward",
        lambda dz, x: (x == x.max((2, 3), keepdims=True)) * dz[:, :, None, None],
        "more flows back",
    ),
    ("parameters", lambda c, r, k: parameters(c, r, k, mlps=2), "twice"),
    ("parameters", lambda c, r, k: parameters(c, r, k, norm=0), "batch norm is missing"),
    ("receptive_field", lambda chain: 1 + sum(k - 1 for k, d in chain), "dilation is left out"),
    ("receptive_field", lambda chain: sum(d * (k - 1) + 1 for k, d in chain), "overlap"),
    ("fold", lambda conv, bn: fold(conv, bn, eps=0), "eps is left out"),
    ("fold", lambda conv, bn: (fold(conv, bn)[0], bn.bias), "running mean is left out"),
    ("conv_input_gradient", lambda da, w: conv_input_gradient(da, w, turn=False), "not turned"),
    ("lse_pool", lambda x, t: torch.logsumexp(t * x.flatten(2), 2) / t, "grows with the size"),
    ("lse_pool", lambda x, t: (t * x).exp().mean((2, 3)).log() / t, "overflows"),
]


def test_every_check_has_a_solution_and_a_mistake():
    assert set(C.__all__) == set(SOLUTIONS) == {name for name, _, _ in MISTAKES}


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solution_passes(name, capsys):
    getattr(C, name)(SOLUTIONS[name])
    assert capsys.readouterr().out == f"cbam.{name}: passed\n"


@pytest.mark.parametrize("name, attempt, message", MISTAKES)
def test_mistake_is_named(name, attempt, message):
    with pytest.raises(check.Failed, match=message):
        getattr(C, name)(attempt)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_stub_is_quiet(name, capsys):
    getattr(C, name)(lambda *args: ...)
    assert capsys.readouterr().out == f"cbam.{name}: not attempted yet\n"
