"""Filters of maps: Gaussian blur, the joint bilateral filter, and downscaling."""

import math

import torch
import torch.nn.functional as F

from colorstudy._checks import require, require_maps


def gaussian_blur(
    maps: torch.Tensor, size: int, sigma: float | None = None, padding: str = "replicate"
) -> torch.Tensor:
    """`maps` (B, C, H, W) blurred by a Gaussian window of `size` x `size` pixels, which is odd.

    `sigma` in pixels follows from the size as in OpenCV by default, 0.3 ((size - 1) / 2 - 1) + 0.8; `padding` is a mode
    of ``torch.nn.functional.pad``.
    """
    require(size >= 1 and size % 2 == 1, "size", "an odd number of pixels", size)
    radius = size // 2
    sigma = 0.3 * (radius - 1) + 0.8 if sigma is None else sigma
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.softmax(-offsets.square() / (2 * sigma**2), dim=0).tolist()  # it sums to 1
    blurred = F.pad(maps, (radius,) * 4, mode=padding)
    for axis in (2, 3):  # shifted copies added up take a quarter of the time of conv2d, channel by channel
        first, *others = blurred.unfold(axis, size, 1).unbind(-1)
        blurred = first * kernel[0]
        for weight, shifted in zip(kernel[1:], others):
            blurred.add_(shifted, alpha=weight)
    return blurred


def joint_bilateral(
    chroma: torch.Tensor, lightness: torch.Tensor, sigma_space: float = 3.0, sigma_lightness: float = 10.0
) -> torch.Tensor:
    """Chroma (B, 2, H, W) smoothed within what lightness (B, 1, H, W), in [0, 100], shows as one surface.

    The joint, or cross, bilateral filter (Petschnigg et al. 2004; Eisemann and Durand 2004): every pixel takes the mean
    of those around it, weighted by a Gaussian of their distance (`sigma_space`, in pixels; the window reaches 2 sigma)
    and one of their difference in lightness (`sigma_lightness`).
    """
    require_maps(chroma, "chroma", 2, "(B, 2, H, W)")
    require_maps(lightness, "lightness", 1, "(B, 1, H, W)")
    same = lightness.shape[-2:] == chroma.shape[-2:] and len(lightness) == len(chroma)
    require(same, "lightness", f"batch and size of chroma, {tuple(chroma.shape)}", tuple(lightness.shape))
    height, width = chroma.shape[-2:]
    radius = math.ceil(2 * sigma_space)
    total, weight = torch.zeros_like(chroma), torch.zeros_like(lightness)
    # One neighbour at a time: a window of weights for each pixel would be a hundred times the picture.
    for down in range(-min(radius, height - 1), min(radius, height - 1) + 1):
        for right in range(-min(radius, width - 1), min(radius, width - 1) + 1):
            here = slice(max(0, -down), height - max(0, down)), slice(max(0, -right), width - max(0, right))
            there = slice(max(0, down), height - max(0, -down)), slice(max(0, right), width - max(0, -right))
            difference = lightness[(..., *there)] - lightness[(..., *here)]
            distance = (down**2 + right**2) / (2 * sigma_space**2)
            w = torch.exp(-difference.square() / (2 * sigma_lightness**2) - distance)
            total[(..., *here)] += w * chroma[(..., *there)]
            weight[(..., *here)] += w
    return total / weight


def downscale(maps: torch.Tensor, scale: float) -> torch.Tensor:
    """Maps (B, C, H, W) with their sides times `scale`, antialiased; as they are, if `scale` is 1 or more."""
    if scale >= 1:
        return maps
    small = [max(1, round(side * scale)) for side in maps.shape[-2:]]
    return F.interpolate(maps, small, mode="bilinear", antialias=True)
