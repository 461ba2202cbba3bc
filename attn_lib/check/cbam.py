"""Checks of the exercises on CBAM."""

import copy

import numpy as np
import torch
from torch import nn

from attn_lib import data, layers
from attn_lib.check import _shared
from attn_lib.check._core import Failed, _NotAttempted, call, exercise, expect
from attn_lib.models.resnet import Bottleneck
from attn_lib.reference import ops

__all__ = [
    "ablation",
    "arrived",
    "budget",
    "channel_gate",
    "faults",
    "first_block",
    "fold",
    "input_gradient",
    "mlp_backward",
    "module",
    "pool",
    "reading",
    "sequence",
    "spatial_logits",
    "standard_errors",
    "swapped",
]


def _several(got, names):
    """``got``, if it is as many arrays as ``names``."""
    if not isinstance(got, (tuple, list)) or len(got) != len(names):
        count = len(got) if isinstance(got, (tuple, list)) else f"one {type(got).__name__}"
        raise Failed(f"{len(names)} arrays are wanted, ({', '.join(names)}); got {count}")
    if any(part is None or part is ... for part in got):
        raise _NotAttempted
    return got


@exercise
def pool(attempt):
    """``attempt(x)``: means and maxima of the channels of x (N, C, H, W), a pair of (N, C)."""
    x = _shared.drawn(3, 5, 4, 6).numpy()
    got = _several(call(attempt, x), ("means", "maxima"))
    mean, maximum = x.mean(axis=(2, 3)), x.max(axis=(2, 3))
    for value, wanted, other, reduce, what in (
        (got[0], mean, maximum, np.mean, "the means"),
        (got[1], maximum, mean, np.max, "the maxima"),
    ):
        expect(
            value,
            wanted,
            what,
            {
                "the two are swapped: the means come first": other,
                f"{what} are taken over the channels: keep these, and pool over H and W": reduce(
                    x, axis=1
                ),
                f"{what} are taken over the batch too: every image has its own": reduce(
                    x, axis=(0, 2, 3)
                ),
                f"{what} still have axes of length 1: the shape should be (N, C)": wanted[
                    :, :, None, None
                ],
                f"{what} are taken over the rows only (axis 2)": reduce(x, axis=2),
                f"{what} are taken over the columns only (axis 3)": reduce(x, axis=3),
            },
        )


def _mlp(z, w1, b1, w2, b2):
    return np.maximum(z @ w1.T + b1, 0) @ w2.T + b2


