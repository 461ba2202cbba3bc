"""The Triton kernels of the chapter on profiling, run by Triton's interpreter on the CPU.

Triton is an optional install of about 1 GB, which nothing else of the course needs. Where it is
missing these tests are skipped, also where nothing else may be.
"""

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CHAPTER = (ROOT / "book/chapters/profiling.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(?:\{code-cell\} ipython3|python)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def source(containing):
    """The one piece of the chapter's code that contains a text, without its tags."""
    (found,) = (code for code in FENCE.findall(CHAPTER) if containing in code)
    return re.sub(r"^:tags:.*\n", "", found)


KERNELS = [source("import triton.language"), source("@triton.jit"), source("def se_by_kernels")]
SOLUTION = source("value += tl.load(shortcut + at, mask=inside)")
SOLUTION = SOLUTION.replace("BLOCK):", "BLOCK: tl.constexpr):")  # as the text beside it says
HEAD = "import torch\n\nfrom attn_lib import layers\n\n"
COMPARE_SE = """
torch.manual_seed(0)
for shape in ((2, 16, 7, 9), (1, 32, 14, 14), (3, 16, 1, 1)):
    x = torch.randn(shape)
    layer = layers.SqueezeExcitation(shape[1], reduction=4)
    for given in (x, x.to(memory_format=torch.channels_last)):
        with torch.no_grad():
            got = se_by_kernels(layer, given, 32)
            assert torch.allclose(got, layer(x), atol=1e-6), shape
"""
COMPARE_TAIL = """
torch.manual_seed(0)
x, shortcut = torch.randn(2, 2, 3, 7, 9)
s, y = torch.rand(2, 3), torch.empty_like(x)
triton.jit(my_kernel)[(6, triton.cdiv(63, 16))](x, s, shortcut, y, 63, 16)
assert torch.allclose(y, torch.relu(shortcut + s[:, :, None, None] * x), atol=1e-6)
"""


def test_the_chapter_has_the_kernels():
    assert all("triton" in code for code in KERNELS)
    for code in (*KERNELS, SOLUTION):
        compile(code, "chapter", "exec")


@pytest.mark.parametrize(
    "code",
    ["".join(KERNELS) + COMPARE_SE, "".join([*KERNELS[:1], SOLUTION]) + COMPARE_TAIL],
    ids=["gather and gate", "exercise"],
)
def test_the_kernels_are_what_the_layer_computes(code, tmp_path):
    if find_spec("triton") is None or find_spec("triton.language") is None:
        pytest.skip(
            "Triton is not installed, and the course does without it; `pip install triton` "
            "(about 1 GB, Linux) runs its kernels here on the CPU"
        )
    file = tmp_path / "kernels.py"  # Triton reads a kernel's source from its file
    file.write_text(HEAD + code, encoding="utf-8")
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, file],
        env=os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": path},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
