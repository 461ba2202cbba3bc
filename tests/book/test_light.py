"""What a page loads, in bytes as they are before any compression, and whether it jumps."""

import re

import pytest
from bs4 import BeautifulSoup
from conftest import ROOT, pages, serve

CHAPTERS = [f"notebooks/{path.stem}.html" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))]
ALL, FIRST_VIEW, JUMPS = 2_500_000, 600_000, 0.05
SHIFTS = """window.jumps = 0; new PerformanceObserver(
    (list) => list.getEntries().forEach((shift) => (window.jumps += shift.value))
).observe({ type: "layout-shift", buffered: true });"""
FORMULA = re.compile(r'<(span|div) class="[^"]*\bmath ')


def before_first_view(page):
    """Files that a browser fetches before it draws a page: styles, scripts, what is preloaded."""
    soup = BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")
    links = soup.find_all("link", rel=["stylesheet", "preload"])
    scripts = [tag for tag in soup.head.find_all("script", src=True) if not tag.has_attr("defer")]
    images = [tag for tag in soup.find_all("img", src=True) if tag.get("loading") != "lazy"]
    addresses = [tag["href"] for tag in links] + [tag["src"] for tag in scripts + images]
    return {page} | {(page.parent / re.split("[?#]", name)[0]).resolve() for name in addresses}


def weigh(browser, address, width=375):
    """Bytes of everything that a page loads when it is read to its end; how far it jumps."""
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.add_init_script(SHIFTS)
    loaded = {}
    page.on("response", lambda response: loaded.setdefault(response.url, response))
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.evaluate("window.MathJax?.startup?.promise")
    page.wait_for_timeout(300)
    jumps = page.evaluate("window.jumps")
    page.evaluate("""async () => {
        for (const image of document.images) {
            if (!image.checkVisibility()) continue;
            image.scrollIntoView();
            if (!image.complete) await new Promise((done) => (image.onload = image.onerror = done));
        }}""")
    sizes = {url: len(response.body()) for url, response in loaded.items() if response.ok}
    context.close()
    return sizes, jumps


@pytest.mark.parametrize("chapter", CHAPTERS)
def test_the_first_view_needs_little(book, chapter):
    first = {path.name: path.stat().st_size for path in before_first_view(book / chapter)}
    assert sum(first.values()) <= FIRST_VIEW, first


def own_weight(book, chapter):
    """Bytes of a chapter's page and of its figures."""
    page = book / chapter
    images = set(re.findall(r'src="\.\./(_images/[^"]+)"', page.read_text(encoding="utf-8")))
    return sum((book / path).stat().st_size for path in images) + page.stat().st_size


def test_the_heaviest_chapters_are_light_and_stand_still(browser, book, url):
    for chapter in sorted(CHAPTERS, key=lambda name: own_weight(book, name))[-3:]:
        sizes, jumps = weigh(browser, f"{url}/{chapter}")
        assert sum(sizes.values()) <= ALL, sizes
        assert any(address.endswith(".png") for address in sizes)  # the images came
        assert jumps <= JUMPS, chapter


def test_a_heavy_page_that_jumps_is_seen(browser, tmp_path):
    (tmp_path / "big.css").write_bytes(b" " * FIRST_VIEW)
    (tmp_path / "big.png").write_bytes(b" " * ALL)
    (tmp_path / "page.html").write_text(
        '<head><link rel="stylesheet" href="big.css">'
        '<script defer src="later.js"></script></head>'
        '<h1>text text text</h1><p style="font-size: 80px">more text</p>'
        '<p style="margin-top: 3000px"><img loading="lazy" src="big.png">'
        "<script>setTimeout(() => (document.body.style.paddingTop = '500px'), 200)</script>"
    )
    assert {path.name for path in before_first_view(tmp_path / "page.html")} == {
        "page.html",
        "big.css",
    }
    server, address = serve(tmp_path)
    sizes, jumps = weigh(browser, f"{address}/page.html")
    server.shutdown()
    assert sum(sizes.values()) > ALL + FIRST_VIEW
    assert jumps > JUMPS


def test_each_page_loads_what_it_needs(book):
    for name in pages(book):
        text = (book / name).read_text(encoding="utf-8")
        assert ("mathjax/" in text) == bool(FORMULA.search(text)), name
        assert "js/all.min.js" not in text, name
        if "http-equiv" not in text:
            assert text.count('name="viewport"') == 1, name


def test_styles_have_what_pages_use(book):
    """A class that the theme's own style sheet knows and a page uses keeps its rules."""
    import pydata_sphinx_theme

    theme = ROOT.joinpath(pydata_sphinx_theme.__file__).parent / "theme/pydata_sphinx_theme/static"
    known = re.compile(r"\.([a-zA-Z][\w-]*)")
    used = set()
    for name in pages(book):
        for classes in re.findall(r'class="([^"]*)"', (book / name).read_text(encoding="utf-8")):
            used |= set(classes.split())
    for style in ("styles/bootstrap.css", "styles/pydata-sphinx-theme.css"):
        whole = (theme / style).read_text(encoding="utf-8")
        kept = (book / "_static" / style).read_text(encoding="utf-8")
        lost = used & set(known.findall(whole)) - set(known.findall(kept))
        # these stand in selectors beside classes that no page has
        assert not lost - {"collapsed", "nav-item", "bd-footer-content", "label"}
        assert len(kept) < 0.7 * len(whole)
