"""A page for each student, with nbgrader's template: points, what is wrong, and the own code."""

from pathlib import Path

import nbformat
import nbgrader
from nbconvert import HTMLExporter

from assignments.build import code
from assignments.grade_one import by_exercise

FORMGRADER = Path(nbgrader.__file__).parent / "server_extensions" / "formgrader"
BOOTSTRAP = FORMGRADER / "static" / "node_modules" / "bootstrap" / "dist" / "css"
# A submission may hold any HTML. The page runs no script and loads nothing from anywhere.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
HEAD = f'<head>\n<meta http-equiv="Content-Security-Policy" content="{POLICY}">'


def write(folder, papers, name):
    """Write ``folder/STUDENT.html`` for each paper that was graded and is new or has new points."""
    folder.mkdir(parents=True, exist_ok=True)
    exporter = HTMLExporter(
        template_name="feedback",
        extra_template_basedirs=[str(FORMGRADER / "templates")],
        extra_template_paths=[str(BOOTSTRAP)],
        mathjax_url="",
    )
    for paper in papers:
        if paper.graded is None:
            continue
        nb = nbformat.read(paper.result.with_suffix(".ipynb"), as_version=4)
        html = page(exporter, nb, paper, name)
        target = folder / f"{paper.result.stem}.html"
        if not target.exists() or target.read_text(encoding="utf-8") != html:
            target.write_text(html, encoding="utf-8")


def page(exporter, nb, paper, name):
    """The page of one paper."""
    cells = paper.graded["cells"]
    nb.cells = [cell for cell in nb.cells if not (code(cell) and _given(cell))]
    for cell in nb.cells:
        marked = cell.metadata.get("nbgrader", {})
        if marked.get("grade_id") in cells:
            points, of, said = cells[marked["grade_id"]]
            marked["score"], marked["points"] = points or 0.0, of
            marked["comment"] = said if marked.get("solution") else ""
            if points is None:
                marked["comment"] = "Not marked yet."
        elif _given(cell):
            cell.source = _heading(cell.source)
    nb.cells = [_summary(paper), *(cell for cell in nb.cells if cell.source)]
    score = sum(points or 0 for points, _, _ in cells.values())
    most = sum(of for _, of, _ in cells.values())
    title = f"{paper.student}: {name}"
    about = {"notebook": _escaped(title), "score": score, "max_score": most, "late_penalty": 0}
    html, _ = exporter.from_notebook_node(nb, {"nbgrader": about})
    return html.replace("<head>", HEAD, 1)


def _heading(text):
    lines = [line for line in text.splitlines() if line.startswith("#")]
    return lines[0] if lines else ""


def _given(cell):
    marked = cell.metadata.get("nbgrader", {})
    return marked.get("locked") and not marked.get("grade")


def _summary(paper):
    lines = []
    for exercise, (points, of) in by_exercise(paper.graded["cells"]).items():
        got = "not marked yet, of" if points is None else f"{points:g} of"
        lines.append(f"* **{exercise}**: {got} {of:g}")
    late = ["handed in late"] if paper.late else []
    remarks = [*paper.remarks, *paper.graded["remarks"], *late]
    lines += [f"* {_escaped(remark)}" for remark in remarks]
    return nbformat.v4.new_markdown_cell("\n".join(lines))


def _escaped(text):
    for character, name in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(character, name)
    return text
