"""Checks of the exercises on the one frame of all mechanisms."""

import torch
from torch.nn import functional as F

from attn_lib import data, layers
from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.diagnostics import RECIPE, network
from attn_lib.layers import gate
from attn_lib.train import evaluate, fit

__all__ = [
    "attend",
    "attention",
    "channel_by_place",
    "channel_half",
    "coordinate",
    "gc",
    "names",
    "rows_matrix",
    "scse",
    "se",
    "spatial",
    "view",
]


# ---- composed layers


def _composed(made, wanted):
    """``made`` with the weights of ``wanted``, in their order."""
    made = _shared.is_module(made)
    if not isinstance(made, gate.Gate):
        raise Failed(f"return a layers.gate.Gate; got {type(made).__name__}")
    counts = [sum(p.numel() for p in layer.parameters()) for layer in (made, wanted)]
    if counts[0] != counts[1]:
        hint = "; the reduction" if counts[0] < counts[1] else ""
        if counts[0] == 2 * counts[1]:
            hint = ": there is one MLP, which both statistics go through"
        raise Failed(f"the layer has {counts[0]} parameters, it should have {counts[1]}{hint}")
    made = made.double().eval()
    with torch.no_grad():
        for ours, theirs in zip(made.parameters(), wanted.parameters(), strict=True):
            if ours.numel() != theirs.numel():
                raise Failed("the linear maps do not come in the order of a bottleneck")
            ours.copy_(theirs.reshape(ours.shape))
    return made


@exercise
def se(attempt):
    """``attempt(channels, reduction)``: a Gate equal to SqueezeExcitation."""
    layer = _shared.randomised(layers.SqueezeExcitation(12, 4))
    made = _composed(call(attempt, 12, 4), layer)
    x = _shared.drawn(3, 12, 5, 4)

    def other(pooled, function=torch.sigmoid):
        s = layer.fc2(torch.relu(layer.fc1(pooled.flatten(1))))
        return x * function(s)[:, :, None, None]

    with torch.no_grad():
        expect(
            made(x),
            layer(x),
            "the output",
            {
                "the sigmoid is missing": other(gate.mean(x), lambda a: a),
                "SE gathers the mean, not the maximum": other(gate.maximum(x)),
                "the sigmoid is SE's gate, not the hard sigmoid": other(
                    gate.mean(x), F.hardsigmoid
                ),
                "the sigmoid comes after the linear maps": _sigmoid_first(layer, x),
            },
        )


def _sigmoid_first(layer, x):
    z = torch.sigmoid(gate.mean(x).flatten(1))
    return x * layer.fc2(torch.relu(layer.fc1(z)))[:, :, None, None]


@exercise
def channel_half(attempt):
    """``attempt(channels, reduction)``: a Gate equal to ChannelAttention."""
    layer = _shared.randomised(layers.ChannelAttention(12, 4))
    made = _composed(call(attempt, 12, 4), layer)
    x = _shared.drawn(3, 12, 5, 4)
    with torch.no_grad():
        mean, maximum = gate.mean(x), gate.maximum(x)
        a, b, merged = (
            layer.fc2(torch.relu(layer.fc1(z.flatten(1))))[:, :, None, None]
            for z in (mean, maximum, mean + maximum)
        )
        expect(
            made(x),
            layer(x),
            "the output",
            {
                "there are two gates, since nothing merges the branches": x
                * a.sigmoid()
                * b.sigmoid(),
                "the sum comes before the sigmoid": x * (a.sigmoid() + b.sigmoid()),
                "add the two results, do not average them": x * ((a + b) / 2).sigmoid(),
                "the sigmoid is missing": x * (a + b),
                "the maximum is not gathered": x * a.sigmoid(),
                "the mean is not gathered": x * b.sigmoid(),
                "the linear maps come before the merge, not after it": x * merged.sigmoid(),
                "merge with the sum, not with the maximum": x * torch.maximum(a, b).sigmoid(),
                "merge with the sum, not with the product": x * (a * b).sigmoid(),
            },
        )


# ---- gathers


