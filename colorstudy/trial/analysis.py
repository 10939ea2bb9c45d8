"""What the answers of a trial say: fooling rates, comparisons of methods, convincing pictures.

Answers are the table of `join`, a row for every pair that somebody judged: ``participant``, ``method``, ``picture``,
``kind`` ("method" or "catch"), ``fooled`` (the truth was called fake), ``seconds``.
"""

from copy import deepcopy
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import binomtest, t

from colorstudy._checks import require
from colorstudy.study.intervals import holm
from colorstudy.study.scores import require_columns
from colorstudy.trial.design import SIDES

_COLUMNS = ("participant", "method", "picture", "kind", "fooled", "seconds")


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
    require_columns(answers, _COLUMNS, "answers")
    require(0 <= least <= 1, "least", "a share in [0, 1]", least)
    caught = 1 - answers[answers["kind"] == "catch"].groupby("participant")["fooled"].mean()
    return answers[~answers["participant"].isin(caught.index[caught < least])].reset_index(drop=True)


def fooling_rates(answers: pd.DataFrame, *, samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """How often each method fools people, with standard errors over participants and pictures, both drawn from many.

    Resampling the ones and resampling the others each counts the chance of a single answer once, so the variance is
    the sum of both bootstrap variances less that of the residuals (Cameron, Gelbach and Miller, "Robust inference with
    multiway clustering", 2011). The interval is Student's t, with one degree of freedom less than the fewer of the two,
    of which every method needs two. Catch pairs are left out. Indexed by ``method``: ``rate``, ``error`` (standard, of
    `samples` resamples), ``low``, ``high`` (95 %), ``participants``, ``pictures``, ``answers``, ``seconds`` (median).
    """
    rows = {}
    for method, part in _counting(answers).groupby("method", sort=False):
        rate, error, freedom = _estimate([part], samples, seed)
        # Symmetric in the logit, as rates near 0 have skewed errors; 0 and 1 have none, and are their own interval.
        half = t.ppf(0.975, freedom) * error / max(rate * (1 - rate), 1e-12)
        low, high = expit(logit(rate) + half * np.array([-1, 1]))
        sizes = part["participant"].nunique(), part["picture"].nunique(), len(part)
        rows[method] = rate, error, low, high, *sizes, part["seconds"].median()
    columns = ["rate", "error", "low", "high", "participants", "pictures", "answers", "seconds"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("method")


def compare(answers: pd.DataFrame, *, samples: int = 1000, seed: int = 0) -> pd.DataFrame:
    """Differences of fooling rates between all pairs of methods (at least two), which were shown on the same pictures.

    Participants are resampled for each method, pictures for both together; otherwise as `fooling_rates`. Columns are
    ``difference`` ("a - b"), ``mean``, ``error``, ``low``, ``high``, ``p`` (two-sided), ``p_holm`` (of all pairs).
    """
    parts = {str(method): part for method, part in _counting(answers).groupby("method", sort=False)}
    require(len(parts) > 1, "answers", "at least two methods", [*parts])
    rows = []
    for a, b in combinations(parts, 2):
        mean, error, freedom = _estimate([parts[a], parts[b]], samples, seed)
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


def analyse(key: pd.DataFrame, answers: pd.DataFrame, least: float = 0.75, **options: int) -> dict[str, pd.DataFrame]:
    """Of raw answers, without the inattentive: ``rates``, ``pictures``, ``differences``; and how many ``people``."""
    everyone = join(key, answers)
    kept = attentive(everyone, least)
    counts = {"participants": everyone["participant"].nunique(), "kept": kept["participant"].nunique()}
    tables = {"people": pd.DataFrame([counts]), "rates": fooling_rates(kept, **options), "pictures": convincing(kept)}
    return tables | ({"differences": compare(kept, **options)} if kept["method"].nunique() > 1 else {})


def _estimate(parts: list[pd.DataFrame], samples: int, seed: int) -> tuple[float, float, int]:
    """The rate of one method, or the difference of two, its standard error, and its degrees of freedom."""
    require(samples >= 2, "samples", "at least 2", samples)
    rng = np.random.default_rng(seed)
    rates, people, pictures, chance = [], [], [], 0.0
    sizes: list[int] = []
    for part in parts:
        fooled, n = part["fooled"].astype(float), len(part)
        by_person, by_picture = (fooled.groupby(part[name], sort=False) for name in ("participant", "picture"))
        size = by_person.ngroups, by_picture.ngroups
        require(min(size) > 1, "answers", "at least two participants and two pictures a method", size)
        # The rate's variance by what neither people nor pictures explain, were it alone.
        residuals = fooled - by_person.transform("mean") - by_picture.transform("mean") + fooled.mean()
        chance += residuals.pow(2).sum() / n / max(n - sum(size) + 1, 1)
        rates.append(fooled.mean())
        sizes += size
        people.append(_resampled(by_person.agg(["sum", "size"]), samples, rng))
        pictures.append(by_picture.agg(["sum", "size"]))
    # The same pictures are drawn for both methods; those that were shown for the other alone count nothing.
    shown = pd.concat(parts)["picture"].unique()
    drawn = [_resampled(table.reindex(shown, fill_value=0), samples, deepcopy(rng)) for table in pictures]
    of_people, of_pictures = sum(part.var(ddof=1) for part in people), np.subtract.reduce(drawn).var(ddof=1)
    variance = max(of_people + of_pictures - chance, of_people, of_pictures)
    return float(np.subtract.reduce(rates)), float(np.sqrt(variance)), min(sizes) - 1


def _resampled(table: pd.DataFrame, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Fooling rates (samples,) of resamples of people or pictures; `table` has ``sum`` and ``size`` of each's answers.

    The distance from the rate is stretched: n things show (n - 1) / n of their variance.
    """
    fooled, count = table["sum"].to_numpy(), table["size"].to_numpy()
    drawn = rng.multinomial(len(table), np.full(len(table), 1 / len(table)), samples)  # (samples, things)
    rate, n = fooled.sum() / count.sum(), (count > 0).sum()
    return rate + (drawn @ fooled / np.maximum(drawn @ count, 1) - rate) * np.sqrt(n / (n - 1))


def _counting(answers: pd.DataFrame) -> pd.DataFrame:
    """The answers to pairs that count."""
    require_columns(answers, _COLUMNS, "answers")
    counting = answers[answers["kind"] == "method"]
    require(len(counting) > 0, "answers", "answers to pairs that count", "none")
    return counting
