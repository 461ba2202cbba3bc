"""Chapters and notebooks in step: book/chapters/NAME.md is the text, notebooks/NAME.ipynb runs it.

    python book/tools/notebooks.py run [--all]   execute the chapters whose code changed
    python book/tools/notebooks.py check         refuse a pair that is out of step

`make notebooks` and `make sync` call it. What is stored is normalised, so that executing a
chapter again changes nothing that did not change.
"""

import argparse
import base64
import hashlib
import os
import re
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import jupytext
import minutes
import nbformat
import repository
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 2
TIMEOUT = 600  # seconds for one cell
FIRST_PAGE = "book/index.md"
MAX_FIGURE = 150_000  # bytes
MAX_NOTEBOOK = 1_500_000
IGNORE = "nbval-ignore-output"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
FOR_COLAB = ("accelerator", "colab")  # a chapter's own wishes, in its first lines
FOLDED = {"hide-input", "remove-cell"}  # in the book; Colab and JupyterLab fold them too
MYST = re.compile(
    r"^ *(`{3,}|:{3,})\{"  # a directive
    r"|(?<![`\w\\{}])\{[A-Za-z][\w:.+-]*\}`[^`]"  # a role
    r"|^\([\w-]+\)=\s*$",  # a target
    re.MULTILINE,
)
WIDGET = "application/vnd.jupyter.widget-view+json"  # a progress bar, dead without its kernel
TITLE = re.compile(r"# @title \S")
MODULE = re.compile(r"^ *\(\w+\): [A-Z]\w+\(", re.MULTILINE)  # torch's description of a module
MACHINE_PATH = re.compile(r"(?<![\w/.:~%-])/(home|root|tmp|work|Users|opt|mnt)/\w|\b[A-Z]:\\Users")
EMPTY_ALT = re.compile(r"!\[\s*\]\(|<img(?![^>]*\balt=[\"'][^\"'])")


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("run").add_argument("--all", action="store_true")
    commands.add_parser("check")
    args = parser.parse_args(argv)
    if args.command == "run":
        return run(ROOT, everything=args.all)
    problems = check(ROOT)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


# Reading and writing


def pairs(root):
    """(name, chapter's path, notebook's path) of every chapter and every notebook."""
    chapters, notebooks = root / "book" / "chapters", root / "notebooks"
    names = {p.stem for p in chapters.glob("*.md")} | {p.stem for p in notebooks.glob("*.ipynb")}
    return [(name, chapters / f"{name}.md", notebooks / f"{name}.ipynb") for name in sorted(names)]


def read_chapter(path):
    """The chapter as a notebook without outputs."""
    return normalise(jupytext.read(path, fmt="md:myst"))


def read_notebook(path):
    return nbformat.read(path, as_version=4) if path.exists() else None


def first_page(root):
    """(path, text, text with the chapters' times) of the first page; three times None without."""
    path = root / FIRST_PAGE
    if not path.exists():
        return None, None, None
    chapters = sorted((root / "book" / "chapters").glob("*.md"))
    text = path.read_text(encoding="utf-8")
    stamped = minutes.stamp_all(text, [c.read_text(encoding="utf-8") for c in chapters])
    return path, text, stamped


def write_notebook(nb, path):
    """Write only what differs, so that an unchanged notebook keeps its time stamp."""
    text = nbformat.writes(nb).rstrip("\n") + "\n"
    path.parent.mkdir(exist_ok=True)
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def code_cells(nb):
    return [cell for cell in nb.cells if cell.cell_type == "code"]


def tags(cell):
    return cell.metadata.get("tags", [])


def same_code(a, b):
    """Whether the same cells, with the same tags, would be executed."""
    return [(c.source, c.metadata) for c in code_cells(a)] == [
        (c.source, c.metadata) for c in code_cells(b)
    ]


def complete(nb):
    """Whether every code cell was executed, without an error."""
    return all(
        cell.execution_count is not None and not any(o.output_type == "error" for o in cell.outputs)
        for cell in code_cells(nb)
    )


# Normalising


