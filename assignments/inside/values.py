"""Values that travel between the grader and the student's process, as JSON.

Plain data travels by value: numbers, strings, lists, tuples, dictionaries, arrays and tensors.
Anything else, such as a function, a module or an object, stays where it is and travels as a
reference. Nothing is unpickled, so that what comes back cannot run code in the grader.
"""

import base64
import io
import sys

import numpy as np

PLAIN = (type(None), bool, int, float, str)


def encode(value, refer):
    """What ``value`` is as JSON; ``refer(value)`` makes the reference of what is not plain data."""
    if type(value) in PLAIN:
        return value
    if isinstance(value, list):
        return [encode(part, refer) for part in value]
    if isinstance(value, tuple):
        return {"tuple": [encode(part, refer) for part in value]}
    if isinstance(value, dict):
        pairs = [[encode(key, refer), encode(part, refer)] for key, part in value.items()]
        return {"dict": pairs}
    if value is ...:
        return {"ellipsis": True}
    torch = sys.modules.get("torch")  # without importing it
    if torch is not None and isinstance(value, torch.Tensor):
        if value.dtype is torch.bfloat16:  # which NumPy does not have
            return {"bfloat16": _bytes(value.detach().cpu().float().numpy())}
        return {"tensor": _bytes(value.detach().cpu().resolve_conj().resolve_neg().numpy())}
    if torch is not None and isinstance(value, torch.dtype):
        return {"torch": str(value).partition(".")[2]}
    if isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic)):
        return {"dtype" if isinstance(value, np.dtype) else "numpy": np.dtype(value).name}
    if isinstance(value, (np.ndarray, np.generic)) and not value.dtype.hasobject:
        return {"scalar" if isinstance(value, np.generic) else "array": _bytes(np.asarray(value))}
    return refer(value)


def decode(value, resolve):
    """Inverse of :func:`encode`; ``resolve(reference)`` is the object or a stand-in."""
    if isinstance(value, list):
        return [decode(part, resolve) for part in value]
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tuple":
        return tuple(decode(part, resolve) for part in content)
    if kind == "dict":
        return {decode(key, resolve): decode(part, resolve) for key, part in content}
    if kind == "ellipsis":
        return ...
    if kind in ("array", "scalar"):
        array = _array(content)
        return array[()] if kind == "scalar" else array
    if kind in ("tensor", "bfloat16"):
        import torch

        tensor = torch.from_numpy(_array(content))
        return tensor.bfloat16() if kind == "bfloat16" else tensor
    if kind == "torch":
        return getattr(sys.modules["torch"], content)
    if kind in ("dtype", "numpy"):
        return np.dtype(content) if kind == "dtype" else np.dtype(content).type
    return resolve(content)


def _bytes(array):
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=False)
    return base64.b64encode(file.getvalue()).decode()


def _array(text):
    file = io.BytesIO(base64.b64decode(text))
    return np.lib.format.read_array(file, allow_pickle=False)
