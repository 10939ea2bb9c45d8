"""Set-level scores of per-image tables, and how far to trust them: bootstrap intervals and paired comparisons.

A score is a ratio of two column sums, declared as (numerator column, denominator column), or as (column, None) for a
plain mean. So every resample of images is a vector of counts, and all resamples of all scores are one matrix product.
Nothing here knows what the columns measure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from colorstudy._checks import require, require_columns

Scores = Mapping[str, tuple[str, str | None]]
"""Set-level scores by name: (numerator column, denominator column); None: the mean over the rows."""


def pool(table: pd.DataFrame, scores: Scores) -> pd.Series:
    """Set-level scores of a per-image table; a resample of its rows will do.

    Parameters
    ----------
    table : DataFrame
        One row an image.
    scores : mapping
        ``{name: (numerator column, denominator column or None)}``.

    Returns
    -------
    Series
        By name: the sum of the numerators over the sum of the denominators. A score without a denominator is the mean
        of its column over the rows in which that is finite. nan where there is nothing to divide by.

    Raises
    ------
    ValueError
        If there are no rows, a column is missing, or a value is nan, or infinite in a ratio.
    """
    numerators, denominators = _parts(table, scores, "table")
    return pd.Series(_ratio(numerators.sum(0), denominators.sum(0)), index=list(scores))


def bootstrap(
    table: pd.DataFrame,
    scores: Scores,
    *,
    samples: int = 2000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Percentile intervals of set-level scores over images and training runs.

    Images are crossed with seeds, as every run colours the same test set. So a resample draws images, the same for
    every seed, and seeds, both with replacement: the interval speaks of other images *and* other runs.

    With few seeds the part of the runs is poorly known, and too small on average: n seeds show (n - 1) / n of their
    variance, half of it with 2. With 1 seed, or a deterministic method, the interval speaks of other images only.

    Parameters
    ----------
    table : DataFrame
        Columns ``seed``, ``image`` and those of `scores`: one row for every pair of a seed and an image, in any order.
    scores : mapping
        ``{name: (numerator column, denominator column or None)}``, as for `pool`.
    samples : int
        Resamples.
    level : float
        Coverage, in (0, 1).
    seed : int or numpy Generator
        Of the resampling.

    Returns
    -------
    DataFrame
        One row a score. ``mean``: the mean over seeds of the score of each; ``low`` and ``high``: the interval, nan if
        some resample has nothing to divide by; ``images`` and ``seeds``: how many there were.

    Raises
    ------
    ValueError
        If a column is missing, there are no rows, a pair of a seed and an image is missing or doubled, a value is nan,
        or infinite in a ratio, or `samples` or `level` is out of range.

    References
    ----------
    Owen, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2), 2007: it errs on the wide side where images and
    seeds interact.
    """
    _check_options(samples, level)
    crossed = _Crossed(table, scores, "table")
    rng = np.random.default_rng(seed)
    resampled = crossed.resampled(_draw(rng, samples, len(crossed.images)), _draw(rng, samples, len(crossed.seeds)))
    low, high = _interval(resampled, level)
    columns = {"mean": crossed.mean(), "low": low, "high": high}
    return pd.DataFrame(columns, index=list(scores)).assign(images=len(crossed.images), seeds=len(crossed.seeds))


