"""Run every notebook as a learner does: outside the repository, among versions that are not ours.

    python tests/environments/run.py colab-2026-08           the versions of that list, its Python
    python tests/environments/run.py colab-2026-08 --here    this Python, and the torch of `make`
    python tests/environments/run.py oldest [--here]         the oldest that pyproject.toml claims
    python tests/environments/run.py --base python3          what that Python has (Colab's image)
    python tests/environments/run.py --list pip-freeze.txt   a new list, from Colab's own (README)

Each notebook is copied to an empty folder and executed from its install cell on: the first finds
attn_lib in a git repository, the others in a wheel that lies beside them. What they print has to be
what the book shows, nothing may be written to stderr, progress bars are on, and the installation
may have added attn_lib alone. `make colab-test` calls it.
"""

import argparse
import hashlib
import html
import json
import math
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from importlib import metadata
from pathlib import Path

import nbformat
from nbclient import NotebookClient

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
NOTEBOOKS = ROOT / "notebooks"
IGNORE = "nbval-ignore-output"
WIDGET = "application/vnd.jupyter.widget-view+json"
TABLE = ROOT / "book" / "running_table.md"
ROW = re.compile(r"^\| (\[.*\]\(.*\)) \| (\d+) \| (.*) \|$", re.MULTILINE)
SENTENCE = re.compile(r"takes about .*? and [\d.]+ GB of memory")
ENVIRONMENTS = ROOT / ".environments"
RESULT = ROOT / "_build" / "environments"
# The Pythons for which those versions were released.
HERE_RANGE = {"lists": ((3, 11), (3, 13)), "oldest": ((3, 10), (3, 11))}
WORKERS = 2
SHOWN = 5  # problems of a notebook; all are in RESULT
TIMEOUT = 900  # seconds for one cell
# A build of torch with CUDA says this where a CUDA compiler is installed and no GPU is.
NOT_OURS = re.compile("No CUDA runtime is found, using CUDA_HOME")
TORCH = re.compile(r"(torch|triton)$|(nvidia|cuda)[-_]")  # what comes with it
MEMORY = (  # the most that the kernel, or a process that it started, held
    "import resource\n"
    "most = max(resource.getrusage(w).ru_maxrss for w in (resource.RUSAGE_SELF,"
    " resource.RUSAGE_CHILDREN))\n"
    "print(most // (1 if __import__('sys').platform == 'darwin' else 1024))"
)


# Versions


def project():
    """The [project] table of pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def needs():
    """Names of what attn_lib[course] depends on -> the oldest version that is claimed."""
    about = project()
    ranges = [*about["dependencies"], *about["optional-dependencies"]["course"]]
    return dict(text.split(">=") for text in ranges)


def read_list(name):
    """(Python's version, {package: version}) of a list in this folder, or of the claims."""
    if name == "oldest":
        return project()["requires-python"].removeprefix(">="), needs()
    path = HERE / f"{name}.txt"
    if not path.exists():
        known = sorted(p.stem for p in HERE.glob("*.txt"))
        raise SystemExit(f"There is no list {name!r}; there are {', '.join([*known, 'oldest'])}.")
    text = path.read_text(encoding="utf-8")
    python = re.search(r"^# Python (\d+\.\d+)", text, re.MULTILINE)[1]
    return python, dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.MULTILINE))


def as_list(freeze):
    """What pip may be held to of a ``pip freeze``: released versions, whatever the device."""
    found = dict(re.findall(r"^([\w.-]+)==([\w.]+)", freeze, re.MULTILINE))
    built = re.findall(r"^(torch\w*) @ \S*/\1-([\d.]+)", freeze, re.MULTILINE)  # for one device
    found |= dict(built)
    kept = {name: found[name] for name in sorted(found) if not name.startswith("nvidia-")}
    return "".join(f"{name}=={version}\n" for name, version in kept.items())


def python_of(version):
    """A Python of this version, or an exit that says how to name one."""
    for command in (os.environ.get("COLAB_PYTHON"), f"python{version}", sys.executable):
        found = command and shutil.which(command)
        ask = "import sys; print('%d.%d' % sys.version_info[:2])"
        if found and run([found, "-c", ask], check=False).stdout.strip() == version:
            return found
    raise SystemExit(
        f"Python {version} is not found. Name one: COLAB_PYTHON=/path/to/python{version}"
    )


# Environments


