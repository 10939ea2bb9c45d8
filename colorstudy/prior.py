"""The prior: how often each colour bin occurs in an image bank, and the class weights that follow from it.

Section 2.2, "Class rebalancing", of Zhang, Isola and Efros, "Colorful image colorization", ECCV 2016.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import torch

from colorstudy._checks import require, require_maps
from colorstudy.bins import ColorBins, reachable
from colorstudy.color import SPACES, split, to_tensor

if TYPE_CHECKING:
    import pandas as pd

Pictures = torch.Tensor | np.ndarray | Iterable[torch.Tensor]
"""sRGB pictures: a tensor (B, 3, H, W) in [0, 1], a uint8 array (N, H, W, 3), or an iterable of such tensors."""


def count(images: Pictures, bins: ColorBins) -> torch.Tensor:
    """How many pixels of `images` have each bin as their nearest: int64 (Q,)."""
    counts = torch.zeros(len(bins), dtype=torch.long)
    for batch in batches(images):
        labels = bins.nearest(split(batch.to(bins.centers.device), bins.space)[1])
        counts += torch.bincount(labels.flatten(), minlength=len(bins)).cpu()
    return counts


def histogram(images: Pictures, shape: tuple[int, int] = (32, 32), space: str = "yuv") -> torch.Tensor:
    """How many pixels of `images` fall in each of `shape` equal cells of the `space`, up to its largest chroma."""
    require(len(shape) == 2 and min(shape) >= 1, "shape", "two numbers of cells >= 1", shape)
    sizes = torch.tensor(shape)
    counts = torch.zeros(shape[0] * shape[1], dtype=torch.long)
    for batch in batches(images):
        chroma = split(batch, space)[1].permute(0, 2, 3, 1)  # (B, H, W, 2)
        cell = ((chroma / SPACES[space] + 1) / 2 * sizes).long().clamp(min=torch.tensor(0), max=sizes - 1)
        counts += torch.bincount((cell[..., 0] * shape[1] + cell[..., 1]).flatten(), minlength=len(counts))
    return counts.view(shape)


def smooth(p: torch.Tensor, bins: ColorBins, sigma: float = 5.0) -> torch.Tensor:
    """The prior smoothed by a Gaussian in the chroma plane, ~p of Zhang et al. 2016: float64 (Q,) that sums to 1.

    `p` (Q,) are frequencies or counts of `bins`; `sigma` is in the units of their space, and 0 only normalises.
    """
    p = _frequencies(p, len(bins))
    require(sigma >= 0, "sigma", "a width >= 0", sigma)
    if sigma > 0:
        centers = bins.centers.double().cpu()
        p = torch.exp(torch.cdist(centers, centers).square() / (-2 * sigma**2)) @ p  # (Q, Q) @ (Q,)
    return p / p.sum()


def rebalancing_weights(p: torch.Tensor, lam: float = 0.5) -> torch.Tensor:
    """Class weights w proportional to ((1 - lam) p + lam / Q)^-1, with sum(p w) = 1: Zhang et al. 2016, Equation 4.

    Float64 (Q,), of a non-negative prior `p` (Q,), normalised here. `lam` in [0, 1] is the share of the uniform
    distribution that is mixed in: 1 is no rebalancing, 0 the plain inverse frequency, which takes a prior without an
    empty bin. The mean weight under `p` is 1, so that a weighted loss keeps its scale.
    """
    p = _frequencies(p)
    require(0 <= lam <= 1, "lam", "a share in [0, 1]", lam)
    mixed = (1 - lam) * p + lam / len(p)
    require(bool((mixed > 0).all()), "p", "no empty bin when lam is 0", f"{int((mixed == 0).sum())} empty bins")
    weights = 1 / mixed
    return weights / (p * weights).sum()


def audit(centers: np.ndarray | torch.Tensor, p: np.ndarray | torch.Tensor) -> "pd.DataFrame":
    """Tests whether a prior file can be what it claims: frequencies `p` (Q,) of the ab bins `centers` (Q, 2), in order.

    A table indexed by check, with columns ``value``, ``low``, ``high`` (the bounds), ``passed`` and ``reason`` (of a
    failure). Checked are the sum; the smallest p; mass on bins that are the nearest of no sRGB colour, into which
    smoothing leaks a little; mass within 20 ab units of grey, where most pixels of photographs lie; the correlation of
    log p between neighbouring bins, which agree unless the order is wrong; and empty bins, which smoothing fills.
    """
    import pandas as pd

    centers = torch.as_tensor(np.asarray(centers), dtype=torch.float64)
    p = torch.as_tensor(np.asarray(p), dtype=torch.float64)
    require(centers.ndim == 2 and centers.shape[1] == 2, "centers", "shape (Q, 2)", tuple(centers.shape))
    require(p.shape == (len(centers),), "p", f"shape ({len(centers)},), one number a centre", tuple(p.shape))
    distance = torch.cdist(centers, centers).fill_diagonal_(torch.inf)
    i, j = (distance <= distance.min() * 1.01).nonzero(as_tuple=True)  # neighbours on the grid
    log_p = p.clamp(min=torch.finfo(p.dtype).tiny).log()
    alignment = torch.corrcoef(torch.stack([log_p[i], log_p[j]]))[0, 1].item()
    unreachable, near_grey = p[~reachable(centers)].sum().item(), p[centers.norm(dim=1) <= 20].sum().item()
    checks = {  # value, low, high, reason
        "normalised": (p.sum().item(), 1 - 1e-6, 1 + 1e-6, "the numbers do not sum to 1"),
        "non-negative": (p.min().item(), 0.0, torch.inf, "a frequency is negative"),
        "unreachable mass": (unreachable, 0.0, 0.05, "bins that no sRGB colour falls in have mass"),
        "grey share": (near_grey, 0.3, torch.inf, "little mass near grey, where most pixels of photographs lie"),
        "alignment": (alignment, 0.5, torch.inf, "neighbouring bins disagree: the order is not that of the centres"),
        "smoothing": (int((p == 0).sum()), 0, 0, "empty bins: a raw count, not smoothed"),
    }
    table = pd.DataFrame.from_dict(checks, orient="index", columns=["value", "low", "high", "reason"])
    table.insert(3, "passed", table["value"].between(table["low"], table["high"]))
    return table.assign(reason=table["reason"].where(~table["passed"], ""))


def batches(images: Pictures, size: int = 32) -> Iterator[torch.Tensor]:
    """`images` as float batches (B, 3, H, W) in [0, 1], arrays and tensors `size` pictures at a time."""
    if isinstance(images, np.ndarray):
        good = images.ndim == 4 and images.shape[3] == 3 and images.dtype == np.uint8
        require(good, "images", "a uint8 array (N, H, W, 3)", f"{images.dtype} {images.shape}")
        parts: Iterable[torch.Tensor] = (to_tensor(images[i : i + size]) for i in range(0, len(images), size))
    else:
        parts = images.split(size) if isinstance(images, torch.Tensor) else images
    empty = True
    for batch in parts:
        require_maps(batch, "images", 3, "(B, 3, H, W)")
        empty = False
        yield batch
    require(not empty, "images", "at least one picture", "none")


def _frequencies(p: torch.Tensor, length: int | None = None) -> torch.Tensor:
    """`p` as a float64 distribution on the CPU, or a ``ValueError``."""
    p = torch.as_tensor(p).double().cpu()
    length = len(p) if length is None and p.ndim == 1 else length
    require(p.shape == (length,), "p", f"shape ({'Q' if length is None else length},)", tuple(p.shape))
    require(bool((p >= 0).all()) and bool(p.isfinite().all()), "p", "finite numbers >= 0", "others")
    require(p.sum().item() > 0, "p", "a positive sum", p.sum().item())
    return p / p.sum()
