"""The diagnostic tasks: what their docstrings claim, by counting."""

import math
from statistics import NormalDist

import pytest
import torch

from attn_lib import data

PHI = NormalDist().cdf
N = 4000
TASKS = {
    "global_switch": data.global_switch,
    "sparse_peak": data.sparse_peak,
    "channel_order": data.channel_order,
    "marked_neighbour": data.marked_neighbour,
    "same_row": data.same_row,
    "channel_by_place": data.channel_by_place,
    "plain_evidence": data.plain_evidence,
    "local_product": data.local_product,
}


def drawn(task, *args, **options):
    """Feature maps and labels as -1 and +1."""
    split = task(*args, n_train=N, n_test=1, dtype=torch.float64, **options)
    return split.x_train, 2 * split.y_train - 1


def right(score, sign):
    """Share of images whose score has the label's sign."""
    return float((score * sign > 0).double().mean())


def near(share, probability, n=N):
    """Whether a share of n images is within four standard errors of its probability."""
    error = math.sqrt(max(probability * (1 - probability), 1 / n) / n)
    return abs(share - probability) < 4 * error


@pytest.mark.parametrize("name", TASKS)
def test_shapes_labels_and_seeds(name):
    split = TASKS[name](n_train=300, n_test=200)
    assert split.x_train.shape == (300, 8, 12, 12) and split.x_test.shape == (200, 8, 12, 12)
    assert split.x_train.dtype == torch.float32 and split.y_train.dtype == torch.int64
    assert near(split.y_train.double().mean(), 0.5, 300)
    again = TASKS[name](n_train=300, n_test=200)
    assert all(torch.equal(a, b) for a, b in zip(split, again, strict=True))
    assert not torch.equal(split.x_train, TASKS[name](n_train=300, n_test=200, seed=1).x_train)
    assert not torch.equal(split.x_train[:200], split.x_test)
    with pytest.raises(ValueError, match="n_test must be at least 1; got 0"):
        TASKS[name](n_test=0)


@pytest.mark.parametrize("strength", [0.15, 0.3])
def test_the_switch_is_the_mean_of_a_channel(strength):
    x, sign = drawn(data.global_switch, strength)
    t, cue = x[:, 3, 0, 0] / 4, x[:, 4].sum((1, 2))
    assert near(right(t * cue, sign), PHI(strength * math.sqrt(48)))
    assert near(right(t, sign), 0.5) and near(right(cue, sign), 0.5)
    assert torch.equal(x[:, 3], -x[:, 5])
    occupied = (x != 0).any(0).any(1)  # (8, 12): channels and columns
    columns = {c: occupied[c].nonzero().flatten().tolist() for c in range(8)}
    assert columns == {3: [0, 1], 4: [6, 7, 10, 11], 5: [0, 1]} | dict.fromkeys((0, 1, 2, 6, 7), [])


