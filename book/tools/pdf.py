"""The built book as one PDF: `python book/tools/pdf.py [FILE]`, `make pdf`.

Chromium prints every page of _build/html. They are joined in the order of the contents, with
an outline, page numbers, and links that lead to the page in the same file. Solutions, and answers
to the predictions, come last, in an appendix, with links there and back. Code that is folded in the
book is open.
"""

import html
import sys
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote, urldefrag

import yaml
from browser import launched
from bs4 import BeautifulSoup
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NumberObject
from tqdm import tqdm

ROOT = Path(__file__).parents[2]
BOOK = ROOT / "_build/html"
PAPER = {
    "format": "A4",
    "print_background": True,
    "margin": {"top": "18mm", "bottom": "20mm", "left": "18mm", "right": "18mm"},
}
BACK = "back:"  # without it Chromium would look for the place in what it prints
PREPARE = Path(__file__).with_suffix(".js").read_text(encoding="utf-8")


def about():
    """Title, authors, version and so on, from _config.yml and CITATION.cff."""
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return {
        "title": config["title"],
        "language": config["sphinx"]["config"]["language"],
        "author": ", ".join(author["name"] for author in citation["authors"]),
        "version": citation["version"],
        "date": str(citation["date-released"]),
        "description": citation["abstract"].strip(),
        "subjects": citation["keywords"],
        "rights": "Text and figures: CC BY 4.0. Code: MIT licence.",
    }


def contents():
    """The book's pages in order: (caption of the part or None, depth, path relative to BOOK)."""
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    yield (
        None,
        0,
        f"{toc['root']}.html" if (BOOK / f"{toc['root']}.html").exists() else "index.html",
    )
    for part in toc["parts"]:
        for chapter in part["chapters"]:
            yield part["caption"], 1, f"{chapter['file']}.html"
            for section in chapter.get("sections", ()):
                yield part["caption"], 2, f"{section['file']}.html"


class Part:
    """What was printed at once, and where it stands in the PDF."""

    def __init__(self, title, address):
        self.title = title
        self.address = address  # what links to it name, before their #
        self.first = None  # index of its first sheet
        self.places = {}  # id -> (sheet, left, top)


class Page(Part):
    """A page of the book."""

    def __init__(self, path):
        self.path = BOOK / path
        self.soup = BeautifulSoup(self.path.read_text(encoding="utf-8"), "html.parser")
        article = self.soup.select_one("article.bd-article")
        for mark in article.select("a.headerlink"):
            mark.decompose()
        super().__init__(article.h1.get_text().strip(), self.path.as_uri())
        self.sections = [
            (h.get_text().strip(), h.parent.get("id")) for h in article.select("section > h2")
        ]
        self.links = {
            unquote(target).removeprefix("#")
            for a in article.select("a[href]")
            if (target := urldefrag(a["href"]).fragment)
        }
        self.appendix = Part(self.title, f"appendix:{path}")

    def targets(self, wanted):
        """Ids of this page that something leads to."""
        own = {tag["id"] for tag in self.soup.select("[id]")}
        return sorted(own & (wanted | {i for _, i in self.sections if i}))


def printed(tab, path, prepare=None):
    """A PDF of a page, and what the preparation returned."""
    tab.goto(path.as_uri())
    tab.evaluate("() => window.MathJax?.startup?.promise")
    result = tab.evaluate(PREPARE, prepare) if prepare else None
    tab.evaluate("() => Promise.all([...document.images].map(i => i.decode().catch(() => 0)))")
    return tab.pdf(**PAPER), result


def reader(data):
    return PdfReader(BytesIO(data))


def add(writer, data, part=None):
    """Append a PDF; the part remembers where its ids are."""
    first, source = len(writer.pages), reader(data)
    writer.append(source, import_outline=False)
    places = {
        unquote(name.lstrip("/")): (first + source.get_destination_page_number(d), d.left, d.top)
        for name, d in source.named_destinations.items()
    }
    if part is not None:
        part.first, part.places = first, places
    for sheet in writer.pages[first:]:
        for note in sheet.get("/Annots") or ():
            note = note.get_object()
            name = note.get("/Dest") or (note.get("/A") or {}).get("/D")
            if isinstance(name, str):
                go(writer, note, places.get(unquote(name.lstrip("/"))))


def go(writer, note, place):
    """Let a link lead to (sheet, left, top), or nowhere."""
    for key in ("/A", "/Dest"):
        note.pop(NameObject(key), None)
    if place is not None:
        sheet, left, top = place
        note[NameObject("/Dest")] = ArrayObject(
            [writer.pages[sheet].indirect_reference, NameObject("/XYZ")]
            + [FloatObject(left or 0), FloatObject(top or 0), NumberObject(0)]
        )


def lead_inside(writer, parts):
    """Links to the parts lead to their places in this PDF."""
    known = {part.address: part for part in parts}
    for sheet in writer.pages:
        for note in sheet.get("/Annots") or ():
            note = note.get_object()
            target = str((note.get("/A") or {}).get("/URI", ""))
            file, fragment = urldefrag(target.removeprefix(BACK))
            if file in known:
                part = known[file]
                start = (part.first, 0, float(writer.pages[part.first].mediabox.top))
                go(writer, note, part.places.get(unquote(fragment), start))
            elif target.startswith("file:"):
                go(writer, note, None)  # a download, or a page that is not in the contents


