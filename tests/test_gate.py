"""Layers composed from parts: the five of attn_lib again, and ten more from their equations."""

import copy
import math
import pickle

import pytest
import torch
from torch import fx, nn
from torch.nn import functional as F

from attn_lib import layers
from attn_lib.inspection import record_gates
from attn_lib.layers import gate
from attn_lib.layers.gate import Branches, Gate, Merge, chain

C = 8


# ---- the five, and where their weights lie in the composition


def se():
    return Gate(gate.mean, gate.bottleneck(C, 4), torch.sigmoid)


def cbam():
    pooled = Branches(gate.mean, gate.maximum)
    channel = Gate(pooled, gate.bottleneck(C, 4), Merge(torch.add), torch.sigmoid)
    planes = Branches(gate.maximum_of_channels, gate.mean_of_channels)
    conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
    norm = nn.BatchNorm2d(1, momentum=0.01)
    return nn.Sequential(
        channel, Gate(planes, Merge(gate.concatenated(1)), conv, norm, torch.sigmoid)
    )


def bam():
    def dilated():
        return nn.Conv2d(2, 2, 3, padding=4, dilation=4), nn.BatchNorm2d(2), nn.ReLU()

    first = nn.Conv2d(C, 2, 1), nn.BatchNorm2d(2), nn.ReLU()
    channel = chain(gate.mean, gate.bottleneck(C, 4, norm=nn.BatchNorm2d))
    spatial = chain(*first, *dilated(), *dilated(), nn.Conv2d(2, 1, 1))
    return Gate(Branches(channel, spatial), Merge(torch.mul), gate.one_plus_sigmoid)


def eca():
    return Gate(gate.mean, gate.AlongChannels(3), torch.sigmoid)


def coordinate():
    encode = gate.Together(nn.Conv2d(C, 8, 1), nn.BatchNorm2d(8), F.hardswish)
    heads = Branches(nn.Conv2d(8, C, 1), nn.Conv2d(8, C, 1))
    return Gate(Branches(gate.rows, gate.columns), encode, heads, torch.sigmoid)


FIVE = {
    "se": (se, {"fc1": "parts.1.0", "fc2": "parts.1.2"}),
    "cbam": (
        cbam,
        {
            "channel.fc1": "0.parts.1.0",
            "channel.fc2": "0.parts.1.2",
            "spatial.conv": "1.parts.2",
            "spatial.bn": "1.parts.3",
        },
    ),
    "bam": (
        bam,
        {
            "channel.fc1": "parts.0.parts.0.1.0",
            "channel.bn1": "parts.0.parts.0.1.1",
            "channel.fc2": "parts.0.parts.0.1.3",
        }
        | {f"spatial.conv{i + 1}": f"parts.0.parts.1.{3 * i}" for i in range(4)}
        | {f"spatial.bn{i + 1}": f"parts.0.parts.1.{3 * i + 1}" for i in range(3)},
    ),
    "eca": (eca, {"conv": "parts.1.conv"}),
    "coordinate": (
        coordinate,
        {
            "conv1": "parts.1.parts.0",
            "bn1": "parts.1.parts.1",
            "conv_h": "parts.2.parts.0",
            "conv_w": "parts.2.parts.1",
        },
    ),
}
OPTIONS = {"se": {"reduction": 4}, "cbam": {"reduction": 4}, "bam": {"reduction": 4}}


@pytest.fixture
def x():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(3, C, 6, 5, generator=generator, dtype=torch.float64, requires_grad=True)


@pytest.mark.parametrize("name", FIVE)
def test_the_five_from_parts_are_the_five(name, x):
    torch.manual_seed(1)
    make, names = FIVE[name]
    ours = layers.build(name, C, **OPTIONS.get(name, {})).double()
    composed = make().double()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(torch.randn_like(parameter) / 4)

    def moved(tensors):  # attn_lib's name -> the composition's
        split = ((key.rpartition("."), tensor) for key, tensor in tensors)
        return {f"{names[module]}.{leaf}": tensor for (module, _, leaf), tensor in split}

    shapes = composed.state_dict()
    weights = moved(ours.state_dict().items())
    composed.load_state_dict({k: v.reshape(shapes[k].shape) for k, v in weights.items()})
    other = x.detach().clone().requires_grad_()
    for _ in range(2):  # the second time with the batch norms that the first one left
        direction = torch.randn_like(x)
        (ours(x) * direction).sum().backward()
        (composed(other) * direction).sum().backward()
    ours.eval(), composed.eval()
    close = {"rtol": 1e-10, "atol": 1e-10}
    torch.testing.assert_close(other.grad, x.grad, **close)
    torch.testing.assert_close(composed(other), ours(x), **close)
    with record_gates(composed) as made:
        composed(x)
    made = {key: value for entry in made.values() for key, value in entry.items()}
    torch.testing.assert_close(made, {k: v.detach() for k, v in ours.gates(x).items()}, **close)
    gradients = moved((k, p.grad) for k, p in ours.named_parameters())
    for key, parameter in composed.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[key].reshape(parameter.shape), **close)


