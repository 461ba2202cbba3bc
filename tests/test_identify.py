"""identify: the layers of published repositories are found by their names, alone and in models."""

import re
from pathlib import Path

import pytest
import torch
from others import timm, torchvision
from timm import layers as theirs
from timm.layers import cbam, coord_attn, global_context, non_local_attn, squeeze_excite
from torch import nn

from attn_lib import layers, models
from attn_lib.convert import from_official, identify
from attn_lib.convert.__main__ import main


def conv_bn(kernel_size=7, bias=False):
    conv = nn.Conv2d(2, 1, kernel_size, bias=bias)
    return nn.ModuleDict({"conv": conv, "bn": nn.BatchNorm2d(1)})


def tree(**modules):
    """A module with these submodules; ``a__b`` is b inside a."""
    made = nn.Module()
    for name, module in modules.items():
        *owners, leaf = name.split("__")
        owner = made
        for part in owners:
            if not hasattr(owner, part):
                owner.add_module(part, nn.Module())
            owner = getattr(owner, part)
        owner.add_module(leaf, module)
    return made


def mlp(c=32, m=2, conv=False, bias=True, first=()):
    maps = [nn.Conv2d(c, m, 1, bias=bias), nn.Conv2d(m, c, 1, bias=bias)]
    if not conv:
        maps = [nn.Linear(c, m, bias=bias), nn.Linear(m, c, bias=bias)]
    return nn.Sequential(*first, maps[0], nn.ReLU(), maps[1])


def context(c=32, m=2):
    return nn.Sequential(nn.Conv2d(c, m, 1), nn.LayerNorm([m, 1, 1]), nn.ReLU(), nn.Conv2d(m, c, 1))


def parameters(**shapes):
    return {name: torch.zeros(shape) for name, shape in shapes.items()}


CONV = nn.Conv2d(32, 1, 1)
TWO = {"channels": 32, "hidden": 2, "reduction": 16}
FLAT = [nn.Flatten()]

