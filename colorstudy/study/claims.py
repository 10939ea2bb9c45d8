"""The ledger of claims: what the draft and Zhang et al. say, each as a difference that has a sign or has not.

A claim compares one score of two *entries* on the same pictures. An entry is a method (``"full"``), a method at another
temperature (``"full @ T=1"``), or ``"truth"``; `entries` makes the table of them all from the scores of a study.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pandas import DataFrame, concat, read_csv

from colorstudy._checks import require, require_choice
from colorstudy.study.bootstrap import paired
from colorstudy.study.scores import SCORES
from colorstudy.study.tables import judged

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


# In the order of the ledger.
CLAIMS = tuple(Claim(*row) for row in read_csv(Path(__file__).with_suffix(".csv")).itertuples(index=False))


def entries(scores: DataFrame, temperatures: DataFrame) -> DataFrame:
    """The scores of every entry, in the column ``method``, of `grid.scores` of ``images`` and ``temperatures``."""
    decoded = temperatures.assign(method=[f"{m} @ T={t:g}" for m, t in zip(temperatures["method"], temperatures["T"])])
    truth = scores.drop_duplicates("image").assign(method="truth", seed=0, auc=1.0)
    for column in [str(name) for name in scores if str(name).endswith("_true")]:
        truth[column.removesuffix("_true")] = truth[column]
    truth[["tail_hits", "rebalanced_hits"]] = truth[["tail_weight", "rebalanced_weight"]]
    return concat([scores, decoded.drop(columns="T"), truth], ignore_index=True)


def ledger(table: DataFrame, claims: Sequence[Claim] = CLAIMS, *, samples: int = 4000, seed: int = 0) -> DataFrame:
    """Every claim that `table`, made by `entries`, can test, with its verdict; a ``ValueError`` if there is none.

    ``effect``, with its interval ``low`` to ``high``, is ``claimed`` to be "above" or "below" the ``margin``; ``sign``
    and ``sign_holm`` are two-sided p-values against the margin, the second corrected for the number of rows. Where it
    is at most 0.05, the ``verdict`` is *holds* or *fails*, else *undecided*; ``each_seed``: those of each seed alone.
    """
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
        for claim, verdict in zip(here, _tested(part, here, samples, seed)["verdict"] if here else []):
            alone[claim].append(verdict)
    verdicts = ("holds", "undecided", "fails")
    each = [", ".join(f"{found.count(v)} {v}" for v in verdicts if v in found) for found in alone.values()]
    return _tested(table, tested, samples, seed).assign(each_seed=each)


def untested(table: DataFrame, claims: Sequence[Claim] = CLAIMS) -> list[Claim]:
    """The claims about entries of which `table` has no rows."""
    there = {*table["method"]}
    return [claim for claim in claims if not {claim.first, claim.second} <= there]


def _tested(table: DataFrame, claims: Sequence[Claim], samples: int, seed: int) -> DataFrame:
    """The rows of `claims` in the ledger, but for ``each_seed``."""
    parts = []
    for claim in claims:
        first, second = (table[table["method"] == name] for name in (claim.first, claim.second))
        # A method may be decoded at a temperature on some of the pictures only.
        pair = first[first["image"].isin(second["image"])], second[second["image"].isin(first["image"])]
        score = {claim.score: SCORES[claim.score]}
        parts.append(paired(*pair, score, null=claim.margin, samples=samples, seed=seed))
    about = [(c.group, c.text, c.source, c.score, "above" if c.sign > 0 else "below", c.margin) for c in claims]
    found = concat(parts, ignore_index=True)
    beyond = (found["mean"] - [claim.margin for claim in claims]) * [claim.sign for claim in claims]
    decided = judged(found.assign(mean=beyond))[["sign_holm", "verdict"]]
    result = DataFrame(about, columns=["claim", "test", "source", "score", "claimed", "margin"])
    result = result.join(found.rename(columns={"mean": "effect"})).join(decided)
    return result.replace({"verdict": {"higher": "holds", "lower": "fails"}})
