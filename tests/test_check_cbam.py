"""The checks of the CBAM exercises: solutions pass, mistakes get their message, stubs are quiet."""

import numpy as np
import torch
from torch import nn

from attn_lib import check, layers
from attn_lib.train import over_seeds


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def pool(x):
    return x.mean(axis=(2, 3)), x.max(axis=(2, 3))


def mlp(z, w1, b1, w2, b2):
    return np.maximum(z @ w1.T + b1, 0) @ w2.T + b2


def channel_gate(x, *weights):
    return sigmoid(sum(mlp(z, *weights) for z in pool(x)))


def hidden_first(x, w1, b1, w2, b2):
    return sigmoid(sum(np.maximum(z @ w1.T + b1, 0) for z in pool(x)) @ w2.T + b2)


def softmax(x, *weights):
    e = np.exp(sum(mlp(z, *weights) for z in pool(x)))
    return e / e.sum(axis=1, keepdims=True)


def spatial_logits(q, kernel, *, mode="constant", pad=True):
    k = kernel.shape[-1]
    p = k // 2 if pad else 0
    padded = np.pad(q, ((0, 0), (0, 0), (p, p), (p, p)), mode=mode)
    height, width = padded.shape[2] - k + 1, padded.shape[3] - k + 1
    return sum(
        np.einsum("ntij,t->nij", padded[:, :, u : u + height, v : v + width], kernel[:, u, v])
        for u in range(k)
        for v in range(k)
    )


def one_plane(t):
    return lambda q, kernel: spatial_logits(q[:, t : t + 1], kernel[t : t + 1])


def not_added(q, kernel):
    return np.stack([one_plane(t)(q, kernel) for t in (0, 1)], axis=1)


def sequence(x, channel_gate, spatial_gate):
    x = channel_gate(x) * x
    return spatial_gate(x) * x


def mlp_backward(ds, z, h, s, w1, w2, *, slope=True, relu=True, share=1, rows=slice(None)):
    half = share * (ds * s * (1 - s) if slope else ds)
    da2 = np.concatenate([half, half])
    da1 = da2 @ w2 * ((h > 0) if relu else 1)
    dz, z, h, da1, da2 = da1 @ w1, z[rows], h[rows], da1[rows], da2[rows]
    return dz, da1.T @ z, da1.sum(0), da2.T @ h, da2.sum(0)


def backward_with(**options):
    return lambda *args: mlp_backward(*args, **options)


def transposed(*args):
    dz, dw1, db1, dw2, db2 = mlp_backward(*args)
    return dz, dw1.T, db1, dw2.T, db2


def input_gradient(
    dx1, x, s, dz_mean, dz_max, *, direct=True, mean=True, maximum="first", share=True
):
    n, c, height, width = x.shape
    s, dz_mean, dz_max = (v[:, :, None, None] for v in (s, dz_mean, dz_max))
    tied = x == x.max((2, 3), keepdims=True)
    first = np.arange(height * width) == x.reshape(n, c, -1).argmax(2)[..., None]
    held = {
        None: 0,
        "first": first.reshape(x.shape),
        "all": tied,
        "shared": tied / tied.sum((2, 3), keepdims=True),
        "everywhere": 1,
    }[maximum]
    share = height * width if share else 1
    return direct * s * dx1 + mean * dz_mean / share * np.ones(x.shape) + held * dz_max


def gradient_with(**options):
    return lambda *args: input_gradient(*args, **options)


class CBAM(nn.Module):
    """With the mistake that ``wrong`` names."""

    def __init__(self, channels, reduction, kernel_size, wrong=None):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // reduction)
        self.fc2 = nn.Linear(channels // reduction, channels)
        bias, momentum = wrong == "bias", 0.1 if wrong == "momentum" else 0.01
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=bias)
        if wrong != "no bn":
            self.bn = nn.BatchNorm2d(1, momentum=momentum)
        self.wrong = wrong

    def forward(self, x):
        z = x.mean((2, 3)), x.flatten(2).max(2).values
        z = z[:1] if self.wrong == "mean only" else z
        s = torch.sigmoid(sum(self.fc2(torch.relu(self.fc1(v))) for v in z))[:, :, None, None]
        scaled = s * x
        seen = x if self.wrong == "gate of x" else scaled
        q = [seen.max(1, keepdim=True).values, seen.mean(1, keepdim=True)]
        a = self.conv(torch.cat(q[::-1] if self.wrong == "order" else q, 1))
        m = torch.sigmoid(a if self.wrong == "bn unused" else self.bn(a))
        if self.wrong == "gates":
            return s * m
        if self.wrong == "sum":
            return x + m * scaled
        return m * (x if self.wrong == "channel lost" else scaled)


