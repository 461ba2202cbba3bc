"""The mechanisms as PyTorch modules.

Every layer maps (N, C, H, W) to the same shape, dtype, device and memory format, and
``layer.gates(x)`` is a dictionary of what multiplies x. Layers that add to x or replace it have no
gates (:class:`NonLocal`, :class:`SelectiveKernel`, :class:`GlobalContext` where it adds).
"""

import inspect

from attn_lib.layers.bam import BAM
from attn_lib.layers.cbam import CBAM, ChannelAttention, SpatialAttention
from attn_lib.layers.coordinate import CoordinateAttention
from attn_lib.layers.eca import EfficientChannelAttention
from attn_lib.layers.ela import EfficientLocalAttention
from attn_lib.layers.ema import EfficientMultiScaleAttention
from attn_lib.layers.ese import EffectiveSqueezeExcitation
from attn_lib.layers.fca import FrequencyChannelAttention
from attn_lib.layers.gate import Gate
from attn_lib.layers.gather_excite import GatherExcite
from attn_lib.layers.gct import GatedChannelTransformation
from attn_lib.layers.global_context import GlobalContext
from attn_lib.layers.non_local import NonLocal
from attn_lib.layers.scse import ConcurrentSqueezeExcitation
from attn_lib.layers.se import SqueezeExcitation
from attn_lib.layers.simam import SimAM
from attn_lib.layers.sk import SelectiveKernel
from attn_lib.layers.srm import StyleRecalibration
from attn_lib.layers.triplet import TripletAttention

__all__ = [
    "BAM",
    "CBAM",
    "ChannelAttention",
    "ConcurrentSqueezeExcitation",
    "CoordinateAttention",
    "EffectiveSqueezeExcitation",
    "EfficientChannelAttention",
    "EfficientLocalAttention",
    "EfficientMultiScaleAttention",
    "FrequencyChannelAttention",
    "Gate",
    "GatedChannelTransformation",
    "GatherExcite",
    "GlobalContext",
    "NonLocal",
    "SelectiveKernel",
    "SimAM",
    "SpatialAttention",
    "SqueezeExcitation",
    "StyleRecalibration",
    "NAMES",
    "TripletAttention",
    "build",
]

_LAYERS = {
    "se": SqueezeExcitation,
    "cbam": CBAM,
    "bam": BAM,
    "eca": EfficientChannelAttention,
    "coordinate": CoordinateAttention,
    "ela": EfficientLocalAttention,
    "ema": EfficientMultiScaleAttention,
    "ese": EffectiveSqueezeExcitation,
    "fca": FrequencyChannelAttention,
    "gather_excite": GatherExcite,
    "gc": GlobalContext,
    "gct": GatedChannelTransformation,
    "nonlocal": NonLocal,
    "scse": ConcurrentSqueezeExcitation,
    "simam": SimAM,
    "sk": SelectiveKernel,
    "srm": StyleRecalibration,
    "triplet": TripletAttention,
}


#: Names that :func:`build` knows.
NAMES = tuple(_LAYERS)


def build(name, channels, **options):
    """The layer called ``name`` for ``channels`` channels.

    Parameters
    ----------
    name : str
        ``"se"``, ``"cbam"``, ``"bam"``, ``"eca"``, ``"coordinate"``, ``"ela"``, ``"ema"``,
        ``"ese"``, ``"fca"``, ``"gather_excite"``, ``"gc"``, ``"gct"``, ``"nonlocal"``,
        ``"scse"``, ``"simam"``, ``"sk"``, ``"srm"``, ``"triplet"``.
    channels : int
        C, the channels of the feature map.
    options
        The layer's own, such as ``reduction=8``.

    Raises
    ------
    ValueError
        An unknown name or option; the message lists the known ones.

    Examples
    --------
    >>> import torch
    >>> from attn_lib import layers
    >>> layer = layers.build("se", 64, reduction=8)
    >>> layer
    SqueezeExcitation(
      channels=64, reduction=8
      (fc1): Linear(in_features=64, out_features=8, bias=True)
      (fc2): Linear(in_features=8, out_features=64, bias=True)
    )
    >>> x = torch.randn(2, 64, 7, 7)
    >>> torch.equal(layer(x), x * layer.gates(x)["channel"])
    True
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
