"""Selective Kernel convolution (Li et al., arXiv 1903.06586)."""

import math
from collections import OrderedDict

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["SelectiveKernel"]


class SelectiveKernel(Attention):
    """Convolve with kernels of several sizes, and let every channel choose among the results.

    U_i = relu(BN(conv_i(x))) for i = 1 … M ("split"); z = relu(BN(W1 g)), where g is the mean over
    H and W of the sum of the U_i; a = softmax over i of W2 z ("fuse"); y = sum of a_i U_i
    ("select"). conv_i is a 3x3 convolution of dilation i, so that it covers 3, 5, 7, … positions.
    No linear map and no convolution has a bias, as in the authors' Caffe files (implus/SKNet). The
    output is not x times gates, so there are no ``gates``. SKNet has the layer in the place of a
    bottleneck's 3x3 convolution; in a network of ``attn_lib.models`` it stands in SE's place.

    Parameters
    ----------
    channels : int
        C, the channels of the input and of the output.
    branches : int
        M, how many convolutions there are.
    groups : int
        G, of each convolution; where it does not divide C, their greatest common divisor.
    reduction, minimum : int
        r and L; the bottleneck has max(C // r, L) units.

    Raises
    ------
    ValueError
        An option below 1; an input that is not (N, C, H, W) with H, W >= 1; in training, a batch of
        one, as the bottleneck's batch norm then has one value a channel.
    TypeError
        An option that is not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, branches=2, groups=32, reduction=16, minimum=32):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.branches = positive_int("branches", branches)
        self.groups = math.gcd(self.channels, positive_int("groups", groups))
        hidden = self.channels // positive_int("reduction", reduction)
        hidden = max(hidden, positive_int("minimum", minimum))
        self.paths = nn.ModuleList(self._path(i + 1) for i in range(self.branches))
        self.fc1 = nn.Linear(self.channels, hidden, bias=False)
        self.bn1 = nn.BatchNorm1d(hidden)
        self.fc2 = nn.Linear(hidden, self.branches * self.channels, bias=False)

    def _path(self, dilation):
        c = self.channels
        conv = nn.Conv2d(
            c, c, 3, padding=dilation, dilation=dilation, groups=self.groups, bias=False
        )
        return nn.Sequential(OrderedDict(conv=conv, bn=nn.BatchNorm2d(c), relu=nn.ReLU()))

    def forward(self, x):
        """Weighted sum of the branches of x, (N, C, H, W): same shape, dtype and memory format."""
        self._check(x)
        maps = [path(x) for path in self.paths]
        total = maps[0]
        for u in maps[1:]:
            total = total + u
        a = self._select(_fast.mean(total, (2, 3)).flatten(1)).to(total.dtype)
        weights = [a[:, i, :, None, None] for i in range(self.branches)]
        y = _fast.scale(maps[0], weights[0])
        for u, weight in zip(maps[1:], weights[1:], strict=True):
            y = y + _fast.scale(u, weight)
        return y.to(x.dtype)

    def _select(self, z):
        """Means, (N, C), to weights, (N, M, C), which add up to 1 over M."""
        a = self.fc2(torch.relu(self.bn1(self.fc1(z))))
        return a.unflatten(1, (self.branches, self.channels)).softmax(1)

    def extra_repr(self):
        return f"channels={self.channels}, branches={self.branches}, groups={self.groups}"
