"""Score a colorizer on the test pictures of a bank, and the two baselines that every table needs."""

from functools import lru_cache
from typing import Protocol

import numpy as np
import pandas as pd
import torch

from colorstudy import prior
from colorstudy._checks import require, require_choice
from colorstudy.bins import ColorBins
from colorstudy.color import merge, split, srgb_to_lab, to_tensor, to_uint8
from colorstudy.data import ImageBank
from colorstudy.data.bank import SPLITS
from colorstudy.metrics import per_image

BASELINES = ("gray", "random")
"""Colorizers without training: no colour, and the colours of another picture (Zhang et al. 2016, Section 3.1)."""


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


def baseline(name: str, bank: ImageBank, seed: int) -> Gray | RandomColors:
    require_choice(name, BASELINES, "name")
    return Gray() if name == "gray" else RandomColors(bank.train.images, seed)


def inverse_frequency(counts: torch.Tensor, bins: ColorBins) -> torch.Tensor:
    """How much a pixel of each true bin counts in the rebalanced AuC: float32 (Q,), of `counts` (Q,), smoothed."""
    p = prior.smooth(counts, bins)
    # Bins far from every colour underflow to 0; no pixel has them, so any finite weight will do.
    return prior.rebalancing_weights(p.clamp(min=1e-12), lam=0).float()


@lru_cache(maxsize=2)
def _reference(bank: ImageBank) -> tuple[ColorBins, torch.Tensor, torch.Tensor]:
    """The bins, their `inverse_frequency` and which are `rare`, kept: many colorizers meet one bank.

    Counted over all of it, so that every bin of a test pixel occurs and it doesn't matter which pictures are scored.
    """
    bins = ColorBins.in_gamut()
    counts = prior.count(bank.images, bins)
    return bins, inverse_frequency(counts, bins), rare(counts)


def rare(counts: torch.Tensor, share: float = 0.05) -> torch.Tensor:
    """Which bins are rare: the least frequent ones that together hold at most `share` of `counts` (Q,); bool (Q,)."""
    ascending, order = counts.sort(stable=True)
    found = torch.zeros(len(counts), dtype=torch.bool)
    found[order] = ascending.cumsum(0) <= share * counts.sum()
    return found


def evaluate(
    colorizer: ColorizerLike, bank: ImageBank, subset: str = "test", *, most: int | None = None, batch_size: int = 16
) -> pd.DataFrame:
    """Scores of every picture of the `subset` "test", "val" or "train" of `bank`, coloured from its own lightness.

    If `most` is given, of no more pictures than that, evenly spaced. The table is indexed by ``image``, with the
    columns of `metrics.per_image`, and ``rare`` and ``rare_true``: the share of pixels whose colour, predicted or true,
    is among the `rare` ones of the bank. `study.scores.aggregate` makes set-level scores of it.
    """
    require_choice(subset, SPLITS, "subset")
    require(most is None or most >= 1, "most", "a number of pictures >= 1", most)
    pictures: ImageBank = getattr(bank, subset)
    bins, weights, is_rare = _reference(bank)
    chosen = np.linspace(0, len(pictures) - 1, min(most or len(pictures), len(pictures))).round().astype(int)
    parts: list[dict[str, torch.Tensor]] = []
    for start in range(0, len(chosen), batch_size):
        true = to_tensor(pictures.images[chosen[start : start + batch_size]])
        colored = colorizer.colorize(true).to(true.dtype)
        labs = srgb_to_lab(colored), srgb_to_lab(true)
        given, labels = (bins.nearest(lab[:, 1:]) for lab in labs)
        shares = {"rare": is_rare[given].float().mean((1, 2)), "rare_true": is_rare[labels].float().mean((1, 2))}
        parts.append(per_image(colored, true, weights[labels], labs) | shares)
    table = pd.DataFrame({name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]})
    return table.set_axis(pd.Index([pictures.names[i] for i in chosen], name="image"))
