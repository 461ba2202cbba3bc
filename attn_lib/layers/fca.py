"""Frequency channel attention (Qin et al., arXiv 2012.11879)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["FrequencyChannelAttention"]

# u and v, the indices of rows and columns on a 7x7 grid, as two digits; the authors' lists
_ORDERS = {
    "top": "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22 "
    "46 63 33 53 55 21 61 52 54 32 31 41 23 20 65 13",
    "low": "00 01 10 11 02 20 21 12 22 03 30 40 04 13 31 05 "
    "14 23 32 41 50 06 15 24 33 42 51 60 16 25 34 43",
    "bot": "66 14 34 36 26 43 11 24 44 45 56 15 42 62 25 51 "
    "64 13 65 20 23 41 31 32 54 52 61 21 55 53 33 63",
}


class FrequencyChannelAttention(Attention):
    """SE with a coefficient of a cosine transform in the place of each channel's mean (FcaNet).

    z = sum over positions of x B, y = x sigmoid(W2 relu(W1 z)) without biases. B is the same for
    all channels of a group, B[i, j] = f_u(i, height) f_v(j, width) with
    f_u(i, n) = cos(pi u (i + 1/2) / n) sqrt(a / n), where a is 1 for u = 0 and 2 otherwise. A
    feature map of another size than (height, width) is pooled to it for z. All as in the authors'
    code (cfzd/FcaNet), with whose normalisation the coefficient of u = v = 0 is the mean times
    sqrt(height width).

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    height, width : int
        Size of the feature maps that the transform is made for, 7 or more. The authors' ResNets
        have 56, 28, 14 and 7 in their stages: ``height=(56, 28, 14, 7)`` in a backbone, and the
        same width.
    reduction : int
        r; the bottleneck has max(1, C // r) units.
    frequencies : str
        One of the authors' selections: ``"top"``, ``"low"`` or ``"bot"`` with 1, 2, 4, 8, 16 or 32
        behind it. The channels are split evenly among them; of a number that does not divide C,
        the first gcd(C, number) are taken. They are frequencies of a 7x7 grid, multiplied by
        height // 7 and width // 7 on a larger one.

    Raises
    ------
    ValueError
        channels or reduction below 1; height or width below 7; unknown frequencies; an input that
        is not (N, C, H, W) with H, W >= 1.
    TypeError
        An option that is not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, height=7, width=7, reduction=16, frequencies="top16"):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.height = positive_int("height", height)
        self.width = positive_int("width", width)
        if min(self.height, self.width) < 7:
            raise ValueError(f"height and width must be at least 7; got {height} and {width}")
        self.reduction = positive_int("reduction", reduction)
        self.frequencies = frequencies
        grid = _chosen(frequencies)[: math.gcd(self.channels, int(frequencies[3:]))]
        pairs = [(u * (self.height // 7), v * (self.width // 7)) for u, v in grid]
        self.dct = CosineTransform(self.channels, self.height, self.width, pairs)
        hidden = max(1, self.channels // self.reduction)
        self.fc1 = nn.Linear(self.channels, hidden, bias=False)
        self.fc2 = nn.Linear(hidden, self.channels, bias=False)

    def gates(self, x):
        """``{"channel": s}`` for x (N, C, H, W), with s of shape (N, C, 1, 1) in (0, 1)."""
        self._check(x)
        z = self.dct(_resized(x, self.height, self.width))
        s = torch.sigmoid(self.fc2(torch.relu(self.fc1(z))))
        return {"channel": s[:, :, None, None]}

    def extra_repr(self):
        return (
            f"channels={self.channels}, height={self.height}, width={self.width}, "
            f"reduction={self.reduction}, frequencies={self.frequencies!r}"
        )


def _resized(x, height, width):
    """x, (N, C, H, W), by adaptive average pooling: (N, C, height, width)."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        # for the exporters to ONNX, which fix the windows of adaptive pooling or refuse it
        rows = _averaging(x.shape[2], height, x)
        return rows @ x @ _averaging(x.shape[3], width, x).T
    if _fast.eager(x) and x.shape[2:] == (height, width):
        return x
    return F.adaptive_avg_pool2d(x, (height, width))


def _averaging(length, n, x):
    """Adaptive pooling of ``length`` entries to n as a matrix, (n, length)."""
    i = torch.arange(n, device=x.device)[:, None]
    first, end = i * length // n, ((i + 1) * length + n - 1) // n
    places = torch.arange(length, device=x.device)
    inside = (places >= first) & (places < end)
    return inside.to(x.dtype) / (end - first)


class CosineTransform(nn.Module):
    """One coefficient a channel, (N, C, height, width) -> (N, C).

    ``pairs`` are frequencies (u, v), with C / len(pairs) channels for each.
    """

    def __init__(self, channels, height, width, pairs):
        super().__init__()
        basis = torch.stack([_wave(u, height)[:, None] * _wave(v, width) for u, v in pairs])
        basis = basis.repeat_interleave(channels // len(pairs), 0)
        self.register_buffer("weight", basis.to(torch.get_default_dtype()))

    def forward(self, x):
        return (x * self.weight).sum((2, 3))


def _wave(u, n):
    """The u-th of the n orthonormal cosines, (n,)."""
    positions = torch.arange(n, dtype=torch.float64) + 0.5
    return torch.cos(math.pi * u / n * positions) * math.sqrt((1 + (u > 0)) / n)


def _chosen(frequencies):
    """Pairs (u, v) of a selection such as ``"top16"``."""
    for order, indices in _ORDERS.items():
        for number in (1, 2, 4, 8, 16, 32):
            if frequencies == f"{order}{number}":
                return [(int(u), int(v)) for u, v in indices.split()[:number]]
    raise ValueError(
        "frequencies must be 'top', 'low' or 'bot' followed by 1, 2, 4, 8, 16 or 32; "
        f"got {frequencies!r}"
    )
