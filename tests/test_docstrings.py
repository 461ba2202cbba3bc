"""The examples in docstrings print what they show."""

import doctest
import importlib
import pkgutil

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pytest

import attn_lib

MODULES = [
    module
    for found in pkgutil.walk_packages(attn_lib.__path__, "attn_lib.")
    if not found.name.endswith("__main__")
    for module in [importlib.import_module(found.name)]
]
EXAMPLES = [
    test
    for module in MODULES
    for test in doctest.DocTestFinder(exclude_empty=True).find(module)
    if test.examples
]


def test_examples_are_found():
    found = {test.name.removeprefix("attn_lib.") for test in EXAMPLES}
    assert {"layers.build", "cost.layer_cost", "inspection.record_gates", "plot.table"} <= found


@pytest.mark.parametrize("test", EXAMPLES, ids=lambda test: test.name)
def test_an_example(test):
    test.globs = {}  # a reader has only what the example imports
    failed = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test).failed
    plt.close("all")
    assert failed == 0
