"""The non-local block: its equation, position by position, timm's module, and published names."""

import pytest
import torch
from naive import assert_same, normalise, randomised
from others import timm
from torch import nn

from attn_lib.convert import from_official
from attn_lib.layers import NonLocal


def naive(layer):
    """Wang et al., one position i at a time; names of AlexHex7/Non-local_pytorch."""

    def conv(x, p, name):
        weight = p[f"{name}.weight"][:, :, 0, 0]
        return torch.einsum("nchw,kc->nkhw", x, weight) + p[f"{name}.bias"][:, None, None]

    def halve(x):
        h, w = max(1, x.shape[2] // 2), max(1, x.shape[3] // 2)
        rows = [[x[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] for j in range(w)] for i in range(h)]
        rows = [[block.flatten(2).max(2).values for block in row] for row in rows]
        return torch.stack([torch.stack(row, 2) for row in rows], 2)

    def compute(x, p):
        n, c, h, w = x.shape
        gaussian = layer.pairwise == "gaussian"
        theta, phi = (x, x) if gaussian else (conv(x, p, "theta"), conv(x, p, "phi"))
        g = conv(x, p, "g")
        if layer.subsample:
            phi, g = halve(phi), halve(g)
        columns = []
        for i in range(h):
            for j in range(w):
                f = torch.einsum("nk,nkab->nab", theta[:, :, i, j], phi)
                if layer.pairwise == "dot":
                    a = f / f[0].numel()
                else:
                    a = torch.exp(f) / torch.exp(f).sum((1, 2), keepdim=True)
                columns.append(torch.einsum("nab,nkab->nk", a, g))
        y = conv(torch.stack(columns, 2).reshape(n, -1, h, w), p, "out")
        if layer.bn is not None:
            y = normalise(y, p["bn.weight"], p["bn.bias"], (0, 2, 3))
        return x + y

    return compute


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"pairwise": "gaussian", "reduction": 4},
        {"pairwise": "dot", "subsample": False},
        {"batch_norm": False},
    ],
    ids=str,
)
@pytest.mark.parametrize("shape", [(2, 8, 5, 4), (2, 8, 1, 3)])
def test_equation(options, shape):
    layer = randomised(NonLocal(8, **options))
    assert_same(layer, naive(layer), shape)


@pytest.mark.parametrize("options", [{}, {"batch_norm": False}, {"pairwise": "gaussian"}])
def test_starts_as_the_identity(options):
    x = torch.randn(2, 4, 3, 3)
    assert torch.equal(NonLocal(4, **options)(x), x)


def test_few_channels_and_one_position():
    assert NonLocal(1).out.in_channels == 1
    assert torch.isfinite(NonLocal(1).eval()(torch.randn(1, 1, 1, 1))).all()


class Official(nn.Module):
    """The names of AlexHex7's NONLocalBlock2D."""

    def __init__(self, channels, hidden, pairwise, subsample, batch_norm):
        super().__init__()
        for name in ("g", "theta", "phi") if pairwise == "embedded" else ("g",):
            conv = nn.Conv2d(channels, hidden, 1)
            sampled = subsample and name != "theta"
            setattr(self, name, nn.Sequential(conv, nn.MaxPool2d(2)) if sampled else conv)
        self.W = nn.Conv2d(hidden, channels, 1)
        if batch_norm:
            self.W = nn.Sequential(self.W, nn.BatchNorm2d(channels))


@pytest.mark.parametrize("pairwise", ["embedded", "gaussian"])
@pytest.mark.parametrize("subsample, batch_norm", [(True, True), (False, True), (True, False)])
def test_official_names(pairwise, subsample, batch_norm):
    options = {"pairwise": pairwise, "subsample": subsample, "batch_norm": batch_norm}
    state = Official(8, 2, **options).state_dict()
    NonLocal(8, reduction=4, **options).load_state_dict(from_official("nonlocal", state))
    with pytest.raises(ValueError, match="cannot place 'psi.weight'"):
        from_official("nonlocal", state | {"psi.weight": torch.ones(1)})


def test_timm():
    theirs = randomised(timm.layers.NonLocalAttn(32)).eval()
    ours = NonLocal(32, reduction=4, subsample=False).double().eval()
    ours.load_state_dict(from_official("nonlocal", theirs.state_dict()))
    x = torch.randn(2, 32, 5, 4, dtype=torch.float64)
    torch.testing.assert_close(ours(x), theirs(x), rtol=1e-9, atol=1e-9)


def test_it_has_no_gates_and_names_what_it_takes():
    with pytest.raises(NotImplementedError, match="NonLocal has no gates"):
        NonLocal(8).gates(torch.randn(2, 8, 3, 3))
    with pytest.raises(ValueError, match="pairwise must be .*; got 'concat'"):
        NonLocal(8, pairwise="concat")
