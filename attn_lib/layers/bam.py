"""BAM, the bottleneck attention module (Park et al., arXiv 1807.06514)."""

from collections import OrderedDict

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["BAM"]


class BAM(Attention):
    """Scale each entry by 1 + sigmoid of a channel branch and a spatial branch, side by side.

    y = (1 + sigmoid(M_c(x) * M_s(x))) x. M_c is linear, batch norm, ReLU, linear on the means of
    the channels (equation 3); M_s is a 1x1 convolution, two 3x3 convolutions with a dilation, each
    of the three with batch norm and ReLU, and a 1x1 convolution to one map (equation 4). All
    linear maps and convolutions have biases.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        r; both branches narrow to max(1, C // r) channels.
    dilation : int
        d, of the two 3x3 convolutions: M_s sees a square of 4 d + 1 positions a side.
    combine : {"product", "sum"}
        How the branches meet inside the sigmoid. The paper adds them (equation 2), the official
        code and so its checkpoints multiply them, which is the default.

    Raises
    ------
    ValueError
        channels, reduction or dilation below 1; combine not one of the two; an input that is not
        (N, C, H, W) with H, W >= 1; in training, a batch of one, which has no variance in M_c's
        batch norm.
    TypeError
        channels, reduction or dilation not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, reduction=16, dilation=4, combine="product"):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        self.dilation = positive_int("dilation", dilation)
        if combine not in ("product", "sum"):
            raise ValueError(f"combine must be 'product' or 'sum'; got {combine!r}")
        self.combine = combine
        hidden = max(1, self.channels // self.reduction)
        dilated = {"kernel_size": 3, "padding": self.dilation, "dilation": self.dilation}
        self.channel = nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(self.channels, hidden),
                bn1=nn.BatchNorm1d(hidden),
                relu1=nn.ReLU(),
                fc2=nn.Linear(hidden, self.channels),
            )
        )
        self.spatial = nn.Sequential(
            OrderedDict(
                conv1=nn.Conv2d(self.channels, hidden, 1),
                bn1=nn.BatchNorm2d(hidden),
                relu1=nn.ReLU(),
                conv2=nn.Conv2d(hidden, hidden, **dilated),
                bn2=nn.BatchNorm2d(hidden),
                relu2=nn.ReLU(),
                conv3=nn.Conv2d(hidden, hidden, **dilated),
                bn3=nn.BatchNorm2d(hidden),
                relu3=nn.ReLU(),
                conv4=nn.Conv2d(hidden, 1, 1),
            )
        )

    def gates(self, x):
        """``{"joint": g}`` for x (N, C, H, W), with g of the same shape, in (1, 2)."""
        self._check(x)
        return {"joint": _fast.joint(*self._branches(x))}

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gate: same shape, dtype and memory format."""
        if not self._computes(BAM.gates):
            return super().forward(x)
        self._check(x)
        return _fast.scale_by_joint(x, *self._branches(x))

    def _branches(self, x):
        c = self.channel(_fast.mean(x, (2, 3)).flatten(1))[:, :, None, None]  # (N, C, 1, 1)
        s = self.spatial(x)  # (N, 1, H, W)
        return c, s, torch.mul if self.combine == "product" else torch.add

    def extra_repr(self):
        return (
            f"channels={self.channels}, reduction={self.reduction}, "
            f"dilation={self.dilation}, combine={self.combine!r}"
        )
