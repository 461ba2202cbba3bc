"""The formulas of the costs are what is counted, in every mode, dtype and shape."""

import pytest
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attn_lib import layers, models
from attn_lib.cost import Cost, layer_cost, model_cost, saved_bytes

LAYERS = {
    "se": lambda: layers.SqueezeExcitation(32),
    "se without biases": lambda: layers.SqueezeExcitation(32, reduction=5, bias=False),
    "channel half": lambda: layers.ChannelAttention(32),
    "spatial half": lambda: layers.SpatialAttention(3),
    "cbam": lambda: layers.CBAM(32, reduction=8, kernel_size=5),
    "bam": lambda: layers.BAM(32),
    "bam, sum": lambda: layers.BAM(32, reduction=8, dilation=2, combine="sum"),
    "eca": lambda: layers.EfficientChannelAttention(32),
    "eca, k = 1": lambda: layers.EfficientChannelAttention(32, kernel_size=1),
    "eca, k = 9": lambda: layers.EfficientChannelAttention(32, kernel_size=9),
    "coordinate": lambda: layers.CoordinateAttention(32),
    "coordinate, height": lambda: layers.CoordinateAttention(32, reduction=2, axes="height"),
    "coordinate, width": lambda: layers.CoordinateAttention(32, axes="width"),
}
SHAPES = [(2, 32, 7, 5), (3, 32, 1, 4), (2, 32, 6, 1), (5, 32, 12, 12)]
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_saved_bytes_of_known_operations(device):
    x = torch.zeros(4, 6, device=device, requires_grad=True)
    assert saved_bytes(nn.Sigmoid(), x) == 4 * 6 * 4  # its output
    assert saved_bytes(nn.Linear(6, 3, device=device), x) == 4 * 6 * 4  # input, not the weight
    assert saved_bytes(nn.Sequential(nn.Sigmoid(), nn.Sigmoid()), x) == 2 * 4 * 6 * 4

    class Square(nn.Module):
        def forward(self, x):
            return x[:2] * x.T[:, :2].T  # two views of one tensor: it is kept once

    assert saved_bytes(Square(), x) == 4 * 6 * 4
    with torch.no_grad():
        assert saved_bytes(nn.Sigmoid(), x) == 0


@each_layer
@pytest.mark.parametrize("shape", SHAPES)
def test_multiply_adds_and_parameters(make, shape):
    layer = make().eval()
    cost = layer_cost(layer, shape)
    counted = model_cost(layer, shape)
    assert counted.attention == Cost(cost.parameters, cost.multiply_adds)
    assert counted.backbone == Cost(0, 0)
    assert cost.parameters == sum(p.numel() for p in layer.parameters())


@each_layer
def test_the_counter_sees_what_runs(make):
    """A second count, on data, without what ``model_cost`` does."""
    layer, shape = make().eval(), (2, 32, 7, 5)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(torch.randn(shape))
    assert counter.get_total_flops() == 2 * layer_cost(layer, shape).multiply_adds


@each_layer
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_what_is_saved_for_backward(make, shape, training, dtype):
    layer = make().to(dtype).train(training)
    x = torch.randn(shape, dtype=dtype, requires_grad=True)
    assert layer_cost(layer, shape).saved_bytes == saved_bytes(layer, x)


