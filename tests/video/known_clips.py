"""Clips of exactly known motion: what optical flow, smoothing and scores are tested against."""

import torch
import torch.nn.functional as F

from colorstudy.video.clips import KnownClip
from colorstudy.video.flow import Motion, inside, warp


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
    patch, radius = (image, -1.0) if patch is None else (patch, (min(patch.shape[-2:]) - 1) / 2)  # -1 covers nothing
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in size), indexing="ij")
    grid = torch.stack([x, y])  # (2, H, W), from the middle of the frame
    move, patch_move = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (velocity, patch_velocity))
    made, motions = [], []
    disc = torch.zeros(1, *size)  # 1 where the disc is
    for t in range(frames):
        places, disc_before = grid - t * patch_move, disc
        covered = places.norm(dim=0) <= radius
        disc = covered.float()[None]
        behind = _sampled(image, grid / zoom**t + t * move)
        made.append(torch.where(covered, _sampled(patch, places * covered), behind))
        # The place in the picture is that of the frame before: place / zoom^t + t v = before / zoom^(t-1) + (t - 1) v.
        before = torch.where(covered, grid - patch_move, grid / zoom + zoom ** (t - 1) * move)
        flow = (before - grid).float()
        # What mixes both layers at the place before was not to be seen there either.
        same = (warp(disc_before, flow) - disc).abs()[0] < 1e-4
        motions.append(Motion(flow, inside(flow) & same))
    return KnownClip(torch.stack(made), motions[1:])


def _sampled(picture: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Values (C, H, W) of a picture (C, h, w) at `places` (2, H, W), in pixels from its middle."""
    middle = (torch.tensor(picture.shape[:-3:-1], dtype=torch.float64) - 1) / 2  # of x, y
    assert (places.abs().amax((1, 2)) <= middle + 1e-6).all(), "the camera leaves the picture"
    grid = (places / middle[:, None, None]).permute(1, 2, 0)[None].to(picture)
    return F.grid_sample(picture[None], grid, padding_mode="border", align_corners=True)[0]
