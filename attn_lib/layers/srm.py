"""The style-based recalibration module (Lee et al., arXiv 1903.10829)."""

import torch
from torch import nn

from attn_lib.layers._base import Attention, positive_int, unbiased

__all__ = ["StyleRecalibration"]


class StyleRecalibration(Attention):
    """Scale each channel by a gate computed from its own mean and standard deviation (SRM).

    u = mean of x over H and W, v = sqrt(variance + 1e-5) with the sum of squares divided by
    H W - 1, s = sigmoid(BN(w1 u + w2 v)) with two weights a channel, y = s x; as in the authors'
    code (hyunjaelee410/style-based-recalibration-module). The weights start at zero, and every gate
    at 1/2. On a feature map of one position, where H W - 1 is 0, the variance is 0.

    Parameters
    ----------
    channels : int
        C, the channels of the input.

    Raises
    ------
    ValueError
        channels below 1; an input that is not (N, C, H, W) with H, W >= 1; a single sample in
        training mode, where the batch norm has one value a channel.
    TypeError
        channels not an integer; an input that is not floating-point.
    """

    def __init__(self, channels):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.cfc = nn.Parameter(torch.zeros(self.channels, 2))
        self.bn = nn.BatchNorm2d(self.channels)

    def gates(self, x):
        """``{"channel": s}`` for x (N, C, H, W), with s of shape (N, C, 1, 1) in (0, 1)."""
        self._check(x)
        variance, u = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        v = (unbiased(variance, x) + 1e-5).sqrt()
        w1, w2 = self.cfc[:, 0, None, None], self.cfc[:, 1, None, None]
        return {"channel": torch.sigmoid(self.bn(w1 * u + w2 * v)).to(x.dtype)}

    def extra_repr(self):
        return f"channels={self.channels}"
