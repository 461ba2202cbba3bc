"""Work on whole feature maps, with hand-derived backward passes for training in eager PyTorch.

A gate costs passes over the map, and a training step of plain operations makes more of them than
it has to: every product allocates a map, the gradient of a mean or of a maximum is a map of its
own, and a second gate keeps a second map. The functions below derive those gradients by hand, as
the chapters do. Each has a plain form beside it, in PyTorch's own operations, which computes the
same and answers wherever the fast one cannot: without gradients, traced, exported, compiled, under
``torch.func`` and forward-mode derivatives, in half or mixed precision on a CPU, for an empty batch
and for subclasses of tensors. A gradient that shall have a gradient itself (``create_graph=True``),
and many gradients at once, are computed by the plain form, too.

The small networks between pooling and product stay ordinary module calls, so that hooks, pruning,
sharding and counters see all of them.
"""

import math

import torch
from torch import nn
from torch.autograd import Function, forward_ad
from torch.nn import functional as F
from torch.utils.weak import WeakTensorKeyDictionary

# There is no public way to ask for these: whether a transformation of torch.func is under way,
# whether many gradients go backward at once (``is_grads_batched``), and, below, whether there are
# forward-mode derivatives, without which the level is -1.
_functorch = torch._C._are_functorch_transforms_active
_is_batched = torch._C._functorch.is_legacy_batchedtensor


def eager(x):
    """Whether x is an ordinary tensor that is computed with now: not traced, not transformed."""
    return (
        not torch.compiler.is_compiling()
        and type(x) in (torch.Tensor, nn.Parameter)
        and not torch.jit.is_tracing()
        and not _functorch()
        and forward_ad._current_level < 0
    )


def serves(x, *gates):
    """Whether the hand-derived backward passes can serve for x and what multiplies it."""
    return (
        torch.is_grad_enabled()
        and eager(x)
        and x.numel() > 0
        and (x.device.type != "cpu" or _full_precision(x))
        and all(eager(gate) and gate.dtype == x.dtype for gate in gates)
    )


def _full_precision(x):  # in half precision nothing is gained on a CPU
    return x.dtype in (torch.float32, torch.float64) and not torch.is_autocast_enabled("cpu")


# ---- products


def scale(x, gate):
    """Product of x, (N, C, H, W), with a gate that broadcasts to it; the product of both twice.

    Backward keeps x and the gate; or, where x was itself made by :func:`scale_and_remember` and
    is as it was then, what it was made from.
    """
    if not serves(x, gate):
        return x * gate
    return _Scale.apply(x, gate, _made_from(x))


def scale_again(y, gate):
    """:func:`scale` for a y that nobody else will read: without gradients, in place."""
    if eager(y) and not torch.is_grad_enabled() and y.dtype == gate.dtype:
        return y.mul_(gate)
    return scale(y, gate)


def scale_and_remember(x, gate):
    """:func:`scale`; a later product need not keep its result, but can make it again."""
    y = scale(x, gate)
    if serves(x, gate) and y.requires_grad:
        _factors[y] = (x, gate, y._version)
    return y


_factors = WeakTensorKeyDictionary()  # a product -> what it was made from, as long as it lives


def _made_from(x):
    """The two factors of x, or None: not known, or x has been changed in place since."""
    first, second, version = _factors.get(x, (None, None, None))
    return (first, second) if version == x._version else None


