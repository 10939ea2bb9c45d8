"""How far to trust set-level scores: bootstrap intervals and paired comparisons over images and training runs.

A score is a ratio of two column sums of a per-image table (`scores.Scores`). So every resample of images is a vector
of counts, and all resamples of all scores are one matrix product. Nothing here knows what the columns measure.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.random import Generator

from colorstudy._checks import require, require_columns
from colorstudy.study.scores import Scores, ratio, score_parts


def bootstrap(
    table: pd.DataFrame, scores: Scores, *, samples: int = 2000, level: float = 0.95, seed: int | Generator = 0
) -> pd.DataFrame:
    """Percentile intervals of set-level scores over images and training runs.

    Images are crossed with seeds, as every run colours the same test set. So a resample draws images, the same for
    every seed, and seeds, both with replacement: the interval speaks of other images *and* other runs. It errs on the
    wide side where images and seeds interact (Owen, "The pigeonhole bootstrap", Annals of Applied Statistics, 2007).
    With few seeds the part of the runs is poorly known, and too small on average: n seeds show (n - 1) / n of their
    variance, half of it with 2. With 1 seed, or a deterministic method, the interval speaks of other images only.

    `table` has one row for every pair of a ``seed`` and an ``image``, in any order. A missing or doubled pair is a
    ``ValueError``, and so is a value that is nan, or infinite in a ratio. A row of the result is a score: the ``mean``
    over seeds, the interval ``low`` to ``high`` (nan if a resample has nothing to divide by), ``images`` and ``seeds``.
    """
    crossed = _Crossed(table, scores, "table")
    rng = np.random.default_rng(seed)
    resampled = crossed.resampled(_draw(rng, samples, len(crossed.images)), _draw(rng, samples, len(crossed.seeds)))
    found = _intervals(crossed.each.mean(0), resampled, level, scores)
    return found.assign(images=len(crossed.images), seeds=len(crossed.seeds))


def paired(
    table_a: pd.DataFrame,
    table_b: pd.DataFrame,
    scores: Scores,
    *,
    null: float = 0.0,
    samples: int = 2000,
    level: float = 0.95,
    seed: int | Generator = 0,
) -> pd.DataFrame:
    """Percentile intervals of the difference a - b of set-level scores of two methods on the same images.

    As `bootstrap`, also in what it says about few seeds; a ``ValueError`` also if the images differ. Both methods see
    the same resamples of images, and of seeds if theirs are the same. Otherwise the seeds of each are drawn on their
    own, and ``seeds`` is text such as "3 / 1". ``sign`` is twice the share of resamples on the other side of `null` or
    on it, a two-sided bootstrap p-value, at least 1 / `samples` and at most 1.
    """
    a, b = _Crossed(table_a, scores, "table_a"), _Crossed(table_b, scores, "table_b")
    alone = a.images.symmetric_difference(b.images)
    require(len(alone) == 0, "table_b", "the images of table_a", f"{len(alone)} only in one, such as {[*alone[:3]]}")
    same_seeds = a.seeds.equals(b.seeds)
    rng = np.random.default_rng(seed)
    images, seeds_a = _draw(rng, samples, len(a.images)), _draw(rng, samples, len(a.seeds))
    seeds_b = seeds_a if same_seeds else _draw(rng, samples, len(b.seeds))
    resampled = a.resampled(images, seeds_a) - b.resampled(images, seeds_b)
    result = _intervals(a.each.mean(0) - b.each.mean(0), resampled, level, scores)
    share = np.minimum((resampled <= null).mean(0), (resampled >= null).mean(0))
    # A nan is on neither side, so counting would call it significant.
    sign = np.where(result["low"].isna(), np.nan, np.clip(2 * share, 1 / samples, 1))
    seeds = len(a.seeds) if same_seeds else f"{len(a.seeds)} / {len(b.seeds)}"
    return result.assign(sign=sign, images=len(a.images), seeds=seeds)


def holm(p: npt.ArrayLike) -> np.ndarray:
    """p-values of several tests, corrected so that all of them together err as seldom as one (Holm 1979).

    `p` is a list of numbers in [0, 1], or a ``ValueError``; nan is a test that could not be made, and stays nan. The
    k-th smallest of n becomes n - k + 1 times as large, at least its predecessor and at most 1. The order is kept.
    """
    p = np.asarray(p, float)
    made = ~np.isnan(p)
    valid = p.ndim == 1 and bool(((p[made] >= 0) & (p[made] <= 1)).all())
    require(valid, "p", "a list of numbers in [0, 1]", p.tolist())
    order = np.argsort(p)[: made.sum()]  # nan comes last
    corrected = np.full_like(p, np.nan)
    corrected[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return corrected


class _Crossed:
    """The numerators and denominators (2, seeds, images, scores) of a table, checked to be complete without doubles."""

    def __init__(self, table: pd.DataFrame, scores: Scores, name: str):
        keys = ["seed", "image"]
        require_columns(table, keys, name)
        require(not table[keys].isna().any(axis=None), name, "a seed and an image in every row", "an empty cell")
        (seed, self.seeds), (image, self.images) = (pd.factorize(table[key], sort=True) for key in keys)
        shape = (len(self.seeds), len(self.images), len(scores))
        place = seed * shape[1] + image  # of each row, among all pairs
        rows = np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape[:2])
        for i, j in np.argwhere(rows != 1)[:1]:
            expected, got = ("one row", "several") if rows[i, j] else ("a row", "none")
            got = f"{got} of seed {self.seeds[i]}, image {self.images[j]}"
            require(False, name, f"{expected} for each seed and image", got)
        in_order = table.set_index(keys, drop=False).iloc[np.argsort(place)]
        self.parts = np.reshape(score_parts(in_order, scores, name), (2, *shape))
        self.each = ratio(*self.parts.sum(2))  # the scores of each seed (seeds, scores)

    def resampled(self, images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Scores (samples, scores) under counts of images (samples, images) and of seeds (samples, seeds)."""
        # What is summed is the distance from the score: small, so that float32 is enough for the product.
        parts = np.stack([self.parts[0] - self.each[:, None] * self.parts[1], self.parts[1]]).astype(images.dtype)
        sums = np.tensordot(images, parts, axes=(1, 2)).astype(float)  # (samples, 2, seeds, scores)
        each = self.each + ratio(sums[:, 0], sums[:, 1])
        return np.einsum("ns,nsk->nk", seeds / seeds.sum(1, keepdims=True, dtype=float), each)


def _draw(rng: Generator, samples: int, n: int) -> np.ndarray:
    """How often each of `n` things comes up in `n` draws with replacement: (samples, n), in float32 for the product."""
    require(samples >= 1, "samples", "at least 1", samples)
    counts = np.empty((samples, n), np.float32)
    for some in np.array_split(counts, samples * n // 2**17 + 1):  # so many as fit into a processor's cache
        drawn = rng.integers(n, size=some.shape, dtype=np.min_scalar_type(n)) + n * np.arange(len(some))[:, None]
        some[:] = np.bincount(drawn.ravel(), minlength=some.size).reshape(some.shape)
    return counts


def _intervals(mean: np.ndarray, resampled: np.ndarray, level: float, scores: Scores) -> pd.DataFrame:
    """A row a score: its mean, and the central `level` of its resamples (samples, scores)."""
    require(0 < level < 1, "level", "a number between 0 and 1", level)
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return pd.DataFrame({"mean": mean, "low": low, "high": high}, index=list(scores))
