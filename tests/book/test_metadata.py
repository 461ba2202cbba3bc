"""What a page says of itself to search engines, to citation managers, and at its foot."""

import re

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, pages

from attn_lib import __version__

RAW = re.compile(r"\\[a-zA-Z(]|\$|Project name not set")
CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


def soup(book, page):
    return BeautifulSoup((book / page).read_text(encoding="utf-8"), "html.parser")


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_a_chapter_describes_itself(book, chapter):
    head = soup(book, f"notebooks/{chapter}.html").head
    said = {tag.get("name") or tag.get("property"): tag.get("content") for tag in head("meta")}
    for name in ("description", "og:title", "og:description", "og:site_name", "citation_title"):
        assert len(said[name]) > 2 and not RAW.search(said[name]), (name, said[name])
    assert re.fullmatch(r"\d{4}/\d\d/\d\d", said["citation_publication_date"])
    assert said["citation_author"] and said["citation_inbook_title"] == said["og:site_name"]


def test_every_page_has_version_date_and_index(book):
    version, date = re.search(
        r"^## (\S+) \((.+)\)$", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE
    ).groups()
    assert version == __version__
    for page in pages(book):
        if page == "index.html":  # leads to the first page
            continue
        foot = soup(book, page).select_one(".extra_footer")
        assert f"Version {version} of {date}" in " ".join(foot.get_text().split()), page
        assert foot.find("a", href=re.compile(r"genindex\.html$|^#$|genindex")), page


def test_the_404_page_leads_back(book):
    page = soup(book, "404.html")
    assert "not found" in page.article.get_text().lower()
    assert page.find("a", href=re.compile(r"^/.*book/index\.html"))


def test_pages_have_a_next_and_a_previous_one(book):
    for chapter in CHAPTERS:
        page = soup(book, f"notebooks/{chapter}.html")
        assert page.select_one("a.left-prev") and page.select_one("a.right-next"), chapter


def test_all_exercises_are_listed(book):
    page = soup(book, "book/exercises.html").article
    rows = page.select("table.exercises tbody tr")
    listed = [tuple(cell.get_text().strip() for cell in row("td")) for row in rows]
    links = [a["href"] for a in page.select("table.exercises a")]
    written = [
        heading
        for chapter in CHAPTERS
        for heading in re.findall(
            r"^### Exercise (\d+) \((\S+?)(?:, (\d+) min)?\)",
            (ROOT / f"book/chapters/{chapter}.md").read_text(encoding="utf-8"),
            re.MULTILINE,
        )
    ]
    assert sorted((row[0], *row[2:]) for row in listed) == sorted(written)
    assert len(set(links)) == len(links) == len(listed) > 100
    for link in links:
        page, _, anchor = link.partition("#")
        assert f'id="{anchor}"' in (book / "book" / page).resolve().read_text(encoding="utf-8")
