"""Every mechanism with the options under which the tests hold NumPy and PyTorch to each other."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from attn_lib import layers, reference


@dataclass(frozen=True)
class Case:
    name: str  # of layers.build, and of the module in attn_lib.reference
    channels: int = 8
    options: dict = field(default_factory=dict)  # of the layer, and of reference init
    forward_options: dict = field(default_factory=dict)  # those that reference forward needs again
    gates: tuple = ("channel",)
    # how many values a channel the smallest batch norm sees in training; one is an error
    batch_norm_values: Callable = lambda n, h, w: float("inf")

    def layer(self, **factory):
        return layers.build(self.name, self.channels, **self.options).to(**factory)

    @property
    def reference(self):
        return getattr(reference, self.name)

    def params(self, rng):
        return self.reference.init(self.channels, rng=rng, **self.options)

    def __str__(self):
        options = ",".join(f"{key}={value}" for key, value in self.options.items())
        return f"{self.name}({options})"


class Half(Case):
    """A half of CBAM alone (name: channel or spatial), which layers.build does not know."""

    def layer(self, **factory):
        if self.name == "channel":
            return layers.ChannelAttention(self.channels, **self.options).to(**factory)
        return layers.SpatialAttention(**self.options).to(**factory)

    @property
    def reference(self):
        functions = ("init", "forward", "backward")
        return SimpleNamespace(
            **{f: getattr(reference.cbam, f"{self.name}_{f}") for f in functions}
        )

    def params(self, rng):
        channels = (self.channels,) if self.name == "channel" else ()
        return self.reference.init(*channels, rng=rng, **self.options)


def _positions(n, h, w):
    return n * h * w


CASES = [
    Case("se", options={"reduction": 4}),
    Case("se", options={"reduction": 4, "bias": False}),
    Case("se", channels=3, options={"reduction": 16}),  # fewer channels than the reduction
    Case(
        "cbam",
        options={"reduction": 4},
        gates=("channel", "spatial"),
        batch_norm_values=_positions,
    ),
    Case(
        "cbam",
        channels=3,
        options={"kernel_size": 3},
        gates=("channel", "spatial"),
        batch_norm_values=_positions,
    ),
    Case(
        "bam",
        options={"reduction": 2},
        gates=("joint",),
        batch_norm_values=lambda n, h, w: n,
    ),
    Case(
        "bam",
        options={"reduction": 4, "dilation": 2, "combine": "sum"},
        forward_options={"dilation": 2, "combine": "sum"},
        gates=("joint",),
        batch_norm_values=lambda n, h, w: n,
    ),
    Case("eca"),
    Case("eca", options={"kernel_size": 5}),
    Case("eca", channels=6, options={"gamma": 1, "b": 3}),  # k = 5 by the rule
    Case("eca", channels=3, options={"kernel_size": 7}),  # a kernel wider than the channels
    Case("eca", channels=4, options={"kernel_size": 1}),
    Case("coordinate", gates=("height", "width")),
    Case("coordinate", channels=18, options={"reduction": 2}, gates=("height", "width")),
    Case(
        "coordinate",
        options={"axes": "height"},
        gates=("height",),
        batch_norm_values=lambda n, h, w: n * h,
    ),
    Case(
        "coordinate",
        options={"axes": "width"},
        gates=("width",),
        batch_norm_values=lambda n, h, w: n * w,
    ),
]

HALVES = [
    Half("channel", options={"reduction": 4}),
    Half("channel", channels=3),
    Half("spatial", gates=("spatial",), batch_norm_values=_positions),
    Half("spatial", options={"kernel_size": 1}, gates=("spatial",), batch_norm_values=_positions),
]

each_case = pytest.mark.parametrize("case", CASES + HALVES, ids=str)
each_built_case = pytest.mark.parametrize("case", CASES, ids=str)  # by layers.build

SHAPES = [(3, 5, 4), (1, 6, 6), (2, 1, 1), (2, 7, 3), (2, 1, 9)]  # N, H, W


def random_input(case, n, h, w, dtype=torch.float64, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, case.channels, h, w, generator=generator, dtype=dtype, **kwargs)


def old_kinks():
    """Whether this PyTorch gives hard swish the outer slopes at -3 and 3 (2.7: -1/2 and 3/2)."""
    a = torch.tensor([-3.0, 3.0], requires_grad=True)
    torch.nn.functional.hardswish(a).sum().backward()
    return a.grad.tolist() != [0, 1]


def assert_compiles(layer, inputs, rtol=None, atol=None, gradient=1e-4):
    """Compiled without graph breaks, the layer computes and trains the same for every input."""
    reference = copy.deepcopy(layer)
    torch.compiler.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=True, backend="aot_eager")
    for x in inputs:
        a, b = x.clone().requires_grad_(), x.clone().requires_grad_()
        y, wanted = compiled(a), reference(b)
        torch.testing.assert_close(y, wanted, rtol=rtol, atol=atol)
        y.square().sum().backward()
        wanted.square().sum().backward()
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=gradient)
