"""The mechanisms in NumPy, forward and backward by hand.

Every module here offers the same three functions: ``init(channels, ...) -> params``,
``forward(x, params, *, training=True) -> (y, cache)`` and
``backward(dy, cache) -> (dx, grads)``. ``params`` has the keys and shapes of the PyTorch
module's ``state_dict()``, ``cache["gates"]`` holds what multiplied x, and ``grads`` has the keys
of the trainable parameters.
"""

from attn_lib.reference import bam, cbam, coordinate, eca, gradcheck, ops, se

__all__ = ["bam", "cbam", "coordinate", "eca", "gradcheck", "ops", "se"]
