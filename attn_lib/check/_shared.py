"""What exercises of several chapters ask alike.

Random arrays and layers, planted faults, statements on a table, a comparison with the plain
network, a module under a budget of parameters. Like everything behind a check, each function here
raises :class:`Failed` with a message for the learner.
"""

import numpy as np
import torch
from torch import nn

from attn_lib import data
from attn_lib.check._core import Failed, _NotAttempted, call, expect
from attn_lib.train import evaluate, fit, over_seeds


def is_module(made):
    """``made``, which has to be a module."""
    if not isinstance(made, nn.Module):
        raise Failed(f"a module is wanted; got {type(made).__name__}")
    return made


def output(made, x):
    """made(x), which has to have the shape of x; a forward that is not written ends the check."""
    y = call(made, x)
    if y.shape != x.shape:
        raise Failed(f"the output has shape {tuple(y.shape)}; x has {tuple(x.shape)}")
    return y


def drawn(*shape, seed=0, dtype=torch.float64):
    """Normal numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def randomised(layer, seed=0):
    """The layer in float64 and evaluation, with weights and running averages that hide nothing."""
    generator = torch.Generator().manual_seed(seed)
    layer = layer.double().eval()
    with torch.no_grad():
        for name, tensor in [*layer.named_parameters(), *layer.named_buffers()]:
            if tensor.is_floating_point():
                values = torch.randn(tensor.shape, generator=generator, dtype=tensor.dtype) / 2
                tensor.copy_(values.abs() + 0.5 if name.endswith("running_var") else values)
    return layer


def report(faults, left):
    """Say which planted faults are repaired, and how those in ``left`` show, if there are any.

    ``faults``: key -> (its name, how it shows); ``left``: keys.
    """
    left = [fault for fault in faults if fault in left]
    if len(left) == len(faults):
        raise _NotAttempted
    if left:
        repaired = ", ".join(name for fault, (name, _) in faults.items() if fault not in left)
        still = "; ".join(": ".join(faults[fault]) for fault in left)
        raise Failed(f"repaired: {repaired}. Still wrong: {still}")


def statements(attempt, answers):
    """Compare a dict, ``"a"`` … -> True or False, with ``answers``, name -> (answer, reason)."""
    if not isinstance(attempt, dict) or sorted(attempt) != sorted(answers):
        raise Failed(f"a dict with the keys {', '.join(answers)} is wanted")
    if any(value is None or value is ... for value in attempt.values()):
        raise _NotAttempted
    for key, (answer, reason) in answers.items():
        if bool(attempt[key]) is not answer:
            raise Failed(f"look at {key} again: {reason}")


def answered(claims, keys):
    """The claims of an assignment that are answered.

    Parameters
    ----------
    claims : dict
        Key -> True or False; any other value is no answer.
    keys : str
        The keys that it has to have, a letter each.

    Returns
    -------
    dict : key -> bool.

    Raises
    ------
    Failed : if the keys are others, or no claim is answered.
    """
    if not isinstance(claims, dict) or set(claims) != set(keys):
        got = list(claims) if isinstance(claims, dict) else type(claims).__name__
        raise Failed(f"a dict with the keys {', '.join(keys)} is wanted; got {got}")
    found = {key: bool(claims[key]) for key in keys if isinstance(claims[key], (bool, np.bool_))}
    if not found:
        raise Failed("no statement is answered with True or False yet")
    return found


def score(answered, right):
    """Points for an assignment's claims: right answers less wrong ones, at least 0.

    Parameters
    ----------
    answered : dict
        What :func:`answered` returned, key -> bool.
    right : dict
        Key -> bool, of all claims.

    Returns
    -------
    int : one point an answer; who guesses a single claim is right as often as wrong.
    """
    return max(0, sum(1 if value == right[key] else -1 for key, value in answered.items()))


# ---- a comparison with the plain network


def toy_split(half=60, channels=2):
    """A little data to compare networks on: four classes by the signs of two channels' means."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2 * half, channels, 4, 4, generator=generator, dtype=torch.float64)
    y = (x.mean((2, 3))[:, :2] > 0).long() @ torch.tensor([1, 2])
    return data.Split(x[:half], y[:half], x[half:], y[half:])