@exercise
def rows_matrix(attempt):
    """``attempt(h, w)``: the matrix of the means along rows, (h w, h w)."""
    h, w = 3, 5
    row, column = torch.arange(h * w) // w, torch.arange(h * w) % w
    same = (row[:, None] == row).double()
    down = torch.arange(h * w) // h
    expect(
        call(attempt, h, w),
        same / w,
        "A",
        {
            "each line of A has to add up to 1": same,
            "that is the mean along a column": (column[:, None] == column).double() / h,
            "divide by the length of a row, w": same / h,
            "position p is in row p // w, not p // h": (down[:, None] == down).double() / h,
            "that is the mean over all positions": torch.full((h * w, h * w), 1 / (h * w)),
        },
    )


def _attended(theta, phi, g, *, over=2, scale=1.0, weights=None):
    pairs = torch.einsum("nmp,nmq->npq", theta.flatten(2), phi.flatten(2)) * scale
    weights = pairs.softmax(over) if weights is None else weights(pairs)
    return torch.einsum("npq,nkq->nkp", weights, g.flatten(2)).reshape(g.shape)


@exercise
def attend(attempt):
    """``attempt(theta, phi, g)``: the sum over q of softmax_q(theta_p . phi_q) g_q."""
    theta, phi, g = (
        _shared.drawn(2, 3, 4, 5),
        _shared.drawn(2, 3, 4, 5, seed=1),
        _shared.drawn(2, 6, 4, 5, seed=2),
    )
    turned = torch.einsum(
        "npq,nkp->nkq",
        torch.einsum("nmp,nmq->npq", theta.flatten(2), phi.flatten(2)).softmax(2),
        g.flatten(2),
    ).reshape(g.shape)
    expect(
        call(attempt, theta, phi, g),
        _attended(theta, phi, g),
        "the sum",
        {
            "the softmax is over q, the positions that are listened to": _attended(
                theta, phi, g, over=1
            ),
            "theta belongs to the position p that asks, phi to q": _attended(phi, theta, g),
            "the block does not divide the products by a root, as a transformer does": _attended(
                theta, phi, g, scale=3**-0.5
            ),
            "the softmax is missing": _attended(theta, phi, g, weights=lambda a: a),
            "the products are divided by the number of positions; take a softmax": _attended(
                theta, phi, g, weights=lambda a: a / 20
            ),
            "the sum is over q, the second position of A": turned,
        },
    )


# ---- recognise and repair

_NAMES = {
    "first": ("gct", "it measures lengths, and lets channels compete without a matrix"),
    "second": ("gc", "weights over positions that add up to 1, and a sum at the end"),
    "third": ("triplet", "the maximum and the mean are taken along the rows' axis"),
    "fourth": ("simam", "it has no weights but those of f, and compares a pixel with its channel"),
    "fifth": ("sk", "the softmax is over the parts, and there is no x at the end"),
}


@exercise
def names(attempt):
    """``attempt``: dict of the five functions' names in ``layers.build``."""
    if not isinstance(attempt, dict):
        attempt = call(attempt) if callable(attempt) else attempt
    if not isinstance(attempt, dict) or sorted(attempt) != sorted(_NAMES):
        raise Failed(f"a dict with the keys {', '.join(_NAMES)} is wanted")
    if any(value is None or value is ... for value in attempt.values()):
        raise _NotAttempted
    for key, (answer, hint) in _NAMES.items():
        if attempt[key] not in layers.NAMES:
            raise Failed(f"{key}: {attempt[key]!r} is no name of layers.build")
        if attempt[key] != answer:
            raise Failed(f"{key} is not {attempt[key]!r}: {hint}")


def _same(a):
    return a


def _repaired(attempt, layer, mistakes):
    """Compare ``attempt(x, layer)`` with the layer's output; mistakes: message -> f(x)."""
    x = _shared.drawn(2, 16, 6, 5)
    with torch.no_grad():
        expect(
            call(attempt, x, layer),
            layer(x),
            "the output",
            {message: wrong(x) for message, wrong in mistakes.items()},
        )


