"""What is written in several places says the same in all of them."""

import json
import re

import yaml
from conftest import ROOT
from packaging.requirements import Requirement

try:
    import tomllib
except ImportError:  # Python 3.10
    import tomli as tomllib

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
REPOSITORY = PROJECT["urls"]["Repository"]
ADDRESS = re.compile(
    r"(?:github\.com|githubusercontent\.com|colab\.research\.google\.com/github)"
    r"/([\w-]+)/([\w.-]*\w)|([\w-]+)\.github\.io/([\w.-]*\w)"
)
COLAB = re.compile(r"colab\.research\.google\.com/github/[\w-]+/[\w.-]+/blob/[\w.-]+/([\w./-]+\w)")


def texts():
    """(name, text) of what a reader sees and of the configuration."""
    for name in ("README.md", "CONTRIBUTING.md", "_config.yml"):
        if (ROOT / name).exists():
            yield name, (ROOT / name).read_text(encoding="utf-8")
    for path in [*ROOT.glob("book/**/*.md"), *ROOT.glob("notebooks/*.ipynb")]:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            text = "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])
        yield path.relative_to(ROOT).as_posix(), text


def other_addresses(texts, repository, package):
    """Addresses of this project that are not the repository's."""
    owner, repo = repository.rstrip("/").split("/")[-2:]
    for name, text in texts:
        for match in ADDRESS.finditer(text):
            found = (match[1] or match[3], (match[2] or match[4]).removesuffix(".git"))
            if found != (owner, repo) and (found[1] in (repo, package) or found[0] == owner):
                yield f"{name}: {match[0]} is not {repository}"


def test_one_address_of_the_repository():
    assert not list(other_addresses(texts(), REPOSITORY, PROJECT["name"]))
    config = yaml.safe_load((ROOT / "_config.yml").read_text())
    assert config["repository"]["url"] == REPOSITORY


def test_an_address_left_behind_by_a_fork_is_noticed():
    left = [("a.md", "git+https://github.com/old/pkg.git and github.com/hujie-frank/SENet")]
    assert len(list(other_addresses(left, "https://github.com/new/pkg", "pkg"))) == 1
    assert len(list(other_addresses(left, "https://github.com/new/course", "pkg"))) == 1
    assert not list(other_addresses(left, "https://github.com/old/pkg", "pkg"))


def test_colab_links_lead_to_files():
    gone = [
        f"{name}: {path}"
        for name, text in texts()
        for path in COLAB.findall(text)
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
