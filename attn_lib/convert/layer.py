"""One attention layer: its names, and whether an attn_lib layer has its shapes."""

import inspect

import torch

from attn_lib import layers
from attn_lib.convert.names import FAMILIES

LAYERS = {
    "se": layers.SqueezeExcitation,
    "channel": layers.ChannelAttention,
    "spatial": layers.SpatialAttention,
    "cbam": layers.CBAM,
    "bam": layers.BAM,
    "eca": layers.EfficientChannelAttention,
    "coordinate": layers.CoordinateAttention,
    "ela": layers.EfficientLocalAttention,
    "ema": layers.EfficientMultiScaleAttention,
    "ese": layers.EffectiveSqueezeExcitation,
    "fca": layers.FrequencyChannelAttention,
    "gather_excite": layers.GatherExcite,
    "gc": layers.GlobalContext,
    "gct": layers.GatedChannelTransformation,
    "nonlocal": layers.NonLocal,
    "scse": layers.ConcurrentSqueezeExcitation,
    "simam": layers.SimAM,
    "sk": layers.SelectiveKernel,
    "srm": layers.StyleRecalibration,
    "triplet": layers.TripletAttention,
}


def insert(named, name, key, tensor):
    """Add ``name: (key, tensor)``, where key is what the checkpoint calls the tensor."""
    if name in named:
        raise ValueError(f"{named[name][0]!r} and {key!r} are both {name!r} in attn_lib")
    named[name] = (key, tensor)


def listed(names, most=5):
    """The first names, quoted, and how many more there are."""
    names = [repr(name) for name in names]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def convert_layer(family, group):
    """Our names, shapes and tensors of one layer; its mechanism; the options that it was made with.

    ``group`` maps the published names inside the layer to (key as given, tensor).
    """

    def fits(naming):
        modules = {name.rpartition(".")[0] for name in group}
        return len(modules & naming[1].keys()), -len(naming[1].keys() - modules)

    mechanism, names = max(FAMILIES[family], key=fits)
    layer, lost = {}, []
    for name, (key, tensor) in group.items():
        module, _, leaf = name.rpartition(".")
        if module in names:
            insert(layer, f"{names[module]}.{leaf}".removeprefix("."), key, tensor)
        else:
            lost.append(key)
    if lost:
        raise ValueError(
            f"cannot place {listed(lost)} in a layer of family {family!r}, whose modules are "
            + " or ".join(listed(known, most=12) for _, known in FAMILIES[family])
        )
    if family == "timm":
        _as_official(mechanism, layer)
    if "t" in names:  # timm's non-local block divides its logits by the root of C
        for name in ("theta.weight", "theta.bias"):
            if name in layer:
                key, tensor = layer[name]
                layer[name] = (key, tensor * layer["theta.weight"][1].shape[1] ** -0.5)
    if mechanism == "gather_excite":
        _without_bias(layer)
    options = _options(mechanism, layer)
    if mechanism == "nonlocal":
        options["subsample"] = "g.0" in names
    if mechanism == "scse":
        options["combine"] = "max" if "cSE.fc1" in names else "add"
    with torch.device("meta"):
        # ECA's one kernel does not tell the number of channels, EMA's weights not how many groups
        # share them; any will do
        one = {"eca": {"channels": 1}, "ema": {"channels": _first_length(layer), "groups": 1}}
        wanted = LAYERS[mechanism](**one.get(mechanism, {}) | options)
    return (
        fitted(layer, wanted.state_dict(), f"{LAYERS[mechanism].__name__} layer"),
        mechanism,
        options,
    )


def _as_official(mechanism, layer):
    """What timm's layers have in another order, or leave out."""
    if mechanism == "cbam" and "spatial.conv.weight" in layer:
        key, weight = layer["spatial.conv.weight"]
        layer["spatial.conv.weight"] = (key, weight.flip(1))  # mean, maximum -> maximum, mean
    biased = {
        "cbam": ("channel.fc1", "channel.fc2"),
        "coordinate": ("conv1", "conv_h", "conv_w"),
    }.get(mechanism, ())
    if not any(f"{module}.bias" in layer for module in biased):
        for module in biased:
            if f"{module}.weight" in layer:
                key, weight = layer[f"{module}.weight"]
                layer[f"{module}.bias"] = (key, weight.new_zeros(weight.shape[:1]))


