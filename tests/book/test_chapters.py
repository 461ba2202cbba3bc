"""What the chapters' texts have in common: frame, headings, equations, exercises, figures."""

import re
from pathlib import Path

import pytest

CHAPTERS = Path(__file__).parents[2] / "book/chapters"
TEXTS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(CHAPTERS.glob("*.md"))}
# The prefix of a mechanism's equations and figures, and its paper's equations that may be quoted.
MECHANISMS = {
    "squeeze_excitation": ("SE", range(1, 6)),
    "cbam": ("CBAM", range(1, 4)),
    "bam": ("BAM", range(1, 5)),
    "eca": ("ECA", range(1, 13)),
    "coordinate_attention": ("CA", range(1, 10)),
}
OTHERS = {
    "gating": "G",
    "gradients": "GR",
    "cost": "COST",
    "training": "TR",
    "profiling": "PR",
    "looking_inside": "LI",
    "diagnostics": "D",
    "one_frame": "OF",
}
PREFIXES = OTHERS | {k: v[0] for k, v in MECHANISMS.items()}
PATH = (
    "The question · The idea · Forward · Backward · In PyTorch · In a network · What it costs · "
    "Does it work? · What the gates do · What it cannot see · Where paper and code disagree · "
    "Summary · Exercises · Further reading"
).split(" · ")
LONGEST = 2_500  # words of prose before the exercises

CODE = re.compile(r"^(`{3,}).*?^\1", re.DOTALL | re.MULTILINE)
EQUATIONS = re.compile(r"\$\$.*?\$\$|\\begin\{align\*\}.*?\\end\{align\*\}", re.DOTALL)
EXERCISE = re.compile(
    r"^### Exercise (\d+) \((warm-up|core|challenge|project), \d+ min\): \S", re.M
)

chapter = pytest.mark.parametrize("name", PREFIXES)


def prose(text):
    """What is read from top to bottom before the exercises, as running words."""
    text = text.partition("\n## Exercises")[0]
    text = re.sub(r"^---\n.*?\n---\n", "", text, flags=re.DOTALL)
    for gone in (CODE, re.compile("<details>.*?</details>", re.DOTALL), EQUATIONS):
        text = gone.sub("", text)
    text = re.sub(r"^\|.*\|$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\$[^$]*\$", " x ", text)
    return re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)


@pytest.mark.parametrize("name", MECHANISMS)
def test_every_mechanism_takes_the_same_path(name):
    assert re.findall("^## (.*)$", CODE.sub("", TEXTS[name]), re.MULTILINE) == PATH


@chapter
def test_the_top_says_what_for_what_before_and_how_long(name):
    top = TEXTS[name].partition("\n## ")[0]
    for line in ("**After this chapter you", "**You need**", "**Time**:", "**To run this page**"):
        assert f"> {line}" in top


@chapter
def test_the_summary_says_what_to_take_away_and_what_to_discuss(name):
    summary = TEXTS[name].partition("\n## Summary\n")[2].partition("\n## ")[0]
    boxes = re.findall(r"^> \*\*(.*?)\*\*", summary, re.MULTILINE)
    assert boxes == ["To take away", "To discuss."]


@chapter
def test_the_prose_is_not_too_long(name):
    assert len(prose(TEXTS[name]).split()) <= LONGEST


@chapter
def test_equations_are_numbered_by_the_paper_or_by_letters(name):
    prefix = PREFIXES[name]
    paper = {f"{prefix}-{n}" for n in MECHANISMS.get(name, ("", ()))[1]}
    found = re.findall(r"\\tag\{([^}]*)\}", TEXTS[name])
    strange = [
        tag
        for tag in found
        if tag not in paper
        and not re.fullmatch(rf"{prefix}-[A-Z]\d*|[A-Z][A-Za-z -]+, eq\. \d+", tag)
    ]
    assert not strange
    assert len(set(found)) == len(found)


@chapter
def test_a_number_that_the_text_refers_to_exists(name):
    own = PREFIXES[name]
    tags = set(re.findall(r"\\tag\{([^}]*)\}", TEXTS[name]))
    words = CODE.sub("", TEXTS[name])
    for prefix in PREFIXES.values():
        for found in set(re.findall(rf"\b{prefix}-(?:[A-Z]\d*|\d+)\b", EQUATIONS.sub("", words))):
            where = tags if prefix == own else set(all_tags())
            assert found in where or f"*Figure {found}. " in "".join(TEXTS.values()), found


def all_tags():
    return re.findall(r"\\tag\{([^}]*)\}", "".join(TEXTS.values()))


# Symbols that book/notation.md gives another name or another meaning.
FOREIGN = {
    r"\\overline|\\widebar": "a bar is a gradient and is written \\bar",
    r"\\operatorname\{(?:ReLU|sigmoid)\}|\\(?:mathrm|text)\{(?:ReLU|sigmoid)\}": "δ and σ",
    r"\\nabla": "the gradient with respect to a is \\bar a",
    r"x_\{?c?,?hw\}?": "rows and columns are i, j",
    r"\\tilde|\\frac\{d(?:\\ell|L)": "no such symbol",
}


@chapter
@pytest.mark.parametrize("symbol", FOREIGN)
def test_equations_keep_the_notation(name, symbol):
    formulas = " ".join(EQUATIONS.findall(TEXTS[name]) + re.findall(r"\$[^$]+\$", TEXTS[name]))
    assert not re.search(symbol, formulas), FOREIGN[symbol]


@chapter
def test_every_exercise_states_level_and_minutes_and_has_hint_and_solution(name):
    text = TEXTS[name]
    parts = re.split(r"^(?=### Exercise)", text, flags=re.MULTILINE)[1:]
    assert len(parts) >= 10
    for number, part in enumerate(parts, 1):
        assert EXERCISE.match(part), part.splitlines()[0]
        assert part.startswith(f"### Exercise {number} ")
        assert "<summary>Hint 1</summary>" in part, number
        assert f"<summary>Solution {number}</summary>" in part, number
    assert name not in MECHANISMS or any("(project, " in part.splitlines()[0] for part in parts)


@chapter
def test_every_figure_is_numbered_and_captioned(name):
    text = TEXTS[name]
    captions = re.findall(r"^\*Figure ([A-Z]+-\d+)\. .+\*$", text, re.MULTILINE)
    assert captions == [f"{PREFIXES[name]}-{n}" for n in range(1, len(captions) + 1)]
    drawn = [
        cell
        for cell in re.findall(r"^```\{code-cell\}.*?^```", text, re.DOTALL | re.MULTILINE)
        if re.search(r"^\s*plot\.show\(", cell, re.MULTILINE)
    ]
    assert len(captions) == len(drawn)


@chapter
def test_colons_are_rare(name):
    sentences = re.findall(r"[^.!?]+[.!?]", prose(TEXTS[name]))
    assert sum(":" in sentence for sentence in sentences) < 0.1 * len(sentences)


def test_the_prose_is_what_is_read():
    text = "Two words $a b$ here.\n\n```python\nx: int\n```\n\n| a | b |\n\n$$y = x \\tag{A}$$\n"
    assert prose(text + "\n## Exercises\n\nMore.").split() == ["Two", "words", "x", "here."]
