"""What the answers of a trial say: fooling rates, comparisons of methods, convincing pictures.

Answers are the table of `join`, a row for every pair that somebody judged: ``participant``, ``method``, ``picture``,
``kind`` ("method" or "catch"), ``fooled`` (the truth was called fake), ``seconds``.
"""

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import binomtest, t

from colorstudy._checks import require
from colorstudy.study.intervals import holm
from colorstudy.study.scores import require_columns
from colorstudy.trial.design import SIDES


def join(key: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Answers with what was shown and ``fooled``; practice is left out.

    `key` is that of `design.sessions`; `answers` has ``participant``, ``session``, ``trial``, ``choice`` ("left" or
    "right", the side called fake) and ``seconds``, and no more than one row for a pair of the key.
    """
    require_columns(answers, ["participant", "session", "trial", "choice", "seconds"], "answers")
    known = answers["choice"].isin(SIDES)
    require(bool(known.all()), "answers['choice']", f"one of {SIDES}", answers.loc[~known, "choice"].tolist()[:3])
    twice = answers.duplicated(["participant", "trial"])
    require(not twice.any(), "answers", "one answer to a pair", answers.loc[twice, ["participant", "trial"]].values[:3])
    key = key.drop(columns=["build", "code", "secret"], errors="ignore")  # they stay secret
    joined = answers.merge(key, on=["session", "trial"], how="left", validate="many_to_one", suffixes=("", "_key"))
    lost = joined["phase"].isna()
    require(not lost.any(), "answers", "pairs of the key", joined.loc[lost, ["session", "trial"]].values[:3].tolist())
    joined["fooled"] = joined["choice"] != joined["fake_side"]
    return joined[joined["phase"] == "test"].drop(columns="phase").reset_index(drop=True)


def attentive(answers: pd.DataFrame, least: float = 0.75) -> pd.DataFrame:
    """The answers of participants who saw through at least the share `least` of their catch pairs, if they had any."""
    require(0 <= least <= 1, "least", "a share in [0, 1]", least)
    caught = 1 - answers[answers["kind"] == "catch"].groupby("participant")["fooled"].mean()
    return answers[~answers["participant"].isin(caught.index[caught < least])].reset_index(drop=True)


def fooling_rates(answers: pd.DataFrame) -> pd.DataFrame:
    """How often each method fools people, with standard errors over participants and pictures, both drawn from many.

    The variance over the ones and that over the others each count the chance of a single answer once, so it is the sum
    of both less that of the residuals (Cameron, Gelbach and Miller, "Robust inference with multiway clustering", 2011).
    The interval is Student's t, with one degree of freedom less than the fewer of the two, of which every method needs
    two. Catch pairs are left out. Indexed by ``method``: ``rate``, ``error`` (standard), ``low``, ``high`` (95 %),
    ``participants``, ``pictures``, ``answers``, ``seconds`` (median).
    """
    groups = _counting(answers).groupby("method", sort=False)
    rate, error, freedom = np.array([_estimate(part) for _, part in groups]).T
    # Symmetric in the logit, as rates near 0 have skewed errors; 0 and 1 have none, and are their own interval.
    half = t.ppf(0.975, freedom) * error / np.maximum(rate * (1 - rate), 1e-12)
    low, high = expit(logit(rate) - half), expit(logit(rate) + half)
    sizes = groups.agg({"participant": "nunique", "picture": "nunique", "fooled": "size", "seconds": "median"})
    sizes.columns = ["participants", "pictures", "answers", "seconds"]
    return pd.DataFrame({"rate": rate, "error": error, "low": low, "high": high}, sizes.index).join(sizes)


def compare(answers: pd.DataFrame) -> pd.DataFrame:
    """Differences of fooling rates between all pairs of methods (at least two), which were shown on the same pictures.

    Participants differ from method to method, pictures are shared; otherwise as `fooling_rates`. Columns are
    ``difference`` ("a - b"), ``mean``, ``error``, ``low``, ``high``, ``p`` (two-sided), ``p_holm`` (of all pairs).
    """
    parts = {str(method): part for method, part in _counting(answers).groupby("method", sort=False)}
    require(len(parts) > 1, "answers", "at least two methods", [*parts])
    rows = []
    for a, b in combinations(parts, 2):
        mean, error, freedom = _estimate(parts[a], parts[b])
        half = t.ppf(0.975, freedom) * error
        p = 2 * t.sf(abs(mean) / error, freedom) if error > 0 else float(mean == 0)
        rows.append((f"{a} - {b}", mean, error, mean - half, mean + half, p))
    table = pd.DataFrame(rows, columns=["difference", "mean", "error", "low", "high", "p"])
    return table.assign(p_holm=holm(table["p"]))


def convincing(answers: pd.DataFrame) -> pd.DataFrame:
    """How often each picture of each method fooled people, the most convincing first, with Wilson's 95 % interval."""
    pairs = _counting(answers).groupby(["method", "picture"])["fooled"]
    tests = {pair: binomtest(int(fooled.sum()), len(fooled)) for pair, fooled in pairs}
    rows = [(*pair, test.statistic, *test.proportion_ci(method="wilson"), test.n) for pair, test in tests.items()]
    table = pd.DataFrame(rows, columns=["method", "picture", "rate", "low", "high", "answers"])
    return table.sort_values(["rate", "answers"], ascending=False, ignore_index=True)


def analyse(key: pd.DataFrame, answers: pd.DataFrame, least: float = 0.75) -> dict[str, pd.DataFrame]:
    """Of raw answers, without the inattentive: ``rates``, ``pictures``, ``differences``; and how many ``people``."""
    everyone = join(key, answers)
    kept = attentive(everyone, least)
    counts = {"participants": everyone["participant"].nunique(), "kept": kept["participant"].nunique()}
    tables = {"people": pd.DataFrame([counts]), "rates": fooling_rates(kept), "pictures": convincing(kept)}
    return tables | ({"differences": compare(kept)} if kept["method"].nunique() > 1 else {})


def _estimate(*parts: pd.DataFrame) -> tuple[float, float, int]:
    """The rate of one method, or the difference of two, its standard error, and its degrees of freedom."""
    rate = of_people = chance = 0.0
    pictures, sizes = [], []
    for sign, part in zip((1, -1), parts):
        n, off = len(part), (part["fooled"] - part["fooled"].mean()) / len(part)
        by_person, by_picture = off.groupby(part["participant"]), off.groupby(part["picture"])
        sizes += [by_person.ngroups, by_picture.ngroups]
        require(min(sizes) > 1, "answers", "at least two participants and two pictures a method", sizes)
        rate += sign * part["fooled"].mean()
        of_people += _variance(by_person.sum())
        pictures.append(sign * by_picture.sum())
        # The rate's variance by what neither people nor pictures explain, were it alone.
        residuals = off - by_person.transform("mean") - by_picture.transform("mean")
        chance += n * residuals.pow(2).sum() / max(n - sum(sizes[-2:]) + 1, 1)
    of_pictures = _variance(pd.concat(pictures).groupby(level=0).sum())  # the same ones, for both methods
    variance = max(of_people + of_pictures - chance, of_people, of_pictures)
    return float(rate), float(np.sqrt(variance)), min(sizes) - 1


def _variance(shares: pd.Series) -> float:
    """The variance of a sum of `shares`, which are 0 on average, of people or pictures drawn from many."""
    return shares.pow(2).sum() * len(shares) / (len(shares) - 1)


def _counting(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers to pairs that count."""
    counting = answers[answers["kind"] == "method"]
    require(len(counting) > 0, "answers", "answers to pairs that count", "none")
    return counting
