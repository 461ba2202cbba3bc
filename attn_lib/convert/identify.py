"""identify: which published layers a state dict can come from."""

import re
from typing import NamedTuple

from attn_lib.convert.official import weights_in


class Variant(NamedTuple):
    """One answer of :func:`identify`.

    Attributes
    ----------
    family : str
        The mechanism, such as ``"cbam"``.
    variant : str
        Whose names they are, in a few words.
    repository : str
        Where a layer with these names and shapes is published; several share some.
    known : dict
        What the shapes say: ``channels``, ``hidden``, ``reduction``, ``kernel_size``, ``groups``,
        ``bias``, … One value, or a sorted tuple where layers differ.
    open : tuple of str
        What names and shapes do not say, although the outputs depend on it.
    places : tuple of str
        The layers' prefixes in the state dict; ``""`` for a single layer.
    """

    family: str
    variant: str
    repository: str
    known: dict
    open: tuple
    places: tuple


def identify(state_dict):
    """Which known attention layers ``state_dict`` can hold, by its names and shapes.

    Parameters
    ----------
    state_dict : dict of str to torch.Tensor
        Of a layer or of a whole model; as for :func:`from_official`, with or without the prefixes
        ``module.`` and ``_orig_mod.``, or as the one state dict inside a checkpoint.

    Returns
    -------
    list of Variant
        One record for each way to read it. Two records with the same ``places`` are alternatives.
        Empty where nothing is known by these names. A layer without parameters (SimAM,
        Gather-Excite's pooling) leaves no trace in a state dict.

    Raises
    ------
    TypeError
        ``state_dict`` is not a dictionary, or a value in it is not a tensor.
    ValueError
        It is empty, or a checkpoint with several state dicts.

    Examples
    --------
    >>> from attn_lib import convert, layers
    >>> for variant in convert.identify(layers.CBAM(64).state_dict()):
    ...     print(variant.family, variant.repository, variant.known)
    cbam attn_lib {'channels': 64, 'hidden': 4, 'kernel_size': 7, 'reduction': 16, 'bias': True}
    """
    shapes = {}
    for key, tensor in weights_in(state_dict).items():
        shapes[re.sub(r"^((module|_orig_mod)\.)+", "", key)] = tuple(tensor.shape)
    found = [match for layer in _LAYERS for match in _matches(layer, shapes)]
    # a half is no answer where the whole is one: SE's two maps inside CBAM
    found = [one for one in found if not any(one[2] < other[2] for other in found)]
    grouped = {}
    for layer, place, _, known in found:
        grouped.setdefault(id(layer), (layer, []))[1].append((place, known))
    return [
        Variant(
            layer.family,
            layer.variant,
            layer.repository,
            _together([known for _, known in places]),
            _OPEN[layer.family] + layer.open,
            tuple(place.removesuffix(".") for place, _ in places),
        )
        for layer, places in grouped.values()
    ]


def _matches(layer, shapes):
    """(layer, prefix, the names that it explains, what their shapes say) for each fit."""
    first = next(iter(layer.tensors))
    for name in shapes:
        if name != first and not name.endswith(f".{first}"):
            continue
        prefix = name.removesuffix(first)
        inside = {key[len(prefix) :]: key for key in shapes if key.startswith(prefix)}
        if layer.beside:  # among the block's own modules
            tops = {tensor.partition(".")[0] for tensor in layer.tensors}
            inside = {key: full for key, full in inside.items() if key.partition(".")[0] in tops}
            if f"{prefix}{layer.beside}" not in shapes:
                continue
        sizes = {}
        if (
            layer.tensors.keys() <= inside.keys() <= layer.tensors.keys() | layer.optional.keys()
            and all(
                _fits(shapes[full], (layer.tensors | layer.optional)[key], sizes)
                for key, full in inside.items()
            )
            and sizes.get("M", 0) <= sizes.get("C", float("inf"))  # the MLP of a ViT widens
        ):
            yield layer, prefix, set(inside.values()), _known(layer, sizes, inside)


