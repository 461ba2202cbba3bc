"""Finds the submissions in what a learning platform exports, or in plain files.

Understood, also inside zip files, and mixed:

    Surname Name_123456_assignsubmission_file_/se.ipynb      Moodle, with or without the folder
    surnamename_LATE_1234_56789_se-1.ipynb                   Canvas
    HW1_username_attempt_2026-03-05-14-22-33_se.ipynb        Blackboard
    username/se.ipynb, username/2026-03-05/se.ipynb          a folder for each student
    username.ipynb, username_se.ipynb                        files named by student

Of several attempts the last in time counts. The time is the one in the name, else that of the file.
"""

import csv
import os
import re
import shutil
import unicodedata
import zipfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path, PurePosixPath

FORMS = (
    re.compile(r"(?P<student>.+?)_\d+_assignsubmission_file_.*"),
    re.compile(r"(?P<student>.+?)_(?P<late>LATE_)?\d+_\d+_.+"),
    re.compile(r".+?_(?P<student>[^_]+)_attempt_.+"),
)
TIME = re.compile(r"(20\d\d)-(\d\d)-(\d\d)[T_ -]?(\d\d)[-:h.]?(\d\d)(?:[-:m.]?(\d\d))?")
COPY = re.compile(r"(?:-| ?\()(\d{1,2})\)?$")  # se-1, se (2): the platform's number of an attempt
SKIPPED = {"__MACOSX", ".ipynb_checkpoints"}
MOST = 2_000_000_000  # bytes that a zip may unpack to


@dataclass(frozen=True)
class Attempt:
    """One file of one student."""

    student: str
    path: Path
    time: datetime
    number: int = 0
    marked_late: bool = False

    @property
    def order(self):
        return self.time, self.number, self.path.name


def unpack(submissions, folder):
    """The folders to look into: ``submissions`` itself, and what zip files there hold."""
    path = Path(submissions)
    if not path.exists():
        raise ValueError(f"SUBMISSIONS names {str(path)!r}, which does not exist")
    if path.is_dir():
        zips = [p for p in sorted(path.rglob("*.zip")) if zipfile.is_zipfile(p)]
        work = [folder / str(number) for number in range(len(zips))]
        for zipped, target in zip(zips, work, strict=True):
            _unpack(zipped, target, zipped.relative_to(path).with_suffix(""))
        return [path, *work]
    if not zipfile.is_zipfile(path):
        raise ValueError(f"SUBMISSIONS is a folder or a zip file; {str(path)!r} is neither")
    return [_unpack(path, folder / "zip", "")]


def _unpack(path, folder, inside):
    """Write a zip's notebooks into ``folder / inside``, but none whose name leads outside."""
    with zipfile.ZipFile(path) as archive:
        infos = [i for i in archive.infolist() if not i.is_dir()]
        if sum(i.file_size for i in infos) > MOST:
            raise ValueError(f"{path} unpacks to more than {MOST:,} bytes")
        for info in infos:
            parts = PurePosixPath(info.filename.replace("\\", "/")).parts
            if ".." in parts or parts[0] == "/" or not info.filename.endswith(".ipynb"):
                continue
            target = Path(folder, inside, *parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(info) as source, open(target, "wb") as file:
                shutil.copyfileobj(source, file)
            when = datetime(*info.date_time).timestamp()
            os.utime(target, (when, when))
    return folder


def attempts(folders, assignments=()):
    """Every attempt in the folders.

    Parameters
    ----------
    assignments : names of assignments, so that ``ada_se.ipynb`` is Ada's.
    """
    found = []
    for folder in folders:
        for path in sorted(Path(folder).rglob("*.ipynb")):
            inside = path.relative_to(folder)
            if not SKIPPED & set(inside.parts) and not path.name.startswith("._"):
                found.append(_attempt(path, inside, assignments))
    return found


def _attempt(path, inside, assignments):
    late = False
    for part in inside.parts:
        for form in FORMS:
            match = form.fullmatch(part)
            if match:
                student = match["student"]
                late = late or bool(match.groupdict().get("late"))
                break
        else:
            continue
        break
    else:
        student = inside.parts[0] if len(inside.parts) > 1 else _from_file(path.stem, assignments)
    copy = COPY.search(path.stem)
    number = int(copy[1]) if copy else 0
    return Attempt(student.strip(), path, _time(path, inside), number, late)


def _from_file(stem, assignments):
    """The student of ``ada_se``, ``se-ada``, ``ada (2)`` or ``ada``."""
    stem = COPY.sub("", TIME.sub("", stem)).strip("_- ")
    for name in assignments:
        for pattern in (rf"(.+)[_ -]{name}", rf"{name}[_ -](.+)"):
            match = re.fullmatch(pattern, stem, re.IGNORECASE)
            if match:
                return match[1]
    return stem


def _time(path, inside):
    match = TIME.search(str(inside))
    if match:
        try:
            return datetime(*(int(part or 0) for part in match.groups()))
        except ValueError:
            pass
    return datetime.fromtimestamp(path.stat().st_mtime).replace(microsecond=0)


def key(name):
    """What of a name is compared: letters and digits, without accents, capitals and order."""
    plain = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode() or name
    return tuple(sorted(re.findall(r"\w+", plain.casefold().replace("_", " "))))


def last(attempts):
    """Student -> (the attempt that counts, how many there were)."""
    groups = {}
    for attempt in attempts:
        groups.setdefault(key(attempt.student), []).append(attempt)
    chosen = {}
    for group in groups.values():
        best = max(group, key=lambda attempt: attempt.order)
        chosen[best.student] = best, len(group)
    return chosen


def class_list(path):
    """Students of a list: the first column of a CSV file names them, the others are other names."""
    with open(path, newline="", encoding="utf-8-sig") as file:
        rows = [[cell.strip() for cell in row if cell.strip()] for row in csv.reader(file)]
    rows = [row for row in rows if row and not row[0].startswith("#")]
    if rows and rows[0][0].casefold() in ("student", "name", "id", "username", "user"):
        rows = rows[1:]
    return {row[0]: row for row in rows}


def matched(chosen, listed):
    """Name the chosen attempts as the class list does; (attempts by name, who is missing).

    A platform may have written a name without its space: ``lovelaceada`` is *Lovelace, Ada*.
    """
    names = {}
    for student, others in listed.items():
        for other in [*others, " ".join(others[:2])]:
            names[key(other)] = names["".join(key(other))] = student
    found = {}
    for student, value in chosen.items():
        name = names.get(key(student)) or names.get("".join(sorted(key(student))))
        name = name or names.get(_joined(student, names)) or student
        if name not in found or found[name][0].order < value[0].order:
            found[name] = value
    return found, [student for student in listed if student not in found]


def _joined(student, names):
    """The key of a list's name whose words, in some order, are the letters of ``student``."""
    letters = "".join(key(student))
    for words in names:
        if isinstance(words, tuple) and _consists(letters, words):
            return words
    return None


def _consists(letters, words):
    if not words:
        return not letters
    return any(
        letters.startswith(word) and _consists(letters[len(word) :], words[:i] + words[i + 1 :])
        for i, word in enumerate(words)
    )
