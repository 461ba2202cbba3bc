"""Time attn_lib's layers and networks beside others, and write tables and a figure.

    python -m benchmarks [--networks] [--compile] [--rounds N] [--device cuda] …

Only ratios of one run mean anything: all take turns, so that whatever else the machine does meets
everybody. timm is optional; without it the authors' formulations are still there.
"""

import argparse
from pathlib import Path

import torch

from benchmarks import layer_times, network_times, report
from benchmarks.measure import machine

RESULTS = Path(__file__).parent / "results"


def main(arguments=None):
    """Measure what the command line asks for; returns nothing, writes into ``--out``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    default = "cuda" if torch.cuda.is_available() else "cpu"
    parser.add_argument("--device", default=default, help="cpu or cuda (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="of PyTorch on a CPU (%(default)s)")
    parser.add_argument("--rounds", type=int, default=25, help="timings of each (%(default)s)")
    known = layer_times.NAMES + layer_times.FURTHER
    parser.add_argument("--layers", nargs="+", choices=known, default=layer_times.NAMES)
    parser.add_argument("--compile", action="store_true", help="torch.compile of each too: slow")
    parser.add_argument("--networks", action="store_true", help="whole networks instead of layers")
    parser.add_argument("--batch", type=int, default=4, help="images for networks (%(default)s)")
    parser.add_argument("--side", type=int, default=224, help="of those images (%(default)s)")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for tables and figure")
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    chosen.out.mkdir(parents=True, exist_ok=True)
    where = machine(chosen.device)
    print(where)
    if chosen.networks:
        rows = network_times.measure(chosen.rounds, chosen.device, chosen.batch, chosen.side)
        where += f"; {chosen.batch} images of {chosen.side} x {chosen.side}"
        report.write_networks(chosen.out, rows, where)
        print(report.table(rows))
        return
    rows = layer_times.measure(
        chosen.layers, layer_times.SHAPES, chosen.rounds, chosen.device, chosen.compile
    )
    summary = layer_times.summarise(rows)
    report.write_layers(chosen.out, rows, summary, f"{where}; {chosen.rounds} rounds")
    print(report.table(summary))


if __name__ == "__main__":
    main()
