"""A class is graded in one run: every kind of submission gets the marks that it should."""

import csv
import json
import os
import re
import resource
import shlex
import subprocess
from copy import deepcopy
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

import nbformat
import pytest
from nbgrader.utils import is_solution

from assignments import build, examine, grade, grade_one, isolation, restore, spreadsheet, tables
from assignments.student import NotStarted, Student

DUE = "2026-03-01 12:00"
EARLY, LATE = datetime(2026, 3, 1, 9).timestamp(), datetime(2026, 3, 2, 9).timestamp()
LIMITS = ["--cell", "20", "--call", "5", "--total", "240", "--jobs", "2"]
NONE = dict.fromkeys(["forward", "backward", "module", "experiment", "fault"], 0)
ALL = {"forward": 15, "backward": 14, "module": 12, "experiment": 12, "fault": 12}


def solved(teacher, release, wanted=lambda name: True):
    """The student's notebook with the solutions of the cells that are wanted."""
    solutions = {build.grade_id(cell): cell.source for cell in teacher.cells}
    nb = deepcopy(release)
    for cell in filter(is_solution, nb.cells):
        name = build.grade_id(cell)
        if wanted(name):
            lines = solutions[name].splitlines()
            cell.source = "\n".join(line for line in lines if "SOLUTION" not in line)
    return nb


def replaced(nb, name, source):
    nb = deepcopy(nb)
    next(cell for cell in nb.cells if build.grade_id(cell) == name).source = source
    return nb


def added(nb, source, at=3):
    nb = deepcopy(nb)
    nb.cells.insert(at, nbformat.v4.new_code_cell(source))
    return nb


def saved_by_colab(nb):
    """As Colab writes a notebook: other ids, an older format, its own metadata, no locks."""
    raw = json.loads(nbformat.writes(nb))
    raw["nbformat_minor"] = 0
    raw["metadata"] = {"colab": {"provenance": []}, "kernelspec": {"name": "python3"}}
    for number, cell in enumerate(raw["cells"]):
        del cell["id"]
        kept = {"nbgrader": cell["metadata"]["nbgrader"]} if number % 2 else {}
        cell["metadata"] = kept | {"id": f"x{number}", "outputId": "abc"}
        if cell["cell_type"] == "code":
            cell["execution_count"] = None
            cell["outputs"] = [{"output_type": "stream", "name": "stdout", "text": ["a\n", "b"]}]
    return json.dumps(raw)


def submissions(teacher, release):
    """Student -> (notebook or text, points by exercise, part of the remarks)."""
    perfect = solved(teacher, release)
    half = solved(teacher, release, lambda name: name.startswith(("forward", "experiment-shift")))
    half = replaced(half, "experiment-findings", "findings = dict(a=True, b=True, c=True, d=True)")
    deleted = deepcopy(perfect)
    deleted.cells = [cell for cell in deleted.cells if not examine.is_test(cell)]
    for cell in filter(is_solution, deleted.cells):  # and typed into new cells
        if build.code(cell):
            cell.metadata, cell.id = nbformat.NotebookNode(), f"typed-{cell.id}"
    wrong = replaced(perfect, "backward", "def backward(dy, cache):\n    return (dy")
    return {
        "Perfect Pia": (perfect, ALL, ""),
        "Untouched Uli": (release, NONE, ""),
        "Half Hanna": (half, NONE | {"forward": 15, "experiment": 10}, ""),
        "Looping Lou": (
            replaced(perfect, "forward-mean", "def masked_mean(x, mask):\n    while True: pass"),
            ALL | {"forward": 0, "backward": 0},
            "",
        ),
        "Endless Edi": (added(perfect, "while True: pass"), ALL, "was left out"),
        "Memory Mo": (
            added(perfect, "blocks = [b'x' * 10**9 for _ in range(100)]"),
            ALL,
            "",
        ),
        "Writing Willi": (
            added(perfect, f"open({str(build.ROOT / 'stolen')!r}, 'w').write('x')"),
            ALL,
            "",
        ),
        "Reading Rita": (
            added(
                release,
                "import glob\nfor path in glob.glob('/**/se.md', recursive=True):\n"
                "    print(open(path).read())\n"
                f"print(open({str(build.SOURCE / 'se' / 'se.md')!r}).read())",
            ),
            NONE,
            "",
        ),
        "Deleting Dana": (deleted, ALL, "tests deleted or changed, and restored"),
        "Faking Finn": (
            added(
                release,
                "from attn_lib import check\nimport numpy as np\n"
                "check.expect = lambda *a, **k: None\n"
                "np.allclose = lambda *a, **k: True\nmasked_mean = forward = print\n"
                "print('total 75 of 75')\n75",
            ),
            NONE,
            "",
        ),
        "Syntax Sam": (wrong, ALL | {"backward": 0}, ""),
        "Killed Kim": (added(perfect, "import os; os._exit(1)", at=9), ALL, "was left out"),
        "Colab Cleo": (saved_by_colab(perfect), ALL, ""),
        "Broken Bea": ("{not a notebook", NONE, "not a notebook"),
    }


