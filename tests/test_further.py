"""What the layers of the further mechanisms promise, all alike."""

import copy
import pickle
import warnings

import numpy as np
import onnx.reference
import pytest
import torch
from cases import assert_compiles, random_input
from further import each_case, each_mechanism
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from attn_lib import layers, models
from attn_lib.cost import layer_cost, model_cost, saved_bytes
from attn_lib.inspection import record_gates
from attn_lib.profiling import bytes_moved

SHAPES = {
    "channel": "nc11",
    "spatial": "n1hw",
    "joint": "nchw",
    "height": "nch1",
    "width": "nc1w",
}

# torch.export compares sizes of pooled feature maps with 1, so they have to be known to be larger
DYNAMIC = {
    0: torch.export.Dim("n", max=1024),
    2: torch.export.Dim("h", min=4, max=1024),
    3: torch.export.Dim("w", min=4, max=1024),
}


def two_inputs(case):
    """One to trace with, and one of another batch and size."""
    return random_input(case, 3, 6, 5, torch.float32), random_input(case, 2, 9, 7, torch.float32, 1)


@each_case
def test_output_is_the_product_with_the_gates_where_there_are_gates(case):
    layer = case.layer(dtype=torch.float64).eval()
    x = random_input(case, 2, 5, 4)
    if case.gates is None:
        kind = type(layer).__name__
        with pytest.raises(NotImplementedError, match=f"{kind} has no gates"):
            layer.gates(x)
        with pytest.raises(RuntimeError, match=f"no gates: {kind}"), record_gates(layer):
            layer(x)
        model = nn.Sequential(layer, layers.SimAM())
        with record_gates(model) as recorded:
            model(x)
        assert recorded.keys() == {"1"}  # those of others are
        return
    with record_gates(layer) as recorded:
        y = layer(x)
    gates = layer.gates(x)
    assert tuple(gates) == tuple(recorded[""]) == case.gates
    sizes = dict(zip("nchw1", (*x.shape, 1), strict=True))
    product = x
    for name, gate in gates.items():
        assert gate.shape == tuple(sizes[axis] for axis in SHAPES[name])
        product = product * gate
    torch.testing.assert_close(y, product, rtol=1e-12, atol=1e-12)


