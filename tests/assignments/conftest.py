"""The assignments as notebooks, and whether there is a sandbox here."""

import os
import shutil

import pytest

pytest.importorskip("nbgrader", reason="`make classroom-tests` installs it")

from assignments import build, isolation  # noqa: E402


@pytest.fixture(scope="session", params=build.names())
def assignment(request):
    """(name, teacher's notebook, student's notebook) of every assignment."""
    teacher = build.source(request.param)
    return request.param, teacher, build.release(teacher)


@pytest.fixture(scope="session")
def se():
    """The teacher's and the student's notebook of one assignment."""
    teacher = build.source("se")
    return teacher, build.release(teacher)


@pytest.fixture(scope="session")
def bubblewrap():
    try:
        isolation.available("bubblewrap")
    except isolation.NoIsolation as problem:
        message = f"the sandbox cannot be tested; apt install bubblewrap. {problem}"
        # A kernel that forbids namespaces, as in some containers, cannot be helped.
        needed = os.environ.get("CI") == "true" or os.environ.get("ATTN_SKIP_NOTHING") == "1"
        (pytest.fail if needed and not shutil.which("bwrap") else pytest.skip)(message)
