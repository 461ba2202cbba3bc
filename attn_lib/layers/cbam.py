"""CBAM and its two halves (Woo et al., arXiv 1807.06521)."""

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["CBAM", "ChannelAttention", "SpatialAttention"]


class ChannelAttention(Attention):
    """Scale each channel by a gate computed from the mean and the maximum of all channels.

    s = sigmoid(MLP(mean of x over H and W) + MLP(maximum of x over H and W)), equation 2, with
    one MLP(z) = W2 relu(W1 z + b1) + b2 for both vectors; y = s x.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        r; the bottleneck has max(1, C // r) units.

    Raises
    ------
    ValueError
        channels or reduction below 1; an input that is not (N, C, H, W) with H, W >= 1.
    TypeError
        channels or reduction not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, reduction=16):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        hidden = max(1, self.channels // self.reduction)
        self.fc1 = nn.Linear(self.channels, hidden)
        self.fc2 = nn.Linear(hidden, self.channels)

    def gates(self, x):
        """``{"channel": s}`` for x (N, C, H, W), with s of shape (N, C, 1, 1) in (0, 1)."""
        self._check(x)
        _, average, maximum = _fast.pool_positions(x)
        return {"channel": self._gate(average, maximum)}

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gate: same shape, dtype and memory format."""
        if not self._computes(ChannelAttention.gates):
            return super().forward(x)
        self._check(x)
        x, average, maximum = _fast.pool_positions(x)
        return _fast.scale_and_remember(x, self._gate(average, maximum))

    def _gate(self, average, maximum):
        n = average.shape[0]
        a = self.fc2(torch.relu(self.fc1(torch.cat((average, maximum)))))  # one MLP, one pass
        return torch.sigmoid(a[:n] + a[n:])[:, :, None, None]

    def extra_repr(self):
        return f"channels={self.channels}, reduction={self.reduction}"


class SpatialAttention(Attention):
    """Scale each position by a gate computed from its neighbourhood.

    m = sigmoid(BN(conv([max of x over C; mean of x over C]))), equation 3, with one convolution
    kernel of ``kernel_size`` squared and no bias; y = m x. The batch norm is the official code's
    (momentum 0.01), the equation has none.

    Parameters
    ----------
    kernel_size : int
        k, odd; the map is padded by (k - 1) / 2, so that it keeps its size.

    Raises
    ------
    ValueError
        kernel_size below 1 or even; an input that is not (N, C, H, W) with H, W >= 1; in training,
        an input with a single value a channel (N = H = W = 1), which has no variance.
    TypeError
        kernel_size not an integer; an input that is not floating-point.
    """

    def __init__(self, kernel_size=7):
        super().__init__()
        self.kernel_size = positive_int("kernel_size", kernel_size)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, to keep H and W; got {kernel_size}")
        padding = self.kernel_size // 2
        self.conv = nn.Conv2d(2, 1, self.kernel_size, padding=padding, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def gates(self, x):
        """``{"spatial": m}`` for x (N, C, H, W), with m of shape (N, 1, H, W) in (0, 1)."""
        self._check(x)
        _, planes = _fast.pool_channels(x)
        return {"spatial": self._gate(planes)}

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gate: same shape, dtype and memory format."""
        if not self._computes(SpatialAttention.gates):
            return super().forward(x)
        self._check(x)
        x, planes = _fast.pool_channels(x)
        return _fast.scale(x, self._gate(planes))

    def _gate(self, planes):
        return torch.sigmoid(self.bn(self.conv(planes)))


class CBAM(Attention):
    """Channel attention, then spatial attention on its result.

    y = M_s(x') x' with x' = M_c(x) x, equation 1: see :class:`ChannelAttention` and
    :class:`SpatialAttention`, which are ``cbam.channel`` and ``cbam.spatial``.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        r, of the channel half.
    kernel_size : int
        k, of the spatial half; odd.

    Raises
    ------
    ValueError, TypeError
        As the halves do.
    """

    def __init__(self, channels, reduction=16, kernel_size=7):
        super().__init__()
        self.channel = ChannelAttention(channels, reduction)
        self.spatial = SpatialAttention(kernel_size)
        self.channels = self.channel.channels

    def gates(self, x):
        """``{"channel": s, "spatial": m}``, (N, C, 1, 1) and (N, 1, H, W); m is computed on s x."""
        self._check(x)
        channel = self.channel.gates(x)
        return channel | self.spatial.gates(x * channel["channel"])

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gates: same shape, dtype and memory format."""
        self._check(x)
        return self.spatial(self.channel(x))
