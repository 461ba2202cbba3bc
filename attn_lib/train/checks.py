"""Whether what :func:`~attn_lib.train.fit` is given can be trained with.

The numbers come back as Python's own, whatever they were before: a checkpoint takes no others.
"""

import math
import operator

__all__ = ["MOST", "check_split", "integer", "number", "seed_of"]

MOST = 10**9  # of anything: far from what overflows in PyTorch, and farther from what is useful


def integer(name, value, least, most=math.inf):
    """``value`` as an int from ``least`` to ``most``.

    Raises
    ------
    ValueError
        It is out of this range; the message has ``name``.
    TypeError
        It is no integer.
    """
    wanted = f"from {least} to {most}" if most < math.inf else f"of at least {least}"
    try:
        whole = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer {wanted}; got {value!r}") from None
    if not least <= whole <= most:
        raise ValueError(f"{name} must be an integer {wanted}; got {value!r}")
    return whole


def number(name, value, *, least=None, above=None, below=math.inf):
    """``value`` as a finite float from ``least``, or above ``above``, to below ``below``.

    Raises
    ------
    ValueError
        It is out of this range, infinite or NaN; the message has ``name``.
    TypeError
        It is no number.
    """
    wanted = f"above {above}" if least is None else f"of at least {least}"
    if below < math.inf:
        wanted += f" and below {below}"
    try:
        real = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a number {wanted}; got {value!r}") from None
    large_enough = real > above if least is None else real >= least
    if not (large_enough and real < below and math.isfinite(real)):
        raise ValueError(f"{name} must be a finite number {wanted}; got {value!r}")
    return real


def seed_of(value):
    """``value`` as a seed that every generator takes, NumPy's with the smallest range."""
    return integer("seed", value, 0, 2**32 - 1)


def check_split(data, test):
    """ValueError unless ``data`` has images to train on and, if ``test``, to test on."""
    for purpose, images, labels in (
        ("train", data.x_train, data.y_train),
        ("test", data.x_test, data.y_test),
    ):
        if len(images) != len(labels):
            raise ValueError(f"{len(images)} images and {len(labels)} labels to {purpose} on")
    if len(data.x_train) < 2:
        raise ValueError(f"needs at least two images to train on; got {len(data.x_train)}")
    if test and len(data.x_test) == 0:
        raise ValueError("there are no images to test on")