# ---- ten more. Each has its composition and its equation y(x, weights)


def scse():  # Roy et al., arXiv 1803.02579, with the sum
    channel = chain(gate.mean, gate.bottleneck(C, 2), torch.sigmoid)
    spatial = chain(nn.Conv2d(C, 1, 1), torch.sigmoid)
    return Gate(Branches(channel, spatial), Merge(torch.add))


def scse_equation(x, w1, b1, w2, b2, q, b):
    z = x.mean((2, 3))
    s = torch.sigmoid(F.linear(F.relu(F.linear(z, w1[:, :, 0, 0], b1)), w2[:, :, 0, 0], b2))
    m = torch.sigmoid(torch.einsum("nchw,c->nhw", x, q.flatten()) + b)
    return x * s[:, :, None, None] + x * m[:, None]


def gather_excite():  # Hu et al., arXiv 1810.12348, without parameters, extent 2
    return Gate(gate.Windows(2), torch.sigmoid)


def gather_excite_equation(x):
    y = x.clone()
    h, w = x.shape[2:]
    for i in range(h):
        for j in range(w):
            # pixel i lies nearest to window i * ceil(h / 2) // h, whose middle is twice that
            a, b = 2 * (i * math.ceil(h / 2) // h), 2 * (j * math.ceil(w / 2) // w)
            window = x[:, :, max(a - 1, 0) : a + 2, max(b - 1, 0) : b + 2]
            y[:, :, i, j] = x[:, :, i, j] * torch.sigmoid(window.mean((2, 3)))
    return y


def global_context():  # Cao et al., arXiv 1904.11492
    norm = gate.bottleneck(C, 4, norm=lambda m: nn.LayerNorm((m, 1, 1)))
    return Gate(gate.SoftmaxPooling(C), norm, add=True)


def global_context_equation(x, k, b, w1, b1, gamma, beta, w2, b2):
    p = (torch.einsum("nchw,c->nhw", x, k.flatten()) + b).flatten(1).softmax(1)
    a = F.linear(torch.einsum("ncp,np->nc", x.flatten(2), p), w1[:, :, 0, 0], b1)
    a = (a - a.mean(1, keepdim=True)) / (a.var(1, unbiased=False, keepdim=True) + 1e-5).sqrt()
    t = F.linear(F.relu(gamma.flatten() * a + beta.flatten()), w2[:, :, 0, 0], b2)
    return x + t[:, :, None, None]


def srm():  # Lee et al., arXiv 1903.10829
    style = Branches(gate.mean, gate.deviation), Merge(gate.concatenated(3))
    conv = nn.Conv2d(C, C, (1, 2), groups=C, bias=False)
    return Gate(*style, conv, nn.BatchNorm2d(C), torch.sigmoid)


def srm_equation(x, w, gamma, beta):
    u, v = x.mean((2, 3)), (x.var((2, 3)) + 1e-5).sqrt()
    t = w[:, 0, 0, 0] * u + w[:, 0, 0, 1] * v
    t = (t - t.mean(0)) / (t.var(0, unbiased=False) + 1e-5).sqrt()
    return x * torch.sigmoid(gamma * t + beta)[:, :, None, None]


class ChannelNorm(nn.Module):
    """GCT's transform (Yang et al., arXiv 1909.11519); what a reader writes for a new idea."""

    def __init__(self):
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(1, C, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, C, 1, 1))
        self.beta = nn.Parameter(torch.zeros(1, C, 1, 1))

    def forward(self, z):
        u = self.alpha * z
        return self.gamma * u / (u.square().mean(1, keepdim=True) + 1e-5).sqrt() + self.beta


def length(x):
    return (x.square().sum((2, 3), keepdim=True) + 1e-5).sqrt()


def gct():
    return Gate(length, ChannelNorm(), gate.one_plus_tanh)


