"""torchvision and timm, which attn_lib is held to.

The torchvision wheel on PyPI has operators compiled for torch with CUDA. Beside a CPU build of
torch they do not load, and importing torchvision, which timm does too, fails where it describes
two of them. Declaring the two is enough; nothing here calls them.
"""

import torch

try:
    import torchvision
except RuntimeError as error:
    if "does not exist" not in str(error):
        raise
    _declared = torch.library.Library("torchvision", "FRAGMENT")
    for _name in ("nms", "qnms"):
        _declared.define(f"{_name}(Tensor boxes, Tensor scores, float threshold) -> Tensor")
    import torchvision

import timm

__all__ = ["timm", "torchvision"]
