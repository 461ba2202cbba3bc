"""Which symmetries the labels of a data set break, and which gates have these symmetries.

For instance, on scikit-learn's digits::

    from attn_lib import data, labels

    split = data.digits()
    for row in labels.broken_symmetries(split.x_train, split.y_train):
        print(row)

A transformation drawn by chance for each image destroys what it changes: after a permutation of the
pixels, nobody can tell where anything was. If the labels depend on that, the best accuracy there is
falls. So a small network is trained twice, on the images as they are and on images each
transformed at random, and both are tested on the same held-out images, the second on transformed
ones.

What this can show, and what not. A loss says that the labels depend on what was destroyed, or that
this network finds the rest harder to learn: a larger network, or more images, may lose less. No
loss says that this network needs nothing of what was destroyed, not that the labels are independent
of it: another feature may say the same, or the network may be too weak to use it. For instance,
digits of which half are transposed can still be told apart, because a transposed digit does not
look like another one. Intervals are for
the test images; the row "none", the same training with another seed, shows what chance in training
does.
"""

import functools
from typing import NamedTuple

import torch
from torch import nn

from attn_lib import layers, outcomes, symmetries
from attn_lib._progress import progress
from attn_lib.data import Split
from attn_lib.train import fit

__all__ = ["Row", "broken_symmetries"]

RECIPE = {"epochs": 30, "lr": 0.01, "batch_size": 64}
#: A loss has to be surely larger than this: two trainings on the same images differ by some of it.
MARGIN = 0.02
HELD_OUT = 1 / 3
FEWEST = 100


class Row(NamedTuple):
    """What became of the accuracy under one transformation.

    ``loss`` is ``plain`` minus ``transformed``, the accuracies on the held-out images, and is
    within ``low`` and ``high``. ``verdict`` is "broken" if ``low`` is above 0.02, "not learned" if
    the network did not surely learn the labels of the images as they are, else "no evidence".
    ``followed_by`` are mechanisms of :func:`attn_lib.layers.build` whose gates follow the
    transformation with whatever weights: it makes no difference whether it comes before or after
    the gates are computed. Convolutions that pad with zeros do not follow "roll" at the border.
    """

    symmetry: str
    plain: float
    transformed: float
    loss: float
    low: float
    high: float
    verdict: str
    followed_by: tuple


def _uniform(x, generator, *sizes):
    return torch.rand(len(x), *sizes, generator=generator).to(x.device, x.dtype)


def _take(x, dim, order):
    """Entries of each image along one dimension in an order of its own, (N, length)."""
    shape = [len(x), 1, 1, 1]
    shape[dim] = order.shape[1]
    return x.gather(dim, order.view(shape).expand_as(x))


def _pixels(x, generator):
    order = _uniform(x, generator, x.shape[2] * x.shape[3]).argsort(1)
    return _take(x.flatten(2)[..., None], 2, order).view_as(x)


def _along(dim):
    def permute(x, generator):
        return _take(x, dim, _uniform(x, generator, x.shape[dim]).argsort(1))

    return permute


def _roll(x, generator):
    for dim in (2, 3):
        side = x.shape[dim]
        start = (_uniform(x, generator) * side).long()[:, None]
        x = _take(x, dim, (start + torch.arange(side, device=x.device)) % side)
    return x


def _half(function):
    """``function`` for about half of the images."""

    def some(x, generator):
        return torch.where(_uniform(x, generator, 1, 1, 1) < 0.5, function(x), x)

    return some


def _rotate(x, generator):
    turns = _uniform(x, generator, 1, 1, 1) * 4
    for k in (1, 2, 3):
        x = torch.where(turns.floor() == k, x.rot90(k, (2, 3)), x)
    return x


def _scale(x, generator):
    return x * 4 ** (2 * _uniform(x, generator, 1, 1, 1) - 1)


def _offset(x, generator):
    return x + x.std() * (4 * _uniform(x, generator, 1, 1, 1) - 2)


