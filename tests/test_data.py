"""Embedded data: shapes, reproducibility, and the promises of the diagnostic task."""

import pytest
import torch

from attn_lib import data


def test_digits():
    split = data.digits()
    assert split.x_train.shape == (1347, 1, 8, 8) and split.x_test.shape == (450, 1, 8, 8)
    assert split.x_train.dtype == torch.float32
    assert split.x_train.min() == 0 and split.x_train.max() == 1
    assert torch.bincount(split.y_test).min() >= 43  # every class in proportion
    for one, two in zip(split, data.digits(), strict=True):
        assert torch.equal(one, two)


def test_split_converts_images_and_keeps_labels():
    split = data.digits().to(torch.float64)
    assert split.x_train.dtype == split.x_test.dtype == torch.float64
    assert split.y_train.dtype == torch.int64


def test_cued_digits_answer_to_the_cue():
    split = data.cued_digits(n_train=300, n_test=50, classes=10)
    x, y = split.x_train, split.y_train
    assert x.shape == (300, 3, 8, 16) and split.x_test.shape == (50, 3, 8, 16)
    assert (x[:, :2, :, 8:] == 0).all() and (x[:, 2, :, :12] == 0).all()
    cue = x[:, 2, 0, 12]
    assert set(cue.tolist()) == {-2.0, 2.0}
    images, labels = data.digits().x_train[:, 0], data.digits().y_train
    for i in range(20):
        meant = x[i, 0 if cue[i] > 0 else 1, :, :8]
        found = labels[(images == meant).all(dim=2).all(dim=1)]
        assert y[i] in found


def test_cued_digits_are_even_and_reproducible():
    one, two = data.cued_digits(n_train=4000, seed=3), data.cued_digits(n_train=4000, seed=3)
    other = data.cued_digits(n_train=4000, seed=4)
    assert torch.equal(one.x_train, two.x_train) and not torch.equal(one.x_train, other.x_train)
    assert abs(one.y_train.double().mean() - 0.5) < 0.03
    assert abs((one.x_train[:, 2, 0, 15] > 0).double().mean() - 0.5) < 0.03


def test_local_additive_networks_stay_below_the_bound():
    """Enumerate the argument of the docstring: no sums a(digits) + b(cue) get all four right."""
    generator = torch.Generator().manual_seed(0)
    best = 0
    for _ in range(2000):
        a = torch.randn(2, 2, 2, generator=generator)  # digit 0, digit 1 -> two logits
        b = torch.randn(2, 2, generator=generator)  # cue -> two logits
        right = 0
        for p in range(2):
            for q in range(2):
                for cue in range(2):
                    right += (a[p, q] + b[cue]).argmax().item() == (p, q)[cue]
        best = max(best, right / 8)
    assert best == 0.875


@pytest.mark.parametrize("classes", [1, 11])
def test_classes_out_of_range(classes):
    with pytest.raises(ValueError, match=f"between 2 and 10; got {classes}"):
        data.cued_digits(classes=classes)


def test_standardised():
    split = data.Split(
        torch.rand(40, 3, 4, 4).double() * 5 + 2,
        torch.zeros(40),
        torch.rand(8, 3, 4, 4).double(),
        torch.zeros(8),
    )
    new = split.standardised()
    deviation, mean = torch.std_mean(new.x_train, (0, 2, 3), correction=0)
    torch.testing.assert_close(mean, torch.zeros(3).double())
    torch.testing.assert_close(deviation, torch.ones(3).double())
    scale, shift = torch.std_mean(split.x_train, (0, 2, 3), correction=0, keepdim=True)
    torch.testing.assert_close(new.x_test * scale + shift, split.x_test)
    with pytest.raises(ValueError, match="constant"):
        data.Split(torch.ones(4, 1, 2, 2), split.y_train, split.x_test, split.y_test).standardised()


# Augmentation. The value of a pixel says where it was.


def positions(n, h=6, w=8):
    rows, columns = torch.arange(1.0, h + 1), torch.arange(1.0, w + 1)
    image = torch.stack((rows[:, None].expand(h, w), columns.expand(h, w)))
    return image.expand(n, 2, h, w).clone()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_augment_shifts_and_mirrors_whole_images():
    x = positions(400)
    y = data.augment(x, crop=2, generator=generator())
    assert y.shape == x.shape and y.dtype == x.dtype
    seen = set()
    for image in y:
        rows, columns = image[0, :, 3:5].amax(1), image[1, 2:4].amax(0)
        known_rows, known_columns = rows[rows > 0], columns[columns > 0]
        assert (known_rows.diff() == 1).all()
        step = known_columns.diff()
        assert (step == step[0]).all() and abs(step[0]) == 1
        mirrored = bool(step[0] < 0)
        down = int((rows == 0).nonzero()[0] if (rows == 0).any() else -1)
        seen.add((mirrored, int(known_rows[0]), len(known_columns), down))
    assert {mirrored for mirrored, *_ in seen} == {False, True}
    assert len(seen) > 20  # the shifts of both axes are drawn apart


def test_augment_of_nothing_is_nothing():
    x = positions(5)
    assert torch.equal(data.augment(x, crop=0, flip=False), x)


def test_half_of_the_images_are_mirrored():
    y = data.augment(positions(1000), crop=0, generator=generator())
    mirrored = (y[:, 1, 0, 0] > y[:, 1, 0, -1]).double().mean()
    assert abs(mirrored - 0.5) < 0.05


def test_cutout_blanks_one_square_anywhere():
    y = data.augment(torch.ones(2000, 3, 9, 9), crop=0, cutout=4, generator=generator())
    blank = y == 0
    assert torch.equal(blank[:, 0], blank[:, 1]) and torch.equal(blank[:, 0], blank[:, 2])
    rows, columns = blank[:, 0].any(2).sum(1), blank[:, 0].any(1).sum(1)
    assert torch.equal(rows * columns, blank[:, 0].sum((1, 2)))  # a full rectangle
    assert rows.max() == columns.max() == 4 and rows.min() == 2  # part of it may lie outside
    assert blank[:, 0].any(0).all()


def test_augment_depends_on_the_generator_alone():
    x = positions(20)
    one, two = (data.augment(x, cutout=2, generator=generator(3)) for _ in range(2))
    assert torch.equal(one, two)
    assert not torch.equal(one, data.augment(x, cutout=2, generator=generator(4)))


@pytest.mark.parametrize(
    "x, options, message",
    [
        (torch.ones(3, 8, 8), {}, r"\(N, C, H, W\); got shape \(3, 8, 8\)"),
        (torch.ones(1, 3, 8, 8), {"crop": -1}, "crop=-1"),
        (torch.ones(1, 3, 8, 8), {"cutout": -2}, "cutout=-2"),
    ],
)
def test_what_augment_refuses(x, options, message):
    with pytest.raises(ValueError, match=message):
        data.augment(x, **options)
