"""The tables of a class: marks.csv, and written.csv in which teachers give points.

A run adds to them. What it does not know, such as rows of other assignments and of students whose
submissions are elsewhere, stays: a teacher's points and comments are nowhere else.
"""

import re

from assignments import build
from assignments.grade_one import by_exercise
from assignments.spreadsheet import plain, read, text, write

MARKS = ("student", "assignment", "late", "remarks")
POINTS = re.compile(r".+ \([\d.]+\)")  # a column of points, with how many there are
WRITTEN = ("student", "assignment", "exercise", "points", "of", "comment", "answer")
WAITS = "written answer not marked yet, the total is without it"


def written(path, papers, name, named=str):
    """Take the points that somebody gave for written answers, and write the list anew.

    Points stay in the list also if their answer was not read this time, or is another now. They
    then stand beside the answer that they were given for.

    Parameters
    ----------
    named : callable
        What a student of an older table is called now.

    Returns
    -------
    rows : the rows of these papers' answers.
    """
    old = _renamed(read(path, WRITTEN), named)
    rows, used = [], set()
    for paper in papers:
        for exercise, answer in (paper.graded or {}).get("answers", {}).items():
            if not answer:
                continue
            cell = paper.graded["cells"][exercise]
            row = {"student": text(paper.student), "assignment": name, "exercise": exercise}
            row |= {"points": "", "of": f"{cell[1]:g}", "comment": "", "answer": text(answer)}
            same = [n for n, given in enumerate(old) if n not in used and _same(given, row)]
            if same:
                number = max(same, key=lambda n: bool(old[n]["points"].strip()))
                used.add(number)
                given = {column: old[number][column] for column in ("points", "comment")}
                row = old[number] | row | given | {"points": given["points"].strip()}
            cell[0] = _number(row["points"], cell[1], f"{path}, {paper.student}")
            cell[2] = row["comment"]
            rows.append(row)
    read_now = {(name, text(paper.student)) for paper in papers if paper.graded}
    unused = [row for number, row in enumerate(old) if number not in used]
    kept = [
        row
        for row in unused
        if row["points"] or row["comment"] or (row["assignment"], row["student"]) not in read_now
    ]
    write(path, _columns(WRITTEN, old), kept + rows)
    return rows


def _same(given, row):
    """Whether two rows are of the same answer; spreadsheets change the space in it."""
    same = all(given[column] == row[column] for column in ("student", "assignment", "exercise"))
    return same and plain(given["answer"]).split() == plain(row["answer"]).split()


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


def marks(path, papers, teacher, name, named=str):
    """One line a student and assignment: points by exercise, total, late, remarks.

    Lines of other assignments and of students without a paper stay, and so do columns that
    somebody has added. ``named`` is as in :func:`written`.
    """
    graded = [c.metadata.nbgrader for c in teacher.cells if c.metadata.nbgrader.grade]
    exercises = list(dict.fromkeys(build.exercise(mark.grade_id) for mark in graded))
    of = {e: sum(m.points for m in graded if build.exercise(m.grade_id) == e) for e in exercises}
    columns = {e: f"{e} ({of[e]:g})" for e in exercises}
    total = f"total ({sum(of.values()):g})"
    ours = {*MARKS, *exercises, "total"}
    old = {(row["assignment"], row["student"]): row for row in _renamed(read(path, MARKS), named)}
    for paper in papers:
        points = by_exercise(paper.graded["cells"]) if paper.graded else {}
        got = {e: points.get(e, [None])[0] for e in exercises}
        remarks = [*paper.remarks, *(paper.graded or {}).get("remarks", [])]
        if paper.graded and None in got.values():
            remarks.append(WAITS)
        row = {"student": text(paper.student), "assignment": name}
        row |= {columns[e]: "" if got[e] is None else f"{got[e]:g}" for e in exercises}
        row[total] = f"{sum(value or 0 for value in got.values()):g}"
        waits = not paper.graded and (paper.attempt or paper.unclear)
        if waits:
            row[total] = ""
        row |= {"late": "late" if paper.late else "", "remarks": text("; ".join(remarks))}
        before = old.get((name, row["student"]), {})
        if not paper.graded and not waits and before.get(total) == "":
            continue  # somebody has to look at what was handed in before
        added = {c: v for c, v in before.items() if c.partition(" (")[0] not in ours}
        old[name, row["student"]] = row | added
    rows = sorted(old.values(), key=lambda row: (row["assignment"], row["student"].casefold()))
    present = list(dict.fromkeys(c for row in rows for c in row if c not in MARKS and row[c]))
    present = list(dict.fromkeys([*columns.values(), total, *present]))
    present.sort(key=lambda column: (not POINTS.fullmatch(column), column.startswith("total")))
    write(path, ["student", "assignment", *present, "late", "remarks"], rows)


def _renamed(rows, named):
    return [row | {"student": text(named(plain(row["student"])))} for row in rows]


def _columns(first, rows):
    return list(dict.fromkeys([*first, *(column for row in rows for column in row)]))
