"""From the text of an assignment to nbgrader's notebooks: `python -m assignments.build`.

assignments/source/NAME/NAME.md is the text, in the format of the chapters, with three words for
nbgrader; assignments/README.md describes them. :func:`source` makes the teacher's notebook of it,
:func:`release` the student's, with nbgrader's own generate_assignment.
"""

import hashlib
import logging
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path

import jupytext
import nbformat
from traitlets.config import Config

from assignments import isolation

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "assignments" / "source"
RELEASE = ROOT / "assignments" / "release"
ZIP = RELEASE / "assignments.zip"
KINDS = {  # word -> nbgrader's (grade, solution, locked)
    "solve": (False, True, False),
    "test": (True, False, True),
    "answer": (True, True, False),
}
ID = re.compile(r"[a-z][\w-]*")
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
RULES = """**What runs when it is marked.** Your cells run first, from top to bottom, and then \
the tests. So try *Restart and run all* before you hand in. Cells with tests do not run among \
yours, and your solutions must not use a variable of one. Cells that you were given are put back \
as they were. You may add cells. A cell may take {cell:g} seconds, a call by a test {call:g} \
seconds and everything {total:g} seconds, with one thread, unless your teacher says otherwise. \
Cells that you add are part of it, so take long experiments out before you hand in."""
EPOCH = (2020, 1, 1, 0, 0, 0)  # so that the same notebooks make the same zip


def names():
    """Names of all assignments."""
    return sorted(path.stem for path in SOURCE.glob("*/*.md") if path.stem == path.parent.name)


def source(name):
    """The teacher's notebook of an assignment, with nbgrader's metadata."""
    path = SOURCE / name / f"{name}.md"
    if not path.is_file():
        raise ValueError(f"there is no assignment {name!r}; there are {', '.join(names())}")
    nb = jupytext.read(path, fmt="md:myst")
    install = nbformat.v4.new_code_cell(_install_cell(), metadata={"tags": ["install"]})
    nb.cells[0].source += "\n\n" + RULES.format(**vars(isolation.Limits()))
    nb.cells.insert(1, install)
    nb.metadata = nbformat.from_dict(METADATA | {"attn_assignment": name})
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen = set()
    for cell in nb.cells:
        marked = _metadata(cell)
        if marked["grade_id"] in seen:
            raise ValueError(f"{path}: two cells are called {marked['grade_id']!r}")
        seen.add(marked["grade_id"])
        cell.metadata["nbgrader"] = marked
        cell.id = marked["grade_id"]
    return nb


def _install_cell():
    sys.path.insert(0, str(ROOT / "book" / "tools"))
    import notebooks

    return notebooks.install_cell(ROOT)


def _metadata(cell):
    """Nbgrader's metadata of a cell; the word that asked for it is taken out of the cell's."""
    found = [(word, cell.metadata.pop(word)) for word in KINDS if word in cell.metadata]
    if len(found) > 1:
        raise ValueError(f"a cell is one of {', '.join(KINDS)}; {cell.source[:60]!r} is several")
    common = {"schema_version": 3, "task": False}
    if not found:
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        given = {"grade": False, "solution": False, "locked": True}
        return common | given | {"grade_id": f"given-{digest}"}
    word, text = found[0]
    grade, solution, locked = KINDS[word]
    grade_id, *points = str(text).split()
    if not ID.fullmatch(grade_id) or len(points) != grade or (word == "answer") == code(cell):
        raise ValueError(
            f"{word}: {text!r} is not understood. Code cells have `:solve: NAME` or `:test: NAME "
            f'POINTS`, a text has `+++ {{"answer": "NAME POINTS"}}` above it.'
        )
    marked = common | {"grade": grade, "solution": solution, "locked": locked}
    marked["grade_id"] = grade_id
    if grade:
        marked["points"] = float(points[0])
    return marked


def code(cell):
    return cell.cell_type == "code"


def grade_id(cell):
    return cell.metadata.nbgrader.grade_id


def exercise(name):
    """The exercise that a cell belongs to: what stands before the first hyphen of its name."""
    return name.partition("-")[0]


def release(nb):
    """The student's notebook: no solutions, no hidden tests, no outputs; nbgrader makes it."""
    from nbgrader.converters import GenerateAssignment
    from nbgrader.coursedir import CourseDirectory

    name = nb.metadata["attn_assignment"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "source", name, f"{name}.ipynb")
        path.parent.mkdir(parents=True)
        nbformat.write(nb, path)
        config = Config()
        config.CourseDirectory.root = folder
        config.CourseDirectory.assignment_id = name
        config.GenerateAssignment.no_database = True
        config.SaveCells.enabled = False
        log = logging.getLogger("assignments")
        log.setLevel(logging.ERROR)
        course = CourseDirectory(config=config)
        GenerateAssignment(coursedir=course, config=config, log=log).start()
        return nbformat.read(Path(folder, "release", name, f"{name}.ipynb"), as_version=4)


def main():
    """Write the student notebooks, and one zip of them and of the wheel that they may need."""
    shutil.rmtree(RELEASE, ignore_errors=True)
    RELEASE.mkdir()
    with zipfile.ZipFile(ZIP, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in names():
            nb = source(name)
            points = sum(c.metadata.nbgrader.get("points", 0) for c in nb.cells)
            text = nbformat.writes(release(nb)) + "\n"
            Path(RELEASE, f"{name}.ipynb").write_text(text, encoding="utf-8")
            archive.writestr(zipfile.ZipInfo(f"assignments/{name}.ipynb", EPOCH), text)
            print(f"assignments/release/{name}.ipynb: {points:g} points")
        if 'REPOSITORY = ""' in _install_cell():  # no address to install from
            for wheel in (ROOT / "dist").glob("attn_lib-*.whl"):
                archive.write(wheel, f"assignments/{wheel.name}")
    print(ZIP.relative_to(ROOT))


if __name__ == "__main__":
    main()
