"""Clips: read what FFmpeg reads, colour it frame by frame, write it again, and go on after an interruption.

A coloured clip grows in segments of some frames, each written whole together with the state of the smoothing after it,
in a folder beside the output. The last step joins them with the sound of the source, so that the output is there once
it is finished and never before.
"""

from __future__ import annotations

import heapq
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import chain, count, islice
from pathlib import Path
from typing import Any, NamedTuple

import av
import numpy as np
import torch
from filelock import FileLock, Timeout
from safetensors.torch import load_file
from tqdm.auto import tqdm

from colorstudy._checks import require
from colorstudy._files import read_json, replacing, write_json, write_tensors
from colorstudy.colorize import Colorizer
from colorstudy.data.cache import sha256
from colorstudy.filters import shrunk
from colorstudy.temporal import Smoother

CONTAINERS = (".mkv", ".mov", ".mp4")
"""What `colorize_clip` writes, always with H.264."""

_MISSING = Fraction(1, 4), Fraction(1, 50)  # seconds, and share, of a clip that may lack at its end


class Form(NamedTuple):
    """What frames look like: their rate, the unit of their times in seconds, their size, and the shape of a pixel."""

    rate: Fraction
    time_base: Fraction
    width: int
    height: int
    pixel_aspect: Fraction = Fraction(1)
    """Width of a pixel over its height."""


class Frame(NamedTuple):
    """A frame of a clip: uint8 sRGB pixels (H, W, 3), upright, and its time in units of the clip's `time_base`."""

    pixels: np.ndarray
    pts: int


