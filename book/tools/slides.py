"""Slides of the chapters: `python book/tools/slides.py [FOLDER] [NAME...]`, `make slides`.

Each notebook becomes one reveal.js deck. What can be shown to a class is taken from its cells as
they are: figures with their captions, equations, tables, predictions (the answer appears at a
click), short code with what it printed, exercises, the box to take away. The prose goes into the
speaker's notes (key S), as it is what the speaker says. A code cell that is hidden in the book is
hidden here, and a cell with the tag `no-slide` is left out. Nothing is loaded from a network.
"""

import html
import re
import shutil
import sys
from pathlib import Path

import nbformat
from markdown_it import MarkdownIt
from mdit_py_plugins.amsmath import amsmath_plugin
from mdit_py_plugins.dollarmath import dollarmath_plugin
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

ROOT = Path(__file__).parents[2]
STATIC = ROOT / "book/_static"
HIDDEN = {"hide-input", "remove-cell", "setup", "no-slide"}
LONGEST = 16  # lines of code, and of what it printed, on a slide
SHORT = 220  # characters of a sentence that leads in
FULL = 10  # a slide's weight beyond which the next thing begins another one

PAGE = (Path(__file__).parent / "slides.html").read_text(encoding="utf-8")


def parser():
    """Markdown as the chapters use it; formulas are left to MathJax."""
    md = MarkdownIt("commonmark", {"html": True}).enable("table")
    md.use(dollarmath_plugin, double_inline=True, renderer=formula).use(amsmath_plugin)
    md.add_render_rule("amsmath", lambda self, tokens, i, *_: html.escape(tokens[i].content))
    return md


def formula(content, options):
    content = html.escape(content)
    return f"\\[{content}\\]" if options["display_mode"] else f"\\({content}\\)"


MARKDOWN = parser()


def blocks(source):
    """Kind, text and HTML of each top-level block of a markdown cell."""
    tokens, start = MARKDOWN.parse(source), 0
    for end, token in enumerate(tokens):
        if token.level == 0 and token.nesting <= 0:
            part, start = tokens[start : end + 1], end + 1
            text = "".join(t.content for t in part if t.type == "inline") or part[0].content
            kind = part[0].tag if part[0].type == "heading_open" else part[0].type
            yield kind, text, MARKDOWN.renderer.render(part, MARKDOWN.options, {})


class Deck:
    """Slides in the making: what is shown, and the notes to say with it."""

    def __init__(self):
        self.slides, self.part, self.title, self.notes, self.lead = [], "", "", [], ""
        self.room, self.exercise = 0, False  # in an exercise: from its heading to its code

    def slide(self, title=None):
        self.slides.append(
            {"title": self.title if title is None else title, "body": [], "notes": ""}
        )
        self.room = FULL

    def show(self, body, weight, *, fresh=False):
        """Put ``body`` on the slide, or on a new one where there is no room for its weight."""
        if fresh or weight > self.room or not self.slides:
            self.slide()
            if self.lead:
                self.slides[-1]["body"].append(f"<p>{self.lead}</p>")
                self.room -= 2
        self.slides[-1]["body"].append(body)
        self.slides[-1]["notes"] += "".join(self.notes)
        self.room -= weight
        self.notes, self.lead = [], ""

    def say(self, rendered):
        """Prose: into the notes; if it is short, or else its end, it leads in to what comes."""
        self.notes.append(rendered)
        inner = re.sub(r"^<p>|</p>\s*$", "", rendered.strip())
        last = re.split(r"(?<=[.?!])\s+(?=[A-Z\\<])", inner)[-1]
        self.lead = next((part for part in (inner, last) if len(part) < SHORT), "")


