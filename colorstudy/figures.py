"""The figures of the paper: each draws on ``ax`` (a new one by default) and returns it; `save` writes files."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.bins import ColorBins
from colorstudy.color import merge
from colorstudy.tables import LABELS

COLORS = {"gray": "0.6", "random": "0.35", "l2": "#3b6fb6", "class": "#e08a1e", "full": "#b3254a"}
"""One colour a method, the same in every figure; others take the cycle's."""


def chroma_plane(
    bins: ColorBins, ax: Axes | None = None, *, lightness: float = 60.0, size: float | None = None
) -> Axes:
    """The bins in the chroma plane, each in its own colour at one lightness; unreachable ones are hollow."""
    ax = _axes(ax, (5, 5))
    chroma = bins.centers.T[None, :, None, :]  # (1, 2, 1, Q)
    rgb = merge(torch.full_like(chroma[:, :1], lightness), chroma, bins.space)[0, :, 0].T.numpy()
    centers, reachable = bins.centers.numpy(), bins.reachable.numpy()
    # Markers as wide as the grid is fine, whatever the size of the axes.
    step = np.diff(np.unique(centers[:, 0])).min()
    _plane_axes(ax, bins)
    size = size or (0.8 * step * ax.get_position().width * ax.figure.get_figwidth() * 72 / np.ptp(ax.get_xlim())) ** 2
    ax.scatter(*centers[reachable].T, c=rgb[reachable], s=size, marker="s", linewidths=0)
    ax.scatter(*centers[~reachable].T, facecolors="none", edgecolors="0.6", s=size / 2, marker="s", linewidths=0.8)
    return ax


def on_plane(
    values: torch.Tensor, bins: ColorBins, ax: Axes | None = None, *, label: str, cmap: str = "viridis"
) -> Axes:
    """A number a bin (Q,) as a map of the chroma plane, with a colour bar called `label`; nan leaves a bin white."""
    ax = _axes(ax, (5.6, 5))
    grid, (first, second) = _as_grid(np.asarray(values, float), bins)
    _plane_axes(ax, bins)
    half = [np.diff(axis).min() / 2 for axis in (first, second)]
    extent = (first[0] - half[0], first[-1] + half[0], second[0] - half[1], second[-1] + half[1])
    drawn = ax.imshow(grid.T, origin="lower", extent=extent, cmap=cmap, aspect="equal", interpolation="nearest")
    ax.figure.colorbar(drawn, ax=ax, shrink=0.8, label=label)
    return ax


def pictures(
    rows: Mapping[str, Sequence[np.ndarray]], *, titles: Sequence[str] | None = None, side: float = 1.5
) -> Figure:
    """A grid of pictures: a labelled row for each entry of `rows`, a column for each picture.

    Parameters
    ----------
    rows : mapping of label -> pictures (H, W, 3), uint8 or float in [0, 1]
    titles : sequence of str, optional
        Of the columns.
    side : float
        Width of a picture in inches.
    """
    columns = {len(row) for row in rows.values()}
    require(len(columns) == 1 and columns != {0}, "rows", "as many pictures in each", sorted(columns))
    (columns,) = columns
    shape = np.shape(next(iter(rows.values()))[0])
    height = side * shape[0] / shape[1]
    figure, axes = plt.subplots(
        len(rows),
        columns,
        figsize=(columns * side + 0.9, len(rows) * height + 0.25),
        squeeze=False,
        gridspec_kw={"wspace": 0.03, "hspace": 0.03},
    )
    for line, (label, row) in zip(axes, rows.items(), strict=True):
        for ax, picture in zip(line, row, strict=True):
            ax.imshow(
                picture, interpolation="nearest" if min(np.shape(picture)[:2]) < 100 else "antialiased", aspect="auto"
            )
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
    for ax, title in zip(axes[0], titles or [], strict=False):
        ax.set_title(title, fontsize=8)
    return figure


