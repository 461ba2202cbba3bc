"""The front door: what README and the first page promise is what is measured elsewhere."""

import json
import re

import cover  # book/tools/cover.py
import numpy as np
import pytest
import screenshot  # book/tools/screenshot.py
import yaml
from bs4 import BeautifulSoup
from conftest import ROOT
from PIL import Image

README = (ROOT / "README.md").read_text(encoding="utf-8")
INDEX = (ROOT / "book/index.md").read_text(encoding="utf-8")
COVER = ROOT / "book/_static/cover"
FETCHED = re.compile(r"[\d.]+ GB to fetch(?:,| and) [\d.]+ GB on disk")


def test_readme_and_make_announce_the_same_sizes():
    announced = FETCHED.findall((ROOT / "Makefile").read_text(encoding="utf-8"))
    said = [text.replace(" and ", ", ") for text in FETCHED.findall(README)]
    assert sorted(said) == sorted(announced)
    assert len(said) == 3


@pytest.mark.parametrize("text", [README, INDEX], ids=["README", "index"])
def test_how_long_the_notebooks_take(text):
    table = (ROOT / "book/running_table.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| \[.* \| (\d+) \| ([\d.]+) GB \|$", table, re.MULTILINE)
    seconds, memory = [int(s) for s, _ in rows], [float(m) for _, m in rows]
    assert f"takes {min(seconds)} to {max(seconds)} seconds on a CPU" in text
    assert text is INDEX or f"{min(memory)} to {max(memory)} GB of memory" in text


def test_the_screenshot_shows_the_book_s_navigation(book):
    """`make front` takes it again."""
    with Image.open(screenshot.PICTURE) as picture:
        shown = json.loads(picture.text[screenshot.KEY])
    page = book / screenshot.PAGE.relative_to(book)
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    assert shown == [" ".join(tag.get_text().split()) for tag in soup.select(screenshot.ENTRIES)]
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    entries = sum(1 + len(part["chapters"]) for part in toc["parts"])
    assert len(shown) == entries + 1  # the first page
    assert screenshot.PICTURE.stat().st_size < 150_000


def test_the_cover_is_what_its_script_draws(tmp_path):
    cover.main(tmp_path)
    assert {path.name for path in COVER.iterdir()} == {"light.png", "dark.png"}
    for path in COVER.iterdir():
        assert path.stat().st_size < 150_000 and f"_static/cover/{path.name}" in INDEX
        with Image.open(path) as stored, Image.open(tmp_path / path.name) as fresh:
            a, b = (np.asarray(picture.convert("RGB"), dtype=int) for picture in (stored, fresh))
            ranges = [json.loads(picture.text[cover.KEY]) for picture in (stored, fresh)]
        assert ranges[0] == ranges[1] and list(ranges[0]) == list(cover.GATES)
        assert a.shape == b.shape and np.abs(a - b).mean() < 1  # of 255: fonts may differ
