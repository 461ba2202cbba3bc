"""What the long trainings of the course have left: results and checkpoints."""

import os
import tempfile
import time
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from attn_lib.data.images import cache_folder

__all__ = ["measured"]

_CHECKOUT = Path(__file__).parents[2] / "experiments"
_WHEEL = Path(__file__).parent / "measured"  # setup.py puts them there
_FRESH = 24 * 3600  # seconds for which a fetched copy is not asked for again


def measured(name):
    """Path of a file that an experiment of the repository has stored.

    Taken from the installed package, which holds what there was when it was built, or from the
    checkout that attn_lib was imported from. What neither has is fetched from the repository, if
    its address is known (pyproject.toml), and kept in the cache that :func:`cifar10` uses; after a
    day it is fetched again, since results grow, and where that fails, the old copy serves.

    Parameters
    ----------
    name : str
        Below ``experiments/``, with forward slashes: ``"cifar10/results/runs.jsonl"``.

    Raises
    ------
    FileNotFoundError
        No experiment has stored such a file; or it is not here, and the address of the repository
        is not known.
    ConnectionError
        It cannot be fetched. Nothing incomplete is left in the cache.
    """
    if (_WHEEL / name).is_file():
        return _WHEEL / name
    if _CHECKOUT.is_dir():
        path = _CHECKOUT / name
        if not path.is_file():
            raise FileNotFoundError(f"no experiment has stored {name!r}: {path} does not exist")
        return path
    return _fetched(name, _address(name))


def _address(name):
    """Where the repository's files are, by the metadata of the installed package."""
    try:
        urls = metadata("attn_lib").get_all("Project-URL") or []
    except PackageNotFoundError:
        urls = []
    for url in urls:
        label, _, repository = url.partition(", ")
        if label == "Repository":
            raw = repository.replace("github.com", "raw.githubusercontent.com", 1)
            return f"{raw}/main/experiments"
    raise FileNotFoundError(
        f"{name!r} is not in the installed attn_lib, and the address of its repository is not "
        "known. Install the wheel that `make wheel` builds, which holds all results, or work in a "
        "checkout."
    )


def _fetched(name, address):
    path = cache_folder() / "experiments" / name
    if path.exists() and time.time() - path.stat().st_mtime < _FRESH:
        return path
    try:
        return _download(name, f"{address}/{name}", path)
    except ConnectionError:
        if path.exists():
            return path
        raise


def _download(name, url, path):
    import pooch
    import requests

    log = pooch.get_logger()
    level = log.level
    log.setLevel("WARNING")  # it would report the checksum of every file
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(prefix="download-", dir=path.parent) as folder:
            fresh = pooch.retrieve(url, known_hash=None, fname=path.name, path=folder)
            os.replace(fresh, path)
        return path
    except requests.exceptions.HTTPError as error:
        if error.response is not None and error.response.status_code == 404:
            raise FileNotFoundError(
                f"no experiment has stored {name!r}: {url} does not exist"
            ) from error
        raise ConnectionError(f"{url} could not be fetched ({error})") from error
    except requests.exceptions.RequestException as error:
        raise ConnectionError(
            f"{url} could not be fetched ({error}). Try again, or run the notebook in a checkout "
            "of the repository, which holds the file."
        ) from error
    finally:
        log.setLevel(level)
