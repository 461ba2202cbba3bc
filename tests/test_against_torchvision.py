"""The backbones without attention are torchvision's: keys, shapes, numbers."""

import pytest
import torch
from others import torchvision
from torch import nn

from attn_lib import models

PAIRS = [
    *(
        (f"resnet{depth}", {}, lambda depth=depth: models.resnet(depth))
        for depth in (18, 34, 50, 101, 152)
    ),
    *(
        ("mobilenet_v2", {"width_mult": width}, lambda width=width: models.mobilenet_v2(width))
        for width in (0.35, 0.5, 0.75, 1.0, 1.4)
    ),
    (
        "googlenet",
        {"aux_logits": True, "init_weights": True},
        lambda: models.googlenet(aux_logits=True),
    ),
    (
        "googlenet",
        {"aux_logits": False, "init_weights": True},
        lambda: models.googlenet(),
    ),
]


@pytest.mark.parametrize("name, options, make", PAIRS, ids=lambda value: str(value)[:20])
def test_keys_shapes_and_what_is_not_in_the_state_dict(name, options, make):
    """Batch norm's constants and the strides included, of every module in turn."""
    with torch.device("meta"):
        theirs, ours = getattr(torchvision.models, name)(**options), make()
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes
    own = dict(ours.named_modules())
    for key, module in theirs.named_modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.Linear):
            assert repr(own[key]) == repr(module), key


def trained(module, seed):
    """In float64, with batch norms that do something; the same for the same seed and names."""
    generator = torch.Generator().manual_seed(seed)
    for _, part in sorted(module.named_modules()):
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.5, generator=generator)
            part.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.normal_(part.weight, 1, 0.2, generator=generator)
            nn.init.normal_(part.bias, 0, 0.2, generator=generator)
    return module.double()


@pytest.mark.parametrize(
    "name, options, make",
    [PAIRS[0], PAIRS[2], PAIRS[6], PAIRS[10]],
    ids=["resnet18", "resnet50", "mobilenet_v2", "googlenet"],
)
def test_logits(name, options, make):
    torch.manual_seed(0)
    theirs = trained(getattr(torchvision.models, name)(**options), 1).eval()
    ours = make().double().eval()
    ours.load_state_dict(theirs.state_dict())
    x = torch.randn(1, 3, 65, 94, dtype=torch.float64)
    with torch.inference_mode():
        logits = theirs(x)
        assert logits.std() > 1e-3
        torch.testing.assert_close(ours(x), logits, rtol=1e-12, atol=1e-12)


def test_googlenet_in_training_returns_the_auxiliary_logits_in_torchvisions_order():
    torch.manual_seed(0)
    theirs = torchvision.models.googlenet(num_classes=5, init_weights=False).double().train()
    ours = models.googlenet(num_classes=5, aux_logits=True).double().train()
    ours.load_state_dict(theirs.state_dict())
    for model in (theirs, ours):
        for part in model.modules():
            if isinstance(part, nn.Dropout):
                part.p = 0.0
    x = torch.randn(2, 3, 64, 64, dtype=torch.float64)
    for own, logits in zip(ours(x), theirs(x), strict=True):
        torch.testing.assert_close(own, logits, rtol=1e-10, atol=1e-10)


def largest(parameter):
    return parameter.abs().max().item()


@pytest.mark.parametrize(
    "name, options, make",
    [PAIRS[0], PAIRS[6], PAIRS[11]],
    ids=["resnet18", "mobilenet_v2", "googlenet"],
)
def test_initialisation(name, options, make):
    """Weights of the same spread, biases and batch norms the same."""
    torch.manual_seed(0)
    theirs, ours = getattr(torchvision.models, name)(**options), make()
    own = dict(ours.named_parameters())
    for key, parameter in theirs.named_parameters():
        if parameter.numel() >= 1000 and parameter.std() > 0:
            assert own[key].std().item() == pytest.approx(parameter.std().item(), rel=0.15), key
            assert largest(own[key]) == pytest.approx(largest(parameter), rel=0.5), key
        elif parameter.std() == 0:
            assert torch.equal(own[key], parameter), key
