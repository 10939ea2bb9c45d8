"""`fit`: train a method on an image bank into a run folder that is complete, resumable and never half written.

The loop knows no colour: it asks a model for the loss of a batch. Started by torchrun, it shares each batch between the
processes, and the first of them does all writing. A run folder holds

    run.json            what the run is: method, config, data and code; written first
    train.csv           step, loss and learning rate of every step; grows by appended rows
    checkpoint-000100/  model.safetensors and state.pt (optimizer, schedule, generators) of the last finished interval
    model.safetensors   the trained model
    train.json          duration, speed and provenance; written last: a run with this file is finished
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
import pickle
import shutil
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from lightning_fabric import Fabric
from lightning_fabric.strategies import DDPStrategy
from tqdm.auto import tqdm

from colorstudy._checks import require
from colorstudy._files import read_json, replacing, write_json
from colorstudy._parallel import ends_with_the_others, first_decides, processes, share_norms
from colorstudy._provenance import code_hash, digest, provenance
from colorstudy.data import ImageBank, Shards, batch
from colorstudy.methods import Method, Model, get


def _incidental(default: Any) -> Any:
    """A setting that does not change what is learned (beyond rounding), so that a run may resume with another."""
    return field(default=default, metadata={"incidental": True})


@dataclass(frozen=True)
class TrainConfig:
    """The budget and the optimizer of a run: AdamW with a one-cycle schedule.

    Parameters
    ----------
    steps : int
        Optimizer steps, each on one batch.
    batch_size : int
        Pictures a step, of all processes together.
    crop : int
        Side of the squares trained on, in pixels; windows between it and the whole picture are resized to it.
    learning_rate : float
        Peak of the one-cycle schedule.
    weight_decay : float
        Of AdamW, on the convolutions' kernels only.
    seed : int
        Of the weights, the batches and the augmentation.
    precision : str
        As Lightning Fabric names it: ``"32-true"``, ``"bf16-mixed"``, ...
    interval : int
        Steps between two checkpoints, which are also the epochs of the log: the study compares equal numbers of steps.
    accelerator : str
        As Lightning Fabric names it: ``"auto"`` uses a GPU where there is one.
    channels_last : bool
        Keep the maps with their channels side by side, which tensor cores prefer; changes rounding alone.
    compile : bool
        Let ``torch.compile`` fuse the network, which takes a minute and a C++ compiler first; changes rounding alone.
    threads : int
        Processor threads, 0 for torch's own choice. Bits repeat with one thread count and change with another.

    Raises
    ------
    ValueError
        If a value is outside of its range.
    """

    steps: int = 300
    batch_size: int = 32
    crop: int = 64
    learning_rate: float = 2e-3
    weight_decay: float = 1e-2
    seed: int = 0
    precision: str = "32-true"
    interval: int = _incidental(100)
    accelerator: str = _incidental("auto")
    channels_last: bool = _incidental(False)
    compile: bool = _incidental(False)
    threads: int = _incidental(0)

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size", "crop", "interval"):
            value = getattr(self, name)
            require(type(value) is int and value >= 1, name, "an integer >= 1", repr(value))
        for name in ("seed", "threads"):
            value = getattr(self, name)
            require(type(value) is int and value >= 0, name, "an integer >= 0", repr(value))
        for name in ("channels_last", "compile"):
            require(isinstance(getattr(self, name), bool), name, "True or False", repr(getattr(self, name)))
        require(
            _is_number(self.learning_rate) and self.learning_rate > 0,
            "learning_rate",
            "a number > 0",
            repr(self.learning_rate),
        )
        require(
            _is_number(self.weight_decay) and self.weight_decay >= 0,
            "weight_decay",
            "a number >= 0",
            repr(self.weight_decay),
        )

    def identity(self) -> dict[str, Any]:
        """The settings that decide what is learned."""
        return {f.name: getattr(self, f.name) for f in fields(self) if not f.metadata.get("incidental")}


def fit(
    method: str | Method,
    data: ImageBank | Shards,
    config: TrainConfig,
    out_dir: str | Path,
    *,
    start: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Train `method` on the training pictures of `data`, or go on where an earlier call stopped.

    A killed run resumes at its last checkpoint and ends with the same bits as an uninterrupted one, on one machine with
    one thread count (a GPU sums some gradients in no fixed order, and repeats them within rounding). A finished run is
    not repeated.

    Under ``torchrun`` every process calls this, and `batch_size` is that of all processes together. A run may resume
    with another number of them: its batches and its batch norm stay those of one process, up to rounding.

    Parameters
    ----------
    method : str or Method
    data : ImageBank or Shards
        Of `Shards` every process reads its own; the order then depends on the number of processes.
    config : TrainConfig
    out_dir : path
        The run folder, made if needed. Two processes may ask for the same run: the second waits for the first.
    start : path, optional
        For a method that starts from another's network (`Method.start`): a finished run of that one.
    overwrite : bool
        Start anew where `out_dir` holds a run of another method, config, data or code, instead of refusing.

    Returns
    -------
    Path
        `out_dir`.

    Raises
    ------
    ValueError
        If `out_dir` holds another run (the message names the field), a crop is larger than the pictures, or `start` is
        missing, spare or a run of another method; also if `batch_size` is no multiple of the number of processes.
    ConnectionError
        If another process of the run ended; the last checkpoint stays.
    FloatingPointError
        If the loss stops being finite; the last checkpoint stays.
    """
    method, out_dir = get(method), Path(out_dir)
    side = data.images.shape[1]
    require(config.crop <= side, "crop", f"at most {side}, the side of the pictures", config.crop)
    began = _start(method, start)
    fabric = _fabric(config)
    count = fabric.world_size
    require(config.batch_size % count == 0, "batch_size", f"a multiple of the {count} processes", config.batch_size)
    fabric.launch()
    lock = FileLock(out_dir / ".lock") if fabric.is_global_zero else nullcontext()
    first_decides(lambda: out_dir.mkdir(parents=True, exist_ok=True))
    with lock:
        if first_decides(lambda: _prepare(method, data, config, start, out_dir, overwrite)):
            _say(fabric, f"{out_dir.name}: already trained")
        else:
            threads = torch.get_num_threads()
            torch.set_num_threads(config.threads or threads)
            alone = nullcontext() if count == 1 else ends_with_the_others(str(out_dir))
            try:
                with torch.random.fork_rng(), alone:
                    _train(fabric, method, data, config, began, out_dir)
            finally:
                torch.set_num_threads(threads)
    return out_dir


