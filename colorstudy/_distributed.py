"""Training by several processes, as torchrun starts them: how they are set up, agree, and end together."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch.distributed as dist
from torch import nn

if TYPE_CHECKING:
    from lightning_fabric import Fabric


def fabric_of(accelerator: str, precision: str) -> "Fabric":
    """Fabric for the processes of torchrun; a ``ValueError`` if this machine lacks the device or the precision."""
    from lightning_fabric import Fabric  # seconds, which those who only colour pictures need not wait for
    from lightning_fabric.strategies import DDPStrategy

    devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    machines = int(os.environ.get("WORLD_SIZE", devices)) // devices
    places: dict[str, Any] = {"devices": devices, "num_nodes": machines}
    if devices * machines > 1:  # a network for every cluster of pictures, as Cheng et al. have, may see none of a batch
        places["strategy"] = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    try:
        return Fabric(accelerator=accelerator, precision=precision, **places)  # type: ignore[arg-type]  # any text
    except (RuntimeError, ValueError) as error:
        got = f"{accelerator=}, {precision=}"
        raise ValueError(f"config: expected a device and a precision of this machine, got {got}: {error}") from None


def share_batch_norms(network: nn.Module) -> None:
    """Let every batch norm that learns take its statistics from all processes; torch does so on GPUs alone.

    Those in evaluation mode, as in a frozen part, stay as they are.
    """
    for parent in [*network.modules()]:
        for name, layer in [*parent.named_children()]:
            if isinstance(layer, (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)) and layer.training:
                setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(layer))


def rank_zero_first(call: Callable[[], Any]) -> Any:
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
def ends_with_the_others(out_dir: Path) -> Iterator[None]:
    """Within, the end of another process is a ``ConnectionError``.

    It shows as a collective that fails, or as torchrun's request to stop, whichever comes first.
    """
    message = (
        f"{out_dir}: another process of this run ended, or it was told to stop; the last checkpoint is whole: start it "
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
    """Leave the process group, if there is one, once all are done: its threads may abort a process that ends first."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
