"""How good a coloured picture is: scores of one image each, which are the columns of the per-image table.

Everything takes ``(pred, target)`` in this order and returns one number an image; half precision is computed in
float32. Wrong shapes and values out of range are a ``TypeError`` or a ``ValueError``.
"""

import math
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from colorstudy import color
from colorstudy._checks import require, require_maps
from colorstudy.filters import gaussian_blur

TAIL = 40.0
"""Chroma above which a true colour counts as vivid, in units of ab."""


def auc(pred: Tensor, target: Tensor, *, weights: Tensor | None = None, max_distance: float = 150.0) -> Tensor:
    """Area under the curve of the share of pixels within an ab distance d of the truth, d from 0 to `max_distance`.

    Of a*, b* (B, 2, h, w) in [0, 1] (B,); 1 is perfect. The area divided by `max_distance` is exactly
    1 - mean(min(d, max_distance)) / max_distance; a trapezoid rule over the distances 0, 1, ..., 150 is off by up to
    0.5 / 150. `weights` (B, h, w), at least 0 and not 0 in all of an image, say what each pixel counts: its inverse
    frequency, that of the bin of its *true* colour, in the class-rebalanced AuC of Zhang et al. 2016.
    """
    hits, weight = auc_parts(pred, target, weights=weights, max_distance=max_distance)
    require(bool((weight > 0).all()), "weights", "a positive sum in every image", f"0 in image {weight.argmin()}")
    return hits / weight


def auc_parts(
    pred: Tensor, target: Tensor, *, weights: Tensor | None = None, max_distance: float = 150.0
) -> tuple[Tensor, Tensor]:
    """Numerator and denominator (B,) of `auc`, whose arguments it takes: means of w (1 - min(d, max) / max) and of w.

    ``hits.sum() / weight.sum()`` is the AuC pooled over a set, in which an image counts by its mean weight; the weights
    of an image may all be 0.
    """
    pred, target = _pair(pred, target, 2)
    require(max_distance > 0, "max_distance", "a positive number", max_distance)
    closeness = 1 - _length(pred - target).clamp(max=max_distance) / max_distance  # (B, h, w)
    if weights is None:
        return closeness.mean((1, 2)), closeness.new_ones(len(closeness))
    got = tuple(weights.shape) if isinstance(weights, Tensor) else type(weights).__name__
    require(got == tuple(closeness.shape), "weights", f"a tensor (B, h, w) = {tuple(closeness.shape)}", got)
    weights = weights.to(closeness.dtype)
    low, high = weights.aminmax()
    require(bool(low >= 0 and high < torch.inf), "weights", "finite values of at least 0", f"[{low:.4g}, {high:.4g}]")
    return (weights * closeness).mean((1, 2)), weights.mean((1, 2))


def rmse(pred: Tensor, target: Tensor) -> Tensor:
    """Root mean squared error of a*, b* (B, 2, h, w) per image (B,): the mean is over the pixels *and* both channels.

    Papers do not always say which mean they take: the root mean squared ab distance is sqrt(2) times as large.
    """
    pred, target = _pair(pred, target, 2)
    return (pred - target).square().mean((1, 2, 3)).sqrt()