def why_not_here(name):
    """Why this Python cannot have a list's versions; None if it can."""
    first, last = HERE_RANGE["oldest" if name == "oldest" else "lists"]
    if not first <= sys.version_info[:2] <= last:
        wanted = " to ".join(".".join(map(str, version)) for version in (first, last))
        return f"the packages of {name} need Python {wanted}; this is {platform.python_version()}"
    return None


def run(command, **options):
    options = {"check": True, "capture_output": True, "text": True} | options
    return subprocess.run([str(part) for part in command], **options)


def build(name, here):
    """Python of a virtual environment with a list's versions; made anew if the list changed."""
    version, pins = read_list(name)
    python = sys.executable if here else python_of(version)
    if here:  # another Python and torch have needs of their own: only what notebooks meet is pinned
        kept = {*needs(), "pip", "traitlets", "jupyter_client"}
        pins = {name: v for name, v in pins.items() if name in kept}
        pins["torch"] = metadata.version("torch")
    folder = ENVIRONMENTS / (f"{name}-here" if here else name)
    stamp, key = folder / "stamp", hashlib.sha256(repr([python, pins, needs()]).encode())
    if stamp.exists() and stamp.read_text() == key.hexdigest():
        return folder / "bin" / "python"
    print(f"{name}: installing into {folder.relative_to(ROOT)}", flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    run([python, "-m", "venv", folder])
    if here:
        lend_torch(folder / "bin" / "python")
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{package}=={v}\n" for package, v in pins.items()))
    install = [folder / "bin" / "python", "-m", "pip", "install", "--quiet"]
    install += ["--disable-pip-version-check", "--constraint", constraints]
    environment = {k: v for k, v in os.environ.items() if k != "PIP_CONSTRAINT"}
    run([*install, "--upgrade", "pip"], capture_output=False, env=environment)
    run([*install, *needs(), "setuptools"], capture_output=False, env=environment)
    stamp.write_text(key.hexdigest())
    return folder / "bin" / "python"


def lend_torch(python):
    """Give an environment this one's torch, and what of CUDA is with it, without fetching it."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    packages = Path(run([python, "-c", ask]).stdout.strip())
    for package in metadata.distributions():
        if TORCH.match(package.name or ""):
            for file in package.files or ():
                if ".." not in file.parts:  # a command, which names this environment's Python
                    (packages / file).parent.mkdir(parents=True, exist_ok=True)
                    link(file.locate(), packages / file)


def fresh(base, folder):
    """Python of an environment that has what ``base`` has, and may be installed into."""
    if (base.parents[1] / "pyvenv.cfg").exists():
        shutil.copytree(base.parents[1], folder, copy_function=link, symlinks=True)
    else:
        run([base, "-m", "venv", "--without-pip", "--system-site-packages", folder])
    python = folder / "bin" / "python"
    kernel = folder / "share" / "jupyter" / "kernels" / "learner"
    kernel.mkdir(parents=True)
    argv = [str(python), "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    spec = {"argv": argv, "display_name": "learner", "language": "python"}
    (kernel / "kernel.json").write_text(json.dumps(spec))
    return python


def link(source, target):
    """A second name for a file, which takes no time and no room; a copy where that cannot be."""
    try:
        os.link(source, target)
    except FileExistsError:  # two packages have it
        pass
    except OSError:  # on another disk
        shutil.copy2(source, target)


def packages(python):
    listed = run([python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"])
    return {p["name"].lower().replace("-", "_"): p["version"] for p in json.loads(listed.stdout)}


def replaced(before, after):
    """What an installation changed besides adding attn_lib, one line each."""
    names = sorted((before.keys() | after.keys()) - {"attn_lib"})
    return [
        f"the installation changed {name}: "
        f"{before.get(name, 'absent')} -> {after.get(name, 'gone')}"
        for name in names
        if before.get(name) != after.get(name)
    ]


# Notebooks


def printed(cell):
    """What a cell shows, without progress bars and without the bytes of its figures."""
    texts = []
    for output in cell.outputs:
        if output.get("name") == "stdout":
            texts.append(output.text)
        elif WIDGET not in output.get("data", {}):
            texts.append(output.get("data", {}).get("text/plain", "") + "\n")
    return "".join(texts).strip()


def differences(stored, executed):
    """Where an executed notebook does not do what the stored one shows, one line each."""
    problems = []
    for number, (old, new) in enumerate(zip(stored.cells, executed.cells, strict=False), 1):
        if new.cell_type != "code":
            continue
        where = f"cell {number} ({new.source.splitlines()[0][:50]!r})"
        for output in new.outputs:
            if output.output_type == "error":
                problems.append(f"{where}: {output.ename}: {output.evalue}")
            elif output.get("name") == "stderr":
                lines = [line for line in output.text.splitlines() if not NOT_OURS.search(line)]
                if any(line.strip() for line in lines):
                    problems.append(f"{where}: on stderr, {lines!r}")
            elif "image/png" in output.get("data", {}):
                alt = output.metadata.get("image/png", {}).get("alt")
                below = "".join(o.get("data", {}).get("text/html", "") for o in new.outputs)
                if not alt or html.escape(alt) not in below:
                    problems.append(f"{where}: a figure without its text")
        if IGNORE not in old.metadata.get("tags", []) and printed(old) != printed(new):
            problems.append(f"{where}: shows {printed(new)!r} instead of {printed(old)!r}")
    return problems


def seconds(cell):
    """How long a cell took, by the kernel's own times."""
    times = [cell.metadata.execution[f"iopub.status.{when}"] for when in ("busy", "idle")]
    start, end = (time.mktime(time.strptime(t[:19], "%Y-%m-%dT%H:%M:%S")) for t in times)
    fraction = [float("0" + t[19:].rstrip("Z") or 0) for t in times]
    return end + fraction[1] - start - fraction[0]


def execute(path, base, source):
    """Execute a notebook from its first cell on; what was measured, with its problems."""
    stored = nbformat.read(path, as_version=4)
    executed = nbformat.read(path, as_version=4)
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix="notebooks-") as folder,
        tempfile.TemporaryDirectory(prefix="learner-", dir=ENVIRONMENTS) as temporary,
    ):
        if source.suffix == ".whl":
            shutil.copy(source, folder)
        else:
            for cell in executed.cells:
                cell.source = cell.source.replace(
                    'REPOSITORY = ""', f'REPOSITORY = "{source.as_uri()}"'
                )
        python = fresh(base, Path(temporary, "environment"))
        before = packages(python)
        executed.cells.append(nbformat.v4.new_code_cell(MEMORY))
        client = NotebookClient(
            executed,
            timeout=TIMEOUT,
            kernel_name="learner",
            allow_errors=True,
            resources={"metadata": {"path": folder}},
        )
        started, failure = time.perf_counter(), None
        try:
            manager = client.create_kernel_manager()
            specs = Path(temporary, "environment", "share", "jupyter", "kernels")
            manager.kernel_spec_manager.kernel_dirs.insert(0, str(specs))
            client.execute(env=learner_environment())
        except Exception as error:  # the kernel died, or a cell took too long
            failure = f"{type(error).__name__}: {error}"
        took = time.perf_counter() - started
        problems = replaced(before, packages(python))
    if failure:
        return {"notebook": path.stem, "problems": [failure], "seconds": round(took)}
    last = executed.cells.pop()
    install = next(cell for cell in executed.cells if cell.cell_type == "code")
    return {
        "notebook": path.stem,
        "seconds": round(took),
        "install": round(seconds(install), 1),
        "megabytes": int(printed(last) or 0),
        "from": "wheel" if source.suffix == ".whl" else "git",
        "problems": [*problems, *differences(stored, executed)],
    }


