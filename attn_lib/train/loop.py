"""The training loop."""

import functools
import math
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from attn_lib._progress import progress
from attn_lib.train import distributed
from attn_lib.train.checks import MOST, check_split, integer, number, seed_of
from attn_lib.train.record import Record

__all__ = ["device", "evaluate", "fit", "over_seeds", "seed_everything"]


def device():
    """The GPU if there is one (under torchrun, this process's own), else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", distributed.local_rank())
    return torch.device("cpu")


def seed_everything(seed):
    """Seed Python, NumPy and PyTorch on every device: initial weights and dropout follow.

    ``seed`` is an integer from 0 to 2**32 - 1, or there is an error.
    """
    seed = seed_of(seed)
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002 - libraries that draw from the global generator
    torch.manual_seed(seed)


def fit(
    model,
    data,
    *,
    epochs=10,
    lr=0.01,
    batch_size=64,
    weight_decay=1e-4,
    seed=0,
    optimizer="adamw",
    schedule="one_cycle",
    label_smoothing=0.0,
    clip_norm=None,
    augment=None,
    precision="full",
    channels_last=False,
    compile=False,
    ema_decay=None,
    test_every=0,
    after_epoch=None,
    out=None,
    about=None,
):
    """Train ``model`` in place.

    Under torchrun every process calls this with the same arguments and the same initial weights;
    each takes its share of every batch, and the result is that of one process, but for dropout,
    which every process draws by itself, and for the test of a network whose batch norms keep no
    running statistics. Batch norms with a forward pass of their own are refused there.

    Parameters
    ----------
    model : nn.Module
        (N, C, H, W) -> logits (N, K), on the device and in the dtype of ``data``.
    data : Split
    epochs : int
    batch_size : int
        Of all processes together.
    lr : float
        The highest learning rate, above 0.
    weight_decay : float
        On the parameters with two dimensions or more: not on biases, nor on batch norm. 0 or above.
    seed : int
        Of the order of the images, of ``augment`` and, in several processes, of dropout: 0 to
        2**32 - 1. The initial weights are the caller's.
    optimizer : {"adamw", "sgd"}
        SGD is with Nesterov's momentum, 0.9.
    schedule : {"one_cycle", "cosine", "constant"}
        Of the learning rate, step by step. One-cycle rises to ``lr`` over 30 % of the steps
        (Smith & Topin, arXiv 1708.07120) and moves the momentum between 0.85 and 0.95 against it;
        cosine falls from ``lr`` to 0.
    label_smoothing : float
        Share of the target spread evenly over the classes, from 0 to below 1.
    clip_norm : float, optional
        The gradient of all parameters together is shortened to this norm, which is above 0.
    augment : callable, optional
        (images, generator=...) -> images, applied to every training batch, such as
        :func:`attn_lib.data.augment`.
    precision : {"full", "bfloat16", "float16", "auto"}
        Full is the dtype of the data. The others run under autocast, which is for data in float32,
        float16 with a scaled loss.
        Auto is bfloat16 on a GPU that computes in it, float16 on any other, full on a CPU.
    channels_last : bool
        Whether images and weights lie in memory with the channels last.
    compile : bool
        Whether to pass the model through ``torch.compile``.
    ema_decay : float, optional
        Keep an exponential moving average of the weights, with this share of the old average at
        each step, from 0 to below 1. It is what is tested, and what ``model`` holds at the end.
    test_every : int
        Epochs from one test to the next; the last epoch is tested too. 0: no test.
    after_epoch : callable, optional
        (model, row) -> None, called at the end of each epoch, by every process, with the model that
        is tested and the epoch's row of the history. It may add what it measured to the row: plain
        numbers, strings, lists and dictionaries.
    out : path, optional
        A folder for checkpoint and log, see :class:`~attn_lib.train.record.Record`. If it holds a
        checkpoint of the same run, training continues there, to the same result as without the
        interruption.
    about : dict, optional
        What else makes this run the run it is, such as the data set's name, in plain values. It
        stands in the log with the settings, and a checkpoint with another one is not continued.

    Returns
    -------
    list of dict, one an epoch:
        epoch (from 1), loss and accuracy (means over the training images, as they were seen), lr
        (at its start), seconds (of training), and test_accuracy where it was measured.

    Raises
    ------
    FloatingPointError
        The loss or a weight is not finite; the message says in which epoch. A checkpoint stays as
        it was at the end of the epoch before.
    ValueError
        Fewer than two images, one epoch or two images a batch; a number that is out of its range or
        not finite; no images to test on where a test is wanted; an unknown optimizer, schedule or
        precision; a checkpoint in ``out`` that is of another run, or damaged.
    TypeError
        Something else than a number, or than an integer, where one is wanted.
    """
    epochs = integer("epochs", epochs, 1, MOST)
    batch_size = integer("batch_size", batch_size, 2, MOST)  # batch norm needs two values
    lr = number("lr", lr, above=0, below=MOST)
    weight_decay = number("weight_decay", weight_decay, least=0, below=MOST)
    seed = seed_of(seed)
    label_smoothing = number("label_smoothing", label_smoothing, least=0, below=1)
    if clip_norm is not None:
        clip_norm = number("clip_norm", clip_norm, above=0)
    if ema_decay is not None:
        ema_decay = number("ema_decay", ema_decay, least=0, below=1)
    test_every = integer("test_every", test_every, 0)
    check_split(data, test=test_every > 0)
    x, y = data.x_train, data.y_train
    amp = _amp_dtype(precision, x)
    settings = {
        "images": list(x.shape),
        "epochs": epochs,
        "batch_size": batch_size,
        "lr": lr,
        "weight_decay": weight_decay,
        "seed": seed,
        "optimizer": optimizer,
        "schedule": schedule,
        "label_smoothing": label_smoothing,
        "clip_norm": clip_norm,
        "augment": _described(augment),
        "precision": str(amp or x.dtype).removeprefix("torch."),
        "ema_decay": ema_decay,
        **(about or {}),
    }
    layout = torch.channels_last if channels_last else torch.preserve_format
    model.to(memory_format=layout)
    generator = torch.Generator().manual_seed(seed)
    sizes = [len(batch) for batch in _batches(torch.arange(len(x)), batch_size)]
    steps, seen = len(sizes), sum(sizes)
    optimizer = _optimizer(optimizer, model, lr, weight_decay)
    schedule = _schedule(schedule, optimizer, lr, epochs * steps)
    scaler = torch.amp.GradScaler(x.device.type, enabled=amp is torch.float16)
    state = {"model": model, "optimizer": optimizer, "schedule": schedule, "scaler": scaler}
    average, tested = None, model
    if ema_decay is not None:
        average = state["average"] = AveragedModel(
            model, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True
        )
        tested = average.module
    record = Record(out, settings, state, generator)
    history = record.resume()

    quiet = {} if distributed.is_first() else {"disable": True}
    done = len(history) * steps
    bar = progress(total=epochs * steps, initial=done, unit="batch", **quiet)
    with bar, record, distributed.shared(model) as forward:
        if compile:
            forward = torch.compile(forward)
        for epoch in range(len(history) + 1, epochs + 1):
            bar.set_description(f"epoch {epoch}/{epochs}")
            distributed.reseed(seed, epoch)
            started = time.perf_counter()
            row = {"epoch": epoch, "lr": schedule.get_last_lr()[0]}
            model.train()
            sums = x.new_zeros(2, dtype=torch.float64)  # of the loss, of the hits
            order = torch.randperm(len(x), generator=generator).to(x.device)
            for batch in _batches(order, batch_size):
                images, labels = x[batch], y[batch]
                if augment is not None:
                    images = augment(images, generator=generator)
                images, labels = distributed.share(images), distributed.share(labels)
                with torch.autocast(x.device.type, amp, enabled=amp is not None):
                    logits = forward(images.to(memory_format=layout))
                loss = F.cross_entropy(
                    logits.to(x.dtype), labels, label_smoothing=label_smoothing, reduction="sum"
                )
                optimizer.zero_grad()
                scaler.scale(distributed.mean_loss(loss, len(batch))).backward()
                if clip_norm is not None:
                    scaler.unscale_(optimizer)
                    torch.nn.utils.clip_grad_norm_(model.parameters(), clip_norm)
                scale = scaler.get_scale()
                scaler.step(optimizer)
                scaler.update()
                if scaler.get_scale() >= scale:  # else the gradient was infinite, the step left out
                    schedule.step()
                if average is not None:
                    average.update_parameters(model)
                sums += torch.stack((loss.detach(), (logits.argmax(1) == labels).sum()))
                bar.update()
            row["loss"], row["accuracy"] = (distributed.total(sums) / seen).tolist()
            row["seconds"] = time.perf_counter() - started
            _stop_unless_finite(model, row, lr)
            if test_every and (epoch % test_every == 0 or epoch == epochs):
                row["test_accuracy"] = _test(tested, data, batch_size)
            if after_epoch is not None:
                after_epoch(tested, row)
            history.append(row)
            record.save(history)
            bar.set_postfix(loss=f"{row['loss']:.3f}", test=row.get("test_accuracy"))
    if average is not None:
        model.load_state_dict(tested.state_dict())
    return history


def _described(augment):
    """What a log can say of a function: its name and, of a partial, its keywords."""
    if isinstance(augment, functools.partial):
        keywords = ", ".join(f"{name}={value!r}" for name, value in augment.keywords.items())
        return f"{_described(augment.func)}({keywords})"
    return None if augment is None else getattr(augment, "__name__", type(augment).__name__)


def _stop_unless_finite(model, row, lr):
    """Raise FloatingPointError if the epoch's loss, or what its last step left, is not finite."""
    wrong = None
    if not math.isfinite(row["loss"]):
        wrong = f"the loss is {row['loss']} in epoch {row['epoch']}"
    elif not all(tensor.isfinite().all() for tensor in model.state_dict().values()):
        wrong = f"a weight is not finite after epoch {row['epoch']}"
    if wrong:
        raise FloatingPointError(f"{wrong}; lower lr={lr}, or set clip_norm")


