"""The benchmark compares layers that compute the same, and writes what it measured."""

import csv
import math

import pytest
import torch
from naive import randomised

from attn_lib import layers
from benchmarks import __main__ as command
from benchmarks import layer_times, network_times, official
from benchmarks.floor import floor, networks
from benchmarks.measure import machine

NAMES = layer_times.NAMES


@pytest.mark.parametrize("name", official.LAYERS)
def test_the_official_formulation_computes_the_same(name):
    torch.manual_seed(0)
    ours, theirs = layers.build(name, 32).double(), official.LAYERS[name](32).double()
    theirs.load_state_dict(randomised(ours).state_dict())
    x, y = torch.randn(2, 3, 32, 7, 7, dtype=torch.float64).unbind()
    a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
    torch.testing.assert_close(ours(a), theirs(b))
    ours(a).backward(y)
    theirs(b).backward(y)
    torch.testing.assert_close(a.grad, b.grad)


@pytest.mark.parametrize(
    "name", ["se", "eca", "cbam", "coordinate", "ese", "gather_excite", "gc", "sk"]
)
def test_timms_layers_have_the_same_size(name):
    count = [
        sum(p.numel() for p in layer.parameters())
        for layer in (layers.build(name, 64), official.timms_layers()[name](64))
    ]
    # where theirs have no biases: in CBAM's MLP and in the convolutions of CA
    assert 0 <= count[0] - count[1] <= 2 * 64 + 8


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("memory_format", layer_times.FORMATS.values())
def test_the_floor_leaves_its_inputs_alone(name, memory_format):
    x, dy = torch.randn(2, 2, 8, 6, 5).unbind()
    x = x.contiguous(memory_format=memory_format).requires_grad_()
    before = x.clone(), dy.clone()
    floor(name, x, dy)()
    assert torch.equal(x, before[0]) and torch.equal(dy, before[1]) and x.grad is None


@pytest.mark.parametrize("name", NAMES)
def test_the_networks_of_the_floor_reach_every_parameter(name):
    layer = layers.build(name, 32)
    networks(name, layer, torch.randn(2, 32, 6, 5))()
    assert all(p.grad is not None for p in layer.parameters())


def test_ratios_say_who_is_faster():
    def row(who, ms, shape):
        return {"layer": "se", "kind": "training", "shape": shape, "format": "NCHW"} | {
            "who": who,
            "ms": ms,
        }

    rows = [row("attn_lib", 2.0, "a"), row("timm", 4.0, "a"), row("floor", 1.0, "a")]
    rows += [row("attn_lib", 2.0, "b"), row("timm", 16.0, "b"), row("floor", 0.5, "b")]
    rows += [row("networks", 1.0, "a"), row("networks", 0.5, "b")]
    timm, floor, both = layer_times.summarise(rows)
    assert (timm["beside"], timm["mean"], timm["worst"]) == ("timm", 4, 2)
    assert (floor["beside"], floor["mean"], floor["worst"]) == ("floor", math.sqrt(8), 4)
    assert (both["beside"], both["mean"], both["worst"]) == (
        "floor and networks",
        math.sqrt(2),
        2,
    )


def test_the_command_writes_its_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(layer_times, "SHAPES", [(2, 32, 5, 5)])
    command.main(
        ["--device", "cpu", "--rounds", "2", "--layers", "se", "bam", "gc", "--out", str(tmp_path)]
    )
    with (tmp_path / "layers.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["who"] for row in rows} == {"attn_lib", "timm", "official", "floor", "networks"}
    assert {row["layer"] for row in rows} == {"se", "bam", "gc"}
    assert all(float(row["ms"]) > 0 for row in rows)
    text = (tmp_path / "layers.md").read_text(encoding="utf-8")
    assert machine("cpu").split(",")[0] in text and "| se | training | timm |" in text
    assert (tmp_path / "layers.png").stat().st_size > 5000
    assert "beside" in capsys.readouterr().out


def test_networks_are_relative_to_the_one_without(monkeypatch):
    rows = network_times.measure(1, "cpu", 2, 32, networks=("MobileNetV2",), names=("eca",))
    assert [(row["attention"], row["kind"]) for row in rows] == [
        ("none", "training"),
        ("eca", "training"),
        ("none", "inference"),
        ("eca", "inference"),
    ]
    assert rows[0]["relative time"] == rows[0]["relative memory"] == 1 < rows[1]["relative memory"]