@exercise
def channel_gate(attempt):
    """``attempt(x, w1, b1, w2, b2)``: x (N, C, H, W) -> s (N, C), equation 2."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 6, 4, 5))
    w1, b1, w2, b2 = (rng.standard_normal(size) for size in ((3, 6), 3, (6, 3), 6))
    weights = w1, b1, w2, b2
    mean, maximum = x.mean(axis=(2, 3)), x.max(axis=(2, 3))
    a, b = _mlp(mean, *weights), _mlp(maximum, *weights)
    hidden = [np.maximum(z @ w1.T + b1, 0) for z in (mean, maximum)]
    linear = (mean @ w1.T + b1 + maximum @ w1.T + b1) @ w2.T + 2 * b2
    softmax = np.exp(a + b) / np.exp(a + b).sum(axis=1, keepdims=True)

    def sigmoid(a):
        return ops.sigmoid(a)[0]

    expect(
        call(attempt, x, *weights),
        sigmoid(a + b),
        "s",
        {
            "only the mean is used: that is SE": sigmoid(a),
            "only the maximum is used": sigmoid(b),
            "the statistics are added before the MLP: add what it makes of each": sigmoid(
                _mlp(mean + maximum, *weights)
            ),
            "b2 enters once: each of the two passes through the MLP adds it": sigmoid(
                sum(hidden) @ w2.T + b2
            ),
            "each output has a sigmoid of its own: add them first": sigmoid(a) + sigmoid(b),
            "the outputs are averaged: equation 2 adds them": sigmoid((a + b) / 2),
            "the ReLU between the two linear maps is missing": sigmoid(linear),
            "these are the logits: the sigmoid is missing": a + b,
            "softmax makes the channels compete: equation 2 has a sigmoid": softmax,
            "your s still has axes of length 1: the shape should be (N, C)": sigmoid(a + b)[
                :, :, None, None
            ],
        },
    )


def _windows(q, kernel, mode="constant"):
    """The sum over windows of planes q (N, 2, H, W) with a kernel (2, k, k)."""
    p = kernel.shape[-1] // 2
    padded = np.pad(q, ((0, 0), (0, 0), (p, p), (p, p)), mode=mode)
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[1:], axis=(2, 3))
    return np.einsum("ntijuv,tuv->nij", windows, kernel)


@exercise
def spatial_logits(attempt):
    """``attempt(q, kernel)``: planes (N, 2, H, W) and a kernel (2, k, k) -> a (N, H, W)."""
    for k in (3, 5):
        q, kernel = _shared.drawn(2, 2, 7, 6).numpy(), _shared.drawn(2, k, k, seed=1).numpy()
        p = k // 2
        both = np.stack([_windows(q[:, [t, t]], kernel * [[[t == 0]], [[t == 1]]]) for t in (0, 1)])
        wanted = _windows(q, kernel)
        expect(
            call(attempt, q, kernel),
            wanted,
            f"a, for k = {k},",
            {
                "the kernel is turned by 180 degrees: equation 3 takes it as it is": _windows(
                    q, kernel[:, ::-1, ::-1]
                ),
                "rows and columns of the kernel are exchanged": _windows(
                    q, kernel.transpose(0, 2, 1)
                ),
                "the padding is missing: a has the H and W of q": wanted[:, p:-p, p:-p],
                "the planes are not added: a has one number a place": np.moveaxis(both, 0, 1),
                "only the plane of maxima is used": both[0],
                "only the plane of means is used": both[1],
                "the planes meet each other's kernel": _windows(q[:, ::-1], kernel),
                "beyond the edge there are zeros, not the values of the edge": _windows(
                    q, kernel, mode="edge"
                ),
                "beyond the edge there are zeros, not the opposite edge": _windows(
                    q, kernel, mode="wrap"
                ),
            },
        )


@exercise
def sequence(attempt):
    """``attempt(x, channel_gate, spatial_gate)`` is CBAM's output; the gates are functions."""
    torch.manual_seed(0)
    x = _shared.drawn(2, 6, 7, 5)
    channel, spatial = layers.ChannelAttention(6, 2).double(), layers.SpatialAttention(3).double()
    spatial.eval()

    def channel_gate(x):
        return channel.gates(x)["channel"].detach()

    def spatial_gate(x):
        return spatial.gates(x)["spatial"].detach()

    s, m = channel_gate(x), spatial_gate(x)
    scaled = s * x
    expect(
        call(attempt, x, channel_gate, spatial_gate),
        spatial_gate(scaled) * scaled,
        "the output",
        {
            "the spatial gate is computed from x: that is the parallel arrangement. Compute it "
            "from the re-weighted features": s * m * x,
            "the spatial gate multiplies x, so the channel gate is lost: multiply the re-weighted "
            "features": spatial_gate(scaled) * x,
            "the channel gate is missing": m * x,
            "the spatial gate is missing": scaled,
            "the spatial gate comes first: equation 1 begins with the channels": (
                channel_gate(m * x) * m * x
            ),
            "this is the product of the gates: multiply it by x": spatial_gate(scaled) * s,
            "the two products are added: the second multiplies the first": scaled + m * x,
        },
    )


_MLP_GRADIENTS = ("dz", "dw1", "db1", "dw2", "db2")


