"""The figures of the paper: each draws on ``ax`` (a new one by default) and returns it; `save` writes files."""

import math
import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from colorstudy._checks import extra, require
from colorstudy._files import replacing
from colorstudy.bins import ColorBins
from colorstudy.color import merge, to_tensor
from colorstudy.metrics import per_image
from colorstudy.study.claims import VERDICTS
from colorstudy.study.tables import LABELS

with extra("study"):
    from matplotlib.pyplot import Axes, Figure, MaxNLocator, subplots

COLORS = {"truth": "0.1", "gray": "0.6", "random": "0.35", "l2": "#3b6fb6", "class": "#e08a1e", "full": "#b3254a"}
"""One colour a target or baseline, the same in every figure; see `color_of`."""


VERDICT_COLORS = dict(zip(VERDICTS, ("#2e7d4f", "#a3cfb4", "0.6", "#b3254a")))


def color_of(name: str) -> str | None:
    """The one of `COLORS` for a name such as "pretrained-full" or "class, T = 1"; None, for that of the cycle."""
    return next((COLORS[word] for word in re.findall(r"[a-z0-9]+", name) if word in COLORS), None)


def chroma_plane(
    bins: ColorBins, ax: Axes | None = None, *, values: torch.Tensor | None = None, decades: float = 4, label: str = ""
) -> Axes:
    """The bins in the chroma plane, each in its own colour at lightness 60; unreachable ones are hollow.

    With `values` (Q,) >= 0, called `label`, the side of a square grows with the logarithm, from nothing at `decades`
    powers of ten below the largest.
    """
    ax = _axes(ax, (5, 5), *("a*", "b*") if bins.space == "lab" else ("U", "V"))
    low, high = bins.centers.min().item(), bins.centers.max().item()
    limits = (low - 0.06 * (high - low), high + 0.06 * (high - low))
    ax.set(aspect="equal", xlim=limits, ylim=limits)
    ax.grid(False)
    chroma = bins.centers.T[None, :, None, :]  # (1, 2, 1, Q)
    rgb = merge(torch.full_like(chroma[:, :1], 60), chroma, bins.space)[0, :, 0].T.numpy()
    (x, y), filled = bins.centers.T.numpy(), bins.reachable.numpy()
    # Markers as wide as the grid is fine, whatever the size of the axes.
    step, inches = np.diff(np.unique(x)).min(), ax.figure.bbox.width / ax.figure.dpi
    size = (0.9 * step * ax.get_position().width * inches * 72 / np.ptp(ax.get_xlim())) ** 2
    if values is None:
        ax.scatter(x[~filled], y[~filled], size / 2, "none", marker="s", edgecolors="0.6", linewidths=0.8)
        sides = np.ones(len(bins))
    else:
        require(values.shape == (len(bins),), "values", f"shape ({len(bins)},)", tuple(values.shape))
        highest, filled = np.log10(values.max().item()), values.numpy() > 0
        sides = 1 + (np.log10(values.numpy(), where=filled, out=np.zeros(len(bins))) - highest) / decades
        filled &= sides > 0
        for power in range(math.floor(highest), math.floor(highest - decades), -1):
            side = 1 + (power - highest) / decades
            ax.scatter([], [], size * side**2, "0.5", marker="s", linewidths=0, label=f"{10.0**power:g}")
        ax.legend(title=label, frameon=False, loc="lower left")
    ax.scatter(x[filled], y[filled], size * sides[filled] ** 2, rgb[filled], marker="s", linewidths=0)
    return ax


