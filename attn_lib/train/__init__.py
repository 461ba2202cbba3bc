"""Train a model on a :class:`~attn_lib.data.Split`: in a notebook, from the shell, or on many GPUs.

``fit`` is the loop; ``evaluate`` and ``over_seeds`` stand around it. The same from the shell is
``python -m attn_lib.train --help``, and under ``torchrun`` with one process for each GPU.
"""

from attn_lib.train.folder import keep_folder
from attn_lib.train.loop import device, evaluate, fit, over_seeds, seed_everything

__all__ = ["device", "evaluate", "fit", "keep_folder", "over_seeds", "seed_everything"]
