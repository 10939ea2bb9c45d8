"""Clips: 24 real ones by a manifest, a grey one in the wheel `mvtb-data`, and made ones, of exactly known motion."""

import os
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch

from colorstudy import _files
from colorstudy._checks import require, require_choice
from colorstudy.color import to_tensor
from colorstudy.data.bank import ImageBank
from colorstudy.data.published import in_wheel, local
from colorstudy.video.flow import Motion, inside, warp

CLIPS = {Path(row["file"]).stem: row for row in _files.table_of(__file__)}
"""The manifest: file, split, frames, size, rate and SHA-256 of each clip, where it was made from, and its licence."""


def clip(name: str) -> Path:
    """The path of one of `CLIPS`, or of "traffic", which is grey; a ``FileNotFoundError`` says where to put them."""
    require_choice(name, [*CLIPS, "traffic"], "name")
    if name == "traffic":
        return in_wheel("mvtb/traffic_sequence.mp4")
    file, cache = CLIPS[name]["file"], _files.cache_dir() / "published"
    place = local(file, "clips") or cache / "clips.tar"
    path = place / file if place.is_dir() else cache / file
    if not path.is_file():
        if not place.is_file():
            where = f"$COLORSTUDY_DATA (now {os.environ.get('COLORSTUDY_DATA')}) or {cache}"
            raise FileNotFoundError(f"{file}: expected clips.tar, or its folder clips, in {where}, got neither")
        with tarfile.open(place) as archive, _files.replacing(path) as temporary:
            temporary.write_bytes(archive.extractfile(file).read())  # type: ignore[union-attr]  # a file
    require(_files.sha256(path) == CLIPS[name]["sha256"], str(path), "the file of the manifest", "another")
    return path


class KnownClip(NamedTuple):
    """Frames (T, C, H, W), and the T - 1 motions from each frame to the next, None where a new scene begins."""

    frames: torch.Tensor
    motions: Sequence[Motion | None]


def made_clips(bank: ImageBank, frames: int, size: int) -> dict[str, KnownClip]:
    """A camera that pans over each picture of a `bank` of 4 times `size`: sRGB (`frames`, 3, `size`, 4/3 `size`).

    It moves by up to 1.7 pixels a frame to the right and a third of that down, and never leaves the picture.
    """
    speed = min(1.7, 2 * size / frames)
    flow = torch.tensor([speed, speed / 3])[:, None, None]  # to where a pixel was; the same for all of them
    height, width = size, size * 4 // 3
    motion = Motion(flow.expand(2, height, width), inside(flow.expand(2, height, width)))
    made = {}
    for name, picture in zip(bank.names, map(to_tensor, bank.images)):
        moved = [warp(picture, t * flow.expand(2, *picture.shape[1:])) for t in range(frames)]
        made[name] = KnownClip(torch.stack(moved)[..., :height, :width], [motion] * (frames - 1))
    return made
