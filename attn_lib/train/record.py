"""What a training leaves on disk: a checkpoint to continue from, and a log to read."""

import csv
import json
import os
from contextlib import contextmanager
from pathlib import Path

import torch

from attn_lib.train import distributed

__all__ = ["Record", "replacing"]


class Record:
    """The folder of one run.

    ``checkpoint.pt`` holds everything that the next epoch depends on: weights, their moving
    average, optimizer, schedule, loss scale, the state of the random generators, and the history.
    ``log.json`` holds settings and history, ``log.csv`` the history's numbers, a row an epoch;
    TensorBoard's event file stands beside them where TensorBoard is installed. Each file is written
    under another name and then moved, so that a process that is killed at any moment leaves the old
    file whole.

    Parameters
    ----------
    out : path or None
        The folder; it is made if need be. None: nothing is written.
    settings : dict
        What makes this run the run it is; a checkpoint with other settings is refused.
    parts : dict of str to object
        Each with ``state_dict`` and ``load_state_dict``, such as the model and the optimizer.
    generator : torch.Generator
        Of the order of the images.
    """

    def __init__(self, out, settings, parts, generator):
        self.out = Path(out) if out is not None else None
        self.settings = settings
        self.parts = parts
        self.generator = generator
        self._board = None

    def resume(self):
        """History of the run so far: empty, or the checkpoint's, whose state is loaded."""
        if self.out is None or not self._path("checkpoint.pt").exists():
            return []
        path = self._path("checkpoint.pt")
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise ValueError(
                f"{path} is not a checkpoint of this course, or is damaged: delete it to begin "
                f"anew ({error})"
            ) from error
        differing = [
            f"{name}={saved['settings'].get(name)!r} there, {self.settings.get(name)!r} here"
            for name in sorted(saved["settings"].keys() | self.settings.keys())
            if saved["settings"].get(name) != self.settings.get(name)
        ]
        if differing:
            raise ValueError(
                f"{path} is of a run with other settings ({'; '.join(differing)}): name another "
                f"folder, or delete it to begin anew"
            )
        try:
            for name, part in self.parts.items():
                part.load_state_dict(saved[name])
        except (KeyError, RuntimeError) as error:
            raise ValueError(
                f"{path} is of another model: name another folder ({error})"
            ) from error
        self.generator.set_state(saved["generator"])
        torch.set_rng_state(saved["rng"])
        if torch.cuda.is_available() and saved["rng_cuda"] is not None:
            torch.cuda.set_rng_state(saved["rng_cuda"])
        return saved["history"]

    def save(self, history):
        """Write checkpoint and log at the end of an epoch."""
        if self.out is None or not distributed.is_first():
            return
        self.out.mkdir(parents=True, exist_ok=True)
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {
            "settings": self.settings,
            "history": history,
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        with replacing(self._path("checkpoint.pt"), "wb") as file:
            torch.save(state, file)
        with replacing(self._path("log.json"), "w") as file:
            json.dump({"settings": self.settings, "history": history}, file, indent=1)
        with replacing(self._path("log.csv"), "w", newline="") as file:
            numbers = [_numbers(row) for row in history]
            rows = csv.DictWriter(
                file, list(dict.fromkeys(name for row in numbers for name in row))
            )
            rows.writeheader()
            rows.writerows(numbers)
        self._to_board(_numbers(history[-1]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._board is not None:
            self._board.close()

    def _path(self, name):
        return self.out / name

    def _to_board(self, row):
        if self._board is None:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ImportError:
                return
            # Epochs that a killed process wrote after its last checkpoint are hidden.
            self._board = SummaryWriter(self.out, purge_step=row["epoch"])
        for name, value in row.items():
            if name != "epoch":
                self._board.add_scalar(name, value, row["epoch"])
        self._board.flush()


def _numbers(row):
    """The entries of a row that a table and a curve can show."""
    return {name: value for name, value in row.items() if isinstance(value, (int, float))}


@contextmanager
def replacing(path, mode, **options):
    """Open a file under another name, which takes the name ``path`` once it is written whole."""
    partial = path.with_name(path.name + ".part")
    try:
        with open(partial, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
