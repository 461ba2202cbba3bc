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
