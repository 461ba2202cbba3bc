"""The non-local block (Wang et al., arXiv 1711.07971)."""

import torch
from torch import fx, nn
from torch.nn import functional as F

from attn_lib.layers._base import Attention, positive_int

__all__ = ["NonLocal"]


class NonLocal(Attention):
    """Add to every position a weighted sum over all positions.

    y = x + BN(W (A g)), where g = W_g x + b_g, and A weighs position j for position i. A is a
    softmax over j of theta_i · phi_j with theta = W_theta x + b_theta and phi alike (embedded
    Gaussian), a softmax of x_i · x_j (Gaussian), or theta_i · phi_j divided by the number of
    positions (dot product); the logits are not scaled. The batch norm starts at weight 0, so that
    the layer starts as the identity. A is H W x H W, or a quarter of it where j is subsampled.
    Defaults and start are those of AlexHex7/Non-local_pytorch (the authors' code is for Caffe2).

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        theta, phi and g have max(1, C // r) channels.
    pairwise : {"embedded", "gaussian", "dot"}
        How A is computed.
    subsample : bool
        Whether g and phi (or x in its place) are pooled to the maxima of 2x2 windows; the last row
        or column of an odd size is left out, an axis of length 1 is not pooled. ``torch.export``
        with dynamic sizes then needs ``Dim(..., min=4)`` for H and W.
    batch_norm : bool
        Whether W is followed by a batch norm; without it W starts at zero.

    Raises
    ------
    ValueError
        channels or reduction below 1; an unknown pairwise; an input that is not (N, C, H, W) with
        H, W >= 1; in training, a single value a channel for the batch norm (N = H = W = 1).
    TypeError
        channels or reduction not an integer; an input that is not floating-point.
    """

    def __init__(self, channels, reduction=2, pairwise="embedded", subsample=True, batch_norm=True):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        if pairwise not in ("embedded", "gaussian", "dot"):
            raise ValueError(f"pairwise must be 'embedded', 'gaussian' or 'dot'; got {pairwise!r}")
        self.pairwise = pairwise
        self.subsample = bool(subsample)
        hidden = max(1, self.channels // self.reduction)
        self.g = nn.Conv2d(self.channels, hidden, 1)
        self.theta = self.phi = None
        if pairwise != "gaussian":
            self.theta = nn.Conv2d(self.channels, hidden, 1)
            self.phi = nn.Conv2d(self.channels, hidden, 1)
        self.out = nn.Conv2d(hidden, self.channels, 1)
        self.bn = nn.BatchNorm2d(self.channels) if batch_norm else None
        last = self.bn if batch_norm else self.out
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x):
        """x, (N, C, H, W), and its sum over positions: same shape, dtype and memory format."""
        self._check(x)
        theta, phi = (x, x) if self.theta is None else (self.theta(x), self.phi(x))
        g = self.g(x)
        if self.subsample:
            phi, g = _halve(phi), _halve(g)
        a = torch.matmul(theta.flatten(2).transpose(1, 2), phi.flatten(2))  # (N, HW, positions)
        a = a / a.shape[2] if self.pairwise == "dot" else a.softmax(2)
        y = torch.matmul(g.flatten(2), a.transpose(1, 2).to(g.dtype))  # (N, hidden, HW)
        y = self.out(y.reshape(x.shape[0], self.out.in_channels, x.shape[2], x.shape[3]))
        if self.bn is not None:
            y = self.bn(y)
        return x + y.to(x.dtype)

    def extra_repr(self):
        return f"channels={self.channels}, reduction={self.reduction}, pairwise={self.pairwise!r}"


def _halve(x):
    """Maxima of 2x2 windows; an axis of length 1 stays as it is."""
    if isinstance(x, fx.Proxy) or torch.jit.is_tracing():
        return F.max_pool2d(x, 2)  # a comparison of sizes would end up in the graph
    return F.max_pool2d(x, [2 if size > 1 else 1 for size in x.shape[2:]])
