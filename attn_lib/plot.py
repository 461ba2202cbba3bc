"""The look of the course's figures, and the drawings that chapters share.

The picture language: a blue stack of planes is a feature map, an orange line of cells holds one
number a channel, green strips one number a row, purple strips one number a column, boxes joined
by a dotted line share their weights, and a dashed cell with a 0 is padding. Shape and colour each
tell them apart. A drawing begins with :func:`canvas`, on which one unit is one inch; each
function returns the :class:`Box` that it filled, whose sides are where arrows begin and end.
"""

import base64
import html
import io
import itertools
from typing import NamedTuple

import numpy as np

__all__ = [
    "COLOURS",
    "Box",
    "arrow",
    "canvas",
    "channel_vector",
    "column_strip",
    "diagram",
    "difficulty",
    "feature_map",
    "operation",
    "outcomes",
    "padding",
    "product",
    "roofline",
    "row_strip",
    "seeds",
    "shared_weights",
    "show",
    "table",
    "use_style",
]

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


def table(rows, columns, *, corner="", words=0):
    """Display a table: in a notebook and in the book as a table, elsewhere as aligned text.

    Parameters
    ----------
    rows : dict
        Heading of a row -> its cells, one for each column. A cell is written as ``str`` writes it.
    columns : sequence
        Headings of the columns.
    corner : str
        Heading above the rows' headings: what they are.
    words : int
        How many of the columns, from the first on, hold words: they begin at the left, and break.

    Raises
    ------
    ValueError
        A row has another number of cells than there are columns.

    Examples
    --------
    >>> from attn_lib import plot
    >>> plot.table({"SE": [0.83, 0.67], "ECA": [0.45, 0.30]}, ["1.0", "2.0"], corner="gate")
    {'text/html': '<table...', 'text/plain': ...}

    Outside a notebook the dictionary is printed, in one it is the table.
    """
    from IPython.display import display

    head = [str(corner), *map(str, columns)]
    body = [[str(label), *map(str, cells)] for label, cells in rows.items()]
    for row in body:
        if len(row) != len(head):
            raise ValueError(
                f"the row {row[0]!r} has {len(row) - 1} cells; there are {len(head) - 1} columns"
            )
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    plain = "\n".join(
        "  ".join(
            cell.rjust(w) if k > words else cell.ljust(w) for k, (cell, w) in enumerate(pairs)
        )
        for pairs in (list(zip(row, widths, strict=True)) for row in [head, *body])
    )

    def line(row, tag, scope=""):
        first, *others = map(html.escape, row)
        begun = "".join(f"<{tag}>{cell}</{tag}>" for cell in others[:words])
        numbers = "".join(f'<{tag} class="text-right">{cell}</{tag}>' for cell in others[words:])
        return f"<tr><th{scope}>{first}</th>{begun}{numbers}</tr>"

    lines = "".join(line(row, "td", ' scope="row"') for row in body)
    markup = f'<table class="table"><thead>{line(head, "th")}</thead><tbody>{lines}</tbody></table>'
    display({"text/html": markup, "text/plain": plain}, raw=True)


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


