"""From frame to frame: averages of what a network predicts, and how steady the colours of a clip are."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from colorstudy import color, metrics
from colorstudy._checks import require, require_maps
from colorstudy.filters import shrunk
from colorstudy.flow import Motion, estimate, is_cut, warp
from colorstudy.statistics import Scores

SMOOTHINGS = ("exponential", "flow")
"""The kinds of `Smoother`."""

CLIP_SCORES: Scores = {
    "warp_error": ("warp_error", None),
    "warp_error_relative": ("warp_error", "chroma"),
    "cdc": ("cdc", None),
    "flicker": ("flicker", None),
    "auc": ("auc", None),
    "colorfulness": ("colorfulness", None),
    "colorfulness_ratio": ("colorfulness", "colorfulness_true"),
}
"""The scores of a set of clips, as `metrics.SCORES` are those of pictures. A pale clip is steady in every measure of
differences, so the warp error stands beside its ratio to the mean chroma, which paling leaves as it is."""


class Colors(Protocol):
    """What colours frames (1, 3, H, W) of a clip."""

    def colorize(self, image: Tensor, *, smoother: Smoother | None) -> Tensor: ...


_STILL_FLOW, _STILL_LIGHTNESS = 0.1, 1.0  # pixels and units of L* below which a pixel stands still


class Smoother:
    """Averages predictions over the frames of one clip, which come one after the other.

    Called with a frame's lightness and with what its network predicts, as something that can be averaged (a
    distribution over bins, or a colour), it gives the average with the frames before. "exponential" is the kernel of
    Billaut et al. 2018: p_t = sum over i = 0..20 of p_(t-i) exp(-0.2 i), normalised; each frame costs one addition and
    one subtraction, however long the kernel. "flow" fetches the average so far along the optical flow (`flow.estimate`)
    and lets go of what is newly visible; its kernel has no last frame, as what was moved cannot be subtracted: with 20
    frames and 0.2, the weights left over sum to 1.5 % of the whole. No average goes across a cut (`flow.is_cut`).

    Parameters
    ----------
    kind : {"exponential", "flow"}
    frames : int
        How many frames before the current one count, >= 0; for "exponential".
    decay : float
        Of the weight exp(-decay i) of the frame i before, >= 0.
    size : int
        Shorter side, in pixels, of the frames between which cuts and flow are looked for; larger ones are shrunk.

    Raises
    ------
    ValueError
        If an argument is outside of its range.
    """

    def __init__(self, kind: str = "exponential", *, frames: int = 20, decay: float = 0.2, size: int = 256) -> None:
        require(kind in SMOOTHINGS, "kind", f"one of {SMOOTHINGS}", repr(kind))
        require(frames >= 0, "frames", "an integer >= 0", frames)
        require(decay >= 0, "decay", "a number >= 0", decay)
        require(size >= 1, "size", "pixels >= 1", size)
        self.kind, self.frames, self.size = kind, frames, size
        self.keep = torch.tensor(-float(decay)).exp().item()
        self.reset()

    def reset(self) -> None:
        """Forget all frames: a new clip begins."""
        self._grey: Tensor | None = None  # (H, W), the frame before
        self._sum = self._weight = torch.empty(0)  # (1, C, h, w) and (1, 1, h, w): the average is their ratio
        self._recent: deque[Tensor] = deque()  # what the kernel still covers

    def __call__(self, lightness: Tensor, maps: Tensor) -> Tensor:
        """The average of `maps` with those of the frames before.

        Parameters
        ----------
        lightness : tensor (1, 1, H, W)
            In [0, 100].
        maps : tensor (1, C, h, w)

        Returns
        -------
        tensor (1, C, h, w)

        Raises
        ------
        TypeError, ValueError
            If a shape is another, or another than that of the frame before.
        """
        require_maps(lightness, "lightness", 1, "(1, 1, H, W)")
        one = lightness.ndim == maps.ndim == 4 and len(lightness) == len(maps) == 1
        require(one, "maps", "one frame, (1, C, h, w)", tuple(maps.shape))
        grey = shrunk(lightness, self.size / min(lightness.shape[-2:]))[0, 0]
        before, self._grey = self._grey, grey
        if before is None or is_cut(before, grey):
            self._sum, self._weight = maps.clone(), torch.ones_like(maps[:, :1])
            self._recent.clear()
        elif self.kind == "flow":
            flow, visible = estimate(before, grey).resized(maps.shape[-2:])
            visible = visible.to(maps) * self.keep
            self._sum, self._weight = (
                warp(part[0], flow)[None] * visible + new for part, new in ((self._sum, maps), (self._weight, 1))
            )
        else:
            self._sum.mul_(self.keep).add_(maps)
            self._weight.mul_(self.keep).add_(1)
        if self.kind == "exponential":
            self._recent.append(maps)
            if len(self._recent) > self.frames + 1:
                left = self.keep ** (self.frames + 1)
                self._sum.sub_(self._recent.popleft(), alpha=left)
                self._weight.sub_(left)
        return self._sum / self._weight

    def state_dict(self) -> dict[str, Tensor]:
        """All that `load_state_dict` needs to go on after the last frame."""
        if self._grey is None:
            return {}
        state = {"grey": self._grey, "sum": self._sum, "weight": self._weight}
        return state | ({"recent": torch.cat([*self._recent])} if self._recent else {})

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on where the smoother of that state was."""
        self.reset()
        if state:
            self._grey, self._sum, self._weight = (state[name].clone() for name in ("grey", "sum", "weight"))
            self._recent.extend(state["recent"].split(1) if "recent" in state else [])


