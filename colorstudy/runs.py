"""The run folder: what it holds, how it is claimed, checkpointed, resumed and finished.

run.json           what the run is: method, config, data and code; written first
train.csv          step, loss and learning rate of every step; grows by appended rows
checkpoint.pt      model, optimizer, schedule, generators and the hash of train.csv after the last finished interval
model.safetensors  the trained model
train.json         duration, speed, provenance and hashes; written last: a run with this file is finished
images.csv, ...    scores of every picture; metrics.json, written after them: the run is scored
"""

import csv
import hashlib
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import torch

from colorstudy._checks import require
from colorstudy._files import read_json, replacing, sha256, write_json
from colorstudy._provenance import digest
from colorstudy.model import Model

DESCRIPTION, WEIGHTS, SUMMARY, METRICS = "run.json", "model.safetensors", "train.json", "metrics.json"
_LOG, _CHECKPOINT = "train.csv", "checkpoint.pt"


def history(run: str | Path) -> list[dict[str, float]]:
    """The rows of a run's ``train.csv``: step, loss and learning rate of every step so far."""
    with open(Path(run) / _LOG, newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def claim(folder: Path, description: dict[str, Any], overwrite: bool) -> bool:
    """Claim `folder` for the run of that `description`; True if it is finished.

    Another run, and one of which a file is damaged or missing, is a ``ValueError`` that names what, before anything is
    written. With `overwrite` it starts anew, or from its checkpoint where only what came after that is damaged.
    """
    description = json.loads(json.dumps(description))  # as it will be read back: a tuple is a list
    description["hash"] = digest(description)
    problem, rest = _problem(folder, description)
    if problem and not overwrite:
        raise ValueError(f"out_dir: {folder} holds {problem}; take another folder, or overwrite=True")
    if problem:
        print(f"{folder.name}: starting anew, {problem.removeprefix('another run, ')}", flush=True)
        # A kill in between must leave the old run, unfinished: its mark goes first, its description changes last.
        for name in (SUMMARY, WEIGHTS, *rest):
            (folder / name).unlink(missing_ok=True)
    if problem or not (folder / DESCRIPTION).exists():
        write_json(folder / DESCRIPTION, description)
    return (folder / SUMMARY).exists()


def save_checkpoint(folder: Path, step: int, seconds: float, *states: Any) -> None:
    """Replace the checkpoint, whole or not at all: the next step, the time taken, the `states` of model and so on."""
    # Batches are a function of (seed, step); the generators are for layers that draw numbers, as dropout does.
    generators = [torch.get_rng_state(), *(torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [])]
    content = {"progress": (step, seconds), "states": [s.state_dict() for s in states], "generators": generators}
    content["log"] = _hash_of_log(folder)
    temporary = folder / f".{_CHECKPOINT}"  # what a kill leaves of it, the next one overwrites
    try:
        with open(temporary, "wb") as file:
            torch.save(content, file)
            os.fsync(file.fileno())  # or a loss of power would leave neither this one nor the one before
    except RuntimeError as error:  # of torch's writer, while it handles that a disk is full
        raise OSError(f"{temporary}: expected to be written, got {error.__context__ or error}") from error
    temporary.replace(folder / _CHECKPOINT)


def resume(folder: Path, *states: Any, writes: bool = True) -> tuple[int, float]:
    """Load the checkpoint, if any, into `states`, and cut later rows of the log if it `writes`; step and seconds."""
    log = folder / _LOG
    if not (folder / _CHECKPOINT).exists():
        if writes:
            log.unlink(missing_ok=True)
        return 0, 0.0
    content = _checkpoint(folder, *states)
    step, seconds = content["progress"]
    torch.set_rng_state(content["generators"][0])
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
    losses = [row["loss"] for row in history(folder)[-50:]]
    model.save(folder / WEIGHTS)
    summary = summary | {"loss": sum(losses) / len(losses), "log": _hash_of_log(folder)}
    summary["weights"] = sha256(folder / WEIGHTS)
    write_json(folder / SUMMARY, summary | {"hash": digest(summary)})


def _problem(folder: Path, description: dict[str, Any]) -> tuple[str | None, tuple[str, ...]]:
    """Why a folder does not hold the run of that description, if so, and what must go beside its end to start it."""
    rest: tuple[str, ...] = (_CHECKPOINT, _LOG)
    if not (folder / DESCRIPTION).exists():
        found = [name for name in (_LOG, _CHECKPOINT, WEIGHTS, SUMMARY) if (folder / name).exists()]
        return (f"{', '.join(found)}, but no {DESCRIPTION}" if found else None), rest
    try:
        difference = _difference(read_json(folder / DESCRIPTION), description)
        if difference is not None:
            return f"another run, {difference}", rest
        if (folder / _CHECKPOINT).exists():
            _checkpoint(folder)
            rest = ()
        if (folder / SUMMARY).exists():
            summary = read_json(folder / SUMMARY)
            hashes = {SUMMARY: summary.pop("hash", None), _LOG: summary.get("log"), WEIGHTS: summary.get("weights")}
            found = [digest(summary), _hash_of_log(folder), sha256(folder / WEIGHTS)]
            for (name, expected), got in zip(hashes.items(), found):
                require(expected == got, str(folder / name), f"the hash {expected} of when it was written", got)
    except (FileNotFoundError, ValueError) as error:
        return f"a damaged run, {error}", rest
    return None, rest


def _checkpoint(folder: Path, *states: Any) -> dict[str, Any]:
    """The content of the checkpoint, loaded into `states` if given; a ``ValueError`` if it or the log is damaged."""
    path = folder / _CHECKPOINT
    try:
        with zipfile.ZipFile(path) as file:
            require(file.testzip() is None, "checksums", "those of the content", "others: the file is damaged")
        content: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        (step, _), noted = content["progress"], content["log"]
        for state, saved in zip(states, content["states"], strict=True) if states else ():
            state.load_state_dict(saved)
    except Exception as error:  # a damaged file makes readers raise anything
        reason = " ".join(str(error).split())
        raise ValueError(f"{path}: expected a checkpoint, got {type(error).__name__}: {reason}") from None
    require(noted == _hash_of_log(folder, step), str(folder / _LOG), f"the {step} rows before the checkpoint", "others")
    return content


def _hash_of_log(folder: Path, steps: int | None = None) -> str:
    """SHA-256 (hex) of ``train.csv``, or of what it says of the first `steps`."""
    rows = (folder / _LOG).read_bytes().splitlines(keepends=True) if (folder / _LOG).exists() else []
    return hashlib.sha256(b"".join(rows[: None if steps is None else steps + 1])).hexdigest()


def _difference(old: dict[str, Any], new: dict[str, Any], prefix: str = "") -> str | None:
    """The first field in which two run descriptions differ, in words."""
    names = sorted({**new, **old}, key="hash".__eq__)  # which differs too, but says little
    for name in (name for name in names if old.get(name) != new.get(name)):
        if isinstance(new.get(name), dict) and isinstance(old.get(name), dict):
            return _difference(old[name], new[name], f"{prefix}{name}.")
        return f"{prefix}{name} was {old.get(name)!r} and is now {new.get(name)!r}"
    return None
