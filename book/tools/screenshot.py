"""Take README's picture of the book: `python book/tools/screenshot.py`, `make front`.

The entries of the navigation that it shows are stored in the picture, so that a test can compare
them with the book.
"""

import json
import sys
from io import BytesIO
from pathlib import Path

from browser import launched
from PIL import Image, PngImagePlugin

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "_build/html/notebooks/squeeze_excitation.html"
PICTURE = ROOT / "book/_static/screenshot.png"
ENTRIES = ".bd-sidebar-primary .bd-links :is(p.caption, li.toctree-l1 > a)"
KEY = "navigation"  # of the text in the picture
SIZE = {"width": 1280, "height": 1000}


def main(picture=PICTURE):
    if not PAGE.exists():
        sys.exit("the book is not built: run `make html` first")
    with launched() as browser:
        tab = browser.new_page(viewport=SIZE, color_scheme="light")
        tab.goto(PAGE.as_uri())
        tab.evaluate("() => window.MathJax?.startup?.promise")
        tab.evaluate("document.getElementById('the-idea').scrollIntoView()")
        tab.wait_for_load_state("networkidle")
        entries = tab.locator(ENTRIES).all_inner_texts()
        shot = Image.open(BytesIO(tab.screenshot()))
    about = PngImagePlugin.PngInfo()
    about.add_itxt(KEY, json.dumps([" ".join(entry.split()) for entry in entries]))
    colours = shot.convert("RGB").quantize(256, dither=Image.Dither.NONE)
    colours.save(picture, optimize=True, pnginfo=about)


if __name__ == "__main__":
    main()
