"""The built book as an EPUB 3: `python book/tools/epub.py [FILE]`, `make epub`.

Chromium opens every page of _build/html, and MathJax gives each formula as MathML. What only a
browser can use is left out. Solutions stay in their place, folded where a reader can fold.
"""

import html
import re
import uuid
import zipfile
from pathlib import Path
from urllib.parse import unquote, urlparse

import pdf  # book/tools/pdf.py
from tqdm import tqdm

TYPES = {
    ".xhtml": "application/xhtml+xml",
    ".css": "text/css",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".gif": "image/gif",
    ".svg": "image/svg+xml",
    ".webp": "image/webp",
}
PREPARE = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")
STYLE = Path(__file__).with_suffix(".css")
COVER = """<body style="margin:0;width:1200px;height:1800px;box-sizing:border-box;padding:200px
120px;background:#f1f6fb;border-top:40px solid #2f7fb8;color:#222832;font-family:sans-serif">
<h1 style="font-size:104px;line-height:1.2;margin:0">{title}</h1>
<p style="font-size:44px;margin:120px 0">{author}</p><div style="width:960px">{figure}</div></body>
"""
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<!DOCTYPE html>
<html xmlns="http://www.w3.org/1999/xhtml" xmlns:epub="http://www.idpf.org/2007/ops"
  lang="{language}" xml:lang="{language}">
<head><title>{title}</title><link rel="stylesheet" type="text/css" href="epub.css"/></head>
<body>{body}</body>
</html>
"""
LINK = re.compile(r'href="([\w-]+\.xhtml)#([^"]*)"')


def name_of(path):
    return path.removesuffix(".html").replace("/", "-") + ".xhtml"


def xhtml(info, title, body):
    return PAGE.format(language=info["language"], title=html.escape(title), body=body)


def navigation(info, entries, pages):
    """The table of contents: parts, chapters and sections."""

    def item(path):
        page, name = pages[path], name_of(path)
        inner = "".join(
            f'<li><a href="{name}#{target}">{html.escape(title)}</a></li>'
            for title, target in page["sections"]
            if target in page["ids"]
        )
        below = f"<ol>{inner}</ol>" if inner else ""
        return f'<li><a href="{name}">{html.escape(page["title"])}</a>{below}</li>'

    rows, part, inside = [], None, []
    for caption, _, path in [*entries, (None, 0, None)]:
        if caption != part and part is not None:
            rows.append(f"<li><span>{html.escape(part)}</span><ol>{''.join(inside)}</ol></li>")
            inside = []
        part = caption
        if path is not None:
            (rows if caption is None else inside).append(item(path))
    body = f'<nav epub:type="toc" id="toc"><h1>Contents</h1><ol>{"".join(rows)}</ol></nav>'
    return xhtml(info, "Contents", body)


def package(info, files, order):
    """The package document: metadata, every file, and the order of reading."""
    modified = f"{info['date']}T00:00:00Z"
    identifier = uuid.uuid5(uuid.NAMESPACE_URL, f"{info['title']} {info['version']}")
    subjects = "".join(f"<dc:subject>{html.escape(s)}</dc:subject>" for s in info["subjects"])
    text = {k: html.escape(v) for k, v in info.items() if isinstance(v, str)}
    access = {
        "accessMode": ("textual", "visual"),
        "accessModeSufficient": ("textual,visual",),
        "accessibilityFeature": ("alternativeText", "MathML", "tableOfContents"),
        "accessibilityHazard": ("none",),
        "accessibilitySummary": ("Formulas are MathML, and figures have alternative text.",),
    }
    meta = "".join(
        f'<meta property="schema:{name}">{value}</meta>'
        for name, values in access.items()
        for value in values
    )

    def properties(name, data):
        found = {"nav.xhtml": "nav", "images/cover.png": "cover-image"}.get(name, "")
        if name.endswith(".xhtml") and b"<math" in data:
            found += " mathml"
        return f' properties="{found.strip()}"' if found else ""

    ids = {name: f"f{n}" for n, name in enumerate(files)}
    manifest = "".join(
        f'<item id="{ids[name]}" href="{name}" media-type="{TYPES[Path(name).suffix]}"'
        f"{properties(name, data)}/>"
        for name, data in files.items()
    )
    spine = "".join(f'<itemref idref="{ids[name]}"/>' for name in order)
    return f"""<?xml version="1.0" encoding="utf-8"?>