def outcomes(ax, cells, *, mechanisms=None, failed=()):
    """Heat map of what each mechanism does on each task: tasks down, mechanisms across.

    The shade of a cell is the share of the way from the best without the ability to the best
    possible; a full circle says "solves", an empty one "helps", no circle "cannot", a question mark
    "unfinished". Where a task has no such way, the cell is grey.

    Parameters
    ----------
    ax : matplotlib Axes
        Some 4.5 inches wide; 24 levels want 6 inches of height.
    cells : dict
        (mechanism, task, level) -> :class:`attn_lib.outcomes.Cell`.
    mechanisms : sequence of str, optional
        Which to draw, in this order; all without it.
    failed : collection of (mechanism, task, level)
        Predictions that failed: these cells get an orange frame.

    Returns
    -------
    matplotlib.image.AxesImage : for a colour bar.

    Raises
    ------
    ValueError
        There is no cell, or none of one of the mechanisms.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.patches import Rectangle

    if not cells:
        raise ValueError("there is no outcome to draw: cells is empty")
    known = list(dict.fromkeys(m for m, _, _ in cells))
    mechanisms = known if mechanisms is None else list(mechanisms)
    unknown = [mechanism for mechanism in mechanisms if mechanism not in known]
    if unknown:
        raise ValueError(f"cells has nothing of {', '.join(unknown)}; it has {', '.join(known)}")
    cells = {key: cell for key, cell in cells.items() if key[0] in mechanisms}
    tasks = {}
    for _, task, level in cells:
        tasks.setdefault(task, {})[level] = None
    rows = [(task, level) for task, levels in tasks.items() for level in levels]
    shade = np.full((len(rows), len(mechanisms)), np.nan)
    for (mechanism, task, level), cell in cells.items():
        at = rows.index((task, level)), mechanisms.index(mechanism)
        if cell.way is not None:
            shade[at] = min(max(cell.way, 0), 1)
        dark = shade[at] > 0.55
        ink = {"color": "white" if dark else COLOURS["black"], "ms": 6, "zorder": 3}
        if cell.outcome in ("solves", "helps"):
            face = ink["color"] if cell.outcome == "solves" else "none"
            ax.plot(at[1], at[0], "o", mfc=face, mew=1.3, **ink)
        elif cell.outcome == "unfinished":
            ax.text(at[1], at[0], "?", ha="center", va="center", fontsize=8, color=ink["color"])
        if (mechanism, task, level) in failed:
            corner = (at[1] - 0.42, at[0] - 0.42)
            frame = {"fill": False, "ec": COLOURS["orange"], "lw": 2.5, "zorder": 4}
            ax.add_patch(Rectangle(corner, 0.84, 0.84, **frame))
    colours = LinearSegmentedColormap.from_list("way", ["#FFFFFF", "#9CC9E6", COLOURS["blue"]])
    colours.set_bad("#D1D5DB")
    image = ax.imshow(shade, cmap=colours, vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(mechanisms)), mechanisms, rotation=90)
    ax.xaxis.tick_top()
    for k in range(1, len(mechanisms)):
        ax.axvline(k - 0.5, color="#E5E7EB", lw=1)
    start, middles = 0, []
    for levels in tasks.values():
        middles.append(start + (len(levels) - 1) / 2)
        start += len(levels)
        ax.axhline(start - 0.5, color=COLOURS["grey"], lw=1)
    ax.set_yticks(middles, [task.replace("_", " ") for task in tasks])
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    return image


def difficulty(ax, cells, task, *, mechanisms=None):
    """Median accuracy of mechanisms at the levels of one task, between the task's two bounds.

    The grey band is what needs the ability: from the best without it to the best possible. A
    vertical line at a point is its exact interval.

    Parameters
    ----------
    ax : matplotlib Axes.
    cells : dict
        (mechanism, task, level) -> :class:`attn_lib.outcomes.Cell`.
    task : str
    mechanisms : sequence of str, optional
        Which to draw, in this order; all without it. More than five are hard to tell apart.

    Raises
    ------
    ValueError
        Nothing is known of the task, or of one of the mechanisms on it.
    """
    found = {}
    for (mechanism, name, level), cell in cells.items():
        if name == task:
            found.setdefault(mechanism, {})[level] = cell
    if not found:
        raise ValueError(f"cells has nothing of the task {task!r}")
    mechanisms = list(found) if mechanisms is None else mechanisms
    unknown = [mechanism for mechanism in mechanisms if mechanism not in found]
    if unknown:
        raise ValueError(f"cells has nothing of {', '.join(unknown)} on {task!r}")
    bounds = {level: cell for m in found.values() for level, cell in m.items()}
    levels = list(bounds)
    low, high = zip(*((bounds[x].without, bounds[x].bayes) for x in levels), strict=True)
    ax.fill_between(range(len(levels)), low, high, color="#E5E7EB", lw=0, zorder=0)
    ax.plot(range(len(levels)), low, ls="--", lw=1, color=COLOURS["grey"], zorder=1)
    looks = zip(itertools.cycle("osD^vPX"), itertools.cycle(COLOURS.values()))
    for k, (mechanism, (mark, colour)) in enumerate(zip(mechanisms, looks, strict=False)):
        known = [level for level in levels if level in found[mechanism]]
        aside = 0.05 * (k - (len(mechanisms) - 1) / 2)  # points of equal height stay visible
        x = [levels.index(level) + aside for level in known]
        drawn = [found[mechanism][level] for level in known]
        ax.vlines(x, [c.low for c in drawn], [c.high for c in drawn], color=colour, lw=1)
        ax.plot(x, [c.accuracy for c in drawn], f"{mark}-", ms=5, color=colour, label=mechanism)
    names = [", ".join(str(part) for part in level) for level in levels]
    ax.set_xticks(range(len(levels)), names)
    ax.set(title=task.replace("_", " "), ylim=(0.45, 1.02))


def roofline(ax, roof, points, *, precision="float32"):
    """Measured layers under the roof of a device, both axes logarithmic.

    Parameters
    ----------
    ax : matplotlib Axes.
    roof : attn_lib.profiling.Roofline
    points : dict
        Label -> (operations, bytes, time): a count, a count, and a ``Time`` or seconds.
    precision : str
        Which peak of ``roof`` is the flat part.

    Raises
    ------
    ValueError
        ``roof`` has no peak of this precision.
    """
    corner, peak = roof.corner(precision), roof.peak[precision]
    marks = [
        (label, operations / moved, operations, np.array(time if np.ndim(time) else [time] * 3))
        for label, (operations, moved, time) in points.items()
    ]
    ends = [m[1] for m in marks] + [corner]
    x = np.geomspace(min(ends) / 3, max(ends) * 3, 200)
    ax.loglog(x, np.minimum(peak, x * roof.bandwidth) / 1e9, color=COLOURS["black"])
    ax.axvline(corner, ls="--", lw=1, color=COLOURS["grey"], zorder=0)
    looks = zip(itertools.cycle("sDo^vPX"), itertools.cycle(COLOURS.values()))
    for (label, at, operations, time), (mark, colour) in zip(marks, looks, strict=False):
        ax.vlines(at, *(operations / time[[2, 1]] / 1e9), color=colour, lw=2)
        ax.plot(at, operations / time[0] / 1e9, mark, ms=8, color=colour, ls="none", label=label)
    for side, offset, align in (("memory", -6, "right"), ("arithmetic", 6, "left")):
        ax.annotate(
            f"{side} is the limit",
            (corner, peak / 1e9),
            xytext=(offset, 7),
            ha=align,
            textcoords="offset points",
            color=COLOURS["grey"],
        )
    ax.set(xlabel="arithmetic intensity, operations a byte", ylabel="G operations a second")
    ax.grid(alpha=0.2)
    if marks:
        ax.legend(loc="lower right", fontsize=9)


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


class Box(NamedTuple):
    """The rectangle that a drawing fills: left, bottom, right, top; its sides as points."""

    left: float
    bottom: float
    right: float
    top: float

    @property
    def west(self):
        """Middle of the left side."""
        return self.left, (self.bottom + self.top) / 2

    @property
    def east(self):
        """Middle of the right side."""
        return self.right, (self.bottom + self.top) / 2

    @property
    def north(self):
        """Middle of the upper side."""
        return (self.left + self.right) / 2, self.top

    @property
    def south(self):
        """Middle of the lower side."""
        return (self.left + self.right) / 2, self.bottom


def canvas(size):
    """Figure and axes of ``size`` inches to draw on: one unit is one inch, the origin lower left.

    Examples
    --------
    >>> from attn_lib import plot
    >>> fig, ax = plot.canvas((4, 1.6))
    >>> x = plot.feature_map(ax, 0.2, 0.5, label="$x$", shape="$N,C,H,W$")
    >>> z = plot.channel_vector(ax, 2.2, 0.5, label="$z$", shape="$N,C$")
    >>> plot.arrow(ax, x.east, z.west, "mean")
    """
    import matplotlib.pyplot as plt

    fig, ax = plt.subplots(figsize=size)
    ax.set(xlim=(0, size[0]), ylim=(0, size[1]), aspect="equal")
    ax.axis("off")
    return fig, ax


_DEPTH = 0.08  # how far a plane stands behind the one in front of it
_FILLS = {  # face and edge
    "map": ("#DCEBF7", COLOURS["blue"]),
    "row": ("#CDEBDF", "#00664B"),
    "column": ("#F3DDEA", "#9C4A7A"),
    "vector": ("#F3C35B", "#8A6000"),
}
_SHADES = ("#FBE3B5", "#F3C35B", "#FDF3DC", "#E69F00", "#F7D689")


def _stack(ax, kind, x, y, width, height, planes, grid, label, shape):
    """Planes behind one another, each of ``grid`` (rows, columns) cells; the front one at x, y."""
    from matplotlib.patches import Rectangle

    face, edge = _FILLS[kind]
    for k in reversed(range(planes)):
        corner = (x + _DEPTH * k, y + _DEPTH * k)
        ax.add_patch(Rectangle(corner, width, height, fc=face, ec=edge, lw=1))
    rows, columns = grid
    for i in range(1, rows):
        ax.plot([x, x + width], [y + i * height / rows] * 2, color=edge, lw=0.7)
    for j in range(1, columns):
        ax.plot([x + j * width / columns] * 2, [y, y + height], color=edge, lw=0.7)
    back = _DEPTH * (planes - 1)
    box = Box(x, y, x + width + back, y + height + back)
    _words(ax, box, label, shape)
    return box


def _words(ax, box, label, shape):
    """The label above a drawing and the shape below it."""
    if label:
        ax.text(box.north[0], box.top + 0.05, label, ha="center", va="bottom")
    if shape:
        ax.text(
            box.south[0],
            box.bottom - 0.06,
            shape,
            ha="center",
            va="top",
            fontsize=9,
            color="#374151",
        )


def feature_map(
    ax, x, y, *, planes=3, width=0.9, height=0.7, rows=1, columns=1, label="", shape=""
):
    """A feature map as a blue stack of planes, its front plane's lower left corner at (x, y).

    ``rows`` and ``columns`` draw the front plane's pixels; one plane is a map of places.
    """
    return _stack(ax, "map", x, y, width, height, planes, (rows, columns), label, shape)


def row_strip(ax, x, y, *, planes=3, rows=5, height=0.7, label="", shape=""):
    """One number for each row (and channel): green upright strips, a cell for each row."""
    return _stack(ax, "row", x, y, 0.16, height, planes, (rows, 1), label, shape)


def column_strip(ax, x, y, *, planes=3, columns=6, width=0.9, label="", shape=""):
    """One number for each column (and channel): purple flat strips, a cell for each column."""
    return _stack(ax, "column", x, y, width, 0.16, planes, (1, columns), label, shape)


def channel_vector(
    ax, x, y, *, cells=5, size=0.18, horizontal=False, values=None, label="", shape=""
):
    """One number for each channel: a line of orange cells, shaded, or with ``values`` in them."""
    from matplotlib.patches import Rectangle

    texts = [] if values is None else [str(value) for value in values]
    cells = len(texts) or cells
    for k in range(cells):
        place = k if horizontal else cells - 1 - k  # upright: channel 0 on top
        corner = (x + size * place, y) if horizontal else (x, y + size * place)
        shade = _FILLS["vector"][0] if texts else _SHADES[k % len(_SHADES)]
        ax.add_patch(Rectangle(corner, size, size, fc=shade, ec=_FILLS["vector"][1], lw=0.8))
        if texts:
            middle = (corner[0] + size / 2, corner[1] + size / 2)
            ax.text(*middle, texts[k], ha="center", va="center", fontsize=9)
    across, up = (cells, 1) if horizontal else (1, cells)
    box = Box(x, y, x + size * across, y + size * up)
    _words(ax, box, label, shape)
    return box


def padding(ax, x, y, *, cells=1, size=0.18, horizontal=True):
    """Zeros that are put beside the data: dashed white cells with a 0."""
    from matplotlib.patches import Rectangle

    across, up = (cells, 1) if horizontal else (1, cells)
    for k in range(cells):
        corner = (x + size * k, y) if horizontal else (x, y + size * k)
        ax.add_patch(
            Rectangle(corner, size, size, fc="white", ec=COLOURS["grey"], lw=1, ls=(0, (2, 1.5)))
        )
        middle = (corner[0] + size / 2, corner[1] + size / 2)
        ax.text(*middle, "0", ha="center", va="center", fontsize=9, color=COLOURS["grey"])
    return Box(x, y, x + size * across, y + size * up)


def operation(ax, x, y, label, *, width=None, face="white"):
    """An operation, a rounded box with its name in it, around the point (x, y)."""
    from matplotlib.patches import FancyBboxPatch

    width = width or 0.3 + 0.085 * len(label.replace("$", "").replace("\\", ""))
    box = Box(x - width / 2, y - 0.2, x + width / 2, y + 0.2)
    ax.add_patch(
        FancyBboxPatch(
            (box.left + 0.05, box.bottom + 0.05),
            width - 0.1,
            0.3,
            boxstyle="round,pad=0.05",
            fc=face,
            ec=COLOURS["black"],
            lw=1,
        )
    )
    ax.text(x, y, label, ha="center", va="center", fontsize=9.5)
    return box


def shared_weights(ax, places, label, *, width=None, note="same weights"):
    """One operation used at several places: grey boxes joined by a dotted line.

    ``places`` are the middles of the boxes; the list of their :class:`Box` is returned.
    """
    boxes = [operation(ax, x, y, label, width=width, face="#E5E7EB") for x, y in places]
    style = {"color": COLOURS["black"], "lw": 1.6, "ls": (0, (1, 1.4))}
    for a, b in zip(boxes[:-1], boxes[1:], strict=True):
        beside = abs(b.west[1] - a.west[1]) < abs(b.north[0] - a.north[0])
        if beside:
            first, last = (a, b) if a.left < b.left else (b, a)
            start, end, where = first.east, last.west, {"ha": "center", "va": "bottom"}
        else:
            first, last = (a, b) if a.bottom > b.bottom else (b, a)
            start, end, where = first.south, last.north, {"ha": "left", "va": "center"}
        ax.plot(*zip(start, end, strict=True), **style)
        middle = ((start[0] + end[0]) / 2 + 0.06 * (not beside), (start[1] + end[1]) / 2)
        ax.text(middle[0], middle[1] + 0.04 * beside, note, fontsize=9, **where)
    return boxes


def product(ax, x, y):
    """The product element by element, a circle with a cross around the point (x, y)."""
    from matplotlib.patches import Circle

    ax.add_patch(Circle((x, y), 0.17, fc="white", ec=COLOURS["black"], lw=1.3))
    for up in (-1, 1):
        ax.plot([x - 0.07, x + 0.07], [y - 0.07 * up, y + 0.07 * up], color="#1F2937", lw=1.5)
    return Box(x - 0.17, y - 0.17, x + 0.17, y + 0.17)


def arrow(ax, start, end, label="", *, via=(), colour="black", below=False):
    """An arrow from point to point, through the points ``via``; its label at the longest part."""
    points = [start, *via, end]
    style = {"color": COLOURS[colour], "lw": 1.3}
    if via:
        ax.plot(*zip(*points[:-1], strict=True), **style)
    ax.annotate(
        "", end, points[-2], arrowprops={"arrowstyle": "-|>", "shrinkA": 0, "shrinkB": 1, **style}
    )
    if label:
        parts = list(zip(points[:-1], points[1:], strict=True))
        (x0, y0), (x1, y1) = max(
            parts, key=lambda p: np.hypot(p[1][0] - p[0][0], p[1][1] - p[0][1])
        )
        upright = abs(y1 - y0) > abs(x1 - x0)
        dx, dy = (0.07, 0) if upright else (0, -0.05 if below else 0.05)
        ax.text(
            (x0 + x1) / 2 + dx,
            (y0 + y1) / 2 + dy,
            label,
            ha="left" if upright else "center",
            va="center" if upright else "top" if below else "bottom",
            fontsize=9.5,
            color=COLOURS[colour],
        )
