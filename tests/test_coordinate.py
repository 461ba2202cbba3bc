"""What is special to Coordinate Attention: its symmetries, its rank, and the authors' own layer."""

import numpy as np
import pytest
import torch
from cases import old_kinks
from torch import nn

from attn_lib import data, layers
from attn_lib.reference import coordinate


def layer_and_input(channels=8, h=5, w=7, n=3, **options):
    torch.manual_seed(0)
    layer = layers.CoordinateAttention(channels, **options).double()
    return layer, torch.randn(n, channels, h, w, dtype=torch.float64)


@pytest.mark.parametrize(
    "channels, reduction, hidden", [(64, 32, 8), (512, 32, 16), (96, 4, 24), (3, 1, 8), (18, 2, 9)]
)
def test_the_bottleneck_has_at_least_eight_channels(channels, reduction, hidden):
    layer = layers.CoordinateAttention(channels, reduction)
    assert layer.conv1.weight.shape == (hidden, channels, 1, 1)
    assert coordinate.init(channels, reduction)["conv1.weight"].shape == (hidden, channels, 1, 1)
    # C' C + C' + 2 C' + 2 (C C' + C) parameters
    expected = 3 * channels * hidden + 3 * hidden + 2 * channels
    assert sum(p.numel() for p in layer.parameters()) == expected


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("axis", [2, 3])
def test_permuting_rows_or_columns_permutes_the_output(axis, training):
    """Nothing absolute about position is encoded: the mechanism commutes with the permutation."""
    layer, x = layer_and_input()
    layer.train(training)
    order = torch.randperm(x.shape[axis])
    permuted = layer(x.index_select(axis, order))
    torch.testing.assert_close(permuted, layer(x).index_select(axis, order))


@pytest.mark.parametrize("training", [True, False])
def test_transposing_the_image_and_swapping_the_output_convolutions(training):
    layer, x = layer_and_input()
    layer.train(training)
    y = layer(x)
    layer.conv_h, layer.conv_w = layer.conv_w, layer.conv_h
    torch.testing.assert_close(layer(x.mT), y.mT)


def test_the_gate_of_a_channel_has_rank_one():
    layer, x = layer_and_input()
    gates = layer.gates(x)
    joint = gates["height"] * gates["width"]
    values = torch.linalg.svdvals(joint)
    assert (values[..., 1] < 1e-12 * values[..., 0]).all()


def test_the_strips_meet_only_in_the_batch_statistics():
    """In evaluation g_h(i) is a function of row i alone; in training every strip moves it."""
    layer, x = layer_and_input()
    other = x.clone()
    other[:, :, 1:] += torch.randn_like(other[:, :, 1:])  # every row but the first
    first = [layer.eval().gates(a)["height"][:, :, 0] for a in (x, other)]
    torch.testing.assert_close(*first)
    first = [layer.train().gates(a)["height"][:, :, 0] for a in (x, other)]
    assert not torch.allclose(*first)


def test_constant_input_has_constant_gates():
    layer, _ = layer_and_input()
    x = torch.ones(2, 8, 5, 7, dtype=torch.float64)
    gates = layer.eval().gates(x)
    for gate in gates.values():
        torch.testing.assert_close(gate, gate[:, :, :1, :1].expand_as(gate))


@pytest.mark.parametrize("axes", ["height", "width"])
def test_one_axis_alone_ignores_the_other(axes):
    layer, x = layer_and_input(axes=axes)
    averaged = {"height": 3, "width": 2}[axes]
    order = torch.randperm(x.shape[averaged])
    assert list(layer.gates(x)) == [axes]
    (gate,) = layer.gates(x).values()
    (same,) = layer.gates(x.index_select(averaged, order)).values()
    torch.testing.assert_close(gate, same)


def test_axes_are_checked():
    with pytest.raises(ValueError, match="axes must be .*got 'rows'"):
        layers.CoordinateAttention(8, axes="rows")


