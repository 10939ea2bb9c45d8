"""Score a colorizer on the test pictures of a bank, and the two baselines that every table needs."""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from colorstudy import prior
from colorstudy._checks import require
from colorstudy.bins import ColorBins
from colorstudy.color import merge, split
from colorstudy.data import ImageBank, to_float
from colorstudy.metrics import per_image

BASELINES = ("gray", "random")
"""Colorizers without training: no colour, and the colours of another picture (Zhang et al. 2016, Section 3.1)."""


class Colors(Protocol):
    """What can be scored: sRGB pictures (B, 3, H, W) in [0, 1] in, coloured ones of the same shape out."""

    def colorize(self, image: torch.Tensor) -> torch.Tensor: ...


class Gray:
    """Leaves every picture grey."""

    def colorize(self, image: torch.Tensor) -> torch.Tensor:
        lightness, chroma = split(image)
        return merge(lightness, torch.zeros_like(chroma))


def gray(image: np.ndarray) -> np.ndarray:
    """The lightness of a uint8 picture (H, W, 3) as a grey picture (H, W, 3)."""
    green = Gray().colorize(_as_batch(image[None]))[0, 1]  # the three channels are equal but for rounding
    return (green * 255).round().byte().numpy()[..., None].repeat(3, axis=2)


class RandomColors:
    """Gives every picture the chroma, pixel by pixel, of a training picture drawn for it.

    Parameters
    ----------
    images : uint8 array (N, S, S, 3)
        Training pictures, of the size of those to colour.
    seed : int
    """

    def __init__(self, images: np.ndarray, seed: int) -> None:
        self.images, self.generator = images, np.random.default_rng(seed)

    def colorize(self, image: torch.Tensor) -> torch.Tensor:
        drawn = self.images[self.generator.integers(len(self.images), size=len(image))]
        lightness, _ = split(image)
        return merge(lightness, split(_as_batch(drawn))[1])


def baseline(name: str, bank: ImageBank, seed: int) -> Gray | RandomColors:
    """The baseline of that name; a ``ValueError`` if there is none."""
    require(name in BASELINES, "name", f"one of {BASELINES}", repr(name))
    return Gray() if name == "gray" else RandomColors(bank.train.images, seed)


def rarity(bank: ImageBank, bins: ColorBins) -> torch.Tensor:
    """How much a pixel of each true bin counts in the rebalanced AuC: its inverse smoothed frequency in `bank`.

    Equation 4 of Zhang et al. 2016 with lambda = 0. Counted over the whole bank, so that every bin of a test pixel
    occurs and the weights don't depend on which pictures are scored.

    Returns
    -------
    float32 tensor (Q,)
    """
    p = prior.smooth(prior.count(bank.images, bins), bins)
    # Bins far from every colour underflow to 0; no pixel has them, so any finite weight will do.
    return prior.rebalancing_weights(p.clamp(min=1e-12), lam=0).float()


@lru_cache(maxsize=2)
def _yardstick(bank: ImageBank) -> tuple[ColorBins, torch.Tensor, torch.Tensor]:
    """The bins, their `rarity` in `bank` and which are `rare`, kept: a study scores many colorizers on one bank."""
    bins = ColorBins.in_gamut()
    return bins, rarity(bank, bins), rare(prior.count(bank.images, bins))


def rare(counts: torch.Tensor, share: float = 0.05) -> torch.Tensor:
    """Which bins are rare: the least frequent ones that together hold at most `share` of `counts` (Q,); bool (Q,)."""
    ascending, order = counts.sort(stable=True)
    found = torch.zeros(len(counts), dtype=torch.bool)
    found[order] = ascending.cumsum(0) <= share * counts.sum()
    return found


def evaluate(
    colorizer: Colors, bank: ImageBank, subset: str = "test", *, most: int | None = None, batch_size: int = 16
) -> pd.DataFrame:
    """Scores of every picture of one subset of `bank`, each coloured from its own lightness.

    Parameters
    ----------
    colorizer : Colorizer, Gray or RandomColors
    bank : ImageBank
    subset : {"test", "train"}
    most : int, optional
        No more pictures than this, evenly spaced over the subset.
    batch_size : int

    Returns
    -------
    DataFrame
        Indexed by ``image``, with the columns of `metrics.per_image`, and ``rare`` and ``rare_true``: the share of
        pixels whose colour, as predicted and in truth, is among the `rare` ones of the bank. `metrics.aggregate` makes
        set-level scores of it.
    """
    require(subset in ("test", "train"), "subset", "'test' or 'train'", repr(subset))
    require(most is None or most >= 1, "most", "a number of pictures >= 1", most)
    pictures = bank.test if subset == "test" else bank.train
    bins, weights, is_rare = _yardstick(bank)
    chosen = np.arange(len(pictures))
    if most is not None and most < len(pictures):
        chosen = np.linspace(0, len(pictures) - 1, most).round().astype(int)
    parts = []
    for start in range(0, len(chosen), batch_size):
        true = _as_batch(pictures.images[chosen[start : start + batch_size]])
        colored = colorizer.colorize(true)
        labels, given = (bins.nearest(split(rgb)[1]) for rgb in (true, colored))
        part = per_image(colored, true, weights[labels])
        part |= {"rare": is_rare[given].float().mean((1, 2)), "rare_true": is_rare[labels].float().mean((1, 2))}
        parts.append(pd.DataFrame(part))
    names = pd.Index([pictures.names[i] for i in chosen], name="image")
    return pd.concat(parts, ignore_index=True).set_axis(names)


def _as_batch(images: np.ndarray) -> torch.Tensor:
    """uint8 (N, S, S, 3) as float32 (N, 3, S, S) in [0, 1]."""
    return to_float(torch.from_numpy(np.array(images)).permute(0, 3, 1, 2), images.shape[1])
