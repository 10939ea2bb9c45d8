"""Score a colorizer on the test pictures of a bank, and the two baselines that every table needs."""

from collections.abc import Iterator, Sequence
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


class _Shown:
    """The pictures of a bank that are scored, and the weights of their pixels."""

    def __init__(self, bank: ImageBank, subset: str, most: int | None, floor: int | None, batch_size: int) -> None:
        require_choice(subset, SPLITS, "subset")
        require(most is None or most >= 1, "most", "a number of pictures >= 1", most)
        require(floor is None or floor >= 1, "floor", "a number of pictures >= 1", floor)
        part: ImageBank = getattr(bank, subset)
        chosen = np.linspace(0, len(part) - 1, min(most or len(part), len(part))).round().astype(int)
        self.names, self.images, self.batch_size = [part.names[i] for i in chosen], part.images[chosen], batch_size
        bins, weights = _reference(bank)
        self.bins = torch.cat([bins.nearest(split(batch)[1]).short() for batch in prior.batches(self.images)])
        macro = per_bin(self.bins, floor or min(50, -(-len(chosen) // 4)), len(bins))
        self.weights = weights | {"macro": macro}

    def __iter__(self) -> Iterator[tuple[torch.Tensor, dict[str, torch.Tensor]]]:
        """Pictures (B, 3, H, W) in [0, 1] and the weights (B, H, W) of their pixels by name."""
        for start in range(0, len(self.names), self.batch_size):
            some = slice(start, start + self.batch_size)
            labels = self.bins[some].long()
            yield to_tensor(self.images[some]), {name: weight[labels] for name, weight in self.weights.items()}

    def table(self, parts: list[dict[str, torch.Tensor]]) -> pd.DataFrame:
        """Scores of every batch as one table, a row a picture."""
        table = pd.DataFrame({name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]})
        return table.set_axis(pd.Index(self.names, name="image"))


_shown = lru_cache(maxsize=1)(_Shown)  # kept: many colorizers meet the same pictures


def evaluate(
    colorizer: ColorizerLike,
    bank: ImageBank,
    subset: str = "test",
    *,
    most: int | None = None,
    floor: int | None = None,
    batch_size: int = 16,
) -> pd.DataFrame:
    """Scores of every picture of the `subset` "test", "val" or "train" of `bank`, coloured from its own lightness.

    If `most` is given, of no more pictures than that, evenly spaced. The table is indexed by ``image``, with the
    columns of `metrics.per_image`. Weights are "rebalanced", the `inverse_frequency` in the bank; "half", those of a
    rebalanced loss (lam = 0.5); and "macro", `per_bin` of the pictures scored, with the `floor` of 50 pictures, or a
    quarter of fewer than 200, if none is given. `study.scores.aggregate` makes set-level scores of it.
    """
    shown = _shown(bank, subset, most, floor, batch_size)
    return shown.table([per_image(colorizer.colorize(true).to(true.dtype), true, weights) for true, weights in shown])


def decodings(
    colorizer: Colorizer,
    bank: ImageBank,
    subset: str = "val",
    *,
    strengths: Sequence[float] = (),
    temperatures: Sequence[float] = (),
    most: int | None = None,
    batch_size: int = 16,
) -> pd.DataFrame:
    """`evaluate` at each strength of rebalancing and temperature, in the index as ``s``, ``T``; if none, the method's.

    Every picture goes through the network once.
    """
    shown, method = _shown(bank, subset, most, None, batch_size), colorizer.model.method
    tried = [(s, t) for s in strengths or (method.rebalance,) for t in temperatures or (method.temperature,)]
    ways = {(s, t): colorizer.decoding(rebalance=s, temperature=t) for s, t in tried}
    parts: dict[Any, list[dict[str, torch.Tensor]]] = {key: [] for key in ways}
    for true, weights in shown:
        lightness = lightness_of(true.to(colorizer.device), colorizer.space)
        prediction = colorizer.predict(lightness)
        for key, way in ways.items():
            colored = way.render(lightness, prediction).to(true)
            parts[key].append(per_image(colored, true, weights))
    return pd.concat({key: shown.table(part) for key, part in parts.items()}, names=["s", "T"])