def _batches(order, batch_size):
    """Parts of ``order``; a last part of a single image is left out: batch norm needs two."""
    parts = order.split(batch_size)
    return parts[:-1] if len(parts[-1]) == 1 else parts


def _optimizer(name, model, lr, weight_decay):
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others}]
    if name == "adamw":
        return torch.optim.AdamW(groups, lr=lr, weight_decay=0)
    if name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=0.9, nesterov=True)
    raise ValueError(f"unknown optimizer {name!r}; known are 'adamw', 'sgd'")


def _schedule(name, optimizer, lr, steps):
    if name == "one_cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=steps)
    if name == "cosine":
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    if name == "constant":
        return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1)
    raise ValueError(f"unknown schedule {name!r}; known are 'one_cycle', 'cosine', 'constant'")


def _amp_dtype(precision, x):
    """Autocast's dtype for images x, None for full precision."""
    if precision == "auto":
        if x.device.type != "cuda" or x.dtype != torch.float32:
            return None
        native = torch.cuda.get_device_capability(x.device) >= (8, 0)
        return torch.bfloat16 if native else torch.float16
    known = {"full": None, "bfloat16": torch.bfloat16, "float16": torch.float16}
    if precision not in known:
        raise ValueError(
            f"unknown precision {precision!r}; known are {', '.join(map(repr, known))}, 'auto'"
        )
    if known[precision] is not None and x.dtype != torch.float32:
        raise ValueError(
            f"precision {precision!r} is for data in float32, autocast leaves others as they are; "
            f"got {x.dtype}"
        )
    return known[precision]


