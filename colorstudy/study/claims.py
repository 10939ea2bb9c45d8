"""The ledger of claims: what the draft and Zhang et al. say, each as a difference that has a sign or has not.

A claim compares one score of two *entries* on the same pictures. An entry is a method (``"full"``), a method at another
temperature (``"full @ T=1"``), or ``"truth"``; `entries` makes the table of them all from the scores of a study.

A claim says that its first entry is the better one. What grey pictures in its place satisfy as well, such as to be
closer to the truth than a method that is further from it than grey, is no merit of the entry: it does not just hold.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pandas import DataFrame, concat, read_csv

from colorstudy._checks import require, require_choice
from colorstudy.study.intervals import paired
from colorstudy.study.scores import SCORES, scores_in
from colorstudy.study.tables import judged

VERDICTS = ("holds", "holds of gray too", "undecided", "fails")
MODE = 0.02  # the temperature that stands for T -> 0: at it the annealed mean is within rounding of the mode


@dataclass(frozen=True)
class Claim:
    """The `score` of `first` minus that of `second` is claimed to be above the margin (sign 1) or below it (-1)."""

    group: str  # the claim in general, of which this is one comparison
    text: str  # the comparison in words
    source: str  # who claims it
    first: str  # an entry
    second: str
    score: str
    sign: int
    margin: float = 0.0  # other than 0: how much worse still counts as on a level

    def __post_init__(self) -> None:
        require(self.sign in (1, -1), "sign", "1 or -1", self.sign)
        require_choice(self.score, SCORES, "score")


# In the order of the ledger. First every order by AuC and by rebalanced AuC in Table 1 of Zhang et al. 2016, but for
# Larsson et al., of whom there is no system here, and for being better than random, as grey is. Those by people fooled
# need people.
CLAIMS = tuple(Claim(*row) for row in read_csv(Path(__file__).with_suffix(".csv")).itertuples(index=False))


def entries(scores: DataFrame, temperatures: DataFrame | None = None) -> DataFrame:
    """The scores of every entry, in the column ``method``, of `grid.scores` of ``images`` and ``temperatures``."""
    parts = [scores]
    if temperatures is not None:
        names = [f"{method} @ T={t:g}" for method, t in zip(temperatures["method"], temperatures["T"])]
        parts.append(temperatures.drop(columns="T").assign(method=names))
    truth = scores.drop_duplicates("image").assign(method="truth", seed=0, auc=1.0)
    for column in map(str, scores):
        if column.endswith(("_true", "_weight")):
            truth[column.removesuffix("_true").replace("_weight", "_hits")] = truth[column]
    table = concat([*parts, truth], ignore_index=True)
    table.loc[table["chroma"] < 1e-3, ["chroma", "roughness"]] = 0.0  # grey is not rough, but for rounding
    return table


def ledger(
    tables: Mapping[str, DataFrame], claims: Sequence[Claim] = CLAIMS, *, outside: Collection[str] = ()
) -> DataFrame:
    """Every claim that one of `tables`, made by `entries`, can test; a ``ValueError`` if one can test none.

    ``data`` names the table: a profile, its other seeds, other pictures; ``domain`` is "out" of those named in
    `outside`, whose pictures are of another kind than those trained on, else "in". ``effect``, with its interval
    ``low`` to ``high``, is ``claimed`` to be "above" or "below" the ``margin``; ``sign`` and ``sign_holm`` are its
    two-sided p-values, the second corrected for the rows of a table. Where that is at most 0.05, the ``verdict`` is
    *holds* or *fails*, else *undecided*, and *holds of gray too* where grey pictures in place of the first entry, in
    a test by itself, do as well. ``each_seed`` has the verdicts of each seed alone, ``stability`` those of all tables.
    """
    parts = []
    for name, table in tables.items():
        part = _of_table(table, claims)
        part.insert(0, "domain", "out" if name in outside else "in")
        part.insert(0, "data", name)
        parts.append(part)
    found = concat(parts, ignore_index=True)
    return found.assign(stability=found.groupby("test")["verdict"].transform(_counted))


def untested(table: DataFrame, claims: Sequence[Claim] = CLAIMS) -> list[Claim]:
    """The claims about entries of which `table` has no rows, or not the score."""
    there, known = {*table["method"]}, scores_in(table)
    return [c for c in claims if not ({c.first, c.second} <= there and c.score in known)]


def _of_table(table: DataFrame, claims: Sequence[Claim]) -> DataFrame:
    """The rows of one table in the ledger, but for ``data``, ``domain`` and ``stability``."""
    tested = [claim for claim in claims if claim not in untested(table, claims)]
    require(len(tested) > 0, "table", "the entries of a claim", f"only {sorted(table['method'].unique())}")
    seeds = {method: {*rows["seed"]} for method, rows in table.groupby("method")}
    # Gray and the truth have nothing to draw, so they belong to every seed.
    fixed = table["method"].isin([method for method, found in seeds.items() if len(found) == 1])
    alone: dict[Claim, list[str]] = {claim: [] for claim in tested}
    for number in sorted({*table["seed"]}):
        part = table[(table["seed"] == number) | fixed]
        missing = untested(part, tested)
        here = [c for c in tested if c not in missing and number in seeds[c.first] | seeds[c.second]]
        for claim, verdict in zip(here, _tested(part, here)["verdict"] if here else []):
            alone[claim].append(verdict)
    found = _tested(table, tested).assign(each_seed=[_counted(verdicts) for verdicts in alone.values()])
    for row, claim in enumerate(tested):
        instead = replace(claim, first="gray")
        if found.loc[row, "verdict"] == "holds" and "gray" in {*seeds} - {claim.first, claim.second}:
            found.loc[row, "verdict"] += " of gray too" * (_tested(table, [instead])["verdict"][0] == "holds")
    return found


def _counted(verdicts: Iterable[str]) -> str:
    """Such as "2 holds, 1 undecided"."""
    found = [*verdicts]
    return ", ".join(f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)


def _tested(table: DataFrame, claims: Sequence[Claim]) -> DataFrame:
    """The rows of `claims`, with their verdicts."""
    parts = []
    for claim in claims:
        first, second = (table[table["method"] == name] for name in (claim.first, claim.second))
        # A method may be decoded at a temperature on some of the pictures only.
        pair = first[first["image"].isin(second["image"])], second[second["image"].isin(first["image"])]
        parts.append(paired(*pair, {claim.score: SCORES[claim.score]}, null=claim.margin))
    about = [(c.group, c.text, c.source, c.score, "above" if c.sign > 0 else "below", c.margin) for c in claims]
    found = concat(parts, ignore_index=True)
    beyond = (found["mean"] - [claim.margin for claim in claims]) * [claim.sign for claim in claims]
    decided = judged(found.assign(mean=beyond))[["sign_holm", "verdict"]]
    result = DataFrame(about, columns=["claim", "test", "source", "score", "claimed", "margin"])
    result = result.join(found.rename(columns={"mean": "effect"})).join(decided)
    return result.replace({"verdict": {"higher": "holds", "lower": "fails"}})
