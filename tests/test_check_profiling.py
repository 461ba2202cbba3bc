"""The checks of the profiling exercises: solutions pass, mistakes get their message."""

import statistics

import pytest
import torch
from torch import nn

from attn_lib import check
from attn_lib.check.profiling import _SE, _SlowBlock

# ---- predict and measure


def eca_seconds(factor=12):
    return lambda shape, bandwidth: factor * torch.Size(shape).numel() / bandwidth


def timer(warm=True, before=True, after=True, average=statistics.median, factor=1):
    def timer(call, synchronize, clock, rounds):
        times = []
        if warm:
            call()
        for _ in range(rounds):
            if before:
                synchronize()
            start = clock()
            call()
            if after:
                synchronize()
            times.append(clock() - start)
        return factor * average(times)

    return timer


def warms_up_often(call, synchronize, clock, rounds):
    for _ in range(3):
        call()
    return timer()(call, synchronize, clock, rounds)


all_faults = timer(warm=False, before=False, after=False, average=statistics.mean)


# ---- read a profile


def self_times(events):
    found = {name: 0 for name, *_ in events}
    running = []
    for name, start, end in events:
        while running and running[-1][1] <= start:
            running.pop()
        found[name] += end - start
        if running:
            found[running[-1][0]] -= end - start
        running.append((name, end))
    return found


def totals(events):
    found = {}
    for name, start, end in events:
        found[name] = found.get(name, 0) + end - start
    return found


def without_all(events):
    found = {name: 0 for name, *_ in events}
    for i, (name, start, end) in enumerate(events):
        inner = [e for e in events[i + 1 :] if start <= e[1] and e[2] <= end]
        found[name] += end - start - sum(e[2] - e[1] for e in inner)
    return found


def last_only(events):
    single = {}
    for i, (name, *_) in enumerate(events):
        single[name] = self_times([(f"{j}", *e[1:]) for j, e in enumerate(events)])[f"{i}"]
    return single


# ---- passes


class Waste(_SE):
    copy_for_mean, copy_for_product = False, False

    def forward(self, x):
        z = self.mean(x)
        return self.product(x, self.gate(z))

    def mean(self, x):
        if self.copy_for_mean:
            return x.permute(0, 2, 3, 1).contiguous().mean((1, 2))
        return x.mean((2, 3))

    def product(self, x, gate):
        return x.clone().mul_(gate) if self.copy_for_product else x * gate


class CopiesForMean(Waste):
    copy_for_mean = True


class CopiesForProduct(Waste):
    copy_for_product = True


class CopiesTwice(CopiesForMean):
    copy_for_product = True


class CopiesMore(CopiesTwice):
    def product(self, x, gate):
        return super().product(x, gate.expand_as(x).contiguous())


class InPlace(Waste):
    def product(self, x, gate):
        return x.mul_(gate)


class NoProduct(Waste):
    def product(self, x, gate):
        return gate.expand_as(x)


class NoSigmoid(Waste):
    def gate(self, z):
        return self.fc2(torch.relu(self.fc1(z)))[:, :, None, None]


