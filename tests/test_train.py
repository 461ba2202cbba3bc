"""Training: it learns, it is reproducible, and it says when it diverges."""

import numpy as np
import pytest
import torch
from torch import nn

from attn_lib import data
from attn_lib.train import evaluate, fit, over_seeds


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


@pytest.fixture(scope="module")
def digits():
    return data.digits(torch.float64)


def test_it_learns(digits):
    torch.manual_seed(0)
    model = linear().double()
    losses = [row["loss"] for row in fit(model, digits, epochs=5, lr=0.05)]
    assert len(losses) == 5 and losses[-1] < 0.3 < losses[0]
    assert evaluate(model, digits.x_test, digits.y_test) > 0.9


def test_same_seed_same_result(digits):
    runs = [over_seeds(linear, digits, seeds=(0, 1), epochs=1) for _ in range(2)]
    np.testing.assert_array_equal(*runs)
    assert runs[0].shape == (2,)


def test_the_seed_sets_the_order_of_the_images(digits):
    losses = []
    for seed in (0, 1):
        torch.manual_seed(0)
        losses.append(fit(linear().double(), digits, epochs=1, seed=seed)[0]["loss"])
    assert losses[0] != losses[1]


def test_evaluate_counts():
    model = nn.Identity()
    x = torch.eye(4).repeat(3, 1)
    y = torch.tensor([0, 1, 2, 3] * 2 + [1, 2, 3, 0])
    assert evaluate(model, x, y, batch_size=5) == 8 / 12


def test_divergence_is_named(digits):
    class Explodes(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(10, dtype=torch.float64))

        def forward(self, x):
            return x.flatten(1)[:, :10] * self.w * float("inf")

    with pytest.raises(FloatingPointError, match="epoch 1; lower lr=0.5"):
        fit(Explodes(), digits, epochs=3, lr=0.5)