def history(run: str | Path) -> list[dict[str, float]]:
    """The rows of a run's ``train.csv``: step, loss and learning rate of every step so far."""
    with open(Path(run) / "train.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def _start(method: Method, start: str | Path | None) -> Model | None:
    """The trained model that `method` starts from, if any."""
    got = "none" if start is None else str(start)
    wanted = f"a finished run of {method.start}" if method.start else f"none, as {method.name} starts from none"
    require((start is not None) == bool(method.start), "start", wanted, got)
    if start is None:
        return None
    path = Path(start) / "model.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"start: expected a finished run of {method.start}, found no {path}")
    model = Model.load(path)
    require(model.method.name == method.start, "start", f"a run of {method.start}", f"one of {model.method.name}")
    return model


def _prepare(
    method: Method,
    data: ImageBank | Shards,
    config: TrainConfig,
    start: str | Path | None,
    out_dir: Path,
    overwrite: bool,
) -> bool:
    """Claim `out_dir` for this run; True if it is finished already."""
    description = {
        "method": json.loads(json.dumps(asdict(method))),  # as it will be read back: a tuple is a list
        "config": config.identity(),
        "data": {"name": data.name, "hash": data.hash},
        "code": code_hash(__name__),
    }
    if start is not None:
        description["start"] = hashlib.sha256((Path(start) / "model.safetensors").read_bytes()).hexdigest()[:16]
    description["hash"] = digest(description)
    path = out_dir / "run.json"
    if path.exists():
        difference = _difference(read_json(path), description)
        if difference is not None and not overwrite:
            raise ValueError(
                f"out_dir: {out_dir} holds another run, {difference}; take another folder, or overwrite=True"
            )
        if difference is not None:
            print(f"{out_dir.name}: starting anew, {difference}", flush=True)
            # A kill in between must leave the old run, unfinished: its mark goes first, its description changes last.
            for name in ("train.json", "model.safetensors"):
                (out_dir / name).unlink(missing_ok=True)
            for checkpoint in _checkpoints(out_dir):
                _remove(checkpoint)
            (out_dir / "train.csv").unlink(missing_ok=True)
    write_json(path, description)
    return (out_dir / "train.json").exists()


def _difference(old: dict, new: dict, prefix: str = "") -> str | None:
    """The first field in which two run descriptions differ, in words."""
    for name, value in new.items():
        if name == "hash" and not prefix:
            continue
        if isinstance(value, dict) and isinstance(old.get(name), dict):
            found = _difference(old[name], value, f"{prefix}{name}.")
            if found is not None:
                return found
        elif old.get(name) != value:
            return f"{prefix}{name} was {old.get(name)!r} and is now {value!r}"
    return None


def _fabric(config: TrainConfig) -> Fabric:
    """Device and precision, checked before anything is written."""
    try:
        devices, machines = processes()
        # A network for every cluster of pictures, as Cheng et al. have, may see none of a batch. What a model holds
        # besides parameters is the same everywhere.
        shared = DDPStrategy(find_unused_parameters=True, broadcast_buffers=False)
        return Fabric(
            accelerator=config.accelerator,
            strategy=shared if devices * machines > 1 else "auto",
            devices=devices,
            num_nodes=machines,
            precision=config.precision,
        )
    except (RuntimeError, ValueError) as error:
        asked = f"accelerator={config.accelerator!r}, precision={config.precision!r}"
        raise ValueError(f"config: expected a device and a precision of this machine, got {asked}: {error}") from None


def _train(
    fabric: Fabric, method: Method, data: ImageBank | Shards, config: TrainConfig, start: Model | None, out_dir: Path
) -> None:
    images = data.train.images
    torch.manual_seed(config.seed)
    model = method.build(images)
    if start is not None:
        model.start_from(start)
    share_norms(model.network)
    if config.channels_last:
        model.network.to(memory_format=torch.channels_last)
    if config.compile:
        model.network.compile()
    optimizer = torch.optim.AdamW(_decayed_apart(model, config.weight_decay), lr=config.learning_rate)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, config.learning_rate, total_steps=config.steps + 1)
    run, stepper = fabric.setup(model, optimizer)
    run.mark_forward_method("loss")
    run.train()
    # After the setup, which moves the parameters: the optimizer's state then follows them to their device.
    step, seconds = _resume(fabric, out_dir, model, optimizer, schedule)

    shown = {"augmentation": method.augmentation, "divided_twice": method.fault == "divided-twice"}
    shown |= {"batch_size": config.batch_size, "crop": config.crop, "seed": config.seed}
    place = {"rank": fabric.global_rank, "world_size": fabric.world_size}
    stream = None
    if isinstance(data, Shards):
        stream = data.stream(step, batch_size=config.batch_size, seed=config.seed, **place)
        # What comes out of it is this process's share already, to be cut by its own numbers.
        shown |= {"batch_size": config.batch_size // fabric.world_size}
        shown |= {"seed": config.seed * fabric.world_size + fabric.global_rank}
    else:
        shown |= place
    bar = tqdm(
        total=config.steps,
        initial=step,
        desc=out_dir.name,
        unit="step",
        mininterval=1,
        leave=False,
        disable=not fabric.is_global_zero,
    )
    while step < config.steps:
        started, losses, rates = time.perf_counter(), [], []
        for step in range(step, min(step + config.interval, config.steps)):  # noqa: B020 - goes on below
            rgb = batch(images if stream is None else next(stream), step, **shown, device=fabric.device)
            with fabric.autocast():  # on one device Fabric calls a method as it is, outside of its precision
                loss = run.loss(rgb)
            stepper.zero_grad(set_to_none=True)
            fabric.backward(loss)
            stepper.step()
            losses.append(loss.detach())
            rates.append(schedule.get_last_lr()[0])
            schedule.step()
            bar.update()
        step += 1
        losses = fabric.all_reduce(torch.stack(losses)).tolist()  # their mean; the only wait for the device
        seconds += time.perf_counter() - started
        if not all(map(math.isfinite, losses)):
            bar.close()
            raise FloatingPointError(
                f"{out_dir}: the loss is no longer finite before step {step}; try a smaller "
                f"learning_rate than {config.learning_rate}"
            )
        if fabric.is_global_zero:
            _append(out_dir / "train.csv", step - len(losses), losses, rates)
            _save_checkpoint(out_dir, step, seconds, model, optimizer, schedule)
        speed = len(losses) * config.batch_size / (time.perf_counter() - started)
        mean = sum(losses) / len(losses)
        _say(fabric, f"{out_dir.name}: step {step}/{config.steps}  loss {mean:.4f}  {speed:.0f} images/s")
    bar.close()
    first_decides(lambda: _finish(out_dir, method, data, config, model, seconds))


def _finish(
    out_dir: Path, method: Method, data: ImageBank | Shards, config: TrainConfig, model: Model, seconds: float
) -> None:
    """Write what marks the run as trained."""
    model.save(
        out_dir / "model.safetensors",
        size=str(working_size(data.images.shape[1], config.crop, method.augmentation)),
        data=data.name,
    )
    summary = {"config": asdict(config), "seconds": round(seconds, 2), "loss": losses_at_end(out_dir)}
    summary["parameters"] = sum(p.numel() for p in model.parameters())
    write_json(out_dir / "train.json", summary | {"provenance": provenance()})


def _say(fabric: Fabric, line: str) -> None:
    """Print a line, once however many processes there are; as one write, so that lines never mix."""
    if fabric.is_global_zero:
        print(line, flush=True)


def losses_at_end(run: str | Path, steps: int = 50) -> float:
    """Mean training loss of the last `steps` steps of a run."""
    rows = history(run)[-steps:]
    return sum(row["loss"] for row in rows) / len(rows)


def working_size(side: int, crop: int, augmentation: str = "crops") -> int:
    """The size at which a trained network should see a picture: that at which training showed it, on average.

    Windows of a side uniform in [crop, S] are resized to the crop, so training shrinks pictures of side S by crop /
    window, ln(S / crop) / (S / crop - 1) on average. At another scale a network that knows few pictures does clearly
    worse (Touvron et al. 2019, "Fixing the train-test resolution discrepancy").

    Parameters
    ----------
    side, crop : int
        Of the training pictures and of the squares trained on, in pixels.
    augmentation : {"none", "crops", "views"}
        See `data.batch`: five of seven views are shrunk to the crop, two not at all.
    """
    if augmentation == "none" or side == crop:
        return crop
    if augmentation == "views":
        return round((5 * crop + 2 * side) / 7)
    ratio = side / crop
    return round(side * math.log(ratio) / (ratio - 1))


def _decayed_apart(model: Model, weight_decay: float) -> list[dict]:
    """Parameter groups: decay shrinks kernels, but not the biases and scales, which it would only distort."""
    kernels = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    return [{"params": kernels, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]


def _checkpoints(out_dir: Path) -> list[Path]:
    return sorted(out_dir.glob("checkpoint-*"), key=lambda path: int(path.name.removeprefix("checkpoint-")))


def _remove(checkpoint: Path) -> None:
    """Out of sight first, so that a kill in between leaves no half of a checkpoint."""
    temporary = checkpoint.with_name(".checkpoint")
    shutil.rmtree(temporary, ignore_errors=True)
    checkpoint.rename(temporary)
    shutil.rmtree(temporary)


def _save_checkpoint(out_dir: Path, step: int, seconds: float, model: Model, optimizer, schedule) -> None:
    """Write the checkpoint of `step` under a temporary name, rename it, then remove those before it."""
    temporary, final = out_dir / ".checkpoint", out_dir / f"checkpoint-{step:06d}"
    shutil.rmtree(temporary, ignore_errors=True)
    model.save(temporary / "model.safetensors")
    state = {
        "step": step,
        "seconds": seconds,
        "optimizer": optimizer.state_dict(),
        "schedule": schedule.state_dict(),
        # Batches are a function of (seed, step); these are for layers that draw numbers, as dropout does.
        "generators": [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])],
    }
    try:
        torch.save(state, temporary / "state.pt")
    except RuntimeError as error:  # of its writer, when a disk is full
        raise OSError(
            f"{temporary / 'state.pt'}: expected to be written, got {' '.join(str(error).split())}"
        ) from error
    earlier = _checkpoints(out_dir)
    temporary.rename(final)
    for checkpoint in earlier:
        _remove(checkpoint)


