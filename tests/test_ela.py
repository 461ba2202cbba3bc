"""Efficient local attention: its listing, row by row, and its names."""

import pytest
import torch
from naive import assert_same, randomised
from torch import nn

from attn_lib.convert import from_official
from attn_lib.layers import EfficientLocalAttention

VERSIONS = [{}, {"kernel_size": 5, "norm_groups": 32}, {"kernel_size": 5, "width": 8}]


def naive(layer):
    """The paper's listing with the convolution and the norm written out."""
    k, width, groups = layer.kernel_size, layer.width, layer.gn.num_groups

    def gate(z, p):
        n, c, length = z.shape
        rows = []
        for i in range(c):
            first = i // width * width
            row = 0
            for offset in range(k):
                shifted = torch.zeros(n, width, length, dtype=z.dtype)
                for place in range(length):
                    if 0 <= place + offset - k // 2 < length:
                        source = z[:, first : first + width, place + offset - k // 2]
                        shifted[:, :, place] = source
                row = row + (shifted * p["conv.weight"][i, :, offset, None]).sum(1)
            rows.append(row)
        a = torch.stack(rows, 1).reshape(n, groups, -1)
        mean = a.mean(2, keepdim=True)
        a = (a - mean) / ((a - mean).square().mean(2, keepdim=True) + 1e-5).sqrt()
        a = a.reshape(n, c, length) * p["gn.weight"][:, None] + p["gn.bias"][:, None]
        return 1 / (1 + torch.exp(-a))

    def compute(x, p):
        return x * gate(x.mean(3), p)[:, :, :, None] * gate(x.mean(2), p)[:, :, None, :]

    return compute


@pytest.mark.parametrize("options", VERSIONS, ids=str)
def test_equation(options):
    layer = randomised(EfficientLocalAttention(32, **options))
    assert_same(layer, naive(layer), (2, 32, 5, 3))


def test_channels_that_the_groups_do_not_divide():
    layer = randomised(EfficientLocalAttention(6, width=8))
    assert (layer.gn.num_groups, layer.conv.groups) == (2, 3)
    assert_same(layer, naive(layer), (2, 6, 1, 3))


def test_official_names():
    official = nn.Module()
    official.conv = nn.Conv1d(32, 32, 5, padding=2, groups=4, bias=False)
    official.gn = nn.GroupNorm(16, 32)
    state = randomised(official).state_dict()
    layer = EfficientLocalAttention(32, kernel_size=5, width=8)
    converted = from_official("ela", state)
    layer.load_state_dict(converted)
    assert all(converted[name] is tensor for name, tensor in state.items())
    with pytest.raises(ValueError, match="cannot place 'conv_h.weight'"):  # timm's is another layer
        from_official("ela", {"conv_h.weight": torch.ones(8, 1, 7, 1)})


def test_even_kernel():
    with pytest.raises(ValueError, match="kernel_size must be odd.*got 4"):
        EfficientLocalAttention(8, kernel_size=4)


def test_one_value_for_a_group_norm():
    layer = EfficientLocalAttention(16)
    with pytest.raises(ValueError, match="more than 1 value"):
        layer(torch.randn(1, 16, 1, 1))
    assert torch.isfinite(layer(torch.randn(2, 16, 1, 1))).all()
