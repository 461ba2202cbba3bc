"""The page that shows all mechanisms side by side: its drawings and its numbers."""

import re
import runpy
from pathlib import Path

import pytest

from attn_lib import layers
from attn_lib.cost import layer_cost

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "book/glance.md").read_text(encoding="utf-8")
DRAWN = ROOT / "book/_static/glance"


def test_the_drawings_are_what_their_script_draws(tmp_path):
    runpy.run_path(ROOT / "book/tools/glance.py")["main"](tmp_path)
    fresh = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert fresh == {path.name: path.read_bytes() for path in DRAWN.iterdir()}


@pytest.mark.parametrize("file", sorted(path.name for path in DRAWN.iterdir()))
def test_every_drawing_is_on_the_page_and_small(file):
    assert f"_static/glance/{file}" in PAGE
    assert (DRAWN / file).stat().st_size < 150_000


@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("SE", "se"),
        ("ECA", "eca"),
        ("CBAM", "cbam"),
        ("BAM", "bam"),
        ("Coordinate Attention", "coordinate"),
    ],
)
def test_the_table_counts_what_the_library_counts(row, name):
    cells = re.search(rf"^\| {row} \|(.*)\|$", PAGE, re.MULTILINE).group(1).split("|")
    cost = layer_cost(layers.build(name, 256), (1, 256, 28, 28))
    assert [int(cell.replace(",", "")) for cell in cells[2:4]] == [
        cost.parameters,
        cost.multiply_adds,
    ]
