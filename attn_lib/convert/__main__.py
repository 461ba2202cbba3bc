"""``python -m attn_lib.convert IN OUT --family F``, or ``IN --identify``."""

import argparse
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

from attn_lib.convert.identify import identify
from attn_lib.convert.names import FAMILIES
from attn_lib.convert.official import convert, weights_in


def main(arguments=None):
    """Convert the file that the command line names."""
    parser = argparse.ArgumentParser(
        prog="python -m attn_lib.convert",
        description="Write a published checkpoint's weights under attn_lib's names.",
        epilog="Files that end in .safetensors are read and written in that format.",
    )
    parser.add_argument("input", metavar="IN", type=Path)
    parser.add_argument("output", metavar="OUT", type=Path, nargs="?")
    parser.add_argument("--family", choices=FAMILIES)
    parser.add_argument(
        "--identify", action="store_true", help="say which layers IN can hold, and write nothing"
    )
    parser.add_argument("--entry", help="which of several state dicts in IN, as state_dict_ema")
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    given = parser.parse_args(arguments)
    if given.identify == bool(given.output or given.family):
        parser.error("give OUT and --family, or --identify alone")
    if not given.identify and not (given.output and given.family):
        parser.error("OUT and --family belong together")
    try:
        if given.identify:
            print(_described(identify(_entry(given))))
            return
        if not given.output.parent.is_dir():
            raise ValueError(f"there is no directory {given.output.parent}")
        if given.output.exists() and not given.force:
            raise ValueError(f"{given.output} exists; --force replaces it")
        result, call = convert(given.family, weights_in(_entry(given)))
        _write(result, given.output)
    except (OSError, TypeError, ValueError) as error:  # what the user can mend: no traceback
        raise SystemExit(f"error: {error}") from None
    print(f"{given.output}: {len(result)} tensors, for attn_lib.{call}")


def _entry(given):
    """What the file holds, or the entry of it that the command line names."""
    checkpoint = _read(given.input)
    if given.entry is None:
        return checkpoint
    if not isinstance(checkpoint, Mapping) or given.entry not in checkpoint:
        raise ValueError(f"{given.input} has no entry {given.entry!r}")
    return checkpoint[given.entry]


def _described(variants):
    """The records of identify as text."""
    lines = []
    for v in variants:
        known = ", ".join(f"{name} {value}" for name, value in v.known.items())
        number = len(v.places)
        lines += [
            f"{v.family} ({v.variant}), {number} layer{'s' if number > 1 else ''}",
            f"  names of: {v.repository}",
            f"  known: {known}",
            f"  open: {'; '.join(v.open)}",
        ]
    return "\n".join(lines) or "no known attention layer"


def _read(path):
    if path.suffix == ".safetensors":
        safetensors = _safetensors()
        try:
            return safetensors.torch.load_file(path)
        except safetensors.SafetensorError as error:
            raise ValueError(
                f"{path} is not a safetensors file, or is damaged; fetch it again ({error})"
            ) from None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than tensors in dictionaries, or is no checkpoint; convert.py does "
            "not run code from files. If you trust it, load it with torch.load(..., "
            "weights_only=False) and save its state dict alone"
        ) from None
    except OSError:
        raise
    except Exception as error:  # a damaged file may raise anything
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(
            f"{path} is not a checkpoint, or is damaged; fetch it again ({reason})"
        ) from None


def _write(tensors, path):
    """Write beside ``path``, then put it in place, so that a failure leaves no half file."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".safetensors":
            whole = {name: tensor.clone().contiguous() for name, tensor in tensors.items()}
            _safetensors().torch.save_file(whole, beside, metadata={"format": "pt"})
        else:
            torch.save(tensors, beside)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def _safetensors():
    try:
        import safetensors.torch
    except ImportError:
        raise ValueError("files in .safetensors need a package: pip install safetensors") from None
    return safetensors


if __name__ == "__main__":
    main()
