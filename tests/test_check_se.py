"""The checks of the SE exercises: solutions pass, mistakes get their message, stubs are quiet."""

import numpy as np
import pytest
import torch
from torch import nn

from attn_lib import check
from attn_lib.check import Failed


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


class Module(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)

    def gate(self, x):
        return torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean((2, 3))))))[:, :, None, None]

    def forward(self, x):
        return x * self.gate(x)


class ReturnsGate(Module):
    def forward(self, x):
        return self.gate(x)


class AddsInput(Module):
    def forward(self, x):
        return x + x * self.gate(x)


class NoRelu(Module):
    def gate(self, x):
        return torch.sigmoid(self.fc2(self.fc1(x.mean((2, 3)))))[:, :, None, None]


class NoBias(Module):
    def __init__(self, channels, reduction):
        super().__init__(channels, reduction)
        self.fc1.bias = None


class Empty(nn.Module):
    def __init__(self, channels, reduction):
        super().__init__()


def excite(z, w1, b1, w2, b2):
    return sigmoid(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2)


def softmax(a):
    return np.exp(a) / np.exp(a).sum(axis=1, keepdims=True)


SOLUTIONS = {
    "squeeze": lambda x: x.mean(axis=(2, 3)),
    "excite": excite,
    "scale": lambda x, s: s[:, :, None, None] * x,
    "parameters": lambda c, r, bias: 2 * c * (c // r) + bias * (c + c // r),
    "multiply_adds": lambda c, h, w, r: 2 * c * h * w + 2 * c * (c // r),
    "backward": lambda dy, x, s, dz: s[:, :, None, None] * dy + dz[:, :, None, None] / 15,
    "module": Module,
    "block_output": lambda shortcut, f, gate: np.maximum(shortcut + gate(f) * f, 0),
    "fold": lambda weight, s: weight * s[None, :, None, None],
}

MISTAKES = [
    ("squeeze", lambda x: x.mean(axis=(2, 3), keepdims=True), r"\(N, C, 1, 1\)"),
    ("squeeze", lambda x: x.sum(axis=(2, 3)), "divides by H W"),
    ("squeeze", lambda x: x.mean(axis=1), "averages over H and W"),
    ("squeeze", lambda x: x.mean(axis=(0, 2, 3)), "one z per sample"),
    ("squeeze", lambda x: x.mean(axis=(2, 3)) + 1, "off by up to 1"),
    ("squeeze", lambda x: "mean", "should be numbers; got str"),
    ("excite", lambda z, w1, b1, w2, b2: softmax(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2),
     "softmax makes the channels compete"),
    ("excite", lambda z, w1, b1, w2, b2: sigmoid((z @ w1.T + b1) @ w2.T + b2), "ReLU between"),
    ("excite", lambda z, w1, b1, w2, b2: np.maximum(z @ w1.T + b1, 0) @ w2.T + b2, "logits"),
    ("excite", lambda z, w1, b1, w2, b2: sigmoid(np.maximum(z @ w1.T, 0) @ w2.T), "biases"),
    ("excite", lambda z, w1, b1, w2, b2: sigmoid(
        np.maximum(np.maximum(z @ w1.T + b1, 0) @ w2.T + b2, 0)), "below 1/2"),
    ("scale", lambda x, s: s * x, "last two axes"),
    ("scale", lambda x, s: s[:, :, None] * x, "two trailing axes"),
    ("scale", lambda x, s: s[:, 0][:, None, None, None] * x, "batch axis only"),
    ("scale", lambda x, s: s[:, :, None, None] + x, "it multiplies"),
    ("parameters", lambda c, r, bias: c * (c // r) + bias * (c + c // r), "you counted one"),
    ("parameters", lambda c, r, bias: 2 * c * (c // r) + bias * 2 * c, "C/r and C"),
    ("parameters", lambda c, r, bias: 2 * c * (c // r), "biases are missing"),
    ("multiply_adds", lambda c, h, w, r: 2 * c * h * w + 2 * c * (c // r) * h * w, "once an image"),
    ("multiply_adds", lambda c, h, w, r: 2 * c * (c // r), "left out the mean"),
    ("multiply_adds", lambda c, h, w, r: c * h * w + 2 * c * (c // r), "counted one of"),
    ("backward", lambda dy, x, s, dz: s[:, :, None, None] * dy, "through the mean is missing"),
    ("backward", lambda dy, x, s, dz: 0 * dy + dz[:, :, None, None] / 15, "direct path is missing"),
    ("backward", lambda dy, x, s, dz: s[:, :, None, None] * dy + dz[:, :, None, None], "by H W"),
    ("backward", lambda dy, x, s, dz: x * dy + dz[:, :, None, None] / 15, "s dy, not x dy"),
    ("module", ReturnsGate, "this is the gate"),
    ("module", AddsInput, "belongs to the residual block"),
    ("module", NoRelu, "ReLU between fc1 and fc2"),
    ("module", NoBias, "its parameters are"),
    ("module", lambda channels, reduction: 3, "a module is wanted; got int"),
    ("block_output", lambda x, f, gate: np.maximum(gate(x + f) * (x + f), 0), "gated the sum"),
    ("block_output", lambda x, f, gate: gate(np.maximum(x + f, 0)) * np.maximum(x + f, 0),
     "SE-POST, the gate after"),
    ("block_output", lambda x, f, gate: np.maximum(f + gate(x) * x, 0), "SE-Identity"),
    ("block_output", lambda x, f, gate: np.maximum(x + gate(x) * f, 0), "what it scales"),
    ("block_output", lambda x, f, gate: x + gate(f) * f, "ReLU after the sum"),
    ("fold", lambda weight, s: weight * s[:, None, None, None], "axis 1"),
    ("fold", lambda weight, s: weight / s[None, :, None, None], "it multiplies"),
]  # fmt: skip


def test_every_check_is_tested():
    assert sorted(SOLUTIONS) == sorted(check.se.__all__)
    assert {name for name, _, _ in MISTAKES} == set(SOLUTIONS)


@pytest.mark.parametrize("name", SOLUTIONS)
def test_solution_passes(name, capsys):
    getattr(check.se, name)(SOLUTIONS[name])
    assert capsys.readouterr().out == f"se.{name}: passed\n"


@pytest.mark.parametrize("name, attempt, message", MISTAKES)
def test_mistake_is_named(name, attempt, message):
    with pytest.raises(Failed, match=message):
        getattr(check.se, name)(attempt)


@pytest.mark.parametrize("name", SOLUTIONS)
@pytest.mark.parametrize("stub", [None, lambda *args: None, lambda *args: ...])
def test_stub_is_quiet(name, stub, capsys):
    getattr(check.se, name)(stub)
    assert capsys.readouterr().out == f"se.{name}: not attempted yet\n"


def test_an_empty_module_and_a_raising_stub_are_not_attempts(capsys):
    def raises(x):
        raise NotImplementedError

    check.se.module(Empty)
    check.se.squeeze(raises)
    assert capsys.readouterr().out.count("not attempted yet") == 2


def test_an_error_of_the_attempt_is_shown_as_it_is():
    with pytest.raises(ZeroDivisionError):
        check.se.squeeze(lambda x: 1 / 0)