@pytest.mark.skipif(old_kinks(), reason="PyTorch 2.7 takes other slopes at hard swish's kinks")
@pytest.mark.parametrize("at", [-3.0, 3.0])
def test_gradient_at_the_kinks_of_hard_swish(at):
    """Batch norm can be made to land on a kink exactly; NumPy and PyTorch pick the same slope."""
    layer, x = layer_and_input()
    layer.eval()
    with torch.no_grad():
        layer.conv1.weight.zero_()
        layer.conv1.bias.zero_()
        layer.bn1.bias.fill_(at)  # every entry of f is hard_swish(at)
    params = {name: value.numpy() for name, value in layer.state_dict().items()}
    y, cache = coordinate.forward(x.numpy(), params, training=False)
    dx, grads = coordinate.backward(np.ones_like(y), cache)
    layer(x.requires_grad_()).sum().backward()
    np.testing.assert_allclose(dx, x.grad, atol=1e-12)
    np.testing.assert_allclose(grads["bn1.bias"], layer.bn1.bias.grad, atol=1e-12)


class Official(nn.Module):
    """The computation of the authors' coordatt.py, written from its description.

    Adaptive pools, the columns' strip turned by a transposition, hard swish as
    a relu6(a + 3) / 6, and the width's gate multiplied first.
    """

    def __init__(self, channels, reduction=32):
        super().__init__()
        hidden = max(8, channels // reduction)
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv_h = nn.Conv2d(hidden, channels, 1)
        self.conv_w = nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        rows = nn.functional.adaptive_avg_pool2d(x, (h, 1))
        columns = nn.functional.adaptive_avg_pool2d(x, (1, w)).transpose(2, 3)
        a = self.bn1(self.conv1(torch.cat([rows, columns], 2)))
        rows, columns = (a * nn.functional.relu6(a + 3) / 6).split([h, w], 2)
        return x * self.conv_w(columns.transpose(2, 3)).sigmoid() * self.conv_h(rows).sigmoid()


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_official_computation_with_its_state_dict(training):
    layer, x = layer_and_input(channels=48, reduction=4)
    official = Official(48, 4).double()
    layer.load_state_dict(official.state_dict())
    torch.testing.assert_close(layer.train(training)(x), official.train(training)(x))


def turn(x, k):
    """Images of pointed_digits with bars moved: for k = 1 the right one, 2 the lower, 3 both."""
    x = x.clone()
    if k & 1:
        x[:, 1, :16, 16:] = x[:, 1, :16, 16:].roll(8, 1)
    if k & 2:
        x[:, 1, 16:, :16] = x[:, 1, 16:, :16].roll(8, 2)
    return x


def test_pointed_digits_are_labelled_by_their_bars():
    split = data.pointed_digits(n_train=50, n_test=20)
    assert split.x_train.shape == (50, 2, 20, 20) and split.x_test.shape == (20, 2, 20, 20)
    digits = data.digits()
    for x, y in zip(split.x_train, split.y_train, strict=True):
        row, column = int(x[1, 12, 18]), int(x[1, 18, 12])  # a bar over the second half
        assert x[1].sum() == 2 * 8 * 4 and x[0, 16:].sum() == x[0, :, 16:].sum() == 0
        digit = x[0, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8]
        (found,) = (digits.x_train[:, 0] == digit).all(2).all(1).nonzero()[:1]
        assert digits.y_train[found] == y
    with pytest.raises(ValueError, match="between 2 and 10; got 1"):
        data.pointed_digits(classes=1)


@pytest.mark.parametrize(
    "name, options, blind",
    [
        (None, {}, (1, 2, 3)),
        ("se", {"reduction": 4}, (1, 2, 3)),
        ("eca", {}, (1, 2, 3)),
        ("coordinate", {"axes": "height"}, (2,)),
        ("coordinate", {"axes": "width"}, (1,)),
        ("coordinate", {}, ()),
    ],
    ids=str,
)
def test_what_a_patch_network_cannot_tell_apart(name, options, blind):
    """The logits of the same digits under other bars: equal where the docstring says so."""
    torch.manual_seed(0)
    gate = layers.build(name, 16, **options) if name else nn.Identity()
    network = nn.Sequential(
        nn.Conv2d(2, 16, 4, stride=4),
        nn.ReLU(),
        gate,
        nn.Conv2d(16, 16, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )
    network = network.double().eval()
    x = data.pointed_digits(n_train=8, n_test=1, dtype=torch.float64).x_train
    for k in (1, 2, 3):
        same = torch.allclose(network(turn(x, k)), network(x), rtol=0, atol=1e-12)
        assert same == (k in blind), k