def _mlp_gradients(ds, z, h, s, w1, w2, *, slope=True, relu=True, rows="both", turn=False):
    half = ds * s * (1 - s) if slope else ds
    half = half / 2 if rows == "halved" else half
    da2 = np.concatenate([half, half])
    da1 = (da2 @ w2) * (h > 0) if relu else da2 @ w2
    dz = da1 @ w1
    if rows in ("mean", "max"):
        part = slice(None, len(s)) if rows == "mean" else slice(len(s), None)
        da2, da1, z, h = da2[part], da1[part], z[part], h[part]
    dw1, dw2 = da1.T @ z, da2.T @ h
    db2 = half.sum(0) if rows == "b2 once" else da2.sum(0)
    return dz, *((dw1.T, da1.sum(0), dw2.T, db2) if turn else (dw1, da1.sum(0), dw2, db2))


@exercise
def mlp_backward(attempt):
    """``attempt(ds, z, h, s, w1, w2)`` -> (dz, dw1, db1, dw2, db2) of the shared MLP.

    ds and s are (N, C); z (2N, C) and h (2N, C/r) hold the means' rows, then the maxima's.
    """
    rng = np.random.default_rng(11)
    z, ds = rng.standard_normal((6, 4)), rng.standard_normal((3, 4))
    w1, w2, b1 = rng.standard_normal((2, 4)), rng.standard_normal((4, 2)), rng.standard_normal(2)
    h = np.maximum(z @ w1.T + b1, 0)  # this seed has both units active in both halves
    a2 = h @ w2.T
    s = ops.sigmoid(a2[:3] + a2[3:])[0]
    given = ds, z, h, s, w1, w2
    got = _several(call(attempt, *given), _MLP_GRADIENTS)
    wrong = {
        "the slope of the sigmoid is missing: s (1 - s)": {"slope": False},
        "the ReLU is missing on the way back: a unit with h = 0 passes nothing on": {"relu": False},
        "b2 was added once in each pass, so its gradient has two terms": {"rows": "b2 once"},
        "the gradient is shared out between the two rows: a sum hands all of it to each": {
            "rows": "halved"
        },
        "only the means' rows are in the gradients of the weights: they are shared, add both": {
            "rows": "mean"
        },
        "only the maxima's rows are in the gradients of the weights: they are shared, add both": {
            "rows": "max"
        },
        "dw1 and dw2 are transposed: each has the shape of its weight": {"turn": True},
    }
    mistakes = {message: _mlp_gradients(*given, **options) for message, options in wrong.items()}
    for i, wanted in enumerate(_mlp_gradients(*given)):
        likely = {
            message: parts[i]
            for message, parts in mistakes.items()
            if parts[i].shape != wanted.shape or not np.allclose(parts[i], wanted)
        }
        if i == 0:  # half of dz would be missing
            likely["dz has the rows of the means only: it wants 2N rows"] = wanted[:3]
        expect(got[i], wanted, _MLP_GRADIENTS[i], likely)


@exercise
def input_gradient(attempt):
    """``attempt(dx1, x, s, dz_mean, dz_max)`` -> dx (N, C, H, W): the three terms.

    s, dz_mean and dz_max are (N, C). Of tied maxima the first gets the gradient.
    """
    x = np.maximum(np.round(_shared.drawn(3, 4, 4, 5, seed=3).numpy()), 0)  # full of ties
    dx1 = _shared.drawn(3, 4, 4, 5, seed=4).numpy()
    s, dz_mean, dz_max = _shared.drawn(3, 3, 4, seed=5).numpy()
    s = ops.sigmoid(s)[0]
    gate, share, top = s[:, :, None, None], dz_mean[:, :, None, None], dz_max[:, :, None, None]
    tied = x == x.max((2, 3), keepdims=True)
    first = (np.arange(20) == x.reshape(3, 4, -1).argmax(-1)[..., None]).reshape(x.shape)
    direct, mean, maximum = gate * dx1, share / 20 + 0 * x, first * top
    expect(
        call(attempt, dx1.copy(), x.copy(), s.copy(), dz_mean.copy(), dz_max.copy()),
        direct + mean + maximum,
        "dx",
        {
            "the path through the maximum is missing": direct + mean,
            "the path through the mean is missing": direct + maximum,
            "the direct path is missing: the features pass s times their gradient": mean + maximum,
            "the direct path is s times the gradient of x', not x times it": x * dx1
            + mean
            + maximum,
            "each place owns 1/(HW) of the mean: dz_mean is not divided": direct + share + maximum,
            "every tied place gets all of dz_max: the first one gets it, the others nothing": direct
            + mean
            + tied * top,
            "the tied places share dz_max, as in torch.amax: here the first gets all of it": direct
            + mean
            + tied * top / tied.sum((2, 3), keepdims=True),
            "every place gets dz_max: only the one that held the maximum should": direct
            + mean
            + top,
        },
        tolerance=1e-9,
    )