def _without_bias(layer):
    """A bias before a batch norm goes into the norm's mean."""
    mean = "gather.norm1.running_mean"
    if mean in layer and "gather.conv1.bias" in layer:
        _, bias = layer.pop("gather.conv1.bias")
        layer[mean] = (layer[mean][0], layer[mean][1] - bias)


def _options(mechanism, layer):
    """Arguments of the attn_lib layer whose tensors have these shapes."""

    def shape(name, dimensions):
        if name not in layer:
            raise ValueError(f"the {mechanism!r} layer lacks {name!r} (attn_lib's name)")
        key, tensor = layer[name]
        if tensor.dim() < dimensions:
            raise ValueError(
                f"{key!r} has shape {tuple(tensor.shape)}; expected {dimensions} dimensions or more"
            )
        return key, tensor.shape

    if mechanism in _FURTHER:
        return _FURTHER[mechanism](shape, layer)
    options = {}
    if mechanism in ("eca", "cbam", "spatial"):
        name = "spatial.conv.weight" if mechanism == "cbam" else "conv.weight"
        key, sizes = shape(name, 3)
        options["kernel_size"] = sizes[-1]
        if sizes[-1] % 2 == 0:
            raise ValueError(f"{key!r} has shape {tuple(sizes)}; attn_lib's kernels are odd")
    if mechanism == "eca":
        return options
    if mechanism == "spatial":
        return options
    first = {"cbam": "channel.fc1", "bam": "channel.fc1", "coordinate": "conv1"}
    key, sizes = shape(first.get(mechanism, "fc1") + ".weight", 2)
    hidden, channels = sizes[:2]
    least = 8 if mechanism == "coordinate" else 1
    reduction = _reduction(mechanism, key, hidden, channels, least)
    options |= {"channels": channels, "reduction": reduction}
    if mechanism == "se":
        options["bias"] = "fc1.bias" in layer
    return options


