"""Filters of maps: the Gaussian blur in Dahl's loss, the joint bilateral filter of Cheng et al., shrinking."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F

from colorstudy._checks import require, require_maps


def gaussian_blur(maps: torch.Tensor, size: int) -> torch.Tensor:
    """Blur maps with a Gaussian window of `size` x `size` pixels.

    Parameters
    ----------
    maps : tensor (B, C, H, W)
        Borders are replicated.
    size : int
        Odd. The standard deviation follows from it as in OpenCV, 0.3 ((size - 1) / 2 - 1) + 0.8 pixels.

    Returns
    -------
    tensor (B, C, H, W)

    Raises
    ------
    ValueError
        If `size` is not odd and positive.
    """
    require(size >= 1 and size % 2 == 1, "size", "an odd number of pixels", size)
    radius = size // 2
    offsets = torch.arange(-radius, radius + 1, dtype=maps.dtype, device=maps.device)
    kernel = torch.softmax(-offsets.square() / (2 * (0.3 * (radius - 1) + 0.8) ** 2), dim=0)  # it sums to 1
    channels = maps.shape[1]
    padded = F.pad(maps, (radius,) * 4, mode="replicate")
    columns = F.conv2d(padded, kernel.view(1, 1, -1, 1).expand(channels, 1, -1, 1), groups=channels)
    return F.conv2d(columns, kernel.view(1, 1, 1, -1).expand(channels, 1, 1, -1), groups=channels)


def joint_bilateral(
    chroma: torch.Tensor, lightness: torch.Tensor, sigma_space: float = 3.0, sigma_lightness: float = 10.0
) -> torch.Tensor:
    """Smooth colours within what the lightness shows as one surface.

    The joint, or cross, bilateral filter (Petschnigg et al. 2004; Eisemann and Durand 2004): every pixel takes the mean
    of those around it, weighted by a Gaussian of their distance and one of their difference in lightness.

    Parameters
    ----------
    chroma : tensor (B, 2, H, W)
    lightness : tensor (B, 1, H, W)
        In [0, 100].
    sigma_space : float
        In pixels; the window reaches 2 sigma, and ends at the picture's border.
    sigma_lightness : float
        In units of lightness.

    Returns
    -------
    tensor (B, 2, H, W)

    Raises
    ------
    TypeError, ValueError
        If a shape is another, or a width is not positive.
    """
    require_maps(chroma, "chroma", 2, "(B, 2, H, W)")
    require_maps(lightness, "lightness", 1, "(B, 1, H, W)")
    same = lightness.shape[-2:] == chroma.shape[-2:] and len(lightness) == len(chroma)
    require(same, "lightness", f"batch and size of chroma, {tuple(chroma.shape)}", tuple(lightness.shape))
    for name, sigma in (("sigma_space", sigma_space), ("sigma_lightness", sigma_lightness)):
        require(sigma > 0, name, "a width > 0", sigma)
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


def shrunk(maps: torch.Tensor, scale: float) -> torch.Tensor:
    """Maps (B, C, H, W) with its sides times `scale`, every pixel counted; as it is, if `scale` is 1 or more."""
    if scale >= 1:
        return maps
    small = [max(1, round(side * scale)) for side in maps.shape[-2:]]
    return F.interpolate(maps, small, mode="bilinear", antialias=True)
