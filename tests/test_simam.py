"""SimAM: its equation, and a feature map of one position."""

import pytest
import torch
from naive import assert_same

from attn_lib import models
from attn_lib.convert.official import convert
from attn_lib.layers import SimAM


def naive(lam):
    """The energy of each value, one channel at a time (ZjjConan/SimAM, simam_module.py)."""

    def compute(x, parameters):
        channels = []
        for channel in x.flatten(0, 1):
            d = (channel - channel.mean()) ** 2
            v = d.sum() / (channel.numel() - 1)
            channels.append(channel / (1 + torch.exp(-(d / (4 * (v + lam)) + 0.5))))
        return torch.stack(channels).reshape(x.shape)

    return compute


@pytest.mark.parametrize("shape", [(2, 3, 5, 4), (1, 2, 1, 6)])
@pytest.mark.parametrize("lam", [1e-4, 0.3])
def test_equation(shape, lam):
    assert_same(SimAM(lam=lam), naive(lam), shape)


def test_one_position_and_one_value():
    x = torch.full((2, 3, 1, 1), 7.0, requires_grad=True)
    y = SimAM(3)(x)
    torch.testing.assert_close(y, x * torch.sigmoid(torch.tensor(0.5)))
    y.sum().backward()
    assert torch.isfinite(x.grad).all()


def test_the_sum_of_many_squares_does_not_overflow():
    x = 20 * torch.randn(1, 2, 64, 64, generator=torch.Generator().manual_seed(0))
    wanted = SimAM().gates(x)["joint"]
    half = SimAM().gates(x.half())["joint"]
    torch.testing.assert_close(half.float(), wanted, rtol=0.01, atol=0.01)


@pytest.mark.parametrize("lam", [0, -1.0, float("nan")])
def test_lam_is_positive(lam):
    with pytest.raises(ValueError, match=f"lam must be positive and finite; got {lam}"):
        SimAM(lam=lam)


def test_a_whole_network_has_the_names_of_its_backbone():
    with torch.device("meta"):
        state = models.resnet(18, "simam").state_dict()
    converted, call = convert("simam", state)
    assert converted.keys() == state.keys()
    assert call == "models.resnet(depth=18, attention='simam')"
    with pytest.raises(ValueError, match="cannot place 'layer1.0.simam.weight'"):
        convert("simam", state | {"layer1.0.simam.weight": torch.ones(1)})
