"""Colour seeds: keep the confident pixels of a predicted distribution and diffuse their colours over the lightness.

Billaut, de Rochemonteix and Thibault, "ColorUNet: a convolutional classification approach to colorization", 2018,
propose it as an extension and do not build it: confidence by the top score or by the ratio of the first two. How many
seeds, where they lie and how they spread (`diffusion`) is our choice.
"""

from __future__ import annotations

import os

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from colorstudy._checks import require, require_maps
from colorstudy.colorize import Colorizer, shrunk
from colorstudy.diffusion import diffuse
from colorstudy.methods import Model

__all__ = ["KINDS", "SeedColorizer", "colorize_by_seeds", "confidence", "diffuse"]

KINDS = ("top", "ratio")
"""Measures of confidence: see `confidence`."""


def confidence(logits: torch.Tensor, kind: str = "top") -> torch.Tensor:
    """How sure a predicted distribution is, pixel by pixel.

    Billaut et al. 2018 name the top score and the ratio of the first two. That ratio p1 / p2 has no bound, so "ratio"
    is 1 - p2 / p1: the same order of pixels, 0 where two bins tie, 1 where the others are impossible.

    Parameters
    ----------
    logits : tensor (B, Q, h, w)
        Any finite values.
    kind : {"top", "ratio"}
        The top probability p1, or 1 - p2 / p1, which takes Q >= 2.

    Returns
    -------
    tensor (B, h, w)
        In [0, 1], at least float32.

    Raises
    ------
    TypeError, ValueError
        If `logits` has another shape, or `kind` is unknown.
    """
    require(kind in KINDS, "kind", f"one of {KINDS}", repr(kind))
    bins = logits.shape[1] if isinstance(logits, torch.Tensor) and logits.ndim == 4 else 0
    require_maps(logits, "logits", bins, "(B, Q, h, w)")
    require(bins >= (2 if kind == "ratio" else 1), "logits", f"enough bins for {kind!r}", bins)
    logits = logits if logits.dtype == torch.float64 else logits.float()
    if kind == "top":
        return torch.softmax(logits, dim=1).amax(dim=1)
    first, second = logits.topk(2, dim=1).values.unbind(dim=1)
    return -torch.expm1(second - first)


class SeedColorizer(Colorizer):
    """A `Colorizer` that trusts the network where it is sure, and diffuses these colours over the rest.

    The most confident pixels of the network's output, each at the middle of its cell, are seeds with their
    annealed-mean colour; they are diffused over the lightness of the picture, shrunk to `limit`, and enlarged
    bilinearly.

    Parameters
    ----------
    model : Model
        Of a classification.
    size, device
        As of `Colorizer`.
    share : float
        Of the output's pixels that become seeds, in (0, 1]; always one at least.
    kind : {"top", "ratio"}
        See `confidence`.
    limit : int
        Longer side, in pixels, of the picture over which colours are diffused, which bounds time and memory.

    Raises
    ------
    ValueError
        If the model is a regression, or a value is outside of its range.
    """

    def __init__(
        self,
        model: Model,
        size: int = 128,
        device: str | torch.device | None = None,
        *,
        share: float = 0.1,
        kind: str = "top",
        limit: int = 640,
    ) -> None:
        method = model.method
        got = f"{method.name}, a {method.target}, which has no confidence"
        require(method.target == "classification", "model", "a classification", got)
        require(0 < share <= 1, "share", "a share in (0, 1]", share)
        require(kind in KINDS, "kind", f"one of {KINDS}", repr(kind))
        require(limit >= 1, "limit", "pixels >= 1", limit)
        super().__init__(model, size, device)
        self.share, self.kind, self.limit = share, kind, limit

    def chroma(self, lightness: torch.Tensor, **options: float | None) -> torch.Tensor:
        """As `Colorizer.chroma`, from seeds."""
        size = lightness.shape[-2:]
        logits = self.model.network(self.at_working_size(lightness))  # (B, Q, h, w)
        colors, sure = self.model.target.decode(logits, **options), confidence(logits, self.kind)
        guide = shrunk(lightness, self.limit / max(size))
        spread = torch.stack([self._diffuse(*picture) for picture in zip(guide, colors, sure)])
        return F.interpolate(spread, size, mode="bilinear", align_corners=False)

    def _diffuse(self, guide: torch.Tensor, colors: torch.Tensor, sure: torch.Tensor) -> torch.Tensor:
        """Chroma (2, H, W) of a picture from its lightness (1, H, W), colours (2, h, w) and confidence (h, w)."""
        (height, width), (h, w) = guide.shape[-2:], sure.shape
        # Least confident first: where a long output has several cells in one pixel, the surest is written last.
        order = np.argsort(sure.detach().cpu().numpy(), axis=None, kind="stable")[-max(1, round(self.share * h * w)) :]
        i, j = order // w, order % w
        rows, columns = (2 * i + 1) * height // (2 * h), (2 * j + 1) * width // (2 * w)
        given = np.zeros((2, height, width), np.float32)
        seeds = np.zeros((height, width), bool)
        given[:, rows, columns] = colors.detach().cpu().numpy()[:, i, j]
        seeds[rows, columns] = True
        return diffuse(guide, torch.from_numpy(given).to(guide.device), torch.from_numpy(seeds))


def colorize_by_seeds(
    colorizer: Colorizer,
    image: str | os.PathLike | Image.Image | np.ndarray | torch.Tensor,
    *,
    share: float = 0.1,
    kind: str = "top",
    temperature: float | None = None,
) -> np.ndarray | torch.Tensor:
    """`image` coloured as by ``colorizer.colorize(image, temperature)``, but from seeds: see `SeedColorizer`."""
    seeded = SeedColorizer(colorizer.model, colorizer.size, colorizer.device, share=share, kind=kind)
    return seeded.colorize(image, temperature)
