"""What every PyTorch layer promises, whatever its mechanism."""

import copy
import io
import pickle

import pytest
import torch
from cases import SHAPES, each_built_case, each_case, random_input

from attn_lib import layers


@each_case
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_output_is_the_product_with_the_gates(case, shape):
    layer = case.layer(dtype=torch.float64).eval()
    n, h, w = shape
    x = random_input(case, n, h, w)
    gates = layer.gates(x)
    assert tuple(gates) == case.gates
    shapes = {
        "channel": (n, case.channels, 1, 1),
        "spatial": (n, 1, h, w),
        "joint": (n, case.channels, h, w),
        "height": (n, case.channels, h, 1),
        "width": (n, case.channels, 1, w),
    }
    product = x
    for name, gate in gates.items():
        assert gate.shape == shapes[name]
        product = product * gate
    torch.testing.assert_close(layer(x), product, rtol=1e-12, atol=1e-12)


@each_case
def test_channels_last_in_channels_last_out(case):
    layer = case.layer().eval()
    x = random_input(case, 2, 6, 5, torch.float32)
    y = layer(x)
    y_last = layer(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous()
    assert y_last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, y_last)


@each_case
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_in_half_precision_out(case, dtype):
    layer = case.layer().eval()
    x = random_input(case, 2, 6, 5, torch.float32)
    y = copy.deepcopy(layer).to(dtype)(x.to(dtype))
    assert y.dtype == dtype
    torch.testing.assert_close(y.float(), layer(x), rtol=0.05, atol=0.05)


@each_case
def test_autocast_keeps_the_input_dtype(case):
    x = random_input(case, 2, 6, 5, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert case.layer()(x).dtype == torch.float32
        assert case.layer()(x.bfloat16()).dtype == torch.bfloat16


@each_case
def test_empty_batch(case):
    layer = case.layer().eval()
    assert layer(random_input(case, 0, 4, 4, torch.float32)).shape == (0, case.channels, 4, 4)


@each_case
def test_compile_without_graph_breaks(case):
    layer = case.layer()
    x = random_input(case, 2, 6, 5, torch.float32, requires_grad=True)
    reference = copy.deepcopy(layer)
    torch.compiler.reset()
    y = torch.compile(layer, fullgraph=True)(x)
    torch.testing.assert_close(y, reference(x))
    y.sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in layer.parameters())


@each_case
def test_copies_and_files_are_the_same_layer(case):
    layer = case.layer().eval()
    x = random_input(case, 2, 4, 4, torch.float32)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    loaded = case.layer().eval()
    loaded.load_state_dict(torch.load(file, weights_only=True))
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), loaded):
        torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)


@each_case
def test_training_step_on_the_meta_device(case):
    """A tensor made on the CPU by mistake meets a meta tensor here and raises."""
    layer = case.layer(device="meta")
    x = torch.empty(2, case.channels, 6, 5, device="meta", requires_grad=True)
    layer(x).sum().backward()
    torch.optim.SGD(layer.parameters(), lr=0.1).step()
    assert x.grad.device.type == "meta"
    assert all(p.grad.device.type == "meta" for p in layer.parameters())


@each_case
def test_every_parameter_receives_a_gradient(case):
    torch.manual_seed(0)
    layer = case.layer(dtype=torch.float64)
    layer(random_input(case, 4, 6, 6)).square().sum().backward()
    for name, parameter in layer.named_parameters():
        assert parameter.grad is not None, name


@each_case
def test_bad_input_is_named(case):
    layer = case.layer()
    with pytest.raises(ValueError, match=r"\(N, \w+, H, W\); got shape \(3, 4, 5\)"):
        layer(torch.zeros(3, 4, 5))
    if layer.channels is not None:
        wrong = case.channels + 1
        with pytest.raises(ValueError, match=rf"\(N, {case.channels}, .*got shape \(2, {wrong}, "):
            layer(torch.zeros(2, wrong, 4, 4))
    with pytest.raises(TypeError, match="floating-point.*torch.int64"):
        layer(torch.zeros(2, case.channels, 4, 4, dtype=torch.int64))


@pytest.mark.parametrize(
    "name, options",
    [
        ("se", {"reduction": 0}),
        ("se", {"reduction": -2}),
        ("cbam", {"kernel_size": 0}),
        ("cbam", {"kernel_size": 4}),
        ("bam", {"reduction": 0}),
        ("bam", {"dilation": 0}),
    ],
)
def test_options_out_of_range(name, options):
    ((option, value),) = options.items()
    with pytest.raises(ValueError, match=rf"{option}.*got {value}"):
        layers.build(name, 8, **options)


@each_built_case
def test_channels_are_checked(case):
    with pytest.raises(ValueError, match="channels.*got 0"):
        layers.build(case.name, 0)
    with pytest.raises(TypeError, match="channels.*got 2.5"):
        layers.build(case.name, 2.5)


def test_build_lists_what_it_knows():
    with pytest.raises(ValueError, match="'senet'.*'se'"):
        layers.build("senet", 8)
    with pytest.raises(ValueError, match="'se' has no option 'ratio'.*reduction, bias"):
        layers.build("se", 8, ratio=4)
