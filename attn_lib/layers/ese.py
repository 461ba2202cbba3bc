"""Effective squeeze and excitation (Lee and Park, arXiv 1911.06667)."""

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["EffectiveSqueezeExcitation"]


class EffectiveSqueezeExcitation(Attention):
    """Scale each channel by a gate computed from the means of all channels, without a bottleneck.

    z = mean of x over H and W, s = hard sigmoid(W z + b) with a C x C matrix W, y = s x. The hard
    sigmoid is relu6(t + 3) / 6, as in the authors' code (youngwanLEE/vovnet-detectron2) and in
    timm's ``EffectiveSEModule``.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    gate : {"hard", "sigmoid"}
        ``"sigmoid"`` has the logistic function in place of the hard sigmoid.

    Raises
    ------
    ValueError
        channels below 1; an unknown gate; an input that is not (N, C, H, W) with H, W >= 1.
    TypeError
        channels not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, gate="hard"):
        super().__init__()
        self.channels = positive_int("channels", channels)
        if gate not in ("hard", "sigmoid"):
            raise ValueError(f"gate must be 'hard' or 'sigmoid'; got {gate!r}")
        self.gate = gate
        self.fc = nn.Linear(self.channels, self.channels)

    def gates(self, x):
        """``{"channel": s}`` for x (N, C, H, W), with s of shape (N, C, 1, 1) in [0, 1]."""
        self._check(x)
        a = self.fc(_fast.mean(x, (2, 3)).flatten(1))
        s = F.relu6(a + 3) / 6 if self.gate == "hard" else torch.sigmoid(a)
        return {"channel": s[:, :, None, None]}

    def extra_repr(self):
        return f"channels={self.channels}, gate={self.gate!r}"
