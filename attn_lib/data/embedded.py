"""Data that needs no network: scikit-learn's digits, and diagnostic tasks made from them.

A diagnostic task is built so that the answer needs one thing that one mechanism can see and that
another provably cannot.
"""

import torch

from attn_lib.data.split import Split

__all__ = ["cued_digits", "digits", "marked_digits", "pointed_digits"]


def digits(dtype=torch.float32):
    """Handwritten digits, 8x8 pixels: 1,347 to train on and 450 to test on.

    The test set of Alpaydin & Kaynak's "Optical Recognition of Handwritten Digits" (UCI), as
    scikit-learn ships it, split once and for all with every class in the same proportion.

    Returns
    -------
    Split : images (N, 1, 8, 8) in [0, 1], labels 0 to 9.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = bunch.images[:, None] / 16.0  # the pixels count 0 to 16
    parts = train_test_split(
        images, bunch.target, test_size=450, stratify=bunch.target, random_state=0
    )
    x_train, x_test, y_train, y_test = map(torch.from_numpy, parts)
    return Split(x_train.to(dtype), y_train, x_test.to(dtype), y_test)


def cued_digits(n_train=600, n_test=1000, classes=2, dtype=torch.float32, seed=0):
    """Two digits in one place, and far from them a cue that says which of the two is meant.

    Each image is (3, 8, 16). Channel 0 holds one digit and channel 1 another, both in columns
    0 to 7. Channel 2 holds a patch in columns 12 to 15: +2 everywhere in it means "read channel 0",
    -2 "read channel 1". The label is the digit that is meant.

    What cannot solve it: a network whose receptive field is narrower than 6 columns, followed by
    a mean over positions and a linear map. No position sees both a digit and the cue, so every
    logit is a sum a_k(digits) + b_k(cue). Two different digits p, q make four
    images: p or q in channel 0, either cue. All four cannot be right: p in channel 0 needs
    d_p > d_q, with d = b(+2) - b(-2), to be right under both cues, and q in channel 0 needs
    d_q > d_p. At most three of the four are right, so with a share 1/K of pairs of equal digits
    the accuracy is at most 3/4 + 1/(4K): 0.875 for K = 2 classes drawn evenly.

    What can: a gate on channels computed from a mean over the whole map, which carries the cue to
    the digits and switches the features of one of them off.

    Parameters
    ----------
    n_train, n_test : int
        Number of images; training images use training digits only, test images test digits only.
    classes : int
        K, from 2 to 10: the digits 0 to K - 1 are used.
    seed : int
        Of the pairing and the cues.

    Returns
    -------
    Split : images (N, 3, 8, 16), labels 0 to K - 1.

    Raises
    ------
    ValueError
        ``classes`` is not between 2 and 10.
    """
    return _task(_cued, n_train, n_test, classes, dtype, seed)


def _cued(images, labels, n, classes, generator):
    first, second = _balanced_pairs(labels, n, classes, generator)
    cue = torch.randint(2, (n,), generator=generator)
    x = images.new_zeros(n, 3, 8, 16)
    x[:, 0, :, :8] = images[first, 0]
    x[:, 1, :, :8] = images[second, 0]
    x[:, 2, :, 12:] = (2 - 4 * cue)[:, None, None]
    return x, torch.where(cue == 0, labels[first], labels[second])


def marked_digits(n_train=2000, n_test=1000, classes=10, dtype=torch.float32, seed=0):
    """Two digits side by side, and under one of them a mark that says which of the two is meant.

    Each image is (2, 16, 16), four tiles of 8x8. Channel 0 holds a digit in either of the upper
    two tiles. Channel 1 is +1 in the upper half of the tile below the digit that is meant. The
    label is that digit. An image and the one with the same digits and the other mark consist of
    the same four tiles, at other places.

    What cannot solve it: a network that works tile by tile, and then takes a mean over positions
    and a linear map, with or without a gate on channels computed from a mean or a maximum over
    the whole map. Its logits are the same for both marks, so it is right for one of two digits,
    or for both if they are equal: 1/2 + 1/(2K) = 0.55 for K = 10 classes drawn evenly.

    What can: a gate on positions that sees from a digit to the mark below it.

    Parameters
    ----------
    n_train, n_test : int
        Number of images; training images use training digits only, test images test digits only.
    classes : int
        K, from 2 to 10: the digits 0 to K - 1 are used.
    seed : int
        Of the pairing, the marks.

    Returns
    -------
    Split : images (N, 2, 16, 16), labels 0 to K - 1.

    Raises
    ------
    ValueError
        ``classes`` is not between 2 and 10.
    """
    return _task(_marked, n_train, n_test, classes, dtype, seed)


def _marked(images, labels, n, classes, generator):
    left, right = _balanced_pairs(labels, n, classes, generator)
    mark = torch.randint(2, (n,), generator=generator)
    x = images.new_zeros(n, 2, 16, 16)
    x[:, 0, :8, :8] = images[left, 0]
    x[:, 0, :8, 8:] = images[right, 0]
    side = torch.arange(16) // 8  # which of the two tiles a column belongs to
    x[:, 1, 8:12] = (side == mark[:, None]).to(x.dtype)[:, None, :]
    return x, torch.where(mark == 0, labels[left], labels[right])


def pointed_digits(n_train=2000, n_test=1000, classes=10, dtype=torch.float32, seed=0):
    """Four digits on a 2x2 grid, and in the margins two bars that point at one of them.

    Each image is (2, 20, 20). Channel 0 holds the digits, in rows and columns 0 to 15. Channel 1
    holds two bars, 4 pixels thick: one in the last four columns beside one row of digits, one in
    the last four rows below one column of digits. The label is the digit where the two meet.

    Cut into 4x4 patches, the four images with the same digits and different bars consist of the
    same 25 patches in another order.

    What cannot solve it: a network that works patch by patch, and then takes a mean over
    positions and a linear map, with or without a gate on channels computed from a mean or a
    maximum over the whole map. Its logits are the same for all four, so it is right for at most
    as many of the four as show the most frequent digit: 0.3835 on average over K = 10 classes
    drawn evenly. With one gate a row, the logits are the same for both places of the lower bar,
    whose row mean does not change: right for one of two digits, or for both if they are equal,
    1/2 + 1/(2K) = 0.55. A gate a column likewise.

    What can: a gate a row times a gate a column, each opened by the bar that its mean contains.

    Parameters
    ----------
    n_train, n_test : int
        Number of images; training images use training digits only, test images test digits only.
    classes : int
        K, from 2 to 10: the digits 0 to K - 1 are used.
    seed : int
        Of the digits and the bars.

    Returns
    -------
    Split : images (N, 2, 20, 20), labels 0 to K - 1.

    Raises
    ------
    ValueError
        ``classes`` is not between 2 and 10.
    """
    return _task(_pointed, n_train, n_test, classes, dtype, seed)


def _pointed(images, labels, n, classes, generator):
    drawn = [_balanced_pairs(labels, n, classes, generator) for _ in range(2)]
    grid = torch.stack([*drawn[0], *drawn[1]], 1).reshape(n, 2, 2)
    row, column = torch.randint(2, (2, n), generator=generator)
    x = images.new_zeros(n, 2, 20, 20)
    x[:, 0, :16, :16] = images[grid, 0].transpose(2, 3).reshape(n, 16, 16)
    place = torch.arange(16) // 8  # which of the two digits a pixel belongs to
    x[:, 1, :16, 16:] = (place == row[:, None]).to(x.dtype)[:, :, None]
    x[:, 1, 16:, :16] = (place == column[:, None]).to(x.dtype)[:, None, :]
    return x, labels[grid[torch.arange(n), row, column]]


def _task(draw, n_train, n_test, classes, dtype, seed):
    """Split of a task; ``draw(images, labels, n, classes, generator)`` makes one part of it."""
    if not 2 <= classes <= 10:
        raise ValueError(f"classes must be between 2 and 10; got {classes}")
    source = digits(dtype)
    generator = torch.Generator().manual_seed(seed)
    train = draw(source.x_train, source.y_train, n_train, classes, generator)
    test = draw(source.x_test, source.y_test, n_test, classes, generator)
    return Split(*train, *test)


def _balanced_pairs(labels, n, classes, generator):
    """Indices of two images each, with both classes drawn evenly and independently."""
    by_class = [torch.nonzero(labels == k).flatten() for k in range(classes)]

    def draw():
        drawn = torch.randint(classes, (n,), generator=generator)
        at = torch.rand(n, generator=generator)
        return torch.stack(
            [by_class[k][int(u * len(by_class[k]))] for k, u in zip(drawn, at, strict=True)]
        )

    return draw(), draw()
