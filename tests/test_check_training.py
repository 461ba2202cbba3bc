"""The checks of the exercises on training: solutions pass, mistakes get their message."""

import copy
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy import stats

from attn_lib import check
from attn_lib.check import Failed, _processes


def gradient(logits, labels, smoothing, share=None):
    classes = logits.shape[1]
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    q = np.full_like(p, smoothing / classes if share is None else share)
    q[np.arange(len(labels)), labels] += 1 - smoothing
    if share is not None:
        q[np.arange(len(labels)), labels] -= share
    return (p - q) / len(labels)


def range_test(model, batches, lrs, *, copied=True, clear=True, after=False, rising=True):
    model = copy.deepcopy(model) if copied else model
    optimizer = torch.optim.SGD(model.parameters(), lr=lrs[0])
    losses = []
    for (x, y), lr in zip(batches, lrs, strict=True):
        if rising:
            optimizer.param_groups[0]["lr"] = lr
        if clear:
            optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append((F.cross_entropy(model(x), y) if after else loss).item())
    return losses


def contrast(x, strength, generator, shape=(-1, 1, 1, 1), mean=(1, 2, 3)):
    sizes = [n if s == -1 else s for n, s in zip(x.shape, shape, strict=True)]
    factor = 1 + strength * (2 * torch.rand(sizes, generator=generator, dtype=x.dtype) - 1)
    centre = x.mean(mean, keepdim=True) if mean else 0
    return centre + factor.to(x.device) * (x - centre)


def mixup(x, y, classes, generator, each=True):
    partner = torch.randperm(len(x), generator=generator).to(x.device)
    size = len(x) if each else 1
    weight = torch.rand(size, 1, generator=generator, dtype=x.dtype).to(x.device)
    q = F.one_hot(y, classes).to(x)
    blend = weight[:, :, None, None]
    return blend * x + (1 - blend) * x[partner], weight * q + (1 - weight) * q[partner]


def compare(a, b):
    d = a - b
    return d.mean(), d.std(ddof=1) / len(d) ** 0.5, stats.ttest_rel(a, b).pvalue


def power(effect, n):
    critical = stats.t.ppf(0.975, n - 1)
    return stats.ncf.sf(critical**2, 1, n - 1, n * effect**2)


def seeds_needed(difference, deviation, wanted=0.8):
    n = 2
    while power(difference / deviation, n) < wanted:
        n += 1
    return n


def experiment(accuracy, a, b, seeds, factor=None, spread=None):
    d = np.array([accuracy(a, s) - accuracy(b, s) for s in seeds])
    half = factor or stats.t.ppf(0.975, len(d) - 1)
    half *= spread(d) if spread else d.std(ddof=1) / len(d) ** 0.5
    return d.mean(), d.mean() - half, d.mean() + half


def best_seeds(accuracy, a, b, seeds):
    d = np.array([accuracy(a, s) - accuracy(b, s) for s in seeds])
    half = stats.t.ppf(0.975, len(d) - 1) * d.std(ddof=1) / len(d) ** 0.5
    best = max(accuracy(a, s) for s in seeds) - max(accuracy(b, s) for s in seeds)
    return best, best - half, best + half


def two_groups(accuracy, a, b, seeds):
    first, second = (np.array([accuracy(name, s) for s in seeds]) for name in (a, b))
    error = ((first.var(ddof=1) + second.var(ddof=1)) / len(seeds)) ** 0.5
    mean = first.mean() - second.mean()
    half = stats.t.ppf(0.975, 2 * len(seeds) - 2) * error
    return mean, mean - half, mean + half