def intervals(table: pd.DataFrame, score: str, ax: Axes | None = None, *, truth: float | None = None) -> Axes:
    """One score of `tables.main_table`: a dot and its 95 % interval a method, and the truth's value as a line."""
    ax = _axes(ax, (3.4, 2.4))
    places = np.arange(len(table))[::-1]
    for place, (_, row) in zip(places, table.iterrows(), strict=True):
        color = COLORS.get(row["method"].partition(",")[0], "0.25")  # what follows a comma says how it was decoded
        ax.plot([row[f"{score}_low"], row[f"{score}_high"]], [place, place], color=color, lw=2, solid_capstyle="butt")
        ax.plot(row[score], place, "o", color=color, ms=6)
    if truth is not None:
        ax.axvline(truth, color="0.3", lw=1, ls=":")
        ax.annotate(
            "truth",
            (truth, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color="0.3",
        )
    ax.set(yticks=places, yticklabels=table["method"], xlabel=LABELS.get(score, score), ylim=(-0.6, len(table) - 0.4))
    return _plain(ax)


def effects(table: pd.DataFrame, score: str, ax: Axes | None = None, *, by: str = "group") -> Axes:
    """One score of `tables.effects_table`: a dot and its 95 % interval a variant, filled where it leaves out no effect.

    Variants are drawn from top to bottom, with a gap and a heading wherever column `by` changes, and with the name of
    their base where a heading has several.
    """
    ax = _axes(ax, (4.5, 4))
    part = table[table["score"] == score]
    ax.axvline(0, color="0.3", lw=1, ls=":")
    labels, place = {}, 0.0
    for group, rows in part.groupby(by, sort=False):
        labels[place] = group
        place -= 1
        several = rows["base"].nunique() > 1
        for _, row in rows.iterrows():
            clear = row["verdict"] != "undecided"
            ax.plot([row["low"], row["high"]], [place, place], color="0.45", lw=2, solid_capstyle="butt")
            ax.plot(row["mean"], place, "o", ms=6, color="#b3254a", mfc=None if clear else "white")
            words = f"{row['base']}: {row['change']}" if several else row["change"]
            labels[place] = textwrap.fill(words, 48)
            place -= 1
        place -= 0.4
    ax.set(yticks=list(labels), yticklabels=list(labels.values()), ylim=(place + 0.6, 0.8))
    ax.set_xlabel(f"change of\n{LABELS.get(score, score)}")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    headings = set(part[by])
    ax.tick_params(axis="y", labelsize=9)
    for tick, label in zip(ax.yaxis.get_major_ticks(), ax.get_yticklabels()):
        if label.get_text() in headings:
            label.set_fontweight("bold")
            tick.tick1line.set_visible(False)
    return _plain(ax)


def against(table: pd.DataFrame, x: str, y: str, ax: Axes | None = None) -> Axes:
    """Two scores of `tables.main_table` against each other: a named dot a method, with both 95 % intervals."""
    ax = _axes(ax, (8, 5))
    for i, (_, row) in enumerate(table.iterrows()):
        color = COLORS.get(row["method"], f"C{i % 10}")
        ax.plot([row[f"{x}_low"], row[f"{x}_high"]], [row[y], row[y]], color=color, lw=1, alpha=0.35)
        ax.plot([row[x], row[x]], [row[f"{y}_low"], row[f"{y}_high"]], color=color, lw=1, alpha=0.35)
        ax.plot(row[x], row[y], "o", color=color, ms=6)
        ax.annotate(row["method"], (row[x], row[y]), (5, 4), textcoords="offset points", fontsize=9, color=color)
    ax.set(xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y))
    return _plain(ax)