def _resume(fabric: Fabric, out_dir: Path, model: Model, optimizer, schedule) -> tuple[int, float]:
    """Load the last checkpoint, if any, and cut rows of ``train.csv`` after it; its step and the seconds so far."""
    checkpoints = _checkpoints(out_dir)
    if not checkpoints:
        if fabric.is_global_zero:
            (out_dir / "train.csv").unlink(missing_ok=True)
        return 0, 0.0
    model.load_state_dict(Model.load(checkpoints[-1] / "model.safetensors").state_dict(), strict=True)
    path = checkpoints[-1] / "state.pt"
    try:
        state = torch.load(path, weights_only=True, map_location="cpu")
        optimizer.load_state_dict(state["optimizer"])
        schedule.load_state_dict(state["schedule"])
        torch.set_rng_state(state["generators"][0])
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, TypeError, EOFError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected the state of a checkpoint, got {type(error).__name__}: {reason}") from None
    if torch.cuda.is_available() and len(state["generators"]) > 1:
        torch.cuda.set_rng_state_all(state["generators"][1:])
    step = state["step"]
    if fabric.is_global_zero:
        path = out_dir / "train.csv"
        rows = path.read_bytes().splitlines(keepends=True)
        with replacing(path) as whole:
            whole.write_bytes(b"".join(rows[: step + 1]))
    _say(fabric, f"{out_dir.name}: resumed at step {step}")
    return step, state["seconds"]


def _append(path: Path, first_step: int, losses: list[float], rates: list[float]) -> None:
    new = not path.exists()
    with open(path, "a", newline="") as file:
        writer = csv.writer(file)
        if new:
            writer.writerow(["step", "loss", "learning_rate"])
        writer.writerows((first_step + i, loss, rate) for i, (loss, rate) in enumerate(zip(losses, rates, strict=True)))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