<package xmlns="http://www.idpf.org/2007/opf" version="3.0" unique-identifier="id"
  xml:lang="{text["language"]}">
<metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
<dc:identifier id="id">urn:uuid:{identifier}</dc:identifier>
<dc:title>{text["title"]}</dc:title><dc:language>{text["language"]}</dc:language>
<dc:creator>{text["author"]}</dc:creator><dc:date>{text["date"]}</dc:date>
<dc:rights>{text["rights"]}</dc:rights><dc:description>{text["description"]}</dc:description>
{subjects}<meta property="dcterms:modified">{modified}</meta>{meta}
</metadata><manifest>{manifest}</manifest><spine>{spine}</spine></package>
"""


CONTAINER = """<?xml version="1.0" encoding="utf-8"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container"><rootfiles>
<rootfile full-path="EPUB/book.opf" media-type="application/oebps-package+xml"/>
</rootfiles></container>
"""


def image(file):
    """An image's bytes; a drawing without its document type, and no path without data."""
    data = file.read_bytes()
    if file.suffix == ".svg":
        data = re.sub(rb"<!DOCTYPE[^>]*>", b"", data)
        data = re.sub(rb"<path (?![^>]*\bd=)", b'<path d="M0 0" ', data)  # the glyph of a space
    return data


def make(target, entries, browser):
    """Write the pages of ``pdf.contents()``, or some of them, to one EPUB."""
    info = pdf.about()
    names = {(pdf.BOOK / path).as_uri(): name_of(path) for _, _, path in entries}
    pages, files = {}, {}
    tab = browser.new_page(viewport={"width": 1200, "height": 1800})
    for _, _, path in tqdm(entries, "pages", unit="page"):
        tab.goto((pdf.BOOK / path).as_uri())
        tab.evaluate("() => window.MathJax?.startup?.promise")
        pages[path] = tab.evaluate(PREPARE, names)
    figure = (pdf.ROOT / "book/_static/frame.svg").read_text(encoding="utf-8")
    figure = figure[figure.index("<svg") :]
    words = {key: html.escape(str(value)) for key, value in info.items()}
    tab.set_content(COVER.format(**words, figure=figure))
    files["images/cover.png"] = tab.screenshot()
    tab.close()

    ids = {name_of(path): set(page["ids"]) for path, page in pages.items()}

    def existing(link):
        """A link to a place that the EPUB does not have leads to the page."""
        return link[0] if unquote(link[2]) in ids[link[1]] else f'href="{link[1]}"'

    files["epub.css"] = STYLE.read_bytes()
    files["title.xhtml"] = xhtml(info, info["title"], pdf.title(info)).encode()
    files["nav.xhtml"] = navigation(info, entries, pages).encode()
    for path, page in pages.items():
        for address in page["images"]:
            file = Path(unquote(urlparse(address).path))
            files[f"images/{file.name}"] = image(file)
        files[name_of(path)] = xhtml(info, page["title"], LINK.sub(existing, page["xml"])).encode()
    order = ["title.xhtml", "nav.xhtml", *map(name_of, pages)]
    target.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as out:
        out.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        out.writestr("META-INF/container.xml", CONTAINER)
        out.writestr("EPUB/book.opf", package(info, files, order))
        for name, data in files.items():
            out.writestr(f"EPUB/{name}", data)
    print(f"{target}: {len(pages)} pages, {target.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    pdf.main(make, "epub")
