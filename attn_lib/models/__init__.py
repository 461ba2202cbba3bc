"""Backbones with an ``attention=`` hook, under the parameter names of published checkpoints."""

from attn_lib.models.googlenet import googlenet
from attn_lib.models.inception_bn import inception_bn
from attn_lib.models.mobilenet_v2 import mobilenet_v2
from attn_lib.models.resnet import resnet
from attn_lib.models.resnet_cifar import resnet_cifar

__all__ = ["googlenet", "inception_bn", "mobilenet_v2", "resnet", "resnet_cifar"]
