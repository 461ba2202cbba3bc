"""What the layers share: the checks on what they are given, and the product with the gates."""

import operator

from torch import nn


class Attention(nn.Module):
    """Base of every mechanism: multiplies a feature map by the gates that it computes from it.

    A subclass sets ``channels`` (None where any number will do) and defines ``gates``.
    """

    channels = None

    def gates(self, x):
        """Dictionary of what multiplies x; each entry broadcasts against (N, C, H, W)."""
        raise NotImplementedError

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gates: same shape, dtype and memory format."""
        for gate in self.gates(x).values():
            x = x * gate
        return x

    def _check(self, x):
        """ValueError or TypeError unless x is a floating-point (N, C, H, W) with our C."""
        if x.dim() != 4 or self.channels not in (None, x.shape[1]):
            wanted = "C" if self.channels is None else self.channels
            raise ValueError(
                f"{type(self).__name__} expects a feature map of shape (N, {wanted}, H, W); "
                f"got shape {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(
                f"{type(self).__name__} expects a floating-point feature map; got {x.dtype}"
            )


def positive_int(name, value):
    """``value`` as an int, or an error that names the option and what was given."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer of at least 1; got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}")
    return number
