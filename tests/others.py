"""torchvision and timm, which attn_lib is held to."""

from benchmarks.others import timm, torchvision

__all__ = ["timm", "torchvision"]