def normalise(nb):
    """Keep what the code determines: no timing, no widget state, ids that follow the source."""
    wishes = {key: nb.metadata[key] for key in FOR_COLAB if key in nb.metadata}
    nb.metadata = nbformat.from_dict(METADATA | wishes)
    nb.nbformat, nb.nbformat_minor = 4, 5
    seen, count = {}, 0
    for cell in nb.cells:
        # The id depends on the cell alone, so that inserting a cell leaves the others' ids.
        digest = hashlib.sha256(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[digest] = seen.get(digest, 0) + 1
        cell.id = digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
        for key in ("execution", "ExecuteTime", "id"):
            cell.metadata.pop(key, None)
        if cell.cell_type == "code":
            executed = cell.execution_count is not None
            count += executed
            cell.execution_count = count if executed else None
            bars = [o for o in cell.outputs if WIDGET in o.get("data", {})]
            cell.outputs = merge_streams([o for o in cell.outputs if o not in bars])
            for output in cell.outputs:
                if output.output_type == "execute_result":
                    output.execution_count = cell.execution_count
            for key in ("cellView", "jupyter"):
                cell.metadata.pop(key, None)
            if FOLDED & set(tags(cell)):
                cell.metadata["cellView"] = "form"  # Colab shows the title alone
                cell.metadata["jupyter"] = {"source_hidden": True}  # JupyterLab, a row of dots
    return nb


def merge_streams(outputs):
    """One output for consecutive writes to one stream, however they were cut into messages."""
    merged = []
    for output in outputs:
        last = merged[-1] if merged else None
        if last and output.output_type == last.output_type == "stream" and output.name == last.name:
            last.text += output.text
        else:
            merged.append(output)
    return merged


# Executing


def run(root, everything=False):
    """Bring every notebook up to date with its chapter; 1 if a chapter failed."""
    todo = []
    for name, chapter, path in pairs(root):
        if not chapter.exists():
            print(f"{path.relative_to(root)}: no chapter; delete it or restore its text")
            continue
        nb, old = read_chapter(chapter), read_notebook(path)
        if not everything and old is not None and same_code(nb, old) and complete(old):
            copy_outputs(old, nb)
            store(nb, chapter, path)
            print(f"{name}: code unchanged, outputs kept")
        else:
            todo.append(name)
    # as `make nbval` does
    os.environ.update(TQDM_DISABLE="1", OMP_NUM_THREADS="1", KINETO_LOG_LEVEL="99")
    os.environ.pop("MPLBACKEND", None)  # the kernel's own: inline
    with ProcessPoolExecutor(WORKERS) as pool:
        results = [pool.submit(execute, root, name) for name in todo]
    failures = [result.result() for result in results if result.result()]
    path, text, stamped = first_page(root)
    if text != stamped:
        path.write_text(stamped, encoding="utf-8")
    for failure in failures:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def execute(root, name):
    """Execute one chapter and store it; the message of its failure, if it failed."""
    path = root / "notebooks" / f"{name}.ipynb"
    nb, old = read_chapter(root / "book" / "chapters" / f"{name}.md"), read_notebook(path)
    path.parent.mkdir(exist_ok=True)
    print(f"{name}: executing", flush=True)
    client = NotebookClient(
        nb,
        timeout=TIMEOUT,
        kernel_name="python3",
        resources={"metadata": {"path": path.parent}},
        extra_arguments=["--log-level=ERROR"],  # a local kernel's connection needs no warning
    )
    try:
        client.execute()
    except CellExecutionError:
        cell = next(c for c in code_cells(nb) if any(o.output_type == "error" for o in c.outputs))
        error = next(o for o in cell.outputs if o.output_type == "error")
        rule = "-" * 60
        lines = [f"{name}: this cell failed", rule, cell.source, rule]
        return "\n".join([*lines, f"{error.ename}: {error.evalue}"])
    except Exception as error:  # the kernel died, or a cell took too long
        return f"{name}: {error}"
    normalise(nb)
    if old is not None and same_code(nb, old) and complete(old) and same_outputs(nb, old):
        copy_outputs(old, nb)
    store(nb, root / "book" / "chapters" / f"{name}.md", path)
    return None


def store(nb, chapter, path):
    """Write a notebook, and into both its files how long the chapter takes."""
    normalise(nb)
    text = minutes.stamp(chapter.read_text(encoding="utf-8"), nb)
    if text != chapter.read_text(encoding="utf-8"):
        chapter.write_text(text, encoding="utf-8")
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            cell.source = minutes.stamp(cell.source, nb)
    write_notebook(normalise(nb), path)


def same_outputs(nb, old):
    """Whether all outputs that are compared are equal; timings and the like are not compared."""
    return all(
        IGNORE in tags(new) or new.outputs == stored.outputs
        for new, stored in zip(code_cells(nb), code_cells(old), strict=True)
    )


def copy_outputs(source, target):
    for stored, cell in zip(code_cells(source), code_cells(target), strict=True):
        cell.execution_count, cell.outputs = stored.execution_count, stored.outputs


# Checking


def check(root):
    """What is wrong with the chapters and notebooks under root, one line each."""
    problems = []
    for name, chapter, path in pairs(root):
        if not chapter.exists():
            problems.append(f"notebooks/{name}.ipynb: no text in book/chapters/{name}.md")
        elif not path.exists():
            problems.append(f"book/chapters/{name}.md: no notebook; run `make notebooks`")
        else:
            nb = read_notebook(path)
            found = [*check_pair(read_chapter(chapter), nb), *check_notebook(nb)]
            found += [*check_install(nb, root), *minutes.problems(nb)]
            if path.stat().st_size > MAX_NOTEBOOK:
                found.append(f"{path.stat().st_size:,} bytes; at most {MAX_NOTEBOOK:,}")
            problems += [f"notebooks/{name}.ipynb: {problem}" for problem in found]
    _, text, stamped = first_page(root)
    if text != stamped:
        problems.append(f"{FIRST_PAGE}: not the chapters' times; run `make notebooks`")
    return problems


def check_pair(chapter, nb):
    for number, (a, b) in enumerate(zip(chapter.cells, nb.cells, strict=False), 1):
        if (a.cell_type, a.source, a.metadata) != (b.cell_type, b.source, b.metadata):
            return [f"cell {number} differs from the chapter's; run `make notebooks`"]
    if len(chapter.cells) != len(nb.cells):
        return ["has other cells than the chapter; run `make notebooks`"]
    return []


def check_install(nb, root):
    """Every notebook installs attn_lib in the same way, in its first cell of code."""
    template = root / "book" / "tools" / "install.py"
    first = next(iter(code_cells(nb)), None)
    if template.exists() and (first is None or first.source != install_cell(root)):
        return ["its first cell of code is not book/tools/install.py with the repository's address"]
    return []


def install_cell(root):
    """Source of the cell that installs attn_lib, with the address of the repository, if any."""
    text = (root / "book" / "tools" / "install.py").read_text(encoding="utf-8").rstrip("\n")
    return text.replace('REPOSITORY = ""', f'REPOSITORY = "{repository.address(root)}"')


def check_notebook(nb):
    problems = []

    def wrong(what):
        problems.append(f"cell {number} ({cell.source[:50]!r}): {what}")

    for number, cell in enumerate(nb.cells, 1):  # noqa: B007 (wrong uses number)
        if MACHINE_PATH.search(cell.source):
            wrong("holds a path of one machine")
        if cell.cell_type == "markdown":
            if MYST.search(cell.source):
                wrong("MyST syntax, which Colab shows as text")
            if EMPTY_ALT.search(cell.source):
                wrong("an image without alternative text")
        if cell.cell_type != "code":
            continue
        if cell.execution_count is None:
            wrong("was not executed; run `make notebooks`")
        if FOLDED & set(tags(cell)) and not TITLE.match(cell.source):
            wrong("is folded, in Colab to its title alone, and does not begin with `# @title ...`")
        for tag in tags(cell):
            if tag.startswith("nbval-") and tag != IGNORE:
                wrong(f"tagged {tag}; only {IGNORE} is used")
        for output in cell.outputs:
            if output.output_type == "error":
                wrong(f"stored an error, {output.ename}: {output.evalue}")
            for mime, data in output.get("data", {}).items():
                if mime.startswith("image/"):
                    if not output.metadata.get(mime, {}).get("alt", "").strip():
                        wrong("a figure without alternative text; plot.show(fig, alt=...) sets it")
                    size = len(data if mime == "image/svg+xml" else base64.b64decode(data))
                    if size > MAX_FIGURE:
                        wrong(f"a figure of {size:,} bytes; at most {MAX_FIGURE:,}")
            printed = output.get("text", "") + output.get("data", {}).get("text/plain", "")
            if MACHINE_PATH.search(printed):
                wrong("printed a path of one machine")
            if MODULE.search(printed):
                wrong("printed a module as torch describes it, which changes between its versions")
            if output.get("name") == "stderr":
                wrong(f"stored a warning, {output.text.strip()[:80]!r}")
    return problems


if __name__ == "__main__":
    sys.exit(main())