_TRANSFORM = {
    "none": lambda x, generator: x,
    "pixels": _pixels,
    "rows": _along(2),
    "columns": _along(3),
    "roll": _roll,
    "transpose": _half(lambda x: x.transpose(2, 3)),
    "rotate": _rotate,
    "flip left-right": _half(lambda x: x.flip(3)),
    "flip up-down": _half(lambda x: x.flip(2)),
    "channels": _along(1),
    "scale": _scale,
    "offset": _offset,
}
_SQUARE = ("transpose", "rotate")


def broken_symmetries(images, labels=None, *, seed=0):
    """Find the transformations under which the labels of a data set are harder to tell.

    They are: permutations of the pixels, of the rows, of the columns and of the channels; circular
    translations ("roll"); transposition and the two flips, each of about half of the images;
    rotations by 0, 90, 180 or 270 degrees; multiplication of the values by 1/4 to 4 ("scale"); the
    addition of up to two standard deviations to all values or subtraction from them ("offset").
    Transposition and rotation are left out if the images are not square, and permutations of the
    channels if there is one.

    One third of the images, drawn with ``seed``, is held out. The 1,797 digits of
    scikit-learn, 8x8, take less than a minute on one core of a CPU. The time grows with the number
    of images and of pixels; larger ones can be made smaller before.

    Parameters
    ----------
    images : tensor (N, C, H, W), or torch Dataset of pairs (image (C, H, W), label)
        At least 100.
    labels : tensor (N,) of integers, optional
        Wanted if ``images`` is a tensor.
    seed : int
        Of the division, initial weights, training and transformations.

    Returns
    -------
    list of Row : "none" first. The intervals hold together, with a probability of at least 95 %
        over the held-out images. They are made of the exact ones (Clopper and Pearson) of two
        shares: images that only the first network has right, and images that only the second has.

    Raises
    ------
    ValueError
        Images of another shape, too few or with values that are not finite; labels that are
        missing, of another number, not integers, or all the same; a channel that is constant.
    """
    images, labels, classes = _checked(images, labels)
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed))
    tests = round(len(images) * HELD_OUT)
    test, train = order[:tests].to(images.device), order[tests:].to(images.device)
    split = Split(images[train], labels[train], images[test], labels[test])
    names = [
        name
        for name in _TRANSFORM
        if not (name in _SQUARE and images.shape[2] != images.shape[3])
        and not (name == "channels" and images.shape[1] == 1)
    ]
    most = int(labels.bincount().max()) / len(labels)
    plain = _right(split, "none", classes, seed)
    learned = outcomes.interval(int(plain.sum()), tests)[0] > most
    return [
        _row(name, plain, _right(split, name, classes, seed + 1), learned, len(names))
        for name in progress(names, desc="transformations")
    ]


def _checked(images, labels):
    """Images in float32, labels 0, 1, ..., and how many classes there are."""
    if labels is None:
        if isinstance(images, torch.Tensor) or not hasattr(images, "__getitem__"):
            raise ValueError("labels are missing: give images and labels, or a Dataset of pairs")
        pairs = [images[k] for k in range(len(images))]
        images = torch.stack([torch.as_tensor(image) for image, _ in pairs])
        labels = torch.as_tensor([int(label) for _, label in pairs])
    images, labels = torch.as_tensor(images), torch.as_tensor(labels)
    if images.ndim != 4 or 0 in images.shape[1:]:
        raise ValueError(f"images must be (N, C, H, W); got {tuple(images.shape)}")
    if labels.shape != images.shape[:1]:
        raise ValueError(
            f"labels must be one for each of the {len(images)} images; got {tuple(labels.shape)}"
        )
    if labels.is_floating_point() or labels.is_complex():
        raise ValueError(f"labels must be integers that name classes; got {labels.dtype}")
    if len(images) < FEWEST:
        raise ValueError(f"needs at least {FEWEST} images; got {len(images)}")
    images = images.float()
    if not images.isfinite().all():
        raise ValueError("images must be finite; there are values that are infinite or not numbers")
    known, labels = labels.to(images.device).unique(return_inverse=True)
    if len(known) < 2:
        raise ValueError(f"labels must name two classes or more; all are {known.item()}")
    return images, labels, len(known)


