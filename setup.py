"""The wheel holds what the chapters need of experiments/; everything else is in pyproject.toml."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

EXPERIMENTS = Path(__file__).parent / "experiments"


class BuildWithResults(build_py):
    """Copy the measured results beside the code that finds them, attn_lib/data/experiments.py."""

    def run(self):
        super().run()
        if self.editable_mode:  # a checkout, where they are found in place
            return
        stored = [*EXPERIMENTS.glob("*/results/**/*"), *EXPERIMENTS.glob("diagnostics/*.json*")]
        for path in stored:
            if path.is_file():
                target = Path(self.build_lib, "attn_lib", "data", "measured")
                target /= path.relative_to(EXPERIMENTS)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)


setup(cmdclass={"build_py": BuildWithResults})
