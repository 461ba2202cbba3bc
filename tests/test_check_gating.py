"""The checks of the exercises on feature maps and gates: solutions pass, mistakes are named."""

import numpy as np
import pytest

from attn_lib import check
from attn_lib.check import Failed
from attn_lib.reference import ops


def sigmoid(a):
    return ops.sigmoid(a)[0]


def field(layers, start=1, taps=1, stride=True, dilation=True, own=False):
    size, step = start, 1
    for k, by, apart in layers:
        by = by if stride else 1
        size += (k - taps) * (apart if dilation else 1) * step * (by if own else 1)
        step *= by
    return size


def gate(x, weight, bias, pool=np.mean, link=sigmoid):
    s = link(pool(x, axis=(2, 3)) @ weight.T + bias)[:, :, None, None]
    return s, s * x


def softmax(a, axis=1):
    e = np.exp(a - a.max(axis=axis, keepdims=True))
    return e / e.sum(axis=axis, keepdims=True)


def repaired(x, weight, bias, axes=(2, 3), turn=True, sign=1, resize=False):
    z = x.mean(axis=axes) * np.ones((len(x), 1))
    s = sigmoid(sign * (z @ (weight.T if turn else weight) + bias))
    return x * (np.resize(s, x.shape) if resize else s[:, :, None, None])


def tells(x, axis=3, scale=True, sign=1, threshold=0.5):
    ratio = (np.diff(x, axis=axis) ** 2).mean((2, 3), keepdims=True) / 2
    if scale:
        ratio = ratio / x.var((2, 3), keepdims=True)
    return sigmoid(20 * sign * (threshold - ratio))


def abilities(**changes):
    answers = {
        "close a channel everywhere": {"SE", "ECA", "CBAM", "CA"},
        "treat two places of a channel differently": {"CBAM", "BAM", "CA"},
        "prefer channel 0 here and channel 1 there": {"BAM", "CA"},
        "enlarge a number": {"BAM"},
    }
    for name, change in changes.items():
        key = next(key for key in answers if key.startswith(name))
        answers[key] = change
    return lambda: answers


NO_EXERCISES = {"shuffled_channels"}
SOLUTIONS = {
    "attention": lambda q, k, v: softmax(q @ k.T / np.sqrt(q.shape[1])) @ v,
    "broadcast": lambda x, s: x * s[:, :, :, None],
    "can_do": abilities(),
    "gate": gate,
    "pools": lambda x: (x.mean((2, 3)), x.mean(1), x.mean(3)),
    "receptive_field": field,
    "repaired": repaired,
    "tells_shuffled": tells,
}

