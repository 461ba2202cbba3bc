"""Grades a class: `make grade SUBMISSIONS=folder`, or `python -m assignments.grade --help`.

Marks already given stay: a submission is graded once, and again only if its file is another or
--again is given. What a submission does to its own grading stops no other.
"""

import argparse
import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path

import nbformat
from tqdm import tqdm

from assignments import build, collect, feedback, isolation, roster, spreadsheet, tables, unpack

ROOT = build.ROOT
NOTHING = "nothing handed in"
FAILED = "could not be graded, look at it by hand"
MARGIN = 120  # seconds that the grader may take beyond those of the submission


@dataclass
class Paper:
    """One student's submission and what became of it."""

    student: str
    attempt: collect.Attempt | None
    count: int
    result: Path
    remarks: list = field(default_factory=list)
    late: bool = False
    graded: dict | None = None  # what grade_one wrote
    unclear: bool = False  # whether files were handed in that nothing here can read

    @property
    def digest(self):
        return hashlib.sha256(self.attempt.path.read_bytes()).hexdigest()


def main(argv=None):
    args = _arguments(argv)
    try:
        isolation.available(args.isolation)
        with tempfile.TemporaryDirectory(prefix="attn-") as folder:
            return grade(args, Path(folder))
    except (ValueError, isolation.NoIsolation) as error:
        print(error, file=sys.stderr)
        return 1


def grade(args, folder):
    """Grade what ``args`` name; working files go into ``folder``."""
    name = args.assignment or _only()
    out = Path(args.out)
    for table, columns in (("marks.csv", tables.MARKS), ("written.csv", tables.WRITTEN)):
        spreadsheet.read(out / table, columns)  # so that what is wrong with it is said at once
    listed = roster.class_list(args.class_list) if args.class_list else {}
    notebooks = _notebooks(name, folder)
    stored = [graded for _, graded in _results(out / "results", name) if "student" in graded]
    accounts = {graded["student"]: graded.get("account", "") for graded in stored}
    papers = papers_of(args, name, folder, listed, accounts)
    handed_in = [paper for paper in papers if paper.attempt]
    todo = [paper for paper in handed_in if args.again or not _kept(paper)]
    for paper in handed_in:
        if paper.graded:
            _store(paper, name)  # whether it was late, for one, may be new
    if len(handed_in) > len(todo):
        print(f"{len(handed_in) - len(todo)} marks are kept; AGAIN=1 grades them again")
    stopped = _grade_all(todo, name, notebooks, args, folder)
    teacher = nbformat.read(notebooks["teacher"], as_version=4)
    known = roster.namer(listed)

    def named(student):  # who was unknown before there was a class list
        return known(student, accounts.get(student, "")) or student

    papers += _stored(out / "results", papers, name, named)
    written = tables.written(out / "written.csv", papers, name, named)
    tables.marks(out / "marks.csv", papers, teacher, name, named)
    feedback.write(out / "feedback", papers, name)
    waiting = sum(row["points"] == "" for row in written)
    print(f"{out / 'marks.csv'}: {len(papers)} students")
    if waiting:
        print(
            f"{waiting} written answers wait in {out / 'written.csv'}: fill in the column points "
            f"(the rubric is in assignments/source/{name}/{name}.md) and run the same command again"
        )
    if stopped:
        print("stopped; the same command goes on", file=sys.stderr)
    return 130 if stopped else 0  # what a shell says of a command that Ctrl-C ended


def _arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("submissions", help="a folder or a zip file")
    parser.add_argument("--out", default="grades", help="where the marks go (default: grades)")
    parser.add_argument("--assignment", help="its name; not needed if there is one alone")
    parser.add_argument("--class-list", help="CSV or text file, one student a line")
    parser.add_argument("--due", type=_date, help="2026-03-01 23:59; later ones are flagged")
    parser.add_argument("--isolation", default="bubblewrap", help=", ".join(isolation.KINDS))
    parser.add_argument("--again", action="store_true", help="grade again what has marks")
    jobs = {"type": _positive(int), "default": 2}
    parser.add_argument("--jobs", **jobs, help="submissions at a time (default: 2)")
    for limit, value in asdict(isolation.Limits()).items():
        options = {"type": _positive(type(value)), "default": value}
        parser.add_argument(f"--{limit}", **options, help=f"default: {value}")
    return parser.parse_args(argv)


