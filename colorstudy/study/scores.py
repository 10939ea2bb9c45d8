"""Set-level scores of a per-image table: ratios of two column sums, so that an interval resamples rows, not pixels."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from colorstudy._checks import require, require_columns

Scores = Mapping[str, tuple[str, str | None]]
"""Set-level scores by name: (numerator column, denominator column); None: the mean over the rows."""

SCORES: Scores = {
    "auc": ("auc", None),
    "auc_rebalanced": ("rebalanced_hits", "rebalanced_weight"),
    "rmse": ("rmse", None),
    "psnr": ("psnr", None),
    "ssim": ("ssim", None),
    "ciede2000": ("ciede2000", None),
    "colorfulness": ("colorfulness", None),
    "colorfulness_ratio": ("colorfulness", "colorfulness_true"),
    "chroma_ratio": ("chroma", "chroma_true"),
    "auc_tail": ("tail_hits", "tail_weight"),
    "roughness": ("roughness", "chroma"),
    "rare_share": ("rare", None),
}
"""The set-level scores of the study. `auc_tail` is the AuC of vivid pixels alone (`metrics.TAIL`); `roughness` is
relative to the chroma, so that a vivid picture is not rough for being vivid; `rare` is from `evaluation.evaluate`."""


def scores_in(table: pd.DataFrame) -> Scores:
    """Those of `SCORES` whose columns `table` has."""
    return {name: pair for name, pair in SCORES.items() if {*pair} - {None} <= {*table.columns}}


def aggregate(table: pd.DataFrame, scores: Scores | None = None) -> pd.Series:
    """Set-level `scores`, by default those of `scores_in`, of a table with one row an image; a resample of it will do.

    The sum of the numerators over the sum of the denominators; without a denominator the mean of the column over the
    rows in which it is finite (identical pictures have an infinite PSNR). nan where there is nothing to divide by.
    """
    scores = scores_in(table) if scores is None else scores
    numerators, denominators = score_parts(table, scores, "table")
    return pd.Series(ratio(numerators.sum(0), denominators.sum(0)), index=list(scores))


def score_parts(table: pd.DataFrame, scores: Scores, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Numerators and denominators (rows, scores) of `scores` in the rows of `table`, both 0 where infinite.

    A ``ValueError`` that names `table` by `name` if it has no rows, a column is missing, or a value is nan, or infinite
    in a ratio.
    """
    require_columns(table, [column for pair in scores.values() for column in pair if column is not None], name)
    require(len(table) > 0, name, "at least one row", "none")
    parts = np.ones((2, len(table), len(scores)))
    for k, pair in enumerate(scores.values()):
        for part, column in zip(parts, pair):
            if column is not None:
                part[:, k] = values = table[column].to_numpy(float)
                wrong = np.flatnonzero(np.isnan(values) if pair[1] is None else ~np.isfinite(values))
                if len(wrong):
                    row = table.index[wrong[0]]
                    where = "seed {}, image {}".format(*row) if isinstance(row, tuple) else f"row {row}"
                    require(False, f"{name}[{column!r}]", "a number in every row", f"{values[wrong[0]]} at {where}")
    numerators, denominators = np.where(np.isinf(parts[0]), 0, parts)
    return numerators, denominators


def ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """`numerator` / `denominator`, nan where the denominator is 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
