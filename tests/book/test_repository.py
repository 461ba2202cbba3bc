"""The repository's address: in one commit everywhere, and away again without a trace."""

import subprocess

import nbformat
import pytest
import repository  # book/tools/repository.py
from conftest import ROOT

import notebooks  # book/tools/notebooks.py

FILES = ("pyproject.toml", "_config.yml", "README.md", "book/tools/install.py")
ONE, TWO = "https://github.com/someone/course", "https://github.com/else-1/attention.course"


def git(root, *command):
    done = subprocess.run(["git", *command], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout


@pytest.fixture
def clone(tmp_path):
    """The files that hold the address, without one, in a repository of their own."""
    for path in [*map(ROOT.joinpath, FILES), *ROOT.glob("book/chapters/*.md")]:
        copy(path, tmp_path)
    for path in ROOT.glob("notebooks/*.ipynb"):
        copy(path, tmp_path)
    (tmp_path / "other.txt").write_text("not touched\n")
    repository.stamp(tmp_path, "")
    git(tmp_path, "init", "--quiet", "--initial-branch=main")
    for key, value in {"user.name": "owner", "user.email": "owner@localhost"}.items():
        git(tmp_path, "config", key, value)
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "as it is")
    return tmp_path


def copy(path, root):
    target = root / path.relative_to(ROOT)
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(path.read_bytes())


def test_stamped_in_one_commit_and_taken_away(clone, capsys):
    names = [path.stem for path in (clone / "notebooks").glob("*.ipynb")]
    before = git(clone, "rev-parse", "HEAD^{tree}")
    for url in (ONE, TWO, f"{ONE}.git/"):
        assert repository.main([url], root=clone) == 0
        url = url.removesuffix(".git/")
        assert repository.address(clone) == url
        assert f'url: "{url}"' in (clone / "_config.yml").read_text()
        assert not git(clone, "status", "--porcelain")
        changed = set(git(clone, "show", "--name-only", "--format=", "HEAD").split())
        assert changed == {
            *FILES[:3],
            *(f"notebooks/{name}.ipynb" for name in names),
            *(f"book/chapters/{name}.md" for name in names),
        }
        for name in names:
            path = clone / "notebooks" / f"{name}.ipynb"
            nb = nbformat.read(path, as_version=4)
            nbformat.validate(nb)
            assert f'REPOSITORY = "{url}"' in notebooks.code_cells(nb)[0].source
            assert (
                repository.colab(url, f"notebooks/{name}.ipynb")
                in (clone / "README.md").read_text()
            )
        assert not notebooks.check(clone)  # pairs in step, the cell as it has to be
    commits = git(clone, "rev-list", "--count", "HEAD")
    assert repository.main([ONE], root=clone) == 0
    assert (
        git(clone, "rev-list", "--count", "HEAD") == commits
        and "already" in capsys.readouterr().out
    )
    assert repository.main([""], root=clone) == 0
    assert git(clone, "rev-parse", "HEAD^{tree}") == before


@pytest.mark.parametrize(
    "url", ["github.com/a/b", "https://github.com/a", "https://x.org/a/b", "a b"]
)
def test_what_is_no_address_is_refused(clone, url):
    message = repository.main([url], root=clone)
    assert "https://github.com/OWNER/NAME" in message and repr(url) in message
    assert not git(clone, "status", "--porcelain")


def test_changes_that_are_not_committed_stay_out(clone):
    (clone / "other.txt").write_text("changed\n")
    assert "not committed" in repository.main([ONE], root=clone)
    assert repository.address(clone) == ""
    assert repository.main(["--no-commit", ONE], root=clone) == 0
    assert repository.address(clone) == ONE
    assert git(clone, "rev-list", "--count", "HEAD").strip() == "1"
