"""Residual networks (He et al., arXiv 1512.03385) with attention where its authors put it.

The 3x3 convolution of a bottleneck carries the stride, as in torchvision, whose parameter names
these are; torchvision's checkpoints load where ``attention`` is None.
"""

from collections import OrderedDict

from torch import nn

from attn_lib.models._hook import Between, Stage, attention_factory, choose_placement

__all__ = [
    "PLACEMENTS",
    "VARIANTS",
    "BasicBlock",
    "Bottleneck",
    "ResNet",
    "initialise_as_attention_module",
    "resnet",
]

PLACEMENTS = ("standard", "pre", "post", "identity", "conv3x3", "stage")
VARIANTS = ("torchvision", "caffe")

DEPTHS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def conv3x3(in_channels, out_channels, stride=1):
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def conv1x1(in_channels, out_channels, stride=1):
    return nn.Conv2d(in_channels, out_channels, 1, stride, bias=False)


class _Block(nn.Module):
    """A residual block: y = relu(residual(x) + shortcut(x)), with attention at one place of it."""

    expansion = 1

    def __init__(self, in_channels, width, stride, attention, placement):
        super().__init__()
        out_channels = self.expansion * width
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                conv1x1(in_channels, out_channels, stride), nn.BatchNorm2d(out_channels)
            )
        self.placement = placement
        if attention is not None:
            gated = {"pre": in_channels, "conv3x3": width}.get(placement, out_channels)
            self.attention = attention(gated)

    def residual(self, x):
        raise NotImplementedError

    def forward(self, x):
        shortcut = x if self.downsample is None else self.downsample(x)
        if self.placement == "identity":
            shortcut = self.attention(shortcut)
        y = self.residual(self.attention(x) if self.placement == "pre" else x)
        if self.placement == "standard":
            y = self.attention(y)
        y = self.relu(y + shortcut)
        return self.attention(y) if self.placement == "post" else y


class BasicBlock(_Block):
    """Two 3x3 convolutions, the first with the stride."""

    def __init__(self, in_channels, width, stride=1, attention=None, placement=None):
        if placement == "conv3x3":
            raise ValueError("placement 'conv3x3' needs a bottleneck: depth 50, 101 or 152")
        super().__init__(in_channels, width, stride, attention, placement)
        self.conv1 = conv3x3(in_channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)

    def residual(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))


class Bottleneck(_Block):
    """1x1 down to ``width``, 3x3 with the stride, 1x1 up to four times ``width``."""

    expansion = 4

    def __init__(self, in_channels, width, stride=1, attention=None, placement=None):
        super().__init__(in_channels, width, stride, attention, placement)
        self.conv1 = conv1x1(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width, stride)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = conv1x1(width, self.expansion * width)
        self.bn3 = nn.BatchNorm2d(self.expansion * width)

    def residual(self, x):
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        if self.placement == "conv3x3":
            y = self.attention(y)
        return self.bn3(self.conv3(y))


class CaffeBottleneck(Bottleneck):
    """As :class:`Bottleneck`, but the first 1x1 convolution carries the stride."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.conv1.stride, self.conv2.stride = self.conv2.stride, self.conv1.stride


def make_stage(block, blocks, in_channels, width, stride, attention, placement):
    """``blocks`` residual blocks; ``attention`` is a function of the channels, or None."""
    inside = placement if attention is not None and placement != "stage" else None
    made = []
    for i in range(blocks):
        made.append(
            block(in_channels, width, stride if i == 0 else 1, inside and attention, inside)
        )
        in_channels = block.expansion * width
    return Stage(*made)


def initialise(model):
    """He initialisation of the convolutions (fan-out), 1 and 0 for batch norm, as torchvision.

    Only the backbone: what a mechanism initialised inside its own module is left as it is.
    """
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d) and "attention" not in name.split("."):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def initialise_as_attention_module(model):
    """As the networks of CBAM's and BAM's authors (Jongchan/attention-module, model_resnet.py).

    They choose by name. Every bias is 0, and so is the weight of CBAM's spatial batch norm: each
    spatial gate starts at one half. What is called "conv", inside the mechanism too, gets He's
    initialisation by fan-out, the last linear layer by fan-in. The convolutions of the shortcuts
    and the linear layers of the channel gates have other names and keep PyTorch's default.
    """
    for name, parameter in model.named_parameters():
        if name.endswith((".bias", "spatial.bn.weight")):
            nn.init.zeros_(parameter)
        elif "conv" in name:
            nn.init.kaiming_normal_(parameter, mode="fan_out")
        elif name == "fc.weight":
            nn.init.kaiming_normal_(parameter)


class ResNet(nn.Module):
    """See :func:`resnet`."""

    def __init__(self, block, blocks, num_classes=1000, attention=None, placement=None):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        if placement == "stage" and attention:
            self.attention = Between()
        channels = 64
        for stage, count in enumerate(blocks):
            here = attention and (lambda c, stage=stage: attention(c, stage))
            width = 64 * 2**stage
            made = make_stage(
                block, count, channels, width, 1 if stage == 0 else 2, here, placement
            )
            self.add_module(f"layer{stage + 1}", made)
            channels = block.expansion * width
            if here and placement == "stage":
                if stage > 0:
                    made.gate_first(self.attention, stage - 1)
                if stage < len(blocks) - 1:
                    self.attention.append(here(channels))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)

    def stem(self, x):
        return self.maxpool(self.relu(self.bn1(self.conv1(x))))

    def forward(self, x):
        x = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.avgpool(x).flatten(1))


class CaffeResNet(ResNet):
    """As :class:`ResNet`, but the first pooling is not padded; see ``variant`` there."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.layer0 = nn.Sequential(OrderedDict(conv1=self.conv1, bn1=self.bn1, relu=self.relu))
        del self.conv1, self.bn1
        self.maxpool = nn.MaxPool2d(3, stride=2, ceil_mode=True)

    def stem(self, x):
        return self.maxpool(self.layer0(x))


