"""Published state dicts under attn_lib's names.

``from_official`` renames the tensors of the authors' own checkpoints, and of timm's, so that
``load_state_dict`` takes them; the outputs are then the published network's. From a shell, which
also says what model the weights are for::

    python -m attn_lib.convert checkpoint.pth.tar out.pth --family cbam

``identify`` says which published layers a state dict can come from, and what its names and shapes
leave open; from a shell, ``python -m attn_lib.convert checkpoint.pth.tar --identify``.
"""

from attn_lib.convert.identify import identify
from attn_lib.convert.official import from_official

__all__ = ["from_official", "identify"]
