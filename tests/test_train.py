"""Training: it learns, is reproducible, survives a kill, and shares its work between processes."""

import csv
import inspect
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import nn

from attn_lib import data, models, train
from attn_lib.train import distributed, evaluate, fit, over_seeds, seed_everything
from attn_lib.train.__main__ import main
from attn_lib.train.loop import _amp_dtype, _batches, _optimizer, _schedule
from attn_lib.train.record import replacing

QUICK = {"epochs": 2, "batch_size": 100}


def linear():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


def small_network():
    seed_everything(0)
    return models.resnet_cifar(8, 4, attention="se", reduction=2, in_channels=1).double()


@pytest.fixture(scope="module")
def digits():
    return data.digits(torch.float64)


@pytest.fixture(scope="module")
def few(digits):
    return data.Split(
        digits.x_train[:300], digits.y_train[:300], digits.x_test[:100], digits.y_test[:100]
    )


def weights(model):
    return torch.cat([t.double().flatten() for t in model.state_dict().values()])


def test_it_learns(digits):
    torch.manual_seed(0)
    model = linear().double()
    history = fit(model, digits, epochs=5, lr=0.05, test_every=2)
    losses = [row["loss"] for row in history]
    assert len(losses) == 5 and losses[-1] < 0.3 < losses[0]
    assert [row["epoch"] for row in history if "test_accuracy" in row] == [2, 4, 5]
    accuracy = evaluate(model, digits.x_test, digits.y_test)
    assert accuracy == history[-1]["test_accuracy"] > 0.9
    assert history[-1]["accuracy"] > 0.9


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
    with pytest.raises(ValueError, match="no images to test"):
        evaluate(model, x[:0], y[:0])
    with pytest.raises(ValueError, match="12 images and 11 labels"):
        evaluate(model, x, y[1:])
    with pytest.raises(ValueError, match="batch_size must be an integer from 1 to 10+; got 0"):
        evaluate(model, x, y, batch_size=0)


def test_one_step_is_the_textbook_step(few):
    """The loop's first step of plain SGD, against the same step written out."""
    model, twin = small_network(), small_network()
    one = few._replace(x_train=few.x_train[:50], y_train=few.y_train[:50])
    options = {"lr": 0.1, "weight_decay": 0.01, "label_smoothing": 0.2, "clip_norm": 0.5}
    fit(model, one, epochs=1, batch_size=50, optimizer="sgd", schedule="constant", **options)

    log_p = twin.train()(one.x_train).log_softmax(1)
    target = nn.functional.one_hot(one.y_train, 10) * 0.8 + 0.02
    loss = -(target * log_p).sum(1).mean()
    parameters = list(twin.parameters())
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.cat([g.flatten() for g in gradients]).norm()
    assert norm > 0.5
    for p, q, g in zip(parameters, model.parameters(), gradients, strict=True):
        g = g * (0.5 / (norm + 1e-6)) + (0.01 * p if p.ndim >= 2 else 0)
        torch.testing.assert_close(q, p - 0.1 * 1.9 * g)  # Nesterov: g + 0.9 g


def test_schedules():
    def rates(name):
        optimizer = _optimizer("sgd", linear(), 1.0, 0)
        schedule = _schedule(name, optimizer, 1.0, 10)
        result = []
        for _ in range(10):
            result.append(schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
        return result

    assert max(rates("one_cycle")) == pytest.approx(1) and np.argmax(rates("one_cycle")) == 2
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(10) / 10))
    np.testing.assert_allclose(rates("cosine"), expected)
    assert rates("constant") == [1.0] * 10


def test_moving_average_of_the_weights(few):
    trained, snapshots = small_network(), []

    def snapshot(images, generator):
        snapshots.append(weights(trained))
        return images

    averaged = small_network()
    options = {"epochs": 1, "batch_size": 100}
    fit(trained, few, augment=snapshot, **options)
    history = fit(averaged, few, ema_decay=0.8, test_every=1, **options)
    after = [*snapshots[1:], weights(trained)]
    expected = after[0]
    for w in after[1:]:
        expected = 0.8 * expected + 0.2 * w
    floating = torch.cat([
        torch.full((t.numel(),), t.is_floating_point()) for t in averaged.state_dict().values()
    ])  # fmt: skip
    torch.testing.assert_close(weights(averaged)[floating], expected[floating])
    assert history[-1]["test_accuracy"] == evaluate(averaged, few.x_test, few.y_test)


