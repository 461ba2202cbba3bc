"""Finds out whose the submissions are, in what a learning platform exports or in plain files.

Understood, also inside zip files, and mixed:

    Surname Name_123456_assignsubmission_file_/se.ipynb      Moodle, with or without the folder
    surnamename_LATE_1234_56789_se-1.ipynb                   Canvas
    HW1_username_attempt_2026-03-05-14-22-33_se.ipynb        Blackboard
    username/se.ipynb, username/2026-03-05/se.ipynb          a folder for each student
    username.ipynb, username_se.ipynb                        files named by student

Folders around all of these are passed over. Of several attempts the last in time counts. The time
is the one in the name, else that of the file. What does not count is kept, with the reason.
"""

import json
import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path, PurePosixPath

from assignments.roster import key

FORMS = (
    re.compile(r"(?P<student>.+?)_(?P<account>\d+)_assignsubmission_(?:file|onlinetext)_.*"),
    re.compile(r"(?P<student>.+?)_(?P<late>LATE_)?(?P<account>\d+)_\d+_.+"),
    re.compile(r".+?_(?P<student>[^_]+)_attempt_.+"),
)
DAY = r"(20\d\d)-(\d\d)-(\d\d)"
TIME = re.compile(rf"{DAY}[T_ -]?(\d\d)[-:h.]?(\d\d)(?:[-:m.]?(\d\d))?")
DATE = re.compile(rf"{DAY}(?!\d)")
COPY = re.compile(r"(?:-| ?\()(\d{1,2})\)?$")  # se-1, se (2): the platform's number of an attempt
OTHER = "the notebook of"  # another assignment, so there is nothing to look at
NAMED = 5  # files that a remark names; of more it says how many


@dataclass(frozen=True)
class Attempt:
    """One file of one student.

    inside : its place in the submissions.
    account : the platform's number of the student, which tells two of the same name apart.
    unread : why it is not read, if it is not.
    sure : whether its place says that it is a student's.
    """

    student: str
    path: Path
    inside: PurePosixPath
    time: datetime
    number: int = 0
    marked_late: bool = False
    account: str = ""
    unread: str = ""
    sure: bool = True

    @property
    def order(self):
        return self.time, self.number, str(self.inside)


@dataclass
class Student:
    """What a student handed in: the attempt that counts, if any, and the others.

    unclear : whether there is none, and files that somebody has to look at.
    """

    attempt: Attempt | None
    count: int
    unclear: bool = False
    remarks: list = field(default_factory=list)


def attempts(files, assignments=(), wanted=None, listed=()):
    """An attempt for every file.

    Parameters
    ----------
    files : of ``unpack.files``.
    assignments : names of assignments, so that ``ada_se.ipynb`` is Ada's.
    wanted : name of the assignment that is graded; notebooks of others are not read.
    listed : names of students, so that a folder called so is one student's.
    """
    files = _without_shared_folders(files, assignments, listed)
    return [_attempt(file, inside, assignments, wanted) for file, inside in files]


def _without_shared_folders(files, assignments, listed):
    """(file, its place), where a folder around all students is passed over."""
    known = {key(name) for name in listed}
    places = [f.inside for f in files if f.inside.suffix.lower() in (".ipynb", ".zip")]
    places = [place for place in places if ".." not in place.parts]
    shared = 0
    while len(places) > 1 and all(len(place.parts) > shared + 1 for place in places):
        folders = {place.parts[shared] for place in places}
        below = {PurePosixPath(place.parts[shared + 1]).stem for place in places}
        folder = min(folders)
        names_a_student = key(folder) in known or any(form.fullmatch(folder) for form in FORMS)
        if len(folders) > 1 or names_a_student:
            break
        if all(_bare(name).casefold() in ("", *assignments) for name in below):
            break  # ada/se.ipynb and ada/cbam.ipynb, or attempts by date, are one student's
        shared += 1
    around = places[0].parts[:shared] if places else ()
    for file in files:
        parts = file.inside.parts
        for folder in around:
            parts = parts[1:] if len(parts) > 1 and parts[0] == folder else parts
        yield file, PurePosixPath(*parts)


def _attempt(file, inside, assignments, wanted):
    notebook = inside.suffix.lower() == ".ipynb"
    unread, says = file.unread, None
    if notebook and not unread:
        try:
            says = _assignment(file.path)
        except OSError as error:
            unread = f"it cannot be read: {error.strerror}"
    student, account, late, sure = "", "", False, True
    by_file = None
    for part in inside.parts:
        match = next(filter(None, (form.fullmatch(part) for form in FORMS)), None)
        if match:
            groups = match.groupdict()
            student, account = groups["student"], groups.get("account") or ""
            late = bool(groups.get("late"))
            break
    else:
        if len(inside.parts) > 1:
            student = inside.parts[0]
            sure = student != ".."
        else:
            names = [says] if says in assignments else assignments
            student, by_file = _from_file(inside.stem, names)
            sure = notebook or inside.suffix.lower() == ".zip"
    about = says or by_file or _at_the_end(inside.stem, assignments)
    if notebook and wanted and about not in (None, wanted):
        unread = unread or f"{OTHER} {about}"
    copy = COPY.search(inside.stem)
    return Attempt(
        student=student.strip(),
        path=file.path,
        inside=inside,
        time=_time(file.path, inside),
        number=int(copy[1]) if copy else 0,
        marked_late=late,
        account=account,
        unread=unread,
        sure=sure,
    )


