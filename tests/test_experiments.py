"""The experiment on CIFAR-10: its script on a few images, and what it has left in results/."""

import json

import numpy as np
import pytest
import torch
from scipy import stats

from attn_lib import data, train
from attn_lib.cost import model_cost
from experiments.cifar10 import card, gates, grid, interventions, longer, replication, resnet20


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The experiment in another folder, with few images, one epoch and one seed."""
    x = torch.rand(160, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    y = torch.arange(160) % 10
    split = data.Split(x[:100], y[:100], x[100:], y[100:])
    for name, value in {
        "RESULTS": tmp_path,
        "RUNS": tmp_path / "runs.jsonl",
        "WORK": tmp_path / "work",
        "SEEDS": range(1),
        "EPOCHS": 1,
        "LONGER": (2,),
        "load": lambda root: (split, "noise"),
    }.items():
        monkeypatch.setattr(grid, name, value)
    threads = torch.get_num_threads()
    yield tmp_path
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_the_grid_runs_once(small):
    grid.work(None)
    lines = grid.finished()
    assert [line["variant"] for line in lines] == [*grid.VARIANTS, "none"]
    assert [len(line["history"]) for line in lines] == [1] * len(grid.VARIANTS) + [2]
    assert all(line["data"] == "noise" for line in lines)
    scale = json.loads((small / "checkpoints" / "input.json").read_text())
    assert scale["data"] == "noise" and 0.4 < scale["mean"][0] < 0.6 and 0.2 < scale["std"][0] < 0.4
    content = grid.RUNS.read_text()
    grid.work(None)
    assert grid.RUNS.read_text() == content
    for name in grid.VARIANTS:
        state = torch.load(small / "checkpoints" / f"{name}.pt", weights_only=True)
        grid.build(name).load_state_dict(state)
        assert (small / "gates" / f"{name}-1-0.npz").exists() == (name != "none")


def test_the_replication_runs_once(small, monkeypatch):
    monkeypatch.setattr(replication, "RUNS", small / "replication.jsonl")
    monkeypatch.setattr(replication, "SEEDS", [5])
    replication.work(None)
    content = replication.RUNS.read_text()
    assert [json.loads(line)["variant"] for line in content.splitlines()] == ["none", "bam"]
    replication.work(None)
    assert replication.RUNS.read_text() == content and not grid.RUNS.exists()
    assert not (small / "checkpoints").exists()


@pytest.mark.slow
def test_the_longer_grid_runs_once(small, monkeypatch):
    monkeypatch.setattr(longer, "RUNS", small / "longer.jsonl")
    monkeypatch.setattr(longer, "MODEL", grid.MODEL)
    monkeypatch.setattr(longer, "RIVALS", (2,))
    monkeypatch.setattr(longer, "CHECKPOINTS", small / "checkpoints" / "longer")
    monkeypatch.setattr(longer, "SEEDS", [10])
    monkeypatch.setattr(longer, "EPOCHS", 1)
    longer.work(None)
    content = longer.RUNS.read_text()
    done = [json.loads(line) for line in content.splitlines()]
    assert [line["variant"] for line in done] == [*grid.VARIANTS, "none"]
    assert [line["epochs"] for line in done] == [1] * len(grid.VARIANTS) + [2]
    longer.work(None)
    assert longer.RUNS.read_text() == content and not grid.RUNS.exists()
    assert done[0]["recipe"]["precision"] == "full" != grid.RECIPE["precision"]
    kept = {path.stem for path in (small / "checkpoints" / "longer").glob("*.pt")}
    assert kept == set(grid.VARIANTS)


def test_the_rival_of_equal_time_is_the_nearest():
    epochs = {name: longer.rival_epochs(name) for name in grid.VARIANTS if name != "none"}
    relative = json.loads(longer.SPEED.read_text())["relative"]
    assert all(abs(n / (longer.EPOCHS * relative[name]) - 1) < 0.12 for name, n in epochs.items())
    assert set(epochs.values()) == set(longer.RIVALS)


@pytest.fixture
def complete():
    """The longer grid's runs by (variant, epochs, seed), and the seeds whose runs are all there."""
    runs = {(r["variant"], r["epochs"], r["seed"]): r for r in grid.finished(longer.RUNS)}
    kinds = {(run["variant"], run["epochs"]) for run in longer.runs()}
    return runs, [s for s in longer.SEEDS if all((*kind, s) in runs for kind in kinds)]