def _test(model, data, batch_size):
    """Test accuracy, each process testing its share."""
    x, y = distributed.share(data.x_test), distributed.share(data.y_test)
    hits = torch.tensor(_hits(model, x, y, batch_size), dtype=torch.float64, device=x.device)
    return distributed.total(hits).item() / len(data.x_test)


def evaluate(model, x, y, batch_size=512):
    """Share of the images x (N, C, H, W) whose largest logit is at their label y (N,).

    The model is in evaluation mode afterwards.

    Raises
    ------
    ValueError
        There are no images, or not as many labels as images; ``batch_size`` is below 1.
    """
    batch_size = integer("batch_size", batch_size, 1, MOST)
    if len(x) == 0:
        raise ValueError("no images to test")
    if len(x) != len(y):
        raise ValueError(f"{len(x)} images and {len(y)} labels to test on")
    return _hits(model, x, y, batch_size) / len(x)


@torch.no_grad()
def _hits(model, x, y, batch_size):
    """Number of images whose largest logit is at their label; 0 of no images."""
    model.eval()
    return sum(
        (model(xs).argmax(1) == ys).sum().item()
        for xs, ys in zip(x.split(batch_size), y.split(batch_size), strict=True)
        if len(xs)
    )


def over_seeds(make_model, data, seeds=range(5), *, out=None, **fit_options):
    """Test accuracy of freshly initialised and trained models, one for each seed.

    The seed sets the initial weights and the order of the images, so that two variants run with
    the same seeds are paired: compare them seed by seed.

    Parameters
    ----------
    make_model : callable
        Returns a new model; called with PyTorch's seed set. It is moved to the device and dtype
        of the data.
    data : Split
    seeds : iterable of int
    out : path, optional
        A folder with a subfolder for each seed, from which an interrupted series continues.
    fit_options
        Of :func:`fit`.

    Returns
    -------
    array, (number of seeds,) : accuracies in [0, 1].

    Raises
    ------
    ValueError
        The split has no images to test on, and what :func:`fit` refuses.
    """
    check_split(data, test=True)  # not after the first training
    accuracies = []
    for seed in progress([seed_of(seed) for seed in seeds], desc="seeds"):
        torch.manual_seed(seed)
        model = make_model().to(data.x_train)
        folder = None if out is None else Path(out) / str(seed)
        fit(model, data, seed=seed, out=folder, **fit_options)
        accuracies.append(evaluate(model, data.x_test, data.y_test))
    return np.array(accuracies)
