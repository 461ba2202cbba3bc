"""Diagnostic tasks on feature maps: each needs one ability, and no other helps.

A task is a set of feature maps (N, 8, 12, 12) with labels 0 and 1, and is posed to one network:
a gate, the mean of each channel, a linear classifier. The classifier sees eight means, so what is
not linear in them, and what connects places or channels, has to be the gate's work. That makes the
tasks exact: for each stands below how many feature maps any network can get right (Bayes), and how
many the best network without the ability.

Several tasks hide a factor t = +1 or -1 behind a cue c = +1 or -1: one channel holds t, another -t,
and the label is the sign of t c, so the cue says which channel is right. A classifier that adds up
what it sees, a(t) + b(c), is right for three of the four pairs at most: t c is an exclusive or.
Suppose that every channel has one gate, and that the gates depend on something about the cue that
reveals it with probability q at best. Then the network is right with probability (1 + q) / 2 at
most, because where the guess is wrong, the sum can still be right for half of the images. Without
any gate q = 1/2, which gives 3/4.
"""

import torch

from attn_lib.data.split import Split

__all__ = [
    "channel_by_place",
    "channel_order",
    "global_switch",
    "local_product",
    "marked_neighbour",
    "plain_evidence",
    "same_row",
    "sparse_peak",
]

CHANNELS, SIDE = 8, 12
# Columns of the factor, and of its cue: more than 3 apart, and not a multiple of 4, so that no
# 7x7 kernel and no kernel of dilation 4 reaches from one to the other.
FACTOR, CUE = [0, 1], [6, 7, 10, 11]
CUE_CELLS = SIDE * len(CUE)


def global_switch(strength=0.3, n_train=2000, n_test=2000, dtype=torch.float32, seed=0):
    """The mean of one channel decides which of two others carries the label.

    Channel 3 is t and channel 5 is -t, in columns 0 and 1. Channel 4 is ``strength`` times c, plus
    noise of deviation 1, in 48 cells of columns 6, 7, 10 and 11. All is multiplied by 4, to bring
    the means to the size of 1. The label is the sign of t c.

    Bayes: Phi(strength sqrt(48)), as the sum of the cells tells all about c. Without a gate that
    sees further than from one group of columns to the other: 3/4.

    Parameters
    ----------
    strength : float
        Of the cue in each cell, beside noise of deviation 1.
    n_train, n_test : int
        Number of feature maps.
    seed : int

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.
    """

    def draw(n, generator):
        t, cue = _signs(2, n, generator=generator)
        x = _factor(t, 3, 5)
        cells = torch.randn(n, SIDE, len(CUE), generator=generator) + strength * cue[:, None, None]
        x[:, 4][:, :, CUE] = cells
        return 4 * x, t * cue

    return _split(draw, n_train, n_test, dtype, seed)


def sparse_peak(height=5.0, n_train=2000, n_test=2000, dtype=torch.float32, seed=0):
    """A single high cell decides, which a mean dilutes and a maximum keeps.

    As :func:`global_switch`, but the 48 cells of the cue are noise of deviation 1, and for c = +1
    ``height`` is added to one of them, at random.

    A mean over the cells reveals c with probability q = Phi(height / (2 sqrt(48))), so gates on
    channels that depend on means reach (1 + q) / 2. The maximum reveals it with the largest value
    over the thresholds u of (Phi(u)^48 + 1 - Phi(u)^47 Phi(u - height)) / 2. Without a gate: 3/4.

    Parameters
    ----------
    height : float
        Of the peak, beside noise of deviation 1.
    n_train, n_test, seed : int
        As for :func:`global_switch`.

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.
    """

    def draw(n, generator):
        t, cue = _signs(2, n, generator=generator)
        cells = torch.randn(n, CUE_CELLS, generator=generator)
        at = torch.randint(CUE_CELLS, (n,), generator=generator)
        cells[torch.arange(n), at] += height * (cue > 0)
        x = _factor(t, 3, 5)
        x[:, 4][:, :, CUE] = cells.reshape(n, SIDE, len(CUE))
        return 4 * x, t * cue

    return _split(draw, n_train, n_test, dtype, seed)


def channel_order(distance=3, n_train=2000, n_test=2000, dtype=torch.float32, seed=0):
    """The channel that decides stands near the two that it decides about, or far from them.

    As :func:`global_switch` with a strength of 0.6, but the factor is in the channels 4 -
    ``distance`` and 4 + ``distance``. A gate whose kernel along the channels reaches less far is
    the same for both cues: 3/4. Bayes: Phi(0.6 sqrt(48)), all but 1.

    Parameters
    ----------
    distance : int
        From 1 to 3.
    n_train, n_test, seed : int
        As for :func:`global_switch`.

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.

    Raises
    ------
    ValueError
        ``distance`` is not between 1 and 3.
    """
    if distance not in (1, 2, 3):
        raise ValueError(f"distance must be 1, 2 or 3; got {distance!r}")
    near = global_switch(0.6, n_train, n_test, dtype, seed)
    order = list(range(CHANNELS))
    for a, b in ((3, 4 - distance), (5, 4 + distance)):
        order[a], order[b] = order[b], order[a]
    return near._replace(x_train=near.x_train[:, order], x_test=near.x_test[:, order])


