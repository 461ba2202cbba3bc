"""Chapters with their flags up: every cell runs on images of CIFAR-10's shape."""

import contextlib
import io
import json
import random

import matplotlib.pyplot as plt
import nbformat
import pytest
import torch
from conftest import ROOT

from attn_lib import data, models, train
from experiments.cifar10 import grid, longer, resnet20

FLAG = "REAL = False"


@pytest.fixture
def few_images(monkeypatch, tmp_path):
    """Noise in the place of CIFAR-10, and no compiler, which would take longer than the rest."""
    x = torch.rand(32, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = torch.arange(32) % 10
    split = data.Split(x[:16], y[:16], x[16:], y[16:])
    monkeypatch.setattr(data, "cifar10", lambda: split)
    monkeypatch.setattr(torch, "compile", lambda model: model)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setattr(train, "keep_folder", lambda name: tmp_path / name)
    monkeypatch.chdir(ROOT / "notebooks")


@pytest.mark.slow
def test_the_training_chapter_runs_on_cifar10(few_images):
    nb = nbformat.read("training.ipynb", as_version=4)
    cells = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    assert sum(FLAG in cell for cell in cells) == 1
    namespace, printed = {"__name__": "__main__"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in cells:
            if "%pip" not in cell:
                exec(compile(cell.replace(FLAG, "REAL = True"), cell[:40], "exec"), namespace)
    assert "images to train on: (16, 3, 32, 32)" in printed.getvalue()
    assert len(namespace["history"]) > 0 and namespace["base"] == 16
    # what was run on CIFAR-10 and is drawn in the chapter is this recipe
    recipe = namespace["recipe"]
    assert recipe.pop("augment") is data.augment and recipe.pop("precision") == "auto"
    assert recipe == resnet20.RECIPE and namespace["network"].args == (20,)


@pytest.mark.slow
def test_looking_inside_runs_on_cifar10_and_on_published_networks(few_images, monkeypatch):
    """Random weights under the published names, and the exercise that trains with its solution."""
    torch.manual_seed(0)

    def published(site, **options):
        if "seresnet50" not in site:
            return models.resnet(50).state_dict()
        state = models.resnet(50, "se").state_dict()
        return {name.replace("attention", "se"): value for name, value in state.items()}

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", published)
    nb = nbformat.read("looking_inside.ipynb", as_version=4)
    cells = [cell.source for cell in nb.cells if cell.cell_type == "code"]
    flags = {FLAG: "REAL = True", "DOWNLOAD = False": "DOWNLOAD = True"}
    assert all(sum(flag in cell for cell in cells) == 1 for flag in flags)
    (trains,) = (i for i, cell in enumerate(cells) if "def train_one" in cell)
    solution = next(c.source for c in nb.cells if "<summary>Solution 14" in c.source)
    cells.insert(trains, solution.split("```python")[1].split("```")[0])
    namespace, printed = {"__name__": "__main__"}, io.StringIO()
    with contextlib.redirect_stdout(printed):
        for cell in cells:
            for flag, up in flags.items():
                cell = cell.replace(flag, up)
            cell = cell.replace("epochs=10", "epochs=1").replace("range(7)", "range(2)")  # fewer
            exec(compile(cell, cell[:40], "exec"), namespace)
            plt.close("all")
    out = printed.getvalue()
    assert "16 test images of CIFAR-10" in out and "reliance [" in out
    assert "computed here with ResNet-50 and SE-ResNet-50" in out
    for found in namespace["shown"].values():
        assert list(found) == ["cat", "rocket", "coffee", "pavilion", "dahlia"]
        assert all(torch.tensor(e["map"]).shape == (7, 7) for e in found.values())


def test_the_stored_training_is_by_that_recipe():
    stored = json.loads(resnet20.RESULT.read_text())
    assert stored["recipe"] == {
        **resnet20.RECIPE,
        "precision": resnet20.PRECISION,
        "augment": grid.AUGMENT,
    }
    assert len(stored["history"]) == stored["recipe"]["epochs"]
    assert stored["test_accuracy"] == stored["history"][-1]["test_accuracy"]


# ---- the longer grid, of which any number of runs may be there


def cells_with(nb, *marks):
    return [
        cell.source
        for cell in nb.cells
        if cell.cell_type == "code"
        and ("setup" in cell.metadata.get("tags", []) or any(mark in cell.source for mark in marks))
    ]


def a_run(variant, epochs, seed):
    accuracy = 0.8 + 0.01 * random.Random(f"{variant} {epochs} {seed}").random()
    return {"variant": variant, "epochs": epochs, "seed": seed, "test_accuracy": accuracy}


@pytest.mark.parametrize(("sets", "more"), [(3, 0), (3, 7), (5, 0)])
def test_the_longer_grid_is_read_as_far_as_it_goes(sets, more, monkeypatch, tmp_path, capsys):
    runs = longer.runs()[: 8 * sets + more]
    path = tmp_path / "longer.jsonl"
    path.write_text("".join(json.dumps(a_run(**run)) + "\n" for run in runs))
    known = data.measured
    monkeypatch.setattr(
        data, "measured", lambda name: path if name.endswith("longer.jsonl") else known(name)
    )
    monkeypatch.setenv("MPLBACKEND", "agg")
    nb = nbformat.read(ROOT / "notebooks" / "training.ipynb", as_version=4)
    namespace = {"__name__": "__main__"}
    marks = ("def compared(", "speed = json", "def comparisons(", "def rival(", "def forest(")
    for cell in cells_with(nb, *marks, "LONG", "longer grid"):
        exec(compile(cell, cell[:40], "exec"), namespace)
        plt.close("all")
    out = capsys.readouterr().out
    assert f"{sets} seeds show" in out
    for differences in (namespace["equal"], namespace["timed"]):
        assert [len(d) for d in differences.values()] == [sets] * 5
    assert namespace["done"] == list(longer.SEEDS)[:sets]
    assert namespace["LONG"] == longer.EPOCHS and len(namespace["wanted"]) == 8
    rivals = {name: longer.rival_epochs(name) for name in namespace["mechanisms"]}
    assert namespace["longest"] == rivals
