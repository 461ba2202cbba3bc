"""Checks of the exercises on what each mechanism can see."""

import math
from statistics import NormalDist

import torch
from torch import nn

from attn_lib import data, diagnostics, layers, symmetries
from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.train import evaluate, fit

__all__ = [
    "budget",
    "deviation",
    "faults",
    "follows",
    "kernels",
    "maximum",
    "outcome",
    "ranks",
    "reach",
    "reading",
    "suspects",
    "task",
]


@exercise
def follows(attempt):
    """``attempt(layer, x, move)`` is the largest difference between layer(T x) and T layer(x)."""
    x = _shared.drawn(2, 6, 5, 5)
    for name in ("transpose", "roll", "scale"):
        layer = _shared.randomised(layers.CoordinateAttention(6))
        move = symmetries.draw(name, x.shape, 1)
        got = call(attempt, layer, x, move)
        with torch.no_grad():
            y, moved = layer(x), layer(move.on_input(x))
            wanted = (moved - move.on_output(y)).abs().max()
            expect(
                got,
                wanted,
                f"the change for {name!r}",
                {
                    "compare with T layer(x): the output has to be transformed too": (
                        (moved - y).abs().max()
                    ),
                    "that compares T layer(x) with layer(x): the layer has to see T x as well": (
                        (move.on_output(y) - y).abs().max()
                    ),
                    "the absolute value is missing: a negative difference counts as well": (
                        (moved - move.on_output(y)).max()
                    ),
                    "that is the mean of the differences; the largest one decides": (
                        (moved - move.on_output(y)).abs().mean()
                    ),
                    "that is the smallest difference; the largest one decides": (
                        (moved - move.on_output(y)).abs().min()
                    ),
                },
            )


@exercise
def reach(attempt):
    """``attempt(layer, x, i, j)``: (H, W) booleans, where x moves the joint gates at (i, j)."""
    cases = {
        "a spatial gate": (layers.SpatialAttention(3), 1),
        "row and column gates": (layers.CoordinateAttention(6), None),
        "channel gates": (layers.SqueezeExcitation(6, reduction=2), 9),
    }
    x = _shared.drawn(16, 6, 7, 9)
    i, j = 2, 5
    row, column = torch.arange(7)[:, None] - i, torch.arange(9) - j
    for name, (layer, radius) in cases.items():
        if radius is None:
            wanted = (row == 0) | (column == 0)
        else:
            wanted = (row.abs() <= radius) & (column.abs() <= radius)
        got = call(attempt, _shared.randomised(layer), x.clone(), i, j)
        swapped = (torch.arange(7)[:, None] == j) | (torch.arange(9) == i)
        expect(
            got,
            wanted,
            f"the reach of {name}",
            {
                "i is the row and j the column": swapped
                if radius is None
                else ((row + i - j).abs() <= radius) & ((column + j - i).abs() <= radius),
                "only the place itself: differentiate by the whole of x": (row == 0)
                & (column == 0),
                "everything depends on everything: take the gates at (i, j) alone": torch.ones(
                    7, 9, dtype=torch.bool
                ),
                "that is where nothing depends: the gradient is not 0 within reach": ~wanted,
            },
        )


@exercise
def ranks(attempt):
    """``attempt(g)``: joint gate (C, H, W) -> ranks of the C x HW and of one H x W matrix."""
    s, m = _shared.drawn(4).sigmoid(), _shared.drawn(5, 6, seed=1).sigmoid()
    rows, columns = (
        _shared.drawn(4, 5, 1, seed=2).sigmoid(),
        _shared.drawn(4, 1, 6, seed=3).sigmoid(),
    )
    cases = {
        "a channel gate": ((s[:, None, None] * torch.ones(4, 5, 6)), (1, 1)),
        "CBAM's gate": (s[:, None, None] * m, (1, 5)),
        "Coordinate Attention's gate": (rows * columns, (4, 1)),
    }
    for name, (gate, wanted) in cases.items():
        got = call(attempt, gate)
        if not isinstance(got, (tuple, list)) or len(got) != 2:
            raise Failed("return two ranks: of the (C, H W) matrix, and of an (H, W) matrix")
        expect(
            got,
            wanted,
            f"the ranks of {name}",
            {
                "the two ranks are in the wrong order": wanted[::-1],
                "the first rank is of C rows and H W columns, not of one channel": (
                    wanted[1],
                    wanted[1],
                ),
                "that is min(C, H W) and min(H, W): count the singular values above 1e-9": (4, 5),
            },
        )


