"""The hand-derived backward passes give what plain PyTorch operations give, to 1e-10."""

import copy
import math
from contextlib import nullcontext

import pytest
import torch
from cases import each_case, random_input
from torch import nn
from torch.utils.checkpoint import checkpoint

from attn_lib import layers
from attn_lib.cost import saved_bytes
from attn_lib.inspection import clamp_gates, record_gates
from attn_lib.layers import _fast


@pytest.fixture
def plain(monkeypatch):
    """Context in which every layer takes its plain path."""

    class Plain:
        def __enter__(self):
            monkeypatch.setattr(_fast, "eager", lambda x: False)

        def __exit__(self, *error):
            monkeypatch.undo()

    return Plain()


def transposed(x):
    return x.transpose(2, 3).contiguous().transpose(2, 3)


def sliced(x):
    return torch.stack((x, -x), 4)[..., 0]


LAYOUTS = {
    "contiguous": torch.Tensor.contiguous,
    "channels_last": lambda x: x.contiguous(memory_format=torch.channels_last),
    "transposed": transposed,
    "sliced": sliced,
    "expanded": lambda x: x[:1].expand(3, -1, -1, -1),
}
each_layout = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)


def is_fast(y):
    """Whether a hand-derived backward pass made y."""
    return "Scale" in type(y.grad_fn).__name__


def case_input(case, rounded=False, n=3, h=5, w=4):
    x = random_input(case, n, h, w)
    return (2 * x).round() if rounded else x


def results(layer, x, run=None, dy_seed=1):
    """Output, gradients of input and parameters, and buffers after one training step."""
    layer = copy.deepcopy(layer)
    x = x.detach().requires_grad_(x.requires_grad)
    y = layer(x) if run is None else run(layer, x)
    dy = torch.randn(y.shape, dtype=y.dtype, generator=torch.Generator().manual_seed(dy_seed))
    y.backward(dy)
    gradients = [p.grad for p in layer.parameters() if p.grad is not None]
    return y, [y, *([] if x.grad is None else [x.grad]), *gradients, *layer.buffers()]


