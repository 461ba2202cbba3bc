"""Concurrent spatial and channel squeeze and excitation (Roy et al., arXiv 1803.02579)."""

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["ConcurrentSqueezeExcitation"]


class ConcurrentSqueezeExcitation(Attention):
    """Scale each channel by SE's gate and each position by a gate of its own, side by side (scSE).

    s = sigmoid(W2 relu(W1 z + b1) + b2) for z the mean of x over H and W, one gate a channel;
    m = sigmoid(w x + b) for the channels at one position, one gate a position. The two products
    are then combined, y = x s + x m or y = max(x s, x m), entry by entry.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        r; the bottleneck has max(1, C // r) units. The code of the authors' group has r = 2 as its
        default, the most used implementation (qubvel-org/segmentation_models.pytorch) 16.
    combine : {"add", "max"}
        ``"add"`` is segmentation_models.pytorch's, ``"max"`` that of the authors' group
        (ai-med/squeeze_and_excitation).

    Raises
    ------
    ValueError
        channels or reduction below 1; an unknown combine; an input that is not (N, C, H, W) with
        H, W >= 1.
    TypeError
        channels or reduction not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, reduction=16, combine="add"):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        if combine not in ("add", "max"):
            raise ValueError(f"combine must be 'add' or 'max'; got {combine!r}")
        self.combine = combine
        hidden = max(1, self.channels // self.reduction)
        self.fc1 = nn.Linear(self.channels, hidden)
        self.fc2 = nn.Linear(hidden, self.channels)
        self.conv = nn.Conv2d(self.channels, 1, 1)

    def gates(self, x):
        """``{"joint": s + m}`` for x (N, C, H, W), of shape (N, C, H, W) in (0, 2).

        With ``combine="max"``: the larger of s and m where x is positive, the smaller where x is
        negative, and their mean where x is 0; in (0, 1).
        """
        self._check(x)
        z = _fast.mean(x, (2, 3)).flatten(1)
        s = torch.sigmoid(self.fc2(torch.relu(self.fc1(z))))[:, :, None, None]
        m = torch.sigmoid(self.conv(x))
        if self.combine == "add":
            return {"joint": s + m}
        # max(a, b) = (a + b) / 2 + |a - b| / 2, of x s and x m
        return {"joint": ((s + m) + torch.sign(x) * (s - m).abs()) / 2}

    def extra_repr(self):
        return f"channels={self.channels}, reduction={self.reduction}, combine={self.combine!r}"
