"""Backbones: published sizes, where attention sits, how they start, what a wrong argument says."""

import copy
import pickle

import pytest
import torch
from torch import nn

from attn_lib import layers, models
from attn_lib.inspection import record_gates
from attn_lib.layers import SqueezeExcitation


def count(model):
    return sum(parameter.numel() for parameter in model.parameters())


# 28.09 and 49.33 M: CBAM paper, Table 4, which counts the biases.
# 26.77, 47.01 and 63.68 in units of 2**20, without biases: ECA paper, Table 3.
@pytest.mark.parametrize(
    "depth, bias, printed, unit",
    [
        (50, True, 28.09, 1e6),
        (101, True, 49.33, 1e6),
        (50, False, 26.77, 2**20),
        (101, False, 47.01, 2**20),
        (152, False, 63.68, 2**20),
    ],
)
def test_published_sizes_of_se_resnets(depth, bias, printed, unit):
    with torch.device("meta"):
        assert round(count(models.resnet(depth, "se", bias=bias)) / unit, 2) == printed


@pytest.mark.parametrize("placement", ["standard", "pre", "post", "identity", "conv3x3", "stage"])
@pytest.mark.parametrize("depth", [18, 50])
def test_every_placement_runs_and_matters(placement, depth):
    if placement == "conv3x3" and depth == 18:
        with pytest.raises(ValueError, match="needs a bottleneck"):
            models.resnet(depth, "se", placement=placement)
        return
    torch.manual_seed(0)
    model = models.resnet(depth, "se", num_classes=5, placement=placement).eval()
    gates = [m for m in model.modules() if isinstance(m, SqueezeExcitation)]
    blocks = {18: 8, 50: 16}[depth]
    assert len(gates) == (3 if placement == "stage" else blocks)
    x = torch.randn(1, 3, 64, 64)
    before = model(x)
    assert before.shape == (1, 5)
    for gate in gates:
        nn.init.zeros_(gate.fc2.weight)
        nn.init.constant_(gate.fc2.bias, -1.0)
    assert not torch.allclose(model(x), before)


def test_standard_placement_gates_the_branch_and_not_the_shortcut():
    """With every gate closed, a block is the ReLU of its shortcut."""
    block = models.resnet_cifar(8, attention="se", in_channels=3).layer1[0].eval()
    nn.init.zeros_(block.attention.fc2.weight)
    nn.init.constant_(block.attention.fc2.bias, -1e4)
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(x), x.relu())


def test_identity_placement_gates_the_shortcut_and_not_the_branch():
    block = models.resnet_cifar(8, attention="se", placement="identity").layer1[0].eval()
    nn.init.zeros_(block.attention.fc2.weight)
    nn.init.constant_(block.attention.fc2.bias, -1e4)
    x = torch.randn(2, 16, 8, 8)
    torch.testing.assert_close(block(x), block.residual(x).relu())


def test_bam_sits_between_the_stages_by_default():
    model = models.resnet(18, "bam")
    assert [type(m) for m in model.attention] == [layers.BAM] * 3
    assert [m.channels for m in model.attention] == [64, 128, 256]


def test_inception_gates_the_concatenated_branches():
    model = models.googlenet("se", num_classes=3).eval()
    assert model.inception3a.attention.channels == 256
    assert model.inception5b.attention.channels == 1024
    assert model(torch.randn(1, 3, 64, 64)).shape == (1, 3)
    model = models.googlenet("se", num_classes=3, aux_logits=True).train()
    assert [t.shape for t in model(torch.randn(2, 3, 64, 64))] == [(2, 3)] * 3


def test_one_value_a_stage():
    model = models.resnet(18, "se", reduction=(2, 4, 8, 16))
    for stage, reduction in enumerate((2, 4, 8, 16), 1):
        for block in getattr(model, f"layer{stage}"):
            assert block.attention.reduction == reduction
    with pytest.raises(ValueError, match=r"reduction as a tuple.*4 stages.*\(2, 4\)"):
        models.resnet(18, "se", reduction=(2, 4))


def test_a_callable_makes_the_attention():
    seen = []

    def make(channels):
        seen.append(channels)
        return SqueezeExcitation(channels, reduction=4)

    models.resnet(18, make)
    assert seen == [64, 64, 128, 128, 256, 256, 512, 512]
    with pytest.raises(TypeError, match=r"must return an nn.Module; got 64"):
        models.resnet(18, lambda channels: channels)


def spread(parameter, fan):
    """Standard deviation in units of sqrt(1 / fan)."""
    return parameter.std().item() * fan**0.5


