"""Draw the first page's picture: `python book/tools/cover.py` writes book/_static/cover/.

A photograph goes through five trained networks, and of each the gates of sixteen channels are
drawn. There is one picture for light pages and one for dark ones. `make front` calls it.
"""

import json
import sys
from io import BytesIO
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot as plt
from PIL import Image, PngImagePlugin
from skimage import data as photographs
from torch.nn import functional as F

from attn_lib import data, models, plot
from attn_lib.inspection import record_gates

FOLDER = Path(__file__).parents[1] / "_static" / "cover"
# Title -> variant of the experiment on CIFAR-10, and the layer behind the first stage.
GATES = {
    "SE": ("se", "layer1.1.attention"),
    "ECA": ("eca", "layer1.1.attention"),
    "CBAM": ("cbam", "layer1.1.attention"),
    "BAM": ("bam", "attention.0"),
    "CA": ("coordinate", "layer1.1.attention"),
}
KEY = "gates"  # of the text in the pictures
INK = {"light": "#1F2937", "dark": "#D3D9E0"}  # on the page's own ground, of course.css
GROUND = {"light": "#FFFFFF", "dark": "#14181D"}


def result(name):
    return data.measured(f"cifar10/results/{name}")


def photograph():
    """A square of scikit-image's cat: as it is, and (1, 3, 32, 32) in the range 0 to 1."""
    square = photographs.chelsea()[:, 90:390]
    x = torch.from_numpy(square / 255.0).permute(2, 0, 1)[None]
    small = F.interpolate(x, size=(32, 32), mode="bilinear", antialias=True)
    return square, small.clamp(0, 1)


def network(variant):
    """The stored network of a variant, in float64."""
    lines = result("runs.jsonl").read_text(encoding="utf-8").splitlines()
    line = next(run for run in map(json.loads, lines) if run["variant"] == variant)
    options = {key: value for key, value in line["model"].items() if key != "name"}
    model = models.resnet_cifar(**options).double().eval()
    path = result(f"checkpoints/{variant}.pt")
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model


def gates(x):
    """Title -> what multiplies the 16 channels at each place, (16, 32, 32)."""
    scale = json.loads(result("checkpoints/input.json").read_text())
    mean, std = (torch.tensor(scale[key], dtype=x.dtype)[:, None, None] for key in ("mean", "std"))
    found = {}
    for title, (variant, layer) in GATES.items():
        model = network(variant)
        with record_gates(model) as recorded, torch.no_grad():
            model((x - mean) / std)
        product = torch.ones(1, 16, 32, 32, dtype=x.dtype)
        for gate in recorded[layer].values():
            product = product * gate
        found[title] = product[0].numpy()
    return found


def mosaic(planes):
    """(16, H, W) -> four rows of four planes, with gaps that are not drawn."""
    count, height, width = planes.shape
    padded = np.full((count, height + 2, width + 2), np.nan)
    padded[:, 1:-1, 1:-1] = planes
    rows = padded.reshape(4, 4, height + 2, width + 2).transpose(0, 2, 1, 3)
    return rows.reshape(4 * (height + 2), 4 * (width + 2))


def draw(picture, found, shade):
    """The figure for light or for dark pages."""
    ink = INK[shade]
    fig, axes = plt.subplots(2, 3, figsize=(6.4, 5.0), facecolor=GROUND[shade], layout="none")
    fig.subplots_adjust(left=0.01, right=0.99, top=0.94, bottom=0.07, wspace=0.06, hspace=0.3)
    for ax in axes.flat:
        ax.set(xticks=[], yticks=[], facecolor=GROUND[shade])
        ax.spines[:].set_visible(False)
    first, *others = axes.flat
    first.imshow(picture)
    first.set_title("a photograph", color=ink, size=15)
    for ax, (title, planes) in zip(others, found.items(), strict=True):
        ax.imshow(mosaic(planes))
        ax.set_title(title, color=ink, size=15)
        ax.set_xlabel(span(planes), color=ink, size=14)
    return fig


def span(planes):
    return f"{planes.min():.2f} to {planes.max():.2f}"


def main(folder=FOLDER):
    """Write both pictures into ``folder``, with the ranges that they show in their text."""
    folder.mkdir(parents=True, exist_ok=True)
    plot.use_style()
    picture, x = photograph()
    found = gates(x)
    about = PngImagePlugin.PngInfo()
    about.add_itxt(KEY, json.dumps({title: span(planes) for title, planes in found.items()}))
    for shade in INK:
        fig = draw(picture[::2, ::2], found, shade)
        fig.savefig(file := BytesIO(), dpi=160)
        plt.close(fig)
        colours = Image.open(file).convert("RGB").quantize(256, dither=Image.Dither.NONE)
        colours.save(folder / f"{shade}.png", optimize=True, pnginfo=about)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
