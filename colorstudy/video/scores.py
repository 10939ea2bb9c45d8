"""How steady the colours of a clip are from frame to frame, and how right."""

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
    **{name: (name, None) for name in ("warp_error", "auc", "colorfulness")},
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
    require_maps(chroma, "chroma", 2, "(T, 2, H, W)")
    require(chroma.ndim == 4 and len(chroma) > 1, "chroma", "at least two frames", tuple(chroma.shape))
    require(len(motions) == len(chroma) - 1, "motions", f"{len(chroma) - 1}, one between two frames", len(motions))
    size, shapes = tuple(chroma.shape[-2:]), {tuple(motion.visible.shape) for motion in motions if motion}
    require(shapes <= {size}, "motions", f"the size {size}", shapes)
    changes = [chroma.new_empty(2, 0)]  # (2, pixels) each
    for before, now, motion in zip(chroma, chroma[1:], motions):
        if motion:
            changes.append((now - warp(before, motion.flow))[:, motion.visible])
    return torch.cat(changes, dim=1).double().square().sum(0).mean().sqrt().item()


@torch.no_grad()
def clip_scores(pred: Tensor, true: Tensor, motions: Motions) -> dict[str, float]:
    """What `CLIP_SCORES` are made of, for a coloured clip `pred` and the truth (T, 3, H, W), sRGB in [0, 1].

    warp_error, colorfulness and chroma, each also with _true, of the truth; auc, the mean over frames.
    """
    require(pred.shape == true.shape, "pred", f"the shape of true {tuple(true.shape)}", tuple(pred.shape))
    labs = color.srgb_to_lab(pred), color.srgb_to_lab(true)
    scores = {"auc": metrics.auc(labs[0][:, 1:], labs[1][:, 1:]).mean().item()}
    for suffix, rgb, lab in zip(("", "_true"), (pred, true), labs):
        scores[f"warp_error{suffix}"] = warp_error(lab[:, 1:], motions)
        scores[f"colorfulness{suffix}"] = metrics.colorfulness(rgb).mean().item()
        scores[f"chroma{suffix}"] = metrics.mean_chroma(lab[:, 1:]).mean().item()
    return scores


def scored(colorizer: Colorizer, clips: Mapping[str, KnownClip], smoothers: Sequence[tuple[str, float]]) -> DataFrame:
    """`clip_scores` of coloured `clips`, a row for each, in column ``image``, and smoother, (kind, decay)."""
    rows = []
    for (name, (true, motions)), (kind, decay) in product(clips.items(), smoothers):
        pred = colorize_frames(colorizer, true, kind, decay)
        rows.append({"image": name, "smoothing": kind, "decay": decay} | clip_scores(pred, true, motions))
    return DataFrame(rows)


def measured_motions(true: Tensor) -> list[Motion | None]:
    """The motions of a clip (T, 3, H, W), sRGB in [0, 1], by TV-L1: more exact than what smooths, and not the same."""
    lightness = color.srgb_to_lab(true)[:, 0]
    return [None if is_cut(*pair) else estimate(*pair, by="tvl1") for pair in pairwise(lightness)]
