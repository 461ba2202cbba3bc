"""The further mechanisms, one case each (more where an option changes what a layer is)."""

import pytest
from cases import Case
from naive import randomised


class Further(Case):
    """``gates`` is None where the output is not x times gates."""

    def layer(self, **factory):
        return randomised(super().layer()).float().to(**factory)


FURTHER = [
    Further("ela", 16, gates=("height", "width")),
    Further("ema", options={"groups": 4}, gates=("joint",)),
    Further("gc", options={"reduction": 2}, gates=None),
    Further("gc", options={"reduction": 2, "fusion": "multiply"}),
    Further("gc", options={"reduction": 2, "fusion": "both", "pooling": "mean"}, gates=None),
    Further("nonlocal", gates=None),
    Further("nonlocal", options={"pairwise": "dot", "subsample": False}, gates=None),
    Further("nonlocal", options={"pairwise": "gaussian", "batch_norm": False}, gates=None),
    Further("simam", gates=("joint",)),
    Further("sk", options={"groups": 4, "minimum": 4}, gates=None),
    Further("triplet", gates=("joint",)),
    Further("triplet", options={"spatial": False, "kernel_size": 3}, gates=("joint",)),
]

ONE_EACH = list({case.name: case for case in FURTHER}.values())  # for what takes long

each_case = pytest.mark.parametrize("case", FURTHER, ids=str)
each_mechanism = pytest.mark.parametrize("case", ONE_EACH, ids=str)
