"""Checks of the exercises on profiling."""

import itertools
import statistics

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.cost import saved_bytes
from attn_lib.profiling import bytes_moved, in_turns

__all__ = [
    "batches",
    "eca_seconds",
    "fuse",
    "kernel",
    "one_map",
    "project",
    "reading",
    "replay",
    "self_times",
    "timer",
    "wasted_pass",
]


# ---- predict and measure


@exercise
def eca_seconds(attempt):
    """``attempt(shape, bandwidth)`` -> seconds that ECA's traffic in float32 takes."""
    for shape, bandwidth in (((8, 256, 56, 56), 2e10), ((3, 64, 17, 31), 3.2e11)):
        numbers = int(np.prod(shape))
        # In bytes for each number of x: the small vectors do not show.
        per_number = np.asarray(call(attempt, shape, bandwidth)) * bandwidth / numbers
        expect(
            per_number,
            12.0,
            f"bytes over bandwidth for x {shape}, for each number of x,",
            {
                "this is one reading and one writing: the mean reads x before the product does": 8,
                "this is one pass over x: the mean reads it, the product reads it and writes y": 4,
                "this counts numbers: one in float32 has four bytes": 3,
                "this counts numbers, and two passes: the mean reads x too, and a number in "
                "float32 has four bytes": 2,
                "this counts bits: the bandwidth is in bytes a second": 96,
                "these are bytes in float64: float32 has four": 24,
                "this is four passes: the gate is a vector, its reading does not count": 16,
                "these are bytes: divide by the bandwidth": 12 * bandwidth,
                "this is bandwidth over bytes, passes a second: turn the quotient round": bandwidth
                / (12 * numbers)
                * bandwidth
                / numbers,
            },
            tolerance=0.01,
        )


class _Device:
    """A make-believe GPU: a call puts work into its queue, and the host goes on.

    ``readings`` are those of the clock: (time, calls so far, whether the device was idle).
    """

    seconds = (1.0e-3, 1.1e-3, 9.0e-3, 1.2e-3, 1.3e-3)  # one call in five is disturbed

    def __init__(self):
        self.now, self.free, self.calls = 0.0, 7e-3, 0  # there is work left from before
        self.readings = []

    def clock(self):
        self.readings.append((self.now, self.calls, self.free <= self.now))
        return self.now

    def call(self):
        self.now += 1e-5  # to launch it
        took = self.seconds[self.calls % 5] if self.calls else 0.08
        self.free = max(self.free, self.now) + took
        self.calls += 1

    def synchronize(self):
        self.now = max(self.now, self.free)


@exercise
def timer(attempt):
    """``attempt(call, synchronize, clock, rounds)`` -> seconds of a call.

    The check passes a make-believe device, which knows what it was asked and when.
    """
    device, rounds = _Device(), 20
    got = call(attempt, device.call, device.synchronize, device.clock, rounds)
    starts, ends = device.readings[::2], device.readings[1::2]
    if len(ends) != rounds or len(starts) != rounds:
        raise Failed(
            f"the clock was read {len(device.readings)} times; twice a round are "
            f"{2 * rounds}, at the start and at the end"
        )
    times = [end[0] - start[0] for start, end in zip(starts, ends, strict=True)]
    mean = statistics.mean(times)
    if np.shape(got) != ():
        raise Failed("one number is wanted, the seconds of a call")
    is_mean = bool(np.isclose(got, mean, rtol=1e-6))
    found = {
        "warm": starts[0][1] == 0,
        "before": not all(idle for *_, idle in starts),
        "after": not all(idle for *_, idle in ends),
        "median": is_mean,
    }
    _shared.report(_TIMER_FAULTS, [fault for fault, there in found.items() if there])
    wanted = statistics.median(times)
    expect(
        1e3 * got,
        1e3 * wanted,
        "the time of a call, in ms,",
        {
            "this is the least disturbed round: take the median": 1e3 * min(times),
            "this is the sum of the rounds: take the median": 1e3 * sum(times),
            "these are milliseconds: the clock counts seconds": 1e6 * wanted,
        },
    )


