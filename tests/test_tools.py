"""Every layer and every network goes through the tools that people put their models into."""

import copy
import io
import warnings

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from cases import CASES, HALVES, assert_compiles, each_case, random_input
from further import FURTHER
from others import torchvision
from torch import nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, jvp, vmap
from torch.nn.utils import prune
from torch.utils.flop_counter import FlopCounterMode

from attn_lib import layers, models
from attn_lib.cost import layer_cost
from attn_lib.inspection import clamp_gates, record_gates

extract = torchvision.models.feature_extraction

pytestmark = pytest.mark.slow

ATTENTION = (None, "se", "cbam", "bam", "eca", "coordinate")
BACKBONES = {
    "resnet_cifar": lambda a: models.resnet_cifar(8, 8, a),
    "mobilenet_v2": lambda a: models.mobilenet_v2(0.25, a, num_classes=10),
    "resnet": lambda a: models.resnet(18, a, num_classes=10),
    "googlenet": lambda a: models.googlenet(a, num_classes=10),
}


@pytest.fixture(autouse=True)
def same_weights():
    """Initial weights do not depend on the tests before; unlucky ones leave a ReLU closed."""
    torch.manual_seed(0)


def small(name):
    return name in ("resnet_cifar", "mobilenet_v2")


def networks(names):
    return pytest.mark.parametrize(
        "make",
        [
            pytest.param(lambda b=b, a=a: BACKBONES[b](a).eval(), id=f"{b}-{a}")
            for b in names
            for a in ATTENTION
        ],
    )


each_network = networks(BACKBONES)
each_small_network = networks(filter(small, BACKBONES))

DYNAMIC = {0: "n", 2: "h", 3: "w"}


def two_inputs(case):
    """One to trace with, and one of another batch and size."""
    return tuple(
        random_input(case, n, h, w, torch.float32, seed)
        for seed, (n, h, w) in enumerate([(3, 6, 5), (2, 9, 7)])
    )


def images(n, side):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


def with_parameters(module):
    """(name, submodule) of all submodules that hold parameters, themselves or inside."""
    return [(n, m) for n, m in module.named_modules() if next(m.parameters(), None) is not None]


# ---- torch.jit.trace and TensorBoard


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_traced_layer_computes_and_trains_the_same(case, training):
    layer = case.layer().train(training)
    twin = copy.deepcopy(layer)
    x, other = two_inputs(case)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        traced = torch.jit.trace(layer, x, check_trace=True)
    assert not [w for w in caught if "attn_lib" in w.filename]  # nothing is fixed by the trace
    layer.load_state_dict(twin.state_dict())  # tracing ran batch norm in training
    a, b = other.clone().requires_grad_(), other.clone().requires_grad_()
    y, wanted = traced(a), twin(b)
    torch.testing.assert_close(y, wanted)
    y.square().sum().backward()
    wanted.square().sum().backward()
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-5)
    for p, q in zip(traced.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-4, atol=1e-4)


@each_network
def test_traced_network(make):
    model = make()
    traced = torch.jit.trace(model, images(2, 64))
    other = images(1, 96)
    torch.testing.assert_close(traced(other), model(other), rtol=1e-4, atol=1e-5)


@each_case
def test_tensorboard_draws_the_graph(case):
    tensorboard = pytest.importorskip("torch.utils.tensorboard._pytorch_graph")
    drawn, _ = tensorboard.graph(case.layer(), (two_inputs(case)[0],))
    assert any("sigmoid" in node.op for node in drawn.node)


# ---- ONNX and torch.export


def run_onnx(model, x):
    model = onnx.reference.ReferenceEvaluator(model)
    (y,) = model.run(None, {model.input_names[0]: x.numpy()})
    return y


def by_older_exporter(model, x):
    file = io.BytesIO()
    torch.onnx.export(
        model, (x,), file, dynamo=False, input_names=["x"], dynamic_axes={"x": DYNAMIC}
    )
    return onnx.load_from_string(file.getvalue())


def dims(axes=DYNAMIC):
    return {axis: torch.export.Dim(name, max=1024) for axis, name in axes.items()}


def by_newer_exporter(model, x, axes=DYNAMIC):
    program = torch.onnx.export(
        model, (x,), dynamo=True, dynamic_shapes=(dims(axes),), verbose=False
    )
    return program.model_proto