class _Scale(Function):
    """y = gate x, with dx = gate dy and dgate = sum of x dy over what was broadcast."""

    @staticmethod
    def forward(ctx, x, gate, factors):
        ctx.save_for_backward(gate, *(factors or (x,)))
        return x * gate

    @staticmethod
    def backward(ctx, dy):
        gate, x, *more = ctx.saved_tensors
        if more:
            x = x * more[0]
        if not _overwritable(dy):
            return _by_autograd(ctx, torch.mul, (x, gate), dy)
        axes = tuple(i for i in range(4) if gate.shape[i] != dy.shape[i])
        if not ctx.needs_input_grad[1]:
            return dy * gate, None, None
        if 0 in axes or not axes:
            return dy * gate, (x * dy).sum_to_size(gate.shape), None
        dx, dgate = x if more else torch.empty_like(x), torch.empty_like(gate)
        for x_, dy_, gate_, dx_, dgate_ in _blocks(x, dy, gate, dx, dgate):
            torch.mul(x_, dy_, out=dx_)  # scratch until its sum is taken
            torch.sum(dx_, axes, keepdim=True, out=dgate_)
            torch.mul(dy_, gate_, out=dx_)
        return dx, dgate, None


def scale_by_sigmoids(x, a, b):
    """Product of x, (N, C, H, W), with sigmoid(a), (N, C, H, 1), and sigmoid(b), (N, C, 1, W)."""
    if serves(x, a, b):
        return _ScaleBySigmoids.apply(x, a, b)
    return _plain_scale_by_sigmoids(x, a, b)


def _plain_scale_by_sigmoids(x, a, b):
    return x * torch.sigmoid(a) * torch.sigmoid(b)


class _ScaleBySigmoids(Function):
    """y = x g h with g = sigmoid(a) and h = sigmoid(b).

    dx = dy g h; and since dg/da = g (1 - g), the gradient of a is (1 - g) times the sum of x dx
    over its row, that of b (1 - h) times the sum over its column: one product serves both.
    """

    @staticmethod
    def forward(ctx, x, a, b):
        ctx.save_for_backward(x, a, b)
        y = torch.empty_like(x)
        for x_, y_, g, h in _blocks(x, y, torch.sigmoid(a), torch.sigmoid(b)):
            torch.mul(x_, g, out=y_).mul_(h)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, a, b = ctx.saved_tensors
        if not _overwritable(dy):
            return _by_autograd(ctx, _plain_scale_by_sigmoids, (x, a, b), dy)
        g, h = torch.sigmoid(a), torch.sigmoid(b)
        dx, da, db = torch.empty_like(x), 1 - g, 1 - h
        scratch = torch.empty_like(x[: _block(x)])
        for x_, dy_, g_, h_, dx_, da_, db_ in _blocks(x, dy, g, h, dx, da, db):
            torch.mul(dy_, g_, out=dx_).mul_(h_)
            t = torch.mul(x_, dx_, out=scratch[: len(x_)])
            da_.mul_(total(t, (3,)))
            db_.mul_(total(t, (2,)))
        return dx, da, db


def scale_by_joint(x, c, s, combine):
    """Product of x, (N, C, H, W), with 1 + sigmoid(a) for a = c s or c + s.

    c is (N, C, 1, 1) and s (N, 1, H, W); ``combine`` is ``torch.mul`` or ``torch.add``.
    """
    if serves(x, c, s):
        return _ScaleByJoint.apply(x, c, s, combine)
    return _plain_scale_by_joint(x, c, s, combine)


def _plain_scale_by_joint(x, c, s, combine):
    return x * joint(c, s, combine)


def joint(c, s, combine):
    """The gate 1 + sigmoid(c s) or 1 + sigmoid(c + s), of the map's full size."""
    return 1 + torch.sigmoid(combine(c, s))


