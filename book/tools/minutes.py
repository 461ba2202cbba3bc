"""How long a chapter takes: counted, so that the page does not have to guess.

A chapter with a line `> **Time**: 17 minutes to read, 55 for the exercises.` gets its numbers from
here when `make notebooks` runs, and `make sync` refuses a line that is out of date. The
first page's sentence on all chapters comes from here, too.
"""

import math
import re

WORDS = 200  # a minute, of prose
LINE = 3  # seconds for a line of code that is not folded
FIGURE = 20  # seconds
EQUATION = 15  # seconds for one that is displayed
TIME = re.compile(r"\*\*Time\*\*: (\d+) minutes to read, (\d+) for the exercises")
ALL = re.compile(r"takes \d+ to \d+ minutes to read\. Its exercises take \d+ to \d+ hours")
EXERCISE = re.compile(r"^### Exercise \d+ \([\w-]+, (\d+) min\)", re.MULTILINE)
DISPLAYED = re.compile(r"\$\$.*?\$\$|\\begin\{align\*\}.*?\\end\{align\*\}", re.DOTALL)
NOT_PROSE = re.compile(r"(`{3,}).*?\n\1|<details>.*?</details>|^\|.*\|$", re.DOTALL | re.MULTILINE)


def measured(nb):
    """(minutes to read what stands before the exercises, minutes that the exercises state)."""
    seconds, exercises = 0.0, 0
    reading = True
    for cell in nb.cells:
        if cell.cell_type == "markdown":
            exercises += sum(map(int, EXERCISE.findall(cell.source)))
            text, heading, _ = cell.source.partition("## Exercises")
            if reading and (not heading or text):
                seconds += read(text)
            reading = reading and not heading
        elif reading:
            folded = cell.metadata.get("cellView") == "form"
            seconds += 0 if folded else LINE * len(cell.source.splitlines())
            figures = [o for o in cell.outputs if "image/png" in o.get("data", {})]
            seconds += FIGURE * len(figures)
    return math.ceil(seconds / 60), exercises


def read(text):
    """Seconds for a text: its words and its displayed equations."""
    equations = len(DISPLAYED.findall(text))
    words = NOT_PROSE.sub(" ", DISPLAYED.sub(" ", text)).split()
    return 60 * len(words) / WORDS + EQUATION * equations


def sentence(nb):
    return "**Time**: {} minutes to read, {} for the exercises".format(*measured(nb))


def stamp(text, nb):
    """The chapter's text with the numbers of its executed notebook."""
    return TIME.sub(sentence(nb), text, count=1)


def problems(nb):
    """What is wrong with a notebook's line on time, if it has one."""
    texts = [cell.source for cell in nb.cells if cell.cell_type == "markdown"]
    found = [match[0] for source in texts for match in TIME.finditer(source)]
    wrong = [text for text in found if text != sentence(nb)]
    return [f"says {text!r}, and it is {sentence(nb)!r}; run `make notebooks`" for text in wrong]


def stamp_all(page, chapters):
    """The first page's text with the range of the lines in all chapters' texts."""
    if not ALL.search(page):
        raise ValueError(f"the first page has no sentence like {ALL.pattern!r}")
    lines = [match for text in chapters if (match := TIME.search(text))]
    if not lines:
        return page
    reading = [int(line[1]) for line in lines]
    hours = [math.ceil(int(line[2]) / 60) for line in lines]
    said = f"takes {min(reading)} to {max(reading)} minutes to read. "
    return ALL.sub(f"{said}Its exercises take {min(hours)} to {max(hours)} hours", page, count=1)
