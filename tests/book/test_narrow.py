"""On a narrow screen an edge fades while something is hidden behind it."""

import pytest

PHONE = {"width": 375, "height": 800}
CUT = "(box) => [box.classList.contains('more-left'), box.classList.contains('more-right')]"


@pytest.fixture
def page(browser, url):
    page = browser.new_page(viewport=PHONE)
    page.goto(f"{url}/notebooks/squeeze_excitation.html")
    page.wait_for_load_state("networkidle")
    page.evaluate("window.MathJax.startup.promise.then(() => new Promise(requestAnimationFrame))")
    yield page
    page.close()


def test_an_edge_fades_only_while_something_is_hidden(page):
    for kind in ("pre", "div.math", ".pst-scrollable-table-container, .text_html"):
        boxes = page.locator(f".bd-article :is({kind})[role=group]:visible")
        assert boxes.count(), kind
        box = boxes.first.element_handle()
        assert box.evaluate(CUT) == [False, True]
        assert box.evaluate("(box) => getComputedStyle(box).maskImage") != "none"
        box.evaluate("(box) => { box.scrollLeft = 1e6; }")
        page.wait_for_timeout(100)
        assert box.evaluate(CUT) == [True, False]
    page.set_viewport_size({"width": 2400, "height": 800})
    page.wait_for_timeout(200)
    assert not page.locator(".bd-article div.math:is(.more-left, .more-right):visible").count()