def test_cbam_starts_as_its_authors_networks_do():
    """By hand from model_resnet.py of Jongchan/attention-module, which goes by name."""
    torch.manual_seed(0)
    model = models.resnet(18, "cbam", num_classes=100)
    he, default = 2**0.5, 3**-0.5  # the latter of PyTorch's uniform on +- 1 / sqrt(fan-in)
    assert all(not p.any() for name, p in model.named_parameters() if name.endswith("bias"))
    block = model.layer4[0]
    assert spread(block.conv2.weight, 512 * 9) == pytest.approx(he, rel=0.01)
    assert spread(model.conv1.weight, 64 * 49) == pytest.approx(he, rel=0.03)
    assert spread(model.fc.weight, 512) == pytest.approx(he, rel=0.02)
    assert spread(block.downsample[0].weight, 256) == pytest.approx(default, rel=0.02)
    assert spread(block.attention.channel.fc1.weight, 512) == pytest.approx(default, rel=0.03)
    kernels = torch.stack([b.attention.spatial.conv.weight for b in (*model.layer3, *model.layer4)])
    assert spread(kernels, 49) == pytest.approx(he, rel=0.1)
    with record_gates(model.eval()) as gates:
        model(torch.randn(1, 3, 64, 64))
    assert all((gate["spatial"] == 0.5).all() for gate in gates.values())


def test_bam_starts_as_its_authors_networks_do():
    torch.manual_seed(0)
    bam = models.resnet(50, "bam").attention[2]
    assert all(not p.any() for name, p in bam.named_parameters() if name.endswith("bias"))
    norms = [p for name, p in bam.named_parameters() if "bn" in name and name.endswith("weight")]
    assert len(norms) == 4 and all((p == 1).all() for p in norms)
    for parameter, fan_out in [
        (bam.spatial.conv1.weight, 64),
        (bam.spatial.conv2.weight, 64 * 9),
        (bam.spatial.conv3.weight, 64 * 9),
        (bam.spatial.conv4.weight, 1),
    ]:
        assert spread(parameter, fan_out) == pytest.approx(2**0.5, rel=0.15)
    assert spread(bam.channel.fc1.weight, 1024) == pytest.approx(3**-0.5, rel=0.03)


@pytest.mark.parametrize("attention", [None, "se", "eca"])
def test_other_networks_start_as_torchvisions(attention):
    torch.manual_seed(0)
    model = models.resnet(18, attention)
    assert spread(model.layer4[0].downsample[0].weight, 512) == pytest.approx(2**0.5, rel=0.02)
    assert spread(model.fc.weight, 512) == pytest.approx(3**-0.5, rel=0.02)
    if attention == "se":  # the mechanism's weights as PyTorch makes them
        weight = model.layer4[0].attention.fc1.weight
        assert spread(weight, 512) == pytest.approx(3**-0.5, rel=0.03)


@pytest.mark.parametrize("name", ["se", "cbam", "bam", "eca", "coordinate"])
def test_copies_and_pickles_compute_the_same(name):
    torch.manual_seed(0)
    for model in (models.resnet_cifar(8, attention=name), models.mobilenet_v2(0.25, name)):
        model.eval()
        x = torch.randn(1, 3, 32, 32)
        assert torch.equal(copy.deepcopy(model)(x), model(x))
        assert torch.equal(pickle.loads(pickle.dumps(model))(x), model(x))


@pytest.mark.parametrize("name", ["se", "cbam", "bam", "eca", "coordinate"])
@pytest.mark.parametrize(
    "make",
    [
        lambda name: models.resnet_cifar(8, attention=name),
        lambda name: models.resnet(18, name),
        lambda name: models.mobilenet_v2(0.5, name),
        lambda name: models.googlenet(name),
        lambda name: models.inception_bn(name),
    ],
    ids=["resnet_cifar", "resnet", "mobilenet_v2", "googlenet", "inception_bn"],
)
def test_a_training_step_reaches_every_parameter(make, name):
    """On the meta device; DistributedDataParallel stops at a parameter without a gradient."""
    with torch.device("meta"):
        model = make(name)
        loss = model(torch.empty(4, 3, 64, 64)).sum()
    loss.backward()
    assert all(p.grad is not None and p.grad.device.type == "meta" for p in model.parameters())


def test_resnet_cifar_shapes():
    model = models.resnet_cifar(14, width=8, in_channels=1, num_classes=7)
    assert model(torch.randn(2, 1, 9, 11)).shape == (2, 7)
    convolutions = [
        m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size[0] == 3
    ]
    assert len(convolutions) == 13  # and the linear layer: depth 14


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: models.resnet(20), "unknown depth 20; known are 18, 34, 50, 101, 152"),
        (lambda: models.resnet(18, "senet"), "unknown attention 'senet'; known are 'se'"),
        (lambda: models.resnet(18, "se", ratio=4), "no option 'ratio'.*reduction, bias"),
        (
            lambda: models.resnet(18, "se", placement="after"),
            "placement 'after'.*'standard', 'pre'",
        ),
        (
            lambda: models.resnet(50, variant="detectron"),
            "variant 'detectron'; known are 'torchvision', 'caffe'",
        ),
        (lambda: models.resnet(34, variant="caffe"), "needs bottlenecks.*50, 101 or 152; got 34"),
        (lambda: models.resnet(18, None, reduction=4), r"\['reduction'\] need attention="),
        (lambda: models.resnet_cifar(10), r"6n \+ 2 .*got 10"),
        (lambda: models.googlenet("se", placement="pre"), "placement 'pre'.*'standard'"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_attention_of_another_kind():
    with pytest.raises(TypeError, match="None, a name or a callable; got 3"):
        models.resnet(18, 3)
