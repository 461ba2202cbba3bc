"""Coordinate Attention (Hou et al., arXiv 2103.02907)."""

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["CoordinateAttention"]


class CoordinateAttention(Attention):
    """Scale each channel by one gate for every row and one for every column.

    z_h = means along the rows (equation 4), z_w = means along the columns (equation 5),
    f = hard_swish(BN(conv1([z_h, z_w]))) (equation 6), g_h = sigmoid(conv_h(f_h)) (equation 7),
    g_w = sigmoid(conv_w(f_w)) (equation 8), y = x g_h g_w (equation 9). The three convolutions
    are 1x1, with biases; parameter names are those of the authors' code.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        r; the bottleneck has max(8, C // r) channels.
    axes : {"both", "height", "width"}
        Which gates there are: one axis alone is the paper's ablation. The other's strip is then
        neither pooled nor seen by the batch norm.

    Raises
    ------
    ValueError
        channels or reduction below 1; an unknown axes; an input that is not (N, C, H, W) with
        H, W >= 1; in training, a single value a channel for the batch norm (N = 1 with
        ``axes="height"`` and H = 1, or with ``axes="width"`` and W = 1).
    TypeError
        channels or reduction not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, reduction=32, axes="both"):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        if axes not in ("both", "height", "width"):
            raise ValueError(f"axes must be 'both', 'height' or 'width'; got {axes!r}")
        self.axes = axes
        hidden = max(8, self.channels // self.reduction)
        self.conv1 = nn.Conv2d(self.channels, hidden, 1)
        self.bn1 = nn.BatchNorm2d(hidden)
        self.conv_h = nn.Conv2d(hidden, self.channels, 1) if axes != "width" else None
        self.conv_w = nn.Conv2d(hidden, self.channels, 1) if axes != "height" else None

    def gates(self, x):
        """``{"height": g_h, "width": g_w}`` for x (N, C, H, W), each in (0, 1).

        g_h has shape (N, C, H, 1) and g_w (N, C, 1, W); ``axes`` may leave one of them out.
        """
        self._check(x)
        if self.axes == "height":
            return {"height": torch.sigmoid(self.conv_h(self._encode(_fast.mean(x, (3,)))))}
        if self.axes == "width":
            return {"width": torch.sigmoid(self.conv_w(self._encode(_fast.mean(x, (2,)))))}
        a_h, a_w = self._logits(x)
        return {"height": torch.sigmoid(a_h), "width": torch.sigmoid(a_w)}

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gates: same shape, dtype and memory format."""
        if self.axes == "both" and _fast.serves(x) and self._computes(CoordinateAttention.gates):
            self._check(x)
            return _fast.scale_by_sigmoids(x, *self._logits(x))
        return super().forward(x)

    def _logits(self, x):
        z = torch.cat((_fast.mean(x, (3,)), _fast.mean(x, (2,)).transpose(2, 3)), 2)
        f_h, f_w = self._encode(z).split((x.shape[2], x.shape[3]), 2)  # z: (N, C, H + W, 1)
        return self.conv_h(f_h), self.conv_w(f_w.transpose(2, 3))

    def _encode(self, z):
        return F.hardswish(self.bn1(self.conv1(z)))

    def extra_repr(self):
        return f"channels={self.channels}, reduction={self.reduction}, axes={self.axes!r}"
