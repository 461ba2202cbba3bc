"""What a layer takes on this machine: time, memory, traffic; and what the machine could do.

The only timer of the course. :func:`time_layer` times layers in turns, :func:`roofline` measures
what bounds them, :func:`bytes_moved` and :func:`saved_bytes` count what they read, write and keep;
``attn_lib.plot.roofline`` draws the layers under the roof.
"""

import math
import re
import statistics
from contextlib import contextmanager
from functools import partial
from numbers import Integral, Real
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.benchmark import Timer

from attn_lib.cost import saved_bytes

__all__ = ["Roofline", "Time", "bytes_moved", "in_turns", "roofline", "saved_bytes", "time_layer"]


class Time(NamedTuple):
    """Seconds that a call takes: the median of the rounds, and the quartiles around it."""

    median: float
    low: float
    high: float

    def __str__(self):
        unit, name = (1, "s") if self.median >= 1 else (1e-3, "ms")
        if self.median < 1e-3:
            unit, name = 1e-6, "µs"
        return f"{self.median / unit:.3g} {name} ({self.low / unit:.3g} to {self.high / unit:.3g})"


def time_layer(layer, x, *, training=False, rounds=20, min_seconds=0.002, threads=None):
    """Time a layer on x, or several in turns.

    The layers take turns, forwards and backwards, so that whatever else the machine does meets
    all of them alike: their ratios mean more than the times themselves. A round repeats a call
    until it takes ``min_seconds``. On a CPU a round is timed by ``torch.utils.benchmark``, on a
    GPU between two events of its stream, in which the waits for the host count as well.

    Parameters
    ----------
    layer : callable or dict
        A module, compiled or not, or a function of x; or a dict, name -> layer, of rivals. A
        module runs in the mode (training or evaluation) that it is in.
    x : torch.Tensor
        Input of all of them, on their device.
    training : bool
        Time a training step, forward and backward, with gradients for x and the parameters, which
        are not stored. Else a forward pass without gradients.
    rounds : int
        Timed rounds of each, after one to warm up.
    min_seconds : float
        Least duration of a round.
    threads : int, optional
        Threads of the CPU; as PyTorch is set if not given.

    Returns
    -------
    Time
        Of one call; for a dict a dict, name -> Time.

    Raises
    ------
    TypeError
        A layer cannot be called, x is not a tensor of real numbers, or rounds, threads or
        min_seconds is no number.
    ValueError
        A layer and x are on different devices, there is no layer, or a number is not positive.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from attn_lib import profiling
    >>> profiling.time_layer(nn.ReLU(), torch.zeros(1, 2, 3, 3), rounds=1).median < 1
    True
    """
    if not isinstance(x, torch.Tensor) or not x.is_floating_point():
        raise TypeError(f"x must be a tensor of floating-point numbers; got {_what(x)}")
    several = layer if isinstance(layer, dict) else {"layer": layer}
    for one in several.values():
        _check_layer(one, x)
    prepare = _training_step if training else _inference
    calls = {name: prepare(one, x) for name, one in several.items()}
    times = in_turns(calls, x.device, rounds=rounds, min_seconds=min_seconds, threads=threads)
    return times if isinstance(layer, dict) else times["layer"]


def in_turns(calls, device="cpu", *, rounds=20, min_seconds=0.002, threads=None):
    """Time functions without arguments that take turns; see :func:`time_layer`.

    Parameters
    ----------
    calls : dict
        Name -> function.
    device : str or torch.device
        Where they compute.

    Returns
    -------
    dict
        Name -> Time of one call.
    """
    device = torch.device(device)
    threads = torch.get_num_threads() if threads is None else threads
    _check_positive(rounds=rounds, min_seconds=min_seconds, threads=threads)
    if not calls:
        raise ValueError("nothing to time: the dict is empty")
    seconds = _seconds_on_gpu if device.type == "cuda" else _seconds_on_cpu
    numbers, times = {}, {name: [] for name in calls}
    for name, call in calls.items():
        seconds(call, 1, threads)  # compiles, fills the caches of PyTorch and of the allocator
        once = seconds(call, 1, threads)
        numbers[name] = max(1, math.ceil(min_seconds / max(once, 1e-7)))
    for turn in range(rounds + 1):
        for name in list(calls) if turn % 2 else reversed(list(calls)):
            found = seconds(calls[name], numbers[name], threads)
            if turn:
                times[name].append(found)
    return {name: _summary(found) for name, found in times.items()}


