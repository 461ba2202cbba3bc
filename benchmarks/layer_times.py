"""One training step and one inference of every layer beside its rivals, in turns."""

import math

import torch

from attn_lib import layers
from attn_lib.profiling import in_turns, saved_bytes
from benchmarks import official
from benchmarks.floor import floor, networks

NAMES = ("se", "eca", "cbam", "coordinate", "bam")
FURTHER = ("ela", "ema", "ese", "fca", "gather_excite", "gc", "gct", "nonlocal", "scse", "simam")
FURTHER += ("sk", "srm", "triplet")  # without a floor
SHAPES = [(8, 64, 56, 56), (8, 256, 28, 28), (8, 512, 14, 14)]
FORMATS = {"NCHW": torch.contiguous_format, "channels_last": torch.channels_last}


def contestants(name, channels, timm, compiled):
    """Name -> layer; ``compiled`` adds torch.compile of each."""
    made = {"attn_lib": layers.build(name, channels)}
    for who, builders in (("timm", timm), ("official", official.LAYERS)):
        if name in builders:
            made[who] = builders[name](channels)
    if compiled:
        torch._dynamo.reset()  # or the cases before count towards its limit of recompilations
        made |= {f"{who}, compiled": torch.compile(layer) for who, layer in list(made.items())}
    return made


def training_step(layer, x, dy):
    def step():
        layer.zero_grad(set_to_none=True)
        x.grad = None
        layer(x).backward(dy)

    return step


def inference(layer, x):
    return torch.no_grad()(lambda: layer(x))


def measure(names, shapes, rounds, device, compiled=False):
    """Rows, one for each mechanism, shape, format, kind and contestant."""
    timm, rows = official.timms_layers(), []
    for name in names:
        for shape in shapes:
            for label, memory_format in FORMATS.items():
                x = torch.randn(shape, device=device).contiguous(memory_format=memory_format)
                x, dy = x.requires_grad_(), torch.randn_like(x)
                made = {
                    who: layer.to(device, memory_format=memory_format)
                    for who, layer in contestants(name, shape[1], timm, compiled).items()
                }
                training = {who: training_step(layer, x, dy) for who, layer in made.items()}
                if name in NAMES:
                    training["floor"] = floor(name, x, dy)
                    training["networks"] = networks(name, made["attn_lib"], x)
                times = in_turns(training, device, rounds=rounds)
                infer = {who: inference(layer, x) for who, layer in made.items()}
                infer = in_turns(infer, device, rounds=rounds)
                for kind, found in (("training", times), ("inference", infer)):
                    for who, time in found.items():
                        kept = None
                        if kind == "training" and who in made and "compiled" not in who:
                            kept = saved_bytes(made[who], x) / x.nbytes
                        where = {"layer": name, "shape": "x".join(map(str, shape)), "format": label}
                        rows.append(
                            where
                            | {"kind": kind, "who": who, "ms": 1e3 * time.median}
                            | {"low": 1e3 * time.low, "high": 1e3 * time.high, "maps kept": kept}
                        )
                print(f"{name:11}{where['shape']:14}{label}", flush=True)
    return rows


def summarise(rows):
    """Rows of attn_lib's place beside each rival: geometric mean and worst case of the ratios.

    A ratio is the rival's time over attn_lib's, so more than 1 is good; for the floor, alone and
    with the small networks, it is attn_lib's over the floor's, how far there is still to go.
    """
    cases = {}
    for row in rows:
        key = (row["layer"], row["kind"], row["shape"], row["format"])
        cases.setdefault(key, {})[row["who"]] = row["ms"]
    ratios = {}
    for (layer, kind, *_), times in cases.items():
        if "networks" in times:
            times["floor and networks"] = times["floor"] + times.pop("networks")
        for who, ms in times.items():
            if who != "attn_lib":
                ratio = times["attn_lib"] / ms if "floor" in who else ms / times["attn_lib"]
                ratios.setdefault((layer, kind, who), []).append(ratio)
    return [
        {"layer": layer, "kind": kind, "beside": who}
        | {"mean": math.prod(found) ** (1 / len(found))}
        | {"worst": max(found) if "floor" in who else min(found)}
        for (layer, kind, who), found in ratios.items()
    ]