@pytest.mark.parametrize("options", [{"precision": "bfloat16"}, {"channels_last": True}])
def test_faster_ways_reach_the_same(few, options):
    plain = small_network().float()
    other = small_network().float()
    few = few.to(torch.float32)
    one = fit(plain, few, **QUICK)[-1]["loss"]
    two = fit(other, few, **QUICK, **options)[-1]["loss"]
    assert two == pytest.approx(one, rel=0.05)
    if "precision" in options:
        assert one != two  # autocast was on
    else:
        assert two == pytest.approx(one, rel=1e-3)
        assert other.conv1.weight.is_contiguous(memory_format=torch.channels_last)


def test_float16_scales_the_loss(few):
    """With a gradient below float16's smallest number, only a scaled loss moves the weights."""
    few = few.to(torch.float32)
    few = few._replace(x_train=few.x_train * 1e-7)
    torch.manual_seed(0)
    model = linear()
    before = model[1].weight.detach().clone()
    fit(model, few, optimizer="sgd", precision="float16", weight_decay=0, **QUICK)
    moved = (model[1].weight - before).abs().max()
    assert 0 < moved < 1e-6


def test_float16_leaves_out_an_infinite_step(few, recwarn):
    """The scaled gradient is infinite at first: no step, and none of the schedule."""
    few = few.to(torch.float32)
    few = few._replace(x_train=few.x_train * 1000)
    torch.manual_seed(0)
    options = {"optimizer": "sgd", "precision": "float16", "lr": 1e-6, **QUICK}
    history = fit(linear(), few, **options)
    assert np.isfinite(history[-1]["loss"])
    assert not [w for w in recwarn if "lr_scheduler.step()" in str(w.message)]


def test_compiled(few, monkeypatch):
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda model: compiled.append(model) or model)
    model = small_network()
    fit(model, few, compile=True, **QUICK)
    assert compiled == [model]


