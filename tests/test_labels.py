"""Which symmetries labels break, where the answer is known by construction."""

import pytest
import torch
from torch.utils.data import TensorDataset

from attn_lib import data, labels

COUNT = 600


@pytest.fixture
def short(monkeypatch):
    """Few epochs, and only the transformations that are named."""

    def choose(*names):
        chosen = {name: labels._TRANSFORM[name] for name in ("none", *names)}
        monkeypatch.setattr(labels, "_TRANSFORM", chosen)
        monkeypatch.setattr(labels, "RECIPE", {"epochs": 6, "lr": 0.02, "batch_size": 64})

    return choose


def made(kind, channels=3):
    """Noise with something that depends on the label: of what, says ``kind``."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(COUNT, channels, 6, 6, generator=generator)
    y = torch.randint(2, (COUNT,), generator=generator)
    line = torch.randint(6, (COUNT,), generator=generator)
    for image, label, k in zip(x, y, line, strict=True):
        if kind == "mean":
            image += 2.0 * label
        elif kind == "row":
            image[:, 3 * label] += 3
        elif kind == "orientation":
            (image[:, k] if label else image[:, :, k]).add_(4)
        elif kind == "channel":
            image[label] += 2
    return x, y


@pytest.mark.parametrize(
    ("kind", "broken", "kept"),
    [
        ("mean", {"offset"}, {"pixels", "channels"}),
        ("row", {"pixels", "rows", "roll"}, {"columns", "flip left-right"}),
        ("orientation", {"transpose", "rotate"}, {"rows", "columns", "flip up-down"}),
        ("channel", {"channels"}, {"pixels", "scale"}),
    ],
)
def test_what_labels_break_is_found(short, kind, broken, kept):
    short(*broken, *kept)
    rows = labels.broken_symmetries(*made(kind))
    assert rows[0].symmetry == "none"
    assert {row.symmetry for row in rows if row.verdict == "broken"} == broken
    assert {row.symmetry for row in rows if row.verdict == "no evidence"} == kept | {"none"}
    for row in rows:
        assert row.loss == pytest.approx(row.plain - row.transformed)
        assert row.low <= row.loss <= row.high


def test_labels_by_chance_are_not_learned(short):
    short("pixels")
    rows = labels.broken_symmetries(*made("nothing"))
    assert [row.verdict for row in rows] == ["not learned"] * 2


def test_the_digits_depend_on_places(short):
    short("pixels")
    split = data.digits()
    pairs = TensorDataset(split.x_train, split.y_train)
    none, pixels = labels.broken_symmetries(pairs, seed=1)
    assert (none.verdict, pixels.verdict) == ("no evidence", "broken")
    assert labels.broken_symmetries(split.x_train, split.y_train, seed=1) == [none, pixels]


def test_what_cannot_be_done_to_the_images_is_left_out(short):
    short("transpose", "rotate", "channels")
    x, y = made("mean", channels=1)
    assert [r.symmetry for r in labels.broken_symmetries(x[:, :, 1:], y)] == ["none"]


@pytest.mark.parametrize("name", labels._TRANSFORM)
def test_each_image_is_transformed_by_itself(name):
    x = torch.arange(2 * 25.0).view(1, 2, 5, 5).expand(40, 2, 5, 5).contiguous()
    moved = labels._TRANSFORM[name](x, torch.Generator().manual_seed(0))
    kinds = {tuple(image.flatten().tolist()) for image in moved}
    most = {"none": 1, "transpose": 2, "rotate": 4, "channels": 2}
    assert len(kinds) == most.get(name, 2 if "flip" in name else len(kinds))
    assert len(kinds) > 1 or name == "none"
    if name not in ("scale", "offset"):
        assert all(sorted(kind) == sorted(x[0].flatten().tolist()) for kind in kinds)
    assert (moved[:, 1] - moved[:, 0]).std() < 1e-6 or name in ("channels", "scale")


def test_which_gates_follow():
    follow = {name: set(labels._followers(name)) for name in labels._TRANSFORM}
    assert follow["none"] == {"se", "cbam", "bam", "eca", "coordinate"}
    assert follow["pixels"] == follow["rotate"] == {"se", "eca"}
    assert follow["rows"] == follow["roll"] == {"se", "eca", "coordinate"}
    assert follow["channels"] == follow["scale"] == follow["offset"] == set()


X, Y = torch.rand(120, 1, 4, 4), torch.arange(120) % 2


@pytest.mark.parametrize(
    ("images", "wrong", "message"),
    [
        (X, None, "labels are missing"),
        (X[0], Y, r"images must be \(N, C, H, W\); got \(1, 4, 4\)"),
        (X, Y[:5], "one for each of the 120 images"),
        (X, Y.float(), "integers that name classes; got torch.float32"),
        (X[:99], Y[:99], "at least 100 images; got 99"),
        (X / 0, Y, "images must be finite"),
        (X, 0 * Y + 7, "two classes or more; all are 7"),
        (0 * X, Y, "a channel of the images is constant"),
    ],
)
def test_bad_input_is_refused(images, wrong, message):
    with pytest.raises(ValueError, match=message):
        labels.broken_symmetries(images, wrong)
