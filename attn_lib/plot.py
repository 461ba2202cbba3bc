"""The look of the course's figures, and the drawings that chapters share."""

import base64
import html
import io

import numpy as np

__all__ = ["COLOURS", "diagram", "seeds", "show", "use_style"]

# Okabe & Ito's palette, which people with any colour vision can tell apart.
COLOURS = {
    "blue": "#0072B2",
    "orange": "#E69F00",
    "green": "#009E73",
    "red": "#D55E00",
    "sky": "#56B4E9",
    "purple": "#CC79A7",
    "grey": "#6B7280",
    "black": "#1F2937",
}


def use_style():
    """Set matplotlib's defaults for the course: safe colours, white ground, no needless ink."""
    import matplotlib.pyplot as plt
    from cycler import cycler

    plt.rcParams.update(
        {
            "axes.prop_cycle": cycler(color=[c for n, c in COLOURS.items() if n != "black"]),
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlesize": 11,
            "axes.titlelocation": "left",
            "axes.labelsize": 10,
            "font.size": 10,
            "image.cmap": "viridis",
            "image.interpolation": "nearest",
            "figure.facecolor": "white",
            "figure.constrained_layout.use": True,
            "figure.max_open_warning": 0,
            "legend.frameon": False,
            "lines.linewidth": 1.8,
            "svg.hashsalt": "attn_lib",
        }
    )


def show(fig, alt, *, dpi=150):
    """Display a figure with a text that says what it shows, and close it.

    The text is the image's alternative text in the book; in a notebook it can be opened below.

    Parameters
    ----------
    fig : matplotlib.figure.Figure
    alt : str
        For readers who cannot see the figure: what is seen, in a sentence or two.
    dpi : int
        Pixels an inch; the image is shown at 100, so that it is sharp on dense screens.

    Raises
    ------
    ValueError
        The alternative text is empty.
    """
    import matplotlib.pyplot as plt
    from IPython.display import display

    alt = " ".join(alt.split())
    if not alt:
        raise ValueError("alt must say what the figure shows; got an empty text")
    file = io.BytesIO()
    fig.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    # The bundle that IPython.display.Image makes; before IPython 8 that class takes no alt. The
    # text is what is shown where there are no images.
    display(
        {"image/png": base64.b64encode(file.getvalue()).decode(), "text/plain": alt},
        metadata={"image/png": {"alt": alt, "width": int(100 * fig.get_size_inches()[0])}},
        raw=True,
    )
    # JupyterLab 4.6 does not put that text into its page, so it stands below the figure as well;
    # the book, which does, leaves this out.
    display(
        {
            "text/html": f"<details class='figure-text'><summary>The figure in words</summary>"
            f"{html.escape(alt)}</details>",
            "text/plain": "",
        },
        raw=True,
    )
    plt.close(fig)


def seeds(ax, results, *, unit="test accuracy", chance=None):
    """One dot a seed and a bar at the mean for each variant, on a horizontal axis.

    Parameters
    ----------
    ax : matplotlib Axes.
    results : dict
        Label -> array with one number a seed. The first label is drawn on top.
    unit : str
        Label of the horizontal axis.
    chance : float or dict, optional
        Where to draw a dashed line, or label -> where, for several.
    """
    for row, values in enumerate(results.values()):
        values = np.asarray(values)
        ax.plot(values, np.full(len(values), row), "o", ms=6, alpha=0.65, mew=0, clip_on=False)
        ax.plot([values.mean()] * 2, [row - 0.32, row + 0.32], color=COLOURS["black"], lw=2)
    lines = chance if isinstance(chance, dict) else {None: chance} if chance is not None else {}
    for label, at in lines.items():
        ax.axvline(at, ls="--", lw=1, color=COLOURS["grey"], zorder=0)
        if label:
            ax.annotate(
                label,
                (at, 1),
                (3, 2),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=COLOURS["grey"],
                fontsize=9,
            )
    ax.set_yticks(range(len(results)), list(results))
    ax.set_ylim(len(results) - 0.5, -0.5)
    ax.set_xlabel(unit)
    ax.grid(axis="x", alpha=0.25)
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


