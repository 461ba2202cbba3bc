"""Look at what a model's attention computes, and interfere with it."""

from contextlib import contextmanager

import numpy as np
import torch

from attn_lib.layers._base import Attention

__all__ = ["clamp_gates", "gradcam", "record_gates", "variance_parts"]


@contextmanager
def record_gates(model, *, detach=True):
    """Record every gate of one forward pass.

    Nothing is computed twice: what is recorded is what multiplied the features, so batch norm
    in training counts the batch once.

    Parameters
    ----------
    model : nn.Module
        With attention modules of ``attn_lib.layers`` anywhere inside, or one itself.
    detach : bool
        Whether the recorded tensors are cut from the graph; False keeps their gradients.

    Yields
    ------
    dict
        Filled by the forward pass: the attention module's name in ``model`` (``""`` for the model
        itself) -> the dictionary that its ``gates`` method returns.

    Raises
    ------
    ValueError
        The model holds no attention module; or a module runs a second time, where the second
        gates would overwrite the first.
    RuntimeError
        At the end, if no forward pass ran (or only a compiled copy of the model did), or no layer
        of the model has gates.

    Examples
    --------
    >>> import torch
    >>> from attn_lib import inspection, models
    >>> model = models.resnet_cifar(8, attention="se").eval()
    >>> images = torch.zeros(2, 3, 32, 32)
    >>> with inspection.record_gates(model) as gates:
    ...     logits = model(images)
    >>> gates["layer1.0.attention"]["channel"].shape
    torch.Size([2, 16, 1, 1])
    """
    recorded = {}

    def record(owner, made):
        known = recorded.setdefault(owner, {})
        if known.keys() & made.keys():
            raise ValueError(
                f"{owner or 'the model'!s} ran twice: record one forward pass at a time"
            )
        known.update({k: g.detach() if detach else g for k, g in made.items()})
        return made

    with _intercepted(model, record):
        yield recorded
    if not recorded:
        kinds = {type(m).__name__ for m in model.modules() if isinstance(m, Attention)}
        raise RuntimeError(
            "no gate was recorded: call the model itself inside the with block. If it was called, "
            f"its layers add to x or replace it and have no gates: {', '.join(sorted(kinds))}"
        )


@contextmanager
def clamp_gates(model, gates):
    """Replace gates by given ones, whatever the input is, to see what the network loses.

    Parameters
    ----------
    model : nn.Module
        With attention modules of ``attn_lib.layers`` inside, or one itself.
    gates : dict
        Of the form that :func:`record_gates` yields, for some of the modules or all, and for some
        of a module's gates or all: module name -> {gate name -> tensor}. Each tensor broadcasts
        against the gate that it replaces, such as its mean over images, (1, C, 1, 1).

    Raises
    ------
    ValueError
        ``gates`` names a module that the model does not have; a tensor does not broadcast to its
        gate; or, at the end, a gate that no forward pass computed.

    Examples
    --------
    >>> import torch
    >>> from attn_lib import inspection, models
    >>> model = models.resnet_cifar(8, attention="se").eval()
    >>> images = torch.rand(2, 3, 32, 32)
    >>> with inspection.record_gates(model) as recorded:
    ...     logits = model(images)
    >>> mean = {name: {k: g.mean(0, keepdim=True) for k, g in made.items()}
    ...         for name, made in recorded.items()}
    >>> with inspection.clamp_gates(model, mean):
    ...     logits = model(images)
    """
    known = {name for name, m in model.named_modules() if isinstance(m, Attention)}
    for name in gates.keys() - known:
        raise ValueError(
            f"no attention module is called {name!r}; there are {sorted(known) or 'none'}"
        )
    unseen = {(name, key) for name, given in gates.items() for key in given}

    def clamp(owner, made):
        given = gates.get(owner, {})
        unseen.difference_update((owner, key) for key in made)
        return {k: _broadcast(given[k], g, owner, k) if k in given else g for k, g in made.items()}

    with _intercepted(model, clamp):
        yield
    if unseen:
        raise ValueError(f"no forward pass computed the gates {sorted(unseen)}")


