"""The narrow residual networks for 32x32 images of He et al. (arXiv 1512.03385, section 4.2)."""

from torch import nn

from attn_lib.layers._base import positive_int
from attn_lib.models._hook import Between, attention_factory, choose_placement
from attn_lib.models.resnet import PLACEMENTS, BasicBlock, conv3x3, initialise, make_stage

__all__ = ["ResNetCifar", "resnet_cifar"]


class ResNetCifar(nn.Module):
    """See :func:`resnet_cifar`."""

    def __init__(self, blocks, width, num_classes, in_channels, attention, placement):
        super().__init__()
        self.conv1 = conv3x3(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        if placement == "stage" and attention:
            self.attention = Between()
        channels = width
        for stage in range(3):
            here = attention and (lambda c, stage=stage: attention(c, stage))
            stride = 1 if stage == 0 else 2
            made = make_stage(
                BasicBlock, blocks, channels, width * 2**stage, stride, here, placement
            )
            self.add_module(f"layer{stage + 1}", made)
            channels = width * 2**stage
            if here and placement == "stage":
                if stage > 0:
                    made.gate_first(self.attention, stage - 1)
                if stage < 2:
                    self.attention.append(here(channels))
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x):
        x = self.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(self.avgpool(x).flatten(1))


def resnet_cifar(
    depth,
    width=16,
    attention=None,
    num_classes=10,
    *,
    in_channels=3,
    placement=None,
    **attention_options,
):
    """ResNet of three stages of basic blocks for small images.

    The shortcuts that change shape are 1x1 convolutions with batch norm, as in the larger
    networks, where the paper's CIFAR networks pad with zeros.

    Parameters
    ----------
    depth : int
        6n + 2 for n = 1, 2, …: n blocks a stage.
    width : int
        Channels of the first stage; the stages have width, 2 width and 4 width.
    attention, num_classes, placement, attention_options
        As for :func:`attn_lib.models.resnet`, with three stages (``"stage"``: after the first
        two).
    in_channels : int
        Channels of the image.

    Returns
    -------
    ResNetCifar : (N, in_channels, H, W) -> logits (N, num_classes).
    """
    if positive_int("depth", depth) % 6 != 2 or depth < 8:
        raise ValueError(f"depth must be 6n + 2 (8, 14, 20, …); got {depth}")
    placement = choose_placement(
        placement, PLACEMENTS, "stage" if attention == "bam" else "standard"
    )
    make = attention_factory(attention, attention_options, stages=3)
    blocks = (depth - 2) // 6
    return ResNetCifar(
        blocks, positive_int("width", width), num_classes, in_channels, make, placement
    )
