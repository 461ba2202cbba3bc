"""The global context block (Cao et al., arXiv 1904.11492)."""

from collections import OrderedDict

import torch
from torch import nn

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["GlobalContext"]


class GlobalContext(Attention):
    """Add one vector, computed from a weighted mean over all positions, to every position.

    z = sum over positions of p x with p = softmax over positions of (w x + b);
    t = W2 relu(LN(W1 z + b1)) + b2; y = x + t. The authors' code can multiply by a gate as well,
    y = x sigmoid(t') + t, or alone, y = x sigmoid(t'), each with an MLP of its own. W2 and b2 start
    at zero, so that the sum starts as the identity and a gate at 1/2.

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    reduction : int
        r; the bottleneck has max(1, C // r) units. The authors' code takes the fraction 1 / r.
        With one unit the layer norm returns its bias, and t does not depend on x.
    fusion : {"add", "multiply", "both"}
        What is done with x. ``"multiply"`` alone has ``gates``. A tuple of the first two, as the
        authors' code takes it, will do as well.
    pooling : {"attention", "mean"}
        p as above, or 1 / (H W).

    Raises
    ------
    ValueError
        channels or reduction below 1; an unknown fusion or pooling; an input that is not
        (N, C, H, W) with H, W >= 1.
    TypeError
        channels or reduction not an integer; an input that is not floating-point.
    NotImplementedError
        ``gates`` of a layer that adds.
    """

    def __init__(self, channels, reduction=16, fusion="add", pooling="attention"):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        if isinstance(fusion, (tuple, list)):  # as in the authors' code
            fusion = {"add": "add", "multiply": "multiply", "add multiply": "both"}.get(
                " ".join(sorted(map(str, fusion))), fusion
            )
        if fusion not in ("add", "multiply", "both"):
            raise ValueError(f"fusion must be 'add', 'multiply' or 'both'; got {fusion!r}")
        if pooling not in ("attention", "mean"):
            raise ValueError(f"pooling must be 'attention' or 'mean'; got {pooling!r}")
        self.fusion = fusion
        self.pooling = pooling
        self.mask = nn.Conv2d(self.channels, 1, 1) if pooling == "attention" else None
        if self.mask is not None:
            nn.init.kaiming_normal_(self.mask.weight)
            nn.init.zeros_(self.mask.bias)
        self.add = self._mlp() if fusion != "multiply" else None
        self.multiply = self._mlp() if fusion != "add" else None

    def _mlp(self):
        hidden = max(1, self.channels // self.reduction)
        fc2 = nn.Linear(hidden, self.channels)
        nn.init.zeros_(fc2.weight)
        nn.init.zeros_(fc2.bias)
        return nn.Sequential(
            OrderedDict(
                fc1=nn.Linear(self.channels, hidden),
                norm=nn.LayerNorm(hidden),
                relu=nn.ReLU(),
                fc2=fc2,
            )
        )

    def gates(self, x):
        """``{"channel": s}`` for x (N, C, H, W), with s of shape (N, C, 1, 1) in (0, 1)."""
        if self.add is not None:
            return super().gates(x)
        self._check(x)
        return {"channel": self._gate(x, self._context(x))}

    def forward(self, x):
        """x, (N, C, H, W), with its context fused into it: same shape, dtype, memory format."""
        if self.add is None:
            return super().forward(x)
        self._check(x)
        z = self._context(x)
        y = x if self.multiply is None else _fast.scale(x, self._gate(x, z))
        return y + self.add(z)[:, :, None, None].to(x.dtype)

    def _context(self, x):
        """z, (N, C)."""
        if self.mask is None:
            return _fast.mean(x, (2, 3)).flatten(1)
        p = self.mask(x).flatten(2).softmax(2)  # (N, 1, HW)
        return torch.matmul(x.flatten(2), p.transpose(1, 2).to(x.dtype)).flatten(1)

    def _gate(self, x, z):
        return torch.sigmoid(self.multiply(z))[:, :, None, None].to(x.dtype)

    def extra_repr(self):
        return f"channels={self.channels}, reduction={self.reduction}, fusion={self.fusion!r}"