@each_case
def test_same_dtype_and_memory_format(case):
    layer = case.layer().eval()
    x = random_input(case, 2, 6, 5, torch.float32)
    y, y_last = layer(x), layer(x.to(memory_format=torch.channels_last))
    assert y.is_contiguous() and y_last.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(y, y_last, rtol=1e-4, atol=1e-5)
    for dtype in (torch.float16, torch.bfloat16):
        low = copy.deepcopy(layer).to(dtype)(x.to(dtype))
        assert low.dtype == dtype
        torch.testing.assert_close(low.float(), y, rtol=0.1, atol=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype == torch.float32
        assert layer(x.bfloat16()).dtype == torch.bfloat16


@each_case
def test_degenerate_feature_maps(case):
    layer = case.layer(dtype=torch.float64).eval()
    for n, h, w in [(0, 4, 4), (1, 1, 1), (2, 1, 5), (2, 5, 1)]:
        x = random_input(case, n, h, w, requires_grad=True)
        if case.name == "ela" and (n, h, w) == (1, 1, 1):
            continue  # one value for a group norm: test_ela
        y = layer(x)
        assert y.shape == x.shape and torch.isfinite(y).all()
        y.sum().backward()
        assert torch.isfinite(x.grad).all()
    assert torch.isfinite(layer.train()(random_input(case, 2, 1, 1))).all()


@each_case
def test_copies_and_training_on_the_meta_device(case):
    layer = case.layer().eval()
    x = random_input(case, 2, 4, 4, torch.float32)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        torch.testing.assert_close(other(x), layer(x), rtol=0, atol=0)
    layer = layers.build(case.name, case.channels, **case.options).to("meta")
    x = x.to("meta").requires_grad_()
    layer(x).sum().backward()
    assert all(t.grad.device.type == "meta" for t in (x, *layer.parameters()))


@each_case
def test_first_and_second_derivatives(case):
    layer = case.layer(dtype=torch.float64)
    x = random_input(case, 2, 3, 2, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x, fast_mode=True)
    assert torch.autograd.gradgradcheck(layer, x, fast_mode=True)


@each_case
def test_hooks_fire_once_a_pass(case):
    layer, counts = case.layer(), {}
    modules = {n.rpartition(".")[0] for n, _ in layer.named_parameters()}
    for name in modules:
        layer.get_submodule(name).register_forward_hook(
            lambda *_, name=name: counts.update({name: counts.get(name, 0) + 1})
        )
    layer(two_inputs(case)[0])
    strips = 2 if case.name == "ela" else 1  # one convolution and one norm for both strips
    assert counts == dict.fromkeys(modules, strips)


@each_case
def test_bad_input_and_channels_are_named(case):
    layer, c = case.layer(), case.channels
    with pytest.raises(ValueError, match=rf"\(N, {c}, H, W\); got shape \(3, 4, 5\)"):
        layer(torch.zeros(3, 4, 5))
    with pytest.raises(ValueError, match=rf"\(N, {c}, .*got shape \(2, {c + 1}, "):
        layer(torch.zeros(2, c + 1, 4, 4))
    with pytest.raises(ValueError, match="H and W of at least 1"):
        layer(torch.zeros(2, c, 0, 4))
    with pytest.raises(TypeError, match="floating-point.*torch.int64"):
        layer(torch.zeros(2, c, 4, 4, dtype=torch.int64))
    with pytest.raises(ValueError, match="channels.*got 0"):
        layers.build(case.name, 0)
    with pytest.raises(TypeError, match="channels.*got 2.5"):
        layers.build(case.name, 2.5)


# ---- tools


@each_case
def test_traced_symbolically_traced_and_exported(case):
    layer = case.layer().eval()
    x, other = two_inputs(case)
    wanted = layer(other)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = torch.jit.trace(layer, x)
    assert not [w for w in caught if "attn_lib" in w.filename]  # nothing is fixed by the trace
    torch.testing.assert_close(traced(other), wanted, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(torch.fx.symbolic_trace(layer)(other), wanted)
    program = torch.export.export(layer, (x,), dynamic_shapes=(DYNAMIC,), strict=False)
    torch.testing.assert_close(program.module()(other), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@each_mechanism
def test_onnx_with_dynamic_axes(case):
    layer = case.layer().eval()
    x, other = two_inputs(case)
    program = torch.onnx.export(layer, (x,), dynamo=True, dynamic_shapes=(DYNAMIC,), verbose=False)
    model = onnx.reference.ReferenceEvaluator(program.model_proto)
    (y,) = model.run(None, {model.input_names[0]: other.numpy()})
    np.testing.assert_allclose(y, layer(other).detach(), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@each_mechanism
def test_compiled_without_graph_breaks(case):
    assert_compiles(case.layer(), two_inputs(case), rtol=1e-4, atol=1e-5, gradient=1e-3)


BACKBONES = {
    "resnet": lambda a: models.resnet(18, a, num_classes=10),
    "resnet_cifar": lambda a: models.resnet_cifar(8, 8, a),
    "mobilenet_v2": lambda a: models.mobilenet_v2(0.25, a, num_classes=10),
    "googlenet": lambda a: models.googlenet(a, num_classes=10),
    "inception_bn": lambda a: models.inception_bn(a, num_classes=10),
}


@each_mechanism
def test_in_every_backbone(case):
    for name, make in BACKBONES.items():
        with torch.device("meta"):
            model, plain = make(case.name).eval(), make("se")
            assert model(torch.empty(2, 3, 64, 64)).shape == (2, 10), name
        kind = type(case.layer())
        found, wanted = (
            [n for n, m in network.named_modules() if isinstance(m, made)]
            for network, made in ((model, kind), (plain, layers.SqueezeExcitation))
        )
        assert found == wanted


# ---- cost


@each_case
@pytest.mark.parametrize("shape", [(2, 7, 5), (3, 1, 4), (2, 6, 1), (2, 12, 10)], ids=str)
def test_cost(case, shape):
    n, h, w = shape
    shape = (n, case.channels, h, w)
    for training in (True, False):
        layer = case.layer().train(training)
        cost = layer_cost(layer, shape)
        x = torch.randn(shape, requires_grad=True)
        assert cost.saved_bytes == saved_bytes(layer, x)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        layer(x.detach())
    assert counter.get_total_flops() == 2 * cost.multiply_adds
    assert model_cost(layer, shape).attention == (cost.parameters, cost.multiply_adds)
    assert cost.parameters == sum(p.numel() for p in layer.parameters())


@each_case
def test_least_traffic(case):
    """Passes over the map, and over the non-local block's weights, counted as they run."""
    layer, x = case.layer().eval(), torch.randn(2, case.channels, 12, 10)
    positions = 30 if case.options.get("subsample", True) else 120
    sizes = {x.numel(), 2 * 120 * positions if case.name == "nonlocal" else x.numel()}
    moved = 0

    class Traffic(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal moved
            out = func(*args, **(kwargs or {}))
            if not func.is_view and func is not torch.ops.aten._unsafe_view.default:
                flat = torch.utils._pytree.tree_leaves((args, kwargs, out))
                tensors = [t for t in flat if isinstance(t, torch.Tensor)]
                moved += sum(t.nbytes for t in tensors if t.numel() in sizes)
            return out

    with torch.no_grad(), Traffic():
        layer(x)
    cost = layer_cost(layer, x.shape)
    assert cost.moved_bytes == moved + 4 * cost.parameters
    assert cost.moved_bytes <= bytes_moved(layer, x) + 4 * cost.parameters
