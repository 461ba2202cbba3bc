"""BN-Inception (Ioffe & Szegedy, arXiv 1502.03167, Figure 5) with attention on every block.

It is the network on which the SE paper builds SE-BN-Inception: GoogLeNet with batch norm, and two
3x3 convolutions for each 5x5. Channels are those of the released ``SE-BN-Inception.prototxt``
(hujie-frank/SENet) and of Cadene/pretrained-models.pytorch (bninception.py), which agree; 4c and
4d project their pooled branch to 128 channels.

A block's parameters have the port's names behind a dot: its ``inception_3a_1x1.weight`` is
``inception_3a.1x1.weight`` here, so that a block is one module, to cut, to hook or to replace.
``load_state_dict`` takes either.
"""

import re

import torch
from torch import nn

from attn_lib.layers._base import positive_int
from attn_lib.models._hook import attention_factory, choose_placement
from attn_lib.models.resnet import initialise

__all__ = ["BNInception", "Inception", "inception_bn"]

# name: channels of (1x1, 3x3 reduce, 3x3, double 3x3 reduce, double 3x3, pool projection). Without
# a 1x1 branch and a projection, the block has stride 2.
_BLOCKS = {
    "3a": (64, 64, 64, 64, 96, 32),
    "3b": (64, 64, 96, 64, 96, 64),
    "3c": (0, 128, 160, 64, 96, 0),
    "4a": (224, 64, 96, 96, 128, 128),
    "4b": (192, 96, 128, 96, 128, 128),
    "4c": (160, 128, 160, 128, 160, 128),
    "4d": (96, 128, 192, 160, 192, 128),
    "4e": (0, 128, 192, 192, 256, 0),
    "5a": (352, 192, 320, 160, 224, 128),
    "5b": (352, 192, 320, 192, 224, 128),
}


def _add_convolution(module, name, in_channels, out_channels, kernel_size=1, stride=1):
    """Convolution with bias, and batch norm, as children of ``module`` under the port's names."""
    padding = kernel_size // 2
    conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding)
    module.add_module(name, conv)
    module.add_module(f"{name}_bn", nn.BatchNorm2d(out_channels))


class Inception(nn.Module):
    """Up to four branches side by side, concatenated; attention gates all their channels.

    Parameters
    ----------
    in_channels : int
    widths : tuple of int
        Channels of the 1x1 branch, of the 3x3 branch (reduced, out), of the double 3x3 branch
        (reduced, out) and of the pooled branch. Where the first and the last are 0, the stride is 2
        and the pooled branch keeps the channels of the input.
    pooling : nn.Module
        Of the pooled branch.
    attention : callable, optional
        channels -> nn.Module.
    """

    def __init__(self, in_channels, widths, pooling, attention=None):
        super().__init__()
        one, reduced, three, double_reduced, double, projected = widths
        stride = 1 if one else 2
        self.out_channels = one + three + double + (projected or in_channels)
        if one:
            _add_convolution(self, "1x1", in_channels, one)
        _add_convolution(self, "3x3_reduce", in_channels, reduced)
        _add_convolution(self, "3x3", reduced, three, 3, stride)
        _add_convolution(self, "double_3x3_reduce", in_channels, double_reduced)
        _add_convolution(self, "double_3x3_1", double_reduced, double, 3)
        _add_convolution(self, "double_3x3_2", double, double, 3, stride)
        self.pool = pooling
        if projected:
            _add_convolution(self, "pool_proj", in_channels, projected)
        self.relu = nn.ReLU(inplace=True)
        self.attention = nn.Identity() if attention is None else attention(self.out_channels)
        self.downsamples = stride == 2

    def _branch(self, x, *names):
        for name in names:
            x = self.relu(getattr(self, f"{name}_bn")(getattr(self, name)(x)))
        return x

    def forward(self, x):
        branches = [
            self._branch(x, "3x3_reduce", "3x3"),
            self._branch(x, "double_3x3_reduce", "double_3x3_1", "double_3x3_2"),
            self.pool(x),
        ]
        if not self.downsamples:
            branches = [
                self._branch(x, "1x1"),
                *branches[:2],
                self._branch(branches[2], "pool_proj"),
            ]
        return self.attention(torch.cat(branches, dim=1))


