"""How a picture moves from one frame to the next: optical flow, what it uncovers, and where a new scene begins."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from skimage.registration import optical_flow_tvl1

from colorstudy._checks import extra, require, require_choice

with extra("video"):
    import cv2


class Motion(NamedTuple):
    """Where the pixels of a frame were in the frame before: colours are fetched from there, not scattered."""

    flow: torch.Tensor  # float32 (2, H, W): (dx, dy) in pixels; pixel (x, y) was at (x + dx, y + dy)
    visible: torch.Tensor  # bool (H, W): which pixels could be seen before, neither outside of the frame nor hidden

    def resized(self, size: tuple[int, int]) -> tuple[torch.Tensor, torch.Tensor]:
        """Flow (2, *size) in pixels of that size, and the visible share (*size) of each of its pixels, in [0, 1]."""
        height, width = self.flow.shape[-2:]
        both = torch.cat([self.flow, self.visible[None]])
        x, y, share = F.interpolate(both[None], size, mode="bilinear", antialias=True)[0]
        return torch.stack([x * (size[1] / width), y * (size[0] / height)]), share.clamp(0, 1)


def estimate(previous: torch.Tensor, current: torch.Tensor, by: str = "dis") -> Motion:
    """The motion between the lightness (H, W) of two frames, in [0, 100].

    `by` "dis" (Kroeger et al. 2016, by OpenCV) takes milliseconds; "tvl1" (Zach et al. 2007, by scikit-image) a hundred
    times as long, with a fraction of the error. A pixel was visible before if its flow, and from there the flow of the
    frame before, lead back to within sqrt(0.5 + 0.01 (|forward|^2 + |backward|^2)) pixels: Equation 5 of Sundaram et
    al., "Dense point trajectories by GPU-accelerated large displacement optical flow", ECCV 2010.
    """
    pair = _pair(previous, current)
    require_choice(by, ("dis", "tvl1"), "by")
    height, width = previous.shape
    margins = (0, max(0, 16 - width), 0, max(0, 16 - height))  # DIS has patches of 16
    a, b = F.pad(pair, margins, mode="replicate")[0].cpu().numpy()
    if by == "dis":
        a, b = (np.clip(grey * 2.55, 0, 255).astype(np.uint8) for grey in (a, b))
        dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        found = [dis.calc(x, y, None).transpose(2, 0, 1) for x, y in ((b, a), (a, b))]  # type: ignore[call-overload]
    else:
        found = [optical_flow_tvl1(x / 100, y / 100)[::-1] for x, y in ((b, a), (a, b))]  # rows first
    flows = np.ascontiguousarray(found, np.float32)[..., :height, :width]
    backward, forward = torch.from_numpy(flows).to(previous.device)
    there = warp(forward, backward)  # the flow back, at the place that each pixel came from
    miss = (backward + there).square().sum(0)
    allowed = 0.5 + 0.01 * (backward.square() + there.square()).sum(0)
    return Motion(backward, (miss <= allowed) & inside(backward))


def inside(flow: torch.Tensor) -> torch.Tensor:
    """Which pixels (H, W) a flow (2, H, W) finds inside of the frame before, between the centres of its pixels."""
    places, last = _places(flow)
    return ((places >= -1e-3) & (places <= last + 1e-3)).all(0)  # pixels, of rounding


def warp(maps: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """What `maps` (C, h, w) of the frame before show where `flow` (2, h, w) points; bilinear, border continued."""
    expected = f"shape (2, h, w), as maps (C, h, w) = {tuple(maps.shape)}"
    require(maps.ndim == 3 and flow.shape == (2, *maps.shape[1:]), "flow", expected, tuple(flow.shape))
    places, last = _places(flow)
    grid = (places * (2 / last.clamp(min=1)) - 1).movedim(0, -1)  # -1 and 1 are the centres of the corner pixels
    return F.grid_sample(maps[None], grid[None].to(maps), padding_mode="border", align_corners=True)[0]


def is_cut(previous: torch.Tensor, current: torch.Tensor) -> bool:
    """Whether a new scene begins with `current`; both are the lightness (H, W) of a frame, in [0, 100].

    One scene correlates, averaged over 32 x 32 cells, by at least 0.6 at some shift of up to 4 cells. This tells apart
    95 % of the pairs of our photographs, knows each after a shift by an eighth of its width, and finds none in `CLIPS`.
    """
    before, now = F.adaptive_avg_pool2d(_pair(previous, current), 32)[0].cpu().numpy()
    middle = before[4:-4, 4:-4]
    changed = np.abs(before - now).mean() >= 1  # not so between two frames without any structure
    uniform = min(middle.std(), now.std()) < 0.5  # nothing to correlate
    return bool(changed and (uniform or cv2.matchTemplate(now, middle, cv2.TM_CCOEFF_NORMED).max() < 0.6))


def _places(flow: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where pixels were, (x, y) in pixels (2, H, W), by a flow of that shape, and the last places (2, 1, 1)."""
    height, width = flow.shape[-2:]
    start = torch.meshgrid(*(torch.arange(n, device=flow.device) for n in (width, height)), indexing="xy")
    return flow + torch.stack(start), torch.tensor([width - 1, height - 1], device=flow.device)[:, None, None]


def _pair(previous: torch.Tensor, current: torch.Tensor) -> torch.Tensor:
    """Both frames (H, W), checked, as (1, 2, H, W)."""
    require(previous.ndim == 2 and previous.numel() > 0, "previous", "shape (H, W), not empty", tuple(previous.shape))
    expected = f"the shape of previous {tuple(previous.shape)}"
    require(current.shape == previous.shape, "current", expected, tuple(current.shape))
    return torch.stack([previous, current])[None].float()