def write(path, nb, when=EARLY):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(nb if isinstance(nb, str) else nbformat.writes(nb), encoding="utf-8")
    os.utime(path, (when, when))


def moodle(folder, student, number):
    return folder / f"{student}_{1000 + number}_assignsubmission_file_" / "se.ipynb"


def rows(path):
    with open(path, newline="", encoding="utf-8-sig") as file:
        return {row["student"]: row for row in csv.DictReader(file)}


@pytest.fixture(scope="module")
def graded(bubblewrap, se, tmp_path_factory):
    """(what was handed in, marks by student, the folder) of a class."""
    folder = tmp_path_factory.mktemp("class")
    handed_in = submissions(*se)
    for number, (student, (nb, *_)) in enumerate(handed_in.items()):
        write(moodle(folder / "in", student, number), nb)
    perfect = handed_in["Perfect Pia"][0]  # which Uli took back
    write(folder / "in" / "untouched_uli" / "first" / "se.ipynb", perfect, EARLY - 3600)
    write(folder / "in" / "untouched_uli" / "last" / "se.ipynb", se[1], LATE)
    students = "\n".join(["student", *handed_in, "Absent Ada"])
    (folder / "class.csv").write_text(students)
    command = [str(folder / "in"), "--assignment", "se", "--out", str(folder / "out"), *LIMITS]
    command += ["--due", DUE, "--class-list", str(folder / "class.csv")]
    assert grade.main(command) == 0
    return handed_in, rows(folder / "out" / "marks.csv"), folder, command


def points(row):
    return {
        column.partition(" ")[0]: float(value or 0)
        for column, value in row.items()
        if column.endswith(")") and not column.startswith(("total", "written"))
    }


def test_each_gets_the_marks_that_it_should(graded):
    handed_in, marks, *_ = graded
    wrong = {}
    for student, (_, wanted, remark) in handed_in.items():
        row = marks[student]
        if points(row) != wanted or remark not in row["remarks"]:
            wrong[student] = points(row), row["remarks"]
    assert not wrong


def test_the_last_attempt_counts_and_late_ones_are_flagged(graded):
    _, marks, *_ = graded
    row = marks["Untouched Uli"]
    assert points(row) == NONE
    assert row["late"] == "late" and "attempts" in row["remarks"]
    assert marks["Perfect Pia"]["late"] == ""


def test_a_missing_student_is_in_the_table(graded):
    _, marks, *_ = graded
    assert marks["Absent Ada"]["remarks"] == "nothing handed in"
    assert marks["Absent Ada"]["total (75)"] == "0"


def test_nothing_was_written_outside(graded):
    assert not (build.ROOT / "stolen").exists()