def _positive(kind):
    def number(text):
        try:
            if 0 < kind(text) < math.inf:
                return kind(text)
        except ValueError:
            pass
        message = f"{'a whole' if kind is int else 'a'} number above 0 is wanted; got {text!r}"
        raise argparse.ArgumentTypeError(message)

    return number


def _date(text):
    try:
        when = datetime.fromisoformat(text.strip())
        # Times of submissions are this machine's.
        return when.astimezone().replace(tzinfo=None) if when.tzinfo else when
    except (ValueError, OverflowError):
        message = f"a date such as 2026-03-01 23:59 is wanted; got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _only():
    names = build.names()
    if len(names) != 1:
        raise ValueError(f"say which: ASSIGNMENT=... is one of {', '.join(names)}")
    return names[0]


def papers_of(args, name, folder, listed, accounts):
    """A paper for each student, the missing ones of a class list included.

    ``accounts`` are the platform's numbers of students who were graded before, by name.
    """
    results = Path(args.out) / "results"
    found = unpack.files(args.submissions, folder / "unpacked", without=args.out)
    named = roster.namer(listed)
    attempts = collect.attempts(found, build.names(), name, listed)
    if not any(not attempt.unread for attempt in attempts):
        unread = f"; not read: {collect.listing(attempts)}" if attempts else ""
        raise ValueError(f"there is no notebook (.ipynb) of {name} in {args.submissions}{unread}")
    earlier = [(student, account) for student, account in accounts.items() if account]
    students, strays = collect.students(attempts, named, earlier)
    if strays:
        print(f"not read: {collect.listing(strays)}")
    if len(students) == 1 and len(attempts) > 1:
        print(f"all files are taken for those of one student, {next(iter(students))}")
    results.mkdir(parents=True, exist_ok=True)
    papers = []
    for student, handed_in in students.items():
        attempt = handed_in.attempt
        paper = Paper(student, attempt, handed_in.count, _result(results, name, student))
        paper.remarks += handed_in.remarks
        paper.unclear = handed_in.unclear
        if listed and student not in listed:
            paper.remarks.append("not in the class list")
        if attempt:
            paper.late = attempt.marked_late or bool(args.due and attempt.time > args.due)
        papers.append(paper)
    present = set(students) | {named(a.student, a.account) for a in attempts if a.sure}
    for student in set(listed) - present:
        paper = Paper(student, None, 0, _result(results, name, student), [NOTHING])
        papers.append(paper)
    return sorted(papers, key=lambda paper: paper.student.casefold())


def _result(results, name, student):
    safe = re.sub(r"[^\w.-]+", "_", student)[:60]
    digest = hashlib.sha256(student.encode()).hexdigest()[:6]  # two names may look alike
    return results / f"{name}-{safe}-{digest}.json"


def _notebooks(name, folder):
    """Files of the teacher's and the student's notebook, made once for all."""
    teacher = build.source(name)
    paths = {"teacher": folder / "teacher.ipynb", "release": folder / "release.ipynb"}
    nbformat.write(teacher, paths["teacher"])
    nbformat.write(build.release(teacher), paths["release"])
    return {key: str(path) for key, path in paths.items()}


def _kept(paper):
    """Whether there are marks for this very file already."""
    graded = _read(paper.result)
    if graded is None or graded.get("submission") != paper.digest:
        return False
    paper.graded = graded
    return True


def _read(path):
    """A stored result; None if there is none, or if it cannot be read and has to be made again."""
    try:
        graded = json.loads(path.read_text(encoding="utf-8"))
        nbformat.read(path.with_suffix(".ipynb"), as_version=4)
        return graded if isinstance(graded["cells"], dict) else None
    except Exception:  # whatever a stopped run or a full disk may leave
        return None


