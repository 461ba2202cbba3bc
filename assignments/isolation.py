"""Where a stranger's code runs: a process that sees the system's files and an empty folder.

bubblewrap
    No network, a system that cannot be written to, own processes, and one folder in memory that
    vanishes with the process. Of this repository it sees attn_lib, assignments/inside and .venv.
container
    The same from docker or podman, with the image of assignments/Containerfile.
none
    An ordinary process of yours, with the limits on time and memory alone. It can read your files.
"""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path

INSIDE = Path(__file__).resolve().parent / "inside"
IMAGE = "attn-classroom"
KINDS = ("bubblewrap", "container", "none")
ETC = ("ld.so.cache", "ld.so.conf", "ld.so.conf.d", "localtime", "alternatives")
BUBBLEWRAP = "bubblewrap 0.8"  # the first with --disable-userns
NO_ISOLATION = """\
{problem}
A submission is a stranger's code. Without isolation it can read your files, the tests, the other
submissions and the marks, and use your network. Choose:

    apt install bubblewrap                  {wanted} or later (Debian 12, Ubuntu 24.04;
                                            dnf and pacman have it too)
    make grade ... ISOLATION=container      with docker or podman; assignments/README.md says how
    make grade ... ISOLATION=none           if you accept the risk\
"""


class NoIsolation(Exception):
    """The isolation that is wanted is not to be had; the message says what to do."""


@dataclass(frozen=True)
class Limits:
    """What a submission may use."""

    cell: float = 120.0  # seconds for a cell
    call: float = 30.0  # seconds for a call by a test
    total: float = 600.0  # seconds for the submission
    memory: int = 4 * 2**30  # bytes that a process may map, which is more than it uses
    disk: int = 256 * 2**20  # bytes of the folder and of /dev/shm, which live in memory
    processes: int = 128  # threads count

    def inside(self, kind):
        """The limits that the worker sets for itself before any of the student's code runs."""
        # Outside bubblewrap the system counts all that its user runs, a teacher's browser too. The
        # container has a limit of its own, and `student.Student` watches in any case.
        return {
            "memory": self.memory,
            "processes": self.processes if kind == "bubblewrap" else None,
            "file_size": self.disk,
            "seconds": int(self.total) + 60,  # of processor time
        }


def available(kind):
    """Raise NoIsolation unless this machine has the isolation called ``kind``."""
    if kind not in KINDS:
        raise NoIsolation(f"ISOLATION is one of {', '.join(KINDS)}; got {kind!r}")
    if kind == "bubblewrap":
        if not shutil.which("bwrap"):
            raise _no_isolation("bubblewrap is not installed.")
        command = [*_bubblewrap(Limits()), sys.executable, "-c", "pass"]
        tried = subprocess.run(command, capture_output=True, text=True)
        if tried.returncode:
            version = subprocess.run(["bwrap", "--version"], capture_output=True, text=True).stdout
            raise _no_isolation(
                f"{version.strip() or 'bubblewrap'} is installed and does not work here; "
                f"{BUBBLEWRAP} or later is needed: {tried.stderr.strip()}"
            )
    if kind == "container":
        engine = _engine()
        command = [engine, "image", "inspect", IMAGE]
        if subprocess.run(command, capture_output=True).returncode:
            raise NoIsolation(
                f"There is no image {IMAGE}, or {engine} is not running. Build it first: "
                f"{engine} build -t {IMAGE} -f assignments/Containerfile ."
            )


def _no_isolation(problem):
    return NoIsolation(NO_ISOLATION.format(problem=problem, wanted=BUBBLEWRAP))


