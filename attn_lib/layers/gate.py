"""Attention composed from parts.

A gate is made from a feature map in steps: gather (a mean, a maximum, strips), transform (linear
maps, convolutions), and a function such as the sigmoid. ``Gate`` takes the steps in this order and
multiplies the feature map by what they make. Three lines are a new layer::

    from attn_lib.layers import gate

    layer = gate.Gate(gate.mean, gate.bottleneck(64, reduction=4), torch.sigmoid)  # SE

A part is any function or ``nn.Module`` from a tensor (N, C, H, W) to one with four axes, where an
axis that is gathered keeps the length 1. PyTorch's own modules are parts as they are. ``Branches``
computes several tensors from one; the parts after it work on each of them, with the same weights,
until ``Merge`` makes one tensor of them again::

    pooled = gate.Branches(gate.mean, gate.maximum)
    a = gate.chain(pooled, gate.bottleneck(64), gate.Merge(torch.add))
    layer = gate.Gate(a, torch.sigmoid)  # CBAM's first half

Two layers one after the other are an ``nn.Sequential`` of both.
"""

import functools

import torch
from torch import fx, nn
from torch.nn import functional as F

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int, unbiased
from attn_lib.layers.fca import CosineTransform

__all__ = [
    "AlongChannels",
    "AlongPositions",
    "Branches",
    "Frequencies",
    "Gate",
    "Merge",
    "SoftmaxPooling",
    "Swapped",
    "Together",
    "Windows",
    "average",
    "bottleneck",
    "chain",
    "columns",
    "concatenated",
    "deviation",
    "maximum",
    "maximum_of_channels",
    "mean",
    "mean_of_channels",
    "one_plus_sigmoid",
    "one_plus_tanh",
    "rows",
]


class Gate(Attention):
    """Multiply a feature map by what the parts make of it.

    Parameters
    ----------
    parts : functions and nn.Modules
        Applied in this order, the first to x, (N, C, H, W). What the last one returns has four
        axes, each of length 1 or as long as x's; after ``Branches`` without ``Merge`` there are
        several such gates, and x is multiplied by all of them.
    add : bool
        Add the result to x and do not multiply, as the Global Context block does.

    Raises
    ------
    ValueError
        No parts; an input that is not (N, C, H, W) with H, W >= 1; a result that does not broadcast
        to x. A wrong number of channels is noticed by the part that has weights for another one.
    TypeError
        A part that cannot be called; an input that is not floating-point.

    Notes
    -----
    ``gates`` names each gate by its shape: ``"channel"`` (N, C, 1, 1), ``"spatial"`` (N, 1, H, W),
    ``"height"`` (N, C, H, 1), ``"width"`` (N, C, 1, W), ``"joint"`` otherwise. A second one of the
    same shape has a number, ``"channel_2"``. Where H or W is 1, shapes say less, and so do names.
    A layer can be pickled if its functions are defined in a module; a ``lambda`` is not.
    """

    def __init__(self, *parts, add=False):
        super().__init__()
        if not parts:
            raise ValueError("a Gate needs at least one part; got none")
        self.parts = chain(*parts)
        self.add = add

    def gates(self, x):
        """Dictionary of what multiplies x, (N, C, H, W); empty for a layer that adds."""
        self._check(x)
        return {} if self.add else _named(self._made(x))

    def forward(self, x):
        """Product (or sum) of x, (N, C, H, W), and what the parts make: same shape and dtype."""
        if not self.add:
            return super().forward(x)
        self._check(x)
        return sum(self._made(x), start=x)

    def _made(self, x):
        """What the parts make of x, as a tuple."""
        made = self.parts(x)
        made = made if isinstance(made, tuple) else (made,)
        for tensor in made:
            _check_broadcast(tensor, x)
        return made


def _check_broadcast(tensor, x):
    if isinstance(x, fx.Proxy) or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return  # sizes stay open
    if tensor.dim() != 4 or any(tensor.shape[i] not in (1, x.shape[i]) for i in range(4)):
        raise ValueError(
            f"the parts of a Gate made a tensor of shape {tuple(tensor.shape)}; expected four "
            f"axes, each of length 1 or as in the feature map, {tuple(x.shape)}"
        )


_NAMES = {(1, 0, 0): "channel", (0, 1, 1): "spatial", (1, 1, 0): "height", (1, 0, 1): "width"}


def _named(gates):
    named = {}
    for gate in gates:
        if isinstance(gate, fx.Proxy) or torch.jit.is_tracing():
            name = "gate"  # there are no sizes to look at
        else:
            name = _NAMES.get(tuple(int(size != 1) for size in gate.shape[1:]), "joint")
        same = sum(known.partition("_")[0] == name for known in named)
        named[f"{name}_{same + 1}" if same else name] = gate
    return named


# ---- how parts are put together