def test_nothing_additive_gets_more_than_three_of_four():
    """Of the four pairs of t and cue: every score a(t) + b(cue), a and b from a grid."""
    pairs = torch.tensor([[t, c] for t in (-1, 1) for c in (-1, 1)])
    values = torch.linspace(-2, 2, 9)
    scores = torch.cartesian_prod(values, values, values, values)  # a(-1), a(1), b(-1), b(1)
    total = scores[:, (pairs[:, 0] + 1) // 2] + scores[:, 2 + (pairs[:, 1] + 1) // 2]
    assert ((total * pairs.prod(1) > 0).sum(1)).max() == 3


@pytest.mark.parametrize("height", [3.0, 5.0])
def test_a_mean_dilutes_the_peak_and_a_maximum_keeps_it(height):
    x, sign = drawn(data.sparse_peak, height)
    cue = sign * x[:, 3, 0, 0].sign()
    mean = x[:, 4].sum((1, 2)) / 4
    assert near(right(mean - height / 2, cue), PHI(height / (2 * math.sqrt(48))))
    largest = x[:, 4].flatten(1).amax(1) / 4

    def kept(u):
        return (PHI(u) ** 48 + 1 - PHI(u) ** 47 * PHI(u - height)) / 2

    best = max((u / 20 for u in range(120)), key=kept)
    assert near(right(largest - best, cue), kept(best))
    assert kept(best) > PHI(height / (2 * math.sqrt(48)))


@pytest.mark.parametrize("distance", [1, 2, 3])
def test_the_order_of_the_channels_is_all_that_differs(distance):
    x, sign = drawn(data.channel_order, distance)
    y, same = drawn(data.global_switch, 0.6)
    assert torch.equal(sign, same)
    assert torch.equal(x[:, [4 - distance, 4, 4 + distance]], y[:, 3:6])
    assert x.abs().sum() == y.abs().sum()


@pytest.mark.parametrize("noise", [0.5, 1.0])
def test_the_marked_cell_is_the_label(noise):
    x, sign = drawn(data.marked_neighbour, noise)
    marked = (x[:, 3] * (x[:, 5].roll(-1, 2) > 0)).sum((1, 2))
    assert near(right(marked, sign), PHI(1 / noise))
    assert near(right(x[:, 3].sum((1, 2)), sign), 0.5)
    rows = x[:, 3].sum(2) * (x[:, 5] > 0).any(2)  # the row that has the mark
    assert near(right(rows.sum(1), sign), 0.5)
    assert torch.equal(x[:, 3, :, 2], -x[:, 3, :, 8])  # the other cell tells nothing more


def test_exchanging_two_columns_turns_the_label():
    """So what treats all columns alike, with regard to rows, is right for half of the images."""
    x, sign = drawn(data.marked_neighbour, 0.0)
    order = [0, 1, 2, 9, 4, 5, 6, 7, 8, 3, 10, 11]
    exchanged = x[..., order]
    marked = (exchanged[:, 3] * (exchanged[:, 5].roll(-1, 2) > 0)).sum((1, 2))
    assert torch.equal(marked, -sign.double())


@pytest.mark.parametrize("distance", [2, 4, 10])
def test_the_cell_in_the_row_of_the_mark_is_the_label(distance):
    x, sign = drawn(data.same_row, distance)
    marked = (x[:, 3, :, 0] * (x[:, 5, :, distance] > 0)).sum(1)
    assert torch.equal(marked, sign.double())
    assert (x[:, 3].sum((1, 2)) == 0).all() and (x[:, 3].sum(1) == 0).all()


@pytest.mark.parametrize("arrangement", ["mixed", "rows"])
@pytest.mark.parametrize("groups", [2, 4])
def test_each_kind_of_place_has_its_channel(groups, arrangement):
    x, sign = drawn(data.channel_by_place, groups, arrangement)
    kind = ((x[:, 6:] > 0) * torch.tensor([1, 2])[:, None, None]).sum(1).roll(-4, 2)
    assert torch.equal(
        kind.flatten(1).sort(1).values[0], torch.arange(groups).repeat_interleave(144 // groups)
    )
    places = torch.nn.functional.one_hot(kind, groups).permute(0, 3, 1, 2)
    assert near(right((x[:, :groups] * places).sum((1, 2, 3)), sign), PHI(0.2 * 12))
    everything = x[:, :groups].sum((1, 2, 3))
    assert near(right(everything, sign), PHI(0.2 * 12 / math.sqrt(groups)))
    if arrangement == "mixed":
        assert (places.sum(2) == 12 // groups).all() and (places.sum(3) == 12 // groups).all()
    else:
        assert (places.sum(3) % 12 == 0).all()


def test_one_factor_a_channel_and_one_a_place_gain_nothing():
    x, sign = drawn(data.channel_by_place, 4)
    kind = ((x[:, 6:] > 0) * torch.tensor([1, 2])[:, None, None]).sum(1).roll(-4, 2)
    generator = torch.Generator().manual_seed(0)
    for _ in range(50):
        a, b = torch.randn(2, 4, dtype=torch.float64, generator=generator).abs()
        score = (x[:, :4] * a[:, None, None] * b[kind][:, None]).sum((1, 2, 3))
        reached = (a * b).sum() / (a.norm() * b.norm())  # 1 for equal factors
        assert near(right(score, sign), PHI(0.2 * 12 / 2 * float(reached)))


def test_plain_evidence_is_a_mean():
    x, sign = drawn(data.plain_evidence, 0.1)
    assert near(right(x[:, 3].sum((1, 2)), sign), PHI(1.2))
    assert (x[:, [0, 1, 2, 4, 5, 6, 7]] == 0).all()


def test_the_product_of_two_channels_is_a_vote():
    x, sign = drawn(data.local_product, 0.1)
    votes = (x[:, 3] * x[:, 5]).sum((1, 2))
    assert near(right(votes, sign) + float((votes == 0).double().mean()) / 2, PHI(1.2))
    for channel in (3, 5):
        assert near(right(x[:, channel].sum((1, 2)) + 0.5, sign), 0.5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: data.channel_order(4), "distance must be 1, 2 or 3; got 4"),
        (lambda: data.same_row(12), "distance must be an integer from 1 to 11; got 12"),
        (lambda: data.channel_by_place(3), "groups must be 2 or 4; got 3"),
        (
            lambda: data.channel_by_place(arrangement="columns"),
            "arrangement must be 'mixed' or 'rows'; got 'columns'",
        ),
        (lambda: data.local_product(2), "strength must be between 0 and 1; got 2"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
