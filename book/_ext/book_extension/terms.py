"""First uses of the glossary's terms are links to it."""

import re
from pathlib import Path

from docutils import nodes

GLOSSARY = "book/glossary"
VERBS = {"band", "pass", "place", "rank"}  # terms that are everyday words, too


def name_terms(app, doctree):
    """Give each term of the glossary a name that links can lead to."""
    if app.env.docname == GLOSSARY:
        for term in doctree.findall(nodes.term):
            term["ids"].append(_term_id(term.astext()))


def link_terms(app, doctree, docname):
    """Make the first use of each term in a chapter a link to the glossary.

    A chapter cannot hold these links itself: in Colab there is no glossary beside it.
    """
    if not docname.startswith("notebooks/"):
        return
    page = Path(app.srcdir, f"{GLOSSARY}.md").read_text(encoding="utf-8")
    terms = {term.lower(): term for term in re.findall(r"^\*\*(.+)\*\*$", page, re.MULTILINE)}
    terms = {word: term for word, term in terms.items() if word not in VERBS}
    address = app.builder.get_relative_uri(docname, GLOSSARY)
    for paragraph in doctree.findall(nodes.paragraph):
        for text in list(paragraph.findall(nodes.Text)):
            if text.parent is paragraph and terms:
                text.parent.replace(text, list(_linked(text.astext(), terms, address)))


def _linked(text, terms, address):
    """The text in pieces, first uses of ``terms`` as links; they are taken out of ``terms``."""
    longest_first = sorted(terms, key=len, reverse=True)
    pattern = re.compile(rf"\b({'|'.join(map(re.escape, longest_first))})s?\b", re.IGNORECASE)
    start = 0
    for match in pattern.finditer(text):
        term = terms.pop(match[1].lower(), None)
        if term:
            yield nodes.Text(text[start : match.start()])
            target = f"{address}#{_term_id(term)}"
            link = nodes.reference(
                "", "", nodes.Text(match[0]), refuri=target, internal=True, classes=["term"]
            )
            link["ids"].append(f"use-{_term_id(term)}")  # where the glossary leads back to
            yield link
            start = match.end()
    yield nodes.Text(text[start:])


def _term_id(term):
    return "term-" + nodes.make_id(term)