LAYERS = [  # module or state dict, family, part of the repository, part of what is known
    (theirs.SEModule(64), "se", "pytorch-image-models", {"hidden": 8, "bias": True}),
    (squeeze_excite.SqueezeExciteCl(64), "se", "attn_lib", {"channels": 64, "reduction": 8}),
    (tree(fc=mlp(bias=False)), "se", "moskomule", TWO | {"bias": False}),
    (
        tree(ChannelGate__mlp=mlp(first=FLAT), SpatialGate__spatial=conv_bn()),
        "cbam",
        "Jongchan",
        TWO | {"kernel_size": 7},
    ),
    (tree(ChannelGate__mlp=mlp(first=FLAT)), "cbam", "Jongchan", TWO),
    (cbam.CbamModule(32), "cbam", "pytorch-image-models", TWO | {"bias": False}),
    (cbam.LightCbamModule(32), "cbam", "pytorch-image-models", TWO),
    (
        tree(ca__se=mlp(conv=True, bias=False), sa__conv=nn.Conv2d(2, 1, 49)),
        "cbam",
        "xmu-xiaoma666",
        TWO | {"kernel_size": 49},
    ),
    (
        tree(ca__fc=mlp(conv=True, bias=False), sa__conv=nn.Conv2d(2, 1, 7, bias=False)),
        "cbam",
        "changzy00",
        TWO,
    ),
    (nn.ModuleDict({"conv": nn.Conv1d(1, 1, 5)}), "eca", "BangguWu", {"kernel_size": 5}),
    (theirs.EcaModule(64), "eca", "BangguWu", {"kernel_size": 3, "bias": False}),
    (theirs.EcaModule(64, use_mlp=True), "eca", "pytorch-image-models", {"hidden": 8}),
    (coord_attn.CoordAttn(64), "coordinate", "houqb", {"bias": False, "hidden": 8}),
    (layers.CoordinateAttention(64), "coordinate", "houqb", {"bias": True}),
    (layers.BAM(32), "bam", "attn_lib", TWO),
    (layers.CBAM(32, kernel_size=3), "cbam", "attn_lib", TWO | {"kernel_size": 3}),
    (
        tree(cSE=mlp(conv=True, first=[nn.Identity()]), sSE=nn.Sequential(CONV)),
        "scse",
        "segmentation_models",
        TWO,
    ),
    (theirs.SelectiveKernel(32), "sk", "pytorch-image-models", {"channels": 32, "hidden": 8}),
    (
        tree(channel_add_conv=context(), conv_mask=CONV),
        "gc",
        "GCNet",
        TWO | {"softmax pooling": True, "multiplies": False},
    ),
    (
        global_context.GlobalContext(32, fuse_add=True),
        "gc",
        "pytorch-image-models",
        {"adds": True, "softmax pooling": True},
    ),
    (
        parameters(cfc=(32, 2)) | tree(bn=nn.BatchNorm2d(32)).state_dict(),
        "srm",
        "hyunjaelee410",
        {"channels": 32},
    ),
    (
        parameters(alpha=(1, 32, 1, 1), beta=(1, 32, 1, 1), gamma=(1, 32, 1, 1)),
        "gct",
        "z-x-yang",
        {"channels": 32},
    ),
    (
        parameters(**{"dct_layer.weight": (32, 7, 5)}) | tree(fc=mlp(bias=False)).state_dict(),
        "fca",
        "cfzd",
        TWO | {"height": 7, "width": 5},
    ),
    (
        tree(cw__conv=conv_bn(), hc__conv=conv_bn()),
        "triplet",
        "landskape-ai",
        {"kernel_size": 7, "spatial view": False},
    ),
    (coord_attn.EfficientLocalAttn(32), "ela", "pytorch-image-models", {"kernel_size": 7}),
    (theirs.EffectiveSEModule(32), "ese", "vovnet", {"channels": 32}),
    (parameters(weight=(1, 64, 1, 1), bias=(1, 64, 1, 1)), "sge", "implus", {"groups": 64}),
    (non_local_attn.NonLocalAttn(64), "nonlocal", "pytorch-image-models", {"hidden": 8}),
]


@pytest.mark.parametrize("made, family, repository, known", LAYERS, ids=lambda v: str(v)[:12])
def test_one_layer(made, family, repository, known):
    weights = made if isinstance(made, dict) else made.state_dict()
    (variant,) = identify({f"module.{name}": tensor for name, tensor in weights.items()})
    assert variant.family == family
    assert repository in variant.repository
    assert known.items() <= variant.known.items()
    assert variant.places == ("",)
    assert variant.open


def test_a_whole_model():
    model = timm.create_model("resnet18", block_args={"attn_layer": "se"})
    (variant,) = identify({"epoch": 3, "state_dict": model.state_dict()})
    assert variant.family == "se"
    assert variant.places[:2] == ("layer1.0.se", "layer1.1.se")
    assert len(variant.places) == 8
    assert variant.known == {
        "channels": (64, 128, 256, 512),
        "hidden": (8, 16, 32),
        "reduction": (8, 16),
        "bias": True,
    }


def test_networks_of_other_libraries():
    with torch.device("meta"):
        networks = torchvision.models.mobilenet_v3_small(), timm.create_model("efficientnet_b0")
    for network, places in zip(networks, (9, 16), strict=True):
        (variant,) = identify(network.state_dict())
        assert (variant.family, len(variant.places)) == ("se", places)
        assert "sigmoid or hard sigmoid" in variant.open


def test_layers_beside_the_convolutions():
    block = tree(conv1=nn.Conv2d(3, 32, 3), fc1=nn.Linear(32, 2), fc2=nn.Linear(2, 32))
    (variant,) = identify(nn.Sequential(block, block).state_dict())
    assert variant.repository == "miraclewkf/SENet-PyTorch"
    assert variant.places == ("0", "1")


