"""What a test asks of a module, computed where the module is."""

import functools

import torch

__all__ = ["inside", "module_gradients"]


def inside(function):
    """Decorator: run ``function`` where its first argument is.

    A grader outside the student's process holds stand-ins for the student's objects; they have a
    method ``attn_inside(module, name, args, kwargs)``, which runs the function in that process.
    """

    @functools.wraps(function)
    def run(*args, **kwargs):
        elsewhere = getattr(type(args[0]), "attn_inside", None) if args else None
        if elsewhere is None:
            return function(*args, **kwargs)
        module = function.__module__.partition(".")[2]
        return elsewhere(args[0], module, function.__name__, args, kwargs)

    return run


@inside
def module_gradients(module, *inputs, dy):
    """Gradients of ``sum(dy * module(*inputs))``, by autograd.

    Parameters
    ----------
    module : nn.Module.
    inputs : tensors; the gradient is taken with respect to the first.
    dy : tensor of the output's shape.

    Returns
    -------
    dict : ``"x"`` and the name of every parameter -> gradient, a zero where nothing arrives.
    """
    x = inputs[0].clone().requires_grad_()
    parameters = dict(module.named_parameters())
    wanted = {"x": x, **parameters}
    loss = (dy * module(x, *inputs[1:])).sum()
    found = torch.autograd.grad(loss, list(wanted.values()), allow_unused=True)
    return {
        name: torch.zeros_like(value) if grad is None else grad.detach()
        for (name, value), grad in zip(wanted.items(), found, strict=True)
    }