def start(kind, limits):
    """Start a worker; (its process, a function that ends it with all that it started)."""
    worker = ["worker.py", json.dumps(limits.inside(kind))]
    folder = stop = None
    if kind == "bubblewrap":
        command = [*_bubblewrap(limits), sys.executable, f"/inside/{worker[0]}", worker[1]]
        environment = None
    elif kind == "container":
        name = f"attn-{uuid.uuid4().hex[:12]}"
        command = [*_container(limits, name), "python", f"/inside/{worker[0]}", worker[1]]
        environment, stop = None, [_engine(), "kill", name]
    else:
        folder = tempfile.mkdtemp(prefix="attn-")
        command = [sys.executable, str(INSIDE / worker[0]), worker[1]]
        environment = {"PATH": os.environ["PATH"], **_environment(INSIDE, folder)}
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=folder,
        env=environment,
        start_new_session=True,
    )

    def end():
        if stop:
            subprocess.run(stop, capture_output=True)
        try:
            os.killpg(process.pid, 9)
        except ProcessLookupError:
            pass
        if folder:
            shutil.rmtree(folder, ignore_errors=True)

    return process, end


def _environment(inside, home):
    library = Path(importlib.util.find_spec("attn_lib").origin).parents[1]
    return {
        "HOME": str(home),
        "TMPDIR": str(home),
        "PYTHONPATH": f"{inside}:{library}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "LANG": "C.UTF-8",
        "JUPYTER_PLATFORM_DIRS": "1",
    }


def _bubblewrap(limits):
    """The command up to the program that is to run."""
    library = Path(importlib.util.find_spec("attn_lib").origin).parent
    command = ["bwrap", "--unshare-all", "--unshare-user", "--disable-userns"]
    command += ["--uid", "1000", "--gid", "1000", "--die-with-parent", "--new-session"]
    command += ["--clearenv", "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", "/tmp", "/submission"):
        command += ["--size", str(limits.disk), "--tmpfs", folder]
    for path in map(Path, ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64")):
        if path.is_symlink():
            command += ["--symlink", os.readlink(path), str(path)]
        elif path.exists():
            command += ["--ro-bind", str(path), str(path)]
    for name in ETC:
        command += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for path in [*_python(), library]:
        command += ["--ro-bind", str(path), str(path)]
    command += ["--ro-bind", str(INSIDE), "/inside"]
    command += ["--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/submission"]
    for name, value in {"PATH": "/usr/bin:/bin", **_environment("/inside", "/submission")}.items():
        command += ["--setenv", name, value]
    return command


def _python():
    """Folders that Python and its packages need, none of them inside another."""
    root = INSIDE.parents[1]
    wanted = {Path(sys.prefix), Path(sys.base_prefix), Path(sys.executable).resolve().parents[1]}
    wanted |= {Path(entry) for entry in sys.path if entry}
    folders = []
    for path in sorted(wanted):
        above = any(path.is_relative_to(folder) for folder in folders)
        holds_tests = root.is_relative_to(path) or path.is_relative_to(root / "assignments")
        if path.is_dir() and not above and not holds_tests and path != Path("/usr"):
            folders.append(path)
    return [path for path in folders if not path.is_relative_to("/usr")]


def _engine():
    for engine in ("podman", "docker"):
        if shutil.which(engine):
            return engine
    raise _no_isolation("Neither podman nor docker is installed.")


def _container(limits, name):
    """The command up to the program that is to run."""
    command = [_engine(), "run", "--rm", "--interactive", "--init", "--name", name]
    command += ["--network", "none", "--read-only", "--cap-drop", "ALL", "--user", "1000:1000"]
    command += ["--security-opt", "no-new-privileges", "--pids-limit", str(limits.processes)]
    command += ["--memory", str(limits.memory), "--memory-swap", str(limits.memory)]
    for folder in ("/tmp", "/submission"):
        command += ["--tmpfs", f"{folder}:size={limits.disk},mode=1777"]
    command += ["--workdir", "/submission"]
    for variable, value in _environment("/inside", "/submission").items():
        if variable != "PYTHONPATH":  # the image's own
            command += ["--env", f"{variable}={value}"]
    return [*command, IMAGE]
