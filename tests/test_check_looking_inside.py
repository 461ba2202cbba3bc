"""The checks of the exercises on looking inside: solutions pass, mistakes get their message."""

import contextlib
import copy
from functools import partial
from itertools import permutations

import numpy as np
import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import nn

from attn_lib import check


def shares(mean, std, normalise=True, ddof=(0, 0), power=2):
    mean, std = mean.reshape(len(mean), -1), std.reshape(len(std), -1)
    parts = np.array(
        [mean.mean(0).var(ddof=ddof[0]), mean.var(0, ddof=ddof[1]).mean(), (std**power).mean()]
    )
    return parts / parts.sum() if normalise else parts


def root_shares(mean, std):
    parts = np.array([mean.mean(0).std(), mean.std(0).mean(), std.mean()])
    return parts / parts.sum()


def fixed_with_classes(mean, std):
    parts = np.array([mean.var(), mean.var(0).mean(), (std**2).mean()])
    return parts / parts.sum()


def classes_overall(mean, std):
    parts = np.array(
        [mean.mean(0).var(), mean.reshape(len(mean), -1).mean(1).var(), (std**2).mean()]
    )
    return parts / parts.sum()


def fold(bn, gate, names=("weight", "bias"), copied=True, training=False, variance=0):
    bn = copy.deepcopy(bn) if copied else bn
    with torch.no_grad():
        for name in names:
            getattr(bn, name).mul_(gate.flatten())
        bn.running_var.mul_(gate.flatten() ** variance)
    return bn.train(training)


def fold_and_train(bn, gate):
    folded = fold(bn, gate)
    bn.train()
    return folded


def folded_otherwise(bn, gate):
    """The same map, as a depthwise convolution."""
    scale = (bn.weight / (bn.running_var + bn.eps).sqrt()).detach()
    conv = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale), dtype=scale.dtype).eval()
    conv.weight.data = (gate.flatten() * scale)[:, None, None, None]
    conv.bias.data = gate.flatten() * (bn.bias - scale * bn.running_mean).detach()
    return conv


def cosine(mean):
    left = mean - mean.mean(0)
    left /= np.linalg.norm(left, axis=1, keepdims=True)
    return left @ left.T


def matched(a, b, sign=-1):
    between = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    return between[linear_sum_assignment(sign * between)].mean()


def greedy(a, b):
    between = np.corrcoef(a.T, b.T)[: a.shape[1], a.shape[1] :]
    free, total = set(range(len(between))), 0
    pairs = sorted(np.ndindex(between.shape), key=lambda pair: -between[pair])
    taken = set()
    for i, j in pairs:
        if i in free and j not in taken:
            free.remove(i)
            taken.add(j)
            total += between[i, j]
    return total / len(between)


def in_turn(between):
    free, total = list(range(len(between))), 0
    for row in between:
        free.remove(best := max(free, key=lambda j: row[j]))
        total += row[best]
    return total / len(between)


def by_size(a, b, averaged):
    between = np.corrcoef(a.T, b.T)[:6, 6:]
    pairs = linear_sum_assignment(-abs(between))
    return averaged(between)[pairs].mean()


def borderless(model, mode="circular", copied=True, last=None):
    model = copy.deepcopy(model) if copied else model
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    for module in convolutions[:last]:
        module.padding_mode = mode
    return model


def without_padding(model):
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            module.padding = (0, 0)
    return model


def gradcam(model, x, classes, module, **options):
    """Grad-CAM with any of the mistakes that the options name."""
    seen = []

    def keep(module, inputs, output):
        seen.append(output)
        return output.clone()

    hook = model.get_submodule(module).register_forward_hook(keep)
    if options.get("train"):
        model.train()
    logits = model(x)
    if not options.get("left"):
        hook.remove()
    score = logits.softmax(1) if options.get("softmax") else logits
    chosen = logits.argmax(1) if options.get("likeliest") else classes
    (gradient,) = torch.autograd.grad(score[range(len(x)), chosen].sum(), seen)
    alpha = gradient.mean(options.get("over", (2, 3)), keepdim=True)
    if options.get("local"):
        alpha = gradient
    if options.get("positive"):
        alpha = alpha.relu()
    products = alpha * seen[0]
    if options.get("early"):
        return products.relu().sum(1).detach()
    return options.get("last", torch.relu)(products.sum(1)).detach()


