"""Checks of the exercises on CBAM and BAM."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from attn_lib import layers
from attn_lib.check._core import Failed, call, exercise, expect

__all__ = [
    "channel_gate",
    "combine",
    "conv_input_gradient",
    "fold",
    "lse_pool",
    "max_pool_backward",
    "parameters",
    "pool",
    "receptive_field",
    "spatial_gate",
]


def _features(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@exercise
def pool(attempt):
    """``attempt(x)`` is the means and the maxima of the channels of x, each (N, C), as a pair."""
    x = _features(3, 5, 4, 6)
    got = call(attempt, x)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Failed("return two tensors: the means, then the maxima")
    mean, maximum = x.mean((2, 3)), x.amax((2, 3))
    for value, wanted, other, reduce, what in (
        (got[0], mean, maximum, torch.mean, "the vector of means"),
        (got[1], maximum, mean, torch.amax, "the vector of maxima"),
    ):
        expect(
            value,
            wanted,
            what,
            {
                "the two are swapped: the means come first": other,
                f"{what} is pooled over the wrong axes: the channels are to stay, the rows and "
                "columns (axes 2 and 3) are to go": reduce(x, 1),
                f"{what} is pooled over the batch too; every image has its own": reduce(
                    x, (0, 2, 3)
                ),
                f"{what} still has its axes of length 1; its shape should be (N, C)": wanted[
                    :, :, None, None
                ],
                f"{what} is pooled over the rows only (axis 2)": reduce(x, 2),
                f"{what} is pooled over the columns only (axis 3)": reduce(x, 3),
            },
        )


@exercise
def channel_gate(attempt):
    """``attempt(channels, reduction)`` makes a module: x (N, C, H, W) -> gate (N, C, 1, 1)."""
    torch.manual_seed(0)
    module = call(attempt, 12, 4)
    if not isinstance(module, nn.Module):
        raise Failed(f"return a torch.nn.Module; got {type(module).__name__}")
    module = module.double()
    linear = [m for m in module.modules() if isinstance(m, nn.Linear)]
    shapes = [tuple(m.weight.shape) for m in linear]
    if shapes == 2 * [(3, 12), (12, 3)] or sorted(shapes) == sorted(2 * [(3, 12), (12, 3)]):
        raise Failed(
            "there are two MLPs, one for the mean and one for the maximum; equation CBAM-3 sends "
            "both vectors through the same one"
        )
    if shapes == [(3, 24), (12, 3)]:
        raise Failed(
            "the mean and the maximum are concatenated in front of the MLP; they go through it one "
            "after the other, and their outputs are added"
        )
    if shapes != [(3, 12), (12, 3)]:
        raise Failed(
            "for channels=12, reduction=4 the MLP has two nn.Linear, with weights of shape (3, 12) "
            f"and (12, 3); found {shapes}"
        )
    x = _features(2, 12, 5, 4)
    with torch.no_grad():
        got = module(x)
        first, second = linear

        def mlp(z):
            return second(torch.relu(first(z)))

        a, b = mlp(x.mean((2, 3))), mlp(x.amax((2, 3)))
        wrong_axes = mlp(x.mean((2, 3))) + mlp(x.sum((2, 3)))
        joint = second(torch.relu(first(x.mean((2, 3)) + x.amax((2, 3)))))
        no_relu = second(first(x.mean((2, 3)))) + second(first(x.amax((2, 3))))
        wanted = torch.sigmoid(a + b)
        mistakes = {
            "softmax makes the channels compete, and all gates of an image sum to 1; equation "
            "CBAM-3 has a sigmoid": torch.softmax(a + b, 1),
            "each of the two outputs has a sigmoid of its own; add them first": torch.sigmoid(a)
            + torch.sigmoid(b),
            "only the mean is used (that is SE)": torch.sigmoid(a),
            "only the maximum is used": torch.sigmoid(b),
            "the mean and the maximum are added in front of the MLP; add what it makes of "
            "them": torch.sigmoid(joint),
            "the sigmoid is missing": a + b,
            "the ReLU between the two linear maps is missing": torch.sigmoid(no_relu),
            "a sum over the positions stands where the maximum should be": torch.sigmoid(
                wrong_axes
            ),
            "the outputs are averaged; the equation adds them": torch.sigmoid((a + b) / 2),
        }
        if got.dim() == 2:
            expect(got, wanted, "the gate", mistakes)
            raise Failed("the gate has shape (N, C); append two axes of length 1, to multiply x")
        if got.shape == x.shape:
            expect(
                got,
                wanted[:, :, None, None].expand_as(x),
                "the gate",
                {"that is the product with x; return the gate": wanted[:, :, None, None] * x},
            )
        expect(
            got,
            wanted[:, :, None, None],
            "the gate",
            {message: wrong[:, :, None, None] for message, wrong in mistakes.items()},
        )


@exercise
def spatial_gate(attempt):
    """``attempt(x, weight)``: gate (N, 1, H, W) for x (N, C, H, W) and weight (1, 2, k, k)."""
    x, weight = _features(2, 5, 9, 8), _features(1, 2, 7, 7, seed=1) / 5
    maximum, mean = x.amax(1, keepdim=True), x.mean(1, keepdim=True)

    def gate(first, second, weight=weight):
        return torch.sigmoid(F.conv2d(torch.cat((first, second), 1), weight, padding=3))

    wanted = gate(maximum, mean)
    try:
        got = call(attempt, x, weight)
    except RuntimeError as error:
        raise Failed(
            "the convolution refused its input. The kernel expects two maps (N, 2, H, W): pool "
            "over the channels (axis 1) and keep that axis; over the rows and columns (axes 2 and "
            f"3) no position would be left. It said: {error}"
        ) from None
    expect(
        got,
        wanted,
        "the gate",
        {
            "the two maps are in the other order; the official code, and so every checkpoint, puts "
            "the maximum first": gate(mean, maximum),
            "the padding is missing: the gate must have the H and W of x": torch.sigmoid(
                F.conv2d(torch.cat((maximum, mean), 1), weight)
            ),
            "that is the product with x; return the gate": wanted * x,
            "the sigmoid is missing": torch.logit(wanted),
            "softmax makes the positions compete; equation CBAM-5 has a sigmoid": torch.softmax(
                torch.logit(wanted).flatten(1), 1
            ).reshape(wanted.shape),
            "the axis of the channels is missing: (N, 1, H, W)": wanted[:, 0],
            "a sum over the channels stands where the mean should be": gate(maximum, 5 * mean),
            "the kernel is turned round; torch's conv2d takes it as it is": gate(
                maximum, mean, weight.flip(2, 3)
            ),
        },
    )
    small = _features(1, 2, 3, 3, seed=2)
    pooled = torch.cat((maximum, mean), 1)
    expect(
        call(attempt, x, small),
        torch.sigmoid(F.conv2d(pooled, small, padding=1)),
        "the gate for a 3x3 kernel",
    )


@exercise
def combine(attempt):
    """``attempt(x, channel_gate, spatial_gate)`` is CBAM's output; the gates are functions."""
    torch.manual_seed(0)
    x = _features(2, 6, 7, 5)
    channel, spatial = layers.ChannelAttention(6, 2).double(), layers.SpatialAttention(3).double()
    spatial.eval()

    def channel_gate(x):
        return channel.gates(x)["channel"].detach()

    def spatial_gate(x):
        return spatial.gates(x)["spatial"].detach()

    c, s = channel_gate(x), spatial_gate(x)
    scaled = c * x
    wanted = spatial_gate(scaled) * scaled
    expect(
        call(attempt, x, channel_gate, spatial_gate),
        wanted,
        "the output",
        {
            "the spatial gate is computed from the original input (that is the parallel "
            "arrangement); compute it from the re-weighted features": c * s * x,
            "the spatial gate multiplies the original input, so the channel gate is lost; multiply "
            "the re-weighted features": spatial_gate(scaled) * x,
            "neither of the two steps uses the other: the channel gate is lost": s * x,
            "the spatial gate is missing": scaled,
            "the spatial gate comes first; equations CBAM-1 and CBAM-2 begin with the channels": (
                channel_gate(s * x) * s * x
            ),
            "that is the product of the gates; multiply it by x": spatial_gate(scaled) * c,
            "the two products are added; the second multiplies the first": scaled + s * x,
        },
    )


