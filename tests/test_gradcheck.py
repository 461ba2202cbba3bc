"""The gradient check itself: right gradients pass, wrong ones are caught."""

import types

import numpy as np
import pytest

from attn_lib.reference import gradcheck, se


def test_numerical_gradient_of_a_known_function():
    x = np.random.default_rng(0).standard_normal((3, 4))
    before = x.copy()
    gradient = gradcheck.numerical_gradient(lambda: float(np.sin(x).sum()), x)
    np.testing.assert_allclose(gradient, np.cos(x), atol=1e-9)
    np.testing.assert_array_equal(x, before)


def test_float32_is_refused():
    x = np.zeros(3, np.float32)
    with pytest.raises(TypeError, match="float64.*float32"):
        gradcheck.numerical_gradient(lambda: 0.0, x)


def test_relative_error():
    assert gradcheck.relative_error(np.zeros(2), np.zeros(2)) == 0.0
    assert gradcheck.relative_error(np.array([2.0, 0]), np.array([2.0, 1])) == 0.5
    with pytest.raises(ValueError, match="shapes differ"):
        gradcheck.relative_error(np.zeros(2), np.zeros(3))


def test_a_forgotten_path_is_caught():
    """Dropping the path through the mean, the classic mistake, leaves a visible error in dx."""

    def backward(dy, cache):
        _, grads = se.backward(dy, cache)
        return cache["gates"]["channel"] * dy, grads

    broken = types.SimpleNamespace(forward=se.forward, backward=backward)
    rng = np.random.default_rng(0)
    x, params = rng.standard_normal((2, 4, 3, 3)), se.init(4, 2, rng)
    assert max(gradcheck.check_module(se, x, params).values()) < 1e-7
    errors = gradcheck.check_module(broken, x, params)
    assert errors["x"] > 1e-3
    assert errors["fc1.weight"] < 1e-7
