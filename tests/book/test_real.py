"""The training chapter with its flag up: every cell runs on images of CIFAR-10's shape."""

import contextlib
import io
import json

import nbformat
import pytest
import torch
from conftest import ROOT

from attn_lib import data, train
from experiments.cifar10 import grid, resnet20

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


def test_the_stored_training_is_by_that_recipe():
    stored = json.loads(resnet20.RESULT.read_text())
    assert stored["recipe"] == {
        **resnet20.RECIPE,
        "precision": resnet20.PRECISION,
        "augment": grid.AUGMENT,
    }
    assert len(stored["history"]) == stored["recipe"]["epochs"]
    assert stored["test_accuracy"] == stored["history"][-1]["test_accuracy"]
