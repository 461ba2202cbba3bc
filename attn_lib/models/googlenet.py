"""GoogLeNet (Szegedy et al., arXiv 1409.4842) with batch norm and attention on every block.

Parameter names, batch norm constants, the 3x3 kernel in the branch that the paper gives a 5x5 one
and the initialisation are torchvision's, so that its checkpoint loads where ``attention`` is None.
"""

import torch
from torch import nn

from attn_lib.models._hook import attention_factory, choose_placement

__all__ = ["GoogLeNet", "Inception", "googlenet"]

# name: channels of (1x1, 3x3 reduce, 3x3, 5x5 reduce, 5x5, pool projection); Table 1 of the paper
_BLOCKS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


class BasicConv2d(nn.Module):
    """Convolution, batch norm, ReLU."""

    def __init__(self, in_channels, out_channels, kernel_size, stride=1, padding=0):
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out_channels, eps=0.001)

    def forward(self, x):
        return torch.relu(self.bn(self.conv(x)))


class Inception(nn.Module):
    """Four branches side by side, concatenated; attention gates the concatenated channels."""

    def __init__(self, in_channels, widths, attention=None):
        super().__init__()
        one, three_reduce, three, five_reduce, five, pool = widths
        self.out_channels = one + three + five + pool
        self.branch1 = BasicConv2d(in_channels, one, 1)
        self.branch2 = nn.Sequential(
            BasicConv2d(in_channels, three_reduce, 1),
            BasicConv2d(three_reduce, three, 3, padding=1),
        )
        self.branch3 = nn.Sequential(
            BasicConv2d(in_channels, five_reduce, 1),
            BasicConv2d(five_reduce, five, 3, padding=1),
        )
        self.branch4 = nn.Sequential(
            nn.MaxPool2d(3, stride=1, padding=1, ceil_mode=True),
            BasicConv2d(in_channels, pool, 1),
        )
        self.attention = nn.Identity() if attention is None else attention(self.out_channels)

    def forward(self, x):
        branches = (self.branch1, self.branch2, self.branch3, self.branch4)
        return self.attention(torch.cat([branch(x) for branch in branches], dim=1))


class _Auxiliary(nn.Module):
    """The classifier that helps to train the middle of the network."""

    def __init__(self, in_channels, num_classes):
        super().__init__()
        self.conv = BasicConv2d(in_channels, 128, 1)
        self.fc1 = nn.Linear(2048, 1024)
        self.fc2 = nn.Linear(1024, num_classes)
        self.dropout = nn.Dropout(0.7)

    def forward(self, x):
        x = self.conv(nn.functional.adaptive_avg_pool2d(x, 4)).flatten(1)
        return self.fc2(self.dropout(torch.relu(self.fc1(x))))


class GoogLeNet(nn.Module):
    """See :func:`googlenet`."""

    def __init__(self, num_classes, attention, aux_logits):
        super().__init__()
        self.conv1 = BasicConv2d(3, 64, 7, stride=2, padding=3)
        self.maxpool1 = nn.MaxPool2d(3, stride=2, ceil_mode=True)
        self.conv2 = BasicConv2d(64, 64, 1)
        self.conv3 = BasicConv2d(64, 192, 3, padding=1)
        # children in the order of the forward pass, so that nn.Sequential(*children) computes it
        pools = {"3a": ("maxpool2", 3), "4a": ("maxpool3", 3), "5a": ("maxpool4", 2)}
        channels = 192
        for name, widths in _BLOCKS.items():
            if name in pools:
                pool, size = pools[name]
                self.add_module(pool, nn.MaxPool2d(size, stride=2, ceil_mode=True))
            stage = int(name[0]) - 3
            here = attention and (lambda c, stage=stage: attention(c, stage))
            block = Inception(channels, widths, here)
            self.add_module(f"inception{name}", block)
            channels = block.out_channels
        self.aux1 = _Auxiliary(512, num_classes) if aux_logits else None
        self.aux2 = _Auxiliary(528, num_classes) if aux_logits else None
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.dropout = nn.Dropout(0.2)
        self.fc = nn.Linear(channels, num_classes)
        for name, module in self.named_modules():
            if "attention" not in name.split(".") and isinstance(module, (nn.Conv2d, nn.Linear)):
                nn.init.trunc_normal_(module.weight, std=0.01, a=-2.0, b=2.0)

    def forward(self, x):
        x = self.maxpool1(self.conv1(x))
        x = self.maxpool2(self.conv3(self.conv2(x)))
        x = self.maxpool3(self.inception3b(self.inception3a(x)))
        after_4a = self.inception4a(x)
        after_4d = self.inception4d(self.inception4c(self.inception4b(after_4a)))
        x = self.maxpool4(self.inception4e(after_4d))
        x = self.inception5b(self.inception5a(x))
        logits = self.fc(self.dropout(self.avgpool(x).flatten(1)))
        if self.training and self.aux1 is not None:
            return logits, self.aux2(after_4d), self.aux1(after_4a)
        return logits


def googlenet(
    attention=None, num_classes=1000, *, placement=None, aux_logits=False, **attention_options
):
    """GoogLeNet with attention on the concatenated output of each of its nine Inception blocks.

    Parameters
    ----------
    attention : None, str or callable
        A name of ``attn_lib.layers.build``, or a callable ``channels -> nn.Module``.
    num_classes : int
        Outputs of the last linear layer.
    placement : str, optional
        ``"standard"`` is the only published one (SE paper, Figure 2).
    aux_logits : bool
        Whether to have the two auxiliary classifiers, which torchvision's checkpoint contains.
        In training the model then returns (logits, auxiliary 2, auxiliary 1).
    attention_options
        Options of the layer; a tuple gives one value for each of the stages 3, 4 and 5.

    Returns
    -------
    GoogLeNet : (N, 3, H, W) -> logits (N, num_classes).
    """
    choose_placement(placement, ("standard",), "standard")
    make = attention_factory(attention, attention_options, stages=3)
    return GoogLeNet(num_classes, make, aux_logits)
