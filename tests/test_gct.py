"""GCT: its equations, large values in half precision, and the authors' names."""

import pytest
import torch
from naive import assert_same, randomised
from torch import nn

from attn_lib import layers
from attn_lib.convert import from_official
from attn_lib.layers import GatedChannelTransformation


def naive(norm):
    """Yang et al. as the authors' PyTorch/GCT.py computes it, sums written out."""

    def compute(x, p):
        alpha, gamma, beta = (p[name][0, :, 0, 0] for name in ("alpha", "gamma", "beta"))
        if norm == "l2":
            u = alpha * (torch.einsum("nchw,nchw->nc", x, x) + 1e-5) ** 0.5
            v = gamma * u / ((u * u).mean(1, keepdim=True) + 1e-5) ** 0.5
        else:
            u = alpha * torch.einsum("nchw,nchw->nc", x, torch.sign(x))
            v = gamma * u / ((u * torch.sign(u)).mean(1, keepdim=True) + 1e-5)
        return x * (1 + torch.tanh(v + beta))[:, :, None, None]

    return compute


@pytest.mark.parametrize("norm", ["l2", "l1"])
@pytest.mark.parametrize("shape", [(2, 4, 5, 3), (3, 1, 1, 1)])
def test_equation(norm, shape):
    layer = randomised(GatedChannelTransformation(shape[1], norm))
    assert_same(layer, naive(norm), shape)


@pytest.mark.parametrize("norm", ["l2", "l1"])
def test_starts_as_the_identity_and_takes_zeros(norm):
    layer = GatedChannelTransformation(4, norm)
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(layer(x), x)
    x = torch.zeros(2, 4, 3, 3, requires_grad=True)
    layer(x).sum().backward()
    assert torch.isfinite(x.grad).all()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


def test_the_sum_of_many_squares_does_not_overflow():
    layer = randomised(GatedChannelTransformation(4)).float()
    x = 20 * torch.randn(2, 4, 64, 64, generator=torch.Generator().manual_seed(0))
    wanted = layer.gates(x)["channel"]
    half = layer.half().gates(x.half())["channel"]
    torch.testing.assert_close(half.float(), wanted, rtol=0.01, atol=0.01)


def test_official_names():
    official = nn.Module()
    for name in ("alpha", "gamma", "beta"):
        setattr(official, name, nn.Parameter(torch.randn(1, 8, 1, 1)))
    state = official.state_dict()
    converted = from_official("gct", state)
    GatedChannelTransformation(8).load_state_dict(converted)
    assert converted.keys() == state.keys()
    with pytest.raises(ValueError, match="delta"):
        from_official("gct", state | {"delta": torch.ones(1, 8, 1, 1)})


def test_unknown_norm():
    with pytest.raises(ValueError, match="norm must be 'l2' or 'l1'; got 'max'"):
        layers.build("gct", 8, norm="max")