def _fits(shape, wanted, sizes):
    """Whether ``shape`` is like ``"M C 1 1"``; a letter's size is kept in ``sizes``."""
    wanted = wanted.split()
    return len(shape) == len(wanted) and all(
        size == (int(letter) if letter.isdigit() else sizes.setdefault(letter, size))
        for size, letter in zip(shape, wanted, strict=True)
    )


_WORDS = {"C": "channels", "M": "hidden", "K": "kernel_size", "G": "groups", "W": "width"}
_WORDS |= {"H": "height", "B": "channels of a group"}


def _known(layer, sizes, inside):
    known = {word: sizes[letter] for letter, word in _WORDS.items() if letter in sizes}
    if sizes.get("M") and "C" in sizes and layer.family != "coordinate":  # at least 8 there
        reduction = sizes["C"] // sizes["M"]
        if sizes["C"] // reduction == sizes["M"]:
            known["reduction"] = reduction
    if layer.bias:
        known["bias"] = layer.bias in inside
    return known | {word: name in inside for word, name in layer.says.items()}


def _together(all_known):
    """One value for an option, or a tuple of those that there are."""
    values = {}
    for known in all_known:
        for name, value in known.items():
            values.setdefault(name, set()).add(value)
    return {k: v.pop() if len(v) == 1 else tuple(sorted(v)) for k, v in values.items()}


# ---- what is known


class _Layer(NamedTuple):
    family: str
    variant: str
    repository: str
    tensors: dict  # name -> shape, letters for sizes; all of these are there
    optional: dict = {}  # some of these may be
    bias: str = ""  # the name whose presence says that there are biases
    says: dict = {}  # what else the presence of a name says
    open: tuple = ()
    beside: str = ""  # a name of the block, whose own modules these lie among


def _norm(*names, size):
    """The parameters of batch norms, and what may be missing: the count of batches."""
    statistics = ("weight", "bias", "running_mean", "running_var")
    return {f"{name}.{s}": size for name in names for s in statistics}


def _count(*names):
    return {f"{name}.num_batches_tracked": "" for name in names}


def _two(first, second, conv=False, bias=False):
    """Two linear maps, C to M and back; or as 1x1 convolutions."""
    ones = " 1 1" if conv else ""
    made = {f"{first}.weight": "M C" + ones, f"{second}.weight": "C M" + ones}
    return made | ({f"{first}.bias": "M", f"{second}.bias": "C"} if bias else {})


def _biases(first, second):
    return {f"{first}.bias": "M", f"{second}.bias": "C"}


_GATE = "sigmoid or hard sigmoid"
_ORDER = "maximum or mean first in the spatial convolution"
_OPEN = {
    "se": (_GATE, "ReLU or another function in the bottleneck", "mean alone, or with the maximum"),
    "cbam": ("whether the input is added",),
    "bam": ("product or sum of the branches", "dilation"),
    "eca": (_GATE, "padding with zeros or circular", "number of channels"),
    "coordinate": ("sigmoid, hard sigmoid or no function", "h-swish or another function"),
    "scse": ("sum or maximum of the two products",),
    "gather_excite": ("how the gathered features are enlarged", "ReLU before the MLP"),
    "sk": ("dilations of the paths", "whether the input's channels are split over the paths"),
    "gc": ("epsilon of the layer norm",),
    "srm": ("divisor of the variance, HW or HW - 1",),
    "gct": ("l2 or l1 norm", "epsilon"),
    "fca": ("which frequencies, if the buffer is not compared",),
    "triplet": ("maximum first or mean first", "which view each name means"),
    "ela": ("number of groups of the norm", "function before the sigmoid"),
    "ema": ("number of channels, a multiple of the groups",),
    "ese": ("sigmoid or hard sigmoid",),
    "sge": ("number of channels",),
    "nonlocal": ("scale and softmax of the products",),
}


def _basic(*names, bias=False):
    """Convolutions with batch norm, as CBAM and triplet attention have them."""
    made = {f"{name}.conv.weight": "1 2 K K" for name in names}
    if bias:
        made |= {f"{name}.conv.bias": "1" for name in names}
    return made | _norm(*[f"{name}.bn" for name in names], size="1")


