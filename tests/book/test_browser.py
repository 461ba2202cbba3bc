"""Every page in headless Chromium: equations, requests, width of a phone, dark mode, contrast."""

from pathlib import Path
from urllib.parse import urlsplit

import pytest
from conftest import BOOK, serve

DESKTOP = {"width": 1280, "height": 900}
PHONE = {"width": 390, "height": 844}
MODES = {
    "light": {"viewport": DESKTOP, "color_scheme": "light"},
    "dark": {"viewport": DESKTOP, "color_scheme": "dark"},
    "phone": {"viewport": PHONE, "color_scheme": "light"},
}

# What is wrong in the page as the reader sees it; each line of the result is one problem.
INSPECT = (Path(__file__).parent / "inspect_page.js").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def contexts(browser):
    """A browser window for each mode; its pages share a cache."""
    return {mode: browser.new_context(**options) for mode, options in MODES.items()}


def look(context, mode, address):
    """Open a page and return what is wrong with it."""
    page = context.new_page()
    problems = []
    host = urlsplit(address).netloc

    def request(request):
        if urlsplit(request.url).netloc not in (host, "") or request.url.startswith("file:"):
            problems.append(f"request to {request.url}")

    page.on("request", request)
    page.on("requestfailed", lambda r: problems.append(f"failed: {r.url} ({r.failure})"))
    page.on("response", lambda r: r.status >= 400 and problems.append(f"{r.status}: {r.url}"))
    page.on("pageerror", lambda error: problems.append(f"script error: {error}"))
    page.on("console", lambda m: m.type == "error" and problems.append(f"console: {m.text}"))
    page.goto(address, wait_until="load")
    page.wait_for_load_state("networkidle")
    problems += page.evaluate(INSPECT)
    theme = page.evaluate("document.documentElement.dataset.theme")
    if theme is not None and theme != MODES[mode]["color_scheme"]:
        problems.append(f"theme {theme} in mode {mode}")
    page.close()
    return problems


@pytest.mark.parametrize("mode", MODES)
def test_page(contexts, url, page_name, mode):
    problems = look(contexts[mode], mode, f"{url}/{page_name}")
    assert not problems, "\n".join(problems)


def test_search_works_without_a_network(browser, url):
    page = browser.new_page()
    page.goto(f"{url}/search.html?q=gate")
    page.wait_for_selector("#search-results li a", timeout=10_000)
    page.close()


def test_pages_opened_as_files_show_equations(browser, book):
    page = browser.new_page()
    page.goto((book / "book" / "notation.html").as_uri())
    page.evaluate("MathJax.startup.promise.then(() => document.fonts.ready)")
    assert page.locator("mjx-container").count()
    assert page.evaluate(
        "[...document.fonts].some((f) => f.family.startsWith('MJXTEX') && f.status === 'loaded')"
    )
    page.close()


BROKEN = """<!doctype html><html><body><article class="bd-article">
<script>
window.MathJax = {loader: {load: ["input/tex", "output/chtml", "a11y/assistive-mml"]}};
</script>
<script defer src="mathjax/startup.js"></script>
<div class="math">\\[ x^ \\]</div>
<div class="math">\\[ \\nosuchcommand x \\]</div>
<div class="math">x without delimiters</div>
<p>A <span class="math" style="display: inline-flex; overflow: auto hidden">\\(b\\)</span> here.</p>
<div class="math"><span class="eqno">(1)</span>\\begin{align}x \\tag{A-1}\\end{align}</div>
<p>An equation outside: \\frac{1}{2} and $a_b$</p>
<p>.. py:module:: attn_lib</p>
<p style="width: 2000px">wide</p>
<p style="color: #bbb">pale</p>
<img src="gone.png" alt="gone"><img src="http://127.0.0.2:9/x.png" alt="elsewhere">
<script>nosuchfunction()</script>
</article></body></html>"""


def test_a_broken_page_is_refused(contexts, tmp_path):
    (tmp_path / "mathjax").symlink_to(BOOK / "_static" / "mathjax")
    (tmp_path / "page.html").write_text(BROKEN)
    server, address = serve(tmp_path)
    problems = "\n".join(look(contexts["phone"], "phone", f"{address}/page.html"))
    server.shutdown()
    for expected in (
        "equation with an error",
        "unknown TeX command",
        "equation not rendered: x without",
        "equation with two numbers",
        "a scroll bar under a formula that has room",
        "raw markup: .. py:module::",
        "raw TeX: An equation outside",
        "page scrolls sideways",
        "wider than the page",
        "contrast 1.9",
        "404: ",
        "request to http://127.0.0.2:9/x.png",
        "failed: http://127.0.0.2:9/x.png",
        "script error: nosuchfunction is not defined",
    ):
        assert expected in problems, f"not noticed: {expected}\n{problems}"
