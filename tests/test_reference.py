"""The NumPy mechanisms against PyTorch, and against central differences."""

import numpy as np
import pytest
import torch
from cases import SHAPES, each_case
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_lib.reference import gradcheck

TOLERANCE = 1e-10


def compare(case, n, h, w, training, seed=0):
    """Outputs, gates, dx, every parameter gradient and every buffer: NumPy equals PyTorch."""
    rng = np.random.default_rng(seed)
    params = case.params(rng)
    x = rng.standard_normal((n, case.channels, h, w))
    dy = rng.standard_normal(x.shape)

    layer = case.layer(dtype=torch.float64).train(training)
    layer.load_state_dict({name: torch.as_tensor(value) for name, value in params.items()})
    xt = torch.from_numpy(x).requires_grad_()
    if training and case.batch_norm_values(n, h, w) == 1:  # no variance: both refuse
        with pytest.raises(ValueError, match="more than one value a channel"):
            case.reference.forward(x, params, training=True, **case.forward_options)
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            layer(xt)
        return
    yt = layer(xt)
    yt.backward(torch.from_numpy(dy))

    y, cache = case.reference.forward(x, params, training=training, **case.forward_options)
    dx, grads = case.reference.backward(dy, cache)

    close = dict(rtol=TOLERANCE, atol=TOLERANCE)
    np.testing.assert_allclose(y, yt.detach(), **close)
    np.testing.assert_allclose(dx, xt.grad, **close)
    wanted = {name: p.grad for name, p in layer.named_parameters()}
    assert grads.keys() == wanted.keys()
    for name, grad in wanted.items():
        assert grads[name].shape == grad.shape, name
        np.testing.assert_allclose(grads[name], grad, err_msg=name, **close)
    for name, buffer in cache.get("buffers", {}).items():
        np.testing.assert_allclose(buffer, layer.state_dict()[name], err_msg=name, **close)

    assert tuple(cache["gates"]) == case.gates
    product = x.copy()
    for gate in cache["gates"].values():
        product = product * gate
    np.testing.assert_allclose(product, y, **close)


@each_case
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_numpy_equals_pytorch(case, shape, training):
    compare(case, *shape, training)


@each_case
@settings(deadline=None, max_examples=25)
@given(n=st.integers(1, 3), h=st.integers(1, 9), w=st.integers(1, 9), seed=st.integers(0, 999))
def test_numpy_equals_pytorch_on_generated_shapes(case, n, h, w, seed):
    compare(case, n, h, w, training=seed % 2 == 0, seed=seed)


@each_case
@pytest.mark.parametrize("training", [True, False])
def test_hand_gradients_equal_central_differences(case, training):
    rng = np.random.default_rng(1)
    x = rng.standard_normal((2, case.channels, 4, 3))
    errors = gradcheck.check_module(
        case.reference, x, case.params(rng), training=training, **case.forward_options
    )
    assert "x" in errors and len(errors) > 1
    assert max(errors.values()) < 1e-6, errors


@each_case
def test_params_are_the_state_dict(case):
    params = case.params(np.random.default_rng(0))
    state = case.layer().state_dict()
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    assert {name: np.shape(value) for name, value in params.items()} == shapes


@each_case
def test_forward_leaves_its_arguments_alone(case):
    rng = np.random.default_rng(0)
    params = case.params(rng)
    x = rng.standard_normal((2, case.channels, 4, 4))
    x_before, before = x.copy(), {k: np.copy(v) for k, v in params.items()}
    y, cache = case.reference.forward(x, params, **case.forward_options)
    case.reference.backward(np.ones_like(y), cache)
    np.testing.assert_array_equal(x, x_before)
    for name, value in before.items():
        np.testing.assert_array_equal(params[name], value)


@each_case
def test_init_is_reproducible(case):
    one, two = case.params(7), case.params(7)
    other = case.params(8)
    assert all(np.array_equal(one[name], two[name]) for name in one)
    assert any(not np.array_equal(one[name], other[name]) for name in one)
