"""How steady the colours of a clip are from frame to frame, and how right."""

import time
from collections.abc import Mapping, Sequence
from itertools import pairwise, product

import torch
from pandas import DataFrame
from torch import Tensor

from colorstudy import color, metrics
from colorstudy._checks import require, require_maps
from colorstudy.colorize import Colorizer
from colorstudy.study.scores import Scores
from colorstudy.video.clips import KnownClip
from colorstudy.video.flow import Motion, estimate, is_cut, warp
from colorstudy.video.smoothing import colorize_frames

CLIP_SCORES: Scores = {
    **{name: (name, None) for name in ("warp_error", "cdc", "flicker", "auc", "colorfulness")},
    "warp_error_relative": ("warp_error", "chroma"),
    "colorfulness_ratio": ("colorfulness", "colorfulness_true"),
}
"""Scores of a set of clips. A pale clip is steady, so the warp error stands beside its ratio to the mean chroma."""

Motions = Sequence[Motion | None]
"""From each frame of a clip to the next, T - 1 of T frames, at their size; None where a new scene begins."""


def warp_error(chroma: Tensor, motions: Motions) -> float:
    """Root mean squared change of colour along the motion, in units of ab, over all visible pixels of a clip.

    `chroma` (T, 2, H, W) is a*, b* of the frames; nan if nothing is visible twice. The measure of Lai et al., "Learning
    blind video temporal consistency", ECCV 2018, on chroma instead of RGB, since the lightness is given.
    """
    pairs = _pairs(chroma, "chroma", 2, motions)
    changes = [(now - warp(before, motion.flow))[:, motion.visible] for before, now, motion in pairs]  # (2, pixels)
    return torch.cat([chroma.new_empty(2, 0), *changes], dim=1).double().square().sum(0).mean().sqrt().item()


def flicker(lab: Tensor, motions: Motions) -> float:
    """Mean change of colour, in units of ab, where nothing moves: flow below 0.1 pixels, change of lightness below 1.

    `lab` (T, 3, H, W) is L*, a*, b* of the frames; nan if no pixel stands still.
    """
    changes = [lab.new_empty(2, 0)]
    for before, now, motion in _pairs(lab, "lab", 3, motions):
        still = (motion.flow.square().sum(0) < 0.1**2) & ((now - before)[0].abs() < 1)
        changes.append((now - before)[1:, still])
    return torch.cat(changes, dim=1).double().square().sum(0).sqrt().mean().item()


def color_distribution_consistency(rgb: Tensor, motions: Motions) -> float:
    """CDC: how much the colour histograms of frames differ, by the Jensen-Shannon divergence, in nats.

    The mean over strides t = 1, 2, 4, pairs of frames (i, i + t) of one scene and the channels of `rgb` (T, 3, H, W),
    sRGB in [0, 1], of the divergence of 256-bin histograms: in [0, ln 2]; nan if some stride has no pair. Liu et al.,
    "Temporally consistent video colorization with deep feature propagation and self-regularization learning", 2021.
    """
    _pairs(rgb, "rgb", 3, motions)  # checks the clip
    values = (rgb * 255).round().clamp(0, 255).long().flatten(2).flatten(0, 1)  # (T * 3, H * W)
    histograms = torch.stack([v.bincount(minlength=256) for v in values]).view(-1, 3, 256).double() / values.shape[1]
    scene = torch.tensor([False, *(motion is None for motion in motions)], device=rgb.device).cumsum(0)
    means = []
    for stride in (1, 2, 4):
        together = scene[:-stride] == scene[stride:]
        p, q = histograms[:-stride][together], histograms[stride:][together]
        gain = torch.special.entr((p + q) / 2) - (torch.special.entr(p) + torch.special.entr(q)) / 2
        means.append(gain.sum(-1).mean())
    return torch.stack(means).mean().item()


@torch.no_grad()
def clip_scores(pred: Tensor, true: Tensor, motions: Motions) -> dict[str, float]:
    """What `CLIP_SCORES` are made of, for a coloured clip `pred` and the truth (T, 3, H, W), sRGB in [0, 1], T > 4.

    warp_error, flicker, cdc, colorfulness and chroma, each also with _true, of the truth; auc, the mean over frames.
    """
    require(pred.shape == true.shape, "pred", f"the shape of true {tuple(true.shape)}", tuple(pred.shape))
    labs = color.srgb_to_lab(pred), color.srgb_to_lab(true)
    scores = {"auc": metrics.auc(labs[0][:, 1:], labs[1][:, 1:]).mean().item()}
    for suffix, rgb, lab in zip(("", "_true"), (pred, true), labs):
        scores[f"warp_error{suffix}"] = warp_error(lab[:, 1:], motions)
        scores[f"flicker{suffix}"] = flicker(lab, motions)
        scores[f"cdc{suffix}"] = color_distribution_consistency(rgb, motions)
        scores[f"colorfulness{suffix}"] = metrics.colorfulness(rgb).mean().item()
        scores[f"chroma{suffix}"] = metrics.mean_chroma(lab[:, 1:]).mean().item()
    return scores


def scored(colorizer: Colorizer, clips: Mapping[str, KnownClip], smoothers: Sequence[tuple[str, float]]) -> DataFrame:
    """`clip_scores` of coloured `clips`, a row for each, in column ``image``, and smoother, (kind, decay)."""
    rows = []
    for (name, (true, motions)), (kind, decay) in product(clips.items(), smoothers):
        started = time.perf_counter()
        pred = colorize_frames(colorizer, true, kind, decay)
        about = {"image": name, "smoothing": kind, "decay": decay, "frames": len(true)}
        rows.append(about | {"seconds": time.perf_counter() - started} | clip_scores(pred, true, motions))
    return DataFrame(rows)


def measured_motions(true: Tensor) -> list[Motion | None]:
    """The motions of a clip (T, 3, H, W), sRGB in [0, 1], by TV-L1: more exact than what smooths, and not the same."""
    lightness = color.srgb_to_lab(true)[:, 0]
    return [None if is_cut(*pair) else estimate(*pair, by="tvl1") for pair in pairwise(lightness)]


def _pairs(frames: Tensor, argument: str, channels: int, motions: Motions) -> list[tuple[Tensor, Tensor, Motion]]:
    """The pairs of consecutive frames (C, H, W) of one scene, with their motion, of a clip that is checked."""
    require_maps(frames, argument, channels, f"(T, {channels}, H, W)")
    require(frames.ndim == 4 and len(frames) > 1, argument, "at least two frames", tuple(frames.shape))
    require(len(motions) == len(frames) - 1, "motions", f"{len(frames) - 1}, one between two frames", len(motions))
    shapes = {tuple(motion.visible.shape) for motion in motions if motion}
    require(shapes <= {tuple(frames.shape[-2:])}, "motions", f"the size {tuple(frames.shape[-2:])}", shapes)
    return [(*pair, motion) for pair, motion in zip(pairwise(frames), motions) if motion]