def test_feedback_says_what_is_wrong_and_shows_no_hidden_test(graded):
    *_, folder, _ = graded
    pages = {page.name: page.read_text() for page in (folder / "out" / "feedback").iterdir()}
    assert len(pages) == 14
    for page in pages.values():
        assert "Content-Security-Policy" in page
        assert "HIDDEN" not in page and "solution.masked_mean" not in page
        assert "Rubric" not in page or "Written" in page or "loses small scratches" in page
    (looping,) = (page for name, page in pages.items() if "Looping" in name)
    assert "masked_mean did not end within" in looping


def test_marks_are_kept_and_written_answers_are_added(graded, monkeypatch, capsys):
    _, _, folder, command = graded
    path = folder / "out" / "written.csv"
    answers = rows(path)
    assert answers["Perfect Pia"]["points"] == "" and "Untouched Uli" not in answers
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, tables.WRITTEN)
        writer.writeheader()
        answers["Perfect Pia"] |= {"points": "7.5", "comment": "The costs are missing."}
        writer.writerows(answers.values())
    monkeypatch.setattr(grade, "_grade_one", None)  # nothing is to be graded again
    assert grade.main(command) == 0
    assert "marks are kept" in capsys.readouterr().out
    row = rows(folder / "out" / "marks.csv")["Perfect Pia"]
    assert (row["written (10)"], row["total (75)"]) == ("7.5", "72.5")
    pages = [p for p in (folder / "out" / "feedback").iterdir() if "Perfect" in p.name]
    assert "The costs are missing." in pages[0].read_text()


def test_a_grader_that_fails_costs_nobody_marks(se, tmp_path, monkeypatch):
    for student in ("ada", "bob"):
        write(tmp_path / "in" / f"{student}.ipynb", se[1])

    def broken(*args, **kwargs):
        raise grade.subprocess.TimeoutExpired("grade_one", 1)

    monkeypatch.setattr(grade.subprocess, "run", broken)
    command = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--isolation", "none"]
    command += ["--assignment", "se"]
    assert grade.main(command) == 0
    row = rows(tmp_path / "out" / "marks.csv")["ada"]
    assert "look at it by hand" in row["remarks"] and row["total (75)"] == ""


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["nowhere", "--assignment", "se"], "does not exist"),
        ([__file__, "--assignment", "se"], "is neither"),
        ([str(Path(__file__).parent), "--assignment", "se"], "no notebook"),
        ([str(Path(__file__).parent)], "say which: ASSIGNMENT=... is one of bam, "),
        ([str(Path(__file__).parent), "--assignment", "nothing"], "there is no|no notebook"),
        (["nowhere", "--isolation", "trust"], "got 'trust'"),
    ],
)
def test_what_is_wrong_with_a_command_is_said(command, says, capsys, tmp_path):
    isolated = [] if "--isolation" in command else ["--isolation", "none"]
    assert grade.main([*command, *isolated, "--out", str(tmp_path)]) == 1
    assert any(part in capsys.readouterr().err for part in says.split("|"))


@pytest.mark.parametrize(
    ("option", "says"),
    [
        (["--jobs", "0"], "--jobs: a whole number above 0 is wanted; got '0'"),
        (["--jobs", "1.5"], "--jobs: a whole number above 0 is wanted; got '1.5'"),
        (["--cell", "-1"], "--cell: a number above 0 is wanted; got '-1'"),
        (["--total", "nan"], "--total: a number above 0 is wanted; got 'nan'"),
        (["--memory", "4GB"], "--memory: a whole number above 0 is wanted; got '4GB'"),
    ],
)
def test_a_number_that_cannot_be_is_refused(option, says, capsys):
    with pytest.raises(SystemExit):
        grade.main(["submissions", *option])
    assert says in capsys.readouterr().err


@pytest.mark.parametrize("zone", ["", "+01:00", "-08:00"])
def test_a_date_may_have_a_zone(zone):
    due = grade._date(f"2026-03-01T23:59{zone}")
    assert due.tzinfo is None
    assert due.timestamp() == datetime.fromisoformat(f"2026-03-01T23:59{zone}").timestamp()


