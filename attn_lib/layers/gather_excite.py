"""Gather-excite (Hu et al., arXiv 1810.12348)."""

from collections import OrderedDict

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib.layers import _fast
from attn_lib.layers._base import Attention, positive_int

__all__ = ["GatherExcite"]


class GatherExcite(Attention):
    """Scale every value by a gate computed from its own neighbourhood in its own channel.

    y = x sigmoid(upsample(gather(x))). The gathering makes the feature map ``extent`` times
    smaller; the gates are brought back to its size by repetition. The paper's three forms are
    theta-minus, the default, where gathering is a mean; theta, ``parameters=True``; theta-plus,
    ``parameters=True, mlp=True``.

    Without parameters, gathering is the mean over the 2 e - 1 rows and columns around every e-th
    pixel, for the extent e, over all positions for extent 0; what lies outside of the feature map
    does not count (timm's choice: the authors published models of global extent alone). With
    parameters, it is log2(e) times a 3x3 depthwise convolution of stride 2 with a batch norm and,
    but after the last, a ReLU; for extent 0 it is one depthwise convolution of the feature map's
    whole size with a batch norm, as in the authors' prototxt files (hujie-frank/GENet).

    Parameters
    ----------
    channels : int
        C, the channels of the input.
    extent : int
        e, a power of two, or 0 for the whole feature map.
    parameters : bool
        Whether gathering is learned.
    mlp : bool
        Whether two 1x1 convolutions with max(1, C // r) channels between them follow.
    reduction : int
        r, of these convolutions.
    size : int or (int, int), optional
        H and W, needed for ``extent=0, parameters=True`` alone; one number where they are equal.
        The layer then takes this size alone.
    relu : bool
        Whether a ReLU stands between gathering with parameters and the 1x1 convolutions. The
        authors' theta-plus model has it, timm's ``GatherExcite`` has not.

    Raises
    ------
    ValueError
        channels, reduction or size below 1; an extent that is neither 0 nor a power of two of at
        least 2; a size missing; an input that is not (N, C, H, W) with H, W >= 1, or of another
        size than ``size``.
    TypeError
        An option that is not an integer; an input that is not floating-point.

    Notes
    -----
    torch.export asks that sizes which it shall leave open be larger than the extent, as the
    gathered feature map then has at least two rows and columns: ``Dim("h", min=extent + 1)``.
    """

    def __init__(
        self,
        channels,
        extent=0,
        parameters=False,
        mlp=False,
        reduction=16,
        size=None,
        relu=True,
    ):
        super().__init__()
        self.channels = positive_int("channels", channels)
        self.reduction = positive_int("reduction", reduction)
        self.extent = 0 if extent == 0 else positive_int("extent, unless it is 0,", extent)
        if self.extent == 1 or self.extent & (self.extent - 1):
            raise ValueError(f"extent must be 0 or a power of two of at least 2; got {extent}")
        self.size = None
        if parameters and self.extent == 0:
            self.size = _size(size)
        self.relu = relu
        self.gather = self._gathering() if parameters else None
        self.mlp = None
        if mlp:
            hidden = max(1, self.channels // self.reduction)
            self.mlp = nn.Sequential(
                OrderedDict(
                    fc1=nn.Conv2d(self.channels, hidden, 1),
                    relu=nn.ReLU(),
                    fc2=nn.Conv2d(hidden, self.channels, 1),
                )
            )

    def _gathering(self):
        def conv(kernel_size, **where):
            c = self.channels
            return nn.Conv2d(c, c, kernel_size, groups=c, bias=False, **where)

        layers = OrderedDict()
        if self.extent == 0:
            layers["conv1"] = conv(self.size)
            layers["norm1"] = nn.BatchNorm2d(self.channels)
        steps = self.extent.bit_length() - 1  # log2
        for i in range(1, steps + 1):
            layers[f"conv{i}"] = conv(3, stride=2, padding=1)
            layers[f"norm{i}"] = nn.BatchNorm2d(self.channels)
            if i < steps:
                layers[f"relu{i}"] = nn.ReLU()
        return nn.Sequential(layers)

    def gates(self, x):
        """``{"joint": s}``, (N, C, H, W) in (0, 1), for x (N, C, H, W).

        For extent 0 it is ``{"channel": s}``, (N, C, 1, 1).
        """
        self._check(x)
        z = self._gathered(x)
        if self.mlp is not None:
            z = self.mlp(z)
        s = torch.sigmoid(z).to(x.dtype)
        if self.extent == 0:
            return {"channel": s}
        return {"joint": F.interpolate(s, size=x.shape[2:])}

    def _gathered(self, x):
        if self.gather is not None:
            z = self.gather(x)
            return torch.relu(z) if self.relu and self.mlp is not None else z
        if self.extent == 0:
            return _fast.mean(x, (2, 3))
        e = self.extent
        return F.avg_pool2d(x, 2 * e - 1, e, e - 1, count_include_pad=False)

    def _check(self, x):
        super()._check(x)
        if self.size is not None and _fast.eager(x) and x.shape[2:] != self.size:
            raise ValueError(
                f"GatherExcite gathers from feature maps of size {self.size}; "
                f"got shape {tuple(x.shape)}"
            )

    def extra_repr(self):
        return f"channels={self.channels}, extent={self.extent}, reduction={self.reduction}"


def _size(size):
    if size is None:
        raise ValueError("size, H and W of the feature map, is needed for extent=0 with parameters")
    h, w = size if isinstance(size, tuple | list) and len(size) == 2 else (size, size)
    return positive_int("size", h), positive_int("size", w)