@each_case
@pytest.mark.parametrize("export", [by_older_exporter, by_newer_exporter])
def test_onnx_with_dynamic_axes(case, export):
    layer = case.layer().eval()
    x, other = two_inputs(case)
    y = run_onnx(export(layer, x), other)
    np.testing.assert_allclose(y, layer(other).detach(), rtol=1e-4, atol=1e-5)


@networks(["resnet_cifar"])  # one is enough: onnx's reference runs a network for seconds
@pytest.mark.parametrize("newer", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_onnx_of_a_network(make, newer):
    model, x = make(), images(2, 16)
    exported = by_newer_exporter(model, x, {0: "n"}) if newer else by_older_exporter(model, x)
    other = images(1, 16)
    y = run_onnx(exported, other)
    np.testing.assert_allclose(y, model(other).detach(), rtol=1e-3, atol=1e-4)


@each_case
@pytest.mark.parametrize("strict", [True, False])
def test_export_with_dynamic_batch_and_size(case, strict):
    layer = case.layer().eval()
    x, other = two_inputs(case)
    program = torch.export.export(layer, (x,), dynamic_shapes=(dims(),), strict=strict)
    torch.testing.assert_close(program.module()(other), layer(other))


@each_small_network
def test_export_of_a_network(make):
    model = make()
    axes = dims({0: "n"})
    program = torch.export.export(model, (images(2, 32),), dynamic_shapes=(axes,), strict=False)
    other = images(3, 32)
    torch.testing.assert_close(program.module()(other), model(other), rtol=1e-4, atol=1e-5)


# ---- torch.fx: symbolic tracing, feature extraction, quantisation, cutting


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_symbolically_traced_layer(case, training):
    layer = case.layer().train(training)
    x, other = two_inputs(case)
    traced = torch.fx.symbolic_trace(copy.deepcopy(layer))
    for given in (x, other):
        torch.testing.assert_close(traced(given), layer(given))


@each_network
def test_symbolically_traced_network(make):
    model = make()
    traced, x = torch.fx.symbolic_trace(model), images(2, 64)
    torch.testing.assert_close(traced(x), model(x))


@each_network
def test_torchvision_extracts_features(make):
    model, x = make(), images(2, 64)
    gates = [n for n in extract.get_graph_node_names(model)[1] if n.endswith("sigmoid")]
    assert bool(gates) == any(isinstance(m, layers._base.Attention) for m in model.modules())
    if gates:
        found = extract.create_feature_extractor(model, gates[-1:])(x)
        assert 0 <= found[gates[-1]].min() and found[gates[-1]].max() <= 1


@each_case
def test_quantised_by_fx(case):
    quantize = pytest.importorskip("torch.ao.quantization.quantize_fx")
    from torch.ao.quantization import get_default_qconfig_mapping

    layer = case.layer().eval()
    x = random_input(case, 3, 6, 5, torch.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        prepared = quantize.prepare_fx(layer, get_default_qconfig_mapping("x86"), (x,))
        prepared(x)
        quantised = quantize.convert_fx(prepared)
    error = (quantised(x) - layer(x)).abs().max() / x.abs().max()
    assert 0 < error < 0.05


CUTS = {"resnet": 2, "resnet_cifar": 2, "googlenet": 3, "mobilenet_v2": 1}


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("attention", ATTENTION)
def test_a_backbone_is_cut_by_its_children(name, attention):
    model = BACKBONES[name](attention).eval()
    head = list(model.children())[-CUTS[name] :]
    x = images(2, 64)
    features = []
    head[0].register_forward_pre_hook(lambda module, inputs: features.append(inputs[0]))
    model(x)
    cut = nn.Sequential(*list(model.children())[: -CUTS[name]])
    wanted = features[0] if name != "mobilenet_v2" else model.features(x)
    assert cut(x).shape[2:] == (64 // (4 if name == "resnet_cifar" else 32),) * 2
    torch.testing.assert_close(cut(x), wanted)
    assert {id(p) for p in model.parameters()} > {id(p) for p in cut.parameters()}


def test_attention_between_the_stages_can_be_exchanged():
    model = models.resnet(18, "bam", num_classes=10).eval()
    plain = models.resnet(18, num_classes=10).eval()
    plain.load_state_dict(model.state_dict(), strict=False)
    twin = copy.deepcopy(model)
    for i in range(3):
        twin.attention[i] = nn.Identity()
    x = images(1, 64)
    torch.testing.assert_close(twin(x), plain(x))
    assert not torch.allclose(model(x), plain(x))


# ---- compiling


@each_case
def test_compile_with_dynamic_shapes(case):
    assert_compiles(case.layer(), two_inputs(case))


@networks(["resnet_cifar"])  # the compiler takes minutes for a deep network
def test_compiled_network(make):
    model = make()
    torch.compiler.reset()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for x in (images(2, 32), images(3, 48)):
        torch.testing.assert_close(compiled(x), model(x), rtol=1e-4, atol=1e-5)


# ---- derivatives of every kind


def stateless(layer):
    """Function of x and the parameters, with fresh buffers each time."""
    names = [name for name, _ in layer.named_parameters()]
    buffers = {name: b.clone() for name, b in layer.named_buffers()}

    def run(x, *values):
        fresh = {name: b.clone() for name, b in buffers.items()}
        return functional_call(layer, (dict(zip(names, values, strict=True)), fresh), (x,))

    return run, tuple(p.detach().clone().requires_grad_() for p in layer.parameters())


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_first_and_second_derivatives(case, training):
    run, params = stateless(case.layer(dtype=torch.float64).train(training))
    x = random_input(case, 2, 3, 4, requires_grad=True)
    assert torch.autograd.gradcheck(run, (x, *params))
    # along random directions: entry by entry it takes minutes for a 7x7 kernel
    assert torch.autograd.gradgradcheck(run, (x, *params), fast_mode=True)


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_forward_mode_derivatives(case, training):
    run, params = stateless(case.layer(dtype=torch.float64).train(training))
    x, v = random_input(case, 3, 4, 5, requires_grad=True), random_input(case, 3, 4, 5, seed=1)
    dy = random_input(case, 3, 4, 5, seed=2)
    (backward,) = torch.autograd.grad(run(x, *params), x, dy)
    _, by_func = jvp(lambda x: run(x, *params), (x,), (v,))
    with forward_ad.dual_level():
        by_dual = forward_ad.unpack_dual(run(forward_ad.make_dual(x, v), *params)).tangent
    torch.testing.assert_close(by_func, by_dual)
    torch.testing.assert_close((by_func * dy).sum(), (backward * v).sum())


@each_case
def test_vmap_over_a_stack_of_batches(case):
    layer = case.layer(dtype=torch.float64).eval()
    x = random_input(case, 6, 4, 5).unflatten(0, (2, 3))
    torch.testing.assert_close(vmap(layer)(x), torch.stack([layer(part) for part in x]))


@each_case
def test_per_sample_gradients_with_vmap(case):
    layer = case.layer(dtype=torch.float64).eval()
    params = dict(layer.named_parameters())
    buffers = dict(layer.named_buffers())
    x = random_input(case, 3, 4, 5)

    def loss(params, sample):
        y = functional_call(layer, (params, buffers), (sample[None],))
        return y.square().sum()

    per_sample = vmap(grad(loss), in_dims=(None, 0))(params, x)
    layer(x).square().sum().backward()
    for name, parameter in layer.named_parameters():
        torch.testing.assert_close(per_sample[name].sum(0), parameter.grad)


# ---- what is put onto the submodules: hooks, pruning, counters


def every_pass(layer, x):
    """Runs of the layer in every mode that has a path of its own."""
    for training in (True, False):
        layer.train(training)
        yield lambda: layer(x.clone().requires_grad_())
        yield lambda: layer(x)
    yield lambda: torch.no_grad()(layer)(x)
    yield lambda: torch.jit.trace(layer, x, check_trace=False)


@each_case
def test_a_hook_on_any_submodule_fires_once_a_pass(case):
    layer, counts = case.layer(), {}

    def count(name):
        return lambda *_: counts.update({name: counts.get(name, 0) + 1})

    for name, module in with_parameters(layer):
        module.register_forward_hook(count(name))
        module.register_forward_pre_hook(count(f"{name} before"))
    for run in every_pass(layer, two_inputs(case)[0]):
        counts.clear()
        run()
        assert counts == {
            name + when: 1 for name, _ in with_parameters(layer) for when in ("", " before")
        }


@each_small_network
def test_a_hook_in_a_network_fires_once_a_pass(make):
    model, counts = make(), {}
    for name, module in with_parameters(model):
        counts[name] = 0
        module.register_forward_hook(lambda *_, name=name: counts.update({name: counts[name] + 1}))
    model(images(2, 32))
    # the list of what stands between the stages is called once for each
    wanted = {
        name: len(m) if isinstance(m, nn.ModuleList) else 1 for name, m in with_parameters(model)
    }
    assert counts == wanted


@each_case
def test_a_backward_hook_on_any_submodule_sees_its_gradient(case):
    layer, seen = case.layer(dtype=torch.float64), {}
    twin = copy.deepcopy(layer)
    for name, module in with_parameters(layer):
        module.register_full_backward_hook(
            lambda module, dx, dy, name=name: seen.update({name: dy[0].shape})
        )
    a, b = (random_input(case, 3, 4, 5, requires_grad=True) for _ in range(2))
    layer(a).square().sum().backward()
    twin(b).square().sum().backward()
    assert seen.keys() == {name for name, _ in with_parameters(layer)}
    torch.testing.assert_close(a.grad, b.grad)


@each_case
def test_a_hook_that_changes_an_output_is_honoured(case):
    for name, _ in with_parameters(case.layer()):
        layer = case.layer(dtype=torch.float64).eval()
        x = random_input(case, 2, 4, 5)
        before = layer(x)
        layer.get_submodule(name).register_forward_hook(lambda module, inputs, y: y + 3)
        for given in (x, x.clone().requires_grad_()):
            assert not torch.allclose(layer(given), before, atol=1e-6), name


@each_case
def test_pruned_wherever_there_is_a_weight_and_trained(case):
    layer = case.layer()
    pruned = [m for m in layer.modules() if getattr(m, "weight", None) is not None]
    for module in pruned:
        prune.l1_unstructured(module, "weight", amount=1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    before = [m.weight_orig.clone() for m in pruned]
    for _ in range(2):
        optimizer.zero_grad()
        layer(two_inputs(case)[0]).square().sum().backward()
        optimizer.step()
    for module, start in zip(pruned, before, strict=True):
        assert (module.weight == 0).any()
        moved = (module.weight_orig != start).flatten()
        assert not moved[module.weight_mask.flatten() == 0].any()


@each_case
@pytest.mark.parametrize("gradients", [True, False])
def test_torchs_counter_sees_every_multiply_add(case, gradients):
    layer, x = case.layer(), two_inputs(case)[0]
    with FlopCounterMode(display=False) as counter, torch.set_grad_enabled(gradients):
        layer(x)
    assert counter.get_total_flops() == 2 * layer_cost(layer, x.shape).multiply_adds > 0


# ---- copies


@each_case
def test_a_copy_made_while_gates_are_held_or_recorded_is_free(case):
    layer = case.layer().eval()
    x, other = two_inputs(case)
    wanted = layer(other)
    with record_gates(layer) as gates:
        layer(x)
        recorded = copy.deepcopy(layer), copy.copy(layer)
    held = {"": {key: torch.zeros(1, 1, 1, 1) for key in gates[""]}}
    with clamp_gates(layer, held):
        assert not layer(x).any()
        copies = copy.deepcopy(layer), copy.copy(nn.Sequential(layer))[0], copy.deepcopy({0: layer})
        file = io.BytesIO()
        torch.save(layer, file)
    file.seek(0)
    free = [*recorded, copies[0], copies[2][0], torch.load(file, weights_only=False), layer]
    for module in free:
        torch.testing.assert_close(module(other), wanted, rtol=0, atol=0)


# ---- errors


@each_case
def test_a_map_without_positions_is_refused(case):
    layer = case.layer().eval()
    for shape in [(2, case.channels, 0, 4), (2, case.channels, 4, 0), (0, case.channels, 0, 0)]:
        for call in (layer, layer.gates):
            with pytest.raises(ValueError, match=r"H and W of at least 1; got shape \(\d, \d+, "):
                call(torch.zeros(shape))


@pytest.mark.parametrize("backbone", BACKBONES.values(), ids=BACKBONES)
def test_a_module_that_is_made_already_is_refused_as_attention(backbone):
    with pytest.raises(TypeError, match="name or a callable .*got the module SqueezeExcitation"):
        backbone(layers.SqueezeExcitation(64))


def test_all_layers_are_here():
    """Except Gate, which is composed of what the reader likes (test_gate.py)."""
    made = {type(case.layer()) for case in CASES + HALVES + FURTHER} | {layers.Gate}
    assert made == {kind for kind in vars(layers).values() if isinstance(kind, type)}
