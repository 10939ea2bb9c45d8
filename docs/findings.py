"""What the paper and the README say of the results: numbers, tables and figures out of result files, and `claim`.

Nothing here trains or colours. What is not there becomes a visible gap, so that a paper can be read before all runs are
done; a sentence that the results contradict stops the build.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image

from colorstudy._files import read_json
from colorstudy.study import figures, grid, profiles
from colorstudy.study.intervals import intervals, paired
from colorstudy.study.run import Run
from colorstudy.study.scores import SCORES, aggregate, scores_in
from colorstudy.study.tables import LABELS

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(os.environ.get("COLORSTUDY_RESULTS", ROOT / "results"))
AB = 150  # 1 - AuC is the mean distance from the true colour, in ab units, divided by this


class Reversed(ValueError):
    """The results contradict a sentence."""


def gap(what: str) -> str:
    """What stands where a result is missing."""
    return f"**[missing: {what}]**"


def claim(sentence: str, holds: bool | None, *otherwise: tuple[str, bool | None]) -> str:
    """The `sentence`, if it `holds`, or the first of `otherwise` that does; a gap where that is not known yet (None).

    A `Reversed`, which names the sentence, if none holds.
    """
    cases = [(sentence, holds), *otherwise]
    for text, truth in cases:
        if truth:
            return text
    if any(truth is None for _, truth in cases):
        return gap(f"the runs that decide whether “{sentence}”")
    raise Reversed(
        f"the results do not bear out {' or '.join(repr(text) for text, _ in cases)}: write another sentence"
    )


@dataclass(frozen=True)
class Number:
    """A result with its 95 % interval, or what is `missing` of it; formatted as ``mean [low, high]``.

    Of a grid that is not complete, `decided` is False: it is shown, but decides no claim.
    """

    mean: float = np.nan
    low: float = np.nan
    high: float = np.nan
    effective: float = np.nan
    missing: str = ""
    decided: bool = True

    def above(self, value: float = 0) -> bool | None:
        """Whether all of the interval is above `value`; None if that is not known yet."""
        return bool(self.low > value) if self.decided and not self.missing else None

    def below(self, value: float = 0) -> bool | None:
        return bool(self.high < value) if self.decided and not self.missing else None

    def spans(self, value: float = 0) -> bool | None:
        """Whether `value` is in the interval, so that these runs cannot tell the difference from it."""
        return bool(self.low <= value <= self.high) if self.decided and not self.missing else None

    def __add__(self, other: float) -> "Number":
        ends = (self.mean + other, self.low + other, self.high + other)
        return Number(*ends, self.effective, self.missing, self.decided)

    def __mul__(self, factor: float) -> "Number":
        low, high = sorted((self.low * factor, self.high * factor))
        return Number(self.mean * factor, low, high, self.effective, self.missing, self.decided)

    def __format__(self, show: str) -> str:
        if self.missing:
            return gap(self.missing)
        if show.startswith("~"):  # the mean alone
            return format(self.mean, show[1:]).replace("-", "−")
        inside = show.removeprefix("+") if self.low >= 0 else show
        text = f"{self.mean:{show}}"
        if not np.isnan(self.low):
            text += f" [{self.low:{inside}}, {self.high:{inside}}]"
        return text.replace("-", "−")


def all_of(*conditions: bool | None) -> bool | None:
    """Whether all hold; None if one is not known and no other fails."""
    return False if False in conditions else None if None in conditions else True


# --- scores of pictures -----------------------------------------------------------------------------------------------


@cache
def plan(profile: str) -> profiles.Profile:
    return profiles.load_profile(ROOT / "notebooks" / "profiles" / f"{profile}.yaml")


@cache
def scores(profile: str, table: str = "images") -> pd.DataFrame:
    """The per-image scores of all runs there are, see `grid.scores`; empty if there are none.

    Of ``decodings`` the methods are called as ``"class @ s=0.5 T=1"``.
    """
    runs = [Run(path.parent) for path in sorted((RESULTS / profile).glob("runs/*/metrics.json"))]
    try:
        found = grid.scores(runs, table)
    except FileNotFoundError:
        return pd.DataFrame({"method": [], "seed": []})
    if {"s", "T"} <= {*found}:
        found["method"] = [f"{m} @ s={s:g} T={t:g}" for m, s, t in zip(found["method"], found["s"], found["T"])]
    return found


def rows(profile: str, method: str, table: str) -> pd.DataFrame:
    found = scores(profile, table)
    return found[found["method"] == method]


def complete(profile: str, *methods: str) -> bool:
    """Whether the scores of all planned seeds of `methods` are there; `gray` has one."""
    found, wanted = scores(profile), set(plan(profile).seeds)
    names = {name.partition(" @")[0] for name in methods} - {"gray"}
    return all(wanted <= {*found["seed"][found["method"] == name]} for name in names)


def _known(*tables: pd.DataFrame) -> dict[str, Any]:
    """The set-level scores whose columns all of `tables` have."""
    return (
        {}
        if any(t.empty for t in tables)
        else {n: k for n, k in SCORES.items() if all(n in scores_in(t) for t in tables)}
    )


@cache
def _scored(profile: str, method: str, table: str) -> pd.DataFrame:
    found = rows(profile, method, table)
    return intervals(found, known) if (known := _known(found)) else pd.DataFrame()


@cache
def _compared(profile: str, first: str, second: str, table: str) -> pd.DataFrame:
    pair = [rows(profile, method, table) for method in (first, second)]
    return paired(*pair, known) if (known := _known(*pair)) else pd.DataFrame()


def score(profile: str, method: str, name: str = "auc", table: str = "images") -> Number:
    """A set-level score of a method."""
    found = _scored(profile, method, table)
    if name not in found.index:
        return Number(missing=f"{LABELS[name]} of {method}, {profile}")
    return Number(*found.loc[name, ["mean", "low", "high", "effective"]], decided=complete(profile, method))


def difference(profile: str, first: str, second: str, name: str = "auc", table: str = "images") -> Number:
    """The score of `first` minus that of `second`, on the same pictures."""
    found = _compared(profile, first, second, table)
    if name not in found.index:
        return Number(missing=f"{LABELS[name]} of {first} against {second}, {profile}")
    return Number(*found.loc[name, ["mean", "low", "high", "effective"]], decided=complete(profile, first, second))


def scores_table(profile: str, names: Sequence[str], table: str = "images", percent: str = "auc") -> str:
    """Every planned method in Markdown, a missing one with gaps; scores that start with `percent` in percent."""
    heads = [f"{LABELS[name]} (%)" if name.startswith(percent) else LABELS[name] for name in names]
    lines = [["method", "seeds", *heads], ["---"] * 2 + ["---:"] * len(names)]
    for method in plan(profile).methods:
        seeds, wanted = (
            rows(profile, method, table)["seed"].nunique(),
            1 if method == "gray" else len(plan(profile).seeds),
        )
        cells = [score(profile, method, name, table) * (100 if name.startswith(percent) else 1) for name in names]
        shown = [f"{cell:.1f}" if name.startswith(percent) or cell.mean >= 5 else f"{cell:.2f}"
                 for name, cell in zip(names, cells)]  # fmt: skip
        lines.append([method, f"{seeds} of {wanted}", *(text if seeds else "**[missing]**" for text in shown)])
    return markdown(lines)


def markdown(lines: Sequence[Sequence[Any]]) -> str:
    """Lines of cells, the first two its head, as a table."""
    return "\n".join(f"| {' | '.join(map(str, line))} |" for line in lines)


def side_by_side(profile: str, tables: dict[str, str], names: Sequence[str]) -> str:
    """Scores of every planned method on each of `tables`, means alone but for the first score."""
    heads = [f"{title}: {LABELS[name]}" for title in tables.values() for name in names]
    lines = [["method", *heads], ["---", *["---:"] * len(heads)]]
    for method in plan(profile).methods:
        found = [(i, score(profile, method, name, table)) for table in tables for i, name in enumerate(names)]
        cells = [n * 100 if "AuC" in head else n for head, (_, n) in zip(heads, found)]
        shows = [f"{n:.1f}" if i == 0 else f"{n:~.1f}" if "AuC" in head else f"{n:~.2f}"
                 for head, (i, _), n in zip(heads, found, cells)]  # fmt: skip
        lines.append([method, *("**[missing]**" if n.missing else text for n, text in zip(cells, shows))])
    return markdown(lines)


def units(profile: str) -> int:
    """How many units the test pictures are: clusters of those that belong together."""
    found = rows(profile, "gray", "images")
    return found["cluster" if "cluster" in found else "image"].nunique() if len(found) else 0


def trained_on(profile: str) -> str:
    """How many pictures a profile trains on; a gap over scores of older code, which did not say."""
    if not (runs := _metrics(profile)):
        return "–"
    return f"{runs[0]['train_images']:,}" if "train_images" in runs[0] else gap("how many pictures")


def _metrics(profile: str) -> list[dict[str, Any]]:
    """The ``metrics.json`` of every run of a profile, from its manifest where the runs are not kept."""
    runs = [read_json(path) for path in sorted((RESULTS / profile).glob("runs/*/metrics.json"))]
    path = RESULTS / profile / "manifest.json"
    return runs or ([*read_json(path)["runs"].values()] if path.is_file() else [])


# --- tables and pictures that notebooks made --------------------------------------------------------------------------


def frame(profile: str, table: str) -> pd.DataFrame | None:
    paths = [RESULTS / profile / folder / f"{table}.csv" for folder in ("tables", ".")]  # the second: not a profile's
    return next((pd.read_csv(path) for path in paths if path.is_file()), None)


def hours(folder: str, *names: str) -> str:
    """How long trainings of `folder` took together, all of them or those of `names`."""
    path = RESULTS / folder / "runs.json"
    runs = read_json(path) if path.is_file() else {}
    seconds = [run["train"]["seconds"] for name, run in runs.items() if name in names or not names]
    return f"{sum(seconds) / 3600:.1f}" if seconds else gap(f"runs, {folder}")


def covered(seeds: int) -> str:
    """In how many percent intervals over so many seeds hold the truth, in simulations: the least and the most."""
    path = RESULTS / "coverage.csv"
    if not path.is_file():
        return gap("coverage")
    share = 100 * pd.read_csv(path).query("seeds == @seeds")["coverage"]
    return f"{share.min():.0f} to {share.max():.0f}"


def pivot(found: pd.DataFrame | None, row: str, column: str, value: str) -> str:
    """A long table as a wide one, to two digits; a gap if there is none."""
    if found is None:
        return markdown([[gap(value)], ["---"]])
    found = found.pivot(index=row, columns=column, values=value).loc[found[row].unique()]
    heads = [row, *(f"{name} {column}" for name in found)]
    cells = [[i, *("–" if np.isnan(x) else f"{x:.2g}" for x in r)] for i, *r in found.itertuples()]
    return markdown([heads, ["---", *["---:"] * len(found.columns)], *cells])


def cell(profile: str, table: str, column: str = "mean", **where: Any) -> Number:
    """The number, with its interval if it has one, in `column` of the row `where` column = value."""
    found, missing = frame(profile, table), Number(missing=f"{table}: {', '.join(map(str, where.values()))}, {profile}")
    if found is None or not {column, *where} <= {*found}:
        return missing
    found = found[(found[[*where]] == pd.Series(where)).all(axis=1)]
    if len(found) != 1 or found[column].isna().any():
        return missing
    row, prefix = found.iloc[0], f"{column}_" if f"{column}_low" in found else ""
    return Number(float(row[column]), row.get(f"{prefix}low", np.nan), row.get(f"{prefix}high", np.nan))


def shown(profile: str, table: str, columns: dict[str, str], show: str = ".3g", where: str = "") -> str:
    """Columns, renamed, of a table that a notebook made; those rows that the query `where` takes."""
    found = frame(profile, table)
    if found is None or not {*columns} <= {*found}:
        return markdown([[gap(f"{table}, {profile}")], ["---"]])
    found = (found.query(where) if where else found)[[*columns]]
    cells = [[f"{x:{show}}".replace("-", "−") if isinstance(x, float) else str(x) for x in row]
             for row in found.to_numpy(object)]  # fmt: skip
    return markdown([[*columns.values()], ["---"] * len(columns), *cells])


def optima() -> pd.DataFrame | None:
    """How far networks are from theory in the controlled world after the longest training on pictures that repeat."""
    found = frame("world", "world")
    return None if found is None else found[(found["arm"] == "repeated") & (found["steps"] == found["steps"].max())]


def by_heart() -> bool | None:
    """Whether squared error drifts off its optimum with more steps on pictures that repeat, and not on fresh ones."""
    about = {"prediction": "l2 gives the mean", "column": "error"}
    before, after, fresh = (
        cell("world", "world-budget", arm=arm, steps=steps, **about)
        for arm, steps in [("repeated", 1500), ("repeated", 3000), ("fresh", 3000)]
    )
    return all_of(after.above(before.high), fresh.below(after.low)) if not before.missing else None


def budgets() -> list[int]:
    """The numbers of steps after which both `class` and `full` have scores in the profile `budget`."""
    ran = {*scores("budget")["method"]}
    steps = {int(name.partition("-")[2]) for name in ran if "-" in name}
    return sorted(n for n in steps if {f"class-{n}", f"full-{n}"} <= ran)


def longer(method: str, name: str = "auc", table: str = "images") -> Number:
    """What the longest training of `budgets` changes in a score, against the shortest."""
    found = budgets() or [0]
    return difference("budget", f"{method}-{found[-1]}", f"{method}-{found[0]}", name, table)


def tally(found: pd.DataFrame | None, column: str) -> str:
    """How many rows of a table are true in `column`: "35 of 36"."""
    return gap(column) if found is None else f"{int(found[column].sum())} of {len(found)}"


def worst(found: pd.DataFrame | None) -> str:
    """The prediction whose error is the largest share of its tolerance, with both, in words."""
    if found is None:
        return gap("world")
    row = found.loc[(found["error"] / found["tolerance"]).idxmax()]
    return f"“{row['prediction']}” for {row['kind']}s, {row['error']:.2f} against {row['tolerance']:g}"


def ledger(*names: str) -> str:
    """The ledger of claims of the first of these profiles that has one."""
    for name in names:
        found = frame(name, "claims")
        if found is not None:
            cells = [Number(*row) for row in found[["effect", "low", "high"]].to_numpy(float)]
            shown = [f"{n:.1f}" if abs(n.mean) >= 5 else f"{n:.3f}" for n in cells]
            rows = zip(found["test"], [name] * len(found), shown, found["verdict"])
            return markdown([["claim, as tested", "profile", "effect", "verdict"], ["---"] * 4, *rows])
    return markdown([[gap("claims")], ["---"]])


def provenance(*names: str) -> str:
    """Runs, test pictures, data, commits, versions and devices of profiles."""
    lines = [["profile", "runs", "test pictures", "data", "commits", "torch", "device"], ["---"] * 7]
    for name in names:
        runs = _metrics(name)
        made = [run["provenance"] for run in runs]
        columns = [[run["test_images"] for run in runs], [run["data_hash"][:8] for run in runs]]
        columns += [[about["commit"][:7] for about in made], [about["versions"]["torch"] for about in made]]
        columns += [[about["device"] for about in made]]
        lines.append([name, len(runs), *(", ".join(dict.fromkeys(map(str, c))) or gap("runs") for c in columns)])
    return markdown(lines)


def picture(profile: str, name: str) -> Any:
    """A figure that a notebook made, or one that says that it is missing."""
    path = RESULTS / profile / "figures" / name
    return Image(filename=str(path)) if path.is_file() else _blank(f"missing: {name}, {profile}")


def _blank(text: str) -> plt.Figure:
    figure, ax = plt.subplots(figsize=(5, 1))
    ax.text(0.5, 0.5, text, ha="center", va="center", color="#a04000")
    ax.axis("off")
    plt.close(figure)
    return figure


# --- figures ----------------------------------------------------------------------------------------------------------


def color(method: str) -> str:
    return figures.COLORS.get(method.removeprefix("pretrained-"), "0.3")


def gains(profile: str, tables: dict[str, str], name: str = "auc") -> plt.Figure:
    """What each method has above grey, on each of `tables`: filled if pretrained; intervals over pictures and seeds."""
    methods = [method for method in plan(profile).methods if method != "gray"]
    figure, axes = plt.subplots(1, len(tables), figsize=(9, 2.6), sharey=True, layout="constrained")
    for ax, (table, title) in zip(axes, tables.items()):
        ax.axvline(0, color="0.3", lw=1, ls=":")
        for place, method in enumerate(methods):
            found = difference(profile, method, "gray", name, table) * 100
            if found.missing:
                ax.text(0, place, "missing", color="#a04000", fontsize=8, ha="center", va="center")
                continue
            ax.plot([found.low, found.high], [place, place], color=color(method), lw=2)
            ax.plot(found.mean, place, "o", color=color(method), ms=6, mfc=None if "pre" in method else "white")
        ax.set(title=title, xlabel=f"gain over grey, {LABELS[name]} (points)", yticks=range(len(methods)))
        ax.set(yticklabels=methods, ylim=(len(methods) - 0.4, -0.6))
        ax.spines[["top", "right"]].set_visible(False)
    plt.close(figure)
    return figure


@cache
def decoded(profile: str, method: str, table: str) -> pd.DataFrame:
    """Scores of every decoding of a trained method, such as "class @ s=0.5 T=1": a row a strength ``s`` and ``T``."""
    found = scores(profile, table)
    found = found[found["method"].astype(str).str.startswith(f"{method} @")]
    if found.empty:
        return found
    each = {key: aggregate(part) for key, part in found.groupby(["method", "s", "T", "seed"])}
    table = pd.DataFrame(each).T.rename_axis(["method", "s", "T", "seed"])
    return table.groupby(["method", "s", "T"]).mean().reset_index(["s", "T"])


def front(table: pd.DataFrame, x: str = "chroma_ratio", y: str = "auc") -> pd.DataFrame:
    """The rows that no other beats: whatever is at least as vivid is less accurate."""
    table = table.sort_values(x, ascending=False)
    return table[table[y] >= table[y].cummax()]


def fronts(profile: str, tables: dict[str, str], y: str = "auc", *, pairs=("", "pretrained-")) -> plt.Figure:
    """Accuracy against chroma of every decoding of `class` and `full`, their fronts, and both at T = 0.38."""
    figure, axes = plt.subplots(1, len(tables), figsize=(9, 3.2), layout="constrained", squeeze=False)
    for ax, (name, title) in zip(axes[0], tables.items()):
        there = False
        for prefix in pairs:
            for target in ("class", "full"):
                table, style = decoded(profile, f"{prefix}{target}", name), "-" if prefix else "--"
                if table.empty:
                    continue
                there, best, c = True, front(table, y=y), color(target)
                ax.plot(table["chroma_ratio"], 100 * table[y], ".", color=c, alpha=0.3, ms=4)
                ax.plot(best["chroma_ratio"], 100 * best[y], style, color=c, lw=1.5, label=f"{prefix}{target}")
                usual = table[(table["s"] == 0) & (table["T"] == 0.38)]
                ax.plot(usual["chroma_ratio"], 100 * usual[y], "*", color=c, ms=9, mec="white")
        if not there:
            ax.text(0.5, 0.5, f"missing: {name}", transform=ax.transAxes, ha="center", color="#a04000")
        ax.axvline(1, color="0.3", lw=1, ls=":")
        ax.set(title=title, xlabel="chroma / truth", ylabel=f"{LABELS[y]} (%)")
        ax.spines[["top", "right"]].set_visible(False)
    if axes[0, 0].lines:
        axes[0, 0].legend(frameon=False, fontsize=8)
    plt.close(figure)
    return figure


# --- the README -------------------------------------------------------------------------------------------------------


def five() -> list[str]:
    """The findings of the README, the most unflattering first."""
    photographs = len(set(rows("photos16k", "gray", "images")["image"]))
    below = [difference("photos16k", f"{start}full", "gray") for start in ("", "pretrained-")]
    better = [difference("photos16k", f"{start}class", f"{start}l2") for start in ("", "pretrained-")]
    paler = [difference("photos16k", f"{start}class", f"{start}l2", "chroma_ratio") for start in ("", "pretrained-")]
    begun = [difference("photos16k", f"pretrained-{target}", target) for target in ("l2", "class", "full")]
    after = difference("photos16k", "pretrained-class-tempered", "gray")
    vivid = score("photos16k", "pretrained-class-tempered", "chroma_ratio")
    vividest = score("photos16k", "pretrained-full", "chroma_ratio")
    rare = difference("landscapes", "full", "class", "auc_rebalanced")
    grey, pictures = score("landscapes", "gray", "auc_rebalanced"), len(rows("landscapes", "gray", "images"))
    longest = difference("budget", f"full-{(budgets() or [0])[-1]}", "gray")
    known = optima()
    missed = None if known is None else {*known.loc[~known["met"], "prediction"]} == {"l2 gives the mean"}
    accuracy = (
        f"**`full` is less accurate than grey.** On {photographs:,} unseen varied photographs it is further from the "
        f"truth than no colour, by {below[0] * -AB:~.1f} ab units from scratch and {below[1] * -AB:.1f} on pretrained "
        "features. Longer training does not change that."
    )
    target = (
        f"**Classification beats regression, barely:** by {better[0] * 100:~.1f} and {better[1] * 100:.1f} points of "
        f"AuC, and is paler by {paler[0] * -100:~.0f} and {paler[1] * -100:~.0f} % of the truth's chroma."
    )
    start = (
        f"**Pretrained features help as little:** `l2` by {begun[0] * 100:.1f} and `class` by {begun[1] * 100:.1f} "
        "points; `full` by nothing beyond noise."
    )
    posthoc = (
        "**Rebalancing needs no training.** Pretrained `class`, rebalanced when decoding, is "
        f"{after * 100:.1f} points closer to the truth than grey at {vivid:~.2f} of its chroma; trained so, "
        f"{below[1] * -100:.1f} further, at {vividest:~.2f}."
    )
    scored = (
        f"**The usual score of rare colours decides little.** On {pictures:,} landscapes it rests on "
        f"{grey.effective:.0f} pictures in effect; whether weights raise it cannot be told. Of known optima "
        f"{tally(known, 'met')} are reached; squared error misses the others, on pictures that it has by heart."
    )
    return [
        claim(accuracy, all_of(*(one.below() for one in below), longest.below())),
        claim(target, all_of(*(one.above() for one in better), *(one.below() for one in paler))),
        claim(start, all_of(begun[0].above(), begun[1].above(), begun[2].spans())),
        claim(posthoc, all_of(after.above(), below[1].below())),
        claim(scored, all_of(missed, by_heart(), grey.effective < 100, rare.spans())),
    ]


def in_readme(text: str) -> str:
    """The README with the findings between its marks."""
    head, mark, rest = text.partition("<!-- findings: python docs/findings.py -->\n")
    return (
        head + mark + "".join(f"{i}. {one}\n" for i, one in enumerate(five(), 1)) + rest[rest.index("<!-- end -->") :]
    )


if __name__ == "__main__":
    readme = ROOT / "README.md"
    readme.write_text(in_readme(readme.read_text(encoding="utf-8")), encoding="utf-8")
