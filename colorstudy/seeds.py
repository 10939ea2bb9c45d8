"""Colour seeds: keep the confident pixels of a predicted distribution and diffuse their colours over the lightness.

Billaut, de Rochemonteix and Thibault, "ColorUNet: a convolutional classification approach to colorization", 2018,
propose it as an extension and do not build it: confidence by the top score or by the ratio of the first two. How many
seeds, where they lie and how they spread (`diffusion`) is our choice.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from PIL import Image

from colorstudy._checks import require, require_maps
from colorstudy.color import split
from colorstudy.colorize import Colorizer, Smooth
from colorstudy.data import ImageBank
from colorstudy.diffusion import diffuse
from colorstudy.filters import shrunk
from colorstudy.methods import Model

__all__ = ["KINDS", "SeedColorizer", "by_confidence", "colorize_by_seeds", "confidence", "confidence_map", "diffuse"]

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


@torch.inference_mode()
def confidence_map(colorizer: Colorizer, image: np.ndarray, kind: str = "top") -> np.ndarray:
    """How sure a classifier is of each part of a uint8 picture (H, W, 3): (h, w) in [0, 1], the size of its output."""
    lightness, _ = split(_as_tensor(image, colorizer), colorizer.model.method.space)
    return confidence(colorizer.model.network(colorizer.at_working_size(lightness)), kind)[0].cpu().numpy()


@torch.inference_mode()
def by_confidence(colorizer: Colorizer, bank: ImageBank, kind: str = "top", groups: int = 10) -> pd.DataFrame:
    """Error and chroma where a network is unsure and where it is sure.

    The pixels of the network's output over all test pictures are ordered by confidence and cut into equal groups.

    Parameters
    ----------
    colorizer : Colorizer
        Of a classification in Lab.
    bank : ImageBank
        Its test pictures are coloured.
    kind : {"top", "ratio"}
        See `confidence`.
    groups : int

    Returns
    -------
    DataFrame
        A row for every picture and group: ``image``, ``group`` (1 the least confident), ``pixels``, and the sums over
        these of ``error`` (distance of the decoded from the true ab), ``chroma`` (of the truth) and ``confidence``. A
        picture may have no pixel in a group.

    Raises
    ------
    ValueError
        If the model is a regression or not in Lab, `kind` is unknown, or `groups` is not positive.
    """
    model = colorizer.model
    good = model.method.target == "classification" and model.method.space == "lab"
    require(good, "colorizer", "a classification in lab", f"a {model.method.target} in {model.method.space}")
    require(groups >= 1, "groups", "a number >= 1", groups)
    parts = []
    for name, image in zip(bank.test.names, bank.test.images, strict=True):
        lightness, truth = split(_as_tensor(image, colorizer))
        logits = model.network(colorizer.at_working_size(lightness))  # (1, Q, h, w)
        truth = F.adaptive_avg_pool2d(truth, logits.shape[-2:])
        error = (model.target.decode(logits) - truth).norm(dim=1)  # (1, h, w)
        columns = {"confidence": confidence(logits, kind), "error": error, "chroma": truth.norm(dim=1)}
        parts.append(pd.DataFrame({key: value.flatten().cpu().numpy() for key, value in columns.items()}))
        parts[-1].insert(0, "image", name)
    pixels = pd.concat(parts, ignore_index=True)
    rank = pixels["confidence"].rank(method="first") - 1  # ties keep their order
    pixels["group"] = (rank * groups // len(pixels)).astype(int) + 1
    sums = pixels.assign(pixels=1).groupby(["image", "group"]).sum()
    whole = pd.MultiIndex.from_product([bank.test.names, range(1, groups + 1)], names=["image", "group"])
    return sums.reindex(whole, fill_value=0).reset_index()[
        ["image", "group", "pixels", "error", "chroma", "confidence"]
    ]


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

    def chroma(self, lightness: torch.Tensor, smoother: Smooth | None = None, **options: float | None) -> torch.Tensor:
        """As `Colorizer.chroma`, from seeds; a ``ValueError`` for frames of a clip, between which seeds would jump."""
        require(smoother is None, "smoother", "None, as seeds are not averaged over frames", smoother)
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


def _as_tensor(image: np.ndarray, colorizer: Colorizer) -> torch.Tensor:
    """A uint8 picture (H, W, 3) as (1, 3, H, W) in [0, 1], on the colorizer's device."""
    return (torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255).to(colorizer.device)