def gct_equation(x, alpha, gamma, beta):
    u = alpha.flatten() * (torch.einsum("nchw,nchw->nc", x, x) + 1e-5) ** 0.5
    u = gamma.flatten() * u * ((u**2).sum(1, keepdim=True) / C + 1e-5) ** -0.5
    return x * (1 + torch.tanh(u + beta.flatten()))[:, :, None, None]


def fca():  # Qin et al., arXiv 2012.11879
    gathered = gate.Frequencies(C, 6, 5, [(0, 0), (0, 1), (1, 0), (5, 4)])
    return Gate(gathered, gate.bottleneck(C, 4, bias=False), torch.sigmoid)


def fca_equation(x, w1, w2):
    i, j = torch.arange(6).double(), torch.arange(5).double()
    z = []
    for c, (u, v) in enumerate([(0, 0), (0, 0), (0, 1), (0, 1), (1, 0), (1, 0), (5, 4), (5, 4)]):
        row = torch.cos(math.pi * u * (i + 0.5) / 6) * ((1 if u == 0 else 2) / 6) ** 0.5
        column = torch.cos(math.pi * v * (j + 0.5) / 5) * ((1 if v == 0 else 2) / 5) ** 0.5
        z.append(torch.einsum("nhw,h,w->n", x[:, c], row, column))
    s = F.relu(torch.stack(z, 1) @ w1[:, :, 0, 0].T) @ w2[:, :, 0, 0].T
    return x * torch.sigmoid(s)[:, :, None, None]


def distinct(x):  # SimAM (Yang et al., ICML 2021), with the code's divisor HW - 1
    d = (x - gate.mean(x)).square()
    variance = d.sum((2, 3), keepdim=True) / (x.shape[2] * x.shape[3] - 1)
    return d / (4 * (variance + 1e-4)) + 0.5


def simam():
    return Gate(distinct, torch.sigmoid)


def simam_equation(x):
    centred = x - x.mean((2, 3), keepdim=True)
    energy = centred**2 / (4 * (x.var((2, 3), keepdim=True) + 1e-4)) + 0.5
    return x / (1 + torch.exp(-energy))


def triplet():  # Misra et al., arXiv 2010.03045
    def view():
        planes = Branches(gate.maximum_of_channels, gate.mean_of_channels)
        conv = nn.Conv2d(2, 1, 3, padding=1, bias=False)
        norm = nn.BatchNorm2d(1, momentum=0.01)
        return chain(planes, Merge(gate.concatenated(1)), conv, norm, torch.sigmoid)

    views = gate.Swapped(1, 2, view()), gate.Swapped(1, 3, view()), view()
    return Gate(Branches(*views), Merge(gate.average))


def triplet_equation(x, *weights):
    y = 0
    for view, order in enumerate([(0, 2, 1, 3), (0, 3, 2, 1), (0, 1, 2, 3)]):
        w, gamma, beta = weights[3 * view : 3 * view + 3]
        t = x.permute(order)
        a = F.conv2d(torch.stack((t.amax(1), t.mean(1)), 1), w, padding=1)
        a = (a - a.mean()) / (a.var(unbiased=False) + 1e-5).sqrt() * gamma + beta
        y = y + (t * torch.sigmoid(a)).permute(order) / 3
    return y


def ela():  # Xu and Wan, arXiv 2403.01123: one convolution and one norm for both strips
    norm = nn.GroupNorm(2, C)
    return Gate(Branches(gate.rows, gate.columns), gate.AlongPositions(C, 3), norm, torch.sigmoid)


