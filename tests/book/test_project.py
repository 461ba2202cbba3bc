"""What is written in several places says the same in all of them."""

import json
import re
from datetime import datetime

import repository  # book/tools/repository.py
import yaml
from conftest import ROOT
from packaging.requirements import Requirement

from attn_lib import __version__

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
COLAB = re.compile(
    r"colab\.research\.google\.com/github/([\w-]+/[\w.-]+)/blob/[\w.-]+/([\w./-]+\w)"
)
# How an address of this project would look: these are written by `make repository` alone.
OWN = re.compile(
    r"colab\.research\.google\.com/github/([\w-]+/[\w.-]+)"  # an own notebook, in Colab
    r"|git\+https://github\.com/([\w-]+/[\w.-]+)"  # an installation
    r"|[\w-]+\.github\.io/(attn[_-]lib)"
    r"|github(?:usercontent)?\.com/([\w-]+/attn[_-]lib)\b"
)


def texts():
    """(name, text) of what a reader sees and of the configuration."""
    for name in ("README.md", "CONTRIBUTING.md", "_config.yml", "pyproject.toml"):
        yield name, (ROOT / name).read_text(encoding="utf-8")
    for path in [*ROOT.glob("book/**/*.md"), *ROOT.glob("attn_lib/**/*.py")]:
        yield path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")
    for path in ROOT.glob("notebooks/*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        yield path.name, "\n".join("".join(cell["source"]) for cell in cells)


def other_addresses(texts, url):
    """Addresses of this project that are not the repository's, one line each."""
    own = url.removeprefix("https://github.com/")
    for name, text in texts:
        for match in OWN.finditer(text):
            found = next(filter(None, match.groups()))
            if not own or found.removesuffix(".git") != own:
                yield f"{name}: {match[0]}, and the repository's address is {url or 'not set'}"


def test_no_address_but_the_repository_s():
    url = repository.address(ROOT)
    assert url == PROJECT["urls"].get("Repository", "")
    assert yaml.safe_load((ROOT / "_config.yml").read_text())["repository"]["url"] == url
    assert not list(other_addresses(texts(), url))


def test_an_address_of_nobody_s_is_noticed():
    left = [("a.md", "git+https://github.com/old/pkg.git, nobody.github.io/attn_lib")]
    assert len(list(other_addresses(left, ""))) == 2
    assert len(list(other_addresses(left, "https://github.com/new/course"))) == 2
    authors = [("b.md", "https://github.com/hujie-frank/SENet")]
    assert not list(other_addresses(authors, ""))
    stamped = [("c.md", "https://colab.research.google.com/github/new/course/blob/main/a.ipynb")]
    assert not list(other_addresses(stamped, "https://github.com/new/course"))


def test_colab_links_lead_to_files():
    gone = [
        f"{name}: {path}"
        for name, text in texts()
        for _, path in COLAB.findall(text)
        if not (ROOT / path).is_file()
    ]
    assert not gone


def test_pins_satisfy_the_ranges():
    pins = {}
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, version = line.partition("==")
            pins[name] = version
    for text in [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["course"]]:
        needed = Requirement(text)
        assert needed.specifier.contains(pins[needed.name]), f"{text}, {pins[needed.name]} pinned"


def test_every_notebook_is_in_the_table_of_contents():
    contents = (ROOT / "_toc.yml").read_text()
    missing = [
        path.stem
        for path in ROOT.glob("notebooks/*.ipynb")
        if f"notebooks/{path.stem}\n" not in contents
    ]
    assert not missing


def test_every_module_has_a_place_in_the_library_pages():
    pages = "".join(path.read_text() for path in ROOT.glob("book/api/*.md"))
    missing = []
    for path in sorted(ROOT.glob("attn_lib/*")):
        name = f"attn_lib.{path.stem}"
        if not path.name.startswith("_") and f":: {name}\n" not in pages:
            missing.append(name)
    for path in sorted(ROOT.glob("attn_lib/reference/[!_]*.py")):
        if f":: attn_lib.reference.{path.stem}\n" not in pages:
            missing.append(f"attn_lib.reference.{path.stem}")
    assert not missing


def test_one_version_everywhere(book):
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"\nversion: {__version__}\n" in cited
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## (\S+) \((.*)\)$", changes, re.MULTILINE)
    assert newest[1] == __version__
    released = re.search(r"^date-released: (.*)$", cited, re.MULTILINE)[1]
    assert datetime.strptime(newest[2], "%d %B %Y").date().isoformat() == released
    page = (book / "notebooks/gating.html").read_text(encoding="utf-8")
    assert f'Version {__version__} of {newest[2]}, <a href="../CHANGELOG.html">' in page
