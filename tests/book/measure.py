"""Print a table of what the built book weighs, breaks and lacks: `make measure`.

The tests next door say what may not happen, and this says where the book stands. It opens every
page at three widths and in both colours, which takes about twenty minutes; names of pages, such as
``cost glossary``, choose some.
"""

import re
import sys
from collections import Counter
from pathlib import Path

from bs4 import BeautifulSoup
from conftest import BOOK, FLAGS, pages, program, serve
from test_accessible import opened, violations
from test_browser import MODES, look
from test_light import weigh
from test_search import results
from tqdm import tqdm

WIDTHS, COLOURS = (1366, 375, 320), ("light", "dark")
SHEET = 658  # pixels of an A4 sheet between its margins
CHAPTER = "notebooks/squeeze_excitation.html"

WRONG = """() => {
    const article = document.querySelector(".bd-article") ?? document.body;
    const hint = (e) => e.matches(".more-left, .more-right");
    const wide = (e) => e.scrollWidth > e.clientWidth + 1;
    return {
        sideways: document.documentElement.scrollWidth - document.documentElement.clientWidth,
        length: document.documentElement.scrollHeight,
        unhinted: [...article.querySelectorAll("div.math, pre, .pst-scrollable-table-container")]
            .filter((e) => e.checkVisibility() && wide(e) && !hint(e)).length,
        silent: [...document.images].filter((e) => !e.hasAttribute("alt")).length,
    };
}"""
STOPS = """() => {
    const all = [...document.querySelectorAll("a[href], button, input, summary, [tabindex='0']")]
        .filter((e) => e.checkVisibility({ visibilityProperty: true }) && e.tabIndex >= 0);
    return [all.length, all.filter((e) => e.matches("span.math")).length];
}"""
CUT = """() => {
    const article = document.querySelector("article.bd-article");
    const edge = article.getBoundingClientRect().right + 2;
    const shown = (e) => e.checkVisibility();
    return {
        code: [...article.querySelectorAll("pre")].filter(shown)
            .filter((e) => e.scrollWidth > e.clientWidth + 1 ||
                           e.getBoundingClientRect().right > edge).length,
        folded: article.querySelectorAll("details:not([open])").length,
        dark: document.documentElement.dataset.theme === "dark",
    };
}"""


def span(numbers, unit=""):
    """ "3 to 7 px" of a list of numbers."""
    if not numbers:
        return "none"
    low, high = min(numbers), max(numbers)
    return f"{low:,} to {high:,}{unit}" if low != high else f"{low:,}{unit}"


def in_windows(browser, url, names):
    """Rows of what is counted on every page, at every width and in both colours."""
    nodes, sideways, lengths, unhinted, silent = {}, {}, {}, {}, 0
    for width in WIDTHS:
        for colour in COLOURS:
            window = browser.new_context(
                viewport={"width": width, "height": 900}, color_scheme=colour
            )
            nodes[width, colour] = Counter()
            for name in tqdm(names, desc=f"{width} px, {colour}"):
                page = opened(window, f"{url}/{name}")
                found = page.evaluate(WRONG)
                nodes[width, colour].update(line.split(":")[0] for line in violations(page))
                page.close()
                if colour == "light":
                    sideways[width, name] = found["sideways"]
                    lengths[width, name] = found["length"]
                    unhinted[width, name] = found["unhinted"]
                    silent += found["silent"] if width == WIDTHS[0] else 0
            window.close()
    for (width, colour), counts in nodes.items():
        said = ", ".join(f"{rule} {n}" for rule, n in counts.most_common())
        yield f"axe, WCAG 2.2 A and AA, {width} px, {colour}", said or 0
    yield "images without alternative text", silent
    for width in WIDTHS:
        of = {name: n for (w, name), n in sideways.items() if w == width and n > 0}
        yield f"pages that scroll sideways at {width} px", of or 0
        hidden = {name: n for (w, name), n in unhinted.items() if w == width and n}
        yield f"wide boxes without a hint at {width} px", hidden or 0
        chapters = [n for (w, name), n in lengths.items() if w == width and "notebooks/" in name]
        yield f"length of a chapter at {width} px", span(chapters, " px")


def problems(browser, url, names):
    """Rows of test_browser: requests elsewhere, errors, contrast, equations."""
    counts = Counter()
    for mode, options in MODES.items():
        window = browser.new_context(**options)
        for name in tqdm(names, desc=f"pages, {mode}"):
            counts.update(
                re.match(r"[\w ]+", p).group() for p in look(window, mode, f"{url}/{name}")
            )
        window.close()
    yield "requests to other hosts, errors, contrast, equations", dict(counts) or 0


def kind(name):
    if name == "book/index.html":
        return "index"
    if name.startswith("notebooks/"):
        return "chapters"
    return "reference" if "/api/" in name else "others"