_SHAPES = {
    "fc1.weight": (3, 6), "fc1.bias": (3,), "fc2.weight": (6, 3), "fc2.bias": (6,),
    "conv.weight": (1, 2, 5, 5), "bn.weight": (1,), "bn.bias": (1,), "bn.running_mean": (1,),
    "bn.running_var": (1,), "bn.num_batches_tracked": (),
}  # fmt: skip
_HALVES = {"fc1": "channel", "fc2": "channel", "conv": "spatial", "bn": "spatial"}


def _as_library(state, channels, reduction, kernel_size):
    """A CBAM of the library with the parameters fc1, fc2, conv and bn of ``state``."""
    layer = layers.CBAM(channels, reduction, kernel_size)
    layer.load_state_dict({f"{_HALVES[k.partition('.')[0]]}.{k}": v for k, v in state.items()})
    return layer


@exercise
def module(attempt):
    """``attempt(channels, reduction, kernel_size)``: CBAM with the layers fc1, fc2, conv, bn."""
    torch.manual_seed(0)
    made = _shared.is_module(call(attempt, 6, 2, 5))
    shapes = {name: tuple(value.shape) for name, value in made.state_dict().items()}
    if not shapes:
        raise _NotAttempted
    if "conv.bias" in shapes:
        raise Failed("the convolution has a bias: the batch norm behind it would take it away")
    if not any(name.startswith("bn.") for name in shapes):
        raise Failed("the batch norm bn behind the convolution is missing")
    if shapes != _SHAPES:
        raise Failed(f"its parameters are {shapes}; expected {_SHAPES}")
    if abs((made.bn.momentum or 0) - 0.01) > 1e-9:
        raise Failed(f"the momentum of the batch norm is {made.bn.momentum}; the code has 0.01")
    made.train().double()
    with torch.no_grad():
        made.bn.weight.fill_(1.5), made.bn.bias.fill_(0.3)
    x = _shared.drawn(3, 6, 7, 5)
    layer = _as_library(made.state_dict(), 6, 2, 5).double()
    s, m = (layer.gates(x)[name] for name in ("channel", "spatial"))

    def planes(x, flip=False):
        pair = x.max(1, keepdim=True).values, x.mean(1, keepdim=True)
        return torch.cat(pair[::-1] if flip else pair, 1)

    def gate(q):
        return torch.sigmoid(layer.spatial.bn(layer.spatial.conv(q)))

    fc1, fc2 = layer.channel.fc1, layer.channel.fc2
    means_only = torch.sigmoid(fc2(torch.relu(fc1(x.mean((2, 3))))))[:, :, None, None] * x
    with torch.no_grad():
        expect(
            call(made, x),
            m * s * x,
            "the output in training",
            {
                "these are the gates: the module returns their product with x": s * m,
                "x is added: that sum belongs to the residual block": x + m * s * x,
                "the spatial gate is missing": s * x,
                "the spatial gate multiplies x: it belongs to the re-weighted features": m * x,
                "the spatial gate is computed from x: it wants the re-weighted features": gate(
                    planes(x)
                )
                * s
                * x,
                "the planes are in the other order: the maximum comes first": gate(
                    planes(s * x, flip=True)
                )
                * s
                * x,
                "the batch norm is not used": torch.sigmoid(layer.spatial.conv(planes(s * x)))
                * s
                * x,
                "only the means reach the MLP: that is SE": gate(planes(means_only)) * means_only,
            },
            tolerance=1e-8,
        )
        made.eval(), layer.eval()
        layer.load_state_dict(_as_library(made.state_dict(), 6, 2, 5).state_dict())
        expect(call(made, x), layer(x), "the output in evaluation", tolerance=1e-8)


