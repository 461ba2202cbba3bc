"""Checks of the exercises on feature maps and gates."""

import numpy as np

from attn_lib.check._core import Failed, call, exercise, expect
from attn_lib.reference import ops

__all__ = [
    "attention",
    "broadcast",
    "can_do",
    "gate",
    "pools",
    "receptive_field",
    "repaired",
    "shuffled_channels",
    "tells_shuffled",
]

MECHANISMS = ("SE", "ECA", "CBAM", "BAM", "CA")


def _maps(n=2, c=3, h=4, w=5, seed=0):
    return np.random.default_rng(seed).standard_normal((n, c, h, w))


@exercise
def pools(attempt):
    """``attempt(x)`` -> means by channel (N, C), by place (N, H, W), by row (N, C, H)."""
    x = _maps()
    made = call(attempt, x)
    if not isinstance(made, tuple) or len(made) != 3:
        raise Failed("three arrays are wanted, as a tuple: by channel, by place, by row")
    names = ("the mean by channel", "the mean by place", "the mean by row")
    wanted = (x.mean((2, 3)), x.mean(1), x.mean(3))
    others = (
        {
            "that is a mean over the channels; one number a channel is wanted": x.mean(1),
            "the batch was averaged too: every image has its own means": x.mean((0, 2, 3)),
            "that is the sum over the places; divide by their number": x.sum((2, 3)),
        },
        {"that is a mean over the places; one number a place is wanted": x.mean((2, 3))},
        {"you averaged over the rows; average over the columns to keep the rows": x.mean(2)},
    )
    for got, want, name, mistakes in zip(made, wanted, names, others, strict=True):
        expect(got, want, name, mistakes)


@exercise
def broadcast(attempt):
    """``attempt(x, s)``: gate a feature map (N, C, H, W) by one number a row, s (N, C, H)."""
    x = _maps(4, 4, 4, 4)
    s = np.random.default_rng(1).random((4, 4, 4))
    expect(
        call(attempt, x, s),
        x * s[:, :, :, None],
        "y",
        {
            "shapes align from the right: s met C, H, W of every sample, not N, C, H": x * s,
            "s gates the columns: its last axis is H, which is axis 2 of x": x * s[:, :, None, :],
            "the row's gates were averaged over the channels": x * s.mean(1)[:, None, :, None],
            "s met the axes N, H, W: axis 1 of s is C": x * s[:, None],
            "the gate was added; a gate multiplies": x + s[:, :, :, None],
        },
    )


@exercise
def receptive_field(attempt):
    """``attempt(layers)``: pixels along one axis that reach one number behind the layers.

    ``layers`` is a list of (kernel size, stride, dilation), the first layer first.
    """
    cases = (
        [(3, 1, 1)],
        [(3, 1, 1), (3, 1, 1)],
        [(3, 2, 1), (3, 1, 1), (3, 1, 1)],
        [(7, 2, 1), (3, 2, 1), (3, 1, 1), (3, 2, 1), (5, 1, 1)],
        [(3, 1, 1), (3, 1, 4), (3, 2, 4), (1, 1, 1), (3, 1, 2)],
    )
    variants = {
        "strides are forgotten: behind a stride of 2, one step is two pixels": dict(stride=False),
        "dilation is forgotten: the taps are dilation apart": dict(dilation=False),
        "a kernel of k taps adds k - 1 steps, not k": dict(taps=0),
        "a layer's own stride counts for the layers behind it, not for its own kernel": dict(
            own=True
        ),
        "that is one more or one less than it should be: start from 1 pixel": dict(start=0),
    }
    for layers in cases:
        mistakes = {text: _field(layers, **options) for text, options in variants.items()}
        expect(
            call(attempt, list(layers)),
            _field(layers),
            f"the receptive field of {layers}",
            mistakes,
        )


