"""How good a coloured picture is: scores of one image each, and the set-level scores that they add up to.

Everything takes ``(pred, target)`` in this order and returns one number an image. A set-level score is always a ratio
of two column sums of the per-image table (`SCORES`), so an interval resamples images without touching a pixel again.
Half precision is computed in float32; scores come back in the precision they were computed in.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import torch
from skimage.color import deltaE_ciede2000
from torch import Tensor
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from colorstudy import color
from colorstudy._checks import require, require_maps
from colorstudy.statistics import Scores, pool

SCORES: Scores = {
    "auc": ("auc", None),
    "auc_rebalanced": ("rebalanced_hits", "rebalanced_weight"),
    "rmse": ("rmse", None),
    "psnr": ("psnr", None),
    "ssim": ("ssim", None),
    "ciede2000": ("ciede2000", None),
    "colorfulness": ("colorfulness", None),
    "colorfulness_ratio": ("colorfulness", "colorfulness_true"),
    "chroma_ratio": ("chroma", "chroma_true"),
    "auc_tail": ("tail_hits", "tail_weight"),
    "roughness": ("roughness", "chroma"),
    "rare_share": ("rare", None),
}
"""The set-level scores of the study: (numerator column, denominator column); None: the mean over the images.

`auc_tail` is the AuC of vivid pixels alone, those whose true chroma is above `TAIL`. `roughness` is that of the colours
relative to their chroma, so that a vivid picture is not rough for being vivid; `rare` comes from `evaluation.evaluate`.
"""

TAIL = 40.0
"""Chroma above which a true colour counts as vivid, in units of ab."""

_SSIM_WINDOW = 11


def auc(pred: Tensor, target: Tensor, *, weights: Tensor | None = None, max_distance: float = 150.0) -> Tensor:
    """Area under the curve of the share of pixels within an ab distance d of the truth, d from 0 to `max_distance`.

    Parameters
    ----------
    pred, target : tensor (B, 2, h, w)
        a*, b*.
    weights : tensor (B, h, w), optional
        What each pixel counts, at least 0. The class-rebalanced AuC is the one in which a pixel counts the inverse
        frequency of the bin of its *true* colour. The mean is taken within each image; `auc_parts` pools over a set.
    max_distance : float
        In units of ab.

    Returns
    -------
    tensor (B,)
        In [0, 1]; 1 is perfect. The area divided by `max_distance` is exactly 1 - mean(min(d, max_distance)) /
        max_distance; a trapezoid rule over the distances 0, 1, ..., 150 is off by up to 0.5 / 150.

    Raises
    ------
    TypeError, ValueError
        If shapes differ or are others, a weight is negative, or the weights of an image are all 0.

    References
    ----------
    Zhang, Isola, Efros, "Colorful Image Colorization", ECCV 2016; Deshpande et al., ICCV 2015.
    """
    hits, weight = auc_parts(pred, target, weights=weights, max_distance=max_distance)
    require(bool((weight > 0).all()), "weights", "a positive sum in every image", f"0 in image {weight.argmin()}")
    return hits / weight


def auc_parts(
    pred: Tensor, target: Tensor, *, weights: Tensor | None = None, max_distance: float = 150.0
) -> tuple[Tensor, Tensor]:
    """The numerator and the denominator of `auc`, from which the AuC pooled over a set of images is formed.

    Parameters and errors are those of `auc`, but the weights of an image may all be 0.

    Returns
    -------
    hits, weight : tensor (B,)
        Mean over the pixels of w (1 - min(d, max) / max), and of w: ``hits.sum() / weight.sum()`` is the pooled AuC, in
        which an image counts by its mean weight, whatever its size.
    """
    pred, target = _pair(pred, target, 2)
    require(max_distance > 0, "max_distance", "a positive number", max_distance)
    distance = _length(pred - target)  # (B, h, w)
    weights = torch.ones_like(distance) if weights is None else _weights(weights, distance)
    hits = weights * (1 - distance.clamp(max=max_distance) / max_distance)
    return hits.mean((1, 2)), weights.mean((1, 2))


def rmse(pred: Tensor, target: Tensor) -> Tensor:
    """Root mean squared error of a*, b* (B, 2, h, w) per image (B,): the mean is over the pixels *and* both channels.

    Papers do not always say which mean they take: the root mean squared ab distance is sqrt(2) times as large. Raises a
    ``TypeError`` or a ``ValueError`` if the shapes differ or are others.
    """
    pred, target = _pair(pred, target, 2)
    return (pred - target).square().mean((1, 2, 3)).sqrt()


def psnr(pred: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB per image (B,), of sRGB pictures (B, 3, H, W) in [0, 1], by torchmetrics.

    The squared error is averaged over all three channels; identical pictures have inf. Raises a ``TypeError`` or a
    ``ValueError`` if the shapes differ or are others, or a value is out of range.
    """
    pred, target = _pair(pred, target, 3, unit=True)
    return peak_signal_noise_ratio(pred, target, data_range=1.0, reduction="none", dim=(1, 2, 3))


