"""Each NumPy operation against its PyTorch counterpart, forward and backward."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from cases import old_kinks

from attn_lib.reference import ops

RNG = np.random.default_rng(0)


def check(op, op_backward, torch_op, *arrays):
    tensors = [torch.from_numpy(a).requires_grad_() for a in arrays]
    y, cache = op(*arrays)
    yt = torch_op(*tensors)
    np.testing.assert_allclose(y, yt.detach(), rtol=1e-10, atol=1e-12)
    dy = RNG.standard_normal(y.shape)
    yt.backward(torch.from_numpy(dy))
    grads = op_backward(dy, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    for grad, tensor in zip(grads, tensors, strict=False):
        np.testing.assert_allclose(grad, tensor.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize(
    "op, torch_op",
    [
        ("sigmoid", torch.sigmoid),
        ("relu", torch.relu),
        ("tanh", torch.tanh),
        ("hard_swish", F.hardswish),
    ],
)
def test_elementwise(op, torch_op):
    a = 4 * RNG.standard_normal((5, 7))
    a[0, :4] = [0.0, -3.0, 3.0, -0.0]  # the kinks
    if op == "hard_swish" and old_kinks():
        a[0, 1:3] += 1e-3
    check(getattr(ops, op), getattr(ops, f"{op}_backward"), torch_op, a)


def test_sigmoid_does_not_overflow():
    with np.errstate(all="raise"):
        s, _ = ops.sigmoid(np.array([-1e4, 0.0, 1e4]))
    np.testing.assert_array_equal(s, [0.0, 0.5, 1.0])


@pytest.mark.parametrize("bias", [True, False])
def test_linear(bias):
    arrays = [RNG.standard_normal(s) for s in [(4, 3), (5, 3), (5,)][: 3 if bias else 2]]
    check(ops.linear, ops.linear_backward, F.linear, *arrays)


@pytest.mark.parametrize("axis", [(2, 3), 1, 2, 3])
def test_pooling(axis):
    x = RNG.standard_normal((2, 3, 4, 5))
    check(
        lambda x: ops.mean_pool(x, axis),
        ops.mean_pool_backward,
        lambda x: x.mean(axis, keepdim=True),
        x,
    )
    check(
        lambda x: ops.max_pool(x, axis),
        ops.max_pool_backward,
        lambda x: x.amax(axis, keepdim=True),
        x,
    )


def test_max_pool_sends_the_gradient_of_a_tie_where_pytorch_does():
    x = np.round(RNG.standard_normal((3, 6, 5, 5)))  # rounding makes many ties
    check(ops.max_pool, ops.max_pool_backward, lambda x: F.max_pool2d(x, x.shape[2:]), x)
    check(
        lambda x: ops.max_pool(x, 1),
        lambda dy, cache: ops.max_pool_backward(dy, cache),
        lambda x: x.max(1, keepdim=True).values,
        x,
    )


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(
    "kernel, padding, dilation", [(3, 0, 1), (3, 1, 1), (7, 3, 1), (3, 4, 4), (1, 3, 1), (2, 1, 2)]
)
def test_conv2d(kernel, padding, dilation, bias):
    shapes = [(2, 4, 9, 8), (3, 4, kernel, kernel), (3,)][: 3 if bias else 2]
    check(
        lambda *a: ops.conv(*a, padding=padding, dilation=dilation),
        ops.conv_backward,
        lambda *a: F.conv2d(*a, padding=padding, dilation=dilation),
        *[RNG.standard_normal(s) for s in shapes],
    )


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_conv1d(kernel):
    check(
        lambda *a: ops.conv(*a, padding=kernel // 2),
        ops.conv_backward,
        lambda *a: F.conv1d(*a, padding=kernel // 2),
        RNG.standard_normal((2, 1, 9)),
        RNG.standard_normal((1, 1, kernel)),
    )


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 5, 4)])
def test_batch_norm(shape, training):
    mean, var = RNG.standard_normal(3), RNG.random(3) + 0.5
    tmean, tvar = torch.from_numpy(mean.copy()), torch.from_numpy(var.copy())
    new = {}

    def op(x, weight, bias):
        y, cache, new["stats"] = ops.batch_norm(
            x, weight, bias, mean, var, training=training, momentum=0.01
        )
        return y, cache

    check(
        op,
        ops.batch_norm_backward,
        lambda x, w, b: F.batch_norm(x, tmean, tvar, w, b, training, 0.01),
        *[RNG.standard_normal(s) for s in [shape, (3,), (3,)]],
    )
    np.testing.assert_allclose(new["stats"][0], tmean)
    np.testing.assert_allclose(new["stats"][1], tvar)


def test_batch_norm_refuses_one_value_a_channel():
    one = np.ones((1, 3))
    with pytest.raises(ValueError, match=r"more than one value a channel.*\(1, 3\)"):
        ops.batch_norm(one, one[0], one[0], one[0], one[0], training=True)
