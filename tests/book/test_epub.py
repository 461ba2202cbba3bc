"""The book as an EPUB: what a reader finds in it, and what EPUBCheck says of it."""

import os
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import epub  # book/tools/epub.py
import pdf  # book/tools/pdf.py
import pytest


def test_the_epub_is_whole_and_valid(book, browser, tmp_path):
    """One test, because two would write the book twice in two processes."""
    target = tmp_path / "book.epub"
    epub.make(target, list(pdf.contents()), browser)
    look(target)
    assert not wide_tables(target, browser, tmp_path / "unpacked")
    program = shutil.which("epubcheck")
    if program is None:
        needed = os.environ.get("CI") == "true" or os.environ.get("ATTN_SKIP_NOTHING") == "1"
        (pytest.fail if needed else pytest.skip)("no EPUBCheck found: apt install epubcheck")
    # Debian's program is a jar, which starts by itself only where the kernel was told how.
    jar = Path(program).read_bytes()[:2] == b"PK"
    command = ["java", "-jar", program] if jar else [program]
    done = subprocess.run([*command, target], capture_output=True, text=True, timeout=300)
    messages = done.stdout + done.stderr
    assert "0 fatals / 0 errors / 0 warnings" in messages, messages[-5000:]


def look(target):
    with zipfile.ZipFile(target) as archive:
        names = archive.namelist()
        text = {n: archive.read(n).decode() for n in names if n.endswith((".xhtml", ".opf"))}
    assert names[0] == "mimetype" and "EPUB/images/cover.png" in names
    chapter = text["EPUB/notebooks-eca.xhtml"]
    assert chapter.count("<math") > 50 and "mjx-" not in chapter
    assert "(ECA-" in re.sub("<[^>]*>", "", chapter)  # numbers of equations
    assert re.search(r"<details><summary>\s*Solution 1", chapter) and "Hide code" not in chapter
    assert 'href="notebooks-gradients.xhtml' in chapter and 'src="images/' in chapter
    assert "an e-book does not run" in text["EPUB/book-playground.xhtml"]
    assert not any(re.search(r"<script|<canvas|file:", t) for t in text.values())
    navigation = text["EPUB/nav.xhtml"]
    assert all(f'"{epub.name_of(path)}"' in navigation for _, _, path in pdf.contents())
    info = pdf.about()
    assert all(info[key] in text["EPUB/book.opf"] for key in ("title", "author", "language"))
    assert info["version"] in text["EPUB/title.xhtml"]


def wide_tables(target, browser, folder):
    """Tables that a reader of 480 pixels, which turns pages and scrolls nothing, would cut off."""
    with zipfile.ZipFile(target) as archive:
        archive.extractall(folder)
    page = browser.new_page(viewport={"width": 480, "height": 800})
    found = []
    for file in sorted((folder / "EPUB").glob("*.xhtml")):
        page.goto(file.as_uri())
        found += page.evaluate(
            """() => [...document.querySelectorAll("table")]
                .filter(e => e.getBoundingClientRect().right > innerWidth)
                .map(e => location.pathname + ": " + e.textContent.slice(0, 60))"""
        )
    page.close()
    return found
