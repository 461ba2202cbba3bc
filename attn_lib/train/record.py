"""What a training leaves on disk: a checkpoint to continue from, and a log to read."""

import csv
import json
import os
import zipfile
from contextlib import contextmanager
from pathlib import Path

import torch

from attn_lib.train import distributed

__all__ = ["Record", "replacing"]


class Record:
    """The folder of one run.

    ``checkpoint.pt`` holds everything that the next epoch depends on: weights, their moving
    average, optimizer, schedule, loss scale, the state of PyTorch's random generators, and the
    history. ``log.json`` holds settings and history, ``log.csv`` the history's numbers, a row an
    epoch. Each of the three is written under another name and then moved, so that a process that is
    killed at any moment leaves the old file whole. Where TensorBoard is installed, its event file
    stands beside them.

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
        self.settings = settings if out is None else _plain(settings, "settings and `about`")
        self.parts = parts
        self.generator = generator
        self._board = None

    def resume(self):
        """History of the run so far: empty, or the checkpoint's, whose state is loaded.

        Raises
        ------
        ValueError
            The checkpoint is of a run with other settings, of another model, or damaged; the
            message says which, and what to do.
        """
        if self.out is None:
            return []
        self.out.mkdir(parents=True, exist_ok=True)  # an impossible one is known at once
        path = self.out / "checkpoint.pt"
        if not path.exists():
            return []
        with _damage_named(path):
            with zipfile.ZipFile(path) as archive:
                if archive.testzip() is not None:  # torch.load does not compare checksums
                    raise ValueError("a checksum is wrong")
            saved = torch.load(path, map_location="cpu", weights_only=True)
            if not isinstance(saved, dict):
                raise ValueError(f"it holds a {type(saved).__name__}")
            settings, history = dict(saved["settings"]), list(saved["history"])
            if [row["epoch"] for row in history] != list(range(1, 1 + len(history))):
                raise ValueError("its epochs are not 1, 2, …")
        differing = [
            f"{name}={settings.get(name)!r} there, {self.settings.get(name)!r} here"
            for name in sorted(settings.keys() | self.settings.keys(), key=str)
            if settings.get(name) != self.settings.get(name)
        ]
        if differing:
            raise ValueError(
                f"{path} is of a run with other settings ({'; '.join(differing)}): name another "
                f"folder, or delete it to begin anew"
            )
        with _damage_named(path):
            entries = {name: saved[name] for name in (*self.parts, "generator", "rng", "rng_cuda")}
            if not all(isinstance(entries[name], dict) for name in self.parts):
                raise ValueError("a state dict is none")
        try:
            self.parts["model"].load_state_dict(entries["model"])
        except RuntimeError as error:
            raise ValueError(
                f"{path} is of another model: name another folder ({error})"
            ) from error
        with _damage_named(path):
            for name, part in self.parts.items():
                if name != "model":
                    part.load_state_dict(entries[name])
            self.generator.set_state(entries["generator"])
            torch.set_rng_state(entries["rng"])
            if torch.cuda.is_available() and entries["rng_cuda"] is not None:
                torch.cuda.set_rng_state(entries["rng_cuda"])
        if distributed.is_first():
            self._write_log(history)  # a kill may have come between checkpoint and log
        return history

    def save(self, history):
        """Write checkpoint and log at the end of an epoch."""
        if self.out is None or not distributed.is_first():
            return
        history = _plain(history, "what `after_epoch` adds to a row")
        state = {name: part.state_dict() for name, part in self.parts.items()}
        state |= {
            "settings": self.settings,
            "history": history,
            "generator": self.generator.get_state(),
            "rng": torch.get_rng_state(),
            "rng_cuda": torch.cuda.get_rng_state() if torch.cuda.is_available() else None,
        }
        with replacing(self.out / "checkpoint.pt", "wb") as file:
            torch.save(state, file)
        self._write_log(history)
        self._to_board(_numbers(history[-1]))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self._board is not None:
            self._board.close()

    def _write_log(self, history):
        with replacing(self.out / "log.json", "w") as file:
            json.dump({"settings": self.settings, "history": history}, file, indent=1)
        numbers = [_numbers(row) for row in history]
        names = list(dict.fromkeys(name for row in numbers for name in row))
        with replacing(self.out / "log.csv", "w", newline="") as file:
            rows = csv.DictWriter(file, names)
            rows.writeheader()
            rows.writerows(numbers)

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


@contextmanager
def _damage_named(path):
    """What a damaged checkpoint may raise, which is anything, as an error that says what to do."""
    try:
        yield
    except Exception as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} is not a checkpoint of this course, or is damaged: delete it to begin anew "
            f"({reason})"
        ) from error


def _plain(value, what):
    """``value`` as JSON gives it back, which a checkpoint without pickled classes can hold."""
    try:
        return json.loads(json.dumps(value))
    except TypeError as error:
        raise TypeError(
            f"{what} must be plain numbers, strings, lists and dictionaries: {error}"
        ) from None


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
    except RuntimeError as error:
        # torch.save speaks of its own file format where the disk is full
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
    finally:
        partial.unlink(missing_ok=True)
