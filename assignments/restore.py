"""Puts a submission back into the order and shape of its assignment.

What the student was given, tests above all, is taken from the teacher's notebook; what the student
wrote is kept, wherever it stands. So a deleted, copied or edited test changes nothing, and a
solution typed into a new cell counts.
"""

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field

import nbformat
from nbgrader.utils import compute_checksum, is_grade, is_solution

from assignments.build import code, grade_id
from assignments.examine import bound, is_given, is_test

STUB = re.compile(r"\s*YOUR ANSWER HERE\s*")


class Unreadable(Exception):
    """The file is not a notebook; the message says why."""


@dataclass
class Restored:
    """A submission in order.

    cells : list of (cell, run) : a cell of the feedback, and whether its code is to run.
    answers : dict of the name of a written answer -> its text, empty if there is none.
    remarks : list of str : what was not as it was handed out.
    """

    cells: list = field(default_factory=list)
    answers: dict = field(default_factory=dict)
    remarks: list = field(default_factory=list)


def read(path, most=20_000_000):
    """A notebook of any version 3 or 4, from wherever it was saved."""
    if path.stat().st_size > most:
        raise Unreadable(f"the file has {path.stat().st_size:,} bytes; at most {most:,} are read")
    try:
        raw = json.loads(path.read_text(encoding="utf-8-sig"))
        nb = nbformat.convert(nbformat.from_dict(_lenient(raw)), 4)
    except RecursionError:
        raise Unreadable("the file is nested too deeply to be a notebook") from None
    except Exception as error:  # whatever a stranger's file may bring about
        raise Unreadable(f"the file is not a notebook ({type(error).__name__})") from None
    cells = [cell for cell in nb.get("cells", []) if cell.cell_type in ("code", "markdown", "raw")]
    if not cells:
        raise Unreadable("the notebook has no cells")
    return cells


def _lenient(raw):
    """The notebook with what nbformat asks for and other programs leave out."""
    raw.setdefault("nbformat", 4)
    raw.setdefault("nbformat_minor", 0)
    raw.setdefault("metadata", {})
    for cell in raw.get("cells", []):
        if not isinstance(cell.get("metadata"), dict):
            cell["metadata"] = {}
        source = cell.get("source", "")
        cell["source"] = "".join(source) if isinstance(source, list) else str(source)
        if cell.get("cell_type") == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return raw


def restore(cells, teacher, release):
    """The student's cells in the order of the teacher's notebook.

    Parameters
    ----------
    cells : list of cells, from :func:`read`.
    teacher, release : the two notebooks of the assignment.
    """
    known = {grade_id(cell): cell for cell in release.cells}
    given = [name for name in map(_claimed, cells) if name and name.startswith("given-")]
    foreign = sum(name not in known for name in given) > len(given) / 2
    theirs, own = defaultdict(list), defaultdict(list)
    last = None
    for cell, name in _identified(cells, known):
        if name:
            theirs[name].append(cell)
            last = name
        else:
            own[last].append(cell)
    if not theirs:
        raise Unreadable("the notebook has no cell of this assignment")
    result = Restored(remarks=_remarks(theirs, known))
    if foreign:
        result.remarks.append("most texts are not those of this assignment; is it another's?")
    result.cells += [(cell, code(cell)) for cell in own[None]]
    before = None
    for cell in teacher.cells:
        name = grade_id(cell)
        if is_solution(cell):
            mine = theirs[name]
            if is_grade(cell):
                beside = own[name] if mine else own[before]
                result.answers[name] = _answer(mine, beside, known[name])
            for copy in mine:
                copy.metadata = known[name].metadata
                result.cells.append((copy, code(copy)))
        else:  # as it was handed out; what of it runs, runs as the teacher wrote it
            result.cells.append((known[name], is_given(cell)))
        result.cells += [(extra, code(extra)) for extra in own[name]]
        before = name
    return result


def _identified(cells, known):
    """(cell, name) of each; by its metadata or id, else by its text or by what it defines."""
    sources = {_squeezed(cell.source): name for name, cell in known.items()}
    found = []
    for cell in cells:
        claims = [_claimed(cell), cell.get("id")]
        claims.append(sources.get(_squeezed(cell.source)))
        cell.metadata = nbformat.NotebookNode()
        names = [claim for claim in claims if isinstance(claim, str) and claim in known]
        found.append([cell, next(iter(names), None)])
    present = {name for _, name in found}
    defined = {
        what: name
        for name, cell in known.items()
        if is_solution(cell) and name not in present
        for what in bound(cell.source)
    }
    for pair in found:
        if pair[1] is None and code(pair[0]):
            pair[1] = next((defined[w] for w in bound(pair[0].source) if w in defined), None)
    return found


def _claimed(cell):
    """The name that a cell has in its metadata, if any."""
    marked = cell.metadata.get("nbgrader")
    name = marked.get("grade_id") if isinstance(marked, dict) else None
    return name if isinstance(name, str) else None


def _remarks(theirs, known):
    missing, changed, copied = [], [], []
    for name, cell in known.items():
        mine = theirs[name]
        if is_solution(cell):
            missing += [name] if not mine else []
            copied += [name] if len(mine) > 1 else []
        elif is_test(cell):
            same = [_squeezed(copy.source) == _squeezed(cell.source) for copy in mine]
            changed += [] if same and all(same) else [name]
    remarks = []
    if missing:
        remarks.append(f"cells missing: {', '.join(missing)}")
    if changed:
        remarks.append(f"tests deleted or changed, and restored: {', '.join(changed)}")
    if copied:
        remarks.append(f"cells copied, all of them were run: {', '.join(copied)}")
    return remarks


def _answer(mine, beside, handed_out):
    """The text of a written answer: its cells, and texts that stand below it; without the stub."""
    texts = []
    for cell in mine:
        cell.metadata = handed_out.metadata
        if compute_checksum(cell) != handed_out.metadata.nbgrader["checksum"]:
            texts.append(cell.source)
    texts += [cell.source for cell in beside if not code(cell)]
    return "\n\n".join(STUB.sub("", text) for text in texts).strip()


def _squeezed(source):
    return re.sub(r"\s+", "", source)
