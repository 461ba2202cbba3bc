"""What the built book offers with an address of the repository, and without one."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import repository  # book/tools/repository.py
from bs4 import BeautifulSoup
from conftest import ROOT

URL = "https://github.com/someone/course"
OURS = re.compile(r"colab\.research\.google\.com/github/|/issues/new")
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
LEFT_OUT = (".git", ".venv", "_build", ".environments", "__pycache__", "*.egg-info", ".*_cache")


def links(book, page):
    soup = BeautifulSoup((book / page).read_text(encoding="utf-8"), "html.parser")
    return [tag["href"] for tag in soup.find_all("a", href=True)]


def dead_ends(book):
    """Links to Colab or to a page of reports that no repository stands behind."""
    pages = [path.relative_to(book).as_posix() for path in book.rglob("*.html")]
    return [f"{page}: {link}" for page in pages for link in links(book, page) if OURS.search(link)]


def offers(book, url):
    """What a chapter's page lacks of what it has to offer, one line each."""
    problems = []
    for name in CHAPTERS:
        found = links(book, f"notebooks/{name}.html")
        if not any(link.endswith(f"{name}.ipynb") and "_sources" in link for link in found):
            problems.append(f"{name}: no notebook to download")
        if url:
            wanted = [repository.colab(url, f"notebooks/{name}.ipynb"), url, f"{url}/issues/new"]
            problems += [
                f"{name}: no link to {address}"
                for address in wanted
                if not any(link.startswith(address) for link in found)
            ]
    return problems


def test_the_book_as_it_is(book):
    url = repository.address(ROOT)
    assert not offers(book, url)
    assert url or not dead_ends(book)
    assert url or not (book / "sitemap.xml").exists()
    chapter = (book / "notebooks/cbam.html").read_text(encoding="utf-8")
    assert url or ("canonical" not in chapter and "og:url" not in chapter)
    running = links(book, "book/running.html")
    for name in (".whl", "notebooks.zip"):
        (link,) = [link for link in running if link.endswith(name)]
        assert (book / "book" / link).resolve().stat().st_size > 1e6


@pytest.mark.slow
def test_the_book_with_an_address(book, tmp_path):
    copy = tmp_path / "course"
    shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(*LEFT_OUT))
    repository.stamp(copy, URL)
    tool = Path(sys.executable).with_name("jupyter-book")
    build = [tool, "build", "-W", "--keep-going", "."]
    done = subprocess.run(build, cwd=copy, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    made = copy / "_build" / "html"
    assert not offers(made, URL)
    script = f"{URL}/blob/main/experiments/cifar10/replication.py"
    assert script in links(made, "notebooks/training.html")
    page = (made / "notebooks/cbam.html").read_text(encoding="utf-8")
    published = "https://someone.github.io/course/"
    assert f'<link rel="canonical" href="{published}notebooks/cbam.html"' in page
    assert f'<meta property="og:url" content="{published}notebooks/cbam.html"' in page
    assert f"<loc>{published}notebooks/cbam.html</loc>" in (made / "sitemap.xml").read_text()
    assert f"{URL}/edit/main/book/chapters/cbam.md" in links(made, "notebooks/cbam.html")
    lost = [link for link in links(made, "404.html") if not link.startswith(("/course/", "http"))]
    assert not [link for link in lost if not link.startswith("#")]
    assert dead_ends(made)  # with no repository behind it, these would be
