"""What each mechanism follows: a property where the table says yes, a counterexample where no.

Weights, sizes and inputs are drawn by hypothesis. In evaluation mode batch norm has the statistics
that were drawn for it.
"""

import copy

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st
from torch import nn

from attn_lib import layers, symmetries

CHANNELS = 6
ROUNDING, CHANGE = 1e-9, 1e-3  # largest change that counts as none, smallest that counts as one


class Softmax(nn.Module):
    """Self-attention over all positions, without positions in it: y = x + softmax(q k^T) v."""

    def __init__(self, channels):
        super().__init__()
        self.query, self.key, self.value = (nn.Conv2d(channels, channels, 1) for _ in range(3))

    def forward(self, x):
        query, key, value = (part(x).flatten(2) for part in (self.query, self.key, self.value))
        weights = (query.transpose(1, 2) @ key).softmax(dim=2)  # (N, HW, HW)
        return x + (value @ weights.transpose(1, 2)).unflatten(2, x.shape[2:])


LAYERS = {
    "none": lambda: nn.Identity(),
    "se": lambda: layers.SqueezeExcitation(CHANNELS, reduction=2),
    "channel half": lambda: layers.ChannelAttention(CHANNELS, reduction=2),
    "spatial half": lambda: layers.SpatialAttention(3),
    "cbam": lambda: layers.CBAM(CHANNELS, reduction=2, kernel_size=3),
    "bam": lambda: layers.BAM(CHANNELS, reduction=2, dilation=1),
    "eca": lambda: layers.EfficientChannelAttention(CHANNELS, kernel_size=3),
    "coordinate": lambda: layers.CoordinateAttention(CHANNELS),
    "softmax": lambda: Softmax(CHANNELS),
}

ALL = set(LAYERS)
GLOBAL = {"none", "se", "channel half", "eca", "softmax"}  # no position has a neighbour
# Which layers follow what, with weights as they are, in evaluation mode.
FOLLOWS = {
    "pixels": GLOBAL,
    "rows and columns": GLOBAL | {"coordinate"},
    "roll": GLOBAL | {"coordinate"},
    "transpose": GLOBAL,
    "rotate": GLOBAL,
    "repeat": GLOBAL | {"coordinate"},
    "channels": {"none", "spatial half"},
    "scale": {"none"},
    "offset": {"none"},
}
# And which gates a whole batch cannot move by its scale or offset, in training mode.
IN_TRAINING = {
    "scale": {"spatial half", "bam", "coordinate"},
    "offset": {"bam", "coordinate"},
}


@st.composite
def cases(draw, names, transformation, training=False):
    """A layer of one of these names with random weights, an input, and a transformation."""
    name = draw(st.sampled_from(sorted(names)))
    seed = draw(st.integers(0, 2**32 - 1))
    height, width = draw(st.integers(5, 8)), draw(st.integers(5, 8))
    torch.manual_seed(seed)
    layer = randomised(LAYERS[name]().double()).train(training)
    x = torch.randn(3, CHANNELS, height, width, dtype=torch.float64)
    return layer, x, symmetries.draw(transformation, x.shape, seed)


def randomised(layer):
    """The layer with weights and statistics that no symmetry of an initialisation can hide."""
    with torch.no_grad():
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.is_floating_point():
                tensor.copy_(torch.rand_like(tensor) + 0.5)
                tensor.mul_(torch.where(torch.rand_like(tensor) < 0.5, -1, 1))
    for module in layer.modules():
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            module.running_var.abs_()
            module.eps = 1e-12  # else the scale of a batch shows, a little
    return layer


def change(case):
    layer, x, transformation = case
    return symmetries.change_of_output(layer, x, transformation)


def change_of_gates(case):
    layer, x, transformation = case
    return symmetries.change_of_gates(layer, x, transformation)


@pytest.mark.parametrize("transformation", FOLLOWS)
def test_layers_follow_what_the_table_says(transformation):
    @settings(deadline=None, max_examples=60)
    @given(cases(FOLLOWS[transformation], transformation))
    def always(case):
        assert change(case) < ROUNDING
        if hasattr(case[0], "gates"):
            assert change_of_gates(case) < ROUNDING

    always()


@pytest.mark.parametrize(
    ("transformation", "name"),
    [(t, name) for t, follow in FOLLOWS.items() for name in sorted(ALL - follow)],
)
def test_and_nothing_else(transformation, name):
    layer, x, t = find(cases([name], transformation), lambda case: change(case) > CHANGE)
    assert symmetries.change_of_output(layer, x, t) > CHANGE


SPATIAL = ("spatial half", "cbam", "bam")  # they look at neighbours


