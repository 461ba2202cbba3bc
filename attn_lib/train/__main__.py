"""Train a model from the shell: ``python -m attn_lib.train --help``.

On several GPUs, or in several processes of one machine:
``torchrun --nproc-per-node N -m attn_lib.train …`` with the same options.

The folder ``--out`` receives what :class:`~attn_lib.train.record.Record` writes and, at the end,
``model.pt``: a dictionary for ``torch.load`` with the model's name and arguments, its state dict,
the classes, and size, mean and deviation of the images that it wants.
"""

import argparse
import inspect
import sys
from functools import partial
from pathlib import Path

import torch

from attn_lib import data, models, train
from attn_lib.train import distributed
from attn_lib.train.record import replacing


def main(arguments=None):
    """Run the command; returns the exit status."""
    cli = _parser()
    options = cli.parse_args(arguments)
    try:
        with distributed.processes():
            _train(cli, options)
    except (ValueError, OSError, FloatingPointError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _parser():
    cli = argparse.ArgumentParser(
        prog="python -m attn_lib.train",
        description="Train an image classifier, and test it after every epoch.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = cli.add_argument
    add(
        "--out",
        required=True,
        help="folder for checkpoint, log and model; a run begun there goes on",
    )
    add("--dataset", choices=("digits", "cifar10", "folder"), default="digits", help="the images")
    add("--data", help="cifar10: the cache; folder: where the images are, a subfolder a class")
    add("--size", type=int, default=64, help="folder: side of the images in pixels")
    add("--augment", action=argparse.BooleanOptionalAction, default=True, help="shift and mirror")
    add("--cutout", type=int, default=0, help="side in pixels of a blank square in every image")
    add("--model", choices=models.__all__, default="resnet_cifar", help="the backbone")
    add("--depth", type=int, help="of resnet (50, …) and resnet_cifar (20, …)")
    add("--width", type=float, help="of resnet_cifar (channels) and mobilenet_v2 (factor)")
    add("--attention", help="se, cbam, bam, eca or coordinate; none if left out")
    add("--reduction", type=int, help="of the attention")
    add("--kernel-size", type=int, help="of the attention")
    fit = inspect.signature(train.fit).parameters
    for name, kind, meaning in (
        ("epochs", int, "passes over the training images"),
        ("batch_size", int, "images a step, of all processes together"),
        ("lr", float, "highest learning rate"),
        ("weight_decay", float, "on weights; not on biases and batch norm"),
        ("seed", int, "of initial weights, order of the images and augmentation"),
        ("optimizer", str, "adamw or sgd"),
        ("schedule", str, "one_cycle, cosine or constant"),
        ("label_smoothing", float, "share of the target spread over the classes"),
        ("clip_norm", float, "longest gradient"),
        ("precision", str, "full, bfloat16, float16 or auto"),
        ("ema_decay", float, "of a moving average of the weights"),
    ):
        flag = "--" + name.replace("_", "-")
        add(flag, type=kind, default=fit[name].default, help=meaning)
    cli.set_defaults(precision="auto")
    add("--channels-last", action="store_true", help="memory format of images and weights")
    add("--compile", action="store_true", help="pass the model through torch.compile")
    return cli


def _train(cli, options):
    split, classes, augment = _data(cli, options)
    arguments = _model_arguments(cli, options, split, len(classes))
    mean, std = split.scale()
    split = split.standardised()
    train.seed_everything(options.seed)
    try:
        model = getattr(models, options.model)(**arguments).to(train.device())
    except (RuntimeError, TypeError) as error:  # too large for the memory, or for a number
        reason = str(error).partition("\n")[0]
        raise ValueError(f"cannot make {options.model} with {arguments}: {reason}") from error
    about = {"dataset": options.dataset, "model": {"name": options.model, **arguments}}
    if options.dataset == "folder":
        about["data"] = Path(options.data).resolve().name  # it may lie elsewhere next time
    names = inspect.signature(train.fit).parameters.keys() & vars(options).keys()
    chosen = {name: getattr(options, name) for name in names - {"model", "data", "augment"}}
    history = train.fit(
        model, split.to(train.device()), augment=augment, test_every=1, about=about, **chosen
    )
    if distributed.is_first():
        accuracy = history[-1]["test_accuracy"]
        path = Path(options.out) / "model.pt"
        with replacing(path, "wb") as file:
            torch.save(
                {
                    "model": about["model"],
                    "state_dict": {k: v.cpu() for k, v in model.state_dict().items()},
                    "classes": classes,
                    "size": list(split.x_train.shape[2:]),  # of the images, in pixels
                    "mean": mean.tolist(),  # with which their channels, in [0, 1], are standardised
                    "std": std.tolist(),
                    "test_accuracy": accuracy,
                },
                file,
            )
        print(f"test accuracy {accuracy:.4f}; the model is {path}")


def _data(cli, options):
    """The images in [0, 1], their classes, and how they are varied in training."""
    if options.cutout < 0:
        cli.error(f"--cutout is a number of pixels, 0 for none; got {options.cutout}")
    if options.cutout and not options.augment:
        cli.error("--cutout is part of the augmentation that --no-augment leaves out")
    if options.dataset == "folder":
        if options.data is None:
            cli.error("--dataset folder needs --data PATH")
        split, classes = data.image_folder(options.data, size=options.size)
    elif options.dataset == "cifar10":
        split, classes = data.cifar10(root=options.data), data.CIFAR10_CLASSES
    else:
        split, classes = data.digits(), tuple("0123456789")
    if not options.augment:
        return split, list(classes), None
    # Digits are not mirrored: a mirrored 2 is none. Their 8 pixels leave no room for a wide shift.
    change = {"crop": 1, "flip": False} if options.dataset == "digits" else {}
    return split, list(classes), partial(data.augment, cutout=options.cutout, **change)


def _model_arguments(cli, options, split, classes):
    """Keyword arguments of the model's function."""
    known = inspect.signature(getattr(models, options.model)).parameters
    arguments = {"num_classes": classes, "attention": options.attention}
    if options.model == "resnet_cifar":
        arguments |= {"depth": 20, "in_channels": split.x_train.shape[1]}
    elif split.x_train.shape[1] != 3:
        cli.error(f"{options.model} needs colour images; {options.dataset} has none")
    for name in ("depth", "width"):
        value = getattr(options, name)
        if value is not None and name not in known:
            cli.error(f"{options.model} has no --{name}")
        if value is not None:
            arguments[name] = int(value) if name == "width" and value.is_integer() else value
    if options.model == "resnet_cifar" and isinstance(arguments.get("width"), float):
        cli.error(f"--width of resnet_cifar is a number of channels; got {arguments['width']}")
    if "depth" in known and "depth" not in arguments:
        cli.error(f"{options.model} needs --depth")
    for name in ("reduction", "kernel_size"):
        if getattr(options, name) is not None:
            arguments[name] = getattr(options, name)
    return arguments


if __name__ == "__main__":
    sys.exit(main())
