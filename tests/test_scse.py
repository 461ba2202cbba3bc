"""scSE: its equation with both combinations, and published names."""

import pytest
import torch
from naive import assert_same, randomised
from torch import nn

from attn_lib import layers
from attn_lib.convert import from_official
from attn_lib.layers import ConcurrentSqueezeExcitation


def naive(combine):
    """Roy et al., sample by sample: two products, added or compared entry by entry."""

    def compute(x, p):
        results = []
        for sample in x:
            z = sample.mean((1, 2))
            h = (p["fc1.weight"] @ z + p["fc1.bias"]).clamp(min=0)
            s = 1 / (1 + torch.exp(-(p["fc2.weight"] @ h + p["fc2.bias"])))
            a = torch.einsum("chw,c->hw", sample, p["conv.weight"][0, :, 0, 0]) + p["conv.bias"]
            by_channel, by_place = sample * s[:, None, None], sample / (1 + torch.exp(-a))
            both = torch.stack((by_channel, by_place))
            results.append(both.sum(0) if combine == "add" else both.amax(0))
        return torch.stack(results)

    return compute


@pytest.mark.parametrize("combine", ["add", "max"])
@pytest.mark.parametrize("channels, reduction", [(8, 2), (3, 16)])
def test_equation(combine, channels, reduction):
    layer = ConcurrentSqueezeExcitation(channels, reduction, combine)
    assert_same(randomised(layer), naive(combine), (2, channels, 5, 3))


def test_where_x_is_zero_the_larger_has_the_derivative_of_torch_maximum():
    layer = randomised(ConcurrentSqueezeExcitation(4, 2, "max"))
    x = torch.zeros(1, 4, 2, 3, dtype=torch.float64, requires_grad=True)
    (ours,) = torch.autograd.grad(layer(x).sum(), x)
    (wanted,) = torch.autograd.grad(naive("max")(x, dict(layer.named_parameters())).sum(), x)
    torch.testing.assert_close(ours, wanted)


class Official(nn.Module):
    """The names of segmentation_models.pytorch (max=False) or ai-med/squeeze_and_excitation."""

    def __init__(self, max):
        super().__init__()
        if max:
            self.cSE, self.sSE = nn.Module(), nn.Module()
            self.cSE.fc1, self.cSE.fc2 = nn.Linear(8, 4), nn.Linear(4, 8)
            self.sSE.conv = nn.Conv2d(8, 1, 1)
        else:
            convs = nn.Conv2d(8, 4, 1), nn.Conv2d(4, 8, 1)
            self.cSE = nn.Sequential(nn.AdaptiveAvgPool2d(1), convs[0], nn.ReLU(), convs[1])
            self.sSE = nn.Sequential(nn.Conv2d(8, 1, 1))

    def forward(self, x):
        n, c = x.shape[:2]
        if isinstance(self.cSE, nn.Sequential):
            return x * self.cSE(x).sigmoid() + x * self.sSE(x).sigmoid()
        s = self.cSE.fc2(self.cSE.fc1(x.view(n, c, -1).mean(2)).relu()).sigmoid()
        return torch.max(x * s.view(n, c, 1, 1), x * self.sSE.conv(x).sigmoid())


@pytest.mark.parametrize("combine", ["add", "max"])
def test_official_names(combine):
    official = randomised(Official(combine == "max"))
    layer = ConcurrentSqueezeExcitation(8, 2, combine).double()
    layer.load_state_dict(from_official("scse", official.state_dict()))
    x = torch.randn(2, 8, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(layer(x), official(x), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="cannot place 'sSE.bn.weight'"):
        from_official("scse", official.state_dict() | {"sSE.bn.weight": torch.ones(1)})


def test_unknown_combine():
    with pytest.raises(ValueError, match="combine must be 'add' or 'max'; got 'sum'"):
        layers.build("scse", 8, combine="sum")
