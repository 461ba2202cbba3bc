"""The authoring tool: what is executed again, what is stored, and what is refused."""

import copy

import nbformat
import pytest
from conftest import ROOT
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

import notebooks as tool  # book/tools/notebooks.py

HEADER = """---
jupytext:
  text_representation: {extension: .md, format_name: myst}
kernelspec: {display_name: Python 3, language: python, name: python3}
---
"""
CHAPTER = (
    HEADER
    + """
# A chapter

Text.

```{code-cell} ipython3
import os, time
print("a", flush=True)
time.sleep(0.05)
print("b")
```

```{code-cell} ipython3
:tags: [nbval-ignore-output]

print(time.perf_counter(), os.environ["TQDM_DISABLE"])
```

```{code-cell} ipython3
print("b")
```

```{code-cell} ipython3
1 + 1
```
"""
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "book" / "chapters").mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    return tmp_path


def write(root, text, name="a"):
    (root / "book" / "chapters" / f"{name}.md").write_text(text)


def stored(root, name="a"):
    return (root / "notebooks" / f"{name}.ipynb").read_text()


def test_run_keeps_what_did_not_change(root, capsys):
    write(root, CHAPTER)
    assert tool.run(root) == 0
    assert tool.check(root) == []
    first = stored(root)
    nb = nbformat.reads(first, as_version=4)
    nbformat.validate(nb)
    assert first.endswith("}\n")
    assert nb.metadata == tool.METADATA
    assert [cell.execution_count for cell in tool.code_cells(nb)] == [1, 2, 3, 4]
    assert nb.cells[1].outputs == [new_output("stream", name="stdout", text="a\nb\n")]
    assert not any("execution" in cell.metadata for cell in nb.cells)

    # executing everything again: only the timing differs, which is not compared
    assert tool.run(root, everything=True) == 0
    assert stored(root) == first

    # text changes: not executed, other cells keep their ids
    capsys.readouterr()
    write(root, CHAPTER.replace("Text.", "Other text."))
    assert tool.check(root) != []
    assert tool.run(root) == 0
    assert "outputs kept" in capsys.readouterr().out
    after = nbformat.reads(stored(root), as_version=4)
    assert [c.outputs for c in tool.code_cells(after)] == [c.outputs for c in tool.code_cells(nb)]
    assert [c.id for c in after.cells[1:]] == [c.id for c in nb.cells[1:]]
    assert tool.check(root) == []

    # code changes: executed
    write(root, CHAPTER.replace("1 + 1", "1 + 2"))
    assert tool.run(root) == 0
    assert nbformat.reads(stored(root), as_version=4).cells[-1].outputs[0].data["text/plain"] == "3"


def test_a_failing_cell_is_shown_and_nothing_is_stored(root, capsys):
    write(root, HEADER + "```{code-cell} ipython3\nx = 1\nx / 0\n```\n", "bad")
    assert tool.run(root) == 1
    error = capsys.readouterr().err
    assert "bad: this cell failed" in error
    assert "x / 0" in error
    assert "ZeroDivisionError: division by zero" in error
    assert not (root / "notebooks" / "bad.ipynb").exists()


def test_equal_cells_have_different_ids():
    nb = tool.normalise(new_notebook(cells=[new_code_cell("x"), new_code_cell("x")]))
    assert nb.cells[1].id == nb.cells[0].id + "-2"
    inserted = copy.deepcopy(nb)
    inserted.cells.insert(1, new_markdown_cell("new"))
    assert [c.id for c in tool.normalise(inserted).cells[::2]] == [c.id for c in nb.cells]


def test_a_pair_that_is_out_of_step_is_refused(root):
    write(root, CHAPTER)
    assert "no notebook" in tool.check(root)[0]
    (root / "notebooks" / "b.ipynb").write_text("{}")
    assert "no text in book/chapters/b.md" in tool.check(root)[1]


PNG = "iVBORw0KGgo="


def figure(data=PNG, **metadata):
    return new_output("display_data", {"image/png": data}, metadata={"image/png": metadata})