def deck(nb):
    """Title and slides of a notebook."""
    made, title, folded = Deck(), "", None
    for cell in nb.cells:
        tags = set(cell.metadata.get("tags", []))
        if cell.cell_type == "code":
            show_code(made, cell, tags)
            continue
        for kind, text, rendered in blocks(cell.source) if "no-slide" not in tags else ():
            if kind == "html_block":
                opened = re.search(r"<summary>(.*?)</summary>", rendered)
                folded = opened[1] if opened else None if "</details>" in rendered else folded
            elif folded is not None:
                if folded == "Answer" and made.slides:
                    made.slides[-1]["body"].append(f'<div class="fragment">{rendered}</div>')
            elif kind == "h1":
                title = text
            elif kind == "h2":
                if text == "Exercises":
                    return title, made.slides
                made.part, made.title = html.escape(text), rendered
                made.lead, made.notes, made.room, made.exercise = "", [], 0, False
            elif kind == "h3":
                made.exercise = text.startswith("Exercise")
                made.lead, made.room = "", 0
                if made.exercise:
                    made.slide(f"<h2>{html.escape(text)}</h2>")
                else:
                    heading = rendered.replace("h3>", "h2>")
                    made.title = f'<p class="part">{made.part}</p>\n{heading}'
            elif made.exercise and kind in ("paragraph_open", "math_block", "bullet_list_open"):
                made.show(rendered, 0)
            elif kind == "paragraph_open" and re.match(r"\*Figure \w+-\d+\.", text):
                if made.slides:
                    made.slides[-1]["body"].append(f'<div class="caption">{rendered}</div>')
            elif kind == "paragraph_open":
                made.say(rendered)
            elif kind == "blockquote_open":
                if not re.match(r"\*\*(To run this page|You need|Time)", text):
                    made.show(rendered, FULL, fresh=True)
            elif kind in ("math_block", "amsmath", "math_block_label"):
                lines = text.count(r"\\") + 1
                made.show(rendered, min(FULL, 1 + 1.3 * lines))
            elif kind == "table_open":
                made.show(rendered, FULL, fresh=True)
            else:
                made.show(rendered, 4)
    return title, made.slides


def show_code(made, cell, tags):
    """The code where it is shown in the book and short, what it printed, and its figures."""
    images = [o for o in cell.outputs if "image/png" in o.get("data", {})]
    tables = [
        html_text
        for o in cell.outputs
        if (html_text := o.get("data", {}).get("text/html", "")).startswith("<table")
    ]
    for output in images:
        alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""), quote=True)
        data = output.data["image/png"].replace("\n", "")
        made.lead = ""
        made.show(f'<img alt="{alt}" src="data:image/png;base64,{data}">', FULL, fresh=True)
    if tags & HIDDEN or images:
        show_tables(made, tables)
        return
    printed = "".join(o.get("text", "") for o in cell.outputs if o.output_type == "stream").rstrip()
    if made.exercise:  # its stub, and not that nobody has attempted it yet
        printed = ""
    lines = cell.source.count("\n") + 1 + (printed.count("\n") + 2 if printed else 0)
    if lines <= LONGEST:
        code = highlight(cell.source, PythonLexer(), HtmlFormatter(nowrap=True))
        shown = f'<pre class="code">{code}</pre>'
        if printed:
            shown += f"<pre>{html.escape(printed)}</pre>"
        made.show(shown, 0 if made.exercise else 2 + 0.6 * lines)
    show_tables(made, tables)
    if made.exercise:
        made.exercise, made.room = False, 0


def show_tables(made, tables):
    """Each table that a cell displays, on a slide of its own."""
    for table in tables:
        made.show(table, FULL, fresh=True)


def section(slide):
    body = "\n".join(slide["body"])
    notes = f'<aside class="notes">{slide["notes"]}</aside>' if slide["notes"] else ""
    return f"<section>\n{slide['title']}\n{body}\n{notes}</section>"


def write(folder, names=()):
    """Write the decks of the chapters in ``names``, or of all, and what they need; their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("reveal", "mathjax"):
        shutil.copytree(STATIC / part, folder / part, dirs_exist_ok=True)
    paths = []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        if names and path.stem not in names:
            continue
        title, slides = deck(nbformat.read(path, 4))
        filled = PAGE.replace("@TITLE@", html.escape(title)).replace(
            "@SLIDES@", "\n".join(map(section, slides))
        )
        paths.append(folder / f"{path.stem}.html")
        paths[-1].write_text(filled.replace("@CODE@", HtmlFormatter().get_style_defs(".code")))
    return paths


if __name__ == "__main__":
    where = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "dist/slides"
    for made in write(where, sys.argv[2:]):
        print(made)
