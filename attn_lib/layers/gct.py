"""The gated channel transformation (Yang et al., arXiv 1909.11519)."""

import math

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib.layers._base import Attention, positive_int

__all__ = ["GatedChannelTransformation"]

_EPS = 1e-5


class GatedChannelTransformation(Attention):
    """Scale each channel by a gate computed from its norm beside the norms of the others (GCT).

    u = alpha sqrt(sum of x^2 over H and W + eps), v = gamma u / sqrt(mean of u^2 over C + eps),
    y = x (1 + tanh(v + beta)), with one alpha, gamma and beta a channel and eps = 1e-5, as in the
    authors' code (z-x-yang/GCT). Gamma and beta start at zero, so that the layer starts as the
    identity.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    norm : {"l2", "l1"}
        ``"l1"``: u = alpha times the sum of absolute values of x, v = gamma u / (mean of the
        absolute values of u over C + eps).

    Raises
    ------
    ValueError
        channels below 1; an unknown norm; an input that is not (N, C, H, W) with H, W >= 1.
    TypeError
        channels not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, norm="l2"):
        super().__init__()
        self.channels = positive_int("channels", channels)
        if norm not in ("l2", "l1"):
            raise ValueError(f"norm must be 'l2' or 'l1'; got {norm!r}")
        self.norm = norm
        self.alpha = nn.Parameter(torch.ones(1, self.channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, self.channels, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, self.channels, 1, 1))

    def gates(self, x):
        """``{"channel": 1 + tanh(v + beta)}`` for x (N, C, H, W): (N, C, 1, 1) in (0, 2)."""
        self._check(x)
        if self.norm == "l2":  # by norms, as the sums of squares would overflow in half precision
            u = self.alpha * _with_eps(_norm(x, 2, (2, 3)))
            v = self.gamma * u / _with_eps(_norm(u, 2, 1) / math.sqrt(self.channels))
        else:
            u = self.alpha * _norm(x, 1, (2, 3))
            v = self.gamma * u / (_norm(u, 1, 1) / self.channels + _EPS)
        return {"channel": (1 + torch.tanh(v + self.beta)).to(x.dtype)}

    def extra_repr(self):
        return f"channels={self.channels}, norm={self.norm!r}"


def _with_eps(norm):
    """sqrt(norm^2 + eps), as the norm of the two, side by side."""
    return _norm(F.pad(norm, (0, 1), value=math.sqrt(_EPS)), 2, 3)


def _norm(x, order, axes):
    return torch.linalg.vector_norm(x, order, axes, keepdim=True)
