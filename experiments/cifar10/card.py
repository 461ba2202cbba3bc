"""Write the table of the checkpoints' model card from the results of the grid.

python -m experiments.cifar10.card
"""

import statistics

from experiments.cifar10 import grid

CARD = grid.RESULTS / "checkpoints" / "README.md"
BEGIN, END = "<!-- table -->\n", "<!-- end of table -->\n"


def rows(lines):
    """Cells of the table, one row a checkpoint."""
    for variant in grid.VARIANTS:
        runs = [r for r in lines if (r["variant"], r["epochs"]) == (variant, grid.EPOCHS)]
        if not runs:
            continue
        best = max(runs, key=lambda run: run["test_accuracy"])  # the first, as grid.keep has it
        accuracy = [100 * run["test_accuracy"] for run in runs]
        spread = f" ± {statistics.stdev(accuracy):.2f}" if len(runs) > 1 else ""
        yield [
            f"`{variant}.pt`",
            ", ".join(f"{k}={v!r}" for k, v in best["model"].items() if k in grid.VARIANTS[variant])
            or "attention=None",
            f"{best['parameters']:,}",
            f"{best['multiply_adds'] / 1e6:.2f} M",
            str(best["seed"]),
            f"{100 * best['test_accuracy']:.2f} %",
            f"{statistics.mean(accuracy):.2f}{spread} % ({len(runs)})",
        ]


def table(lines):
    """The table in Markdown."""
    head = ["file", "attention", "parameters", "multiply-adds", "seed", "its test accuracy"]
    head.append("mean ± s.d. (seeds)")
    align = [":--", ":--", "--:", "--:", "--:", "--:", "--:"]
    return "".join("| " + " | ".join(row) + " |\n" for row in [head, align, *rows(lines)])


def main():
    before, rest = CARD.read_text().split(BEGIN)
    after = rest.split(END)[1]
    CARD.write_text(before + BEGIN + table(grid.finished()) + END + after)


if __name__ == "__main__":
    main()
