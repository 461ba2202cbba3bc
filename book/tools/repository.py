"""The repository's address: pyproject.toml holds it, and this writes it wherever a reader meets it.

    python book/tools/repository.py https://github.com/OWNER/NAME   stamp and commit
    python book/tools/repository.py --no-commit URL                 stamp alone
    python book/tools/repository.py ""                              take it away again

`make repository URL=...` calls it. Without an address there is no link to follow: the book offers
its notebooks for download, and their first cell says how to install attn_lib.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
URL = re.compile(r"https://github\.com/[\w-]+/[\w.-]*\w")
URLS = re.compile(r'^\[project\.urls\]\n(Repository = "(.*)"\n)?', re.MULTILINE)
CONFIG = re.compile(r'^( +url: )"[^"]*"', re.MULTILINE)
# A row of README's table of chapters; the last column is there if the address is.
ROW = re.compile(r"^(\| \[.*\]\((notebooks/\w+\.ipynb)\) \|[^|\n]*\|)(.*)$", re.MULTILINE)
HEAD = re.compile(r"^(\| chapter \| what it is about \|)(.*)\n(\|:--\|:--\|)(.*)$", re.MULTILINE)


def address(root):
    """The repository's address as pyproject.toml has it; empty if it is not set."""
    found = URLS.search((root / "pyproject.toml").read_text(encoding="utf-8"))
    return (found and found[2]) or ""


def cleaned(text):
    """``https://github.com/OWNER/NAME`` of what was given, or a ValueError that says what is."""
    url = text.strip().rstrip("/").removesuffix(".git")
    if url and not URL.fullmatch(url):
        raise ValueError(f"URL must be https://github.com/OWNER/NAME; got {text!r}")
    return url


def colab(url, path):
    """Address at which Colab opens a file of the repository."""
    return (
        url.replace("//github.com", "//colab.research.google.com/github", 1) + "/blob/main/" + path
    )


def stamp(root, url):
    """Write the address into the files that hold it; the paths of those that changed."""
    import notebooks  # needs what `make` installs; address() does not

    def row(match):
        return match[1] + (f" [Colab]({colab(url, match[2])}) |" if url else "")

    def head(match):
        column, rule = (" run it |", ":--|") if url else ("", "")
        return f"{match[1]}{column}\n{match[3]}{rule}"

    line = f'Repository = "{url}"\n' if url else ""
    edits = {
        "pyproject.toml": lambda text: URLS.sub(f"[project.urls]\n{line}", text),
        "_config.yml": lambda text: CONFIG.sub(rf'\g<1>"{url}"', text),
        "README.md": lambda text: ROW.sub(row, HEAD.sub(head, text)),
    }
    changed = [path for path, edit in edits.items() if rewrite(root / path, edit)]
    old, new = 'REPOSITORY = "', f'REPOSITORY = "{url}"'
    for _, chapter, notebook in notebooks.pairs(root):
        if rewrite(chapter, lambda text: re.sub(f'^{old}.*?"', new, text, count=1, flags=re.M)):
            changed.append(chapter.relative_to(root).as_posix())
        nb = notebooks.read_notebook(notebook)
        first = next(iter(notebooks.code_cells(nb)))
        if first.source != notebooks.install_cell(root):
            first.source = notebooks.install_cell(root)
            notebooks.write_notebook(notebooks.normalise(nb), notebook)
            changed.append(notebook.relative_to(root).as_posix())
    return changed


def rewrite(path, edit):
    """Apply ``edit`` to a file's text; whether that changed it."""
    text = path.read_text(encoding="utf-8")
    if edit(text) == text:
        return False
    path.write_text(edit(text), encoding="utf-8")
    return True


def git(root, *command):
    return subprocess.run(["git", *command], cwd=root, check=True, capture_output=True, text=True)


def main(argv=None, root=ROOT):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("url", help="https://github.com/OWNER/NAME, or nothing to take it away")
    parser.add_argument("--no-commit", action="store_true", help="leave the commit to you")
    options = parser.parse_args(argv)
    try:
        url = cleaned(options.url)
    except ValueError as error:
        return str(error)
    if not options.no_commit and git(root, "status", "--porcelain", "--untracked-files=no").stdout:
        return "There are changes that are not committed. Commit or stash them first."
    changed = stamp(root, url)
    if not changed:
        print(f"The address is {url or 'not set'} already; nothing to do.")
        return 0
    if not options.no_commit:
        message = f"The repository's address is {url}" if url else "The repository has no address"
        git(root, "commit", "--quiet", "--message", message, "--only", "--", *changed)
    print(f"{len(changed)} files {'changed' if options.no_commit else 'changed and committed'}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