@exercise
def max_pool_backward(attempt):
    """``attempt(dz, x)``: gradient (N, C, H, W) through the maximum over H and W, first of ties."""
    x = np.maximum(np.round(_features(3, 4, 4, 5, seed=3).numpy()), 0)
    dz = _features(3, 4, seed=4).numpy()
    tied = x == x.max((2, 3), keepdims=True)
    flat = tied.reshape(3, 4, -1)
    first = (np.arange(20) == flat.argmax(-1)[..., None]).reshape(x.shape)
    last = (np.arange(20) == 19 - flat[..., ::-1].argmax(-1)[..., None]).reshape(x.shape)
    spread = dz[:, :, None, None]
    expect(
        call(attempt, dz.copy(), x.copy()),
        first * spread,
        "the gradient",
        {
            "every tied entry gets the whole gradient, so more flows back than came in; the first "
            "gets it, the others nothing": tied * spread,
            "the tied entries share the gradient (as torch.amax does); the first gets all of "
            "it": tied * spread / tied.sum((2, 3), keepdims=True),
            "the last of the tied entries gets the gradient; the first one should": last * spread,
            "every position gets the gradient; only the one that held the maximum should": (
                np.broadcast_to(spread, x.shape)
            ),
            "every position gets an equal share: that is the mean's gradient": np.broadcast_to(
                spread / 20, x.shape
            ),
            "that is the mask; multiply it by dz": first.astype(float),
        },
    )