def step(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def changed_step(clear=True, move=True, order=False, soft=False, reduction="mean", after=False):
    def attempt(model, optimizer, x, y):
        def loss_of():
            logits = model(x)
            return F.cross_entropy(logits.softmax(1) if soft else logits, y, reduction=reduction)

        loss = loss_of()
        if clear:
            optimizer.zero_grad()
        loss.backward()
        if order:
            optimizer.zero_grad()
        if move:
            optimizer.step()
        return (loss_of() if after else loss).item()

    return attempt


def epoch(model, optimizer, schedule, x, y, batch_size, generator, change=None):
    if change != "eval":
        model.train()
    loss_sum, hits = 0.0, 0
    order = torch.randperm(len(x), generator=generator)
    order = torch.arange(len(x)) if change == "in turn" else order
    batches = order.split(batch_size)
    for batch in batches[:-1] if change == "cut" else batches:
        logits = model(x[batch])
        loss = F.cross_entropy(logits, y[batch])
        if change != "keep":
            optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if change not in ("no schedule", "slow"):
            schedule.step()
        loss_sum += loss.item() * (1 if change == "batches" else len(batch))
        right = (logits.argmax(1) == y[batch]).double()
        hits += (right.mean() if change == "batches" else right.sum()).item()
    if change == "slow":
        schedule.step()
    n = len(batches) if change == "batches" else len(x)
    return loss_sum / n, hits / n


def hits_of(model, x, y, batch_size, mode=False, grad=False, cut=False):
    model.train(mode)
    hits = []
    with torch.set_grad_enabled(grad):
        for xs, ys in zip(x.split(batch_size), y.split(batch_size), strict=True):
            if len(xs) == batch_size or not cut:
                hits.append((model(xs).argmax(1) == ys).double())
    return hits


def accuracy_of(model, x, y, batch_size, **options):
    return torch.cat(hits_of(model, x, y, batch_size, **options)).mean().item()


def one_cycle(n, steps, lr, share=0.3, low=1 / 25, last=1 / 25 / 1e4, top=-1, line=False):
    top += share * steps
    rising = n <= top
    part = n / top if rising else (n - top) / (steps - 1 - top)
    rise = part if line else (1 - np.cos(np.pi * part)) / 2
    return lr * (low + (1 - low) * rise) if rising else lr * (1 + (last - 1) * rise)


def loop(model, split, epochs, lr, batch_size, seed, change=None):
    steps = epochs * -(-len(split.x_train) // batch_size)
    momentum = {"momentum": 0.9, "nesterov": change != "heavy ball"}
    sgd = torch.optim.SGD(model.parameters(), lr=lr, **({} if change == "plain" else momentum))
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        sgd, lr, total_steps=steps, cycle_momentum=change != "still"
    )
    generator, accuracies = torch.Generator().manual_seed(seed), []
    how = change if change in ("no schedule", "slow") else None
    for _ in range(epochs):
        if change == "same order":
            generator.manual_seed(seed)
        x, y = split.x_train, split.y_train
        went = epoch(model, sgd, cycle, x, y, batch_size, generator, how)
        tested = accuracy_of(model, split.x_test, split.y_test, batch_size, mode=change == "mode")
        accuracies.append(went[1] if change == "as they went" else tested)
    return accuracies


def repaired(*left):
    """The loop with four planted faults, of which those in ``left`` are still there."""

    def attempt(model, split, epochs, lr, batch_size, seed):
        optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        generator = torch.Generator().manual_seed(seed)
        order = torch.randperm(len(split.x_train), generator=generator)
        accuracies = []
        for number in range(epochs):
            model.train()
            if number and "order" not in left:
                order = torch.randperm(len(split.x_train), generator=generator)
            for batch in order.split(batch_size):
                if "clear" not in left:
                    optimizer.zero_grad()
                F.cross_entropy(model(split.x_train[batch]), split.y_train[batch]).backward()
                optimizer.step()
            accuracies.append(
                accuracy_of(model, split.x_test, split.y_test, 1000, mode="eval" in left)
            )
        return max(accuracies) if "best" in left else accuracies[-1]

    return attempt


def single_run(single, mean, deviation, runs, spread=None, freedom=-1, sides=2):
    t = abs(single - mean) / (deviation * (spread or (1 + 1 / runs) ** 0.5))
    return sides * stats.t.sf(t, runs + freedom)


READING = {"a": False, "b": True, "c": False, "d": True, "e": True}


def procedure(accuracy, names, trainings, fresh=True):
    """Look at all with few seeds, then test the best with new ones."""
    first = range(4)
    plain = np.array([accuracy("none", s) for s in first])
    gains = {n: np.mean([accuracy(n, s) for s in first] - plain) for n in names}
    best = max(gains, key=gains.get)
    left = (trainings - 6 * len(first)) // 2
    new = range(100, 100 + left) if fresh else [*first, *range(100, 100 + left)]
    d = [accuracy(best, s) - accuracy("none", s) for s in new]
    return best if np.mean(d) > 0 and stats.ttest_1samp(d, 0).pvalue < 0.05 else None


def all_at_once(accuracy, names, trainings, level=0.05, seeds=10, paired=True):
    test = stats.ttest_rel if paired else stats.ttest_ind
    plain = [accuracy("none", s) for s in range(seeds)]
    p = {}
    for name in names:
        a = [accuracy(name, s) for s in range(seeds)]
        p[name] = test(a, plain).pvalue if np.mean(a) > np.mean(plain) else 1
    best = min(p, key=p.get)
    return best if p[best] < level else None


SCRIPT = """
import sys
import torch
import torch.distributed as dist
import torch.nn.functional as F

dist.init_process_group("gloo")
rank, world = dist.get_rank(), dist.get_world_size()
folder = sys.argv[1]
x, y = torch.load(f"{folder}/data.pt")
torch.manual_seed(rank)
model = torch.nn.Linear(6, 3, dtype=torch.float64)
for p in model.parameters():
    dist.broadcast(p.data, src=0)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
seen = 0
for batch in torch.arange(len(x)).split(32):
    mine = batch[rank::world]
    seen += len(mine)
    loss = F.cross_entropy(model(x[mine]), y[mine])
    optimizer.zero_grad()
    loss.backward()
    for p in model.parameters():
        dist.all_reduce(p.grad)
        p.grad /= world
    optimizer.step()
torch.save((model.state_dict(), seen), f"{folder}/{rank}.pt")
dist.destroy_process_group()
"""


def changed(old, new):
    assert old in SCRIPT
    return SCRIPT.replace(old, new)


SOLUTIONS = {
    "step": step,
    "epoch": epoch,
    "test": accuracy_of,
    "one_cycle": one_cycle,
    "loop": loop,
    "faults": repaired(),
    "single_run": single_run,
    "reading": READING,
    "procedure": procedure,
    "gradient": gradient,
    "range_test": range_test,
    "contrast": contrast,
    "mixup": mixup,
    "compare": compare,
    "seeds_needed": seeds_needed,
    "experiment": experiment,
    "two_processes": SCRIPT,
}


def with_mixup(change):
    """Mixup, and then ``change`` of (mixed, q, x, y, generator)."""

    def attempt(x, y, classes, generator):
        mixed, q = mixup(x, y, classes, generator)
        return change(mixed, q, x, F.one_hot(y, classes).to(x), generator)

    return attempt


def in_place(x, strength, generator):
    return x.copy_(contrast(x, strength, generator))


def swapped(x, y, classes, generator):
    state = generator.get_state()
    mixed, _ = mixup(x, y, classes, generator)
    generator.set_state(state)
    partner = torch.randperm(len(x), generator=generator)
    weight = torch.rand(len(x), 1, generator=generator, dtype=x.dtype)
    q = F.one_hot(y, classes).to(x)
    return mixed, (1 - weight) * q + weight * q[partner]


MISTAKES = [
    ("step", changed_step(clear=False), "add up from step to step"),
    ("step", changed_step(move=False), "did not move"),
    ("step", changed_step(order=True), "in this order"),
    ("step", changed_step(soft=True), "wants logits"),
    ("step", changed_step(reduction="sum"), "not the sum"),
    ("step", changed_step(after=True), "loss after the step"),
    ("epoch", partial(epoch, change="eval"), "evaluation mode"),
    ("epoch", partial(epoch, change="in turn"), "in which they are stored"),
    ("epoch", partial(epoch, change="cut"), "last, smaller batch"),
    ("epoch", partial(epoch, change="no schedule"), "not stepped"),
    ("epoch", partial(epoch, change="slow"), "once an epoch"),
    ("epoch", partial(epoch, change="keep"), "zero_grad"),
    ("epoch", partial(epoch, change="batches"), "means of the batches"),
    ("epoch", lambda *a: epoch(*a)[0], "a pair is wanted"),
    ("epoch", lambda *a: epoch(*a)[::-1], "loss first"),
    ("epoch", lambda *a: (epoch(*a)[0], 100 * epoch(*a)[1]), "off by|what an epoch makes"),
    ("epoch", lambda *a: tuple(21 * v for v in epoch(*a)), "divide by the number"),
    ("epoch", lambda *a: epoch(*a[:-1], torch.Generator().manual_seed(0)), "and nothing else"),
    ("test", partial(accuracy_of, mode=True), "running averages"),
    ("test", partial(accuracy_of, grad=True), "no_grad"),
    ("test", partial(accuracy_of, cut=True), "left out"),
    ("test", lambda *a: 100 * accuracy_of(*a), "per cent"),
    ("test", lambda *a: 1 - accuracy_of(*a), "error"),
    ("test", lambda *a: torch.cat(hits_of(*a)).sum(), "number of hits"),
    ("test", lambda *a: np.mean([h.mean() for h in hits_of(*a)]), "mean of the batches"),
    ("one_cycle", partial(one_cycle, line=True), "straight lines"),
    ("one_cycle", partial(one_cycle, low=0), "starts at 0"),
    ("one_cycle", partial(one_cycle, last=1 / 25), "ends where it began"),
    ("one_cycle", partial(one_cycle, last=0), "ends at 0"),
    ("one_cycle", partial(one_cycle, top=0), "a step late"),
    ("one_cycle", partial(one_cycle, share=0.5), "in the middle"),
    ("loop", partial(loop, change="same order"), "same order"),
    ("loop", partial(loop, change="no schedule"), "does not follow"),
    ("loop", partial(loop, change="slow"), "counts batches"),
    ("loop", partial(loop, change="plain"), "without Nesterov"),
    ("loop", partial(loop, change="still"), "stands still"),
    ("loop", partial(loop, change="heavy ball"), "Nesterov"),
    ("loop", partial(loop, change="mode"), "training mode"),
    ("loop", partial(loop, change="as they went"), "training images"),
    ("loop", lambda *a: loop(*a)[-1], "last one alone"),
    ("loop", lambda *a: max(loop(*a)), "best one|last one"),
    ("loop", lambda *a: [100 * v for v in loop(*a)], "per cent"),
    ("faults", repaired("clear"), "Still wrong: gradients set to zero: the steps grow"),
    ("faults", repaired("order"), "Still wrong: a new order"),
    ("faults", repaired("eval"), "Still wrong: a test in evaluation mode"),
    ("faults", repaired("best"), "Still wrong: the last epoch"),
    ("faults", repaired("best", "eval", "order"), "repaired: gradients set to zero. Still"),
    ("faults", lambda model, *a: repaired()(model, *a) + 1, "computes something else"),
    ("single_run", partial(single_run, spread=1), "mean scatters as well"),
    ("single_run", lambda *a: single_run(*a, spread=1 / a[3] ** 0.5), "whole deviation"),
    ("single_run", lambda x, m, s, n: 2 * stats.norm.sf(
        abs(x - m) / s / (1 + 1 / n) ** 0.5), "not the normal"),
    ("single_run", partial(single_run, sides=1), "one-sided"),
    ("single_run", partial(single_run, freedom=0), "runs - 1"),
    ("single_run", lambda *a: 1 - single_run(*a), "1 - p"),
    *(("reading", READING | {key: not READING[key]}, f"look at {key} again") for key in READING),
    ("reading", {"a": True}, "keys a, b, c, d, e"),
    ("procedure", all_at_once, "4 % are allowed. Five comparisons"),
    ("procedure", partial(procedure, fresh=False), "seeds that did not choose it"),
    ("procedure", partial(all_at_once, level=0.01), "are wanted"),
    ("procedure", partial(all_at_once, level=0.01, paired=False), "seed by seed"),
    ("procedure", partial(all_at_once, seeds=11), "66 trainings; 60 are"),
    ("procedure", lambda f, names, n: f("none", 0) and None, "found in 0 %"),
    ("procedure", lambda f, names, n: f("none", 0) and "Z", "one of"),
    ("procedure", lambda f, names, n: f("se", 0), "known are"),
    ("procedure", lambda f, names, n: f("A", -1), "0 or above"),
    ("gradient", lambda a, y, e: gradient(a, y, e) * len(y), "divide by N"),
    ("gradient", lambda a, y, e: -gradient(a, y, e), "sign"),
    ("gradient", lambda a, y, e: gradient(a, y, 0), "not smoothed"),
    ("gradient", lambda a, y, e: gradient(a, y, e, e / (a.shape[1] - 1)), "not over the others"),
    ("gradient", lambda a, y, e: gradient(a, y, e) / a.shape[1], "N K"),
    ("range_test", lambda *a: range_test(*a, copied=False), "train a copy"),
    ("range_test", lambda *a: range_test(*a, clear=False), "add up"),
    ("range_test", lambda *a: range_test(*a, after=True), "after each step"),
    ("range_test", lambda *a: range_test(*a, rising=False), "stayed at the first"),
    ("range_test", lambda m, b, lrs: range_test(m, b, [0.0] * 4), "no step"),
    ("range_test", lambda m, b, lrs: range_test(m, b[:1] * 4, lrs), "first batch"),
    ("contrast", lambda x, s, generator: x.clone(), "nothing is drawn"),
    ("contrast", lambda x, s, generator: contrast(x, s, None), "same generator"),
    ("contrast", in_place, "work on a new tensor"),
    ("contrast", lambda x, s, generator: contrast(x, s, generator).float(), "float32"),
    ("contrast", lambda x, s, generator: contrast(x, s, generator)[:, :1], "shape"),
    ("contrast", lambda x, s, generator: contrast(x, s, generator).numpy(), "should be a tensor"),
    ("contrast", lambda x, s, generator: contrast(x, s, generator, mean=None), "brightness"),
    ("contrast", lambda x, s, generator: contrast(x, s, generator, mean=(0, 1, 2, 3)), "mean of"),
    ("contrast", lambda x, s, generator: contrast(x, s, generator, (1, 1, 1, 1)), "one factor"),
    ("contrast", lambda x, s, generator: contrast(
        x, s, generator, (-1, -1, 1, 1), (2, 3)), "one for each image"),
    ("contrast", lambda x, s, generator: contrast(x, 2 * s, generator), "stay between 0.60"),
    ("contrast", lambda x, s, generator: contrast(x, s / 2, generator), "run only from"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: m), "a pair is wanted"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (m, q.argmax(1))), "are a distribution"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (m, hot)), "the labels are not"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (m, 2 * q)), "does not add up to 1"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (m, q.roll(1, 0))), "other partners"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (m, q.float())), "float32"),
    ("mixup", swapped, "swapped"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (2 * m, q)), "add up to 1: lambda"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (m.float(), q)), "float32"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (x.clone(), hot)), "nothing is drawn"),
    ("mixup", partial(mixup, each=False), "one weight"),
    ("mixup", with_mixup(lambda m, q, x, hot, g: (0.9 * x + 0.1 * m, 0.9 * hot + 0.1 * q)),
     "run only from"),
    ("compare", lambda a, b: compare(b, a), "a - b"),
    ("compare", lambda a, b: (
        (a - b).mean(), ((a.var(ddof=1) + b.var(ddof=1)) / len(a)) ** 0.5,
        stats.ttest_ind(a, b).pvalue), "independent"),
    ("compare", lambda a, b: (*compare(a, b)[:2], stats.ttest_ind(a, b).pvalue), "unpaired"),
    ("compare", lambda a, b: (
        compare(a, b)[0], (a - b).std(ddof=1), compare(a, b)[2]), r"sqrt\(n\)"),
    ("compare", lambda a, b: (
        compare(a, b)[0], (a - b).std() / len(a) ** 0.5, compare(a, b)[2]), "ddof=1"),
    ("compare", lambda a, b: (*compare(a, b)[:2], compare(a, b)[2] / 2), "one-sided"),
    ("compare", lambda a, b: (
        *compare(a, b)[:2], 2 * stats.norm.sf(compare(a, b)[0] / compare(a, b)[1])), "Student"),
    ("seeds_needed", lambda d, s: seeds_needed(d, s) - 1, "one more"),
    ("seeds_needed", lambda d, s: int(
        np.ceil(((stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) * s / d) ** 2)), "normal"),
    ("seeds_needed", lambda d, s: seeds_needed(d, s * 2**0.5), "independent groups"),
    ("seeds_needed", partial(seeds_needed, wanted=0.9), "power of 0.9"),
    ("seeds_needed", lambda d, s: seeds_needed(d, s * s), "not squared"),
    ("experiment", lambda f, a, b, seeds: experiment(f, b, a, seeds), "a - b"),
    ("experiment", lambda f, a, b, seeds: experiment(f, a, b, range(5)), r"seeds \[0, 1, 2, 4\]"),
    ("experiment", lambda f, a, b, seeds: experiment(f, a, b, seeds[:3]), "every seed given"),
    ("experiment", best_seeds, "was called 2 times"),
    ("experiment", two_groups, "independent groups"),
    ("experiment", lambda *a: experiment(*a, factor=stats.norm.ppf(0.975)), "1.96"),
    ("experiment", lambda *a: experiment(*a, factor=1), "63 %"),
    ("experiment", lambda *a: experiment(*a, factor=stats.t.ppf(0.95, 4)), "leaves 2.5 %"),
    ("experiment", lambda *a: experiment(*a, spread=lambda d: d.std(ddof=1)), "single seed"),
    ("two_processes", changed("dist.broadcast(p.data, src=0)", "pass"), "its own initial weights"),
    ("two_processes", changed("dist.all_reduce(p.grad)", "pass"), "end with different weights"),
    ("two_processes", changed("p.grad /= world", "pass"), "summed"),
    ("two_processes", changed("batch[rank::world]", "batch[:16]"), "first half"),
    ("two_processes", changed("batch[rank::world]", "batch"), r"worked on \[128, 128\] of 128"),
    ("two_processes", changed("optimizer.step()", "1 / rank"), "process 0 failed: .*ZeroDivision"),
    ("two_processes", changed("torch.save(", "print("), "left no file 0.pt"),
    ("two_processes", changed("(model.state_dict(), seen)", "model.state_dict()"), "should hold"),
    ("two_processes", changed("(model.state_dict(), seen)", "(model, seen)"), "should hold"),
    ("two_processes", lambda: None, "text of a script is wanted; got function"),
]  # fmt: skip


