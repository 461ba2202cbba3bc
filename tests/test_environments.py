"""The run of the notebooks in other environments notices what it is there to notice."""

import json
import re
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from tests.environments import run as tool


def notebook(*outputs, tags=()):
    cell = new_code_cell("work()", outputs=list(outputs), metadata={"tags": list(tags)})
    return new_notebook(cells=[cell])


def text(words, name="stdout"):
    return new_output("stream", name=name, text=words)


def figure(alt):
    data = {"image/png": "aGVsbG8=", "text/plain": "a curve"}
    return new_output(
        "display_data", data=data, metadata={"image/png": {"alt": alt} if alt else {}}
    )


BAR = new_output("display_data", data={tool.WIDGET: {"model_id": "1"}, "text/plain": "0%| | 0/3"})


@pytest.mark.parametrize(
    ("executed", "problem"),
    [
        (notebook(text("1\n")), None),
        (notebook(BAR, text("1\n")), None),
        (notebook(text("2\n")), "shows '2' instead of '1'"),
        (notebook(text("2\n"), tags=[tool.IGNORE]), "shows '2'"),  # the stored tag counts
        (notebook(text("1\n"), text("a warning", "stderr")), "on stderr, ['a warning']"),
        (
            notebook(text("1\n"), text("No CUDA runtime is found, using CUDA_HOME=x\n", "stderr")),
            None,
        ),
        (notebook(new_output("error", ename="TypeError", evalue="no alt")), "TypeError: no alt"),
        (notebook(), "shows '' instead of '1'"),
    ],
)
def test_differences(executed, problem):
    found = "\n".join(tool.differences(notebook(text("1\n")), executed))
    assert not found if problem is None else problem in found


def test_figures_need_their_text():
    words = new_output("display_data", data={"text/html": "<details>a curve</details>"})
    stored = notebook(figure("a curve"), words)
    assert not tool.differences(stored, notebook(figure("a curve"), words))
    (problem,) = tool.differences(stored, notebook(figure("a curve")))
    assert "without its text" in problem
    (problem,) = tool.differences(stored, notebook(figure(None)))
    assert "without its text" in problem


def test_what_is_not_compared():
    stored = notebook(text("0.1 s"), tags=[tool.IGNORE])
    assert not tool.differences(stored, notebook(text("0.2 s")))


def test_a_replaced_package_is_noticed():
    before = {"torch": "2.11.0", "numpy": "2.1.3", "old": "1"}
    assert not tool.replaced(before, before | {"attn_lib": "0.1.0"})
    after = {"attn_lib": "0.1.0", "torch": "2.13.0", "numpy": "2.1.3", "new": "1"}
    assert tool.replaced(before, after) == [
        "the installation changed new: absent -> 1",
        "the installation changed old: 1 -> gone",
        "the installation changed torch: 2.11.0 -> 2.13.0",
    ]


def test_the_book_says_what_was_measured():
    """Every chapter's sentence is that of its row in the table."""
    rows = re.findall(r"notebooks/(\w+)\.ipynb\) \| (\d+) \| ([\d.]+) GB", tool.TABLE.read_text())
    chapters = sorted(path.stem for path in (tool.ROOT / "book" / "chapters").glob("*.md"))
    assert sorted(name for name, *_ in rows) == chapters
    for name, seconds, gigabytes in rows:
        result = {"seconds": int(seconds), "megabytes": 1000 * float(gigabytes)}
        text = (tool.ROOT / "book" / "chapters" / f"{name}.md").read_text()
        sentence = f"takes about {tool.minutes(result)} and {gigabytes} GB of memory"
        assert tool.SENTENCE.findall(text) == [sentence], name


def test_a_chapter_that_did_not_run_keeps_its_row(tmp_path, monkeypatch):
    chapters = tmp_path / "book" / "chapters"
    chapters.mkdir(parents=True)
    (chapters / "a.md").write_text("# A & (a)\n\nIt takes about 1 minute and 2.0 GB of memory.\n")
    (chapters / "b.md").write_text("# B\n\nIt takes about 1 minute and 2.0 GB of memory.\n")
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    monkeypatch.setattr(tool, "TABLE", tmp_path / "book" / "running_table.md")
    first = [
        {"notebook": "a", "seconds": 70, "megabytes": 910},
        {"notebook": "b", "seconds": 20, "megabytes": 700},
    ]
    tool.save(first, ("3.13", "2.11", "2.1"))
    tool.save([first[0] | {"seconds": 10}], ("3.13", "2.11", "2.1"))
    rows = tool.TABLE.read_text().splitlines()[2:4]
    assert rows == [
        "| [A & (a)](../notebooks/a.ipynb) | 10 | 1.0 GB |",
        "| [B](../notebooks/b.ipynb) | 20 | 0.7 GB |",
    ]
    assert "half a minute and 1.0 GB" in (chapters / "a.md").read_text()


