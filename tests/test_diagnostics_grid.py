"""The grid of the diagnostic tasks: its predictions, its reading of outcomes, its lines."""

import json

import pytest

from attn_lib import diagnostics
from experiments.diagnostics import grid

PREDICTIONS = json.loads((grid.HERE / "predictions.json").read_text())


def test_there_is_a_prediction_with_a_reason_for_every_run():
    predictions = PREDICTIONS["predictions"]
    assert list(predictions) == list(diagnostics.TASKS)
    for task, rows in predictions.items():
        assert list(rows) == list(grid.MECHANISMS)
        for row in rows.values():
            assert len(row["levels"]) == len(diagnostics.TASKS[task].levels)
            assert set(row["levels"]) <= {"solves", "helps", "cannot"} and row["reason"]


def lines(*right, images=4000, without=0.5, bayes=1.0):
    return [
        {"right": r, "images": images, "accuracy": r / images, "without": without, "bayes": bayes}
        for r in right
    ]


@pytest.mark.parametrize(
    ("right", "wanted"),
    [
        ([3900] * 5, "solves"),
        ([3900, 3900, 3900, 3900, 2000], "solves"),  # one of five may fail
        ([3900, 3900, 3900, 2000, 2000], "cannot"),
        ([2500] * 5, "helps"),
        ([2120] * 5, "cannot"),  # 0.53 is 3.8 standard errors above 1/2: too few for 1,200 networks
        ([2250] * 5, "helps"),
    ],
)
def test_how_an_outcome_is_read(right, wanted):
    assert grid.outcome(lines(*right)) == wanted
    assert len(grid.runs()) == 1200


def test_what_counts_as_passing_depends_on_the_number_of_comparisons():
    assert grid.outcome(lines(*[2120] * 5), comparisons=1) == "helps"


def test_a_line(monkeypatch):
    monkeypatch.setattr(diagnostics, "RECIPE", {"epochs": 1, "lr": 0.02, "batch_size": 64})
    monkeypatch.setattr(diagnostics, "IMAGES", {"n_train": 100, "n_test": 50})
    line = grid.train(100, "sparse_peak", (6.0,), "wide-16")
    assert line["mechanism"] == "wide-16" and line["images"] == 50
    assert line["parameters"] == 16 * 9 + 2 * 16 + 2 * 17
    assert json.loads(json.dumps(line)) == line