def _field(layers, *, stride=True, dilation=True, taps=1, own=False, start=1):
    field, step = start, 1
    for k, by, apart in layers:
        after = step * by if stride else step
        field += (k - taps) * (apart if dilation else 1) * (after if own else step)
        step = after
    return field


@exercise
def gate(attempt):
    """``attempt(x, weight, bias)`` -> (s, y): mean, linear map, sigmoid, product."""
    rng = np.random.default_rng(0)
    x, weight, bias = _maps(), rng.standard_normal((3, 3)), rng.standard_normal(3)
    made = call(attempt, x, weight, bias)
    if not isinstance(made, tuple) or len(made) != 2:
        raise Failed("two arrays are wanted, as a tuple: the gate s and the output y")
    z = x.mean((2, 3))
    a = z @ weight.T + bias
    s = ops.sigmoid(a)[0][:, :, None, None]
    _, highest = z, x.max((2, 3))
    softmax = np.exp(a) / np.exp(a).sum(1, keepdims=True)
    expect(
        made[0],
        s,
        "the gate",
        {
            "the sigmoid is missing: these are numbers before it": a[:, :, None, None],
            "the weight is the wrong way round: row m of it makes output m, so use its "
            "transpose": ops.sigmoid(z @ weight + bias)[0][:, :, None, None],
            "the bias is missing": ops.sigmoid(z @ weight.T)[0][:, :, None, None],
            "that is a softmax: the gates would compete, and sum to 1": softmax[:, :, None, None],
            "that is the maximum of each channel; the mean is wanted": ops.sigmoid(
                highest @ weight.T + bias
            )[0][:, :, None, None],
            "the gate has shape (N, C): give it two axes of length one, so that it broadcasts": s[
                :, :, 0, 0
            ],
        },
    )
    expect(made[1], s * x, "y", {"the gate was added to x; a gate multiplies": s + x})


@exercise
def attention(attempt):
    """``attempt(q, k, v)``: softmax attention, q (M, d), k (L, d), v (L, D) -> (M, D)."""
    rng = np.random.default_rng(0)
    q, k, v = (rng.standard_normal(shape) for shape in ((3, 4), (5, 4), (5, 2)))
    scores = q @ k.T / 2

    def softmax(a, axis):
        e = np.exp(a - a.max(axis, keepdims=True))
        return e / e.sum(axis, keepdims=True)

    expect(
        call(attempt, q, k, v),
        softmax(scores, 1) @ v,
        "the output",
        {
            "the scores are not divided by the square root of d": softmax(2 * scores, 1) @ v,
            "the scores are divided by d, not by its square root": softmax(scores / 2, 1) @ v,
            "the softmax runs over the queries; the weights of one query over all keys sum to "
            "1": softmax(scores, 0) @ v,
            "the softmax is missing": scores @ v,
            "that is a sigmoid of each score: attention's weights sum to 1": ops.sigmoid(scores)[0]
            @ v,
            "those are the weights; multiply the values by them": softmax(scores, 1),
            "the softmax runs over all scores at once; each query has its own": np.exp(scores)
            / np.exp(scores).sum()
            @ v,
        },
    )
    with np.errstate(over="ignore", invalid="ignore"):
        large = np.asarray(call(attempt, 1e4 * q, k, v), dtype=float)
    if not np.isfinite(large).all():
        raise Failed(
            "exp of a large score overflows: subtract each query's largest score first, which "
            "changes nothing in the quotient"
        )