@exercise
def gc(attempt):
    """``attempt(x, m)`` computes what m, a GlobalContext, does."""
    m = _shared.randomised(layers.GlobalContext(16, 4))

    def pooled(x, weights):
        z = (x.flatten(2) @ weights(m.mask(x).flatten(2)).transpose(1, 2))[:, :, 0]
        return m.add(z)[:, :, None, None]

    _repaired(
        attempt,
        m,
        {
            "that is the copy: nothing makes the weights add up to 1": lambda x: (
                x + pooled(x, lambda a: a)
            ),
            "the softmax is over the positions, axis 2": lambda x: (
                x + pooled(x, lambda a: a.softmax(1))
            ),
            "a sigmoid does not make the weights add up to 1": lambda x: (
                x + pooled(x, torch.sigmoid)
            ),
            "a sum that is 1 is not enough: the weights of a mean are positive": lambda x: (
                x + pooled(x, lambda a: a / a.sum(2, keepdim=True))
            ),
            "the block adds to x": lambda x: x * pooled(x, lambda a: a.softmax(2)),
        },
    )


@exercise
def view(attempt):
    """``attempt(t, branch)`` is t times the gate of one view of triplet attention."""
    branch = _shared.randomised(layers.TripletAttention(kernel_size=3)).hw
    t = _shared.drawn(2, 16, 6, 5)
    with torch.no_grad():
        a, b = t.amax(1, keepdim=True), t.mean(1, keepdim=True)

        def wrong(first=a, second=b, end=torch.sigmoid, norm=branch.bn):
            return t * end(norm(branch.conv(torch.cat((first, second), 1))))

        expect(
            call(attempt, t, branch),
            wrong(),
            "the output",
            {
                "that is the copy: no factor is below 1/2": wrong(
                    end=lambda s: torch.relu(s).sigmoid()
                ),
                "the planes were in the right order: the maximum comes first": wrong(b, a),
                "the sigmoid is missing": wrong(end=lambda s: s),
                "the sigmoid is missing, and the ReLU is still there": wrong(end=torch.relu),
                "the batch norm is missing": wrong(norm=lambda s: s),
            },
        )


@exercise
def scse(attempt):
    """``attempt(x, m)`` computes what m, a ConcurrentSqueezeExcitation, does."""
    m = _shared.randomised(layers.ConcurrentSqueezeExcitation(16, 4))

    def joined(x, between=torch.relu, after=lambda a: a, join=torch.add):
        a = after(m.fc2(between(m.fc1(x.mean((2, 3))))))
        return join(x * a.sigmoid()[:, :, None, None], x * m.conv(x).sigmoid())

    _repaired(
        attempt,
        m,
        {
            "that is the copy: two linear maps in a row are one": lambda x: joined(x, lambda a: a),
            "between the two maps stands a ReLU, not a sigmoid": lambda x: joined(x, torch.sigmoid),
            "the ReLU stands between the two maps, not behind them": lambda x: joined(
                x, lambda a: a, torch.relu
            ),
            "one ReLU is enough, between the two maps": lambda x: joined(x, after=torch.relu),
            "this layer adds the two products": lambda x: joined(x, join=torch.maximum),
        },
    )


@exercise
def spatial(attempt):
    """``attempt(x, m)`` computes what m, a SpatialAttention, does."""
    m = _shared.randomised(layers.SpatialAttention(7))

    def gated(x, first, second, norm=m.bn, end=torch.sigmoid):
        planes = (pool(x, 1, keepdim=True) for pool in (first, second))
        return x * end(norm(m.conv(torch.cat(tuple(planes), 1))))

    _repaired(
        attempt,
        m,
        {
            "that is the copy: which plane does the kernel's first half belong to?": lambda x: (
                gated(x, torch.mean, torch.amax)
            ),
            "both planes are the maximum": lambda x: gated(x, torch.amax, torch.amax),
            "both planes are the mean": lambda x: gated(x, torch.mean, torch.mean),
            "the official code has a batch norm here": lambda x: gated(
                x, torch.amax, torch.mean, norm=_same
            ),
            "the sigmoid is missing": lambda x: gated(x, torch.amax, torch.mean, end=_same),
        },
    )