def test_the_longer_grid_shows_what_the_chapters_say(complete):
    """A further seed that changes an answer has to change Training and BAM, too."""
    runs, seeds = complete

    def accuracies(name, epochs):
        return 100 * np.array([runs[name, epochs, s]["test_accuracy"] for s in seeds])

    shown = {}
    for name in filter("none".__ne__, grid.VARIANTS):
        a = accuracies(name, longer.EPOCHS)
        for epochs in (longer.EPOCHS, longer.rival_epochs(name)):
            b = accuracies("none", epochs)
            if stats.ttest_rel(a, b).pvalue < 0.05 / 5:
                shown[name, epochs] = round((a - b).mean(), 1)
    assert shown == {("se", 20): 0.5, ("bam", 20): 1.1, ("eca", 24): -1.1}


def test_the_costliest_block_is_the_one_that_looking_inside_names(complete):
    runs, seeds = complete
    for name in ("se", "eca", "cbam", "coordinate"):
        found = [runs[name, longer.EPOCHS, s] for s in seeds]
        held = {m: np.mean([r["clamped"][m] for r in found]) for m in found[0]["clamped"]}
        del held["all"]
        assert min(held, key=held.get) == "layer3.0.attention"


def test_resnet20(small, monkeypatch):
    monkeypatch.setattr(resnet20, "RESULT", small / "resnet20.json")
    monkeypatch.setattr(resnet20, "RECIPE", {**resnet20.RECIPE, "epochs": 1})
    resnet20.main(["--data", "here"])
    result = json.loads((small / "resnet20.json").read_text())
    assert len(result["history"]) == 1 and result["data"] == "noise"
    assert 0 <= result["train_accuracy"] <= 1


def test_the_best_checkpoint_is_kept(small):
    (small / "checkpoints").mkdir()
    path = small / "checkpoints" / "se.pt"
    sums = []
    for seed, accuracy in ((0, 0.5), (1, 0.4), (2, 0.6)):
        torch.manual_seed(seed)
        line = {"variant": "se", "seed": seed, "epochs": 1, "test_accuracy": accuracy}
        grid.keep({**line, "seconds": 1.0}, grid.RUNS, grid.build("se"), small / "checkpoints")
        sums.append(torch.load(path, weights_only=True)["conv1.weight"].sum().item())
    assert sums[0] == sums[1] != sums[2]


def test_class_statistics_are_means_and_deviations():
    torch.manual_seed(0)
    for name in ("cbam", "bam", "coordinate"):
        model = grid.build(name).eval()
        x, y = torch.rand(40, 3, 32, 32), torch.arange(40) % 10
        arrays = gates.by_class(model, x, y)
        ((_, made),) = gates.recorded(model, x)
        for module, recorded in made.items():
            for key, gate in gates._reduced(recorded):
                for k in (0, 7):
                    of_class = gate[y == k].double().numpy()
                    mean, std = (arrays[f"{module}/{key}/{which}"][k] for which in ("mean", "std"))
                    np.testing.assert_allclose(mean, of_class.mean(0), rtol=2e-3)
                    np.testing.assert_allclose(std, of_class.std(0), rtol=0.01, atol=1e-4)


def test_spread_and_clamping():
    torch.manual_seed(0)
    model = grid.build("se").eval()
    for module in model.modules():  # gates that do not depend on the image
        if hasattr(module, "fc2"):
            torch.nn.init.zeros_(module.fc2.weight)
            torch.nn.init.constant_(module.fc2.bias, 1.0)
    x, y = torch.rand(30, 3, 32, 32), torch.arange(30) % 10
    for found in gates.spread(model, x).values():
        assert found["channel"]["over_images"] == 0
        np.testing.assert_allclose(found["channel"]["quantiles"], 1 / (1 + np.exp(-1)), atol=1e-4)
    clamped = gates.clamped_accuracy(model, x[:10], x, y)
    assert len(clamped) == 7 and len(set(clamped.values())) == 1


def test_partners():
    y = torch.arange(60) % 4
    anybody, same = interventions.partners(y, torch.Generator().manual_seed(0))
    for partner in (anybody, same):
        assert sorted(partner.tolist()) == list(range(60))
        assert (partner != torch.arange(60)).all()
    assert torch.equal(y[same], y) and not torch.equal(y[anybody], y)