MISTAKES = [
    ("pools", lambda x: (x.mean(1), x.mean(1), x.mean(3)), "mean over the channels"),
    ("pools", lambda x: (x.mean((0, 2, 3)), x.mean(1), x.mean(3)), "batch was averaged"),
    ("pools", lambda x: (x.sum((2, 3)), x.mean(1), x.mean(3)), "divide by their number"),
    ("pools", lambda x: (x.mean((2, 3)), x.mean((2, 3)), x.mean(3)), "mean over the places"),
    ("pools", lambda x: (x.mean((2, 3)), x.mean(1), x.mean(2)), "to keep the rows"),
    ("pools", lambda x: x.mean(1), "three arrays"),
    ("broadcast", lambda x, s: x * s, "align from the right"),
    ("broadcast", lambda x, s: x * s[:, :, None, :], "gates the columns"),
    ("broadcast", lambda x, s: x * s.mean(1)[:, None, :, None], "averaged over the channels"),
    ("broadcast", lambda x, s: x * s[:, None], "axis 1 of s is C"),
    ("broadcast", lambda x, s: x + s[:, :, :, None], "a gate multiplies"),
    ("receptive_field", lambda layers: field(layers, stride=False), "strides are forgotten"),
    ("receptive_field", lambda layers: field(layers, dilation=False), "dilation is forgotten"),
    ("receptive_field", lambda layers: field(layers, taps=0), "k - 1 steps"),
    ("receptive_field", lambda layers: field(layers, own=True), "own stride"),
    ("receptive_field", lambda layers: field(layers, start=0), "start from 1"),
    ("gate", lambda x, w, b: gate(x, w, b, link=lambda a: a), "sigmoid is missing"),
    ("gate", lambda x, w, b: gate(x, w.T, b), "wrong way round"),
    ("gate", lambda x, w, b: gate(x, w, 0 * b), "bias is missing"),
    ("gate", lambda x, w, b: gate(x, w, b, link=softmax), "softmax"),
    ("gate", lambda x, w, b: gate(x, w, b, pool=np.max), "maximum of each channel"),
    ("gate", lambda x, w, b: (gate(x, w, b)[0][:, :, 0, 0], x), "two axes of length one"),
    ("gate", lambda x, w, b: (gate(x, w, b)[0], gate(x, w, b)[0] + x), "a gate multiplies"),
    ("gate", lambda x, w, b: gate(x, w, b)[1], "two arrays"),
    ("attention", lambda q, k, v: softmax(q @ k.T) @ v, "are not divided"),
    ("attention", lambda q, k, v: softmax(q @ k.T / 4) @ v, "not by its square root"),
    ("attention", lambda q, k, v: softmax(q @ k.T / 2, 0) @ v, "over the queries"),
    ("attention", lambda q, k, v: q @ k.T / 2 @ v, "softmax is missing"),
    ("attention", lambda q, k, v: sigmoid(q @ k.T / 2) @ v, "sigmoid of each"),
    ("attention", lambda q, k, v: softmax(q @ k.T / 2), "those are the weights"),
    ("attention", lambda q, k, v: softmax(q @ k.T / 2, (0, 1)) @ v, "all scores at once"),
    (
        "attention",
        lambda q, k, v: np.exp(q @ k.T / 2) / np.exp(q @ k.T / 2).sum(1, keepdims=True) @ v,
        "overflows",
    ),
    ("can_do", abilities(close={"SE", "ECA", "CBAM", "BAM", "CA"}), "never below 1"),
    ("can_do", abilities(close={"SE", "CBAM", "CA"}), "ECA can"),
    ("can_do", abilities(treat={"SE", "CBAM", "BAM", "CA"}), "SE cannot"),
    ("can_do", abilities(treat={"CBAM", "BAM"}), "row or in their column"),
    ("can_do", abilities(prefer={"CBAM", "BAM", "CA"}), "s_0 / s_1"),
    ("can_do", abilities(prefer={"BAM"}), "of its own"),
    ("can_do", abilities(enlarge=set()), "between 1 and 2"),
    ("can_do", abilities(enlarge={"BAM", "CBAM"}), "product is below 1"),
    ("can_do", abilities(enlarge="BAM"), "a set of names"),
    ("can_do", abilities(enlarge={"bam"}), "unknown"),
    ("can_do", dict, "no answer for"),
    ("can_do", lambda: {"BAM"}, "a dictionary"),
    ("repaired", lambda *a: repaired(*a, sign=-1), "the sign"),
    ("repaired", lambda *a: repaired(*a, resize=True), "the axes"),
    ("repaired", lambda *a: repaired(*a, turn=False), "the transpose"),
    ("repaired", lambda *a: repaired(*a, axes=(0, 2, 3)), "the batch"),
    ("repaired", lambda x, w, b: repaired(x, w, 0 * b), "sigmoid\\(bias"),
    ("repaired", lambda *a: repaired(*a)[:1], "has shape"),
    ("tells_shuffled", lambda x: sigmoid(x.var((2, 3), keepdims=True) - 1), "compare neighbours"),
    ("tells_shuffled", lambda x: tells(x, scale=False), "times 10|multiplied by 10"),
    ("tells_shuffled", lambda x: tells(x, threshold=0.1), "at least 95 %"),
    ("tells_shuffled", lambda x: tells(x, sign=-1), "wrong way round"),
    ("tells_shuffled", lambda x: tells(x, threshold=5), "nothing is closed"),
    ("tells_shuffled", lambda x: tells(x, threshold=-5), "everything is closed"),
    ("tells_shuffled", lambda x: 3 * tells(x), "from 0 to 1"),
    ("tells_shuffled", lambda x: tells(x)[:, :, 0, 0], "has shape"),
]


def test_a_stub_of_ellipses_is_quiet(capsys):
    check.gating.can_do(lambda: dict.fromkeys(abilities()(), ...))
    assert capsys.readouterr().out == "gating.can_do: not attempted yet\n"


def test_faults_are_named_one_at_a_time():
    """All four planted faults together, and repaired one after the other as they are named."""
    state = {"axes": (0, 2, 3), "turn": False, "sign": -1, "resize": True}
    right = {"axes": (2, 3), "turn": True, "sign": 1, "resize": False}
    named = {"the sign": "sign", "the axes": "resize", "the transpose": "turn", "the batch": "axes"}
    for _ in named:
        with pytest.raises(Failed) as failure:
            check.gating.repaired(lambda *a: repaired(*a, **state))
        fault = next(named[key] for key in named if key in str(failure.value))
        assert state[fault] != right[fault]
        state[fault] = right[fault]
    check.gating.repaired(lambda *a: repaired(*a, **state))


def test_shuffled_channels_keep_their_values():
    x, which = check.gating.shuffled_channels(images=50, seed=3)
    again, _ = check.gating.shuffled_channels(images=50, seed=3)
    assert np.array_equal(x, again) and x.shape == (50, 4, 16, 16)
    assert set(which) == {0, 1, 2, 3}
    rough = (np.diff(x, axis=3) ** 2).mean((2, 3)) / (2 * x.var((2, 3)))
    damaged = np.arange(4) == which[:, None]
    assert rough[damaged].min() > 0.7 and rough[~damaged].max() < 0.3
