"""The mechanisms as PyTorch modules.

Every layer maps (N, C, H, W) to the same shape, dtype, device and memory format, and
``layer.gates(x)`` is a dictionary of what multiplies x.
"""

import inspect

from attn_lib.layers.bam import BAM
from attn_lib.layers.cbam import CBAM, ChannelAttention, SpatialAttention
from attn_lib.layers.coordinate import CoordinateAttention
from attn_lib.layers.eca import EfficientChannelAttention
from attn_lib.layers.gate import Gate
from attn_lib.layers.se import SqueezeExcitation

__all__ = [
    "BAM",
    "CBAM",
    "ChannelAttention",
    "CoordinateAttention",
    "EfficientChannelAttention",
    "Gate",
    "SpatialAttention",
    "SqueezeExcitation",
    "build",
]

_LAYERS = {
    "se": SqueezeExcitation,
    "cbam": CBAM,
    "bam": BAM,
    "eca": EfficientChannelAttention,
    "coordinate": CoordinateAttention,
}


def build(name, channels, **options):
    """The layer called ``name`` for ``channels`` channels.

    Parameters
    ----------
    name : str
        ``"se"``, ``"cbam"``, ``"bam"``, ``"eca"``, ``"coordinate"``.
    channels : int
        C, the channels of the feature map.
    options
        The layer's own, such as ``reduction=8``.

    Raises
    ------
    ValueError
        An unknown name or option; the message lists the known ones.
    """
    if name not in _LAYERS:
        raise ValueError(f"unknown attention {name!r}; known are {', '.join(map(repr, _LAYERS))}")
    layer = _LAYERS[name]
    known = [option for option in inspect.signature(layer).parameters if option != "channels"]
    for option in options:
        if option not in known:
            raise ValueError(
                f"{name!r} has no option {option!r}; its options are {', '.join(known)}"
            )
    return layer(channels, **options)