def test_precision_follows_the_device(monkeypatch):
    on_gpu = SimpleNamespace(device=torch.device("cuda"), dtype=torch.float32)
    for capability, wanted in (((8, 0), torch.bfloat16), ((7, 5), torch.float16)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert _amp_dtype("auto", on_gpu) is wanted
    on_gpu.dtype = torch.float64
    assert _amp_dtype("auto", on_gpu) is None and _amp_dtype("auto", torch.zeros(1)) is None


@pytest.mark.parametrize("images, sizes", [(6, [4, 2]), (5, [4]), (4, [4])])
def test_no_batch_of_one(images, sizes):
    assert [len(batch) for batch in _batches(torch.arange(images), 4)] == sizes


@pytest.mark.parametrize(
    "options, message",
    [
        ({"optimizer": "lion"}, "unknown optimizer 'lion'; known are 'adamw', 'sgd'"),
        ({"schedule": "step"}, "unknown schedule 'step'; known are"),
        ({"precision": "int8"}, "unknown precision 'int8'; known are"),
        ({"precision": "bfloat16"}, "is for data in float32.*got torch.float64"),
    ],
)
def test_what_fit_refuses(few, options, message):
    with pytest.raises(ValueError, match=message):
        fit(linear().double(), few, **options)


INFINITE = (float("nan"), float("inf"), -float("inf"))
RANGES = {  # every number that fit takes: what is refused, what is said of it, what is taken
    "epochs": ((0, -1, 1.5, "2", 10**10), "an integer from 1 to 10", (1, np.int64(1))),
    "batch_size": ((1, 0, 64.0, 10**19), "an integer from 2 to 10", (2, np.int64(50), 10**9)),
    "lr": (
        (0, -0.1, 1e300, None, *INFINITE),
        "number above 0 and below 10",
        (1e-9, np.float32(0.01), torch.tensor(0.1)),
    ),
    "weight_decay": (
        (-1, 1e300, *INFINITE),
        "number of at least 0 and below",
        (0, np.float32(0.1)),
    ),
    "seed": ((-1, 2**32, 0.5, None), "an integer from 0 to 4294967295", (2**32 - 1, np.int64(3))),
    "label_smoothing": ((1, -0.1, *INFINITE), "number of at least 0 and below 1", (0, 0.999)),
    "clip_norm": ((0, -1, *INFINITE), "number above 0", (None, 1e-9, np.float32(1))),
    "ema_decay": ((1, 1.5, -0.1, *INFINITE), "number of at least 0 and below 1", (None, 0, 0.999)),
    "test_every": ((-1, 0.5, None), "an integer of at least 0", (0, 1, 100)),
}


def test_every_number_of_fit_has_a_range():
    """A new option with a number needs a row above."""
    parameters = inspect.signature(fit).parameters.values()
    numbers = {p.name for p in parameters if type(p.default) in (int, float)}
    assert numbers | {"clip_norm", "ema_decay"} == RANGES.keys()  # those two are None by default


@pytest.mark.parametrize("name", RANGES)
def test_numbers_out_of_range_are_refused_by_name(few, tmp_path, name):
    refused, wanted, taken = RANGES[name]
    model = linear().double()
    before = weights(model)
    for value in refused:
        with pytest.raises((ValueError, TypeError)) as error:
            fit(model, few, out=tmp_path / "out", **{"epochs": 1, name: value})
        said = str(error.value)
        assert said.startswith(f"{name} must be a") and wanted in said and f"got {value!r}" in said
    assert torch.equal(weights(model), before) and not (tmp_path / "out").exists()
    for number, value in enumerate(taken):
        few_images = few._replace(x_train=few.x_train[:4], y_train=few.y_train[:4])
        history = fit(model, few_images, out=tmp_path / f"{number}", **{"epochs": 1, name: value})
        assert len(history) == 1


@pytest.mark.parametrize("seed", [-1, 2**32, 0.5])
def test_a_seed_that_some_generator_refuses(few, seed):
    with pytest.raises((ValueError, TypeError), match=f"seed must be an integer .*; got {seed}"):
        seed_everything(seed)
    with pytest.raises((ValueError, TypeError), match=f"seed must be an integer .*; got {seed}"):
        over_seeds(lambda: pytest.fail("a model was made"), few, seeds=[0, seed])


def test_what_a_split_lacks(few, tmp_path):
    untested = few._replace(x_test=few.x_test[:0], y_test=few.y_test[:0])
    with pytest.raises(ValueError, match="no images to test on"):
        fit(linear().double(), untested, epochs=1, test_every=5, out=tmp_path / "out")
    with pytest.raises(ValueError, match="no images to test on"):
        over_seeds(lambda: pytest.fail("a model was made"), untested)
    assert not (tmp_path / "out").exists()
    assert len(fit(linear().double(), untested, epochs=1)) == 1
    with pytest.raises(ValueError, match="299 images and 300 labels to train on"):
        fit(linear().double(), few._replace(x_train=few.x_train[1:]))
    with pytest.raises(ValueError, match="100 images and 99 labels to test on"):
        fit(linear().double(), few._replace(y_test=few.y_test[1:]))
    with pytest.raises(ValueError, match="two images to train on; got 1"):
        fit(linear().double(), few._replace(x_train=few.x_train[:1], y_train=few.y_train[:1]))


class Explodes(nn.Module):
    """A linear map whose output, or the gradient of it alone, is infinite from a given call on."""

    def __init__(self, call, gradient=False):
        super().__init__()
        self.linear, self.left, self.gradient = linear().double(), call, gradient

    def forward(self, x):
        y = self.linear(x)
        self.left -= self.training
        if self.left >= 0 or not self.training:
            return y
        if self.gradient:
            y.register_hook(lambda g: g * float("inf"))
            return y
        return y * float("inf")


def test_divergence_is_named(few):
    with pytest.raises(FloatingPointError, match="the loss is nan in epoch 1; lower lr=0.5"):
        fit(Explodes(0), few, epochs=3, lr=0.5)


@pytest.mark.parametrize(
    "call, gradient, message",
    [(7, False, "the loss is nan in epoch 3"), (8, True, "a weight is not finite after epoch 3")],
)
def test_divergence_keeps_the_last_good_checkpoint(few, tmp_path, call, gradient, message):
    with pytest.raises(FloatingPointError, match=message):
        fit(Explodes(call, gradient), few, epochs=4, batch_size=100, out=tmp_path)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert len(saved["history"]) == 2
    assert all(tensor.isfinite().all() for tensor in saved["model"].values())


def test_log(few, tmp_path):
    history = fit(small_network(), few, test_every=2, out=tmp_path / "new", **QUICK)
    log = json.loads((tmp_path / "new" / "log.json").read_text())
    assert log["history"] == history and log["settings"]["batch_size"] == 100
    with open(tmp_path / "new" / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["epoch"]) for row in rows] == [1, 2]
    assert float(rows[1]["loss"]) == history[1]["loss"]
    assert rows[0]["test_accuracy"] == "" and float(rows[1]["test_accuracy"]) > 0
    assert not list(tmp_path.rglob("*.part"))
    assert log["settings"]["precision"] == "float64" and log["settings"]["augment"] is None


