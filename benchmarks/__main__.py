"""Time each layer beside its counterpart in timm, forward and backward.

    python -m benchmarks [--threads N]

Only ratios of one run mean anything: the two layers take turns, so that whatever else the machine
does meets both. timm is optional (`pip install timm`); without it attn_lib is timed alone.
"""

import argparse
import statistics

import torch
from torch.utils.benchmark import Timer

from attn_lib import layers

SHAPES = [(8, 64, 56, 56), (8, 256, 14, 14), (8, 512, 7, 7)]
ROUNDS = 7


def counterparts():
    """Name -> function of the channels that builds timm's layer; empty without timm."""
    try:
        from timm.layers import EcaModule, SEModule
        from timm.layers.cbam import CbamModule
    except (ImportError, RuntimeError) as error:  # RuntimeError: a torchvision without its ops
        print(f"timm's layers cannot be imported ({error}); timing attn_lib alone.\n")
        return {}
    return {
        "se": lambda c: SEModule(c, rd_ratio=1 / 16, rd_divisor=1),
        "cbam": lambda c: CbamModule(c, rd_ratio=1 / 16, rd_divisor=1),
        "eca": EcaModule,
    }


def step(layer, x):
    layer.zero_grad(set_to_none=True)
    layer(x).sum().backward()


def milliseconds(runs):
    """Median time of each run; they take turns, ROUNDS times."""
    timers = [Timer("step(layer, x)", globals={"step": step, **run}) for run in runs]
    times = [[] for _ in runs]
    for _ in range(ROUNDS):
        for timer, found in zip(timers, times, strict=True):
            found.append(1e3 * timer.blocked_autorange(min_run_time=0.05).median)
    return [statistics.median(found) for found in times]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    others = counterparts()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(
        f"PyTorch {torch.__version__}, {device}, {torch.get_num_threads()} thread(s); "
        "milliseconds for a forward and a backward pass"
    )
    print(
        f"{'layer':11} {'shape':18} {'memory format':14} {'attn_lib':>9} {'timm':>9} {'ratio':>6}"
    )
    for name in ("se", "cbam", "bam", "eca", "coordinate"):
        for shape in SHAPES:
            for memory_format in (torch.contiguous_format, torch.channels_last):
                x = torch.randn(shape, device=device).to(memory_format=memory_format)
                x.requires_grad_()
                made = [layers.build(name, shape[1])]
                if name in others:
                    made.append(others[name](shape[1]))
                runs = [
                    {"layer": m.to(device).to(memory_format=memory_format), "x": x} for m in made
                ]
                times = milliseconds(runs)
                text = f"{times[0]:9.2f}"
                if len(times) == 2:
                    text += f" {times[1]:9.2f} {times[0] / times[1]:6.2f}"
                label = str(memory_format).removeprefix("torch.").removesuffix("_format")
                print(f"{name:11} {'x'.join(map(str, shape)):18} {label:14} {text}", flush=True)


if __name__ == "__main__":
    main()