@exercise
def parameters(attempt):
    """``attempt(channels, reduction, kernel_size)``: the trainable parameters of one CBAM."""
    cases = [(64, 16, 7), (512, 16, 7), (96, 8, 3), (256, 32, 5)]

    def count(c, r, k, mlps=1, biases=True, norm=2, conv_bias=0, maps=2):
        h = c // r
        return mlps * (2 * c * h + (h + c) * biases) + maps * k * k + conv_bias + norm

    expect(
        [call(attempt, *case) for case in cases],
        [count(*case) for case in cases],
        "the list of counts",
        {
            "the MLP is counted twice; the mean and the maximum share it": [
                count(*case, mlps=2) for case in cases
            ],
            "the MLP's biases are missing: C / r and C": [
                count(*case, biases=False) for case in cases
            ],
            "the batch norm is missing: one map, so one weight and one bias": [
                count(*case, norm=0) for case in cases
            ],
            "the convolution has no bias": [count(*case, conv_bias=1) for case in cases],
            "running_mean and running_var are buffers: nothing trains them": [
                count(*case, norm=4) for case in cases
            ],
            "the convolution reads two maps, the maximum and the mean": [
                count(*case, maps=1) for case in cases
            ],
            "the batch norm and the convolution's second map are missing": [
                count(*case, maps=1, norm=0) for case in cases
            ],
        },
    )


@exercise
def receptive_field(attempt):
    """``attempt(convolutions)``: side of the field of a chain of (kernel, dilation), stride 1."""
    bam = [(1, 1), (3, 4), (3, 4), (1, 1)]
    chains = [bam, [(3, 1), (3, 2), (3, 4)], [(7, 1)], [(5, 3), (3, 1)]]

    def field(chain, step=lambda k, d: d * (k - 1)):
        return 1 + sum(step(k, d) for k, d in chain)

    expect(
        [call(attempt, list(chain)) for chain in chains],
        [field(chain) for chain in chains],
        "the list of receptive fields",
        {
            "the dilation is left out: a kernel spans d (k - 1) + 1 positions": [
                field(chain, lambda k, d: k - 1) for chain in chains
            ],
            "spans do not add: neighbours overlap in one position, so each adds d (k - 1)": [
                sum(d * (k - 1) + 1 for k, d in chain) for chain in chains
            ],
            "a kernel of k taps has k - 1 gaps between them, not k": [
                field(chain, lambda k, d: d * k) for chain in chains
            ],
            "the position itself is missing: add 1 at the end": [
                field(chain) - 1 for chain in chains
            ],
            "spans do not multiply; each layer adds d (k - 1)": [
                int(np.prod([d * (k - 1) + 1 for k, d in chain])) for chain in chains
            ],
        },
    )


