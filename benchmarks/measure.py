"""The machine that the times were taken on."""

import datetime
import platform
from pathlib import Path

import torch


def machine(device):
    """One line about where and when: processor, threads, versions, date."""
    return (
        f"{_processor(device)}, {torch.get_num_threads()} thread(s), PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}, {platform.system()}, {datetime.date.today()}"
    )


def _processor(device):
    if torch.device(device).type == "cuda":
        return torch.cuda.get_device_name()
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
