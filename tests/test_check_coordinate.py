"""The checks of the Coordinate Attention exercises: solutions, mistakes, stubs."""

import numpy as np
import pytest

from attn_lib import check


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def strips(x):
    return x.mean(axis=3, keepdims=True), x.mean(axis=2, keepdims=True)


def join(z_h, z_w):
    return np.concatenate([z_h, z_w.swapaxes(2, 3)], axis=2)


def parameters(channels, reduction):
    hidden = max(8, channels // reduction)
    return 3 * channels * hidden + 3 * hidden + 2 * channels


def gates(f, w_h, b_h, w_w, b_w, height):
    f_h, f_w = f[:, :, :height, 0], f[:, :, height:, 0]
    g_h = sigmoid(w_h @ f_h + b_h[:, None])
    g_w = sigmoid(w_w @ f_w + b_w[:, None])
    return g_h[:, :, :, None], g_w[:, :, None, :]


def swish_slope(a):
    return np.where(a <= -3, 0.0, np.where(a >= 3, 1.0, (2 * a + 3) / 6))


def gate_gradients(dy, x, g_h, g_w):
    return (dy * x * g_w).sum(axis=3, keepdims=True), (dy * x * g_h).sum(axis=2, keepdims=True)


def factor(gate):
    g_h = gate.max(axis=1, keepdims=True)
    return g_h, gate.max(axis=0, keepdims=True) / gate.max()


def forward(x, params, swish=lambda a: a * np.clip(a + 3, 0, 6) / 6):
    z = join(*strips(x))[..., 0]
    a = params["conv1.weight"][:, :, 0, 0] @ z + params["conv1.bias"][:, None]
    scale = params["bn1.weight"] / np.sqrt(params["bn1.running_var"] + 1e-5)
    a = (a - params["bn1.running_mean"][:, None]) * scale[:, None] + params["bn1.bias"][:, None]
    f = swish(a)[..., None]
    weights = [params[f"{n}.weight"][:, :, 0, 0] for n in ("conv_h", "conv_w")]
    g_h, g_w = gates(
        f, weights[0], params["conv_h.bias"], weights[1], params["conv_w.bias"], x.shape[2]
    )
    return x * g_h * g_w


def add_coordinates(x, low=-1):
    n, _, h, w = x.shape
    row = np.broadcast_to(np.linspace(low, 1, h)[:, None], (n, 1, h, w))
    column = np.broadcast_to(np.linspace(low, 1, w), (n, 1, h, w))
    return np.concatenate([x, row, column], axis=1)


SOLUTIONS = [
    strips,
    join,
    parameters,
    gates,
    swish_slope,
    gate_gradients,
    factor,
    forward,
    add_coordinates,
]


def test_every_check_has_a_solution_here():
    assert sorted(f.__name__ for f in SOLUTIONS) == sorted(check.coordinate.__all__)


@pytest.mark.parametrize("solution", SOLUTIONS, ids=lambda f: f.__name__)
def test_solution_passes(solution, capsys):
    getattr(check.coordinate, solution.__name__)(solution)
    assert capsys.readouterr().out == f"coordinate.{solution.__name__}: passed\n"


@pytest.mark.parametrize("name", check.coordinate.__all__)
def test_stub_is_not_attempted(name, capsys):
    getattr(check.coordinate, name)(lambda *args: ...)
    getattr(check.coordinate, name)(lambda *args: None)
    assert capsys.readouterr().out == f"coordinate.{name}: not attempted yet\n" * 2


def svd_factor(gate):
    u, s, v = np.linalg.svd(gate)
    sign = -np.sign(u[0, 0])
    return sign * u[:, :1] * s[0] / 2, sign * v[:1] * 2


def shared_convolution(f, w_h, b_h, w_w, b_w, height):
    return gates(f, w_h, b_h, w_h, b_h, height)


def shared_forward(x, params):
    shared = {k.replace("conv_h", "conv_w"): v for k, v in params.items() if "conv_h" in k}
    return forward(x, {**params, **shared})


def forward_batch_statistics(x, params):
    z = join(*strips(x))[..., 0]
    a = params["conv1.weight"][:, :, 0, 0] @ z + params["conv1.bias"][:, None]
    batch = {
        "bn1.running_mean": a.mean(axis=(0, 2)),
        "bn1.running_var": a.var(axis=(0, 2)),
    }
    return forward(x, {**params, **batch})


def forward_without_norm(x, params, *swish):
    neutral = {
        "bn1.weight": np.sqrt(np.full(8, 1 + 1e-5)),
        "bn1.bias": np.zeros(8),
        "bn1.running_mean": np.zeros(8),
        "bn1.running_var": np.ones(8),
    }
    return forward(x, {**params, **neutral}, *swish)


def open_gate(name):
    """The right solution, but one gate is 1."""

    def attempt(x, params):
        opened = {f"{name}.weight": 0 * params[f"{name}.weight"], f"{name}.bias": np.full(3, 40.0)}
        return forward(x, {**params, **opened})

    return attempt


def norm_last(x, params):
    def norm(a):
        scale = params["bn1.weight"] / np.sqrt(params["bn1.running_var"] + 1e-5)
        a = (a - params["bn1.running_mean"][:, None]) * scale[:, None]
        return a + params["bn1.bias"][:, None]

    def swish_first(a):
        return norm(a * np.clip(a + 3, 0, 6) / 6)

    return forward_without_norm(x, params, swish_first)


def summed(x, params):
    height, width = open_gate("conv_w")(x, params), open_gate("conv_h")(x, params)
    return height + width


def gate_only(x, params):
    return forward(x, params) / x


def one(index, **changes):
    """The right pair, with one of the two changed."""

    def change(f, wrong):
        def attempt(*args):
            pair = list(f(*args))
            pair[index] = wrong(pair[index], *args)
            return tuple(pair)

        return attempt

    return change(**changes)


MISTAKES = [
    ("strips", lambda x: strips(x)[::-1], "wrong axis is pooled: z_h keeps the rows"),
    ("strips", lambda x: (x.mean(axis=3), x.mean(axis=2)), r"z_h has shape \(N, C, H\)"),
    ("strips", lambda x: strips(x)[0], "return two arrays, z_h and z_w"),
    (
        "strips",
        lambda x: (x.sum(axis=3, keepdims=True), x.sum(axis=2, keepdims=True)),
        "equations 4 and 5 are means",
    ),
    ("strips", lambda x: (x.mean(axis=(2, 3), keepdims=True),) * 2, "SE's squeeze"),
    ("strips", lambda x: (strips(x)[0],) * 2, "wrong axis is pooled: z_w keeps the columns"),
    ("strips", lambda x: (strips(x)[0], x.mean(axis=2)), r"z_w has shape \(N, C, W\)"),
    ("join", lambda a, b: np.concatenate([a, b], axis=2), "turn z_w"),
    ("join", lambda a, b: join(a, b).swapaxes(2, 3), "concatenated before transposing"),
    (
        "join",
        lambda a, b: np.concatenate([b.swapaxes(2, 3), a], axis=2),
        "the rows come first",
    ),
    (
        "join",
        lambda a, b: np.concatenate(np.broadcast_arrays(a, b), axis=2),
        "broadcast the strips to full size",
    ),
    (
        "parameters",
        lambda c, r: 3 * c * (c // r) + 3 * (c // r) + 2 * c,
        "at least 8 channels",
    ),
    (
        "parameters",
        lambda c, r: parameters(c, r) - c * max(8, c // r) - c,
        "two output convolutions",
    ),
    ("parameters", lambda c, r: parameters(c, r) - max(8, c // r) - 2 * c, "have biases"),
    ("parameters", lambda c, r: parameters(c, r) - 2 * max(8, c // r), "the batch norm has"),
    ("parameters", lambda c, r: parameters(c, r) + 2 * max(8, c // r), "are buffers"),
    ("gates", shared_convolution, "one shared output convolution"),
    (
        "gates",
        lambda f, a, b, c, d, h: gates(f, a, b, c, d, f.shape[2] - h),
        "has shape",
    ),
    (
        "gates",
        lambda f, a, b, c, d, h: gates(np.roll(f, h, axis=2), a, b, c, d, h),
        "split in the wrong place",
    ),
    ("gates", lambda f, a, b, c, d, h: gates(f, c, d, c, d, h), "width's convolution"),
    ("gates", lambda f, a, b, c, d, h: gates(f, a, 0 * b, c, d, h), "bias of g_h is missing"),
    ("gates", lambda f, a, b, c, d, h: gates(f, a, b, c, 0 * d, h), "bias of g_w is missing"),
    (
        "gates",
        one(0, f=gates, wrong=lambda g, *_: np.log(g / (1 - g))),
        "sigmoid of g_h is missing",
    ),
    (
        "gates",
        one(1, f=gates, wrong=lambda g, *_: np.log(g / (1 - g))),
        "sigmoid of g_w is missing",
    ),
    ("gates", one(1, f=gates, wrong=lambda g, *_: g.swapaxes(2, 3)), "still lies along axis 2"),
    (
        "gates",
        one(1, f=gates, wrong=lambda g, f, a, b, c, d, h: gates(f[:, :, :h], c, d, c, d, 0)[1]),
        "from the rows' part",
    ),
    ("swish_slope", lambda a: np.clip(a + 3, 0, 6) / 6, "the clip depends on a too"),
    ("swish_slope", lambda a: np.where(abs(a) < 3, a / 6, 0), "is only one"),
    ("swish_slope", lambda a: (2 * a + 3) / 6, "beyond the kinks"),
    ("swish_slope", lambda a: np.where(abs(a) < 3, (2 * a + 3) / 6, 0), "slope there is 1"),
    (
        "swish_slope",
        lambda a: np.where(abs(a) <= 3, (2 * a + 3) / 6, swish_slope(a)),
        "what PyTorch takes",
    ),
    (
        "gate_gradients",
        lambda dy, x, h, w: ((dy * x).sum(3, keepdims=True), (dy * x).sum(2, keepdims=True)),
        "the other gate is missing",
    ),
    ("gate_gradients", lambda dy, x, h, w: gate_gradients(dy, x * h / w, h, w), "is the other"),
    (
        "gate_gradients",
        lambda dy, x, h, w: (
            (dy * x * w).sum(2, keepdims=True),
            (dy * x * h).sum(3, keepdims=True),
        ),
        "not over the one it keeps",
    ),
    (
        "gate_gradients",
        lambda dy, x, h, w: ((dy * x * w).mean(3, keepdims=True), 0),
        "not the mean",
    ),
    ("gate_gradients", lambda dy, x, h, w: (dy * x * w, dy * x * h), "along which g_h is shared"),
    (
        "factor",
        lambda g: (g.mean(1, keepdims=True), g.mean(0, keepdims=True)),
        "too small by the mean",
    ),
    (
        "factor",
        lambda g: (g.max(1, keepdims=True), g.max(0, keepdims=True)),
        "too small by the map's maximum",
    ),
    ("factor", lambda g: (np.linalg.svd(g)[0][:, :1], np.linalg.svd(g)[2][:1]), "singular value"),
    ("factor", svd_factor, "gates are negative"),
    ("factor", lambda g: (factor(g)[0] * 30, factor(g)[1] / 30), "a gate exceeds 1"),
    ("factor", lambda g: (factor(g)[0][:, 0], factor(g)[1]), "they should have"),
    ("forward", shared_forward, "one shared output convolution"),
    ("forward", forward_batch_statistics, "uses the running statistics"),
    ("forward", forward_without_norm, "batch norm is missing"),
    ("forward", lambda x, p: forward(x, p, lambda a: np.maximum(a, 0)), "not ReLU"),
    ("forward", lambda x, p: forward(x, p, lambda a: a), "non-linearity is missing"),
    ("forward", open_gate("conv_w"), "width's gate is missing"),
    ("forward", open_gate("conv_h"), "height's gate is missing"),
    ("forward", norm_last, "batch norm comes before"),
    ("forward", summed, "are not added"),
    ("forward", gate_only, "that is the gate"),
    ("add_coordinates", lambda x: add_coordinates(x, 0), "not from 0 to 1"),
    (
        "add_coordinates",
        lambda x: add_coordinates(x)[:, [*range(x.shape[1]), -1, -2]],
        "the row comes first",
    ),
    ("add_coordinates", lambda x: np.roll(add_coordinates(x), 2, axis=1), "behind the features"),
    ("add_coordinates", lambda x: add_coordinates(x)[:, -2:], "features are gone"),
]


@pytest.mark.parametrize(
    "name, wrong, message", MISTAKES, ids=lambda v: v if type(v) is str else ""
)
def test_mistake_is_named(name, wrong, message):
    with pytest.raises(check.Failed, match=message):
        getattr(check.coordinate, name)(wrong)
