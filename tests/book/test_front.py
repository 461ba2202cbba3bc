"""The front door: what README and the first page promise is what is measured elsewhere."""

import re

from conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FETCHED = re.compile(r"[\d.]+ GB to fetch(?:,| and) [\d.]+ GB on disk")


def test_readme_and_make_announce_the_same_sizes():
    announced = FETCHED.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
    said = [text.replace(" and ", ", ") for text in FETCHED.findall(README)]
    assert sorted(said) == sorted(announced)
    assert len(said) == 3


def test_readme_says_how_long_the_notebooks_take():
    table = (ROOT / "book/running_table.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[.* \| (\d+) \| ([\d.]+) GB \|$", table, re.MULTILINE)
    seconds, memory = [int(s) for s, _ in rows], [float(m) for _, m in rows]
    assert f"between {min(seconds)} and {max(seconds)} seconds" in README
    assert f"between {min(memory)} and {max(memory)} GB of memory" in README