@exercise
def first_block(attempt):
    """``attempt(in_channels, width, stride, attention)``: the first bottleneck of a stage.

    Its parameters have the names of ``models.resnet``; ``attention`` makes a module for the
    number of channels that it is given.
    """
    torch.manual_seed(0)

    def cbam(channels):
        return layers.CBAM(channels, 4, 3)

    block = Bottleneck(6, 4, 2, cbam, "standard")
    for norm in block.modules():
        if isinstance(norm, nn.BatchNorm2d):  # as if trained: else it does nothing
            nn.init.uniform_(norm.weight, 0.5, 2), nn.init.uniform_(norm.bias, -1, 1)
    made = _shared.is_module(call(attempt, 6, 4, 2, cbam))
    try:
        made.load_state_dict(block.state_dict())
    except RuntimeError as error:
        raise Failed(f"keep the layers that __init__ makes, and their names: {error}") from None
    made.eval(), block.eval()
    x = torch.randn(2, 6, 8, 8)
    try:
        got = call(made, x)
    except RuntimeError as error:
        if "size of tensor" not in str(error):
            raise
        raise Failed(
            "the branch and the shortcut have different shapes: x goes through self.downsample "
            "before it is added"
        ) from None
    with torch.no_grad():
        branch, shortcut = block.residual(x), block.downsample(x)
        gate, relu = block.attention, torch.relu
        f = relu(block.bn2(block.conv2(relu(block.bn1(block.conv1(x))))))
        expect(
            got,
            block(x),
            "the block's output",
            {
                "the last ReLU is missing": gate(branch) + shortcut,
                "the attention is missing: this is the plain block": relu(branch + shortcut),
                "the attention acts on the sum: it belongs to the branch": relu(
                    gate(branch + shortcut)
                ),
                "the attention acts behind the last ReLU: it belongs to the branch": gate(
                    relu(branch + shortcut)
                ),
                "the attention acts on the shortcut: it belongs to the branch": relu(
                    branch + gate(shortcut)
                ),
                "the attention acts on both paths: it belongs to the branch": relu(
                    gate(branch) + gate(shortcut)
                ),
                "there is a ReLU before the attention: the branch ends with a batch norm": relu(
                    gate(relu(branch)) + shortcut
                ),
                "the attention acts before the last batch norm: it comes behind it": relu(
                    block.bn3(gate(block.conv3(f))) + shortcut
                ),
                "the shortcut is missing": relu(gate(branch)),
            },
            tolerance=1e-5,
        )


class _Probe:
    """What small experiments say of a CBAM that may have the planted faults."""

    def __init__(self, block):
        self.block = block.double()
        self.x = _shared.drawn(3, 6, 9, 9) + 1

    def _flat(self, block):
        """The spatial gate the same everywhere: only the channel gate is left to see."""
        with torch.no_grad():
            block.conv.weight.zero_()
        return block.eval()

    @torch.no_grad()
    def depends_on_the_batch(self):
        block = self._flat(copy.deepcopy(self.block))
        return not torch.allclose(block(self.x)[:1], block(self.x[:1]), atol=1e-9)

    @torch.no_grad()
    def maximum_without_influence(self):
        block = self._flat(copy.deepcopy(self.block))
        other = self.x.clone()  # the same means and other maxima
        other[:, 0, 0, 0] += 40
        other[:, 0, 4, 4] -= 40
        gate, moved = block(self.x) / self.x, block(other) / other
        return torch.allclose(gate, moved, atol=1e-9)

    @torch.no_grad()
    def two_mlps(self):
        names = {name.partition(".")[0] for name, _ in self.block.named_parameters()}
        return bool(names - {"fc1", "fc2", "conv", "bn"})

    @torch.no_grad()
    def spatial_gate_of_x(self):
        block = copy.deepcopy(self.block).eval()
        for name, p in block.named_parameters():
            if name.startswith("fc"):
                p.zero_()
        block.fc2.bias[0] = -40.0  # the channel gate closes channel 0
        other = self.x.clone()
        other[:, 0] += 5 * _shared.drawn(3, 9, 9, seed=2)
        return not torch.allclose(block(self.x)[:, 1:], block(other)[:, 1:], atol=1e-9)

    @torch.no_grad()
    def logits_not_normalised(self):
        block = copy.deepcopy(self.block).train()
        before = block(self.x)
        block.conv.weight.mul_(7)
        return not torch.allclose(before, block(self.x), atol=1e-3)


