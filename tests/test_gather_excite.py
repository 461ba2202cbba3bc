"""Gather-excite: its three forms, timm's module, and published names."""

import pytest
import torch
from naive import assert_same, normalise, randomised
from others import timm
from torch import nn
from torch.nn import functional as F

from attn_lib import layers, models
from attn_lib.convert import from_official
from attn_lib.layers import GatherExcite


def naive(layer):
    """Hu et al.: windows sliced by hand, gates brought back by indexing."""

    def gathered(x, p):
        h, w = x.shape[2:]
        e = layer.extent
        if layer.gather is None and e:
            rows = []
            for i in range(0, h, e):
                for j in range(0, w, e):
                    window = x[:, :, max(0, i - e + 1) : i + e, max(0, j - e + 1) : j + e]
                    rows.append(window.mean((2, 3)))
            return torch.stack(rows, 2).reshape(*x.shape[:2], -(-h // e), -(-w // e))
        if layer.gather is None:
            return x.mean((2, 3), keepdim=True)
        z, steps = x, max(1, e.bit_length() - 1)
        for k in range(1, steps + 1):
            kernel = p[f"gather.conv{k}.weight"]
            if e:
                padded = F.pad(z, (1, 1, 1, 1)).unfold(2, 3, 2).unfold(3, 3, 2)
                z = torch.einsum("nchwij,cij->nchw", padded, kernel[:, 0])
            else:
                z = torch.einsum("nchw,chw->nc", z, kernel[:, 0])[:, :, None, None]
            weight, bias = p[f"gather.norm{k}.weight"], p[f"gather.norm{k}.bias"]
            z = normalise(z, weight, bias, (0, 2, 3))
            if k < steps:
                z = z.clamp(min=0)
        return z.clamp(min=0) if layer.relu and layer.mlp is not None else z

    def compute(x, p):
        z = gathered(x, p)
        if layer.mlp is not None:
            for name in ("fc1", "fc2"):
                weight, bias = p[f"mlp.{name}.weight"][:, :, 0, 0], p[f"mlp.{name}.bias"]
                z = torch.einsum("nchw,dc->ndhw", z, weight) + bias[:, None, None]
                z = z.clamp(min=0) if name == "fc1" else z
        h, w = x.shape[2:]
        rows, columns = torch.arange(h) * z.shape[2] // h, torch.arange(w) * z.shape[3] // w
        return x / (1 + torch.exp(-z[:, :, rows][:, :, :, columns]))

    return compute


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"extent": 2},
        {"extent": 4, "mlp": True},
        {"size": (5, 7), "parameters": True},
        {"size": (5, 7), "parameters": True, "mlp": True, "relu": False},
        {"extent": 4, "parameters": True},
        {"extent": 2, "parameters": True, "mlp": True},
    ],
    ids=str,
)
def test_equation(options):
    layer = randomised(GatherExcite(6, reduction=3, **options))
    assert_same(layer, naive(layer), (3, 6, 5, 7))


@pytest.mark.parametrize("extent, mlp", [(0, True), (0, False), (4, True)])
def test_timm_without_parameters(extent, mlp):
    theirs = timm.layers.GatherExcite(32, extent=extent, use_mlp=False)
    if mlp:  # which its constructor in timm 1.0.31 cannot make
        theirs.mlp = timm.layers.mlp.ConvMlp(32, 2)
    randomised(theirs)
    ours = GatherExcite(32, extent, mlp=mlp, reduction=16).double()
    if mlp:
        ours.load_state_dict(from_official("gather_excite", theirs.state_dict()))
    x = torch.randn(2, 32, 5, 7, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("extent, mlp", [(0, False), (4, False), (4, True)])
def test_timms_names_of_what_gathers(extent, mlp):  # its module cannot be built: written from it
    layer = GatherExcite(32, extent, True, mlp, size=5, relu=False)
    state = randomised(layer).state_dict()
    converted = from_official("gather_excite", state)
    assert converted.keys() == state.keys()
    with pytest.raises(ValueError, match="cannot place 'gather.bn1.weight'"):
        from_official("gather_excite", state | {"gather.bn1.weight": torch.ones(1)})


@pytest.mark.parametrize("training", [True, False])
def test_the_bias_of_a_convolution_before_a_batch_norm(training):
    """GELayer of hyunjaelee410/style-based-recalibration-module."""
    official = nn.Module()
    official.conv = nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4))
    official = randomised(official).train(training)
    layer = GatherExcite(4, parameters=True, size=3).double().train(training)
    layer.load_state_dict(from_official("gather_excite", official.state_dict()))
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    torch.testing.assert_close(layer(x), x * official.conv(x).sigmoid(), rtol=1e-9, atol=1e-9)


def test_one_size_a_stage():
    with torch.device("meta"):
        model = models.resnet(18, "gather_excite", parameters=True, size=(16, 8, 4, 2))
        assert model(torch.empty(2, 3, 64, 64)).shape == (2, 1000)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"extent": 3}, "extent must be 0 or a power of two of at least 2; got 3"),
        ({"extent": 1}, "extent must be 0 or a power of two of at least 2; got 1"),
        ({"extent": -2}, "extent, unless it is 0, must be .*got -2"),
        ({"parameters": True}, "size.*is needed for extent=0 with parameters"),
        ({"parameters": True, "size": (5, 0)}, "size must be .*got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        layers.build("gather_excite", 16, **options)


def test_a_feature_map_of_another_size():
    layer = GatherExcite(4, parameters=True, size=(3, 5))
    with pytest.raises(ValueError, match=r"size \(3, 5\); got shape \(2, 4, 5, 3\)"):
        layer(torch.zeros(2, 4, 5, 3))
