"""Efficient multi-scale attention: its equation, group by group, and the authors' names."""

import pytest
import torch
from naive import assert_same, normalise, randomised
from torch import nn
from torch.nn import functional as F

from attn_lib import models
from attn_lib.convert import from_official
from attn_lib.layers import EfficientMultiScaleAttention


def naive(groups):
    """One sample and one group at a time (YOLOonMe/EMA-attention-module)."""

    def gate(u, p):  # (m, H, W) -> (H, W)
        w1, b1 = p["conv1x1.weight"][:, :, 0, 0], p["conv1x1.bias"][:, None]
        k_h, k_w = (1 / (1 + torch.exp(-(w1 @ u.mean(axis) + b1))) for axis in (2, 1))
        x1 = u * k_h[:, :, None] * k_w[:, None, :]
        x1 = normalise(x1[None], p["gn.weight"], p["gn.bias"], (2, 3))[0]
        x2 = F.conv2d(u[None], p["conv3x3.weight"], p["conv3x3.bias"], padding=1)[0]
        a1, a2 = (torch.exp(z.mean((1, 2))) for z in (x1, x2))
        a = torch.einsum("m,mij->ij", a1 / a1.sum(), x2)
        a = a + torch.einsum("m,mij->ij", a2 / a2.sum(), x1)
        return 1 / (1 + torch.exp(-a))

    def compute(x, p):
        samples = [[u * gate(u, p) for u in sample.chunk(groups)] for sample in x]
        return torch.stack([torch.cat(sample) for sample in samples])

    return compute


@pytest.mark.parametrize("channels, groups", [(12, 4), (6, 6), (8, 1)])
def test_equation(channels, groups):
    layer = randomised(EfficientMultiScaleAttention(channels, groups))
    assert_same(layer, naive(groups), (2, channels, 5, 3))


def test_groups_that_do_not_divide_the_channels():
    assert EfficientMultiScaleAttention(48).groups == 16
    assert EfficientMultiScaleAttention(24).groups == 8
    layer = randomised(EfficientMultiScaleAttention(3))  # one group
    assert torch.isfinite(layer(torch.randn(2, 3, 1, 1, dtype=torch.float64))).all()


def test_one_softmax_does_not_depend_on_the_input():
    layer = randomised(EfficientMultiScaleAttention(12, 4))
    seen = []
    layer.gn.register_forward_hook(lambda module, args, y: seen.append(y.mean((2, 3))))
    layer(torch.randn(2, 12, 5, 3, dtype=torch.float64))
    torch.testing.assert_close(seen[0], layer.gn.bias.expand(8, 3))


def test_official_names():
    official = nn.Module()
    official.gn, official.conv1x1 = nn.GroupNorm(3, 3), nn.Conv2d(3, 3, 1)
    official.conv3x3 = nn.Conv2d(3, 3, 3, padding=1)
    state = official.state_dict()
    EfficientMultiScaleAttention(12, 4).load_state_dict(from_official("ema", state))
    with pytest.raises(ValueError, match="cannot place 'conv5x5.weight'"):
        from_official("ema", state | {"conv5x5.weight": torch.ones(1)})
    with pytest.raises(ValueError, match="lacks 'gn.bias'"):
        from_official("ema", {k: v for k, v in state.items() if k != "gn.bias"})


def test_a_whole_network_of_any_number_of_groups():
    with torch.device("meta"):
        state = models.resnet(18, "ema", groups=8).state_dict()
    official = {name.replace("attention", "ema"): tensor for name, tensor in state.items()}
    assert from_official("ema", official).keys() == state.keys()