_FAULTS = {
    "depends_on_the_batch": (
        "the mean",
        "an image's channel gate changes with the other images of its batch",
    ),
    "maximum_without_influence": ("the maximum", "a single strong pixel does not move the gate"),
    "two_mlps": ("the shared MLP", "there are more layers than fc1, fc2, conv and bn"),
    "spatial_gate_of_x": (
        "the input of the spatial gate",
        "a channel that the channel gate has closed still moves it",
    ),
    "logits_not_normalised": (
        "the batch norm",
        "in training, seven times the kernel gives another gate",
    ),
}


@exercise
def faults(attempt):
    """``attempt(channels, reduction, kernel_size)``: a CBAM with five planted faults, repaired.

    The message says which are repaired, and how those that remain show.
    """
    torch.manual_seed(0)
    made = call(attempt, 6, 2, 3)
    if not isinstance(made, nn.Module) or not all(hasattr(made, name) for name in _HALVES):
        raise Failed("keep the layers fc1, fc2, conv and bn: nothing is wrong with them")
    with torch.no_grad():
        for name, p in made.named_parameters():
            if name.endswith("bias") and name.startswith("fc"):
                p.fill_(0.5)  # so that no unit is dead
    x = _shared.drawn(3, 6, 9, 9).float()
    _shared.output(made, x)
    probe = _Probe(copy.deepcopy(made))
    _shared.report(_FAULTS, [fault for fault in _FAULTS if getattr(probe, fault)()])
    made.eval()
    healthy = _as_library(made.state_dict(), 6, 2, 3).eval()
    expect(
        made(x),
        healthy(x),
        "the five faults are repaired, but something else has changed: the output",
        tolerance=1e-5,
    )


def _variance(error, images):
    """Of an error rate in per cent, in points squared."""
    p = error / 100
    return 1e4 * p * (1 - p) / images


@exercise
def standard_errors(attempt):
    """``attempt(a, b, images)``: b below a, in standard errors of the difference of the two."""
    for a, b, images in ((23.14, 22.66, 50_000), (41.0, 38.5, 900)):
        variances = _variance(a, images), _variance(b, images)
        spread = sum(variances) ** 0.5
        expect(
            call(attempt, a, b, images),
            (a - b) / spread,
            "the number of standard errors",
            {
                "the sign is turned round: a - b is positive where b is the lower error": (b - a)
                / spread,
                "only one of the two rates has a standard error in it": (a - b)
                / variances[0] ** 0.5,
                "only one of the two rates has a standard error in it, that of b": (a - b)
                / variances[1] ** 0.5,
                "the standard errors are added: it is their squares that add": (a - b)
                / sum(v**0.5 for v in variances),
                "the square root is missing": (a - b) / sum(variances),
                "the difference is in points and the standard error is a share": 100
                * (a - b)
                / spread,
                "this is the standard error: divide the difference by it": spread,
            },
            tolerance=1e-6,
        )


_READING = {
    "a": (
        False,
        "the two rows differ by 0.02 points, that is by 10 of 50,000 images, and by a tenth of "
        "a standard error",
    ),
    "b": (True, "0.84 points are more than three standard errors of the difference"),
    "c": (False, "look at ResNeXt-50: the error of CBAM is not below that of SE"),
    "d": (True, "the MLP is shared, so a second statistic adds no parameter"),
    "e": (
        False,
        "the standard error knows the draw of the images, and not that of the initial weights: "
        "each network was trained once",
    ),
}


@exercise
def reading(attempt):
    """``attempt``: a dict, ``"a"`` to ``"e"`` -> True or False, on the paper's tables."""
    _shared.statements(attempt, _READING)