@pytest.mark.parametrize("attention", ["se", "cbam", "bam", "eca", "coordinate"])
def test_our_own_networks(attention):
    with torch.device("meta"):
        weights = models.resnet_cifar(8, attention=attention).state_dict()
    assert {variant.family for variant in identify(weights)} == {attention}


def test_the_official_names_of_bam():
    official = {
        "channel_att.gate_c.gate_c_fc_0": nn.Linear(32, 2),
        "channel_att.gate_c.gate_c_bn_1": nn.BatchNorm1d(2),
        "channel_att.gate_c.gate_c_fc_final": nn.Linear(2, 32),
        "spatial_att.gate_s.gate_s_conv_reduce0": nn.Conv2d(32, 2, 1),
        "spatial_att.gate_s.gate_s_bn_reduce0": nn.BatchNorm2d(2),
        "spatial_att.gate_s.gate_s_conv_di_0": nn.Conv2d(2, 2, 3),
        "spatial_att.gate_s.gate_s_bn_di_0": nn.BatchNorm2d(2),
        "spatial_att.gate_s.gate_s_conv_di_1": nn.Conv2d(2, 2, 3),
        "spatial_att.gate_s.gate_s_bn_di_1": nn.BatchNorm2d(2),
        "spatial_att.gate_s.gate_s_conv_final": nn.Conv2d(2, 1, 1),
    }
    weights = tree(**{k.replace(".", "__"): m for k, m in official.items()}).state_dict()
    (variant,) = identify(weights)
    assert variant.repository.startswith("Jongchan/attention-module")
    assert "product or sum of the branches" in variant.open
    from_official("bam", weights)  # which has the same names in its table


def test_nothing_known_and_nothing_given():
    with torch.device("meta"):
        assert identify(models.mobilenet_v2().state_dict()) == []
        assert identify(timm.create_model("vit_tiny_patch16_224").state_dict()) == []
    with pytest.raises(ValueError, match="empty"):
        identify({})
    with pytest.raises(TypeError, match="'a' is of type int"):
        identify({"a": 3})
    with pytest.raises(TypeError, match="got the module SqueezeExcitation"):
        identify(layers.SqueezeExcitation(8))


def test_from_a_shell(tmp_path, capsys):
    file = tmp_path / "cbam.pth"
    torch.save(cbam.CbamModule(32).state_dict(), file)
    main([str(file), "--identify"])
    printed = capsys.readouterr().out
    assert printed.startswith("cbam (CbamModule), 1 layer\n  names of: huggingface/")
    assert "kernel_size 7" in printed and "maximum or mean first" in printed
    with pytest.raises(SystemExit):
        main([str(file)])
    with pytest.raises(SystemExit):
        main([str(file), "out.pth"])
    assert "belong together" in capsys.readouterr().err


def test_the_page_prints_what_it_shows(capsys):
    page = Path(__file__).parents[1] / "book/implementations.md"
    text = page.read_text(encoding="utf-8")
    code, printed = re.search(r"```python\n(.*?)```\n\n```text\n(.*?)```", text, re.S).groups()
    exec(code, {})
    assert capsys.readouterr().out == printed


@pytest.mark.parametrize(
    "layer",
    [
        layers.build("scse", 64),
        layers.build("sk", 64),
        layers.build("gc", 64),
        layers.build("gc", 64, fusion="multiply"),
        layers.build("srm", 64),
        layers.build("gct", 64),
        layers.build("fca", 64, height=7, width=7),
        layers.build("triplet", 64),
        layers.build("triplet", 64, spatial=False),
        layers.build("ela", 64),
        layers.build("ema", 64),
        layers.build("ese", 64),
        layers.build("nonlocal", 64),
        layers.build("nonlocal", 64, pairwise="gaussian", batch_norm=False),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_further_layers_of_attn_lib_are_known_and_mistaken_for_nothing_else(layer):
    (variant,) = identify(layer.state_dict())
    name = next(name for name, kind in layers._LAYERS.items() if kind is type(layer))
    assert variant.family == name
    assert variant.known.get("channels", 64) == 64
