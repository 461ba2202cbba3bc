"""Outcomes of the diagnostic tasks: intervals, the grid's rule, predictions, the drawings."""

import re

import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from attn_lib import diagnostics, outcomes, plot  # noqa: E402
from experiments.diagnostics import grid, report  # noqa: E402


def lines(*right, task="same_row", level=(2,), mechanism="se", without=0.5, bayes=1.0):
    return [
        {
            "mechanism": mechanism,
            "task": task,
            "level": list(level),
            "seed": seed,
            "right": r,
            "images": 4000,
            "accuracy": r / 4000,
            "without": without,
            "bayes": bayes,
        }
        for seed, r in enumerate(right)
    ]


def test_an_interval_is_exact():
    # With no right answer the upper end solves (1 - p)^n = alpha / 2.
    low, high = outcomes.interval(0, 10, comparisons=5)
    assert low == 0 and (1 - high) ** 10 == pytest.approx(0.05 / 5 / 2)
    assert outcomes.interval(50, 100, 100)[0] < outcomes.interval(50, 100)[0] < 0.5


@pytest.mark.parametrize(("right", "images", "comparisons"), [(5, 4, 1), (0, 0, 1), (1, 2, 0)])
def test_a_bad_interval_is_refused(right, images, comparisons):
    with pytest.raises(ValueError, match="must be"):
        outcomes.interval(right, images, comparisons)


@pytest.mark.parametrize(
    "right",
    [
        [3900] * 5,
        [3900] * 4 + [2000],
        [3900] * 3 + [2000] * 2,
        [2500] * 5,
        [2120] * 5,
        [3900, 3900, 3880, 3200, 3200],
        [3800] * 5,  # nine tenths of the way, exactly
    ],
)
def test_the_rule_is_the_grids(right):
    made = lines(*right)
    assert report.cells(made)["se", "same_row", (2,)].outcome == grid.outcome(made)


def test_a_cell():
    cell = outcomes.read(lines(3000, 2000, 2400, 3900, 3600))["se", "same_row", (2,)]
    assert (cell.outcome, cell.passed, cell.networks) == ("helps", 4, 5)
    assert cell.accuracy == 0.75 and cell.way == 0.5
    assert (cell.low, cell.high) == outcomes.interval(3000, 4000, 5)
    flat = lines(3000, task="plain_evidence", without=0.75, bayes=0.75)
    assert next(iter(outcomes.read(flat).values())).way is None


def test_an_unfinished_grid(capsys, monkeypatch):
    made = lines(3900, 3900, 3900) + lines(*[2000] * 5, mechanism="eca")
    found = report.cells(made)
    assert [cell.outcome for cell in found.values()] == ["unfinished", "cannot"]
    expected = {"same_row": {m: {"levels": ["cannot"], "reason": "r"} for m in ("se", "eca")}}
    (row,) = outcomes.against(found, expected, {"same_row": [(2,)]})
    assert row == ("same_row", (2,), "eca", "cannot", "cannot", "r")
    for stored in (made, []):
        monkeypatch.setattr(grid, "finished", lambda stored=stored: stored)
        report.main()
    printed = capsys.readouterr().out
    assert "8 of 1200 networks" in printed and "1 of 1 predictions held" in printed
    assert "| eca | ??? | ??? | ??? | ??? | ·?? |" in printed


def test_bad_lines_are_refused():
    with pytest.raises(ValueError, match="a line has no bayes, seed"):
        outcomes.read([{k: v for k, v in lines(1)[0].items() if k not in ("seed", "bayes")}])
    with pytest.raises(ValueError, match="two lines for the same network"):
        outcomes.read(lines(1) * 2)
    with pytest.raises(ValueError, match=r"versions \[1, 2\] of same_row"):
        outcomes.read([line | {"version": k + 1} for k, line in enumerate(lines(1, 2))])


def test_the_failed_predictions_are_told():
    made = lines(*[3900] * 5, mechanism="se")
    held, failed = report.failures(report.cells(made))
    assert held == "0 of 1 predictions held."
    assert failed.startswith("se on same_row (2,): expected cannot, found solves. Median 0.975")


def test_the_heat_map():
    made = lines(3000, level=(4,)) + lines(*[2000] * 5, mechanism="eca") + lines(*[3900] * 5)
    fig, ax = plt.subplots()
    cells = report.cells(made)
    image = plot.outcomes(ax, cells, mechanisms=["se", "eca"], failed={("se", "same_row", (2,))})
    assert image.get_array()[0].tolist() == [pytest.approx(0.95), 0]
    assert image.get_array()[1].mask.tolist() == [False, True]  # not trained
    assert len(ax.patches) == 1 and [t.get_text() for t in ax.texts] == ["?"]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["se", "eca"]
    assert [t.get_text() for t in ax.get_yticklabels()] == ["same row"]
    plt.close(fig)
    with pytest.raises(ValueError, match="nothing of bam; it has eca, se"):
        plot.outcomes(ax, cells, mechanisms=["bam"])
    with pytest.raises(ValueError, match="no outcome to draw"):
        plot.outcomes(ax, {})


def test_the_curves_of_difficulty():
    made = lines(3900, 3800, 3700) + lines(2000, level=(4,)) + lines(2000, mechanism="eca")
    fig, ax = plt.subplots()
    cells = report.cells(made)
    plot.difficulty(ax, cells, "same_row", mechanisms=["eca", "se"])
    bound, eca, se = ax.lines
    assert list(bound.get_ydata()) == [0.5, 0.5]
    assert list(eca.get_ydata()) == [0.5] and list(se.get_ydata()) == [0.95, 0.5]
    assert [t.get_text() for t in ax.get_xticklabels()] == ["2", "4"]
    plt.close(fig)
    with pytest.raises(ValueError, match="nothing of the task 'xor'"):
        plot.difficulty(ax, cells, "xor")
    with pytest.raises(ValueError, match="nothing of cbam on 'same_row'"):
        plot.difficulty(ax, cells, "same_row", mechanisms=["cbam"])


PAGE = (grid.HERE.parents[1] / "book" / "diagnostic_tasks.md").read_text(encoding="utf-8")


def test_the_page_has_the_tasks_their_bounds_and_the_stored_outcomes():
    asked = [f"| `{name}` | {task.asks} |" for name, task in diagnostics.TASKS.items()]
    for line in [*asked, *report.tasks()]:
        assert line in PAGE
    (newer,) = [
        (name, task.version) for name, task in diagnostics.TASKS.items() if task.version > 1
    ]
    assert "It is {1} for `{0}` and 1 for the others.".format(*newer) in PAGE
    recipe = diagnostics.RECIPE | diagnostics.IMAGES
    assert (
        "{n_train:,} feature maps to train on, {n_test:,} to test on, {epochs} epochs, a learning "
        "rate of {lr} and batches of {batch_size};".format(**recipe)
    ) in PAGE
    if len(grid.finished()) == len(grid.runs()):
        assert "\n".join(report.table(report.cells())) in PAGE


def test_the_example_of_the_page(monkeypatch, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE, re.S | re.M)
    monkeypatch.setattr(diagnostics, "RECIPE", {"epochs": 1, "lr": 0.02, "batch_size": 64})
    monkeypatch.setattr(diagnostics, "IMAGES", {"n_train": 100, "n_test": 50})
    exec(code, {"__name__": "page"})
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 24 and printed[0].startswith("global_switch (0.6,) ")
