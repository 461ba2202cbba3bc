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
    Further("ese"),
    Further("ese", options={"gate": "sigmoid"}),
    Further("fca", options={"reduction": 2, "frequencies": "low4"}),
    Further("fca", options={"reduction": 2, "height": 12, "width": 10, "frequencies": "top8"}),
    Further("gather_excite"),
    Further("gather_excite", options={"parameters": True, "extent": 2}, gates=("joint",)),
    Further("gather_excite", options={"mlp": True, "extent": 2}, gates=("joint",)),
    Further("gc", options={"reduction": 2}, gates=None),
    Further("gc", options={"reduction": 2, "fusion": "multiply"}),
    Further("gc", options={"reduction": 2, "fusion": "both", "pooling": "mean"}, gates=None),
    Further("gct", options={"norm": "l1"}),
    Further("gct"),
    Further("nonlocal", gates=None),
    Further("nonlocal", options={"pairwise": "dot", "subsample": False}, gates=None),
    Further("nonlocal", options={"pairwise": "gaussian", "batch_norm": False}, gates=None),
    Further("scse", options={"reduction": 2}, gates=("joint",)),
    Further("scse", options={"reduction": 2, "combine": "max"}, gates=("joint",)),
    Further("simam", gates=("joint",)),
    Further("sk", options={"groups": 4, "minimum": 4}, gates=None),
    Further("srm"),
    Further("triplet", gates=("joint",)),
    Further("triplet", options={"spatial": False, "kernel_size": 3}, gates=("joint",)),
]

ONE_EACH = list({case.name: case for case in FURTHER}.values())  # for what takes long

each_case = pytest.mark.parametrize("case", FURTHER, ids=str)
each_mechanism = pytest.mark.parametrize("case", ONE_EACH, ids=str)
