"""Train a model on a :class:`~attn_lib.data.Split`, once or over several seeds."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from tqdm import tqdm, trange

__all__ = ["device", "evaluate", "fit", "over_seeds"]


def device():
    """The GPU if there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def fit(model, data, *, epochs=10, lr=0.01, batch_size=64, weight_decay=1e-4, seed=0):
    """Train ``model`` in place with AdamW and a one-cycle learning rate.

    Parameters
    ----------
    model : nn.Module
        (N, C, H, W) -> logits (N, K), on the device and in the dtype of ``data``.
    data : Split
        Only the training part is used.
    epochs, batch_size : int
    lr : float
        The highest learning rate, reached after 30 % of the steps.
    weight_decay : float
        On the parameters with two dimensions or more: not on biases, nor on batch norm.
    seed : int
        Of the order of the images. The initial weights are the caller's.

    Returns
    -------
    list of float : the mean training loss of each epoch.

    Raises
    ------
    FloatingPointError
        The loss is not finite; the message says at which epoch.
    """
    x, y = data.x_train, data.y_train
    generator = torch.Generator().manual_seed(seed)
    decayed = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0}],
        lr=lr,
    )
    steps = math.ceil(len(x) / batch_size)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * steps)
    model.train()
    losses = []
    for epoch in trange(epochs, desc="epochs", leave=False):
        total = 0.0
        for batch in torch.randperm(len(x), generator=generator).split(batch_size):
            batch = batch.to(x.device)
            loss = F.cross_entropy(model(x[batch]), y[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(batch)
        losses.append(total / len(x))
        if not math.isfinite(losses[-1]):
            raise FloatingPointError(
                f"the loss is {losses[-1]} in epoch {epoch + 1}; lower lr={lr}"
            )
    return losses


@torch.no_grad()
def evaluate(model, x, y, batch_size=512):
    """Share of the images x (N, C, H, W) whose largest logit is at their label y (N,)."""
    model.eval()
    hits = sum(
        (model(xs).argmax(1) == ys).sum().item()
        for xs, ys in zip(x.split(batch_size), y.split(batch_size), strict=True)
    )
    return hits / len(x)


def over_seeds(make_model, data, seeds=range(5), **fit_options):
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
    fit_options
        Of :func:`fit`.

    Returns
    -------
    array, (number of seeds,) : accuracies in [0, 1].
    """
    accuracies = []
    for seed in tqdm(list(seeds), desc="seeds", leave=False):
        torch.manual_seed(seed)
        model = make_model().to(data.x_train)
        fit(model, data, seed=seed, **fit_options)
        accuracies.append(evaluate(model, data.x_test, data.y_test))
    return np.array(accuracies)
