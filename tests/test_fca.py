"""FcaNet's layer: its equation, its basis, and the authors' names."""

import math

import pytest
import torch
from naive import assert_same, randomised
from torch import nn

from attn_lib import layers, models
from attn_lib.convert import from_official
from attn_lib.layers import FrequencyChannelAttention


def wave(u, i, n):
    """One value of the authors' basis (model/layer.py, MultiSpectralDCTLayer)."""
    return math.cos(math.pi * u * (i + 0.5) / n) * (1 if u == 0 else math.sqrt(2)) / math.sqrt(n)


def naive(pairs, height, width):
    """Qin et al., a channel at a time; pooling by the bounds of adaptive pooling."""

    def pooled(channel):
        h, w = channel.shape
        return [
            [
                channel[
                    i * h // height : -(-(i + 1) * h // height),
                    j * w // width : -(-(j + 1) * w // width),
                ].mean()
                for j in range(width)
            ]
            for i in range(height)
        ]

    def compute(x, p):
        n, c, *_ = x.shape
        z = []
        for sample in x:
            for k, channel in enumerate(sample):
                u, v = pairs[k * len(pairs) // c]
                values = pooled(channel)
                z.append(
                    sum(
                        values[i][j] * wave(u, i, height) * wave(v, j, width)
                        for i in range(height)
                        for j in range(width)
                    )
                )
        z = torch.stack(z).reshape(n, c)
        s = torch.sigmoid((z @ p["fc1.weight"].T).clamp(min=0) @ p["fc2.weight"].T)
        return x * s[:, :, None, None]

    return compute


@pytest.mark.parametrize(
    "channels, options, pairs, shape",
    [
        (4, {"frequencies": "top4"}, [(0, 0), (0, 1), (6, 0), (0, 5)], (7, 7)),
        (4, {"frequencies": "low2"}, [(0, 0), (0, 1)], (5, 9)),
        (2, {"frequencies": "bot1", "height": 14}, [(12, 6)], (14, 6)),
        (6, {}, [(0, 0), (0, 1)], (7, 7)),  # two of 16, as 16 does not divide 6
    ],
    ids=str,
)
def test_equation(channels, options, pairs, shape):
    layer = FrequencyChannelAttention(channels, reduction=2, **options)
    basis = layer.double().dct.weight.clone()
    randomised(layer)
    layer.dct.weight.copy_(basis)  # float32, as the official layer keeps it
    height, width = layer.height, layer.width
    for k, plane in enumerate(basis):
        u, v = pairs[k * len(pairs) // channels]
        rows = [
            [wave(u, i, height) * wave(v, j, width) for j in range(width)] for i in range(height)
        ]
        exact = torch.tensor(rows, dtype=torch.float64)
        torch.testing.assert_close(plane, exact, rtol=0, atol=1e-7)
        layer.dct.weight[k] = exact
    assert_same(layer, naive(pairs, height, width), (2, channels, *shape))


@pytest.mark.parametrize("order, last", [("top", (1, 3)), ("low", (4, 3)), ("bot", (6, 3))])
def test_thirty_two_different_frequencies(order, last):
    layer = FrequencyChannelAttention(32, frequencies=f"{order}32")
    basis = layer.dct.weight.flatten(1)
    torch.testing.assert_close(basis @ basis.T, torch.eye(32), rtol=0, atol=1e-5)
    wanted = [[wave(last[0], i, 7) * wave(last[1], j, 7) for j in range(7)] for i in range(7)]
    torch.testing.assert_close(layer.dct.weight[-1], torch.tensor(wanted))


class Official(nn.Module):
    """The names of cfzd/FcaNet's MultiSpectralAttentionLayer."""

    def __init__(self, channels, height, width):
        super().__init__()
        self.dct_layer = nn.Module()
        self.dct_layer.register_buffer("weight", torch.randn(channels, height, width))
        linear = (
            nn.Linear(channels, channels // 16, False),
            nn.Linear(channels // 16, channels, False),
        )
        self.fc = nn.Sequential(linear[0], nn.ReLU(), linear[1], nn.Sigmoid())

    def forward(self, x):
        return x * self.fc((x * self.dct_layer.weight).sum((2, 3)))[:, :, None, None]


def test_official_names():
    official = Official(32, 8, 7)
    layer = FrequencyChannelAttention(32, 8, 7)
    layer.load_state_dict(from_official("fca", official.state_dict()))
    x = torch.randn(2, 32, 8, 7)
    torch.testing.assert_close(layer(x), official(x))
    with pytest.raises(ValueError, match="cannot place 'fc.1.weight'"):
        from_official("fca", official.state_dict() | {"fc.1.weight": torch.ones(1)})


def test_a_whole_network():
    sizes = (56, 28, 14, 7)
    with torch.device("meta"):
        state = models.resnet(18, "fca", height=sizes, width=sizes).state_dict()
    theirs = {"dct.weight": "dct_layer.weight", "fc1.weight": "fc.0.weight"}
    theirs["fc2.weight"] = "fc.2.weight"
    official = {}
    for name, tensor in state.items():
        place, here, inner = name.partition(".attention.")
        official[f"{place}.att.{theirs[inner]}" if here else name] = tensor
    assert from_official("fca", official).keys() == state.keys()


@pytest.mark.parametrize(
    "options, message",
    [
        ({"height": 6}, "height and width must be at least 7; got 6 and 7"),
        ({"frequencies": "top3"}, "frequencies must be .*; got 'top3'"),
        ({"frequencies": 16}, "frequencies must be .*; got 16"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        layers.build("fca", 16, **options)