def bytes_moved(layer, x, *, training=False):
    """Bytes that the operations of one call read and write, each of them by itself.

    Every operation that PyTorch dispatches counts the tensors that it reads and those that it
    writes. A view is free, and of an expanded tensor only what is there counts. This is the
    traffic with memory if nothing stays in a cache and nothing is fused; what an operation does
    inside, as a convolution that copies its input into patches, is not seen.

    Parameters
    ----------
    layer : callable
        A module or a function of x. Compiled ones hide their operations and are refused.
    x : torch.Tensor
        Its input, on any device. With module and x on ``"meta"`` nothing is computed.
    training : bool
        Count a training step, forward and backward, instead of a forward pass without gradients.

    Returns
    -------
    int

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from attn_lib import profiling
    >>> x = torch.zeros(1, 2, 3, 3)
    >>> profiling.bytes_moved(nn.ReLU(), x) == 2 * x.nbytes
    True
    """
    if not isinstance(x, torch.Tensor):
        raise TypeError(f"x must be a tensor; got {_what(x)}")
    _check_layer(layer, x)
    if hasattr(layer, "_orig_mod") or hasattr(layer, "_torchdynamo_orig_callable"):
        raise TypeError("the operations of a compiled layer are not seen; give the layer itself")
    step = (_training_step if training else _inference)(layer, x)
    with _Traffic() as traffic:
        step()
    return traffic.bytes


class Roofline(NamedTuple):
    """What bounds every computation on a device (Williams, Waterman and Patterson, 2009).

    Attributes
    ----------
    device : str
        Its name and type.
    bandwidth : float
        Bytes a second, read and written by a pass over a buffer that fits into no cache.
    peak : dict
        Precision -> multiply-adds a second of a large matrix product. ``"float32"`` is the full
        precision and ``"tf32"``, where the device has it, what it computes from numbers rounded to
        10 bits of mantissa.
    """

    device: str
    bandwidth: float
    peak: dict

    def bound(self, operations, moved_bytes, precision="float32"):
        """Least seconds for so many operations (multiply-adds) and so many bytes."""
        return max(operations / self._peak(precision), moved_bytes / self.bandwidth)

    def corner(self, precision="float32"):
        """Operations a byte at which memory and arithmetic take the same time."""
        return self._peak(precision) / self.bandwidth

    def _peak(self, precision):
        if precision not in self.peak:
            raise ValueError(f"no peak of {precision!r} was measured; there are {list(self.peak)}")
        return self.peak[precision]