def _bam(channel, channel_bn, final, convs, norms):
    made = _two(channel, final, bias=True) | _norm(channel_bn, size="M")
    made |= {f"{convs[0]}.weight": "M C 1 1", f"{convs[-1]}.weight": "1 M 1 1"}
    made |= {f"{conv}.weight": "M M 3 3" for conv in convs[1:-1]}
    made |= {f"{conv}.bias": "M" for conv in convs[:-1]} | {f"{convs[-1]}.bias": "1"}
    return made | _norm(*norms, size="M"), _count(channel_bn, *norms)


_OFFICIAL_BAM = _bam(
    "channel_att.gate_c.gate_c_fc_0",
    "channel_att.gate_c.gate_c_bn_1",
    "channel_att.gate_c.gate_c_fc_final",
    [f"spatial_att.gate_s.gate_s_conv_{n}" for n in ("reduce0", "di_0", "di_1", "final")],
    [f"spatial_att.gate_s.gate_s_bn_{n}" for n in ("reduce0", "di_0", "di_1")],
)
_OUR_BAM = _bam(
    "channel.fc1",
    "channel.bn1",
    "channel.fc2",
    [f"spatial.conv{i}" for i in (1, 2, 3, 4)],
    [f"spatial.bn{i}" for i in (1, 2, 3)],
)
_COORDINATE = {"conv1.weight": "M C 1 1"} | _norm("bn1", size="M")
_HEADS = {"conv_h.weight": "C M 1 1", "conv_w.weight": "C M 1 1"}
_HEAD_BIASES = {"conv1.bias": "M", "conv_h.bias": "C", "conv_w.bias": "C"}
_CONTEXT = {"0.weight": "M C 1 1", "0.bias": "M", "1.weight": "M 1 1", "1.bias": "M 1 1"}
_CONTEXT |= {"3.weight": "C M 1 1", "3.bias": "C"}
_TIMM_MLP = {"fc1.weight": "M C 1 1", "fc1.bias": "M", "norm.weight": "M", "norm.bias": "M"}
_TIMM_MLP |= {"fc2.weight": "C M 1 1", "fc2.bias": "C"}
_OUR_MLP = {"fc1.weight": "M C", "fc1.bias": "M", "norm.weight": "M", "norm.bias": "M"}
_OUR_MLP |= {"fc2.weight": "C M", "fc2.bias": "C"}
_OUR_NONLOCAL = {"g.weight": "M C 1 1", "g.bias": "M", "out.weight": "C M 1 1", "out.bias": "C"}
_NONLOCAL = {"g.weight": "M C 1 1", "g.bias": "M", "W.0.weight": "C M 1 1", "W.0.bias": "C"}
_PAIR = {f"{n}.weight": "M C 1 1" for n in ("theta", "phi")}
_PAIR |= {f"{n}.bias": "M" for n in ("theta", "phi")}


def _under(prefix, tensors):
    return {f"{prefix}.{name}": shape for name, shape in tensors.items()}


def _subsampled(tensors):
    """g and phi, which are followed by a pooling, as ``g.0`` and ``phi.0``."""
    return {re.sub(r"^(g|phi)\.", r"\1.0.", name): shape for name, shape in tensors.items()}


