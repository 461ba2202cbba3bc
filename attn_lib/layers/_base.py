"""What the layers share: the checks on what they are given, and the product with the gates."""

import operator

import torch
from torch import fx, nn

from attn_lib.layers import _fast


class Attention(nn.Module):
    """Base of every mechanism: multiplies a feature map by the gates that it computes from it.

    A subclass sets ``channels`` (None where any number will do) and defines ``gates``.
    """

    channels = None

    def gates(self, x):
        """Dictionary of what multiplies x; each entry broadcasts against (N, C, H, W)."""
        raise NotImplementedError(
            f"{type(self).__name__} has no gates: its output is not x times gates"
        )

    def forward(self, x):
        """Product of x, (N, C, H, W), with its gates: same shape, dtype and memory format."""
        first, *others = self.gates(x).values()
        y = _fast.scale(x, first)
        for gate in others:
            y = _fast.scale_again(y, gate)
        return y

    def _computes(self, gates):
        """Whether nobody, a subclass or ``record_gates``, puts others in the place of ``gates``.

        Compilers need not ask: the product with what ``gates`` returns is right in any case.
        """
        if torch.compiler.is_compiling():
            return False
        return "gates" not in vars(self) and type(self).gates is gates

    def _check(self, x):
        """ValueError or TypeError unless x is a floating-point (N, C, H, W) with our C."""
        if isinstance(x, fx.Proxy) or torch.jit.is_tracing():
            return  # there is nothing to look at yet, or a comparison would end up in the graph
        if x.dim() != 4 or (self.channels is not None and x.shape[1] != self.channels):
            wanted = "C" if self.channels is None else self.channels
            raise ValueError(
                f"{type(self).__name__} expects a feature map of shape (N, {wanted}, H, W); "
                f"got shape {tuple(x.shape)}"
            )
        if not x.is_floating_point():
            raise TypeError(
                f"{type(self).__name__} expects a floating-point feature map; got {x.dtype}"
            )
        if not torch.compiler.is_compiling() and 0 in x.shape[2:]:  # symbolic sizes stay open
            raise ValueError(
                f"{type(self).__name__} expects a feature map with H and W of at least 1; "
                f"got shape {tuple(x.shape)}"
            )

    def __getstate__(self):
        """Without the gates that ``record_gates`` or ``clamp_gates`` put here: copies are free."""
        state = self.__dict__.copy()
        state.pop("gates", None)
        return state


def unbiased(mean, x):
    """A mean of squares over the H W positions of x as their sum over H W - 1, or over 1."""
    others = x.shape[2] * x.shape[3] - 1
    if isinstance(others, int):  # while a compiler traces, the size may be unknown
        others = max(1, others)
    return mean + mean / others


def positive_int(name, value):
    """``value`` as an int, or an error that names the option and what was given."""
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer of at least 1; got {value!r}") from None
    if number < 1:
        raise ValueError(f"{name} must be an integer of at least 1; got {value!r}")
    return number
