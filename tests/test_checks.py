"""What holds for the checks of every chapter.

``test_check_NAME.py`` has the SOLUTIONS of the chapter's exercises, the MISTAKES that its checks
know, (exercise, attempt, what the message says), and further STUBS, (exercise, stub); it tests
what is that chapter's alone.
"""

from importlib import import_module

import numpy as np
import pytest

from attn_lib import check
from attn_lib.check import Failed

CHAPTERS = {
    name: import_module(f"test_check_{name}")
    for name in check.__all__
    if getattr(getattr(check, name), "__file__", None)
}
NOT_CALLED = {"reading", "two_processes"}  # their attempt is a dict, or a text
TRAINING = {  # their checks train something, or start processes: half a second and more
    *((chapter, "budget") for chapter in ("bam", "cbam", "diagnostics", "se")),
    *((chapter, "ablation") for chapter in ("cbam", "eca")),
    *(("coordinate", name) for name in ("comparison", "crossed")),
    *(("training", name) for name in ("faults", "procedure", "two_processes")),
    ("diagnostics", "task"),
    ("bam", "start"),
    ("eca", "far"),
    ("one_frame", "channel_by_place"),
    ("profiling", "project"),
}
USUAL = (None, ..., lambda *args, **kw: None, lambda *args, **kw: ...)
SOLUTIONS = [(chapter, name) for chapter in CHAPTERS for name in CHAPTERS[chapter].SOLUTIONS]
STUBS = [(c, *stub) for c in CHAPTERS for stub in getattr(CHAPTERS[c], "STUBS", ())]
STUBS += [
    (chapter, name, stub)
    for chapter, name in SOLUTIONS
    for stub in USUAL
    if not (name in NOT_CALLED and callable(stub))
]
MISTAKES = [(chapter, *mistake) for chapter in CHAPTERS for mistake in CHAPTERS[chapter].MISTAKES]


def marked(cases):
    """Cases (chapter, exercise, ...), of which those that train are left out of `make quick`."""
    slow = pytest.mark.slow
    return [pytest.param(*case, marks=slow) if case[:2] in TRAINING else case for case in cases]


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_every_check_is_tested_with_five_mistakes(chapter):
    solutions = CHAPTERS[chapter].SOLUTIONS
    more = getattr(CHAPTERS[chapter], "NO_EXERCISES", ())
    assert sorted([*solutions, *more]) == sorted(getattr(check, chapter).__all__)
    made = [name for name, *_ in CHAPTERS[chapter].MISTAKES]
    assert [name for name in solutions if made.count(name) < 5] == []


@pytest.mark.parametrize(("chapter", "name"), marked(SOLUTIONS))
def test_a_solution_passes(chapter, name, capsys):
    getattr(getattr(check, chapter), name)(CHAPTERS[chapter].SOLUTIONS[name])
    assert capsys.readouterr().out.endswith(f"{chapter}.{name}: passed\n")


@pytest.mark.parametrize(("chapter", "name", "attempt", "message"), marked(MISTAKES))
def test_a_mistake_is_named(chapter, name, attempt, message):
    with pytest.raises(Failed, match=message), np.errstate(all="ignore"):
        getattr(getattr(check, chapter), name)(attempt)


@pytest.mark.parametrize(("chapter", "name", "stub"), STUBS)
def test_a_stub_is_quiet(chapter, name, stub, capsys):
    getattr(getattr(check, chapter), name)(stub)
    assert capsys.readouterr().out == f"{chapter}.{name}: not attempted yet\n"


def test_an_error_of_the_attempt_is_shown_as_it_is():
    with pytest.raises(ZeroDivisionError):
        check.se.squeeze(lambda x: 1 / 0)


@pytest.mark.parametrize(
    ("claims", "found", "points"),
    [
        ({"a": True, "b": False, "c": True}, {"a": True, "b": False, "c": True}, 3),
        ({"a": True, "b": False, "c": False}, {"a": True, "b": False, "c": False}, 1),
        ({"a": np.True_, "b": ..., "c": None}, {"a": True}, 1),
        ({"a": False, "b": True, "c": "True"}, {"a": False, "b": True}, 0),
    ],
)
def test_claims_of_an_assignment_are_scored(claims, found, points):
    answered = check.answered(claims, "abc")
    assert answered == found
    assert check.score(answered, {"a": True, "b": False, "c": True}) == points


@pytest.mark.parametrize(
    ("claims", "says"),
    [
        ({"a": ..., "b": 1, "c": "no"}, "no statement is answered with True or False yet"),
        ({"a": True, "b": True}, r"keys a, b, c is wanted; got \['a', 'b'\]"),
        ([True, False, True], "a dict with the keys a, b, c is wanted; got list"),
    ],
)
def test_claims_that_are_no_answers_are_named(claims, says):
    with pytest.raises(Failed, match=says):
        check.answered(claims, "abc")
