"""Efficient multi-scale attention (Ouyang et al., arXiv 2305.13563)."""

import math

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["EfficientMultiScaleAttention"]


class EfficientMultiScaleAttention(Attention):
    """Scale each position of a group of channels by a gate computed from that group alone.

    The groups u, of m = C / G channels, share all weights. A 1x1 convolution k of the means along
    rows and along columns gives x1 = GN(u sigmoid(k_h) sigmoid(k_w)), a 3x3 convolution gives
    x2 = conv(u). With a_i = softmax over channels of the mean of x_i over H and W, the gate is
    s = sigmoid(sum over channels of a_1 x2 + a_2 x1); y = u s.

    As in the authors' code, the norm has one channel a group. So the mean of x1 over H and W is the
    norm's bias, and a_1 does not depend on the input.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    groups : int
        G, ``factor`` in the authors' code; where it does not divide C, their greatest common
        divisor.

    Raises
    ------
    ValueError
        channels or groups below 1; an input that is not (N, C, H, W) with H, W >= 1; one group
        of a single position in the whole batch (N = G = H = W = 1).
    TypeError
        channels or groups not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, groups=32):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.groups = math.gcd(self.channels, positive_int("groups", groups))
        m = self.channels // self.groups
        self.conv1x1 = nn.Conv2d(m, m, 1)
        self.conv3x3 = nn.Conv2d(m, m, 3, padding=1)
        self.gn = nn.GroupNorm(m, m)

    def gates(self, x):
        """``{"joint": s}`` for x (N, C, H, W): s, (N, C, H, W) in (0, 1), is one for a group."""
        self._check(x)
        n, c, h, w = x.shape
        s = self._gate(x).expand(n, self.groups, c // self.groups, h, w)
        return {"joint": s.reshape(n, c, h, w)}

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gate: same shape, dtype and memory format."""
        if not self._computes(EfficientMultiScaleAttention.gates):
            return super().forward(x)
        self._check(x)
        groups = x.unflatten(1, (self.groups, self.channels // self.groups))
        return (groups * self._gate(x)).flatten(1, 2)

    def _gate(self, x):
        """s, (N, G, 1, H, W)."""
        n, _, h, w = x.shape
        u = x.reshape(n * self.groups, self.channels // self.groups, h, w)
        z = torch.cat((_fast.mean(u, (3,)), _fast.mean(u, (2,)).transpose(2, 3)), 2)
        k_h, k_w = torch.sigmoid(self.conv1x1(z)).split((h, w), 2)
        x1 = self.gn(u * k_h * k_w.transpose(2, 3))
        x2 = self.conv3x3(u)
        a = _attend(x1, x2) + _attend(x2, x1)  # (N G, 1, H W)
        return torch.sigmoid(a).to(x.dtype).reshape(n, self.groups, 1, h, w)

    def extra_repr(self):
        return f"channels={self.channels}, groups={self.groups}"


def _attend(a, b):
    """Sum over channels of b, weighed by the softmax of a's means: (N, m, H, W) -> (N, 1, H W)."""
    weights = a.mean((2, 3)).softmax(1)[:, None]
    return torch.matmul(weights, b.flatten(2).to(weights.dtype))
