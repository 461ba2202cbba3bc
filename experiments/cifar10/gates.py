"""What the gates of a trained network do, measured over a data set.

``grid.py`` calls this after every epoch and at the end of every run; the arrays are small enough
to commit, so that chapters can draw them without CIFAR-10.
"""

import numpy as np
import torch

from attn_lib import train
from attn_lib.inspection import clamp_gates, record_gates

CLASSES = 10
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@torch.no_grad()
def recorded(model, x, batch_size=100):
    """Yield, batch by batch, the slice of the images and their gates."""
    model.eval()
    for start in range(0, len(x), batch_size):
        part = slice(start, start + batch_size)
        with record_gates(model) as gates:
            model(x[part])
        yield part, gates


def spread(model, x):
    """How far each gate is from a constant, over images x: a dictionary for the log of a run.

    module -> gate -> "quantiles" of all its values, and "over_images": the standard deviation
    from image to image, averaged over channels and positions.
    """
    batches = [gates for _, gates in recorded(model, x)]
    result = {}
    for module, gates in batches[0].items():
        result[module] = {}
        for key in gates:
            gate = torch.cat([batch[module][key] for batch in batches])
            levels = np.quantile(gate.cpu().numpy(), QUANTILES)
            result[module][key] = {
                "quantiles": [round(float(level), 4) for level in levels],
                "over_images": round(gate.std(0).mean().item(), 4),
            }
    return result


def by_class(model, x, y):
    """Mean and spread of every gate over the images of each class.

    Returns a dictionary of float16 arrays. For each module and gate, "module/gate/mean" and
    "module/gate/std" are (10, …) with the gate's own shape, such as (10, C, 1, 1); a gate with
    channels and positions (BAM's) is reduced to its mean over positions, "module/gate.channel",
    and over channels, "module/gate.spatial".
    """
    sums = {}
    for part, gates in recorded(model, x):
        member = torch.nn.functional.one_hot(y[part], CLASSES).double()
        for module, made in gates.items():
            for key, gate in _reduced(made):
                flat = gate.double().flatten(1)
                total = sums.setdefault(f"{module}/{key}", [0, 0, gate.shape[1:]])
                total[0] += member.T @ flat
                total[1] += member.T @ flat.square()
    count = torch.bincount(y, minlength=CLASSES)[:, None]
    result = {}
    for name, (first, second, shape) in sums.items():
        mean = first / count
        deviation = (second / count - mean.square()).clamp(min=0).sqrt()
        for key, value in (("mean", mean), ("std", deviation)):
            array = value.reshape(CLASSES, *shape).cpu().numpy()
            result[f"{name}/{key}"] = array.astype(np.float16)
    return result


def _reduced(gates):
    for key, gate in gates.items():
        if gate.shape[1] > 1 and gate.shape[2] > 1 and gate.shape[3] > 1:
            yield f"{key}.channel", gate.mean((2, 3), keepdim=True)
            yield f"{key}.spatial", gate.mean(1, keepdim=True)
        else:
            yield key, gate


def mean_gates(model, x):
    """Mean of every gate over images x, in the form that ``clamp_gates`` takes."""
    sums, count = {}, 0
    for _, gates in recorded(model, x):
        count += len(next(iter(next(iter(gates.values())).values())))
        for module, made in gates.items():
            for key, gate in made.items():
                known = sums.setdefault(module, {})
                known[key] = known.get(key, 0) + gate.double().sum(0, keepdim=True)
    return {m: {k: g / count for k, g in made.items()} for m, made in sums.items()}


def clamped_accuracy(model, x_train, x, y):
    """Test accuracy with each module's gates, then all, clamped to their means over x_train."""
    means = mean_gates(model, x_train)
    result = {}
    for module in means:
        with clamp_gates(model, {module: means[module]}):
            result[module] = train.evaluate(model, x, y, batch_size=100)
    with clamp_gates(model, means):
        result["all"] = train.evaluate(model, x, y, batch_size=100)
    return result
