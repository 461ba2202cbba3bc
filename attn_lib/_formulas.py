"""Cost of each mechanism's layer by its formula: what :mod:`attn_lib.cost` looks up.

Apart from it, because twenty formulas are long, and whoever reads how a cost is counted needs none.
The equation numbers are those of the chapters; the further mechanisms have none.
"""

import math
import operator
from typing import NamedTuple

import torch
from torch import nn

from attn_lib import layers

__all__ = ["FORMULAS", "LayerCost", "add", "parameters"]


class LayerCost(NamedTuple):
    """What one forward pass of a layer takes, for the whole batch.

    Attributes
    ----------
    parameters : int
        Trainable numbers.
    multiply_adds : int
        Of the linear maps and convolutions, zero padding included; biases are not counted.
    elementwise : int
        Additions, comparisons, multiplications and sigmoids over the full map: its poolings and
        its products; a norm counts as one. What is done on smaller tensors is left out. The
        non-local block's weights, which are the larger tensor, are counted with it.
    moved_bytes : int
        Least traffic with memory where every operation runs by itself, as PyTorch executes
        without a compiler: the full maps that it reads and writes (the non-local block: and its
        weights between positions), and the parameters once. A
        lower bound, as smaller tensors are left out; caches and fusion can go below it.
    saved_bytes : int
        What autograd keeps for the backward pass, in the module's current mode (training or
        evaluation): the input, intermediate tensors and indices of maxima, each storage once,
        parameters and buffers not included. The input is mostly kept by its producer as well.
        Of a training step in eager PyTorch, in single or double precision or on a GPU: where a
        layer takes its plain path instead (:mod:`attn_lib.layers`), it keeps more.
    """

    parameters: int
    multiply_adds: int
    elementwise: int
    moved_bytes: int
    saved_bytes: int

    @property
    def intensity(self):
        """Operations a byte: multiply-adds and element-wise operations over ``moved_bytes``."""
        return (self.multiply_adds + self.elementwise) / self.moved_bytes


def add(a, b):
    """Sum of two costs, number by number."""
    return type(a)(*map(operator.add, a, b))


def parameters(module):
    """How many numbers the parameters of a module are."""
    return sum(parameter.numel() for parameter in module.parameters())


def _cost(module, x, *, multiply_adds, elementwise, passes, saved, index_bytes=0):
    """LayerCost from counts of numbers; ``elementwise`` and ``passes`` in units of the map x."""
    width = next(module.parameters(), torch.empty(0, dtype=torch.float32)).element_size()
    own = parameters(module)
    moved = width * (passes * x + own)
    kept = width * saved + index_bytes
    return LayerCost(own, multiply_adds, elementwise * x, moved, kept)


def _squeeze_excitation(m, n, c, h, w):  # SE-C1, SE-C2, SE-C3
    x, hidden = n * c * h * w, m.fc1.out_features
    return _cost(
        m,
        x,
        multiply_adds=2 * n * c * hidden,
        elementwise=2,  # mean, scale
        passes=3,
        saved=x + 2 * n * c + n * hidden,  # x, z and s, h
    )


def _channel_attention(m, n, c, h, w):  # CBAM-C1, CBAM-C2
    x, hidden = n * c * h * w, m.fc1.out_features
    return _cost(
        m,
        x,
        multiply_adds=4 * n * c * hidden,
        elementwise=3,  # mean, maximum, scale
        passes=4,
        saved=x + 3 * n * c + 2 * n * hidden,  # x, two statistics and s, h twice
        index_bytes=8 * n * c,  # where the maxima were
    )


def _spatial_attention(m, n, c, h, w):  # CBAM-C1, CBAM-C2
    x, places = n * c * h * w, n * h * w
    return _cost(
        m,
        x,
        multiply_adds=2 * m.kernel_size**2 * places,
        elementwise=3,  # maximum, mean, scale
        passes=4,
        saved=x + 4 * places + _statistics(m.bn),  # x, two statistics, convolution, gate
        index_bytes=4 * places,
    )