_LAYERS = [
    _Layer(
        "se",
        "fc1 and fc2, 1x1 convolutions",
        "huggingface/pytorch-image-models (SEModule); Cadene/pretrained-models.pytorch; "
        "pytorch/vision (MobileNetV3, EfficientNet)",
        _two("fc1", "fc2", conv=True),
        _biases("fc1", "fc2") | _norm("bn", size="M") | _count("bn"),
        bias="fc1.bias",
    ),
    _Layer(
        "se",
        "conv_reduce and conv_expand",
        "huggingface/pytorch-image-models (MobileNetV3, EfficientNet)",
        _two("conv_reduce", "conv_expand", conv=True, bias=True),
        bias="conv_reduce.bias",
    ),
    _Layer(
        "se",
        "_se_reduce and _se_expand among a block's convolutions",
        "lukemelas/EfficientNet-PyTorch",
        _two("_se_reduce", "_se_expand", conv=True, bias=True),
        bias="_se_reduce.bias",
        beside="_depthwise_conv.weight",
    ),
    _Layer(
        "se",
        "fc1 and fc2, linear",
        "attn_lib; ai-med/squeeze_and_excitation",
        _two("fc1", "fc2"),
        _biases("fc1", "fc2"),
        bias="fc1.bias",
        open=(
            "mean alone, or mean and maximum with the same two maps (attn_lib's ChannelAttention)",
        ),
    ),
    _Layer(
        "se",
        "fc.0 and fc.2, linear",
        "moskomule/senet.pytorch; xmu-xiaoma666/External-Attention-pytorch; "
        "changzy00/pytorch-attention; pprp/awesome-attention-mechanism-in-cv",
        _two("fc.0", "fc.2"),
        _biases("fc.0", "fc.2"),
        bias="fc.0.bias",
    ),
    _Layer(
        "se",
        "fc1 and fc2 beside a block's convolutions",
        "miraclewkf/SENet-PyTorch",
        _two("fc1", "fc2", bias=True),
        bias="fc1.bias",
        beside="conv1.weight",
    ),
    _Layer(
        "se",
        "fc1 and fc2 beside a block's convolutions, 1x1 convolutions",
        "pprp/awesome-attention-mechanism-in-cv",
        _two("fc1", "fc2", conv=True, bias=True),
        bias="fc1.bias",
        beside="conv1.weight",
    ),
    _Layer(
        "cbam",
        "official",
        "Jongchan/attention-module",
        _two("ChannelGate.mlp.1", "ChannelGate.mlp.3", bias=True) | _basic("SpatialGate.spatial"),
        _count("SpatialGate.spatial.bn"),
        bias="ChannelGate.mlp.1.bias",
        open=(_ORDER, "which poolings (pool_types)"),
    ),
    _Layer(
        "cbam",
        "official, channel half alone (no_spatial=True)",
        "Jongchan/attention-module",
        _two("ChannelGate.mlp.1", "ChannelGate.mlp.3", bias=True),
        bias="ChannelGate.mlp.1.bias",
        open=("which poolings (pool_types)",),
    ),
    _Layer(
        "cbam",
        "CbamModule",
        "huggingface/pytorch-image-models",
        _two("channel.fc1", "channel.fc2", conv=True) | _basic("spatial.conv"),
        _biases("channel.fc1", "channel.fc2") | _count("spatial.conv.bn"),
        bias="channel.fc1.bias",
        open=(_ORDER, _GATE),
    ),
    _Layer(
        "cbam",
        "LightCbamModule: half mean, half maximum",
        "huggingface/pytorch-image-models",
        _two("channel.fc1", "channel.fc2", conv=True)
        | _basic("spatial.conv")
        | {"spatial.conv.conv.weight": "1 1 K K"},
        _biases("channel.fc1", "channel.fc2") | _count("spatial.conv.bn"),
        bias="channel.fc1.bias",
    ),
    _Layer(
        "cbam",
        "attn_lib",
        "attn_lib",
        _two("channel.fc1", "channel.fc2", bias=True)
        | {"spatial.conv.weight": "1 2 K K"}
        | _norm("spatial.bn", size="1"),
        _count("spatial.bn"),
        bias="channel.fc1.bias",
        open=(_ORDER,),
    ),
    _Layer(
        "cbam",
        "without batch norm, convolution with bias",
        "xmu-xiaoma666/External-Attention-pytorch",
        _two("ca.se.0", "ca.se.2", conv=True) | {"sa.conv.weight": "1 2 K K", "sa.conv.bias": "1"},
        open=(_ORDER,),
    ),
    _Layer(
        "cbam",
        "without batch norm and biases",
        "changzy00/pytorch-attention",
        _two("ca.fc.0", "ca.fc.2", conv=True) | {"sa.conv.weight": "1 2 K K"},
        open=(_ORDER,),
    ),
    _Layer(
        "cbam",
        "without batch norm and biases, beside a block's convolutions",
        "luuuyi/CBAM.PyTorch",
        _two("ca.fc.0", "ca.fc.2", conv=True) | {"sa.conv1.weight": "1 2 K K"},
        beside="conv1.weight",
        open=(_ORDER,),
    ),
    _Layer(
        "cbam",
        "without batch norm and biases, beside a block's convolutions",
        "pprp/awesome-attention-mechanism-in-cv",
        _two("ca.sharedMLP.0", "ca.sharedMLP.2", conv=True) | {"sa.conv.weight": "1 2 K K"},
        beside="conv1.weight",
        open=(_ORDER,),
    ),
    _Layer(
        "cbam",
        "without batch norm",
        "Peachypie98/CBAM",
        _two("cam.linear.0", "cam.linear.2", bias=True) | {"sam.conv.weight": "1 2 K K"},
        open=(_ORDER,),
    ),
    _Layer(
        "bam",
        "official",
        "Jongchan/attention-module; pprp/awesome-attention-mechanism-in-cv",
        *_OFFICIAL_BAM,
    ),
    _Layer("bam", "attn_lib", "attn_lib", *_OUR_BAM),
    _Layer(
        "bam",
        "three hidden layers in each branch",
        "xmu-xiaoma666/External-Attention-pytorch",
        _two("ca.ca.fc0", "ca.ca.last_fc", bias=True)
        | {f"ca.ca.fc{i}.weight": "M M" for i in (1, 2)}
        | {f"ca.ca.fc{i}.bias": "M" for i in (1, 2)}
        | {"sa.sa.conv_reduce1.weight": "M C 1 1", "sa.sa.conv_reduce1.bias": "M"}
        | {f"sa.sa.conv_{i}.weight": "M M 3 3" for i in range(3)}
        | {f"sa.sa.conv_{i}.bias": "M" for i in range(3)}
        | {"sa.sa.last_conv.weight": "1 M 1 1", "sa.sa.last_conv.bias": "1"}
        | _norm(*[f"ca.ca.bn{i}" for i in range(3)], size="M")
        | _norm("sa.sa.bn_reduce1", *[f"sa.sa.bn_{i}" for i in range(3)], size="M"),
        _count(
            *[f"ca.ca.bn{i}" for i in range(3)],
            "sa.sa.bn_reduce1",
            *[f"sa.sa.bn_{i}" for i in range(3)],
        ),
    ),
    _Layer(
        "bam",
        "norms after the branches",
        "changzy00/pytorch-attention",
        _two("channel_attn.mlp.0", "channel_attn.mlp.2", bias=True)
        | {"spatial_attn.conv1.weight": "M C 1 1", "spatial_attn.conv1.bias": "M"}
        | {f"spatial_attn.conv2.{i}.weight": "M M K K" for i in (0, 3)}
        | {f"spatial_attn.conv2.{i}.bias": "M" for i in (0, 3)}
        | {"spatial_attn.conv3.weight": "1 M 1 1", "spatial_attn.conv3.bias": "1"}
        | _norm("spatial_attn.conv2.1", "spatial_attn.conv2.4", size="M")
        | _norm("channel_attn.bn", size="C")
        | _norm("spatial_attn.bn", size="1"),
        _count(
            "spatial_attn.conv2.1", "spatial_attn.conv2.4", "channel_attn.bn", "spatial_attn.bn"
        ),
    ),
    _Layer(
        "eca",
        "one kernel",
        "BangguWu/ECANet; huggingface/pytorch-image-models; changzy00/pytorch-attention; attn_lib; "
        "with a bias: xmu-xiaoma666/External-Attention-pytorch",
        {"conv.weight": "1 1 K"},
        {"conv.bias": "1"},
        bias="conv.bias",
    ),
    _Layer(
        "eca",
        "EcaModule with use_mlp",
        "huggingface/pytorch-image-models",
        {"conv.weight": "M 1 1", "conv.bias": "M", "conv2.weight": "1 M K", "conv2.bias": "1"},
        bias="conv.bias",
    ),
    _Layer(
        "coordinate",
        "conv_h and conv_w",
        "houqb/CoordAttention (biases); xmu-xiaoma666/External-Attention-pytorch (biases); "
        "changzy00/pytorch-attention (biases); attn_lib (biases); "
        "huggingface/pytorch-image-models (no biases by default)",
        _COORDINATE | _HEADS,
        _HEAD_BIASES | _count("bn1"),
        bias="conv1.bias",
        open=("whether the input is added (timm's has_skip)",),
    ),
    _Layer(
        "coordinate",
        "conv2 and conv3, as in mbv2_ca.py",
        "houqb/CoordAttention",
        _COORDINATE | {f"conv{i}.weight": "C M 1 1" for i in (2, 3)},
        {"conv1.bias": "M", "conv2.bias": "C", "conv3.bias": "C"} | _count("bn1"),
        bias="conv1.bias",
    ),
    _Layer(
        "scse",
        "cSE.1, cSE.3 and sSE.0",
        "qubvel-org/segmentation_models.pytorch",
        _two("cSE.1", "cSE.3", conv=True, bias=True)
        | {"sSE.0.weight": "1 C 1 1", "sSE.0.bias": "1"},
    ),
    _Layer(
        "scse",
        "cSE.fc1, cSE.fc2 and sSE.conv",
        "ai-med/squeeze_and_excitation",
        _two("cSE.fc1", "cSE.fc2", bias=True)
        | {"sSE.conv.weight": "1 C 1 1", "sSE.conv.bias": "1"},
    ),
    _Layer(
        "scse",
        "without biases, and no ReLU in its code",
        "pprp/awesome-attention-mechanism-in-cv",
        _two("cSE.Conv_Squeeze", "cSE.Conv_Excitation", conv=True)
        | {"sSE.Conv1x1.weight": "1 C 1 1"},
    ),
    _Layer(
        "scse",
        "attn_lib",
        "attn_lib",
        _two("fc1", "fc2", bias=True) | {"conv.weight": "1 C 1 1", "conv.bias": "1"},
    ),
    _Layer(
        "gather_excite",
        "gather and mlp",
        "huggingface/pytorch-image-models",
        {"gather.conv1.weight": "C 1 H W"} | _norm("gather.norm1", size="C"),
        {f"gather.conv{i}.weight": "C 1 H W" for i in (2, 3, 4)}
        | _norm(*[f"gather.norm{i}" for i in (2, 3, 4)], size="C")
        | _count(*[f"gather.norm{i}" for i in (1, 2, 3, 4)])
        | _two("mlp.fc1", "mlp.fc2", conv=True, bias=True),
    ),
    _Layer(
        "gather_excite",
        "GELayer: one convolution as large as the feature map",
        "hyunjaelee410/style-based-recalibration-module",
        {"conv.0.weight": "C 1 H W", "conv.0.bias": "C"} | _norm("conv.1", size="C"),
        _count("conv.1"),
        bias="conv.0.bias",
    ),
    _Layer(
        "sk",
        "SelectiveKernel",
        "huggingface/pytorch-image-models",
        {f"paths.{i}.conv.weight": f"C I K{i} K{i}" for i in range(2)}
        | _norm("paths.0.bn", "paths.1.bn", size="C")
        | {"attn.fc_reduce.weight": "M C 1 1", "attn.fc_select.weight": "D M 1 1"}
        | _norm("attn.bn", size="M"),
        _count("paths.0.bn", "paths.1.bn", "attn.bn"),
    ),
    _Layer(
        "sk",
        "beside a block's convolutions",
        "implus/PytorchInsight",
        {"conv_fc1.weight": "M C 1 1", "conv_fc2.weight": "D M 1 1", "conv2g.weight": "C I 3 3"}
        | _norm("bn_fc1", size="M"),
        _count("bn_fc1"),
        beside="conv1.weight",
    ),
    _Layer(
        "sk",
        "attn_lib",
        "attn_lib",
        {f"paths.{i}.conv.weight": "C I 3 3" for i in range(2)}
        | _norm("paths.0.bn", "paths.1.bn", size="C")
        | {"fc1.weight": "M C", "fc2.weight": "D M"}
        | _norm("bn1", size="M"),
        _count("paths.0.bn", "paths.1.bn", "bn1"),
    ),
    _Layer(
        "gc",
        "official: the context is added",
        "xvjiarui/GCNet; pprp/awesome-attention-mechanism-in-cv",
        _under("channel_add_conv", _CONTEXT),
        {"conv_mask.weight": "1 C 1 1", "conv_mask.bias": "1"}
        | _under("channel_mul_conv", _CONTEXT),
        says={"softmax pooling": "conv_mask.weight", "multiplies": "channel_mul_conv.0.weight"},
    ),
    _Layer(
        "gc",
        "official: the context multiplies",
        "xvjiarui/GCNet; pprp/awesome-attention-mechanism-in-cv",
        _under("channel_mul_conv", _CONTEXT),
        {"conv_mask.weight": "1 C 1 1", "conv_mask.bias": "1"},
        says={"softmax pooling": "conv_mask.weight"},
    ),
    _Layer(
        "gc",
        "GlobalContext",
        "huggingface/pytorch-image-models",
        _under("mlp_scale", _TIMM_MLP),
        {"conv_attn.weight": "1 C 1 1", "conv_attn.bias": "1"} | _under("mlp_add", _TIMM_MLP),
        open=(_GATE,),
        says={"softmax pooling": "conv_attn.weight", "adds": "mlp_add.fc1.weight"},
    ),
    _Layer(
        "gc",
        "transform, with no softmax in its code",
        "changzy00/pytorch-attention",
        _under("transform", _CONTEXT) | {"conv.weight": "1 C 1 1", "conv.bias": "1"},
    ),
    _Layer(
        "gc",
        "attn_lib: the context is added",
        "attn_lib",
        _under("add", _OUR_MLP),
        {"mask.weight": "1 C 1 1", "mask.bias": "1"} | _under("multiply", _OUR_MLP),
        says={"softmax pooling": "mask.weight", "multiplies": "multiply.fc1.weight"},
    ),
    _Layer(
        "gc",
        "attn_lib: the context multiplies",
        "attn_lib",
        _under("multiply", _OUR_MLP),
        {"mask.weight": "1 C 1 1", "mask.bias": "1"},
        says={"softmax pooling": "mask.weight"},
    ),
    _Layer(
        "srm",
        "official",
        "hyunjaelee410/style-based-recalibration-module",
        {"cfc": "C 2"} | _norm("bn", size="C"),
        _count("bn"),
    ),
    _Layer(
        "srm",
        "grouped convolution",
        "changzy00/pytorch-attention",
        {"cfc.weight": "C 1 2"} | _norm("bn", size="C"),
        _count("bn"),
    ),
    _Layer(
        "gct",
        "official",
        "z-x-yang/GCT",
        {"alpha": "1 C 1 1", "gamma": "1 C 1 1", "beta": "1 C 1 1"},
    ),
    _Layer(
        "fca",
        "official",
        "cfzd/FcaNet",
        {"dct_layer.weight": "C H W"} | _two("fc.0", "fc.2"),
    ),
    _Layer("fca", "attn_lib", "attn_lib", {"dct.weight": "C H W"} | _two("fc1", "fc2")),
    _Layer(
        "triplet",
        "cw, hc and hw",
        "landskape-ai/triplet-attention; xmu-xiaoma666/External-Attention-pytorch",
        _basic("cw.conv", "hc.conv"),
        _basic("hw.conv") | _count("cw.conv.bn", "hc.conv.bn", "hw.conv.bn"),
        says={"spatial view": "hw.conv.conv.weight"},
    ),
    _Layer(
        "triplet",
        "ChannelGateH, ChannelGateW and SpatialGate",
        "landskape-ai/triplet-attention (MODELS); pprp/awesome-attention-mechanism-in-cv",
        _basic("ChannelGateH.spatial", "ChannelGateW.spatial"),
        _basic("SpatialGate.spatial")
        | _count(*[f"{n}.spatial.bn" for n in ("ChannelGateH", "ChannelGateW", "SpatialGate")]),
        says={"spatial view": "SpatialGate.spatial.conv.weight"},
    ),
    _Layer(
        "triplet",
        "ch, cw and hw with biases, and a ReLU before the sigmoid",
        "changzy00/pytorch-attention",
        _basic("ch.conv", "cw.conv", "hw.conv", bias=True),
        _count("ch.conv.bn", "cw.conv.bn", "hw.conv.bn"),
        bias="ch.conv.conv.bias",
    ),
    _Layer(
        "triplet",
        "attn_lib",
        "attn_lib",
        _basic("cw", "hc"),
        _basic("hw") | _count("cw.bn", "hc.bn", "hw.bn"),
        says={"spatial view": "hw.conv.weight"},
    ),
    _Layer(
        "ela",
        "one convolution and one norm for both directions",
        "AIFengheshu/Plug-play-modules",
        {"conv.weight": "C 1 K", "gn.weight": "C", "gn.bias": "C"},
        {"conv.bias": "C"},
        bias="conv.bias",
    ),
    _Layer(
        "ela",
        "EfficientLocalAttn",
        "huggingface/pytorch-image-models",
        {"conv_h.weight": "C 1 K 1", "conv_w.weight": "C 1 1 K"}
        | {f"norm_{n}.{leaf}": "C" for n in "hw" for leaf in ("weight", "bias")},
        {"conv_h.bias": "C", "conv_w.bias": "C"},
        bias="conv_h.bias",
        open=("whether the input is added (has_skip)",),
    ),
    _Layer(
        "ema",
        "official",
        "YOLOonMe/EMA-attention-module",
        {"conv1x1.weight": "B B 1 1", "conv1x1.bias": "B", "conv3x3.weight": "B B 3 3"}
        | {"conv3x3.bias": "B", "gn.weight": "B", "gn.bias": "B"},
    ),
    _Layer(
        "ese",
        "one 1x1 convolution",
        "youngwanLEE/vovnet-detectron2; huggingface/pytorch-image-models",
        {"fc.weight": "C C 1 1", "fc.bias": "C"},
    ),
    _Layer("ese", "one linear map", "attn_lib", {"fc.weight": "C C", "fc.bias": "C"}),
    _Layer(
        "sge",
        "official",
        "implus/PytorchInsight; xmu-xiaoma666/External-Attention-pytorch",
        {"weight": "1 G 1 1", "bias": "1 G 1 1"},
    ),
    _Layer(
        "nonlocal",
        "embedded Gaussian or dot product",
        "AlexHex7/Non-local_pytorch",
        _NONLOCAL | _PAIR | _norm("W.1", size="C"),
        _count("W.1"),
    ),
    _Layer(
        "nonlocal",
        "embedded Gaussian or dot product, subsampled",
        "AlexHex7/Non-local_pytorch",
        _subsampled(_NONLOCAL | _PAIR) | _norm("W.1", size="C"),
        _count("W.1"),
    ),
    _Layer(
        "nonlocal",
        "NonLocalAttn",
        "huggingface/pytorch-image-models",
        {f"{n}.weight": "M C 1 1" for n in "tpg"}
        | {f"{n}.bias": "M" for n in "tpg"}
        | {"z.weight": "C M 1 1", "z.bias": "C"}
        | _norm("norm", size="C"),
        _count("norm"),
    ),
    _Layer(
        "nonlocal",
        "attn_lib: embedded Gaussian or dot product",
        "attn_lib",
        _OUR_NONLOCAL | _PAIR,
        _norm("bn", size="C") | _count("bn"),
        open=("whether g and phi are subsampled",),
        says={"batch norm": "bn.weight"},
    ),
    _Layer(
        "nonlocal",
        "attn_lib: Gaussian",
        "attn_lib",
        _OUR_NONLOCAL,
        _norm("bn", size="C") | _count("bn"),
        open=("whether g and x are subsampled",),
        says={"batch norm": "bn.weight"},
    ),
]
