"""What attention costs: by the formulas of the chapters for a layer, counted for a model."""

import copy
import operator
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from attn_lib._formulas import FORMULAS, LayerCost, add, parameters
from attn_lib.layers._base import Attention

__all__ = ["Cost", "LayerCost", "ModelCost", "layer_cost", "model_cost", "saved_bytes"]


class Cost(NamedTuple):
    """Parameters, and multiply-adds of one forward pass of the whole batch."""

    parameters: int
    multiply_adds: int


class ModelCost(NamedTuple):
    """What a model takes, with and without its attention.

    Attributes
    ----------
    backbone, attention : Cost
        Everything else, and all attention modules together.
    modules : dict
        Name of an attention module in the model -> its Cost; CBAM is one module, not three.
    """

    backbone: Cost
    attention: Cost
    modules: dict

    @property
    def total(self):
        """Cost of backbone and attention together."""
        return add(self.backbone, self.attention)


def layer_cost(module, input_shape):
    """Cost of an attention layer, by the formulas that the chapters derive.

    Parameters
    ----------
    module : nn.Module
        A layer of ``attn_lib.layers``. The width of a number is that of its parameters, of single
        precision where there are none; its mode, training or evaluation, matters for
        ``saved_bytes`` alone.
    input_shape : tuple
        (N, C, H, W) of the feature map.

    Returns
    -------
    LayerCost

    Raises
    ------
    TypeError
        A module of another kind, subclasses included, as they may compute something else.
    ValueError
        ``input_shape`` is not four positive integers, or C is not the layer's.

    Examples
    --------
    >>> from attn_lib import cost, layers
    >>> cost.layer_cost(layers.SqueezeExcitation(64), (1, 64, 56, 56)).multiply_adds
    512
    """
    if type(module) not in FORMULAS:
        known = ", ".join(kind.__name__ for kind in FORMULAS)
        raise TypeError(f"no formula for {type(module).__name__}; there are formulas for {known}")
    shape = _shape(input_shape)
    if len(shape) != 4 or module.channels not in (None, shape[1]):
        wanted = "C" if module.channels is None else module.channels
        raise ValueError(
            f"{type(module).__name__} expects input_shape (N, {wanted}, H, W); got {input_shape}"
        )
    return FORMULAS[type(module)](module, *shape)


def model_cost(model, input_shape):
    """Cost of a model, counted by PyTorch's flop counter, backbone and attention apart.

    The forward pass runs in evaluation mode, on a copy without data (PyTorch's ``meta`` device):
    nothing is allocated or computed, and ``model`` is left as it is. Multiply-adds are those of
    linear maps, matrix products and convolutions. Parameters are all of the model's, those that
    only training uses included; one that several modules share is counted once.

    Parameters
    ----------
    model : nn.Module
        Attention is every layer of ``attn_lib.layers`` in it, and whatever module is called
        ``attention``, as the backbones of ``attn_lib.models`` call what ``attention=`` makes.
        A model without any is all backbone.
    input_shape : tuple
        Of the model's one input, such as (1, 3, 224, 224).

    Returns
    -------
    ModelCost

    Raises
    ------
    ValueError
        The model does not accept an input of this shape.

    Examples
    --------
    >>> from attn_lib import cost, models
    >>> cost.model_cost(models.resnet(50, "se"), (1, 3, 224, 224)).attention.parameters
    2530992
    """
    shape = _shape(input_shape)
    twin = _without_data(model).eval()
    dtype = next((p.dtype for p in twin.parameters() if p.is_floating_point()), None)
    counter = FlopCounterMode(display=False)
    try:
        with torch.no_grad(), counter:
            twin(torch.empty(shape, dtype=dtype, device="meta"))
    except (RuntimeError, ValueError, IndexError, TypeError) as error:
        raise ValueError(
            f"{type(model).__name__} does not accept an input of shape {shape}: {error}"
        ) from error
    counted = counter.get_flop_counts()

    def cost(module, name):  # the counter reports two operations for a multiply-add
        return Cost(parameters(module), sum(counted.get(name, {}).values()) // 2)

    root = type(twin).__name__
    modules = {
        name: cost(module, f"{root}.{name}" if name else root)
        for name, module in _outermost_attention(twin)
    }
    gates = nn.ModuleList(module for _, module in _outermost_attention(twin))
    attention = Cost(parameters(gates), sum(c.multiply_adds for c in modules.values()))
    backbone = Cost(*map(operator.sub, cost(twin, "Global"), attention))
    return ModelCost(backbone, attention, modules)


def _shape(given):
    try:
        shape = tuple(operator.index(length) for length in given)
    except TypeError:
        shape = ()
    if not shape or min(shape) < 1:
        raise ValueError(f"input_shape must be a tuple of integers of at least 1; got {given!r}")
    return shape


def _without_data(model):
    """Deep copy in which every parameter and buffer lies on the meta device; none is copied."""
    stand_ins = {}
    for p in model.parameters():
        stand_ins[id(p)] = nn.Parameter(torch.empty_like(p, device="meta"), p.requires_grad)
    for b in model.buffers():
        stand_ins[id(b)] = torch.empty_like(b, device="meta")
    return copy.deepcopy(model, stand_ins)


def _outermost_attention(module, name=""):
    """(name, module) of each attention module that is not inside another."""
    called_so = "attention" in name.split(".")
    if isinstance(module, Attention) or (
        called_so and not isinstance(module, (nn.Identity, nn.ModuleList, nn.ModuleDict))
    ):
        yield name, module
        return
    for child_name, child in module.named_children():
        yield from _outermost_attention(child, f"{name}.{child_name}".lstrip("."))


def saved_bytes(module, x):
    """Bytes that autograd keeps of one forward pass of a module for its backward pass.

    Counted as they are put aside, each storage once, without parameters and buffers, which stay in
    memory anyway.

    Parameters
    ----------
    module : nn.Module
        In the mode (training or evaluation) in which it will run.
    x : torch.Tensor
        Its input, on any device; on ``"meta"``, with the module there too, nothing is computed.
    """
    own = {t.untyped_storage()._cdata for t in [*module.parameters(), *module.buffers()]}
    kept = {}

    def put_aside(tensor):
        kept[tensor.untyped_storage()._cdata] = tensor  # alive, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(put_aside, lambda tensor: tensor):
        module(x)
    return sum(t.untyped_storage().nbytes() for key, t in kept.items() if key not in own)
