"""Published state dicts: timm's networks give the same numbers, the authors' names find a place."""

import collections
import re
import subprocess
import sys

import pytest
import torch
from others import timm, torchvision
from safetensors.torch import load_file, save_file
from timm.layers import EcaModule, EffectiveSEModule, SEModule
from timm.layers.cbam import CbamModule
from timm.layers.coord_attn import CoordAttn
from torch import nn
from torch.nn import functional as F
from torchvision.models import resnet as tv_resnet

from attn_lib import layers, models
from attn_lib.convert import from_official
from attn_lib.convert.__main__ import main
from attn_lib.convert.official import convert, weights_in
from attn_lib.models.resnet import DEPTHS


def shaken(module, seed=0):
    """In float64 and evaluation, with batch norms that do something."""
    generator = torch.Generator().manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm1d | nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.normal_(part.weight, 1, 0.2, generator=generator)
            nn.init.normal_(part.bias, 0, 0.2, generator=generator)
    return module.double().eval()


def image(*shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def made(call):
    """The module that the call names, as the command prints it."""
    return eval(call, {"models": models, "layers": layers}).double().eval()


# ---- timm: the same numbers


@pytest.mark.parametrize(
    "theirs, ours",
    [
        (SEModule(64), layers.SqueezeExcitation(64, reduction=8)),
        (
            SEModule(64, rd_ratio=0.25, bias=False),
            layers.SqueezeExcitation(64, reduction=4, bias=False),
        ),
        (EcaModule(256), layers.EfficientChannelAttention(256)),
        (
            EcaModule(kernel_size=7),
            layers.EfficientChannelAttention(64, kernel_size=7),
        ),
        (CbamModule(64), layers.CBAM(64)),
        (
            CbamModule(32, rd_ratio=0.25, spatial_kernel_size=3, mlp_bias=True),
            layers.CBAM(32, reduction=4, kernel_size=3),
        ),
        (CoordAttn(64), layers.CoordinateAttention(64)),
        (
            CoordAttn(64, rd_channels=16, bias=True),
            layers.CoordinateAttention(64, reduction=4),
        ),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_timms_layers_give_the_same_numbers(theirs, ours):
    channels = ours.channels
    ours.double().eval().load_state_dict(from_official("timm", shaken(theirs).state_dict()))
    x = image(2, channels, 7, 9)
    y = theirs(x)
    assert not torch.allclose(y, x)
    torch.testing.assert_close(ours(x), y, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "name, attention, call",
    [
        ("resnet34", None, "models.resnet(depth=34)"),
        (
            "seresnet18",
            None,
            "models.resnet(depth=18, attention='se', reduction=(8, 16, 16, 16))",
        ),
        ("seresnet50", None, "models.resnet(depth=50, attention='se')"),
        ("legacy_seresnet50", None, "models.resnet(depth=50, variant='caffe', attention='se')"),
        ("resnet18", "cbam", "models.resnet(depth=18, attention='cbam')"),
        (
            "resnet50",
            "eca",
            "models.resnet(depth=50, attention='eca', kernel_size=(5, 5, 5, 7))",
        ),
        (
            "resnet18",
            "coord",
            "models.resnet(depth=18, attention='coordinate', reduction=(32, 32, 32, 21))",
        ),
        ("mobilenetv2_050", None, "models.mobilenet_v2(width=0.5)"),
        ("mobilenetv2_100", None, "models.mobilenet_v2(width=1.0)"),
        ("mobilenetv2_140", None, "models.mobilenet_v2(width=1.4)"),
    ],
)
def test_timms_networks_give_the_same_logits(name, attention, call):
    """In the model that the command names, on an image whose sides the pooling does not divide."""
    torch.manual_seed(0)
    options = {"block_args": {"attn_layer": attention}} if attention else {}
    theirs = shaken(timm.create_model(name, **options))
    converted, found = convert("timm", theirs.state_dict())
    assert found == call
    ours = made(found)
    ours.load_state_dict(converted)
    x = image(1, 3, 49, 66)
    with torch.inference_mode():
        logits = theirs(x)
        assert logits.std() > 0.01
        torch.testing.assert_close(ours(x), logits, rtol=1e-12, atol=1e-12)


def test_the_caffe_variant_and_torchvisions_do_not_load_each_others_weights():
    with torch.device("meta"):
        caffe, default = models.resnet(50, variant="caffe"), models.resnet(50)
    with pytest.raises(RuntimeError, match="layer0.conv1.weight"):
        default.load_state_dict(caffe.state_dict(), assign=True)


@pytest.mark.parametrize(
    "name, message",
    [
        ("ecaresnet50d", "'conv1.0.weight': it belongs to a stem of three 3x3"),
        ("ecaresnetlight", "'layer1.0.downsample.2.weight': .*pools before its convolution"),
        ("resnext50_32x4d", r"'layer1.0.conv1.weight' has shape \(128, 64, 1, 1\)"),
        ("resnet50_gn", "lacks 'bn1.running_mean'"),
        ("resnet26", r"stages of \(2, 2, 2, 2\) bottlenecks"),
        ("skresnet18", "cannot place 'layer1.0.conv1.paths.0.conv.weight'"),
        ("legacy_seresnet18", "'layer0.conv1.weight': .*ReLU before the gate"),
        ("legacy_senet154", "'layer0.conv2.weight': .*SENet-154"),
        ("mobilenetv2_110d", "cannot place 'blocks.1.2.conv_pw.weight'"),
        ("mobilenetv3_small_100", "cannot place 'blocks.0.0.se.conv_reduce.weight'"),
        ("densenet121", "cannot place 'features.conv0.weight'"),
        ("seresnet33ts", "cannot place 'stem.conv1.conv.weight'"),
    ],
)
def test_other_networks_are_refused_by_name(name, message):
    with torch.device("meta"):
        state = timm.create_model(name).state_dict()
    with pytest.raises(ValueError, match=message):
        from_official("timm", state)


def test_an_effective_se_is_no_se():
    with pytest.raises(ValueError, match="cannot place 'fc.weight', 'fc.bias'"):
        from_official("timm", EffectiveSEModule(8).state_dict())


def test_a_bottleneck_that_no_reduction_gives():
    with pytest.raises(ValueError, match="'fc1.weight' has 24 units for C = 64.*no reduction"):
        from_official("timm", SEModule(64, rd_channels=24).state_dict())


# ---- two maps beside the convolutions of a block: the same numbers


class _Beside:
    """A block of torchvision's ResNet that gates its branch by maps of its own, fc1 and fc2.

    As in miraclewkf/SENet-PyTorch, it takes the means over a window that fits images of 224 pixels.
    """

    def __init__(self, in_channels, width, *others, **more):
        super().__init__(in_channels, width, *others, **more)
        channels = width * self.expansion
        self.side = {64: 56, 128: 28, 256: 14, 512: 7}[width]
        self.fc1 = nn.Linear(channels, channels // 16)
        self.fc2 = nn.Linear(channels // 16, channels)

    def forward(self, x):
        y = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        if self.expansion == 4:
            y = self.bn3(self.conv3(F.relu(y)))
        z = F.avg_pool2d(y, self.side, stride=1).flatten(1)
        s = torch.sigmoid(self.fc2(F.relu(self.fc1(z))))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(s[:, :, None, None] * y + shortcut)


class BesideBasic(_Beside, tv_resnet.BasicBlock):
    pass


class BesideBottleneck(_Beside, tv_resnet.Bottleneck):
    pass


def beside(depth, **options):
    """se_resnet_18 … 152 of miraclewkf/SENet-PyTorch, but for where the weights begin."""
    block = BesideBasic if depth < 50 else BesideBottleneck
    return torchvision.models.ResNet(block, DEPTHS[depth], **options)


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("wrapped", [False, True])
def test_maps_beside_the_convolutions_give_the_same_logits(depth, wrapped):
    torch.manual_seed(0)
    theirs = shaken(beside(depth, num_classes=7))
    state = theirs.state_dict()
    if wrapped:
        state = {"state_dict": {f"module.{key}": tensor for key, tensor in state.items()}}
    converted, call = convert("se", weights_in(state))
    assert call == f"models.resnet(depth={depth}, num_classes=7, attention='se')"
    ours = made(call)
    ours.load_state_dict(converted)
    x = image(1, 3, 224, 224)
    with torch.inference_mode():
        logits = theirs(x)
        assert logits.std() > 0.1
        torch.testing.assert_close(ours(x), logits, rtol=1e-12, atol=1e-12)


def test_maps_beside_the_convolutions_as_1x1_convolutions_and_without_biases():
    state = {k: t for k, t in BESIDE.items() if not re.search(r"fc[12]\.bias", k)}
    state |= {k: t[:, :, None, None] for k, t in state.items() if re.search(r"fc[12]\.weight", k)}
    converted, call = convert("se", state)
    assert call == "models.resnet(depth=18, num_classes=2, attention='se', bias=False)"
    made(call).load_state_dict(converted)
    key = "layer3.0.fc2.weight"
    assert torch.equal(converted["layer3.0.attention.fc2.weight"], BESIDE[key])


# ---- the authors' repositories: the names, written out once more

NORM = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def renamed(ours, names):
    """State dict of ``ours`` under published names: pairs of what ends a prefix, and its name."""
    state = {}
    for name, tensor in ours.state_dict().items():
        for own, published in names:
            name = name.replace(own, published)
        state[name] = tensor
    return state


CBAM = [
    ("channel.fc1", "ChannelGate.mlp.1"),
    ("channel.fc2", "ChannelGate.mlp.3"),
    ("spatial.", "SpatialGate.spatial."),
]
BAM = [
    ("channel.fc1", "channel_att.gate_c.gate_c_fc_0"),
    ("channel.bn1", "channel_att.gate_c.gate_c_bn_1"),
    ("channel.fc2", "channel_att.gate_c.gate_c_fc_final"),
    ("spatial.conv1", "spatial_att.gate_s.gate_s_conv_reduce0"),
    ("spatial.bn1", "spatial_att.gate_s.gate_s_bn_reduce0"),
    ("spatial.conv2", "spatial_att.gate_s.gate_s_conv_di_0"),
    ("spatial.bn2", "spatial_att.gate_s.gate_s_bn_di_0"),
    ("spatial.conv3", "spatial_att.gate_s.gate_s_conv_di_1"),
    ("spatial.bn3", "spatial_att.gate_s.gate_s_bn_di_1"),
    ("spatial.conv4", "spatial_att.gate_s.gate_s_conv_final"),
]
# mbv2_ca.py numbers a block's parts in one Sequential, with attention at 6
FLAT = [(f"features.1.conv.{own}.", f"features.1.conv.{n}.") for own, n in (("2", 4), ("1", 3))]
FLAT += [("features.1.conv.0.", "features.1.conv."), ("features.18.", "conv.")]
for _block in range(2, 18):
    _at = f"features.{_block}.conv."
    FLAT += [(f"{_at}3.", f"{_at}8."), (f"{_at}2.", f"{_at}7."), (f"{_at}1.0.", f"{_at}3.")]
    FLAT += [(f"{_at}1.1.", f"{_at}4."), (f"{_at}0.0.", f"{_at}0."), (f"{_at}0.1.", f"{_at}1.")]
    FLAT += [(f"features.{_block}.attention.", f"{_at}6.")]
ECA_MOBILE = [("features.1.attention", "features.1.conv.3")]
ECA_MOBILE += [(f"features.{n}.attention", f"features.{n}.conv.4") for n in range(2, 18)]

INCEPTIONS = [f"inception_{name}" for name in "3a 3b 3c 4a 4b 4c 4d 4e 5a 5b".split()]

PUBLISHED = [
    ("cbam", lambda: layers.CBAM(32), CBAM),
    ("cbam", lambda: layers.ChannelAttention(32), [("fc1", "mlp.1"), ("fc2", "mlp.3")]),
    (
        "cbam",
        lambda: layers.ChannelAttention(32),  # CBAM without its spatial half
        [("fc1", "ChannelGate.mlp.1"), ("fc2", "ChannelGate.mlp.3")],
    ),
    ("cbam", lambda: layers.SpatialAttention(), [("conv", "spatial.conv"), ("bn", "spatial.bn")]),
    ("bam", lambda: layers.BAM(32), BAM),
    ("eca", lambda: layers.EfficientChannelAttention(32), []),
    ("coordinate", lambda: layers.CoordinateAttention(32), []),
    (
        "coordinate",
        lambda: layers.CoordinateAttention(32),
        [("conv_h", "conv2"), ("conv_w", "conv3")],
    ),
    ("se", lambda: layers.SqueezeExcitation(32), []),
    ("se", lambda: layers.SqueezeExcitation(32, bias=False), [("fc1", "fc.0"), ("fc2", "fc.2")]),
    ("cbam", lambda: models.resnet(18, "cbam"), [("attention", "cbam"), *CBAM]),
    ("cbam", lambda: models.resnet(101, "cbam", num_classes=7), [("attention", "cbam"), *CBAM]),
    ("cbam", lambda: models.resnet(18), []),
    (
        "bam",
        lambda: models.resnet(50, "bam"),
        [*((f"attention.{i}", f"bam{i + 1}") for i in range(3)), *BAM],
    ),
    (
        "eca",
        lambda: models.resnet(50, "eca", kernel_size=(3, 5, 5, 7)),
        [("attention", "eca")],
    ),
    (
        "eca",
        lambda: models.mobilenet_v2(attention="eca", kernel_size=(1, 1, 1, 1, 1, 3, 3)),
        ECA_MOBILE,
    ),
    (
        "coordinate",
        lambda: models.mobilenet_v2(1.0, "coordinate"),
        [*FLAT, ("conv_h", "conv2"), ("conv_w", "conv3")],
    ),
    (
        "coordinate",
        lambda: models.mobilenet_v2(0.75, "coordinate", num_classes=10),
        [*FLAT, ("conv_h", "conv2"), ("conv_w", "conv3")],
    ),
    (
        "se",
        lambda: models.resnet(50, "se", bias=False),
        [("attention.fc1", "se.fc.0"), ("attention.fc2", "se.fc.2")],
    ),
    (
        "se",
        lambda: models.resnet(101, "se", variant="caffe"),
        [("attention", "se_module"), ("fc.", "last_linear.")],
    ),
    (
        "se",
        lambda: models.resnet_cifar(20, attention="se", bias=False),
        [("attention.fc1", "se.fc.0"), ("attention.fc2", "se.fc.2")],
    ),
    ("se", lambda: models.googlenet("se", aux_logits=True), [("attention", "se_layer")]),
    *(("se", lambda d=d: models.resnet(d, "se"), [("attention.", "")]) for d in (34, 101, 152)),
    ("se", lambda: models.resnet_cifar(20, attention="se"), [("attention.", "")]),
    ("se", lambda: models.inception_bn("se"), []),
    ("se", lambda: models.inception_bn(num_classes=9), [(f"{b}.", f"{b}_") for b in INCEPTIONS]),
    (
        "eca",
        lambda: models.inception_bn("eca", kernel_size=(3, 5, 5)),
        [("attention", "eca"), *((f"{b}.{n}", f"{b}_{n}") for b in INCEPTIONS for n in "13dp")],
    ),
]


@pytest.mark.parametrize("family, make, names", PUBLISHED)
def test_the_authors_names_find_their_places(family, make, names):
    with torch.device("meta"):
        ours = make()
    published = renamed(ours, names)
    converted, call = convert(family, published)
    own = dict(ours.state_dict())
    assert converted.keys() == own.keys()
    assert all(converted[name].shape == tensor.shape for name, tensor in own.items())
    # each tensor at its own place: the published names are in the order of attn_lib's
    for name, key in zip(own, published, strict=True):
        assert converted[name] is published[key], (name, key)
    with torch.device("meta"):
        made(call.replace("channels=...", "channels=32")).load_state_dict(converted)


def test_mbv2_ca_in_full_for_one_block():
    """The renaming above is a chain of replacements; here are the keys as its model prints them."""
    with torch.device("meta"):
        ours = models.mobilenet_v2(attention="coordinate")
    published = renamed(ours, [*FLAT, ("conv_h", "conv2"), ("conv_w", "conv3")])
    expected = [f"features.2.conv.{i}.weight" for i in (0, 3, 7)]
    expected += [f"features.2.conv.{i}.{leaf}" for i in (1, 4, 8) for leaf in NORM]
    expected += [
        f"features.2.conv.6.{m}.{p}" for m in ("conv1", "conv2", "conv3") for p in NORM[:2]
    ]
    expected += [f"features.2.conv.6.bn1.{leaf}" for leaf in NORM]
    assert sorted(k for k in published if k.startswith("features.2.")) == sorted(expected)
    expected = [f"features.1.conv.{i}.weight" for i in (0, 3)]
    expected += [f"features.1.conv.{i}.{leaf}" for i in (1, 4) for leaf in NORM]
    assert sorted(k for k in published if k.startswith("features.1.")) == sorted(expected)
    assert "conv.0.weight" in published and "conv.1.bias" in published


def test_linear_maps_and_1x1_convolutions_are_one_another():
    se = layers.SqueezeExcitation(32).state_dict()
    convolved = {k: t[..., None, None] if t.dim() == 2 else t for k, t in se.items()}
    for name, tensor in from_official("se", convolved).items():
        assert torch.equal(tensor, se[name])
    ca = layers.CoordinateAttention(32).state_dict()
    linear = {k: t[..., 0, 0] if t.dim() == 4 else t for k, t in ca.items()}
    for name, tensor in from_official("coordinate", linear).items():
        assert torch.equal(tensor, ca[name])


# ---- checkpoints as they are written

SE = layers.SqueezeExcitation(32).state_dict()


@pytest.mark.parametrize(
    "checkpoint",
    [
        {"state_dict": SE, "epoch": 90, "best_prec1": 77.3, "optimizer": {"state": {}}},
        {"model": SE, "optimizer": {"param_groups": []}},
        {"net": SE, "acc": torch.tensor(93.0)},
        {f"module.{key}": tensor for key, tensor in SE.items()},
        {"state_dict": {f"module._orig_mod.{key}": tensor for key, tensor in SE.items()}},
        collections.OrderedDict(SE),
        {key: nn.Parameter(tensor) for key, tensor in SE.items()},
    ],
)
def test_wrapped_checkpoints(checkpoint):
    converted = from_official("se", checkpoint)
    assert converted.keys() == SE.keys()
    for name, tensor in converted.items():
        assert torch.equal(tensor, SE[name])


def test_a_checkpoint_of_before_batches_were_counted():
    old = {k: t for k, t in layers.BAM(32).state_dict().items() if "num_batches" not in k}
    layer = layers.BAM(32)
    converted = from_official("bam", renamed(_State(old), BAM))
    assert not any("num_batches" in name for name in converted)
    layer.load_state_dict(converted)
    assert torch.equal(layer.spatial.conv3.weight, old["spatial.conv3.weight"])


class _State(dict):
    def state_dict(self):
        return self


def without(state, key):
    return {k: t for k, t in state.items() if k != key}


CBAM_STATE = renamed(layers.CBAM(32), CBAM)
RESNET = renamed(models.resnet(18, "se", num_classes=2), [("attention", "se")])
BESIDE = renamed(models.resnet(18, "se", num_classes=2), [("attention.", "")])
INSIDE = renamed(models.resnet(50, "se", placement="conv3x3"), [("attention.", "")])


@pytest.mark.parametrize(
    "family, state, error, message",
    [
        ("senet", SE, ValueError, "unknown family 'senet'; known are 'se', 'cbam'"),
        ("se", {}, ValueError, "empty"),
        ("se", layers.SqueezeExcitation(4), TypeError, "SqueezeExcitation; pass module.state_dict"),
        ("se", [1], TypeError, "got list"),
        ("se", SE | {"fc1.scale": 3.0}, TypeError, "'fc1.scale' is of type float"),
        ("se", {"a": SE, "ema": SE}, ValueError, r"several state dicts, 'a', 'ema'.*\['a'\]"),
        ("se", SE | {"fc3.weight": SE["fc1.weight"]}, ValueError, "cannot place 'fc3.weight' in"),
        ("se", SE | {"fc1.gain": SE["fc1.bias"]}, ValueError, "cannot place 'fc1.gain' in"),
        ("se", SE | {"module.fc1.bias": SE["fc1.bias"]}, ValueError, "'fc1.bias' and 'module.fc1"),
        ("se", without(SE, "fc2.weight"), ValueError, "lacks 'fc2.weight'"),
        ("se", without(SE, "fc1.weight"), ValueError, "lacks 'fc1.weight'"),
        ("se", without(SE, "fc2.bias"), ValueError, "lacks 'fc2.bias'"),
        ("se", SE | {"fc2.weight": SE["fc1.weight"]}, ValueError, r"'fc2.weight' has shape \(2, 3"),
        ("se", SE | {"fc1.weight": SE["fc1.bias"]}, ValueError, r"'fc1.weight' has shape \(2,\)"),
        ("eca", SE, ValueError, "cannot place 'fc1.weight'"),
        ("eca", {"conv.weight": torch.ones(1, 1, 4)}, ValueError, "kernels are odd"),
        (
            "eca",
            {"conv.weight": torch.ones(1, 1, 3), "conv.bias": torch.ones(1)},
            ValueError,
            "bias",
        ),
        (
            "cbam",
            CBAM_STATE | {"SpatialGate.spatial.conv.bias": torch.ones(1)},
            ValueError,
            "cannot place 'SpatialGate.spatial.conv.bias' in the CBAM layer",
        ),
        (
            "cbam",
            CBAM_STATE | {"SpatialGate.spatial.conv.weight": torch.ones(1, 2, 7, 5)},
            ValueError,
            r"'SpatialGate.spatial.conv.weight' has shape \(1, 2, 7, 5\)",
        ),
        (
            "se",
            RESNET | {"layer1.0.conv4.weight": torch.ones(1)},
            ValueError,
            "cannot place 'layer1.0.conv4.weight' in a model",
        ),
        (
            "se",
            RESNET | {"layer1.0.cbam.fc1.weight": torch.ones(1)},
            ValueError,
            "'layer1.0.se' and 'layer1.0.cbam' are both",
        ),
        ("cbam", RESNET, ValueError, "cannot place 'layer1.0.se.fc1.weight'"),
        ("se", without(RESNET, "layer2.1.bn2.bias"), ValueError, "lacks 'layer2.1.bn2.bias'"),
        (
            "se",
            RESNET | {"layer3.0.conv1.weight": torch.ones(256, 64, 3, 3)},
            ValueError,
            r"'layer3.0.conv1.weight' has shape \(256, 64, 3, 3\); .*ResNet-18.*\(256, 128",
        ),
        ("se", RESNET | {"n_averaged": torch.tensor(3)}, ValueError, "'n_averaged': it counts"),
        ("se", without(BESIDE, "layer1.1.fc2.bias"), ValueError, "lacks 'fc2.bias'"),
        (
            "se",
            {k: t for k, t in BESIDE.items() if not k.startswith("layer2.1.fc")},
            ValueError,
            "'layer2.1' has no attention layer",
        ),
        (
            "se",
            BESIDE | {"layer1.0.se.fc1.weight": BESIDE["layer1.0.fc1.weight"]},
            ValueError,
            "'layer1.0' and 'layer1.0.se' are both",
        ),
        (
            "se",
            BESIDE | {"layer1.0.fc3.weight": torch.ones(4, 64)},
            ValueError,
            "'layer1.0' and 'layer1.0.fc3' are both",
        ),
        ("cbam", BESIDE, ValueError, "cannot place 'layer1.0.fc1.weight'"),
        (
            "se",
            BESIDE | {"conv1.weight": torch.ones(64, 3, 3, 3)},
            ValueError,
            r"'conv1.weight' has shape \(64, 3, 3, 3\)",  # the stem for images of 32 pixels
        ),
        (
            "se",
            BESIDE | {"layer2.0.bn1.weight": torch.ones(64)},
            ValueError,
            r"'layer2.0.bn1.weight' has shape \(64,\)",  # batch norm before its convolution
        ),
        (
            "se",
            BESIDE | {"layer2.0.shortcut.0.weight": torch.ones(128, 64, 1, 1)},
            ValueError,
            "cannot place 'layer2.0.shortcut.0.weight' in a model",
        ),
        (
            "se",
            BESIDE | {"layer2.0.downsample.0.bias": torch.ones(128)},
            ValueError,
            "cannot place 'layer2.0.downsample.0.bias' in the ResNet-18",
        ),
        ("se", INSIDE, ValueError, "'layer1.0.fc1.weight': it gates 64 channels, .* ends in 256"),
        (
            "se",
            {"inception_3a_1x1.weight": torch.ones(64, 192, 1, 1)},
            ValueError,
            "the BN-Inception of 'inception_3a_1x1.weight' lacks 'conv1_7x7_s2.weight'",
        ),
        (
            "se",
            {"inception_3a_5x5.weight": torch.ones(1)},
            ValueError,
            "cannot place 'inception_3a_5x5.weight' in a model",
        ),
    ],
)
def test_what_cannot_be_placed_is_named(family, state, error, message):
    with pytest.raises(error, match=message):
        from_official(family, state)


def test_a_network_without_its_head():
    state = {k: t for k, t in RESNET.items() if not k.startswith("fc.")}
    model = models.resnet(18, "se")
    missing = model.load_state_dict(from_official("se", state), strict=False)
    assert missing.missing_keys == ["fc.weight", "fc.bias"] and not missing.unexpected_keys


# ---- the command


def saved(tmp_path, state, name="in.pth"):
    path = tmp_path / name
    save_file(state, path) if path.suffix == ".safetensors" else torch.save(state, path)
    return path


@pytest.mark.parametrize("source", ["in.pth.tar", "in.safetensors"])
@pytest.mark.parametrize("target", ["out.pth", "out.safetensors"])
def test_command(tmp_path, capsys, source, target):
    state = {k: t.contiguous() for k, t in CBAM_STATE.items()}
    path, out = saved(tmp_path, state, source), tmp_path / target
    main([str(path), str(out), "--family", "cbam"])
    assert capsys.readouterr().out == f"{out}: 10 tensors, for attn_lib.layers.CBAM(channels=32)\n"
    written = load_file(out) if out.suffix == ".safetensors" else torch.load(out)
    layers.CBAM(32).load_state_dict(written)
    expected = from_official("cbam", state)
    assert all(torch.equal(written[name], tensor) for name, tensor in expected.items())
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted([source, target])


def test_command_picks_an_entry_and_replaces_on_request(tmp_path, capsys):
    path = saved(tmp_path, {"state_dict": SE, "state_dict_ema": SE})
    out = tmp_path / "out.pth"
    with pytest.raises(SystemExit, match="several state dicts, 'state_dict', 'state_dict_ema'"):
        main([str(path), str(out), "--family", "se"])
    assert not out.exists()
    arguments = [str(path), str(out), "--family", "se", "--entry", "state_dict_ema"]
    main(arguments)
    with pytest.raises(SystemExit, match="out.pth exists; --force replaces it"):
        main(arguments)
    main([*arguments, "--force"])
    with pytest.raises(SystemExit, match="no entry 'ema'"):
        main([*arguments[:-1], "ema", "--force"])
    capsys.readouterr()


class Custom:
    pass


def test_command_says_what_is_wrong_with_a_file(tmp_path):
    def fails(name, message, content=None):
        path = tmp_path / name
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(SystemExit, match=message) as caught:
            main([str(path), str(tmp_path / "out.pth"), "--family", "se"])
        assert caught.value.code  # a message, so the exit code is 1

    with pytest.raises(SystemExit, match="there is no directory .*nowhere"):
        main([str(saved(tmp_path, SE)), str(tmp_path / "nowhere" / "out.pth"), "--family", "se"])
    fails("none.pth", "No such file.*none.pth")
    fails("text.pth", "text.pth", b"not a checkpoint")
    fails("empty.pth", "empty.pth is not a checkpoint", b"")
    fails("bad.safetensors", "bad.safetensors is not a safetensors file", b"0123456789")
    torch.save(Custom(), tmp_path / "code.pth")
    fails("code.pth", "code.pth holds more than tensors")
    torch.save(SE | {"fc9.weight": torch.ones(1)}, tmp_path / "odd.pth")
    fails("odd.pth", "cannot place 'fc9.weight'")
    assert not (tmp_path / "out.pth").exists()


def test_command_without_safetensors_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "safetensors", None)
    path = saved(tmp_path, SE)
    with pytest.raises(SystemExit, match="pip install safetensors"):
        main([str(path), str(tmp_path / "out.safetensors"), "--family", "se"])
    assert [p.name for p in tmp_path.iterdir()] == ["in.pth"]


def test_command_leaves_no_half_file(tmp_path, monkeypatch):
    path = saved(tmp_path, SE)

    def full(tensors, to):
        to.write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr("attn_lib.convert.__main__.torch.save", full)
    with pytest.raises(SystemExit, match="no space left"):
        main([str(path), str(tmp_path / "out.pth"), "--family", "se"])
    assert [p.name for p in tmp_path.iterdir()] == ["in.pth"]


def test_command_from_a_shell(tmp_path):
    path = saved(tmp_path, SE)
    command = [sys.executable, "-m", "attn_lib.convert", str(path), str(tmp_path / "out.pth")]
    done = subprocess.run([*command, "--family", "bam"], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.startswith("error: cannot place 'fc1.weight'")
    assert "Traceback" not in done.stderr and not done.stdout
