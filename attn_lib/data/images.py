"""CIFAR-10, downloaded once."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from attn_lib.data.split import Split

__all__ = ["CIFAR10_CLASSES", "cifar10"]

CIFAR10_CLASSES = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())

_URL = "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz"
_SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
_FOLDER = "cifar-10-batches-bin"
_TRAIN = [f"data_batch_{i}.bin" for i in range(1, 6)]
_TEST = ["test_batch.bin"]
_PIXELS = 3 * 32 * 32
_FILE_BYTES = 10_000 * (1 + _PIXELS)  # a record: its label, then the red, green and blue planes


def cifar10(dtype=torch.float32, *, root=None):
    """CIFAR-10 (Krizhevsky, 2009): photographs of 32x32 pixels, 50,000 to train on, 10,000 to test.

    The official binary archive (162 MB) is downloaded at the first call, with a progress bar and
    a checksum, and unpacked into a cache. No pickle is read.

    Parameters
    ----------
    dtype : torch.dtype
        Of the images.
    root : path, optional
        The cache. If it holds ``cifar-10-batches-bin/``, nothing is downloaded. By default the
        environment variable ``ATTN_LIB_DATA``, else the user's cache folder.

    Returns
    -------
    Split : images (N, 3, 32, 32) in [0, 1], labels 0 to 9 in the order of ``CIFAR10_CLASSES``.

    Raises
    ------
    ConnectionError
        The archive cannot be downloaded. Nothing incomplete is left in the cache.
    ValueError
        The download does not have the expected checksum, or a file of the cache is damaged; the
        message says what to delete.
    """
    folder = cache_folder(root) / _FOLDER
    if not folder.exists():
        _download(folder)
    x_train, y_train = _read_batches(folder, _TRAIN, dtype)
    x_test, y_test = _read_batches(folder, _TEST, dtype)
    return Split(x_train, y_train, x_test, y_test)


def cache_folder(root=None):
    """Folder for what is downloaded: ``root``, else ``ATTN_LIB_DATA``, else the user's cache."""
    import pooch

    return Path(root or os.environ.get("ATTN_LIB_DATA") or pooch.os_cache("attn_lib")).expanduser()


def _download(folder):
    """Make ``folder`` from the official archive: whole, or not at all."""
    import pooch
    import requests

    cache = folder.parent
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="download-", dir=cache) as temporary:
        try:
            pooch.retrieve(
                _URL,
                known_hash=f"sha256:{_SHA256}",
                fname="archive.tar.gz",
                path=temporary,
                processor=pooch.Untar(extract_dir="unpacked"),
                progressbar=True,
            )
        except requests.exceptions.RequestException as error:
            raise ConnectionError(
                f"CIFAR-10 could not be downloaded from {_URL} ({error}). Try again, or download "
                f"it elsewhere and unpack it so that {folder} exists."
            ) from error
        except ValueError as error:  # pooch: another checksum than the known one
            raise ValueError(
                f"what {_URL} sent is not the official archive, or only a part of it; it has been "
                f"deleted. Call cifar10() again. ({error})"
            ) from error
        try:
            os.replace(Path(temporary) / "unpacked" / _FOLDER, folder)
        except OSError:
            if not folder.exists():  # another process was faster: its folder is as good
                raise


def _read_batches(folder, names, dtype):
    records = np.concatenate([_read_records(folder / name) for name in names])
    images = torch.from_numpy(records[:, 1:].reshape(-1, 3, 32, 32))
    return images.to(dtype).div_(255), torch.from_numpy(records[:, 0].astype(np.int64))


def _read_records(path):
    """(10000, 3073) bytes of one file, or an error that says what to delete."""
    mend = f"Delete the folder {path.parent} and call cifar10() again: it is downloaded anew."
    if not path.is_file():
        raise ValueError(f"{path} is missing. {mend}")
    size = path.stat().st_size
    if size != _FILE_BYTES:
        raise ValueError(f"{path} has {size:,} bytes instead of {_FILE_BYTES:,}. {mend}")
    records = np.fromfile(path, np.uint8).reshape(10_000, -1)
    if records[:, 0].max() > 9:
        first = int(np.argmax(records[:, 0] > 9))
        raise ValueError(
            f"{path} is damaged: record {first} has label {records[first, 0]}, "
            f"labels are 0 to 9. {mend}"
        )
    return records