def _tile_network(gate, in_channels=2, classes=10):
    """The network of the chapter's task: nothing but the gate looks beyond a tile."""
    return nn.Sequential(
        nn.Conv2d(in_channels, 16, 4, stride=4), nn.BatchNorm2d(16), nn.ReLU(), gate,
        nn.Conv2d(16, 32, 2, stride=2), nn.BatchNorm2d(32), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, classes),
    )  # fmt: skip


@exercise
def swapped(attempt):
    """``attempt(network, images, others)`` -> logits with the spatial gates of ``others``."""
    torch.manual_seed(0)
    network = _tile_network(layers.CBAM(16, 4)).double().eval()
    with torch.no_grad():
        network[3].spatial.conv.weight.mul_(5)
        images, others = _shared.drawn(2, 5, 2, 16, 16)
        got = call(attempt, network, images, others)
        before, attention, after = network[:3], network[3], network[4:]
        x, foreign = before(images), before(others)
        own, other = attention.gates(x), attention.gates(foreign)
        s, m = own["channel"], own["spatial"]
        expect(
            got,
            after(s * other["spatial"] * x),
            "the logits",
            {
                "these are the network's own logits: the spatial gates are those of images": (
                    network(images)
                ),
                "these are the logits of others: only their spatial gates are wanted": network(
                    others
                ),
                "both gates are those of others: the channel gate stays": after(
                    other["channel"] * other["spatial"] * x
                ),
                "the channel gates are swapped, and the spatial gates are not": after(
                    other["channel"] * m * x
                ),
                "the channel gate is missing": after(other["spatial"] * x),
                "the own spatial gate multiplies too: replace it": after(
                    s * m * other["spatial"] * x
                ),
                "the features are those of others: only their spatial gates are wanted": after(
                    s * other["spatial"] * foreign
                ),
            },
            tolerance=1e-8,
        )


@exercise
def arrived(attempt):
    """``attempt(network, images)`` renews the running averages of the spatial gates' batch norms.

    In place, from one pass over ``images``; everything else is to stay as it was.
    """
    torch.manual_seed(0)
    network = _tile_network(layers.CBAM(16, 4)).double().eval()
    images = _shared.drawn(40, 2, 16, 16, seed=8)
    before = copy.deepcopy(network)
    healthy = copy.deepcopy(network)
    norm = healthy[3].spatial.bn
    norm.train().momentum = 1.0
    with torch.no_grad():
        healthy(images)
    _in_place(attempt, network, images)
    bn = network[3].spatial.bn
    old = before.state_dict()
    if all(torch.equal(v, old[k]) for k, v in network.state_dict().items()):
        raise _NotAttempted
    changed = {k for k, v in network.state_dict().items() if not torch.equal(v, old[k])}
    if any(not k.startswith("3.spatial.bn.") for k in changed):
        names = ", ".join(sorted(k for k in changed if not k.startswith("3.spatial.bn.")))
        raise Failed(
            f"more than the spatial gate's batch norm has changed ({names}): leave all other "
            "layers in evaluation"
        )
    if {"3.spatial.bn.weight", "3.spatial.bn.bias"} & changed:
        raise Failed("weight and bias of the batch norm are learned: only its averages are renewed")
    if bn.training or network.training:
        raise Failed("a layer is left in training: put it back into evaluation")
    if bn.momentum != before[3].spatial.bn.momentum:
        raise Failed(f"the momentum is left at {bn.momentum}: put it back to 0.01")
    mean, var = bn.running_mean, bn.running_var
    pending = 0.99 * old["3.spatial.bn.running_mean"] + 0.01 * norm.running_mean
    expect(
        mean,
        norm.running_mean,
        "the running mean",
        {
            "the pass counted for 0.01 only: for one pass, set the momentum to 1 or to None": (
                pending
            ),
            "the sign of the mean is turned round": -norm.running_mean,
            "the mean is zero: reset_running_stats alone forgets, a pass has to follow": 0 * mean,
        },
        tolerance=1e-6,
    )
    expect(var, norm.running_var, "the running variance", tolerance=0.01)


