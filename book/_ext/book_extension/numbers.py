"""Numbers of equations, figures and exercises in the text are links to them.

Chapters are plain Markdown: a number is what stands in \\tag{SE-2}, in a caption that begins with
*Figure SE-3.*, or in a heading "Exercise 4".
"""

import re
from functools import cache
from pathlib import Path

from docutils import nodes

LABEL = r"[A-Z]+-(?:[A-Z]\d*|\d+)"
TAG = re.compile(rf"\\tag\{{({LABEL})\}}")
CAPTION = re.compile(rf"Figure ({LABEL})\.")
EXERCISE = re.compile(r"Exercise (\d+)\b")
MENTION = re.compile(
    rf"\b[Ff]igures? {LABEL}\b(?:(?:, | and | or | to ){LABEL}\b)*"
    r"|\b[Ee]xercises? \d+\b(?:(?:, | and | or | to )\d+\b)*"
    rf"|(?<![\w-]){LABEL}\b(?!-)"
)
LIST = re.compile(r"\d+(?:(?:, | and | to )\d+)*")
NO_LINK_INSIDE = (
    nodes.reference,
    nodes.literal,
    nodes.literal_block,
    nodes.title,
    nodes.math,
    nodes.math_block,
    nodes.raw,
)


def name_places(app, doctree):
    """Give equations, figures and exercises names that links can lead to."""
    for equation in doctree.findall(nodes.math_block):
        equation["ids"] += [_name("equation", label) for label in TAG.findall(equation.astext())]
    for paragraph in doctree.findall(nodes.paragraph):
        caption = CAPTION.match(paragraph.astext())
        if caption and isinstance(paragraph[0], nodes.emphasis):
            paragraph["ids"].append(_name("figure", caption[1]))
    for section in doctree.findall(nodes.section):
        exercise = EXERCISE.match(section[0].astext())
        if exercise:
            section["ids"].append(_name("exercise", exercise[1]))


def link_places(app, doctree, docname):
    """Make each mention of an equation, a figure or an exercise a link to it."""
    homes = places(Path(app.srcdir))
    here = {name for node in doctree.findall(nodes.Element) for name in node.get("ids", ())}
    for link in doctree.findall(nodes.reference):  # [SE-2](chapter.ipynb): to the very equation
        name = _name("equation", link.astext())
        if name in homes and re.fullmatch(LABEL, link.astext()):
            link["refuri"] = f"{app.builder.get_relative_uri(docname, homes[name])}#{name}"
            link["classes"].append("number")
    chapters = {
        name: app.builder.get_relative_uri(docname, home)
        for name, home in _chapters(app.env).items()
    }
    _link_columns(doctree, chapters)
    for text in list(doctree.findall(nodes.Text)):
        if not MENTION.search(text.astext()) or _inside(text, NO_LINK_INSIDE):
            continue
        own = isinstance(text.parent, nodes.emphasis) and CAPTION.match(text.astext())
        page = _page_after(text)  # "Exercise 4 of [CBAM](cbam.ipynb)"

        def address(name):
            if name.startswith("exercise"):
                return f"#{name}" if name in here else None
            home = homes.get(name)
            return home and f"{app.builder.get_relative_uri(docname, home)}#{name}"

        text.parent.replace(
            text, list(_linked(text.astext(), address, page, chapters, own.end() if own else 0))
        )
    _name_first_uses(doctree, here)


def _link_columns(doctree, chapters):
    """Link a list of numbers in a column that is headed *exercises* to the chapter of its row."""
    for table in doctree.findall(nodes.tgroup):
        head = next(table.findall(nodes.row))
        columns = [n for n, cell in enumerate(head) if cell.astext().startswith("exercises")]
        for row in table[-1]:
            page = next((chapters[c.astext()] for c in row if c.astext() in chapters), None)
            for text in [t for n in columns for t in row[n].findall(nodes.Text)]:
                if page and LIST.match(text.astext()):
                    text.parent.replace(text, list(_linked_list(text.astext(), page)))


def _linked_list(text, page):
    listed = LIST.match(text)[0]
    for part in re.split(r"(\d+)", listed):
        is_number = part.isdigit()
        yield (
            _reference(part, f"{page}#{_name('exercise', part)}") if is_number else nodes.Text(part)
        )
    yield nodes.Text(text[len(listed) :])


def _name_first_uses(doctree, here):
    """Names for the first links to each equation and figure of another page, to lead back to."""
    seen = set(here)
    for link in doctree.findall(nodes.reference):
        name = link.get("refuri", "").partition("#")[2]
        if "number" in link["classes"] and name not in seen and not name.startswith("exercise"):
            link["ids"].append(f"use-{name}")
            seen.add(name)


@cache
def places(root):
    """The document of each equation and figure: {"equation-se-2": "notebooks/..."}."""
    found = {}
    for path in sorted(root.glob("notebooks/*.ipynb")):
        source = path.read_text(encoding="utf-8").replace("\\\\", "\\")
        for kind, pattern in (("equation", TAG), ("figure", re.compile(rf"\*{CAPTION.pattern}"))):
            found |= {
                _name(kind, label): f"notebooks/{path.stem}" for label in pattern.findall(source)
            }
    return found


def _chapters(env):
    """The document of each chapter by its name, as in "SE, Exercise 9"."""
    found = {t.astext(): name for name, t in env.titles.items() if name.startswith("notebooks/")}
    return found | {"SE": "notebooks/squeeze_excitation", "ECA": "notebooks/eca"}


def _linked(text, address, page, chapters, after):
    start = 0
    for mention in MENTION.finditer(text, after):
        before = text[: mention.start()]
        named = (c for name, c in chapters.items() if re.search(rf"\b{re.escape(name)}, $", before))
        chapter = next(named, None)
        kind = {"f": "figure", "e": "exercise"}.get(mention[0][0].lower(), "equation")
        if re.fullmatch(LABEL, mention[0]):
            kind = "equation"
        first = True
        for number in re.finditer(r"\d+" if kind == "exercise" else LABEL, mention[0]):
            # "Figure SE-3" is a link as a whole, of "Figures SE-3 and SE-4" the numbers are
            plural = re.match(r"\w+s ", mention[0])
            begin = mention.start() + (0 if first and not plural else number.start())
            end = mention.start() + number.end()
            name = _name(kind, number[0])
            target = address(name)
            if kind == "exercise" and re.fullmatch(r" (of|in)( the chapter on)? ", text[end:]):
                target = page and f"{page}#{name}"
            elif kind == "exercise" and chapter:
                target = f"{chapter}#{name}"
            if target:
                yield nodes.Text(text[start:begin])
                yield _reference(text[begin:end], target)
                start = end
            first = False
    yield nodes.Text(text[start:])


def _reference(text, target):
    return nodes.reference(
        "", "", nodes.Text(text), refuri=target, internal=True, classes=["number"]
    )


def _page_after(text):
    """The page to which the link after a text leads."""
    after = text.parent[text.parent.index(text) + 1 :][:1]
    if after and isinstance(after[0], nodes.reference):
        return after[0].get("refuri", "").partition("#")[0]
    return None


def _inside(node, kinds):
    while node.parent is not None:
        node = node.parent
        if isinstance(node, kinds):
            return True
    return False


def _name(kind, label):
    return f"{kind}-{label.lower()}"
