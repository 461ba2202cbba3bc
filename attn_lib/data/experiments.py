"""What the long trainings of the course have left: results and checkpoints."""

import os
import tempfile
import time
from pathlib import Path, PurePosixPath

from attn_lib.data.images import cache_folder

__all__ = ["measured"]

_CHECKOUT = Path(__file__).parents[2] / "experiments"
_ADDRESS = "https://raw.githubusercontent.com/attn-lib/attn_lib/main/experiments"
_FRESH = 24 * 3600  # seconds for which a fetched copy is not asked for again


def measured(name):
    """Path of a file that an experiment of the repository has stored.

    Taken from the checkout that attn_lib was imported from, if it is one; otherwise fetched from
    the repository and kept in the cache that :func:`cifar10` uses. After a day it is fetched again,
    since results grow; where that fails, the old copy serves.

    Parameters
    ----------
    name : str
        Below ``experiments/``, with forward slashes: ``"cifar10/results/runs.jsonl"``.

    Raises
    ------
    FileNotFoundError
        Neither the checkout nor the repository has such a file.
    ConnectionError
        It cannot be fetched. Nothing incomplete is left in the cache.
    """
    if _CHECKOUT.is_dir():
        path = _CHECKOUT / name
        if not path.is_file():
            raise FileNotFoundError(f"no experiment has stored {name!r}: {path} does not exist")
        return path
    return _fetched(PurePosixPath(name))


def _fetched(name):
    path = cache_folder() / "experiments" / name
    if path.exists() and time.time() - path.stat().st_mtime < _FRESH:
        return path
    try:
        return _download(name, path)
    except ConnectionError:
        if path.exists():
            return path
        raise


def _download(name, path):
    import pooch
    import requests

    log = pooch.get_logger()
    level = log.level
    log.setLevel("WARNING")  # it would report the checksum of every file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="download-", dir=path.parent) as folder:
            fresh = pooch.retrieve(
                f"{_ADDRESS}/{name}", known_hash=None, fname=name.name, path=folder
            )
            os.replace(fresh, path)
        return path
    except requests.exceptions.HTTPError as error:
        if error.response is not None and error.response.status_code == 404:
            raise FileNotFoundError(
                f"no experiment has stored {str(name)!r}: {_ADDRESS} does not have it"
            ) from error
        raise ConnectionError(f"{_ADDRESS}/{name} could not be fetched ({error})") from error
    except requests.exceptions.RequestException as error:
        raise ConnectionError(
            f"{_ADDRESS}/{name} could not be fetched ({error}). Try again, or run the notebook in "
            "a checkout of the repository, which holds the file."
        ) from error
    finally:
        log.setLevel(level)
