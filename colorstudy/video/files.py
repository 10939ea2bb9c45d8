"""Clips as files: read what FFmpeg reads, frame by frame, and write H.264."""

import heapq
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from colorstudy._checks import extra, require
from colorstudy._files import replacing
from colorstudy.color import to_tensor
from colorstudy.filters import downscale

with extra("video"):
    import av

H264 = {"preset": "faster", "crf": "17", "bf": "0", "threads": "2"}  # the bits depend on the number of threads
H264 |= {"color_primaries": "bt709", "color_trc": "bt709", "colorspace": "bt709", "color_range": "tv"}


class Frame(NamedTuple):
    """A frame of a clip: uint8 sRGB pixels (H, W, 3), upright, and its time in units of the clip's `time_base`."""

    pixels: np.ndarray
    pts: int


class Clip:
    """The first video stream of a file, but for the cover of music, by frames; a ``ValueError`` if there is none.

    `rate` is in frames a second, `time_base` the unit of their times in seconds, `size` height and width, `length`
    about how many there are, and `pixel_aspect` the width of a pixel by its height.
    """

    def __init__(self, path: str | os.PathLike) -> None:
        self.path, self.damaged = Path(path), 0
        if not self.path.exists():
            raise FileNotFoundError(f"path: expected a clip, got {self.path}, which does not exist")
        with self.opened() as (container, stream):
            self.rate = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.time_base = Fraction(stream.time_base)
            # What the file promises, Matroska in a tag; 0 if nothing.
            tags = re.findall(r"^(\d+):(\d\d):(\d\d\.?\d*)$", stream.metadata.get("DURATION", ""))
            seconds = sum(Fraction(part) * unit for tag in tags for part, unit in zip(tag, (3600, 60, 1)))
            self.duration = stream.duration * stream.time_base if stream.duration else seconds
            self.length = stream.frames or round(self.duration * self.rate)
            first: Any = next(container.decode(stream), None)
            require(first is not None, str(self.path), "a clip with frames", "none")
            self.turns = first.rotation // 90 % 4  # counterclockwise, that make stored frames upright
            size, aspect = (first.height, first.width), stream.sample_aspect_ratio or Fraction(1)
            self.size, self.pixel_aspect = (size[::-1], 1 / aspect) if self.turns % 2 else (size, aspect)

    def frames(self, strict: bool = False) -> Iterator[Frame]:
        """The frames, in order of their times, which always grow.

        A ``ValueError`` if a part cannot be decoded, the size changes, or the clip ends clearly before the file
        promises. `damaged` counts the frames so far that FFmpeg patched up; if `strict`, the first is an error, too.
        """
        self.damaged = 0
        step = max(1, round(1 / (self.rate * self.time_base)))
        size = (*self.size, 3)
        first, last, end = None, 0, 0
        with self.opened() as (container, stream):
            stream.thread_type = "AUTO"
            for packet in container.demux(stream):
                at = f"after {float(last * self.time_base):.2f} s"
                require(not packet.is_corrupt, str(self.path), "an undamaged clip", f"a damaged part {at}")
                for frame in packet.decode():
                    self.damaged += frame.is_corrupt
                    require(not (strict and self.damaged), str(self.path), "an undamaged clip", f"a damaged frame {at}")
                    pixels = np.rot90(frame.to_ndarray(format="rgb24"), self.turns)
                    require(pixels.shape == size, str(self.path), f"frames of one size {size}", f"{pixels.shape} {at}")
                    pts = last + step if frame.pts is None else frame.pts
                    last = pts if first is None else max(pts, last + 1)
                    first, end = last if first is None else first, last + (frame.duration or step)
                    yield Frame(np.ascontiguousarray(pixels), last)
        seconds = (end - (first or 0)) * self.time_base
        whole = self.duration - seconds <= max(Fraction(1, 4), self.duration / 50)  # a little may lack at the end
        expected = f"{float(self.duration):.2f} s of frames, as the file promises"
        require(whole, str(self.path), expected, f"{float(seconds):.2f} s: the clip is cut off")

    @contextmanager
    def opened(self) -> Iterator[tuple[Any, Any]]:
        """The opened file and its video stream; errors of FFmpeg become a ``ValueError`` that names the file."""
        with _ffmpeg(self.path, ValueError, "a clip that FFmpeg decodes", metadata_errors="replace") as container:
            streams = [s for s in container.streams.video if not s.disposition & av.stream.Disposition.attached_pic]
            streams = [s for s in streams if s.codec_context is not None]  # of a codec that FFmpeg knows
            found = sorted({stream.type for stream in container.streams}) or "nothing"
            require(len(streams) > 0, str(self.path), "a clip with a video stream", f"only {found}")
            yield container, streams[0]