def map_traffic(layer, x):
    """Bytes of the full-sized maps that operations read and write, and of the parameters."""
    size, moved = x.numel(), 0

    class Traffic(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal moved
            out = func(*args, **(kwargs or {}))
            if not func.is_view:
                flat = torch.utils._pytree.tree_leaves((args, kwargs, out))
                tensors = [t for t in flat if isinstance(t, torch.Tensor)]
                moved += sum(t.nbytes for t in tensors if t.numel() == size)
            return out

    with torch.no_grad(), Traffic():
        layer(x)
    return moved + sum(p.nbytes for p in layer.parameters())


@each_layer
def test_least_traffic(make):
    """As many passes over the map as operations on it: reads and writes, counted as they run."""
    layer = make().eval()
    x = torch.randn(2, 32, 40, 40)  # no smaller tensor has as many entries
    assert layer_cost(layer, x.shape).moved_bytes == map_traffic(layer, x)


def test_the_chapters_numbers():
    assert layer_cost(layers.SqueezeExcitation(64), (8, 64, 112, 112))[:3] == (
        2 * 64 * 4 + 4 + 64,
        8 * 2 * 64 * 4,
        2 * 8 * 64 * 112 * 112,
    )
    cbam = layer_cost(layers.CBAM(256), (1, 256, 56, 56))
    assert cbam.multiply_adds == 4 * 256 * 16 + 2 * 49 * 56 * 56  # CBAM-C2
    assert cbam.elementwise == 6 * 256 * 56 * 56
    assert cbam.moved_bytes == 4 * (8 * 256 * 56 * 56 + cbam.parameters)
    assert cbam.intensity == (cbam.multiply_adds + cbam.elementwise) / cbam.moved_bytes


def test_half_precision_halves_the_bytes():
    full, half = layers.SqueezeExcitation(16), layers.SqueezeExcitation(16).half()
    a, b = (layer_cost(layer, (2, 16, 8, 8)) for layer in (full, half))
    assert (a.moved_bytes, a.saved_bytes) == (2 * b.moved_bytes, 2 * b.saved_bytes)
    assert a[:3] == b[:3]


def test_batch_norm_keeps_its_statistics_in_training_only():
    layer = layers.CoordinateAttention(32)
    shape = (2, 32, 6, 6)
    more = layer_cost(layer, shape).saved_bytes - layer_cost(layer.eval(), shape).saved_bytes
    assert more == 4 * 2 * 8


def test_unknown_modules():
    class Changed(layers.SqueezeExcitation):
        pass

    for module in (nn.Linear(3, 3), Changed(8)):
        with pytest.raises(TypeError, match=f"{type(module).__name__}.*SqueezeExcitation.*BAM"):
            layer_cost(module, (1, 8, 4, 4))


@pytest.mark.parametrize(
    "shape", [(1, 8, 4), (1, 9, 4, 4), (1, 8, 0, 4), (1, 8, 4.5, 4), 8, None, (), "1844"]
)
def test_wrong_shapes(shape):
    with pytest.raises(ValueError, match="input_shape"):
        layer_cost(layers.SqueezeExcitation(8), shape)


def test_the_spatial_half_takes_any_channels():
    assert layer_cost(layers.SpatialAttention(), (1, 3, 4, 4)).parameters == 100


# ---- models


@pytest.mark.parametrize("name", ["se", "cbam", "bam", "eca", "coordinate"])
@pytest.mark.parametrize("backbone", [lambda **o: models.resnet(18, **o), models.mobilenet_v2])
def test_attention_is_the_difference_to_the_plain_model(name, backbone):
    with torch.device("meta"):
        gated, plain = backbone(attention=name), backbone()
    cost, without = (model_cost(model, (2, 3, 96, 64)) for model in (gated, plain))
    assert cost.backbone == without.total
    assert without.attention == Cost(0, 0) and without.modules == {}
    assert cost.attention == tuple(map(sum, zip(*cost.modules.values(), strict=True)))
    assert cost.total.parameters == sum(p.numel() for p in gated.parameters())


def test_modules_are_named_and_add_up_by_the_formulas():
    model = models.resnet_cifar(8, attention="cbam")
    cost = model_cost(model, (1, 3, 32, 32))
    assert list(cost.modules) == [f"layer{i}.0.attention" for i in (1, 2, 3)]
    shapes = ((1, 16, 32, 32), (1, 32, 16, 16), (1, 64, 8, 8))
    for (name, counted), shape in zip(cost.modules.items(), shapes, strict=True):
        formula = layer_cost(model.get_submodule(name), shape)
        assert counted == (formula.parameters, formula.multiply_adds)


def test_a_callable_attention_is_recognised_by_its_name():
    model = models.resnet_cifar(8, attention=lambda c: nn.Conv2d(c, c, 1))
    cost = model_cost(model, (1, 3, 32, 32))
    assert [c.parameters for c in cost.modules.values()] == [c * c + c for c in (16, 32, 64)]
    assert cost.modules["layer2.0.attention"].multiply_adds == 32 * 32 * 16 * 16


def test_layers_are_recognised_whatever_they_are_called():
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layers.BAM(8), nn.Conv2d(8, 8, 3, groups=8))
    cost = model_cost(model, (1, 3, 9, 9))
    assert list(cost.modules) == ["1"]
    assert cost.backbone == (3 * 8 + 8 + 9 * 8 + 8, 3 * 8 * 81 + 9 * 8 * 49)  # depthwise


def test_placeholders_are_not_attention():
    cost = model_cost(models.googlenet(), (1, 3, 64, 64))
    assert cost.modules == {} and cost.backbone.parameters == 6_624_904


def test_a_layer_that_is_shared_has_its_parameters_once():
    shared = layers.SqueezeExcitation(8)
    model = nn.Sequential(shared, nn.Conv2d(8, 8, 1), shared)
    cost = model_cost(model, (1, 8, 4, 4))
    assert cost.total.parameters == sum(p.numel() for p in model.parameters())
    assert cost.attention.multiply_adds == 2 * (2 * 8 * 1)


def test_the_model_is_left_as_it_is():
    model = models.resnet_cifar(8, attention="coordinate").train()
    model.layer1[0].attention.eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    places = [p.data_ptr() for p in model.parameters()]
    modes = [m.training for m in model.modules()]
    model_cost(model, (4, 3, 16, 16))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert [p.data_ptr() for p in model.parameters()] == places
    assert [m.training for m in model.modules()] == modes
    assert all(p.grad is None for p in model.parameters())


def test_no_memory_is_needed():
    with torch.device("meta"):
        huge = nn.Sequential(nn.Linear(10**6, 10**6), nn.Linear(10**6, 10**6))  # 8 TB
    assert model_cost(huge, (1, 10**6)).total == (2 * (10**12 + 10**6), 2 * 10**12)


def test_dtype_of_the_parameters_is_the_dtype_of_the_input():
    assert model_cost(models.resnet_cifar(8).half(), (1, 3, 8, 8)).total.multiply_adds > 0


def test_an_input_that_the_model_refuses():
    for shape in ((1, 4, 32, 32), (3, 32)):
        with pytest.raises(ValueError, match=r"ResNet.* does not accept an input of shape \("):
            model_cost(models.resnet(18), shape)
    with pytest.raises(ValueError, match="input_shape must be a tuple"):
        model_cost(models.resnet(18), (1, 3, 0, 224))
