"""On a narrow screen an edge fades while something is hidden behind it, and figures open larger."""

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
    # A window that was very narrow leaves nothing behind.
    page.set_viewport_size({"width": 100, "height": 800})
    page.wait_for_timeout(200)
    assert page.locator(".bd-article span.math.more-right").count()
    page.set_viewport_size({"width": 2400, "height": 800})
    page.wait_for_timeout(200)
    assert not page.locator(".bd-article .math:is(.more-left, .more-right):visible").count()
    assert not page.locator(".bd-article span.math[role=group]").count()


def test_a_figure_opens_in_a_larger_view(page):
    link = page.locator(".bd-article a.image-reference:visible").first
    small = link.locator("img").bounding_box()
    where = page.url
    link.scroll_into_view_if_needed()
    link.click()
    view = page.locator("dialog.larger[open]")
    large = view.locator("img")
    large.evaluate("(image) => image.decode()")
    assert page.url == where
    assert large.bounding_box()["width"] >= 1.6 * small["width"]
    assert large.get_attribute("alt") == link.locator("img").get_attribute("alt")
    box = view.locator("div")
    assert box.evaluate("(e) => e.scrollWidth > e.clientWidth && e.clientHeight > 500")
    assert page.evaluate("document.activeElement.textContent") == "Close"
    page.keyboard.press("Escape")
    assert view.count() == 0
    assert link.evaluate("(e) => e === document.activeElement")
    link.press("Enter")  # the keyboard opens it, too
    view.locator("button").click()
    assert view.count() == 0 and page.url == where
    page.set_viewport_size({"width": 1366, "height": 800})
    link.click()
    page.wait_for_url("**/_images/*")
