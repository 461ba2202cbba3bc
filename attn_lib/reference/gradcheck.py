"""Hold a hand-derived gradient to central differences."""

import numpy as np

__all__ = ["check_module", "numerical_gradient", "relative_error"]


def numerical_gradient(f, x, step=1e-5):
    """Gradient of the scalar function f at the array x by central differences.

    Each entry costs two calls of f, which takes no argument and reads x where it lies: x is
    changed in place during the calls and restored after each. The truncation error is
    O(step**2) and the rounding error O(eps / step), eps = 2.2e-16; for values and derivatives of
    order one the two are equal near step = eps**(1/3) = 6e-6, at a few times 1e-11.

    Raises
    ------
    TypeError
        x is not float64.
    """
    x = np.asarray(x)
    if x.dtype != np.float64:
        raise TypeError(
            f"numerical_gradient needs float64 (a step of {step:g} drowns in "
            f"the rounding of {x.dtype}); got {x.dtype}"
        )
    gradient = np.empty_like(x)
    for index in np.ndindex(x.shape):
        old = x[index]
        x[index] = old + step
        above = f()
        x[index] = old - step
        below = f()
        x[index] = old
        gradient[index] = (above - below) / (2 * step)
    return gradient


def relative_error(a, b, floor=0.0):
    """Largest ``|a - b|`` over the largest magnitude in either; 0 if that is at most ``floor``."""
    a, b = np.asarray(a), np.asarray(b)
    if a.shape != b.shape:
        raise ValueError(f"shapes differ: {a.shape} and {b.shape}")
    scale = max(np.abs(a).max(initial=0.0), np.abs(b).max(initial=0.0))
    return 0.0 if scale <= floor else float(np.abs(a - b).max() / scale)


def check_module(module, x, params, *, training=True, seed=0, step=1e-5, **options):
    """Relative error of a reference module's hand gradients against central differences.

    The loss is ``sum(weights * y)`` with fixed random weights: a plain sum would give every output
    the same gradient 1 and hide errors that cancel. Where both gradients are below what rounding
    leaves of a central difference, ``eps * sum(abs(weights * y)) / step``, the error is 0: so it is
    for a bias in front of a batch norm in training, whose gradient is zero.

    Parameters
    ----------
    module : a module of ``attn_lib.reference`` with ``forward`` and ``backward``.
    x : array, (N, C, H, W), float64.
    params : dict, as ``module.init`` returns it.
    options : passed on to ``module.forward``.

    Returns
    -------
    dict : relative error by name, ``"x"`` and one entry for each trainable parameter.
    """
    y, cache = module.forward(x, params, training=training, **options)
    weights = np.random.default_rng(seed).standard_normal(y.shape)
    dx, grads = module.backward(weights, cache)
    floor = np.finfo(float).eps * np.abs(weights * y).sum() / step

    def loss():
        return float((weights * module.forward(x, params, training=training, **options)[0]).sum())

    errors = {"x": relative_error(dx, numerical_gradient(loss, x, step), floor)}
    for name, grad in grads.items():
        errors[name] = relative_error(grad, numerical_gradient(loss, params[name], step), floor)
    return errors
