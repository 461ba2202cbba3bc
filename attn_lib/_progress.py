"""The progress bar of everything that takes a while."""

import os

from tqdm.auto import tqdm


def progress(*args, **options):
    """Progress bar of tqdm: a widget in a notebook, text in a terminal.

    Where TQDM_DISABLE is set there is none: the bar that tqdm has for notebooks overlooks it.
    """
    silent = os.environ.get("TQDM_DISABLE", "").lower() not in ("", "0", "false")
    return tqdm(*args, **{"leave": False, "disable": silent} | options)