def marked_neighbour(noise=0.5, n_train=2000, n_test=2000, dtype=torch.float32, seed=0):
    """One of many cells counts, the one with a mark at its right.

    Channel 3 holds +1 or -1 in column 2, at random in each row, plus noise of deviation ``noise``.
    Column 8 is the negative of column 2, and the other columns are noise of the same deviation.
    Channel 5 is 3 in one cell, at the right of one of these 24. The label is the sign of that one,
    before the noise.

    Bayes: Phi(1 / noise). The sign of the marked cell is all there is to know, since the other cell
    of its row repeats it and nothing else depends on the label.

    Exchange the columns 3 and 9: the mark then stands at the other cell of its row, and the label
    is the opposite. But the rows hold the same numbers as before, and the columns do too, in
    another order. So a network whose gates depend on channels, rows and columns without regard to
    their order has the same logits, and is right for half: 1/2.

    In version 1 the two cells of a row had noise of their own, so both together told more than the
    marked one.

    Parameters
    ----------
    noise : float
        Deviation in each cell.
    n_train, n_test, seed : int
        As for :func:`global_switch`.

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.
    """

    def draw(n, generator):
        values = _signs(n, SIDE, generator=generator)
        row, side = (torch.randint(k, (n,), generator=generator) for k in (SIDE, 2))
        x = torch.zeros(n, CHANNELS, SIDE, SIDE)
        x[:, 3] = noise * torch.randn(n, SIDE, SIDE, generator=generator)
        x[:, 3, :, 2] += values
        x[:, 3, :, 8] = -x[:, 3, :, 2]
        images = torch.arange(n)
        x[images, 5, row, torch.tensor([3, 9])[side]] = 3
        return x, values[images, row] * (1 - 2 * side)

    return _split(draw, n_train, n_test, dtype, seed)


def same_row(distance=10, n_train=2000, n_test=2000, dtype=torch.float32, seed=0):
    """One of twelve cells counts, the one with a mark in the same row, far away.

    Column 0 of channel 3 holds six times +1 and six times -1. Channel 5 is 3 in one cell, which is
    ``distance`` to the right of one of them. The label is the sign of that one.

    Bayes: 1. The means of all channels are the same in all images, and so are the means and maxima
    of all columns. Without a gate that sees the mark from the cell: 1/2.

    Parameters
    ----------
    distance : int
        Columns from the cell to its mark, from 1 to 11.
    n_train, n_test, seed : int
        As for :func:`global_switch`.

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.

    Raises
    ------
    ValueError
        ``distance`` is not between 1 and 11.
    """
    if distance not in range(1, SIDE):
        raise ValueError(f"distance must be an integer from 1 to 11; got {distance!r}")

    def draw(n, generator):
        values = _balanced(n, SIDE, generator)
        row = torch.randint(SIDE, (n,), generator=generator)
        x = torch.zeros(n, CHANNELS, SIDE, SIDE)
        x[:, 3, :, 0] = values
        images = torch.arange(n)
        x[images, 5, row, distance] = 3
        return x, values[images, row]

    return _split(draw, n_train, n_test, dtype, seed)


