"""The checks on what each mechanism can see: solutions pass, mistakes get their message."""

import math
from statistics import NormalDist, median

import torch
from scipy.stats import binomtest
from torch import nn

from attn_lib import data, layers

phi = NormalDist().cdf


def change(layer, x, move, *, before=True, after=True, size=torch.abs, of=torch.max):
    with torch.no_grad():
        y = layer(move.on_input(x)) if before else layer(x)
        z = layer(x)
        return float(of(size(y - (move.on_output(z) if after else z))))


def reach(layer, x, i, j, *, all_gates=False):
    x = x.clone().requires_grad_()
    joint = torch.ones_like(x)
    for gate in layer.gates(x).values():
        joint = joint * gate
    at = joint if all_gates else joint[:, :, i, j]
    return torch.autograd.grad(at.sum(), x)[0].abs().amax((0, 1)) > 0


def ranks(g):
    return int(torch.linalg.matrix_rank(g.flatten(1))), int(torch.linalg.matrix_rank(g[0]))


def q(height, cells, *, rule=lambda below, peak: (below + 1 - peak) / 2):
    steps = [k / 100 for k in range(-300, 1001)]
    return max(rule(phi(u) ** cells, phi(u) ** (cells - 1) * phi(u - height)) for u in steps)


def outcome(lines, comparisons, *, alpha=0.05, needed=0.8, middle=median, start=None):
    level = 1 - alpha / (comparisons if alpha == 0.05 else 1)
    low = [binomtest(x["right"], x["images"]).proportion_ci(level).low for x in lines]
    if sum(a > x["without"] for a, x in zip(low, lines, strict=True)) < needed * len(lines):
        return "cannot"
    base = lines[0]["without"] if start is None else start
    goal = base + 0.9 * (lines[0]["bayes"] - base)
    return "solves" if middle([x["accuracy"] for x in lines]) >= goal else "helps"


NAMES = {"pixels", "rows and columns", "roll", "transpose", "rotate", "repeat", "offset"}
FAULTS = {"A": "half", "B": "none", "C": "size", "D": "batch", "E": "diagonal"}
READING = {"a": False, "b": True, "c": False, "d": False, "e": True}