def excerpt(path: str | os.PathLike, frames: int, size: int) -> torch.Tensor:
    """The first `frames` frames, sRGB (T, 3, H, W) in [0, 1], of a clip, their shorter side at most `size` pixels."""
    require(frames >= 1, "frames", "at least 1", frames)
    require(size >= 1, "size", "pixels >= 1", size)
    taken = (to_tensor(frame.pixels)[None] for frame in islice(Clip(path).frames(), frames))
    return torch.cat([downscale(rgb, size / min(rgb.shape[-2:])) for rgb in taken]).clamp_(0, 1)


def write(path: Path, packets: Callable[..., Iterable[Any]], *args: Any) -> None:
    """Write a file of `packets(container, *args)`, whole or not at all; an ``OSError`` that names it if it fails."""
    written = 0
    with replacing(path) as temporary:
        with _ffmpeg(temporary, OSError, "to be written", mode="w") as container:
            for packet in packets(container, *args):
                written += packet.stream.type == "video"
                container.mux(packet)
        found = sum(1 for _ in _packets(temporary))  # FFmpeg does not report every failure
        if found != written:
            raise OSError(f"{path}: expected {written} frames to be written, got {found}: is the disk full?")


def encoded(container: Any, frames: Iterable[Frame], clip: Clip) -> Iterator[Any]:
    """The packets of frames in H.264, of the rate, size and so on of `clip`, for a container."""
    stream = container.add_stream("libx264", rate=clip.rate, options=H264)
    stream.height, stream.width = clip.size
    stream.pix_fmt = "yuv444p" if stream.height % 2 or stream.width % 2 else "yuv420p"
    stream.codec_context.time_base, stream.codec_context.sample_aspect_ratio = clip.time_base, clip.pixel_aspect
    for frame in frames:
        picture = av.VideoFrame.from_ndarray(frame.pixels, format="rgb24")
        picture = picture.reformat(format=stream.pix_fmt, dst_colorspace="ITU709")
        picture.pts, picture.time_base = frame.pts, clip.time_base
        yield from stream.encode(picture)
    yield from stream.encode()


def joined(container: Any, parts: Sequence[Path], clip: Clip) -> Iterator[Any]:
    """The packets of `parts`, files of `encoded`, one after the other, and of the sound of `clip`, for a container."""
    with clip.opened() as (source, _), av.open(str(parts[0])) as first:
        video = container.add_stream_from_template(first.streams.video[0])
        try:
            audio = {s.index: container.add_stream_from_template(s) for s in source.streams.audio}
        except ValueError as error:
            sound = f"for the sound {[s.codec_context.name for s in source.streams.audio]}"
            raise ValueError(f"out: expected a container {sound}, such as .mkv, got {error}") from error
        pictures = (packet for part in parts for packet in _packets(part))
        sounds = (packet for packet in source.demux(source.streams.audio) if packet.dts is not None) if audio else ()
        for packet in heapq.merge(pictures, sounds, key=lambda packet: packet.dts * packet.time_base):
            packet.stream = video if packet.stream.type == "video" else audio[packet.stream_index]
            yield packet


def _packets(path: Path) -> Iterator[Any]:
    """The packets of the video stream of a file of ours."""
    with _ffmpeg(path, OSError, "to be written") as container:
        for packet in container.demux(video=0):
            if packet.pts is not None:  # else the end
                packet.dts = packet.pts  # as there are no B-frames; of a first packet over 5 MB FFmpeg does not know it
                yield packet


@contextmanager
def _ffmpeg(path: Path, fault: type[Exception], expected: str, **options: Any) -> Iterator[Any]:
    """A file that FFmpeg opens; its errors become a `fault` that names the file."""
    try:
        with av.open(str(path), **options) as container:
            yield container
    except av.FFmpegError as error:
        raise fault(f"{path}: expected {expected}, got {error.strerror}") from error