FAULTY = {"train": True, "softmax": True, "over": (0, 2, 3), "early": True, "left": True}


def all_but(*names):
    """The planted faults, some of them repaired."""
    return partial(gradcam, **{k: v for k, v in FAULTY.items() if k not in names})


def upper(matrix):
    return matrix[np.triu_indices(len(matrix), 1)]


def p_value(matrices, orders, plus=1, rename=None, compare=np.greater_equal):
    def agreement(found):
        return upper(np.corrcoef([upper(m) for m in found])).mean()

    rename = rename or (lambda m, o: m[np.ix_(o, o)])
    drawn = [
        agreement([rename(m, o) for m, o in zip(matrices, row, strict=True)]) for row in orders
    ]
    return (compare(drawn, agreement(matrices)).sum() + plus) / (len(orders) + plus)


def directions(mean, axis=0, power=2):
    values = np.linalg.svd(mean - mean.mean(axis, keepdims=True), compute_uv=False) ** power
    return values.sum() ** 2 / (values**2).sum()


def lopsided(profile, half=0.5, own=True):
    p = profile - (profile.mean(1, keepdims=True) if own else profile.mean())
    q = profile - profile.mean(1, keepdims=True)
    return ((half * (q - q[:, ::-1])) ** 2).sum() / (p**2).sum()


def occlusion(score, x, side, fill=None, sign=1, fresh=True, left=False):
    rows, columns = x.shape[2] // side, x.shape[3] // side
    colour = x.mean((2, 3), keepdim=True) if fill is None else fill(x)
    result, whole, covered = torch.zeros(rows, columns).double(), score(x)[0], x.clone()
    for i in range(rows):
        for j in range(columns):
            covered = x.clone() if fresh else covered
            covered[:, :, i * side : (i + 1) * side, j * side : (j + 1) * side] = colour
            result[i, j] = score(covered)[0] if left else sign * (whole - score(covered)[0])
    return result


def occlusion_in_place(score, x, side):
    result = occlusion(score, x, side)
    x[:, :, :side, :side] = 0
    return result


def two_numbers(train, score, hold, seeds, scale=100, inside=True, against=None, benefit=None):
    found = []
    for seed in seeds:
        gated, plain = train("se", seed), train("none", seed)
        whole, without = score(gated), score(plain)
        with hold(gated) if inside else contextlib.nullcontext():
            held = score(gated)
        reliance = whole - held if against is None else against(whole, held, without)
        gain = whole - without if benefit is None else benefit(whole, held, without)
        found.append((scale * reliance, scale * gain))
    return tuple(np.array(found).T)


def properties(x):
    grey, half = x.mean(1), x.shape[2] // 2
    return {
        "brightness": grey.mean((1, 2)),
        "blue": x[:, 2].mean((1, 2)) - x[:, :2].mean((1, 2, 3)),
        "contrast": grey.flatten(1).std(1),
        "top": grey[:, :half].mean((1, 2)) - grey[:, half:].mean((1, 2)),
    }