def _in_place(attempt, *given):
    """Call an attempt that works in place, and so need not return anything."""
    try:
        attempt(*given)
    except NotImplementedError:
        raise _NotAttempted from None


@exercise
def fold(attempt):
    """``attempt(conv, bn)``: (weight, bias) of one convolution that is ``bn(conv(x))`` in eval."""
    torch.manual_seed(0)
    spatial = layers.SpatialAttention(5).double().eval()
    bn, conv = spatial.bn, spatial.conv
    with torch.no_grad():
        bn.weight.fill_(1.7), bn.bias.fill_(-0.4)
        bn.running_mean.fill_(0.3), bn.running_var.fill_(0.02)
    got = _several(call(attempt, conv, bn), ("weight", "bias"))
    gamma, beta, mean = bn.weight.detach(), bn.bias.detach(), bn.running_mean
    weight, var = conv.weight.detach(), bn.running_var
    scale = gamma / torch.sqrt(var + bn.eps)
    expect(
        got[0],
        weight * scale,
        "the weight",
        {
            "the weight is divided by the variance; divide by its square root": (
                weight * gamma / (var + bn.eps)
            ),
            "eps is left out: the batch norm divides by sqrt(var + eps)": (
                weight * gamma / torch.sqrt(var)
            ),
            "the batch norm's weight is left out": weight / torch.sqrt(var + bn.eps),
            "this is the convolution's own weight": weight,
        },
    )
    expect(
        got[1],
        beta - scale * mean,
        "the bias",
        {
            "the mean is not scaled: subtract it before the division": beta - mean,
            "the sign of the mean is turned round": beta + scale * mean,
            "the running mean is left out": beta,
            "the batch norm's bias is left out": -scale * mean,
        },
    )


@exercise
def ablation(attempt):
    """``attempt(makers, split, seeds, **fit_options)``: name -> points against "plain", by seed."""
    gates = {
        "plain": nn.Identity,
        "channel": lambda: layers.ChannelAttention(2, 1),
        "spatial": lambda: layers.SpatialAttention(3),
    }
    makers = {name: _shared.toy_network(gate) for name, gate in gates.items()}
    split, seeds = _shared.toy_split(), (3, 5, 8)
    options = {"epochs": 2, "lr": 0.03, "batch_size": 20}
    got = call(attempt, dict(makers), split, seeds, **options)
    _shared.differences_by_name(got, makers, split, seeds, **options)


BUDGET = 40
_ENOUGH = 0.9
_GAP = 3  # rows of places between the digits and the mark


def _far(split, gap):
    """Marked digits with ``gap`` empty rows of places (of four pixels) above the mark."""

    def stretched(x):
        empty = x.new_zeros(len(x), 2, 4 * gap, 16)
        return torch.cat((x[:, :, :8], empty, x[:, :, 8:]), 2)

    return data.Split(
        stretched(split.x_train), split.y_train, stretched(split.x_test), split.y_test
    )


@exercise
def budget(attempt):
    """``attempt()``: a spatial gate of at most 40 parameters that reads a far mark.

    It is trained on digits paired anew and from seeds that the page does not use.
    """
    torch.manual_seed(0)
    made, x = call(attempt), _shared.drawn(4, 16, 7, 4).float().abs() + 0.1
    size, y = _shared.within(BUDGET, made, x)
    several = "the gate differs between the channels of a place: one number a place"
    _shared.one_number((y / x).detach(), 1, several)
    _shared.one_image_alone(made, x, y)
    _shared.three_of_four(
        lambda: _tile_network(call(attempt)),
        lambda seed: _far(data.marked_digits(1000, 1000, dtype=torch.float64, seed=seed), _GAP),
        (101, 102, 103, 104),
        _ENOUGH,
        size,
        lambda _: (
            "A gate that ends near 0.55 has not read the mark: does it see four rows further "
            "down, and does it depend on x?"
        ),
        epochs=8,
        lr=0.03,
        batch_size=100,
    )