def ssim(pred: Tensor, target: Tensor) -> Tensor:
    """Structural similarity per image (B,), of sRGB pictures (B, 3, H, W) in [0, 1], by torchmetrics.

    Gaussian 11 x 11 window with sigma 1.5, k1 = 0.01, k2 = 0.03, mean over the channels and all pixels, with mirrored
    borders. scikit-image's map agrees to the fourth digit; its score leaves 5 pixels of border out, which shows in the
    second digit on small noisy pictures.

    Raises
    ------
    TypeError, ValueError
        If the shapes differ or are others, a value is out of range, or a picture is smaller than the window.

    References
    ----------
    Wang, Bovik, Sheikh, Simoncelli, "Image quality assessment: from error visibility to structural similarity", 2004.
    """
    pred, target = _pair(pred, target, 3, unit=True)
    height, width = pred.shape[-2:]
    require(
        min(height, width) >= _SSIM_WINDOW,
        "pred",
        f"pictures of at least {_SSIM_WINDOW} x {_SSIM_WINDOW} pixels, the window of SSIM",
        f"{height} x {width}",
    )
    # One by one: the windows of several large pictures do not fit into a processor's cache.
    pairs = zip(pred.split(1), target.split(1), strict=True)
    return torch.cat([structural_similarity_index_measure(*pair, data_range=1.0, reduction="none") for pair in pairs])


def ciede2000(pred: Tensor, target: Tensor) -> Tensor:
    """Mean CIEDE2000 difference per image (B,), of CIELAB pictures (B, 3, H, W), by scikit-image in double precision.

    kL = kC = kH = 1. Computed on the CPU, without gradients. Raises a
    ``TypeError`` or a ``ValueError`` if the shapes differ or are others.
    """
    pred, target = _pair(pred, target, 3)
    true, guess = (lab.detach().cpu().double().numpy() for lab in (target, pred))
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        means = pool.map(lambda *pair: deltaE_ciede2000(*pair, channel_axis=0).mean(), true, guess)
        return torch.tensor(list(means), dtype=torch.float64).to(pred.dtype).to(pred.device)


def colorfulness(rgb: Tensor) -> Tensor:
    """Colourfulness M3 of Hasler and Suesstrunk per image (B,), of sRGB pictures (B, 3, H, W) in [0, 1].

    On the scale 0 to 255 and with *signed* opponent channels rg = R - G and yb = (R + G) / 2 - B:
    sqrt(var rg + var yb) + 0.3 sqrt(mean rg ^2 + mean yb ^2). 0 is grey; 109 is "extremely colourful".

    Raises
    ------
    TypeError, ValueError
        If `rgb` has another shape or a value is out of range.

    References
    ----------
    Hasler, Suesstrunk, "Measuring colourfulness in natural images", Proc. SPIE 5007, 2003.
    """
    red, green, blue = (255 * _maps(rgb, "rgb", 3, unit=True)).flatten(2).unbind(1)  # 3 x (B, H*W)
    opponents = torch.stack([red - green, (red + green) / 2 - blue])  # (2, B, H*W)
    spread = opponents.var(-1, correction=0).sum(0).sqrt()
    return spread + 0.3 * torch.linalg.vector_norm(opponents.mean(-1), dim=0)


def mean_chroma(lab_chroma: Tensor) -> Tensor:
    """Mean chroma sqrt(a*^2 + b*^2) per image (B,), of a*, b* (B, 2, h, w); errors as in `rmse`."""
    return _length(_maps(lab_chroma, "lab_chroma", 2)).mean((1, 2))


def roughness(lab_chroma: Tensor) -> Tensor:
    """Mean ab distance of neighbouring pixels per image (B,), of a*, b* (B, 2, h, w); errors as in `rmse`.

    How much colours change from one pixel to the next, across and down: the less, the more consistent in space.
    """
    maps = _maps(lab_chroma, "lab_chroma", 2)
    return sum(_length(maps.diff(dim=d)).mean((1, 2)) for d in (2, 3)) / 2


