"""Clips: 24 real ones by a manifest, a grey one in the wheel `mvtb-data`, and made ones, of exactly known motion."""

import os
import tarfile
from itertools import cycle
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F

from colorstudy import _files
from colorstudy._checks import require, require_choice, require_maps
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
    """Frames (T, C, H, W), and the exact T - 1 motions from each frame to the next."""

    frames: torch.Tensor
    motions: list[Motion]


def known_clip(
    image: torch.Tensor,
    frames: int,
    size: tuple[int, int],
    *,
    velocity: tuple[float, float] = (0.0, 0.0),
    zoom: float = 1.0,
    patch: torch.Tensor | None = None,
    patch_velocity: tuple[float, float] = (0.0, 0.0),
) -> KnownClip:
    """At least 2 `frames` of `size` (H, W) of a camera that pans and zooms over `image` (C, h, w), and never leaves it.

    It starts in the middle, moves by `velocity` (x, y), in pixels of `image` a frame, and shows things `zoom` > 0 times
    as large from frame to frame. The largest disc of `patch` (C, h', w') may pass before it: from the middle of the
    frame by `patch_velocity` (x, y), in pixels of the frame. Both pictures are sampled bilinearly.
    """
    require_maps(image, "image", len(image), "(C, h, w)")
    patch, radius = (image, -1.0) if patch is None else (patch, (min(patch.shape[-2:]) - 1) / 2)  # -1 covers nothing
    require_maps(patch, "patch", len(image), "(C, h, w)")
    require(frames >= 2, "frames", "at least 2", frames)
    require(zoom > 0, "zoom", "a factor > 0", zoom)
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in size), indexing="ij")
    grid = torch.stack([x, y])  # (2, H, W), from the middle of the frame
    move, patch_move = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (velocity, patch_velocity))
    made, motions = [], []
    disc = torch.zeros(1, *size)  # 1 where the disc is
    for t in range(frames):
        places, disc_before = grid - t * patch_move, disc
        covered = places.norm(dim=0) <= radius
        disc = covered.float()[None]
        behind = _sampled(image, grid / zoom**t + t * move, "image")
        made.append(torch.where(covered, _sampled(patch, places * covered, "patch"), behind))
        # The place in the picture is that of the frame before: place / zoom^t + t v = before / zoom^(t-1) + (t - 1) v.
        before = torch.where(covered, grid - patch_move, grid / zoom + zoom ** (t - 1) * move)
        flow = (before - grid).float()
        # What mixes both layers at the place before was not to be seen there either.
        same = (warp(disc_before, flow) - disc).abs()[0] < 1e-4
        motions.append(Motion(flow, inside(flow) & same))
    return KnownClip(torch.stack(made), motions[1:])


def made_clips(bank: ImageBank, frames: int, size: int) -> dict[str, KnownClip]:
    """A `known_clip` of `size` pixels over each picture of a `bank` of 4 times that size: pan, zoom, disc in turn."""
    moves: dict[str, Any] = {"pan": {"velocity": (1.7, 0.6)}, "zoom": {"zoom": 1.02}}
    moves["disc"] = {"velocity": (0.8, 0.0), "patch_velocity": (2.2, 1.4)}
    made = {}
    for name, image, (move, options) in zip(bank.names, map(to_tensor, bank.images), cycle(moves.items())):
        patch = image[:, : size // 2, : size // 2] if move == "disc" else None
        made[f"{name}, {move}"] = known_clip(image, frames, (size, size * 4 // 3), patch=patch, **options)
    return made


def _sampled(picture: torch.Tensor, places: torch.Tensor, argument: str) -> torch.Tensor:
    """Values (C, H, W) of a picture (C, h, w) at `places` (2, H, W), in pixels from its middle."""
    middle = (torch.tensor(picture.shape[:-3:-1], dtype=torch.float64) - 1) / 2  # of x, y
    furthest = places.abs().amax((1, 2))
    left = f"places {furthest.tolist()} from its middle, of {middle.tolist()}"
    require(bool((furthest <= middle + 1e-6).all()), argument, "a picture that the camera never leaves", left)
    grid = (places / middle[:, None, None]).permute(1, 2, 0)[None].to(picture)
    return F.grid_sample(picture[None], grid, padding_mode="border", align_corners=True)[0]
