"""Folders of the learner's own images."""

from pathlib import Path

import numpy as np
import torch

from attn_lib._progress import progress
from attn_lib.data.split import Split
from attn_lib.layers._base import positive_int

__all__ = ["image_folder"]

# what people call the parts of a folder that they have divided
_TRAIN = ("train", "training")
_TEST = ("test", "testing")
_VALIDATION = ("val", "valid", "validation")
_HELP = (
    "The parts of a divided folder are called train or training, and test, testing, val, valid or "
    "validation, each with a subfolder for each class; of one part alone, give its own path"
)


def image_folder(path, *, size=64, test_share=0.2, dtype=torch.float32, seed=0):
    """The images of a folder that has one subfolder for each class.

    Each image is turned upright as its EXIF data says, converted to RGB, scaled so that its
    shorter side has ``size`` pixels, and cropped to the middle square. Hidden files are ignored. An
    image takes 12 size² bytes in float32, and for a moment a quarter more.

    The folder may be divided already: into ``train`` (or ``training``) and ``test`` (``testing``)
    or ``val`` (``valid``, ``validation``), in capitals or not, each with a subfolder for each
    class. If there are all three, as in Roboflow's exports, ``test`` is tested on and ``val`` left
    alone, unless the classes of ``test`` are not given. Otherwise ``test_share`` of every class is
    drawn for the test.

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
        Fewer than two classes; a class with too few images; a folder that is divided in part, or
        with other names; test classes that are not the training classes; files that cannot be read
        as images: the message names them.
    """
    root = Path(path).expanduser()
    if not root.is_dir():
        raise FileNotFoundError(f"{root} is not a folder")
    size = positive_int("size", size)
    parts = _parts(root)
    if parts:
        train, test = map(_classes, parts)
        if train.keys() != test.keys():
            names, alone = [part.name for part in parts], sorted(train.keys() ^ test.keys())
            raise ValueError(f"classes in only one of {' and '.join(names)}: {', '.join(alone)}")
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


def _subfolders(folder):
    return [entry for entry in _visible(folder) if entry.is_dir()]


def _parts(root):
    """The folders to train on and to test on, where the owner has divided the images; or None."""
    folders = _subfolders(root)
    train, test, validation = parts = [
        [folder for folder in folders if folder.name.casefold() in names]
        for names in (_TRAIN, _TEST, _VALIDATION)
    ]
    named = train + test + validation
    others = [folder for folder in folders if folder not in named]
    if not train or not test + validation or (others and not any(map(_subfolders, named))):
        return None  # the subfolders are classes, of which one may well be called train
    for same in parts:
        if len(same) > 1:
            raise ValueError(f"{root} has {_names(same)}, which mean the same: leave one of them")
    if others:
        raise ValueError(
            f"{root} is divided into {_names(named)}, and has {_names(others)} beside them: take "
            f"it out of the folder, or rename it. {_HELP}"
        )
    labelled = [folder for folder in test + validation if _subfolders(folder)]
    return train[0], (labelled or test + validation)[0]


def _names(folders):
    return ", ".join(folder.name for folder in folders)


def _classes(folder):
    """Dictionary of each class and its files."""
    classes = {
        sub.name: [file for file in _visible(sub) if file.is_file()] for sub in _subfolders(folder)
    }
    without = [name for name, files in classes.items() if not files]
    deeper = any(_subfolders(folder / name) for name in without)
    mend = f". {_HELP}" if deeper else ""
    if len(classes) < 2:
        raise ValueError(
            f"{folder} needs a subfolder for each of two or more classes; it has {len(classes)}"
            + mend
        )
    if without:
        raise ValueError(f"the class {without[0]!r} of {folder} has no image{mend}")
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

    try:
        images = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    except RuntimeError:
        raise ValueError(
            f"{len(files)} images of {size}x{size} pixels do not fit into memory; choose a smaller "
            "size"
        ) from None
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