def channel_by_place(
    groups=2, arrangement="mixed", n_train=2000, n_test=2000, dtype=torch.float32, seed=0
):
    """Each kind of place has its own channel that counts there.

    Every place has one of G kinds, as many of each. Channel g is 0.2 t plus noise of deviation 1 at
    the places of kind g, and noise alone elsewhere, for the G channels from 0 on. The kind stands
    four columns further right (behind the last column comes the first) in the channels 6 and 7,
    as -3 or 3. The label is the sign of t.

    Bayes: Phi(0.2 sqrt(144)) = 0.992, by adding up channel g over the places of kind g, which takes
    a gate that depends on channel and place together. If each place has one factor and each channel
    another, the evidence is a_1 b_1 + ... + a_G b_G against noise that grows with the lengths of a
    and b, so by the inequality of Cauchy and Schwarz nothing is better than equal factors:
    Phi(0.2 sqrt(144 / G)), which is what a network without gates reaches.

    This holds for factors that do not depend on the evidence itself. A gate that sees kind and
    evidence at one place, as it does in "rows", is an activation function, and can pass the bound.

    Parameters
    ----------
    groups : int
        G, 2 or 4.
    arrangement : str
        "mixed": every row and every column has as many places of each kind. "rows": all places of
        a row are of one kind.
    n_train, n_test, seed : int
        As for :func:`global_switch`.

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.

    Raises
    ------
    ValueError
        ``groups`` is neither 2 nor 4, or the arrangement is not known.
    """
    if groups not in (2, 4):
        raise ValueError(f"groups must be 2 or 4; got {groups!r}")
    if arrangement not in ("mixed", "rows"):
        raise ValueError(f"arrangement must be 'mixed' or 'rows'; got {arrangement!r}")

    def draw(n, generator):
        t = _signs(n, generator=generator)
        kinds = _kinds(n, generator)
        if arrangement == "mixed":
            kinds = kinds + _kinds(n, generator).transpose(1, 2)
        kinds = kinds.expand(n, SIDE, SIDE) % groups
        x = torch.zeros(n, CHANNELS, SIDE, SIDE)
        counts = kinds[:, None] == torch.arange(groups)[:, None, None]
        noise = torch.randn(n, groups, SIDE, SIDE, generator=generator)
        x[:, :groups] = noise + 0.2 * t[:, None, None, None] * counts
        for channel, bit in ((6, kinds % 2), (7, kinds // 2)):
            x[:, channel] = (6 * bit - 3).roll(4, 2)
        return x, t

    return _split(draw, n_train, n_test, dtype, seed)


def plain_evidence(strength=0.2, n_train=2000, n_test=2000, dtype=torch.float32, seed=0):
    """A control: the mean of a channel is all there is to know, so no gate can help.

    Channel 3 is ``strength`` times t plus noise of deviation 1. The label is the sign of t. Bayes:
    Phi(12 strength), which a network without gates reaches.

    Parameters
    ----------
    strength : float
        Of the evidence in each of the 144 cells.
    n_train, n_test, seed : int
        As for :func:`global_switch`.

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.
    """

    def draw(n, generator):
        t = _signs(n, generator=generator)
        x = torch.zeros(n, CHANNELS, SIDE, SIDE)
        noise = torch.randn(n, SIDE, SIDE, generator=generator)
        x[:, 3] = noise + strength * t[:, None, None]
        return x, t

    return _split(draw, n_train, n_test, dtype, seed)


def local_product(strength=0.2, n_train=2000, n_test=2000, dtype=torch.float32, seed=0):
    """A control: a hidden layer that works at each place by itself helps as much as a gate.

    Channel 3 is +1 or -1 at random in every cell. Channel 5 is t times that, with probability
    (1 + ``strength``) / 2 in each cell, else -t times that. The label is the sign of t.

    Bayes: a vote of the 144 products, about Phi(12 strength). Both channels are pure chance if they
    are looked at by themselves, so a network that is linear in them is right for half: 1/2. A few
    hidden units at each place compute the product, and so does a gate that depends on the sum of
    both.

    Parameters
    ----------
    strength : float
        From 0 to 1.
    n_train, n_test, seed : int
        As for :func:`global_switch`.

    Returns
    -------
    Split : feature maps (N, 8, 12, 12), labels 0 and 1.

    Raises
    ------
    ValueError
        ``strength`` is not between 0 and 1.
    """
    if not 0 <= strength <= 1:
        raise ValueError(f"strength must be between 0 and 1; got {strength!r}")

    def draw(n, generator):
        t = _signs(n, generator=generator)
        first = _signs(n, SIDE, SIDE, generator=generator)
        agrees = torch.rand(n, SIDE, SIDE, generator=generator) < (1 + strength) / 2
        x = torch.zeros(n, CHANNELS, SIDE, SIDE)
        x[:, 3] = first
        x[:, 5] = first * t[:, None, None] * (2.0 * agrees - 1)
        return x, t

    return _split(draw, n_train, n_test, dtype, seed)


def _split(draw, n_train, n_test, dtype, seed):
    """Split of ``draw(n, generator)``, which makes feature maps and signs."""
    parts = []
    generator = torch.Generator().manual_seed(seed)
    for name, n in (("n_train", n_train), ("n_test", n_test)):
        if n < 1:
            raise ValueError(f"{name} must be at least 1; got {n!r}")
        x, sign = draw(n, generator)
        parts += [x.to(dtype), (sign > 0).long()]
    return Split(*parts)


def _signs(*shape, generator):
    return 2.0 * torch.randint(2, shape, generator=generator) - 1


def _balanced(n, size, generator):
    """(n, size) with as many +1 as -1 in every line, in random order."""
    order = torch.rand(n, size, generator=generator).argsort(1)
    return torch.where(order < size // 2, 1.0, -1.0)


def _kinds(n, generator):
    """(n, SIDE, 1): a kind from 0 to 3 for every row, three rows of each, in random order."""
    return torch.rand(n, SIDE, generator=generator).argsort(1)[:, :, None] % 4


def _factor(t, plus, minus):
    """Feature maps with t in one channel and -t in another, in the columns of the factor."""
    x = torch.zeros(len(t), CHANNELS, SIDE, SIDE)
    x[:, plus][:, :, FACTOR] = t[:, None, None].expand(-1, SIDE, len(FACTOR))
    x[:, minus] = -x[:, plus]
    return x
