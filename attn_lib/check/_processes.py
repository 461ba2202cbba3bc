"""Run a script as several connected processes, as torchrun would."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from attn_lib.check._core import Failed

__all__ = ["run_script"]

_PATIENCE = 60  # seconds


def run_script(folder, processes):
    """Run ``script.py`` of ``folder``, with the folder as its argument, in connected processes.

    Each has the environment variables that torchrun sets. torchrun itself would cost another
    import of PyTorch, and its messages would bury those of the script.

    Raises
    ------
    Failed
        A process fails, or they do not end in time.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    common["OMP_NUM_THREADS"] = 1
    if sys.platform == "linux":  # gloo would ask for the machine's name, which may not resolve
        common["GLOO_SOCKET_IFNAME"] = "lo"
    running, reports = [], []
    for rank in range(processes):
        settings = common | {"RANK": rank, "LOCAL_RANK": rank}
        environment = os.environ | {name: str(value) for name, value in settings.items()}
        reports.append(Path(folder, f"{rank}.log"))
        with open(reports[-1], "w") as file:
            command = [sys.executable, "script.py", str(folder)]
            running.append(
                subprocess.Popen(command, cwd=folder, env=environment, stdout=file, stderr=file)
            )
    try:
        _wait(running)
    finally:
        for process in running:
            process.kill()
            process.wait()
    failed = [rank for rank, process in enumerate(running) if process.returncode > 0]
    if failed:  # the first to write its error: the others may only have lost their connection
        rank = min(failed, key=lambda rank: reports[rank].stat().st_mtime)
        last = reports[rank].read_text().strip().splitlines()[-1:] or ["no message"]
        raise Failed(f"process {rank} failed: {last[0]}")


def _wait(running):
    """Until all processes have ended well, or one has failed."""
    end = time.monotonic() + _PATIENCE
    while any(process.poll() is None for process in running):
        if any(process.poll() for process in running):
            return
        if time.monotonic() > end:
            raise Failed(
                f"the processes did not end within {_PATIENCE} s: one waits in a collective "
                f"operation, such as all_reduce, that another does not call"
            )
        time.sleep(0.05)
