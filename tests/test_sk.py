"""Selective kernels: the equation, timm's module, and its names."""

import pytest
import torch
from naive import assert_same, normalise, randomised
from others import timm
from torch.nn import functional as F

from attn_lib.convert import from_official
from attn_lib.layers import SelectiveKernel


def naive(branches, groups):
    """Li et al., with the softmax as a quotient and a branch's groups one by one."""

    def compute(x, p):
        maps = []
        for i in range(branches):
            pieces = zip(x.chunk(groups, 1), p[f"paths.{i}.conv.weight"].chunk(groups), strict=True)
            u = torch.cat([F.conv2d(a, b, padding=i + 1, dilation=i + 1) for a, b in pieces], 1)
            u = normalise(u, p[f"paths.{i}.bn.weight"], p[f"paths.{i}.bn.bias"], (0, 2, 3))
            maps.append(u.clamp(min=0))
        z = sum(maps).mean((2, 3)) @ p["fc1.weight"].T
        z = normalise(z, p["bn1.weight"], p["bn1.bias"], (0,)).clamp(min=0)
        c = x.shape[1]
        e = [torch.exp(z @ p["fc2.weight"][i * c : i * c + c].T) for i in range(branches)]
        return sum(u * (a / sum(e))[:, :, None, None] for u, a in zip(maps, e, strict=True))

    return compute


@pytest.mark.parametrize("branches, groups", [(2, 4), (3, 2), (1, 1)])
def test_equation(branches, groups):
    layer = SelectiveKernel(8, branches, groups, reduction=2, minimum=3)
    assert_same(randomised(layer), naive(branches, groups), (3, 8, 5, 4))


@pytest.mark.parametrize("training", [True, False])
def test_timm(training):
    theirs = timm.layers.SelectiveKernel(16, split_input=False, groups=4, rd_channels=6)
    theirs = randomised(theirs).train(training)
    ours = SelectiveKernel(16, groups=4, minimum=6).double().train(training)
    ours.load_state_dict(from_official("sk", theirs.state_dict()))
    x = torch.randn(2, 16, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)
    with pytest.raises(ValueError, match="cannot place 'attn.fc.weight'"):
        from_official("sk", theirs.state_dict() | {"attn.fc.weight": torch.ones(1)})


@pytest.mark.parametrize("channels, hidden", [(128, 32), (512, 32), (1024, 64)])
def test_the_bottleneck_of_the_paper(channels, hidden):
    with torch.device("meta"):
        assert SelectiveKernel(channels).fc1.out_features == hidden


def test_few_channels_and_groups_that_do_not_divide():
    layer = SelectiveKernel(6).eval()
    assert layer.groups == 2
    assert layer(torch.randn(1, 6, 1, 1)).shape == (1, 6, 1, 1)


def test_it_has_no_gates():
    with pytest.raises(NotImplementedError, match="SelectiveKernel has no gates"):
        SelectiveKernel(8).gates(torch.randn(2, 8, 3, 3))