@exercise
def coordinate(attempt):
    """``attempt(x, m)`` computes what m, a CoordinateAttention, does."""
    m = _shared.randomised(layers.CoordinateAttention(16))

    def gated(x, between=F.hardswish, end=torch.sigmoid, join=torch.mul, swap=False):
        z = torch.cat((x.mean(3, keepdim=True), x.mean(2, keepdim=True).transpose(2, 3)), 2)
        f_h, f_w = between(m.bn1(m.conv1(z))).split(x.shape[2:], 2)
        heads = (m.conv_w, m.conv_h) if swap else (m.conv_h, m.conv_w)
        return x * join(end(heads[0](f_h)), end(heads[1](f_w.transpose(2, 3))))

    _repaired(
        attempt,
        m,
        {
            "that is the copy: compare the function in the bottleneck, and what makes a factor": (
                lambda x: gated(x, torch.relu, _same)
            ),
            "the sigmoids are there now; the bottleneck's function is still wrong": lambda x: gated(
                x, torch.relu
            ),
            "the bottleneck is right now; the factors are still unbounded": lambda x: gated(
                x, end=_same
            ),
            "the bottleneck has h-swish, which is not the hard sigmoid": lambda x: gated(
                x, F.hardsigmoid
            ),
            "both gates multiply x; they are not averaged": lambda x: gated(
                x, join=lambda a, b: (a + b) / 2
            ),
            "conv_h makes the gate of the rows": lambda x: gated(x, swap=True),
        },
    )


# ---- invent


@exercise
def attention(attempt):
    """``attempt(channels)``: a Gate of at most 4 channels parameters, one factor a channel."""
    for channels in (8, 16, 64):
        layer = _shared.is_module(call(attempt, channels))
        if not isinstance(layer, gate.Gate):
            raise Failed(f"return a layers.gate.Gate; got {type(layer).__name__}")
        count = sum(p.numel() for p in layer.parameters())
        if count > 4 * channels:
            raise Failed(f"{count} parameters for {channels} channels; the budget is 4 a channel")
        x = _shared.drawn(3, channels, 5, 6).float()
        made = layer.gates(x)
        if list(made) != ["channel"]:
            raise Failed(f"one factor a channel is wanted; the layer makes {', '.join(made) or 0}")
        y = _shared.output(layer, x)
        if y.requires_grad:
            y.square().sum().backward()
        if any(p.grad is None for p in layer.parameters()):
            raise Failed("some of the parameters are not used: no gradient reaches them")
        if not any(_looks(layer, x, seed) for seed in range(5)):
            raise Failed("the gate does not depend on the feature map")


def _looks(layer, x, seed):
    """Whether gates change with the feature map, once the weights are drawn anew.

    Some gates begin as constants, and some weights leave a ReLU closed, so one draw is not enough.
    """
    generator = torch.Generator().manual_seed(seed)
    other = _shared.drawn(*x.shape, seed=1).float()
    with torch.no_grad():
        for p in layer.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
        return not torch.equal(layer.gates(x)["channel"], layer.gates(other)["channel"])


@exercise
def channel_by_place(attempt):
    """``attempt(channels)``: a gate that solves channel_by_place(4, "mixed") on unseen data."""
    layer = _shared.is_module(call(attempt, 8))
    count = sum(p.numel() for p in layer.parameters())
    if count > 100:
        raise Failed(f"{count} parameters; the budget is 100")
    x = torch.zeros(2, 8, 12, 12)
    if _shared.output(layer, x).abs().max() > 0:
        raise Failed("a gate multiplies x: zeros must stay zeros")
    split = data.channel_by_place(4, "mixed", n_train=2000, n_test=2000, seed=881)
    torch.manual_seed(0)
    model = network(lambda channels: call(attempt, channels))
    fit(model, split, seed=0, **(RECIPE | {"epochs": 15}))
    found = evaluate(model, split.x_test, split.y_test)
    if found < 0.94:  # right gates reach 0.95 to 0.98, 0.885 is the best without
        raise Failed(
            f"accuracy {found:.3f} on feature maps that you have not seen; 0.94 is wanted. Does "
            "the gate have a factor for each channel and place, and can it see the kind of its "
            "own place, which is written four columns further right?"
        )
