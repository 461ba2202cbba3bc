"""Small networks on digits for the page *Playground*: ``python -m experiments.playground.train``.

It trains one network for each mechanism, rounds its weights to half precision, and writes

- checkpoint.pt: the rounded weights,
- results.json: test accuracies, also with gates that are held or see a shuffled feature map,
- book/_static/playground/data.js: the weights, sample digits and permutations for the browser.

``python -m experiments.playground.train --export`` writes the last two from the first.
"""

import base64
import json
import sys
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn
from torch.nn import functional as F

from attn_lib import layers
from attn_lib.data import digits

HERE = Path(__file__).parent
DATA = HERE.parents[1] / "book" / "_static" / "playground" / "data.js"
CHANNELS, EPOCHS, SEED = 32, 30, 0
MECHANISMS = {
    "se": lambda: layers.SqueezeExcitation(CHANNELS, reduction=4),
    "cbam": lambda: layers.CBAM(CHANNELS, reduction=4, kernel_size=3),
    "bam": lambda: layers.BAM(CHANNELS, reduction=4, dilation=1),
    "eca": lambda: layers.EfficientChannelAttention(CHANNELS, kernel_size=3),
    "coordinate": lambda: layers.CoordinateAttention(CHANNELS, reduction=4),
}


def network(name):
    """Three convolutions with the mechanism ``name`` after the second: (N, 1, 8, 8) to (N, 10)."""
    return nn.Sequential(
        OrderedDict(
            conv1=nn.Conv2d(1, 16, 3, padding=1),
            relu1=nn.ReLU(),
            conv2=nn.Conv2d(16, CHANNELS, 3, padding=1),
            relu2=nn.ReLU(),
            attention=MECHANISMS[name](),
            pool=nn.AvgPool2d(2),
            conv3=nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1),
            relu3=nn.ReLU(),
            mean=nn.AdaptiveAvgPool2d(1),
            flat=nn.Flatten(),
            fc=nn.Linear(CHANNELS, 10),
        )
    )


def train(name, data):
    """The network ``name`` in evaluation mode, trained on ``data`` and rounded to half."""
    torch.manual_seed(SEED)
    model = network(name)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, weight_decay=1e-2)
    steps = EPOCHS * (len(data.x_train) // 64)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-2, total_steps=steps)
    for _ in range(EPOCHS):
        order = torch.randperm(len(data.x_train))
        for i in range(len(order) // 64):
            rows = order[64 * i : 64 * (i + 1)]
            loss = F.cross_entropy(model(data.x_train[rows]), data.y_train[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    rounded = {key: value.half().float() for key, value in model.state_dict().items()}
    model.load_state_dict(rounded)
    return model.eval()


def permutations():
    """One order of the 64 places and one of the 8 rows, both as orders of places."""
    generator = torch.Generator().manual_seed(SEED)
    rows = torch.randperm(8, generator=generator)
    places = torch.randperm(64, generator=generator)
    return {"places": places, "rows": torch.arange(64).view(8, 8)[rows].flatten()}


def shuffled(x, order):
    """x, (N, C, H, W), with its places in another order."""
    return x.flatten(2)[:, :, order].view_as(x)


def outcome(model, x, compute=None):
    """Logits (N, 10) and gates for images x; ``compute(features)`` takes the gates' place."""
    features = model[:4](x)
    gates = (compute or model.attention.gates)(features)
    for gate in gates.values():
        features = features * gate
    return model[5:](features), gates


@torch.no_grad()
def mean_gates(model, x):
    """Every gate's mean over the images x, entry by entry."""
    features = model[:4](x)
    return {key: gate.mean(0) for key, gate in model.attention.gates(features).items()}


@torch.no_grad()
def accuracies(model, data):
    """Shares of the test set that are right, with the gates as they are and changed."""
    own = model.attention.gates
    held = {key: gate[None] for key, gate in mean_gates(model, data.x_train).items()}
    orders = permutations()
    variants = {
        "computed": own,
        "held": lambda x: held,
        "rows": lambda x: own(shuffled(x, orders["rows"])),
        "places": lambda x: own(shuffled(x, orders["places"])),
    }
    result = {}
    for name, compute in variants.items():
        logits, _ = outcome(model, data.x_test, compute)
        right = logits.argmax(1) == data.y_test
        result[name] = round(right.double().mean().item(), 4)
    right = model(shuffled(data.x_test, orders["places"])).argmax(1) == data.y_test
    return result | {"image": round(right.double().mean().item(), 4)}


def samples(data):
    """Two test images of each digit, as whole numbers from 0 to 16."""
    chosen = [i for digit in range(10) for i in (data.y_test == digit).nonzero()[:2, 0].tolist()]
    return [
        {
            "label": int(data.y_test[i]),
            "pixels": (data.x_test[i].flatten() * 16).int().tolist(),
        }
        for i in chosen
    ]


# Photographs that scikit-image ships: function, upper left corner and side of a square in them.
PHOTOGRAPHS = {
    "a cat": ("chelsea", 20, 90, 256),
    "a face": ("astronaut", 0, 90, 256),
    "a cup": ("coffee", 20, 120, 360),
}


def photographs():
    """Squares of photographs as the networks see them: 8 x 8 means, from 0 to 16."""
    from skimage import color
    from skimage import data as pictures

    found = []
    for name, (picture, top, left, side) in PHOTOGRAPHS.items():
        grey = color.rgb2gray(getattr(pictures, picture)())[top : top + side, left : left + side]
        cells = torch.from_numpy(grey).reshape(8, side // 8, 8, side // 8).mean((1, 3))
        cells = (cells - cells.min()) / (cells.max() - cells.min())
        found.append({"name": name, "pixels": (16 * cells).round().int().flatten().tolist()})
    return found


def packed(tensors):
    """Names and shapes of tensors, and their numbers in half precision as base64."""
    flat = torch.cat([value.detach().flatten() for value in tensors.values()]).half()
    return {
        "tensors": [[key, list(value.shape)] for key, value in tensors.items()],
        "numbers": base64.b64encode(flat.numpy().astype("<f2").tobytes()).decode(),
    }


def restore():
    """Dictionary of the networks in checkpoint.pt, in evaluation mode."""
    models = {}
    for name, state in torch.load(HERE / "checkpoint.pt", weights_only=True).items():
        models[name] = network(name).eval()
        models[name].load_state_dict({key: value.float() for key, value in state.items()})
    return models


def export(models, data):
    """The text of data.js and the dictionary of results.json."""
    results = {name: accuracies(model, data) for name, model in models.items()}
    networks = {}
    for name, model in models.items():
        state = {
            key: value
            for key, value in model.state_dict().items()
            if not key.endswith("num_batches_tracked")
        }
        means = mean_gates(model, data.x_train)
        networks[name] = packed(state | {f"mean.{key}": gate for key, gate in means.items()})
    content = {
        "networks": networks,
        "samples": samples(data) + photographs(),
        "orders": {key: order.tolist() for key, order in permutations().items()},
    }
    note = "// Written by experiments/playground/train.py; do not edit.\n"
    return f"{note}window.playgroundData = {json.dumps(content)};\n", results


def main(arguments):
    data = digits()
    if arguments != ["--export"]:
        states = {
            name: {key: value.half() for key, value in train(name, data).state_dict().items()}
            for name in MECHANISMS
        }
        torch.save(states, HERE / "checkpoint.pt")
    text, results = export(restore(), data)
    DATA.write_text(text, encoding="utf-8")
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
