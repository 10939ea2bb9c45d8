"""The tables of the paper: every one is a DataFrame first, with an interval on every number."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from pandas import DataFrame

from colorstudy import methods
from colorstudy._checks import extra, require
from colorstudy._files import table_of, write_text
from colorstudy.study.intervals import holm, intervals, paired
from colorstudy.study.scores import SCORES, Scores, require_columns, scores_in

with extra("study"):
    from IPython.display import HTML

LABELS, SYSTEMS = (  # the scores in words; what each row of the table of systems is
    {row["name"]: row["words"] for row in table_of(__file__) if row["kind"] == kind} for kind in ("score", "system")
)
HEADLINE = [*LABELS][:11]  # the scores of the main table, up to chroma_ratio


class Variant(NamedTuple):
    """A method that differs from another in one point, so that the difference of their scores is the point's effect."""

    base: str
    group: str  # of the table that it belongs to
    words: str  # what is different


VARIANTS = {
    row["name"]: Variant(row["base"], row["group"], row["words"]) for row in table_of(methods.__file__) if row["base"]
}
"""Every switch of the ablation tables: a method of that name, and what it is compared with."""


def intervals_by(table: DataFrame, keys: Sequence[str], scores: Scores) -> DataFrame:
    """Set-level scores of groups of a per-image table, with 95 % intervals over images and seeds.

    A group has the same values of `keys` (nan is one, too). The columns are `keys`, ``score`` and those of `intervals`,
    a row for each group and score, in the order in which they come.
    """
    require_columns(table, keys, "table")
    require(len(table) > 0, "table", "at least one row", "none")
    groups = list(table.groupby(list(keys), sort=False, dropna=False))
    about = DataFrame([values for values, _ in groups for _ in scores], columns=list(keys))
    found = pd.concat([intervals(group, scores) for _, group in groups])
    return about.join(found.rename_axis("score").reset_index())


def wide(table: DataFrame) -> DataFrame:
    """`intervals_by` with one row a group: its keys, ``seeds``, ``images``, ``over``, and the columns of each score.

    These are ``<score>``, ``<score>_low``, ``<score>_high``, and ``<score>_effective`` of a weighted one.
    """
    keys = [*table.columns[: list(table).index("score")], "seeds", "images", *table.filter(["over"])]
    rows = []
    for values, group in table.groupby(keys, sort=False, dropna=False):
        row: dict[Any, Any] = dict(zip(keys, values))
        for one in group.to_dict("records"):
            row |= {one["score"]: one["mean"]} | {f"{one['score']}_{end}": one[end] for end in ("low", "high")}
            if one.get("effective", np.nan) > 0:
                row[f"{one['score']}_effective"] = one["effective"]
        rows.append(row)
    return DataFrame(rows)


def main_table(
    scores: DataFrame, methods: list[str], names: list[str] | None = None, *, known: Scores = SCORES
) -> DataFrame:
    """`wide` intervals of set-level scores, a row for each of `methods`; a ``ValueError`` if one has no scores.

    `scores` are per image, as `grid.scores` gives them; `known` says what `names` mean, by default those of `HEADLINE`
    that `scores` has. Where it has rows of gray, every AuC has its gain over that: ``<score>_gain``, ``_gain_low`` and
    ``_gain_high``, of `paired`.
    """
    names = [name for name in HEADLINE if name in scores_in(scores)] if names is None else names
    rows = pd.concat([_of(scores, method) for method in methods])
    table = wide(intervals_by(rows, ["method"], {name: known[name] for name in names}))
    aucs = {name: known[name] for name in names if name.startswith("auc")}
    if aucs and (scores["method"] == "gray").any():
        gains = [paired(_of(scores, method), _of(scores, "gray"), aucs) for method in methods]
        for name in aucs:
            columns = [f"{name}_gain", f"{name}_gain_low", f"{name}_gain_high"]
            table[columns] = np.array([gain.loc[name, ["mean", "low", "high"]] for gain in gains], float)
    return table


def paired_table(
    scores: DataFrame, pairs: list[tuple[str, str]], names: list[str], *, known: Scores = SCORES
) -> DataFrame:
    """Differences between two methods on the same images: a row for each of `pairs`, first minus second, and score.

    Columns: ``difference``, ``score``, then those of `paired` and `judged`. Arguments are those of `main_table`.
    """
    chosen = {name: known[name] for name in names}
    parts = [paired(_of(scores, a), _of(scores, b), chosen) for a, b in pairs]
    table = pd.concat(parts, keys=[f"{a} - {b}" for a, b in pairs], names=["difference", "score"])
    return judged(table.reset_index())


def judged(table: DataFrame) -> DataFrame:
    """`table` of differences with Holm's p-values of ``sign`` and a ``verdict``, "undecided" where these are > 0.05."""
    corrected = holm(table["sign"])
    sure = corrected <= 0.05
    verdict = np.select([sure & (table["mean"] > 0), sure & (table["mean"] < 0)], ["higher", "lower"], "undecided")
    return table.assign(sign_holm=corrected, verdict=verdict)


def effects_table(scores: DataFrame, variants: Mapping[str, Variant], names: list[str]) -> DataFrame:
    """What each variant changes: its scores minus those of its base, on the same images and seeds.

    Columns ``group``, ``base``, ``variant``, ``change`` (in words), then those of `paired_table` from ``score`` on.
    Variants of which `scores` holds no runs have no row; a ``ValueError`` if none has.
    """
    run = {*scores["method"]}
    chosen = {name: variant for name, variant in variants.items() if {name, variant.base} <= run}
    got = f"only {sorted(run)}; a profile without any skips this notebook"
    require(len(chosen) > 0, "scores", f"runs of a variant and its base, some of {list(variants)}", got)
    about = [(v.group, v.base, name, v.words) for name, v in chosen.items() for _ in names]
    table = paired_table(scores, [(name, v.base) for name, v in chosen.items()], names)
    return DataFrame(about, columns=["group", "base", "variant", "change"]).join(table.drop(columns="difference"))


