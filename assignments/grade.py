"""Grades a class: `make grade SUBMISSIONS=folder`, or `python -m assignments.grade --help`.

Marks already given stay: a submission is graded once, and again only if its file is another or
--again is given. What a submission does to its own grading stops no other.
"""

import argparse
import hashlib
import json
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

from assignments import build, collect, feedback, isolation, tables

ROOT = build.ROOT
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
        tables.read(out / table, columns)  # so that what is wrong with it is said at once
    papers = papers_of(args, name, folder, out / "results")
    notebooks = _notebooks(name, folder)
    handed_in = [paper for paper in papers if paper.attempt]
    todo = [paper for paper in handed_in if args.again or not _kept(paper)]
    for paper in handed_in:
        if paper.graded:
            _store(paper, name)  # whether it was late, for one, may be new
    if len(handed_in) > len(todo):
        print(f"{len(handed_in) - len(todo)} marks are kept; AGAIN=1 grades them again")
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(_grade_one, paper, name, notebooks, args, folder) for paper in todo]
        for job in tqdm(
            as_completed(jobs), "grading", len(jobs), unit="submission", disable=not jobs
        ):
            job.result()
    teacher = nbformat.read(notebooks["teacher"], as_version=4)
    papers += _stored(out / "results", papers, name)
    written = tables.written(out / "written.csv", papers, name)
    tables.marks(out / "marks.csv", papers, teacher, name)
    feedback.write(out / "feedback", papers, name)
    waiting = sum(row["points"] == "" for row in written)
    print(f"{out / 'marks.csv'}: {len(papers)} students")
    if waiting:
        print(
            f"{waiting} written answers wait in {out / 'written.csv'}: fill in the column points "
            f"(the rubric is in assignments/source/{name}/{name}.md) and run the same command again"
        )
    return 0


def _arguments(argv):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("submissions", help="a folder or a zip file")
    parser.add_argument("--out", default="grades", help="where the marks go (default: grades)")
    parser.add_argument("--assignment", help="its name; not needed if there is one alone")
    parser.add_argument("--class-list", help="CSV or text file, one student a line")
    parser.add_argument("--due", type=_date, help="2026-03-01 23:59; later ones are flagged")
    parser.add_argument("--isolation", default="bubblewrap", help=", ".join(isolation.KINDS))
    parser.add_argument("--again", action="store_true", help="grade again what has marks")
    parser.add_argument("--jobs", type=int, default=2, help="submissions at a time (default: 2)")
    limits = asdict(isolation.Limits())
    for limit, value in limits.items():
        parser.add_argument(f"--{limit}", type=type(value), default=value, help=f"default: {value}")
    return parser.parse_args(argv)


def _date(text):
    try:
        return datetime.fromisoformat(text.strip())
    except ValueError:
        message = f"a date such as 2026-03-01 23:59 is wanted; got {text!r}"
        raise argparse.ArgumentTypeError(message) from None


def _only():
    names = build.names()
    if len(names) != 1:
        raise ValueError(f"say which: ASSIGNMENT=... is one of {', '.join(names)}")
    return names[0]


def papers_of(args, name, folder, results):
    """A paper for each student, the missing ones of a class list included."""
    found = collect.attempts(collect.unpack(args.submissions, folder / "unpacked"), build.names())
    chosen = collect.last(found)
    missing = []
    if args.class_list:
        listed = collect.class_list(args.class_list)
        chosen, missing = collect.matched(chosen, listed)
        strangers = sorted(set(chosen) - set(listed))
    if not found:
        raise ValueError(f"there is no notebook (.ipynb) in {args.submissions}")
    results.mkdir(parents=True, exist_ok=True)
    papers = []
    for student, (attempt, count) in chosen.items():
        paper = Paper(student, attempt, count, _result(results, name, student))
        if count > 1:
            paper.remarks.append(f"the last of {count} attempts, {attempt.time:%Y-%m-%d %H:%M}")
        if args.class_list and student in strangers:
            paper.remarks.append("not in the class list")
        paper.late = attempt.marked_late or bool(args.due and attempt.time > args.due)
        papers.append(paper)
    for student in missing:
        paper = Paper(student, None, 0, _result(results, name, student), ["nothing handed in"])
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
    about = {"student": paper.student, "assignment": name, "late": paper.late}
    graded = paper.graded | about | {"said": paper.remarks}
    _replace(paper.result, (json.dumps(graded, indent=1) + "\n").encode())


def _stored(results, papers, name):
    """Take what other runs stored for students who are not in this one; their papers."""
    for paper in papers:
        graded = None if paper.attempt else _read(paper.result)
        if graded:
            paper.graded = graded
            paper.remarks, paper.late = graded.get("said", []), graded.get("late", False)
    found = []
    for path in sorted(set(results.glob(f"{name}-*.json")) - {paper.result for paper in papers}):
        graded = _read(path)
        if graded and graded.get("assignment") == name:
            about = graded["said"], graded["late"], graded
            found.append(Paper(graded["student"], None, 0, path, *about))
    return found


def _replace(path, content):
    new = path.with_name(f"{path.name}.new")  # so that a run that is stopped leaves no half file
    new.write_bytes(content)
    new.replace(path)


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
        paper.remarks.append(f"could not be graded, look at it by hand: {problem}")
        if _kept(paper):
            paper.remarks.append("the marks are those of an earlier run")
        return
    notebook = result.with_suffix(".ipynb").read_bytes()
    _replace(paper.result.with_suffix(".ipynb"), notebook)
    _store(paper, name)


if __name__ == "__main__":
    sys.exit(main())
