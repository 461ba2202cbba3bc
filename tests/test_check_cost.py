"""Solutions of the exercises on cost, and the mistakes that their checks know."""

import numpy as np
import torch
from scipy.optimize import least_squares
from torch import nn
from torch.nn import functional as F

from attn_lib import check
from attn_lib.check.cost import _PLAIN, _explanations
from attn_lib.cost import saved_bytes


def convolution(c_in, c_out, k, h, w, groups):
    return c_out * h * w * k * k * (c_in // groups)


# ---- bytes kept


def kept(module, x, *, own_too=False, views=False, size=lambda t: t.untyped_storage().nbytes()):
    own = [*module.parameters(), *module.buffers()]
    own = set() if own_too else {t.untyped_storage().data_ptr() for t in own}
    found = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: found.append(t) or t, lambda t: t):
        module(x)
    if not views:
        found = list({t.untyped_storage().data_ptr(): t for t in found}.values())
    return sum(size(t) for t in found if t.untyped_storage().data_ptr() not in own)


def kept_with(**options):
    return lambda module, x: kept(module, x, **options)


# ---- tables


def explanations(candidates, parameters, flops):
    return _explanations(candidates, parameters, flops)


def explain_with(**options):
    return lambda *args: _explanations(*args, **options)


def prints(value, printed):
    return f"{value:.{len(printed.partition('.')[2])}f}" == printed


# ---- times