def weights(browser, url, names):
    """Rows of bytes that a page loads in all, before any compression."""
    kinds = {"index": [], "chapters": [], "reference": [], "others": []}
    for name in tqdm(names, desc="weights"):
        kinds[kind(name)].append(sum(weigh(browser, f"{url}/{name}")[0].values()))
    for what, found in kinds.items():
        yield f"bytes of a page, {what}", span([round(n / 1000) for n in found], " kB")


def keyboard(browser, url):
    """Rows of the Tab key: where it stops, and where nothing on the screen changes."""
    window = browser.new_context(viewport={"width": 375, "height": 800})
    page = opened(window, f"{url}/{CHAPTER}")
    stops, formulas = page.evaluate(STOPS)
    yield "Tab stops of Squeeze-and-Excitation at 375 px", f"{stops}, formulas {formulas}"
    window.close()
    window = browser.new_context(viewport={"width": 1366, "height": 900})
    page = opened(window, f"{url}/{CHAPTER}")
    unseen, seen = [], 0
    for _ in range(60):
        page.keyboard.press("Tab")
        page.wait_for_timeout(50)
        focused = page.evaluate_handle("document.activeElement").as_element()
        if page.evaluate("document.activeElement === document.body"):
            continue
        with_focus = page.screenshot(caret="initial")
        focused.evaluate("(e) => e.blur()")
        without = page.screenshot(caret="initial")
        focused.evaluate("(e) => e.focus({ focusVisible: true })")
        seen += 1
        if with_focus == without:
            unseen.append(focused.evaluate("(e) => e.outerHTML.slice(0, 80)"))
    window.close()
    yield f"of {seen} stops at 1366 px, without a change of pixels", unseen or 0


def on_paper(browser, names):
    """Rows of printing, begun in dark mode."""
    cut, folded, dark = {}, 0, 0
    for name in tqdm([n for n in names if n.startswith("notebooks/")], desc="paper"):
        page = browser.new_page(viewport={"width": SHEET, "height": 900})
        page.emulate_media(media="print", color_scheme="dark")
        page.goto((BOOK / name).as_uri())
        page.evaluate("() => window.MathJax?.startup?.promise")
        page.evaluate("() => window.dispatchEvent(new Event('beforeprint'))")
        found = page.evaluate(CUT)
        page.close()
        folded, dark = folded + found["folded"], dark + found["dark"]
        if found["code"]:
            cut[name] = found["code"]
    yield "code blocks cut off on A4", cut or 0
    yield "folded solutions on A4", folded
    yield "dark pages on A4", dark


def searches(browser, url):
    """Rows of a search for "squeeze", over http and from files."""
    for scheme, start in (("http", url), ("file", BOOK.as_uri())):
        found = results(browser, f"{start}/search.html?q=squeeze")
        bare = sum(not described and len(text) < 20 for _, described, text, _ in found)
        yield f"search for squeeze, {scheme}", f"{found[0][0]} first; {bare} without a summary"


def absent(names):
    """Rows of what a page or the book should have."""
    lacks = Counter()
    selectors = {
        "description": "meta[name=description]",
        "OpenGraph": "meta[property='og:title']",
        "canonical address": "link[rel=canonical]",
        "one viewport": "meta[name=viewport]",
        "link to the index": "a[href*=genindex]",
    }
    chapters = [n for n in names if n.startswith("notebooks/")]
    for name in chapters:
        page = BeautifulSoup((BOOK / name).read_text(encoding="utf-8"), "html.parser")
        for what, selector in selectors.items():
            found = len(page.select(selector))
            lacks[what] += found != 1 if what == "one viewport" else not found
        lacks["citation"] += not page.select("meta[name=citation_title]")
        lacks["date and version"] += not re.search(r"Version \S+\s+of", page.get_text())
        lacks["edit or issue link"] += not page.select("a[href*='/issues'], a[href*='/edit/']")
    yield f"of {len(chapters)} chapters, without", {k: n for k, n in lacks.items() if n} or 0
    wanted = {
        "404.html": "404 page",
        "sitemap.xml": "sitemap",
        "book/glossary.html": "glossary",
        "book/exercises.html": "list of exercises",
        "genindex.html": "index",
    }
    yield "the book lacks", [w for p, w in wanted.items() if not (BOOK / p).exists()] or "nothing"


def main():
    from playwright.sync_api import sync_playwright

    # the first page only leads to another one
    names = [n for n in pages(BOOK) if "_modules" not in n and n != "index.html"]
    names = [n for n in names if not sys.argv[1:] or Path(n).stem in sys.argv[1:]]
    server, url = serve(BOOK)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program(), args=FLAGS)
        print(f"| {len(names)} pages | measured |\n|:--|:--|")
        for rows in (
            problems(browser, url, names),
            in_windows(browser, url, names),
            keyboard(browser, url),
            weights(browser, url, names),
            on_paper(browser, names),
            searches(browser, url),
            absent(names),
        ):
            for what, found in rows:
                print(f"| {what} | {found} |", flush=True)
        browser.close()
    server.shutdown()


if __name__ == "__main__":
    main()
