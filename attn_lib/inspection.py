"""Look at what a model's attention computes."""

from contextlib import contextmanager

from attn_lib.layers._base import Attention

__all__ = ["record_gates"]


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
        At the end, if no forward pass ran (or only a compiled copy of the model did).

    Examples
    --------
    >>> with record_gates(model) as gates:
    ...     model(images)
    >>> gates["layer1.0.attention"]["channel"].shape   # (N, C, 1, 1)
    """
    modules = {name: m for name, m in model.named_modules() if isinstance(m, Attention)}
    if not modules:
        raise ValueError(f"{type(model).__name__} holds no attention module of attn_lib.layers")
    recorded = {}

    def recorder(name, compute):
        owner = _outermost(name, modules)

        def gates(x):
            made = compute(x)
            known = recorded.setdefault(owner, {})
            if known.keys() & made.keys():
                raise ValueError(
                    f"{owner or 'the model'!s} ran twice: record one forward pass at a time"
                )
            known.update({k: g.detach() if detach else g for k, g in made.items()})
            return made

        return gates

    # A module made of attention modules (CBAM) runs them; they are the ones to listen to.
    for name, module in modules.items():
        if not any(isinstance(child, Attention) for child in module.children()):
            module.gates = recorder(name, module.gates)
    try:
        yield recorded
    finally:
        for module in modules.values():
            module.__dict__.pop("gates", None)
    if not recorded:
        raise RuntimeError("no gate was recorded: call the model itself inside the with block")


def _outermost(name, modules):
    """The shortest prefix of a dotted name that is itself an attention module."""
    parts = name.split(".") if name else []
    prefixes = (".".join(parts[:i]) for i in range(len(parts) + 1))
    return next(prefix for prefix in prefixes if prefix in modules)
