"""The ledger of claims: what the draft and Zhang et al. say, each as a difference that has a sign or has not.

A claim compares one score of two *entries* on the same pictures. An entry is a method (``"full"``), a method at another
temperature (``"full @ T=1"``), or ``"truth"``; `entries` makes the table of them all from the scores of a study.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from colorstudy import statistics
from colorstudy._checks import require
from colorstudy.metrics import SCORES

MODE = 0.02
"""The temperature that stands for T -> 0: at it the annealed mean is within rounding of the mode."""


@dataclass(frozen=True)
class Claim:
    """``score(first) - score(second)`` is claimed to be above `margin`, or below it.

    Parameters
    ----------
    group : str
        The claim in general, of which this is one comparison.
    text : str
        The comparison in words.
    source : str
        Who claims it.
    first, second, score : str
        Two entries and one of `metrics.SCORES`.
    sign : {1, -1}
        Whether the difference is claimed to be above or below `margin`.
    margin : float
        0, or how much worse still counts as on a level.
    """

    group: str
    text: str
    source: str
    first: str
    second: str
    score: str
    sign: int
    margin: float = 0.0

    def __post_init__(self) -> None:
        require(self.sign in (1, -1), "sign", "1 or -1", self.sign)
        require(self.score in SCORES, "score", f"one of {list(SCORES)}", repr(self.score))


_ZHANG, _DRAFT = "Zhang et al. 2016", "Billaut et al. 2018"

CLAIMS = (
    Claim("L2 is desaturated", "l2 has less chroma than the truth", _ZHANG, "l2", "truth", "chroma_ratio", -1),
    Claim("L2 is desaturated", "l2 has less chroma than full", _ZHANG, "l2", "full", "chroma_ratio", -1),
    Claim("classification beats L2 on AuC", "class has a higher AuC than l2", _ZHANG, "class", "l2", "auc", 1),
    Claim("rebalancing trades AuC for rebalanced AuC", "full has a lower AuC than class",
          _ZHANG, "full", "class", "auc", -1),
    Claim("rebalancing trades AuC for rebalanced AuC", "full has a higher rebalanced AuC than class",
          _ZHANG, "full", "class", "auc_rebalanced", 1),
    Claim("rebalancing brings rare colours", "full gives rare colours to more pixels than class",
          _ZHANG, "full", "class", "rare_share", 1),
    Claim("rebalancing brings rare colours", "class-posthoc gives rare colours to more pixels than class",
          "colorstudy", "class-posthoc", "class", "rare_share", 1),
    *(
        claim
        for method in ("class", "full")
        for claim in (
            Claim("the mean is pale, the mode vivid", f"{method}: T = 1 is less colourful than T = 0.38",
                  _ZHANG, f"{method} @ T=1", f"{method} @ T=0.38", "colorfulness", -1),
            Claim("the mean is pale, the mode vivid", f"{method}: the mode is more colourful than T = 0.38",
                  _ZHANG, f"{method} @ T={MODE}", f"{method} @ T=0.38", "colorfulness", 1),
            Claim("the mode is inconsistent in space", f"{method}: the mode is rougher, for its chroma, than T = 1",
                  _ZHANG, f"{method} @ T={MODE}", f"{method} @ T=1", "roughness", 1),
        )
    ),
    *(
        Claim("augmentation helps", f"{base} has a higher AuC with augmentation than without",
              _DRAFT, base, f"{base}-unaugmented", "auc", 1)
        for base in ("l2", "full")
    ),
    Claim("a light U-shape is enough for a narrow domain", "colorunet is at most .01 of AuC below full",
          _DRAFT, "colorunet", "full", "auc", 1, margin=-0.01),
    Claim("a light U-shape is enough for a narrow domain", "colorunet is at most .05 of chroma / truth below full",
          _DRAFT, "colorunet", "full", "chroma_ratio", 1, margin=-0.05),
    Claim("classification serves vivid colours", "class has a higher AuC than l2 where the true chroma is above 40",
          _DRAFT, "class", "l2", "auc_tail", 1),
    Claim("classification serves vivid colours", "full has a higher AuC than l2 where the true chroma is above 40",
          _DRAFT, "full", "l2", "auc_tail", 1),
    Claim("fine-tuned L2 stays pale", "l2-ft has less chroma than full", _ZHANG, "l2-ft", "full", "chroma_ratio", -1),
)  # fmt: skip
"""What is tested, in the order of the ledger."""


def entries(scores: pd.DataFrame, temperatures: pd.DataFrame) -> pd.DataFrame:
    """The per-image scores of every entry, in the column ``method``.

    Parameters
    ----------
    scores, temperatures : DataFrame
        As `study.scores` gives them, of the tables ``images`` and ``temperatures``.
    """
    decoded = temperatures.assign(method=[f"{m} @ T={t:g}" for m, t in zip(temperatures["method"], temperatures["T"])])
    truth = scores.drop_duplicates("image").assign(method="truth", seed=0)
    for column in [name for name in scores if name.endswith("_true")]:
        truth[column.removesuffix("_true")] = truth[column]
    truth[["tail_hits", "rebalanced_hits"]] = truth[["tail_weight", "rebalanced_weight"]]
    return pd.concat([scores, decoded.drop(columns="T"), truth.assign(auc=1.0)], ignore_index=True)


def ledger(
    table: pd.DataFrame, claims: tuple[Claim, ...] = CLAIMS, *, samples: int = 4000, seed: int = 0
) -> pd.DataFrame:
    """Every claim that `table` can test, with its verdict.

    Parameters
    ----------
    table : DataFrame
        As `entries` gives it.
    claims : tuple of Claim
    samples, seed : int
        Of the bootstrap.

    Returns
    -------
    DataFrame
        A row a claim: ``claim``, ``test``, ``source``, ``score``; ``effect`` (the difference), ``low``, ``high`` (95 %
        over images and seeds); ``claimed`` ("above" or "below" the margin), ``margin``; ``sign`` and ``sign_holm``
        (two-sided p-values against the margin, the second corrected for the number of rows); ``images``, ``seeds``;
        ``verdict`` (*holds* or *fails* where ``sign_holm`` is at most 0.05, else *undecided*) and ``each_seed``: how
        often each verdict comes out where one seed alone is looked at. Claims about entries that `table` lacks have no
        row; see `untested`.

    Raises
    ------
    ValueError
        If there is no claim to test.
    """
    tested = [claim for claim in claims if claim not in untested(table, claims)]
    require(len(tested) > 0, "table", "the entries of a claim", f"only {sorted(table['method'].unique())}")
    result = _tested(table, tested, samples, seed)
    both = {c: table.loc[table["method"].isin([c.first, c.second]), ["method", "seed"]] for c in tested}
    alone: dict[Claim, list[str]] = {claim: [] for claim in tested}
    for number in sorted(table["seed"].unique()):
        # Gray and the truth have nothing to draw, so they belong to every seed.
        fixed = table.groupby("method")["seed"].transform("nunique") == 1
        part = table[(table["seed"] == number) | fixed]
        here = [c for c in tested if {c.first, c.second} <= {*part["method"]} and number in {*both[c]["seed"]}]
        for claim, verdict in zip(here, _tested(part, here, samples, seed)["verdict"] if here else []):
            alone[claim].append(verdict)
    counts = [{v: found.count(v) for v in ("holds", "undecided", "fails") if v in found} for found in alone.values()]
    return result.assign(each_seed=[", ".join(f"{n} {v}" for v, n in count.items()) for count in counts])


def untested(table: pd.DataFrame, claims: tuple[Claim, ...] = CLAIMS) -> list[Claim]:
    """The claims about entries of which `table` has no rows."""
    there = {*table["method"]}
    return [claim for claim in claims if not {claim.first, claim.second} <= there]


def _tested(table: pd.DataFrame, claims: list[Claim], samples: int, seed: int) -> pd.DataFrame:
    """The rows of `claims`, but for ``each_seed``."""
    rows = []
    for claim in claims:
        first, second = _common(*(table[table["method"] == name] for name in (claim.first, claim.second)))
        options = {"null": claim.margin, "samples": samples, "seed": seed}
        row = statistics.paired(first, second, {claim.score: SCORES[claim.score]}, **options).astype(object).iloc[0]
        about = {"claim": claim.group, "test": claim.text, "source": claim.source, "score": claim.score}
        numbers = {"effect": row["mean"], "low": row["low"], "high": row["high"]}
        numbers |= {"claimed": "above" if claim.sign > 0 else "below", "margin": claim.margin}
        rows.append(about | numbers | {"sign": row["sign"], "images": row["images"], "seeds": row["seeds"]})
    result = pd.DataFrame(rows)
    holm = statistics.holm(result["sign"])
    right = np.sign(result["effect"] - result["margin"]) == [claim.sign for claim in claims]
    verdict = np.select([(holm <= 0.05) & right, holm <= 0.05], ["holds", "fails"], "undecided")
    columns = [*result.columns[: result.columns.get_loc("sign") + 1], "sign_holm", "images", "seeds", "verdict"]
    return result.assign(sign_holm=holm, verdict=verdict)[columns]


def _common(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows of the pictures that both have: a method may be decoded at a temperature on some of them only."""
    images = {*first["image"]} & {*second["image"]}
    return first[first["image"].isin(images)], second[second["image"].isin(images)]