class _Function(nn.Module):
    """A plain function as a module, which can be hooked and printed."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)

    def extra_repr(self):
        return getattr(self.function, "__name__", repr(self.function))


def _module(part):
    if isinstance(part, nn.Module):
        return part
    if not callable(part):
        raise TypeError(f"a part is a function or an nn.Module; got {part!r}")
    return _Function(part)


class _Chain(nn.Sequential):
    def forward(self, x):
        for part in self:
            if isinstance(x, tuple) and not isinstance(part, Branches | Merge | Together):
                x = tuple(part(tensor) for tensor in x)  # the same weights for each
            else:
                x = part(x)
        return x


def chain(*parts):
    """One part that applies the given ones in order; for use inside ``Branches``, for instance."""
    return _Chain(*map(_module, parts))


class Branches(nn.Module):
    """Several parts side by side: x -> (f(x), g(x), ...).

    After another ``Branches``, with as many parts, each takes its own: (a, b) -> (f(a), g(b)).

    Raises
    ------
    ValueError
        Fewer than two parts; or not as many tensors as parts.
    """

    def __init__(self, *parts):
        super().__init__()
        if len(parts) < 2:
            raise ValueError(f"Branches needs at least two parts; got {len(parts)}")
        self.parts = nn.ModuleList(map(_module, parts))

    def forward(self, x):
        tensors = x if isinstance(x, tuple) else (x,) * len(self.parts)
        if len(tensors) != len(self.parts):
            raise ValueError(f"{len(self.parts)} branches cannot take {len(tensors)} tensors")
        return tuple(part(tensor) for part, tensor in zip(self.parts, tensors, strict=True))


class Merge(nn.Module):
    """One tensor from those of ``Branches``: (a, b, ...) -> function(a, b, ...).

    ``torch.mul``, ``torch.add`` and ``torch.maximum`` merge two; ``average`` and
    ``concatenated(axis)`` any number.
    """

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        if not isinstance(x, tuple):
            raise ValueError("Merge needs the tensors of Branches; got one tensor")
        return self.function(*x)


def average(*tensors):
    """Their mean, broadcast to the largest: for ``Merge``."""
    return sum(tensors) / len(tensors)


def _concatenate(*tensors, axis):
    return torch.cat(tensors, axis)


def concatenated(axis):
    """Function that lays tensors one behind the other along ``axis``: for ``Merge``."""
    return functools.partial(_concatenate, axis=axis)


class Together(nn.Module):
    """Parts applied to all tensors of ``Branches`` at once, which stay apart.

    Without it a batch norm would be updated for each tensor in turn. The positions of all, (N, C,
    H_i, W_i), are laid in one column, (N, C, sum of H_i W_i, 1), and taken apart again.
    """

    def __init__(self, *parts):
        super().__init__()
        self.parts = chain(*parts)

    def forward(self, x):
        if not isinstance(x, tuple):
            raise ValueError("Together needs the tensors of Branches; got one tensor")
        flat = self.parts(torch.cat([tensor.flatten(2) for tensor in x], 2)[:, :, :, None])
        pieces, start = [], 0
        for tensor in x:
            h, w = tensor.shape[2], tensor.shape[3]
            piece = flat[:, :, start : start + h * w]
            pieces.append(piece.reshape(piece.shape[0], piece.shape[1], h, w))
            start = start + h * w
        return tuple(pieces)


class Swapped(nn.Module):
    """Parts applied to x with two axes exchanged, which are exchanged back in the result.

    ``Swapped(1, 2, ...)`` looks at the feature map from the side: the rows take the place of the
    channels. The weights of the parts have to fit whatever H is.
    """

    def __init__(self, first, second, *parts):
        super().__init__()
        self.axes = (first, second)
        self.parts = chain(*parts)

    def forward(self, x):
        return self.parts(x.transpose(*self.axes)).transpose(*self.axes)


# ---- gather: (N, C, H, W) -> fewer numbers


def mean(x):
    """Means of the channels, (N, C, 1, 1)."""
    return _fast.mean(x, (2, 3))


def maximum(x):
    """Maxima of the channels, (N, C, 1, 1); a tie's gradient goes to the first."""
    return x.flatten(2).max(2, keepdim=True).values[:, :, :, None]


def deviation(x, eps=1e-5):
    """Standard deviations of the channels, (N, C, 1, 1): root of variance (over HW - 1) + eps.

    As in the code of SRM (Lee et al., arXiv 1903.10829). The variance is 0 where H = W = 1.
    """
    variance, _ = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
    return (unbiased(variance, x) + eps).sqrt()


def rows(x):
    """Means along the rows, one for each row, (N, C, H, 1)."""
    return _fast.mean(x, (3,))


def columns(x):
    """Means along the columns, one for each column, (N, C, 1, W)."""
    return _fast.mean(x, (2,))


def mean_of_channels(x):
    """Mean over the channels at each position, (N, 1, H, W)."""
    return _fast.mean(x, (1,))


def maximum_of_channels(x):
    """Maximum over the channels at each position, (N, 1, H, W); a tie: as for ``maximum``."""
    return x.max(1, keepdim=True).values


