"""What the mechanisms' authors compute, written from the descriptions of their code.

The parameters have attn_lib's names, so that one state dict fits both; operations and their order
are the authors' (SE: hujie-frank/SENet's layers as its PyTorch ports write them; CBAM and BAM:
Jongchan/attention-module; ECA: BangguWu/ECANet; CA: houqb/CoordAttention; the listing in ELA's
paper; EMA: YOLOonMe/EMA-attention-module; FcaNet's layer: cfzd/FcaNet; GCT: z-x-yang/GCT; the
non-local block: AlexHex7/Non-local_pytorch; scSE: qubvel-org/segmentation_models.pytorch; SimAM:
ZjjConan/SimAM; SRM: hyunjaelee410/style-based-recalibration-module; triplet attention:
landskape-ai/triplet-attention). timm has effective SE, gather-excite, the global context and the
selective kernel.
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


class EfficientLocalAttention(nn.Module):
    """One strip after the other, two products."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.EfficientLocalAttention(channels)
        self.conv, self.gn = twin.conv, twin.gn

    def forward(self, x):
        n, c, h, w = x.shape
        rows = torch.sigmoid(self.gn(self.conv(x.mean(3)))).view(n, c, h, 1)
        columns = torch.sigmoid(self.gn(self.conv(x.mean(2)))).view(n, c, 1, w)
        return x * rows * columns


class EfficientMultiScaleAttention(nn.Module):
    """Groups folded into the batch, adaptive pools, matrix products with the softmaxes."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.EfficientMultiScaleAttention(channels)
        self.groups, self.gn = twin.groups, twin.gn
        self.conv1x1, self.conv3x3 = twin.conv1x1, twin.conv3x3

    def forward(self, x):
        n, c, h, w = x.shape
        u = x.reshape(n * self.groups, -1, h, w)
        columns = F.adaptive_avg_pool2d(u, (1, None)).permute(0, 1, 3, 2)
        strips = self.conv1x1(torch.cat([F.adaptive_avg_pool2d(u, (None, 1)), columns], 2))
        rows, columns = strips.split([h, w], 2)
        one = self.gn(u * rows.sigmoid() * columns.permute(0, 1, 3, 2).sigmoid())
        two = self.conv3x3(u)

        def attend(a, b):
            weights = F.adaptive_avg_pool2d(a, 1).flatten(1).softmax(1)[:, None]
            return weights @ b.flatten(2)

        s = (attend(one, two) + attend(two, one)).reshape(-1, 1, h, w)
        return (u * s.sigmoid()).reshape(n, c, h, w)


class FrequencyChannelAttention(nn.Module):
    """Adaptive pooling, a product with the cosines of every channel, a sum."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.FrequencyChannelAttention(channels)
        self.dct, self.fc1, self.fc2 = twin.dct, twin.fc1, twin.fc2

    def forward(self, x):
        pooled = F.adaptive_avg_pool2d(x, self.dct.weight.shape[1:])
        z = torch.sum(pooled * self.dct.weight, dim=[2, 3])
        s = torch.sigmoid(self.fc2(F.relu(self.fc1(z), inplace=True)))
        return x * s.view(*z.shape, 1, 1).expand_as(x)


class GatedChannelTransformation(nn.Module):
    """Squares, their sum and its root."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.GatedChannelTransformation(channels)
        self.alpha, self.gamma, self.beta = twin.alpha, twin.gamma, twin.beta

    def forward(self, x):
        u = (x.pow(2).sum((2, 3), keepdim=True) + 1e-5).pow(0.5) * self.alpha
        norm = self.gamma / (u.pow(2).mean(dim=1, keepdim=True) + 1e-5).pow(0.5)
        return x * (1 + torch.tanh(u * norm + self.beta))


class ConcurrentSqueezeExcitation(nn.Module):
    """Two products with the map, and their sum."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.ConcurrentSqueezeExcitation(channels)
        self.fc1, self.fc2, self.conv = twin.fc1, twin.fc2, twin.conv

    def forward(self, x):
        z = F.adaptive_avg_pool2d(x, 1).flatten(1)
        s = torch.sigmoid(self.fc2(F.relu(self.fc1(z), inplace=True)))[:, :, None, None]
        return x * s + x * torch.sigmoid(self.conv(x))


