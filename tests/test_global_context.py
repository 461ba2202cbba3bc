"""Global context: its equation, timm's module, and the authors' names."""

import pytest
import torch
from naive import assert_same, randomised
from others import timm
from torch import nn

from attn_lib.convert import from_official
from attn_lib.layers import GlobalContext


def naive(fusion, pooling):
    """xvjiarui/GCNet, context_block.py, with the sum over positions as a loop."""

    def mlp(z, p, name):
        z = z @ p[f"{name}.fc1.weight"].T + p[f"{name}.fc1.bias"]
        mean = z.mean(1, keepdim=True)
        z = (z - mean) / ((z - mean).square().mean(1, keepdim=True) + 1e-5).sqrt()
        z = (z * p[f"{name}.norm.weight"] + p[f"{name}.norm.bias"]).clamp(min=0)
        return (z @ p[f"{name}.fc2.weight"].T + p[f"{name}.fc2.bias"])[:, :, None, None]

    def compute(x, p):
        n, c, h, w = x.shape
        weights = torch.ones(n, h, w, dtype=x.dtype)
        if pooling == "attention":
            logits = torch.einsum("nchw,c->nhw", x, p["mask.weight"].flatten()) + p["mask.bias"]
            weights = torch.exp(logits)
        total = weights.sum((1, 2))
        z = 0
        for i in range(h):
            for j in range(w):
                z = z + (weights[:, i, j] / total)[:, None] * x[:, :, i, j]
        y = x
        if fusion != "add":
            y = y / (1 + torch.exp(-mlp(z, p, "multiply")))
        return y if fusion == "multiply" else y + mlp(z, p, "add")

    return compute


@pytest.mark.parametrize("fusion", ["add", "multiply", "both"])
@pytest.mark.parametrize("pooling", ["attention", "mean"])
def test_equation(fusion, pooling):
    layer = randomised(GlobalContext(8, 2, fusion, pooling))
    assert_same(layer, naive(fusion, pooling), (2, 8, 4, 3))


def test_the_bias_of_the_mask_cancels():
    layer = randomised(GlobalContext(4, 2))
    x = torch.randn(1, 4, 3, 3, dtype=torch.float64)
    before = layer(x)
    layer.mask.bias.data += 1
    torch.testing.assert_close(layer(x), before)


def test_starts_as_the_identity():
    x = torch.randn(2, 8, 3, 3)
    assert torch.equal(GlobalContext(8)(x), x)
    torch.testing.assert_close(GlobalContext(8, fusion="multiply")(x), x / 2)


def test_a_layer_that_adds_has_no_gates():
    x = torch.randn(2, 8, 3, 3)
    with pytest.raises(NotImplementedError, match="GlobalContext has no gates"):
        GlobalContext(8).gates(x)
    assert GlobalContext(8, fusion=("add", "multiply")).fusion == "both"
    assert GlobalContext(8, fusion=("multiply",)).gates(x)["channel"].shape == (2, 8, 1, 1)


class Official(nn.Module):
    """The names of GCNet's ContextBlock."""

    def __init__(self, channels, hidden, fusions, pooling="att"):
        super().__init__()
        if pooling == "att":
            self.conv_mask = nn.Conv2d(channels, 1, 1)
        for fusion in fusions:
            mlp = nn.Sequential(
                nn.Conv2d(channels, hidden, 1),
                nn.LayerNorm([hidden, 1, 1]),
                nn.ReLU(),
                nn.Conv2d(hidden, channels, 1),
            )
            setattr(self, f"{fusion}_conv", mlp)


@pytest.mark.parametrize(
    "fusions, pooling, options",
    [
        (["channel_add"], "att", {}),
        (["channel_mul"], "att", {"fusion": "multiply"}),
        (["channel_add", "channel_mul"], "avg", {"fusion": "both", "pooling": "mean"}),
    ],
)
def test_official_names(fusions, pooling, options):
    official = randomised(Official(32, 4, fusions, pooling))
    layer = GlobalContext(32, 8, **options).double()
    layer.load_state_dict(from_official("gc", official.state_dict()))
    z = torch.randn(2, 32, dtype=torch.float64)
    for fusion, ours in (("channel_add", layer.add), ("channel_mul", layer.multiply)):
        if fusion in fusions:
            wanted = getattr(official, f"{fusion}_conv")(z[:, :, None, None])[:, :, 0, 0]
            torch.testing.assert_close(ours(z), wanted)
    with pytest.raises(ValueError, match="cannot place 'scale.weight'"):
        from_official("gc", official.state_dict() | {"scale.weight": torch.ones(1)})


@pytest.mark.parametrize("scale, add", [(True, False), (False, True), (True, True)])
def test_timm(scale, add):
    theirs = timm.layers.GlobalContext(32, fuse_scale=scale, fuse_add=add).double()
    theirs = randomised(theirs).eval()
    fusion = "both" if scale and add else "multiply" if scale else "add"
    ours = GlobalContext(32, 8, fusion).double()
    ours.load_state_dict(from_official("gc", theirs.state_dict()))
    for module in ours.modules():
        if isinstance(module, nn.LayerNorm):
            module.eps = 1e-6
    x = torch.randn(2, 32, 4, 3, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("options", [{"fusion": "mul"}, {"pooling": "att"}])
def test_bad_options(options):
    ((name, value),) = options.items()
    with pytest.raises(ValueError, match=f"{name} must be .*; got '{value}'"):
        GlobalContext(8, **options)