def outline(writer, order, appendix):
    """Parts, chapters and sections."""
    parents = {}
    for (caption, depth, _), page in order:
        if caption is not None and caption not in parents:
            parents[caption] = writer.add_outline_item(
                title=caption, page_number=page.first, bold=True
            )
        parent = None if depth == 0 else parents[caption]
        item = writer.add_outline_item(title=page.title, page_number=page.first, parent=parent)
        for title, target in page.sections:
            sheet = page.places.get(target, (page.first,))[0]
            writer.add_outline_item(title=title, page_number=sheet, parent=item)
    if appendix:
        top = writer.add_outline_item(title="Appendix", page_number=appendix[0].first, bold=True)
        for part in appendix:
            writer.add_outline_item(title=part.title, page_number=part.first, parent=top)


def contents_page(order, appendix, shift):
    """HTML of the table of contents; ``shift`` sheets are before the first page."""
    rows = []
    seen = None
    for (caption, depth, _), page in order:
        if caption != seen and caption:
            rows.append(f"<h2>{html.escape(caption)}</h2>")
            seen = caption
        rows.append(_row(page.title, page.first + 1 + shift, depth))
    if appendix:
        rows.append("<h2>Appendix: solutions, and code of the figures</h2>")
        rows += [_row(part.title, part.first + 1 + shift, 1) for part in appendix]
    style = (
        "body{font:10pt sans-serif}h1{font-size:20pt}h2{font-size:11pt;margin:.8em 0 .2em}"
        "p{display:flex;margin:.1em 0}p span:first-child{flex:1;border-bottom:1px dotted #999}"
    )
    return f"<style>{style}</style><h1>Contents</h1>{''.join(rows)}"


def title(info):
    """HTML of what a title page says."""
    lines = (info["author"], f"Version {info['version']}, {info['date']}", info["rights"])
    text = "".join(f"<p>{html.escape(line)}</p>" for line in lines)
    return f"<h1>{html.escape(info['title'])}</h1>{text}"


def title_page(info):
    """HTML of the first sheet."""
    style = (
        "body{font:12pt sans-serif;text-align:center}h1{font-size:32pt;margin:70mm 0 15mm}"
        "p{margin:.4em 0}p:last-child{margin-top:90mm;font-size:10pt}"
    )
    return f"<style>{style}</style>{title(info)}"


def _row(title, number, depth):
    indent = max(0, depth - 1) * 1.5
    return (
        f'<p style="padding-left:{indent}em"><span>{html.escape(title)}</span>'
        f"<span>{number}</span></p>"
    )


def numbers(tab, count):
    """A PDF of empty sheets that bear their numbers."""
    style = (
        "@page{margin:0;size:A4}body{margin:0}div{height:296.9mm;position:relative;"
        "break-after:page}span{position:absolute;bottom:9mm;width:100%;text-align:center;"
        "font:9pt sans-serif;color:#444}"
    )
    sheets = "".join(f"<div><span>{n}</span></div>" for n in range(1, count + 1))
    tab.set_content(f"<style>{style}</style>{sheets}")
    return reader(tab.pdf(prefer_css_page_size=True))


def make(target, entries, browser):
    """Write the pages of ``contents()``, or some of them, to one PDF."""
    pages = [Page(path) for _, _, path in entries]
    order = list(zip(entries, pages, strict=True))
    wanted = set().union(*(page.links for page in pages))
    body, appendix = PdfWriter(), []
    tab = browser.new_page()
    tab.emulate_media(media="print", color_scheme="light")
    info = about()
    tab.set_content(title_page(info))
    add(body, tab.pdf(**PAPER))
    for page in tqdm(pages, "pages", unit="page"):
        prepare = ["page", page.targets(wanted), page.appendix.address]
        data, moved = printed(tab, page.path, prepare)
        add(body, data, page)
        if moved:
            appendix.append(page)
    for page in tqdm(appendix, "appendix", unit="page"):
        data, _ = printed(tab, page.path, ["appendix", [], BACK + page.address])
        add(body, data, page.appendix)
    appendix = [page.appendix for page in appendix]
    lead_inside(body, pages + appendix)
    outline(body, order, appendix)

    def listing(shift):
        tab.set_content(contents_page(order[1:], appendix, shift))
        return reader(tab.pdf(**PAPER))

    after_front = pages[1].first if len(pages) > 1 else len(body.pages)
    for n, sheet in enumerate(listing(len(listing(0).pages)).pages):
        body.insert_page(sheet, after_front + n)
    for sheet, stamp in zip(body.pages, numbers(tab, len(body.pages)).pages, strict=True):
        sheet.merge_page(stamp)
    tab.close()
    body.add_metadata({"/Title": info["title"], "/Author": info["author"]})
    body.compress_identical_objects()
    target.parent.mkdir(parents=True, exist_ok=True)
    body.write(target)
    print(f"{target}: {len(body.pages)} pages, {target.stat().st_size / 1e6:.1f} MB")


def main(make=make, kind="pdf"):
    """Write the book to the file that the command line names; epub.py comes here too."""
    if not (BOOK / "index.html").exists():
        sys.exit("the book is not built: run `make html` first")
    target = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / f"dist/book.{kind}").resolve()
    with launched() as browser:
        make(target, list(contents()), browser)


if __name__ == "__main__":
    main()
