"""Every assignment keeps the form, and its tests give the points that its attempts deserve."""

import ast
import re
import time
import zipfile

import nbformat
import numpy as np
import pytest
from nbgrader.utils import determine_grade, is_grade, is_solution

from assignments import build, examine, isolation

ATTEMPT = re.compile(
    r"^## (?P<cell>[\w-]+)\ncosts: (?P<costs>[^\n]+)\nsays: (?P<says>[^\n]+)\n\n"
    r"```python\n(?P<code>.*?)\n```$",
    re.MULTILINE | re.DOTALL,
)
REGION = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)### END", re.DOTALL)
HEADING = re.compile(r"^## \d\. .+ \((\d+) points, (\d+) minutes\)$", re.MULTILINE)
TOTAL = re.compile(r"\*\*(\d+) points, (\d+) minutes\.\*\*")
SPLIT = re.compile(r": ([\d +]+)\.")
EXERCISES = ["forward", "backward", "module", "experiment", "fault", "written"]


def attempts(name):
    text = (build.SOURCE / name / "attempts.md").read_text(encoding="utf-8")
    found = [match.groupdict() for match in ATTEMPT.finditer(text)]
    assert len(found) == text.count("\n## "), f"{name}/attempts.md has another form"
    return found


def played(teacher, notebook, changed=(), seen=lambda value: value):
    """Points of each test for the solutions of a notebook, without a sandbox; and what they say.

    ``seen`` turns what the notebook defines into what the tests see.
    """
    examiner = examine.Examiner(teacher)
    namespace = {}
    for cell in notebook.cells:
        if examine.is_given(cell) or (build.code(cell) and is_solution(cell)):
            source = dict(changed).get(build.grade_id(cell), cell.source)
            try:
                exec(source, namespace)
            except NotImplementedError:
                pass
    outputs = examiner.run(lambda name: seen(namespace[name]))
    points = {}
    for cell in filter(examine.is_test, teacher.cells):
        graded = nbformat.from_dict({**cell, "outputs": outputs[build.grade_id(cell)]})
        points[build.grade_id(cell)] = determine_grade(graded)[0]
    everything = [nbformat.from_dict(o) for output in outputs.values() for o in output]
    said = [o.evalue for o in everything if o.output_type == "error"]
    return points, " ".join(said)


def full(teacher):
    tests = filter(examine.is_test, teacher.cells)
    return {build.grade_id(cell): cell.metadata.nbgrader.points for cell in tests}


def test_points_and_minutes_add_up(assignment):
    _, teacher, _ = assignment
    text = "\n".join(cell.source for cell in teacher.cells)
    headings = [(int(points), int(minutes)) for points, minutes in HEADING.findall(text)]
    by_exercise = dict.fromkeys(EXERCISES, 0)
    for cell in filter(is_grade, teacher.cells):
        by_exercise[build.exercise(build.grade_id(cell))] += cell.metadata.nbgrader.points
    assert list(by_exercise.values()) == [points for points, _ in headings]
    (total,) = TOTAL.findall(text)
    assert tuple(map(int, total)) == tuple(map(sum, zip(*headings, strict=True)))
    assert 20 <= sum(by_exercise.values()) <= 100


def test_students_see_no_solution_and_no_hidden_test(assignment):
    name, teacher, release = assignment
    text = (build.SOURCE / name / f"{name}.md").read_text(encoding="utf-8")
    seen = nbformat.writes(release)
    assert not re.search(r"SOLUTION|HIDDEN|Rubric|solution\.\w", seen)
    shown = "\n".join(cell.source for cell in release.cells)
    given = REGION.sub("", text)
    for region in REGION.findall(text):
        for line in region.splitlines():
            if len(line.strip()) > 25 and line.strip() not in given:
                assert line.strip() not in shown


def test_rubrics_add_up(assignment):
    _, teacher, _ = assignment
    (cell,) = [cell for cell in teacher.cells if build.grade_id(cell) == "written"]
    rubric = cell.source.partition("**Rubric.** ")[2]
    points = [int(n) for split in SPLIT.findall(rubric) for n in split.split(" + ")]
    assert sum(points) == cell.metadata.nbgrader.points
    assert max(points) <= 2


def test_tests_use_what_they_compute(assignment):
    """A name that is set and not used is often a message that is written and not shown."""
    _, teacher, _ = assignment
    for cell in filter(examine.is_test, teacher.cells):
        names = [node for node in ast.walk(ast.parse(cell.source)) if isinstance(node, ast.Name)]
        read = {node.id for node in names if isinstance(node.ctx, ast.Load)}
        unused = {node.id for node in names} - read - {"_"}
        assert not unused, f"{build.grade_id(cell)} does not use {', '.join(sorted(unused))}"


def test_every_exercise_has_tests_of_both_kinds(assignment):
    _, teacher, _ = assignment
    hidden = {}
    for cell in filter(examine.is_test, teacher.cells):
        exercise = build.exercise(build.grade_id(cell))
        hidden.setdefault(exercise, set()).add("HIDDEN" in cell.source)
    assert all(kinds == {True, False} for kinds in hidden.values())