def colorize_frames(colorizer: Colors, frames: Tensor, smoothing: str = "none") -> Tensor:
    """The frames (T, 3, H, W) of a clip in memory, sRGB in [0, 1], coloured one after the other.

    `colorizer` is a `Colorizer`; `smoothing` is "none" or a kind of `Smoother`.
    """
    smoother = None if smoothing == "none" else Smoother(smoothing)
    return torch.cat([colorizer.colorize(frame, smoother=smoother) for frame in frames.split(1)])


def warp_error(chroma: Tensor, motions: Sequence[Motion | None]) -> float:
    """Root mean squared change of colour along the motion, in units of ab, over all visible pixels of a clip.

    The measure of Lai et al. 2018 on chroma instead of RGB, since the lightness is given. 0 is perfectly steady; nan
    where nothing is visible twice.

    Parameters
    ----------
    chroma : tensor (T, 2, H, W)
        a*, b* of the frames.
    motions : sequence of T - 1 Motion or None
        From each frame to the next, at the size of the frames; None where a new scene begins.

    Raises
    ------
    TypeError, ValueError
        If a shape is another, or there are not T - 1 motions.

    References
    ----------
    Lai, Huang, Wang, Shechtman, Yumer, Yang, "Learning blind video temporal consistency", ECCV 2018.
    """
    _check_clip(chroma, "chroma", 2, motions)
    total, pixels = torch.zeros(2, dtype=torch.float64)
    for before, now, motion in _pairs(chroma, motions):
        squared = (now - warp(before, motion.flow)).square().sum(0)  # (H, W)
        total += squared[motion.visible].sum(dtype=torch.float64)
        pixels += motion.visible.sum()
    return (total / pixels).sqrt().item()


def flicker(lightness: Tensor, chroma: Tensor, motions: Sequence[Motion | None]) -> float:
    """Mean change of colour, in units of ab, where nothing moves: flow below 0.1 pixels, lightness changes below 1.

    Parameters
    ----------
    lightness : tensor (T, 1, H, W)
        L* of the frames.
    chroma, motions
        As for `warp_error`.

    Returns
    -------
    float
        At least 0; nan if no pixel ever stands still.
    """
    _check_clip(chroma, "chroma", 2, motions)
    _check_clip(lightness, "lightness", 1, motions)
    total, pixels = torch.zeros(2, dtype=torch.float64)
    both = torch.cat([lightness, chroma], dim=1)
    for before, now, motion in _pairs(both, motions):
        change = now - before
        still = (motion.flow.square().sum(0) < _STILL_FLOW**2) & (change[0].abs() < _STILL_LIGHTNESS)
        total += change[1:].square().sum(0).sqrt()[still].sum(dtype=torch.float64)
        pixels += still.sum()
    return (total / pixels).item()


