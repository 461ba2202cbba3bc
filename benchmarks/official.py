"""What the mechanisms' authors compute, written from the descriptions of their code.

The parameters have attn_lib's names, so that one state dict fits both; operations and their order
are the authors' (SE: hujie-frank/SENet's layers as its PyTorch ports write them; CBAM and BAM:
Jongchan/attention-module; ECA: BangguWu/ECANet; CA: houqb/CoordAttention).
"""

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib import layers


class SqueezeExcitation(nn.Module):
    """Global pooling, two linear layers, the gate expanded to the map."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def forward(self, x):
        z = F.adaptive_avg_pool2d(x, 1).flatten(1)
        s = torch.sigmoid(self.fc2(F.relu(self.fc1(z), inplace=True)))
        return x * s[:, :, None, None].expand_as(x)


class EfficientChannelAttention(nn.Module):
    """Global pooling, a convolution along the channels, the gate expanded to the map."""

    def __init__(self, channels):
        super().__init__()
        k = layers.EfficientChannelAttention(channels).kernel_size
        self.conv = nn.Conv1d(1, 1, k, padding=k // 2, bias=False)

    def forward(self, x):
        z = F.adaptive_avg_pool2d(x, 1)
        s = self.conv(z.squeeze(-1).transpose(-1, -2)).transpose(-1, -2).unsqueeze(-1)
        return x * torch.sigmoid(s).expand_as(x)


class CBAM(nn.Module):
    """Windows of the map's size, the MLP once for each statistic; then the spatial gate."""

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.channel, self.spatial = nn.Module(), nn.Module()
        self.channel.fc1 = nn.Linear(channels, channels // reduction)
        self.channel.fc2 = nn.Linear(channels // reduction, channels)
        self.spatial.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
        self.spatial.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, x):
        size = x.shape[2:]
        a = sum(
            self.channel.fc2(F.relu(self.channel.fc1(pool(x, size, stride=size).flatten(1))))
            for pool in (F.avg_pool2d, F.max_pool2d)
        )
        x = x * torch.sigmoid(a)[:, :, None, None].expand_as(x)
        p = torch.cat((x.max(1)[0].unsqueeze(1), x.mean(1).unsqueeze(1)), 1)
        return x * torch.sigmoid(self.spatial.bn(self.spatial.conv(p)))


class BAM(nn.Module):
    """Both branches expanded to the map before they are multiplied."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.BAM(channels)
        self.channel, self.spatial = twin.channel, twin.spatial

    def forward(self, x):
        size = x.shape[2:]
        c = self.channel(F.avg_pool2d(x, size, stride=size).flatten(1))
        c, s = c[:, :, None, None].expand_as(x), self.spatial(x).expand_as(x)
        return (1 + torch.sigmoid(c * s)) * x


class CoordinateAttention(nn.Module):
    """Adaptive pools, hard swish as a relu6(a + 3) / 6, the width's gate first."""

    def __init__(self, channels, reduction=32):
        super().__init__()
        hidden = max(8, channels // reduction)
        self.conv1 = nn.Conv2d(channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv_h = nn.Conv2d(hidden, channels, 1)
        self.conv_w = nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        h, w = x.shape[2:]
        rows = F.adaptive_avg_pool2d(x, (h, 1))
        columns = F.adaptive_avg_pool2d(x, (1, w)).permute(0, 1, 3, 2)
        a = self.bn1(self.conv1(torch.cat([rows, columns], 2)))
        rows, columns = (a * F.relu6(a + 3) / 6).split([h, w], 2)
        return x * self.conv_w(columns.permute(0, 1, 3, 2)).sigmoid() * self.conv_h(rows).sigmoid()


LAYERS = {
    "se": SqueezeExcitation,
    "eca": EfficientChannelAttention,
    "cbam": CBAM,
    "coordinate": CoordinateAttention,
    "bam": BAM,
}


def timms_layers():
    """Name -> function of the channels that builds timm's layer; empty, with a word, without it."""
    try:
        from benchmarks.others import timm  # noqa: F401
    except ImportError as error:
        print(f"timm is not timed: {error}")
        return {}
    from timm.layers import EcaModule, SEModule
    from timm.layers.cbam import CbamModule
    from timm.layers.coord_attn import CoordAttn

    return {
        "se": lambda c: SEModule(c, rd_ratio=1 / 16, rd_divisor=1),
        "eca": EcaModule,
        "cbam": lambda c: CbamModule(c, rd_ratio=1 / 16, rd_divisor=1),
        "coordinate": lambda c: CoordAttn(c, rd_ratio=1 / 32, rd_divisor=8),
    }
