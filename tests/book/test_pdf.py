"""The book on paper: what is cut off on a sheet, and all pages in one PDF."""

import unicodedata

import pdf  # book/tools/pdf.py
import pytest
from conftest import BOOK
from pypdf import PdfReader

WIDTH = 658  # pixels of an A4 sheet between its margins


@pytest.mark.parametrize("path", [path for _, _, path in pdf.contents()])
def test_nothing_is_wider_than_the_sheet(browser, path):
    page = browser.new_page(viewport={"width": WIDTH, "height": 900})
    page.emulate_media(media="print", color_scheme="dark")
    page.goto((BOOK / path).as_uri())
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
    cut = page.evaluate(
        """() => {
            const article = document.querySelector("article.bd-article");
            const edge = article.getBoundingClientRect().right + 2;
            const wide = [...article.querySelectorAll("pre, table, img, p, li, dt, mjx-container")]
                .filter(e => e.checkVisibility() && !e.closest("mjx-assistive-mml"))
                .filter(e => e.getBoundingClientRect().right > edge);
            return wide.map(e => e.tagName + ": " + e.textContent.slice(0, 60));
        }"""
    )
    theme, closed = page.evaluate(
        """() => [document.documentElement.dataset.theme,
                  document.querySelectorAll("article details:not([open])").length]"""
    )
    page.evaluate("() => window.dispatchEvent(new Event('afterprint'))")
    page.close()
    assert not cut
    assert theme == "light" and closed == 0


@pytest.fixture(scope="module")
def document(browser, tmp_path_factory):
    chosen = ["notebooks/eca.html", "notebooks/squeeze_excitation.html", "book/glossary.html"]
    chosen.append("book/index.html")
    entries = [entry for entry in pdf.contents() if entry[2] in chosen]
    target = tmp_path_factory.mktemp("pdf") / "book.pdf"
    pdf.make(target, entries, browser)
    return PdfReader(target)


def words(sheet):
    """Text of a sheet in one line; a PDF has ligatures and breaks lines."""
    return " ".join(unicodedata.normalize("NFKC", sheet.extract_text()).split())


def titles(outline, depth=0):
    for item in outline:
        if isinstance(item, list):
            yield from titles(item, depth + 1)
        else:
            yield depth, item.title


def test_the_contents_have_every_page_of_the_book():
    listed = {path for _, _, path in pdf.contents()}
    assert all((BOOK / path).exists() for path in listed)
    assert {p.relative_to(BOOK).as_posix() for p in BOOK.glob("notebooks/*.html")} <= listed


def test_the_outline_leads_to_the_chapters(document):
    found = list(titles(document.outline))
    assert (0, "The mechanisms") in found and (0, "Appendix") in found
    assert (1, "Squeeze-and-Excitation") in found and (2, "Backward") in found
    after = document.outline.index(
        next(x for x in document.outline if not isinstance(x, list) and x.title == "The mechanisms")
    )
    item = document.outline[after + 1][0]
    sheet = document.get_destination_page_number(item)
    assert words(document.pages[sheet]).startswith("Squeeze-and-Excitation")


def test_sheets_have_numbers_and_solutions_come_last(document):
    texts = [words(sheet) for sheet in document.pages]
    assert all(str(n) in text.split() for n, text in enumerate(texts, 1))
    assert f"Version {pdf.about()['version']}" in texts[0]
    starts = [n for n, text in enumerate(texts) if text.startswith("Squeeze-and-Excitation")]
    assert len(starts) == 2  # the chapter, and its part of the appendix
    body, appendix = "".join(texts[starts[0] : starts[1]]), "".join(texts[starts[1] :])
    assert "Solution 1: in the appendix." in body and "Hint 1" in body
    assert "Code: " in appendix and "Code: " not in body
    contents = next(text for text in texts if text.startswith("Contents"))
    line = contents.index("Squeeze-and-Excitation")
    assert str(starts[0] + 1) in contents[line:].split()


def test_links_stay_inside_or_lead_to_the_web(document):
    inside = outside = 0
    for sheet in document.pages:
        for note in sheet.get("/Annots") or ():
            note = note.get_object()
            if "/Dest" in note:
                assert note["/Dest"][0].get_object()["/Type"] == "/Page"
                inside += 1
            elif "/A" in note:
                assert str(note["/A"]["/URI"]).startswith(("https://", "http://", "mailto:"))
                outside += 1
    assert inside > 30 and outside > 5


def test_solutions_are_linked_there_and_back(document):
    texts = [words(sheet) for sheet in document.pages]
    appendix = [n for n, text in enumerate(texts) if text.startswith("Squeeze-and-Excitation")][1]
    there = back = 0
    for n, sheet in enumerate(document.pages):
        for note in sheet.get("/Annots") or ():
            if "/Dest" in note.get_object():
                leads_to = document.get_page_number(note.get_object()["/Dest"][0].get_object())
                there += n < appendix <= leads_to
                back += n >= appendix > leads_to
    moved = sum(text.count(": in the appendix.") for text in texts)
    assert there == moved > 30
    assert back >= moved


def test_no_heading_hint_or_term_is_the_last_line_of_a_sheet(document):
    apart = set()
    for path in ("notebooks/squeeze_excitation.html", "notebooks/eca.html", "book/glossary.html"):
        article = pdf.Page(path).soup.select_one("article.bd-article")
        for e in article.select("h2, h3, dt, summary"):
            apart.add(" ".join(unicodedata.normalize("NFKC", e.get_text()).split()))
    assert {"In PyTorch", "Hint 1", "Weight decay"} <= apart
    last = [sheet.extract_text().strip().splitlines()[-2:] for sheet in document.pages]
    last = [" ".join(lines[0].split()) for lines in last if len(lines) == 2]  # then its number
    assert [line for line in last if unicodedata.normalize("NFKC", line) in apart] == []
