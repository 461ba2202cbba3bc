"""Every paper that a page links to stands in the bibliography, and the two lead to each other."""

import re

from bs4 import BeautifulSoup
from conftest import ROOT

PAPER = re.compile(
    r"https?://(?:arxiv\.org/(?:abs|pdf)/|doi\.org/|proceedings\.mlr\.press/)[^)\s]+"
)
PAGES = [*sorted((ROOT / "book/chapters").glob("*.md")), *sorted((ROOT / "book").glob("*.md"))]


def missing(texts, bibliography):
    """Papers that texts link to and the bibliography does not have."""
    cited = {link for text in texts for link in PAPER.findall(text)}
    fields = re.findall(r"^\s*(?:eprint|doi|url)\s*=\s*\{(.+?)\}", bibliography, re.MULTILINE)
    return sorted(link for link in cited if not any(link.endswith(field) for field in fields))


def test_every_cited_paper_is_in_the_bibliography():
    bibliography = (ROOT / "book/references.bib").read_text(encoding="utf-8")
    assert not missing([page.read_text(encoding="utf-8") for page in PAGES], bibliography)
    assert missing(["[A](https://arxiv.org/abs/0000.00001)"], bibliography)


def test_papers_and_entries_lead_to_each_other(book):
    references = BeautifulSoup((book / "book/references.html").read_text("utf-8"), "html.parser")
    for entry in references.select(".citation"):
        chapters = [a["href"] for a in entry.select(".cited-in a")]
        addresses = {a["href"] for a in entry.select("p:not(.cited-in) a")}
        for chapter in chapters:
            path = (book / "book" / chapter).resolve()
            page = BeautifulSoup(path.read_text("utf-8"), "html.parser")
            back = page.select(f'a.paper[href$="references.html#{entry["id"]}"]')
            assert len(back) == 1, (entry["id"], chapter)
            assert addresses & {a["href"] for a in page.select("a.external")}
    assert len(references.select(".cited-in")) >= 40