def assert_same(layer, x, plain, run=None, tolerance=1e-10):
    _, fast = results(layer, x, run)
    with plain:
        _, wanted = results(layer, x, run)
    assert len(fast) == len(wanted)
    for a, b in zip(fast, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


@each_case
@each_layout
@pytest.mark.parametrize("rounded", [False, True], ids=["", "ties"])
@pytest.mark.parametrize("training", [True, False])
def test_same_in_every_layout(case, layout, rounded, training, plain):
    layer = case.layer(dtype=torch.float64).train(training)
    x = layout(case_input(case, rounded)).requires_grad_()
    y, _ = results(layer, x)
    assert is_fast(y)
    with plain:
        assert not is_fast(layer(x))
    assert_same(layer, x, plain)


@each_case
@pytest.mark.parametrize("n, h, w", [(2, 1, 1), (5, 1, 7), (2, 9, 1), (2, 17, 23)])
def test_same_for_every_size(case, n, h, w, plain):
    layer = case.layer(dtype=torch.float64)
    for layout in (LAYOUTS["contiguous"], LAYOUTS["channels_last"]):
        assert_same(layer, layout(case_input(case, n=n, h=h, w=w)).requires_grad_(), plain)


@each_case
def test_same_in_several_blocks_of_which_the_last_is_smaller(case, plain, monkeypatch):
    monkeypatch.setattr(_fast, "_block", lambda x: 2)
    x = case_input(case, n=5).requires_grad_()
    layer = case.layer(dtype=torch.float64)
    _, blocks = results(layer, x)
    monkeypatch.setattr(_fast, "_block", len)
    for a, b in zip(blocks, results(layer, x)[1], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@each_case
def test_same_in_single_precision(case, plain):
    x = random_input(case, 3, 6, 5, torch.float32, requires_grad=True)
    assert_same(case.layer(), x, plain, tolerance=1e-4)


@each_case
@pytest.mark.parametrize("frozen", ["input", "weights", "some weights"])
def test_what_is_frozen_gets_no_gradient(case, frozen, plain):
    layer = case.layer(dtype=torch.float64)
    parameters = list(layer.parameters())
    if frozen != "input":
        for p in parameters if frozen == "weights" else parameters[::2]:
            p.requires_grad_(False)
    x = case_input(case).requires_grad_(frozen != "input")
    assert_same(layer, x, plain)


def shared(layer, x):
    return layer(x) * x + x


def changed_afterwards(layer, x):
    return layer(x).mul_(2).relu_()


def twice_in_a_row(layer, x):
    return layer(layer(x))


def not_a_leaf_and_a_view(layer, x):
    return layer((2 * x)[1:])


def checkpointed(layer, x):
    return checkpoint(layer, x, use_reentrant=False)


def checkpointed_as_of_old(layer, x):
    return checkpoint(layer, x, use_reentrant=True)


def saved_elsewhere(layer, x):
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.numpy(), torch.from_numpy):
        return layer(x)


def gradients_changed(layer, x):
    x = x * 1
    x.register_hook(lambda g: 3 * g)
    y = layer(x)
    y.register_hook(lambda g: g.square())
    return y


def gates_in_the_loss(layer, x):
    with record_gates(layer, detach=False) as gates:
        y = layer(x)
    return y + sum(gate.square() for made in gates.values() for gate in made.values())


def gates_clamped(layer, x):
    with record_gates(layer) as gates:
        layer(x.detach())
    own = gates[""]
    given = {key: (x.mean() + gate[:1]).expand_as(gate) for key, gate in own.items()}
    with clamp_gates(layer, {"": given}):
        return layer(x)


@each_case
@pytest.mark.parametrize(
    "run",
    [
        shared,
        changed_afterwards,
        twice_in_a_row,
        not_a_leaf_and_a_view,
        checkpointed,
        checkpointed_as_of_old,
        saved_elsewhere,
        gradients_changed,
        gates_in_the_loss,
        gates_clamped,
    ],
)
def test_same_whatever_surrounds_it(case, run, plain):
    layer = case.layer(dtype=torch.float64)
    x = case_input(case).requires_grad_()
    assert_same(layer, x, plain, run)


@each_case
def test_backward_twice_through_one_graph(case):
    layer = case.layer(dtype=torch.float64)
    x = case_input(case).requires_grad_()
    y = layer(x)
    first, second = (torch.autograd.grad(y.square().sum(), x, retain_graph=True) for _ in range(2))
    torch.testing.assert_close(first, second, rtol=0, atol=0)


@each_case
def test_gradients_of_gradients(case, plain):
    """By all inputs, where the first derivatives also enter the loss."""
    layer = case.layer(dtype=torch.float64)

    def penalty(context):
        twin = copy.deepcopy(layer)
        x = case_input(case).requires_grad_()
        inputs = [x, *twin.parameters()]
        with context:
            y = twin(x)
            gradients = torch.autograd.grad(y.square().sum(), inputs, create_graph=True)
            loss = sum(g.square().sum() for g in gradients) + y.sum()
            return torch.autograd.grad(loss, inputs)

    for a, b in zip(penalty(nullcontext()), penalty(plain), strict=True):
        # (by some parameters they are 0, and what rounding leaves of large terms is compared)
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-9)


@each_case
def test_many_gradients_at_once(case):
    layer = case.layer(dtype=torch.float64).eval()
    x = case_input(case).requires_grad_()
    y = layer(x)
    assert is_fast(y)
    dys = torch.randn(4, *y.shape, dtype=y.dtype)
    (together,) = torch.autograd.grad(y, x, dys, is_grads_batched=True, retain_graph=True)
    assert not together.requires_grad
    one_by_one = [torch.autograd.grad(y, x, dy, retain_graph=True)[0] for dy in dys]
    torch.testing.assert_close(together, torch.stack(one_by_one))


@each_case
def test_input_changed_before_backward_is_noticed(case):
    layer = case.layer(dtype=torch.float64)
    x = case_input(case).requires_grad_() * 1
    y = layer(x)
    with torch.no_grad():
        x.add_(1)
    with pytest.raises(RuntimeError, match="modified (by an )?inplace"):
        y.sum().backward()


