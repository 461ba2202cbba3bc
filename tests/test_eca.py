"""ECA: the kernel rule, the band and its ends, symmetries, and the published parameter counts."""

import numpy as np
import pytest
import torch

from attn_lib import layers, models, reference
from attn_lib.layers import EfficientChannelAttention
from attn_lib.layers import eca as eca_layer


def layer_with(kernel, channels):
    """ECA with the given kernel, in float64."""
    layer = EfficientChannelAttention(channels, len(kernel)).double()
    with torch.no_grad():
        layer.conv.weight.copy_(torch.tensor(kernel, dtype=torch.float64).reshape(1, 1, -1))
    return layer


@pytest.mark.parametrize(
    "channels, k",
    [(1, 1), (7, 1), (8, 3), (16, 3), (32, 3), (64, 3), (127, 3), (128, 5), (256, 5), (512, 5)]
    + [(1024, 5), (2047, 5), (2048, 7), (4096, 7)],
)
def test_kernel_rule(channels, k):
    assert EfficientChannelAttention(channels).kernel_size == k
    assert reference.eca.kernel_size_for(channels) == k


def test_both_rules_are_one():
    for channels in (1, 3, 40, 128, 2048):
        for gamma, b in [(2, 1), (1, 1), (4, 0), (-2, 1), (0.5, -3), (3.7, 100)]:
            k = reference.eca.kernel_size_for(channels, gamma, b)
            assert k % 2 == 1 and k >= 1
            assert eca_layer.kernel_size_for(channels, gamma, b) == k


def test_the_rule_is_the_nearest_odd_number_with_ties_upwards():
    ties = []
    for channels in range(1, 5000):
        t = abs((np.log2(channels) + 1) / 2)
        k = reference.eca.kernel_size_for(channels)
        assert abs(k - t) <= 1 + 1e-12
        if t == int(t) and int(t) % 2 == 0:
            ties.append(channels)
            assert k == t + 1
    assert ties == [8, 128, 2048]


@pytest.mark.parametrize("kernel_size", [2, 4, 10])
def test_an_even_kernel_is_refused(kernel_size):
    with pytest.raises(ValueError, match=f"kernel_size must be odd.*got {kernel_size}"):
        EfficientChannelAttention(8, kernel_size)


@pytest.mark.parametrize(
    "kernel_size, error", [(0, ValueError), (-3, ValueError), (3.0, TypeError)]
)
def test_kernel_sizes_that_are_no_positive_integer(kernel_size, error):
    with pytest.raises(error, match=f"kernel_size must be an integer.*got {kernel_size}"):
        EfficientChannelAttention(8, kernel_size)


@pytest.mark.parametrize("gamma, b", [(0, 1), (float("nan"), 1), (float("inf"), 1), (2, np.nan)])
def test_gamma_and_b_that_make_no_rule(gamma, b):
    with pytest.raises(ValueError, match="gamma must be non-zero, and both finite"):
        EfficientChannelAttention(8, gamma=gamma, b=b)
    with pytest.raises(ValueError, match="gamma must be non-zero, and both finite"):
        reference.eca.kernel_size_for(8, gamma, b)


def test_kernel_size_given_needs_no_rule():
    assert EfficientChannelAttention(8, 5, gamma=0).kernel_size == 5


@pytest.mark.parametrize("k", [1, 3, 5, 7])
@pytest.mark.parametrize("channels", [2, 5, 9])
def test_gate_is_the_convolution_module_that_the_layer_holds(k, channels):
    torch.manual_seed(0)
    layer = EfficientChannelAttention(channels, k).double()
    x = torch.randn(3, channels, 4, 5, dtype=torch.float64)
    wanted = torch.sigmoid(layer.conv(x.mean((2, 3))[:, None]))[:, 0, :, None, None]
    torch.testing.assert_close(layer.gates(x)["channel"], wanted, rtol=1e-12, atol=1e-12)


def test_channel_reads_its_neighbours_and_zeros_beyond_the_ends():
    layer = layer_with([1e-3, 1e-2, 1e-1], 4)
    z = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    a = torch.logit(layer.gates(z.reshape(1, 4, 1, 1))["channel"].flatten())
    torch.testing.assert_close(a, torch.tensor([0.210, 0.321, 0.432, 0.043], dtype=torch.float64))


def test_jacobian_of_the_logits_is_a_banded_toeplitz_matrix():
    kernel = [0.2, -0.5, 0.3]
    layer = layer_with(kernel, 6)

    def logits(z):
        return torch.logit(layer.gates(z.reshape(1, 6, 1, 1))["channel"].flatten())

    jacobian = torch.autograd.functional.jacobian(logits, torch.zeros(6, dtype=torch.float64))
    wanted = sum(
        value * np.eye(6, k=offset) for offset, value in zip((-1, 0, 1), kernel, strict=True)
    )
    np.testing.assert_allclose(jacobian, wanted, atol=1e-12)


def test_symmetries():
    """Where a value lies is nothing to ECA; the order of the channels is, but for a reversal."""
    torch.manual_seed(0)
    x = torch.randn(2, 6, 4, 4, dtype=torch.float64)
    layer = layer_with([0.7, -0.3, 0.7], 6)
    s = layer.gates(x)["channel"]
    torch.testing.assert_close(layer.gates(x.roll((1, 2), (2, 3)))["channel"], s)
    torch.testing.assert_close(layer.gates(x.flip(1))["channel"], s.flip(1))
    shuffled = torch.tensor([3, 0, 5, 1, 4, 2])
    assert not torch.allclose(layer.gates(x[:, shuffled])["channel"], s[:, shuffled], atol=0.01)


def test_samples_do_not_see_each_other():
    x = torch.randn(3, 8, 2, 2)
    layer = EfficientChannelAttention(8)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]))


@pytest.mark.parametrize(
    "depth, kernel_size, wanted",
    [
        (50, (3, 5, 5, 7), 80),  # the paper's count, and the released checkpoint's kernels
        (50, None, 86),  # the rule as the paper's listing rounds it
        (50, 5, 80),  # the rule with ties rounded down gives 5 everywhere
        (101, (3, 3, 5, 7), 157),
        (152, (3, 3, 5, 7), 234),
    ],
)
def test_parameters_that_eca_adds_to_a_resnet(depth, kernel_size, wanted):
    with torch.device("meta"):
        model = models.resnet(depth, attention="eca", kernel_size=kernel_size)
    added = sum(p.numel() for name, p in model.named_parameters() if "attention" in name)
    assert added == wanted


def test_parameters_that_eca_adds_to_mobilenet_v2():
    with torch.device("meta"):
        model = models.mobilenet_v2(attention="eca", kernel_size=(1, 1, 1, 1, 1, 3, 3))
    kernels = [p.numel() for name, p in model.named_parameters() if "attention" in name]
    assert kernels == [1] * 13 + [3] * 4  # one behind each of the 17 blocks


def test_state_dict_is_the_official_one():
    state = layers.build("eca", 16, kernel_size=5).state_dict()
    assert {name: tuple(value.shape) for name, value in state.items()} == {"conv.weight": (1, 1, 5)}


def test_repr_says_what_the_rule_chose():
    assert "channels=256, kernel_size=5" in repr(EfficientChannelAttention(256))
