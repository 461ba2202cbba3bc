"""The exercises of every notebook: an untouched stub says so, and the solution passes its checks.

An exercise is a heading `### Exercise N` in a markdown cell, a code cell with a stub and calls of
`check.`, and in a markdown cell `<details><summary>Solution N</summary>` around the solution.
Only cells tagged `setup` are executed besides. A title that ends with "(on paper)" has no code.
"""

import contextlib
import io
import re

import nbformat
import pytest
from conftest import ROOT

TITLE = re.compile(r"^### Exercise (\d+)\b.*", re.MULTILINE)
SOLUTION = re.compile(
    r"<details>\s*<summary>Solution (\d+)[^<]*</summary>\n\n(.*?)\n\n</details>", re.DOTALL
)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.DOTALL | re.MULTILINE)
CHECK = re.compile(r"^check\..*$", re.MULTILINE)


def exercises(nb):
    """([(number, on paper?, stub, solution's code)], problems) of a notebook."""
    titles, stubs, solutions, problems, current = {}, {}, {}, [], None
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            for match in SOLUTION.finditer(cell.source):
                solutions[match[1]] = "\n".join(PYTHON.findall(match[2]))
            for match in TITLE.finditer(cell.source):
                current = match[1]
                if current in titles:
                    problems.append(f"two exercises have the number {current}")
                titles[current] = match[0].rstrip().endswith("(on paper)")
        elif current and CHECK.search(cell.source):
            stubs[current] = cell.source
    for number in solutions.keys() - titles.keys():
        problems.append(f"Solution {number} has no exercise")
    for number, on_paper in titles.items():
        if number not in solutions:
            problems.append(f"Exercise {number} has no solution")
        if not on_paper and number not in stubs:
            problems.append(f"Exercise {number} has no cell that calls check.")
    complete = [n for n in titles if n in solutions and (titles[n] or n in stubs)]
    return [(n, titles[n], stubs.get(n), solutions[n]) for n in complete], problems


def run(code, namespace, name):
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(compile(code, name, "exec"), namespace)
    return printed.getvalue()


def failures(nb):
    """What is wrong with the exercises of a notebook, one line each."""
    found, problems = exercises(nb)
    namespace = {"__name__": "__main__"}
    for cell in nb.cells:
        if cell.cell_type == "code" and "setup" in cell.metadata.get("tags", []):
            run(cell.source, namespace, "setup")
    for number, on_paper, stub, solution in found:
        if on_paper:
            continue
        calls = CHECK.findall(stub)
        printed = run(stub, namespace, f"stub of exercise {number}")
        if printed.count("not attempted") != len(calls):
            problems.append(f"Exercise {number}: the untouched stub prints {printed!r}")
        try:
            printed = run(
                "\n".join([solution, *calls]), namespace, f"solution of exercise {number}"
            )
        except Exception as error:
            problems.append(f"Exercise {number}: the solution fails: {error!r}")
            continue
        if printed.count("passed") < len(calls) or "not attempted" in printed:
            problems.append(f"Exercise {number}: the solution's checks print {printed!r}")
    return problems


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_solutions(path, monkeypatch):
    monkeypatch.chdir(path.parent)
    monkeypatch.setenv("MPLBACKEND", "agg")
    problems = failures(nbformat.read(path, as_version=4))
    assert not problems, "\n".join(problems)


SETUP = """class check:
    def double(f):
        r = f(2)
        print("double: " + {None: "not attempted yet", 4: "passed"}.get(r, "wrong"))
"""
STUB = "def double(x):\n    ...\n\ncheck.double(double)"
SOLVED = "<details><summary>Solution {}</summary>\n\n```python\n{}\n```\n\n</details>"


def notebook(*cells):
    nb = nbformat.v4.new_notebook()
    nb.cells = [nbformat.v4.new_code_cell(SETUP, metadata={"tags": ["setup"]})]
    for cell in cells:
        new = nbformat.v4.new_code_cell if cell == STUB else nbformat.v4.new_markdown_cell
        nb.cells.append(new(cell))
    return nb


right = SOLVED.format(1, "def double(x):\n    return 2 * x")
wrong = SOLVED.format(1, "def double(x):\n    return x")


@pytest.mark.parametrize(
    ("cells", "problem"),
    [
        (["### Exercise 1: twice", STUB, right], None),
        (
            [
                "### Exercise 1 (on paper)",
                "<details><summary>Solution 1</summary>\n\n4\n\n</details>",
            ],
            None,
        ),
        (["### Exercise 1", STUB, wrong], "'double: wrong\\n'"),
        (["### Exercise 1", STUB, SOLVED.format(1, "1 / 0")], "ZeroDivisionError"),
        (["### Exercise 1", STUB, SOLVED.format(1, "pass")], "not attempted"),
        (["### Exercise 1", STUB], "Exercise 1 has no solution"),
        (["### Exercise 1", right], "Exercise 1 has no cell that calls check."),
        ([right], "Solution 1 has no exercise"),
        (["### Exercise 1", STUB, right, "### Exercise 1", STUB], "two exercises"),
    ],
)
def test_failures_are_noticed(cells, problem):
    problems = failures(notebook(*cells))
    assert not problems if problem is None else problem in "\n".join(problems)


def test_a_stub_that_is_solved_is_noticed():
    nb = notebook("### Exercise 1", STUB, right)
    nb.cells[2].source = STUB.replace("...", "return 4")
    assert "the untouched stub prints" in failures(nb)[0]
