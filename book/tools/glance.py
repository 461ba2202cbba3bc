"""Draw the mechanisms side by side: `python book/tools/glance.py` writes book/_static/glance/.

One SVG for each mechanism, for the page *The mechanisms at a glance*, and one PDF page with
all of them in A4's proportions, to be printed. The same code always writes the same bytes.
"""

import sys
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from attn_lib import plot

FOLDER = Path(__file__).parents[1] / "_static" / "glance"
SIZE = (4.4, 2.75)  # of a drawing, in inches


def _frame(ax):
    """The way that all have in common: x, the product with the gate, y."""
    x = plot.feature_map(ax, 0.1, 1.65, label="$x$")
    y = plot.feature_map(ax, 3.2, 1.65, label="$y$")
    return x, y


def _through(ax, x, y, *products):
    """Arrows from x through the products to y; their boxes."""
    boxes = [plot.product(ax, at, x.east[1]) for at in products]
    for a, b in zip((x, *boxes), (*boxes, y), strict=True):
        plot.arrow(ax, a.east, b.west)
    return boxes


def squeeze_excitation(ax):
    x, y = _frame(ax)
    (times,) = _through(ax, x, y, 2.55)
    z = plot.channel_vector(ax, 0.2, 0.62, horizontal=True, shape="$z$")
    net = plot.operation(ax, 1.72, 0.71, r"$W_1,\delta,W_2,\sigma$", width=0.95)
    s = plot.channel_vector(ax, 2.46, 0.26, shape="$s$: $C$ numbers")
    plot.arrow(ax, (z.north[0], x.bottom), z.north, "mean over\n$H, W$")
    plot.arrow(ax, z.east, net.west)
    plot.arrow(ax, net.east, s.west)
    plot.arrow(ax, s.north, times.south)


def eca(ax):
    x, y = _frame(ax)
    (times,) = _through(ax, x, y, 2.55)
    z = plot.channel_vector(ax, 0.2, 0.62, horizontal=True, shape="$z$")
    plot.padding(ax, 0.02, 0.62)
    plot.padding(ax, 1.1, 0.62)
    ax.plot([0.2, 0.2, 0.74, 0.74], [0.88, 0.92, 0.92, 0.88], color="#1F2937", lw=1.4)
    net = plot.operation(ax, 1.85, 0.71, r"conv1d$_k$, $\sigma$", width=0.85)
    s = plot.channel_vector(ax, 2.46, 0.26, shape="$s$: $C$ numbers")
    plot.arrow(ax, (0.85, x.bottom), (0.85, z.top), "mean over\n$H, W$")
    ax.text(0.47, 0.95, "$k$", ha="center", va="bottom", fontsize=9.5)
    plot.arrow(ax, (1.28, 0.71), net.west)
    plot.arrow(ax, net.east, s.west)
    plot.arrow(ax, s.north, times.south)


def cbam(ax):
    x, y = _frame(ax)
    first, second = _through(ax, x, y, 1.9, 2.85)
    mean = plot.channel_vector(ax, 0.28, 0.92, cells=4, size=0.14, horizontal=True)
    peak = plot.channel_vector(ax, 0.28, 0.38, cells=4, size=0.14, horizontal=True)
    plot.arrow(ax, (mean.north[0], x.bottom), mean.north, "mean")
    plot.arrow(ax, (0.14, x.bottom), peak.west, via=((0.14, peak.west[1]),))
    ax.text(peak.south[0], 0.34, "max", ha="center", va="top", fontsize=9.5)
    nets = plot.shared_weights(ax, [(1.26, 0.99), (1.26, 0.45)], "MLP", width=0.5, note="shared")
    s = plot.channel_vector(ax, 1.82, 0.35, cells=4, size=0.16, shape="$s$")
    for vector, net in ((mean, nets[0]), (peak, nets[1])):
        plot.arrow(ax, vector.east, net.west)
        plot.arrow(ax, net.east, (s.left, s.east[1] + (0.1 if net is nets[0] else -0.1)))
    ax.text(1.7, 1.07, r"$+,\,\sigma$", ha="center", va="center", fontsize=9.5)
    plot.arrow(ax, s.north, first.south)
    planes = plot.feature_map(ax, 2.2, 0.42, planes=2, width=0.42, height=0.36)
    ax.text(planes.south[0], 0.36, "mean, max\nover $C$", ha="center", va="top", fontsize=9)
    m = plot.feature_map(ax, 3.5, 0.42, planes=1, width=0.5, height=0.42, rows=3, columns=3)
    ax.text(m.south[0], 0.36, "$m$", ha="center", va="top", fontsize=9)
    plot.arrow(ax, (2.4, x.east[1]), (2.4, planes.top))
    plot.arrow(ax, planes.east, m.west, "conv,\nBN, $\\sigma$")
    plot.arrow(ax, m.north, second.south, via=((m.north[0], 1.25), (second.south[0], 1.25)))


