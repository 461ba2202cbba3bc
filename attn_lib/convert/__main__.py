"""``python -m attn_lib.convert IN OUT --family F``."""

import argparse
import os
import pickle
from collections.abc import Mapping
from pathlib import Path

import torch

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
    parser.add_argument("output", metavar="OUT", type=Path)
    parser.add_argument("--family", required=True, choices=FAMILIES)
    parser.add_argument("--entry", help="which of several state dicts in IN, as state_dict_ema")
    parser.add_argument("--force", action="store_true", help="replace OUT where it exists")
    given = parser.parse_args(arguments)
    try:
        if not given.output.parent.is_dir():
            raise ValueError(f"there is no directory {given.output.parent}")
        if given.output.exists() and not given.force:
            raise ValueError(f"{given.output} exists; --force replaces it")
        checkpoint = _read(given.input)
        if given.entry is not None:
            if not isinstance(checkpoint, Mapping) or given.entry not in checkpoint:
                raise ValueError(f"{given.input} has no entry {given.entry!r}")
            checkpoint = checkpoint[given.entry]
        result, call = convert(given.family, weights_in(checkpoint))
        _write(result, given.output)
    except (OSError, TypeError, ValueError) as error:  # what the user can mend: no traceback
        raise SystemExit(f"error: {error}") from None
    print(f"{given.output}: {len(result)} tensors, for attn_lib.{call}")


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