def resnet(
    depth,
    attention=None,
    num_classes=1000,
    *,
    placement=None,
    variant="torchvision",
    **attention_options,
):
    """ResNet for images of about 224x224, with an attention module at one place of every block.

    Parameters
    ----------
    depth : int
        18, 34, 50, 101 or 152.
    attention : None, str or callable
        A name of ``attn_lib.layers.build``, or a callable ``channels -> nn.Module``.
    num_classes : int
        Outputs of the last linear layer.
    placement : str, optional
        Where it sits. ``"standard"``: on the residual branch, before the sum (SE, CBAM, ECA).
        ``"pre"``, ``"post"``, ``"identity"``: before the branch, after the sum and its ReLU, on
        the shortcut (SE paper, section 6.5). ``"conv3x3"``: behind the 3x3 convolution of a
        bottleneck, its batch norm and ReLU (SE paper, section 6.5, which leaves the side of the
        ReLU open). ``"stage"``: once after each of the stages 1 to 3, as
        ``model.attention[0 … 2]``, called at the start of the next stage (BAM). None: ``"stage"``
        for ``"bam"``, else ``"standard"``.
    variant : str
        ``"torchvision"``, or ``"caffe"``: the network of the SE authors' released models, of depth
        50, 101 or 152, whose weights Cadene/pretrained-models.pytorch ported. The first 1x1
        convolution of a bottleneck carries the stride, and the first pooling covers the edge
        (``ceil_mode``) where torchvision's is padded. All shapes are the same; so the stem is
        called ``layer0``, as in that port, lest one variant load the other's weights.
    attention_options
        Options of the layer, such as ``reduction=8``; a tuple gives one value a stage, such as
        ``kernel_size=(3, 5, 5, 7)``.

    Returns
    -------
    ResNet : (N, 3, H, W) -> logits (N, num_classes).

    Raises
    ------
    ValueError
        An unknown depth, placement, variant, attention or option; the message lists the known.

    Notes
    -----
    A network starts as its mechanism's authors start theirs, where they publish it. ``"cbam"`` and
    ``"bam"`` (Jongchan/attention-module, model_resnet.py): all biases 0, as is the weight of CBAM's
    spatial batch norm, so that each spatial gate starts at one half; what is called "conv" by He's
    rule. ``"eca"`` (its eca_resnet.py) and all others: He's initialisation of the backbone's
    convolutions, as torchvision; the mechanism's own weights as PyTorch initialises them.
    """
    if depth not in DEPTHS:
        raise ValueError(f"unknown depth {depth!r}; known are {', '.join(map(str, DEPTHS))}")
    placement = choose_placement(
        placement, PLACEMENTS, "stage" if attention == "bam" else "standard"
    )
    if variant not in VARIANTS:
        raise ValueError(f"unknown variant {variant!r}; known are {', '.join(map(repr, VARIANTS))}")
    if variant == "caffe" and depth < 50:
        raise ValueError(f"variant 'caffe' needs bottlenecks: depth 50, 101 or 152; got {depth}")
    make = attention_factory(attention, attention_options, stages=4)
    if variant == "caffe":
        model = CaffeResNet(CaffeBottleneck, DEPTHS[depth], num_classes, make, placement)
    else:
        block = BasicBlock if depth < 50 else Bottleneck
        model = ResNet(block, DEPTHS[depth], num_classes, make, placement)
    if attention in ("cbam", "bam"):
        initialise_as_attention_module(model)
    else:
        initialise(model)
    return model
