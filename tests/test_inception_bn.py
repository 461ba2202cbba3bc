"""BN-Inception: the port's names and outputs, the paper's count, attention on every block."""

import pytest
import torch
from test_convert import shaken
from torch import nn
from torch.nn import functional as F

from attn_lib import layers, models
from attn_lib.cost import model_cost
from attn_lib.inspection import record_gates

MECHANISMS = ["se", "cbam", "bam", "eca", "coordinate"]

# bninception.py of Cadene/pretrained-models.pytorch, written out once more: input channels, the
# 1x1 branch, the 3x3 branch, the double 3x3 branch, the pooling and what it is projected to
PORT = {
    "3a": (192, [64], [64, 64], [64, 96, 96], "avg", [32]),
    "3b": (256, [64], [64, 96], [64, 96, 96], "avg", [64]),
    "3c": (320, [], [128, 160], [64, 96, 96], "stride 2", []),
    "4a": (576, [224], [64, 96], [96, 128, 128], "avg", [128]),
    "4b": (576, [192], [96, 128], [96, 128, 128], "avg", [128]),
    "4c": (576, [160], [128, 160], [128, 160, 160], "avg", [128]),
    "4d": (608, [96], [128, 192], [160, 192, 192], "avg", [128]),
    "4e": (608, [], [128, 192], [192, 256, 256], "stride 2", []),
    "5a": (1056, [352], [192, 320], [160, 224, 224], "avg", [128]),
    "5b": (1024, [352], [192, 320], [192, 224, 224], "max", [128]),
}
BRANCHES = (
    ("1x1",),
    ("3x3_reduce", "3x3"),
    ("double_3x3_reduce", "double_3x3_1", "double_3x3_2"),
    ("pool_proj",),
)


def port_shapes():
    """Names and shapes of the port's state dict, in its order."""
    convolutions = [
        ("conv1_7x7_s2", 3, 64, 7),
        ("conv2_3x3_reduce", 64, 64, 1),
        ("conv2_3x3", 64, 192, 3),
    ]
    for block, (start, one, three, double, _, projected) in PORT.items():
        for names, widths in zip(BRANCHES, (one, three, double, projected), strict=True):
            channels = start
            for name, width in zip(names, widths, strict=bool(widths)):
                side = 3 if name.endswith(("3x3", "_1", "_2")) else 1
                convolutions.append((f"inception_{block}_{name}", channels, width, side))
                channels = width
    shapes = {}
    for name, channels, width, side in convolutions:
        shapes |= {f"{name}.weight": (width, channels, side, side), f"{name}.bias": (width,)}
        for leaf in ("weight", "bias", "running_mean", "running_var"):
            shapes[f"{name}_bn.{leaf}"] = (width,)
        shapes[f"{name}_bn.num_batches_tracked"] = ()
    return shapes | {"last_linear.weight": (1000, 1024), "last_linear.bias": (1000,)}


def port_logits(state, x):
    """What the port computes of x with the weights ``state``."""

    def unit(x, name, stride=1):
        weight, bias = state[f"{name}.weight"], state[f"{name}.bias"]
        x = F.conv2d(x, weight, bias, stride, padding=weight.shape[2] // 2)
        leaves = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(state[f"{name}_bn.{leaf}"] for leaf in leaves)).relu()

    def halve(x):
        return F.max_pool2d(x, 3, stride=2, ceil_mode=True)

    x = halve(unit(x, "conv1_7x7_s2", 2))
    x = halve(unit(unit(x, "conv2_3x3_reduce"), "conv2_3x3"))
    for block, (_, one, three, double, pooling, projected) in PORT.items():
        outputs = []
        for names, widths in zip(BRANCHES, (one, three, double, projected), strict=True):
            y = x
            if names == ("pool_proj",) and pooling == "stride 2":
                y = halve(x)
            elif names == ("pool_proj",):
                pool = F.avg_pool2d if pooling == "avg" else F.max_pool2d
                y = pool(x, 3, stride=1, padding=1)
            elif not widths:
                continue
            for name in names[: len(widths)]:
                last = name == names[-1] and pooling == "stride 2"
                y = unit(y, f"inception_{block}_{name}", 2 if last else 1)
            outputs.append(y)
        x = torch.cat(outputs, 1)
    return F.linear(x.mean((2, 3)), state["last_linear.weight"], state["last_linear.bias"])


def flat(state):
    """A state dict of ours under the port's names."""
    blocks = [f"inception_{name}" for name in PORT]
    renamed = {}
    for name, tensor in state.items():
        block, _, rest = name.partition(".")
        renamed[f"{block}_{rest}" if block in blocks else name] = tensor
    return renamed


def test_names_and_shapes_are_the_ports():
    with torch.device("meta"):
        state = flat(models.inception_bn().state_dict())
    assert [(k, tuple(t.shape)) for k, t in state.items()] == list(port_shapes().items())


