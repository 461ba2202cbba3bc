"""How a check runs an attempt, compares what it returns, and says what is wrong."""

import functools

import numpy as np
import torch

__all__ = ["Failed", "call", "exercise", "expect"]


class Failed(AssertionError):
    """An attempt that is not right yet; the message says what to look at."""


class _NotAttempted(Exception):
    pass


def exercise(check):
    """Decorator of a check: untouched stubs are reported, passes are printed, failures raised."""
    name = f"{check.__module__.rsplit('.', 1)[-1]}.{check.__name__}"

    @functools.wraps(check)
    def run(attempt):
        if attempt is None or attempt is ...:
            return print(f"{name}: not attempted yet")
        try:
            check(attempt)
        except _NotAttempted:
            print(f"{name}: not attempted yet")
        except Failed as failure:
            # without the check's own frames: the learner's code is what matters
            raise Failed(f"{name}: {failure}") from None
        else:
            print(f"{name}: passed")

    return run


def call(attempt, *args, **kwargs):
    """What ``attempt`` returns; a stub (None, ..., NotImplementedError) ends the check quietly."""
    try:
        result = attempt(*args, **kwargs)
    except NotImplementedError:
        raise _NotAttempted from None
    if result is None or result is ...:
        raise _NotAttempted
    return result


def expect(got, wanted, what="the result", mistakes=None, tolerance=1e-6):
    """Failed unless ``got`` equals ``wanted``, in shape and to ``tolerance``.

    Parameters
    ----------
    got, wanted : array, tensor or number.
    what : str
        How the messages call it, such as ``"the gate"``.
    mistakes : dict, optional
        Message -> what an attempt with that mistake returns. The first that ``got`` equals is
        the message of the failure.
    """
    got, wanted = _array(got, what), _array(wanted, what)
    if got.shape == wanted.shape and np.allclose(got, wanted, rtol=tolerance, atol=tolerance):
        return
    for message, wrong in (mistakes or {}).items():
        wrong = _array(wrong, what)
        if got.shape == wrong.shape and np.allclose(got, wrong, rtol=tolerance, atol=tolerance):
            raise Failed(message)
    if got.shape != wanted.shape:
        raise Failed(f"{what} has shape {got.shape}; it should have {wanted.shape}")
    worst = np.abs(got - wanted).max()
    raise Failed(f"{what} has the right shape, but is off by up to {worst:.3g}")


def _array(value, what):
    if isinstance(value, torch.Tensor):
        value = value.detach().cpu().double().numpy()
    elif isinstance(value, (list, tuple)) and any(isinstance(v, torch.Tensor) for v in value):
        value = [_array(v, what) for v in value]
    try:
        return np.asarray(value, dtype=float)
    except (TypeError, ValueError):
        raise Failed(f"{what} should be numbers; got {type(value).__name__}") from None
