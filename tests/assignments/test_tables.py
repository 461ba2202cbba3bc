"""Marks, points given by hand and comments stay, whatever a run grades and whatever fails in it.

The submissions are not run here: a stand-in for ``grade_one`` gives every test no points.
"""

import csv
import json
import signal
import threading
import time
from types import SimpleNamespace

import nbformat
import pytest
from nbgrader.utils import is_grade, is_solution

from assignments import build, grade, tables


@pytest.fixture
def classroom(se, tmp_path, monkeypatch):
    """A folder, with functions to hand in, to grade and to give points."""
    return Classroom(tmp_path, monkeypatch, *se)


class Classroom:
    def __init__(self, folder, monkeypatch, teacher, release):
        self.folder, self.teacher, self.release = folder, teacher, release
        self.out = folder / "out"
        self.fails = ()
        self.graded = []
        monkeypatch.setattr(grade.subprocess, "run", self._run)
        monkeypatch.setattr(grade, "_notebooks", self._notebooks)

    def hand_in(self, path, answer="An answer."):
        path = self.folder / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(answer, encoding="utf-8")

    def grade(self, *more, submissions="in", assignment="se"):
        command = [str(self.folder / submissions), "--out", str(self.out), "--isolation", "none"]
        return grade.main([*command, "--assignment", assignment, *more])

    def rows(self, table):
        with open(self.out / table, newline="", encoding="utf-8-sig") as file:
            return list(csv.DictReader(file))

    def row(self, table, student, assignment="se"):
        wanted = student, assignment
        (row,) = (r for r in self.rows(table) if (r["student"], r["assignment"]) == wanted)
        return row

    def give(self, points, comment, delimiter=",", encoding="utf-8-sig"):
        """Give points to all, as a spreadsheet saves them."""
        given = [row | {"points": points, "comment": comment} for row in self.rows("written.csv")]
        with open(self.out / "written.csv", "w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, tables.WRITTEN, delimiter=delimiter)
            writer.writeheader()
            writer.writerows(given)

    def _notebooks(self, name, folder):
        return {"teacher": self._write(folder, self.teacher), "release": "", "name": name}

    def _write(self, folder, nb):
        path = folder / "teacher.ipynb"
        nbformat.write(nb, path)
        return str(path)

    def _run(self, command, **options):
        with open(command[-1], encoding="utf-8") as file:
            job = json.load(file)
        student = job["submission"]
        self.graded.append(student)
        if any(name in student for name in self.fails):
            return SimpleNamespace(returncode=1, stderr="out of memory")
        result = {"cells": {}, "answers": {}, "remarks": []}
        for cell in filter(is_grade, self.teacher.cells):
            points = None if is_solution(cell) else 0.0
            result["cells"][build.grade_id(cell)] = [points, cell.metadata.nbgrader.points, ""]
            if is_solution(cell):
                with open(student, encoding="utf-8") as file:
                    result["answers"][build.grade_id(cell)] = file.read()
        with open(job["result"], "w", encoding="utf-8") as file:
            json.dump(result, file)
        nbformat.write(self.release, job["result"].replace(".json", ".ipynb"))
        return SimpleNamespace(returncode=0, stderr="")


def test_points_given_by_hand_stay_if_a_submission_fails_or_is_elsewhere(classroom):
    for student in ("ada", "bob"):
        classroom.hand_in(f"in/{student}.ipynb")
    classroom.hand_in("late/cy.ipynb")
    classroom.grade()
    classroom.give("7", "Well argued.")
    classroom.fails = ("ada",)
    classroom.grade("--again")
    classroom.grade(submissions="late")  # the late ones alone, into the same folder
    classroom.fails = ()
    for _ in range(2):
        for student in ("ada", "bob"):
            row = classroom.row("marks.csv", student)
            assert (row["written (10)"], row["total (75)"]) == ("7", "7")
            row = classroom.row("written.csv", student)
            assert (row["points"], row["comment"]) == ("7", "Well argued.")
        assert classroom.row("marks.csv", "cy")["total (75)"] == "0"
        classroom.grade()


def test_marks_of_a_submission_that_is_elsewhere_take_new_points(classroom):
    (classroom.folder / "class.csv").write_text("ada\nbob\ncy\n")
    classroom.hand_in("in/ada.ipynb")
    classroom.hand_in("late/bob.ipynb")
    classroom.grade("--due", "2000-01-01 00:00")
    classroom.give("7", "Well argued.")
    classroom.grade("--class-list", str(classroom.folder / "class.csv"), submissions="late")
    row = classroom.row("marks.csv", "ada")
    assert (row["total (75)"], row["late"], row["remarks"]) == ("7", "late", "")
    assert classroom.row("marks.csv", "cy")["remarks"] == "nothing handed in"
    (page,) = (page for page in (classroom.out / "feedback").iterdir() if "ada" in page.name)
    assert "Well argued." in page.read_text()


def test_somebody_still_has_to_look_at_what_could_not_be_graded(classroom):
    (classroom.folder / "class.csv").write_text("ada\nbob\n")
    classroom.hand_in("in/ada.ipynb")
    classroom.hand_in("late/bob.ipynb")
    classroom.fails = ("ada",)
    classroom.grade()
    classroom.grade("--class-list", str(classroom.folder / "class.csv"), submissions="late")
    row = classroom.row("marks.csv", "ada")
    assert "look at it by hand: out of memory" in row["remarks"] and row["total (75)"] == ""


def test_a_class_list_that_comes_later_names_the_students_of_before(classroom):
    (classroom.folder / "class.csv").write_text("Lovelace Ada,ada\nHopper Grace,gh\n")
    classroom.hand_in("in/ada.ipynb")
    classroom.hand_in("in/gh.ipynb")
    classroom.grade()
    classroom.give("7", "Well argued.")
    listed = "--class-list", str(classroom.folder / "class.csv")
    classroom.hand_in("late/ada.ipynb")
    for submissions in ("late", "in"):
        classroom.grade(*listed, submissions=submissions)
        for table in ("marks.csv", "written.csv"):
            students = sorted(row["student"] for row in classroom.rows(table))
            assert students == ["Hopper Grace", "Lovelace Ada"]
        assert {row["total (75)"] for row in classroom.rows("marks.csv")} == {"7"}


def test_namesakes_who_come_one_by_one_keep_their_marks(classroom):
    moodle = "{}/Li Wei_{}_assignsubmission_file_/se.ipynb"
    for number, submissions, students in (
        ("111", "in", ["Li Wei"]),
        ("222", "late", ["Li Wei", "Li Wei (222)"]),
        ("222", "in", ["Li Wei", "Li Wei (222)"]),
    ):
        classroom.hand_in(moodle.format(submissions, number), f"The answer of {number}.")
        classroom.grade(submissions=submissions)
        for table in ("marks.csv", "written.csv"):
            assert sorted(row["student"] for row in classroom.rows(table)) == students
    assert len(classroom.graded) == 2
    answers = {row["student"]: row["answer"] for row in classroom.rows("written.csv")}
    assert answers == {"Li Wei": "The answer of 111.", "Li Wei (222)": "The answer of 222."}
    (classroom.folder / "class.csv").write_text("Li Wei (111)\nLi Wei (222)\n")
    classroom.grade("--class-list", str(classroom.folder / "class.csv"), submissions="late")
    for table in ("marks.csv", "written.csv"):
        students = sorted(row["student"] for row in classroom.rows(table))
        assert students == ["Li Wei (111)", "Li Wei (222)"]


def test_a_student_without_a_notebook_of_the_assignment_has_a_line(classroom):
    classroom.hand_in("in/ada/se.ipynb")
    classroom.hand_in("in/bob/se.py")
    classroom.hand_in("in/cy/se.ipynb", '{"metadata": {"attn_assignment": "cbam"}}')
    assert classroom.grade() == 0
    assert "bob/se.py (no notebook)" in classroom.row("marks.csv", "bob")["remarks"]
    assert "cy/se.ipynb (the notebook of cbam)" in classroom.row("marks.csv", "cy")["remarks"]
    totals = {row["student"]: row["total (75)"] for row in classroom.rows("marks.csv")}
    assert totals == {"ada": "0", "bob": "", "cy": "0"}  # somebody has to look at Bob's


def test_points_of_an_answer_that_was_changed_stay_beside_it(classroom):
    classroom.hand_in("in/ada.ipynb", "The first.")
    classroom.grade()
    classroom.give("7", "Well argued.")
    classroom.hand_in("in/ada.ipynb", "The second.")
    for _ in range(2):
        classroom.grade()
        points = {row["answer"]: row["points"] for row in classroom.rows("written.csv")}
        assert points == {"The first.": "7", "The second.": ""}
        assert "not marked yet" in classroom.row("marks.csv", "ada")["remarks"]


def test_marks_of_other_assignments_and_added_columns_stay(classroom):
    classroom.hand_in("in/ada.ipynb")
    classroom.grade(assignment="eca")
    rows = [row | {"my note": "ill in May"} for row in classroom.rows("marks.csv")]
    other = {"student": "ada", "assignment": "gates", "forward (3)": "2", "total (86)": "80"}
    columns = [*rows[0], "forward (3)", "total (86)"]
    tables.write(classroom.out / "marks.csv", columns, [*rows, other])
    for _ in range(2):
        classroom.grade(assignment="se")
        classroom.grade(assignment="eca")
        assert len(classroom.rows("marks.csv")) == len(classroom.rows("written.csv")) + 1 == 3
        row = classroom.row("marks.csv", "ada", "gates")
        assert (row["forward (3)"], row["total (86)"], row["total (75)"]) == ("2", "80", "")
        assert classroom.row("marks.csv", "ada", "eca")["my note"] == "ill in May"


@pytest.mark.parametrize("suffix", [".json", ".ipynb"])
def test_a_result_that_was_cut_off_is_made_again(classroom, suffix):
    for student in ("ada", "bob"):
        classroom.hand_in(f"in/{student}.ipynb")
    classroom.grade()
    (cut,) = (classroom.out / "results").glob(f"*ada*{suffix}")
    cut.write_text(cut.read_text()[:100])
    classroom.graded.clear()
    assert classroom.grade() == 0
    assert [path.rpartition("/")[2] for path in classroom.graded] == ["ada.ipynb"]
    assert not list(classroom.out.rglob("*.new"))


def test_ctrl_c_stops_and_the_next_run_goes_on(classroom, monkeypatch, request):
    for number in range(6):
        classroom.hand_in(f"in/s{number}.ipynb")
    run = grade.subprocess.run
    # Of a test run that was started in the background, the shell has Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    request.addfinalizer(lambda: signal.signal(signal.SIGINT, before))

    def interrupted(command, **options):
        time.sleep(0.5)  # until this thread is known to the pool, which waits for it
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        time.sleep(0.5)
        return run(command, **options)

    monkeypatch.setattr(grade.subprocess, "run", interrupted)
    assert classroom.grade("--jobs", "1") == 130
    assert len(classroom.graded) == 1
    left = [row for row in classroom.rows("marks.csv") if "not graded yet" in row["remarks"]]
    assert len(left) == 5 and {row["total (75)"] for row in left} == {""}
    monkeypatch.setattr(grade.subprocess, "run", run)
    assert classroom.grade() == 0
    assert len(set(classroom.graded)) == len(classroom.graded) == 6
    assert {row["total (75)"] for row in classroom.rows("marks.csv")} == {"0"}


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_a_spreadsheet_may_save_the_points_in_its_own_way(classroom, delimiter):
    classroom.hand_in("in/ada.ipynb", "Ada’s answer, from the café.\nIt has; two lines.")
    classroom.grade()
    classroom.give("7,5", "Très bien.", delimiter, "cp1252")
    assert classroom.grade() == 0
    assert classroom.row("marks.csv", "ada")["total (75)"] == "7.5"
    assert classroom.row("written.csv", "ada")["comment"] == "Très bien."


def test_a_table_without_its_columns_is_named_before_grading(classroom, capsys):
    classroom.hand_in("in/ada.ipynb")
    classroom.out.mkdir()
    (classroom.out / "written.csv").write_text("student|points\nada|7\n")
    assert classroom.grade() == 1
    error = capsys.readouterr().err
    assert "written.csv" in error and "missing: student, assignment" in error
    assert not classroom.graded