PRECISIONS = {
    "float64": torch.float64,
    "float32": torch.float32,
    "tf32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def roofline(device=None, *, precisions=None, rounds=5, buffer_bytes=None, threads=None):
    """Measure a device's bandwidth and its peak in each precision.

    Parameters
    ----------
    device : str or torch.device, optional
        ``"cpu"`` or ``"cuda"``; the GPU if there is one and none is given.
    precisions : sequence of str, optional
        Of ``"float64"``, ``"float32"``, ``"tf32"`` (on a GPU), ``"bfloat16"``, ``"float16"``. If
        not given, all but float64 on a GPU; float32 alone on a CPU.
    rounds : int
        The least disturbed of so many counts.
    buffer_bytes : int, optional
        Size of the buffer for the bandwidth. If not given, four times the last-level cache, at
        least 256 MiB and at most an eighth of the available memory.
    threads : int, optional
        Threads of the CPU; as PyTorch is set if not given.

    Returns
    -------
    Roofline

    Raises
    ------
    ValueError
        An unknown precision, ``"tf32"`` on a CPU, a device that is not there or of another kind,
        or a number that is not positive.

    Examples
    --------
    >>> from attn_lib import profiling
    >>> roof = profiling.roofline("cpu", rounds=1, buffer_bytes=2**20)
    >>> roof.bound(operations=0, moved_bytes=roof.bandwidth)
    1.0
    """
    device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"a roofline is measured on cpu or cuda; got {device.type!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError("device is cuda, and PyTorch sees no GPU here")
    known = [name for name in PRECISIONS if name != "tf32" or device.type == "cuda"]
    if precisions is None:
        precisions = known[1:] if device.type == "cuda" else ["float32"]
    for precision in precisions:
        if precision not in known:
            raise ValueError(f"no precision {precision!r} on {device.type}; there are {known}")
    threads = torch.get_num_threads() if threads is None else threads
    if buffer_bytes is None:
        buffer_bytes = min(max(2**28, 4 * _cache(device)), _memory(device) // 8)
    _check_positive(rounds=rounds, threads=threads, buffer_bytes=buffer_bytes)
    fastest = partial(_fastest, device=device, rounds=rounds, threads=threads)
    peak = {name: _peak(name, device, fastest) for name in precisions}
    return Roofline(_name(device), _bandwidth(device, buffer_bytes, fastest), peak)


def _bandwidth(device, size, fastest):
    """Bytes a second, reading one buffer and writing another."""
    a = torch.ones(math.ceil(size / 4), device=device)
    out = torch.empty_like(a)
    return 2 * a.nbytes / fastest(partial(torch.mul, a, 0.5, out=out))


def _peak(precision, device, fastest):
    """Multiply-adds a second; matrices grow until a product takes long enough to be timed."""
    dtype, n, seconds = PRECISIONS[precision], 128, 0.0
    with _tf32(precision == "tf32"):
        while seconds < 0.01 and n < 8192:
            n *= 2
            a = torch.ones(n, n, dtype=dtype, device=device) / n
            seconds = fastest(partial(torch.mm, a, a))
    return n**3 / seconds


@contextmanager
def _tf32(allowed):
    before = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32 = before


def _fastest(call, device, rounds, threads):
    """Seconds of the least disturbed round, since a bound is what the device can do."""
    seconds = _seconds_on_gpu if device.type == "cuda" else _seconds_on_cpu
    with torch.no_grad():
        seconds(call, 1, threads)  # hands out pages, starts libraries
        return min(seconds(call, 1, threads) for _ in range(rounds))


def _cache(device):
    """Bytes of the last-level cache, or a guess."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).L2_cache_size
    sizes = Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size")
    units = {"K": 2**10, "M": 2**20, "G": 2**30}
    found = [text.read_text().strip() for text in sizes]
    return max((int(s[:-1]) * units[s[-1]] for s in found if s[-1:] in units), default=2**26)


def _memory(device):
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        text = Path("/proc/meminfo").read_text(encoding="utf-8")
        return 1024 * int(re.search(r"MemAvailable: +(\d+) kB", text)[1])
    except (OSError, TypeError):  # Windows, macOS
        return 2**32


def _name(device):
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} (cuda)"
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(f"{v.strip()} (cpu)" for k, _, v in (s.partition(":") for s in lines)
                    if k.strip() == "model name")  # fmt: skip
    except (OSError, StopIteration):
        return "cpu"


# ---- one call


def _check_positive(**values):
    for name, value in values.items():
        whole = name in ("rounds", "threads")
        if not isinstance(value, Integral if whole else Real):
            what = "a whole number" if whole else "a number"
            raise TypeError(f"{name} must be {what}; got {value!r}")
        if not value > 0:
            raise ValueError(f"{name} must be positive; got {value!r}")


def _check_layer(layer, x):
    if not callable(layer):
        raise TypeError(f"a layer must be a module or a function of x; got {_what(layer)}")
    if isinstance(layer, nn.Module):
        for tensor in (*layer.parameters(), *layer.buffers()):
            if tensor.device != x.device:
                raise ValueError(
                    f"x is on {x.device} and {type(layer).__name__} on {tensor.device}; "
                    "move one of them"
                )


def _what(value):
    dtype = f" of {value.dtype}" if isinstance(value, torch.Tensor) else ""
    return type(value).__name__ + dtype


def _inference(layer, x):
    def call():
        with torch.no_grad():
            layer(x)

    return call


def _training_step(layer, x):
    x = x.detach().requires_grad_()
    y = layer(x)
    if not isinstance(y, torch.Tensor):
        raise TypeError(f"a training step needs a layer that returns a tensor; got {_what(y)}")
    dy = torch.ones_like(y)
    parameters = list(layer.parameters()) if isinstance(layer, nn.Module) else []
    wanted = [x, *(p for p in parameters if p.requires_grad)]
    # Not backward(): that would overwrite gradients that the caller may still want.
    return lambda: torch.autograd.grad(layer(x), wanted, dy, allow_unused=True)


def _seconds_on_cpu(call, number, threads):
    return Timer("f()", globals={"f": call}, num_threads=threads).timeit(number).median


def _seconds_on_gpu(call, number, threads):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    for _ in range(number):
        call()
    end.record()
    end.synchronize()
    return 1e-3 * start.elapsed_time(end) / number


def _summary(times):
    if len(times) == 1:
        return Time(*times * 3)
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Time(median, low, high)


class _Traffic(TorchDispatchMode):
    """Adds up what operations read and write."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = function(*args, **kwargs)
        name = function._schema.name
        results = function._schema.returns
        is_view = any(r.alias_info and not r.alias_info.is_write for r in results)
        if is_view or name in _FREE:
            return result
        if not any(r.alias_info for r in results):
            self.bytes += _bytes(result)  # a new tensor is written
        if name.endswith("_like") or name.startswith("aten::new_"):
            return result  # asked for a shape, not for numbers
        for i, argument in enumerate(function._schema.arguments):
            value = args[i] if i < len(args) else kwargs.get(argument.name)
            written = argument.alias_info and argument.alias_info.is_write
            only_written = argument.kwarg_only or name in _OVERWRITES
            self.bytes += _bytes(value) * (2 if written and not only_written else 1)
        return result


# Operations that hand out memory, or the same memory again, without touching it; and those that
# write their first argument without reading it.
_EMPTY = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
_FREE = {f"aten::{name}" for name in (*_EMPTY, "_unsafe_view")}
_OVERWRITES = {f"aten::{name}_" for name in ("copy", "fill", "zero")}


def _bytes(tree):
    """Bytes of the tensors in a value, without those that expanding repeats."""
    found = 0
    for tensor in (leaf for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)):
        sizes = zip(tensor.shape, tensor.stride(), strict=True)
        found += tensor.element_size() * math.prod(size for size, stride in sizes if stride)
    return found
