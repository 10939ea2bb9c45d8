"""Score a colorizer on the test pictures of a bank, and the two baselines that every table needs."""

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import pandas as pd
import torch

from colorstudy import prior
from colorstudy._checks import require, require_choice
from colorstudy.bins import ColorBins
from colorstudy.color import lightness_of, merge, split, to_tensor, to_uint8
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.data.bank import SPLITS
from colorstudy.metrics import per_image

BASELINES = ("gray", "random")
"""Colorizers without training: no colour, and the colours of another picture (Zhang et al. 2016, Section 3.1)."""

BATCH = 16  # pictures that are coloured at once


class ColorizerLike(Protocol):
    """What can be scored: sRGB pictures (B, 3, H, W) in [0, 1] in, coloured ones of the same shape out."""

    def colorize(self, image: torch.Tensor, /) -> torch.Tensor: ...


class Gray:
    """Leaves every picture grey."""

    def colorize(self, image: torch.Tensor) -> torch.Tensor:
        lightness, chroma = split(image)
        return merge(lightness, torch.zeros_like(chroma))


def gray(image: np.ndarray) -> np.ndarray:
    """The lightness of a uint8 picture (H, W, 3) as a grey picture (H, W, 3)."""
    green = Gray().colorize(to_tensor(image[None]))[:, 1:2]  # the three channels are equal but for rounding
    return to_uint8(green.expand(-1, 3, -1, -1))[0]


class RandomColors:
    """Gives every picture the chroma, pixel by pixel, of one of the training `images` (N, S, S, 3), drawn for it."""

    def __init__(self, images: np.ndarray, seed: int) -> None:
        self.images, self.generator = images, np.random.default_rng(seed)

    def colorize(self, image: torch.Tensor) -> torch.Tensor:
        drawn = self.images[self.generator.integers(len(self.images), size=len(image))]
        return merge(split(image)[0], split(to_tensor(drawn))[1])


def inverse_frequency(counts: torch.Tensor, bins: ColorBins) -> torch.Tensor:
    """How much a pixel of each true bin counts in the rebalanced AuC: float32 (Q,), of `counts` (Q,), smoothed."""
    p = prior.smooth(counts, bins)
    # Bins far from every colour underflow to 0; no pixel has them, so any finite weight will do.
    return prior.rebalancing_weights(p.clamp(min=1e-12), lam=0).float()


def per_bin(labels: torch.Tensor, floor: int, count: int) -> torch.Tensor:
    """How much a pixel of each true bin counts in the macro AuC: float32 (`count`,), of true bins `labels` (N, H, W).

    By 1 / the pixels of its bin: every bin seen in at least `floor` pictures counts the same, others not
    at all. Scaled to a mean of 1 over the pixels; all 0 if no bin is seen that often.
    """
    pixels = torch.stack([torch.bincount(picture.flatten(), minlength=count) for picture in labels])  # (N, Q)
    common = (pixels > 0).sum(0) >= floor
    return torch.where(common, pixels.sum() / (common.sum() * pixels.sum(0)), 0).float()


@lru_cache(maxsize=4)  # the bank of a study and those out of its domain, between which `grid.evaluate_run` goes
def _reference(bank: ImageBank) -> tuple[ColorBins, dict[str, torch.Tensor]]:
    """The bins, and the weights of pixels of each by name, kept: many colorizers meet one bank.

    Counted over all of it, so that every bin of a test pixel occurs and it doesn't matter which pictures are scored.
    """
    bins = ColorBins.in_gamut()
    counts = prior.count(bank.images, bins)
    half = prior.rebalancing_weights(prior.smooth(counts, bins)).float()
    return bins, {"rebalanced": inverse_frequency(counts, bins), "half": half}


@lru_cache(maxsize=1)  # kept: many colorizers meet the same pictures
def _shown(
    bank: ImageBank, subset: str, most: int | None, floor: int | None
) -> tuple[pd.Index, np.ndarray, torch.Tensor, dict[str, torch.Tensor]]:
    """Names and pictures (N, S, S, 3) that are scored, their true bins (N, S, S), and the weights (Q,) of these."""
    require_choice(subset, SPLITS, "subset")
    require(most is None or most >= 1, "most", "a number of pictures >= 1", most)
    require(floor is None or floor >= 1, "floor", "a number of pictures >= 1", floor)
    part: ImageBank = getattr(bank, subset)
    chosen = np.linspace(0, len(part) - 1, min(most or len(part), len(part))).round().astype(int)
    names, images = pd.Index([part.names[i] for i in chosen], name="image"), part.images[chosen]
    bins, weights = _reference(bank)
    labels = torch.cat([bins.nearest(split(batch)[1]).short() for batch in prior.batches(images)])
    macro = per_bin(labels, floor or min(50, math.ceil(len(images) / 4)), len(bins))
    return names, images, labels, weights | {"macro": macro}


def _scored(
    colored: Callable[[torch.Tensor], dict[Any, torch.Tensor]],
    bank: ImageBank,
    subset: str,
    most: int | None,
    floor: int | None = None,
) -> dict[Any, pd.DataFrame]:
    """The scores of all that `colored` makes of pictures (B, 3, H, W) in [0, 1], by its keys; a row a picture."""
    names, images, labels, weights = _shown(bank, subset, most, floor)
    parts = defaultdict(list)
    for true, bins in zip(prior.batches(images, BATCH), labels.split(BATCH)):
        of_pixels = {name: weight[bins.long()] for name, weight in weights.items()}  # (B, H, W) each
        for key, made in colored(true).items():
            scores = per_image(made.to(true), true, of_pixels)
            parts[key].append(pd.DataFrame({name: values.numpy() for name, values in scores.items()}))
    return {key: pd.concat(part).set_axis(names) for key, part in parts.items()}


def evaluate(
    colorizer: ColorizerLike,
    bank: ImageBank,
    subset: str = "test",
    *,
    most: int | None = None,
    floor: int | None = None,
) -> pd.DataFrame:
    """Scores of every picture of the `subset` "test", "val" or "train" of `bank`, coloured from its own lightness.

    If `most` is given, of no more pictures than that, evenly spaced. The table is indexed by ``image``, with the
    columns of `metrics.per_image`. Weights are "rebalanced", the `inverse_frequency` in the bank; "half", those of a
    rebalanced loss (lam = 0.5); and "macro", `per_bin` of the pictures scored, with the `floor` of 50 pictures, or a
    quarter of fewer than 200, if none is given. `study.scores.aggregate` makes set-level scores of it.
    """
    return _scored(lambda true: {"images": colorizer.colorize(true)}, bank, subset, most, floor)["images"]


def decodings(
    colorizer: Colorizer,
    bank: ImageBank,
    subset: str = "val",
    *,
    strengths: Sequence[float] = (),
    temperatures: Sequence[float] = (),
    most: int | None = None,
) -> pd.DataFrame:
    """`evaluate` at each strength of rebalancing and temperature, in the index as ``s``, ``T``; if none, the method's.

    Every picture goes through the network once.
    """
    method = colorizer.model.method
    tried = [(s, t) for s in strengths or (method.rebalance,) for t in temperatures or (method.temperature,)]
    ways = {(s, t): colorizer.decoding(rebalance=s, temperature=t) for s, t in tried}

    def colored(true: torch.Tensor) -> dict[Any, torch.Tensor]:
        lightness = lightness_of(true.to(colorizer.device), colorizer.space)
        prediction = colorizer.predict(lightness)
        return {key: way.render(lightness, prediction) for key, way in ways.items()}

    return pd.concat(_scored(colored, bank, subset, most), names=["s", "T"])
