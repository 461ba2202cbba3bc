"""What a stranger's code can do in the sandbox, and what it cannot."""

import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from assignments import build, isolation
from assignments.inside.values import decode, encode
from assignments.student import Remote, Stopped, Student, StudentError

pytestmark = pytest.mark.usefixtures("bubblewrap")
SHORT = isolation.Limits(cell=20, call=3, total=100, memory=3 * 2**30, disk=2**22)
TRIES = {
    "secret": f"""
        from pathlib import Path
        root = Path({str(build.ROOT)!r})
        packages = Path({sys.prefix!r})  # these may hold texts of their own
        found = sorted(str(p) for p in root.rglob("*.md") if packages not in p.parents)
        found += [p for p in (root, root / "assignments") if (p / "source").exists()]
    """,
    "outside": f"""
        written = []
        for folder in ("/", "/usr", "/etc", "/inside", "/dev", {str(build.ROOT / "attn_lib")!r}):
            try:
                open(folder + "/mine.txt", "w").write("x")
                written.append(folder)
            except OSError:
                pass
    """,
    "own": """
        open("mine.txt", "w").write("x")
        own = open("mine.txt").read()
    """,
    "filled": """
        filled = 0
        try:
            for n in range(100):
                with open(f"/submission/{n}", "wb") as file:
                    file.write(bytes(2**20))
                filled += 1
        except OSError:
            pass
    """,
    "network": """
        import socket
        try:
            socket.create_connection(("1.1.1.1", 53), 2)
            network = True
        except OSError:
            network = False
    """,
    "memory": """
        try:
            bytearray(10**11)
            memory = True
        except MemoryError:
            memory = False
    """,
    "others": """
        import os
        others = [p for p in os.listdir("/proc") if p.isdigit() and int(p) > 200]
        environment = sorted(os.environ)
    """,
    "broken": "def broken(:\n    pass",
    "functions": """
        import numpy as np
        calls = []

        def double(x):
            calls.append(x)
            return 2 * x

        def loop():
            while True:
                pass

        def die():
            import os
            os._exit(3)

        def print_without_end():
            while True:
                print("x" * 10000)

        def fork():
            import os, time
            for _ in range(400):
                if os.fork() == 0:
                    time.sleep(10)
                    os._exit(0)
            time.sleep(5)

        def grow():
            import os, time
            for _ in range(8):
                if os.fork() == 0:
                    block = bytearray(b"x") * 10**9
                    time.sleep(10)
                    os._exit(0)
            time.sleep(5)

        class Always:
            def __eq__(self, other):
                return True
            __array__ = None

        def equal(x):
            return Always()

        np.allclose = lambda *args, **kwargs: True  # the grader has its own
    """,
}


@pytest.fixture(scope="module")
def student(bubblewrap):
    from textwrap import dedent

    student = Student([dedent(source) for source in TRIES.values()], "bubblewrap", SHORT)
    yield student
    student.close()


def test_it_sees_no_text_of_an_assignment(student):
    assert student.name("found") == []


def test_it_writes_into_its_own_folder_alone(student):
    assert student.name("written") == []
    assert student.name("own") == "x"
    assert not list(Path("/usr").glob("mine.txt"))


def test_its_folder_is_small(student):
    assert student.name("filled") <= 4


def test_it_has_no_network_and_no_endless_memory(student):
    assert student.name("network") is False
    assert student.name("memory") is False


def test_it_sees_no_other_process_and_no_environment(student):
    assert student.name("others") == []
    assert not {"SECRET", "USER", "SSH_AUTH_SOCK"} & set(student.name("environment"))


def test_a_syntax_error_is_its_own_affair(student):
    student.run()
    assert student.outputs[list(TRIES).index("broken")][0]["ename"] == "SyntaxError"
    assert student.name("double")(4) == 8


def test_the_grader_compares_with_its_own_functions(student):
    assert not np.allclose(1, 2)
    answer = student.name("equal")(1)
    assert isinstance(answer, Remote) and type(answer).__name__ == "Always"
    assert answer != 1
    with pytest.raises(TypeError):
        np.asarray(answer, dtype=float)


