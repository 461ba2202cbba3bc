"""Timing in turns, and the machine that it was done on."""

import datetime
import platform
import statistics
import time
from pathlib import Path
from typing import NamedTuple

import torch


class Time(NamedTuple):
    """Milliseconds: the median of all rounds, and the quartiles around it."""

    median: float
    low: float
    high: float


def in_turns(runs, rounds, device="cpu", warm_up=3):
    """Name -> Time of each function of ``runs``.

    They take turns, forwards and backwards, so that whatever else the machine does meets all of
    them alike; ratios within one call mean more than the times themselves.
    """
    times = {name: [] for name in runs}
    for turn in range(warm_up + rounds):
        for name in list(runs) if turn % 2 else reversed(list(runs)):
            _wait(device)
            start = time.perf_counter()
            runs[name]()
            _wait(device)
            if turn >= warm_up:
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: summary(found) for name, found in times.items()}


def summary(times):
    """Median and quartiles of a list of times."""
    if len(times) == 1:
        return Time(*times * 3)
    low, median, high = statistics.quantiles(times, n=4, method="inclusive")
    return Time(median, low, high)


def _wait(device):
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


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
