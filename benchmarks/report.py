"""Tables and a figure of what was measured."""

import csv
from pathlib import Path


def write_csv(path, rows):
    """All rows as they are."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    with Path(path).open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: shown(v, 4) for k, v in row.items()} for row in rows)


def table(rows):
    """Rows of equal keys as a Markdown table."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    lines = [columns, [":--"] * len(columns)]
    lines += [[shown(row.get(column)) for column in columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def shown(value, digits=3):
    """A cell of a table."""
    if value is None:
        return ""
    return f"{value:.{digits}g}" if isinstance(value, float) else str(value)


def cases(rows):
    """One line a case: everybody's median and quartiles in milliseconds, and the maps kept."""
    lines = {}
    for row in rows:
        key = (row["layer"], row["shape"], row["format"], row["kind"])
        line = lines.setdefault(key, {k: row[k] for k in ("layer", "shape", "format", "kind")})
        line[row["who"]] = f"{row['ms']:.2f} ({row['low']:.2f}–{row['high']:.2f})"
        if row["who"] == "attn_lib" and row["maps kept"] is not None:
            line["maps kept"] = f"{row['maps kept']:.2f}"
    return list(lines.values())


def write_layers(folder, rows, summary, where):
    """layers.csv, layers.md and layers.png."""
    write_csv(folder / "layers.csv", rows)
    (folder / "layers.md").write_text(
        f"# A training step and an inference, layer by layer\n\n{where}\n\n"
        "Ratios: a rival's time over attn_lib's, geometric mean over all shapes and memory "
        "formats, and the worst of them; beside the floor (the passes over the map alone, and with "
        "the small networks), attn_lib's time over the floor's.\n\n"
        f"{table(summary)}\n\n"
        "Milliseconds, median and quartiles; maps kept for backward by attn_lib, in units of x.\n\n"
        f"{table(cases(rows))}\n",
        encoding="utf-8",
    )
    draw(folder / "layers.png", summary, where)


def write_networks(folder, rows, where):
    """networks.csv and networks.md."""
    write_csv(folder / "networks.csv", rows)
    (folder / "networks.md").write_text(
        f"# Whole networks\n\n{where}\n\nImages a second, median and quartiles of the steps; time "
        "and memory kept for backward relative to the network without attention.\n\n"
        f"{table(rows)}\n",
        encoding="utf-8",
    )


def draw(path, summary, where):
    """Bars: how many times as fast as each rival, and how far from the floor, in training."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    rows = [row for row in summary if row["kind"] == "training"]
    names = list(dict.fromkeys(row["layer"] for row in rows))
    rivals = [r for r in dict.fromkeys(row["beside"] for row in rows) if "floor" not in r]
    fig, axes = plt.subplots(1, 2, figsize=(9, 3.4), width_ratios=(2, 1))
    for ax, whom, title in (
        (axes[0], rivals, "times as fast as …"),
        (axes[1], ["floor", "floor and networks"], "times the floor"),
    ):
        width = 0.8 / max(1, len(whom))
        for i, who in enumerate(whom):
            found = {row["layer"]: row["mean"] for row in rows if row["beside"] == who}
            at = [names.index(name) + (i - (len(whom) - 1) / 2) * width for name in found]
            ax.bar(at, found.values(), width, label=who)
        ax.axhline(1, color="black", lw=0.8)
        ax.set_xticks(range(len(names)), names)
        ax.set_title(title, fontsize=10)
        ax.legend(fontsize=8)
    fig.suptitle("A training step of attn_lib's layers", fontsize=11)
    fig.text(0.01, 0.01, where, fontsize=6)
    fig.tight_layout(rect=(0, 0.03, 1, 1))
    fig.savefig(path, dpi=110)
    plt.close(fig)