class Left(nn.Module):
    def __init__(self, width=3):
        super().__init__()
        self.conv = nn.Conv2d(8, 1, (1, width), padding=(0, width // 2))

    def forward(self, x):
        return x * torch.sigmoid(self.conv(x))


def same_column(n_train, n_test, seed, farthest=12, nearest=5):
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for n in (n_train, n_test):
        values = torch.where(torch.rand(n, 12, generator=generator).argsort(1) < 6, 1.0, -1.0)
        column = torch.randint(12, (n,), generator=generator)
        down = torch.randint(nearest, farthest, (n,), generator=generator)
        x = torch.zeros(n, 8, 12, 12)
        x[:, 2, 0] = values
        x[torch.arange(n), 6, down, column] = 3
        parts += [x, (values[torch.arange(n), column] > 0).long()]
    return data.Split(*parts)


def switch(n_train, n_test, seed):
    return data.global_switch(0.6, n_train, n_test, seed=seed)


def fixed(n_train, n_test, seed):
    return same_column(n_train, n_test, 0)


def uneven(n_train, n_test, seed):
    split = same_column(n_train, n_test, seed)
    return split._replace(y_test=torch.ones_like(split.y_test) * (torch.arange(n_test) > seed % 7))


SOLUTIONS = {
    "follows": change,
    "reach": reach,
    "ranks": ranks,
    "maximum": q,
    "outcome": outcome,
    "kernels": lambda k: {d for d in (1, 2, 3) if d <= (k - 1) // 2},
    "deviation": NAMES,
    "faults": FAULTS,
    "reading": READING,
    "budget": Left,
    "task": (same_column, "coordinate"),
}
STUBS = [
    ("faults", dict.fromkeys("ABCDE", ...)),
    ("reading", dict.fromkeys("abcde", ...)),
    ("task", (lambda *args: ..., ...)),
]
NO_EXERCISES = ("suspects",)
WRONG = {
    "follows": [
        (lambda *a: change(*a, after=False), "the output has to be transformed too"),
        (lambda *a: change(*a, before=False), "the layer has to see T x as well"),
        (lambda *a: change(*a, size=lambda d: d), "the absolute value is missing"),
        (lambda *a: change(*a, of=torch.mean), "the mean of the differences"),
        (lambda *a: change(*a, of=torch.min), "the smallest difference"),
    ],
    "reach": [
        (lambda layer, x, i, j: reach(layer, x, j, i), "i is the row and j the column"),
        (lambda *a: ~reach(*a), "where nothing depends"),
        (lambda *a: reach(*a, all_gates=True), "take the gates at"),
        (lambda _, x, i, j: torch.arange(63).reshape(7, 9) == 9 * i + j, "only the place itself"),
        (lambda *a: reach(*a)[None], "has shape"),
    ],
    "ranks": [
        (lambda g: ranks(g)[::-1], "wrong order"),
        (lambda g: (ranks(g)[1],) * 2, "first rank is of C rows"),
        (lambda g: (4, 5), "count the singular values"),
        (lambda g: ranks(g)[0], "return two ranks"),
        (lambda g: (2, 2), "is off by"),
    ],
    "maximum": [
        (lambda h, n: q(h, n, rule=lambda b, p: b), "is off by"),
        (lambda h, n: q(h, n, rule=lambda b, p: b + 1 - p), "mean of both"),
        (lambda h, n: (1 + q(h, n)) / 2, "return q"),
        (lambda h, n: phi(h / (2 * math.sqrt(n))), "what the mean reveals"),
        (lambda h, n: q(h, 1), "a power"),
    ],
    "outcome": [
        (lambda x, k: outcome(x, k, needed=1), "four networks of five are enough"),
        (lambda x, k: outcome(x, k, needed=0.6), "three networks of five are too few"),
        (lambda x, k: outcome(x, k, alpha=0.01), "0.05 / comparisons"),
        (lambda x, k: outcome(x, k, start=0), "the way begins at `without`"),
        (lambda x, k: outcome(x, k, middle=min), "four networks of five are enough"),
        (lambda x, k: outcome(x, k, middle=lambda a: sum(a) / len(a)), "four networks of five"),
    ],
    "kernels": [
        (lambda k: {d for d in (1, 2, 3) if d <= k}, "to each side"),
        (lambda k: {d for d in (1, 2, 3) if 4 * d <= k - 1}, "sees the cue by itself"),
        (lambda k: {(k - 1) // 2} & {1, 2, 3}, "sees what is near as well"),
        (lambda k: set(range(1, (k + 1) // 2)), "distances 1, 2 and 3"),
        (lambda k: {2}, "for k = 1 got"),
    ],
    "deviation": [
        (NAMES - {"offset"}, "'offset' is missing"),
        (NAMES - {"repeat"}, "'repeat' is missing"),
        (NAMES | {"scale"}, "'scale' changes the gates"),
        (NAMES | {"channels"}, "'channels' changes the gates"),
        (NAMES | {"mirror"}, "no such transformation"),
    ],
    "faults": [
        (FAULTS | {letter: "none" if letter != "B" else "half"}, f"{letter}: {letter} follows")
        for letter in FAULTS
    ]
    + [(FAULTS | {"A": "rows"}, "choose among")],
    "reading": [(READING | {letter: not READING[letter]}, f"{letter}: ") for letter in READING],
    "budget": [
        (lambda: layers.SpatialAttention(7), "parameters; the budget is 30"),
        (lambda: nn.Conv2d(8, 8, 1, groups=8), "zeros must stay zeros"),
        (lambda: nn.Conv2d(8, 3, 1, bias=False), "the output has shape"),
        (lambda: 3, "return a module; got int"),
        (lambda: Left(1), "see the place next to it"),
    ],
    "task": [
        ((same_column, "bam"), "the winner must be one of"),
        ((lambda a, b, s: same_column(a, a, s), "coordinate"), "feature maps have shape"),
        ((fixed, "coordinate"), "another seed gives the same labels"),
        ((uneven, "coordinate"), "a guess should be right for one half"),
        ((switch, "spatial"), "does not solve it on new seeds"),
        ((switch, "se"), "another mechanism passes 0.7"),
    ],
}


MISTAKES = [(name, *pair) for name, pairs in WRONG.items() for pair in pairs]
