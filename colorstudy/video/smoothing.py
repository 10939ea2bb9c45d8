"""Colour clips, with averages over frames of what a network predicts, so that their colours flicker less."""

import math
import os
import shutil
import warnings
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from importlib.metadata import version
from itertools import groupby, islice
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from tqdm.auto import tqdm

from colorstudy._checks import require, require_choice
from colorstudy._files import read_json, sha256, write_json, write_tensors
from colorstudy.colorize import Colorizer
from colorstudy.data.arrays import Picture
from colorstudy.filters import downscale
from colorstudy.video.files import H264, Clip, Frame, encoded, joined, write
from colorstudy.video.flow import estimate, is_cut, warp

SMOOTHINGS = ("none", "exponential", "flow")
"""The kinds of `Smoother`."""

WINDOW = 21  # frames that "exponential" averages


class Smoother:
    """Averages predictions over the frames of one clip, which come one after the other; "none" leaves them.

    "exponential" is the kernel of Billaut et al. 2018: p_t = sum over i = 0..20 of p_(t-i) exp(-0.2 i), normalised, at
    the cost of one addition and one subtraction a frame. "flow" fetches the average so far along the optical flow and
    lets go of what is newly visible. Its kernel has no last frame, as what was moved cannot be subtracted: of `decay`
    0.2 (at least 0), the weights after 20 frames sum to 1.5 %. No average goes across a cut.
    """

    def __init__(self, kind: str = "exponential", decay: float = 0.2) -> None:
        require_choice(kind, SMOOTHINGS, "kind")
        require(decay >= 0, "decay", "a number >= 0", decay)
        self.kind, self.keep = kind, math.exp(-decay)
        self.load_state_dict({})

    def load_state_dict(self, state: Mapping[str, torch.Tensor]) -> None:
        """Go on where the smoother of that state was; an empty one begins a new clip."""
        self._grey = state.get("grey", torch.empty(0))  # (H, W), of the frame before
        self._sum = state.get("sum", torch.empty(0)).clone()  # (1, C + 1, h, w), weighted; the last map is of weights
        self._recent = deque(state.get("recent", torch.empty(0))[:, None])  # (1, C + 1, h, w) each

    def __call__(self, lightness: torch.Tensor, prediction: torch.Tensor) -> torch.Tensor:
        """The average of a `prediction` (1, C, h, w) with those before; `lightness` (1, 1, H, W) is of all one size."""
        if self.kind == "none":
            return prediction
        one = lightness.shape[:2] == (1, 1) and prediction.ndim == 4 and len(prediction) == 1
        require(one, "prediction", "one frame, (1, C, h, w), of lightness (1, 1, H, W)", tuple(prediction.shape))
        # Of 128 pixels DIS takes a third of the time that it takes of 256, and the clips are as steady.
        before, self._grey = self._grey, downscale(lightness, 128 / min(lightness.shape[-2:]))[0, 0]
        now = F.pad(prediction, (0, 0, 0, 0, 0, 1), value=1.0)
        if not len(before) or is_cut(before, self._grey):
            self._sum, self._recent = torch.zeros_like(now), deque()
        elif self.kind == "flow":
            flow, visible = estimate(before, self._grey).resized((now.shape[-2], now.shape[-1]))
            self._sum = warp(self._sum[0], flow)[None] * visible.to(now)
        self._sum = torch.add(now, self._sum, alpha=self.keep)
        if self.kind == "exponential":
            self._recent.append(now)
            if len(self._recent) > WINDOW:
                self._sum.sub_(self._recent.popleft(), alpha=self.keep**WINDOW)
        return self._sum[:, :-1] / self._sum[:, -1:]

    def state_dict(self) -> dict[str, torch.Tensor]:
        """All that `load_state_dict` needs to go on after the last frame."""
        return {"grey": self._grey, "sum": self._sum, "recent": torch.cat([self._sum[:0], *self._recent])}


def colorize_frame(colorizer: Colorizer, picture: Picture, smoother: Smoother) -> Any:
    """The next frame of a clip, given and coloured as by `Colorizer.colorize`, and smoothed with those before."""
    smoothed = copy(colorizer)
    smoothed.predict = lambda lightness: smoother(lightness, colorizer.predict(lightness))  # type: ignore[method-assign]
    return smoothed.colorize(picture)


def colorize_frames(colorizer: Colorizer, frames: torch.Tensor, kind: str = "none", decay: float = 0.2) -> torch.Tensor:
    """The frames (T, 3, H, W) of a clip, sRGB in [0, 1], coloured; `kind` and `decay` are those of `Smoother`."""
    smoother = Smoother(kind, decay)
    return torch.cat([colorize_frame(colorizer, frame, smoother) for frame in frames.split(1)])