_ABLE = {
    "close a channel everywhere": (
        {"SE", "ECA", "CBAM", "CA"},
        {
            "BAM": "BAM multiplies by 1 + sigma, which is never below 1",
            "SE": "a channel gate near 0 closes its channel",
            "ECA": "ECA's gate is a channel gate too; only its gating function differs from SE's",
            "CBAM": "CBAM's channel gate closes a channel, whatever the spatial gate does",
            "CA": "the row gates of that channel, all near 0, close it",
        },
    ),
    "treat two places of a channel differently": (
        {"CBAM", "BAM", "CA"},
        {
            "SE": "SE has one number a channel: all its places are multiplied alike",
            "ECA": "ECA has one number a channel: all its places are multiplied alike",
            "CBAM": "CBAM's spatial gate has one number a place",
            "BAM": "BAM has one number for every place of every channel",
            "CA": "two places differ in their row or in their column, and each has its gate",
        },
    ),
    "prefer channel 0 here and channel 1 there": (
        {"BAM", "CA"},
        {
            "SE": "SE has one number a channel, the same here and there",
            "ECA": "ECA has one number a channel, the same here and there",
            "CBAM": "CBAM's factors are s_c m_ij: the ratio of two channels' factors is s_0 / s_1, "
            "the same at every place",
            "BAM": "BAM's factors depend on channel and place together",
            "CA": "each channel has row and column gates of its own",
        },
    ),
    "enlarge a number": (
        {"BAM"},
        {
            "BAM": "1 + sigma is between 1 and 2",
            **dict.fromkeys(
                ("SE", "ECA", "CA"), "a product of sigmoids is below 1: it can only make smaller"
            ),
            "CBAM": "both of CBAM's gates are sigmoids, so their product is below 1",
        },
    ),
}


@exercise
def can_do(attempt):
    """``attempt()`` -> dict: ability -> set of the mechanisms whose factors have it."""
    made = call(attempt)
    if not isinstance(made, dict):
        raise Failed("a dictionary is wanted, one set of names for each ability")
    if made and all(value is ... or value is None for value in made.values()):
        call(lambda: None)
    for ability, (able, reasons) in _ABLE.items():
        if ability not in made:
            raise Failed(f"there is no answer for {ability!r}")
        if isinstance(made[ability], str) or not isinstance(made[ability], (set, list, tuple)):
            raise Failed(f"{ability!r}: give a set of names, such as {{'SE', 'CA'}}")
        chosen = set(made[ability])
        if chosen - set(MECHANISMS):
            raise Failed(
                f"{ability!r}: unknown {sorted(chosen - set(MECHANISMS))}; the names are "
                f"{', '.join(MECHANISMS)}"
            )
        for name in MECHANISMS:
            if (name in chosen) != (name in able):
                verb = "cannot" if name in chosen else "can"
                raise Failed(f"{ability!r}: {name} {verb}. {reasons[name]}")


@exercise
def repaired(attempt):
    """``attempt(x, weight, bias)``: a gated feature map; each planted fault is looked for alone."""
    x = 1 + np.abs(_maps(3, 4, 5, 5))
    rng = np.random.default_rng(1)
    none, some = np.zeros((4, 4)), rng.standard_normal(4)
    y = np.asarray(call(attempt, x.copy(), none, some), dtype=float)
    if y.shape != x.shape:
        raise Failed(f"y has shape {y.shape}; it should have that of x, {x.shape}")
    factor = y / x
    s = ops.sigmoid(some)[0]
    if np.allclose(factor, (1 - s)[:, None, None]):
        raise Failed("the sign: a large bias should open its channel, and here it closes it")
    if not np.allclose(factor, factor[:, :, :1, :1]):
        raise Failed(
            "the axes: with weights of zero, channel c is multiplied by sigmoid(bias[c]) at every "
            "place; here the factor changes from place to place within a channel"
        )
    if not np.allclose(factor, s[:, None, None]):
        raise Failed("with weights of zero, channel c should be multiplied by sigmoid(bias[c])")
    weight = np.zeros((4, 4))
    weight[2, 0] = 1.0
    factor = np.asarray(attempt(x.copy(), weight, np.zeros(4)), dtype=float) / x
    moved = np.abs(factor[:, :, 0, 0] - 0.5).max(axis=0) > 1e-6
    if moved[0] and not moved[2]:
        raise Failed(
            "the transpose: weight[2, 0] leads from the mean of channel 0 to the gate of channel "
            "2, and here it moves the gate of channel 0"
        )
    changed = x.copy()
    changed[1:] *= 3
    weight = rng.standard_normal((4, 4))
    alone, beside = attempt(x.copy(), weight, some), attempt(changed, weight, some)
    if not np.allclose(alone[0], beside[0]):
        raise Failed(
            "the batch: the output of image 0 changes when the other images change, so the summary "
            "is not that of one image"
        )
    want = ops.sigmoid(x.mean((2, 3)) @ weight.T + some)[0][:, :, None, None] * x
    expect(alone, want, "y")


