"""The page for teachers: its snippets print what it says, and its exercises exist."""

import contextlib
import io
import re

from bs4 import BeautifulSoup
from conftest import ROOT

PAGE = (ROOT / "book/teaching.md").read_text(encoding="utf-8")
NAMES = {
    "Feature maps and gates": "gating",
    "Gradients": "gradients",
    "Squeeze-and-Excitation": "squeeze_excitation",
    "SE": "squeeze_excitation",
    "CBAM": "cbam",
    "BAM": "bam",
    "ECA": "eca",
    "Coordinate Attention": "coordinate_attention",
    "What attention costs": "cost",
    "Profiling": "profiling",
    "Training on real images": "training",
    "Looking inside": "looking_inside",
    "What each mechanism can see": "diagnostics",
    "One frame": "one_frame",
}
NUMBERS = r"\d+(?: to \d+)?(?:(?:, | and )\d+(?: to \d+)?)*"


def test_the_snippets_print_what_the_answers_say():
    pairs = re.findall(r"```python\n(.*?)```.*?```text\n(.*?)```", PAGE, re.DOTALL)
    assert len(pairs) == 2
    for code, wanted in pairs:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(code, {})
        assert printed.getvalue() == wanted


def exercises(name):
    text = (ROOT / f"book/chapters/{NAMES[name]}.md").read_text(encoding="utf-8")
    return {int(number) for number in re.findall(r"^### Exercise (\d+) ", text, re.MULTILINE)}


def numbers(text):
    for first, last in re.findall(r"(\d+)(?: to (\d+))?", text):
        yield from range(int(first), int(last or first) + 1)


def test_every_exercise_exists():
    found = 0
    for line in PAGE.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        row = next((c for c in cells if c in NAMES), None)  # a row about one chapter
        mentioned = rf"\b({'|'.join(NAMES)}), Exercises? ({NUMBERS})"
        for name, listed in re.findall(mentioned, line):
            assert set(numbers(listed)) <= exercises(name), line
            found += 1
        if row and len(cells) > 2:
            for cell in cells[-2:]:
                listed = re.match(NUMBERS, cell)
                if listed:
                    assert set(numbers(listed[0])) <= exercises(row), line
                    found += 1
    assert found > 30


def test_exercises_in_tables_lead_into_their_chapters(book):
    page = BeautifulSoup((book / "book/teaching.html").read_text(encoding="utf-8"), "html.parser")
    names, links = re.compile(rf"\b({'|'.join(NAMES)}), Exercise"), 0
    for table in page.select("article table"):
        heads = [cell.get_text() for cell in table.select("thead th")]
        for row in table.select("tbody tr"):
            cells = row.select("th, td")
            of_row = next((c.get_text() for c in cells if c.get_text() in NAMES), None)
            for head, cell in zip(heads, cells, strict=True):
                if not head.startswith("exercises") and "Exercise" not in cell.get_text():
                    continue
                before = ""
                for piece in cell.find_all(string=True):
                    link, number = piece.find_parent("a"), re.search(r"(?<!-)\b\d+\b", piece)
                    before += piece
                    if link and "#exercise" in link["href"]:
                        named = names.findall(before)
                        chapter = NAMES[named[-1] if named else of_row]
                        wanted = f"../notebooks/{chapter}.html#exercise-{number[0]}"
                        assert link["href"] == wanted, cell.get_text()
                        links += 1
                    else:
                        assert link or not number, f"no link: {cell.get_text()}"
    assert links > 150
