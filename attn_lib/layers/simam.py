"""SimAM (Yang et al., ICML 2021)."""

import math

import torch

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int, unbiased

__all__ = ["SimAM"]


class SimAM(Attention):
    """Scale every value by a gate that is larger the further it lies from its channel's mean.

    d = (x - mean of x over H and W)^2, v = sum of d over H and W / (H W - 1),
    y = x sigmoid(d / (4 (v + lambda)) + 1/2), as in the authors' code (ZjjConan/SimAM): the gate is
    computed from the inverse of the paper's minimal energy. There are no parameters. On a feature
    map of one position, where H W - 1 is 0, the gate is sigmoid(1/2).

    Parameters
    ----------
    channels : int, optional
        C, the channels of the input, to check it; None takes any.
    lam : float
        lambda, positive.

    Raises
    ------
    ValueError
        channels below 1; lam not positive or not finite; an input that is not (N, C, H, W) with
        H, W >= 1.
    TypeError
        channels not an integer; an input that is not floating-point.
    """

    def __init__(self, channels=None, lam=1e-4):
        super().__init__()
        self.channels = None if channels is None else positive_int("channels", channels)
        if not (lam > 0 and math.isfinite(lam)):
            raise ValueError(f"lam must be positive and finite; got {lam!r}")
        self.lam = float(lam)

    def gates(self, x):
        """``{"joint": s}`` for x (N, C, H, W), with s of shape (N, C, H, W) in (0.62, 1)."""
        self._check(x)
        d = (x - _fast.mean(x, (2, 3))).square()
        variance = unbiased(_fast.mean(d, (2, 3)), x)  # a sum would overflow in half precision
        return {"joint": torch.sigmoid(d / (4 * (variance + self.lam)) + 0.5)}

    def extra_repr(self):
        return f"lam={self.lam}"
