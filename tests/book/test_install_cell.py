"""The first cell of every notebook, in a place that has no attn_lib."""

import subprocess
import sys
from types import SimpleNamespace

import pytest
from conftest import ROOT

CELL = (ROOT / "book" / "tools" / "install.py").read_text(encoding="utf-8")
URL = "https://github.com/someone/course"


@pytest.fixture
def without(monkeypatch, tmp_path):
    """No attn_lib, and a pip that only writes down what it was asked for."""
    asked = []
    answer = SimpleNamespace(returncode=0, stderr="")

    def pip(command, **options):
        asked.append(command)
        return answer

    monkeypatch.setitem(sys.modules, "attn_lib", None)  # its import fails
    monkeypatch.setattr(subprocess, "run", pip)
    monkeypatch.chdir(tmp_path)
    return SimpleNamespace(asked=asked, answer=answer, folder=tmp_path)


def test_nothing_to_install_from(without):
    with pytest.raises(ModuleNotFoundError, match="upload its wheel.*set REPOSITORY") as error:
        exec(CELL, {})
    assert str(error.value).count(". ") == 0  # one sentence
    assert not without.asked


def test_from_an_uploaded_wheel(without):
    (without.folder / "attn_lib-0.1.0-py3-none-any.whl").touch()
    exec(CELL.replace('REPOSITORY = ""', f'REPOSITORY = "{URL}"'), {})
    (command,) = without.asked
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[-1].startswith("attn_lib[course] @ file:///")
    assert command[-1].endswith("/attn_lib-0.1.0-py3-none-any.whl")
    assert "--upgrade" not in command


def test_from_the_repository(without):
    exec(CELL.replace('REPOSITORY = ""', f'REPOSITORY = "{URL}"'), {})
    assert without.asked[0][-1] == f"attn_lib[course] @ git+{URL}"


def test_a_failure_says_what_to_do(without):
    without.answer.returncode, without.answer.stderr = 1, "ERROR: no route to host"
    with pytest.raises(RuntimeError, match=r"(?s)internet on.*upload the wheel.*no route to host"):
        exec(CELL.replace('REPOSITORY = ""', f'REPOSITORY = "{URL}"'), {})


def test_where_it_is_installed_nothing_happens(without, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(subprocess, "run", lambda *a, **k: pytest.fail("pip was called"))
    exec(CELL, {})
