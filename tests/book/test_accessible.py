"""No page breaks a rule of WCAG 2.2 A or AA that axe-core knows, and focus can be seen."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import pages

RULES = {
    "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]},
    # The assistive copy of a formula lies under its drawing, and test_browser measures contrast.
    "rules": {
        "color-contrast": {"enabled": False},
        # axe leaves these out as long as it calls them experimental
        "label-content-name-mismatch": {"enabled": True},
        "td-has-header": {"enabled": True},
    },
}
MODES = {
    f"{width} pixels, {colours}": {
        "viewport": {"width": width, "height": 900},
        "color_scheme": colours,
    }
    for width in (1366, 375, 320)
    for colours in ("light", "dark")
}
# Each page is seen in two of the six, page after page in other ones; `make measure` opens all.
PAIRS = (
    ("1366 pixels, light", "320 pixels, dark"),
    ("375 pixels, light", "1366 pixels, dark"),
    ("320 pixels, light", "375 pixels, dark"),
)


def opened(context, address):
    page = context.new_page()
    page.goto(address)
    page.wait_for_load_state("networkidle")
    page.evaluate("window.MathJax?.startup?.promise.then(() => new Promise(requestAnimationFrame))")
    return page


def violations(page):
    found = Axe().run(page, options=RULES).response["violations"]
    return [f"{v['id']}: {node['html'][:150]}" for v in found for node in v["nodes"]]


@pytest.fixture(scope="session")
def windows(browser):
    return {mode: browser.new_context(**options) for mode, options in MODES.items()}


@pytest.mark.parametrize("which", [0, 1])
def test_no_violation(windows, book, url, page_name, which):
    if "_modules" in page_name and which:
        return  # one template: seen once
    mode = PAIRS[pages(book).index(page_name) % len(PAIRS)][which]
    page = opened(windows[mode], f"{url}/{page_name}")
    found = violations(page)
    page.close()
    assert not found, "\n".join(found[:10])


def test_a_violation_is_seen(windows, url):
    page = opened(windows["1366 pixels, light"], f"{url}/book/glossary.html")
    page.evaluate("document.querySelector('.bd-article').innerHTML += '<button></button>'")
    assert any("button-name" in line for line in violations(page))
    page.close()


def test_only_wide_formulas_take_the_focus(windows, url):
    page = opened(windows["320 pixels, dark"], f"{url}/notebooks/squeeze_excitation.html")
    wrong = page.evaluate("""[...document.querySelectorAll('.bd-article [tabindex="0"]')]
        .filter((e) => e.matches('span.math, div.math') && e.scrollWidth <= e.clientWidth + 1)
        .map((e) => e.textContent.slice(0, 60))""")
    inline = page.locator("span.math[tabindex]").count()
    page.close()
    assert not wrong and inline < 10


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("book/glossary", "1366 pixels, light"),
        ("notebooks/cost", "375 pixels, dark"),
        ("book/playground", "1366 pixels, dark"),
    ],
)
def test_focus_can_be_seen(windows, url, name, mode):
    """Every stop of the Tab key changes pixels."""
    page = opened(windows[mode], f"{url}/{name}.html")
    stops = 0
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate_handle("document.activeElement").as_element()
        box = focused.bounding_box() if focused else None
        if not box or not page.evaluate("document.activeElement !== document.body"):
            continue
        focused.scroll_into_view_if_needed()
        box = focused.bounding_box()
        clip = {"x": max(0, box["x"] - 6), "y": max(0, box["y"] - 6)}
        clip |= {"width": min(box["width"], 400) + 12, "height": min(box["height"], 200) + 12}
        before = page.screenshot(clip=clip, caret="initial")
        what = focused.evaluate("(e) => e.outerHTML.slice(0, 120)")
        focused.evaluate("(e) => e.blur()")
        after = page.screenshot(clip=clip, caret="initial")
        focused.evaluate("(e) => e.focus({focusVisible: true})")
        assert before != after, what
        stops += 1
    page.close()
    assert stops > 20