def test_log_that_a_kill_left_behind_is_mended(few, tmp_path):
    history = fit(small_network(), few, out=tmp_path, **QUICK)
    whole = (tmp_path / "log.csv").read_text()
    (tmp_path / "log.csv").write_text("".join(whole.splitlines(True)[:2]))
    (tmp_path / "log.json").unlink()
    assert fit(small_network(), few, out=tmp_path, **QUICK) == history
    assert (tmp_path / "log.csv").read_text() == whole
    assert json.loads((tmp_path / "log.json").read_text())["history"] == history


def test_only_plain_values_are_kept(few, tmp_path):
    def look(model, row):
        row["of NumPy"] = np.float64(0.5)

    options = {"after_epoch": look, "out": tmp_path, **QUICK}
    history = fit(small_network(), few, lr=np.float64(0.01), **options)
    again = fit(small_network(), few, lr=0.01, **options)
    assert again == history and again[0]["of NumPy"] == 0.5

    def tensor(model, row):
        row["weights"] = torch.zeros(2)

    with pytest.raises(TypeError, match="after_epoch.*plain numbers.*Tensor"):
        fit(small_network(), few, after_epoch=tensor, out=tmp_path / "other", **QUICK)
    assert not list((tmp_path / "other").iterdir())


def test_an_average_is_looked_at_under_the_names_of_the_model(few):
    names = []
    model = small_network()
    fit(model, few, ema_decay=0.9, after_epoch=lambda m, row: names.append(list(m.state_dict())),
        **QUICK)  # fmt: skip
    assert names == [list(model.state_dict())] * 2


def test_a_full_disk_is_called_so(tmp_path):
    class Full:
        def write(self, content):
            raise OSError(28, "No space left on device")

        def flush(self):
            pass

    (tmp_path / "model.pt").write_text("the old one")
    with pytest.raises(OSError, match="No space left"), replacing(tmp_path / "model.pt", "wb"):
        torch.save({"a": torch.zeros(1000)}, Full())
    assert (tmp_path / "model.pt").read_text() == "the old one"
    assert len(list(tmp_path.iterdir())) == 1


