"""The lines of the page on published weights, run on checkpoints with the published names."""

import re
from pathlib import Path

import pytest
import torch
from test_convert import BAM, CBAM, ECA_MOBILE, FLAT, renamed

from attn_lib import models

PAGE = Path(__file__).parents[1] / "book" / "models.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.S | re.M)


def wrapped(state, **more):
    """As saved from DataParallel, beside other things."""
    return {"epoch": 1, "state_dict": {f"module.{k}": v for k, v in state.items()}, **more}


def mbv2_ca(last):
    names = [*FLAT, ("conv_h", "conv2"), ("conv_w", "conv3"), ("classifier.1", last)]
    return renamed(models.mobilenet_v2(attention="coordinate"), names)


FILES = {  # name of the file that a block loads: what to put there
    "resnet50-11ad3fa6.pth": lambda: models.resnet(50).state_dict(),
    "se_resnet50-ce0d4300.pth": lambda: renamed(
        models.resnet(50, "se", variant="caffe"),
        [("attention", "se_module"), ("fc.", "last_linear.")],
    ),
    "seresnet50_a1_0-ffa00869.pth": lambda: renamed(models.resnet(50, "se"), [("attention", "se")]),
    "RESNET50_CBAM_new_name_wrap.pth": lambda: wrapped(
        renamed(models.resnet(50, "cbam"), [("attention", "cbam"), *CBAM])
    ),
    "RESNET50_IMAGENET_BAM_best.pth.tar": lambda: wrapped(
        renamed(
            models.resnet(50, "bam"),
            [*((f"attention.{i}", f"bam{i + 1}") for i in range(3)), *BAM],
        )
    ),
    "eca_resnet50_k3557.pth.tar": lambda: wrapped(
        renamed(models.resnet(50, "eca", kernel_size=(3, 5, 5, 7)), [("attention", "eca")])
    ),
    "eca_mobilenetv2_k13.pth.tar": lambda: wrapped(
        renamed(models.mobilenet_v2(attention="eca", kernel_size=(1, 1, 1, 1, 1, 3, 3)), ECA_MOBILE)
    ),
    "mbv2_ca.pth": lambda: mbv2_ca("classifier"),
}


def file_of(block):
    return re.search(r'torch\.load\("([^"]+)"', block)[1]


def test_every_file_is_tried():
    assert {file_of(block) for block in BLOCKS} == set(FILES)


@pytest.mark.parametrize("block", BLOCKS, ids=file_of)
def test_a_block_loads_what_it_names(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    checkpoint = FILES[file_of(block)]()
    torch.save(checkpoint, file_of(block))
    state = checkpoint.get("state_dict", checkpoint)
    space = {}
    exec(compile(block, str(PAGE), "exec"), space)
    loaded = space["model"].state_dict()
    if "strict=False" in block:
        loaded = {name: t for name, t in loaded.items() if ".attention." not in name}
    for (name, ours), (key, theirs) in zip(loaded.items(), state.items(), strict=True):
        assert torch.equal(ours, theirs), (name, key)  # the same order in both


def test_the_last_layer_of_mbv2_ca_may_have_either_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (block,) = (b for b in BLOCKS if file_of(b) == "mbv2_ca.pth")
    weights = mbv2_ca("classifier.1")
    torch.save(weights, "mbv2_ca.pth")
    space = {}
    exec(compile(block, str(PAGE), "exec"), space)
    last = space["model"].classifier[1].weight
    assert torch.equal(last, weights["classifier.1.weight"])


@pytest.mark.parametrize(
    "call",
    re.findall(r"`((?:resnet|mobilenet_v2|googlenet)\(.*?\))`", PAGE.read_text(encoding="utf-8")),
)
def test_the_calls_in_the_text(call):
    space = {"depth": 18, "resnet": models.resnet}
    space |= {"mobilenet_v2": models.mobilenet_v2, "googlenet": models.googlenet}
    with torch.device("meta"):
        assert sum(p.numel() for p in eval(call, space).parameters()) > 10**6
