"""`fit`: train a method on an image bank into a run folder that is complete, resumable and never half written.

The loop knows no colour: it asks a model for the loss of a batch. Started by torchrun, processes share each batch, and
the first of them does all writing. In batch norm each process of a CPU run normalises its own share; GPUs share that.
"""

import math
import os
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from filelock import FileLock
from torch import nn
from tqdm.auto import tqdm

from colorstudy import runs
from colorstudy._checks import require
from colorstudy._files import sha256
from colorstudy._provenance import code_hash, provenance
from colorstudy.data import ImageBank, batch
from colorstudy.data.batches import working_size
from colorstudy.methods import Method, get
from colorstudy.model import Model

if TYPE_CHECKING:
    from lightning_fabric import Fabric
    from lightning_fabric.loggers import Logger

# Settings that do not change what is learned (beyond rounding), so that a run may resume with others.
_INCIDENTAL = ("interval", "accelerator", "threads")


@dataclass(frozen=True)
class TrainConfig:
    """The budget and the optimizer of a run: AdamW with a one-cycle schedule."""

    steps: int = 300  # of the optimizer, each on one batch
    batch_size: int = 32  # pictures a step, of all processes together
    crop: int = 64  # side in pixels of the squares trained on, to which larger windows are resized
    learning_rate: float = 2e-3  # the peak of the schedule
    weight_decay: float = 1e-2  # of kernels only
    seed: int = 0  # of the weights, the batches and the augmentation
    precision: str = "32-true"  # as Lightning Fabric names it, as is the accelerator: "bf16-mixed", ...
    interval: int = 100  # steps between two checkpoints
    accelerator: str = "auto"  # a GPU where there is one
    threads: int = 0  # of the processor, on which the bits depend; 0 for torch's own choice

    def __post_init__(self) -> None:
        for name, least in {"steps": 1, "batch_size": 1, "crop": 1, "interval": 1, "seed": 0, "threads": 0}.items():
            value = getattr(self, name)
            require(type(value) is int and value >= least, name, f"an integer >= {least}", repr(value))
        for name, sign in {"learning_rate": ">", "weight_decay": ">="}.items():
            value = getattr(self, name)
            good = type(value) in (int, float) and (value > 0 or (value == 0 and sign == ">="))
            require(good, name, f"a number {sign} 0", repr(value))
        require(self.threads <= 1024, "threads", "at most 1024", self.threads)  # no system makes 100,000

    def identity(self) -> dict[str, Any]:
        """The settings that decide what is learned."""
        return {name: value for name, value in asdict(self).items() if name not in _INCIDENTAL}


def fit(
    method: str | Method,
    data: ImageBank,
    config: TrainConfig,
    out_dir: str | Path,
    *,
    start: str | Path | None = None,
    overwrite: bool = False,
    logger: "Logger | list[Logger] | None" = None,
) -> Path:
    """Train `method` on the training pictures of `data`, or go on where an earlier call stopped.

    A killed run resumes at its last checkpoint and ends with the same bits as an uninterrupted one, on one machine with
    one thread count (a GPU sums some gradients in no fixed order). A finished run is not repeated. Two processes may
    ask for one run: the second waits. Under ``torchrun`` every process calls this; a run may resume with another number
    of them, and then agrees up to batch norm.

    `out_dir` is the run folder, made if needed, and returned. Where it holds a run of another method, config, data or
    code, that is refused with a ``ValueError`` that names the difference, unless `overwrite`. `start` is a finished run
    of the method that `method` starts from, if it does (`Method.start`). `logger`, of Lightning Fabric, or a list of
    them is given the rows of ``train.csv``. A loss that is no longer finite is a ``FloatingPointError``.
    """
    method, out_dir = get(method), Path(out_dir)
    require(not method.decodes, "method", f"one to train, as {method.name} decodes {method.decodes}", method.name)
    side = data.images.shape[1]
    require(config.crop <= side, "crop", f"at most {side}, the side of the pictures", config.crop)
    began = None if start is None else Model.load(Path(start) / runs.WEIGHTS)
    wanted = f"a finished run of {method.start}" if method.start else f"none, as {method.name} starts from none"
    got = began.method.name if began else "none"
    require(got == (method.start or "none"), "start", wanted, got)
    fabric = _fabric_of(config.accelerator, config.precision, logger)
    expected = f"a multiple of the {fabric.world_size} processes"
    require(config.batch_size % fabric.world_size == 0, "batch_size", expected, config.batch_size)
    fabric.launch()
    out_dir.mkdir(parents=True, exist_ok=True)
    with FileLock(out_dir / ".lock") if fabric.is_global_zero else nullcontext():
        description: dict[str, Any] = {"method": asdict(method), "config": config.identity()}
        description["data"] = {"name": data.name, "hash": data.hash}
        description["code"] = code_hash(__name__, method.network, method.target)
        if start is not None:
            description["start"] = sha256(Path(start) / runs.WEIGHTS)[:16]
        if fabric.broadcast(fabric.is_global_zero and runs.claim(out_dir, description, overwrite)):
            fabric.print(f"{out_dir.name}: already trained", flush=True)
            return out_dir
        threads = torch.get_num_threads()
        torch.set_num_threads(config.threads or threads)
        try:
            with torch.random.fork_rng():
                _train(fabric, method, data, config, began, out_dir)
        finally:
            torch.set_num_threads(threads)
    return out_dir


