"""What CBAM and its two halves do beyond what every layer does."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from attn_lib import layers, reference
from attn_lib.data import marked_digits
from attn_lib.inspection import record_gates


def as_tensors(params):
    return {name: torch.as_tensor(value) for name, value in params.items()}


def features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("training", [True, False])
def test_equals_the_equations_written_out(training):
    x = features(3, 8, 6, 5)
    layer = layers.CBAM(8, reduction=4).double().train(training)
    w = {name: value.clone() for name, value in layer.state_dict().items()}

    def mlp(z):
        h = torch.relu(z @ w["channel.fc1.weight"].T + w["channel.fc1.bias"])
        return h @ w["channel.fc2.weight"].T + w["channel.fc2.bias"]

    s = torch.sigmoid(mlp(x.mean((2, 3))) + mlp(x.amax((2, 3))))
    scaled = s[:, :, None, None] * x
    pooled = torch.stack((scaled.amax(1), scaled.mean(1)), 1)  # the maximum comes first
    a = F.conv2d(pooled, w["spatial.conv.weight"], padding=3)
    mean = a.mean() if training else w["spatial.bn.running_mean"]
    var = a.var(correction=0) if training else w["spatial.bn.running_var"]
    m = torch.sigmoid((a - mean) / torch.sqrt(var + 1e-5))
    torch.testing.assert_close(layer(x), m * scaled)


def test_running_statistics_move_by_one_percent():
    layer = layers.SpatialAttention().double()
    x = features(2, 4, 9, 9)
    pooled = torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
    mean = layer.conv(pooled).mean()
    layer(x)
    torch.testing.assert_close(layer.bn.running_mean, 0.01 * mean.reshape(1))


def test_halves_in_sequence_are_cbam():
    cbam = layers.CBAM(8, reduction=2, kernel_size=5).double().eval()
    channel = layers.ChannelAttention(8, reduction=2).double().eval()
    spatial = layers.SpatialAttention(kernel_size=5).double().eval()
    channel.load_state_dict(cbam.channel.state_dict())
    spatial.load_state_dict(cbam.spatial.state_dict())
    x = features(2, 8, 7, 7)
    torch.testing.assert_close(cbam(x), spatial(channel(x)), rtol=0, atol=0)


@pytest.mark.parametrize("half", ["channel", "spatial"])
def test_reference_halves_in_sequence_are_cbam(half):
    rng = np.random.default_rng(0)
    params = reference.cbam.init(8, 4, rng)
    x = rng.standard_normal((2, 8, 5, 5))
    own = {k.split(".", 1)[1]: v for k, v in params.items() if k.startswith(half)}
    _, cache = reference.cbam.forward(x, params)
    before = x if half == "channel" else x * cache["gates"]["channel"]
    _, alone = getattr(reference.cbam, f"{half}_forward")(before, own)
    np.testing.assert_array_equal(alone["gates"][half], cache["gates"][half])


@pytest.mark.parametrize("module", ["cbam", "channel", "spatial"])
def test_gradient_of_a_tie_goes_to_the_first(module):
    """Rounded and rectified features tie everywhere; NumPy and PyTorch still agree."""
    rng = np.random.default_rng(0)
    x = np.maximum(np.round(rng.standard_normal((2, 8, 6, 6))), 0)
    if module == "cbam":
        layer, params = layers.CBAM(8, 4), reference.cbam.init(8, 4, rng)
        forward, backward = reference.cbam.forward, reference.cbam.backward
    elif module == "channel":
        layer, params = layers.ChannelAttention(8, 4), reference.cbam.channel_init(8, 4, rng)
        forward, backward = reference.cbam.channel_forward, reference.cbam.channel_backward
    else:
        layer, params = layers.SpatialAttention(), reference.cbam.spatial_init(7, rng)
        forward, backward = reference.cbam.spatial_forward, reference.cbam.spatial_backward
    layer = layer.double()
    layer.load_state_dict(as_tensors(params))
    dy = rng.standard_normal(x.shape)
    y, cache = forward(x, params)
    dx, _ = backward(dy, cache)
    for memory_format in (torch.contiguous_format, torch.channels_last):
        xt = torch.from_numpy(x).contiguous(memory_format=memory_format).requires_grad_()
        layer(xt).backward(torch.from_numpy(dy))
        np.testing.assert_allclose(dx, xt.grad, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_same_values_with_and_without_gradients(dtype):
    """Without gradients the maxima come from another kernel, and a buffer is reused."""
    layer = layers.CBAM(8).to(dtype).eval()
    x = features(2, 8, 7, 5).to(dtype)
    before = x.clone()
    with torch.no_grad():
        without = layer(x)
    assert torch.equal(x, before)
    torch.testing.assert_close(layer(x), without, rtol=0, atol=0)
    assert torch.isnan(layer(x * float("nan"))).all()


def test_gates_are_recorded_under_cbam():
    layer = torch.nn.Sequential(layers.CBAM(8, 4), torch.nn.ReLU()).eval()
    x = features(2, 8, 6, 6).float()
    with record_gates(layer) as gates:
        layer(x)
    assert gates.keys() == {"0"}
    for name, gate in layer[0].gates(x).items():
        torch.testing.assert_close(gates["0"][name], gate)


def test_zero_batch_norm_weight_halves_everything():
    """The official initialisation: the spatial gate is 1/2 at every position."""
    layer = layers.SpatialAttention()
    torch.nn.init.zeros_(layer.bn.weight)
    x = features(2, 4, 8, 8).float()
    torch.testing.assert_close(layer(x), x / 2)


def test_channel_gate_ignores_where_spatial_gate_ignores_which():
    x = features(2, 8, 6, 6)
    generator = torch.Generator().manual_seed(1)
    channel = layers.ChannelAttention(8, 2).double()
    shuffled = x.flatten(2)[:, :, torch.randperm(36, generator=generator)].reshape(x.shape)
    torch.testing.assert_close(channel.gates(shuffled)["channel"], channel.gates(x)["channel"])
    spatial = layers.SpatialAttention().double().eval()
    shuffled = x[:, torch.randperm(8, generator=generator)]
    torch.testing.assert_close(spatial.gates(shuffled)["spatial"], spatial.gates(x)["spatial"])


@pytest.mark.parametrize("channels, reduction, kernel_size", [(64, 16, 7), (24, 4, 3), (8, 16, 1)])
def test_parameter_count(channels, reduction, kernel_size):
    layer = layers.CBAM(channels, reduction, kernel_size)
    hidden = max(1, channels // reduction)
    wanted = 2 * channels * hidden + hidden + channels + 2 * kernel_size**2 + 2
    assert sum(p.numel() for p in layer.parameters()) == wanted


def test_even_kernel_is_refused():
    with pytest.raises(ValueError, match="kernel_size must be odd.*got 4"):
        layers.SpatialAttention(4)
    with pytest.raises(TypeError, match="kernel_size.*got 7.0"):
        layers.CBAM(8, kernel_size=7.0)


def test_marked_digits_differ_in_the_place_of_the_mark_alone():
    data = marked_digits(n_train=40, n_test=30, dtype=torch.float64)
    x, y = data.x_test, data.y_test
    assert x.shape == (30, 2, 16, 16) and x.dtype == torch.float64 and y.max() <= 9
    other = x.clone()
    other[:, 1] = other[:, 1].flip(2)

    def tiles(x):
        cut = x.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).reshape(30, 4, -1)
        keys = cut @ torch.arange(1.0, 129.0, dtype=x.dtype).sqrt()
        return keys.sort(1).values

    torch.testing.assert_close(tiles(x), tiles(other))
    assert ((x - other).abs().sum((1, 2, 3)) > 0).all()
    assert torch.equal(marked_digits(n_train=40, n_test=30).x_train, data.x_train.float())
    with pytest.raises(ValueError, match="classes.*got 11"):
        marked_digits(classes=11)
