"""A search leads to the chapter first, and says in words what it found; also from files."""

import re
from urllib.parse import quote

import pytest

FIRST = {
    "squeeze": "squeeze_excitation",
    "cbam": "cbam",
    "eca": "eca",
    "coordinate": "coordinate_attention",
    "bam": "bam",
    "training": "training",
    "cost": "cost",
    "gates": "gating",
    "gradients": "gradients",
    "profiling": "profiling",
    "looking": "looking_inside",
    "frame": "one_frame",
    "mechanism": "diagnostics",
}
TEX = re.compile(r"\\[a-zA-Z(\[{]|\$[^$ ]*\$|[_^]\{")


def results(browser, address):
    """Where the results of a search lead, and what stands below each that is not of the library."""
    page = browser.new_page()
    page.goto(address)
    page.wait_for_function(
        "document.querySelector('.search-summary')?.textContent.includes('found')"
    )
    found = page.locator("#search-results li").evaluate_all(
        "(items) => items.map((i) => [i.querySelector('a').getAttribute('href'),"
        " !!i.querySelector('span'), i.querySelector('p')?.textContent ?? '', i.textContent])"
    )
    page.close()
    return found


@pytest.mark.parametrize("scheme", ["http", "file"])
def test_the_chapter_comes_first(browser, book, url, scheme):
    start = url if scheme == "http" else book.as_uri()
    for word, chapter in FIRST.items():
        found = results(browser, f"{start}/search.html?q={quote(word)}")
        assert found[0][0].startswith(f"notebooks/{chapter}.html"), (word, found[:3])
        assert word in found[0][3].lower(), (word, found[0])
        for link, described, summary, text in found:
            assert described or len(summary) > 20, (word, link)
            assert not TEX.search(text), (word, link, text)


def test_raw_formulas_are_seen():
    assert (
        TEX.search(r"the mean \bar x") and TEX.search("x_{cij}") and not TEX.search("a $ and a _")
    )