def _reduction(mechanism, key, hidden, channels, least=1):
    """The r for which max(least, C // r) is ``hidden``, the default where it fits."""
    default = default_of(mechanism, "reduction")
    for reduction in (default, channels // max(1, hidden), channels):
        if reduction > 0 and max(least, channels // reduction) == hidden:
            return reduction
    raise ValueError(
        f"{key!r} has {hidden} units for C = {channels}; attn_lib's layer has "
        f"max({least}, C // reduction), which is {hidden} for no reduction"
    )


def _ela(shape, layer):
    _, (channels, width, k) = shape("conv.weight", 3)
    return {"channels": channels, "kernel_size": k, "width": width}


def _ema(shape, layer):
    shape("conv1x1.weight", 2)
    return {}


def _ese(shape, layer):
    _, (channels, *_) = shape("fc.weight", 2)
    return {"channels": channels}


def _fca(shape, layer):
    _, (channels, height, width) = shape("dct.weight", 3)
    key, (hidden, *_) = shape("fc1.weight", 2)
    reduction = _reduction("fca", key, hidden, channels)
    return {"channels": channels, "height": height, "width": width, "reduction": reduction}


def _first_length(layer):
    key, tensor = next(iter(layer.values()))
    return max(1, len(tensor)) if tensor.dim() else 1


def _gc(shape, layer):
    parts = {name.partition(".")[0] for name in layer}
    both = parts >= {"add", "multiply"}
    branch = "multiply" if "add" not in parts else "add"
    key, (hidden, channels, *_) = shape(f"{branch}.fc1.weight", 2)
    return {
        "channels": channels,
        "reduction": _reduction("gc", key, hidden, channels),
        "fusion": "both" if both else branch,
        "pooling": "attention" if "mask" in parts else "mean",
    }


def _gather_excite(shape, layer):
    options = {"parameters": "gather.conv1.weight" in layer, "mlp": "mlp.fc1.weight" in layer}
    if options["mlp"]:
        key, (hidden, channels, *_) = shape("mlp.fc1.weight", 2)
        options |= {"reduction": _reduction("gather_excite", key, hidden, channels)}
    if options["parameters"]:
        _, (channels, _, h, w) = shape("gather.conv1.weight", 4)
        steps = sum(name.startswith("gather.conv") for name in layer)
        if (h, w) == (3, 3):
            options["extent"] = 2**steps
        else:
            options["size"] = h if h == w else (h, w)
    if options["parameters"] and options["mlp"]:
        options["relu"] = False  # timm's, the only one of these names
    return options | {"channels": channels}


def _gct(shape, layer):
    _, (_, channels, *_) = shape("alpha", 2)
    return {"channels": channels}


def _nonlocal(shape, layer):
    key, (hidden, channels, *_) = shape("g.weight", 2)
    return {
        "channels": channels,
        "reduction": _reduction("nonlocal", key, hidden, channels),
        "pairwise": "embedded" if "theta.weight" in layer else "gaussian",
        "batch_norm": "bn.weight" in layer,
    }


def _scse(shape, layer):
    key, (hidden, channels, *_) = shape("fc1.weight", 2)
    return {"channels": channels, "reduction": _reduction("scse", key, hidden, channels)}


def _sk(shape, layer):
    _, (channels, width, *_) = shape("paths.0.conv.weight", 4)
    _, (hidden, *_) = shape("fc1.weight", 2)
    branches = len({name.split(".")[1] for name in layer if name.startswith("paths.")})
    reduction, minimum = default_of("sk", "reduction"), default_of("sk", "minimum")
    if max(channels // reduction, minimum) != hidden:
        reduction, minimum = channels, hidden
    return {
        "channels": channels,
        "branches": branches,
        "groups": channels // max(1, width),
        "reduction": reduction,
        "minimum": minimum,
    }


def _srm(shape, layer):
    _, (channels, *_) = shape("cfc", 2)
    return {"channels": channels}


def _triplet(shape, layer):
    _, (*_, k) = shape("cw.conv.weight", 4)
    return {"kernel_size": k, "spatial": "hw.conv.weight" in layer}


_FURTHER = {
    "ela": _ela,
    "ema": _ema,
    "ese": _ese,
    "fca": _fca,
    "gather_excite": _gather_excite,
    "gc": _gc,
    "gct": _gct,
    "nonlocal": _nonlocal,
    "scse": _scse,
    "sk": _sk,
    "srm": _srm,
    "triplet": _triplet,
}


def default_of(mechanism, option):
    """The default of a layer's option."""
    return inspect.signature(LAYERS[mechanism]).parameters[option].default


def fitted(named, wanted, where, optional=()):
    """``named`` in the shapes of ``wanted``; an error for a name or shape that is not there."""
    lost = [key for name, (key, _) in named.items() if name not in wanted]
    if lost:
        raise ValueError(f"cannot place {listed(lost)} in the {where}")
    # checkpoints of before PyTorch 0.4.1 do not count batches, and load_state_dict forgives it
    optional = ("num_batches_tracked", *optional)
    lacking = [n for n in wanted if n not in named and not n.endswith(optional)]
    if lacking:
        among = listed([key for key, _ in named.values()], most=2)
        raise ValueError(f"the {where} of {among} lacks {listed(lacking)} (attn_lib's names)")
    result = {}
    for name, (key, tensor) in named.items():
        shape = tuple(wanted[name].shape)
        if _without_ones(tensor.shape) != _without_ones(shape):
            raise ValueError(
                f"{key!r} has shape {tuple(tensor.shape)}; the {where} of attn_lib has {shape}"
            )
        result[name] = (key, tensor if tensor.shape == shape else tensor.reshape(shape))
    return result


def _without_ones(shape):
    """(M, N, 1, 1) as (M, N): a 1x1 convolution is a linear map; (M, 1, 1) as (M,)."""
    shape = tuple(shape)
    while len(shape) > 1 and shape[-1] == 1:
        shape = shape[:-1]
    return shape
