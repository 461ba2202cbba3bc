"""Grades one submission: `python -m assignments.grade_one JOB.json`, in a process of its own.

The student's code does not run here, see ``isolation``. What comes out is a JSON file with the
points, and a notebook beside it for the feedback.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path

import nbformat
from nbgrader.utils import determine_grade, is_grade, is_solution

from assignments.build import code, exercise, grade_id
from assignments.examine import Examiner, is_test
from assignments.isolation import Limits
from assignments.restore import Unreadable, read, restore
from assignments.student import NotStarted, Stopped, Student, error_output


def grade(path, teacher, release, kind, limits):
    """Points and feedback of one submission.

    Returns
    -------
    result : dict
        ``cells``: name of a graded cell -> [points, of, what is wrong], where the points of a
        written answer are None until somebody reads it; ``answers``; ``remarks``.
    nb : the notebook with outputs, without hidden tests.
    """
    restored = restore(read(path), teacher, release)
    running = [cell for cell, run in restored.cells if run]
    student = Student([cell.source for cell in running], kind, limits)
    try:
        try:
            student.run()
        except Stopped as stopped:
            restored.remarks.append(str(stopped))
        outputs = Examiner(teacher).run(student.name, lambda: student.ask("seed"))
    finally:
        student.close()
    for number, why in student.left_out.items():
        restored.remarks.append(f"cell {_name(running[number], number)} was left out: {why}")
    for cell, printed in zip(running, student.outputs, strict=True):
        cell.outputs = [nbformat.from_dict(output) for output in printed]
    result = {"cells": {}, "answers": restored.answers, "remarks": restored.remarks}
    for cell in teacher.cells:
        if is_grade(cell):
            name = grade_id(cell)
            result["cells"][name] = _points(cell, outputs.get(name), restored.answers)
    nb = nbformat.v4.new_notebook(metadata=release.metadata)
    nb.cells = [cell for cell, _ in restored.cells]
    for cell in nb.cells:
        if is_test(cell):
            cell.outputs = [nbformat.from_dict(o) for o in outputs[grade_id(cell)]]
    return result, nb


def _points(cell, outputs, answers):
    if is_solution(cell):
        written = answers.get(grade_id(cell))
        return [None if written else 0.0, cell.metadata.nbgrader.points, ""]
    cell = nbformat.from_dict({**cell, "outputs": outputs})
    points, of = determine_grade(cell)
    wrong = [f"{o.ename}: {o.evalue}" for o in cell.outputs if o.output_type == "error"]
    return [points, of, " ".join(wrong)]


def _name(cell, number):
    return cell.metadata.get("nbgrader", {}).get("grade_id", f"of the student's own ({number + 1})")


def by_exercise(cells):
    """Exercise -> [points, of]; None while a written answer waits to be read."""
    sums = defaultdict(lambda: [0.0, 0.0])
    for name, (points, of, _) in cells.items():
        total = sums[exercise(name)]
        total[0] = None if points is None or total[0] is None else total[0] + points
        total[1] += of
    return dict(sums)


def main():
    job = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    teacher, release = (nbformat.read(job[key], as_version=4) for key in ("teacher", "release"))
    target = Path(job["result"])
    try:
        options = job["isolation"], Limits(**job["limits"])
        result, nb = grade(Path(job["submission"]), teacher, release, *options)
    except NotStarted as error:
        sys.exit(str(error))  # nobody's marks; assignments.grade says that somebody has to look
    except Unreadable as error:
        result = {"cells": {}, "answers": {}, "remarks": [str(error)]}
        for cell in teacher.cells:
            if is_grade(cell):
                wrong = [0.0, cell.metadata.nbgrader.points, str(error)]
                result["cells"][grade_id(cell)] = wrong
        nb = nbformat.v4.new_notebook(metadata=release.metadata, cells=release.cells)
        for cell in filter(is_test, nb.cells):
            cell.outputs = [nbformat.from_dict(error_output("Unreadable", str(error)))]
    for cell in nb.cells:  # ids of a stranger's notebook may be missing or the same
        cell.pop("id", None)
        if not code(cell):
            cell.pop("outputs", None), cell.pop("execution_count", None)
    nb.nbformat_minor = 4
    nbformat.write(nb, target.with_suffix(".ipynb"))
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