_TIMER_FAULTS = {
    "warm": ("the first call", "the first call compiles and allocates, and it is timed"),
    "before": ("the start", "work from before is still in the queue when the clock starts"),
    "after": ("the end", "the clock is read when the work has been queued, not when it is done"),
    "median": ("the average", "one disturbed round moves the mean: take the median"),
}


# ---- read a profile


@exercise
def self_times(attempt):
    """``attempt(events)`` -> dict, name -> microseconds without those of the operations inside.

    An event is (name, start, end).
    """
    inner = [("linear", 0, 50), ("t", 2, 10), ("transpose", 4, 9), ("addmm", 12, 48)]
    twice = [(name, 100 + 2 * start, 100 + 2 * end) for name, start, end in inner]
    traces = [
        [("mul", 0, 30), ("mean", 40, 90), ("sum", 45, 80)],
        [*inner, *twice, ("mul", 300, 340), ("linear", 400, 460), ("addmm", 400, 460)],
    ]
    for events in traces:
        got = call(attempt, list(events))
        if not isinstance(got, dict):
            raise Failed(f"a dict is wanted, name -> microseconds; got {type(got).__name__}")
        names = sorted({name for name, *_ in events})
        if sorted(got) != names:
            raise Failed(f"the names should be {', '.join(names)}; got {', '.join(map(str, got))}")

        def by_name(of, events=events, names=names, last=False):
            found = dict.fromkeys(names, 0)
            for event in events:
                found[event[0]] = of(event, events) + (0 if last else found[event[0]])
            return [found[name] for name in names]

        expect(
            [got[name] for name in names],
            by_name(_self),
            f"the times of {', '.join(names)}",
            {
                "these are total times: what runs inside belongs to the inner operation": by_name(
                    _total
                ),
                "an operation two levels down is taken away twice: subtract direct children "
                "only": by_name(_without_all),
                "an operation that runs several times has only its last run: add up": by_name(
                    _self, last=True
                ),
                "these are the times of the children: subtract them from the total": by_name(
                    lambda event, events: _total(event, events) - _self(event, events)
                ),
                "these are numbers of calls: times are wanted": by_name(lambda *_: 1),
                "these are shares: microseconds are wanted": np.array(by_name(_self))
                / sum(by_name(_self)),
            },
        )


def _inside(event, events):
    """The events inside an event; of two of equal length the later one is the inner one."""
    at = events.index(event)
    return [
        e for i, e in enumerate(events)
        if i != at and event[1] <= e[1] and e[2] <= event[2] and (e[1:] != event[1:] or i > at)
    ]  # fmt: skip


def _total(event, events):
    return event[2] - event[1]


def _without_all(event, events):
    return _total(event, events) - sum(_total(e, events) for e in _inside(event, events))


def _self(event, events):
    inside = _inside(event, events)
    deeper = [e for child in inside for e in _inside(child, events)]
    children = [e for e in inside if e not in deeper]
    return _total(event, events) - sum(_total(e, events) for e in children)


# ---- passes