def _cbam(m, *shape):
    channel, spatial = _channel_attention(m.channel, *shape), _spatial_attention(m.spatial, *shape)
    again = next(m.parameters()).element_size() * math.prod(shape)
    both = add(channel, spatial)  # the map between the halves is made again, not kept
    return both._replace(saved_bytes=both.saved_bytes - again)


def _bam(m, n, c, h, w):  # BAM-C1, BAM-C2, BAM-C3
    x, places, hidden = n * c * h * w, n * h * w, m.channel.fc1.out_features
    narrow = 2 * n * hidden + 6 * places * hidden  # before and after every ReLU
    norms = (m.channel.bn1, m.spatial.bn1, m.spatial.bn2, m.spatial.bn3)
    return _cost(
        m,
        x,
        multiply_adds=2 * n * c * hidden + places * (c * hidden + 18 * hidden**2 + hidden),
        elementwise=5,  # mean, combination, sigmoid, 1 +, scale
        passes=10,  # mean 1, first convolution 1, combination 1, sigmoid 2, 1 + 2, scale 3
        # x, the two branches, the means; the gate of the map's size is made again
        saved=x + places + 2 * n * c + narrow + sum(map(_statistics, norms)),
    )


def _efficient_channel_attention(m, n, c, h, w):  # ECA-C2
    x = n * c * h * w
    return _cost(
        m,
        x,
        multiply_adds=m.kernel_size * n * c,
        elementwise=2,  # mean, scale
        passes=3,
        saved=x + 2 * n * c,  # x, z and s
    )


def _coordinate_attention(m, n, c, h, w):  # CA-C1, CA-C2, CA-C3
    x, hidden = n * c * h * w, m.conv1.out_channels
    axes = 2 if m.axes == "both" else 1
    strip = n * {"both": h + w, "height": h, "width": w}[m.axes]
    return _cost(
        m,
        x,
        multiply_adds=2 * c * hidden * strip,
        elementwise=2 * axes,  # as many means as products
        passes=3 * axes,
        # x; means and gates or their logits; the bottleneck around norm and h-swish
        saved=x + 2 * c * strip + 3 * hidden * strip + _statistics(m.bn1),
    )


def _efficient_local_attention(m, n, c, h, w):
    x, strips = n * c * h * w, n * c * (h + w)
    return _cost(
        m,
        x,
        multiply_adds=m.kernel_size * m.width * strips,
        elementwise=4,  # two means, two products
        passes=6,
        # x; means, convolutions and logits; mean and deviation of each group, for both strips
        saved=x + 3 * strips + 4 * n * m.gn.num_groups,
    )


def _efficient_multi_scale_attention(m, n, c, h, w):
    x, width = n * c * h * w, c // m.groups
    return _cost(
        m,
        x,
        multiply_adds=n * c * width * (h + w) + 9 * x * width + 2 * x,
        elementwise=8,  # four means, three products, norm
        passes=16,  # means 4, products 6, norm 2, convolution 2, weighted sums 2
        # x, between the products, before and after the norm, second branch; the gate; strips
        saved=5 * x + x // width + 2 * n * c * (h + w) + 4 * n * c,
    )


def _effective_squeeze_excitation(m, n, c, h, w):
    x = n * c * h * w
    return _cost(
        m,
        x,
        multiply_adds=n * c**2,
        elementwise=2,  # mean, scale
        passes=3,
        saved=x + (3 if m.gate == "hard" else 2) * n * c,  # x, z and s; what relu6 is given
    )


def _frequency_channel_attention(m, n, c, h, w):
    x, hidden = n * c * h * w, m.fc1.out_features
    whole = (h, w) == (m.height, m.width)  # else the feature map is pooled first
    return _cost(
        m,
        x,
        multiply_adds=2 * n * c * hidden,
        elementwise=3 if whole else 2,  # product with the cosines and sum, or pooling; scale
        passes=5 if whole else 3,
        saved=x + 2 * n * c + n * hidden,  # x, z and s, h; the cosines are a buffer
    )