def test_a_perfect_solution_gets_all_points(assignment):
    _, teacher, _ = assignment
    assert played(teacher, teacher) == (full(teacher), "")


def with_numpys_truth_values(value):
    """The same answers and the same verdicts, as NumPy would give them."""
    if isinstance(value, dict):
        return {k: np.bool_(v) if isinstance(v, bool) else v for k, v in value.items()}
    if (getattr(value, "__doc__", None) or "").endswith("True or False"):
        return lambda *args: np.bool_(value(*args))
    return value


def test_numpys_truth_values_count_as_well(assignment):
    _, teacher, _ = assignment
    assert played(teacher, teacher, seen=with_numpys_truth_values) == (full(teacher), "")


def test_an_untouched_notebook_gets_none(assignment):
    _, teacher, release = assignment
    points, _ = played(teacher, release)
    assert set(points.values()) == {0}


@pytest.mark.parametrize(
    ("name", "attempt"),
    [
        pytest.param(name, attempt, id=f"{name}-{attempt['says'][:40]}")
        for name in build.names()
        for attempt in attempts(name)
    ],
)
def test_a_wrong_attempt_loses_what_it_should(name, attempt):
    teacher = build.source(name)
    points, said = played(teacher, teacher, [(attempt["cell"], attempt["code"])])
    lost = {test for test, got in points.items() if got < full(teacher)[test]}
    assert lost == set(attempt["costs"].split())
    assert attempt["says"] in said


def test_the_install_cell_comes_first(assignment):
    _, _, release = assignment
    first = next(cell for cell in release.cells if build.code(cell))
    assert first.source.startswith("# @title Install attn_lib")


def test_students_are_told_what_runs_and_for_how_long(assignment):
    _, _, release = assignment
    rules = release.cells[0].source
    assert "must not use a variable of one" in rules
    limits = isolation.Limits()
    for seconds in (limits.cell, limits.call, limits.total):
        assert f"{seconds:g} seconds" in rules


def test_statements_give_a_point_each_and_students_are_told_how(assignment):
    _, teacher, release = assignment
    examiner = examine.Examiner(teacher)
    marked = [c for c in teacher.cells if build.grade_id(c).endswith("-marked")]
    assert marked
    for cell in marked:
        solve = build.grade_id(cell).removesuffix("-marked")
        (name,) = {name for name in examiner.names if f"solution.{name}" in cell.source}
        assert cell.metadata.nbgrader.points == len(getattr(examiner._solution, name))
        at = [build.grade_id(c) for c in release.cells].index(solve)
        takes_back = "takes one back" if "check.score" in cell.source else "takes nothing"
        assert re.search(f"A right .* gives a point.* {takes_back}", release.cells[at - 1].source)


def test_make_assignments_writes_the_same_zip_again(tmp_path, monkeypatch):
    monkeypatch.setattr(build, "RELEASE", tmp_path)
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "ZIP", tmp_path / "assignments.zip")
    monkeypatch.setattr(build, "_install_cell", lambda: "install")
    written = []
    for _ in range(2):
        build.main()
        written.append(build.ZIP.read_bytes())
        time.sleep(0.1)
    assert written[0] == written[1]
    with zipfile.ZipFile(build.ZIP) as archive:
        assert archive.namelist() == [f"assignments/{name}.ipynb" for name in build.names()]


@pytest.mark.parametrize(("address", "holds"), [("", True), ("https://github.com/a/b", False)])
def test_without_an_address_the_zip_has_the_wheel(tmp_path, monkeypatch, address, holds):
    monkeypatch.setattr(build, "ROOT", tmp_path)
    monkeypatch.setattr(build, "RELEASE", tmp_path / "release")
    monkeypatch.setattr(build, "ZIP", tmp_path / "release" / "assignments.zip")
    monkeypatch.setattr(build, "names", list)
    monkeypatch.setattr(build, "_install_cell", lambda: f'REPOSITORY = "{address}"')
    wheel = tmp_path / "dist" / "attn_lib-0-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.write_bytes(b"wheel")
    build.main()
    with zipfile.ZipFile(build.ZIP) as archive:
        assert archive.namelist() == ([f"assignments/{wheel.name}"] if holds else [])


def test_the_readme_has_their_points_and_minutes():
    readme = (build.ROOT / "assignments" / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)`: .+ \| (\d+) \| (\d+) \|$", readme, re.MULTILINE)
    totals = [TOTAL.search((build.SOURCE / n / f"{n}.md").read_text()) for n in build.names()]
    found = [(name, *total.groups()) for name, total in zip(build.names(), totals, strict=True)]
    assert sorted(rows) == sorted(found)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (":solve: Forward", "is not understood"),
        (":test: forward", "is not understood"),
        (":test: forward 3\n:solve: forward", "is several"),
    ],
)
def test_a_mistake_in_the_text_is_named(tmp_path, monkeypatch, words, says):
    monkeypatch.setattr(build, "SOURCE", tmp_path)
    path = tmp_path / "a" / "a.md"
    path.parent.mkdir()
    path.write_text(f"# A\n\n```{{code-cell}} ipython3\n{words}\n\nx = 1\n```\n")
    with pytest.raises(ValueError, match=says):
        build.source("a")