def learner_environment():
    """Variables of a kernel that knows nothing of this repository; threads as for the book."""
    hidden = {"PYTHONPATH", "TQDM_DISABLE", "MPLBACKEND", "VIRTUAL_ENV", "ATTN_LIB_DATA"}
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    return kept | {
        "OMP_NUM_THREADS": "1",
        "KINETO_LOG_LEVEL": "99",
        "PYDEVD_DISABLE_FILE_VALIDATION": "1",
    }


def sources(folder):
    """(git repository, wheel) of this tree as it is, committed or not, to install from."""
    repository = folder / "course"
    git = ["git", "-C", repository, "-c", "user.name=learner", "-c", "user.email=learner@localhost"]
    run(["git", "init", "--quiet", repository])
    run([*git, "--work-tree", ROOT, "add", "--all"])
    run([*git, "commit", "--quiet", "--message", "as it is"])
    run([*git, "config", "uploadpack.allowFilter", "true"])  # pip asks for it
    shutil.rmtree(ROOT / "build", ignore_errors=True)  # an older build's files would be packed too
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check"]
    run([*command, "--no-deps", "--wheel-dir", folder, ROOT], capture_output=False)
    (wheel,) = folder.glob("attn_lib-*.whl")
    return repository, wheel


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("name", nargs="?", help="a list of this folder without .txt, or oldest")
    parser.add_argument("--here", action="store_true", help="this Python, and `make`'s torch")
    parser.add_argument("--base", help="a Python whose packages are taken as they are")
    parser.add_argument("--list", type=Path, metavar="FREEZE", help="print a list and stop")
    parser.add_argument("--save", action="store_true", help="write time and memory into the book")
    parser.add_argument("--only", nargs="+", default=None, metavar="NOTEBOOK")
    options = parser.parse_args()
    if options.list:
        print(as_list(options.list.read_text(encoding="utf-8")), end="")
        return 0
    if bool(options.name) == bool(options.base):
        parser.error("give the name of a list, or --base")
    if options.here and (reason := why_not_here(options.name)):
        print(f"{options.name}: skipped, {reason}")
        return 1 if os.environ.get("ATTN_SKIP_NOTHING") == "1" else 0
    base = shutil.which(options.base) if options.base else build(options.name, options.here)
    base = Path(base).absolute()
    paths = sorted(NOTEBOOKS.glob("*.ipynb"))
    paths = [path for path in paths if options.only is None or path.stem in options.only]
    ask = "import platform, torch, numpy; print(platform.python_version(), torch.__version__, "
    versions = run([base, "-c", ask + "numpy.__version__)"]).stdout.split()
    print("Python {}, PyTorch {}, NumPy {}".format(*versions), flush=True)
    started, results = time.perf_counter(), []
    with tempfile.TemporaryDirectory(prefix="course-") as temporary:
        repository, wheel = sources(Path(temporary))
        with ThreadPoolExecutor(WORKERS) as pool:
            jobs = [
                pool.submit(execute, path, base, wheel if number else repository)
                for number, path in enumerate(paths)
            ]
            for job in as_completed(jobs):
                results.append(job.result())
                report(results[-1])
    name = options.name or "base"
    RESULT.mkdir(parents=True, exist_ok=True)
    machine = {"system": platform.platform(terse=True), "cores": os.cpu_count()}
    stored = {"versions": versions, "machine": machine, "notebooks": results}
    (RESULT / f"{name}.json").write_text(json.dumps(stored, indent=1) + "\n")
    if options.save:
        save(results, versions)
    failed = sum(bool(result["problems"]) for result in results)
    took = time.perf_counter() - started
    print(f"{name}: {len(results) - failed} of {len(results)} notebooks run in {took:.0f} s")
    return 1 if failed or not results else 0


