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
