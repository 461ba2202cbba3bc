"""Checks that the exercises call, one module a chapter.

``check.se.squeeze(my_squeeze)`` prints that the attempt passed, or raises :class:`Failed` with a
message that names the likely mistake. An untouched stub prints that it is not attempted yet.

A package with a module for each chapter, so that the checks of one chapter stay short to read.
"""

from attn_lib.check import (
    bam,
    cbam,
    coordinate,
    cost,
    diagnostics,
    eca,
    gating,
    gradients,
    looking_inside,
    one_frame,
    profiling,
    se,
    training,
)
from attn_lib.check._core import Failed, expect
from attn_lib.check._inside import module_gradients
from attn_lib.check._shared import answered, score

__all__ = [
    "Failed",
    "answered",
    "bam",
    "cbam",
    "coordinate",
    "cost",
    "diagnostics",
    "eca",
    "expect",
    "gating",
    "gradients",
    "looking_inside",
    "one_frame",
    "module_gradients",
    "profiling",
    "score",
    "se",
    "training",
]
