"""Whose a file is, which one counts, and that no file is left out without a word."""

import io
import json
import os
import zipfile
from datetime import datetime
from pathlib import PurePosixPath

import pytest

from assignments import build, collect, roster, unpack


def write(path, text="{}", when=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    if when:
        os.utime(path, (when, when))


def of(assignment):
    """A notebook of an assignment, as far as it is looked at here."""
    return json.dumps({"metadata": {"attn_assignment": assignment}, "cells": []})


def zipped(files, when=(2026, 3, 1, 10, 0, 0)):
    """The bytes of a zip."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name, when), content)
    return buffer.getvalue()


def collected(submissions, folder, wanted="se", listed=None, earlier=()):
    """(students by name, names of strays)."""
    files = unpack.files(submissions, folder)
    attempts = collect.attempts(files, build.names(), wanted, listed or {})
    students, strays = collect.students(attempts, roster.namer(listed or {}), earlier)
    return students, [str(stray.inside) for stray in strays]


def chosen(*args, **options):
    students, _ = collected(*args, **options)
    return {name: s.attempt and str(s.attempt.inside) for name, s in students.items()}


@pytest.mark.parametrize(
    ("path", "student"),
    [
        ("Lovelace Ada_123_assignsubmission_file_/se.ipynb", "Lovelace Ada"),
        ("Lovelace Ada_123_assignsubmission_file_se.ipynb", "Lovelace Ada"),
        ("lovelaceada_LATE_1234_56789_se-1.ipynb", "lovelaceada"),
        ("lovelaceada_1234_56789_se.ipynb", "lovelaceada"),
        ("SE_alovelace_attempt_2026-03-05-14-22-33_se.ipynb", "alovelace"),
        ("alovelace/se.ipynb", "alovelace"),
        ("alovelace/2026-03-05 10:00/se.ipynb", "alovelace"),
        ("alovelace.ipynb", "alovelace"),
        ("alovelace.IPYNB", "alovelace"),
        ("alovelace_se.ipynb", "alovelace"),
        ("se-alovelace (2).ipynb", "alovelace"),
        ("Ada Lovelace_2026-03-05T10-00.ipynb", "Ada Lovelace"),
        ("Ada Lovelace_2026-03-05.ipynb", "Ada Lovelace"),
    ],
)
def test_names_of_platforms(tmp_path, path, student):
    write(tmp_path / path)
    (attempt,) = collect.attempts(unpack.files(tmp_path, tmp_path / "work"), ["se"])
    assert attempt.student == student
    assert attempt.marked_late == ("LATE" in path)
    assert attempt.time.hour == (10 if "10" in path else attempt.time.hour)
    assert attempt.time.day == (5 if "03-05" in path else attempt.time.day)


def test_attempts_in_a_zip_keep_their_order(tmp_path):
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for day in (5, 3, 4):
            info = zipfile.ZipInfo(f"ada_7_{day}_se.ipynb", (2026, 3, day, 10, 0, 0))
            archive.writestr(info, f"{day}")
        archive.writestr("../outside.ipynb", "{}")
        archive.writestr("__MACOSX/ada_1_1_se.ipynb", "{}")
    students, strays = collected(tmp_path / "export.zip", tmp_path / "work")
    (student,) = students.values()
    assert (student.attempt.path.read_text(), student.count) == ("5", 3)
    assert strays == ["../outside.ipynb"]
    assert not list(tmp_path.rglob("outside*"))


def test_a_notebook_of_another_assignment_is_not_read_as_this_one(tmp_path):
    write(tmp_path / "in/ada/one.ipynb", of("se"), 1e9)
    write(tmp_path / "in/ada/two.ipynb", of("cbam"), 2e9)
    write(tmp_path / "in/bob/se.ipynb", "{}", 1e9)  # whose metadata were lost
    write(tmp_path / "in/bob/cbam-1.ipynb", "{}", 2e9)
    write(tmp_path / "in/cy/se.ipynb", of("cbam"))
    write(tmp_path / "in/bill_gates.ipynb", of("se"))  # Gates is also an assignment
    students, _ = collected(tmp_path / "in", tmp_path / "work")
    read = {name: s.attempt and s.attempt.inside for name, s in students.items()}
    assert read == {
        "ada": PurePosixPath("ada/one.ipynb"),
        "bob": PurePosixPath("bob/se.ipynb"),
        "cy": None,
        "bill_gates": PurePosixPath("bill_gates.ipynb"),
    }
    assert students["ada"].remarks == ["not read: ada/two.ipynb (the notebook of cbam)"]
    assert students["cy"].remarks[0] == "no notebook of this assignment handed in"


@pytest.mark.parametrize(
    "names",
    [
        ["hw1/ada.ipynb", "hw1/bob.ipynb", "hw1/cy_se.ipynb"],
        ["submissions/ada/se.ipynb", "submissions/bob/se.ipynb", "submissions/cy/se.ipynb"],
        ["a/b/ada/x/se.ipynb", "a/b/bob.ipynb", "a/b/cy_1234_5678_se.ipynb", "a/notes.txt"],
    ],
)
@pytest.mark.parametrize("kind", ["folder", "zip", "zip in a folder"])
def test_a_folder_around_all_students_is_no_student(tmp_path, names, kind):
    path = tmp_path / "in"
    if kind == "folder":
        for name in names:
            write(path / name)
    else:
        path.mkdir()
        (path / "export.zip").write_bytes(zipped(dict.fromkeys(names, "{}")))
        path = path / "export.zip" if kind == "zip" else path
    assert set(chosen(path, tmp_path / "work")) == {"ada", "bob", "cy"}


@pytest.mark.parametrize(
    "names",
    [
        ["ada/se.ipynb", "ada/cbam.ipynb"],
        ["ada/se.ipynb", "ada/se (1).ipynb"],
        ["ada/2026-03-04/se.ipynb", "ada/2026-03-05/se.ipynb"],
        ["ada_1_assignsubmission_file_/se.ipynb", "ada_1_assignsubmission_file_/try.ipynb"],
    ],
)
def test_the_folder_of_the_only_student_is_one(tmp_path, names):
    for name in names:
        write(tmp_path / "in" / name)
    assert set(chosen(tmp_path / "in", tmp_path / "work")) == {"ada"}


def test_a_listed_student_is_no_folder_around_all(tmp_path):
    for name in ("first", "last"):
        write(tmp_path / "in/ada" / name / "se.ipynb")
    assert set(chosen(tmp_path / "in", tmp_path / "work", listed={"Ada": ["Ada"]})) == {"Ada"}


@pytest.mark.parametrize("form", ["{}_{}_assignsubmission_file_/se.ipynb", "{}_{}_99_se.ipynb"])
def test_students_of_the_same_name_stay_apart(tmp_path, form):
    for name, number in (("Li Wei", 111), ("Wei Li", 222), ("Ada", 3)):
        write(tmp_path / "in" / form.format(name, number))
    students, _ = collected(tmp_path / "in", tmp_path / "work")
    assert set(students) == {"Li Wei (111)", "Wei Li (222)", "Ada"}
    assert "the numbers 111, 222" in students["Li Wei (111)"].remarks[0]
    listed = {name: [name] for name in ("Li Wei (111)", "Li Wei (222)", "Ada")}
    students, _ = collected(tmp_path / "in", tmp_path / "work", listed=listed)
    assert set(students) == set(listed) and not students["Li Wei (111)"].remarks


@pytest.mark.parametrize(
    ("earlier", "now", "names"),
    [
        ({"111": "Li Wei"}, ["111"], {"Li Wei"}),
        ({"111": "Li Wei"}, ["222"], {"Li Wei (222)"}),
        ({"111": "Li Wei"}, ["111", "222"], {"Li Wei", "Li Wei (222)"}),
        ({"111": "Li Wei (111)", "222": "Wei Li (222)"}, ["222"], {"Wei Li (222)"}),
        ({"111": "Li Wei"}, ["222", ""], {"Li Wei (222)", "Li Wei (no number)"}),
        ({"111": "Li Wei (111)"}, [""], {"Li Wei"}),
    ],
)
def test_who_was_graded_under_a_name_keeps_it(tmp_path, earlier, now, names):
    for number in now:
        place = f"Li Wei_{number}_assignsubmission_file_/se.ipynb" if number else "Li Wei/se.ipynb"
        write(tmp_path / "in" / place)
    write(tmp_path / "in/Ada_3_assignsubmission_file_/se.ipynb")
    pairs = [(student, number) for number, student in earlier.items()]
    assert set(chosen(tmp_path / "in", tmp_path / "work", earlier=pairs)) == {*names, "Ada"}
    listed = {"Li Wei": ["Li Wei"], "Ada": ["Ada"]}
    if len(now) == 1:  # the list has one Li Wei, so this is he, whatever his number was before
        found = chosen(tmp_path / "in", tmp_path / "work2", listed=listed, earlier=pairs)
        assert set(found) == set(listed)


def test_days_without_a_time_have_an_order(tmp_path):
    for day in ("04", "06", "05"):
        write(tmp_path / f"in/ada/2026-03-{day}/se.ipynb", day, 1e9)
    students, _ = collected(tmp_path / "in", tmp_path / "work")
    assert students["ada"].attempt.path.read_text() == "06"
    assert students["ada"].attempt.time == datetime(2026, 3, 6)
    said = " ".join(students["ada"].remarks)
    assert "the last of 3 attempts" in said and "ada/2026-03-04/se.ipynb (an earlier" in said


def test_a_broken_zip_is_one_students(tmp_path):
    good = zipped({"se.ipynb": "{}"})
    locked = bytearray(good)
    for mark, at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        locked[locked.index(mark) + at] |= 1  # the flag of a password
    no_date = bytearray(good)
    for mark, at in ((b"PK\x03\x04", 12), (b"PK\x01\x02", 14)):
        start = locked.index(mark) + at
        no_date[start : start + 2] = b"\0\0"
    (tmp_path / "in").mkdir()
    for name, content in (
        ("ada", good), ("bob", b"no zip"), ("cy", good[:-30]), ("dan", locked), ("eve", no_date)
    ):  # fmt: skip
        (tmp_path / "in" / f"{name}.zip").write_bytes(content)
    students, _ = collected(tmp_path / "in", tmp_path / "work")
    read = {name for name, student in students.items() if student.attempt}
    assert (read, set(students)) == ({"ada", "eve"}, {"ada", "bob", "cy", "dan", "eve"})
    assert "the zip cannot be opened" in students["bob"].remarks[1]
    assert "it needs a password" in students["dan"].remarks[1]


def test_a_zip_that_unpacks_to_too_much_is_one_students(tmp_path, monkeypatch):
    monkeypatch.setattr(unpack, "MOST", 1000)
    (tmp_path / "in").mkdir()
    (tmp_path / "in/ada.zip").write_bytes(zipped({"se.ipynb": "{}"}))
    (tmp_path / "in/bob.zip").write_bytes(zipped({"se.ipynb": " " * 1001}))
    students, _ = collected(tmp_path / "in", tmp_path / "work")
    assert students["ada"].attempt and "more than 1,000 bytes" in students["bob"].remarks[1]


def test_students_zips_in_the_zip_of_the_platform_are_opened(tmp_path):
    inner = zipped({"work/se.ipynb": "{}", "data.csv": "1"})
    export = {
        "Ada L_1_assignsubmission_file_/se.ipynb": "{}",
        "Bob M_2_assignsubmission_file_/se.zip": inner,
        "Cy N_3_assignsubmission_file_/se.zip": zipped({"again.zip": inner}),
        "Dan O_4_assignsubmission_file_/se.py": "print()",
        "Eve P_5_assignsubmission_file_/.DS_Store": "",
    }
    (tmp_path / "export.zip").write_bytes(zipped(export))
    students, _ = collected(tmp_path / "export.zip", tmp_path / "work")
    read = {name: bool(student.attempt) for name, student in students.items()}
    assert read == {"Ada L": True, "Bob M": True, "Cy N": False, "Dan O": False}
    assert "data.csv (no notebook)" in students["Bob M"].remarks[0]
    assert "again.zip (a zip in a zip in a zip)" in students["Cy N"].remarks[1]
    assert "se.py (no notebook)" in students["Dan O"].remarks[1]


def test_files_of_nobody_are_named_and_no_students(tmp_path):
    for name in ("ada.ipynb", "ada.pdf", "notes.txt", ".DS_Store", "ada/.git/config"):
        write(tmp_path / "in" / name)
    students, strays = collected(tmp_path / "in", tmp_path / "work")
    assert set(students) == {"ada"} and strays == ["notes.txt"]
    assert students["ada"].remarks == ["not read: ada.pdf (no notebook)"]


def test_marks_among_the_submissions_are_not_handed_in(tmp_path):
    write(tmp_path / "ada.ipynb")
    write(tmp_path / "grades/results/se-ada.ipynb")
    files = unpack.files(tmp_path, tmp_path / "grades/work", without=tmp_path / "grades")
    assert [str(file.inside) for file in files] == ["ada.ipynb"]


def test_a_class_list_names_the_students(tmp_path):
    path = tmp_path / "class.csv"
    path.write_text("name,login\nLovelace Ada,ada01\nÉmilie du Châtelet,ec\nHopper Grace,gh\n")
    for name in ("lovelaceada_1_2_se.ipynb", "ada01.ipynb", "ec.ipynb", "stranger.ipynb"):
        write(tmp_path / "in" / name)
    listed = roster.class_list(path)
    assert list(listed) == ["Lovelace Ada", "Émilie du Châtelet", "Hopper Grace"]
    students, _ = collected(tmp_path / "in", tmp_path / "work", listed=listed)
    assert set(students) == {"Lovelace Ada", "Émilie du Châtelet", "stranger"}
    assert students["Lovelace Ada"].count == 2  # by name and by login


@pytest.mark.parametrize(
    "text",
    [
        "Anna Alt;1\nAnna Berg;2\n",
        "Full name\tID\nAnna Alt\t1\nAnna Berg\t2\n",
        "First name,Surname,ID\nAnna,Alt,1\nAnna,Berg,2\n",
        '"First name";"Last name"\n"Anna";"Alt"\n"Anna";"Berg"\n',
        "# my class\nAnna Alt\n\nAnna Berg\n",
    ],
)
def test_class_lists_of_spreadsheets_and_platforms(tmp_path, text):
    (tmp_path / "class.csv").write_text(text)
    assert list(roster.class_list(tmp_path / "class.csv")) == ["Anna Alt", "Anna Berg"]


@pytest.mark.parametrize("text", ["Anna,Alt\nAnna,Berg\n", "Li Wei,1\nWei Li,2\n"])
def test_a_class_list_with_a_name_twice_is_refused(tmp_path, text):
    (tmp_path / "class.csv").write_text(text)
    with pytest.raises(ValueError, match="class.csv: the first column has to name each student"):
        roster.class_list(tmp_path / "class.csv")


def test_a_name_of_two_students_is_neither():
    named = roster.namer({"Anna Alt": ["Anna Alt", "anna"], "Anna Berg": ["Anna Berg", "anna"]})
    assert named("anna") is None
    assert named("bergAnna") == "Anna Berg"


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("Émilie du Châtelet", "chatelet_emilie-du", True),
        ("Groß, Ada", "ADA GROSS", True),
        ("Łukasz Nowak", "nowak łukasz", True),
        ("李伟 Li", "王芳 Li", False),
        ("राम", "रमा", False),
        ("ガ", "カ", False),
        ("???", "!!!", False),
    ],
)
def test_names_of_all_scripts_are_compared(one, other, same):
    assert (roster.key(one) == roster.key(other)) is same