def leave() -> None:
    """Leave the process group, if there is one, once all are done: its threads may abort a process that ends first."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def _fabric_of(accelerator: str, precision: str, logger: "Logger | list[Logger] | None") -> "Fabric":
    """Fabric for the processes of torchrun; a ``ValueError`` if this machine lacks the device or the precision."""
    from lightning_fabric import Fabric  # seconds, which those who only colour pictures need not wait for
    from lightning_fabric.strategies import DDPStrategy

    devices = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    machines = int(os.environ.get("WORLD_SIZE", devices)) // devices
    places: dict[str, Any] = {"devices": devices, "num_nodes": machines, "loggers": logger}
    if devices * machines > 1:  # a network for every cluster of pictures, as Cheng et al. have, may see none of a batch
        places["strategy"] = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
    try:
        return Fabric(accelerator=accelerator, precision=precision, **places)  # type: ignore[arg-type]  # any text
    except (RuntimeError, ValueError) as error:
        got = f"{accelerator=}, {precision=}"
        raise ValueError(f"config: expected a device and a precision of this machine, got {got}: {error}") from None


def _train(
    fabric: "Fabric", method: Method, data: ImageBank, config: TrainConfig, start: Model | None, out_dir: Path
) -> None:
    torch.manual_seed(config.seed)
    model = Model.build(method, data.train.images)
    model.size, model.data = working_size(data.images.shape[1], config.crop, method.augmentation), data.name
    if start is not None:
        model.start_from(start)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        model.network = nn.SyncBatchNorm.convert_sync_batchnorm(model.network)
    for kernel in (p for p in model.network.parameters() if p.ndim == 4):  # in the layout that devices prefer
        kernel.data = kernel.data.contiguous(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(_decayed_apart(model, config.weight_decay), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1)
    module, stepper = fabric.setup(model, optimizer)
    module.mark_forward_method("loss")
    module.train()
    # After the setup, which moves the parameters: the optimizer's state then follows them to their device.
    writes = fabric.is_global_zero
    step, seconds = runs.resume(out_dir, model, optimizer, schedule, writes=writes)
    shown = partial(batch, data.train.images, augmentation=method.augmentation, crop=config.crop, seed=config.seed,
                    batch_size=config.batch_size, rank=fabric.global_rank, world_size=fabric.world_size,
                    device=fabric.device)  # fmt: skip
    bar = tqdm(total=config.steps, initial=step, desc=out_dir.name, unit="step", mininterval=1, leave=False,
               disable=not writes)  # fmt: skip
    while step < config.steps:
        started = time.perf_counter()
        losses: list[torch.Tensor] = []
        rates: list[float] = []
        for _ in range(min(config.interval, config.steps - step)):
            rgb = shown(step + len(losses))
            with fabric.autocast():  # on one device Fabric calls a method as it is, outside of its precision
                loss = module.loss(rgb)
            stepper.zero_grad(set_to_none=True)
            fabric.backward(loss)
            stepper.step()
            losses.append(loss.detach())
            rates.append(float(schedule.get_last_lr()[0]))
            schedule.step()
            bar.update()
        step += len(losses)
        shared = fabric.all_reduce(torch.stack(losses))  # mean over processes
        found: list[float] = torch.as_tensor(shared).tolist()  # the only wait for the device
        seconds += time.perf_counter() - started
        if not all(map(math.isfinite, found)):
            bar.close()
            advice = f"try a smaller learning_rate than {config.learning_rate}"
            raise FloatingPointError(f"{out_dir}: the loss is no longer finite before step {step}; {advice}")
        if writes:
            runs.log(out_dir, step - len(found), found, rates)
            for at, (value, rate) in enumerate(zip(found, rates), step - len(found)):
                fabric.log_dict({"loss": value, "learning_rate": rate}, at)
            for logger in fabric.loggers:  # before the checkpoint: a kill in between logs steps twice, but loses none
                logger.save()
            runs.save_checkpoint(out_dir, step, seconds, model, optimizer, schedule)
        speed, mean = len(found) * config.batch_size / (time.perf_counter() - started), sum(found) / len(found)
        fabric.print(f"{out_dir.name}: step {step}/{config.steps}  loss {mean:.4f}  {speed:.0f} images/s", flush=True)
    bar.close()
    summary = {"config": asdict(config), "seconds": round(seconds, 2), "provenance": provenance()}
    summary["parameters"] = sum(p.numel() for p in model.parameters())
    if writes:
        runs.finish(out_dir, model, summary)
    fabric.barrier()  # what all return is there


def _decayed_apart(model: Model, weight_decay: float) -> list[dict[str, Any]]:
    """Parameter groups: decay shrinks kernels, but not the biases and scales, which it would only distort."""
    kernels, others = ([p for p in model.parameters() if (p.ndim > 1) == many] for many in (True, False))
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
