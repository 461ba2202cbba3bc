"""What the book needs of Sphinx beyond Jupyter Book's own configuration."""

import re
from pathlib import Path

from docutils import nodes
from myst_nb.core.render import NbElementRenderer
from sphinx.highlighting import PygmentsBridge

from . import backlinks, exercises, light, numbers, outputs, pages, papers, search, terms


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
    for button in ("use_repository_button", "use_issues_button", "use_edit_page_button"):
        options[button] = known
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


FORMULA = re.compile(r'(<span class="math notranslate nohighlight">[^<]*</span>)([.,;:!?)]+)')


def keep_together(app, pagename, templatename, context, doctree):
    """Keep a formula and the punctuation after it on one line."""
    if "body" in context:
        context["body"] = FORMULA.sub(r'<span class="together">\1\2</span>', context["body"])


def setup(app):
    without_thebe(app)
    app.connect("config-inited", buttons)
    app.connect("config-inited", pages.published)
    app.add_node(exercises.exercise_list)
    app.add_directive("exercise-list", exercises.ExerciseList)
    app.connect("doctree-resolved", exercises.fill)
    app.connect("env-get-outdated", exercises.always_outdated)
    app.connect("builder-inited", light.whole_again)
    app.connect("doctree-read", terms.name_terms)
    app.connect("doctree-read", numbers.name_places)
    app.connect("doctree-resolved", link_files)
    app.connect("doctree-resolved", numbers.link_places)
    app.connect("doctree-resolved", papers.link_papers)
    app.connect("env-get-outdated", papers.always_outdated)
    app.connect("doctree-resolved", terms.link_terms)
    app.connect("doctree-resolved", backlinks.say_where_used)
    app.connect("env-updated", backlinks.always_written)
    app.connect("doctree-resolved", plain_display)
    app.connect("autodoc-skip-member", skip_fields)
    app.connect("html-page-context", keep_together)
    app.connect("html-page-context", pages.footer)
    app.connect("html-page-context", light.only_needed, priority=900)  # the theme adds some late
    app.connect("html-page-context", pages.without_address, priority=900)
    app.connect("html-page-context", pages.edit_text, priority=900)
    app.connect("build-finished", pages.mend_pages)
    app.connect("build-finished", search.write_texts)
    app.connect("build-finished", light.only_used)
    renderer = NbElementRenderer
    renderer.render_image = outputs.alt_text(renderer.render_image)
    renderer.render_text_html = outputs.without_figure_text(renderer.render_text_html)
    renderer.render_text_plain = outputs.without_empty_text(renderer.render_text_plain)
    PygmentsBridge.html_formatter = light.QuietFormatter
    return {
        "version": "2",
        "env_version": 4,
        "parallel_read_safe": True,
        "parallel_write_safe": True,
    }
