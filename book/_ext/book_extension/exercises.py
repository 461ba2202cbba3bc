"""The list of all exercises: {exercise-list} on a page becomes a table of them."""

import re

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

TITLE = re.compile(
    r"Exercise (?P<number>\d+) \((?P<level>[\w-]+)(?:, (?P<minutes>\d+) min)?\): (?P<title>.*)"
)
COLUMNS = {"Chapter": 24, "Number": 8, "Exercise": 44, "Level": 12, "Minutes": 12}


class exercise_list(nodes.General, nodes.Element):
    pass


class ExerciseList(SphinxDirective):
    def run(self):
        return [exercise_list()]


def exercises(app):
    """Every exercise as (document, match of its heading), in the order of the book."""
    for docname in _in_order(app.env, app.config.root_doc):
        if docname.startswith("notebooks/"):
            for section in app.env.get_doctree(docname).findall(nodes.section):
                heading = TITLE.match(section[0].astext())
                if heading:
                    yield docname, heading


def _in_order(env, docname):
    yield docname
    for child in env.toctree_includes.get(docname, ()):
        yield from _in_order(env, child)


def always_outdated(app, env, added, changed, removed):
    return [name for name in env.found_docs if name == "book/exercises"]


def fill(app, doctree, docname):
    for place in list(doctree.findall(exercise_list)):
        table = nodes.table(classes=["exercises"])
        group = nodes.tgroup(cols=len(COLUMNS))
        group += [nodes.colspec(colwidth=width) for width in COLUMNS.values()]
        group += nodes.thead("", _row([nodes.Text(name) for name in COLUMNS]))
        body = nodes.tbody()
        for document, exercise in exercises(app):
            page = app.builder.get_relative_uri(docname, document)
            place_there = f"{page}#exercise-{exercise['number']}"
            body += _row(
                [
                    _link(app.env.titles[document].astext(), page),
                    nodes.Text(exercise["number"]),
                    _link(exercise["title"], place_there),
                    nodes.Text(exercise["level"]),
                    nodes.Text(exercise["minutes"] or ""),
                ]
            )
        group += body
        table += group
        place.replace_self(table)


def _link(text, address):
    return nodes.reference("", "", nodes.Text(text), refuri=address, internal=True)


def _row(cells):
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))
