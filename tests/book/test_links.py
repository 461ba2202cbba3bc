"""Every internal link and image of the built book resolves, and nothing comes from a network."""

import re
from functools import cache
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup
from conftest import pages

# what a browser fetches by itself; <a href> may lead anywhere
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src"}
LOADING_LINKS = {"stylesheet", "preload", "prefetch", "icon", "modulepreload", "preconnect"}


@cache
def parse(path):
    return BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


@cache
def anchors(path):
    return {tag.get("id") or tag.get("name") for tag in parse(path).find_all(True)}


def unresolved(book):
    """Internal links, images, scripts and styles that lead nowhere, one line each."""
    problems = []
    for page in pages(book):
        path = book / page
        addresses = [(tag, tag["href"]) for tag in parse(path).find_all(["a", "link"], href=True)]
        addresses += [(tag, tag["src"]) for tag in parse(path).find_all(src=True)]
        for tag in parse(path).find_all("meta", attrs={"http-equiv": re.compile("refresh", re.I)}):
            addresses.append((tag, tag["content"].partition("url=")[2]))
        for tag, address in addresses:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc or address == "#":
                continue
            folder = book if parts.path.startswith("/") else path.parent  # "/...": the 404 page
            target = (folder / unquote(parts.path).lstrip("/")).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.is_file():
                problems.append(f"{page}: <{tag.name}> leads to {address}, which does not exist")
            elif parts.fragment and target.suffix == ".html":
                if unquote(parts.fragment) not in anchors(target):
                    problems.append(f"{page}: no such place: {address}")
    return problems


def without_alt(book):
    """Images without alternative text."""
    return [
        f"{page}: {image.get('src')} has no alternative text"
        for page in pages(book)
        for image in parse(book / page).find_all("img")
        if not image.get("alt", "").strip()
    ]


def from_network(book):
    """Scripts, styles, images and fonts with an address outside the book."""
    problems = []
    for page in pages(book):
        for tag in parse(book / page).find_all([*LOADED, "link"]):
            address = tag.get(LOADED.get(tag.name, "href")) or ""
            loads = tag.name != "link" or LOADING_LINKS & set(tag.get("rel", []))
            if loads and re.match(r"(https?:)?//", address):
                problems.append(f"{page}: <{tag.name}> loads {address}")
    for style in book.rglob("*.css"):
        css = re.sub(r"/\*.*?\*/", "", style.read_text(encoding="utf-8"), flags=re.DOTALL)
        for address in re.findall(r"(?:url\(|@import\s+[\"'])\s*[\"']?([^\"')\s]+)", css):
            name = style.relative_to(book)
            if re.match(r"(https?:)?//", address):
                problems.append(f"{name}: loads {address}")
            elif not address.startswith(("data:", "#")):
                if not (style.parent / re.split("[?#]", address)[0]).is_file():
                    problems.append(f"{name}: {address} does not exist")
    return problems


@pytest.mark.parametrize("problems", [unresolved, without_alt, from_network])
def test_book(book, problems):
    assert not problems(book), "\n".join(problems(book))


def test_a_broken_book_is_refused(tmp_path):
    (tmp_path / "style.css").write_text(
        "@import url(https://fonts.example/a.css); b { src: url('gone.woff2') }"
    )
    (tmp_path / "a.html").write_text(
        '<h1 id="here">A</h1><a href="#here">yes</a><a href="#there">no</a>'
        '<a href="b.html">no</a><a href="https://example.org">yes</a>'
        '<img src="gone.png"><img src="style.css" alt="described">'
        '<script src="https://cdn.example/x.js"></script>'
        '<link rel="stylesheet" href="//cdn.example/x.css">'
        '<meta http-equiv="Refresh" content="0; url=c.html">'
    )
    assert [line.rpartition(": ")[2] for line in unresolved(tmp_path)] == [
        "#there",
        "<a> leads to b.html, which does not exist",
        "<img> leads to gone.png, which does not exist",
        "<meta> leads to c.html, which does not exist",
    ]
    assert without_alt(tmp_path) == ["a.html: gone.png has no alternative text"]
    assert sorted(from_network(tmp_path)) == [
        "a.html: <link> loads //cdn.example/x.css",
        "a.html: <script> loads https://cdn.example/x.js",
        "style.css: gone.woff2 does not exist",
        "style.css: loads https://fonts.example/a.css",
    ]


def test_first_uses_of_terms_lead_to_the_glossary(book):
    glossary = (book / "book/glossary.html").read_text(encoding="utf-8")
    for path in sorted((book / "notebooks").glob("*.html")):
        page = path.read_text(encoding="utf-8")
        targets = re.findall(r'href="\.\./book/glossary\.html#(term-[\w-]+)"', page)
        assert len(targets) > 5 and len(set(targets)) == len(targets), path.name
        assert all(f'id="{target}"' in glossary for target in targets), path.name
