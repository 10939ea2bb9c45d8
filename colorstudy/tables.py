"""The tables of the paper: every one is a DataFrame first, with an interval on every number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from colorstudy import statistics
from colorstudy._checks import require
from colorstudy._files import replacing, write_text
from colorstudy.methods import Variant
from colorstudy.metrics import SCORES
from colorstudy.statistics import Scores

HEADLINE = (
    "auc",
    "auc_rebalanced",
    "rmse",
    "psnr",
    "ssim",
    "ciede2000",
    "colorfulness",
    "colorfulness_ratio",
    "chroma_ratio",
)
"""The scores of the main table, in its order."""

LABELS = {
    "auc": "AuC",
    "auc_rebalanced": "AuC, rebalanced",
    "rmse": "ab RMSE",
    "psnr": "PSNR (dB)",
    "ssim": "SSIM",
    "ciede2000": "CIEDE2000",
    "colorfulness": "colourfulness",
    "colorfulness_ratio": "colourfulness / truth",
    "chroma_ratio": "chroma / truth",
    "warp_error": "warp error",
    "warp_error_relative": "warp error / chroma",
    "cdc": "CDC",
    "flicker": "flicker",
    "auc_tail": "AuC, vivid pixels",
    "roughness": "roughness / chroma",
    "rare_share": "share of rare colours",
}

SYSTEMS = {
    "gray": "no colour",
    "random": "the colours of another picture",
    "l2": "our network, regression",
    "l2-ft": "our network, regression from the trained full",
    "class": "our network, classification",
    "full": "our network, rebalanced classification",
    "class-posthoc": "our network, classification rebalanced when decoding",
    "zhang-l2": "Zhang et al. 2016, regression",
    "zhang-l2-ft": "Zhang et al. 2016, regression from the trained zhang-full",
    "zhang-class": "Zhang et al. 2016, classification",
    "zhang-full": "Zhang et al. 2016, rebalanced classification",
    "dahl": "Dahl 2016, reconstructed",
    "cheng": "Cheng et al. 2015, reconstructed",
    "colorunet": "Billaut et al. 2018",
    "convnet": "Billaut et al. 2018, the milestone's network",
}
SYSTEMS |= {
    name.replace("zhang", "zhang-small"): f"{words.replace('zhang-', 'zhang-small-')}, a quarter of the channels"
    for name, words in SYSTEMS.items()
    if name.startswith("zhang")
}
"""What each row of the table of systems is."""


def main_table(
    scores: pd.DataFrame,
    methods: list[str],
    names: Sequence[str] = HEADLINE,
    *,
    known: Scores = SCORES,
    samples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Set-level scores of every method: mean over seeds, with the 95 % bootstrap interval over images and seeds.

    Parameters
    ----------
    scores : DataFrame
        As `study.scores` gives it.
    methods : list of str
        The rows, in order.
    names : sequence of str
        The scores.
    known : mapping
        What `names` mean; those of pictures, or `temporal.CLIP_SCORES`.
    samples, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        Columns ``method``, ``seeds``, ``images``, then for each score ``<score>``, ``<score>_low`` and
        ``<score>_high``.

    Raises
    ------
    ValueError
        If a method has no scores.
    """
    rows = []
    for method in methods:
        table = _of(scores, method)
        interval = statistics.bootstrap(table, {name: known[name] for name in names}, samples=samples, seed=seed)
        row = {"method": method, "seeds": table["seed"].nunique(), "images": table["image"].nunique()}
        for score in names:
            mean, low, high = interval.loc[score, ["mean", "low", "high"]]
            row |= {score: mean, f"{score}_low": low, f"{score}_high": high}
        rows.append(row)
    return pd.DataFrame(rows)


def paired_table(
    scores: pd.DataFrame,
    pairs: list[tuple[str, str]],
    names: list[str],
    *,
    known: Scores = SCORES,
    samples: int = 2000,
    seed: int = 0,
) -> pd.DataFrame:
    """Differences between two methods on the same images: rows (pair, score), with mean, interval and sign.

    Parameters
    ----------
    scores : DataFrame
        As `study.scores` gives it.
    pairs : list of (str, str)
        Each row is the first method minus the second.
    names : list of str
        Scores to compare.
    known : mapping
        As of `main_table`.
    samples, seed : int
        Of the bootstrap; `samples` is raised where a table has so many rows that no p-value could be small enough.

    Returns
    -------
    DataFrame
        Columns ``difference``, ``score``, ``mean``, ``low``, ``high``, ``sign`` (the two-sided bootstrap p-value),
        ``images``, ``seeds``, ``sign_holm`` (corrected for the number of rows) and ``verdict``, see `judged`.
    """
    chosen = {name: known[name] for name in names}
    samples = max(samples, _enough(len(pairs) * len(names)))
    parts = []
    for first, second in pairs:
        part = statistics.paired(_of(scores, first), _of(scores, second), chosen, samples=samples, seed=seed)
        part = part.rename_axis("score").reset_index()
        part.insert(0, "difference", f"{first} - {second}")
        parts.append(part)
    return judged(pd.concat(parts, ignore_index=True))


def _enough(rows: int) -> int:
    """Resamples that let a p-value, at least 1 / samples, stay under 0.05 after Holm's correction for `rows` tests."""
    return 40 * rows


def judged(table: pd.DataFrame) -> pd.DataFrame:
    """A table of differences with its columns ``sign_holm`` and ``verdict``, of all its rows together.

    "higher" or "lower" where the difference is beyond noise although so many were tested: Holm's p-value is at most
    0.05. Else "undecided".
    """
    holm = statistics.holm(table["sign"])
    sure = holm <= 0.05
    verdict = np.select([sure & (table["mean"] > 0), sure & (table["mean"] < 0)], ["higher", "lower"], "undecided")
    return table.assign(sign_holm=holm, verdict=verdict)


