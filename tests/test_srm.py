"""SRM: its equation, a feature map of one position, and the authors' names."""

import pytest
import torch
from naive import assert_same, normalise, randomised
from torch import nn

from attn_lib.convert import from_official
from attn_lib.layers import StyleRecalibration


def naive(x, p):
    """Lee et al., one channel of one sample at a time (models/recalibration_modules.py)."""
    n, c, h, w = x.shape
    styles = []
    for values in x.reshape(n * c, h * w):
        u = values.sum() / len(values)
        v = (((values - u) ** 2).sum() / max(1, len(values) - 1) + 1e-5) ** 0.5
        styles.append(torch.stack((u, v)))
    z = (torch.stack(styles).reshape(n, c, 2) * p["cfc"]).sum(2)
    return x / (1 + torch.exp(-normalise(z, p["bn.weight"], p["bn.bias"], (0,))))[:, :, None, None]


@pytest.mark.parametrize("shape", [(3, 4, 5, 2), (2, 3, 1, 1)])
def test_equation(shape):
    assert_same(randomised(StyleRecalibration(shape[1])), naive, shape)


def test_starts_with_gates_of_one_half():
    x = torch.randn(2, 4, 3, 3)
    torch.testing.assert_close(StyleRecalibration(4)(x), x / 2)


def test_one_sample_in_training():
    layer = StyleRecalibration(4)
    with pytest.raises(ValueError, match="more than 1 value"):
        layer(torch.randn(1, 4, 3, 3))
    assert torch.isfinite(layer.eval()(torch.randn(1, 4, 3, 3))).all()


def test_official_names():
    official = nn.Module()
    official.cfc, official.bn = nn.Parameter(torch.zeros(8, 2)), nn.BatchNorm2d(8)
    state = randomised(official).state_dict()
    converted = from_official("srm", state)
    StyleRecalibration(8).load_state_dict(converted)
    assert converted.keys() == state.keys()
    assert all(converted[name] is tensor for name, tensor in state.items())
    for name in ("bn2.weight", "extra"):
        with pytest.raises(ValueError, match=name):
            from_official("srm", state | {name: torch.ones(8)})