@pytest.mark.parametrize("side", [224, 97])  # even sides in front of both strides
def test_the_ports_checkpoint_loads_and_gives_the_same_logits(side):
    torch.manual_seed(0)
    state = flat(shaken(models.inception_bn(num_classes=7)).state_dict())
    ours = models.inception_bn(num_classes=7).double().eval()
    names = list(state)
    ours.load_state_dict(state)
    assert list(state) == names  # the caller's dictionary is left as it is
    x = torch.randn(1, 3, side, side, dtype=torch.float64)
    with torch.inference_mode():
        logits = port_logits(state, x)
        assert logits.std() > 0.01
        torch.testing.assert_close(ours(x), logits, rtol=1e-12, atol=1e-12)


def test_state_dict_round_trip():
    with torch.device("meta"):
        model = models.inception_bn("cbam", num_classes=3)
    own = model.state_dict()
    model.load_state_dict(own, assign=True)
    outer = nn.ModuleDict({"a": model})
    outer.load_state_dict({f"a.{key}": tensor for key, tensor in flat(own).items()}, assign=True)
    incomplete = flat(own)
    del incomplete["inception_4b_1x1.weight"]
    with pytest.raises(RuntimeError, match='Missing key.*"inception_4b.1x1.weight"'):
        model.load_state_dict(incomplete, assign=True)
    with pytest.raises(RuntimeError, match='Unexpected key.*"inception_4b.5x5.weight"'):
        model.load_state_dict(flat(own) | {"inception_4b_5x5.weight": torch.ones(1)}, assign=True)


def test_the_papers_count_of_operations():
    """SE paper, Table 2: 2.03 and 2.04 G."""
    with torch.device("meta"):
        plain, gated = models.inception_bn(), models.inception_bn("se")
    cost = model_cost(plain, (1, 3, 224, 224)).total
    assert cost == (11_295_240, 2_032_600_064) and round(cost.multiply_adds / 1e9, 2) == 2.03
    cost = model_cost(gated, (1, 3, 224, 224))
    assert cost.total == (11_941_638, 2_033_239_424)
    sides = {f"inception_{name}": 28 for name in ("3a", "3b")}
    sides |= {f"inception_{name}": 14 for name in ("3c", "4a", "4b", "4c", "4d")}
    sides |= {f"inception_{name}": 7 for name in ("4e", "5a", "5b")}
    with record_gates(gated.eval()) as gates:
        gated(torch.empty(1, 3, 224, 224, device="meta"))
    channels = {name.split(".")[0]: gate["channel"].shape[1] for name, gate in gates.items()}
    assert channels.keys() == sides.keys()
    maps = sum(channels[block] * side**2 for block, side in sides.items())
    assert round((cost.total.multiply_adds + 2 * maps) / 1e9, 2) == 2.04


@pytest.mark.parametrize("name", MECHANISMS)
def test_forward_and_backward_with_every_mechanism(name):
    torch.manual_seed(0)
    model = models.inception_bn(name, num_classes=3)
    gates = [m for m in model.modules() if type(m) is type(layers.build(name, 64))]
    assert len(gates) == 10
    loss = F.cross_entropy(model(torch.randn(2, 3, 64, 48)), torch.tensor([0, 2]))
    loss.backward()
    assert all(p.grad.isfinite().all() for p in model.parameters())
    reached = [p for m in gates for p in m.parameters() if p.ndim >= 2]
    assert all(p.grad.any() for p in reached)


def test_attention_gates_the_concatenated_branches_of_each_block():
    seen = []

    def make(channels):
        seen.append(channels)
        return nn.Identity()

    models.inception_bn(make)
    assert seen == [256, 320, 576, 576, 576, 608, 608, 1056, 1024, 1024]
    block = models.inception_bn("se").eval().inception_3c
    nn.init.zeros_(block.attention.fc2.weight)
    nn.init.constant_(block.attention.fc2.bias, -1e4)
    assert not block(torch.randn(1, 320, 8, 8)).any()  # the pooled branch is gated too


def test_one_value_a_stage():
    with torch.device("meta"):
        model = models.inception_bn("se", reduction=(2, 4, 8))
    reductions = [m.reduction for m in model.modules() if isinstance(m, layers.SqueezeExcitation)]
    assert reductions == [2] * 3 + [4] * 5 + [8] * 2


@pytest.mark.parametrize(
    "options, message",
    [
        ({"placement": "pre"}, "unknown placement 'pre'; the published ones are 'standard'"),
        ({"reduction": (2, 4)}, r"one value for each of the 3 stages; got \(2, 4\)"),
        ({"ratio": 4}, "'se' has no option 'ratio'"),
        ({"num_classes": 0}, "num_classes must be an integer of at least 1; got 0"),
    ],
)
def test_wrong_arguments_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        models.inception_bn("se", **options)


@pytest.mark.parametrize("attention", [None, lambda channels: nn.Conv2d(channels, channels, 1)])
def test_it_can_be_cut_and_traced(attention):
    model = models.inception_bn(attention, num_classes=3).eval()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        logits = model(x)
        features = nn.Sequential(*list(model.children())[:-2])(x)
        assert features.shape == (1, 1024, 2, 2)
        torch.testing.assert_close(model.last_linear(features.mean((2, 3))), logits)
        assert torch.equal(torch.fx.symbolic_trace(model)(x), logits)