class _SE(nn.Module):
    """The layer that the exercise on the wasted pass starts from, without the waste."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, channels)

    def forward(self, x):
        return x * self.gate(x.mean((2, 3)))

    def gate(self, z):
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(z))))[:, :, None, None]


def _same_weights(made, right, seed=0):
    """Random weights for ``right``, and the same for ``made``."""
    with torch.no_grad():
        for i, parameter in enumerate(right.parameters()):
            drawn = _shared.drawn(*parameter.shape, seed=100 * seed + i, dtype=parameter.dtype)
            parameter.copy_(0.4 * drawn)
    if not made.state_dict():
        raise _NotAttempted
    try:
        made.load_state_dict(right.state_dict())
    except RuntimeError as error:
        line = str(error).splitlines()[-1].strip()
        raise Failed(f"keep the names and shapes of the parameters: {line}") from None


def _passes(function, x):
    """Bytes that a call moves, in units of x."""
    try:
        return bytes_moved(function, x) / x.nbytes
    except TypeError as error:
        raise Failed(f"the passes are counted operation by operation: {error}") from None


@exercise
def wasted_pass(attempt):
    """``attempt(channels)`` -> a module with ``fc1`` and ``fc2``, in three passes over x."""
    right = _SE(16).double()
    made = _shared.is_module(call(attempt, 16)).double()
    _same_weights(made, right)
    x = _shared.drawn(4, 16, 24, 20)
    before = x.clone()
    y = _shared.output(made, x)
    if not torch.equal(x, before):
        raise Failed("the layer changes its input, which a shortcut may still need: x.mul_() no")
    z = x.mean((2, 3))
    expect(
        y,
        right(x),
        "the output",
        {
            "the gate is not multiplied by x": right.gate(z).expand_as(x),
            "the sigmoid is missing": x * right.fc2(torch.relu(right.fc1(z)))[:, :, None, None],
            "the sum takes the place of the mean": x * right.gate(z * 480),
            "the gate is computed from the largest value: take the mean": x
            * right.gate(x.amax((2, 3))),
        },
    )
    moved = _passes(made, x)
    with torch.no_grad(), _Written(x.numel()) as written:
        made(x)
    if written.names == ["clone", "clone", "mul_"]:
        raise _NotAttempted
    if moved > 3.5:
        raise Failed(
            f"it makes {moved:.1f} passes over x; three suffice. Whole feature maps are written "
            f"by {', '.join(written.names)}: one of these is needed"
        )


class _Written(TorchDispatchMode):
    """The names of the operations that return so many numbers and are no views."""

    def __init__(self, size):
        super().__init__()
        self.size, self.names = size, []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        alias = function._schema.returns[0].alias_info if function._schema.returns else None
        if isinstance(result, torch.Tensor) and result.numel() == self.size:
            if alias is None or alias.is_write:
                self.names.append(function._schema.name.removeprefix("aten::"))
        return result


@exercise
def fuse(attempt):
    """``attempt(x, s, shortcut)`` -> relu(shortcut + s x) in five passes."""
    x, shortcut, s = (
        _shared.drawn(4, 8, 24, 20),
        _shared.drawn(4, 8, 24, 20, seed=1),
        _shared.drawn(4, 8, seed=2),
    )
    s = torch.sigmoid(s)[:, :, None, None]
    given = {"x": x, "s": s, "shortcut": shortcut}
    copies = {name: tensor.clone() for name, tensor in given.items()}
    with torch.no_grad():
        got = call(attempt, x, s, shortcut)
    for name, copy in copies.items():
        if not torch.equal(given[name], copy):
            raise Failed(f"{name} has been overwritten, which another layer may still need")
    expect(
        got,
        torch.relu(shortcut + s * x),
        "the result",
        {
            "the ReLU is missing": shortcut + s * x,
            "the ReLU is applied before the shortcut is added": shortcut + torch.relu(s * x),
            "the gate multiplies the shortcut: it belongs to x": torch.relu(x + s * shortcut),
            "the gate multiplies the sum: it belongs to x alone": torch.relu(s * (x + shortcut)),
            "the shortcut is missing": torch.relu(s * x),
        },
    )
    moved = _passes(lambda x: attempt(x, s, shortcut), x)
    if moved > 5.5:
        raise Failed(
            f"it makes {moved:.1f} passes; five suffice: one operation that multiplies and adds, "
            "and a ReLU that works in place on what you have made yourself"
        )


# ---- what is kept


class _AsModule(nn.Module):
    def __init__(self, function, *arguments):
        super().__init__()
        self.function, self.arguments = function, arguments

    def forward(self, x):
        return self.function(x, *self.arguments)


@exercise
def one_map(attempt):
    """``attempt(x, c, s)`` -> x sigmoid(c + s), which keeps one feature map for backward."""
    inputs = (
        _shared.drawn(3, 8, 20, 24),
        _shared.drawn(3, 8, 1, 1, seed=1),
        _shared.drawn(3, 1, 20, 24, seed=2),
    )
    x, c, s = (tensor.requires_grad_() for tensor in inputs)
    dy = _shared.drawn(*x.shape, seed=3)
    got = call(attempt, x, c, s)
    gate = torch.sigmoid(c + s)
    expect(
        got,
        x * gate,
        "the output",
        {"the sigmoid is missing": x * (c + s), "this is the gate: multiply it by x": gate},
    )
    if not got.requires_grad:
        raise Failed("the output has no backward pass: return Gated.apply(x, c, s)")
    found = torch.autograd.grad(got, (x, c, s), dy, allow_unused=True)
    wanted = torch.autograd.grad(x * gate, (x, c, s), dy)
    slope = {"the slope of the sigmoid, gate (1 - gate), is missing": dy * x}
    slope["the sigmoid's slope is gate (1 - gate)"] = dy * x * (1 - gate)
    slope["the gradient of a gate has x as a factor"] = dy * gate * (1 - gate)
    with torch.no_grad():
        mistakes = (
            {"the gradient of x is dy times the gate, not times x": dy * x,
             "the gradient of x lacks the gate": dy},
            {m: t.sum((2, 3), keepdim=True) for m, t in slope.items()},
            {m: t.sum(1, keepdim=True) for m, t in slope.items()},
        )  # fmt: skip
    for name, have, want, wrong in zip("xcs", found, wanted, mistakes, strict=True):
        if have is None:
            raise Failed(f"there is no gradient for {name}")
        expect(have, want, f"the gradient of {name}", wrong)
    kept = saved_bytes(_AsModule(attempt, c, s), x) / x.nbytes
    if kept < 0.99:
        raise Failed(
            "backward needs x, and it is not among what save_for_backward keeps: a tensor that is "
            "an attribute of ctx stays in memory as well, and autograd does not know of it"
        )
    if kept > 1.5:
        raise Failed(
            f"it keeps {kept:.1f} feature maps: keep x, c and s, and make the gate again in "
            "backward"
        )


# ---- a GPU


@exercise
def batches(attempt):
    """``attempt(sizes, seconds)`` -> (last batch bound by launches, first batch at full rate).

    The first: the largest whose time is within 20 % of the smallest batch's. The second: the
    smallest whose time an image is within 20 % of the least.
    """
    sizes = [1, 2, 4, 8, 16, 32, 64, 128]
    for fixed, each, floor in ((200e-6, 9e-6, 0), (500e-6, 4e-6, 480e-6), (90e-6, 20e-6, 60e-6)):
        seconds = [max(fixed, floor + each * n) for n in sizes]
        rate = [t / n for t, n in zip(seconds, sizes, strict=True)]
        flat = [n for n, t in zip(sizes, seconds, strict=True) if t <= 1.2 * seconds[0]]
        full = [n for n, t in zip(sizes, rate, strict=True) if t <= 1.2 * min(rate)]
        least = [n for n, t in zip(sizes, rate, strict=True) if t == min(rate)]
        wanted = flat[-1], full[0]
        got = call(attempt, list(sizes), list(seconds))
        pair = isinstance(got, (tuple, list)) and len(got) == 2
        if not pair:
            raise Failed("a pair of batch sizes is wanted")
        expect(
            got,
            wanted,
            "(last batch bound by launches, first batch at full rate)",
            {
                "the order is: last batch bound by launches, first at full rate": wanted[::-1],
                "these are positions in the list: return batch sizes": [
                    sizes.index(n) for n in wanted
                ],
                "a full rate is judged by the time of an image, not of a batch": (
                    flat[-1],
                    sizes[0],
                ),
                "the first batch within 20 % of the best rate is asked for, not the best": (
                    flat[-1],
                    least[-1],
                ),
                "the launch-bound batches are those whose time hardly grows: return the last of "
                "them": (flat[0], full[0]),
                "the launch-bound batches are judged by the time of a batch, not of an image": (
                    [n for n, t in zip(sizes, rate, strict=True) if t <= 1.2 * rate[0]][-1],
                    full[0],
                ),
            },
        )


@exercise
def replay(attempt):
    """``attempt(record, layer, batches)`` -> outputs, by replaying one recording."""
    layer, replays, fixed = (lambda x: 3 * x - 1), [], []

    def record(layer, x):
        y = layer(x).clone()
        fixed.append(x)

        def again():
            replays.append(1)
            y.copy_(layer(x))

        return again, y

    batches = [_shared.drawn(2, 3, seed=seed) for seed in range(4)]
    copies = [batch.clone() for batch in batches]
    got = call(attempt, record, layer, batches)
    if not isinstance(got, (list, tuple)) or len(got) != len(batches):
        raise Failed("a list is wanted, with one output for each batch")
    if len(fixed) != 1:
        raise Failed(f"one recording is wanted; there were {len(fixed)}")
    if len(replays) < len(batches):
        raise Failed(f"the recording is replayed {len(replays)} times for {len(batches)} batches")
    left = []
    if not torch.equal(fixed[0], copies[-1]):
        left.append("input")
    if len({y.data_ptr() for y in got}) < len(got):
        left.append("output")
    overwritten = not torch.equal(batches[0], copies[0])
    if overwritten or ("input" in left and fixed[0].data_ptr() == batches[0].data_ptr()):
        left.append("caller")
    if not left:
        for x, y in zip(copies, got, strict=True):
            expect(y, layer(x), "an output (copy the batch in first, then replay)")
    _shared.report(
        {
            "input": ("the input", "the replay reads the memory of the recording, and another "
                      "tensor of the same name is not that memory"),
            "output": ("the output", "every replay overwrites the output of the one before"),
            "caller": ("the caller's batch", "the recording uses the memory of the first batch, "
                       "which later batches overwrite"),
        },
        left,
    )  # fmt: skip


# ---- a kernel, in make-believe Triton


class _Pointer:
    """The address of an array, or addresses: of the numbers at ``at`` in it."""

    def __init__(self, name, array, at=0):
        self.name, self.array, self.at = name, array, at

    def __add__(self, offset):
        return _Pointer(self.name, self.array, self.at + offset)

    __radd__ = __add__

    def inside(self, mask, doing):
        at, mask = np.broadcast_arrays(self.at, True if mask is None else mask)
        used = at[mask]
        if used.size and not (used.min() >= 0 and used.max() < self.array.size):
            raise Failed(f"a program {doing} beyond the end of {self.name}: mask=at < places")
        return at, mask


class _Language:
    """As much of triton.language as the kernel needs, in NumPy, for one program at a time."""

    int64, float32, constexpr = np.int64, np.float32, None
    maximum, minimum, where = np.maximum, np.minimum, np.where
    arange = staticmethod(np.arange)

    def __init__(self):
        self.place, self.loads, self.stores = (0, 0), 0, 0

    def program_id(self, axis):
        return np.int64(self.place[axis])

    def load(self, pointer, mask=None, other=0.0):
        self.loads += 1
        at, mask = pointer.inside(mask, "reads")
        values = np.full(at.shape, other, pointer.array.dtype)
        values[mask] = pointer.array[at[mask]]
        return values if values.shape else values[()]

    def store(self, pointer, value, mask=None):
        self.stores += 1
        at, mask = pointer.inside(mask, "writes")
        pointer.array[at[mask]] = np.broadcast_to(value, at.shape)[mask]


@exercise
def kernel(attempt):
    """``attempt(x, s, shortcut, y, places, BLOCK)``: a Triton kernel for relu(shortcut + s x).

    Two axes of programs: planes, and blocks of a plane. It runs in NumPy, one program after the
    other, with a ``tl`` that has what it needs.
    """
    attempt = getattr(attempt, "fn", attempt)  # of a kernel that has been decorated
    planes, places, block = 6, 21, 8
    rng = np.random.default_rng(0)
    x, shortcut = rng.standard_normal((2, planes * places))
    s, y = rng.uniform(0.1, 0.9, planes), np.full(planes * places, np.nan)
    before = {name: value.copy() for name, value in (("x", x), ("s", s), ("shortcut", shortcut))}
    language, names = _Language(), attempt.__globals__
    had = names.get("tl", names)
    names["tl"] = language
    try:
        # The last first: who writes into the next plane shows.
        for place in itertools.product(range(planes)[::-1], range(-(-places // block))[::-1]):
            language.place = place
            pointers = [_Pointer(*pair) for pair in zip(
                ("x", "s", "shortcut", "y"), (x, s, shortcut, y), strict=True)]  # fmt: skip
            attempt(*pointers, places, block)
    finally:
        names.pop("tl") if had is names else names.update(tl=had)
    if not language.loads and not language.stores:
        raise _NotAttempted
    for name, value in (("x", x), ("s", s), ("shortcut", shortcut)):
        if not np.array_equal(value, before[name]):
            raise Failed(f"the kernel writes into {name}: store into y")
    if np.isnan(y).all():
        raise Failed("nothing is stored in y: tl.store(pointer, values, mask=...)")
    if np.isnan(y).any():
        raise Failed(
            f"{np.isnan(y).sum()} of {y.size} numbers of y are never written: plane "
            "tl.program_id(0) begins at plane * places, block tl.program_id(1) at its BLOCK-th part"
        )
    planar = [v.reshape(planes, places) for v in (x, shortcut)]
    gated, right = s[:, None] * planar[0], np.maximum(planar[1] + s[:, None] * planar[0], 0)
    if np.allclose(y, right.ravel()):
        return
    wrong = (y.reshape(planes, places) != right).any(0)
    if not wrong[block:].any() and wrong[: block - places % block].any():
        raise Failed(
            "the last block of a plane writes into the next plane: mask the store as the load"
        )
    expect(
        y.reshape(planes, places),
        right,
        "y",
        {
            "the ReLU is missing": planar[1] + gated,
            "the shortcut is missing": np.maximum(gated, 0),
            "the ReLU is applied before the shortcut is added": planar[1] + np.maximum(gated, 0),
            "every plane gets the gate of the first: s + plane is its address": np.maximum(
                planar[1] + s[0] * planar[0], 0
            ),
            "the gate multiplies the shortcut": np.maximum(planar[0] + s[:, None] * planar[1], 0),
        },
    )


# ---- a published table


@exercise
def reading(attempt):
    """A dict ``"a"`` to ``"e"`` -> whether the published table supports the statement."""
    _shared.statements(
        attempt,
        {
            "a": (True, "times are inverse rates: 1855 / 1620 and 1024 / 759"),
            "b": (False, "what are the FLOPs of SE and of CBAM?"),
            "c": (False, "what does a rate depend on besides the network?"),
            "d": (True, "1024 / 785 - 1 beside 1855 / 1805 - 1"),
            "e": (False, "no spread is given: could 1855 and 1805 be one and the same rate?"),
        },
    )


# ---- the project


class _SlowBlock(nn.Module):
    """The block of the project, as the chapter prints it."""

    def __init__(self, channels):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(channels)
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, channels)
        self.spatial = nn.Conv2d(2, 1, 3, padding=1, bias=False)

    def mlp(self, z):
        return self.fc2(torch.relu(self.fc1(z)))

    def forward(self, x):
        u = torch.relu(self.norm(self.conv(x)))
        ordered = u.flatten(2).sort(2).values
        a = self.mlp(ordered.mean(2)) + self.mlp(ordered[:, :, -1])
        gate = torch.sigmoid(a[:, :, None, None].expand_as(u).contiguous())
        u = (u * gate).permute(0, 2, 3, 1).contiguous()
        ordered = u.sort(3).values
        planes = torch.stack([ordered[..., -1], ordered.mean(3)], 1)
        m = torch.sigmoid(self.spatial(planes).expand_as(x).contiguous())
        u = u.permute(0, 3, 1, 2).contiguous()
        return torch.relu(x + u * m)


@exercise
def project(attempt):
    """``attempt(channels)`` -> the chapter's slow block, with the same numbers in half the time.

    Outputs, gradients and running statistics are compared on inputs that the learner has not
    seen, then a training step of both is timed in turns.
    """
    for seed, shape in enumerate(((3, 8, 9, 7), (2, 12, 6, 11))):
        slow = _SlowBlock(shape[1]).double()
        fast = _shared.is_module(call(attempt, shape[1])).double()
        _same_weights(fast, slow, seed + 1)
        for training in (True, False):
            slow.train(training), fast.train(training)
            x = _shared.drawn(*shape, seed=seed + 7)
            _same_step(fast, slow, x, "in training" if training else "in evaluation")
        for name, value in slow.state_dict().items():
            expect(fast.state_dict()[name], value, f"after a step, {name}")
    x = _shared.drawn(8, 64, 28, 28, dtype=torch.float32)
    slow, fast = _SlowBlock(64), call(attempt, 64)
    _same_weights(fast, slow)
    steps = {"slow": _step(slow, x), "fast": _step(fast, x)}
    for _ in range(3):  # other programs may disturb a measurement
        times = in_turns(steps, rounds=9)
        ratio = times["slow"].low / times["fast"].low  # the quartiles that they disturb least
        if ratio >= 2:
            break
    print(
        f"a training step: {times['slow']} before, {times['fast']} now, {ratio:.1f} times as fast"
    )
    if ratio < 2:
        raise Failed(
            f"the numbers are right, and a step is {ratio:.1f} times as fast; twice is wanted. "
            "Profile it, sort by self time, and ask of each operation over whole feature maps "
            "whether it is needed"
        )


def _same_step(fast, slow, x, when):
    """Both make a step on x, with the same outputs and gradients."""
    a, b = (x.clone().requires_grad_() for _ in range(2))
    state = {name: value.clone() for name, value in slow.state_dict().items()}
    wanted, got = slow(a), _shared.output(fast, b)
    with torch.no_grad():
        wrong = {
            message: _block(slow, x, state, **{option: True}) for message, option in _WRONG.items()
        }
    expect(got, wanted, f"the output {when}", wrong, tolerance=1e-9)
    dy = _shared.drawn(*x.shape, seed=5)
    names = ["x", *(name for name, _ in slow.named_parameters())]
    wanted = torch.autograd.grad(wanted, [a, *slow.parameters()], dy)
    found = torch.autograd.grad(got, [b, *fast.parameters()], dy, allow_unused=True)
    for name, have, want in zip(names, found, wanted, strict=True):
        if have is None:
            raise Failed(f"there is no gradient for {name} {when}: is it detached?")
        expect(have, want, f"the gradient of {name} {when}", tolerance=1e-8)


_WRONG = {
    "the ReLU at the end is missing": "no_relu",
    "the shortcut is missing": "no_shortcut",
    "the planes are exchanged: the maximum comes first, as the convolution expects": "turn",
    "the channel gate leaves the maximum out": "mean_only",
    "the planes are taken before the channel gate is applied": "ungated",
    "the batch norm does not use the statistics that its mode asks for": "other_mode",
}


def _block(block, x, state, no_relu=False, no_shortcut=False, turn=False, mean_only=False,
           ungated=False, other_mode=False):  # fmt: skip
    """The block in few passes, with a mistake if one is named."""
    norm = block.norm
    u = F.batch_norm(
        block.conv(x), state["norm.running_mean"].clone(), state["norm.running_var"].clone(),
        norm.weight, norm.bias, training=norm.training != other_mode,
    ).relu()  # fmt: skip
    a = block.mlp(u.mean((2, 3)))
    if not mean_only:
        a = a + block.mlp(u.amax((2, 3)))
    v = u * torch.sigmoid(a)[:, :, None, None]
    planes = [(u if ungated else v).amax(1), (u if ungated else v).mean(1)]
    y = v * torch.sigmoid(block.spatial(torch.stack(planes[:: -1 if turn else 1], 1)))
    y = y if no_shortcut else x + y
    return y if no_relu else torch.relu(y)


def _step(block, x):
    x = x.clone().requires_grad_()
    wanted = [x, *block.parameters()]
    return lambda: torch.autograd.grad(block(x).sum(), wanted)
