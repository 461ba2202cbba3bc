"""Every chapter becomes a deck whose slides are seen whole, without a request to anybody."""

import nbformat
import pytest
import slides  # book/tools/slides.py
from conftest import ROOT, serve

CHAPTERS = sorted(path.stem for path in (ROOT / "notebooks").glob("*.ipynb"))


@pytest.fixture(scope="module")
def decks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("slides")
    slides.write(folder)
    server, url = serve(folder)
    yield url
    server.shutdown()


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_slide_is_seen_whole(decks, browser, name):
    page = browser.new_page(viewport={"width": 1100, "height": 700})
    problems, asked = [], []
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{decks}/{name}.html")
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    for number in range(page.evaluate("Reveal.getTotalSlides()")):
        page.evaluate("n => Reveal.slide(n)", number)
        height, width, broken = page.evaluate(
            """() => {
                const slide = Reveal.getCurrentSlide();
                const shown = [...slide.children].filter(e => !e.matches("aside"));
                return [Math.max(...shown.map(e => e.offsetTop + e.offsetHeight)),
                        slide.scrollWidth,
                        slide.querySelectorAll("mjx-merror").length];
            }"""
        )
        if height > 700 or width > 1100 or broken:
            problems.append(f"slide {number}: {width} x {height}, {broken} broken formulas")
    page.close()
    assert not problems
    assert all(url.startswith((decks, "data:")) for url in asked)


@pytest.mark.parametrize("name", CHAPTERS)
def test_every_figure_and_table_before_the_exercises_is_on_a_slide(name):
    nb = nbformat.read(ROOT / "notebooks" / f"{name}.ipynb", 4)
    cells = nb.cells
    for number, cell in enumerate(cells):
        if cell.cell_type == "markdown" and cell.source.startswith("## Exercises"):
            cells = cells[:number]
            break
    outputs = [o.get("data", {}) for cell in cells for o in cell.get("outputs", [])]
    figures = sum("image/png" in data for data in outputs)
    tables = sum(data.get("text/html", "").startswith("<table") for data in outputs)
    title, made = slides.deck(nb)
    shown = "".join("".join(slide["body"]) for slide in made)
    assert title and shown.count('src="data:image/png') == figures
    assert shown.count('<table class="table">') == tables
