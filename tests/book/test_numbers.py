"""Numbers of equations, figures and exercises are links, also into other chapters."""

import copy
import re

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT

CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))
LABEL = re.compile(r"(?<![\w-])(?:SE|CBAM|BAM|ECA|CA|GR|G|LI|TR|COST|PR|D|OF)-[A-Z]?\d+\b")


def soup(book, chapter):
    return BeautifulSoup((book / f"notebooks/{chapter}.html").read_text("utf-8"), "html.parser")


def unlinked(article):
    """Numbers in the text of a page that lead nowhere."""
    for tag in article.select("a, pre, code, script, style, h1, h2, h3, h4, .math, table, details"):
        tag.decompose()
    return LABEL.findall(re.sub(r"Figure \S+\.", "", article.get_text(" ")))  # without captions


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_no_number_is_left_without_a_link(book, chapter):
    article = soup(book, chapter).article
    source = (ROOT / f"book/chapters/{chapter}.md").read_text(encoding="utf-8")
    for kind, pattern in (("equation", r"\\tag\{([A-Z]+-\w+)\}"), ("figure", r"\*Figure (\S+)\.")):
        for label in re.findall(pattern, source):
            assert article.find(id=f"{kind}-{label.lower()}"), (kind, label)
    assert not unlinked(article)


def test_an_unlinked_number_is_seen():
    text = (
        '<article><p>By SE-2 and <a href="#">SE-3</a>.</p><em>Figure SE-1. A block.</em></article>'
    )
    assert unlinked(BeautifulSoup(text, "html.parser")) == ["SE-2"]


def test_where_numbers_lead(book):
    """One of each kind, and figures with the number of an equation."""
    links = {
        (a.get_text(), a["href"])
        for chapter in CHAPTERS
        for a in soup(book, chapter).select("a.number")
    }
    assert ("SE-2", "#equation-se-2") in links
    assert ("SE-C3", "squeeze_excitation.html#equation-se-c3") in links  # written as a link
    assert ("Figure SE-5", "#figure-se-5") in links
    assert any(re.fullmatch(r"Exercise \d+", text) and "#exercise-" in href for text, href in links)
    assert all("#figure-" in href for text, href in links if text.startswith("Figure"))


def test_terms_equations_figures_and_symbols_lead_back(book):
    """To the place in the chapter that uses them; the anchors are tested with all links."""
    glossary = BeautifulSoup((book / "book/glossary.html").read_text("utf-8"), "html.parser")
    gate = glossary.find(id="term-gate").find_next("dd").select_one(".cited-in")
    assert gate.a["href"] == "../notebooks/gating.html#use-term-gate"
    assert re.search(r"and \d+ more chapters\.$", gate.get_text())
    cost = soup(book, "squeeze_excitation").find(id="equation-se-c3").find_next(class_="cited-in")
    assert cost.get_text().startswith("Cited in ")
    assert "coordinate_attention.html#use-equation-se-c3" in [a["href"] for a in cost("a")]
    assert soup(book, "coordinate_attention").find(id="use-equation-se-c3").name == "a"
    notation = BeautifulSoup((book / "book/notation.html").read_text("utf-8"), "html.parser")
    assert {"eca.html", "profiling.html"} <= {
        a["href"].rpartition("/")[2] for a in notation.select("td a[href*=notebooks]")
    }
    for chapter in ("squeeze_excitation", "cbam", "bam", "eca", "coordinate_attention"):
        section = soup(book, chapter).find(id="what-the-gates-do")
        assert section.select("a[href='../book/playground.html']"), chapter


def test_misconceptions_lead_to_their_exercises(book):
    page = BeautifulSoup((book / "book/teaching.html").read_text("utf-8"), "html.parser")
    (section,) = page.select("section#misconceptions-and-what-catches-them")
    assert len(section.select("a.number")) > 30
    left = copy.copy(section)
    for link in left.select("a.number"):
        link.decompose()
    assert not re.search(r"Exercises? \d|\d and \d", left.get_text(" "))
