"""Triplet attention (Misra et al., arXiv 2010.03045)."""

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["TripletAttention"]


class TripletAttention(Attention):
    """Scale by the mean of three gates, each constant along one of the axes C, H and W.

    Each branch takes maximum and mean of x along its axis (Z-pool), as two planes, and computes
    its gate, sigmoid(BN(conv(planes))), with one convolution kernel of ``kernel_size`` squared and
    no bias (momentum of the batch norm 0.01). ``cw`` pools along H, ``hc`` along W and ``hw`` along
    C; y = x (m_cw + m_hc + m_hw) / 3. The paper rotates the tensor by 90 degrees for the first two
    branches, the authors' code permutes its axes, as here.

    Parameters
    ----------
    channels : int, optional
        C, the channels of the input, to check it; None takes any.
    kernel_size : int
        k, odd.
    spatial : bool
        Whether there is the branch ``hw``; without it the two others are averaged.

    Raises
    ------
    ValueError
        channels or kernel_size below 1; an even kernel_size; an input that is not (N, C, H, W) with
        H, W >= 1; in training, a plane of a single value in the whole batch, which has no variance.
    TypeError
        channels or kernel_size not an integer; an input that is not floating-point.
    """

    def __init__(self, channels=None, kernel_size=7, spatial=True):
        super().__init__()
        self.channels = None if channels is None else positive_int("channels", channels)
        self.kernel_size = positive_int("kernel_size", kernel_size)
        if self.kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, to keep the sizes; got {kernel_size}")
        self.cw = _Branch(self.kernel_size)
        self.hc = _Branch(self.kernel_size)
        self.hw = _Branch(self.kernel_size) if spatial else None

    def gates(self, x):
        """``{"joint": m}`` for x (N, C, H, W): the mean of the branches' gates, in (0, 1)."""
        self._check(x)
        branches = 2 if self.hw is None else 3
        cw = self.cw(_planes(x, 2)).transpose(1, 2) / branches  # (N, 1, C, W) -> (N, C, 1, W)
        hc = self.hc(_planes(x, 3)).transpose(1, 3) / branches  # (N, 1, H, C) -> (N, C, H, 1)
        if self.hw is None:
            return {"joint": cw + hc}
        return {"joint": cw + hc + self.hw(_planes(x, 1)) / branches}

    def extra_repr(self):
        return f"kernel_size={self.kernel_size}"


class _Branch(nn.Module):
    """Two planes, (N, 2, A, B), to a gate for each of their places, (N, 1, A, B)."""

    def __init__(self, kernel_size):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)

    def forward(self, planes):
        return torch.sigmoid(self.bn(self.conv(planes)))


def _planes(x, axis):
    """Maxima and means of x along an axis, as the channels of (N, 2, …, …)."""
    pooled = (x.max(axis, keepdim=True).values, _fast.mean(x, (axis,)))
    return torch.cat([plane.transpose(1, axis) for plane in pooled], 1)