def wrong(name):
    return lambda channels, reduction, kernel_size: CBAM(channels, reduction, kernel_size, name)


class Empty(nn.Module):
    def __init__(self, *args):
        super().__init__()


class FirstBlock(nn.Module):
    """``join`` makes of the block, the branch and the shortcut what the block returns."""

    def __init__(self, in_channels, width, stride, attention, join=None):
        super().__init__()
        channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(channels)
        self.downsample = nn.Sequential(
            nn.Conv2d(in_channels, channels, 1, stride, bias=False), nn.BatchNorm2d(channels)
        )
        self.attention = attention(channels)
        self.join = join or (lambda block, f, x: torch.relu(x + block.attention(f)))

    def inner(self, x):
        f = torch.relu(self.bn1(self.conv1(x)))
        return self.conv3(torch.relu(self.bn2(self.conv2(f))))

    def forward(self, x):
        return self.join(self, self.bn3(self.inner(x)), self.downsample(x))


def joined(join):
    return lambda *args: FirstBlock(*args, join)


class NoShortcutLayers(FirstBlock):
    def forward(self, x):
        return torch.relu(x + self.attention(self.bn3(self.inner(x))))


class BeforeNorm(FirstBlock):
    def forward(self, x):
        return torch.relu(self.bn3(self.attention(self.inner(x))) + self.downsample(x))


class NoForward(FirstBlock):
    def forward(self, x): ...


class Faulty(nn.Module):
    """The block of the exercise; ``repaired`` lists which of its faults are gone."""

    def __init__(self, channels, reduction, kernel_size, repaired=()):
        super().__init__()
        hidden = channels // reduction
        self.fc1, self.fc2 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        if "mlp" not in repaired:
            self.fc3, self.fc4 = nn.Linear(channels, hidden), nn.Linear(hidden, channels)
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.bn = nn.BatchNorm2d(1, momentum=0.01)
        self.repaired = repaired

    def forward(self, x):
        z_mean = x.mean((2, 3)) if "mean" in self.repaired else x.mean((0, 2, 3)).expand(len(x), -1)
        z_max = x.flatten(2).max(2).values if "max" in self.repaired else x.flatten(2).mean(2)
        down, up = (self.fc1, self.fc2) if "mlp" in self.repaired else (self.fc3, self.fc4)
        a = self.fc2(torch.relu(self.fc1(z_mean))) + up(torch.relu(down(z_max)))
        scaled = torch.sigmoid(a)[:, :, None, None] * x
        seen = scaled if "input" in self.repaired else x
        q = torch.cat((seen.max(1, keepdim=True).values, seen.mean(1, keepdim=True)), 1)
        a = self.conv(q)
        return scaled * torch.sigmoid(self.bn(a) if "bn" in self.repaired else a)


ALL = ("mean", "max", "mlp", "input", "bn")


def repaired(*names):
    return lambda *args: Faulty(*args, names)


def all_but(name):
    return repaired(*(n for n in ALL if n != name))


class RepairedAndMore(Faulty):
    def forward(self, x):
        return 2 * super().forward(x)


class OtherShape(Faulty):
    def forward(self, x):
        return super().forward(x).mean((2, 3))


class OtherLayers(nn.Module):
    def __init__(self, channels, *args):
        super().__init__()
        self.fc = nn.Linear(channels, channels)


def standard_errors(a, b, images):
    p, q = a / 100, b / 100
    return (p - q) / ((p * (1 - p) + q * (1 - q)) / images) ** 0.5


def one_error(rate, images):
    return 100 * (rate / 100 * (1 - rate / 100) / images) ** 0.5


