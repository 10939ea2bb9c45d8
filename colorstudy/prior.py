"""The prior: how often each colour bin occurs in an image bank, and the class weights that follow from it.

Section 2.2, "Class rebalancing", of Zhang, Isola and Efros, "Colorful image colorization", ECCV 2016.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd
import torch

from colorstudy._checks import require, require_maps
from colorstudy.bins import ColorBins, reachable
from colorstudy.color import SPACES, check_space, split


def count(images: torch.Tensor | np.ndarray | Iterable[torch.Tensor], bins: ColorBins) -> torch.Tensor:
    """How many pixels of `images` have each bin as their nearest.

    Parameters
    ----------
    images : tensor (B, 3, H, W), uint8 array (N, H, W, 3), or iterable of such tensors
        sRGB in [0, 1], or 8-bit pictures as an image bank holds them; arrays are read in pieces.
    bins : ColorBins

    Returns
    -------
    int64 tensor (Q,)

    Raises
    ------
    ValueError
        If `images` holds no picture, or pictures of another shape.
    """
    counts = torch.zeros(len(bins), dtype=torch.long)
    for batch in batches(images):
        labels = bins.nearest(split(batch.to(bins.centers.device), bins.space)[1])
        counts += torch.bincount(labels.flatten(), minlength=len(bins)).cpu()
    return counts


def histogram(
    images: torch.Tensor | np.ndarray | Iterable[torch.Tensor],
    shape: tuple[int, int] = (32, 32),
    space: str = "yuv",
) -> torch.Tensor:
    """How many pixels of `images` fall in each cell of an equal-sized grid over the chroma plane.

    Parameters
    ----------
    images
        As `count` takes them.
    shape : (rows, columns)
        Number of cells along the first and the second chroma, which divide [-s, s], s the largest chroma of the space.
    space : {"lab", "yuv"}

    Returns
    -------
    int64 tensor (rows, columns)
        The argument of `ColorBins.most_frequent`.

    Raises
    ------
    ValueError
        If `shape` or `space` is none, or `images` holds no picture.
    """
    check_space(space)
    require(len(shape) == 2 and min(shape) >= 1, "shape", "two numbers of cells >= 1", shape)
    sizes = torch.tensor(shape)
    counts = torch.zeros(shape[0] * shape[1], dtype=torch.long)
    for batch in batches(images):
        chroma = split(batch, space)[1].permute(0, 2, 3, 1)  # (B, H, W, 2)
        cell = ((chroma / SPACES[space] + 1) / 2 * sizes).long().clamp(min=torch.tensor(0), max=sizes - 1)
        counts += torch.bincount((cell[..., 0] * shape[1] + cell[..., 1]).flatten(), minlength=len(counts))
    return counts.view(shape)


def smooth(p: torch.Tensor, bins: ColorBins, sigma: float = 5.0) -> torch.Tensor:
    """The prior smoothed by a Gaussian in the chroma plane: ~p of Zhang et al. 2016.

    Parameters
    ----------
    p : tensor (Q,)
        Frequencies or counts of `bins`, not all zero.
    bins : ColorBins
    sigma : float
        Width in the units of the space of `bins`; 0 only normalises.

    Returns
    -------
    float64 tensor (Q,)
        Sums to 1.

    Raises
    ------
    ValueError
        If `p` is no vector of Q non-negative numbers with a positive sum, or `sigma` is negative.
    """
    p = _frequencies(p, len(bins))
    require(sigma >= 0, "sigma", "a width >= 0", sigma)
    if sigma > 0:
        centers = bins.centers.double().cpu()
        kernel = torch.exp(torch.cdist(centers, centers).square() / (-2 * sigma**2))  # (Q, Q)
        p = kernel @ p
    return p / p.sum()


def rebalancing_weights(p: torch.Tensor, lam: float = 0.5) -> torch.Tensor:
    """Class weights w proportional to ((1 - lam) p + lam / Q)^-1, with sum(p w) = 1: Zhang et al. 2016, Equation 4.

    Parameters
    ----------
    p : tensor (Q,)
        Prior, non-negative; normalised here.
    lam : float
        Share of the uniform distribution mixed in, in [0, 1]: 1 is no rebalancing, 0 the plain inverse frequency.

    Returns
    -------
    float64 tensor (Q,)
        Positive and finite; their mean under `p` is 1, so that a weighted loss keeps its scale.

    Raises
    ------
    ValueError
        If `lam` is outside of [0, 1], or is 0 while a bin never occurs.
    """
    p = _frequencies(p)
    require(0 <= lam <= 1, "lam", "a share in [0, 1]", lam)
    mixed = (1 - lam) * p + lam / len(p)
    require(bool((mixed > 0).all()), "p", "no empty bin when lam is 0", f"{int((mixed == 0).sum())} empty bins")
    weights = 1 / mixed
    return weights / (p * weights).sum()


def audit(centers: np.ndarray | torch.Tensor, p: np.ndarray | torch.Tensor) -> pd.DataFrame:
    """Tests whether a prior file can be what it claims: frequencies of the ab bins `centers`, in their order.

    Parameters
    ----------
    centers : (Q, 2)
        Bin centres in ab units.
    p : (Q,)
        The prior.

    Returns
    -------
    DataFrame
        Indexed by check, with columns ``value``, ``low``, ``high`` (the bounds), ``passed`` and ``reason`` (of a
        failure). The prior passes if all checks do.

        - ``normalised``: the sum, 1 within 1e-6.
        - ``non-negative``: the smallest p, at least 0.
        - ``unreachable mass``: mass on bins that are the nearest of no sRGB colour; smoothing leaks a little into them,
          5 % at most.
        - ``grey share``: mass within 20 ab units of grey, which holds most pixels of any photographs: at least 0.3.
        - ``alignment``: correlation of log p between neighbouring bins. The prior of photographs falls off smoothly
          from grey, so neighbours agree; in another order they don't: at least 0.5.
        - ``smoothing``: the number of empty bins, 0: a raw count leaves at least the unreachable ones empty, and an
          empty bin has an infinite weight at lam = 0.

    Raises
    ------
    ValueError
        If the shapes do not belong together.
    """
    centers = torch.as_tensor(np.asarray(centers), dtype=torch.float64)
    p = torch.as_tensor(np.asarray(p), dtype=torch.float64)
    require(centers.ndim == 2 and centers.shape[1] == 2, "centers", "shape (Q, 2)", tuple(centers.shape))
    require(p.shape == (len(centers),), "p", f"shape ({len(centers)},), one number a centre", tuple(p.shape))

    distance = torch.cdist(centers, centers).fill_diagonal_(torch.inf)
    i, j = (distance <= distance.min() * 1.01).nonzero(as_tuple=True)  # neighbours on the grid
    positive = p.clamp(min=torch.finfo(p.dtype).tiny)
    log_p = positive.log()
    alignment = torch.corrcoef(torch.stack([log_p[i], log_p[j]]))[0, 1].item()
    is_reachable = reachable(centers)
    near_grey = p[centers.norm(dim=1) <= 20].sum().item()

    inf = float("inf")
    checks = {
        "normalised": (p.sum().item(), 1 - 1e-6, 1 + 1e-6, "the numbers do not sum to 1"),
        "non-negative": (p.min().item(), 0.0, inf, "a frequency is negative"),
        "unreachable mass": (p[~is_reachable].sum().item(), 0.0, 0.05, "bins that no sRGB colour falls in have mass"),
        "grey share": (near_grey, 0.3, inf, "little mass near grey, where most pixels of photographs lie"),
        "alignment": (alignment, 0.5, inf, "neighbouring bins disagree: the order is not that of the centres"),
        "smoothing": (int((p == 0).sum()), 0, 0, "empty bins: a raw count, not smoothed"),
    }
    table = pd.DataFrame.from_dict(checks, orient="index", columns=["value", "low", "high", "reason"])
    table["passed"] = table["value"].between(table["low"], table["high"])
    table["reason"] = table["reason"].where(~table["passed"], "")
    return table[["value", "low", "high", "passed", "reason"]]


def _frequencies(p: torch.Tensor, length: int | None = None) -> torch.Tensor:
    """`p` as a float64 distribution on the CPU, or a ``ValueError``."""
    p = torch.as_tensor(p).double().cpu()
    length = len(p) if length is None and p.ndim == 1 else length
    require(p.shape == (length,), "p", f"shape ({'Q' if length is None else length},)", tuple(p.shape))
    require(bool((p >= 0).all()) and bool(p.isfinite().all()), "p", "finite numbers >= 0", "others")
    require(p.sum().item() > 0, "p", "a positive sum", p.sum().item())
    return p / p.sum()


def batches(images: torch.Tensor | np.ndarray | Iterable[torch.Tensor], size: int = 32) -> Iterable[torch.Tensor]:
    """`images` as float batches (B, 3, H, W) in [0, 1]."""
    if isinstance(images, np.ndarray):
        require(
            images.ndim == 4 and images.shape[3] == 3 and images.dtype == np.uint8,
            "images",
            "a uint8 array (N, H, W, 3)",
            f"{images.dtype} {images.shape}",
        )
        array = images
        starts = range(0, len(array), size)
        images = (torch.from_numpy(np.array(array[i : i + size])).permute(0, 3, 1, 2) / 255 for i in starts)
    elif isinstance(images, torch.Tensor):
        images = images.split(size)
    empty = True
    for batch in images:
        require_maps(batch, "images", 3, "(B, 3, H, W)")
        empty = False
        yield batch
    require(not empty, "images", "at least one picture", "none")