def _store(paper, name):
    """Keep the result, with what a later run has to know if the submission is not in it."""
    account = paper.attempt.account or paper.graded.get("account", "")
    about = {"student": paper.student, "account": account, "assignment": name, "late": paper.late}
    graded = paper.graded | about | {"said": paper.remarks}
    _replace(paper.result, (json.dumps(graded, indent=1) + "\n").encode())


def _stored(results, papers, name, named):
    """Give papers without a submission what other runs stored; the papers that only those know."""
    called = {paper.result: paper.student for paper in papers}
    stored = {}
    for path, graded in _results(results, name):
        student = named(graded["student"]) if "student" in graded else called.get(path)
        if student and (student not in stored or path in called):
            about = graded.get("said", []), graded.get("late", False), graded
            stored[student] = Paper(student, None, 0, path, *about)
    for paper in papers:
        before = stored.pop(paper.student, None)
        if before and not paper.attempt:
            new = [remark for remark in paper.remarks if remark != NOTHING]
            paper.remarks = before.remarks + new
            paper.result, paper.late, paper.graded = before.result, before.late, before.graded
    return list(stored.values())


def _results(results, name):
    """(file, what it stores) of each result of this assignment."""
    for path in sorted(results.glob(f"{name}-*.json")):
        graded = _read(path)
        if graded and graded.get("assignment", name) == name:
            yield path, graded


def _replace(path, content):
    new = path.with_name(f"{path.name}.new")  # so that a run that is stopped leaves no half file
    new.write_bytes(content)
    new.replace(path)


def _grade_all(papers, name, notebooks, args, folder):
    """Grade papers, ``args.jobs`` at a time; whether Ctrl-C ended it before all were graded."""
    stopped = False
    pool = ThreadPoolExecutor(args.jobs)
    try:
        jobs = [pool.submit(_grade_one, paper, name, notebooks, args, folder) for paper in papers]
        done = as_completed(jobs)
        for job in tqdm(done, "grading", len(jobs), unit="submission", disable=not jobs):
            job.result()
    except KeyboardInterrupt:
        stopped = True
    finally:
        pool.shutdown(cancel_futures=True)
    for paper in papers:
        if stopped and not paper.graded:  # Ctrl-C ends those that are being graded, too
            paper.remarks = [said for said in paper.remarks if not said.startswith(FAILED)]
            paper.remarks.append("not graded yet, the run was stopped")
            _kept(paper)
    return stopped


def _grade_one(paper, name, notebooks, args, folder):
    """Grade in a process of its own, so that nothing there can end this one."""
    result = folder / paper.result.name
    limits = {limit: getattr(args, limit) for limit in asdict(isolation.Limits())}
    job = notebooks | {"submission": str(paper.attempt.path.resolve()), "result": str(result)}
    job |= {"isolation": args.isolation, "limits": limits}
    request = folder / f"job-{paper.result.name}"
    request.write_text(json.dumps(job), encoding="utf-8")
    problem = None
    try:
        done = subprocess.run(
            [sys.executable, "-m", "assignments.grade_one", str(request)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=args.total + MARGIN,
        )
        if done.returncode:
            lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
            problem = lines[-1][:200]
        else:
            paper.graded = json.loads(result.read_text(encoding="utf-8"))
            paper.graded["submission"] = paper.digest
    except subprocess.TimeoutExpired:
        problem = "it did not end"
    except Exception as error:  # a full disk, say; the others go on
        problem = f"{type(error).__name__}: {error}"
    if problem:  # not the student's fault until somebody has looked
        paper.remarks.append(f"{FAILED}: {problem}")
        if _kept(paper):
            paper.remarks.append("the marks are those of an earlier run")
        return
    notebook = result.with_suffix(".ipynb").read_bytes()
    _replace(paper.result.with_suffix(".ipynb"), notebook)
    _store(paper, name)


if __name__ == "__main__":
    sys.exit(main())
