"""Set-level scores of a per-image table: ratios of two column sums, so that an interval needs its rows, not pixels."""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from colorstudy._checks import require

Scores = Mapping[str, tuple[str, str | None] | tuple[str, str, float]]
"""Set-level scores by name: (numerator column, denominator column); None: the mean over the rows. A third entry makes
it an error: the distance of the ratio from that number."""

SCORES: Scores = {
    "auc": ("auc", None),
    "auc_macro": ("macro_hits", "macro_weight"),
    "auc_half": ("half_hits", "half_weight"),
    "auc_rebalanced": ("rebalanced_hits", "rebalanced_weight"),
    "rmse": ("rmse", None),
    "psnr": ("psnr", None),
    "ssim": ("ssim", None),
    "ciede2000": ("ciede2000", None),
    "colorfulness": ("colorfulness", None),
    "colorfulness_ratio": ("colorfulness", "colorfulness_true"),
    "chroma_ratio": ("chroma", "chroma_true"),
    "chroma_error": ("chroma", "chroma_true", 1.0),
    "auc_tail": ("tail_hits", "tail_weight"),
    "roughness": ("roughness", "chroma"),
}
"""The set-level scores of the study; the weights of an AuC are those of `evaluation.evaluate`. `auc_tail` is of
vivid pixels alone (`metrics.TAIL`); `chroma_error` is paleness or overcolouring; `roughness` is relative to the chroma,
so that a vivid picture is not rough for being vivid."""


def require_columns(table: pd.DataFrame, columns: Iterable[str], argument: str) -> None:
    """Require that `table` has the `columns`; the error names those that it lacks."""
    missing = sorted({*columns} - {*table.columns})
    require(not missing, argument, f"the columns {missing}", f"only {[*table.columns]}")


def scores_in(table: pd.DataFrame) -> Scores:
    """Those of `SCORES` whose columns `table` has."""
    return {name: pair for name, pair in SCORES.items() if {*pair[:2]} - {None} <= {*table.columns}}


def aggregate(table: pd.DataFrame, scores: Scores | None = None) -> pd.Series:
    """Set-level `scores`, by default those of `scores_in`, of a table with one row an image; a resample of it will do.

    The sum of the numerators over the sum of the denominators; without a denominator the mean of the column over the
    rows in which it is finite (identical pictures have an infinite PSNR). nan where there is nothing to divide by.
    """
    scores = scores_in(table) if scores is None else scores
    numerators, denominators = score_parts(table, scores, "table")
    return pd.Series(score_of(numerators.sum(0), denominators.sum(0), scores)[0], index=list(scores))


def score_parts(table: pd.DataFrame, scores: Scores, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators (rows, scores) of `scores` in the rows of `table`, both 0 where infinite.

    A ``ValueError`` that names `table` by `name` if it has no rows, a column is missing, or a value is nan, or infinite
    in a ratio.
    """
    require_columns(table, [column for pair in scores.values() for column in pair[:2] if column is not None], name)
    require(len(table) > 0, name, "at least one row", "none")
    parts = np.ones((2, len(table), len(scores)))
    for k, pair in enumerate(scores.values()):
        for part, column in zip(parts, pair[:2]):
            if column is not None:
                part[:, k] = values = table[column].to_numpy(float)
                wrong = np.flatnonzero(np.isnan(values) if pair[1] is None else ~np.isfinite(values))
                if len(wrong):
                    row = table.index[wrong[0]]
                    where = "seed {}, image {}".format(*row) if isinstance(row, tuple) else f"row {row}"
                    require(False, f"{name}[{column!r}]", "a number in every row", f"{values[wrong[0]]} at {where}")
    numerators, denominators = np.where(np.isinf(parts[0]), 0, parts)
    return numerators, denominators


def score_of(numerator: np.ndarray, denominator: np.ndarray, scores: Scores) -> tuple[np.ndarray, np.ndarray]:
    """`scores` (..., scores) of their sums, nan where the denominator is 0; and their slope in the ratio: 1, or -1."""
    ratio = np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
    origin = np.array([pair[2] if len(pair) == 3 else -np.inf for pair in scores.values()])
    slope = np.where(ratio < origin, -1, 1)
    return slope * (ratio - np.where(origin > -np.inf, origin, 0)), slope
