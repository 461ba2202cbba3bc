"""Checks of the exercises on Coordinate Attention."""

import numpy as np

from attn_lib.check._core import Failed, call, exercise, expect
from attn_lib.reference import coordinate as reference
from attn_lib.reference import ops

__all__ = [
    "add_coordinates",
    "factor",
    "forward",
    "gate_gradients",
    "gates",
    "join",
    "parameters",
    "strips",
    "swish_slope",
]


def _toy(n=2, channels=3, h=4, w=5):
    rng = np.random.default_rng(0)
    params = reference.init(channels, 32, rng)
    for name in ("weight", "bias", "running_mean"):
        params[f"bn1.{name}"] = params[f"bn1.{name}"] + 0.5 * rng.standard_normal(8)
    params["bn1.running_var"] = rng.uniform(0.2, 0.6, 8)
    return rng.standard_normal((n, channels, h, w)), params


def _sigmoid(a):
    return ops.sigmoid(a)[0]


def _pair(result, what):
    if not isinstance(result, (tuple, list)) or len(result) != 2:
        raise Failed(f"return two arrays, {what}")
    return result


@exercise
def strips(attempt):
    """``attempt(x)``: (N, C, H, W) -> z_h (N, C, H, 1), z_w (N, C, 1, W); equations 4 and 5."""
    x, _ = _toy()
    z_h, z_w = _pair(call(attempt, x), "z_h and z_w")
    rows, columns = x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True)
    swapped = "the wrong axis is pooled: {} keeps the {} and averages over the other axis"
    flat = "{} has shape {}: keep the pooled axis with length 1, it is multiplied with x later"
    summed = "you summed along the axis: equations 4 and 5 are means"
    constant = "you averaged over the whole map: that is SE's squeeze, which forgets where"
    whole = x.mean(axis=(2, 3), keepdims=True)
    expect(
        z_h,
        rows,
        "z_h",
        {
            swapped.format("z_h", "rows"): columns,
            flat.format("z_h", "(N, C, H)"): rows[..., 0],
            summed: x.sum(axis=3, keepdims=True),
            constant: whole,
        },
    )
    expect(
        z_w,
        columns,
        "z_w",
        {
            swapped.format("z_w", "columns"): rows,
            flat.format("z_w", "(N, C, W)"): columns[:, :, 0],
            summed: x.sum(axis=2, keepdims=True),
            constant: whole,
        },
    )


@exercise
def join(attempt):
    """``attempt(z_h, z_w)``: (N, C, H, 1), (N, C, 1, W) -> (N, C, H + W, 1)."""
    x, _ = _toy()
    z_h, z_w = x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True)
    try:
        got = call(attempt, z_h, z_w)
    except ValueError as error:
        raise Failed(
            "the two strips do not fit together: turn z_w from (N, C, 1, W) to (N, C, W, 1) "
            f"before you concatenate (NumPy says: {error})"
        ) from None
    turned = z_w.swapaxes(2, 3)
    expect(
        got,
        np.concatenate([z_h, turned], axis=2),
        "the joint strip",
        {
            "the rows come first: [z_h, z_w]": np.concatenate([turned, z_h], axis=2),
            "you broadcast the strips to full size before you concatenated: the strips alone "
            "have H + W places": np.concatenate(
                [np.broadcast_to(z_h, x.shape), np.broadcast_to(z_w, x.shape)], axis=2
            ),
            "you concatenated before transposing: the result should have shape (N, C, H + W, 1)": (
                np.concatenate([z_h.swapaxes(2, 3), z_w], axis=3)
            ),
        },
    )