def ela_equation(x, w, gamma, beta):
    def one(z):  # (N, C, L)
        a = F.conv1d(z, w, padding=1, groups=C).unflatten(1, (2, C // 2))
        a = a - a.mean((2, 3), keepdim=True)
        a = (a / (a.var((2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt()).flatten(1, 2)
        return torch.sigmoid(gamma[:, None] * a + beta[:, None])

    return x * one(x.mean(3))[:, :, :, None] * one(x.mean(2))[:, :, None]


def effective_se():  # Lee and Park, arXiv 1911.06667, with the code's hard sigmoid
    return Gate(gate.mean, nn.Conv2d(C, C, 1), F.hardsigmoid)


def effective_se_equation(x, w, b):
    a = F.linear(x.mean((2, 3)), w[:, :, 0, 0], b)
    return x * ((a + 3).clamp(0, 6) / 6)[:, :, None, None]


MORE = [
    (scse, scse_equation),
    (gather_excite, gather_excite_equation),
    (global_context, global_context_equation),
    (srm, srm_equation),
    (gct, gct_equation),
    (fca, fca_equation),
    (simam, simam_equation),
    (triplet, triplet_equation),
    (ela, ela_equation),
    (effective_se, effective_se_equation),
]


@pytest.mark.parametrize("make, equation", MORE, ids=lambda f: f.__name__)
def test_ten_more_are_their_equations(make, equation, x):
    torch.manual_seed(2)
    layer = make().double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter) / 2)
    weights = list(layer.parameters())
    y, wanted = layer(x), equation(x, *weights)
    torch.testing.assert_close(y, wanted, rtol=1e-6, atol=1e-6)  # the cosines are float32
    direction = torch.randn_like(y)
    torch.testing.assert_close(
        torch.autograd.grad((y * direction).sum(), [x, *weights]),
        torch.autograd.grad((wanted * direction).sum(), [x, *weights]),
        rtol=1e-6,
        atol=1e-6,
    )
    product = x
    for made in layer.eval().gates(x).values():
        product = product * made
    if make is not global_context:  # nothing multiplies there
        torch.testing.assert_close(layer(x), product)


# ---- what a composed layer promises

EACH = [make for make, _ in [*FIVE.values(), *MORE]]
each = pytest.mark.parametrize("make", EACH, ids=lambda make: make.__name__)


@each
def test_traced_by_torch_jit_and_fx(make, x):
    layer = make().double().eval()
    other = torch.randn(2, C, 7, 9, dtype=torch.float64)
    for traced in (torch.jit.trace(layer, x.detach()), fx.symbolic_trace(layer)):
        torch.testing.assert_close(traced(other), layer(other))


@pytest.mark.parametrize("make", [coordinate, triplet], ids=lambda make: make.__name__)
def test_exported_with_dynamic_sizes_and_compiled(make):
    layer = make().eval()
    sizes = {0: torch.export.Dim.AUTO, 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO}
    x, other = torch.randn(3, C, 6, 5), torch.randn(2, C, 7, 9)
    exported = torch.export.export(layer, (x,), dynamic_shapes=(sizes,)).module()
    torch.testing.assert_close(exported(other), layer(other))
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    torch.testing.assert_close(compiled(other), layer(other))


@each
def test_formats_dtypes_copies_and_empty_batches(make):
    layer = make().eval()
    x = torch.randn(2, C, 6, 5)
    y = layer(x)
    last = layer(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous() and last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(last, y)
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    assert layer(x[:0]).shape == (0, C, 6, 5)
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), y)


def test_names_of_gates_of_the_same_shape_are_numbered(x):
    layer = Gate(Branches(gate.mean, gate.maximum), torch.sigmoid)
    assert list(layer.gates(x)) == ["channel", "channel_2"]
    assert global_context().double().gates(x) == {}


def test_errors_say_what_was_given(x):
    with pytest.raises(ValueError, match="at least one part; got none"):
        Gate()
    with pytest.raises(TypeError, match="function or an nn.Module; got 'mean'"):
        Gate("mean")
    with pytest.raises(ValueError, match=r"Gate expects .*\(N, C, H, W\); got shape \(8, 6, 5\)"):
        se()(torch.zeros(C, 6, 5))
    with pytest.raises(ValueError, match=r"made a tensor of shape \(3, 8\).*\(3, 8, 6, 5\)"):
        Gate(lambda x: x.mean((2, 3)))(x)
    with pytest.raises(ValueError, match="at least two parts; got 1"):
        Branches(gate.mean)
    with pytest.raises(ValueError, match="2 branches cannot take 3 tensors"):
        two, three = (Branches(*[gate.mean] * n) for n in (2, 3))
        Gate(three, two)(x)
    with pytest.raises(ValueError, match="Merge needs the tensors of Branches"):
        Gate(gate.mean, Merge(torch.add))(x)
    with pytest.raises(ValueError, match="kernel_size must be odd.*got 4"):
        gate.AlongChannels(4)
    with pytest.raises(ValueError, match="multiple of the number of frequencies; got 8.*3"):
        gate.Frequencies(8, 7, 7, [(0, 0)] * 3)
    with pytest.raises(ValueError, match=r"7 x 7 map has no frequency \(7, 0\)"):
        gate.Frequencies(8, 7, 7, [(7, 0)])


def test_the_deviation_of_one_position_is_that_of_no_spread():
    torch.testing.assert_close(
        gate.deviation(torch.ones(2, 3, 1, 1)), torch.full((2, 3, 1, 1), 1e-5**0.5)
    )
