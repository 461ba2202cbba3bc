"""The lines of the page on published weights, run on checkpoints with the published names."""

import re
from pathlib import Path

import pytest
import torch
from test_convert import BAM, CBAM, ECA_MOBILE, FLAT, beside, renamed, shaken
from test_inception_bn import flat
from torch import nn

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
    "bn_inception-239d2248.pth": lambda: flat(models.inception_bn().state_dict()),
    "epoch_100.pth.tar": lambda: nn.DataParallel(shaken(beside(50)).float()),
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
    space = {}
    exec(compile(block, str(PAGE), "exec"), space)
    if isinstance(checkpoint, nn.Module):  # the network itself
        x = torch.randn(1, 3, 224, 224)
        with torch.inference_mode():
            torch.testing.assert_close(space["model"].eval()(x), checkpoint(x))
        return
    state = checkpoint.get("state_dict", checkpoint)
    loaded = space["model"].state_dict()
    if "strict=False" in block:
        assert loaded["fc.weight"].shape == (10, 2048)
        own = ("attention", "fc")
        loaded = {name: t for name, t in loaded.items() if not set(name.split(".")) & set(own)}
        state = {name: t for name, t in state.items() if not name.startswith("fc.")}
    for (name, ours), (key, theirs) in zip(loaded.items(), state.items(), strict=True):
        assert torch.equal(ours, theirs), (name, key)  # the same order in both


@pytest.mark.parametrize(
    "make, classifier",
    [
        (lambda **options: models.resnet(50, **options), ("fc.",)),
        (lambda **options: models.resnet(18, **options), ("fc.",)),
        (models.mobilenet_v2, ("classifier.",)),
        (models.googlenet, ("fc.", "aux1.", "aux2.")),
        (models.inception_bn, ("last_linear.",)),
    ],
)
@pytest.mark.parametrize("attention", ["se", "bam"])
@pytest.mark.filterwarnings("ignore:for .* copying from a non-meta parameter")
def test_fine_tuning_leaves_out_what_the_text_names(make, classifier, attention):
    """As the block does for ResNet-50: every backbone, and attention between the stages as well."""
    text = PAGE.read_text(encoding="utf-8")
    assert all(f"`{name}`" in text for name in classifier)
    published = {"aux_logits": True} if make is models.googlenet else {}
    with torch.device("meta"):
        weights = make(**published).state_dict()
        model = make(attention=attention, num_classes=10)
    with pytest.raises(RuntimeError, match="size mismatch"):
        model.load_state_dict(weights, strict=False)
    weights = {name: t for name, t in weights.items() if not name.startswith(classifier)}
    missing, unexpected = model.load_state_dict(weights, strict=False, assign=True)
    assert not unexpected
    assert all("attention" in name.split(".") or name.startswith(classifier) for name in missing)


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
    re.findall(
        r"`((?:resnet|mobilenet_v2|googlenet|inception_bn)\(.*?\))`",
        PAGE.read_text(encoding="utf-8"),
    ),
)
def test_the_calls_in_the_text(call):
    space = {"depth": 18, "resnet": models.resnet}
    space |= {"mobilenet_v2": models.mobilenet_v2, "googlenet": models.googlenet}
    space |= {"inception_bn": models.inception_bn}
    with torch.device("meta"):
        assert sum(p.numel() for p in eval(call, space).parameters()) > 10**6