def diagram(nodes, arrows, *, size=(9, 2.6)):
    """Draw a block as feature maps, vectors and operations joined by arrows.

    Parameters
    ----------
    nodes : dict
        Name -> (x, y, kind, label, shape). ``kind`` is ``"map"`` (a stack of planes),
        ``"vector"`` (a column of cells), ``"short"`` (of fewer cells), ``"op"`` (a rounded box) or
        ``"times"`` (the product).
        ``shape`` is written below the node; both texts may hold mathematics in dollars.
    arrows : list of tuples
        (from, to, label), or (from, to, label, "over") for one that leads round the others, above.
    size : (width, height) in inches. Positions are in the same unit.

    Returns
    -------
    matplotlib.figure.Figure
    """
    import matplotlib.pyplot as plt
    from matplotlib.patches import Circle, FancyBboxPatch, Rectangle

    fig, ax = plt.subplots(figsize=size)
    ax.set(xlim=(0, size[0]), ylim=(0, size[1]), aspect="equal")
    ax.axis("off")
    reach = {}  # half width of each node, for the ends of its arrows
    for name, (x, y, kind, label, shape) in nodes.items():
        below = 0.48
        if kind == "map":
            for k in (2, 1, 0):
                corner = (x - 0.38 + 0.09 * k, y - 0.38 + 0.09 * k)
                ax.add_patch(Rectangle(corner, 0.66, 0.66, fc="#DCEBF7", ec=COLOURS["blue"], lw=1))
            ax.text(x - 0.05, y - 0.05, label, ha="center", va="center")
            reach[name], below = 0.5, 0.5
        elif kind in ("vector", "short"):
            for k in range(5) if kind == "vector" else (1, 2, 3):
                shade = ("#FBE3B5", "#F3C35B", "#FDF3DC", "#E69F00", "#F7D689")[k]
                ax.add_patch(
                    Rectangle(
                        (x - 0.09, y - 0.45 + 0.18 * k), 0.18, 0.18, fc=shade, ec="#8A6000", lw=0.8
                    )
                )
            ax.text(x, y + 0.58, label, ha="center", va="center")
            reach[name], below = 0.16, 0.55
        elif kind == "times":
            ax.add_patch(Circle((x, y), 0.19, fc="white", ec=COLOURS["black"], lw=1.3))
            ax.plot([x - 0.08, x + 0.08], [y - 0.08, y + 0.08], color=COLOURS["black"], lw=1.5)
            ax.plot([x - 0.08, x + 0.08], [y + 0.08, y - 0.08], color=COLOURS["black"], lw=1.5)
            reach[name], below = 0.22, 0.32
        elif kind == "op":
            half = 0.12 + 0.045 * len(label.replace("$", "").replace("\\", ""))
            ax.add_patch(
                FancyBboxPatch(
                    (x - half, y - 0.17),
                    2 * half,
                    0.34,
                    fc="white",
                    boxstyle="round,pad=0.05",
                    ec=COLOURS["grey"],
                    lw=1,
                )
            )
            ax.text(x, y, label, ha="center", va="center", fontsize=9)
            reach[name], below = half + 0.08, 0.34
        else:
            raise ValueError(f"unknown kind {kind!r}; known are map, vector, short, op, times")
        ax.text(x, y - below, shape, ha="center", va="top", fontsize=8.5, color="#374151")
    style = {"arrowstyle": "-|>", "color": COLOURS["black"], "lw": 1.2, "shrinkA": 0, "shrinkB": 0}
    for start, end, label, *route in arrows:
        (x0, y0), (x1, y1) = nodes[start][:2], nodes[end][:2]
        if route:  # up, across at the top of the drawing, and down
            top = size[1] - 0.28
            ax.plot([x0, x0, x1], [y0 + 0.52, top, top], color=COLOURS["black"], lw=1.2)
            ax.annotate("", (x1, y1 + reach[end]), (x1, top), arrowprops=style)
            ax.text((x0 + x1) / 2, top + 0.05, label, ha="center", va="bottom", fontsize=8.5)
        else:
            length = np.hypot(x1 - x0, y1 - y0)
            ux, uy = (x1 - x0) / length, (y1 - y0) / length
            tail = (x0 + ux * (reach[start] + 0.03), y0 + uy * (reach[start] + 0.03))
            head = (x1 - ux * (reach[end] + 0.03), y1 - uy * (reach[end] + 0.03))
            ax.annotate("", head, tail, arrowprops=style)
            middle = ((tail[0] + head[0]) / 2, (tail[1] + head[1]) / 2)
            ax.text(middle[0], middle[1] + 0.07, label, ha="center", va="bottom", fontsize=8.5)
    return fig
