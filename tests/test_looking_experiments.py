"""The experiments behind the chapter on looking inside: their parts, and what they stored."""

import json

import numpy as np
import torch
from torch import nn

from experiments.cifar10 import early, grid
from experiments.imagenet import gradcam


def test_the_properties_of_a_picture():
    x = torch.zeros(2, 3, 4, 4)
    x[0, 2], x[1, :, :2] = 0.6, 1  # a blue picture, and one with a white upper half
    found = early.properties(x)
    assert np.allclose(found["brightness"], [0.2, 0.5])
    assert np.allclose(found["blue"], [0.6, 0])
    assert np.allclose(found["top less bottom"], [0, 1])
    assert found["contrast"][0] < 1e-9 < found["contrast"][1]


def test_what_a_linear_formula_explains():
    rng = np.random.default_rng(0)
    columns, noise = rng.normal(size=(500, 2)), rng.normal(size=500)
    assert np.isclose(early.explained(3 + columns @ [1, -2], columns), 1)
    assert early.explained(noise, columns) < 0.03
    assert abs(early.explained(columns.sum(1) + 2**0.5 * noise, columns) - 0.5) < 0.07


def test_what_is_stored_of_the_early_gates():
    stored = json.loads((grid.RESULTS / "early.json").read_text())
    assert set(stored["networks"]) == set(early.VARIANTS)
    for network in stored["networks"].values():
        assert len(network) == 6
        for found in network.values():
            shares = [v for k, v in found.items() if k != "correlation"]
            assert all(0 <= v <= 1 for v in [*shares, *found["correlation"].values()])
            single = max(found["correlation"].values()) ** 2
            assert found["explained by the properties"] >= single - 0.002


def test_covered_cells_get_the_mean_colour():
    x = torch.rand(1, 3, 14, 14)
    y = gradcam.covered(x, [0, 8])
    assert torch.allclose(y[..., :2, :2], x.mean((2, 3), keepdim=True).expand(1, 3, 2, 2))
    assert torch.equal(y[..., 4:, :], x[..., 4:, :]) and torch.equal(
        y[..., 2:4, 4:], x[..., 2:4, 4:]
    )


def test_random_weights_are_normalised_for_the_images():
    model = nn.Sequential(nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)).eval()
    x = 5 + torch.randn(6, 3, 8, 8)
    y = gradcam.randomised(model, x, 0)(x)
    assert not model.training
    assert torch.allclose(y.mean((0, 2, 3)), torch.zeros(4), atol=1e-4)


def test_what_is_stored_at_224_pixels():
    stored = json.loads((gradcam.RESULTS / "gradcam.json").read_text())
    assert list(stored["photographs"]) == list(gradcam.photographs(16))
    for found in stored["photographs"].values():
        cam = np.array(found["map"])
        assert cam.shape == (7, 7) and cam.max() == 1 and cam.min() >= 0
        assert found["class"] in gradcam.NAMES.values()
        assert 0 <= found["places that cost as much"] <= 48