def gradcam(model, x, classes, module, *, at="output"):
    """Grad-CAM (Selvaraju et al., arXiv 1610.02391), before its ReLU, and the channels' weights.

    Parameters
    ----------
    model : nn.Module
        Images (N, …) -> logits (N, classes), in evaluation mode.
    x : (N, …) tensor
    classes : (N,) tensor or sequence of int
        The class of each image whose logit is explained.
    module : str
        Name of the module in ``model`` whose features are looked at.
    at : "output" or "input"
        Which of the module's features, (N, C, H, W).

    Returns
    -------
    maps : (N, H, W) tensor
        The sums over the channels. Their positive part is what the paper calls Grad-CAM.
    alpha : (N, C) tensor
        The weights: means of the logit's gradient over the positions.

    Raises
    ------
    ValueError
        The model is in training mode, where batch norm would mix the images; ``at`` is something
        else; or the features have no positions.

    Examples
    --------
    >>> import torch
    >>> from attn_lib import inspection, models
    >>> model = models.resnet_cifar(8).eval()
    >>> images = torch.rand(2, 3, 32, 32)
    >>> maps, alpha = inspection.gradcam(model, images, model(images).argmax(1), "layer3")
    >>> maps.shape, alpha.shape
    (torch.Size([2, 8, 8]), torch.Size([2, 64]))
    """
    if model.training:
        raise ValueError("the model is in training mode: call model.eval() first")
    if at not in ("output", "input"):
        raise ValueError(f"at must be 'output' or 'input'; got {at!r}")
    seen = []

    def keep(features):
        seen.append(features)
        return features.clone()  # what comes next may work in place

    owner = model.get_submodule(module)
    if at == "output":
        hook = owner.register_forward_hook(lambda owner, inputs, output: keep(output))
    else:
        hook = owner.register_forward_pre_hook(lambda owner, inputs: (keep(inputs[0]),))
    with torch.enable_grad():
        try:
            logits = model(x.detach().requires_grad_())
        finally:
            hook.remove()
        (features,) = seen
        if features.ndim != 4:
            shape = tuple(features.shape)
            raise ValueError(f"features of {module!r} have shape {shape}, no positions")
        (gradient,) = torch.autograd.grad(logits[range(len(x)), classes].sum(), features)
    alpha = gradient.mean((2, 3))
    return torch.einsum("nc,nchw->nhw", alpha, features.detach()), alpha


def variance_parts(mean, std):
    """The variance of a gate, divided into what is fixed, what the class and what the image moves.

    Parameters
    ----------
    mean, std : (K, …) arrays
        Mean and standard deviation of every number of the gate over the images of each of K
        classes, which are equally large.

    Returns
    -------
    (3,) array
        Fixed, by class, by image within a class. They add up to the variance over all.

    Raises
    ------
    ValueError
        ``mean`` and ``std`` have different shapes.
    """
    mean, std = np.asarray(mean, float), np.asarray(std, float)
    if mean.shape != std.shape:
        raise ValueError(f"mean has shape {mean.shape} and std {std.shape}; they should be equal")
    mean, std = mean.reshape(len(mean), -1), std.reshape(len(std), -1)
    return np.array([mean.mean(0).var(), mean.var(0).mean(), (std**2).mean()])


def _broadcast(value, gate, owner, key):
    try:
        return value.to(gate).expand_as(gate)
    except RuntimeError as error:
        raise ValueError(
            f"gate {key!r} of {owner!r} has shape {tuple(gate.shape)}; "
            f"{tuple(value.shape)} does not broadcast to it"
        ) from error


@contextmanager
def _intercepted(model, change):
    """Let ``change(name of the attention module, its gates)`` see and replace what is computed."""
    modules = {name: m for name, m in model.named_modules() if isinstance(m, Attention)}
    if not modules:
        raise ValueError(f"{type(model).__name__} holds no attention module of attn_lib.layers")
    # A module made of attention modules (CBAM) runs them; they are the ones to listen to.
    leaves = {
        name: module
        for name, module in modules.items()
        if not any(isinstance(child, Attention) for child in module.children())
    }

    def interceptor(owner, compute):
        return lambda x: change(owner, compute(x))

    before = {name: vars(module).get("gates") for name, module in leaves.items()}
    for name, module in leaves.items():
        module.gates = interceptor(_outermost(name, modules), module.gates)
    try:
        yield
    finally:
        for name, module in leaves.items():
            del module.gates
            if before[name] is not None:  # another interception, around this one
                module.gates = before[name]


def _outermost(name, modules):
    """The shortest prefix of a dotted name that is itself an attention module."""
    parts = name.split(".") if name else []
    prefixes = (".".join(parts[:i]) for i in range(len(parts) + 1))
    return next(prefix for prefix in prefixes if prefix in modules)
