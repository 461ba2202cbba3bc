"""Every mechanism with the options under which the tests hold NumPy and PyTorch to each other."""

from dataclasses import dataclass, field

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


CASES = [
    Case("se", options={"reduction": 4}),
    Case("se", options={"reduction": 4, "bias": False}),
    Case("se", channels=3, options={"reduction": 16}),  # fewer channels than the reduction
]

each_case = pytest.mark.parametrize("case", CASES, ids=str)

SHAPES = [(3, 5, 4), (1, 6, 6), (2, 1, 1), (2, 7, 3), (2, 1, 9)]  # N, H, W


def random_input(case, n, h, w, dtype=torch.float64, seed=0, **kwargs):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, case.channels, h, w, generator=generator, dtype=dtype, **kwargs)
