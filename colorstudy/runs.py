"""The run folder: what it holds, how it is claimed, checkpointed, resumed and finished.

run.json           what the run is: method, config, data and code; written first
train.csv          step, loss and learning rate of every step; grows by appended rows
checkpoint.pt      model, optimizer, schedule and generators after the last finished interval
model.safetensors  the trained model
train.json         duration, speed and provenance; written last: a run with this file is finished
images.csv, ...    scores of every picture; metrics.json, written after them: the run is scored
"""

import csv
import json
import zipfile
from pathlib import Path
from typing import Any

import torch

from colorstudy._checks import require
from colorstudy._files import read_json, replacing, write_json
from colorstudy._provenance import digest
from colorstudy.model import Model

DESCRIPTION, WEIGHTS, SUMMARY, METRICS = "run.json", "model.safetensors", "train.json", "metrics.json"
_LOG, _CHECKPOINT = "train.csv", "checkpoint.pt"


def history(run: str | Path) -> list[dict[str, float]]:
    """The rows of a run's ``train.csv``: step, loss and learning rate of every step so far."""
    with open(Path(run) / _LOG, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def claim(folder: Path, description: dict[str, Any], overwrite: bool) -> bool:
    """Claim `folder` for the run of that `description`, refusing another one unless `overwrite`; True if finished."""
    description = json.loads(json.dumps(description))  # as it will be read back: a tuple is a list
    description["hash"] = digest(description)
    path = folder / DESCRIPTION
    if path.exists():
        difference = _difference(read_json(path), description)
        if difference is not None and not overwrite:
            advice = "take another folder, or overwrite=True"
            raise ValueError(f"out_dir: {folder} holds another run, {difference}; {advice}")
        if difference is not None:
            print(f"{folder.name}: starting anew, {difference}", flush=True)
            # A kill in between must leave the old run, unfinished: its mark goes first, its description changes last.
            for name in (SUMMARY, WEIGHTS, _CHECKPOINT, _LOG):
                (folder / name).unlink(missing_ok=True)
    write_json(path, description)
    return (folder / SUMMARY).exists()


def save_checkpoint(folder: Path, step: int, seconds: float, *states: Any) -> None:
    """Replace the checkpoint, whole or not at all: the next step, the time taken, the `states` of model and so on."""
    # Batches are a function of (seed, step); the generators are for layers that draw numbers, as dropout does.
    generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    content = {"progress": (step, seconds), "states": [s.state_dict() for s in states], "generators": generators}
    temporary = folder / f".{_CHECKPOINT}"  # what a kill leaves of it, the next one overwrites
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
    except RuntimeError as error:  # of torch's writer, while it handles that a disk is full
        raise OSError(f"{temporary}: expected to be written, got {error.__context__ or error}") from error
    temporary.replace(folder / _CHECKPOINT)


def resume(folder: Path, *states: Any, writes: bool = True) -> tuple[int, float]:
    """Load the checkpoint, if any, into `states`; the next step, and the seconds that the training took so far.

    If it `writes`, rows of ``train.csv`` after the checkpoint are cut.
    """
    path, log = folder / _CHECKPOINT, folder / _LOG
    if not path.exists():
        if writes:
            log.unlink(missing_ok=True)
        return 0, 0.0
    try:
        with zipfile.ZipFile(path) as file:
            require(file.testzip() is None, "checksums", "those of the content", "others: the file is damaged")
        content = torch.load(path, weights_only=True, map_location="cpu")
        step, seconds = content["progress"]
        for state, saved in zip(states, content["states"], strict=True):
            state.load_state_dict(saved)
        torch.set_rng_state(content["generators"][0])
    except Exception as error:  # a damaged file makes readers raise anything
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a checkpoint, got {type(error).__name__}: {reason}") from None
    if torch.cuda.is_available() and len(content["generators"]) > 1:
        torch.cuda.set_rng_state_all(content["generators"][1:])
    if writes:
        rows = log.read_bytes().splitlines(keepends=True)
        with replacing(log) as whole:
            whole.write_bytes(b"".join(rows[: step + 1]))
        print(f"{folder.name}: resumed at step {step}", flush=True)
    return step, seconds


def log(folder: Path, first_step: int, losses: list[float], rates: list[float]) -> None:
    """Append the losses and learning rates of the steps from `first_step` on to ``train.csv``."""
    with open(folder / _LOG, "a", newline="") as file:
        writer = csv.writer(file)
        if file.tell() == 0:
            writer.writerow(["step", "loss", "learning_rate"])
        writer.writerows(zip(range(first_step, first_step + len(losses)), losses, rates, strict=True))


def finish(folder: Path, model: Model, summary: dict[str, Any]) -> None:
    """Write the trained model and, last, the `summary` that marks the run as trained."""
    model.save(folder / WEIGHTS)
    losses = [row["loss"] for row in history(folder)[-50:]]
    write_json(folder / SUMMARY, summary | {"loss": sum(losses) / len(losses)})


def _difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    """The first field in which two run descriptions differ, in words."""
    for name in (name for name in new if old.get(name) != new[name] and prefix + name != "hash"):
        if isinstance(new[name], dict) and isinstance(old.get(name), dict):
            return _difference(old[name], new[name], f"{prefix}{name}.")
        return f"{prefix}{name} was {old.get(name)!r} and is now {new[name]!r}"
    return None