def shuffled_channels(images=200, seed=0, channels=4, size=16):
    """Feature maps in which the pixels of one channel have been shuffled.

    Each channel is a smooth random pattern with a mean and a scale of its own. In one channel of
    each image, drawn at random, the pixels then change places, so that it has kept its mean, its
    maximum, its variance and every other number that does not depend on places.

    Returns
    -------
    x : array, (N, C, H, W).
    shuffled : integer array, (N,), the channel.
    """
    rng = np.random.default_rng([20, seed])
    x = rng.standard_normal((images, channels, size, size))
    freq = np.fft.fftfreq(size)
    low = np.exp(-((freq[:, None] ** 2 + freq[None] ** 2) / (2 * 0.08**2)))
    x = np.fft.ifft2(np.fft.fft2(x) * low).real
    x = x / x.std(axis=(2, 3), keepdims=True) * rng.uniform(0.5, 2, (images, channels, 1, 1))
    x = x + rng.uniform(-1, 1, (images, channels, 1, 1))
    shuffled = rng.integers(channels, size=images)
    for n, c in enumerate(shuffled):
        x[n, c] = rng.permutation(x[n, c].ravel()).reshape(size, size)
    return x, shuffled


@exercise
def tells_shuffled(attempt):
    """``attempt(x)`` -> gates (N, C, 1, 1), below 1/2 for the shuffled channel alone, unseen."""
    for size, channels, seed in ((16, 4, 1001), (16, 4, 1002), (20, 6, 1003)):
        x, shuffled = shuffled_channels(200, seed, channels, size)
        s = np.asarray(call(attempt, x.copy()), dtype=float)
        if s.shape != (200, channels, 1, 1):
            raise Failed(f"the gate has shape {s.shape}; it should have (200, {channels}, 1, 1)")
        if not ((s >= 0) & (s <= 1)).all():
            raise Failed("a gate is a number from 0 to 1: end with a sigmoid")
        closed = s[:, :, 0, 0] < 0.5
        if not closed.any():
            raise Failed("no gate is below 1/2: nothing is closed")
        if closed.all():
            raise Failed("every gate is below 1/2: everything is closed")
        wanted = np.arange(channels) == shuffled[:, None]
        if np.mean((closed == ~wanted).all(1)) > 0.9:
            raise Failed("the wrong way round: the shuffled channel is open, the others are closed")
        right = np.mean((closed == wanted).all(1))
        if right < 0.95:
            moved = np.random.default_rng(0).permutation(size * size)
            blind = x.reshape(200, channels, -1)[:, :, moved].reshape(x.shape)
            if np.allclose(attempt(blind), s):
                raise Failed(
                    f"{100 * right:.0f} % of unseen images are right. Your summary does not depend "
                    "on places, and the shuffled channel has kept every such number: compare "
                    "neighbours"
                )
            if np.allclose(attempt(10 * x), s):
                raise Failed(
                    f"{100 * right:.0f} % of unseen images are right; at least 95 % wanted"
                )
            raise Failed(
                f"{100 * right:.0f} % of unseen images are right; at least 95 % wanted. Your gate "
                "changes when x is multiplied by 10: channels have different scales, so divide the "
                "summary by one, the variance or its root"
            )
