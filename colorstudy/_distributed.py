"""Training by several processes, as torchrun starts them: how they are set up, and end together."""

import os
from typing import TYPE_CHECKING, Any

import torch.distributed as dist

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


def leave() -> None:
    """Leave the process group, if there is one, once all are done: its threads may abort a process that ends first."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