def order(names, rounds):
    return [*names, *reversed(names)] * (rounds // 2)


def added(plain, gated):
    return tuple(np.percentile(100 * (gated / plain - 1), [50, 25, 75]))


# ---- layers


def saved(n, c, h, w, hidden, width):
    return width * (n * c * h * w + 2 * n * c + n * hidden)


def weights_share(channels, side, images, reduction, passes=3, bias=1):
    hidden = channels // reduction
    weights = 2 * channels * hidden + bias * (channels + hidden)
    return weights / (passes * images * channels * side**2 + weights)


# ---- a counter


def counter(model, x, *, faults=(), kinds=(nn.Conv2d, nn.Linear), leave=False, each=1, bias=False):
    counts, total = {}, 0

    def hook(module, inputs, output):
        nonlocal total
        if not isinstance(module, kinds):
            return
        taps = module.weight[0].numel()
        if isinstance(module, nn.Conv2d):
            if "groups" in faults:
                taps *= module.groups
            if "kernel" in faults:
                taps = module.weight.shape[1] * module.kernel_size[0] ** 2
        found = output.numel() * taps + bias * output.numel()
        if "linear" in faults and isinstance(module, nn.Linear):
            found = module.weight.numel()
        if "weights" in faults:
            found = module.weight.numel()
        counts[module] = each * found
        total += each * found

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    with torch.no_grad():
        model(x)
    for handle in handles if not leave else []:
        handle.remove()
    return sum(counts.values()) if "again" in faults else total


def count_with(*faults, **options):
    return lambda model, x: counter(model, x, faults=faults, **options)


def colleague(model, x):
    """As the page prints it."""
    counts = {}

    def hook(module, inputs, output):
        if isinstance(module, nn.Conv2d):
            k = module.kernel_size[0]
            counts[module] = output.numel() * module.in_channels * k**2
        elif isinstance(module, nn.Linear):
            counts[module] = module.in_features * module.out_features

    handles = [module.register_forward_hook(hook) for module in model.modules()]
    with torch.no_grad():
        model(x)
    for handle in handles:
        handle.remove()
    return sum(counts.values())


# ---- plans, steps and forecasts


def plan():
    return {3: ("eca", {}), 4: ("cbam", {"reduction": 128})}


def training_step(model, x, labels, *, mode=True, clear=True, backward=True, reduction="mean"):
    def step():
        model.train(mode)
        if clear:
            model.zero_grad()
        loss = F.cross_entropy(model(x), labels, reduction=reduction)
        if backward:
            loss.backward()

    return step


def step_with(**options):
    return lambda *args: training_step(*args, **options)


def already(model, x, labels):
    step = training_step(model, x, labels)
    step()
    return step


def with_optimizer(model, x, labels):
    step = training_step(model, x, labels)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    return lambda: (step(), optimizer.step())


def no_grad(model, x, labels):
    def step():
        with torch.no_grad():
            model.train()(x)

    return step


def called(model, x, labels):
    model.train()
    return F.cross_entropy(model(x), labels)


def forecast(known, seconds, new):
    def log_time(p, work):
        n, m, k = work.T
        return np.log(k * np.exp(p[2]) + np.maximum(n / np.exp(p[0]), m / np.exp(p[1])))

    n, m, k = known.T
    tightest = np.log([(n / seconds).max(), (m / seconds).max(), (seconds / k).min()])
    fits = [
        least_squares(lambda p: log_time(p, known) - np.log(seconds), tightest + [a, b, c])
        for a in (0, 1)
        for b in (0, 1)
        for c in (0, -1)
    ]
    return np.exp(log_time(min(fits, key=lambda fit: fit.cost).x, new))


def by_column(i):
    def predict(known, seconds, new):
        return new[:, i] * np.median(seconds / known[:, i])

    return predict


def linear(known, seconds, new):
    return new @ np.linalg.lstsq(known, seconds, rcond=None)[0]


def linear_relative(known, seconds, new):
    weights = 1 / seconds[:, None]
    return np.abs(new @ np.linalg.lstsq(known * weights, np.ones(24), rcond=None)[0])


SOLUTIONS = {
    "convolution": convolution,
    "kept": kept,
    "explanations": explanations,
    "order": order,
    "added": added,
    "saved_by_se": saved,
    "counter": counter,
    "reading": {"a": False, "b": False, "c": True, "d": False, "e": True},
    "weights_share": weights_share,
    "plan": plan,
    "training_step": training_step,
    "forecast": forecast,
}
READING = SOLUTIONS["reading"]
STUBS = [
    ("reading", dict.fromkeys("abcde", ...)),
    ("counter", colleague),
    ("explanations", lambda *args: None),
]


def bare(*names):
    return lambda: {i: (name, {}) for i, name in zip(range(5 - len(names), 5), names, strict=True)}


MISTAKES = [
    ("convolution", lambda a, b, k, h, w, g: b * k * k * a // g, "at every output position"),
    ("convolution", lambda a, b, k, h, w, g: a * b * k * k * h * w, "groups are missing"),
    ("convolution", lambda a, b, k, h, w, g: a * b * k * k * h * w // g**2, "divide once"),
    ("convolution", lambda a, b, k, h, w, g: a * b * k * h * w // g, "k x k taps"),
    ("convolution", lambda *a: 2 * convolution(*a), "a multiply-add counts one"),
    ("convolution", lambda *a: convolution(*a) + 1, "off by"),
    ("kept", kept_with(views=True, size=lambda t: t.nbytes), "storage counts once"),
    ("kept", kept_with(own_too=True), "parameters and buffers"),
    ("kept", kept_with(own_too=True, views=True, size=lambda t: t.nbytes), "everything"),
    ("kept", lambda m, x: saved_bytes(m, x) // 4, "counts numbers"),
    ("kept", lambda m, x: m(x).nbytes, "output alone"),
    ("kept", lambda m, x: 2 * saved_bytes(m, x), "off by"),
    ("explanations", explain_with(both=any), "not one of them"),
    ("explanations", explain_with(both=lambda two: two[0]), "FLOPs have to be"),
    ("explanations", explain_with(both=lambda two: two[1]), "parameters have to be"),
    ("explanations", explain_with(systems=((10, 10**6, 10**9),)), "2\\^20 and 2\\^30 are missing"),
    (
        "explanations",
        explain_with(systems=((10, 10**6, 10**9), (2, 2**20, 10**9))),
        "table has one system",
    ),
    ("explanations", lambda *a: explanations(*a)[:1], "return all of them"),
    ("explanations", explain_with(prints=lambda v, p: abs(v - float(p)) < 0.05), "near miss"),
    ("explanations", explain_with(prints=lambda v, p: round(v, 2) == float(p)), "decimals"),
    ("explanations", lambda *a: tuple(explanations(*a)), "return a list"),
    ("explanations", lambda *a: [], "the explanations are"),
    ("order", lambda names, rounds: names * rounds, "same order in every round"),
    ("order", lambda names, rounds: sorted(names * rounds, key=names.index), "in one go"),
    ("order", lambda names, rounds: names, "each name comes"),
    ("order", lambda names, rounds: names[:1] * rounds, "nothing else"),
    ("order", lambda names, rounds: [*order(names, rounds)[1:], names[0]], "once in every round"),
    (
        "order",
        lambda names, rounds: [*names, *names, *order(names, rounds)[2 * len(names) :]],
        "same order|mean positions",
    ),
    ("order", lambda names, rounds: rounds, "list of names"),
    ("added", lambda p, g: np.percentile(g / p - 1, [50, 25, 75]), "per cent are wanted"),
    ("added", lambda p, g: np.percentile(100 * (1 - p / g), [50, 25, 75]), "divide by it"),
    ("added", lambda p, g: np.percentile(100 * g / p, [50, 25, 75]), "1 is missing"),
    ("added", lambda p, g: np.percentile(g - p, [50, 25, 75]), "seconds"),
    ("added", lambda p, g: np.percentile(100 * (g / p - 1), [25, 50, 75]), "order is"),
    ("added", lambda p, g: np.percentile(100 * (g / p - 1), [50, 0, 100]), "smallest"),
    ("added", lambda p, g: np.percentile(100 * (g / p - 1), [50]), "three numbers"),
    (
        "added",
        lambda p, g: 100 * (np.percentile(g, [50, 25, 75]) / np.percentile(p, [50, 25, 75]) - 1),
        "round by round",
    ),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, 1), "width bytes"),
    ("saved_by_se", lambda n, c, h, w, d, b: b * (2 * n * c + n * d), "x is missing"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, b) + b * n * c * h * w, "y is"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, b) - b * n * c, "z is missing"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, 0, b), "bottleneck is missing"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, 2 * d, b), "before and after"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(1, c, h, w, d, b), "one image"),
    ("saved_by_se", lambda n, c, h, w, d, b: saved(n, c, h, w, d, 4), "float64|off by"),
    ("counter", count_with("groups"), "Still wrong: groups: a depthwise"),
    ("counter", count_with("kernel"), "Still wrong: the sides of a kernel"),
    ("counter", count_with("again"), "Still wrong: modules that are called again"),
    ("counter", count_with("linear"), "Still wrong: linear layers"),
    ("counter", count_with("groups", "again"), "repaired: the sides.*two calls"),
    ("counter", count_with("weights"), "number of weights"),
    ("counter", count_with(each=2), "a multiply-add counts one"),
    ("counter", count_with(bias=True), "biases"),
    ("counter", count_with(kinds=(nn.Linear,)), "convolutions are missing"),
    ("counter", count_with(kinds=(nn.Conv2d,)), "linear layers are missing"),
    ("counter", count_with(leave=True), "hooks are still there"),
    *(("reading", READING | {k: not READING[k]}, f"look at {k} again") for k in "abcde"),
    ("reading", {"a": True}, "keys a, b"),
    ("weights_share", lambda *a: 1 - weights_share(*a), "share of the feature map"),
    ("weights_share", lambda *a: weights_share(*a, passes=1), "three passes"),
    ("weights_share", lambda *a: 100 * weights_share(*a), "per cent"),
    ("weights_share", lambda *a: weights_share(*a, bias=0), "biases are missing"),
    ("weights_share", lambda c, s, n, r: weights_share(c, s, 1, r), "grow with the images"),
    ("weights_share", lambda *a: (lambda s: s / (1 - s))(weights_share(*a)), "below the line"),
    ("plan", bare("cbam"), "3 blocks have a gate"),
    ("plan", bare("eca", "eca"), "tell places apart"),
    ("plan", bare("se", "cbam"), "more parameters; 1%"),
    ("plan", lambda: {2: ("cbam", {"reduction": 256}), 3: ("eca", {})}, "more bytes kept; 9%"),
    ("plan", lambda: {5: ("eca", {})}, "stages are 1, 2, 3 and 4"),
    ("plan", bare("eka", "cbam"), "stage 3: unknown"),
    ("plan", lambda: {3: "eca"}, "a dict is wanted"),
    ("training_step", already, "already runs the model"),
    ("training_step", called, "return the function itself"),
    ("training_step", step_with(mode=False), "evaluation mode"),
    ("training_step", step_with(clear=False), "pile up"),
    ("training_step", step_with(backward=False), "is backward"),
    ("training_step", step_with(reduction="sum"), "not the sum"),
    ("training_step", with_optimizer, "leave the optimizer out"),
    ("training_step", no_grad, "switched off"),
    ("forecast", by_column(0), "of 30 machines"),
    ("forecast", by_column(1), "of 30 machines"),
    ("forecast", by_column(2), "of 30 machines"),
    ("forecast", linear, "of 30 machines"),
    ("forecast", linear_relative, "of 30 machines"),
    ("forecast", lambda known, seconds, new: seconds, "12 times"),
    ("forecast", lambda known, seconds, new: np.full(12, np.nan), "not finite"),
]


def test_the_budget_of_the_plan_is_that_of_resnet_50():
    from attn_lib import models

    with torch.device("meta"):
        model, x = models.resnet(50), torch.empty(32, 3, 224, 224)
    assert _PLAIN == (sum(p.numel() for p in model.parameters()), saved_bytes(model, x))


def test_another_plan_passes(capsys):
    check.cost.plan(lambda: {3: ("coordinate", {"reduction": 128}), 4: ("eca", {})})
    assert capsys.readouterr().out.startswith("0.6")
