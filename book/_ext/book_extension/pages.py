"""What stands around a page's text, and what its makers write wrongly."""

import re
from pathlib import Path

from attn_lib import __version__


def footer(app, pagename, templatename, context, doctree):
    """Put the version, and a link to what has changed, into the footer of _config.yml."""
    text, changes = context.get("theme_extra_footer"), context["pathto"]("CHANGELOG")
    if text:
        context["theme_extra_footer"] = text.format(version=__version__, changes=changes)


# What the page makers write against WCAG: pattern -> replacement, until they mend it.
FAULTS = {
    # sphinx-book-theme 1.1.4: the arrow that opens a part of the contents has no name
    r'<summary>(?=<span class="toctree-toggle")': '<summary aria-label="Pages of this part">',
    # Sphinx 7.4: a signature on several lines is a list of definitions without terms
    r"<dl>\n((?:<dd>.*</dd>\n)+)</dl>": lambda m: (
        '<div class="sig-lines">\n'
        + m[1].replace("<dd>", "<div>").replace("</dd>", "</div>")
        + "</div>"
    ),
    # Sphinx 7.4: the list of modules has lists between its entries
    r"</li>\n<ul><li>(?=<a href=\"attn_lib)": "</li>\n<li>",
    r"</ul><li>(?=<a href=\"attn_lib)": "<li>",
    # docutils 0.21: deprecated roles of the bibliography, in a list without entries
    r' role="doc-biblioentry"': "",
    r'<div role="list" class="citation-list">': '<div class="citation-list">',
}


def mend_pages(app, error):
    """Mend what is wrong in every page alike and no template can reach."""
    if error or app.builder.name != "html":
        return
    for path in Path(app.outdir).rglob("*.html"):
        if "_static" not in path.relative_to(app.outdir).parts:
            before = after = path.read_text(encoding="utf-8")
            for pattern, replacement in FAULTS.items():
                after = re.sub(pattern, replacement, after)
            if path.parent.name == "_modules" and path.name == "index.html":
                after = after.replace("</ul></ul>", "</ul>").replace("</ul>\n</ul>", "</ul>")
            if after != before:
                path.write_text(after, encoding="utf-8")
