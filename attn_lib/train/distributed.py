"""One training shared by several processes, each with its part of every batch.

``torchrun`` starts the processes; :func:`processes` connects them. Without torchrun every
function here does what one process needs, so that the training loop has no second version.
"""

import os
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

__all__ = ["is_first", "local_rank", "mean_loss", "processes", "reseed", "share", "shared", "total"]


@contextmanager
def processes():
    """Connect the processes that torchrun started; without torchrun, nothing happens."""
    if "RANK" not in os.environ:
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
        dist.init_process_group("nccl")
    else:
        dist.init_process_group("gloo")
    try:
        yield
    finally:
        dist.destroy_process_group()


def _connected():
    return dist.is_available() and dist.is_initialized()


def _world():
    return dist.get_world_size() if _connected() else 1


def is_first():
    """Whether this is the process that writes and reports."""
    return not _connected() or dist.get_rank() == 0


def local_rank():
    """Number of this process on its machine: of its GPU."""
    return int(os.environ.get("LOCAL_RANK", 0))


def reseed(seed, epoch):
    """In one of several processes, set PyTorch's seed for an epoch: other dropout in each of them.

    One process alone goes on with the generator that the checkpoint holds.
    """
    if _connected():
        torch.manual_seed(seed + 1_000_003 * epoch + dist.get_rank())


def share(tensor):
    """Every n-th entry of ``tensor`` along its first axis: those of this one of n processes."""
    return tensor[dist.get_rank() :: _world()] if _connected() else tensor


def total(tensor):
    """Sum of the processes' tensors."""
    if _connected():
        dist.all_reduce(tensor)
    return tensor


def mean_loss(loss_sum, batch_size):
    """Loss whose gradients DistributedDataParallel, which averages, turns into the batch's mean.

    ``loss_sum`` is the sum over this process's share of ``batch_size`` images.
    """
    return loss_sum * (_world() / batch_size)


def _on_gpu(model):
    return next(model.parameters()).is_cuda


@contextmanager
def shared(model):
    """``model`` with gradients averaged over the processes, and batch norm over the whole batch.

    With the statistics of its own share, each process would normalise otherwise than one process
    with the whole batch does. Afterwards, also after an exception, the batch norms are of their own
    kind again. In evaluation, each process normalises with the running statistics; a batch norm
    that keeps none takes those of the process's own images.

    Raises
    ------
    TypeError
        A batch norm with a forward pass of its own, which would get lost.
    """
    if not _connected():
        yield model
        return
    on_gpu = _on_gpu(model)
    # torch's SyncBatchNorm is written for GPUs and refuses a tensor on the CPU.
    kind = nn.SyncBatchNorm if on_gpu else _SyncBatchNorm
    norms = {}
    for name, module in model.named_modules():
        if isinstance(module, _BatchNorm) and type(module) is not kind:
            if type(module).forward not in (_BatchNorm.forward, nn.SyncBatchNorm.forward):
                raise TypeError(
                    f"{name!r} is a {type(module).__name__}, a batch norm with a forward pass of "
                    "its own; several processes share the statistics of torch's batch norms only"
                )
            norms[module] = type(module)
    try:
        for module in norms:
            module.__class__ = kind
            if on_gpu:
                module.process_group = None  # of all processes
        yield DistributedDataParallel(model, device_ids=[local_rank()] if on_gpu else None)
    finally:
        for module, own in norms.items():
            module.__class__ = own
            if on_gpu:
                del module.process_group


class _Sum(torch.autograd.Function):
    """Sum of the processes' tensors, through which gradients flow back to all of them."""

    @staticmethod
    def forward(ctx, tensor):
        return total(tensor.clone())

    @staticmethod
    def backward(ctx, gradient):
        return total(gradient.clone())


class _SyncBatchNorm(_BatchNorm):
    """Batch norm with the mean and the variance of all processes' images, on any device."""

    def _check_input_dim(self, x):
        pass

    def forward(self, x):
        if not (self.training and _connected()):
            return super().forward(x)
        axes = [axis for axis in range(x.dim()) if axis != 1]
        column = (1, -1) + (1,) * (x.dim() - 2)
        wide = x if x.dtype == torch.float64 else x.float()  # a sum in half precision is too rough
        count = total(x.new_tensor(x.numel() // x.shape[1], dtype=wide.dtype))
        mean = _Sum.apply(wide.sum(axes)) / count
        centred = wide - mean.view(column)
        variance = _Sum.apply((centred * centred).sum(axes)) / count
        if self.track_running_stats and self.running_mean is not None:
            self._track(mean.detach(), variance.detach() * (count / (count - 1)))
        y = centred * torch.rsqrt(variance + self.eps).view(column)
        if self.weight is not None:
            y = y * self.weight.view(column)
        if self.bias is not None:
            y = y + self.bias.view(column)
        return y.to(x.dtype)

    def _track(self, mean, variance):
        self.num_batches_tracked += 1
        average = self.momentum is None  # of all batches so far
        momentum = 1 / self.num_batches_tracked.item() if average else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean), momentum)
        self.running_var.lerp_(variance.to(self.running_var), momentum)