def color_distribution_consistency(
    rgb: Tensor, strides: Sequence[int] = (1, 2, 4), *, motions: Sequence[Motion | None] | None = None
) -> float:
    """CDC: how much the colour histograms of frames differ, by the Jensen-Shannon divergence, in nats.

    The mean, over strides t, over pairs of frames (i, i + t) and over the channels R, G and B, of the divergence of
    256-bin histograms.

    Parameters
    ----------
    rgb : tensor (T, 3, H, W)
        sRGB in [0, 1].
    strides : sequence of int
    motions : sequence of T - 1 Motion or None, optional
        Pairs between which one is None, where a new scene begins, are left out.

    Returns
    -------
    float
        In [0, ln 2]; 0 is one distribution throughout. nan if the clip has no pair of some stride.

    References
    ----------
    Liu et al., "Temporally consistent video colorization with deep feature propagation and self-regularization
    learning", 2021.
    """
    _check_clip(rgb, "rgb", 3, [None] * (len(rgb) - 1) if motions is None else motions)
    values = (rgb * 255).round().clamp(0, 255).long().flatten(2)  # (T, 3, H*W)
    histograms = torch.zeros(*values.shape[:2], 256, dtype=torch.float64, device=rgb.device)
    histograms.scatter_add_(2, values, torch.ones_like(values, dtype=torch.float64))
    histograms /= values.shape[-1]
    cuts = [False] * len(rgb) if motions is None else [False, *(motion is None for motion in motions)]
    scene = torch.tensor(cuts, device=rgb.device).cumsum(0)
    means = []
    for stride in strides:
        together = scene[:-stride] == scene[stride:]
        p, q = histograms[:-stride][together], histograms[stride:][together]
        means.append(_jensen_shannon(p, q).mean())
    return torch.stack(means).mean().item()


@torch.no_grad()
def clip_scores(pred: Tensor, true: Tensor, motions: Sequence[Motion | None]) -> dict[str, float]:
    """Every score of a coloured clip, and of the truth where it is the reference: the columns of `CLIP_SCORES`.

    Parameters
    ----------
    pred, true : tensor (T, 3, H, W)
        sRGB in [0, 1], T > 4.
    motions : sequence of T - 1 Motion or None
        See `measured_motions`.

    Returns
    -------
    dict of float
        warp_error, flicker, cdc, colorfulness, chroma, and each with _true, of the truth; auc, the mean over frames.

    Raises
    ------
    TypeError, ValueError
        If shapes differ or are others.
    """
    require(pred.shape == true.shape, "pred", f"the shape of true {tuple(true.shape)}", tuple(pred.shape))
    scores, chromas = {}, []
    for suffix, rgb in (("", pred), ("_true", true)):
        _check_clip(rgb, "pred" if rgb is pred else "true", 3, motions)
        lab = color.srgb_to_lab(rgb)
        lightness, chroma = lab[:, :1], lab[:, 1:]
        chromas.append(chroma)
        scores[f"warp_error{suffix}"] = warp_error(chroma, motions)
        scores[f"flicker{suffix}"] = flicker(lightness, chroma, motions)
        scores[f"cdc{suffix}"] = color_distribution_consistency(rgb, motions=motions)
        scores[f"colorfulness{suffix}"] = metrics.colorfulness(rgb).mean().item()
        scores[f"chroma{suffix}"] = metrics.mean_chroma(chroma).mean().item()
    scores["auc"] = metrics.auc(*chromas).mean().item()
    return scores


def measured_motions(true: Tensor) -> list[Motion | None]:
    """The motion between the frames of a clip (T, 3, H, W), from its lightness, for measuring.

    By TV-L1: more exact than what smooths a clip, and another estimate, so that its errors don't favour smoothing.
    """
    lightness = color.srgb_to_lab(true)[:, 0]
    return [None if is_cut(*pair) else estimate(*pair, by="tvl1") for pair in pairwise(lightness)]


def _jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Jensen-Shannon divergence, in nats, of distributions (*, K): (*,)."""
    m = (p + q) / 2
    return sum(torch.special.xlogy(x, x / m.clamp(min=torch.finfo(m.dtype).tiny)).sum(-1) / 2 for x in (p, q))


def _pairs(frames: Tensor, motions: Sequence[Motion | None]) -> Iterator[tuple[Tensor, Tensor, Motion]]:
    """Consecutive frames (C, H, W) of one scene, and the motion between them."""
    return ((*pair, motion) for pair, motion in zip(pairwise(frames), motions, strict=True) if motion)


def _check_clip(frames: Tensor, argument: str, channels: int, motions: Sequence[Motion | None]) -> None:
    require_maps(frames, argument, channels, f"(T, {channels}, H, W)")
    require(frames.ndim == 4 and len(frames) > 1, argument, "at least two frames", tuple(frames.shape))
    require(len(motions) == len(frames) - 1, "motions", f"{len(frames) - 1}, one between two frames", len(motions))
    shapes = {tuple(motion.visible.shape) for motion in motions if motion is not None}
    require(shapes <= {tuple(frames.shape[-2:])}, "motions", f"the size {tuple(frames.shape[-2:])}", shapes)