def paired(
    table_a: pd.DataFrame,
    table_b: pd.DataFrame,
    scores: Scores,
    *,
    null: float = 0.0,
    samples: int = 2000,
    level: float = 0.95,
    seed: int | np.random.Generator = 0,
) -> pd.DataFrame:
    """Percentile intervals of the difference a - b of set-level scores of two methods on the same images.

    Both methods see the same resamples of images, and of seeds if their sets of seeds are the same; otherwise the seeds
    of each are drawn on their own. What is said in `bootstrap` about few seeds holds here: with 2, or with 1 against 3,
    the part of the runs is poorly known and the interval too narrow.

    Parameters
    ----------
    table_a, table_b : DataFrame
        As `table` in `bootstrap`, with the same set of images.
    null : float
        The difference that ``sign`` tests against.
    scores, samples, level, seed
        As in `bootstrap`.

    Returns
    -------
    DataFrame
        One row a score. ``mean``: the difference; ``low`` and ``high``: its interval; ``sign``: twice the share of
        resamples on the other side of `null` or on it, a two-sided bootstrap p-value, at least 1 / `samples` and at
        most 1; ``images`` and ``seeds``: how many there were, the latter as "3 / 1" where the methods have other seeds.

    Raises
    ------
    ValueError
        As in `bootstrap`, and if the images differ.
    """
    _check_options(samples, level)
    a, b = _Crossed(table_a, scores, "table_a"), _Crossed(table_b, scores, "table_b")
    alone = a.images.symmetric_difference(b.images)
    require(len(alone) == 0, "table_b", "the images of table_a", f"{len(alone)} only in one, such as {[*alone[:3]]}")
    rng = np.random.default_rng(seed)
    images = _draw(rng, samples, len(a.images))
    seeds_a = _draw(rng, samples, len(a.seeds))
    seeds_b = seeds_a if a.seeds.equals(b.seeds) else _draw(rng, samples, len(b.seeds))
    resampled = a.resampled(images, seeds_a) - b.resampled(images, seeds_b)
    low, high = _interval(resampled, level)
    share = np.minimum((resampled <= null).mean(0), (resampled >= null).mean(0))
    # A nan is on neither side, so counting would call it significant.
    sign = np.where(np.isnan(low), np.nan, np.clip(2 * share, 1 / samples, 1))
    columns = {"mean": a.mean() - b.mean(), "low": low, "high": high, "sign": sign}
    seeds = len(a.seeds) if a.seeds.equals(b.seeds) else f"{len(a.seeds)} / {len(b.seeds)}"
    return pd.DataFrame(columns, index=list(scores)).assign(images=len(a.images), seeds=seeds)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values of several tests, corrected so that all of them together err as seldom as one (Holm 1979).

    Parameters
    ----------
    p : sequence of float
        In [0, 1]; nan is a test that could not be made, and stays nan.

    Returns
    -------
    array
        In the same order: the k-th smallest of n times n - k + 1, at least its predecessor, at most 1.

    Raises
    ------
    ValueError
        If a value is a number outside of [0, 1].
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
    """The numerators and denominators of a table of seeds x images, checked to be complete and free of doubles."""

    def __init__(self, table: pd.DataFrame, scores: Scores, name: str):
        keys = ["seed", "image"]
        _check_columns(table, keys, name)
        require(not table[keys].isna().any(axis=None), name, "a seed and an image in every row", "an empty cell")
        rows = table.set_index(keys, drop=False).sort_index()
        doubled = rows.index[rows.index.duplicated()]
        require(len(doubled) == 0, name, "one row for each seed and image", f"several of {_label(doubled)}")
        self.seeds, self.images = (rows.index.unique(key) for key in keys)
        self.images = self.images.sort_values()
        absent = pd.MultiIndex.from_product([self.seeds, self.images]).difference(rows.index)
        require(len(absent) == 0, name, "a row for each seed and image", f"none of {_label(absent)}")
        shape = (len(self.seeds), len(self.images), len(scores))
        self.numerators, self.denominators = (part.reshape(shape) for part in _parts(rows, scores, name))

    def mean(self) -> np.ndarray:
        """Mean over seeds of the scores (scores,)."""
        return _ratio(self.numerators.sum(1), self.denominators.sum(1)).mean(0)

    def resampled(self, images: np.ndarray, seeds: np.ndarray) -> np.ndarray:
        """Scores (samples, scores) under counts of images (samples, images) and of seeds (samples, seeds)."""
        sums = (np.tensordot(images, part, axes=(1, 1)) for part in (self.numerators, self.denominators))
        each = _ratio(*sums)  # (samples, seeds, scores)
        return np.einsum("ns,nsk->nk", seeds / seeds.sum(1, keepdims=True), each)


def _draw(rng: np.random.Generator, samples: int, n: int) -> np.ndarray:
    """How often each of `n` things comes up in `n` draws with replacement: (samples, n), float for the product."""
    return rng.multinomial(n, np.full(n, 1 / n), size=samples).astype(float)


def _interval(resampled: np.ndarray, level: float) -> np.ndarray:
    """The central `level` of resamples (samples, scores): low and high (2, scores)."""
    return np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)


def _parts(table: pd.DataFrame, scores: Scores, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators of `scores` in every row of `table`: each (rows, scores)."""
    _check_columns(table, [column for pair in scores.values() for column in pair if column is not None], name)
    numerators, denominators = np.ones((2, len(table), len(scores)))
    for k, (above, below) in enumerate(scores.values()):
        numerators[:, k] = _values(table, above, name, infinite=below is None)
        if below is not None:
            denominators[:, k] = _values(table, below, name)
    infinite = np.isinf(numerators)
    return np.where(infinite, 0, numerators), np.where(infinite, 0, denominators)


def _values(table: pd.DataFrame, column: str, name: str, infinite: bool = False) -> np.ndarray:
    """The numbers of a column (rows,), checked to be finite, or only not to be nan."""
    values = table[column].to_numpy(float)
    wrong = np.flatnonzero(np.isnan(values) if infinite else ~np.isfinite(values))
    if len(wrong):
        got = f"{values[wrong[0]]} at {_label(table.index[wrong])}"
        require(False, f"{name}[{column!r}]", "a number in every row", got)
    return values


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """`numerator` / `denominator`, nan where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)


def _label(rows: pd.Index) -> str:
    """The first of `rows`, in words."""
    if len(rows) == 0:
        return ""
    return "seed {}, image {}".format(*rows[0]) if isinstance(rows, pd.MultiIndex) else f"row {rows[0]}"


def _check_columns(table: pd.DataFrame, columns: list[str], name: str) -> None:
    require_columns(table, columns, name)
    require(len(table) > 0, name, "at least one row", "none")


def _check_options(samples: int, level: float) -> None:
    require(samples >= 1, "samples", "at least 1", samples)
    require(0 < level < 1, "level", "a number between 0 and 1", level)