def curves(
    table: pd.DataFrame,
    x: str,
    y: str,
    ax: Axes | None = None,
    *,
    by: str = "method",
    labels: Mapping[str, str] | None = None,
) -> Axes:
    """Column `y` against `x`, a line for each value of `by`; a band from ``<y>_low`` to ``<y>_high`` if given."""
    ax = _axes(ax, (4, 3))
    for name, part in table.groupby(by, sort=False):
        part = part.sort_values(x)
        (line,) = ax.plot(part[x], part[y], "o-", ms=3.5, color=COLORS.get(name), label=name)
        if f"{y}_low" in part:
            ax.fill_between(part[x], part[f"{y}_low"], part[f"{y}_high"], color=line.get_color(), alpha=0.15, lw=0)
    labels = labels or {}
    ax.set(xlabel=labels.get(x, x), ylabel=labels.get(y, LABELS.get(y, y)))
    return _plain(ax)


def verdicts(ledger: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The rows of `claims.ledger`: how far each effect is from its margin in the claimed direction.

    In units of the half width of its 95 % interval, as scores have different ones: beyond 1 to the right the interval
    agrees with the claim, beyond 1 to the left it contradicts it. Colours tell the verdicts.
    """
    ax = _axes(ax, (9, 0.6 + 0.3 * len(ledger)))
    colors = {"holds": "#2e7d4f", "fails": "#b3254a", "undecided": "0.6"}
    half = (ledger["high"] - ledger["low"]) / 2
    distance = (ledger["effect"] - ledger["margin"]) * np.where(ledger["claimed"] == "above", 1, -1) / half
    places = np.arange(len(ledger))[::-1]
    shown = distance.clip(-12, 12)
    for name, color in colors.items():
        mine = (ledger["verdict"] == name).to_numpy()
        ax.barh(places[mine], shown[mine], 0.6, color=color, label=f"{name}: {mine.sum()}")
    ax.axvspan(-1, 1, color="0.93", zorder=0)
    ax.axvline(0, color="0.3", lw=1)
    ax.set_yticks(places, ledger["test"])
    ax.set(
        xlabel="effect in the claimed direction, in half widths of its interval (12 or more: cut)", xlim=(-12.5, 12.5)
    )
    ax.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=3)
    return _plain(ax)


def save(figure: Figure | Axes, path: str | Path) -> Path:
    """Write a figure, whole or not at all, in the format that the suffix of `path` names, and return `path`."""
    figure = figure.figure if isinstance(figure, Axes) else figure
    with replacing(path) as temporary:
        # No creation date, so that the same figure is the same file.
        metadata = {"Software": None} if Path(path).suffix == ".png" else None
        figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata=metadata)
    return Path(path)


def _axes(ax: Axes | None, size: tuple[float, float]) -> Axes:
    return ax if ax is not None else plt.subplots(figsize=size, layout="constrained")[1]


def _plain(ax: Axes) -> Axes:
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="0.9")
    ax.set_axisbelow(True)
    return ax


def _plane_axes(ax: Axes, bins: ColorBins) -> None:
    names = ("a*", "b*") if bins.space == "lab" else ("U", "V")
    low, high = bins.centers.min().item(), bins.centers.max().item()
    margin = 0.06 * (high - low)
    limits = (low - margin, high + margin)
    ax.set(xlabel=names[0], ylabel=names[1], aspect="equal", xlim=limits, ylim=limits)
    ax.spines[["top", "right"]].set_visible(False)


def _as_grid(values: np.ndarray, bins: ColorBins) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Values (Q,) laid on the regular grid of the centres, nan where there is no bin, and its two axes."""
    centers = bins.centers.numpy().astype(float)
    require(values.shape == (len(centers),), "values", f"shape ({len(centers)},)", values.shape)
    axes = []
    for coordinate in centers.T:
        step = np.diff(np.unique(coordinate)).min()
        axes.append(np.arange(coordinate.min(), coordinate.max() + step / 2, step))
    places = [np.rint((centers[:, i] - axes[i][0]) / (axes[i][1] - axes[i][0])).astype(int) for i in (0, 1)]
    grid = np.full((len(axes[0]), len(axes[1])), np.nan)
    grid[places[0], places[1]] = values
    return grid, (axes[0], axes[1])
