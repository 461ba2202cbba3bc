"""What the book needs of Sphinx beyond Jupyter Book's own configuration."""

import re
from pathlib import Path

from docutils import nodes
from myst_nb.core.render import NbElementRenderer

from attn_lib import __version__


def alt_text(render_image):
    """Give an output image the alternative text that is stored with the output.

    MyST-NB reads only width and height there.
    """

    def render(self, data):
        images = render_image(self, data)
        alt = data.output_metadata.get(data.mime_type, {}).get("alt")
        for image in images:
            if alt and isinstance(image, nodes.image):
                image["alt"] = alt
        return images

    return render


def without_figure_text(render_html):
    """Leave out the text below a figure, which attn_lib.plot.show adds for notebooks."""

    def render(self, data):
        return [] if "class='figure-text'" in data.string else render_html(self, data)

    return render


def without_empty_text(render_text):
    """Leave out an output of no words, which would be drawn as a box of one empty line."""

    def render(self, data):
        return render_text(self, data) if data.string.strip() else []

    return render


def without_thebe(app):
    """Leave out Thebe, which Jupyter Book always adds; it would run cells on a server elsewhere."""
    for event, listeners in app.events.listeners.items():
        app.events.listeners[event] = [
            listener for listener in listeners if listener.handler.__module__ != "sphinx_thebe"
        ]
    styles = app.registry.css_files
    styles[:] = [style for style in styles if style[0] != "sphinx-thebe.css"]


def slug(heading):
    """Return a heading's anchor as JupyterLab writes it, so that a link works there as here."""
    return heading.strip().replace(" ", "-")


def skip_fields(app, what, name, obj, skip, options):
    """Leave out a named tuple's fields ("Alias for field number 0"); its signature has them."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def plain_display(app, doctree, docname):
    r"""Leave equations as they are written.

    Sphinx puts an equation with a line break, also one inside cases or a matrix, into a split
    environment, where \tag is an error.
    """
    for node in doctree.findall(nodes.math_block):
        text = node.astext()
        if r"\\" in text and not node.get("nowrap") and not node.get("number"):
            node["nowrap"] = True
            node[:] = [nodes.Text(rf"\[{text}\]")]


def buttons(app, config):
    """Show the buttons that lead to the repository or to Colab only if its address is known."""
    options = config.html_theme_options
    known = bool(options.get("repository_url"))
    options["use_repository_button"] = options["use_issues_button"] = known
    if not known:
        options["launch_buttons"] = {}


def link_files(app, doctree, docname):
    """Make `experiments/cifar10/grid.py`, a path in the repository, a link, if it has an address.

    A chapter writes the path alone, since a relative link would be dead in Colab.
    """
    url = app.config.html_theme_options.get("repository_url")
    for node in list(doctree.findall(nodes.literal)) if url else []:
        path = node.astext()
        inside = isinstance(node.parent, nodes.reference)
        if "/" in path and not inside and Path(app.confdir, path).exists():
            link = nodes.reference("", "", refuri=f"{url}/blob/main/{path}", internal=False)
            node.replace_self(link)
            link += node


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
            yield nodes.reference(
                "", "", nodes.Text(match[0]), refuri=target, internal=True, classes=["term"]
            )
            start = match.end()
    yield nodes.Text(text[start:])


def _term_id(term):
    return "term-" + nodes.make_id(term)


FORMULA = re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>)([.,;:!?)]+)')


def keep_together(app, pagename, templatename, context, doctree):
    """Keep a formula and the punctuation after it on one line."""
    if "body" in context:
        context["body"] = FORMULA.sub(r'<span class="together">\1\2</span>', context["body"])


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


def setup(app):
    without_thebe(app)
    app.connect("config-inited", buttons)
    app.connect("doctree-read", name_terms)
    app.connect("doctree-resolved", link_files)
    app.connect("doctree-resolved", link_terms)
    app.connect("doctree-resolved", plain_display)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("html-page-context", keep_together)
    app.connect("html-page-context", footer)
    app.connect("build-finished", mend_pages)
    NbElementRenderer.render_image = alt_text(NbElementRenderer.render_image)
    NbElementRenderer.render_text_html = without_figure_text(NbElementRenderer.render_text_html)
    NbElementRenderer.render_text_plain = without_empty_text(NbElementRenderer.render_text_plain)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