@each_case
def test_autocast(case, plain):
    x = random_input(case, 3, 6, 5, torch.float32, requires_grad=True)

    def run(layer, x):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return layer(x)

    assert_same(case.layer(), x, plain, run, tolerance=1e-6)
    assert not is_fast(run(case.layer(), x))  # nothing is gained there


@each_case
def test_training_step_on_an_empty_batch_in_evaluation_mode(case):
    layer = case.layer().eval()
    x = random_input(case, 0, 4, 5, torch.float32, requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == x.shape
    assert all(not p.grad.any() for p in layer.parameters())


@each_case
def test_subclasses_of_tensors_take_the_plain_path(case):
    class Labelled(torch.Tensor):
        pass

    layer = case.layer(dtype=torch.float64)
    x = case_input(case)
    y = layer(x.as_subclass(Labelled).requires_grad_())
    assert type(y) is Labelled and not is_fast(y)
    torch.testing.assert_close(y.as_subclass(torch.Tensor), layer(x))


def operations(y):
    """Names of the operations in the graph behind y."""
    names, todo = set(), [y.grad_fn]
    while todo:
        node = todo.pop()
        names.add(type(node).__name__)
        todo += [n for n, _ in node.next_functions if n is not None]
    return names


@each_case
def test_no_backward_pass_that_a_gpu_cannot_repeat(case, plain):
    """Those that torch.use_deterministic_algorithms lists as raising on CUDA."""
    layer = case.layer(dtype=torch.float64)
    x = case_input(case).requires_grad_()
    with plain:
        names = operations(layer(x))
    for pooling in ("AdaptiveMaxPool", "AdaptiveAvgPool", "MaxPool", "MaxUnpool"):
        assert not any(pooling in name for name in names | operations(layer(x)))


# ---- the halves of CBAM are modules of their own


@pytest.mark.parametrize(
    "hook",
    [
        lambda module, inputs, y: None,
        lambda module, inputs, y: 2 * y,
        lambda module, inputs, y: y.mul_(2),
        lambda module, inputs, y: y + inputs[0],
        lambda module, inputs, y: y.detach(),
    ],
    ids=["looks", "replaces", "in place", "adds", "cuts"],
)
@pytest.mark.parametrize("half", ["channel", "spatial"])
def test_hooks_on_the_halves(hook, half, plain):
    layer = layers.CBAM(8, 4).double()
    layer.get_submodule(half).register_forward_hook(hook)
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64, requires_grad=True)

    def run(layer, x):
        return layer(x) + x

    assert_same(layer, x, plain, run)


@pytest.mark.parametrize("half", ["channel", "spatial"])
def test_backward_hooks_on_the_halves(half, plain):
    layer = layers.CBAM(8, 4).double()
    layer.get_submodule(half).register_full_backward_hook(lambda m, dx, dy: (3 * dx[0],))
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64, requires_grad=True)
    assert_same(layer, x, plain)


def test_another_module_in_the_place_of_a_half(plain):
    layer = layers.CBAM(8, 4).double()
    layer.channel = layers.SqueezeExcitation(8).double()
    x = torch.randn(3, 8, 5, 4, dtype=torch.float64, requires_grad=True)
    assert_same(layer, x, plain)
    layer.spatial = nn.Identity()
    torch.testing.assert_close(layer(x), layer.channel(x))


def test_nothing_is_remembered_of_a_product_that_is_gone():
    layer = layers.CBAM(8, 4)
    before = len(_fast._factors)
    y = layer(torch.randn(2, 8, 5, 5, requires_grad=True))
    assert len(_fast._factors) == before
    y.sum().backward()
    layer.channel(torch.randn(2, 8, 5, 5, requires_grad=True))
    assert len(_fast._factors) == before


# ---- what is kept


@pytest.mark.parametrize(
    "name, most", [("se", 1.05), ("eca", 1.05), ("cbam", 1.05), ("coordinate", 1.2), ("bam", 1.4)]
)
def test_bytes_kept_for_backward(name, most):
    ratios = []
    for shape in [(8, 64, 56, 56), (8, 256, 28, 28), (8, 512, 14, 14)]:
        x = torch.empty(shape, device="meta", requires_grad=True)
        ratios.append(saved_bytes(layers.build(name, shape[1]).to("meta"), x) / x.nbytes)
    assert math.prod(ratios) ** (1 / 3) <= most