def toy_network(gate, channels=2):
    """Function that makes a gate, which ``gate`` makes, and a linear layer for that data."""
    return lambda: nn.Sequential(gate(), nn.Flatten(), nn.Linear(16 * channels, 4))


def differences(got, make_plain, make_gated, split, seeds, what="the differences", **options):
    """Compare ``got`` with the accuracies gated - plain in points, one for each seed."""
    plain, gated = (over_seeds(make, split, seeds, **options) for make in (make_plain, make_gated))
    usual = range(len(seeds))
    others = over_seeds(make_gated, split, usual, **options) - over_seeds(
        make_plain, split, usual, **options
    )
    expect(
        got,
        100 * (gated - plain),
        what,
        {
            "this is plain minus gated: a gate that helps has a positive difference": 100
            * (plain - gated),
            "these are shares: times 100 makes them points": gated - plain,
            "this is their mean: return one difference a seed": 100 * (gated - plain).mean(),
            "these are the accuracies with the gate: subtract those without": 100 * gated,
            "the two are not paired: both need the same seeds in the same order": 100
            * (gated - plain[::-1]),
            "the mean without the gate is subtracted: subtract seed by seed": 100
            * (gated - plain.mean()),
            "these are the seeds from 0 on: use the seeds that are given": 100 * others,
        },
    )


def differences_by_name(got, makers, split, seeds, **options):
    """:func:`differences` for every name in a dict but the first, which is the plain network."""
    plain, *names = makers
    if not isinstance(got, dict):
        raise Failed(f"a dict is wanted, name -> differences; got {type(got).__name__}")
    if plain in got:
        raise Failed(f"leave {plain!r} out: it is what the others are compared with")
    if set(got) != set(names):
        raise Failed(f"the names should be {' and '.join(names)}; got {', '.join(map(str, got))}")
    if any(value is None or value is ... for value in got.values()):
        raise _NotAttempted
    for name in names:
        what = f"the differences of {name}"
        differences(got[name], makers[plain], makers[name], split, seeds, what, **options)


# ---- a module under a budget


def within(budget, made, x):
    """(parameters of the module ``made``, made(x)); at most ``budget`` are allowed."""
    size = sum(p.numel() for p in is_module(made).parameters())
    if size > budget:
        raise Failed(f"it has {size} parameters; at most {budget} are allowed")
    return size, output(made.eval(), x)


def one_image_alone(made, x, y):
    """The output y = made(x) of an image must not depend on the others."""
    if not torch.allclose(made(x[:1]), y[:1], atol=1e-5):
        raise Failed("an image's output changes with the other images of its batch")


def one_number(gate, axes, what):
    """``gate`` must be the same along ``axes``."""
    if not torch.allclose(gate, gate.amax(axes, keepdim=True).expand_as(gate), atol=1e-4):
        raise Failed(what)


def three_of_four(make, split_of, seeds, enough, size, hint, **options):
    """Train ``make()`` on ``split_of(seed)`` for four seeds; three have to reach ``enough``.

    ``hint``: accuracies -> what to look at, for who does not get there.
    """
    accuracies = []
    for seed in seeds:
        split = split_of(seed)
        torch.manual_seed(seed)
        network = make().double()
        fit(network, split, seed=seed, **options)
        accuracies.append(evaluate(network, split.x_test, split.y_test))
    shown = ", ".join(f"{a:.2f}" for a in accuracies)
    print(f"{size} parameters; unseen data and seeds: {shown}")
    solved = sum(a >= enough for a in accuracies)
    if solved < 3:
        raise Failed(
            f"{solved} of 4 trainings reach {enough}, three are wanted; they got {shown}. "
            f"{hint(accuracies)}"
        )
