"""The list of all exercises: {exercise-list} on a page becomes a table of them."""

import re
from itertools import groupby

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

TITLE = re.compile(
    r"Exercise (?P<number>\d+) \((?P<level>[\w-]+)(?:, (?P<minutes>\d+) min)?\): (?P<title>.*)"
)
COLUMNS = {"No.": 12, "Exercise": 60, "Level": 16, "Minutes": 12}


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
        tables = []
        for document, group in groupby(exercises(app), key=lambda found: found[0]):
            page = app.builder.get_relative_uri(docname, document)
            chapter = nodes.strong("", "", _link(app.env.titles[document].astext(), page))
            tables.append(nodes.paragraph("", "", chapter))
            tables.append(_table(page, [exercise for _, exercise in group]))
        place.replace_self(tables)


def _table(page, exercises):
    table = nodes.table(classes=["exercises"])
    group = nodes.tgroup(cols=len(COLUMNS))
    group += [nodes.colspec(colwidth=width) for width in COLUMNS.values()]
    group += nodes.thead("", _row([nodes.Text(name) for name in COLUMNS]))
    body = nodes.tbody()
    for exercise in exercises:
        number, level, minutes, title = exercise.group("number", "level", "minutes", "title")
        title = _link(title[0].upper() + title[1:], f"{page}#exercise-{number}")
        body += _row([nodes.Text(number), title, nodes.Text(level), nodes.Text(minutes or "")])
    group += body
    table += group
    return table


def _link(text, address):
    return nodes.reference("", "", nodes.Text(text), refuri=address, internal=True)


def _row(cells):
    return nodes.row("", *(nodes.entry("", nodes.paragraph("", "", cell)) for cell in cells))
