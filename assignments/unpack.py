"""The files that were handed in: those of a folder, and what zip files hold, two levels deep.

Nothing is left out without a word: what cannot be read is a :class:`File` with the reason.
"""

import os
import re
import shutil
import tempfile
import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

SKIPPED = {"__MACOSX", ".ipynb_checkpoints"}
# What systems and platforms add; nobody handed it in.
ADDED = re.compile(r"\..*|Thumbs\.db|desktop\.ini|.+_attempt_[\d-]+\.txt", re.IGNORECASE)
MOST = 2_000_000_000  # bytes that a zip may unpack to


@dataclass(frozen=True)
class File:
    """A file that was handed in.

    path : where it lies.
    inside : its place in the submissions; a zip counts as a folder.
    unread : why it is not read, if it is not.
    """

    path: Path
    inside: PurePosixPath
    unread: str = ""


def files(submissions, folder, without=None):
    """Every file in ``submissions``, a folder or a zip.

    Parameters
    ----------
    folder : where to unpack zip files.
    without : a folder in ``submissions`` that is not of them, such as that of the marks.
    """
    path = Path(submissions)
    if not path.exists():
        raise ValueError(f"SUBMISSIONS names {str(path)!r}, which does not exist")
    folder.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        own = Path(without).resolve() if without else None
        found = []
        for file in sorted(path.rglob("*")):
            if file.is_file() and not (own and file.resolve().is_relative_to(own)):
                found += _file(file, PurePosixPath(file.relative_to(path)), folder, 2)
        return found
    if not zipfile.is_zipfile(path):
        raise ValueError(f"SUBMISSIONS is a folder or a zip file; {str(path)!r} is neither")
    try:
        return _members(path, PurePosixPath(), folder, 1)
    except Exception as error:  # there is no end to what a damaged zip brings about
        raise ValueError(f"{path} cannot be opened: {error}") from None


def _file(path, inside, folder, deep):
    """A file, or what it holds if it is a zip that may still be opened, ``deep`` levels."""
    suffix = inside.suffix.lower()
    hidden = suffix != ".ipynb" and any(part.startswith(".") for part in inside.parts)
    if SKIPPED & set(inside.parts) or inside.name.startswith("._") or hidden:
        return []
    if suffix == ".ipynb":
        return [File(path, inside)]
    if suffix != ".zip":
        return [] if ADDED.fullmatch(inside.name) else [File(path, inside, "no notebook")]
    if not deep:
        return [File(path, inside, "a zip in a zip in a zip")]
    try:
        return _members(path, inside.with_suffix(""), folder, deep - 1)
    except Exception as error:  # one student's zip does not stop the others
        return [File(path, inside, f"the zip cannot be opened: {error}")]


def _members(path, inside, folder, deep):
    with zipfile.ZipFile(path) as archive:
        infos = [info for info in archive.infolist() if not info.is_dir()]
        wanted = [i for i in infos if i.filename.lower().endswith((".ipynb", ".zip"))]
        if sum(info.file_size for info in wanted) > MOST:
            raise ValueError(f"it unpacks to more than {MOST:,} bytes")
        found = []
        for info in infos:
            parts = PurePosixPath(info.filename.replace("\\", "/")).parts
            place = PurePosixPath(inside, *(part for part in parts if part != "/"))
            if place == inside or ".." in parts or "/" in parts:
                found.append(File(path, place, "its name leads out of the zip"))
                continue
            if info not in wanted:
                found += _file(path, place, folder, deep)
                continue
            try:
                found += _file(_extracted(archive, info, folder, path), place, folder, deep)
            except Exception as error:
                why = "it needs a password" if info.flag_bits & 1 else error
                found.append(File(path, place, f"it cannot be unpacked: {why}"))
        return found


def _extracted(archive, info, folder, path):
    """A new file with what a zip's member holds and its time; the name may be any."""
    number, name = tempfile.mkstemp(dir=folder)
    with archive.open(info) as source, open(number, "wb") as file:
        shutil.copyfileobj(source, file)
    try:
        when = datetime(*info.date_time).timestamp()
    except (ValueError, OverflowError):  # some programs write none
        when = path.stat().st_mtime
    os.utime(name, (when, when))
    return Path(name)