class Windows(nn.Module):
    """Means over windows, each spread again over the positions that are nearest: (N, C, H, W).

    The windows reach ``extent - 1`` positions to each side of every ``extent``-th position; what
    lies beyond the border does not count (Gather-Excite, Hu et al., arXiv 1810.12348, without
    parameters; the border as in timm).
    """

    def __init__(self, extent):
        super().__init__()
        self.extent = positive_int("extent", extent)

    def forward(self, x):
        e = self.extent
        z = F.avg_pool2d(x, 2 * e - 1, stride=e, padding=e - 1, count_include_pad=False)
        return F.interpolate(z, size=x.shape[2:])

    def extra_repr(self):
        return f"extent={self.extent}"


class SoftmaxPooling(nn.Module):
    """Weighted means, (N, C, 1, 1): the weights are a softmax over the positions.

    The softmax's arguments are a 1x1 convolution of x to one channel, as in the Global Context
    block (Cao et al., arXiv 1904.11492).
    """

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(positive_int("channels", channels), 1, 1)

    def forward(self, x):
        weights = self.conv(x).flatten(2).softmax(2)  # (N, 1, H W)
        return (x.flatten(2) @ weights.transpose(1, 2))[:, :, :, None]


class Frequencies(nn.Module):
    """One coefficient of the discrete cosine transform for each channel, (N, C, 1, 1).

    The channels are divided evenly among ``frequencies``, in their order (FcaNet, Qin et al.,
    arXiv 2012.11879). A feature map of another size is pooled to (height, width) first.

    Parameters
    ----------
    channels, height, width : int
    frequencies : sequence of (int, int)
        Pairs (u, v); ``(0, 0)`` is the mean times the root of height times width.

    Raises
    ------
    ValueError
        channels is no multiple of the number of frequencies; a frequency outside the map.
    """

    def __init__(self, channels, height, width, frequencies):
        super().__init__()
        self.size = (positive_int("height", height), positive_int("width", width))
        if not frequencies or positive_int("channels", channels) % len(frequencies):
            raise ValueError(
                f"channels must be a multiple of the number of frequencies; got {channels} "
                f"channels, {len(frequencies)} frequencies"
            )
        for u, v in frequencies:
            if not (0 <= u < height and 0 <= v < width):
                raise ValueError(f"a {height} x {width} map has no frequency {(u, v)}")
        self.dct = CosineTransform(channels, *self.size, frequencies)

    def forward(self, x):
        return self.dct(F.adaptive_avg_pool2d(x, self.size))[:, :, None, None]


# ---- transform


def bottleneck(channels, reduction=16, norm=None, bias=True):
    """Two linear maps with a ReLU between them, for each position: (N, C, ...) -> the same.

    Parameters
    ----------
    channels : int
        C.
    reduction : int
        r; max(1, C // r) units lie between the two.
    norm : callable, optional
        Normalisation before the ReLU, made as ``norm(units)``; such as ``nn.BatchNorm2d``.
    bias : bool
        Whether the maps have biases.

    Returns
    -------
    nn.Sequential
    """
    channels, reduction = positive_int("channels", channels), positive_int("reduction", reduction)
    hidden = max(1, channels // reduction)
    between = [nn.ReLU()] if norm is None else [norm(hidden), nn.ReLU()]
    return nn.Sequential(
        nn.Conv2d(channels, hidden, 1, bias=bias),
        *between,
        nn.Conv2d(hidden, channels, 1, bias=bias),
    )


class AlongChannels(nn.Module):
    """One kernel that slides along the channels: (N, C, 1, 1) -> the same, as in ECA; no bias."""

    def __init__(self, kernel_size):
        super().__init__()
        self.conv = nn.Conv1d(1, 1, **_same(kernel_size), bias=False)

    def forward(self, z):
        return self.conv(z.flatten(1)[:, None]).transpose(1, 2)[:, :, :, None]


class AlongPositions(nn.Module):
    """One kernel a channel that slides along a strip, (N, C, H, 1) or (N, C, 1, W); no bias.

    With it a strip is treated alike in both directions, as in ELA (Xu and Wan, arXiv 2403.01123).
    """

    def __init__(self, channels, kernel_size):
        super().__init__()
        channels = positive_int("channels", channels)
        self.conv = nn.Conv1d(channels, channels, **_same(kernel_size), groups=channels, bias=False)

    def forward(self, z):
        return self.conv(z.flatten(2)).reshape(z.shape)


def _same(kernel_size):
    if positive_int("kernel_size", kernel_size) % 2 == 0:
        raise ValueError(f"kernel_size must be odd, to keep the length; got {kernel_size}")
    return {"kernel_size": kernel_size, "padding": kernel_size // 2}


# ---- gates that torch has no name for


def one_plus_sigmoid(a):
    """1 + sigmoid(a), in (1, 2): BAM's, which never takes away."""
    return 1 + torch.sigmoid(a)


def one_plus_tanh(a):
    """1 + tanh(a), in (0, 2): 1 at a = 0, where the layer changes nothing (GCT)."""
    return 1 + torch.tanh(a)