def test_tensorboard(few, tmp_path):
    pytest.importorskip("tensorboard", reason="pip install tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    def look(model, row):
        row["gates"] = {"layer1": [0.1, 0.9]}  # no number: for log.json alone

    history = fit(small_network(), few, after_epoch=look, out=tmp_path, **QUICK)
    assert history[0]["gates"] and "gates" not in (tmp_path / "log.csv").read_text()
    board = EventAccumulator(str(tmp_path)).Reload()
    logged = [(event.step, event.value) for event in board.Scalars("loss")]
    assert logged == [(r["epoch"], pytest.approx(r["loss"])) for r in history]


def interrupt_after(epoch):
    def stop(model, row):
        if row["epoch"] == epoch + 1:
            raise KeyboardInterrupt

    return stop


@pytest.mark.parametrize("ema_decay", [None, 0.9])
def test_resuming_changes_nothing(few, tmp_path, ema_decay):
    """Also with dropout and augmentation, which draw from two random generators."""

    def network():
        seed_everything(0)
        net = small_network()
        return nn.Sequential(net, nn.Dropout(0.1))

    options = {"epochs": 3, "batch_size": 100, "ema_decay": ema_decay, "test_every": 1}
    options["augment"] = partial(data.augment, crop=1, flip=False)
    whole = network()
    expected = fit(whole, few, **options)

    with pytest.raises(KeyboardInterrupt):
        fit(network(), few, after_epoch=interrupt_after(1), out=tmp_path, **options)
    torch.manual_seed(123)  # another process would not have the same state
    other = network()
    history = fit(other, few, out=tmp_path, **options)
    assert torch.equal(weights(whole), weights(other))
    for one, two in zip(expected, history, strict=True):
        assert {**one, "seconds": 0} == {**two, "seconds": 0}
    assert fit(network(), few, out=tmp_path, **options) == history  # nothing is left to train


def test_another_run_is_not_continued(few, tmp_path):
    fit(small_network(), few, out=tmp_path, **QUICK)
    with pytest.raises(ValueError, match="lr=0.01 there, 0.02 here"):
        fit(small_network(), few, lr=0.02, out=tmp_path, **QUICK)
    with pytest.raises(ValueError, match="of another model"):
        fit(linear().double(), few, out=tmp_path, **QUICK)
    other = {"augment": partial(data.augment, crop=1, flip=False)}
    with pytest.raises(
        ValueError, match=r"augment=None there, 'augment\(crop=1, flip=False\)' here"
    ):
        fit(small_network(), few, out=tmp_path, **other, **QUICK)
    with pytest.raises(ValueError, match="data=None there, 'another' here"):
        fit(small_network(), few, out=tmp_path, about={"data": "another"}, **QUICK)
    with pytest.raises(OSError):  # known before anything is trained
        fit(Explodes(0), few, out=tmp_path / "checkpoint.pt", **QUICK)


def flipped(content):
    """One bit of the longest tensor is another: torch.load does not notice."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


DAMAGE = {  # what becomes of the file, given its bytes, or of the dictionary in it
    "empty": lambda content: b"",
    "text": lambda content: b"half a file",
    "cut": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-100],
    "one bit": flipped,
    "zeros": lambda content: bytes(len(content)),
    "other things": {"weights": 1},
    "a tensor": torch.zeros(3),
    "settings are none": {"settings": None},
    "history is none": {"history": None},
    "rows are none": {"history": [1, 2]},
    "epochs are missing": {"history": [{"epoch": 2}]},
    **{f"no {name}": {name: ...} for name in ("model", "optimizer", "schedule", "scaler")},
    **{f"no {name}": {name: ...} for name in ("settings", "history", "generator", "rng")},
    "the model is none": {"model": 3},
    "the optimizer is another": {"optimizer": {"state": {}, "param_groups": []}},
    "the generator is none": {"generator": torch.zeros(3, dtype=torch.uint8)},
    "the generator is text": {"generator": "seed"},
}


@pytest.fixture(scope="module")
def written(few, tmp_path_factory):
    """checkpoint.pt of a whole run."""
    out = tmp_path_factory.mktemp("whole")
    fit(small_network(), few, out=out, **QUICK)
    return out / "checkpoint.pt"


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_checkpoint_says_what_to_do(few, tmp_path, written, damage):
    path = tmp_path / "checkpoint.pt"
    if callable(damage):
        path.write_bytes(damage(written.read_bytes()))
    elif isinstance(damage, dict) and damage.keys() != {"weights"}:
        saved = torch.load(written, weights_only=True) | damage
        torch.save({name: value for name, value in saved.items() if value is not ...}, path)
    else:
        torch.save(damage, path)
    before = path.read_bytes()
    with pytest.raises(ValueError, match="checkpoint.pt .*or is damaged: delete it to begin anew"):
        fit(small_network(), few, out=tmp_path, **QUICK)
    assert path.read_bytes() == before
    path.unlink()
    assert len(fit(small_network(), few, out=tmp_path, **QUICK)) == 2


def test_a_series_of_seeds_continues(few, tmp_path):
    make = lambda: models.resnet_cifar(8, 4, in_channels=1)  # noqa: E731
    first = over_seeds(make, few, seeds=range(2), out=tmp_path, **QUICK)
    stamp = (tmp_path / "1" / "checkpoint.pt").stat().st_mtime_ns
    assert (over_seeds(make, few, seeds=range(2), out=tmp_path, **QUICK) == first).all()
    assert (tmp_path / "1" / "checkpoint.pt").stat().st_mtime_ns == stamp


# The command.

LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
COMMAND = ["--depth", "8", "--width", "4", "--batch-size", "100", "--precision", "full"]


def run(arguments, launcher=(), **options):
    return subprocess.run(
        [sys.executable, *launcher, "-m", "attn_lib.train", *COMMAND, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        **options,
    )


def losses(folder):
    return [row["loss"] for row in json.loads((folder / "log.json").read_text())["history"]]


@pytest.mark.slow
def test_a_killed_run_resumes_to_the_same_result(tmp_path):
    arguments = ["--epochs", "12", "--attention", "eca"]
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert run([*arguments, "--out", whole]).returncode == 0
    process = subprocess.Popen(
        [sys.executable, "-m", "attn_lib.train", *COMMAND, *arguments, "--out", str(killed)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not (killed / "checkpoint.pt").exists() and time.monotonic() < deadline:
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    # The log may be an epoch behind: it is written after the checkpoint.
    saved = torch.load(killed / "checkpoint.pt", weights_only=True)
    assert 1 <= len(saved["history"]) < 12
    assert run([*arguments, "--out", killed]).returncode == 0
    assert losses(killed) == losses(whole)
    one, two = (torch.load(f / "model.pt", weights_only=True) for f in (whole, killed))
    for name, tensor in one["state_dict"].items():
        assert torch.equal(tensor, two["state_dict"][name]), name
    assert one["model"] == two["model"] and one["model"]["attention"] == "eca"
    models.resnet_cifar(8, 4, "eca", in_channels=1).load_state_dict(one["state_dict"])


@pytest.mark.slow
@pytest.mark.parametrize("attention", ["se", "bam"])
def test_two_processes_train_as_one(tmp_path, attention):
    """Batches of 100 and, last in an epoch, of 47; batch norm over 2D and 4D maps; augmentation."""
    arguments = ["--epochs", "2", "--attention", attention, "--reduction", "2", "--cutout", "2"]
    for folder, how in (("one", ()), ("two", LAUNCHER)):
        done = run([*arguments, "--out", tmp_path / folder], how)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("test accuracy") == 1
    one, two = losses(tmp_path / "one"), losses(tmp_path / "two")
    np.testing.assert_allclose(two, one, rtol=1e-4)
    saved = [torch.load(tmp_path / f / "model.pt", weights_only=True) for f in ("one", "two")]
    mean = "layer3.0.bn2.running_mean"
    torch.testing.assert_close(
        saved[1]["state_dict"][mean], saved[0]["state_dict"][mean], rtol=1e-2, atol=1e-3
    )


DROPOUT = """
import sys
import torch
from attn_lib import data
from attn_lib.train import distributed, fit

def stop(model, row):
    if row["epoch"] == 3 and "stop" in sys.argv:
        sys.exit()

digits = data.digits(torch.float64)
few = digits._replace(x_train=digits.x_train[:65], y_train=digits.y_train[:65])
torch.manual_seed(0)
model = torch.nn.Sequential(
    torch.nn.Flatten(), torch.nn.Dropout(), torch.nn.Linear(64, 10, dtype=torch.float64)
)
with distributed.processes():
    fit(model, few, epochs=3, batch_size=7, after_epoch=stop, out=sys.argv[1])
"""


@pytest.mark.slow
def test_two_processes_resume_with_dropout(tmp_path):
    """Shares of four and of three images: each process draws dropout of its own."""
    script = tmp_path / "dropout.py"
    script.write_text(DROPOUT)
    for folder, *stop in (("whole",), ("stopped", "stop"), ("stopped",)):
        command = [*LAUNCHER, script, tmp_path / folder, *stop]
        subprocess.run([sys.executable, *map(str, command)], check=True, timeout=300)
        epochs = len(losses(tmp_path / folder))
        assert epochs == (2 if stop else 3)
    assert losses(tmp_path / "whole") == losses(tmp_path / "stopped")


BATCH_NORMS = [
    {},
    {"affine": False},
    {"track_running_stats": False},
    {"affine": False, "track_running_stats": False},
    {"momentum": None},
    {"momentum": 0.0},
]


@pytest.fixture
def connected():
    """This process alone, as torchrun --nproc-per-node 1 connects it."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def normalised(**options):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.BatchNorm2d(4, **options),
        nn.Flatten(),
        nn.Linear(144, 8),
        nn.BatchNorm1d(8, **options),
        nn.Linear(8, 10),
    ).double()