def colorize_clip(
    source: str | os.PathLike,
    out: str | os.PathLike,
    colorizer: Colorizer,
    *,
    smoothing: str = "flow",
    resume: bool = False,
    strict: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    segment: int = 128,
) -> Path:
    """Colour a clip, what colours it has ignored and its sound copied, to a .mkv, .mov or .mp4 file `out`; its path.

    The video is H.264 (CRF 17, BT.709) with the times, the size and the shape of pixels of the source, upright; with
    full chroma (4:4:4) where a side is odd, else 4:2:0, which everything plays. `smoothing` is a kind of `Smoother`.
    `resume` goes on where an earlier call was interrupted, at a loss of at most `segment` frames, or earlier if what it
    left is damaged, by its hashes; without, what is left is removed. A ``ValueError`` if `source` is no whole clip, the
    earlier call had other arguments, or `out` cannot hold the sound; a ``FileExistsError`` if `out` exists, without
    `overwrite`; an ``OSError`` if writing fails. Frames that FFmpeg patched up are a warning, a ``ValueError`` if
    `strict`.
    """
    clip, out = Clip(source), Path(out)
    smoother = Smoother(smoothing)
    require(out.suffix.lower() in (".mkv", ".mov", ".mp4"), "out", "a file of one of .mkv, .mov, .mp4", out)
    require(segment >= 1, "segment", "at least 1 frame", segment)
    require(not (out.exists() and out.samefile(clip.path)), "out", "another file than the source", out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"out: expected a new file, or overwrite, got {out}, which exists")
    job = {"source": sha256(clip.path), "model": colorizer.model.checksum, "size": colorizer.size}
    job |= {"options": colorizer.options, "smoothing": smoothing, "segment": segment}
    job |= {"av": version("av"), "encoding": H264}

    with _resumable(out, job, resume) as folder:
        done, state = _finished(folder)
        smoother.load_state_dict(load_file(state, str(colorizer.device)) if state else {})
        rest = islice(enumerate(clip.frames(strict)), done * segment, None)
        bar = tqdm(rest, total=clip.length or None, initial=done * segment, unit="frame", disable=not progress)
        for number, frames in groupby(bar, lambda numbered: numbered[0] // segment):  # into NUT, which keeps all times
            colored = (Frame(colorize_frame(colorizer, f.pixels, smoother), f.pts) for _, f in frames)
            files = [folder / f"{number:06}{suffix}" for suffix in (".nut", ".safetensors")]
            write(files[0], encoded, colored, clip)
            write_tensors(files[1], smoother.state_dict())
            old, (_, state) = state, [file.replace(_sealed(file)) for file in files]
            if old and number % 64:  # one state of 64 stays, to go on from if what came later is damaged
                old.unlink()
        if clip.damaged:
            warnings.warn(f"{clip.path}: {clip.damaged} damaged frames, patched up by FFmpeg", stacklevel=2)
        write(out, joined, sorted(folder.glob("[0-9]*.nut")), clip)
        for path in folder.glob("*.safetensors"):
            path.unlink()
    return out


def _sealed(path: Path) -> Path:
    """The name of a segment or state that is done: with its SHA-256."""
    return path.with_name(f"{path.name[:6]}.{sha256(path)}{path.suffix}")


def _finished(folder: Path) -> tuple[int, Path | None]:
    """How many segments stay, and the state after them; others, and what is damaged or follows that, are removed."""
    found = sorted(folder.glob("[0-9]*"))
    sound = [path for path in found if path == _sealed(path)]
    if damaged := [path.name for path in found if path not in sound and path.name.count(".") > 1]:
        warnings.warn(f"{folder}: {damaged} are damaged: what follows is made again", stacklevel=3)
    parts = [path for path in sound if path.suffix == ".nut"]
    parts = [path for number, path in enumerate(parts) if int(path.name[:6]) == number]
    states = [path for path in sound if path.suffix == ".safetensors" and int(path.name[:6]) < len(parts)]
    done = int(states[-1].name[:6]) + 1 if states else 0
    for path in {*found} - {*parts[:done], *states}:
        path.unlink()
    return done, states[-1] if states else None


@contextmanager
def _resumable(out: Path, job: dict[str, Any], resume: bool) -> Iterator[Path]:
    """The folder of the segments and states of `out`, held alone and cleared of other jobs."""
    folder = out.with_name(f".{out.name}.parts")
    folder.mkdir(parents=True, exist_ok=True)
    lock, record = FileLock(folder / "lock"), folder / "job.json"
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"out: expected a clip that no other process makes, got {out}") from None
    try:
        if resume and record.exists():
            found = read_json(record)
            other = [name for name in job if found.get(name) != job[name]]
            require(not other, "resume", f"segments of the same {' and '.join(other)}", f"others in {folder}")
        else:
            for path in {*folder.iterdir()} - {folder / "lock"}:
                path.unlink()
            write_json(record, job)
        yield folder
    finally:
        lock.release()
        if not [*folder.glob("*.safetensors")]:  # nothing to go on from
            shutil.rmtree(folder)