def bam(ax):
    x, y = _frame(ax)
    (times,) = _through(ax, x, y, 2.72)
    z = plot.channel_vector(ax, 0.28, 0.92, cells=4, size=0.14, horizontal=True)
    plot.arrow(ax, (z.north[0], x.bottom), z.north, "mean")
    c = plot.channel_vector(ax, 1.9, 0.75, cells=4, size=0.125)
    net = plot.operation(ax, 1.32, 1.0, "MLP", width=0.5)
    plot.arrow(ax, z.east, net.west)
    plot.arrow(ax, net.east, c.west)
    convs = plot.operation(ax, 0.97, 0.42, "4 convs, dilated", width=1.2)
    plot.arrow(ax, (0.14, x.bottom), convs.west, via=((0.14, 0.42),))
    m = plot.feature_map(ax, 1.8, 0.24, planes=1, width=0.42, height=0.36, rows=3, columns=3)
    plot.arrow(ax, convs.east, m.west)
    joint = plot.feature_map(ax, 2.42, 0.42, width=0.55, height=0.45, rows=3, columns=3)
    ax.text(joint.right + 0.1, 0.72, "$1+\\sigma(\\cdot)$\n$CHW$ numbers", va="center", fontsize=9)
    plot.arrow(ax, (c.right, 1.0), (joint.left, 0.85))
    plot.arrow(ax, m.east, (joint.left, 0.5))
    plot.arrow(ax, (times.south[0], joint.top), times.south)


def coordinate(ax):
    x, y = _frame(ax)
    first, second = _through(ax, x, y, 2.28, 2.86)
    rows = plot.row_strip(ax, 0.08, 0.5, rows=4, height=0.55)
    columns = plot.column_strip(ax, 0.5, 0.6, columns=4, width=0.5)
    ax.text(rows.left, 0.42, "means of rows\nand columns", ha="left", va="top", fontsize=9.5)
    plot.arrow(ax, (rows.north[0], x.bottom), rows.north)
    plot.arrow(ax, (columns.north[0], x.bottom), columns.north)
    net = plot.operation(ax, 1.57, 0.76, "conv, BN,\nh-swish", width=0.68)
    plot.arrow(ax, columns.east, net.west)
    g_h = plot.row_strip(ax, 2.12, 0.62, rows=4, height=0.55)
    g_w = plot.column_strip(ax, 2.5, 0.25, columns=4, width=0.56)
    plot.arrow(ax, net.east, (g_h.left, 0.82))
    plot.arrow(ax, (net.east[0], 0.66), (g_w.left, 0.36))
    ax.text(g_h.left - 0.05, 1.22, "$\\sigma$(conv)", ha="right", va="center", fontsize=9.5)
    ax.text(g_w.right + 0.05, 0.38, "$\\sigma$(conv)", ha="left", va="center", fontsize=9.5)
    plot.arrow(ax, g_h.north, first.south)
    plot.arrow(ax, g_w.north, second.south)


DRAWINGS = {
    "Squeeze-and-Excitation": squeeze_excitation,
    "ECA": eca,
    "CBAM": cbam,
    "BAM": bam,
    "Coordinate Attention": coordinate,
}
GATES = {  # the line below each drawing in print
    "Squeeze-and-Excitation": r"$y_{cij} = s_c\,x_{cij}$,  $s=\sigma(W_2\,\delta(W_1 z))$",
    "ECA": r"$y_{cij} = s_c\,x_{cij}$,  $s=\sigma(\mathrm{conv1d}_k(z))$",
    "CBAM": r"$y_{cij} = m_{ij}\,s_c\,x_{cij}$,  $m$ computed from $s\,x$",
    "BAM": r"$y_{cij} = (1+\sigma(a_c\,t_{ij}))\,x_{cij}$",
    "Coordinate Attention": r"$y_{cij} = s^h_{ci}\,s^w_{cj}\,x_{cij}$",
}
TABLE = [
    ("", "weights, about", "cannot"),
    ("SE", r"$2C^2/r$", "tell places apart"),
    ("ECA", r"$k$", "compare far channels"),
    ("CBAM", r"$2C^2/r+2k^2$", "pair channels with places"),
    ("BAM", r"$3C^2/r+18C^2/r^2$", "close anything"),
    ("CA", r"$3CC'$, $C'=\max(8, C/r)$", "mark a diagonal"),
]


def main(folder=FOLDER):
    """Write all files into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    plot.use_style()
    plt.rcParams.update({"svg.hashsalt": "glance", "figure.constrained_layout.use": False})
    for draw in DRAWINGS.values():
        fig, ax = plot.canvas(SIZE)
        ax.set_position((0, 0, 1, 1))
        draw(ax)
        fig.savefig(folder / f"{draw.__name__}.svg", metadata={"Date": None})
        plt.close(fig)
    width, height = 1.26 * 11.69, 1.26 * 8.27  # A4's proportions, in inches of the drawings
    fig = plt.figure(figsize=(width, height))
    title = "Attention in convolutional networks: the mechanisms at a glance"
    fig.text(0.4 / width, 1 - 0.75 / height, title, size=19)
    for k, (name, draw) in enumerate(DRAWINGS.items()):
        left, bottom = 0.4 + 4.75 * (k % 3), 5.6 - 4.5 * (k // 3)
        ax = fig.add_axes((left / width, bottom / height, SIZE[0] / width, SIZE[1] / height))
        ax.set(xlim=(0, SIZE[0]), ylim=(0, SIZE[1]))
        ax.axis("off")
        draw(ax)
        fig.text(left / width, (bottom + 3.05) / height, name, size=15, weight="bold")
        fig.text(left / width, (bottom - 0.35) / height, GATES[name], size=13)
    for row, cells in enumerate(TABLE):
        for at, cell in zip((0, 0.7, 2.75), cells, strict=True):
            x, y = (9.9 + at) / width, (4.0 - 0.5 * row) / height
            fig.text(x, y, cell, size=11, weight="normal" if row else "bold")
    fig.savefig(folder / "glance.pdf", metadata={"CreationDate": None})
    plt.close(fig)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