def _q(height, cells, *, rule=None):
    cdf = NormalDist().cdf
    steps = [k / 100 for k in range(-300, 1001)]
    rule = rule or (lambda below, with_peak: (below + 1 - with_peak) / 2)
    return max(rule(cdf(u) ** cells, cdf(u) ** (cells - 1) * cdf(u - height)) for u in steps)


@exercise
def maximum(attempt):
    """``attempt(height, cells)``: probability that the maximum reveals whether there is a peak."""
    cases = [(6, 48), (4, 48), (3, 12), (5, 1)]
    got = [call(attempt, *case) for case in cases]
    expect(
        got,
        [_q(*case) for case in cases],
        "the probabilities",
        {
            "one cell has the peak, so only cells - 1 are plain noise in the second term": [
                max(
                    (NormalDist().cdf(u / 100) ** n + 1 - NormalDist().cdf(u / 100 - h) ** n) / 2
                    for u in range(-300, 1001)
                )
                for h, n in cases
            ],
            "that is right for one of the two cases: take the mean of both": [
                _q(*case, rule=lambda below, peak: below + 1 - peak) for case in cases
            ],
            "that is the accuracy (1 + q) / 2 of the network; return q": [
                (1 + _q(*case)) / 2 for case in cases
            ],
            "that is what the mean reveals": [
                NormalDist().cdf(h / (2 * math.sqrt(n))) for h, n in cases
            ],
            "the maximum lies below u if every one of the cells does: a power": [
                _q(h, 1) for h, _ in cases
            ],
        },
        tolerance=2e-3,
    )


def _value(attempt):
    """The attempt; of a stub that is a function, what it returns."""
    return call(attempt) if callable(attempt) else attempt


def _lines(right, without=0.5, bayes=1.0, images=4000):
    return [
        {"right": r, "images": images, "accuracy": r / images, "without": without, "bayes": bayes}
        for r in right
    ]


@exercise
def outcome(attempt):
    """``attempt(lines, comparisons)`` reads the lines of one mechanism at one level."""
    cases = [
        ([3900] * 5, {}, "solves", "nine tenths of the way is solved"),
        ([3900] * 4 + [2000], {}, "solves", "four networks of five are enough"),
        ([3900] * 3 + [2000] * 2, {}, "cannot", "three networks of five are too few"),
        ([2500] * 5, {}, "helps", "above the bound, and not nine tenths of the way"),
        ([2120] * 5, {}, "cannot", "the interval is for 1 - 0.05 / comparisons"),
        ([2000] * 5, {}, "cannot", "an accuracy at the bound does not pass"),
        ([3520] * 5, {"without": 0.7, "bayes": 0.95}, "helps", "the way begins at `without`"),
        ([3900, 3900, 3880, 3200, 3200], {}, "solves", "the median of the accuracies decides"),
    ]
    for right, bounds, wanted, why in cases:
        got = call(attempt, _lines(right, **bounds), 1200)
        if got != wanted:
            raise Failed(
                f"right answers {right} of 4000, bounds {bounds or {'without': 0.5, 'bayes': 1.0}}"
                f": got {got!r}, and it is {wanted!r}, because {why}"
            )