class _ScaleByJoint(Function):
    """y = x (1 + g) with g = sigmoid(a): the gate is made again in backward, not kept."""

    @staticmethod
    def forward(ctx, x, c, s, combine):
        ctx.save_for_backward(x, c, s)
        ctx.combine = combine
        y = torch.empty_like(x)
        for x_, c_, s_, y_ in _blocks(x, c, s, y):
            combine(c_, s_, out=y_).sigmoid_().add_(1).mul_(x_)
        return y

    @staticmethod
    def backward(ctx, dy):
        x, c, s = ctx.saved_tensors
        combine = ctx.combine
        if not _overwritable(dy):
            return _by_autograd(ctx, _plain_scale_by_joint, (x, c, s, combine), dy)
        dx, dc, ds = torch.empty_like(x), torch.empty_like(c), torch.empty_like(s)
        gates, scratch = torch.empty_like(x[: _block(x)]), torch.empty_like(x[: _block(x)])
        for x_, dy_, c_, s_, dx_, dc_, ds_ in _blocks(x, dy, c, s, dx, dc, ds):
            g = combine(c_, s_, out=gates[: len(x_)]).sigmoid_()
            torch.addcmul(dy_, dy_, g, out=dx_)
            t = torch.mul(x_, dy_, out=scratch[: len(x_)])
            da = torch.ops.aten.sigmoid_backward.grad_input(t, g, grad_input=t)
            for_c = for_s = da
            if combine is torch.mul:
                for_c, for_s = torch.mul(da, s_, out=g), da.mul_(c_)
            torch.sum(for_c, (2, 3), keepdim=True, out=dc_)
            torch.sum(for_s, 1, keepdim=True, out=ds_)
        return dx, dc, ds, None


# ---- poolings


def mean(x, axes):
    """Mean of x over a tuple of axes, kept with length 1.

    As sum and quotient, whose gradient is a vector spread by strides; that of ``x.mean`` is a map.
    Where the channels come last in memory, a sum over one axis with them in the inner loop is
    several times as fast.
    """
    if not eager(x):
        return x.mean(axes, keepdim=True)
    if not torch.is_grad_enabled() or x.element_size() < 4:  # a sum of halves overflows
        return _channels_inside(torch.mean, x, axes)
    return total(x, axes) / math.prod(x.shape[axis] for axis in axes)


def total(x, axes):
    """Sum of x over a tuple of axes, kept with length 1."""
    return _channels_inside(torch.sum, x, axes)


def _channels_inside(reduce, x, axes):
    if x.stride(1) == 1 and axes in ((2,), (3,)):
        return reduce(x.permute(0, 2, 3, 1), axes[0] - 1, keepdim=True).permute(0, 3, 1, 2)
    return reduce(x, axes, keepdim=True)


def pool_positions(x):
    """x itself, its means and its maxima over H and W, (N, C) each.

    What is multiplied later should be the x that comes out: then the gradients of all three meet
    here, and no map is made for those of mean and maximum. A tie's gradient goes to the first.
    """
    if serves(x):
        return _PoolPositions.apply(x)
    if eager(x) and not torch.is_grad_enabled():
        return x, x.mean((2, 3)), x.amax((2, 3))  # the same values, several times faster
    return x, x.mean((2, 3)), x.flatten(2).max(2).values