def cause(gate, x, size=abs, enough=0.3):
    height, width = x.shape[2:]
    top = torch.ones(height, 1).to(x)
    top[height // 2 :] = -1
    edits = {
        "brightness": torch.ones(1).to(x),
        "blue": torch.tensor([-1, -1, 2]).to(x).view(3, 1, 1) / 3,
        "contrast": (-1.0) ** (torch.arange(height)[:, None] + torch.arange(width)).to(x),
        "top": top,
    }
    before, known, effect = gate(x), properties(x), {}
    for name, pattern in edits.items():
        changed = x + 0.02 * pattern
        step = (properties(changed)[name] - known[name]).abs().mean()
        effect[name] = abs(size(gate(changed) - before).mean()) / step * known[name].std()
    best = max(effect, key=effect.get)
    return best if effect[best] > enough * before.std() else None


def correlated(gate, x):
    """The property that correlates most with the gate, which is the mistake."""
    made = gate(x)
    r = {name: abs(np.corrcoef(made, values)[0, 1]) for name, values in properties(x).items()}
    return max(r, key=r.get)


READING = {"a": False, "b": True, "c": False, "d": True, "e": False}

SOLUTIONS = {
    "shares": shares,
    "geometry": lambda mean: np.corrcoef(mean - mean.mean(0)),
    "borderless": borderless,
    "fold": fold,
    "gradcam": gradcam,
    "faults": gradcam,
    "p_value": p_value,
    "directions": directions,
    "occlusion": occlusion,
    "lopsided": lopsided,
    "reading": READING,
    "matched": matched,
    "two_numbers": two_numbers,
    "cause": cause,
}
STUBS = [
    ("faults", all_but()),
    ("reading", dict.fromkeys(READING, ...)),
    ("two_numbers", lambda *args: (None, None)),
]


@pytest.mark.parametrize(
    "name, attempt",
    [
        ("shares", lambda m, s: torch.from_numpy(shares(m, s))),
        ("shares", lambda m, s: tuple(shares(m, s))),
        ("fold", folded_otherwise),
        ("geometry", lambda mean: torch.corrcoef(torch.from_numpy(mean - mean.mean(0)))),
    ],
)
def test_other_solutions_pass(name, attempt, capsys):
    getattr(check.looking_inside, name)(attempt)
    assert capsys.readouterr().out == f"looking_inside.{name}: passed\n"


MISTAKES = [
    ("shares", lambda m, s: shares(m, s, normalise=False), "divide by their sum"),
    ("shares", root_shares, "only variances add up"),
    ("shares", lambda m, s: shares(m, s, power=1), "square the standard deviations"),
    ("shares", lambda m, s: shares(m, s, ddof=(1, 1)), r"ddof=0\)$"),
    ("shares", lambda m, s: shares(m, s, ddof=(0, 1)), "over the classes$"),
    ("shares", lambda m, s: shares(m, s, ddof=(1, 0)), "over the channels$"),
    ("shares", fixed_with_classes, "holds the second part too"),
    ("shares", classes_overall, "channel by channel"),
    *(
        ("shares", lambda m, s, order=order: shares(m, s)[list(order)], "the order is")
        for order in list(permutations(range(3)))[1:]
    ),
    ("shares", lambda m, s: shares(m, s)[::-1], "this is by image, by class, fixed"),
    ("fold", lambda bn, gate: fold(bn, gate, ["weight"]), "bias has to be scaled too"),
    ("fold", lambda bn, gate: fold(bn, gate, ["bias"]), "weight has to be scaled too"),
    ("fold", lambda bn, gate: copy.deepcopy(bn), "nothing has changed"),
    (
        "fold",
        lambda bn, gate: fold(bn, gate, ["running_mean", "running_var"]),
        "not the running statistics",
    ),
    (
        "fold",
        lambda bn, gate: fold(bn, gate, ["weight", "bias", "running_var"]),
        "running variance is scaled as well",
    ),
    (
        "fold",
        lambda bn, gate: fold(bn, gate, ["weight", "bias", "running_mean"]),
        "running mean is scaled as well",
    ),
    ("fold", lambda bn, gate: fold(bn, gate, ["running_mean"]), "running mean is scaled, and"),
    ("fold", lambda bn, gate: fold(bn, gate, ["weight", "running_mean"]), "not the mean"),
    ("fold", lambda bn, gate: fold(bn, gate, [], variance=1), "variance is multiplied"),
    ("fold", lambda bn, gate: fold(bn, gate, [], variance=-1), "variance is divided, and"),
    ("fold", lambda bn, gate: fold(bn, gate, [], variance=-2), "leaves the bias"),
    ("fold", lambda bn, gate: fold(bn, gate, ["bias"], variance=-2), "eps is added to it"),
    ("fold", lambda bn, gate: fold(bn, gate, copied=False), "was changed: work on a copy"),
    ("fold", fold_and_train, "was put into training mode"),
    ("fold", lambda bn, gate: fold(bn, gate, training=True), "result is in training mode"),
    ("fold", lambda bn, gate: gate, "return a batch norm; got Tensor"),
    ("geometry", np.corrcoef, "fixed pattern is still in it"),
    ("geometry", lambda m: np.corrcoef((m - m.mean(0)).T), "between channels"),
    ("geometry", lambda m: np.cov(m - m.mean(0)), "divide by both standard deviations$"),
    ("geometry", lambda m: np.cov(m - m.mean(0), ddof=0), "this is a covariance"),
    ("geometry", cosine, "this is the cosine"),
    (
        "geometry",
        lambda m: np.corrcoef((m - m.mean(0)) / m.std(0)),
        "brought to equal spread",
    ),
    ("matched", lambda a, b: matched(a, b, sign=1), "with a minus"),
    (
        "matched",
        lambda a, b: np.mean([np.corrcoef(p, q)[0, 1] for p, q in zip(a.T, b.T, strict=True)]),
        "match them first",
    ),
    ("matched", lambda a, b: np.corrcoef(a.T, b.T)[:6, 6:].max(1).mean(), "one to one"),
    ("matched", lambda a, b: np.corrcoef(a.T, b.T)[:6, 6:].max(0).mean(), "one to one"),
    ("matched", greedy, "best pair first"),
    ("matched", lambda a, b: in_turn(np.corrcoef(a.T, b.T)[:6, 6:]), "channel of a after"),
    ("matched", lambda a, b: in_turn(np.corrcoef(b.T, a.T)[:6, 6:]), "channel of b after"),
    ("matched", lambda a, b: by_size(a, b, lambda r: r), "channels were matched by the size"),
    ("matched", lambda a, b: by_size(a, b, abs), "mean of absolute correlations"),
    ("borderless", lambda m: copy.deepcopy(m), "nothing has changed"),
    ("borderless", lambda m: borderless(m, last=1), "only the outermost"),
    ("borderless", lambda m: borderless(m, "replicate"), "own pixels are repeated"),
    ("borderless", lambda m: borderless(m, "reflect"), "reflected"),
    ("borderless", lambda m: borderless(m, copied=False), "work on a copy"),
    ("borderless", without_padding, "the size has to stay"),
    ("borderless", lambda m: torch.zeros(1), "a module is wanted"),
    ("gradcam", partial(gradcam, last=lambda sums: sums), "ReLU is missing"),
    ("gradcam", partial(gradcam, local=True), "averaged over the positions first"),
    ("gradcam", partial(gradcam, over=(0, 2, 3)), "averaged over the batch"),
    ("gradcam", partial(gradcam, positive=True), "alpha may be negative"),
    ("gradcam", partial(gradcam, early=True), "not around each product"),
    ("gradcam", partial(gradcam, softmax=True), "take the logit's"),
    ("gradcam", partial(gradcam, likeliest=True), "use the classes that are given"),
    ("gradcam", partial(gradcam, left=True), "hook is still there"),
    ("gradcam", lambda *a: gradcam(*a) / 4, "this is their mean"),
    ("gradcam", lambda *a: gradcam(*a) * 20, "this is the sum"),
    ("gradcam", lambda *a: gradcam(*a)[:, None], "channel axis is still there"),
    ("faults", all_but("train"), "repaired: evaluation mode. Still wrong"),
    ("faults", all_but("softmax"), "repaired: the logit. Still wrong"),
    ("faults", all_but("over"), "repaired: a weight for each image. Still wrong"),
    ("faults", all_but("early"), "repaired: the order of sum and ReLU. Still wrong"),
    ("faults", all_but("left"), "repaired: the hook. Still wrong"),
    ("faults", partial(gradcam, train=True), "Still wrong: evaluation mode: batch norm"),
    ("faults", partial(gradcam, softmax=True), "Still wrong: the logit: a larger bias"),
    ("faults", partial(gradcam, over=(0, 2, 3)), "Still wrong: a weight for each image: "),
    ("faults", partial(gradcam, early=True), "Still wrong: the order of sum and ReLU"),
    ("faults", partial(gradcam, left=True), "Still wrong: the hook"),
    ("faults", lambda *a: 2 * gradcam(*a), "something else has changed"),
    ("faults", lambda *a: gradcam(*a)[:, None], "a tensor"),
    ("p_value", partial(p_value, plus=0), "counts as one of them"),
    ("p_value", lambda m, o: p_value(m, [[r[0]] * 3 for r in o]), "first seed's orders alone"),
    ("p_value", partial(p_value, compare=np.less), "share of smaller agreements: count"),
    ("p_value", partial(p_value, compare=np.less, plus=0), "without the one found"),
    ("p_value", partial(p_value, rename=lambda m, o: m[o]), "shuffle both"),
    ("p_value", partial(p_value, rename=lambda m, o: m[:, o]), "only the columns"),
    ("directions", lambda m: directions(m, axis=1), "number of directions"),
    ("directions", partial(directions, power=1), "square the singular values"),
    ("directions", lambda m: 1 / directions(m) if len(m.T) == 8 else 1, "upside down"),
    (
        "directions",
        lambda m: np.linalg.matrix_rank(m - m.mean(0)),
        "small ones count for less",
    ),
    (
        "directions",
        lambda m: directions(m + 0) if len(m.T) == 5 else directions(m, axis=1),
        "each class's mean over the channels",
    ),
    ("lopsided", partial(lopsided, half=1), "half of the difference"),
    ("lopsided", lambda p: lopsided(p) * (p.var(1).sum() * 0 + 1) * 4, "half of the difference"),
    ("lopsided", lambda p: lopsided(p, own=False), "each has its own"),
    ("lopsided", lambda p: 1 - lopsided(p) if lopsided(p) > 1e-9 else 0, "symmetric share"),
    (
        "lopsided",
        lambda p: np.mean([lopsided(row[None]) for row in p]),
        "mean of shares",
    ),
    (
        "lopsided",
        lambda p: lopsided(p) * ((p - p.mean(1, keepdims=True)) ** 2).sum() / (p**2).sum(),
        "no part of the shape",
    ),
    ("occlusion", partial(occlusion, fill=lambda x: 0.0), "covered with black"),
    ("occlusion", partial(occlusion, fill=lambda x: x.mean()), "covered with one grey"),
    ("occlusion", partial(occlusion, left=True), "score that is left"),
    ("occlusion", partial(occlusion, sign=-1), "a fall of the score is positive"),
    ("occlusion", partial(occlusion, fresh=False), "a fresh copy"),
    ("occlusion", lambda *a: occlusion(*a).T, "exchanged"),
    ("occlusion", occlusion_in_place, "cover a copy of it"),
    *(
        ("reading", READING | {key: not answer}, f"look at {key} again")
        for key, answer in READING.items()
    ),
    ("reading", {"a": True}, "a dict with the keys"),
    ("two_numbers", partial(two_numbers, scale=1), "times 100"),
    ("two_numbers", partial(two_numbers, inside=False), "inside the with block"),
    ("two_numbers", partial(two_numbers, against=lambda w, h, p: h - w), "sign of the reliance"),
    ("two_numbers", partial(two_numbers, against=lambda w, h, p: p - h), "compares it with itself"),
    ("two_numbers", partial(two_numbers, against=lambda w, h, p: h), "the held accuracy"),
    ("two_numbers", partial(two_numbers, benefit=lambda w, h, p: p - w), "sign of the benefit"),
    ("two_numbers", partial(two_numbers, benefit=lambda w, h, p: h - p), "the two that were"),
    ("two_numbers", lambda *a: two_numbers(*a)[0], "two arrays are wanted"),
    ("cause", correlated, "a correlation cannot tell them apart"),
    ("cause", partial(cause, size=lambda change: change), "before you average"),
    ("cause", partial(cause, enough=0), "may follow something else"),
    ("cause", lambda gate, x: "brightness", "right in 6 worlds"),
    ("cause", lambda gate, x: "left", "return one of"),
]