class _Network(nn.Module):
    """A small network that can use places, directions, channels, or none of them.

    From a 1x1 convolution the mean and maximum over all places; from a 3x3 convolution the means
    of rows, of columns and of all places, and 4x4 means of regions. A layer with 64 hidden units
    classifies.
    """

    def __init__(self, channels, height, width, classes):
        super().__init__()
        self.point = nn.Sequential(nn.Conv2d(channels, 16, 1), nn.ReLU())
        self.local = nn.Sequential(nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU())
        features = 16 * (3 + height + width + 16)
        self.head = nn.Sequential(
            nn.BatchNorm1d(features), nn.Linear(features, 64), nn.ReLU(), nn.Linear(64, classes)
        )

    def forward(self, x):
        point, local = self.point(x), self.local(x)
        parts = [
            point.mean((2, 3)),
            point.amax((2, 3)),
            local.mean((2, 3)),
            local.mean(3),
            local.mean(2),
            nn.functional.adaptive_avg_pool2d(local, 4),
        ]
        return self.head(torch.cat([part.flatten(1) for part in parts], 1))


def _right(split, name, classes, seed):
    """Which test images a network has right that was trained under a transformation: bool (N,)."""
    transform = _TRANSFORM[name]
    mean, deviation = (value[:, None, None] for value in split.scale())
    if (deviation == 0).any():
        raise ValueError("a channel of the images is constant: nothing can be learned from it")

    def standardised(x, generator):
        return (transform(x, generator) - mean) / deviation

    torch.manual_seed(seed)
    model = _Network(*split.x_train.shape[1:], classes).to(split.x_train.device)
    fit(model, split, seed=seed, augment=standardised, **RECIPE)
    x = standardised(split.x_test, torch.Generator().manual_seed(seed))
    model.eval()
    with torch.no_grad():
        guesses = torch.cat([model(part).argmax(1) for part in x.split(512)])
    return (guesses == split.y_test).cpu()


def _row(name, plain, transformed, learned, comparisons):
    images = len(plain)
    lost, won = int((plain & ~transformed).sum()), int((transformed & ~plain).sum())
    (lost_low, lost_high), (won_low, won_high) = (
        outcomes.interval(count, images, 2 * comparisons) for count in (lost, won)
    )
    low, high = lost_low - won_high, lost_high - won_low
    verdict = "not learned" if not learned else "broken" if low > MARGIN else "no evidence"
    first, second = plain.double().mean().item(), transformed.double().mean().item()
    return Row(name, first, second, (lost - won) / images, low, high, verdict, _followers(name))


@functools.cache
def _followers(name):
    """Mechanisms whose gates follow the transformation, tried with random weights."""
    function = _TRANSFORM[name]

    def moved(x):
        return function(x, torch.Generator().manual_seed(3))

    on_gates = (lambda gates: gates) if name in ("scale", "offset") else moved
    transformation = symmetries.Transformation(moved, on_gates, moved)
    return tuple(
        mechanism
        for mechanism in ("se", "cbam", "bam", "eca", "coordinate")
        if all(_follows(mechanism, transformation, seed) for seed in range(3))
    )


def _follows(mechanism, transformation, seed):
    generator = torch.Generator().manual_seed(seed)

    def random(*shape):
        return torch.randn(shape, dtype=torch.float64, generator=generator)

    layer = layers.build(mechanism, 8, **({} if mechanism == "eca" else {"reduction": 1}))
    layer = layer.double().eval()
    with torch.no_grad():
        for weights in layer.parameters():
            weights.copy_(random(*weights.shape) / 2)
    x = random(4, 8, 6, 6) + random(4, 8, 1, 1)
    return symmetries.change_of_gates(layer, x, transformation) < 1e-9