class _PoolPositions(Function):
    @staticmethod
    def forward(ctx, x):
        maximum, where = _max_over_positions(x)
        ctx.save_for_backward(where)
        return x, x.mean((2, 3)), maximum

    @staticmethod
    def backward(ctx, dx, dmean, dmax):
        (where,) = ctx.saved_tensors
        n, c, h, w = dx.shape
        dmean = dmean[:, :, None, None] / (h * w)
        if not _overwritable(dx, dmean, dmax):
            zeros = dmax.new_zeros(n, c, h * w)
            return dx + dmean + zeros.scatter(2, where[:, :, None], dmax[:, :, None]).view(dx.shape)
        samples = torch.arange(n, device=dx.device)[:, None]
        places = (samples, torch.arange(c, device=dx.device), where // w, where % w)
        dx.add_(dmean)
        return dx.index_put_(places, dx[places].add_(dmax))


def pool_channels(x):
    """x itself, and its maxima and means over C as two planes, (N, 2, H, W).

    See :func:`pool_positions`. For a fast backward pass the planes lie channels last: the CPU's
    convolution goes backward through them several times as fast.
    """
    if serves(x):
        out, planes = _PoolChannels.apply(x)
        if x in _factors:
            _factors[out] = _factors[x]
        return out, planes
    if eager(x) and not torch.is_grad_enabled():
        return x, torch.cat((x.amax(1, keepdim=True), x.mean(1, keepdim=True)), 1)
    return x, torch.cat((x.max(1, keepdim=True).values, x.mean(1, keepdim=True)), 1)


class _PoolChannels(Function):
    @staticmethod
    def forward(ctx, x):
        maximum, where = _max_over_channels(x)
        ctx.save_for_backward(where.to(torch.int32))  # half of what torch keeps for a position
        planes = torch.cat((maximum, x.mean(1, keepdim=True)), 1)
        return x, planes.contiguous(memory_format=torch.channels_last)

    @staticmethod
    def backward(ctx, dx, dplanes):
        where = ctx.saved_tensors[0].long()
        dmax, dmean = dplanes[:, :1], dplanes[:, 1:] / dx.shape[1]
        if not _overwritable(dx, dplanes):
            return dx + dmean + torch.zeros_like(dx).scatter(1, where, dmax)
        dx.add_(dmean)
        return dx.scatter_(1, where, dx.gather(1, where).add_(dmax))


# What arrives as dx comes from the product with x, whose backward pass made it for this place
# alone: it may be overwritten. No two maxima share a place, so that a gradient is put there and
# nothing is accumulated: on a GPU, too, the result is the same every time.

# The CPU's maximum with its position goes entry by entry, unless what is not reduced lies side by
# side in memory: pooled channels last, it is several times as fast. All give the first of a tie.


def _max_over_positions(x):
    """(N, C, H, W) -> maxima and their positions in 0 … HW - 1, both (N, C)."""
    if x.device.type != "cpu" or x.is_contiguous():
        return x.flatten(2).max(2)
    maximum, where = F.adaptive_max_pool2d(x, 1, return_indices=True)
    return maximum.flatten(1), where.flatten(1)


def _max_over_channels(x):
    """(N, C, H, W) -> maxima and their channels, both (N, 1, H, W)."""
    if x.device.type != "cpu" or not x.is_contiguous():
        return x.max(1, keepdim=True)
    n, c, h, w = x.shape
    pixels = x.view(n, c, h * w).transpose(1, 2).unsqueeze(2)  # (N, HW, 1, C), channels last
    maximum, where = F.adaptive_max_pool2d(pixels, 1, return_indices=True)
    return maximum.view(n, 1, h, w), where.view(n, 1, h, w)


# ---- helpers


def _blocks(*tensors):
    """The tensors by blocks of samples, for all to be worked on while they are in a CPU's cache."""
    size = _block(tensors[0])
    return zip(*(t.split(size) for t in tensors), strict=True)


def _block(x):
    """How many samples of x make a block: those of about 1 MB, or all where there is no CPU."""
    return max(1, 2**20 // x[0].nbytes) if x.device.type == "cpu" else len(x)


def _overwritable(*gradients):
    """Whether backward may work in place: it is not recorded itself, nor for many at once."""
    return not torch.is_grad_enabled() and all(eager(g) and not _is_batched(g) for g in gradients)


def _by_autograd(ctx, plain, inputs, dy):
    """What backward returns, by PyTorch's own derivatives of ``plain``; with a graph if wanted."""
    graph = torch.is_grad_enabled()
    needed = [i for i, needs in enumerate(ctx.needs_input_grad[: len(inputs)]) if needs]
    with torch.enable_grad():
        inputs = list(inputs)
        for i in needed:  # a view, as one input may have been computed from another
            view = inputs[i].view_as(inputs[i])
            inputs[i] = view if view.requires_grad else view.requires_grad_()
        y = plain(*inputs)
        found = torch.autograd.grad(y, [inputs[i] for i in needed], dy, create_graph=graph)
    gradients = [None] * len(ctx.needs_input_grad)
    for i, gradient in zip(needed, found, strict=True):
        gradients[i] = gradient
    return tuple(gradients)
