"""Whole networks with each mechanism, relative to the same network without."""

import torch

from attn_lib import models
from attn_lib.profiling import in_turns, saved_bytes
from benchmarks.layer_times import NAMES

NETWORKS = {
    "ResNet-50": lambda attention: models.resnet(50, attention),
    "MobileNetV2": lambda attention: models.mobilenet_v2(attention=attention),
}


def measure(rounds, device, batch, side, networks=tuple(NETWORKS), names=NAMES):
    """Rows: images a second and memory of one network with one mechanism."""
    rows = []
    for network in networks:
        x = torch.randn(batch, 3, side, side, device=device)
        made = {name: NETWORKS[network](name).to(device) for name in (None, *names)}
        steps = {name: training_step(model, x) for name, model in made.items()}
        training = in_turns(steps, device, rounds=rounds)
        kept = {name: saved_bytes(model, x) for name, model in made.items()}
        peak = {name: peak_memory(step, device) for name, step in steps.items()}
        for model in made.values():
            model.eval()
        passes = {name: inference(model, x) for name, model in made.items()}
        infer = in_turns(passes, device, rounds=rounds)
        for kind, times in (("training", training), ("inference", infer)):
            for name, time in times.items():
                row = {"network": network, "attention": name or "none", "kind": kind}
                row |= {"images/s": batch / time.median}
                row |= {"low": batch / time.high, "high": batch / time.low}
                row |= {"relative time": time.median / times[None].median}
                if kind == "training":
                    row |= {"MB kept": kept[name] / 1e6, "relative memory": kept[name] / kept[None]}
                    row |= {"peak MB": peak[name]}
                rows.append(row)
        print(network, flush=True)
    return rows


def training_step(model, x):
    def step():
        model.zero_grad(set_to_none=True)
        model(x).square().mean().backward()

    return step


def inference(model, x):
    return torch.no_grad()(lambda: model(x))


def peak_memory(step, device):
    """Megabytes on a GPU at the height of a step; None elsewhere, where PyTorch does not count."""
    if torch.device(device).type != "cuda":
        return None
    torch.cuda.reset_peak_memory_stats()
    step()
    return torch.cuda.max_memory_allocated() / 1e6
