"""MobileNetV2: the papers' counts, where attention sits, and how it starts."""

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_lib.inspection import record_gates
from attn_lib.models import mobilenet_v2


def meta_model(*args, **options):
    with torch.device("meta"):
        return mobilenet_v2(*args, **options).eval()


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def multiply_adds(model):
    with FlopCounterMode(display=False) as counter:
        model(torch.empty(1, 3, 224, 224, device="meta"))
    return counter.get_total_flops() // 2


@pytest.mark.parametrize(
    "options, millions, million_multiply_adds",
    [
        ({}, 3.50, 300),
        ({"attention": "se", "reduction": 24}, 3.89, 300),
        ({"attention": "cbam", "reduction": 24}, 3.89, 300),
        ({"attention": "coordinate", "reduction": 32}, 3.95, 310),
    ],
    ids=str,
)
def test_the_table_of_the_coordinate_attention_paper(options, millions, million_multiply_adds):
    """Parameters in millions, multiply-adds to the two digits that are printed there."""
    model = meta_model(**options)
    assert round(parameters(model) / 1e6, 2) == millions
    assert round(multiply_adds(model) / 1e7) * 10 == million_multiply_adds


@pytest.mark.parametrize(
    "width, channels",
    [
        (1.0, [32, 16, 24, 32, 64, 96, 160, 320, 1280]),
        (0.75, [24, 16, 24, 24, 48, 72, 120, 240, 1280]),
        (0.5, [16, 8, 16, 16, 32, 48, 80, 160, 1280]),
        (1.4, [48, 24, 32, 48, 88, 136, 224, 448, 1792]),
    ],
)
def test_widths(width, channels):
    """Each layer's channels are rounded to a multiple of 8, never more than 10 % down."""
    features = meta_model(width).features
    firsts = [features[i].conv[-1].num_features for i in (1, 2, 4, 7, 11, 14, 17)]
    assert [features[0][1].num_features, *firsts, features[18][1].num_features] == channels


@pytest.mark.parametrize(
    "attention, placement, blocks",
    [
        ("coordinate", None, range(2, 18)),
        ("se", None, range(2, 18)),
        ("eca", None, range(1, 18)),
        ("eca", "depthwise", range(2, 18)),
        ("coordinate", "projection", range(1, 18)),
    ],
)
def test_where_attention_sits(attention, placement, blocks):
    model = meta_model(0.5, attention, placement=placement)
    with record_gates(model) as gates:
        model(torch.empty(2, 3, 64, 64, device="meta"))
    assert list(gates) == [f"features.{i}.attention" for i in blocks]
    block = model.features[9]
    expanded, out = block.conv[1][1].num_features, block.conv[-1].num_features
    inside = placement == "depthwise" or (placement is None and attention != "eca")
    gate = next(iter(gates["features.9.attention"].values()))
    assert gate.shape[1] == (expanded if inside else out)


def test_coordinate_attention_starts_as_its_authors_network_does():
    """By hand from mbv2_ca.py: every convolution, the mechanism's too, N(0, 2 / fan-out)."""
    torch.manual_seed(0)
    layer = mobilenet_v2(1.0, "coordinate").features[16].attention  # 960 channels, 30 inside
    assert not any(p.any() for name, p in layer.named_parameters() if name.endswith("bias"))
    assert layer.conv1.weight.std().item() == pytest.approx((2 / 30) ** 0.5, rel=0.02)
    for conv in (layer.conv_h, layer.conv_w):
        assert conv.weight.std().item() == pytest.approx((2 / 960) ** 0.5, rel=0.02)


def test_other_mechanisms_keep_their_own_initialisation():
    torch.manual_seed(0)
    layer = mobilenet_v2(1.0, "se", reduction=24).features[16].attention
    assert layer.fc1.weight.std().item() == pytest.approx((3 * 960) ** -0.5, rel=0.02)
    assert layer.fc1.bias.any()


def test_dropout():
    assert mobilenet_v2(0.25).classifier[0].p == 0.2
    assert mobilenet_v2(0.25, dropout=0.1).classifier[0].p == 0.1


class Zero(nn.Module):
    def forward(self, x):
        return x * 0


@pytest.mark.parametrize("placement", ["depthwise", "projection"])
def test_a_closed_gate_leaves_the_shortcut(placement):
    """Behind "depthwise" the projection's batch norm still adds its constant."""
    torch.manual_seed(0)
    model = mobilenet_v2(0.5, lambda channels: Zero(), placement=placement).eval()
    block = model.features[9]
    nn.init.ones_(block.conv[-1].bias)
    x = torch.randn(1, block.conv[-1].num_features, 5, 5)
    torch.testing.assert_close(block(x), x + (placement == "depthwise"))


def test_one_option_a_stage():
    sizes = (1, 1, 1, 1, 1, 3, 3)
    model = meta_model(attention="eca", kernel_size=sizes)
    assert model.features[1].attention.kernel_size == 1
    assert model.features[13].attention.kernel_size == 1
    assert model.features[14].attention.kernel_size == 3
    with pytest.raises(ValueError, match="each of the 7 stages"):
        mobilenet_v2(attention="eca", kernel_size=(3, 5))


def test_a_training_step_moves_every_parameter():
    torch.manual_seed(0)
    model = mobilenet_v2(0.5, "coordinate", num_classes=4)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    logits = model(torch.randn(4, 3, 64, 64))
    assert logits.shape == (4, 4)
    nn.functional.cross_entropy(logits, torch.arange(4)).backward()
    optimizer.step()
    for name, parameter in model.named_parameters():
        if not name.endswith("conv1.bias"):  # in front of a batch norm: its gradient is zero
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize(
    "width, options, message",
    [
        (0, {}, "width must be a positive number; got 0"),
        (float("nan"), {}, "width must be a positive number; got nan"),
        (1.0, {"placement": "post"}, "placement 'post'.*'depthwise', 'projection'"),
        (1.0, {"attention": "senet"}, "'senet'.*'se'"),
        (1.0, {"attention": "se", "ratio": 4}, "no option 'ratio'"),
    ],
)
def test_bad_arguments_are_named(width, options, message):
    with pytest.raises(ValueError, match=message):
        mobilenet_v2(width, **options)