def effects_table(
    scores: pd.DataFrame, variants: Mapping[str, Variant], names: list[str], *, samples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """What each variant changes: its scores minus those of its base, on the same images and seeds.

    Parameters
    ----------
    scores : DataFrame
        As `study.scores` gives it; variants of which it holds no runs have no row.
    variants : mapping of name -> `methods.Variant`
    names : list of str
        Scores to compare.

    Returns
    -------
    DataFrame
        Columns ``group``, ``base``, ``variant``, ``change`` (in words), then those of `paired_table` from ``score`` on.
    """
    run = set(scores["method"])
    chosen = {name: variant for name, variant in variants.items() if {name, variant.base} <= run}
    samples = max(samples, _enough(len(chosen) * len(names)))
    parts = []
    for name, variant in chosen.items():
        part = paired_table(scores, [(name, variant.base)], names, samples=samples, seed=seed)
        about = {"group": variant.group, "base": variant.base, "variant": name, "change": variant.words}
        parts.append(part.drop(columns="difference").assign(**about)[[*about, *part.columns[1:]]])
    expected = f"runs of a variant and its base, some of {list(variants)}"
    require(len(parts) > 0, "scores", expected, f"only {sorted(run)}; a profile without any skips this notebook")
    return judged(pd.concat(parts, ignore_index=True))


def published() -> pd.DataFrame:
    """Table 1 of Zhang et al. 2016, as printed: AuC in percent, "amt" the share of people fooled, on ImageNet.

    To read beside our tables, not to mix with them: other pictures, other sizes, other budgets.
    """
    return pd.read_csv(Path(__file__).with_name("zhang2016_table1.csv"))


def beside_published(table: pd.DataFrame) -> pd.DataFrame:
    """`main_table` beside Table 1 of Zhang et al. 2016: AuC in percent, ours with intervals and theirs as printed.

    Columns ``ours`` and ``theirs`` are names of methods; what only one side has is empty on the other.
    """
    theirs = published().rename(columns={"method": "theirs"})
    names = {"l2-ft": "l2 fine-tuned"} | {name: name for name in theirs["theirs"]}
    ours = pd.DataFrame({"ours": table["method"], "theirs": table["method"].map(names)})
    ours[["seeds", "images"]] = table[["seeds", "images"]]
    for score in ("auc", "auc_rebalanced"):
        parts = (100 * table[[score, f"{score}_low", f"{score}_high"]]).to_numpy()
        ours[LABELS[score]] = ["{:.1f} [{:.1f}, {:.1f}]".format(*part) for part in parts]
    columns = {"auc": "AuC, theirs", "auc_rebalanced": "AuC, rebalanced, theirs", "amt_fooled": "people fooled, theirs"}
    both = ours.merge(theirs[["theirs", *columns]].rename(columns=columns), on="theirs", how="outer", sort=False)
    order = {name: i for i, name in enumerate(theirs["theirs"])}
    both = both.sort_values("theirs", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return both.astype({"seeds": "Int64", "images": "Int64"}).astype(object).where(both.notna(), "")


def readable(table: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """`main_table` for reading: one column a score, ``mean [low, high]``."""
    columns = {"method": table["method"], "seeds": table["seeds"], "images": table["images"]}
    for name in names:
        digits = 1 if table[name].abs().max() >= 10 else 3
        columns[LABELS[name]] = [
            f"{mean:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
            for mean, low, high in zip(table[name], table[f"{name}_low"], table[f"{name}_high"], strict=True)
        ]
    return pd.DataFrame(columns)


def save(table: pd.DataFrame, path: str | Path) -> Path:
    """Write `table` as ``<path>.csv``, ``.md`` and ``.tex`` (`path` without suffix); return the CSV."""
    path = Path(path)
    require(path.suffix == "", "path", "no suffix", path.suffix)
    csv = path.with_suffix(".csv")
    with replacing(csv) as temporary:
        table.to_csv(temporary, index=False, float_format="%.6g")
    write_text(path.with_suffix(".md"), markdown(table))
    write_text(path.with_suffix(".tex"), latex(table))
    return csv


def markdown(table: pd.DataFrame) -> str:
    """`table` in Markdown, numbers to four significant digits."""
    lines = [list(map(str, table.columns)), ["---"] * len(table.columns), *_cells(table)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: pd.DataFrame) -> str:
    """`table` as a LaTeX tabular with the rules of booktabs, numbers to four significant digits."""
    lines = [[_escaped(cell) for cell in line] for line in [list(map(str, table.columns)), *_cells(table)]]
    head, *body = (f"{' & '.join(line)} \\\\\n" for line in lines)
    numeric = ["r" if pd.api.types.is_numeric_dtype(dtype) else "l" for dtype in table.dtypes]
    begin = f"\\begin{{tabular}}{{{''.join(numeric)}}}\n\\toprule\n"
    return f"{begin}{head}\\midrule\n{''.join(body)}\\bottomrule\n\\end{{tabular}}\n"


def _escaped(text: str) -> str:
    """`text` as LaTeX prints it."""
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {character: f"\\{character}" for character in "&%$#_{}"}
    return "".join(special.get(character, character) for character in text)


def _cells(table: pd.DataFrame) -> list[list[str]]:
    return [
        [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row] for row in table.to_numpy(object)
    ]


def _of(scores: pd.DataFrame, method: str) -> pd.DataFrame:
    found = scores[scores["method"] == method]
    require(len(found) > 0, "scores", f"rows of {method!r}", f"only {sorted(scores['method'].unique())}")
    return found