def save(results, versions):
    """Write what was measured into the book: a sentence of every chapter, and its row of a table.

    Rows of chapters that did not run stay as they are.
    """
    stored = TABLE.read_text(encoding="utf-8") if TABLE.exists() else ""
    rows = {m[1]: (int(m[2]), m[3]) for m in ROW.finditer(stored)}
    for result in results:
        chapter = ROOT / "book" / "chapters" / f"{result['notebook']}.md"
        text = chapter.read_text(encoding="utf-8")
        title = re.search(r"^# (.*)", text, re.MULTILINE)[1]
        link = f"[{title}](../notebooks/{result['notebook']}.ipynb)"
        rows[link] = result["seconds"], gigabytes(result)
        text = SENTENCE.sub(
            f"takes about {minutes(result)} and {gigabytes(result)} of memory", text
        )
        chapter.write_text(text, encoding="utf-8")
    lines = ["| chapter | seconds | memory |", "|:--|--:|--:|"]
    quickest_first = sorted(rows.items(), key=lambda row: row[1])
    lines += [f"| {link} | {seconds} | {memory} |" for link, (seconds, memory) in quickest_first]
    lines += ["", "Python {}, PyTorch {}, NumPy {}; two notebooks at a time.".format(*versions), ""]
    TABLE.write_text("\n".join(lines), encoding="utf-8")


def minutes(result):
    """What a learner should allow: rounded up to half a minute."""
    halves = math.ceil(result["seconds"] / 30)
    return {1: "half a minute", 2: "1 minute"}.get(halves, f"{halves / 2:g} minutes")


def gigabytes(result):
    return f"{math.ceil(result['megabytes'] / 100) / 10:.1f} GB"


def report(result):
    text = f"  {result['notebook']:22} {result['seconds']:4} s"
    if "install" in result:
        text += f", of it the installation from {result['from']} {result['install']:4.1f} s"
        text += f"; {result['megabytes']:5} MB"
    print(text, flush=True)
    for problem in result["problems"][:SHOWN]:
        print(f"    {problem[:400]}", flush=True)
    if len(result["problems"]) > SHOWN:
        print(f"    and {len(result['problems']) - SHOWN} more, in {RESULT.relative_to(ROOT)}/")


if __name__ == "__main__":
    sys.exit(main())