RIGHT = {"a": False, "b": True, "c": False, "d": True, "e": False}


def gates(network, images):
    return network[3].gates(network[:3](images))


def swapped(network, images, others, *, channel=0, spatial=1, features=0):
    pair = images, others
    s = gates(network, pair[channel])["channel"]
    m = gates(network, pair[spatial])["spatial"]
    return network[4:](s * m * network[:3](pair[features]))


def swapped_with(**options):
    return lambda *args: swapped(*args, **options)


@torch.no_grad()
def arrived(network, images, *, momentum=1.0, left=0.01, which=layers.SpatialAttention, end=True):
    found = [m for m in network.modules() if isinstance(m, which)]
    norms = [getattr(m, "bn", m) for m in found]
    for bn in norms:
        bn.momentum = momentum
        bn.train()
    network(images)
    for bn in norms:
        bn.momentum = left
        bn.train(not end)


def arrived_with(**options):
    return lambda *args: arrived(*args, **options)


@torch.no_grad()
def forgotten(network, images):
    network[3].spatial.bn.running_mean.zero_()
    network[3].spatial.bn.running_var.fill_(0.3)


@torch.no_grad()
def also_weight(network, images):
    arrived(network, images)
    network[3].spatial.bn.weight.mul_(2)


def fold(conv, bn, *, eps=None):
    scale = bn.weight / torch.sqrt(bn.running_var + (bn.eps if eps is None else eps))
    return conv.weight * scale, bn.bias - scale * bn.running_mean


def ablation(makers, split, seeds, **options):
    accuracy = {name: over_seeds(make, split, seeds, **options) for name, make in makers.items()}
    return {k: 100 * (v - accuracy["plain"]) for k, v in accuracy.items() if k != "plain"}


def changed(change):
    def attempt(*args, **options):
        return {name: change(value) for name, value in ablation(*args, **options).items()}

    return attempt


def only_gated(makers, split, seeds, **options):
    return {
        k: 100 * over_seeds(m, split, seeds, **options) for k, m in makers.items() if k[0] != "p"
    }


def unpaired(makers, split, seeds, **options):
    plain = 100 * over_seeds(makers["plain"], split, seeds[::-1], **options)
    return {k: v - plain for k, v in only_gated(makers, split, seeds, **options).items()}


def from_mean(makers, split, seeds, **options):
    plain = 100 * over_seeds(makers["plain"], split, seeds, **options).mean()
    return {k: v - plain for k, v in only_gated(makers, split, seeds, **options).items()}


