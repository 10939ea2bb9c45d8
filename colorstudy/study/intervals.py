"""How far to trust set-level scores: intervals and paired comparisons over images and training runs.

A score is a ratio of two column sums of a per-image table (`scores.Scores`). So its error is, to first order, a mean
over images: of (numerator - score x denominator) / mean denominator. Nothing here knows what the columns measure.
"""

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.special import stdtr, stdtrit

from colorstudy._checks import require
from colorstudy.study.scores import Scores, require_columns, score_of, score_parts


def intervals(table: pd.DataFrame, scores: Scores) -> pd.DataFrame:
    """95 % Student's t intervals of set-level scores over images and training runs.

    Images are crossed with seeds, as every run colours the same test set: the interval speaks of other images *and*
    other runs. The variance of the mean over S seeds and I images has two parts, MS_seed / (S I) and
    max(MS_image - MS_residual, 0) / (S I) of the two-way analysis of variance, with S - 1 and E - 1 degrees of freedom,
    where E is the ``effective`` number of images. Those of the sum: 1 / f is the mean of theirs, weighted by the parts.
    Satterthwaite (1946) weighs by their squares, which covers too little where seeds dominate: see results/coverage.md.
    Rows of 1 seed, or of a deterministic method, speak of other images alone, and say "images only" in ``over``.

    `table` has one row for every pair of a ``seed`` and an ``image``, in any order. A missing or doubled pair is a
    ``ValueError``, and so is a value that is nan, or infinite in a ratio. If it has a column ``cluster``, the images of
    one are summed, and clusters are the unit; an image without one is its own. A row of the result is a score: the
    ``mean`` over seeds, the interval ``low`` to ``high`` (nan of 1 unit), ``images``, ``seeds``, ``effective`` (of a
    ratio: how many units count, (sum w)^2 / sum w^2 with w the denominators; else nan) and ``over``.
    """
    return _estimate([_Crossed(table, scores, "table")], scores)[0]


def paired(table_a: pd.DataFrame, table_b: pd.DataFrame, scores: Scores, *, null: float = 0.0) -> pd.DataFrame:
    """Intervals of the difference a - b of set-level scores of two methods on the same images.

    As `intervals`; a ``ValueError`` also if the images differ. Seeds are paired if theirs are the same. Otherwise those
    of each have a part of their own, and ``seeds`` is text such as "3 / 1". ``sign`` is the two-sided p-value of the
    difference `null`, by the same t.
    """
    a, b = _Crossed(table_a, scores, "table_a"), _Crossed(table_b, scores, "table_b")
    alone = a.images.symmetric_difference(b.images)
    require(len(alone) == 0, "table_b", "the images of table_a", f"{len(alone)} only in one, such as {[*alone[:3]]}")
    require(a.values.shape[1] == b.values.shape[1], "table_b", "the clusters of table_a", "others")
    if same_seeds := a.seeds.equals(b.seeds):
        a.values -= b.values
    else:
        b.values *= -1
    result, error, freedom = _estimate([a] if same_seeds else [a, b], scores)
    beyond = result["mean"].to_numpy() - null
    with np.errstate(divide="ignore", invalid="ignore"):
        sign = np.where((error == 0) & (beyond == 0), 1, 2 * stdtr(freedom, -np.abs(beyond / error)))
    return result.assign(sign=sign)


def holm(p: npt.ArrayLike) -> np.ndarray:
    """p-values of several tests, corrected so that all of them together err as seldom as one (Holm 1979).

    `p` are numbers in [0, 1], or a ``ValueError``; nan is a test that could not be made, and stays nan. The
    k-th smallest of n becomes n - k + 1 times as large, at least its predecessor and at most 1. The order is kept.
    """
    numbers = np.asarray(p, float)
    found = pd.Series(numbers.ravel())
    ordered = found.dropna().sort_values()
    require(numbers.ndim == 1 and bool(ordered.between(0, 1).all()), "p", "numbers in [0, 1]", numbers.tolist())
    corrected = (ordered * np.arange(len(ordered), 0, -1)).cummax().clip(upper=1)
    return corrected.reindex(found.index).to_numpy()


class _Crossed:
    """The scores of a table as `values` (seeds, units, scores), whose mean they are, and how many units count."""

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
        parts = np.reshape(score_parts(in_order, scores, name), (2, *shape))
        self.unit = "images"
        if "cluster" in table:
            of_image = in_order["cluster"].fillna(in_order["image"]).iloc[: shape[1]].astype(str)
            cluster, names = pd.factorize(of_image, sort=True)
            order = np.argsort(cluster, kind="stable")
            parts = np.add.reduceat(parts[:, :, order], np.searchsorted(cluster[order], range(len(names))), axis=2)
            self.unit = f"{len(names)} clusters"
        self.weighted = [pair[1] is not None for pair in scores.values()]
        sums = parts.sum(2, keepdims=True)  # (2, seeds, 1, scores)
        each, slope = score_of(sums[0], sums[1], scores)
        with np.errstate(divide="ignore", invalid="ignore"):
            residuals = (parts[0] - sums[0] / sums[1] * parts[1]) * parts.shape[2] / sums[1]
            counting = (sums[1] ** 2 / (parts[1] ** 2).sum(1, keepdims=True)).mean((0, 1))
        self.values = each + slope * residuals
        self.effective = np.where(self.weighted, counting, parts.shape[2])


def _estimate(groups: list[_Crossed], scores: Scores) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """A row a score, of the sum of `groups`, each with seeds of its own; standard errors and degrees of freedom."""
    by_unit = sum(group.values.mean(0) for group in groups)  # (units, scores)
    mean, units = by_unit.mean(0), len(by_unit)
    with np.errstate(divide="ignore", invalid="ignore"):
        image = np.square(by_unit - mean).sum(0) / (units - 1) / units
        parts = []
        for values in (group.values for group in groups if len(group.seeds) > 1):
            seeds, by_seed = len(values), values.mean(1, keepdims=True)
            residual = values - by_seed - values.mean(0) + values.mean((0, 1))
            image -= np.square(residual).sum((0, 1)) / ((seeds - 1) * (units - 1)) / (seeds * units)
            parts.append((np.square(by_seed - by_seed.mean(0)).sum((0, 1)) / (seeds - 1) / seeds, seeds - 1))
        parts.append((np.maximum(image, 0), np.maximum(groups[0].effective - 1, 1)))
        variance = sum(part for part, _ in parts)
        freedom = np.where(variance == 0, units - 1, variance / sum(part / freedom for part, freedom in parts))
    error = np.sqrt(variance)
    half = stdtrit(freedom, 0.975) * error
    first, counts = groups[0], [len(group.seeds) for group in groups]
    found = pd.DataFrame({"mean": mean, "low": mean - half, "high": mean + half}, index=list(scores))
    found = found.assign(images=len(first.images), seeds=" / ".join(map(str, counts)) if counts[1:] else counts[0])
    over = f"{first.unit} {'and seeds' if max(counts) > 1 else 'only'}"
    return found.assign(effective=np.where(first.weighted, first.effective, np.nan), over=over), error, freedom