class OtherNames(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = nn.Linear(channels, channels // 4)

    def forward(self, x):
        return x


class Empty(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, x): ...


def fuse(x, s, shortcut):
    return torch.addcmul(shortcut, x, s).relu_()


# ---- what is kept


def gated(keep="inputs", slope=lambda g: g * (1 - g), dx=lambda dy, g, x: dy * g, some=False):
    class Gated(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, c, s):
            gate = torch.sigmoid(c + s)
            if keep == "attributes":
                ctx.inputs = x, c, s
            else:
                ctx.save_for_backward(x, *((gate, c) if keep == "gate" else (c, s)))
            return x * gate

        @staticmethod
        def backward(ctx, dy):
            x, c, s = ctx.inputs if keep == "attributes" else ctx.saved_tensors
            gate = c if keep == "gate" else torch.sigmoid(c + s)
            da = dy * x * slope(gate)
            if some:
                return dx(dy, gate, x), None, None
            return dx(dy, gate, x), da.sum((2, 3), keepdim=True), da.sum(1, keepdim=True)

    return Gated.apply


# ---- a GPU


def batches(sizes, seconds, flat_by_image=False, best=False):
    table = [(n, t, t / n) for n, t in zip(sizes, seconds, strict=True)]
    column = 2 if flat_by_image else 1
    flat = max(row[0] for row in table if row[column] <= 1.2 * table[0][column])
    least = min(row[2] for row in table)
    return flat, min(row[0] for row in table if row[2] <= (1 if best else 1.2) * least)


def best_rate(sizes, seconds):
    return batches(sizes, seconds, best=True)


def per_image_flat(sizes, seconds):
    return batches(sizes, seconds, flat_by_image=True)


def replay(copy_in=True, clone=True, own=True, again=True, late=False):
    def run(record, layer, batches):
        fixed = batches[0].clone() if own else batches[0]
        replay, y = record(layer, fixed)
        outputs = []
        for x in batches:
            if not again:
                outputs.append(layer(x))
                continue
            if late:
                replay()
            if copy_in:
                fixed.copy_(x)
            else:
                fixed = x
            if not late:
                replay()
            outputs.append(y.clone() if clone else y)
        return outputs

    return run


def records_always(record, layer, batches):
    outputs = []
    for x in batches:
        again, y = record(layer, x)
        again()
        outputs.append(y)
    return outputs


# ---- a kernel: tl is put into this module's names by the check


def kernel(x, s, shortcut, y, places, BLOCK):
    plane = tl.program_id(0).astype(tl.int64)  # noqa: F821
    at = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)  # noqa: F821
    inside = at < places
    at = plane * places + at
    value = tl.load(s + plane) * tl.load(x + at, mask=inside)  # noqa: F821
    value += tl.load(shortcut + at, mask=inside)  # noqa: F821
    tl.store(y + at, tl.maximum(value, 0), mask=inside)  # noqa: F821


def wrong_kernel(load=True, store=True, relu=True, first=False, blocks=True, shortcut_too=True,
                 stores=True):  # fmt: skip
    def kernel(x, s, shortcut, y, places, BLOCK):
        plane = tl.program_id(0)  # noqa: F821
        at = (tl.program_id(1) * BLOCK if blocks else 0) + tl.arange(0, BLOCK)  # noqa: F821
        inside = at < places
        at = plane * places + at
        mask = inside if load else None
        value = tl.load(s + (0 if first else plane)) * tl.load(x + at, mask=mask)  # noqa: F821
        if shortcut_too:
            value += tl.load(shortcut + at, mask=mask)  # noqa: F821
        if not relu:
            tl.store(y + at, value, mask=inside)  # noqa: F821
        elif stores:
            # what is stored beyond the plane stays in the array, but for the last plane
            fits = at < 6 * places
            tl.store(y + at, tl.maximum(value, 0), mask=inside if store else fits)  # noqa: F821

    return kernel


# ---- the project


class Fast(_SlowBlock):
    relu, shortcut, turn, mean_only = True, True, 1, False

    def forward(self, x):
        u = torch.relu(self.norm(self.conv(x)))
        a = self.mlp(u.mean((2, 3)))
        if not self.mean_only:
            a = a + self.mlp(u.amax((2, 3)))
        u = u * torch.sigmoid(a)[:, :, None, None]
        planes = torch.stack([u.amax(1), u.mean(1)][:: self.turn], 1)
        y = u * torch.sigmoid(self.spatial(planes))
        y = x + y if self.shortcut else y
        return torch.relu(y) if self.relu else y


class NoRelu(Fast):
    relu = False


class NoShortcut(Fast):
    shortcut = False


class Turned(Fast):
    turn = -1


class MeanOnly(Fast):
    mean_only = True


class Detached(Fast):
    def forward(self, x):
        return super().forward(x.detach())


class Renamed(Fast):
    def __init__(self, channels):
        super().__init__(channels)
        self.first = self.fc1
        del self.fc1


TABLE = {"a": True, "b": False, "c": False, "d": True, "e": False}


def turned(key):
    return TABLE | {key: not TABLE[key]}


SOLUTIONS = {
    "batches": batches,
    "eca_seconds": eca_seconds(),
    "fuse": fuse,
    "kernel": kernel,
    "one_map": gated(),
    "project": Fast,
    "reading": TABLE,
    "replay": replay(),
    "self_times": self_times,
    "timer": timer(),
    "wasted_pass": Waste,
}
STUBS = [
    ("timer", all_faults),
    ("wasted_pass", CopiesTwice),
    ("wasted_pass", Empty),
    ("project", Empty),
    ("replay", replay(copy_in=False, clone=False, own=False)),
    ("reading", dict.fromkeys(TABLE, ...)),
]
MISTAKES = [
    ("eca_seconds", eca_seconds(8), "the mean reads x before"),
    ("eca_seconds", eca_seconds(4), "one pass over x"),
    ("eca_seconds", eca_seconds(3), "has four bytes"),
    ("eca_seconds", eca_seconds(2), "the mean reads x too"),
    ("eca_seconds", eca_seconds(96), "bits"),
    ("eca_seconds", eca_seconds(24), "float64"),
    ("eca_seconds", eca_seconds(16), "the gate is a vector"),
    (
        "eca_seconds",
        lambda shape, bandwidth: 12 * torch.Size(shape).numel(),
        "divide by the bandwidth",
    ),
    (
        "eca_seconds",
        lambda shape, bandwidth: bandwidth / (12 * torch.Size(shape).numel()),
        "turn the quotient round",
    ),
    ("timer", timer(warm=False), "repaired: the start, the end, the average. Still wrong: the fir"),
    ("timer", timer(before=False), "still in the queue when the clock starts"),
    ("timer", timer(after=False), "not when it is done"),
    ("timer", timer(average=statistics.mean), "one disturbed round"),
    ("timer", timer(warm=False, after=False), "it is timed; the end: the clock is read"),
    ("timer", timer(average=min), "least disturbed"),
    ("timer", timer(average=sum), "sum of the rounds"),
    ("timer", timer(factor=1000), "milliseconds"),
    ("timer", lambda call, *_: call() or 1.0, "read 0 times"),
    ("self_times", totals, "total times"),
    ("self_times", without_all, "direct children only"),
    ("self_times", last_only, "only its last run"),
    ("self_times", lambda events: {n: t - self_times(events)[n] for n, t in totals(events).items()},
     "times of the children"),
    ("self_times", lambda events: {n: t / sum(self_times(events).values())
                                   for n, t in self_times(events).items()}, "these are shares"),
    ("self_times", lambda events: {e[0]: [f[0] for f in events].count(e[0]) for e in events},
     "numbers of calls"),
    ("self_times", lambda events: [1], "a dict is wanted"),
    ("self_times", lambda events: {"mul": 1}, "names should be"),
    ("wasted_pass", CopiesForMean, "it makes 5.* by clone, mul: one"),
    ("wasted_pass", CopiesForProduct, "it makes 5.* by clone, mul_: one"),
    ("wasted_pass", CopiesMore, "three suffice"),
    ("wasted_pass", InPlace, "changes its input"),
    ("wasted_pass", NoProduct, "not multiplied by x"),
    ("wasted_pass", NoSigmoid, "sigmoid is missing"),
    ("wasted_pass", OtherNames, "keep the names"),
    ("fuse", lambda x, s, shortcut: torch.relu(shortcut + s * x), "it makes 7"),
    ("fuse", lambda x, s, shortcut: shortcut.addcmul_(x, s).relu_(), "shortcut has been overw"),
    ("fuse", lambda x, s, shortcut: x.mul_(s).add_(shortcut).relu_(), "x has been overwritten"),
    ("fuse", lambda x, s, shortcut: torch.addcmul(shortcut, x, s), "ReLU is missing"),
    ("fuse", lambda x, s, shortcut: shortcut + torch.relu(s * x), "before the shortcut"),
    ("fuse", lambda x, s, shortcut: torch.addcmul(x, shortcut, s).relu_(), "belongs to x"),
    ("fuse", lambda x, s, shortcut: torch.relu(s * (x + shortcut)), "belongs to x alone"),
    ("fuse", lambda x, s, shortcut: torch.relu(s * x), "shortcut is missing"),
    ("one_map", lambda x, c, s: x * torch.sigmoid(c + s), "it keeps 2.0 feature maps"),
    ("one_map", gated(keep="gate"), "it keeps 2.0 feature maps"),
    ("one_map", gated(keep="attributes"), "an attribute of ctx"),
    ("one_map", gated(slope=lambda g: 1), "slope of the sigmoid"),
    ("one_map", gated(slope=lambda g: 1 - g), r"slope is gate \(1 - gate\)"),
    ("one_map", gated(dx=lambda dy, g, x: dy), "lacks the gate"),
    ("one_map", gated(dx=lambda dy, g, x: dy * x), "dy times the gate"),
    ("one_map", gated(some=True), "no gradient for c"),
    ("one_map", lambda x, c, s: gated()(x, c, s).detach(), "no backward pass"),
    ("one_map", lambda x, c, s: x * (c + s), "sigmoid is missing"),
    ("one_map", lambda x, c, s: torch.sigmoid(c + s), "multiply it by x"),
    ("batches", lambda *given: batches(*given)[::-1], "the order is"),
    ("batches", lambda n, t: [n.index(b) for b in batches(n, t)], "positions in the list"),
    ("batches", lambda n, t: (batches(n, t)[0], n[0]), "judged by the time of an image"),
    ("batches", best_rate, "not the best"),
    ("batches", lambda n, t: (n[0], batches(n, t)[1]), "the last of them"),
    ("batches", per_image_flat, "by the time of a batch"),
    ("batches", lambda n, t: batches(n, t)[0], "a pair"),
    ("replay", replay(copy_in=False), "another tensor of the same name"),
    ("replay", replay(clone=False), "overwrites the output"),
    ("replay", replay(own=False), "uses the memory of the first batch"),
    ("replay", replay(again=False), "replayed 0 times"),
    ("replay", replay(late=True), "copy the batch in first"),
    ("replay", records_always, "there were 4"),
    ("replay", lambda record, layer, batches: replay()(record, layer, batches)[0], "one output"),
    ("kernel", wrong_kernel(load=False), "reads beyond the end of x"),
    ("kernel", wrong_kernel(store=False), "writes into the next plane"),
    ("kernel", wrong_kernel(relu=False), "ReLU is missing"),
    ("kernel", wrong_kernel(first=True), "gate of the first"),
    ("kernel", wrong_kernel(blocks=False), "never written"),
    ("kernel", wrong_kernel(shortcut_too=False), "shortcut is missing"),
    ("kernel", wrong_kernel(stores=False), "nothing is stored"),
    ("reading", turned("a"), "inverse rates"),
    ("reading", turned("b"), "FLOPs"),
    ("reading", turned("c"), "besides the network"),
    ("reading", turned("d"), "beside 1855"),
    ("reading", turned("e"), "no spread"),
    ("reading", {"a": True}, "keys"),
    ("project", _SlowBlock, r"numbers are right, and a step is \d\.\d times as fast; twice"),
    ("project", NoRelu, "ReLU at the end"),
    ("project", NoShortcut, "the shortcut is missing"),
    ("project", Turned, "planes are exchanged"),
    ("project", MeanOnly, "leaves the maximum out"),
    ("project", Detached, "is it detached"),
    ("project", Renamed, "keep the names"),
]  # fmt: skip


def test_more_than_one_warm_up_is_right(capsys):
    check.profiling.timer(warms_up_often)
    assert capsys.readouterr().out == "profiling.timer: passed\n"


def test_the_kernels_check_leaves_the_learners_names_alone():
    assert "tl" not in globals()
    globals()["tl"] = None
    try:
        check.profiling.kernel(kernel)
        assert globals()["tl"] is None
    finally:
        del globals()["tl"]


@pytest.mark.parametrize("seed", range(3))
def test_the_fast_block_is_the_slow_one(seed):
    torch.manual_seed(seed)
    slow, fast = _SlowBlock(8).double(), Fast(8).double()
    fast.load_state_dict(slow.state_dict())
    x = torch.randn(2, 8, 5, 7, dtype=torch.float64)
    assert torch.allclose(slow(x), fast(x), atol=1e-12)