def _gated_channel_transformation(m, n, c, h, w):
    x = n * c * h * w
    small = 8 * n * c + 4 * n if m.norm == "l2" else 5 * n * c + 2 * n
    return _cost(
        m,
        x,
        multiply_adds=0,
        elementwise=3,  # squares or absolute values, their sum, scale
        passes=3,
        saved=x + small,  # x; norms, their quotients and the tanh
    )


def _gather_excite(m, n, c, h, w):
    x, extent, rows, columns = n * c * h * w, m.extent, h, w
    additions = multiply_adds = small = 0

    def smaller(length, step):
        return -(-length // step) if extent else 1

    if m.gather is None:
        additions = n * c * _in_windows(h, extent) * _in_windows(w, extent)
        rows, columns = smaller(h, extent), smaller(w, extent)
    for part in m.gather or ():
        if isinstance(part, nn.Conv2d):
            rows, columns = smaller(rows, 2), smaller(columns, 2)
            multiply_adds += part.weight[0].numel() * n * c * rows * columns
            continue
        small += n * c * rows * columns  # before a norm, after a ReLU
        if isinstance(part, nn.BatchNorm2d):
            small += _statistics(part)
    if m.mlp is not None:
        hidden = m.mlp.fc1.out_channels
        multiply_adds += 2 * n * rows * columns * c * hidden
        small += n * rows * columns * (c + hidden)
    spread = extent > 0  # the gates are, to the size of x
    cost = _cost(
        m,
        x,
        multiply_adds=multiply_adds,
        elementwise=1,  # scale
        passes=5 if spread else 3,  # gathering 1, spreading 1, scale 3 or 2
        saved=x * (1 + spread) + small + n * c * rows * columns,  # x, gates; the network's; gates
    )
    return cost._replace(elementwise=cost.elementwise + additions)


def _in_windows(length, extent):
    """Entries in all windows of a mean along one axis; entries where they overlap count again."""
    starts = range(0, length, extent or length)
    reach = extent or length
    return sum(min(length, i + reach) - max(0, i - reach + 1) for i in starts)


def _global_context(m, n, c, h, w):
    x, places, hidden = n * c * h * w, n * h * w, max(1, c // m.reduction)
    weighs, adds, multiplies = m.mask is not None, m.add is not None, m.multiply is not None
    branches = adds + multiplies
    return _cost(
        m,
        x,
        multiply_adds=2 * x * weighs + 2 * n * c * hidden * branches,
        elementwise=branches + (not weighs),  # product, sum; mean
        passes=2 * branches + 1 + weighs,
        # x, where it is weighed or multiplied; the weights; z; around norm and ReLU; the gate
        saved=x * (weighs or multiplies)
        + places * weighs
        + n * c
        + branches * 2 * n * (hidden + 1)
        + n * c * multiplies,
    )


def _concurrent_squeeze_excitation(m, n, c, h, w):
    x, places, hidden = n * c * h * w, n * h * w, m.fc1.out_features
    adds = m.combine == "add"
    return _cost(
        m,
        x,
        multiply_adds=2 * n * c * hidden + places * c,
        # mean, sum of the gates, scale; "max": six more to choose the larger
        elementwise=3 if adds else 9,
        passes=6 if adds else 19,
        # x, and the gate with what it was made from; z, s and h; m
        saved=x * (2 if adds else 5) + 2 * n * c + n * hidden + places,
    )


def _non_local(m, n, c, h, w):
    x, places, hidden = n * c * h * w, h * w, m.g.out_channels
    halved = max(1, h // 2) * max(1, w // 2) if m.subsample else places
    weights, embedded, norm = n * places * halved, m.theta is not None, m.bn is not None
    inner = hidden if embedded else c  # channels of theta and phi
    narrow = n * hidden * places
    before, after, indices = 0, n * hidden * halved, 0  # g and phi, around the pooling
    if embedded or m.subsample:
        after += n * inner * halved
    if m.subsample:
        before, indices = narrow * (1 + embedded), n * (hidden + inner) * halved
    cost = _cost(
        m,
        x,
        multiply_adds=narrow * c * (4 if embedded else 2) + weights * (inner + hidden),
        elementwise=1 + norm + (m.subsample and not embedded),  # sum, norm, maxima
        passes=7 + 2 * norm,  # convolutions or x itself 4, norm 2, sum 3
        # x; g, theta and phi; A; its product with g; before the norm
        saved=x * (1 + norm)
        + narrow * (1 + embedded)
        + before
        + after
        + weights
        + (_statistics(m.bn) if norm else 0),
        index_bytes=8 * indices,
    )
    width = next(m.parameters()).element_size()
    return cost._replace(  # A is written, normalised (read and written) and read
        elementwise=cost.elementwise + weights,
        moved_bytes=cost.moved_bytes + 4 * width * weights,
    )


def _selective_kernel(m, n, c, h, w):
    x, hidden, branches = n * c * h * w, m.fc1.out_features, m.branches
    norms = [m.bn1, *(path.bn for path in m.paths)]
    return _cost(
        m,
        x,
        multiply_adds=9 * branches * x * (c // m.groups) + (1 + branches) * n * c * hidden,
        elementwise=5 * branches - 1,  # norm, ReLU and product of each; two sums; mean
        passes=14 * branches - 5,  # 8 of each, the sums 6 (branches - 1), the mean 1
        # x, each branch before its norm and after its ReLU; z; the bottleneck; the weights
        saved=x * (1 + 2 * branches)
        + n * c * (1 + branches)
        + 2 * n * hidden
        + sum(map(_statistics, norms)),
    )


def _simam(m, n, c, h, w):
    x = n * c * h * w
    return _cost(
        m,
        x,
        multiply_adds=0,
        elementwise=8,  # mean, difference, square, sum, quotient, 1/2 +, sigmoid, product
        passes=15,
        saved=4 * x + n * c,  # x, difference, square, gate; what the square is divided by
    )


def _style_recalibration(m, n, c, h, w):
    x = n * c * h * w
    return _cost(
        m,
        x,
        multiply_adds=0,
        elementwise=3,  # mean, variance, scale
        passes=3,
        # x; mean, deviation, before the norm, gate
        saved=x + 4 * n * c + _statistics(m.bn),
    )


def _triplet_attention(m, n, c, h, w):
    x = n * c * h * w
    places = [n * c * w, n * h * c] + ([n * h * w] if m.hw is not None else [])
    branches = len(places)
    norms = [m.cw.bn, m.hc.bn] + ([m.hw.bn] if m.hw is not None else [])
    return _cost(
        m,
        x,
        multiply_adds=2 * m.kernel_size**2 * sum(places),
        elementwise=3 * branches,  # maximum and mean of each, their sums, product
        passes=2 * branches + 1 + 2 * (branches - 2) + 3,
        # x and the gate; of each branch two planes, convolution, gate
        saved=2 * x + 4 * sum(places) + sum(map(_statistics, norms)),
        index_bytes=8 * sum(places),  # where the maxima were
    )


FORMULAS = {
    layers.SqueezeExcitation: _squeeze_excitation,
    layers.ChannelAttention: _channel_attention,
    layers.SpatialAttention: _spatial_attention,
    layers.CBAM: _cbam,
    layers.BAM: _bam,
    layers.EfficientChannelAttention: _efficient_channel_attention,
    layers.CoordinateAttention: _coordinate_attention,
    layers.EfficientLocalAttention: _efficient_local_attention,
    layers.EfficientMultiScaleAttention: _efficient_multi_scale_attention,
    layers.EffectiveSqueezeExcitation: _effective_squeeze_excitation,
    layers.FrequencyChannelAttention: _frequency_channel_attention,
    layers.GatherExcite: _gather_excite,
    layers.GlobalContext: _global_context,
    layers.GatedChannelTransformation: _gated_channel_transformation,
    layers.NonLocal: _non_local,
    layers.ConcurrentSqueezeExcitation: _concurrent_squeeze_excitation,
    layers.SelectiveKernel: _selective_kernel,
    layers.SimAM: _simam,
    layers.StyleRecalibration: _style_recalibration,
    layers.TripletAttention: _triplet_attention,
}


def _statistics(norm):
    """Numbers that a batch norm keeps: mean and deviation of each channel, in training."""
    return 2 * norm.num_features if norm.training else 0
