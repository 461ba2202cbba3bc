"""Squeeze-and-Excitation (Hu et al., arXiv 1709.01507)."""

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["SqueezeExcitation"]


class SqueezeExcitation(Attention):
    """Scale each channel by a gate computed from the means of all channels.

    z = mean of x over H and W (equation 2), s = sigmoid(W2 relu(W1 z + b1) + b2) (equation 3),
    y = s x (equation 4).

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        r; the bottleneck has max(1, C // r) units.
    bias : bool
        Whether the two linear maps have biases. The equations have none, the released Caffe
        models have them; so the default is True.

    Raises
    ------
    ValueError
        channels or reduction below 1; an input that is not (N, C, H, W) with H, W >= 1.
    TypeError
        channels or reduction not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, reduction=16, bias=True):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        hidden = max(1, self.channels // self.reduction)
        self.fc1 = nn.Linear(self.channels, hidden, bias=bias)
        self.fc2 = nn.Linear(hidden, self.channels, bias=bias)

    def gates(self, x):
        """``{"channel": s}`` for x (N, C, H, W), with s of shape (N, C, 1, 1) in (0, 1)."""
        self._check(x)
        z = _fast.mean(x, (2, 3)).flatten(1)
        s = torch.sigmoid(self.fc2(torch.relu(self.fc1(z))))
        return {"channel": s[:, :, None, None]}

    def extra_repr(self):
        return f"channels={self.channels}, reduction={self.reduction}"
