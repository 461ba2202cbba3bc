"""MobileNetV2 (Sandler et al., arXiv 1801.04381) with attention where its authors put it.

Parameter names are torchvision's; its checkpoint loads where ``attention`` is None.
"""

import math

from torch import nn

from attn_lib.models._hook import attention_factory, choose_placement

__all__ = ["PLACEMENTS", "InvertedResidual", "MobileNetV2", "mobilenet_v2"]

PLACEMENTS = ("depthwise", "projection")

# expansion, channels, blocks, stride of the first of them; Table 2 of the paper
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def _round_channels(channels):
    """Nearest multiple of 8, at least 8, and never more than 10 % below ``channels``."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest + 8 if nearest < 0.9 * channels else nearest


def channels_of(width):
    """Channels of the first layer, of the seven stages and of the last layer."""
    inner = [_round_channels(base * width) for base in (32, *(row[1] for row in STAGES))]
    return [*inner, _round_channels(1280 * max(1.0, width))]


def _conv_bn_relu(in_channels, out_channels, kernel_size, stride=1, groups=1):
    return nn.Sequential(
        nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        ),
        nn.BatchNorm2d(out_channels),
        nn.ReLU6(inplace=True),
    )


class _Convolutions(nn.Sequential):
    """The layers of a block in sequence; ``gate`` is called in front of the projection."""

    def forward(self, x, gate=None):
        for i, layer in enumerate(self):
            if gate is not None and i == len(self) - 2:
                x = gate(x)
            x = layer(x)
        return x


class InvertedResidual(nn.Module):
    """1x1 up, 3x3 depthwise with the stride, 1x1 down without a non-linearity, shortcut."""

    def __init__(
        self, in_channels, out_channels, stride, expansion, attention=None, placement=None
    ):
        super().__init__()
        hidden = in_channels * expansion
        layers = [] if expansion == 1 else [_conv_bn_relu(in_channels, hidden, 1)]
        layers += [
            _conv_bn_relu(hidden, hidden, 3, stride, groups=hidden),
            nn.Conv2d(hidden, out_channels, 1, bias=False),
            nn.BatchNorm2d(out_channels),
        ]
        self.conv = _Convolutions(*layers)
        self.shortcut = stride == 1 and in_channels == out_channels
        self.placement = None if attention is None else placement
        if attention is not None:
            self.attention = attention(hidden if placement == "depthwise" else out_channels)

    def forward(self, x):
        y = self.conv(x, self.attention) if self.placement == "depthwise" else self.conv(x)
        if self.placement == "projection":
            y = self.attention(y)
        return x + y if self.shortcut else y


class MobileNetV2(nn.Module):
    """See :func:`mobilenet_v2`."""

    def __init__(self, width, num_classes, attention, placement, dropout):
        super().__init__()
        widths = channels_of(width)
        channels = widths[0]
        features = [_conv_bn_relu(3, channels, 3, stride=2)]
        for stage, (expansion, _, blocks, stride) in enumerate(STAGES):
            here = attention and (lambda c, stage=stage: attention(c, stage))
            if placement == "depthwise" and expansion == 1:
                here = None
            out_channels = widths[1 + stage]
            for i in range(blocks):
                features.append(
                    InvertedResidual(
                        channels, out_channels, stride if i == 0 else 1, expansion, here, placement
                    )
                )
                channels = out_channels
        features.append(_conv_bn_relu(channels, widths[-1], 1))
        self.features = nn.Sequential(*features)
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(widths[-1], num_classes))

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


def initialise(model, mechanisms):
    """He initialisation of the convolutions (fan-out) and N(0, 0.01) for the last linear layer.

    As torchvision, whose biases are 0. ``mechanisms``: whether also of the convolutions inside a
    mechanism; otherwise they stay as the mechanism initialised them.
    """
    for name, module in model.named_modules():
        if "attention" in name.split(".") and not mechanisms:
            continue
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, 0.0, 0.01)
            nn.init.zeros_(module.bias)


def mobilenet_v2(
    width=1.0,
    attention=None,
    num_classes=1000,
    *,
    placement=None,
    dropout=0.2,
    **attention_options,
):
    """MobileNetV2, optionally with attention in its inverted residual blocks.

    Parameters
    ----------
    width : float
        Multiplies the channels of every layer, each rounded to a multiple of 8; the last layer's
        1280 do not shrink.
    attention : None, str or callable
        A name of ``attn_lib.layers.build``, or a callable ``channels -> nn.Module``.
    num_classes : int
        Outputs of the last linear layer.
    placement : str, optional
        ``"depthwise"``, on the expanded features between the depthwise convolution and the
        projection, in the 16 blocks that expand: as the Coordinate Attention paper places its
        own mechanism, SE and CBAM. ``"projection"``, on the output of each of the 17 blocks
        before the shortcut is added: as the authors of ECA-Net do. The default is
        ``"projection"`` for ``"eca"``, else ``"depthwise"``.
    dropout : float
        Probability, in front of the last linear layer: torchvision's 0.2; the authors of ECA-Net
        have 0.25, those of Coordinate Attention 0.1.
    attention_options
        Options of the layer; a tuple gives one value for each of the seven stages of the paper's
        Table 2, as ``kernel_size=(1, 1, 1, 1, 1, 3, 3)`` for ECA in its authors' file of 2019.

    Returns
    -------
    MobileNetV2 : (N, 3, H, W) -> logits (N, num_classes).

    Raises
    ------
    ValueError
        A width that is not positive; an unknown placement, attention or option; the message
        lists the known.

    Notes
    -----
    Initialised as torchvision's; with ``"coordinate"`` the mechanism's convolutions are too, as
    in its authors' network (houqb/CoordAttention, mbv2_ca.py). ECA's kernel stays as PyTorch
    initialises it, as in its authors' (BangguWu/ECANet, eca_mobilenetv2.py).
    """
    if not (width > 0 and math.isfinite(width)):
        raise ValueError(f"width must be a positive number; got {width!r}")
    default = "projection" if attention == "eca" else "depthwise"
    placement = choose_placement(placement, PLACEMENTS, default)
    make = attention_factory(attention, attention_options, stages=len(STAGES))
    model = MobileNetV2(width, num_classes, make, placement, dropout)
    initialise(model, mechanisms=attention == "coordinate")
    return model
