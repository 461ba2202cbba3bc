"""Images to train on: embedded in the course, downloaded once, or the learner's own.

``digits`` and the diagnostic tasks made from them need no network. ``cifar10`` downloads the
official archive into a cache; ``image_folder`` reads a folder of images. All return a ``Split``;
``augment`` varies the images of a batch. ``measured`` finds what the experiments have stored.
"""

from attn_lib.data.augment import augment
from attn_lib.data.diagnostic import (
    channel_by_place,
    channel_order,
    global_switch,
    local_product,
    marked_neighbour,
    plain_evidence,
    same_row,
    sparse_peak,
)
from attn_lib.data.embedded import cued_digits, digits, marked_digits, pointed_digits
from attn_lib.data.experiments import measured
from attn_lib.data.folder import image_folder
from attn_lib.data.images import CIFAR10_CLASSES, cifar10
from attn_lib.data.split import Split

__all__ = [
    "CIFAR10_CLASSES",
    "Split",
    "augment",
    "channel_by_place",
    "channel_order",
    "cifar10",
    "cued_digits",
    "digits",
    "global_switch",
    "image_folder",
    "local_product",
    "marked_digits",
    "marked_neighbour",
    "measured",
    "plain_evidence",
    "pointed_digits",
    "same_row",
    "sparse_peak",
]
