"""What published checkpoints call their modules.

Layers: Jongchan/attention-module (MODELS/cbam.py, bam.py), BangguWu/ECANet (models/eca_module.py),
houqb/CoordAttention (coordatt.py, mbv2_ca.py), moskomule/senet.pytorch (senet/se_module.py),
miraclewkf/SENet-PyTorch (se_resnet.py), Cadene/pretrained-models.pytorch (senet.py,
bninception.py), AlexHex7/Non-local_pytorch (lib), landskape-ai/triplet-attention
(triplet_attention.py, and the file of that name in MODELS), xvjiarui/GCNet (mmdet/ops/gcb),
YOLOonMe/EMA-attention-module, the listing in ELA's paper, cfzd/FcaNet (model/layer.py),
hyunjaelee410/style-based-recalibration-module (models/recalibration_modules.py: SRM, and a
gather-excite layer), z-x-yang/GCT (PyTorch/GCT.py), youngwanLEE/vovnet-detectron2,
qubvel-org/segmentation_models.pytorch and ai-med/squeeze_and_excitation (scSE), and timm 1.0
(timm/layers). Networks: the same repositories' model files, timm/models and torchvision.
"""

from attn_lib.models.mobilenet_v2 import STAGES

_CONTEXT_MLP = {"0": "fc1", "1": "norm", "3": "fc2"}  # GCNet's numbers
_CONV_BN = ("conv", "bn")