def test_minutes_are_rounded_up():
    said = [tool.minutes({"seconds": seconds}) for seconds in (12, 30, 31, 61, 100, 121)]
    assert said == [
        "half a minute",
        "half a minute",
        "1 minute",
        "1.5 minutes",
        "2 minutes",
        "2.5 minutes",
    ]


def test_lists():
    python, pins = tool.read_list("oldest")
    assert python == "3.10" and pins["torch"] == "2.7" and pins["ipython"] == "7.34"
    for path in tool.HERE.glob("*.txt"):
        python, pins = tool.read_list(path.stem)
        assert python in ("3.12", "3.13") and tool.needs().keys() <= {p.lower() for p in pins}
    with pytest.raises(SystemExit, match="no list 'colab'; there are colab-2026-07"):
        tool.read_list("colab")


def test_a_python_without_those_versions_is_skipped_with_a_reason(monkeypatch, capsys):
    monkeypatch.setattr(tool.sys, "version_info", (3, 13, 0))
    monkeypatch.setattr(tool.sys, "argv", ["run.py", "oldest", "--here"])
    monkeypatch.delenv("ATTN_SKIP_NOTHING", raising=False)
    assert tool.main() == 0
    assert "oldest: skipped, the packages of oldest need Python 3.10 to 3.11" in (
        capsys.readouterr().out
    )
    monkeypatch.setenv("ATTN_SKIP_NOTHING", "1")
    assert tool.main() == 1


def test_a_freeze_becomes_a_list():
    freeze = (
        "# made by\ntorch @ https://x.org/cpu/torch-2.11.0%2Bcpu-cp312-linux.whl\nnumpy==2.1.3\n"
    )
    freeze += "nvidia-nccl-cu12==2.3\ntorchvision==0.26.0+cu128\nself @ file:///x.tar.gz\n"
    assert tool.as_list(freeze) == "numpy==2.1.3\ntorch==2.11.0\ntorchvision==0.26.0\n"


def test_a_python_that_is_not_there(monkeypatch):
    monkeypatch.delenv("COLAB_PYTHON", raising=False)
    with pytest.raises(SystemExit, match="COLAB_PYTHON=/path/to/python3.99"):
        tool.python_of("3.99")
    version = ".".join(map(str, sys.version_info[:2]))
    assert tool.python_of(version)


@pytest.mark.slow
def test_a_notebook_is_executed_from_its_install_cell(tmp_path, monkeypatch):
    """Here everything is there already, so the stand-in for an install cell installs nothing."""
    cells = [
        new_code_cell('REPOSITORY = ""\nimport os'),
        new_code_cell("print(os.path.basename(os.getcwd())[:10], os.listdir('.'))"),
        new_code_cell("print(REPOSITORY[:8])"),
    ]
    for cell, words in zip(cells, ("", "notebooks- []\n", "file:///\n"), strict=True):
        cell.outputs = [text(words)] if words else []
    path = tmp_path / "a.ipynb"
    nbformat.write(new_notebook(cells=cells), path)
    result = tool.execute(path, Path(sys.executable), tmp_path)
    assert result["problems"] == [] and result["megabytes"] > 10 and result["from"] == "git"
    cells[1].outputs = [text("elsewhere\n")]
    nbformat.write(new_notebook(cells=[*cells, new_code_cell("1 / 0")]), path)
    problems = "\n".join(tool.execute(path, Path(sys.executable), tmp_path)["problems"])
    assert "instead of 'elsewhere'" in problems and "ZeroDivisionError" in problems
    assert json.dumps(result)


def test_another_environment_borrows_torch(tmp_path, monkeypatch):
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    for name, file in (("torch", "torch/a.py"), ("nvidia_x", "nvidia/x.so"), ("numpy", "np/a.py")):
        info = ours / f"{name}-1.0.dist-info"
        for path in (info / "METADATA", ours / file):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"Name: {name}\nVersion: 1.0\n")
        (info / "RECORD").write_text(f"{file},,\n{info.name}/METADATA,,\n../bin/{name},,\n")
    (ours / "unknown.dist-info").mkdir()  # neither a name nor a list of files
    found = list(tool.metadata.distributions(path=[str(ours)]))
    monkeypatch.setattr(tool.metadata, "distributions", lambda: found)
    monkeypatch.setattr(tool, "run", lambda command: type("Answer", (), {"stdout": f"{theirs}\n"}))
    tool.lend_torch("python")
    lent = {path.relative_to(theirs).as_posix() for path in theirs.rglob("*") if path.is_file()}
    assert {"torch/a.py", "torch-1.0.dist-info/METADATA", "nvidia/x.so"} <= lent
    assert not any("numpy" in path or path.startswith("np") for path in lent)
    assert (theirs / "torch/a.py").read_text() == (ours / "torch/a.py").read_text()