class BNInception(nn.Module):
    """See :func:`inception_bn`. Its children stand in the order of the forward pass."""

    def __init__(self, num_classes, attention):
        super().__init__()
        _add_convolution(self, "conv1_7x7_s2", 3, 64, 7, stride=2)
        self.conv1_relu_7x7 = nn.ReLU(inplace=True)
        self.pool1_3x3_s2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        _add_convolution(self, "conv2_3x3_reduce", 64, 64)
        self.conv2_relu_3x3_reduce = nn.ReLU(inplace=True)
        _add_convolution(self, "conv2_3x3", 64, 192, 3)
        self.conv2_relu_3x3 = nn.ReLU(inplace=True)
        self.pool2_3x3_s2 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        channels = 192
        for name, widths in _BLOCKS.items():
            stage = int(name[0]) - 3
            here = attention and (lambda c, stage=stage: attention(c, stage))
            if not widths[0]:
                # the port's windows, and one more where a side is odd, as the convolutions have it
                pooling = nn.Sequential(
                    nn.ConstantPad2d((0, 1, 0, 1), float("-inf")),
                    nn.MaxPool2d(3, stride=2, ceil_mode=True),
                )
            elif name == "5b":
                pooling = nn.MaxPool2d(3, stride=1, padding=1)
            else:
                pooling = nn.AvgPool2d(3, stride=1, padding=1)
            block = Inception(channels, widths, pooling, here)
            self.add_module(f"inception_{name}", block)
            channels = block.out_channels
        self.global_pool = nn.AdaptiveAvgPool2d(1)
        self.last_linear = nn.Linear(channels, num_classes)
        initialise(self)

    def forward(self, x):
        x = self.pool1_3x3_s2(self.conv1_relu_7x7(self.conv1_7x7_s2_bn(self.conv1_7x7_s2(x))))
        x = self.conv2_relu_3x3_reduce(self.conv2_3x3_reduce_bn(self.conv2_3x3_reduce(x)))
        x = self.pool2_3x3_s2(self.conv2_relu_3x3(self.conv2_3x3_bn(self.conv2_3x3(x))))
        for name in _BLOCKS:
            x = getattr(self, f"inception_{name}")(x)
        return self.last_linear(self.global_pool(x).flatten(1))

    def _load_from_state_dict(self, state_dict, prefix, *arguments):
        """Also under the port's own names: inception_3a_1x1 for inception_3a.1x1."""
        flat = re.compile(rf"({re.escape(prefix)}inception_\d[a-e])_(.+)")
        for key in [key for key in state_dict if flat.fullmatch(key)]:
            state_dict[flat.sub(r"\1.\2", key)] = state_dict.pop(key)
        super()._load_from_state_dict(state_dict, prefix, *arguments)


def inception_bn(attention=None, num_classes=1000, *, placement=None, **attention_options):
    """BN-Inception with attention on the concatenated output of each of its ten Inception blocks.

    Parameters
    ----------
    attention : None, str or callable
        A name of ``attn_lib.layers.build``, or a callable ``channels -> nn.Module``.
    num_classes : int
        Outputs of the last linear layer.
    placement : str, optional
        ``"standard"`` is the only published one (SE paper, Figure 2); the released
        ``SE-BN-Inception.prototxt`` has it on the two blocks of stride 2 as well.
    attention_options
        Options of the layer; a tuple gives one value for each of the stages 3, 4 and 5.

    Returns
    -------
    BNInception : (N, 3, H, W) -> logits (N, num_classes).

    Raises
    ------
    ValueError
        An unknown placement, attention or option; the message lists the known. No classes.

    Notes
    -----
    At 224x224 the network has 2.033 G multiply-adds, which the SE paper (Table 2) prints as 2.03.
    With SE they are 2.0332 G, and the paper prints 2.04. It is 2.0356 G if SE's mean and its
    product count too, one operation each for every number of the ten feature maps.

    The convolutions have biases, as in the port, although a batch norm follows each of them; the
    released SE-BN-Inception has none. Batch norm averages with PyTorch's momentum of 0.1, where the
    port sets 0.9; this changes training alone. Images of any size are taken; where the sides of a
    feature map are odd before a block of stride 2, as for 240x240, the port fails.
    """
    choose_placement(placement, ("standard",), "standard")
    make = attention_factory(attention, attention_options, stages=3)
    return BNInception(positive_int("num_classes", num_classes), make)