def test_losses_may_be_tensors(capsys):
    def attempt(model, batches, lrs):
        return [torch.tensor(loss, requires_grad=True) for loss in range_test(model, batches, lrs)]

    check.training.range_test(attempt)
    assert capsys.readouterr().out == "training.range_test: passed\n"


@pytest.mark.parametrize("stub", [None, changed("p.grad /= world", "...")])
def test_a_script_with_a_place_to_fill_is_not_an_attempt(stub, capsys):
    check.training.two_processes(stub)
    assert capsys.readouterr().out == "training.two_processes: not attempted yet\n"


@pytest.mark.slow
def test_a_process_that_waits_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr(_processes, "_PATIENCE", 8)
    waits = changed("dist.all_reduce(p.grad)", "rank or dist.all_reduce(p.grad)")
    waits = waits.replace("dist.destroy_process_group()", "import time; time.sleep(30)")
    with pytest.raises(Failed, match="did not end within 8 s"):
        check.training.two_processes(waits)


@pytest.mark.slow
def test_distributed_data_parallel_is_a_solution_too(capsys):
    script = changed("optimizer.zero_grad()", "model.zero_grad()")
    script = script.replace(
        "    dist.broadcast(p.data, src=0)\n",
        "    pass\nparallel = torch.nn.parallel.DistributedDataParallel(model)\n",
    )
    script = script.replace("F.cross_entropy(model(", "F.cross_entropy(parallel(")
    script = script.replace("dist.all_reduce(p.grad)\n        p.grad /= world", "pass")
    check.training.two_processes(script)
    assert capsys.readouterr().out == "training.two_processes: passed\n"