def circular(layer):
    for module in layer.modules():
        if isinstance(module, nn.Conv2d) and module.kernel_size != (1, 1):
            module.padding_mode = "circular"
    return layer


@settings(deadline=None, max_examples=60)
@given(cases(SPATIAL, "roll"))
def test_convolutions_that_wrap_around_follow_a_roll(case):
    layer, x, t = case
    assert change((circular(layer), x, t)) < ROUNDING


REACH = {"spatial half": 1, "cbam": 1, "bam": 2}  # of the kernels above, from a position


def amid_zeros(case, margin):
    """The case's input in the middle of zeros, and a translation that keeps it off the border."""
    layer, x, _ = case
    return (
        layer,
        nn.functional.pad(x, [margin + 1] * 4),
        symmetries.Transformation(*[lambda x: x.roll((1, -1), (2, 3))] * 3),
    )


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(sorted(ALL)).flatmap(
        lambda name: st.tuples(st.just(name), cases([name], "roll"))
    )
)
def test_all_follow_a_translation_that_stays_off_the_border(named):
    name, case = named
    assert change(amid_zeros(case, REACH.get(name, 0))) < ROUNDING


def test_at_the_border_bam_does_not():
    """Its biases make features of the zeros inside, and none of those outside."""
    find(cases(["bam"], "roll"), lambda case: change(amid_zeros(case, 0)) > CHANGE)


@pytest.mark.parametrize("transformation", IN_TRAINING)
def test_a_batch_norm_undoes_what_the_whole_batch_shares(transformation):
    @settings(deadline=None, max_examples=60)
    @given(cases(IN_TRAINING[transformation], transformation, training=True))
    def always(case):
        assert change_of_gates(case) < 1e-6  # batch norm's eps is not quite 0

    always()


@pytest.mark.parametrize(
    ("transformation", "name"),
    [
        (t, name)
        for t, follow in IN_TRAINING.items()
        for name in sorted(ALL - follow - {"none", "softmax"})
    ],
)
def test_and_no_other_gate(transformation, name):
    find(
        cases([name], transformation, training=True),
        lambda case: change_of_gates(case) > CHANGE,
    )


def renumbered(layer, order):
    """The layer whose channel k is the old one's order[k]: the entries of its weights exchanged."""
    layer = copy.deepcopy(layer)
    with torch.no_grad():
        for tensor in [*layer.parameters(), *layer.buffers()]:
            for dim, size in enumerate(tensor.shape):
                if size == CHANNELS:  # no other size is: see LAYERS
                    tensor.copy_(tensor.index_select(dim, order))
    return layer


@settings(deadline=None, max_examples=60)
@given(cases(ALL - {"eca"}, "channels"))
def test_channels_have_no_order_for_all_but_eca(case):
    layer, x, t = case
    order = t.on_input(torch.arange(CHANNELS).reshape(1, -1, 1, 1)).flatten()
    moved = t.on_input(x)
    with torch.no_grad():
        difference = renumbered(layer, order)(moved) - t.on_output(layer(x))
    assert difference.abs().max() < ROUNDING


@settings(deadline=None, max_examples=60)
@given(cases(["eca"], "channels"))
def test_eca_depends_on_neighbours_only(case):
    """So no kernel of its size makes up for an order in which neighbours are further apart."""
    layer, x, t = case
    gate = torch.autograd.functional.jacobian(
        lambda z: layer.gates(z[:, :, None, None])["channel"].sum(0).flatten(),
        x.mean(dim=(2, 3)),
    )
    depends = gate.abs().amax(1) > 0  # (C, C): of gate c on channel c'
    apart = (torch.arange(CHANNELS)[:, None] - torch.arange(CHANNELS)).abs()
    assert torch.equal(depends, apart <= 1)


ALONE = GLOBAL  # what an image's output does not owe to its companions, in training mode


@settings(deadline=None, max_examples=60)
@given(cases(ALONE, "roll", training=True))
def test_without_a_batch_norm_an_image_has_no_companions(case):
    layer, x, _ = case
    with torch.no_grad():
        assert (layer(x)[:1] - layer(x[:1])).abs().max() < ROUNDING


@pytest.mark.parametrize("name", sorted(ALL - ALONE))
def test_with_one_it_has(name):
    def differs(case):
        layer, x, _ = case
        with torch.no_grad():
            return (layer(x)[:2] - layer(x[:2])).abs().max() > CHANGE

    find(cases([name], "roll", training=True), differs)


def test_bad_arguments():
    with pytest.raises(ValueError, match="name must be one of pixels, .*; got 'mirror'"):
        symmetries.draw("mirror", (1, 2, 3, 4))
    with pytest.raises(ValueError, match=r"shape must be \(N, C, H, W\); got \(2, 3\)"):
        symmetries.draw("pixels", (2, 3))
