"""Efficient local attention (Xu and Wan, arXiv 2403.01123)."""

import math

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["EfficientLocalAttention"]


class EfficientLocalAttention(Attention):
    """Scale each channel by one gate for every row and one for every column, without a bottleneck.

    z_h = means along the rows, z_w = means along the columns, g_h = sigmoid(GN(conv(z_h))),
    g_w = sigmoid(GN(conv(z_w))), y = x g_h g_w. The convolution goes along the strip and has no
    bias. The authors published no repository; as in the listing that public copies give for their
    paper, both strips share one convolution and one group norm. (timm's ``EfficientLocalAttn`` has
    one of each for every strip, a single group, and a SiLU before the sigmoid.)

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    kernel_size : int
        k, odd.
    width : int
        Channels that each output of the convolution sees, 1 for a depthwise convolution; where it
        does not divide C, their greatest common divisor.
    norm_groups : int
        Groups of the norm; where they do not divide C, their greatest common divisor.

    Raises
    ------
    ValueError
        An option below 1; an even kernel_size; an input that is not (N, C, H, W) with H, W >= 1;
        a single value for a group norm in the whole batch (N = 1, C = norm_groups and H or W 1).
    TypeError
        An option that is not an integer; an input that is not floating-point.

    Notes
    -----
    Public copies list four versions: B, the default here; T, ``kernel_size=5, norm_groups=32``;
    S, ``kernel_size=5, width=8``; L, ``width=8``.
    """

    def __init__(self, channels, kernel_size=7, width=1, norm_groups=16):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.kernel_size = positive_int("kernel_size", kernel_size)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, to keep H and W; got {kernel_size}")
        self.width = math.gcd(self.channels, positive_int("width", width))
        self.conv = nn.Conv1d(
            self.channels,
            self.channels,
            self.kernel_size,
            padding=self.kernel_size // 2,
            groups=self.channels // self.width,
            bias=False,
        )
        norm_groups = math.gcd(self.channels, positive_int("norm_groups", norm_groups))
        self.gn = nn.GroupNorm(norm_groups, self.channels)

    def gates(self, x):
        """``{"height": g_h, "width": g_w}`` for x (N, C, H, W), each in (0, 1).

        g_h has shape (N, C, H, 1) and g_w (N, C, 1, W).
        """
        self._check(x)
        a_h, a_w = self._logits(x)
        return {"height": torch.sigmoid(a_h), "width": torch.sigmoid(a_w)}

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gates: same shape, dtype and memory format."""
        if _fast.serves(x) and self._computes(EfficientLocalAttention.gates):
            self._check(x)
            return _fast.scale_by_sigmoids(x, *self._logits(x))
        return super().forward(x)

    def _logits(self, x):
        a_h = self.gn(self.conv(_fast.mean(x, (3,)).squeeze(3))).to(x.dtype)
        a_w = self.gn(self.conv(_fast.mean(x, (2,)).squeeze(2))).to(x.dtype)
        return a_h[:, :, :, None], a_w[:, :, None]

    def extra_repr(self):
        return f"channels={self.channels}, kernel_size={self.kernel_size}"
