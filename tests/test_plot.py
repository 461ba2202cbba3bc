"""Figures: an image with its text, nothing left open."""

import base64

import matplotlib
import pytest

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402

from attn_lib import plot  # noqa: E402


def test_show_displays_the_image_with_its_text(monkeypatch):
    shown = []
    monkeypatch.setattr(
        "IPython.display.display", lambda data, **options: shown.append((data, options))
    )
    fig, _ = plt.subplots(figsize=(4, 2))
    plot.show(fig, alt="Two words\n  and a line break, x < 1")
    (data, options), (words, _) = shown
    assert (
        "<summary>The figure in words</summary>Two words and a line break, x &lt; 1<"
        in (words["text/html"])
    )
    assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG")
    assert data["text/plain"] == "Two words and a line break, x < 1"
    assert options["metadata"]["image/png"] == {
        "alt": "Two words and a line break, x < 1",
        "width": 400,
    }
    assert options["raw"] is True
    assert not plt.get_fignums()


def test_an_empty_text_is_refused():
    fig, _ = plt.subplots()
    with pytest.raises(ValueError, match="alt must say"):
        plot.show(fig, alt="  ")
    plt.close(fig)


@pytest.fixture
def shown(monkeypatch):
    found = []
    monkeypatch.setattr("IPython.display.display", lambda data, **options: found.append(data))
    return found


def test_a_table_has_headings_of_rows_and_columns_and_a_text(shown):
    plot.table({"SE & co": [0.5, 12], "ECA": ["<1", 3]}, ["one", "two"], corner="gate")
    (data,) = shown
    assert data["text/html"] == (
        '<table class="table"><thead><tr><th>gate</th><th class="text-right">one</th>'
        '<th class="text-right">two</th></tr></thead><tbody>'
        '<tr><th scope="row">SE &amp; co</th><td class="text-right">0.5</td>'
        '<td class="text-right">12</td></tr>'
        '<tr><th scope="row">ECA</th><td class="text-right">&lt;1</td>'
        '<td class="text-right">3</td></tr></tbody></table>'
    )
    assert data["text/plain"].splitlines() == [
        "gate     one  two",
        "SE & co  0.5   12",
        "ECA       <1    3",
    ]


def test_words_in_a_table_begin_at_the_left(shown):
    plot.table({"SE": ["a mean", 12]}, ["gather", "numbers"], words=1)
    (data,) = shown
    assert "<th>gather</th>" in data["text/html"] and "<td>a mean</td>" in data["text/html"]
    assert '<td class="text-right">12</td>' in data["text/html"]
    assert data["text/plain"].splitlines() == ["    gather  numbers", "SE  a mean       12"]


def test_a_row_of_another_length_is_named(shown):
    with pytest.raises(ValueError, match="the row 'SE' has 1 cells; there are 2 columns"):
        plot.table({"SE": [1]}, ["one", "two"])
    assert not shown


def test_seeds_draws_a_dot_a_seed():
    fig, ax = plt.subplots()
    plot.seeds(ax, {"one": [0.1, 0.2, 0.3], "two": [0.4]}, chance={"bound": 0.5})
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [len(line.get_xdata()) for line in dots] == [3, 1]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["one", "two"]
    plt.close(fig)


def test_diagram_draws_every_node_and_refuses_an_unknown_kind():
    nodes = {
        "x": (1, 1, "map", "$x$", "$N,C$"),
        "z": (2, 1, "vector", "$z$", ""),
        "h": (3, 1, "short", "$h$", ""),
        "f": (4, 1, "op", "$f$", ""),
        "t": (5, 1, "times", "", ""),
    }
    arrows = [
        ("x", "z", "a"),
        ("z", "h", ""),
        ("h", "f", ""),
        ("f", "t", ""),
        ("x", "t", "b", "over"),
    ]
    fig = plot.diagram(nodes, arrows, size=(6, 2.5))
    texts = {text.get_text() for text in fig.axes[0].texts}
    assert {"$x$", "$z$", "$h$", "$f$", "a", "b", "$N,C$"} <= texts
    plt.close(fig)
    with pytest.raises(ValueError, match="unknown kind 'blob'"):
        plot.diagram({"x": (1, 1, "blob", "", "")}, [])
    plt.close("all")


def drawings(ax):
    """Every word of the picture language, drawn once."""
    return {
        "feature map": plot.feature_map(
            ax, 0.2, 2, rows=3, columns=4, label="$x$", shape="$C,H,W$"
        ),
        "place": plot.feature_map(ax, 1.6, 2, planes=1),
        "rows": plot.row_strip(ax, 3, 2, rows=3),
        "columns": plot.column_strip(ax, 4, 2, columns=4),
        "channels": plot.channel_vector(ax, 0.2, 0.5),
        "numbers": plot.channel_vector(ax, 1, 0.5, values=(1, 2, 3), horizontal=True),
        "padding": plot.padding(ax, 2, 0.5, cells=2),
        "product": plot.product(ax, 3, 0.6),
        "operation": plot.operation(ax, 4, 0.6, "ReLU"),
    }


def test_each_word_of_the_picture_language_looks_different():
    fig, ax = plot.canvas((6, 4))
    drawn = drawings(ax)
    for box in drawn.values():
        assert 0 <= box.left < box.right <= 6 and 0 <= box.bottom < box.top <= 4
        assert box.west[0] == box.left and box.north[1] == box.top
    rows, columns = drawn["rows"], drawn["columns"]
    assert rows.top - rows.bottom > 2 * (rows.right - rows.left)  # upright
    assert columns.right - columns.left > 2 * (columns.top - columns.bottom)  # flat
    assert drawn["numbers"].right - drawn["numbers"].left == pytest.approx(3 * 0.18)
    faces = {matplotlib.colors.to_hex(patch.get_facecolor()) for patch in ax.patches}
    assert len(faces) >= 5  # map, row, column, channels, white
    texts = [text.get_text() for text in ax.texts]
    assert texts.count("0") == 2 and "$C,H,W$" in texts and "3" in texts
    plt.close(fig)


@pytest.mark.parametrize("places", [[(1, 3), (1, 1)], [(1, 1), (3, 1)], [(3, 1), (1, 1)]])
def test_shared_weights_are_joined(places):
    fig, ax = plot.canvas((4, 4))
    boxes = plot.shared_weights(ax, places, "$W$")
    assert [((b.left + b.right) / 2, (b.bottom + b.top) / 2) for b in boxes] == [
        pytest.approx(place) for place in places
    ]
    (line,) = ax.lines
    assert [text.get_text() for text in ax.texts] == ["$W$", "$W$", "same weights"]
    assert line.get_linestyle() != "-"
    plt.close(fig)


def test_an_arrow_may_go_round():
    fig, ax = plot.canvas((4, 2))
    plot.arrow(ax, (0, 1), (1, 1), "mean")
    plot.arrow(ax, (0, 1), (3, 1), "round", via=[(0, 1.8), (3, 1.8)])
    assert [len(line.get_xdata()) for line in ax.lines] == [3]
    words = {text.get_text(): text.get_position() for text in ax.texts if text.get_text()}
    assert words["mean"] == pytest.approx((0.5, 1.05))
    assert words["round"] == pytest.approx((1.5, 1.85))
    plt.close(fig)
