"""What BAM does beyond what every layer does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attn_lib import layers, reference


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_equals_the_equations_written_out(combine):
    x = features(3, 8, 11, 9)
    layer = layers.BAM(8, reduction=4, dilation=2, combine=combine).double()
    w = layer.state_dict()

    def norm_relu(a):
        axes = [0, *range(2, a.dim())]
        var, mean = torch.var_mean(a, axes, correction=0, keepdim=True)
        return torch.relu((a - mean) / torch.sqrt(var + 1e-5))

    c = norm_relu(F.linear(x.mean((2, 3)), w["channel.fc1.weight"], w["channel.fc1.bias"]))
    c = F.linear(c, w["channel.fc2.weight"], w["channel.fc2.bias"])[:, :, None, None]
    s = norm_relu(F.conv2d(x, w["spatial.conv1.weight"], w["spatial.conv1.bias"]))
    for i in (2, 3):
        weight, bias = w[f"spatial.conv{i}.weight"], w[f"spatial.conv{i}.bias"]
        s = norm_relu(F.conv2d(s, weight, bias, padding=2, dilation=2))
    s = F.conv2d(s, w["spatial.conv4.weight"], w["spatial.conv4.bias"])
    a = c * s if combine == "product" else c + s
    torch.testing.assert_close(layer(x), (1 + torch.sigmoid(a)) * x)


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_gate_lies_between_one_and_two(combine):
    gate = layers.BAM(8, 2, combine=combine).double().gates(10 * features(4, 8, 9, 9))["joint"]
    assert gate.min() > 1 and gate.max() < 2


def test_zero_branches_give_three_halves():
    """Where both final maps are zero, the gate is 1 + sigmoid(0) for either way of combining."""
    x = features(2, 8, 5, 5)
    for combine in ("product", "sum"):
        layer = layers.BAM(8, 2, combine=combine).double()
        for last in (layer.channel.fc2, layer.spatial.conv4):
            torch.nn.init.zeros_(last.weight)
            torch.nn.init.zeros_(last.bias)
        torch.testing.assert_close(layer(x), 1.5 * x)


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_receptive_field_of_the_spatial_branch(dilation):
    """A square of 4 d + 1 positions a side, of which every d-th counts."""
    layer = layers.BAM(4, 2, dilation=dilation).double().eval()
    for parameter in layer.spatial.parameters():
        torch.nn.init.constant_(parameter, 0.1)
    x = features(1, 4, 41, 41).abs().requires_grad_()
    layer.spatial(x)[0, 0, 20, 20].backward()
    seen = np.argwhere(x.grad[0].abs().sum(0).numpy() > 0) - 20
    steps = dilation * np.arange(-2, 3)
    assert {tuple(p) for p in seen} == {(i, j) for i in steps for j in steps}


def test_a_batch_of_one_is_refused_in_training_only():
    x = features(1, 8, 6, 6)
    layer = layers.BAM(8, 2).double()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        layer(x)
    assert layer.eval()(x).shape == x.shape


@pytest.mark.parametrize("combine", ["product", "sum"])
def test_same_values_with_and_without_gradients(combine):
    layer = layers.BAM(8, 2, combine=combine).eval()
    x = features(2, 8, 6, 6).float()
    with torch.no_grad():
        without = layer(x)
    torch.testing.assert_close(layer(x), without, rtol=0, atol=0)


def test_maps_need_not_be_square():
    assert layers.BAM(8, 2).eval()(features(2, 8, 5, 12).float()).shape == (2, 8, 5, 12)


@pytest.mark.parametrize("channels, reduction", [(256, 16), (24, 8), (4, 16)])
def test_parameter_count(channels, reduction):
    layer = layers.BAM(channels, reduction)
    h = max(1, channels // reduction)
    channel = 2 * channels * h + channels + 3 * h  # two linear maps, one batch norm
    spatial = channels * h + 18 * h * h + 3 * h + 6 * h + h + 1
    assert sum(p.numel() for p in layer.parameters()) == channel + spatial


def test_unknown_combination_is_refused():
    with pytest.raises(ValueError, match="'product' or 'sum'; got 'mean'"):
        layers.BAM(8, combine="mean")
    x = np.zeros((2, 4, 3, 3))
    with pytest.raises(ValueError, match="'product' or 'sum'; got 'mean'"):
        reference.bam.forward(x, reference.bam.init(4), combine="mean")