class StyleRecalibration(nn.Module):
    """Mean and variance one after the other, stacked."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.StyleRecalibration(channels)
        self.cfc, self.bn = twin.cfc, twin.bn

    def forward(self, x):
        flat = x.flatten(2)
        v = (flat.var(dim=2, keepdim=True) + 1e-5).sqrt()
        t = torch.cat((flat.mean(dim=2, keepdim=True), v), dim=2)
        z = torch.sum(t * self.cfc[None], dim=2)[:, :, None, None]
        return x * torch.sigmoid(self.bn(z))


class NonLocal(nn.Module):
    """Views with the positions first, a softmax of the whole matrix."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.NonLocal(channels)
        self.g, self.theta, self.phi = twin.g, twin.theta, twin.phi
        self.out, self.bn = twin.out, twin.bn

    def forward(self, x):
        n, _, h, w = x.shape
        g = F.max_pool2d(self.g(x), 2).flatten(2).permute(0, 2, 1)
        phi = F.max_pool2d(self.phi(x), 2).flatten(2)
        a = (self.theta(x).flatten(2).permute(0, 2, 1) @ phi).softmax(-1)
        y = (a @ g).permute(0, 2, 1).contiguous().view(n, -1, h, w)
        return self.bn(self.out(y)) + x


class SimAM(nn.Module):
    """The square of the difference from the mean, then a sigmoid of the whole map."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        d = (x - x.mean((2, 3), keepdim=True)).pow(2)
        variance = d.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
        return x * torch.sigmoid(d / (4 * (variance + 1e-4)) + 0.5)


class TripletAttention(nn.Module):
    """Three copies of the map, permuted and made contiguous, each with its product."""

    def __init__(self, channels):
        super().__init__()
        twin = layers.TripletAttention(channels)
        self.cw, self.hc, self.hw = twin.cw, twin.hc, twin.hw

    def forward(self, x):
        def gated(branch, t):
            return t * branch(torch.cat((t.max(1)[0].unsqueeze(1), t.mean(1).unsqueeze(1)), 1))

        cw = gated(self.cw, x.permute(0, 2, 1, 3).contiguous()).permute(0, 2, 1, 3).contiguous()
        hc = gated(self.hc, x.permute(0, 3, 2, 1).contiguous()).permute(0, 3, 2, 1).contiguous()
        return 1 / 3 * (gated(self.hw, x) + cw + hc)


LAYERS = {
    "se": SqueezeExcitation,
    "eca": EfficientChannelAttention,
    "cbam": CBAM,
    "coordinate": CoordinateAttention,
    "bam": BAM,
    "ela": EfficientLocalAttention,
    "ema": EfficientMultiScaleAttention,
    "fca": FrequencyChannelAttention,
    "gct": GatedChannelTransformation,
    "nonlocal": NonLocal,
    "scse": ConcurrentSqueezeExcitation,
    "simam": SimAM,
    "srm": StyleRecalibration,
    "triplet": TripletAttention,
}


def timms_layers():
    """Name -> function of the channels that builds timm's layer; empty, with a word, without it."""
    try:
        from benchmarks.others import timm  # noqa: F401
    except ImportError as error:
        print(f"timm is not timed: {error}")
        return {}
    from timm.layers import (
        EcaModule,
        EffectiveSEModule,
        GatherExcite,
        GlobalContext,
        SelectiveKernel,
        SEModule,
    )
    from timm.layers.cbam import CbamModule
    from timm.layers.coord_attn import CoordAttn

    return {
        "se": lambda c: SEModule(c, rd_ratio=1 / 16, rd_divisor=1),
        "eca": EcaModule,
        "cbam": lambda c: CbamModule(c, rd_ratio=1 / 16, rd_divisor=1),
        "coordinate": lambda c: CoordAttn(c, rd_ratio=1 / 32, rd_divisor=8),
        "ese": EffectiveSEModule,
        "gather_excite": lambda c: GatherExcite(c, use_mlp=False),
        "gc": lambda c: GlobalContext(c, rd_ratio=1 / 16, fuse_add=True, fuse_scale=False),
        "sk": lambda c: SelectiveKernel(
            c, groups=32, rd_channels=max(c // 16, 32), split_input=False
        ),
    }
