"""Backbones with an ``attention=`` hook, under torchvision's parameter names."""

from attn_lib.models.googlenet import googlenet
from attn_lib.models.mobilenet_v2 import mobilenet_v2
from attn_lib.models.resnet import resnet
from attn_lib.models.resnet_cifar import resnet_cifar

__all__ = ["googlenet", "mobilenet_v2", "resnet", "resnet_cifar"]