# How each family names the modules of a layer: (mechanism, their name -> ours). CBAM's channel
# half alone has SE's names in attn_lib too, since both are two linear maps.
FAMILIES = {
    "se": [
        ("se", {"fc1": "fc1", "fc2": "fc2"}),
        ("se", {"fc.0": "fc1", "fc.2": "fc2"}),
    ],
    "cbam": [
        (
            "cbam",
            {
                "ChannelGate.mlp.1": "channel.fc1",
                "ChannelGate.mlp.3": "channel.fc2",
                "SpatialGate.spatial.conv": "spatial.conv",
                "SpatialGate.spatial.bn": "spatial.bn",
            },
        ),
        ("channel", {"ChannelGate.mlp.1": "fc1", "ChannelGate.mlp.3": "fc2"}),  # no_spatial=True
        ("channel", {"mlp.1": "fc1", "mlp.3": "fc2"}),
        ("spatial", {"spatial.conv": "conv", "spatial.bn": "bn"}),
    ],
    "bam": [
        (
            "bam",
            {
                "channel_att.gate_c.gate_c_fc_0": "channel.fc1",
                "channel_att.gate_c.gate_c_bn_1": "channel.bn1",
                "channel_att.gate_c.gate_c_fc_final": "channel.fc2",
                "spatial_att.gate_s.gate_s_conv_reduce0": "spatial.conv1",
                "spatial_att.gate_s.gate_s_bn_reduce0": "spatial.bn1",
                "spatial_att.gate_s.gate_s_conv_di_0": "spatial.conv2",
                "spatial_att.gate_s.gate_s_bn_di_0": "spatial.bn2",
                "spatial_att.gate_s.gate_s_conv_di_1": "spatial.conv3",
                "spatial_att.gate_s.gate_s_bn_di_1": "spatial.bn3",
                "spatial_att.gate_s.gate_s_conv_final": "spatial.conv4",
            },
        )
    ],
    "eca": [("eca", {"conv": "conv"})],
    "coordinate": [
        # coordatt.py, and the copy inside mbv2_ca.py
        ("coordinate", {"conv1": "conv1", "bn1": "bn1", "conv_h": "conv_h", "conv_w": "conv_w"}),
        ("coordinate", {"conv1": "conv1", "bn1": "bn1", "conv2": "conv_h", "conv3": "conv_w"}),
    ],
    "ela": [("ela", {"conv": "conv", "gn": "gn"})],
    "ema": [("ema", {"conv1x1": "conv1x1", "conv3x3": "conv3x3", "gn": "gn"})],
    "ese": [("ese", {"fc": "fc"})],  # timm's has the same names
    "fca": [("fca", {"dct_layer": "dct", "fc.0": "fc1", "fc.2": "fc2"})],
    "gather_excite": [
        (  # timm
            "gather_excite",
            {f"gather.{m}{i}": f"gather.{m}{i}" for i in range(1, 6) for m in ("conv", "norm")}
            | {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"},
        ),
        ("gather_excite", {"conv.0": "gather.conv1", "conv.1": "gather.norm1"}),
    ],
    "gc": [
        (
            "gc",
            {"conv_mask": "mask"}
            | {f"channel_add_conv.{i}": f"add.{ours}" for i, ours in _CONTEXT_MLP.items()}
            | {f"channel_mul_conv.{i}": f"multiply.{ours}" for i, ours in _CONTEXT_MLP.items()},
        ),
        (  # timm
            "gc",
            {"conv_attn": "mask"}
            | {f"mlp_add.{ours}": f"add.{ours}" for ours in _CONTEXT_MLP.values()}
            | {f"mlp_scale.{ours}": f"multiply.{ours}" for ours in _CONTEXT_MLP.values()},
        ),
    ],
    "gct": [("gct", {"": ""})],  # its parameters belong to no submodule
    "nonlocal": [
        # subsampled or not, with a batch norm or without: the one of most names is taken
        ("nonlocal", {"g.0": "g", "theta": "theta", "phi.0": "phi", "W.0": "out", "W.1": "bn"}),
        ("nonlocal", {"g.0": "g", "theta": "theta", "phi.0": "phi", "W": "out"}),
        ("nonlocal", {"g": "g", "theta": "theta", "phi": "phi", "W.0": "out", "W.1": "bn"}),
        ("nonlocal", {"g": "g", "theta": "theta", "phi": "phi", "W": "out"}),
        ("nonlocal", {"g": "g", "t": "theta", "p": "phi", "z": "out", "norm": "bn"}),  # timm
    ],
    "scse": [
        # segmentation_models.pytorch, and the authors' group
        ("scse", {"cSE.1": "fc1", "cSE.3": "fc2", "sSE.0": "conv"}),
        ("scse", {"cSE.fc1": "fc1", "cSE.fc2": "fc2", "sSE.conv": "conv"}),
    ],
    "simam": [("simam", {})],  # no parameters: all of a state dict is its network's
    "sk": [
        (
            "sk",
            {f"paths.{i}.{m}": f"paths.{i}.{m}" for i in range(9) for m in ("conv", "bn")}
            | {"attn.fc_reduce": "fc1", "attn.bn": "bn1", "attn.fc_select": "fc2"},
        )
    ],
    "srm": [("srm", {"": "", "bn": "bn"})],
    "triplet": [
        ("triplet", {f"{b}.conv.{m}": f"{b}.{m}" for b in ("cw", "hc", "hw") for m in _CONV_BN}),
        (
            "triplet",
            {f"ChannelGateH.spatial.{m}": f"cw.{m}" for m in _CONV_BN}
            | {f"ChannelGateW.spatial.{m}": f"hc.{m}" for m in _CONV_BN}
            | {f"SpatialGate.spatial.{m}": f"hw.{m}" for m in _CONV_BN},
        ),
    ],
    "timm": [
        ("se", {"fc1": "fc1", "fc2": "fc2"}),
        ("eca", {"conv": "conv"}),
        (
            "cbam",
            {
                "channel.fc1": "channel.fc1",
                "channel.fc2": "channel.fc2",
                "spatial.conv.conv": "spatial.conv",
                "spatial.conv.bn": "spatial.bn",
            },
        ),
        ("coordinate", {"conv1": "conv1", "bn1": "bn1", "conv_h": "conv_h", "conv_w": "conv_w"}),
    ],
}

# Where a layer sits: pattern of its published prefix -> attn_lib's prefix.
PLACES = [
    (r"(layer[1-4]\.\d+)(?=\.fc[12]\.)", r"\1.attention"),  # SE's two maps beside the convolutions
    (r"(layer[1-4]\.\d+)\.(?!conv|bn|downsample|shortcut)\w+", r"\1.attention"),
    (r"(features\.\d+)\.conv\.[346]", r"\1.attention"),  # ECA-Net's and CA's MobileNetV2
    (r"(inception_?[345][a-e])\.\w+", r"\1.attention"),
    (r"bam([123])", lambda match: f"attention.{int(match[1]) - 1}"),
]

# Backbones: pattern of a module's published name -> torchvision's name. layer0 is not torchvision's
# but that of models.resnet(variant="caffe"), the network of these checkpoints.
RESNET = [
    (r"(conv1|bn1|fc|layer[1-4]\.\d+\.(conv[123]|bn[123]|downsample\.[01]))", r"\1"),
    (r"(layer0\.(conv1|bn1))", r"\1"),
    (r"last_linear", "fc"),
]
GOOGLENET = [
    (r"((conv[123]|inception[345][a-e]\.branch[1-4](\.[01])?|aux[12]\.conv)\.(conv|bn))", r"\1"),
    (r"(fc|aux[12]\.fc[12])", r"\1"),
]
INCEPTION_BN = [  # the port has one level of names, attn_lib a module for each block
    (r"(conv[12]_\w+|last_linear)", r"\1"),
    (r"(inception_[345][a-e])[._]((double_)?[13]x[13]\w*|pool_proj(_bn)?)", r"\1.\2"),
]
MOBILENET_V2 = [
    (r"(features\.\d+\.([01]|conv\.[01]\.[01]|conv\.[123])|classifier\.1)", r"\1"),
]
MOBILENET_V2_FLAT = [  # a block is one Sequential; index 6 is attention
    (r"(features\.0\.[01])", r"\1"),
    (r"classifier(\.1)?", "classifier.1"),  # a Sequential, or the linear layer itself
    (r"features\.1\.conv\.([01])", r"features.1.conv.0.\1"),
    (r"features\.1\.conv\.3", "features.1.conv.1"),
    (r"features\.1\.conv\.4", "features.1.conv.2"),
    (r"(features\.\d+\.conv)\.([01])", r"\1.0.\2"),
    (r"(features\.\d+\.conv)\.3", r"\1.1.0"),
    (r"(features\.\d+\.conv)\.4", r"\1.1.1"),
    (r"(features\.\d+\.conv)\.7", r"\1.2"),
    (r"(features\.\d+\.conv)\.8", r"\1.3"),
    (r"conv\.([01])", r"features.18.\1"),
]
STAGE_OF_BLOCK = [stage for stage, (_, _, n, _) in enumerate(STAGES) for _ in range(n)]
_TIMM_BLOCK = {"conv_pw": "0.0", "bn1": "0.1", "conv_dw": "1.0", "bn2": "1.1"}
_TIMM_BLOCK |= {"conv_pwl": "2", "bn3": "3"}


def _timm_block(match):
    stage, block, module = int(match[1]), int(match[2]), match[3]
    if block >= STAGES[stage][2]:
        return None
    return f"features.{1 + STAGE_OF_BLOCK.index(stage) + block}.conv.{_TIMM_BLOCK[module]}"


MOBILENET_V2_TIMM = [
    (r"conv_stem", "features.0.0"),
    (r"bn1", "features.0.1"),
    (r"blocks\.0\.0\.conv_dw", "features.1.conv.0.0"),
    (r"blocks\.0\.0\.bn1", "features.1.conv.0.1"),
    (r"blocks\.0\.0\.conv_pw", "features.1.conv.1"),
    (r"blocks\.0\.0\.bn2", "features.1.conv.2"),
    (rf"blocks\.([1-6])\.(\d)\.({'|'.join(_TIMM_BLOCK)})", _timm_block),
    (r"conv_head", "features.18.0"),
    (r"bn2", "features.18.1"),
    (r"classifier", "classifier.1"),
]

# Why some networks that look alike are not attn_lib's.
REASONS = [
    (r"conv1\.\d", "it belongs to a stem of three 3x3 convolutions; attn_lib has the 7x7 one"),
    (r"layer0\.(conv|bn)[23]", "it belongs to SENet-154's stem of three 3x3 convolutions"),
    (
        r"layer\d\.\d+\.downsample\.2",
        "it belongs to a shortcut that pools before its convolution (timm's avg_down); "
        "attn_lib's convolution has the stride",
    ),
    (r"n_averaged", "it counts the updates of an average of weights; remove it"),
]
