"""Recorded gates are the gates, once, and leave nothing behind."""

import numpy as np
import pytest
import torch
from torch import nn

from attn_lib import layers, models
from attn_lib.inspection import clamp_gates, gradcam, record_gates, variance_parts


@pytest.mark.parametrize("name", ["se", "cbam", "bam", "eca", "coordinate"])
def test_what_is_recorded_is_what_multiplied(name):
    torch.manual_seed(0)
    layer = layers.build(name, 16).double()  # in training mode
    twin = layers.build(name, 16).double()
    twin.load_state_dict(layer.state_dict())
    x = torch.randn(3, 16, 6, 5, dtype=torch.float64)
    with record_gates(layer) as gates:
        y = layer(x)
    product = x
    for gate in gates[""].values():
        product = product * gate
    torch.testing.assert_close(y, product)
    assert torch.equal(y, twin(x))
    for key, value in twin.state_dict().items():  # batch norm saw the batch once
        assert torch.equal(value, layer.state_dict()[key]), key
    assert "gates" not in vars(layer)


def test_names_and_shapes_in_a_network():
    model = models.resnet_cifar(8, attention="cbam").eval()
    with record_gates(model) as gates:
        model(torch.randn(2, 3, 16, 16))
    assert list(gates) == [f"layer{i}.0.attention" for i in (1, 2, 3)]
    assert gates["layer2.0.attention"]["channel"].shape == (2, 32, 1, 1)
    assert gates["layer2.0.attention"]["spatial"].shape == (2, 1, 8, 8)


def test_detach():
    layer = layers.SqueezeExcitation(4)
    x = torch.randn(1, 4, 2, 2)
    with record_gates(layer) as cut:
        layer(x)
    with record_gates(layer, detach=False) as kept:
        layer(x)
    assert not cut[""]["channel"].requires_grad and kept[""]["channel"].requires_grad


def test_errors():
    with pytest.raises(ValueError, match="Linear holds no attention"):
        with record_gates(nn.Linear(2, 2)):
            pass
    layer = layers.SqueezeExcitation(4)
    with pytest.raises(RuntimeError, match="no gate was recorded"):
        with record_gates(layer):
            pass
    with pytest.raises(ValueError, match="the model ran twice"):
        with record_gates(layer):
            layer(torch.randn(1, 4, 2, 2))
            layer(torch.randn(1, 4, 2, 2))
    assert "gates" not in vars(layer)
    layer(torch.randn(1, 4, 2, 2))  # and it still works


@pytest.mark.parametrize("name", ["se", "cbam", "bam", "eca", "coordinate"])
def test_clamped_gates_multiply_instead(name):
    torch.manual_seed(0)
    model = models.resnet_cifar(8, 8, attention=name).double().eval()
    x, other = torch.randn(2, 4, 3, 16, 16, dtype=torch.float64)
    with record_gates(model) as gates:
        y = model(x)
    with clamp_gates(model, gates):
        torch.testing.assert_close(model(x), y)
        assert not torch.allclose(model(other), y)
    with torch.no_grad(), clamp_gates(model, gates):
        torch.testing.assert_close(model(x), y)
    with clamp_gates(model, gates), record_gates(model) as again:
        model(other)
    for owner, made in gates.items():
        for key, gate in made.items():
            assert torch.equal(again[owner][key], gate)
    assert not torch.allclose(model(other), y)  # nothing is left behind


def test_one_gate_of_two_is_clamped():
    layer = layers.CBAM(8).eval()
    x = torch.randn(2, 8, 5, 5)
    half = torch.full((1, 1, 1, 1), 0.5)
    with clamp_gates(layer, {"": {"channel": half}}):
        y = layer(x)
    torch.testing.assert_close(y, layer.spatial(x / 2))


def test_what_cannot_be_clamped():
    model = models.resnet_cifar(8, 8, attention="se")
    x = torch.randn(2, 3, 16, 16)
    with pytest.raises(ValueError, match="no attention module is called 'fc'.*layer1.0.attention"):
        with clamp_gates(model, {"fc": {}}):
            pass
    with pytest.raises(ValueError, match=r"\(2, 8, 1, 1\); \(3, 1, 1, 1\) does not broadcast"):
        with clamp_gates(model, {"layer1.0.attention": {"channel": torch.ones(3, 1, 1, 1)}}):
            model(x)
    with pytest.raises(ValueError, match="no forward pass computed.*'spatial'"):
        with clamp_gates(model, {"layer1.0.attention": {"spatial": torch.ones(1, 1, 1, 1)}}):
            model(x)


def test_gradcam_of_a_linear_head_is_its_class_activation():
    """Behind a mean and a linear layer alpha is the weight over the number of positions."""
    torch.manual_seed(0)
    body, head = nn.Conv2d(3, 4, 3), nn.Linear(4, 5)
    model = nn.Sequential(body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).double().eval()
    x, classes = torch.randn(2, 3, 6, 7, dtype=torch.float64), [3, 1]
    for place, at in (("0", "output"), ("1", "input")):
        with torch.no_grad():  # it takes its gradients all the same
            maps, alpha = gradcam(model, x, classes, place, at=at)
        torch.testing.assert_close(alpha, head.weight[classes] / 20)
        wanted = torch.einsum("nc,nchw->nhw", head.weight[classes], body(x)) / 20
        torch.testing.assert_close(maps, wanted)
    assert not maps.requires_grad and not x.requires_grad
    assert not model[0]._forward_hooks and not model[1]._forward_pre_hooks


def test_gradcam_where_what_follows_works_in_place():
    torch.manual_seed(0)
    model = models.resnet_cifar(8, attention="se").eval()
    x = torch.randn(2, 3, 16, 16)
    maps, alpha = gradcam(model, x, [0, 1], "layer3.0.bn1")  # a ReLU in place comes next
    assert maps.shape == (2, 4, 4) and alpha.shape == (2, 64)
    one, _ = gradcam(model, x[1:], [1], "layer3.0.bn1")
    torch.testing.assert_close(maps[1:], one, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda model: model.train(), {}, "model.eval"),
        (lambda model: model, {"at": "middle"}, "'output' or 'input'"),
        (lambda model: model, {"module": "fc"}, "no positions"),
    ],
)
def test_errors_of_gradcam(change, options, message):
    model = models.resnet_cifar(8).eval()
    options = {"module": "layer3", **options}
    with pytest.raises(ValueError, match=message):
        gradcam(change(model), torch.randn(1, 3, 8, 8), [0], **options)
    assert not model.fc._forward_hooks


def test_the_parts_add_up_to_the_variance():
    rng = np.random.default_rng(0)
    gates = rng.normal(size=(3, 50, 4, 2)) + rng.normal(size=(3, 1, 4, 2)) + rng.normal(size=(4, 2))
    parts = variance_parts(gates.mean(1), gates.std(1))
    assert np.allclose(parts.sum(), gates.var()) and (parts > 0).all()
    assert np.allclose(variance_parts(np.ones((2, 3)), np.zeros((2, 3))), 0)
    with pytest.raises(ValueError, match="should be equal"):
        variance_parts(np.ones((2, 3)), np.ones((2, 4)))
