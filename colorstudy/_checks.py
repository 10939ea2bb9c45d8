"""Checks of arguments: one place for the sentence "name: expected this, got that"."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import pandas as pd


def require(condition: bool, argument: str, expected: str, got: object) -> None:
    """Raise a ``ValueError`` naming `argument`, what was expected and what came, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {got}")


def require_columns(table: pd.DataFrame, columns: Iterable[str], argument: str) -> None:
    """Raise a ``ValueError`` that names the `columns` that `table` lacks, if it does."""
    missing = sorted({*columns} - {*table.columns})
    require(not missing, argument, f"the columns {missing}", f"only {[*table.columns]}")


def require_maps(tensor: torch.Tensor, argument: str, channels: int, shape: str) -> None:
    """Require a floating-point tensor whose third dimension from the end holds `channels` maps.

    Raises
    ------
    TypeError
        If `tensor` is no tensor, or one of integers.
    ValueError
        If its shape is not `shape`.
    """
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise TypeError(f"{argument}: expected a floating-point tensor {shape}, got {got}")
    require(tensor.ndim >= 3 and tensor.shape[-3] == channels, argument, f"shape {shape}", tuple(tensor.shape))
