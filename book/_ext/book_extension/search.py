"""The texts of which a search shows the words around a match."""

import json
import re
from pathlib import Path

from docutils import nodes

UNSPOKEN = (nodes.literal_block, nodes.math_block, nodes.raw, nodes.image, nodes.comment)


def write_texts(app, error):
    """Write what each section says, without code and formulas, to searchtexts.js."""
    if error or app.builder.name != "html":
        return
    texts = {name: _sections(app.env.get_doctree(name)) for name in sorted(app.env.found_docs)}
    script = (
        f"const searchTexts = {json.dumps(texts, ensure_ascii=False, separators=(',', ':'))};\n"
    )
    Path(app.outdir, "_static", "searchtexts.js").write_text(script, encoding="utf-8")


def _sections(doctree):
    return [
        [section["ids"][0], " ".join("".join(_words(section)).split())]
        for section in doctree.findall(nodes.section)
    ]


def _words(node):
    """The words of a section that are not those of a section inside it."""
    for child in node.children:
        if isinstance(child, nodes.math):
            simple = re.fullmatch(r"[\w ,.()=+/-]*", child.astext()) and "_" not in child.astext()
            yield child.astext() if simple else "…"
        elif isinstance(child, nodes.Text):
            yield child.astext()
        elif not isinstance(child, (*UNSPOKEN, nodes.section, nodes.title)):
            inline = isinstance(child, nodes.Inline)
            yield ("" if inline else " ") + "".join(_words(child)) + ("" if inline else " ")
