"""Photographs: CIFAR-10, downloaded once, and folders of the learner's own."""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from attn_lib.data.split import Split

__all__ = ["CIFAR10_CLASSES", "cifar10", "image_folder"]

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


def image_folder(path, *, size=64, test_share=0.2, dtype=torch.float32, seed=0):
    """The images of a folder that has one subfolder for each class.

    Each image is turned upright as its EXIF data says, converted to RGB, scaled so that its
    shorter side has ``size`` pixels, and cropped to the middle square. Where ``path`` has the
    subfolders ``train`` and ``test`` (or ``val``), they hold the classes and make the two parts,
    and if there are all three, ``val`` is left alone; otherwise ``test_share`` of every class is
    drawn for the test. Hidden files are ignored. An image takes 12 size² bytes in float32, and for
    a moment a quarter more.

    Parameters
    ----------
    path : path
    size : int
        H = W, in pixels.
    test_share : float
        Between 0 and 1; every class keeps at least one image in either part.
    dtype : torch.dtype
        Of the images.
    seed : int
        Of the draw.

    Returns
    -------
    split : Split
        Images (N, 3, size, size) in [0, 1]; labels are positions in ``classes``.
    classes : tuple of str
        Names of the subfolders, sorted.

    Raises
    ------
    FileNotFoundError
        ``path`` is not a folder.
    ValueError
        Fewer than two classes; a class with too few images; test classes that are not the
        training classes; files that cannot be read as images: the message names them.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    if size < 1:
        raise ValueError(f"size must be at least 1 pixel; got {size}")
    parts = {folder.name: folder for folder in _visible(root) if folder.is_dir()}
    test_name = next((name for name in ("test", "val") if name in parts), None)
    if "train" in parts and test_name and parts.keys() <= {"train", "val", "test"}:
        train, test = _classes(parts["train"]), _classes(parts[test_name])
        if train.keys() != test.keys():
            alone = sorted(train.keys() ^ test.keys())
            raise ValueError(f"classes in only one of train and {test_name}: {', '.join(alone)}")
    else:
        if not 0 < test_share < 1:
            raise ValueError(f"test_share must be between 0 and 1; got {test_share}")
        train, test = _divide(_classes(root), test_share, seed)
    files, labels = [], []
    for part in (train, test):
        for label, name in enumerate(train):
            files += part[name]
            labels += [label] * len(part[name])
    x, y = _read_images(files, size).to(dtype).div_(255), torch.tensor(labels)
    n = sum(map(len, train.values()))
    return Split(x[:n], y[:n], x[n:], y[n:]), tuple(train)


def _visible(folder):
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))


def _classes(folder):
    """Dictionary of each class and its files."""
    classes = {
        sub.name: [file for file in _visible(sub) if file.is_file()]
        for sub in _visible(folder)
        if sub.is_dir()
    }
    if len(classes) < 2:
        raise ValueError(
            f"{folder} needs a subfolder for each of two or more classes; it has {len(classes)}"
        )
    for name, files in classes.items():
        if not files:
            raise ValueError(f"the class {name!r} of {folder} has no image")
    return classes


def _divide(classes, test_share, seed):
    generator = torch.Generator().manual_seed(seed)
    train, test = {}, {}
    for name, files in classes.items():
        if len(files) < 2:
            raise ValueError(f"the class {name!r} needs two images, to train and to test; it has 1")
        count = min(max(1, round(test_share * len(files))), len(files) - 1)
        order = torch.randperm(len(files), generator=generator).tolist()
        test[name] = [files[i] for i in sorted(order[:count])]
        train[name] = [files[i] for i in sorted(order[count:])]
    return train, test


def _in_eight_bits(image):
    """The image with grey values of 16 bits scaled to 8, where Pillow's ``convert`` would clip."""
    from PIL import Image

    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"its pixels have mode {image.mode}: save it with 8 bits a channel")
    return image


def _read_images(files, size):
    """(N, 3, size, size) bytes."""
    from PIL import Image, ImageOps

    from attn_lib._progress import progress

    images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    broken = []
    for i, file in enumerate(progress(files, desc="images")):
        try:
            with Image.open(file) as image:
                image = _in_eight_bits(ImageOps.exif_transpose(image)).convert("RGB")
                image = ImageOps.fit(image, (size, size), Image.Resampling.BICUBIC)
                images[i] = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            broken.append(f"{file} ({error})")
    if broken:
        shown = "\n  ".join(broken[:10])
        more = f"\n  and {len(broken) - 10} more" if len(broken) > 10 else ""
        raise ValueError(
            f"{len(broken)} of {len(files)} files cannot be read as images; mend them or take them "
            f"out of the folder:\n  {shown}{more}"
        )
    return images
