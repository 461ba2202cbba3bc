"""The network around the layers: its names, and which of attn_lib.models it is."""

import re

import torch

from attn_lib import models
from attn_lib.convert.layer import fitted, insert, listed
from attn_lib.convert.names import (
    GOOGLENET,
    INCEPTION_BN,
    MOBILENET_V2,
    MOBILENET_V2_FLAT,
    MOBILENET_V2_TIMM,
    PLACES,
    REASONS,
    RESNET,
    STAGE_OF_BLOCK,
)
from attn_lib.models.mobilenet_v2 import channels_of
from attn_lib.models.resnet import DEPTHS


def table_of(names):
    """Names of the backbone that these are, or None for a single layer."""
    for start, table in (
        ("layer1.", RESNET),
        ("inception3a.", GOOGLENET),
        ("inception_3a", INCEPTION_BN),
        ("conv_stem.", MOBILENET_V2_TIMM),
        ("features.1.conv.0.weight", MOBILENET_V2_FLAT),
        ("features.", MOBILENET_V2),
    ):
        if any(name.startswith(start) for name in names):
            return table
    return None


def split(named, table):
    """The backbone under torchvision's names, and the layers' tensors by place."""
    backbone, groups, prefixes, lost = {}, {}, {}, []
    for name, (key, tensor) in named.items():
        for pattern, why in REASONS:
            if re.match(pattern, name):
                raise ValueError(f"cannot place {key!r}: {why}")
        module, _, leaf = name.rpartition(".")
        ours = _substitute(table, module)
        if ours is not None:
            insert(backbone, f"{ours}.{leaf}", key, tensor)
            continue
        prefix, place = _place(name)
        if place is None:
            lost.append(key)
            continue
        if prefixes.setdefault(place, prefix) != prefix:
            raise ValueError(
                f"{prefixes[place]!r} and {prefix!r} are both {place!r} in attn_lib, which has one "
                "layer there"
            )
        groups.setdefault(place, {})[name.removeprefix(f"{prefix}.")] = (key, tensor)
    if lost:
        raise ValueError(f"cannot place {listed(lost)} in a model of attn_lib")
    return backbone, groups


def _substitute(table, module):
    for pattern, target in table:
        if match := re.fullmatch(pattern, module):
            return target(match) if callable(target) else match.expand(target)
    return None


def _place(name):
    """The published prefix of an attention layer, and attn_lib's."""
    for pattern, target in PLACES:
        if match := re.match(rf"{pattern}(?=\.)", name):
            return match[0], target(match) if callable(target) else match.expand(target)
    return None, None


def check_backbone(backbone):
    """The model's function and arguments; an error unless names and shapes are that model's."""
    heads = ("fc.", "classifier.1.", "last_linear.")
    weights = [backbone[f"{head}weight"] for head in heads if f"{head}weight" in backbone]
    keywords = {"num_classes": len(weights[0][1])} if weights else {}
    if "inception3a.branch1.conv.weight" in backbone:
        function, where = models.googlenet, "GoogLeNet"
        if any(name.startswith("aux1.") for name in backbone):
            keywords["aux_logits"] = True
    elif any(name.startswith("inception_3a.") for name in backbone):
        function, where = models.inception_bn, "BN-Inception"
    elif any(name.startswith("features.") for name in backbone):
        function, where = models.mobilenet_v2, "MobileNetV2"
        keywords = {"width": _width(backbone)} | keywords
    else:
        function, keywords = _resnet(backbone, keywords)
        where = f"ResNet-{keywords['depth']}"
    with torch.device("meta"):
        wanted = function(**keywords).state_dict()
    optional = [name for name in wanted if name.startswith(heads)]
    backbone |= fitted(backbone, wanted, where, optional)
    return function, keywords


def check_blocks(backbone, groups, found):
    """An error unless the layers in residual blocks gate the branch of every block, at its end."""
    blocks = {match[0] for name in backbone if (match := re.match(r"layer\d\.\d+", name))}
    if not any(f"{block}.attention" in found for block in blocks):
        return
    for block in sorted(blocks):
        place = f"{block}.attention"
        if place not in found:
            raise ValueError(f"{block!r} has no attention layer, although other blocks have one")
        norm = backbone.get(f"{block}.bn3.weight") or backbone[f"{block}.bn2.weight"]
        channels, ends = found[place][1].get("channels"), len(norm[1])
        if channels not in (None, ends):  # ECA's kernel does not tell
            key, _ = next(iter(groups[place].values()))
            raise ValueError(
                f"cannot place {key!r}: it gates {channels} channels, where the residual branch of "
                f"{block!r} ends in {ends}; so it sits elsewhere, and a state dict does not say "
                "where"
            )


def _resnet(backbone, keywords):
    """As :func:`check_backbone`, from the number of blocks of each stage."""
    blocks = {match[0] for name in backbone if (match := re.match(r"layer[1-4]\.\d+", name))}
    stages = sorted(block[:6] for block in blocks)
    counts = tuple(stages.count(stage) for stage in sorted(set(stages)))
    bottleneck = "layer1.0.conv3.weight" in backbone
    if any(name.startswith("layer0.") for name in backbone):
        if not bottleneck:
            raise ValueError(
                f"cannot place {backbone['layer0.conv1.weight'][0]!r}: with basic blocks, as in "
                "timm's legacy_seresnet18, it belongs to a network with a ReLU before the gate, "
                "which attn_lib does not have"
            )
        keywords = keywords | {"variant": "caffe"}
    if len(counts) == 3 and len(set(counts)) == 1 and not bottleneck:
        stem = backbone.get("conv1.weight")
        width, in_channels = stem[1].shape[:2] if stem and stem[1].dim() == 4 else (16, 3)
        keywords = keywords | {"width": width, "in_channels": in_channels}
        return models.resnet_cifar, {"depth": 6 * counts[0] + 2} | keywords
    for depth, known in DEPTHS.items():
        if known == counts and (depth >= 50) == bottleneck:
            return models.resnet, {"depth": depth} | keywords
    kind = "bottlenecks" if bottleneck else "basic blocks"
    raise ValueError(
        f"stages of {counts} {kind} are no ResNet of attn_lib; those have "
        + ", ".join(f"{known} ({depth})" for depth, known in DEPTHS.items())
    )


def _width(backbone):
    """Width of the MobileNetV2 with these channels: quarters first, then twentieths, hundredths."""
    given = {}
    for name, (_, tensor) in backbone.items():
        match = re.match(r"features\.(\d+)\.(1|conv\.[23])\.weight", name)
        if match and tensor.dim() == 1:
            index = int(match[1])
            position = 0 if index == 0 else 8 if index == 18 else 1 + STAGE_OF_BLOCK[index - 1]
            given[position] = len(tensor)
    percents = sorted(range(5, 401), key=lambda p: (p % 25 > 0, p % 5 > 0, p))
    for percent in [100, *percents]:
        channels = channels_of(percent / 100)
        if all(channels[position] == number for position, number in given.items()):
            return percent / 100
    raise ValueError(f"no width of MobileNetV2 has layers of {[*given.values()]} channels")