@exercise
def parameters(attempt):
    """``attempt(channels, reduction)`` is the number of trainable parameters of one layer."""

    def count(c, r, floor=8, outputs=2, bias=True, norm=True):
        hidden = max(floor, c // r)
        weights = c * hidden + outputs * hidden * c
        return weights + bias * (hidden + outputs * c) + norm * 2 * hidden

    cases = [(96, 32), (960, 32), (512, 16), (144, 24), (64, 4)]
    expect(
        [call(attempt, *case) for case in cases],
        [count(*case) for case in cases],
        "the list of parameter counts",
        {
            "the bottleneck has at least 8 channels: max(8, C // r)": [
                count(*case, floor=1) for case in cases
            ],
            "there are two output convolutions, one for each gate": [
                count(*case, outputs=1) for case in cases
            ],
            "the three convolutions have biases": [count(*case, bias=False) for case in cases],
            "the batch norm has a weight and a bias for each bottleneck channel": [
                count(*case, norm=False) for case in cases
            ],
            "the running statistics are buffers, not parameters": [
                count(*case) + 2 * max(8, case[0] // case[1]) for case in cases
            ],
        },
    )


@exercise
def gates(attempt):
    """``attempt(f, w_h, b_h, w_w, b_w, height)`` -> g_h (N, C, H, 1), g_w (N, C, 1, W).

    f is (N, C', H + W, 1), the weights are (C, C'), the biases (C,); equations 7 and 8.
    """
    rng = np.random.default_rng(0)
    height, width = 4, 5
    f = rng.standard_normal((2, 3, height + width, 1))
    w_h, w_w = rng.standard_normal((2, 6, 3))
    b_h, b_w = rng.standard_normal((2, 6))

    def gate(part, weight, bias):
        return _sigmoid(np.einsum("ck,nkil->ncil", weight, part) + bias[:, None, None])

    f_h, f_w = f[:, :, :height], f[:, :, height:].swapaxes(2, 3)
    g_h, g_w = _pair(call(attempt, f, w_h, b_h, w_w, b_w, height), "g_h and g_w")
    right_h, right_w = gate(f_h, w_h, b_h), gate(f_w, w_w, b_w)
    without = "the {} of {} is missing"
    expect(
        g_h,
        right_h,
        "g_h",
        {
            "the strip is split in the wrong place: the first H entries belong to the rows": gate(
                f[:, :, width:], w_h, b_h
            ),
            "g_h uses the width's convolution": gate(f_h, w_w, b_w),
            without.format("bias", "g_h"): gate(f_h, w_h, 0 * b_h),
            without.format("sigmoid", "g_h"): np.log(right_h / (1 - right_h)),
        },
    )
    expect(
        g_w,
        right_w,
        "g_w",
        {
            "one shared output convolution: g_w has a weight and a bias of its own": gate(
                f_w, w_h, b_h
            ),
            "g_w still lies along axis 2: turn it to (N, C, 1, W), or it scales rows": (
                right_w.swapaxes(2, 3)
            ),
            "g_w was made from the rows' part of the strip": gate(f_h.swapaxes(2, 3), w_w, b_w),
            without.format("bias", "g_w"): gate(f_w, w_w, 0 * b_w),
            without.format("sigmoid", "g_w"): np.log(right_w / (1 - right_w)),
        },
    )


@exercise
def swish_slope(attempt):
    """``attempt(a)`` is the derivative of a clip(a + 3, 0, 6) / 6, element by element."""
    a = np.array([-5.0, -3.0, -2.9, -1.5, -0.7, 0.0, 1.0, 2.9, 3.0, 4.0])
    right = ops.hard_swish_backward(np.ones_like(a), a)
    inside = (-3 < a) & (a < 3)
    expect(
        call(attempt, a),
        right,
        "the slope",
        {
            "the product rule has two terms: the clip depends on a too": np.clip(a + 3, 0, 6) / 6,
            "the product rule has two terms: a times the clip's slope is only one": (
                np.where(inside, a / 6, 0)
            ),
            "beyond the kinks the slope is 0 on the left and 1 on the right": (2 * a + 3) / 6,
            "for a >= 3 the function is a itself: its slope there is 1": np.where(
                inside, (2 * a + 3) / 6, 0
            ),
            "at the kinks take what PyTorch takes: 0 at -3 and 1 at 3": np.where(
                (-3 <= a) & (a <= 3), (2 * a + 3) / 6, right
            ),
        },
    )


@exercise
def gate_gradients(attempt):
    """``attempt(dy, x, g_h, g_w)`` -> gradients of the gates, of their shapes."""
    rng = np.random.default_rng(1)
    x, dy = rng.standard_normal((2, 2, 3, 4, 5))
    g_h, g_w = rng.uniform(0.1, 0.9, (2, 3, 4, 1)), rng.uniform(0.1, 0.9, (2, 3, 1, 5))
    got_h, got_w = _pair(call(attempt, dy, x, g_h, g_w), "the gradients of g_h and g_w")
    for name, got, other, own, axis in (("g_h", got_h, g_w, g_h, 3), ("g_w", got_w, g_h, g_w, 2)):
        full = dy * x * other
        expect(
            got,
            full.sum(axis=axis, keepdims=True),
            f"the gradient of {name}",
            {
                f"the other gate is missing: y is x g_h g_w, so {name} is multiplied by two "
                "factors": (dy * x).sum(axis=axis, keepdims=True),
                f"the factor is the other gate, not {name} itself": (dy * x * own).sum(
                    axis=axis, keepdims=True
                ),
                f"sum over the axis along which {name} is shared, not over the one it keeps": (
                    full.sum(axis=5 - axis, keepdims=True)
                ),
                "a gate that is shared by several places collects the sum of their gradients, "
                "not the mean": full.mean(axis=axis, keepdims=True),
                f"sum over the axis along which {name} is shared": full,
            },
        )


@exercise
def factor(attempt):
    """``attempt(gate)``: a rank-one (H, W) with entries in (0, 1) -> g_h (H, 1), g_w (1, W).

    Any pair with entries in (0, 1] whose product is the gate.
    """
    rng = np.random.default_rng(2)
    for shape in ((4, 6), (5, 3)):
        gate = rng.uniform(0.05, 0.95, (shape[0], 1)) * rng.uniform(0.05, 0.95, (1, shape[1]))
        g_h, g_w = (np.asarray(g, dtype=float) for g in _pair(call(attempt, gate), "g_h and g_w"))
        if g_h.shape != (shape[0], 1) or g_w.shape != (1, shape[1]):
            raise Failed(
                f"the gates have shapes {g_h.shape} and {g_w.shape}; for a map of shape {shape} "
                f"they should have {(shape[0], 1)} and {(1, shape[1])}"
            )
        rows, columns = gate.mean(axis=1, keepdims=True), gate.mean(axis=0, keepdims=True)
        expect(
            g_h * g_w,
            gate,
            "the product g_h g_w",
            {
                "the product of row means and column means is too small by the mean of the map": (
                    rows * columns
                ),
                "the product of row maxima and column maxima is too small by the map's maximum": (
                    gate.max(axis=1, keepdims=True) * gate.max(axis=0, keepdims=True)
                ),
                "the singular value is missing": gate / np.linalg.norm(gate, 2),
            },
        )
        if (g_h <= 0).any() or (g_w <= 0).any():
            raise Failed("the product is right, but the gates are negative: turn both signs")
        if (g_h > 1 + 1e-9).any() or (g_w > 1 + 1e-9).any():
            raise Failed(
                "the product is right, but a gate exceeds 1: move a factor from one to the other"
            )


@exercise
def forward(attempt):
    """``attempt(x, params)`` is the output of the layer in evaluation; keys as in the chapter."""
    x, params = _toy()
    h = x.shape[2]

    def run(swish=lambda a: ops.hard_swish(a)[0], order="norm first", second="conv_w", stats=True):
        z = np.concatenate(
            [x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True).swapaxes(2, 3)], axis=2
        )
        a = ops.conv(z, params["conv1.weight"], params["conv1.bias"])[0]

        def norm(a):
            names = ("weight", "bias", "running_mean", "running_var")
            values = [params[f"bn1.{name}"] for name in names]
            return ops.batch_norm(a, *values, training=not stats)[0]

        f = swish(norm(a)) if order == "norm first" else norm(swish(a))
        if order == "no norm":
            f = swish(a)
        out = []
        for part, name in ((f[:, :, :h], "conv_h"), (f[:, :, h:].swapaxes(2, 3), second)):
            out.append(
                _sigmoid(ops.conv(part, params[f"{name}.weight"], params[f"{name}.bias"])[0])
            )
        return out

    def output(*gates):
        y = x
        for gate in gates:
            y = y * gate
        return y

    g_h, g_w = run()
    expect(
        call(attempt, x, params),
        x * g_h * g_w,
        "y",
        {
            "one shared output convolution: the width's gate has a weight of its own": output(
                *run(second="conv_h")
            ),
            "batch norm comes before the h-swish": output(*run(order="swish first")),
            "the batch norm is missing": output(*run(order="no norm")),
            "in evaluation batch norm uses the running statistics, not the batch's": output(
                *run(stats=False)
            ),
            "the non-linearity is h-swish, not ReLU": output(*run(lambda a: np.maximum(a, 0))),
            "the non-linearity is missing": output(*run(lambda a: a)),
            "the width's gate is missing": output(g_h),
            "the height's gate is missing": output(g_w),
            "that is the gate; multiply it with x": g_h * g_w,
            "the gates multiply, they are not added": x * (g_h + g_w),
        },
    )


@exercise
def add_coordinates(attempt):
    """``attempt(x)``: (N, C, H, W) -> (N, C + 2, H, W), row and column from -1 to 1 appended."""
    x, _ = _toy()
    n, _, h, w = x.shape

    def maps(low=-1.0, order=(0, 1)):
        rows = np.broadcast_to(np.linspace(low, 1, h)[:, None], (n, 1, h, w))
        columns = np.broadcast_to(np.linspace(low, 1, w), (n, 1, h, w))
        return [(rows, columns)[i] for i in order]

    expect(
        call(attempt, x),
        np.concatenate([x, *maps()], axis=1),
        "the map with coordinates",
        {
            "the row comes first, then the column": np.concatenate([x, *maps(order=(1, 0))], 1),
            "the coordinates should run from -1 to 1, not from 0 to 1": np.concatenate(
                [x, *maps(low=0.0)], axis=1
            ),
            "append the coordinates behind the features": np.concatenate([*maps(), x], axis=1),
            "the features are gone: append the coordinates to x": np.concatenate(maps(), axis=1),
        },
    )
