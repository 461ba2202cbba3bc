"""from_official: what was given, taken apart, renamed and put together again."""

import re
from collections.abc import Mapping

import torch
from torch import nn

from attn_lib.convert.backbone import check_backbone, check_blocks, split, table_of
from attn_lib.convert.call import layer_call, model_call
from attn_lib.convert.layer import convert_layer, insert, listed
from attn_lib.convert.names import FAMILIES


def from_official(family, state_dict):
    """``state_dict`` with attn_lib's names and shapes.

    Parameters
    ----------
    family : str
        Whose names they are:

        * ``"se"``: layers with ``fc1`` and ``fc2``, or ``fc.0`` and ``fc.2``, linear or 1x1
          convolutions, as in moskomule/senet.pytorch (``models.resnet(depth, "se", bias=False)``
          and ``models.resnet_cifar``) and Cadene/pretrained-models.pytorch, which has the weights
          of the authors' Caffe models (``models.resnet(50, "se", variant="caffe")``) and a
          ``bninception`` without SE (``models.inception_bn()``). In miraclewkf/SENet-PyTorch's
          ``se_resnet_18`` … ``152`` the two lie beside the convolutions of a block,
          ``layer1.0.fc1`` (``models.resnet(depth, "se")``).
        * ``"cbam"``, ``"bam"``: Jongchan/attention-module, ``models.resnet(depth, family)``.
        * ``"eca"``: BangguWu/ECANet, ``models.resnet(depth, "eca", kernel_size=...)`` with the
          kernel sizes it was trained with, and ``models.mobilenet_v2(attention="eca", ...)``.
        * ``"coordinate"``: houqb/CoordAttention (also known as Andrew-Qibin/CoordAttention),
          ``models.mobilenet_v2(width, "coordinate")``.
        * ``"triplet"``: landskape-ai/triplet-attention, in the names of either of its files,
          ``models.resnet(depth, "triplet")``.
        * ``"ela"``: the listing in ELA's paper. ``"ema"``: YOLOonMe/EMA-attention-module, whose
          names and shapes do not tell the number of groups. ``"gc"``: xvjiarui/GCNet, and timm's
          ``GlobalContext``. ``"nonlocal"``: AlexHex7/Non-local_pytorch, and timm's
          ``NonLocalAttn``. ``"sk"``: timm's ``SelectiveKernel(split_input=False)``, which is the
          authors' Caffe layer. ``"simam"``: a network with SimAM, which has no parameters.
        * ``"ese"``: youngwanLEE/vovnet-detectron2's ``eSEModule``, and timm's. ``"fca"``:
          cfzd/FcaNet, ``models.resnet(depth, "fca", height=(56, 28, 14, 7), width=...)``.
          ``"gather_excite"``: timm's ``GatherExcite``, and ``GELayer`` of
          hyunjaelee410/style-based-recalibration-module. ``"gct"``: z-x-yang/GCT. ``"scse"``:
          segmentation_models.pytorch, and ai-med/squeeze_and_excitation, whose layer has
          ``combine="max"``. ``"srm"``: hyunjaelee410/style-based-recalibration-module.
        * ``"timm"``: timm's ``SEModule``, ``EcaModule``, ``CbamModule`` and ``CoordAttn``; its
          ``resnet18`` … ``resnet152`` with one of them as ``attn_layer`` or without, its
          ``legacy_seresnet50`` … ``152`` (``variant="caffe"``) and its ``mobilenetv2_*``. timm
          rounds SE's bottleneck to multiples of 8, so ``seresnet18`` fits
          ``models.resnet(18, "se", reduction=(8, 16, 16, 16))``.
    state_dict : dict of str to torch.Tensor
        Of one attention layer or of a whole model. A ``module.`` before every name
        (DataParallel) is removed, and so is ``_orig_mod.`` (torch.compile). A checkpoint that
        holds one state dict beside other things, such as ``{"epoch": ..., "state_dict": ...}``,
        stands for that state dict.

    Returns
    -------
    dict of str to torch.Tensor
        What ``load_state_dict`` of the layer or model takes. A tensor that is as attn_lib wants
        it is the given one and not a copy. Four things are computed, three of them for timm: its
        CBAM convolves the mean before the maximum and attn_lib the other way round, so the kernel's
        two planes are exchanged; where all of a layer's biases are left out (its default in
        CBAM and Coordinate Attention), they are zeros here; and its non-local block divides the
        logits by the root of C, so theta is divided by it. The fourth: the bias that a ``GELayer``
        has before its batch norm is subtracted from the norm's running mean.

    Raises
    ------
    ValueError
        An unknown family; a name that has no place, a shape that no attn_lib layer or backbone
        has, an incomplete layer, a residual block without one or with one that gates something
        else than its branch, several state dicts in one checkpoint. The message says which.
    TypeError
        ``state_dict`` is not a dictionary, or a value in it is not a tensor.

    Notes
    -----
    Names and shapes do not say everything. Some published modules share theirs with one of attn_lib
    and compute something else, and no conversion can tell: timm's ``resnetblur50`` (blurred
    strides), its circular ECA, its layers with another gate function or a skip; the official CBAM
    with other ``pool_types``; timm's ``SelectiveKernel`` that splits its input, as it does by
    default; timm's non-local block with ``use_scale=False``; timm's ``GatherExcite`` with
    parameters and the extent of the whole feature map, whose convolution is padded. timm's global
    context has a layer norm with ``eps`` 1e-6, the authors' and attn_lib's have 1e-5. Of BAM, the
    dilation and how the branches meet are not in the state dict; nor are ELA's ``norm_groups``,
    GCT's ``norm``, and whether a non-local block takes a softmax or, as ``pairwise="dot"``, none.
    The state dict of FcaNet's layer has its cosines, and not the name of their ``frequencies``.
    With parameters and an MLP, timm's ``GatherExcite`` is ``relu=False``. A single 3x3 convolution
    is taken for one of extent 2.
    """
    result, _ = convert(family, weights_in(state_dict))
    return result


