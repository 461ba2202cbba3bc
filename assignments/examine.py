"""Runs the tests of an assignment against the student's code, and counts the points.

The tests run here, in the grader's process. They see the names of the cells tagged ``setup``, the
student's names, which are stand-ins (``student.Remote``), and ``solution``, the teacher's.
"""

import ast
import contextlib
import io
import random
from types import SimpleNamespace

import nbformat
import numpy as np
import torch
from nbgrader.utils import is_grade, is_locked, is_solution

from assignments.build import code, grade_id
from assignments.student import error_output

MESSAGE = 1500  # characters of an error that are kept


def is_test(cell):
    return code(cell) and is_grade(cell) and not is_solution(cell)


def is_given(cell):
    """A cell of code that the student is given; it runs as the teacher wrote it."""
    return code(cell) and is_locked(cell) and not is_grade(cell) and "install" not in _tags(cell)


def is_setup(cell):
    return is_given(cell) and "setup" in _tags(cell)


def _tags(cell):
    return cell.metadata.get("tags", [])


def solved(nb):
    """The names that the student's process has and the tests do not: of what is solved or given."""
    cells = [c for c in nb.cells if code(c) and (is_solution(c) or is_given(c)) and not is_setup(c)]
    return {name for cell in cells for name in bound(cell.source)}


def bound(source):
    """Names that a cell defines at its top level, without imports; none if it cannot be parsed."""
    try:
        statements = ast.parse(source).body
    except (SyntaxError, ValueError):
        return set()
    found = set()
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            names = [part for target in node.targets for part in ast.walk(target)]
            found |= {part.id for part in names if isinstance(part, ast.Name)}
    return found


class Examiner:
    """The tests of one assignment.

    Parameters
    ----------
    nb : the teacher's notebook, as ``build.source`` makes it.
    """

    def __init__(self, nb):
        self.nb = nb
        self.names = solved(nb)
        self._setup, solution = {}, {}
        for cell in nb.cells:
            if is_setup(cell):
                exec(cell.source, self._setup)
                exec(cell.source, solution)
            elif is_given(cell) or (code(cell) and is_solution(cell)):
                exec(cell.source, solution)
        self._solution = SimpleNamespace(**{name: solution[name] for name in self.names})

    def run(self, lookup, seed=lambda: None):
        """Outputs of every test: an error, a number of points, or nothing.

        Parameters
        ----------
        lookup : callable
            The student's value of a name.
        seed : callable
            Called before each test, to seed the student's process.
        """
        tests = filter(is_test, self.nb.cells)
        return {grade_id(cell): self._test(cell.source, lookup, seed) for cell in tests}

    def _test(self, source, lookup, seed):
        tree = ast.parse(source)
        used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
        namespace = dict(self._setup, solution=self._solution)
        random.seed(0)
        np.random.seed(0)  # noqa: NPY002 (a test may use it)
        torch.manual_seed(0)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                seed()
                namespace.update({name: lookup(name) for name in sorted(used & self.names)})
                points = _run(tree, namespace)
        except Exception as error:
            name = getattr(type(error), "__name__", "Error")
            return [error_output(name, str(error)[:MESSAGE])]
        if isinstance(points, (int, float)) and not isinstance(points, bool):
            data = {"text/plain": f"{points:g}"}
            return [nbformat.v4.new_output("execute_result", data)]
        return []


def _run(tree, namespace):
    """Run a cell; the value of its last line, if that is an expression."""
    *body, last = tree.body or [ast.Pass()]
    if not isinstance(last, ast.Expr):
        body, last = [*body, last], None
    exec(compile(ast.Module(body, []), "<test>", "exec"), namespace)
    return last and eval(compile(ast.Expression(last.value), "<test>", "eval"), namespace)