class Clip:
    """A clip that FFmpeg reads; its frames are decoded one after the other, never all at once.

    Its first video stream counts; a picture attached to music is none.

    Parameters
    ----------
    path : path

    Attributes
    ----------
    path : Path
    form : Form
        Of the frames, upright, at their average rate.
    turns : int
        Quarter turns, counterclockwise, that make stored frames upright.
    length : int
        Number of frames, as the file promises or its duration suggests; 0 if nobody knows.
    duration : Fraction or None
        Seconds of the video stream, as the file promises.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If FFmpeg cannot read it, or it has no video stream or no frame.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise FileNotFoundError(f"path: expected a clip, got {self.path}, which does not exist")
        with self._opened() as (container, stream):
            rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.duration = _duration(stream)
            self.length = stream.frames or round((self.duration or 0) * rate)
            first = next(container.decode(stream), None)
            require(first is not None, str(self.path), "a clip with frames", "none")
            self.turns = first.rotation // 90 % 4
            sides = (first.width, first.height, stream.sample_aspect_ratio or Fraction(1))
            upright = sides if self.turns % 2 == 0 else (*sides[1::-1], 1 / sides[2])
            self.form = Form(rate, Fraction(stream.time_base), *upright)

    def frames(self) -> Iterator[Frame]:
        """The frames, in order of their times, which always grow.

        Raises
        ------
        ValueError
            If a part cannot be decoded, the size of the frames changes, or the clip ends clearly before
            the duration that the file promises.
        """
        step = max(1, round(1 / (self.form.rate * self.form.time_base)))
        first = last = end = None
        with self._opened() as (container, stream):
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                require(not packet.is_corrupt, str(self.path), "an undamaged clip", f"a damaged part {self._at(last)}")
                for frame in packet.decode():
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), self.turns)
                    size = (self.form.height, self.form.width, 3)
                    require(pixels.shape == size, str(self.path), f"frames of one size {size}",
                            f"{pixels.shape} {self._at(last)}")  # fmt: skip
                    earliest = 0 if last is None else last + 1
                    pts = frame.pts if frame.pts is not None else earliest + step - 1
                    last = pts if last is None else max(pts, earliest)
                    first, end = last if first is None else first, last + (frame.duration or step)
                    yield Frame(np.ascontiguousarray(pixels), last)
        require(last is not None, str(self.path), "a clip with frames", "none")
        seconds = (end - first) * self.form.time_base
        missing = (self.duration or seconds) - seconds
        enough = missing <= max(_MISSING[0], _MISSING[1] * (self.duration or 0))
        require(enough, str(self.path), f"{float(self.duration or 0):.2f} s of frames, as the file promises",
                f"{float(seconds):.2f} s: the clip is cut off")  # fmt: skip

    def _at(self, pts: int | None) -> str:
        return "at its begin" if pts is None else f"after {float(pts * self.form.time_base):.2f} s"

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """The opened file and its video stream; errors of FFmpeg become a ``ValueError`` that names the file."""
        try:
            with av.open(str(self.path), metadata_errors="replace") as container:
                streams = [s for s in container.streams.video if not s.disposition & _attached_picture()]
                others = sorted({s.type for s in container.streams})
                require(len(streams) > 0, str(self.path), "a clip with a video stream", f"only {others or 'nothing'}")
                yield container, streams[0]
        except av.FFmpegError as error:
            raise ValueError(f"{self.path}: expected a clip that FFmpeg decodes, got {error.strerror}") from error


def colorize_clip(
    source: Clip | str | os.PathLike,
    out: str | os.PathLike,
    colorizer: Colorizer,
    *,
    smoothing: str = "flow",
    temperature: float | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: bool = True,
    segment: int = 128,
) -> Path:
    """Colour a clip; what colours it has are ignored, its sound is copied.

    The video is H.264 of high quality (CRF 18, BT.709), with the times, the size and the shape of pixels of the source,
    turned upright; with full chroma (4:4:4) where a side is odd, else 4:2:0, which everything plays.

    Parameters
    ----------
    source : Clip or path
    out : path
        A file of one of `CONTAINERS`.
    colorizer : Colorizer
    smoothing : {"none", "exponential", "flow"}
        Each frame for itself, or a `temporal.Smoother`.
    temperature : float, optional
        As in `Colorizer.colorize`.
    resume : bool
        Go on where an earlier call with the same arguments was interrupted; without, its segments are removed.
    overwrite : bool
        Replace `out`.
    progress : bool
        Show a bar.
    segment : int
        Frames a segment: how much an interruption costs at most.

    Returns
    -------
    Path
        `out`.

    Raises
    ------
    FileExistsError
        If `out` exists and `overwrite` is false.
    ValueError
        If `source` is no whole clip, an argument is outside of its range, `resume` finds the segments of other
        arguments, or the container of `out` cannot hold the sound.
    OSError
        If `out` cannot be written. `source` and finished segments are left as they are.
    """
    clip, out = source if isinstance(source, Clip) else Clip(source), Path(out)
    smoother = None if smoothing == "none" else Smoother(smoothing)
    require(out.suffix.lower() in CONTAINERS, "out", f"a file of one of {CONTAINERS}", out)
    require(segment >= 1, "segment", "at least 1 frame", segment)
    require(not (out.exists() and out.samefile(clip.path)), "out", "another file than the source", out)
    if out.exists() and not overwrite:
        raise FileExistsError(f"out: expected a new file, or overwrite, got {out}, which exists")
    job = {"source": sha256(clip.path), "model": colorizer.model.checksum, "size": colorizer.size}
    job |= {"smoothing": smoothing, "temperature": temperature, "segment": segment, "av": av.__version__}
    folder = out.with_name(f".{out.name}.parts")
    with _alone(folder, out):
        done = _finished(folder, job, resume)
        if done and smoother:
            smoother.load_state_dict(load_file(_state(folder, done - 1), device=str(colorizer.device)))
        frames = clip.frames()
        first = next(islice(frames, done * segment, None), None)
        with tqdm(total=clip.length or None, initial=done * segment, unit="frame", disable=not progress) as bar:
            for number in count(done):
                if first is None:
                    break
                with replacing(_segment(folder, number)) as temporary:
                    colored = (
                        Frame(colorizer.colorize(frame.pixels, temperature, smoother=smoother), frame.pts)
                        for frame in chain([first], islice(frames, segment - 1))
                    )
                    bar.update(_encode(colored, temporary, clip.form))
                    write_tensors(_state(folder, number), smoother.state_dict() if smoother else {})
                _state(folder, number - 1).unlink(missing_ok=True)
                first = next(frames, None)
        with replacing(out) as temporary:
            _join([_segment(folder, i) for i in range(number)], clip, temporary)
        shutil.rmtree(folder)
    return out


def write_clip(frames: Sequence[np.ndarray], path: str | os.PathLike, rate: Fraction | int = 25) -> Path:
    """Write frames, uint8 (H, W, 3) each, as an MP4 like those of `colorize_clip`; whole or not at all.

    Raises
    ------
    ValueError
        If there are no frames, one is of another kind or size than the first, or `path` does not end on ``.mp4``.
    OSError
        If `path` cannot be written.
    """
    path, rate = Path(path), Fraction(rate)
    require(path.suffix == ".mp4", "path", "a file that ends on .mp4", path)
    shapes = {(frame.dtype, frame.shape) for frame in map(np.asarray, frames)}
    alike = len(shapes) == 1 and all(d == np.uint8 and len(s) == 3 and s[2] == 3 for d, s in shapes)
    require(alike, "frames", "uint8 (H, W, 3), all of one size", shapes or "none")
    height, width = np.shape(frames[0])[:2]
    timed = (Frame(np.ascontiguousarray(frame), t) for t, frame in enumerate(frames))
    with replacing(path) as temporary:
        _encode(timed, temporary, Form(rate, 1 / rate, width, height), "mp4")
    return path


def excerpt(path: str | os.PathLike, frames: int, size: int) -> torch.Tensor:
    """The first `frames` frames of a clip, fewer if it has no more, the shorter side shrunk to `size` pixels.

    Returns
    -------
    float32 tensor (T, 3, H, W)
        sRGB in [0, 1].

    Raises
    ------
    FileNotFoundError, ValueError
        As of `Clip`, or if a number is not positive.
    """
    require(frames >= 1, "frames", "at least 1", frames)
    require(size >= 1, "size", "pixels >= 1", size)
    taken = [
        torch.from_numpy(frame.pixels).permute(2, 0, 1)[None] / 255 for frame in islice(Clip(path).frames(), frames)
    ]
    return torch.cat([shrunk(frame, size / min(frame.shape[-2:])) for frame in taken]).clamp_(0, 1)


@contextmanager
def _alone(folder: Path, out: Path) -> Iterator[None]:
    """Hold the folder of segments, which is made if needed; a ``ValueError`` if another process does."""
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise ValueError(f"out: expected a clip that no other process makes, got {out}") from None
    try:
        yield
    finally:
        lock.release()
        if folder.exists() and not _segment(folder, 0).exists():  # nothing to go on from
            shutil.rmtree(folder)


def _finished(folder: Path, job: dict[str, Any], resume: bool) -> int:
    """How many segments of `job` are there to go on from; the folder is cleared of all others."""
    record = folder / "job.json"
    if resume and record.exists():
        found = read_json(record)
        other = [name for name in job if found.get(name) != job[name]]
        require(not other, "resume", f"segments of the same {' and '.join(other)}", f"others in {folder}")
        done = next(i for i in count() if not _segment(folder, i).exists())
        return done if done == 0 or _state(folder, done - 1).exists() else 0
    for path in folder.iterdir():
        if path.name != "lock":
            path.unlink()
    write_json(record, job)
    return 0


def _segment(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.nut"  # a container that keeps all times as they are


def _state(folder: Path, number: int) -> Path:
    return folder / f"{number:06}.safetensors"


def _encode(frames: Iterable[Frame], path: Path, form: Form, container_format: str = "nut") -> int:
    """Write frames as a file of H.264 alone; their number."""
    written = 0
    with _writing(path, format=container_format) as container:
        stream = container.add_stream("libx264", rate=form.rate, options={"crf": "18", "bf": "0"})
        stream.width, stream.height = form.width, form.height
        stream.pix_fmt = "yuv420p" if form.width % 2 == form.height % 2 == 0 else "yuv444p"
        context = stream.codec_context
        context.time_base, context.sample_aspect_ratio = form.time_base, form.pixel_aspect
        context.color_primaries = context.color_trc = context.colorspace = 1  # BT.709
        context.color_range = 1  # limited
        context.thread_count = 2  # on which the bits depend
        for frame in frames:
            picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
            picture = picture.reformat(format=stream.pix_fmt, dst_colorspace="ITU709")
            picture.pts, picture.time_base = frame.pts, form.time_base
            container.mux(stream.encode(picture))
            written += 1
        container.mux(stream.encode())
    _check_length(path, written)
    return written


def _join(segments: list[Path], clip: Clip, path: Path) -> None:
    """Write the packets of `segments`, one after the other, and the sound of `clip`, as they are, to `path`."""
    with clip._opened() as (source, _), av.open(str(segments[0])) as first, _writing(path) as container:
        video = container.add_stream_from_template(first.streams.video[0])
        try:
            audio = {s.index: container.add_stream_from_template(s) for s in source.streams.audio}
        except ValueError as error:
            sound = [s.codec_context.name for s in source.streams.audio]
            raise ValueError(f"out: expected a container for the sound {sound}, such as .mkv, got {path.suffix}, "
                             f"{error}") from error  # fmt: skip
        sounds = source.demux(source.streams.audio) if audio else []
        packets = heapq.merge(
            _timed(p for s in segments for p in _packets(s)), _timed(sounds), key=lambda pair: pair[0]
        )
        written = 0
        for _, packet in packets:
            written += packet.stream.type == "video"
            packet.stream = video if packet.stream.type == "video" else audio[packet.stream_index]
            container.mux(packet)
    _check_length(path, written)


def _packets(path: Path) -> Iterator[Any]:
    """The packets of the video stream of a file of ours."""
    with av.open(str(path)) as container:
        yield from (packet for packet in container.demux(video=0) if packet.dts is not None)


def _timed(packets: Iterable[Any]) -> Iterator[tuple[Fraction, Any]]:
    """Packets with the seconds at which they are decoded; the last of each stream, which is empty, left out."""
    return ((packet.dts * packet.time_base, packet) for packet in packets if packet.dts is not None)


def _check_length(path: Path, frames: int) -> None:
    """FFmpeg does not report every failure to write, so a finished file is read again; an ``OSError`` if it is cut."""
    try:
        found = sum(1 for _ in _packets(path))
    except av.FFmpegError as error:
        raise OSError(f"{path}: expected to be written, got a file that cannot be read: {error.strerror}") from error
    if found != frames:
        raise OSError(f"{path}: expected {frames} frames to be written, got {found}: is the disk full?")


@contextmanager
def _writing(path: Path, **options: Any) -> Iterator[Any]:
    """A file to write to; errors of FFmpeg become an ``OSError`` that names it."""
    try:
        with av.open(str(path), "w", **options) as container:
            yield container
    except av.FFmpegError as error:
        raise OSError(error.errno, f"{path}: expected to be written, got {error.strerror}") from error


def _duration(stream: Any) -> Fraction | None:
    """Seconds of a video stream, as its container promises, if it does."""
    if stream.duration:
        return stream.duration * stream.time_base
    tag = re.fullmatch(r"(\d+):(\d\d):(\d\d\.?\d*)", stream.metadata.get("DURATION", ""))  # Matroska's
    return sum(Fraction(part) * 60**i for i, part in enumerate(reversed(tag.groups()))) if tag else None


def _attached_picture() -> int:
    return int(av.stream.Disposition.attached_pic)