def convert(family, weights):
    """The converted dict, and the call whose module takes it."""
    if family not in FAMILIES:
        known = ", ".join(map(repr, FAMILIES))
        raise ValueError(f"unknown family {family!r}; known are {known}")
    named = {}  # name without wrappers: (key as given, tensor)
    for key, tensor in weights.items():
        insert(named, re.sub(r"^((module|_orig_mod)\.)+", "", key), key, tensor)
    table = table_of(named)
    if table is None:
        result, mechanism, options = convert_layer(family, named)
        return {name: t for name, (_, t) in result.items()}, layer_call(mechanism, options)

    result, groups = split(named, table)
    function, keywords = check_backbone(result)
    found = {}  # place: (mechanism, options)
    for place, group in groups.items():
        layer, *found[place] = convert_layer(family, group)
        for name, (key, tensor) in layer.items():
            insert(result, f"{place}.{name}", key, tensor)
    check_blocks(result, groups, found)
    if family == "simam":
        keywords = keywords | {"attention": "simam"}
    return {name: t for name, (_, t) in result.items()}, model_call(function, keywords, found)


def weights_in(checkpoint):
    """The state dict in ``checkpoint``: itself, or its only entry that is one."""
    if isinstance(checkpoint, nn.Module):
        raise TypeError(
            f"expected a state dict, got the module {type(checkpoint).__name__}; "
            "pass module.state_dict()"
        )
    if not isinstance(checkpoint, Mapping):
        raise TypeError(
            f"expected a dictionary of names and tensors; got {type(checkpoint).__name__}"
        )
    if _is_state_dict(checkpoint):
        return checkpoint
    inside = [key for key, value in checkpoint.items() if _is_state_dict(value)]
    if len(inside) == 1:
        return checkpoint[inside[0]]
    if inside:
        raise ValueError(
            f"the checkpoint holds several state dicts, {listed(inside)}; pass the one you want, "
            f"as checkpoint[{inside[0]!r}]"
        )
    for key, value in checkpoint.items():
        if not isinstance(value, torch.Tensor):
            raise TypeError(
                f"expected tensors; {key!r} is of type {type(value).__name__}, and no entry is a "
                "state dict"
            )
    raise ValueError("the state dict is empty")


def _is_state_dict(value):
    return (
        isinstance(value, Mapping)
        and len(value) > 0
        and all(isinstance(k, str) and isinstance(t, torch.Tensor) for k, t in value.items())
    )