@torch.no_grad()
def per_image(pred_rgb: Tensor, true_rgb: Tensor, weights: Tensor | None = None) -> dict[str, Tensor]:
    """Every score of coloured pictures: the columns of the per-image table.

    Parameters
    ----------
    pred_rgb, true_rgb : tensor (B, 3, H, W)
        sRGB in [0, 1], at least 11 x 11 pixels. The ab scores are of the picture as shown, so inside of the gamut.
    weights : tensor (B, H, W), optional
        Inverse frequency of the true bin of each pixel, for the rebalanced AuC.

    Returns
    -------
    dict of tensor (B,)
        auc, rmse, psnr, ssim, ciede2000; colorfulness, chroma and roughness of the prediction, and with ``_true`` of
        the truth; tail_hits, tail_weight, and with `weights` also rebalanced_hits, rebalanced_weight (see `auc_parts`).

    Raises
    ------
    TypeError, ValueError
        If shapes differ or are others, a value is out of range, or a weight is negative.
    """
    pred_rgb, true_rgb = _pair(pred_rgb, true_rgb, 3, ("pred_rgb", "true_rgb"), unit=True)
    pred_lab, true_lab = color.srgb_to_lab(pred_rgb), color.srgb_to_lab(true_rgb)
    pred, true = pred_lab[:, 1:], true_lab[:, 1:]
    scores = {
        "auc": auc(pred, true),
        "rmse": rmse(pred, true),
        "psnr": psnr(pred_rgb, true_rgb),
        "ssim": ssim(pred_rgb, true_rgb),
        "ciede2000": ciede2000(pred_lab, true_lab),
        "colorfulness": colorfulness(pred_rgb),
        "colorfulness_true": colorfulness(true_rgb),
        "chroma": mean_chroma(pred),
        "chroma_true": mean_chroma(true),
        "roughness": roughness(pred),
        "roughness_true": roughness(true),
    }
    vivid = (_length(true) > TAIL).to(true)
    scores["tail_hits"], scores["tail_weight"] = auc_parts(pred, true, weights=vivid)
    if weights is not None:
        scores["rebalanced_hits"], scores["rebalanced_weight"] = auc_parts(pred, true, weights=weights)
    return scores


def scores_in(table: pd.DataFrame) -> Scores:
    """Those of `SCORES` whose columns `table` has."""
    return {name: pair for name, pair in SCORES.items() if {*pair} - {None} <= {*table.columns}}


def aggregate(table: pd.DataFrame, scores: Scores | None = None) -> pd.Series:
    """Set-level scores of a per-image table with the columns of `per_image`, one row an image; see `statistics.pool`.

    `scores` are by default those whose columns the table has. ``psnr`` leaves identical pictures out, whose PSNR is
    infinite; ``auc_rebalanced`` is pooled over the pixels of the set.
    """
    return pool(table, scores_in(table) if scores is None else scores)


def _length(maps: Tensor) -> Tensor:
    """Length (B, h, w) of the vectors in `maps` (B, 2, h, w); `vector_norm` takes 100 times as long over this axis."""
    return maps.square().sum(1).sqrt()


def _maps(maps: Tensor, name: str, channels: int, unit: bool = False) -> Tensor:
    """`maps` in at least single precision, checked to be (B, channels, H, W), not empty and, if `unit`, in [0, 1]."""
    shape = f"(B, {channels}, {'h, w' if channels == 2 else 'H, W'})"
    require_maps(maps, name, channels, shape)
    require(maps.ndim == 4 and maps.numel() > 0, name, f"shape {shape}, not empty", tuple(maps.shape))
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32))
    if unit:
        low, high = maps.aminmax()  # up to the rounding of a resize or of half precision
        require(low >= -1e-3 and high <= 1 + 1e-3, name, "values in [0, 1]", f"[{low:.4g}, {high:.4g}]")
    return maps


def _pair(
    pred: Tensor, target: Tensor, channels: int, names: tuple[str, str] = ("pred", "target"), unit: bool = False
) -> tuple[Tensor, Tensor]:
    """Both as `_maps` of one shape and one precision."""
    pred, target = _maps(pred, names[0], channels, unit), _maps(target, names[1], channels, unit)
    require(pred.shape == target.shape, names[0], f"the shape of {names[1]} {tuple(target.shape)}", tuple(pred.shape))
    dtype = torch.promote_types(pred.dtype, target.dtype)
    return pred.to(dtype), target.to(dtype)


def _weights(weights: Tensor, distance: Tensor) -> Tensor:
    """`weights` in the precision of `distance` (B, h, w), checked to have its shape and to be finite and at least 0."""
    got = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    require(got == tuple(distance.shape), "weights", f"a tensor (B, h, w) = {tuple(distance.shape)}", got)
    weights = weights.to(distance.dtype)
    low, high = weights.aminmax()
    require(low >= 0 and high < torch.inf, "weights", "finite values of at least 0", f"[{low:.4g}, {high:.4g}]")
    return weights
