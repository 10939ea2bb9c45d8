"""Training by several processes, as torchrun starts them: each takes its share of every batch, the first one writes."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn


def processes() -> tuple[int, int]:
    """How many processes torchrun started on this machine, and on how many machines; (1, 1) without it."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    return local, int(os.environ.get("WORLD_SIZE", local)) // local


def first_decides(call: Callable[[], Any]) -> Any:
    """The result of `call` in the first process, for all; if it raises there, all raise the same."""
    if not dist.is_initialized():
        return call()
    answer: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            answer[0] = call()
        except Exception as error:
            answer[1] = error
    dist.broadcast_object_list(answer)
    if answer[1] is not None:
        raise answer[1]
    return answer[0]


@contextmanager
def ends_with_the_others(what: str) -> Iterator[None]:
    """Within, the end of another process is a ``ConnectionError`` that says `what` ended.

    It shows as a collective that fails, or as torchrun's request to stop, whichever comes first.
    """
    message = (
        f"{what}: another process of this run ended, or it was told to stop; the last checkpoint is whole: start it "
        "again to go on from there, with as many processes as you like"
    )

    def stop(*_: Any) -> None:
        raise ConnectionError(message)

    listens = threading.current_thread() is threading.main_thread()
    before = signal.signal(signal.SIGTERM, stop) if listens else None
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, dist.DistError) or "peer" in str(error) or "gloo" in str(error):
            raise ConnectionError(message) from error
        raise
    finally:
        if listens:
            signal.signal(signal.SIGTERM, before)


def leave() -> None:
    """Take leave of the other processes, if there are any, once all are done.

    A process that ends while threads of the group still run may be aborted by them, though its work was done.
    """
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def share_norms(network: nn.Module) -> None:
    """Let every batch norm of `network` take its statistics from the batches of all processes.

    So that a step does not depend on how many there are. (`torch.nn.SyncBatchNorm` does this on GPUs alone.)
    """
    if dist.is_initialized() and dist.get_world_size() > 1:
        for layer in network.modules():
            if type(layer) is nn.BatchNorm2d:
                layer.__class__ = GlobalBatchNorm


class GlobalBatchNorm(nn.BatchNorm2d):
    """Batch norm (Ioffe and Szegedy 2015) over the batches, of one size, of all processes."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        with torch.no_grad():
            wide = x.to(self.running_mean.dtype)
            mean = wide.mean((0, 2, 3))
            variance = (wide - mean.view(-1, 1, 1)).square_().mean((0, 2, 3))  # ten times as fast as `torch.var_mean`
            # Processes have equal shares, so the mean of all squares is the mean of theirs.
            mean, square = _all_mean(torch.stack([mean, variance + mean.square()]))
            variance = (square - mean.square()).clamp(min=0)
            count = dist.get_world_size() * x.numel() // x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / max(count - 1, 1), self.momentum)
        weight = torch.ones_like(mean) if self.weight is None else self.weight
        bias = torch.zeros_like(mean) if self.bias is None else self.bias
        return _Normalize.apply(x, weight, bias, mean, variance, self.eps)


class _Normalize(torch.autograd.Function):
    """Batch norm by given statistics, which are those of all processes; so its gradient needs their sums as well."""

    @staticmethod
    def forward(ctx, x, weight, bias, mean, variance, eps):
        ctx.save_for_backward(x, weight, mean, (variance + eps).rsqrt())
        ctx.eps = eps
        return F.batch_norm(x, mean, variance, weight, bias, eps=eps)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad):
        x, weight, mean, inverse = ctx.saved_tensors
        # As if this process's batch were all, then what the others change in the two means of it: with n the normalised
        # x, dx = weight inverse (grad - mean of grad - n mean of (grad n)).
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            grad.contiguous(), x, weight, None, None, mean, inverse, True, ctx.eps, [True, True, True]
        )
        own = torch.stack([dbias, dweight]) * (x.shape[1] / x.numel())
        missing = weight * inverse * (own - _all_mean(own))  # (2, C)
        slope = missing[1] * inverse
        shift = missing[0] - slope * mean
        shift, slope = (v.to(dx.dtype).view(-1, 1, 1) for v in (shift, slope))
        return dx.add_(shift).addcmul_(slope, x), dweight, dbias, None, None, None


def _all_mean(tensor: torch.Tensor) -> torch.Tensor:
    """Mean of a small tensor over all processes. (Gloo gathers three times as fast as it reduces.)"""
    parts = [torch.empty_like(tensor) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, tensor.contiguous())
    return torch.stack(parts).mean(0)
