"""Grades a class: `make grade SUBMISSIONS=folder`, or `python -m assignments.grade --help`.

Marks already given stay: a submission is graded once, and again only if its file is another or
--again is given. What a submission does to its own grading stops no other.
"""

import argparse
import csv
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

from assignments import build, collect, feedback, isolation
from assignments.grade_one import by_exercise

ROOT = build.ROOT
MARGIN = 120  # seconds that the grader may take beyond those of the submission
WRITTEN = ("student", "assignment", "exercise", "points", "of", "comment", "answer")


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
    papers = papers_of(args, name, folder, out / "results")
    notebooks = _notebooks(name, folder)
    todo = [paper for paper in papers if paper.attempt and not _kept(paper, args.again)]
    kept = sum(paper.attempt is not None for paper in papers) - len(todo)
    if kept:
        print(f"{kept} marks are kept; AGAIN=1 grades them again")
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(_grade_one, paper, notebooks, args, folder) for paper in todo]
        for job in tqdm(
            as_completed(jobs), "grading", len(jobs), unit="submission", disable=not jobs
        ):
            job.result()
    teacher = nbformat.read(notebooks["teacher"], as_version=4)
    written = _written(out / "written.csv", papers, name)
    _marks(out / "marks.csv", papers, teacher, name)
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


def _kept(paper, again):
    """Whether there are marks for this very file already."""
    if again or not paper.result.exists():
        return False
    graded = json.loads(paper.result.read_text(encoding="utf-8"))
    if graded.get("submission") != paper.digest:
        return False
    paper.graded = graded
    return True


def _grade_one(paper, notebooks, args, folder):
    """Grade in a process of its own, so that nothing there can end this one."""
    result = folder / paper.result.name
    limits = {name: getattr(args, name) for name in asdict(isolation.Limits())}
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
    except subprocess.TimeoutExpired:
        problem = "it did not end"
    if problem:  # not the student's fault until somebody has looked
        paper.remarks.append(f"could not be graded, look at it by hand: {problem}")
        return
    paper.graded = json.loads(result.read_text(encoding="utf-8"))
    paper.graded["submission"] = paper.digest
    paper.result.with_suffix(".ipynb").write_bytes(result.with_suffix(".ipynb").read_bytes())
    paper.result.write_text(json.dumps(paper.graded, indent=1) + "\n", encoding="utf-8")


def _written(path, papers, name):
    """Take the points that somebody gave for written answers, and write the list anew."""
    given, others = {}, []
    if path.exists():
        with open(path, newline="", encoding="utf-8-sig") as file:
            for row in csv.DictReader(file):
                if row["assignment"] == name:
                    given[row["student"], row["exercise"]] = row
                else:
                    others.append(row)
    rows = []
    for paper in papers:
        for exercise, answer in (paper.graded or {}).get("answers", {}).items():
            if not answer:
                continue
            cell = paper.graded["cells"][exercise]
            row = dict.fromkeys(WRITTEN, "")
            row |= {"student": _text(paper.student), "assignment": name, "exercise": exercise}
            row |= {"of": f"{cell[1]:g}", "answer": _text(answer)}
            old = given.get((row["student"], exercise))
            if old and old["answer"].split() == row["answer"].split():
                row |= {"points": old["points"].strip(), "comment": old["comment"]}
            cell[0] = _number(row["points"], cell[1], f"{path}, {paper.student}")
            cell[2] = row["comment"]
            rows.append(row)
    _write(path, WRITTEN, others + rows)
    return rows


def _number(text, most, where):
    if not text:
        return None
    try:
        points = float(text.replace(",", "."))
    except ValueError:
        points = -1
    if not 0 <= points <= most:
        raise ValueError(f"{where}: points are a number from 0 to {most:g}; got {text!r}")
    return points


def _marks(path, papers, teacher, name):
    """One line a student: points by exercise, total, late, remarks."""
    graded = [c.metadata.nbgrader for c in teacher.cells if c.metadata.nbgrader.grade]
    exercises = list(dict.fromkeys(build.exercise(mark.grade_id) for mark in graded))
    of = {e: sum(m.points for m in graded if build.exercise(m.grade_id) == e) for e in exercises}
    columns = {e: f"{e} ({of[e]:g})" for e in exercises}
    total = f"total ({sum(of.values()):g})"
    rows = []
    for paper in papers:
        points = by_exercise(paper.graded["cells"]) if paper.graded else {}
        got = {e: points.get(e, [None])[0] for e in exercises}
        remarks = [*paper.remarks, *(paper.graded or {}).get("remarks", [])]
        if paper.graded and None in got.values():
            remarks.append("written answer not marked yet, the total is without it")
        row = {"student": _text(paper.student), "assignment": name}
        row |= {columns[e]: "" if got[e] is None else f"{got[e]:g}" for e in exercises}
        row[total] = f"{sum(value or 0 for value in got.values()):g}"
        if paper.attempt and not paper.graded:
            row[total] = ""
        row |= {"late": "late" if paper.late else "", "remarks": _text("; ".join(remarks))}
        rows.append(row)
    _write(path, ["student", "assignment", *columns.values(), total, "late", "remarks"], rows)


def _text(text):
    """A cell that a spreadsheet does not take for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def _write(path, columns, rows):
    new = path.with_suffix(".new")  # so that a run that is stopped leaves the old file whole
    with open(new, "w", newline="", encoding="utf-8-sig") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
    new.replace(path)


if __name__ == "__main__":
    sys.exit(main())