def test_the_limits_are_in_the_readme_and_reach_the_grader():
    readme = (build.ROOT / "assignments" / "README.md").read_text(encoding="utf-8")
    for limit, value in asdict(isolation.Limits()).items():
        assert f"| `--{limit}` | {value:.0f} |" in readme
    command = ["make", "--dry-run", "grade", "SUBMISSIONS=in", "LIMITS=--cell 300 --total 1800"]
    done = subprocess.run(command, cwd=build.ROOT, capture_output=True, text=True, check=True)
    (command,) = re.findall(r"-m assignments\.grade (.*)", done.stdout.replace("\\\n", " "))
    args = grade._arguments(shlex.split(command))
    assert (args.cell, args.total, args.call) == (300, 1800, 30)


def test_a_formula_stays_a_text():
    assert spreadsheet.text("=1+1") == "'=1+1"
    assert spreadsheet.text("Ada") == "Ada"


def test_a_notebook_of_another_assignment_is_remarked(se):
    teacher, release = se
    other = build.release(build.source("eca"))
    said = {
        nb.metadata.attn_assignment: restore.restore(deepcopy(nb.cells), teacher, release).remarks
        for nb in (release, other)
    }
    assert said["se"] == [] and "is it another's?" in " ".join(said["eca"])


@pytest.mark.parametrize("again", [False, True])  # at its start, or when it has to start again
def test_a_sandbox_that_does_not_start_costs_nobody_marks(se, tmp_path, monkeypatch, again):
    start, started = isolation.start, []

    def broken(kind, limits):
        started.append(kind)
        if again and len(started) == 1:
            return start(kind, limits)
        monkeypatch.setattr(isolation, "INSIDE", tmp_path)  # where there is no worker.py
        return start(kind, limits)

    monkeypatch.setattr(isolation, "start", broken)
    write(tmp_path / "ada.ipynb", added(solved(*se), "import os; os._exit(1)"))
    with pytest.raises(NotStarted, match="did not start .*worker.py"):
        grade_one.grade(tmp_path / "ada.ipynb", *se, "none", isolation.Limits())
    assert len(started) == 1 + again


def test_a_sandbox_that_does_not_start_is_said_and_no_mark_is_stored(se, tmp_path, monkeypatch):
    for name in ("bwrap", "python"):  # works when it is tried first, and not afterwards
        (tmp_path / "bin").mkdir(exist_ok=True)
        (tmp_path / "bin" / name).write_text("#!/bin/sh\necho no space left >&2\nexit 1\n")
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(isolation, "available", lambda kind: None)
    write(tmp_path / "in" / "ada.ipynb", solved(*se))
    command = [str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--assignment", "se"]
    assert grade.main(command) == 0
    row = rows(tmp_path / "out" / "marks.csv")["ada"]
    assert "look at it by hand: the sandbox did not start (no space left)" in row["remarks"]
    assert row["total (75)"] == "" and not list((tmp_path / "out" / "results").iterdir())


def test_time_that_is_used_up_is_the_students_own(se, tmp_path):
    write(tmp_path / "ada.ipynb", added(solved(*se), "while True: pass"))
    limits = isolation.Limits(cell=20, total=8)
    result, _ = grade_one.grade(tmp_path / "ada.ipynb", *se, "none", limits)
    assert any("8 s for the whole submission are used up" in said for said in result["remarks"])


def test_isolation_none_does_not_count_what_the_teacher_runs():
    source = "import resource\nmost = list(resource.getrlimit(resource.RLIMIT_NPROC))"
    mine = Student([source], "none", isolation.Limits())
    try:
        assert mine.name("most") == list(resource.getrlimit(resource.RLIMIT_NPROC))
    finally:
        mine.close()


def test_isolation_none_is_an_ordinary_process(tmp_path):
    process, end = isolation.start("none", isolation.Limits())
    assert process.stdout.readline() == b'{"ready": true}\n'
    end()
    assert process.wait() != 0