def executed(source="x", outputs=(), **metadata):
    return new_code_cell(source, execution_count=1, outputs=list(outputs), metadata=metadata)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (new_code_cell("x"), "was not executed"),
        (executed(outputs=[new_output("error", ename="E", evalue="v")]), "stored an error, E: v"),
        (executed(outputs=[figure()]), "without alternative text"),
        (executed(outputs=[figure(alt=" ")]), "without alternative text"),
        (executed(outputs=[figure("A" * 300_000, alt="A line")]), "a figure of 225,000 bytes"),
        (executed(outputs=[new_output("stream", text="see /home/me/x.py")]), "printed a path"),
        (
            executed(outputs=[new_output("stream", name="stderr", text="beware")]),
            "stored a warning",
        ),
        (executed("open('/tmp/x')"), "holds a path"),
        (executed(tags=["nbval-skip"]), "tagged nbval-skip"),
        (new_markdown_cell("```{note}\nA note\n```"), "MyST syntax"),
        (new_markdown_cell(":::{note}\nA note\n:::"), "MyST syntax"),
        (new_markdown_cell("See {ref}`gating`."), "MyST syntax"),
        (new_markdown_cell("(target)=\n## Title"), "MyST syntax"),
        (new_markdown_cell("![](x.png)"), "without alternative text"),
        (new_markdown_cell('<img src="x.png">'), "without alternative text"),
    ],
)
def test_check_refuses(cell, problem):
    assert problem in "\n".join(tool.check_notebook(new_notebook(cells=[cell])))


@pytest.mark.parametrize(
    "cell",
    [
        executed(outputs=[figure(alt="A line that rises")]),
        executed(tags=["nbval-ignore-output"]),
        new_markdown_cell('$\\mathbb{R}$, `f"{x}"`, `{name}` and `y`, https://x.org/home/me'),
        new_markdown_cell('![A line](x.png) <img src="x.png" alt="A line">'),
        new_markdown_cell("```python\nx = {1: 2}\n```"),
    ],
)
def test_check_accepts(cell):
    assert tool.check_notebook(new_notebook(cells=[cell])) == []


TIMED = (
    HEADER
    + """
# A chapter

> **Time**: 1 minutes to read, 0 for the exercises.

"""
    + "word " * 390
    + """

$$a = b$$

```{code-cell} ipython3
a = 1
b = 2
```

### Exercise 1 (core, 10 min): in the text

## Exercises

"""
    + "word " * 500
    + """

### Exercise 2 (project, 45 min): at the end
"""
)


def test_the_time_of_a_chapter_is_counted(root):
    write(root, TIMED)
    page, said = (
        root / "book" / "index.md",
        "It takes {} minutes to read. Its exercises take {} hours",
    )
    page.write_text(said.format("1 to 2", "7 to 9"))
    assert tool.run(root) == 0
    assert page.read_text() == said.format("3 to 3", "1 to 1")
    chapter, line = root / "book" / "chapters" / "a.md", "3 minutes to read, 55 for the exercises."
    assert line in chapter.read_text() and line in stored(root)
    assert not tool.check(root)
    assert tool.run(root) == 0 and line in stored(root)
    for path in (chapter, root / "notebooks" / "a.ipynb"):
        path.write_text(path.read_text().replace("3 minutes to read", "9 minutes to read"))
    problem, first_page = tool.check(root)
    assert first_page.startswith("book/index.md: not the chapters' times")
    assert "'**Time**: 9 minutes" in problem and "it is '**Time**: 3 minutes" in problem


def test_a_chapter_may_ask_colab_for_a_gpu(root):
    write(root, TIMED.replace("---\n", "---\naccelerator: GPU\ncolab:\n  gpuType: T4\n", 1), "a")
    write(root, TIMED, "b")
    assert tool.run(root) == 0 and not tool.check(root)
    asks, does_not = (nbformat.reads(stored(root, name), 4).metadata for name in "ab")
    assert (asks.accelerator, asks.colab) == ("GPU", {"gpuType": "T4"})
    assert "accelerator" not in does_not and "colab" not in does_not


def test_the_training_chapter_asks_for_one():
    metadata = nbformat.read(ROOT / "notebooks" / "training.ipynb", 4).metadata
    assert (metadata.accelerator, metadata.colab.gpuType) == ("GPU", "T4")
