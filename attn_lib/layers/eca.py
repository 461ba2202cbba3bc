"""Efficient Channel Attention (Wang et al., arXiv 1910.03151)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["EfficientChannelAttention", "kernel_size_for"]


def kernel_size_for(channels, gamma=2, b=1):
    """Kernel size for C channels by equation 12: truncated, and one added to an even number.

    With gamma = 2 and b = 1: 1 below 8 channels, 3 from 8, 5 from 128, 7 from 2048 on.
    """
    if gamma == 0 or not (math.isfinite(gamma) and math.isfinite(b)):
        raise ValueError(f"gamma must be non-zero, and both finite; got gamma={gamma}, b={b}")
    k = int(abs((math.log2(channels) + b) / gamma))
    return k if k % 2 else k + 1


class _Conv1d(nn.Conv1d):
    """nn.Conv1d with one channel in and out, whose backward pass is four times as fast on a CPU."""

    def _get_name(self):
        return "Conv1d"

    def forward(self, z):
        if not (_fast.eager(z) and z.numel()):
            return super().forward(z)
        # the batch as the rows of one image, (1, 1, N, C), under a kernel of one row
        rows = z.transpose(0, 1)[None]
        y = F.conv2d(rows, self.weight[:, :, None], padding=(0, *self.padding))
        return y[0].transpose(0, 1)


class EfficientChannelAttention(Attention):
    """Scale each channel by a gate computed from the means of its k nearest channels.

    z = mean of x over H and W, s = sigmoid(conv1d_k(z)), y = s x: one kernel of k weights, no
    bias, slides along the channels, with zeros beyond the first and the last (equations 8 and 9).

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    kernel_size : int, optional
        k, odd. None takes the rule of equation 12, k = odd(abs(log2(C) / gamma + b / gamma)),
        with the rounding of the paper's listing: truncate, then add one to an even number.
    gamma, b : float
        Slope and intercept of the rule, C = 2**(gamma k - b); unused where kernel_size is given.

    Raises
    ------
    ValueError
        channels or kernel_size below 1; an even kernel_size; gamma = 0 or not finite;
        an input that is not (N, C, H, W) with H, W >= 1.
    TypeError
        channels or kernel_size not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, kernel_size=None, gamma=2, b=1):
        super().__init__()
        self.channels = positive_int("channels", channels)
        if kernel_size is None:
            kernel_size = kernel_size_for(self.channels, gamma, b)
        self.kernel_size = positive_int("kernel_size", kernel_size)
        if self.kernel_size % 2 == 0:
            raise ValueError(
                "kernel_size must be odd, so that the kernel has a middle to put on the channel "
                f"it weighs; got {kernel_size!r}"
            )
        padding = self.kernel_size // 2
        self.conv = _Conv1d(1, 1, self.kernel_size, padding=padding, bias=False)

    def gates(self, x):
        """``{"channel": s}`` for x (N, C, H, W), with s of shape (N, C, 1, 1) in (0, 1)."""
        self._check(x)
        z = _fast.mean(x, (2, 3)).flatten(2).transpose(1, 2)  # (N, 1, C)
        s = torch.sigmoid(self.conv(z)).transpose(1, 2)
        return {"channel": s[:, :, :, None]}

    def extra_repr(self):
        return f"channels={self.channels}, kernel_size={self.kernel_size}"