def published() -> DataFrame:
    """Table 1 of Zhang et al. 2016, as printed, of other pictures and budgets, in percent; "amt" is people fooled."""
    return pd.read_csv(Path(__file__).with_name("zhang2016_table1.csv"))


def beside_published(table: DataFrame) -> DataFrame:
    """The AuC of `main_table` and `published`, in percent; what only one side has is empty on the other."""
    columns = {"auc": "AuC, theirs", "auc_rebalanced": "AuC, rebalanced, theirs", "amt_fooled": "people fooled, theirs"}
    theirs = published()[["method", *columns]].rename(columns=columns | {"method": "theirs"})
    order = {name: i for i, name in enumerate(theirs["theirs"])}
    percent = table[["method", "seeds", "images"]].join(100 * table.filter(regex="^auc.*(?<!_effective)$"))
    ours = readable(percent, ["auc", "auc_rebalanced"]).rename(columns={"method": "ours"})
    ours.insert(1, "theirs", ours["ours"].map({name: name for name in order} | {"l2-ft": "l2 fine-tuned"}))
    both = ours.merge(theirs, on="theirs", how="outer", sort=False)
    both = both.sort_values("theirs", key=lambda names: names.map(order), kind="stable", ignore_index=True)
    return both.astype({"seeds": "Int64", "images": "Int64"}).astype(object).where(both.notna(), "")


def with_interval(mean: float, low: float, high: float, show: str = ".3f") -> str:
    """A number with its interval in text, such as ``0.861 [0.831, 0.892]``; `show` is a format specification."""
    return f"{mean:{show}} [{low:{show}}, {high:{show}}]"


def change(row: pd.Series, score: str) -> str:
    """A row of `paired_table` in words, such as "lowers AuC by 0.027 [0.020, 0.034]"."""
    label = LABELS[score]
    if row["verdict"] not in ("higher", "lower"):
        return f"leaves open whether {label} changes ({with_interval(row['mean'], row['low'], row['high'], '+.3f')})"
    verb, ends = "raises" if row["verdict"] == "higher" else "lowers", (abs(row["low"]), abs(row["high"]))
    return f"{verb} {label} by {with_interval(abs(row['mean']), min(ends), max(ends))}"


def readable(table: DataFrame, names: Sequence[str]) -> DataFrame:
    """`main_table` for reading: one column a score, ``mean [low, high]``, and its gain over grey if it has one.

    The heading of a weighted AuC says on how many pictures it rests in effect, at least.
    """
    told = table[["method", "seeds", "images"]].copy()
    for name in names:
        label, counting = LABELS[name], table.get(f"{name}_effective")
        if name.startswith("auc") and counting is not None:
            label += f" ({counting.min():.0f} effective)"
        for column, words in {name: label, f"{name}_gain": f"gain over grey, {LABELS[name]}"}.items():
            if column in table:
                show = ".1f" if table[column].abs().max() >= 10 else ".3f"
                numbers = table[[column, f"{column}_low", f"{column}_high"]].to_numpy(float)
                told[words] = [with_interval(mean, low, high, show) for mean, low, high in numbers]
    return told


def show(table: DataFrame, digits: int = 3) -> HTML:
    """`table` as HTML for a notebook: without its index, numbers to `digits` places, the same on every machine."""
    number = lambda x: f"{round(x, digits) + 0.0:.{digits}f}"  # noqa: E731  # no -0.000
    return HTML(table.to_html(index=False, border=0, float_format=number, na_rep=""))


def tally(differences: DataFrame, score: str) -> str:
    """Verdicts of `paired_table` on a score, counted, with its means: "AuC 3 lower, 1 undecided (-0.01 to +0.00)"."""
    rows = differences[differences["score"] == score]
    counted = [f"{count} {verdict}" for verdict, count in rows["verdict"].value_counts().items()]
    return f"{LABELS[score]} {', '.join(counted)} ({rows['mean'].min():+.3f} to {rows['mean'].max():+.3f})"


def save(table: DataFrame, path: str | Path) -> Path:
    """Write `table` as ``<path>.csv`` and ``.md`` (`path` without suffix); return the CSV."""
    path = Path(path)
    require(path.suffix == "", "path", "no suffix", path.suffix)
    write_text(path.with_suffix(".csv"), table.to_csv(index=False, float_format="%.6g"))
    write_text(path.with_suffix(".md"), markdown(table))
    return path.with_suffix(".csv")


def markdown(table: DataFrame) -> str:
    """`table` in Markdown, numbers to four significant digits."""
    cells = [[f"{x:.4g}" if isinstance(x, float) else str(x) for x in row] for row in table.to_numpy(object)]
    lines = [[str(name) for name in table], ["---"] * len(table.columns), *cells]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def latex(table: DataFrame) -> str:
    """`table` as a LaTeX tabular with the rules of booktabs, numbers to four significant digits."""
    with extra("study"):  # pandas needs Jinja for this
        return table.to_latex(index=False, escape=True, float_format="%.4g", na_rep="nan")


def _of(scores: DataFrame, method: str) -> DataFrame:
    found = scores[scores["method"] == method]
    require(len(found) > 0, "scores", f"rows of {method!r}", f"only {sorted(scores['method'].unique())}")
    return found
