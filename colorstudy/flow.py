"""How a picture moves from one frame to the next: optical flow, what it uncovers, and where a new scene begins.

Flow is *backward*: it says of every pixel of a frame where it was in the frame before, so that colours of that frame
are fetched, not scattered.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from skimage.registration import optical_flow_tvl1

from colorstudy._checks import require

ESTIMATORS = ("dis", "tvl1")
"""DIS (Kroeger et al. 2016, by OpenCV) takes milliseconds; TV-L1 (Zach et al. 2007, by scikit-image) a hundred times as
long, with a fraction of the error. What smooths a clip and what measures it should not be the same estimate."""

_SMALLEST = 16  # pixels; DIS fails below its patches
_CUT_GRID, _CUT_REACH, _SAME_SCENE = 32, 4, 0.6  # cells a frame, cells that it may move by, least correlation


@dataclass(frozen=True)
class Motion:
    """How a frame moved since the frame before.

    Parameters
    ----------
    flow : float32 tensor (2, H, W)
        (dx, dy) in pixels: pixel (x, y) was at (x + dx, y + dy).
    visible : bool tensor (H, W)
        Which pixels could be seen in the frame before: neither outside of it nor hidden there.
    """

    flow: torch.Tensor
    visible: torch.Tensor

    def resized(self, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow (2, *size) in pixels of that size, and the visible share (*size) of each of its pixels, in [0, 1]."""
        height, width = self.flow.shape[-2:]
        scale = torch.tensor([size[1] / width, size[0] / height], device=self.flow.device)
        if (height, width) == tuple(size):
            return self.flow, self.visible.float()
        both = torch.cat([self.flow * scale[:, None, None], self.visible[None].float()])
        both = F.interpolate(both[None], size, mode="bilinear", antialias=True)[0]
        return both[:2], both[2].clamp(0, 1)


def estimate(previous: torch.Tensor, current: torch.Tensor, by: str = "dis") -> Motion:
    """Optical flow between the grey values of two frames, checked forwards and backwards.

    A pixel counts as visible before if following its flow, and from there the flow of the frame before, leads back to
    within sqrt(0.5 + 0.01 (|forward|^2 + |backward|^2)) pixels: Equation 5 of Sundaram, Brox, Keutzer, "Dense point
    trajectories by GPU-accelerated large displacement optical flow", ECCV 2010.

    Parameters
    ----------
    previous, current : tensor (H, W)
        Lightness in [0, 100].
    by : {"dis", "tvl1"}
        One of `ESTIMATORS`.

    Raises
    ------
    ValueError
        If the shapes differ or are others, or `by` is unknown.
    """
    _check_pair(previous, current)
    require(by in ESTIMATORS, "by", f"one of {ESTIMATORS}", repr(by))
    backward = _flow(current, previous, by)
    forward = _flow(previous, current, by)
    there = warp(forward, backward)  # the flow back, at the place that each pixel came from
    miss = (backward + there).square().sum(0)
    allowed = 0.5 + 0.01 * (backward.square().sum(0) + there.square().sum(0))
    return Motion(backward, (miss <= allowed) & inside(backward))


def inside(flow: torch.Tensor) -> torch.Tensor:
    """Which pixels (H, W) a flow (2, H, W) finds inside of the frame before, between the centres of its pixels."""
    x, y = _places(flow)
    height, width = flow.shape[-2:]
    slack = 1e-3  # of rounding
    return (x >= -slack) & (x <= width - 1 + slack) & (y >= -slack) & (y <= height - 1 + slack)


def warp(maps: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """What `maps` (C, h, w) of the frame before show at the places where `flow` (2, h, w) says that pixels were.

    Bilinear; the border continues outside. Raises a ``ValueError`` if the sizes differ.
    """
    same = maps.ndim == 3 and flow.ndim == 3 and flow.shape == (2, *maps.shape[-2:])
    require(same, "flow", f"shape (2, h, w), as maps (C, h, w) = {tuple(maps.shape)}", tuple(flow.shape))
    height, width = maps.shape[-2:]
    x, y = _places(flow)
    # grid_sample takes the centres of the corner pixels as -1 and 1. With a single one any place is right.
    grid = torch.stack([2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1], dim=-1)
    return F.grid_sample(maps[None], grid[None].to(maps), padding_mode="border", align_corners=True)[0]


def is_cut(previous: torch.Tensor, current: torch.Tensor) -> bool:
    """Whether a new scene begins with `current`.

    Both frames are averaged over 32 x 32 cells; one scene is what correlates by at least 0.6 at some shift of up to 4
    cells, an eighth of the frame. This tells apart 95 % of the pairs of our photographs, and knows each again after a
    shift of an eighth of its width; of the clip bikes it finds all cuts, and no others.

    Parameters
    ----------
    previous, current : tensor (H, W)
        Lightness in [0, 100].

    Raises
    ------
    ValueError
        If the shapes differ or are others.
    """
    _check_pair(previous, current)
    pair = torch.stack([previous, current])[None].float()
    before, now = F.adaptive_avg_pool2d(pair, _CUT_GRID)[0].cpu().numpy()
    if np.abs(before - now).mean() < 1:  # also two frames without any structure
        return False
    middle = before[_CUT_REACH:-_CUT_REACH, _CUT_REACH:-_CUT_REACH]
    if min(middle.std(), now.std()) < 0.5:  # from or to a uniform frame: nothing to correlate
        return True
    return bool(cv2.matchTemplate(now, middle, cv2.TM_CCOEFF_NORMED).max() < _SAME_SCENE)


def _flow(start: torch.Tensor, end: torch.Tensor, by: str) -> torch.Tensor:
    """Where each pixel of `start` (H, W) is in `end`: (2, H, W)."""
    height, width = start.shape
    small = max(1.0, _SMALLEST / min(height, width))
    pair = torch.stack([start, end])[None].float()
    if small > 1:
        pair = F.interpolate(pair, [round(side * small) for side in (height, width)], mode="bilinear")
    a, b = pair[0].cpu().numpy()
    if by == "dis":
        a, b = (np.clip(grey * 2.55, 0, 255).astype(np.uint8) for grey in (a, b))
        flow = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(a, b, None).transpose(2, 0, 1)
    else:
        flow = optical_flow_tvl1(a / 100, b / 100)[::-1].astype(np.float32)  # rows first
    flow = torch.from_numpy(np.ascontiguousarray(flow)).to(start.device)
    return Motion(flow, flow[0] > 0).resized((height, width))[0] if small > 1 else flow


def _places(flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """x and y (H, W) of where pixels were."""
    height, width = flow.shape[-2:]
    x = torch.arange(width, device=flow.device) + flow[0]
    return x, torch.arange(height, device=flow.device)[:, None] + flow[1]


def _check_pair(previous: torch.Tensor, current: torch.Tensor) -> None:
    require(previous.ndim == 2 and previous.numel() > 0, "previous", "shape (H, W), not empty", tuple(previous.shape))
    require(current.shape == previous.shape, "current", f"the shape of previous {tuple(previous.shape)}",
            tuple(current.shape))  # fmt: skip