def test_interventions(small):
    split, _ = grid.load(None)
    (small / "checkpoints").mkdir()
    torch.manual_seed(0)
    model = grid.build("cbam").eval()
    torch.save(model.state_dict(), small / "checkpoints" / "cbam.pt")
    found = interventions.interventions("cbam", split)
    x, y = split.x_test, split.y_test
    assert found["as trained"] == train.evaluate(model, x, y)
    with torch.no_grad():
        # statistics of the images that they are estimated on: the same as in training mode
        again = interventions.estimate_again(grid.build("cbam"), split.x_train[:100])
        torch.testing.assert_close(
            again(split.x_train[:100]), again.train()(split.x_train[:100]), rtol=1e-3, atol=1e-3
        )
        # an image with its own gates is as it was, and one with another's is not
        own = interventions.swapped_accuracy(model, x, model(x).argmax(1), torch.arange(len(x)))
        assert own == 1
    levelled = interventions.without_positions(gates.mean_gates(model, split.x_train))
    for made in levelled.values():
        assert made["spatial"].shape == (1, 1, 1, 1) and made["channel"].shape[2:] == (1, 1)
    assert all(0 <= accuracy <= 1 for accuracy in found.values()) and len(found) == 8


# What is committed.


def lines():
    path = grid.HERE / "results" / "runs.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_results_are_of_this_grid():
    names = [grid.run_name(line) for line in lines()]
    assert names and len(set(names)) == len(names)
    assert set(names) <= {grid.run_name(run) for run in grid.grid()}
    for line in lines():
        assert line["recipe"] == {**grid.RECIPE, "augment": grid.AUGMENT}
        model = grid.build(line["variant"])
        assert line["parameters"] == sum(p.numel() for p in model.parameters())
        assert line["multiply_adds"] == model_cost(model, (1, 3, 32, 32)).total.multiply_adds
        history = line["history"]
        assert [row["epoch"] for row in history] == list(range(1, line["epochs"] + 1))
        assert line["test_accuracy"] == history[-1]["test_accuracy"]
        assert line["data"] and line["machine"]["processor"] and line["versions"]["torch"]
        if line["variant"] != "none":
            assert len(line["clamped"]) == len(history[0]["gates"]) + 1
            assert (grid.HERE / "results" / "gates" / f"{grid.run_name(line)}.npz").exists()


def test_the_replication_has_other_seeds():
    assert not set(replication.SEEDS) & set(grid.SEEDS)
    found = [json.loads(line) for line in replication.RUNS.read_text().splitlines()]
    names = sorted(map(grid.run_name, found))
    assert names == sorted(map(grid.run_name, replication.runs()))
    for line in found:
        assert line["recipe"] == {**grid.RECIPE, "augment": grid.AUGMENT}
        assert line["test_accuracy"] == line["history"][-1]["test_accuracy"]
        assert line["parameters"] == sum(
            p.numel() for p in grid.build(line["variant"]).parameters()
        )


def test_committed_checkpoints():
    variants = {line["variant"] for line in lines()}
    paths = {path.stem: path for path in (grid.HERE / "results" / "checkpoints").glob("*.pt")}
    assert paths.keys() == variants
    for name, path in paths.items():
        assert path.stat().st_size < 2_000_000
        grid.build(name).load_state_dict(torch.load(path, weights_only=True))


def test_the_model_card_has_the_results():
    text = card.CARD.read_text()
    assert text.split(card.BEGIN)[1].split(card.END)[0] == card.table(lines()), (
        "run python -m experiments.cifar10.card"
    )


def test_what_the_model_card_says_of_the_recipe():
    recipe, text = grid.RECIPE, card.CARD.read_text()
    assert (grid.EPOCHS, recipe["optimizer"], recipe["schedule"]) == (5, "sgd", "one_cycle")
    assert "Five epochs of SGD" in text and "one-cycle" in text
    for part in (
        f"batches of {recipe['batch_size']}",
        f"rate of {recipe['lr']}",
        f"weight decay {recipe['weight_decay']:.0e}".replace("e-0", "e-"),
        f"label smoothing {recipe['label_smoothing']}",
        recipe["precision"],
        "shifts by up to four pixels and mirroring",
    ):
        assert part in text
    assert grid.AUGMENT == {"crop": 4, "flip": True, "cutout": 0}
    scale = json.loads((card.CARD.parent / "input.json").read_text())
    assert scale["data"] in text and len(scale["mean"]) == len(scale["std"]) == 3


def test_interventions_are_of_the_committed_checkpoints():
    found = json.loads((grid.HERE / "results" / "interventions.json").read_text())
    assert found["data"] == lines()[0]["data"]
    assert found["accuracy"].keys() == grid.VARIANTS.keys()
    for variant, accuracy in found["accuracy"].items():
        runs = [r for r in lines() if (r["variant"], r["epochs"]) == (variant, grid.EPOCHS)]
        best = max(run["test_accuracy"] for run in runs)
        # another machine may round an image or two to the other side
        assert abs(accuracy["as trained"] - best) < 5e-4
