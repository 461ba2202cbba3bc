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


def test_a_process_that_waits_for_ever_is_ended(monkeypatch):
    monkeypatch.setattr(_processes, "_PATIENCE", 8)
    waits = changed("dist.all_reduce(p.grad)", "rank or dist.all_reduce(p.grad)")
    waits = waits.replace("dist.destroy_process_group()", "import time; time.sleep(30)")
    with pytest.raises(Failed, match="did not end within 8 s"):
        check.training.two_processes(waits)


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