def pictures(rows: Mapping[str, Sequence[np.ndarray]], *, titles: Sequence[str] = (), side: float = 1.5) -> Figure:
    """Pictures (H, W, 3), `side` inches wide: a labelled row for each entry, all as long; `titles` of the columns."""
    counts = {len(row) for row in rows.values()}
    require(len(counts) == 1 and counts != {0}, "rows", "as many pictures in each", sorted(counts))
    (n,) = counts
    height, width = np.shape(next(iter(rows.values()))[0])[:2]
    size = (n * side + 0.9, len(rows) * side * height / width + 0.25)
    figure, axes = subplots(len(rows), n, figsize=size, squeeze=False, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
    for line, (label, row) in zip(axes, rows.items()):
        for ax, picture in zip(line, row):
            interpolation = "nearest" if min(np.shape(picture)[:2]) < 100 else "antialiased"
            ax.imshow(picture, interpolation=interpolation, aspect="auto")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        line[0].set_ylabel(label, rotation=0, ha="right", va="center", labelpad=6)
    for ax, title in zip(axes[0], titles):
        ax.set_title(title, fontsize=8)
    return figure


def scored(rows: Mapping[str, Sequence[np.ndarray]], truth: Sequence[np.ndarray]) -> dict[str, Sequence[np.ndarray]]:
    """`rows` of uint8 pictures for `pictures`, with `truth` as the last, and under each label what its row scores.

    That is the mean gain in AuC over grey, and the chroma divided by that of the truth.
    """
    found: dict[str, Sequence[np.ndarray]] = {}
    for label, row in rows.items():
        scores = [per_image(to_tensor(a[None]), to_tensor(b[None])) for a, b in zip(row, truth)]
        auc, chroma, true = (np.mean([one[name].item() for one in scores]) for name in ("auc", "chroma", "chroma_true"))
        found[f"{label}\n{auc - (1 - true / 150):+.3f}, {chroma / true:.2f}"] = row
    return found | {"truth": truth}


def intervals(table: pd.DataFrame, score: str, ax: Axes | None = None, *, truth: float | None = None) -> Axes:
    """One score of `tables.main_table`: a dot and its 95 % interval a method, and the truth's value as a line."""
    ax = _axes(ax, (3.4, 2.4), score)
    for place, row in enumerate(table.to_dict("records")):
        color = color_of(row["method"]) or "0.25"
        ax.plot([row[f"{score}_low"], row[f"{score}_high"]], [place, place], color=color, lw=2, solid_capstyle="butt")
        ax.plot(row[score], place, "o", color=color, ms=6)
    if truth is not None:
        ax.axvline(truth, color="0.3", lw=1, ls=":")
        ax.annotate("truth", (truth, 1.01), xycoords=("data", "axes fraction"), ha="center", fontsize=8, color="0.3")
    ax.set(yticks=range(len(table)), yticklabels=table["method"], ylim=(len(table) - 0.4, -0.6))
    return ax


def effects(table: pd.DataFrame, score: str, ax: Axes | None = None) -> Axes:
    """One score of `tables.effects_table` by group: a dot and its 95 % interval a variant, filled if it is decided."""
    ax = _axes(ax, (4.5, 4), f"change of {LABELS.get(score, score)}")
    ax.axvline(0, color="0.3", lw=1, ls=":")
    labels, place = {}, 0.0
    for group, rows in table[table["score"] == score].groupby("group", sort=False):
        labels[place] = str(group)
        for row in rows.to_dict("records"):
            place -= 1
            color = color_of(row["variant"]) or "0.45"
            ax.plot([row["low"], row["high"]], [place, place], color=color, lw=2, solid_capstyle="butt")
            ax.plot(row["mean"], place, "o", color=color, ms=6, mfc="white" if row["verdict"] == "undecided" else color)
            base = f"{row['base']}: " if rows["base"].nunique() > 1 else ""
            labels[place] = textwrap.fill(base + row["change"], 48)
        place -= 1.4
    ax.set(yticks=list(labels), yticklabels=labels.values(), ylim=(place + 0.6, 0.8))
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.tick_params(axis="y", labelsize=9)
    for tick in ax.yaxis.get_major_ticks():
        if tick.label1.get_text() in set(table["group"]):
            tick.label1.set_fontweight("bold")
            tick.tick1line.set_visible(False)
    return ax


def against(table: pd.DataFrame, x: str, y: str, ax: Axes | None = None) -> Axes:
    """Two scores of `tables.main_table` against each other: a dot a method, named at right, with 95 % intervals."""
    ax, rows = _axes(ax, (8, 5), x, y), table.to_dict("records")
    colors = {row["method"]: color_of(row["method"]) or f"C{i % 10}" for i, row in enumerate(rows)}
    rows.sort(key=lambda row: row[y])
    for i, row in enumerate(rows):
        place = (i + 0.5) / len(rows)  # no name over another
        at, color = (row[x], row[y]), colors[row["method"]]
        ax.plot([row[f"{x}_low"], row[f"{x}_high"]], [row[y]] * 2, color=color, lw=1, alpha=0.35)
        ax.plot([row[x]] * 2, [row[f"{y}_low"], row[f"{y}_high"]], color=color, lw=1, alpha=0.35)
        ax.plot(*at, "o", color=color, ms=6)
        leader = {"arrowstyle": "-", "color": color, "lw": 0.5, "ls": ":", "relpos": (0, 0.5)}
        ax.annotate(row["method"], at, (1.03, place), textcoords="axes fraction", va="center", fontsize=9,
                    color=color, arrowprops=leader)  # fmt: skip
    return ax


def curves(
    table: pd.DataFrame, x: str, y: str, ax: Axes | None = None, *, by: str = "method", labels: Mapping[str, str] = {}
) -> Axes:
    """Column `y` against `x`, a line for each value of `by`; a band from ``<y>_low`` to ``<y>_high`` if given."""
    ax = _axes(ax, (4, 3), labels.get(x, x), labels.get(y, y))
    for name, part in table.groupby(by, sort=False):
        part = part.sort_values(x)
        (line,) = ax.plot(part[x], part[y], "o-", ms=3.5, color=color_of(str(name)), label=name)
        if f"{y}_low" in part:
            ax.fill_between(part[x], part[f"{y}_low"], part[f"{y}_high"], color=line.get_color(), alpha=0.15, lw=0)
    return ax


def verdicts(ledger: pd.DataFrame) -> Figure:
    """The effects of one table in `claims.ledger`, with 95 % intervals: a panel a score, what is claimed to the right.

    Where a claim has a margin, it stands as a bar.
    """
    panels = list(ledger.groupby("score", sort=False))
    heights = [0.24 * len(rows) + 0.75 for _, rows in panels]
    size = (9, sum(heights))
    figure, axes = subplots(len(panels), figsize=size, height_ratios=heights, layout="constrained", squeeze=False)
    for ax, (score, rows) in zip(axes[:, 0], panels):
        _axes(ax, size, f"{LABELS[str(score)]}, difference in the claimed direction")
        ax.axvline(0, color="0.3", lw=1, ls=":")
        for place, row in enumerate(rows.to_dict("records")):
            sign, color = 1 if row["claimed"] == "above" else -1, VERDICT_COLORS[row["verdict"]]
            ax.plot([sign * row["low"], sign * row["high"]], [place, place], color=color, lw=2, solid_capstyle="butt")
            ax.plot(sign * row["effect"], place, "o", color=color, ms=6)
            if row["margin"]:
                ax.plot(sign * row["margin"], place, "|", color="0.3", ms=12)
        ax.set(yticks=range(len(rows)), yticklabels=rows["test"], ylim=(len(rows) - 0.4, -0.6))
        ax.xaxis.set_major_locator(MaxNLocator(5))
    counts = {name: (ledger["verdict"] == name).sum() for name in VERDICTS}
    handles = [axes[0, 0].plot([], [], "o", color=VERDICT_COLORS[k], label=f"{k}: {n}")[0] for k, n in counts.items()]
    figure.legend(handles=handles, frameon=False, loc="outside upper right", ncols=4)
    return figure


def save(figure: Figure | Axes, path: str | Path) -> None:
    """Write a figure, whole or not at all, in the format that the suffix of `path` names."""
    png = Path(path).suffix == ".png"
    metadata = {"Software": None} if png else None  # so that the same figure is the same file
    with replacing(path) as temporary:
        figure.figure.figure.savefig(temporary, dpi=150, bbox_inches="tight", metadata=metadata)  # of a subfigure, too
        if png:  # a palette takes a third of the room
            Image.open(temporary).convert("RGB").quantize(256).save(temporary, "PNG", optimize=True)


def _axes(ax: Axes | None, size: tuple[float, float], x: str, y: str = "") -> Axes:
    """`ax`, or a new one, with these scores or words on its axes."""
    ax = ax if ax is not None else subplots(figsize=size, layout="constrained")[1]
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="x", color="0.9")
    ax.set(xlabel=LABELS.get(x, x), ylabel=LABELS.get(y, y), axisbelow=True)
    return ax