@pytest.mark.parametrize(
    ("function", "says"),
    [
        ("loop", "did not end within 3 s"),
        ("die", "ended the process"),
        ("print_without_end", "did not end within 3 s"),
        ("fork", "more than|did not end"),
        ("grow", "more than 3.0 GB|did not end"),
    ],
)
def test_a_call_that_brings_it_down_ends_alone(student, function, says):
    with pytest.raises(Stopped, match=says):
        student.name(function)()
    with pytest.raises(Stopped, match="not called again"):
        student.name(function)
    student.name("double")(1)  # it has started again
    student._generation = 1  # so that the next may bring it down too


def test_a_name_that_is_not_there(student):
    with pytest.raises(StudentError, match="NameError: nothing is not defined"):
        student.name("nothing")


def test_an_object_of_a_process_that_is_gone_is_noticed(student):
    double = student.name("double")
    student.close()
    with pytest.raises(Stopped, match="its objects are gone"):
        double(1)


def test_a_cell_that_ends_the_process_is_left_out(bubblewrap):
    cells = ["a = 1", "import os; os.kill(os.getpid(), 9)", "b = 2", "import os; os._exit(0)"]
    student = Student(cells, "bubblewrap", SHORT)
    try:
        assert (student.name("a"), student.name("b")) == (1, 2)
        assert sorted(student.left_out) == [1, 3]
    finally:
        student.close()


def test_nothing_is_left_running(bubblewrap):
    cell = "import subprocess; subprocess.Popen(['sleep', '4321'])"
    student = Student([cell], "bubblewrap", SHORT)
    student.run()
    student.close()
    end = time.monotonic() + 10  # the kernel takes a moment to end what a process has started
    while "sleep 4321" in _running():
        assert time.monotonic() < end
        time.sleep(0.1)


def _running():
    return subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True).stdout


@pytest.mark.parametrize(
    "value",
    [
        None, True, 3, 2.5, "a", ..., [1, (2, "b")], {"a": 1, 2: [None]}, float("inf"),
        np.float32(1.5), np.arange(6, dtype=np.float16).reshape(2, 3), np.array([True, False]),
        torch.arange(3), torch.tensor(2.0, dtype=torch.float64), torch.ones(2).bfloat16(),
        torch.float64, np.float32, np.dtype("int8"),
    ],
    ids=repr,
)  # fmt: skip
def test_values_travel_as_they_are(value):
    import json

    def refer(value):
        raise AssertionError(f"{value} is plain data")

    got = decode(json.loads(json.dumps(encode(value, refer))), None)
    assert type(got) is type(value)
    if isinstance(value, (np.ndarray, torch.Tensor)):
        assert got.dtype == value.dtype and got.shape == value.shape and (got == value).all()
    else:
        assert got == value


def test_an_array_of_objects_stays_where_it_is():
    assert encode(np.array([{}, None]), lambda value: {"object": [0, "ndarray"]}) == {
        "object": [0, "ndarray"]
    }


def test_without_isolation_the_teacher_has_to_say_so(monkeypatch):
    monkeypatch.setattr(isolation.shutil, "which", lambda name: None)
    with pytest.raises(isolation.NoIsolation, match="ISOLATION=none"):
        isolation.available("bubblewrap")
    with pytest.raises(isolation.NoIsolation, match="Neither podman nor docker"):
        isolation.available("container")
    with pytest.raises(isolation.NoIsolation, match="got 'nothing'"):
        isolation.available("nothing")
    isolation.available("none")


def test_an_old_bubblewrap_is_told_from_none(monkeypatch, tmp_path):
    old = tmp_path / "bwrap"
    old.write_text(
        "#!/bin/sh\nif [ $1 = --version ]; then echo bubblewrap 0.6.1; exit; fi\n"
        "echo 'bwrap: Unknown option --disable-userns' >&2\nexit 1\n"
    )
    old.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(isolation.NoIsolation, match="0.6.1 is installed .*bubblewrap 0.8 or later"):
        isolation.available("bubblewrap")