def _assignment(path):
    """The assignment that a notebook names in its metadata; None if it names none."""
    raw = path.read_bytes()
    try:
        name = json.loads(raw)["metadata"]["attn_assignment"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return name[:40] if isinstance(name, str) else None


def _from_file(stem, assignments):
    """(student, assignment or None) of ``ada_se``, ``se-ada``, ``ada (2)`` or ``ada``."""
    stem = _bare(stem)
    for name in assignments:
        for pattern in (rf"(.+)[_ -]{name}", rf"{name}[_ -](.+)"):
            match = re.fullmatch(pattern, stem, re.IGNORECASE)
            if match:
                return match[1], name
    return stem, None


def _at_the_end(stem, assignments):
    """The assignment of ``se`` and ``ada_1234_56789_my_se-1``."""
    last = re.split(r"[_ -]", _bare(stem))[-1].casefold()
    return last if last in assignments else None


def _bare(stem):
    return COPY.sub("", DATE.sub("", TIME.sub("", stem))).strip("_- ")


def _time(path, inside):
    """The time in the name, else the day in it, else the time of the file."""
    for match in [*TIME.finditer(str(inside)), *list(DATE.finditer(str(inside)))[::-1]]:
        try:
            return datetime(*(int(part or 0) for part in match.groups()))
        except ValueError:
            pass
    return datetime.fromtimestamp(path.stat().st_mtime).replace(microsecond=0)


def students(attempts, named=lambda student, account: None, earlier=()):
    """(student by name, files of which nobody knows whose they are).

    Students of the same name stay apart if the platform gave them two numbers.

    Parameters
    ----------
    named : callable
        The name in the class list of (student, account), or None; see ``roster``.
    earlier : pairs (student, account) of earlier runs. Who is not in the class list keeps the
        name, so that nobody gets the line of another.
    """
    known = {}
    for student, account in earlier:
        known.setdefault(key(student.removesuffix(f" ({account})")), {})[account] = student
    groups = {}
    for attempt in sorted(attempts, key=lambda attempt: not attempt.sure):
        name = named(attempt.student, attempt.account)
        group = name or key(attempt.student)
        if name or attempt.sure or group in groups:
            groups.setdefault(group, []).append(attempt)
    grouped = {attempt for group in groups.values() for attempt in group}
    strays = [attempt for attempt in attempts if attempt not in grouped]
    found = {}
    for name, group in groups.items():
        before = known.get(name, {})
        accounts = sorted({attempt.account for attempt in group if attempt.account} | {*before})
        if len(accounts) < 2:
            kept = (before[a.account] for a in group if a.account in before)
            found[next(kept, _called(name, group))] = _student(group)
            continue
        for account in ["", *accounts]:
            part = [attempt for attempt in group if attempt.account == account]
            if part:
                called = _called(name, part)
                if account or called in before.values():
                    called = before.get(account) or f"{called} ({account or 'no number'})"
                student = found[called] = _student(part)
                numbers = ", ".join(accounts)
                student.remarks.append(f"the platform has this name with the numbers {numbers}")
    return found, strays


def _called(name, group):
    return name if isinstance(name, str) else max(group, key=lambda a: a.order).student


def _student(group):
    """The last attempt counts; a remark names the others and what is not read."""
    read = [attempt for attempt in group if not attempt.unread]
    best = max(read, key=lambda attempt: attempt.order, default=None)
    student = Student(best, len(read))
    if best is None:
        student.unclear = any(not attempt.unread.startswith(OTHER) for attempt in group)
        by_hand = ", look at it by hand" if student.unclear else ""
        student.remarks.append(f"no notebook of this assignment handed in{by_hand}")
    elif len(read) > 1:
        when = f"{best.time:%Y-%m-%d %H:%M}"
        student.remarks.append(f"the last of {len(read)} attempts, {when}, {best.inside}")
    others = [attempt for attempt in group if attempt is not best]
    if others:
        student.remarks.append(f"not read: {listing(others)}")
    return student


def listing(attempts):
    """The files by name, and why they are not read."""
    names = [f"{a.inside} ({a.unread or 'an earlier attempt'})" for a in attempts[:NAMED]]
    more = len(attempts) - NAMED
    return ", ".join(names) + (f", and {more} more" if more > 0 else "")
