"""Triplet attention: its equation, position by position, and the authors' names."""

import pytest
import torch
from naive import assert_same, normalise, randomised
from torch import nn

from attn_lib import layers, models
from attn_lib.convert import from_official
from attn_lib.layers import TripletAttention


def naive(k, spatial):
    """Each branch on a permuted tensor, its convolution as a loop over the kernel."""

    def branch(t, p, name):  # pools axis 1 of t
        n, _, a, b = t.shape
        planes = torch.stack((t.max(1).values, t.mean(1)), 1)
        padded = torch.zeros(n, 2, a + k - 1, b + k - 1, dtype=t.dtype)
        padded[:, :, k // 2 : k // 2 + a, k // 2 : k // 2 + b] = planes
        kernel = p[f"{name}.conv.weight"][0]
        z = sum(
            (padded[:, :, i : i + a, j : j + b] * kernel[:, i, j, None, None]).sum(1)
            for i in range(k)
            for j in range(k)
        )[:, None]
        z = normalise(z, p[f"{name}.bn.weight"], p[f"{name}.bn.bias"], (0, 2, 3))
        return t / (1 + torch.exp(-z))

    def compute(x, p):
        results = [
            branch(x.transpose(1, 2), p, "cw").transpose(1, 2),
            branch(x.transpose(1, 3), p, "hc").transpose(1, 3),
        ]
        if spatial:
            results.append(branch(x, p, "hw"))
        return sum(results) / len(results)

    return compute


@pytest.mark.parametrize("k, spatial", [(7, True), (3, False)])
@pytest.mark.parametrize("shape", [(2, 6, 5, 4), (2, 3, 1, 4)])
def test_equation(k, spatial, shape):
    layer = randomised(TripletAttention(kernel_size=k, spatial=spatial))
    assert_same(layer, naive(k, spatial), shape)


class Official(nn.Module):
    """The names of landskape-ai/triplet-attention, in either file."""

    def __init__(self, names, inner):
        super().__init__()
        for name in names:
            branch = nn.Module()
            conv = nn.Module()
            conv.conv = nn.Conv2d(2, 1, 7, padding=3, bias=False)
            conv.bn = nn.BatchNorm2d(1, momentum=0.01)
            setattr(branch, inner, conv)
            setattr(self, name, branch)


@pytest.mark.parametrize(
    "names, inner",
    [
        (("cw", "hc", "hw"), "conv"),
        (("ChannelGateH", "ChannelGateW", "SpatialGate"), "spatial"),
        (("cw", "hc"), "conv"),
    ],
)
def test_official_names(names, inner):
    state = randomised(Official(names, inner)).state_dict()
    layer = TripletAttention(spatial=len(names) == 3).double()
    layer.load_state_dict(from_official("triplet", state))
    for ours, theirs in zip(("cw", "hc", "hw"), names, strict=False):
        weight = state[f"{theirs}.{inner}.conv.weight"]
        assert torch.equal(getattr(layer, ours).conv.weight, weight)
    with pytest.raises(ValueError, match="cannot place 'cw.extra.weight'"):
        from_official("triplet", state | {"cw.extra.weight": torch.ones(1)})


def test_a_whole_network():
    with torch.device("meta"):
        state = models.resnet(18, "triplet").state_dict()
    official = {}
    for name, tensor in state.items():
        for branch in ("cw", "hc", "hw"):
            name = name.replace(f"attention.{branch}.", f"triplet_attention.{branch}.conv.")
        official[name] = tensor
    assert from_official("triplet", official).keys() == state.keys()


def test_bad_options():
    with pytest.raises(ValueError, match="kernel_size must be odd.*got 4"):
        layers.build("triplet", 8, kernel_size=4)
    with pytest.raises(ValueError, match=r"\(N, 8, H, W\); got shape \(1, 4, 2, 2\)"):
        layers.build("triplet", 8)(torch.zeros(1, 4, 2, 2))