def psnr(pred: Tensor, target: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB (B,), over all channels of sRGB (B, 3, H, W) in [0, 1]; inf if equal."""
    pred, target = _pair(pred, target, 3, unit=True)
    return -10 * (pred - target).square().mean((1, 2, 3)).log10()


def ssim(pred: Tensor, target: Tensor) -> Tensor:
    """Structural similarity per image (B,), of sRGB pictures (B, 3, H, W) in [0, 1], at least 11 x 11 pixels.

    Gaussian 11 x 11 window with sigma 1.5, k1 = 0.01, k2 = 0.03, mean over the channels and all pixels, with mirrored
    borders (Wang, Bovik, Sheikh, Simoncelli 2004), as torchmetrics has it; scikit-image leaves 5 pixels of border out.
    """
    pred, target = _pair(pred, target, 3, unit=True)
    height, width = pred.shape[-2:]
    expected = "pictures of at least 11 x 11 pixels, the window of SSIM"
    require(min(height, width) >= 11, "pred", expected, f"{height} x {width}")
    c1, c2 = 0.01**2, 0.03**2
    scores = []
    for x, y in _some_at_a_time(pred, target):
        moments = torch.cat([x, y, x * x + y * y, x * y])  # (4 b, 3, H, W)
        mx, my, squares, product = gaussian_blur(moments, 11, 1.5, "reflect").chunk(4)  # each (b, 3, H, W)
        mean_squares, mean_product = mx**2 + my**2, mx * my
        similarity = (2 * mean_product + c1) * (2 * (product - mean_product) + c2)
        similarity /= (mean_squares + c1) * (squares - mean_squares + c2)
        scores.append(similarity.mean((1, 2, 3)))
    return torch.cat(scores)


@torch.no_grad()
def ciede2000(pred: Tensor, target: Tensor) -> Tensor:
    """Mean CIEDE2000 difference (kL = kC = kH = 1) per image (B,), of CIELAB pictures (B, 3, H, W); without gradients.

    Sharma, Wu, Dalal, "The CIEDE2000 color-difference formula", Color Research and Application 30, 2005.
    """
    pred, target = _pair(pred, target, 3)
    return torch.cat([_ciede2000(y, x).mean((1, 2)) for x, y in _some_at_a_time(pred, target)])


def _ciede2000(first: Tensor, second: Tensor) -> Tensor:
    """CIEDE2000 difference (B, H, W) of the pixels of CIELAB pictures (B, 3, H, W), with the names of Sharma et al."""
    lightness, a, b = torch.stack([first, second]).unbind(2)  # each (2, B, H, W)
    a = a * (1.5 - 0.5 * _saturation(torch.hypot(a, b).mean(0)))  # a' = (1 + G) a
    chroma, hue = torch.hypot(a, b), torch.atan2(b, a) % (2 * math.pi)
    mean_l, mean_c, mean_h = (values.mean(0) for values in (lightness, chroma, hue))
    delta_l, delta_c, half_turn = (values[1] - values[0] for values in (lightness, chroma, hue / 2))
    far = half_turn.abs() > math.pi / 2  # the other way round is shorter
    mean_h = torch.where(far, (mean_h + math.pi) % (2 * math.pi), mean_h)
    delta_h = 2 * chroma.prod(0).sqrt() * torch.where(far, -half_turn, half_turn).sin()
    t = 1 - 0.17 * torch.cos(mean_h - math.radians(30)) + 0.24 * torch.cos(2 * mean_h)
    t += 0.32 * torch.cos(3 * mean_h + math.radians(6)) - 0.20 * torch.cos(4 * mean_h - math.radians(63))
    away = (mean_l - 50).square()
    delta_l /= 1 + 0.015 * away / (20 + away).sqrt()  # S_L
    delta_c /= 1 + 0.045 * mean_c  # S_C
    delta_h /= 1 + 0.015 * mean_c * t  # S_H
    theta = math.radians(30) * torch.exp(-((mean_h - math.radians(275)) / math.radians(25)).square())
    rotation = -2 * _saturation(mean_c) * (2 * theta).sin()  # R_T
    squared = delta_l.square() + delta_c.square() + delta_h.square() + rotation * delta_c * delta_h
    return squared.clamp(min=0).sqrt()  # negative only by rounding


def _saturation(chroma: Tensor) -> Tensor:
    """sqrt(C^7 / (C^7 + 25^7)) of CIEDE2000: 0 of grey."""
    c = 25 / chroma
    return (1 + c**3 * c**3 * c).rsqrt()  # c**7 takes ten times as long


def colorfulness(rgb: Tensor) -> Tensor:
    """Colourfulness M3 of Hasler and Suesstrunk per image (B,), of sRGB pictures (B, 3, H, W) in [0, 1].

    On the scale 0 to 255 and with *signed* opponent channels rg = R - G and yb = (R + G) / 2 - B:
    sqrt(var rg + var yb) + 0.3 sqrt(mean rg ^2 + mean yb ^2). 0 is grey; 109 is "extremely colourful" ("Measuring
    colourfulness in natural images", Proc. SPIE 5007, 2003).
    """
    red, green, blue = _maps(rgb, "rgb", 3, unit=True).flatten(2).unbind(1)  # 3 x (B, H*W)
    opponents = torch.stack([red - green, (red + green) / 2 - blue])  # (2, B, H*W)
    mean = opponents.mean(-1, keepdim=True)
    variance = (opponents - mean).square().mean(-1)  # `var` takes 4 times as long
    return 255 * (variance.sum(0).sqrt() + 0.3 * torch.linalg.vector_norm(mean, dim=(0, 2)))


def mean_chroma(lab_chroma: Tensor) -> Tensor:
    """Mean chroma sqrt(a*^2 + b*^2) per image (B,), of a*, b* (B, 2, h, w)."""
    return _length(_maps(lab_chroma, "lab_chroma", 2)).mean((1, 2))


def roughness(lab_chroma: Tensor) -> Tensor:
    """Mean ab distance of neighbouring pixels, across and down, per image (B,), of a*, b* (B, 2, h, w)."""
    maps = _maps(lab_chroma, "lab_chroma", 2)
    return (_length(maps.diff(dim=2)).mean((1, 2)) + _length(maps.diff(dim=3)).mean((1, 2))) / 2


@torch.no_grad()
def per_image(pred: Tensor, target: Tensor, weights: Mapping[str, Tensor] = {}) -> dict[str, Tensor]:
    """Every score (B,) of coloured pictures: the columns of the per-image table.

    Of sRGB (B, 3, H, W) in [0, 1], at least 11 x 11 pixels. What ends in ``_true`` is of the truth, ``<name>_hits`` and
    ``<name>_weight`` are `auc_parts` for each of `weights` by name (B, H, W), and for vivid pixels, the tail. The ab
    scores are of the picture as shown, so inside of the gamut.
    """
    pred_rgb, true_rgb = _pair(pred, target, 3, unit=True)
    pred_lab, true_lab = color.srgb_to_lab(pred_rgb), color.srgb_to_lab(true_rgb)
    pred, true = pred_lab[:, 1:], true_lab[:, 1:]
    scores = {"auc": auc(pred, true), "rmse": rmse(pred, true)}
    scores |= {"psnr": psnr(pred_rgb, true_rgb), "ssim": ssim(pred_rgb, true_rgb)}
    scores["ciede2000"] = ciede2000(pred_lab, true_lab)
    for suffix, rgb, chroma in (("", pred_rgb, pred), ("_true", true_rgb, true)):
        scores[f"colorfulness{suffix}"] = colorfulness(rgb)
        scores[f"chroma{suffix}"], scores[f"roughness{suffix}"] = mean_chroma(chroma), roughness(chroma)
    for name, counting in {"tail": (_length(true) > TAIL).to(true), **weights}.items():
        scores[f"{name}_hits"], scores[f"{name}_weight"] = auc_parts(pred, true, weights=counting)
    return scores


def _some_at_a_time(*maps: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Each of `maps` (B, C, H, W) in parts of so many pictures that what is computed of them fits into a cache."""
    pictures = max(1, 2**16 // maps[0][0, 0].numel())
    return zip(*(one.split(pictures) for one in maps))


def _length(maps: Tensor) -> Tensor:
    """Length (B, h, w) of the vectors in `maps` (B, 2, h, w); `vector_norm` takes 100 times as long over this axis."""
    return maps.square().sum(1).sqrt()


def _maps(maps: Tensor, name: str, channels: int, unit: bool = False) -> Tensor:
    """`maps` in at least single precision, checked to be (B, channels, H, W), not empty and, if `unit`, in [0, 1]."""
    shape = f"(B, {channels}, {'h, w' if channels == 2 else 'H, W'})"
    require_maps(maps, name, channels, shape)
    require(maps.numel() > 0, name, f"shape {shape}, not empty", tuple(maps.shape))
    # Channels-last pictures take longer to score than to copy.
    maps = maps.to(torch.promote_types(maps.dtype, torch.float32), memory_format=torch.contiguous_format)
    if unit:
        low, high = maps.aminmax()  # up to the rounding of a resize or of half precision
        require(bool(low >= -1e-3 and high <= 1 + 1e-3), name, "values in [0, 1]", f"[{low:.4g}, {high:.4g}]")
    return maps


def _pair(pred: Tensor, target: Tensor, channels: int, unit: bool = False) -> tuple[Tensor, Tensor]:
    """Both as `_maps` of one shape and one precision."""
    pred, target = _maps(pred, "pred", channels, unit), _maps(target, "target", channels, unit)
    require(pred.shape == target.shape, "pred", f"the shape of target {tuple(target.shape)}", tuple(pred.shape))
    dtype = torch.promote_types(pred.dtype, target.dtype)
    return pred.to(dtype), target.to(dtype)