@pytest.mark.parametrize("options", BATCH_NORMS, ids=str)
def test_batch_norm_of_every_kind_is_shared(few, connected, options):
    """Outputs, gradients and running statistics are those of torch's own batch norm."""
    model, plain = normalised(**options), normalised(**options)
    kinds = [type(m) for m in model.modules()]
    with distributed.shared(model) as shared:
        assert type(model[1]) is not nn.BatchNorm2d
        for x in few.x_train.split(100):
            y, wanted = shared(x), plain(x)
            torch.testing.assert_close(y, wanted, rtol=1e-12, atol=1e-12)
            y.square().sum().backward()
            wanted.square().sum().backward()
    assert [type(m) for m in model.modules()] == kinds
    for own, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own.grad, theirs.grad, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(model.state_dict(), plain.state_dict(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.eval()(x), plain.eval()(x), rtol=1e-12, atol=1e-12)


def test_on_a_gpu_the_batch_norms_are_torchs_for_many_processes(few, connected, monkeypatch):
    """Their statistics need a GPU; what is tested here is that they are put in and taken out."""
    monkeypatch.setattr(distributed, "_on_gpu", lambda model: True)
    monkeypatch.setattr(distributed, "DistributedDataParallel", lambda model, device_ids: model)
    model = normalised().eval()
    before = [list(vars(module)) for module in model.modules()]
    wanted = model(few.x_train)
    with distributed.shared(model) as shared:
        assert [type(shared[i]) for i in (1, 4)] == [nn.SyncBatchNorm] * 2
        assert torch.equal(shared(few.x_train), wanted)
    assert type(model[1]) is nn.BatchNorm2d and type(model[4]) is nn.BatchNorm1d
    assert [list(vars(module)) for module in model.modules()] == before


def test_the_own_batch_norms_are_back_after_training(few, connected):
    model = normalised()
    fit(model, few, **QUICK)
    assert type(model[1]) is nn.BatchNorm2d and type(model[4]) is nn.BatchNorm1d
    inside = []

    def stop(model, row):
        inside.append(type(model[1]))
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, few, after_epoch=stop, **QUICK)
    assert inside[0] is not nn.BatchNorm2d and type(model[1]) is nn.BatchNorm2d
    with pytest.raises(FloatingPointError):
        fit(nn.Sequential(model, Endless()), few, **QUICK)
    assert (
        type(model[1]) is nn.BatchNorm2d and vars(model[1]).keys() == vars(normalised()[1]).keys()
    )


