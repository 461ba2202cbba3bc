"""The tasks as a benchmark: bounds, network, scores."""

import pytest
import torch
from torch import nn

from attn_lib import diagnostics, layers

FEW = {"n_train": 1500, "n_test": 1000}
SHORT = {"epochs": 15}


def test_every_level_has_room_between_its_bounds():
    for name, task in diagnostics.TASKS.items():
        for level in task.levels:
            without, bayes = task.without(*level), task.bayes(*level)
            assert 0.5 <= without <= bayes <= 1
            assert (without == bayes) == (name == "plain_evidence")


def test_the_network_is_linear_without_a_gate():
    torch.manual_seed(0)
    model = diagnostics.network().double().eval()
    a, b = torch.randn(2, 3, 8, 12, 12, dtype=torch.float64)
    torch.testing.assert_close(model((a + b) / 2), (model(a) + model(b)) / 2)
    assert not any(isinstance(m, nn.Conv2d) for m in model.modules())
    wide = diagnostics.network(hidden=5)
    assert wide[0].weight.shape == (5, 8, 1, 1) and wide(torch.randn(4, 8, 12, 12)).shape == (4, 2)


@pytest.mark.slow
def test_a_score():
    lines = diagnostics.score(
        lambda channels: layers.SpatialAttention(),
        tasks=["same_row"],
        seeds=[1],
        images=FEW,
        recipe=SHORT,
    )
    assert [line["level"] for line in lines] == [[2], [4], [10]]
    near, _, far = (line["accuracy"] for line in lines)
    assert near > 0.9 and far < 0.6  # a kernel of 7 reaches three columns
    assert lines[0] == lines[0] | {"task": "same_row", "seed": 1, "images": 1000, "without": 0.5}
    assert lines[0]["right"] == round(near * 1000)


def test_scores_repeat():
    options = {"tasks": ["plain_evidence"], "seeds": [2], "images": FEW, "recipe": {"epochs": 2}}
    assert diagnostics.score(**options) == diagnostics.score(**options)
    assert diagnostics.score(**options) != diagnostics.score(**options | {"seeds": [3]})


def test_an_unknown_task():
    with pytest.raises(ValueError, match="tasks must be among global_switch, .*; got 'xor'"):
        diagnostics.score(tasks=["xor"])
