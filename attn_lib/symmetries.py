"""What a layer does when its input is rearranged, scaled, shifted or resized.

A layer *follows* a transformation T if it makes no difference whether T comes before or after it:
layer(T x) = T layer(x). Its gates follow T if gates(T x) = T gates(x), where a gate that is the
same at all positions is copied to all of them. If T only moves numbers, a layer follows it exactly
if its gates do. Scaling and shifting leave the gates of a layer alone if its gates follow them.

What follows a transformation cannot tell its results apart by their arrangement: a gate on
channels that follows every permutation of the pixels depends on no arrangement of pixels.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch

__all__ = ["TRANSFORMATIONS", "Transformation", "change_of_gates", "change_of_output", "draw"]


class Transformation(NamedTuple):
    """What becomes of a layer's input, and what then should become of its gates and output.

    Each is a function (N, C, H, W) -> (N, C, H, W), for "transpose", "rotate" and "repeat" of
    another height and width.
    """

    on_input: Callable
    on_gates: Callable
    on_output: Callable


def _moves(function):
    return Transformation(function, function, function)


def _pixels(shape, generator):
    order = torch.randperm(shape[2] * shape[3], generator=generator)
    return _moves(lambda x: x.flatten(2)[:, :, order].unflatten(2, x.shape[2:]))


def _rows_and_columns(shape, generator):
    rows = torch.randperm(shape[2], generator=generator)
    columns = torch.randperm(shape[3], generator=generator)
    return _moves(lambda x: x[:, :, rows][:, :, :, columns])


def _roll(shape, generator):
    down, right = (int(torch.randint(n, (1,), generator=generator)) for n in shape[2:])
    return _moves(lambda x: x.roll((down, right), (2, 3)))


def _transpose(shape, generator):
    return _moves(lambda x: x.transpose(2, 3))


def _rotate(shape, generator):
    return _moves(lambda x: x.rot90(1, (2, 3)))


def _repeat(shape, generator):
    return _moves(lambda x: x.repeat_interleave(2, 2).repeat_interleave(2, 3))


def _channels(shape, generator):
    order = torch.randperm(shape[1], generator=generator)
    return _moves(lambda x: x[:, order])


def _scale(shape, generator):
    factor = 0.25 + 4 * float(torch.rand(1, generator=generator))
    return Transformation(lambda x: factor * x, lambda g: g, lambda y: factor * y)


def _offset(shape, generator):
    amount = 0.25 + 4 * float(torch.rand(1, generator=generator))
    return Transformation(lambda x: x + amount, lambda g: g, lambda y: y + amount)


_DRAW = {
    "pixels": _pixels,
    "rows and columns": _rows_and_columns,
    "roll": _roll,
    "transpose": _transpose,
    "rotate": _rotate,
    "repeat": _repeat,
    "channels": _channels,
    "scale": _scale,
    "offset": _offset,
}
#: Names that :func:`draw` knows.
TRANSFORMATIONS = tuple(_DRAW)


def draw(name, shape, seed=0):
    """A random transformation of feature maps of this shape.

    Parameters
    ----------
    name : str
        "pixels": one permutation of all positions. "rows and columns": a permutation of the rows
        and one of the columns. "roll": a translation in which what leaves the feature map at one
        side enters at the other. "transpose": rows become columns. "rotate": by 90 degrees.
        "repeat": every pixel becomes 2x2 equal ones. "channels": a permutation of the channels.
        "scale": a product with a positive number. "offset": the addition of a number to all.
    shape : (N, C, H, W)
        Of the input.
    seed : int
        Of permutations, distances and numbers.

    Returns
    -------
    Transformation

    Raises
    ------
    ValueError
        An unknown name; the message lists the known ones. A shape that has not four entries.
    """
    if name not in _DRAW:
        raise ValueError(f"name must be one of {', '.join(_DRAW)}; got {name!r}")
    if len(shape) != 4:
        raise ValueError(f"shape must be (N, C, H, W); got {tuple(shape)}")
    return _DRAW[name](tuple(shape), torch.Generator().manual_seed(seed))


def change_of_gates(layer, x, transformation):
    """How far the gates of a layer are from following a transformation.

    The layer stays in the mode that it is in. In training mode its batch norms take their
    statistics from x, and count it.

    Parameters
    ----------
    layer : nn.Module
        With a method ``gates``, as all of ``attn_lib.layers`` have.
    x : tensor (N, C, H, W)
    transformation : Transformation

    Returns
    -------
    float : the largest absolute difference between gates(T x) and T gates(x).
    """
    moved = transformation.on_input(x)
    with torch.no_grad():
        after = transformation.on_gates(_joint(layer, x))
        before = _joint(layer, moved)
    return float((before - after).abs().max())


def change_of_output(layer, x, transformation):
    """How far a layer is from following a transformation.

    Parameters
    ----------
    layer : callable
        (N, C, H, W) -> the same shape.
    x : tensor (N, C, H, W)
    transformation : Transformation

    Returns
    -------
    float : the largest absolute difference between layer(T x) and T layer(x).
    """
    with torch.no_grad():
        after = transformation.on_output(layer(x))
        before = layer(transformation.on_input(x))
    return float((before - after).abs().max())


def _joint(layer, x):
    """Product of a layer's gates, copied to the shape of x."""
    joint = torch.ones_like(x)
    for gate in layer.gates(x).values():
        joint = joint * gate
    return joint