class Endless(nn.Module):
    def forward(self, x):
        return x * float("inf")


class WithActivation(nn.BatchNorm2d):
    def forward(self, x):
        return super().forward(x).relu()


class Renamed(nn.BatchNorm2d):
    pass


def test_a_batch_norm_that_computes_something_else_is_refused(few, connected):
    model = normalised()
    model[1] = WithActivation(4).double()
    with pytest.raises(TypeError, match="'1' is a WithActivation, a batch norm with a forward"):
        fit(model, few, **QUICK)
    assert type(model[1]) is WithActivation and type(model[4]) is nn.BatchNorm1d
    model[1] = Renamed(4).double()
    fit(model, few, **QUICK)
    assert type(model[1]) is Renamed


NORMS = """
import json
import sys
import torch
from torch import nn
from attn_lib import data
from attn_lib.train import distributed, fit

digits = data.digits(torch.float64)
few = digits._replace(x_train=digits.x_train[:165], y_train=digits.y_train[:165])
torch.manual_seed(0)
options = json.loads(sys.argv[2])
model = nn.Sequential(
    nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, **options), nn.Flatten(), nn.Linear(144, 10)
).double()
with distributed.processes():
    fit(model, few, epochs=2, batch_size=32, out=sys.argv[1])
    assert type(model[1]) is nn.BatchNorm2d
"""