class Strip(nn.Module):
    def __init__(self, size=(9, 1)):
        super().__init__()
        self.conv = nn.Conv2d(2, 1, size, padding=(size[0] // 2, size[1] // 2), bias=False)
        self.bn = nn.BatchNorm2d(1)

    def forward(self, x):
        q = torch.cat((x.max(1, keepdim=True).values, x.mean(1, keepdim=True)), 1)
        return x * torch.sigmoid(self.bn(self.conv(q)))


class OfChannels(Strip):
    def forward(self, x):
        return x * torch.sigmoid(x.mean((2, 3), keepdim=True))


class OfBatch(Strip):
    def forward(self, x):
        return x * torch.sigmoid(self.conv(x.mean((0, 1))[None, None].expand(len(x), 2, -1, -1)))


class GateOnly(Strip):
    def forward(self, x):
        return self.conv(x[:, :2])


class Untouched(nn.Module):
    def forward(self, x): ...


SOLUTIONS = {
    "pool": pool,
    "channel_gate": channel_gate,
    "spatial_logits": spatial_logits,
    "sequence": sequence,
    "mlp_backward": mlp_backward,
    "input_gradient": input_gradient,
    "module": CBAM,
    "first_block": FirstBlock,
    "faults": repaired(*ALL),
    "standard_errors": standard_errors,
    "reading": RIGHT,
    "swapped": swapped,
    "arrived": arrived,
    "fold": fold,
    "ablation": ablation,
    "budget": Strip,
}

MISTAKES = [
    ("pool", lambda x: pool(x)[::-1], "swapped"),
    ("pool", lambda x: (x.mean(axis=1), x.max(axis=1)), "over the channels"),
    ("pool", lambda x: tuple(z[:, :, None, None] for z in pool(x)), "axes of length 1"),
    ("pool", lambda x: (x.mean(axis=(0, 2, 3)), x.max(axis=(0, 2, 3))), "over the batch"),
    ("pool", lambda x: (x.mean(axis=(2, 3)), x.max(axis=2)), "over the rows only"),
    ("pool", lambda x: x.mean(axis=(2, 3)), "2 arrays are wanted"),
    ("channel_gate", lambda x, *w: sigmoid(mlp(pool(x)[0], *w)), "that is SE"),
    ("channel_gate", lambda x, *w: sigmoid(mlp(pool(x)[1], *w)), "only the maximum"),
    ("channel_gate", lambda x, *w: sigmoid(mlp(sum(pool(x)), *w)), "added before the MLP"),
    ("channel_gate", hidden_first, "b2 enters once"),
    ("channel_gate", lambda x, *w: sum(sigmoid(mlp(z, *w)) for z in pool(x)), "of its own"),
    ("channel_gate", softmax, "channels compete"),
    ("channel_gate", lambda *a: channel_gate(*a)[:, :, None, None], "axes of length 1"),
    ("spatial_logits", lambda q, k: spatial_logits(q, k[:, ::-1, ::-1]), "turned by 180"),
    ("spatial_logits", lambda q, k: spatial_logits(q, k, pad=False), "padding is missing"),
    ("spatial_logits", not_added, "planes are not added"),
    ("spatial_logits", one_plane(0), "only the plane of maxima"),
    ("spatial_logits", one_plane(1), "only the plane of means"),
    ("spatial_logits", lambda q, k: spatial_logits(q[:, ::-1], k), "each other's kernel"),
    ("spatial_logits", lambda q, k: spatial_logits(q, k, mode="edge"), "values of the edge"),
    ("spatial_logits", lambda q, k: spatial_logits(q, k, mode="wrap"), "opposite edge"),
    ("sequence", lambda x, c, s: c(x) * s(x) * x, "from x: that is the parallel"),
    ("sequence", lambda x, c, s: s(c(x) * x) * x, "so the channel gate is lost"),
    ("sequence", lambda x, c, s: c(s(x) * x) * s(x) * x, "comes first"),
    ("sequence", lambda x, c, s: c(x) * x, "spatial gate is missing"),
    ("sequence", lambda x, c, s: s(x) * x, "channel gate is missing"),
    ("sequence", lambda x, c, s: s(c(x) * x) * c(x), "product of the gates"),
    ("mlp_backward", backward_with(slope=False), "slope of the sigmoid"),
    ("mlp_backward", backward_with(relu=False), "ReLU is missing"),
    ("mlp_backward", backward_with(share=0.5), "shared out between"),
    ("mlp_backward", backward_with(rows=slice(3)), "only the means' rows"),
    ("mlp_backward", backward_with(rows=slice(3, None)), "only the maxima's rows"),
    ("mlp_backward", transposed, "are transposed"),
    ("mlp_backward", lambda *a: (*mlp_backward(*a)[:4], mlp_backward(*a)[4] / 2), "has two terms"),
    ("mlp_backward", lambda *a: (mlp_backward(*a)[0][:3], *mlp_backward(*a)[1:]), "2N rows"),
    ("mlp_backward", lambda *a: mlp_backward(*a)[:3], "got 3"),
    ("input_gradient", gradient_with(maximum=None), "through the maximum is missing"),
    ("input_gradient", gradient_with(mean=False), "through the mean is missing"),
    ("input_gradient", gradient_with(direct=False), "direct path is missing"),
    ("input_gradient", gradient_with(share=False), "not divided"),
    ("input_gradient", gradient_with(maximum="all"), "all of dz_max"),
    ("input_gradient", gradient_with(maximum="shared"), "as in torch.amax"),
    ("input_gradient", gradient_with(maximum="everywhere"), "every place gets dz_max"),
    ("module", wrong("gates"), "these are the gates"),
    ("module", wrong("sum"), "belongs to the residual block"),
    ("module", wrong("bias"), "convolution has a bias"),
    ("module", wrong("no bn"), "batch norm bn .* is missing"),
    ("module", wrong("bn unused"), "batch norm is not used"),
    ("module", wrong("momentum"), "0.1; the code has 0.01"),
    ("module", wrong("mean only"), "that is SE"),
    ("module", wrong("gate of x"), "computed from x"),
    ("module", wrong("channel lost"), "multiplies x"),
    ("module", wrong("order"), "maximum comes first"),
    ("module", lambda *args: 3, "a module is wanted; got int"),
    ("module", lambda c, r, k: CBAM(c, r, 3), "its parameters are"),
    ("first_block", joined(lambda b, f, x: x + b.attention(f)), "last ReLU is missing"),
    ("first_block", joined(lambda b, f, x: torch.relu(x + f)), "attention is missing"),
    ("first_block", joined(lambda b, f, x: torch.relu(b.attention(x + f))), "acts on the sum"),
    ("first_block", joined(lambda b, f, x: b.attention(torch.relu(x + f))), "last ReLU: it"),
    ("first_block", joined(lambda b, f, x: torch.relu(b.attention(x) + f)), "on the shortcut"),
    ("first_block", joined(lambda b, f, x: torch.relu(b.attention(x) + b.attention(f))),
     "on both paths"),
    ("first_block", joined(lambda b, f, x: torch.relu(x + b.attention(torch.relu(f)))),
     "ReLU before the attention"),
    ("first_block", joined(lambda b, f, x: torch.relu(b.attention(f))), "shortcut is missing"),
    ("first_block", NoShortcutLayers, "goes through self.downsample"),
    ("first_block", BeforeNorm, "before the last batch norm"),
    ("first_block", Empty, "keep the layers that __init__ makes"),
    ("faults", repaired("mean"), "repaired: the mean. Still wrong: the maximum.*; the shared MLP"),
    ("faults", repaired("max"), "repaired: the maximum. Still wrong: the mean: .*batch"),
    ("faults", repaired("mlp"), "repaired: the shared MLP. Still wrong"),
    ("faults", repaired("input"), "repaired: the input of the spatial gate. Still wrong"),
    ("faults", repaired("bn"), "repaired: the batch norm. Still wrong"),
    ("faults", all_but("mean"), "Still wrong: the mean: an image's channel gate changes[^;]*$"),
    ("faults", all_but("max"), "Still wrong: the maximum: a single strong pixel[^;]*$"),
    ("faults", all_but("mlp"), "Still wrong: the shared MLP: there are more layers[^;]*$"),
    ("faults", all_but("input"), "Still wrong: the input of the spatial gate: a channel[^;]*$"),
    ("faults", all_but("bn"), "Still wrong: the batch norm: in training, seven[^;]*$"),
    ("faults", lambda *args: RepairedAndMore(*args, ALL), "something else has changed"),
    ("faults", lambda *args: OtherShape(*args, ALL), "the output has shape"),
    ("faults", OtherLayers, "keep the layers fc1"),
    ("standard_errors", lambda a, b, n: -standard_errors(a, b, n), "sign is turned round"),
    ("standard_errors", lambda a, b, n: (a - b) / one_error(a, n), "only one of the two rates"),
    ("standard_errors", lambda a, b, n: (a - b) / one_error(b, n), "that of b"),
    ("standard_errors", lambda a, b, n: (a - b) / (one_error(a, n) + one_error(b, n)),
     "their squares that add"),
    ("standard_errors", lambda a, b, n: (a - b) / (one_error(a, n) ** 2 + one_error(b, n) ** 2),
     "square root is missing"),
    ("standard_errors", lambda a, b, n: 100 * standard_errors(a, b, n), "is a share"),
    ("standard_errors", lambda a, b, n: (one_error(a, n) ** 2 + one_error(b, n) ** 2) ** 0.5,
     "divide the difference by it"),
    ("reading", {**RIGHT, "a": True}, "look at a again: .*10 of 50,000"),
    ("reading", {**RIGHT, "b": False}, "look at b again"),
    ("reading", {**RIGHT, "c": True}, "look at c again: look at ResNeXt-50"),
    ("reading", {**RIGHT, "d": False}, "look at d again: the MLP is shared"),
    ("reading", {**RIGHT, "e": True}, "look at e again"),
    ("reading", {"a": True}, "a dict with the keys"),
    ("swapped", swapped_with(spatial=0), "own logits"),
    ("swapped", swapped_with(channel=1, features=1), "the logits of others"),
    ("swapped", swapped_with(channel=1), "the channel gate stays"),
    ("swapped", swapped_with(channel=1, spatial=0), "channel gates are swapped"),
    ("swapped", swapped_with(features=1), "features are those of others"),
    ("swapped", lambda net, x, o: net[4:](gates(net, o)["spatial"] * net[:3](x)),
     "channel gate is missing"),
    ("swapped", lambda net, x, o: net[4:](
        gates(net, o)["spatial"] * gates(net, x)["spatial"] * gates(net, x)["channel"]
        * net[:3](x)), "replace it"),
    ("arrived", arrived_with(which=nn.BatchNorm2d), "more than the spatial gate's"),
    ("arrived", arrived_with(momentum=0.01), "counted for 0.01 only"),
    ("arrived", arrived_with(left=1.0), "momentum is left at 1.0"),
    ("arrived", arrived_with(end=False), "left in training"),
    ("arrived", forgotten, "a pass has to follow"),
    ("arrived", also_weight, "weight and bias of the batch norm are learned"),
    ("fold", lambda conv, bn: fold(conv, bn, eps=0), "eps is left out"),
    ("fold", lambda conv, bn: (fold(conv, bn)[0], bn.bias), "running mean is left out"),
    ("fold", lambda conv, bn: (conv.weight, fold(conv, bn)[1]), "own weight"),
    ("fold", lambda conv, bn: (fold(conv, bn)[0], bn.bias - bn.running_mean), "is not scaled"),
    ("fold", lambda conv, bn: (fold(conv, bn)[0], 2 * bn.bias - fold(conv, bn)[1]),
     "sign of the mean"),
    ("fold", lambda conv, bn: (fold(conv, bn)[0], fold(conv, bn)[1] - bn.bias),
     "batch norm's bias is left out"),
    ("fold", lambda conv, bn: conv.weight, "2 arrays are wanted"),
    ("ablation", changed(lambda v: -v), "plain minus gated"),
    ("ablation", changed(lambda v: v / 100), "these are shares"),
    ("ablation", changed(lambda v: v.mean()), "this is their mean"),
    ("ablation", only_gated, "these are the accuracies with"),
    ("ablation", unpaired, "not paired"),
    ("ablation", from_mean, "subtract seed by seed"),
    ("ablation", lambda makers, split, seeds, **kw: ablation(makers, split, range(3), **kw),
     "the seeds from 0 on"),
    ("ablation", lambda *a, **kw: {"plain": np.zeros(3), **ablation(*a, **kw)}, "leave .plain"),
    ("ablation", lambda *a, **kw: ablation(*a, **kw)["channel"], "a dict is wanted"),
    ("budget", lambda: layers.SpatialAttention(9), "164 parameters"),
    ("budget", OfChannels, "differs between the channels"),
    ("budget", OfBatch, "other images of its batch"),
    ("budget", GateOnly, "the output has shape"),
    ("budget", lambda: Strip((3, 3)), "0 of 4 trainings"),
    ("budget", lambda: 3, "a module is wanted; got int"),
]  # fmt: skip


def raises(*args, **options):
    raise NotImplementedError


STUBS = [
    ("module", Empty),
    ("first_block", NoForward),
    ("faults", Faulty),
    ("reading", dict.fromkeys("abcde", ...)),
    ("reading", {**RIGHT, "d": ...}),
    ("mlp_backward", lambda *args: (None,) * 5),
    ("pool", lambda x: (None, None)),
    ("budget", Untouched),
    ("arrived", raises),
    ("pool", raises),
]  # that are not attempts, besides the usual


def test_the_repaired_block_may_list_its_layers_in_another_order():
    class Other(Faulty):
        def __init__(self, *args):
            super().__init__(*args, ALL)
            self.fc1 = self._modules.pop("fc1")  # to the end

    check.cbam.faults(Other)
