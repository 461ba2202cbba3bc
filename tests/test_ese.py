"""Effective SE: its equation, timm's module, and published names."""

import pytest
import torch
from naive import assert_same, randomised
from others import timm

from attn_lib import layers
from attn_lib.convert import from_official
from attn_lib.layers import EffectiveSqueezeExcitation


def naive(gate):
    """One linear map of the means (youngwanLEE/vovnet-detectron2, eSEModule)."""

    def compute(x, p):
        a = torch.einsum("nchw,dc->nd", x, p["fc.weight"]) / x[0, 0].numel() + p["fc.bias"]
        s = (a + 3).clamp(0, 6) / 6 if gate == "hard" else 1 / (1 + torch.exp(-a))
        return torch.einsum("nchw,nc->nchw", x, s)

    return compute


@pytest.mark.parametrize("gate", ["hard", "sigmoid"])
def test_equation(gate):
    layer = randomised(EffectiveSqueezeExcitation(6, gate))
    with torch.no_grad():
        layer.fc.bias.copy_(torch.tensor([-9.0, -2, 0, 1, 2, 9]))  # both ends of the hard sigmoid
    assert_same(layer, naive(gate), (3, 6, 5, 2))


def test_timm_has_the_official_names():
    theirs = randomised(timm.layers.EffectiveSEModule(8))
    ours = EffectiveSqueezeExcitation(8).double()
    ours.load_state_dict(from_official("ese", theirs.state_dict()))
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="cannot place 'fc1.weight'"):
        from_official("ese", {"fc1.weight": torch.ones(4, 8)})


def test_unknown_gate():
    with pytest.raises(ValueError, match="gate must be 'hard' or 'sigmoid'; got 'relu6'"):
        layers.build("ese", 8, gate="relu6")