@pytest.mark.slow
@pytest.mark.parametrize("options", [BATCH_NORMS[1], BATCH_NORMS[3]], ids=str)
def test_two_processes_with_batch_norms_of_other_kinds_train_as_one(tmp_path, options):
    script = tmp_path / "norms.py"
    script.write_text(NORMS)
    for folder, launcher in (("one", ()), ("two", LAUNCHER)):
        command = [*launcher, script, tmp_path / folder, json.dumps(options)]
        subprocess.run([sys.executable, *map(str, command)], check=True, timeout=300)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-9)


def test_command_trains_on_own_images(tmp_path, capsys):
    from PIL import Image

    for name, value in (("dark", 40), ("bright", 200)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            colour = (value + i, value, value - i)
            Image.new("RGB", (20, 16), colour).save(tmp_path / "images" / name / f"{i}.png")
    out = tmp_path / "out"
    options = ["--dataset", "folder", "--data", str(tmp_path / "images"), "--size", "16"]
    assert main([*options, "--depth", "8", "--epochs", "2", "--out", str(out)]) == 0
    assert "the model is" in capsys.readouterr().out
    saved = torch.load(out / "model.pt", weights_only=True)
    assert saved["classes"] == ["bright", "dark"]
    assert saved["state_dict"]["fc.weight"].shape == (2, 64) and saved["size"] == [16, 16]

    # the file alone is enough to recognise an image
    arguments = dict(saved["model"])
    model = getattr(models, arguments.pop("name"))(**arguments).eval()
    model.load_state_dict(saved["state_dict"])
    images, _ = data.image_folder(tmp_path / "images", size=16)
    mean, std = (torch.tensor(saved[key])[:, None, None] for key in ("mean", "std"))
    accuracy = evaluate(model, (images.x_test - mean) / std, images.y_test)
    assert accuracy == saved["test_accuracy"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--model", "resnet"], "resnet needs colour images"),
        (["--model", "mobilenet_v2", "--dataset", "digits"], "needs colour images"),
        (["--dataset", "folder"], "needs --data PATH"),
        (["--no-augment", "--cutout", "2"], "--cutout is part of the augmentation"),
        (["--width", "4.5"], "is a number of channels; got 4.5"),
        (["--cutout", "-1"], "--cutout is a number of pixels, 0 for none; got -1"),
    ],
)
def test_command_refuses_what_does_not_fit(tmp_path, capsys, arguments, message):
    with pytest.raises(SystemExit) as stopped:
        main([*arguments, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2 and message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_command_reports_errors_in_a_line(tmp_path, capsys):
    out = str(tmp_path / "out")
    assert main(["--attention", "sse", "--out", out]) == 1
    assert "error: unknown attention 'sse'; known are 'se'" in capsys.readouterr().err
    assert main(["--dataset", "folder", "--data", str(tmp_path / "none"), "--out", out]) == 1
    assert "is not a folder" in capsys.readouterr().err
    for option, value, message in (
        ("--lr", "nan", "lr must be a finite number above 0 and below 1000000000; got nan"),
        ("--weight-decay", "-1", "weight_decay must be a finite number of at least 0 and below"),
        ("--seed", "-1", "seed must be an integer from 0 to 4294967295; got -1"),
        ("--epochs", "0", "epochs must be an integer from 1 to 1000000000; got 0"),
        ("--width", "1e300", "cannot make resnet_cifar with {'num_classes': 10, "),
        ("--ema-decay", "inf", "ema_decay must be a finite number of at least 0 and below 1"),
    ):
        assert main([option, value, "--out", out]) == 1
        assert f"error: {message}" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    command = ["--depth", "8", "--width", "4", "--epochs", "1", "--out", out]
    assert main(command) == 0
    assert main([*command, "--cutout", "2"]) == 1
    assert "cutout=0" in (error := capsys.readouterr().err) and "cutout=2" in error


def test_device_is_the_cpu_without_a_gpu():
    assert train.device().type == ("cuda" if torch.cuda.is_available() else "cpu")