@exercise
def kernels(attempt):
    """``attempt(k)``: the distances of channel_order that ECA with k taps can solve, a set."""
    for k, wanted in {1: set(), 3: {1}, 5: {1, 2}, 7: {1, 2, 3}, 9: {1, 2, 3}}.items():
        got = set(call(attempt, k))
        if got == wanted:
            continue
        if got == {d for d in (1, 2, 3) if d <= k}:
            raise Failed("a kernel of k taps reaches (k - 1) / 2 channels to each side")
        if got == {d for d in (1, 2, 3) if d <= (k - 1) // 4}:
            raise Failed("each gate sees the cue by itself: the two channels need not be in one")
        if got == {(k - 1) // 2} & {1, 2, 3}:
            raise Failed("a longer kernel sees what is near as well")
        if max(got, default=0) > 3:
            raise Failed("the task has the distances 1, 2 and 3")
        raise Failed(f"for k = {k} got {sorted(got)}")


def _names(attempt):
    attempt = _value(attempt)
    if attempt is ... or ... in attempt:
        raise _NotAttempted
    unknown = set(attempt) - set(symmetries.TRANSFORMATIONS)
    if unknown:
        raise Failed(f"no such transformation: {sorted(unknown)}")
    return set(attempt)


class _Deviation(layers.SqueezeExcitation):
    """SE with the deviation of a channel in place of its mean."""

    def gates(self, x):
        z = x.flatten(2).std(2, correction=0)
        return {"channel": self.fc2(self.fc1(z).relu()).sigmoid()[:, :, None, None]}


@exercise
def deviation(attempt):
    """Names of the transformations that the gates of SE with a deviation follow, a set."""
    got, x = _names(attempt), _shared.drawn(3, 6, 5, 5)
    variants = [_shared.randomised(_Deviation(6, reduction=2), seed) for seed in range(5)]
    for name in symmetries.TRANSFORMATIONS:
        move = symmetries.draw(name, x.shape, 3)
        yes = max(symmetries.change_of_gates(layer, x, move) for layer in variants) < 1e-9
        if yes and name not in got:
            raise Failed(f"{name!r} is missing: what does it do to the deviation of a channel?")
        if name in got and not yes:
            raise Failed(f"{name!r} changes the gates, or puts them at other channels")


class _Fault(nn.Module):
    def __init__(self, gate):
        super().__init__()
        self.gate = gate

    def gates(self, x):
        return {"channel": self.gate(x)}

    def forward(self, x):
        return x * self.gate(x)


def suspects():
    """Five channel gates: one is right, each of the others has a fault. Look with symmetries."""
    scale = torch.linspace(-1, 1, 6, dtype=torch.float64).reshape(1, -1, 1, 1)

    def gate(z):
        return (3 * scale * z + z.roll(1, 1)).sigmoid()

    def margin(x):
        z = x.sum((2, 3), keepdim=True)
        return gate(z / 25)  # a number of pixels that was right once

    return {
        "A": _Fault(lambda x: gate(x[:, :, : x.shape[2] // 2].mean((2, 3), keepdim=True))),
        "B": _Fault(lambda x: gate(x.mean((2, 3), keepdim=True))),
        "C": _Fault(margin),
        "D": _Fault(lambda x: gate(x.mean((0, 2, 3), keepdim=True).expand(len(x), -1, 1, 1))),
        "E": _Fault(lambda x: gate(x.diagonal(dim1=2, dim2=3).mean(2)[:, :, None, None])),
    }


@exercise
def faults(attempt):
    """Letter of a suspect -> "none", "half", "size", "batch" or "diagonal"."""
    right = {"A": "half", "B": "none", "C": "size", "D": "batch", "E": "diagonal"}
    hints = {
        "A": "A follows permutations of the columns, and no permutation of the rows",
        "B": "B follows everything that SE follows",
        "C": "C follows all permutations of pixels; try 'repeat'",
        "D": "D follows what SE follows; hand it one image without its companions",
        "E": "E follows a transposition, and no roll of the columns alone",
    }
    attempt = _value(attempt)
    if any(attempt.get(letter, ...) is ... for letter in right):
        raise _NotAttempted
    for letter, fault in right.items():
        if attempt[letter] not in right.values():
            raise Failed(f"{letter}: choose among {', '.join(right.values())}")
        if attempt[letter] != fault:
            raise Failed(f"{letter}: {hints[letter]}")


@exercise
def reading(attempt):
    """Letter of a statement -> whether the results support it."""
    right = {"a": False, "b": True, "c": False, "d": False, "e": True}
    hints = {
        "a": "three of 4,000 images are a fraction of a standard error, which is 0.5 points here",
        "b": "nothing exceeds Bayes, and the network without a gate reaches it",
        "c": "'cannot' may mean that training did not find it: see BAM on channel_order",
        "d": "these networks have no convolution besides the gate; others have many",
        "e": "a proof holds for every weight, so no recipe changes it",
    }
    attempt = _value(attempt)
    if any(attempt.get(letter, ...) is ... for letter in right):
        raise _NotAttempted
    for letter, answer in right.items():
        if attempt[letter] is not answer:
            raise Failed(f"{letter}: {hints[letter]}")


def _accuracy(attention, split, epochs, seed=0):
    torch.manual_seed(seed)
    model = diagnostics.network(attention)
    fit(model, split, seed=seed, **(diagnostics.RECIPE | {"epochs": epochs}))
    return evaluate(model, split.x_test, split.y_test)


@exercise
def budget(attempt):
    """``attempt()``: a layer of at most 30 parameters that solves marked_neighbour (0.5)."""
    layer = call(attempt)
    if not isinstance(layer, nn.Module):
        raise Failed(f"return a module; got {type(layer).__name__}")
    count = sum(p.numel() for p in layer.parameters())
    if count > 30:
        raise Failed(f"{count} parameters; the budget is 30")
    x = torch.zeros(2, 8, 12, 12)
    if layer(x).shape != x.shape:
        raise Failed(f"the output has shape {tuple(layer(x).shape)}; it should be {tuple(x.shape)}")
    if layer(x).abs().max() > 0:
        raise Failed("a gate multiplies x: zeros must stay zeros")
    split = data.marked_neighbour(0.5, 2000, 2000, seed=771)
    found = _accuracy(lambda channels: call(attempt), split, epochs=15)
    if found < 0.9:
        raise Failed(
            f"accuracy {found:.2f} on feature maps that you have not seen; 0.9 is wanted. "
            "Does the gate at a place see the place next to it?"
        )


_CANDIDATES = {
    "se": lambda channels: layers.SqueezeExcitation(channels, reduction=2),
    "eca": layers.EfficientChannelAttention,
    "spatial": lambda channels: layers.SpatialAttention(),
    "coordinate": layers.CoordinateAttention,
}


@exercise
def task(attempt):
    """``attempt``: (draw(n_train, n_test, seed) -> Split, the mechanism that solves it)."""
    draw, winner = _value(attempt)
    if winner is ... or draw is ...:
        raise _NotAttempted
    if winner not in _CANDIDATES:
        raise Failed(f"the winner must be one of {', '.join(_CANDIDATES)}; got {winner!r}")
    split = call(draw, 1500, 1000, 552)
    for part, n in ((split.x_train, 1500), (split.x_test, 1000)):
        if part.shape != (n, 8, 12, 12):
            raise Failed(f"feature maps have shape {tuple(part.shape)}, not {(n, 8, 12, 12)}")
    if torch.equal(call(draw, 1500, 1000, 553).y_test, split.y_test):
        raise Failed("another seed gives the same labels: draw from a generator with that seed")
    share = split.y_test.double().mean()
    if abs(share - 0.5) > 4 * 0.5 / math.sqrt(1000):
        raise Failed(f"{share:.0%} of the labels are 1; a guess should be right for one half")
    found = {name: _accuracy(make, split, epochs=12) for name, make in _CANDIDATES.items()}
    listed = ", ".join(f"{name} {accuracy:.2f}" for name, accuracy in found.items())
    if found.pop(winner) < 0.9:
        raise Failed(f"{winner} does not solve it on new seeds (0.9 is wanted): {listed}")
    if max(found.values()) > 0.7:
        raise Failed(f"another mechanism passes 0.7: {listed}")
