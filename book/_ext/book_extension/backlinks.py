"""Links back: a term of the glossary, an equation and a figure say which chapters use them.

A symbol of the notation page that belongs to single chapters leads to them, and a chapter's section
on its gates leads to the playground, which is in the book alone.
"""

from docutils import nodes

from . import numbers, terms

NOTATION = "book/notation"
PLAYGROUND = "book/playground"
LIVE = "What the gates do"  # the section of each mechanism's chapter
SHORT = {"ECA": "Efficient Channel Attention"}  # how the notation page calls a chapter
FEW = 4  # so many chapters are named, of more it is said how many


def always_written(app, env):
    """Pages whose links back depend on all chapters: written anew whenever one has changed."""
    return [terms.GLOSSARY, NOTATION, *_chapters(app)]


def say_where_used(app, doctree, docname):
    """Add "Used in ..." to terms, "Cited in ..." to equations and figures, links to symbols."""
    if docname == terms.GLOSSARY:
        _to_terms(app, doctree, docname)
    elif docname == NOTATION:
        _to_symbols(app, doctree, docname)
    elif docname.startswith("notebooks/"):
        _to_places(app, doctree, docname)
        _to_playground(app, doctree, docname)


def _chapters(app):
    return [name for name in _in_order(app) if name.startswith("notebooks/")]


def _in_order(app):
    """Documents in the order of the contents."""
    env = app.env
    found, stack = [], [env.config.root_doc]
    while stack:
        name = stack.pop()
        found.append(name)
        stack += reversed(env.toctree_includes.get(name, []))
    return found


def _said(app, docname, begin, targets):
    """A paragraph "begin A, B." with a link for each (document, anchor)."""
    said = nodes.paragraph("", f"{begin} ", classes=["cited-in"])
    for k, (name, anchor) in enumerate(targets[:FEW]):
        if k:
            said += nodes.Text(" and " if k == len(targets) - 1 else ", ")
        address = f"{app.builder.get_relative_uri(docname, name)}#{anchor}"
        title = nodes.Text(app.env.titles[name].astext())
        said += nodes.reference("", "", title, refuri=address, internal=True)
    more = len(targets) - FEW
    if more > 0:
        said += nodes.Text(f" and {more} more {'chapter' if more == 1 else 'chapters'}")
    said += nodes.Text(".")
    return said


def _to_terms(app, doctree, docname):
    used = _uses(app)
    relative = app.builder.get_relative_uri
    for item in doctree.findall(nodes.definition_list_item):
        for name in item[0]["ids"]:
            told = {
                link.get("refuri", "").partition("#")[0] for link in item.findall(nodes.reference)
            }
            others = [c for c in used.get(name, []) if relative(docname, c) not in told]
            if others:  # more than the definition's own "See ..." says
                targets = [(chapter, f"use-{name}") for chapter in used[name]]
                item[-1] += _said(app, docname, "Used in", targets)


def _to_places(app, doctree, docname):
    used = _uses(app)
    for node in [*doctree.findall(nodes.math_block), *doctree.findall(nodes.paragraph)]:
        for name in node["ids"]:
            others = [chapter for chapter in used.get(name, []) if chapter != docname]
            if others:
                targets = [(chapter, f"use-{name}") for chapter in others]
                place = node.parent.index(node) + 1
                node.parent.insert(place, _said(app, docname, "Cited in", targets))


def _to_playground(app, doctree, docname):
    for section in doctree.findall(nodes.section):
        if section[0].astext() == LIVE:
            line = nodes.paragraph("", "See these gates change as you draw, in the ")
            address = app.builder.get_relative_uri(docname, PLAYGROUND)
            line += nodes.reference("", "", nodes.Text("Playground"), refuri=address, internal=True)
            line += nodes.Text(".")
            section.insert(1, line)


def _uses(app):
    """{"term-gate" or "equation-se-2": chapters that link to it}, found once a build."""
    if not hasattr(app, "uses_in_chapters"):
        found = {}
        for chapter in _chapters(app):
            linked = app.env.get_doctree(chapter)  # read anew each time, so this one may be changed
            numbers.link_places(app, linked, chapter)
            terms.link_terms(app, linked, chapter)
            for link in linked.findall(nodes.reference):
                for name in link["ids"]:
                    found.setdefault(name.removeprefix("use-"), []).append(chapter)
        app.uses_in_chapters = found
    return app.uses_in_chapters


def _to_symbols(app, doctree, docname):
    titles = {app.env.titles[name].astext(): name for name in _chapters(app)}
    titles |= {short: titles[title] for short, title in SHORT.items()}
    for cell in doctree.findall(nodes.entry):
        words = cell.astext().split(", ")
        if not all(word in titles for word in words):
            continue
        line = nodes.paragraph()
        for k, word in enumerate(words):
            address = app.builder.get_relative_uri(docname, titles[word])
            line += nodes.Text(", " if k else "")
            line += nodes.reference("", "", nodes.Text(word), refuri=address, internal=True)
        cell[:] = [line]