@exercise
def fold(attempt):
    """``attempt(conv, bn)``: (weight, bias) of one convolution that is ``bn(conv(x))`` in eval."""
    torch.manual_seed(0)
    spatial = layers.SpatialAttention(5).double().eval()
    bn, conv = spatial.bn, spatial.conv
    with torch.no_grad():
        bn.weight.fill_(1.7), bn.bias.fill_(-0.4)
        bn.running_mean.fill_(0.3), bn.running_var.fill_(0.02)
    got = call(attempt, conv, bn)
    if not isinstance(got, (tuple, list)) or len(got) != 2:
        raise Failed("return two tensors: the weight (1, 2, k, k) and the bias (1,)")
    gamma, beta, mean = bn.weight.detach(), bn.bias.detach(), bn.running_mean
    weight, var = conv.weight.detach(), bn.running_var
    scale = gamma / torch.sqrt(var + bn.eps)
    expect(
        got[0],
        weight * scale,
        "the weight",
        {
            "the weight is divided by the variance; divide by its square root": (
                weight * gamma / (var + bn.eps)
            ),
            "eps is left out: the batch norm divides by sqrt(var + eps)": (
                weight * gamma / torch.sqrt(var)
            ),
            "the batch norm's weight is left out": weight / torch.sqrt(var + bn.eps),
            "that is the convolution's own weight": weight,
        },
    )
    expect(
        got[1],
        beta - scale * mean,
        "the bias",
        {
            "the mean is not scaled: subtract it before the division": beta - mean,
            "the sign of the mean is turned round": beta + scale * mean,
            "the running mean is left out": beta,
            "the batch norm's bias is left out": -scale * mean,
        },
    )


@exercise
def conv_input_gradient(attempt):
    """``attempt(da, weight)``: dp (H, W) for a = conv(p, weight), one map, padded to keep H, W."""
    da, weight = _features(6, 7, seed=5), _features(5, 5, seed=6)

    def correlate(kernel):
        return F.conv2d(da[None, None], kernel[None, None], padding=2)[0, 0].numpy()

    expect(
        call(attempt, da.numpy().copy(), weight.numpy().copy()),
        correlate(weight.flip(0, 1)),
        "the gradient",
        {
            "the kernel is not turned: the tap that looked up from a position is met from below on "
            "the way back; turn it by 180 degrees": correlate(weight),
            "the kernel is transposed; turn it by 180 degrees": correlate(weight.T),
            "only the rows of the kernel are turned": correlate(weight.flip(0)),
            "only the columns of the kernel are turned": correlate(weight.flip(1)),
            "only the middle tap is in it": (weight[2, 2] * da).numpy(),
        },
    )


@exercise
def lse_pool(attempt):
    """``attempt(x, t)``: log(mean(exp(t x))) / t over H and W, (N, C), without overflow."""
    x = _features(2, 3, 4, 5, seed=7)
    wanted = (torch.logsumexp(2.5 * x.flatten(2), 2) - np.log(20)) / 2.5
    expect(
        call(attempt, x, 2.5),
        wanted,
        "the pooled vector",
        {
            "exp is summed, not averaged: the result grows with the size of the map": (
                torch.logsumexp(2.5 * x.flatten(2), 2) / 2.5
            ),
            "the division by t is missing": 2.5 * wanted,
            "t is missing inside the exponential": (torch.logsumexp(x.flatten(2), 2) - np.log(20)),
        },
    )
    with np.errstate(over="ignore"):
        large = call(attempt, 1000 * x, 2.5)
    if not np.isfinite(np.asarray(torch.as_tensor(large))).all():
        raise Failed(
            "it overflows for large x: subtract the maximum before the exponential and add it back "
            "(torch.logsumexp does)"
        )
    expect(
        large,
        (torch.logsumexp(2500 * x.flatten(2), 2) - np.log(20)) / 2.5,
        "the vector for large x",
    )
