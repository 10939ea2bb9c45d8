"""What the answers of a trial say: fooling rates, comparisons, convincing pictures; and simulated observers.

Answers are a table with a row for every pair that somebody judged: columns ``participant``, ``method``, ``picture``,
``kind`` ("method" or "catch"), ``fooled`` (the truth was called fake) and ``seconds``, as `join` makes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit, roots_hermitenorm
from scipy.stats import binomtest, t

from colorstudy._checks import require, require_columns
from colorstudy.statistics import holm
from colorstudy.trial.design import SIDES, Design, sessions

_COLUMNS = ("participant", "method", "picture", "kind", "fooled")


def join(key: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Answers with what was shown; practice is left out.

    Parameters
    ----------
    key : DataFrame
        As `design.sessions` gives it.
    answers : DataFrame
        Columns ``participant``, ``session``, ``trial``, ``choice`` ("left" or "right", the side called fake) and
        ``seconds``.

    Returns
    -------
    DataFrame
        The columns of both, and ``fooled``.

    Raises
    ------
    ValueError
        If a column is missing, a choice is no side, a pair is not in the key, or somebody answered a pair twice.
    """
    require_columns(answers, ["participant", "session", "trial", "choice", "seconds"], "answers")
    known = answers["choice"].isin(SIDES)
    require(bool(known.all()), "answers['choice']", f"one of {SIDES}", answers.loc[~known, "choice"].tolist()[:3])
    twice = answers.duplicated(["participant", "trial"])
    require(not twice.any(), "answers", "one answer to a pair", answers.loc[twice, ["participant", "trial"]].values[:3])
    joined = answers.merge(key, on=["session", "trial"], how="left", validate="many_to_one", suffixes=("", "_key"))
    lost = joined["phase"].isna()
    require(not lost.any(), "answers", "pairs of the key", joined.loc[lost, ["session", "trial"]].values[:3].tolist())
    joined["fooled"] = joined["choice"] != joined["fake_side"]
    return joined[joined["phase"] == "test"].drop(columns="phase").reset_index(drop=True)


def attentive(answers: pd.DataFrame, least: float = 0.75) -> pd.DataFrame:
    """The answers of participants who saw through at least that share of their catch pairs, if they had any."""
    require_columns(answers, _COLUMNS, "answers")
    require(0 <= least <= 1, "least", "a share in [0, 1]", least)
    caught = 1 - answers[answers["kind"] == "catch"].groupby("participant")["fooled"].mean()
    return answers[~answers["participant"].isin(caught.index[caught < least])].reset_index(drop=True)


def fooling_rates(answers: pd.DataFrame, *, samples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How often each method fools people, with standard errors over participants and pictures.

    Answers share participants and pictures, which both are drawn from many. Resampling the ones and resampling the
    others each counts the chance of a single answer once, so that the variance is the sum of both bootstrap variances
    less that of the residuals (Cameron, Gelbach and Miller, "Robust inference with multiway clustering", 2011).
    The interval is that of Student's t, with one degree of freedom less than the fewer of the two, on the scale of
    logits, as rates near 0 have skew errors.

    Parameters
    ----------
    answers : DataFrame
        See above; catch pairs are left out.
    samples, level, seed : int, float, int
        Of the bootstrap, and the coverage.

    Returns
    -------
    DataFrame
        Indexed by ``method``: ``rate``, ``error`` (standard), ``low``, ``high``, ``participants``, ``pictures``,
        ``answers``, and ``seconds``, the median time to answer, if the table has times.

    Raises
    ------
    ValueError
        If a column is missing, a method has fewer than two participants or pictures, or an option is out of range.
    """
    answers = _counting(answers)
    _check_options(samples, level)
    rows = {}
    for method, part in answers.groupby("method", sort=False):
        judged = _Judged(part, part["picture"].unique())
        rng = np.random.default_rng(seed)
        people, pictures = judged.by_people(rng, samples), judged.by_pictures(judged.draw_pictures(rng, samples))
        error = _combined(people.var(ddof=1), pictures.var(ddof=1), judged.chance())
        rate = judged.rate()
        low, high = _interval(rate, error, t.ppf((1 + level) / 2, min(judged.shape) - 1))
        rows[method] = {"rate": rate, "error": error, "low": low, "high": high}
        rows[method] |= {"participants": judged.shape[0], "pictures": judged.shape[1], "answers": len(part)}
        if "seconds" in part:
            rows[method]["seconds"] = part["seconds"].median()
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("method")


def compare(answers: pd.DataFrame, *, samples: int = 1000, level: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Differences of fooling rates between all pairs of methods, which were shown on the same pictures.

    Participants are resampled for each method on its own, pictures for both together; otherwise as `fooling_rates`.

    Returns
    -------
    DataFrame
        ``difference`` ("a - b"), ``mean``, ``error``, ``low``, ``high``, ``p`` (two-sided) and ``p_holm``, corrected
        for the number of pairs (Holm 1979).

    Raises
    ------
    ValueError
        As `fooling_rates`, or if there is one method only.
    """
    answers = _counting(answers)
    _check_options(samples, level)
    methods = list(dict.fromkeys(answers["method"]))
    require(len(methods) > 1, "answers", "at least two methods", methods)
    rows = []
    for a, b in combinations(methods, 2):
        parts = [answers[answers["method"] == method] for method in (a, b)]
        pictures = pd.unique(pd.concat(parts)["picture"])
        first, second = (_Judged(part, pictures) for part in parts)
        rng = np.random.default_rng(seed)
        people = sum(judged.by_people(rng, samples).var(ddof=1) for judged in (first, second))
        drawn = first.draw_pictures(rng, samples)
        shared = (first.by_pictures(drawn) - second.by_pictures(drawn)).var(ddof=1)
        error = _combined(people, shared, first.chance() + second.chance())
        mean, freedom = first.rate() - second.rate(), min(*first.shape, *second.shape) - 1
        half = t.ppf((1 + level) / 2, freedom) * error
        p = 2 * t.sf(abs(mean) / error, freedom) if error > 0 else float(mean == 0)
        rows.append(
            {"difference": f"{a} - {b}", "mean": mean, "error": error, "low": mean - half, "high": mean + half, "p": p}
        )
    table = pd.DataFrame(rows)
    return table.assign(p_holm=holm(table["p"]))


def convincing(answers: pd.DataFrame, *, level: float = 0.95) -> pd.DataFrame:
    """How often each picture of each method fooled people, the most convincing first.

    Returns
    -------
    DataFrame
        ``method``, ``picture``, ``rate``, ``low``, ``high`` (Wilson's interval) and ``answers``.
    """
    answers = _counting(answers)
    rows = []
    for (method, picture), part in answers.groupby(["method", "picture"], sort=True):
        found = binomtest(int(part["fooled"].sum()), len(part)).proportion_ci(level, "wilson")
        row = {"method": method, "picture": picture, "rate": part["fooled"].mean()}
        rows.append(row | {"low": found.low, "high": found.high, "answers": len(part)})
    return pd.DataFrame(rows).sort_values(["rate", "answers"], ascending=False, ignore_index=True)


def mixed_model(answers: pd.DataFrame) -> pd.DataFrame:
    """Fooling rates by a logistic model with normal effects of participants and pictures: a check of `fooling_rates`.

    A Bayesian model that statsmodels fits by variational approximation, whose errors are known to be on the small side.

    Returns
    -------
    DataFrame
        Indexed by ``method``: ``rate``, the mean over people and pictures of the model; ``logit`` and ``error`` of its
        middle; ``people`` and ``scenes``, the standard deviations of both effects in logits, alike in all rows.

    Raises
    ------
    ImportError
        If statsmodels is not installed.
    ValueError
        As `fooling_rates`.
    """
    try:
        from statsmodels.genmod.bayes_mixed_glm import BinomialBayesMixedGLM
    except ImportError:
        raise ImportError("mixed_model: expected statsmodels to be installed: pip install statsmodels") from None
    table = _counting(answers).assign(fooled=lambda rows: rows["fooled"].astype(int))
    effects = {name: f"0 + C({name})" for name in ("participant", "picture")}
    fitted = BinomialBayesMixedGLM.from_formula("fooled ~ 0 + C(method)", effects, table).fit_vb()
    people, scenes = np.exp(fitted.vcp_mean)
    # The levels of a categorical are in order of their names.
    rows = pd.DataFrame({"logit": fitted.fe_mean, "error": fitted.fe_sd}, index=sorted(table["method"].unique()))
    rows.insert(0, "rate", [_mean_rate(m, float(np.hypot(people, scenes))) for m in rows["logit"]])
    return rows.assign(people=people, scenes=scenes).rename_axis("method")


def analyse(key: pd.DataFrame, answers: pd.DataFrame, *, least: float = 0.75, **options) -> dict[str, pd.DataFrame]:
    """`fooling_rates`, `compare` (of several methods) and `convincing` of raw answers, the inattentive left out.

    ``people`` counts participants and those left out. `options` are those of `fooling_rates`.
    """
    everyone = join(key, answers)
    kept = attentive(everyone, least)
    counts = {"participants": everyone["participant"].nunique(), "kept": kept["participant"].nunique()}
    tables = {"people": pd.DataFrame([counts]), "rates": fooling_rates(kept, **options), "pictures": convincing(kept)}
    return tables | ({"differences": compare(kept, **options)} if kept["method"].nunique() > 1 else {})


def simulate(
    design: Design,
    rates: Mapping[str, float],
    pictures: Sequence[str],
    participants: int,
    *,
    people: float = 0.5,
    scenes: float = 0.5,
    inattentive: float = 0.0,
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Simulated observers: the key of a trial, and answers of nobody.

    A person i is fooled by picture j with probability sigma(m + a_i + b_j), a and b normal with standard deviations
    `people` and `scenes`, and m such that the mean over all people and pictures is the rate asked for. A catch pair
    fools with 2 %; the inattentive toss a coin.

    Parameters
    ----------
    design : Design
    rates : mapping of method -> rate in (0, 1)
    pictures : sequence of str
    participants : int
    people, scenes : float
        In logits, >= 0.
    inattentive : float
        Share of such participants.
    seed : int

    Returns
    -------
    key, answers : DataFrame
        As `design.sessions` gives it and `join` takes it.
    """
    require(all(0 < rate < 1 for rate in rates.values()), "rates", "rates in (0, 1)", dict(rates))
    require(people >= 0 and scenes >= 0, "people", "standard deviations >= 0", (people, scenes))
    key = sessions(design, pictures, list(rates), participants)
    rng = np.random.default_rng(seed)
    middle = {method: _logit_of(rate, float(np.hypot(people, scenes))) for method, rate in rates.items()}
    person = rng.normal(0, people, participants)
    scene = pd.Series(rng.normal(0, scenes, len(pictures)), index=list(pictures))
    careless = rng.random(participants) < inattentive
    logits = key["method"].map(middle) + person[key["session"]] + key["picture"].map(scene).to_numpy()
    chance = np.where(key["kind"] == "catch", 0.02, expit(logits))
    fooled = rng.random(len(key)) < np.where(careless[key["session"]], 0.5, chance)
    other = key["fake_side"].map(dict(zip(SIDES, SIDES[::-1])))
    answers = key[["session", "trial"]].assign(
        participant=[f"simulated-{number}" for number in key["session"]],
        choice=np.where(fooled, other, key["fake_side"]),
        seconds=rng.lognormal(0, 0.5, len(key)).round(3),
    )
    return key, answers


class _Judged:
    """Answers on one method as two matrices (participants, pictures): how many, and how many fooled."""

    def __init__(self, answers: pd.DataFrame, pictures: np.ndarray):
        people, names = pd.factorize(answers["participant"])
        places = pd.Index(pictures).get_indexer(answers["picture"])
        self.count, self.fooled = np.zeros((2, len(names), len(pictures)))
        np.add.at(self.count, (people, places), 1)
        np.add.at(self.fooled, (people, places), answers["fooled"].to_numpy(float))
        self.shape = len(names), int((self.count.sum(0) > 0).sum())
        require(min(self.shape) > 1, "answers", "at least two participants and two pictures a method", self.shape)

    def rate(self) -> float:
        return float(self.fooled.sum() / self.count.sum())

    def chance(self) -> float:
        """Variance of the rate by what neither a participant nor a picture explains, were it alone."""
        n = self.count.sum()
        people, pictures = (self.fooled.sum(i) / np.maximum(self.count.sum(i), 1) for i in (1, 0))
        expected = people[:, None] + pictures - self.rate()
        # Answers are 0 or 1, so that a sum of squares needs no more than the two matrices.
        squares = self.fooled * (1 - 2 * expected) + self.count * expected**2
        return float(squares.sum() / n / max(n - sum(self.shape) + 1, 1))

    def by_people(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        """Rates (samples,) of resamples of participants."""
        n = self.shape[0]
        drawn = rng.multinomial(n, np.full(n, 1 / n), size=samples)
        return self._spread(drawn @ self.fooled.sum(1), drawn @ self.count.sum(1), n)

    def draw_pictures(self, rng: np.random.Generator, samples: int) -> np.ndarray:
        n = self.count.shape[1]
        return rng.multinomial(n, np.full(n, 1 / n), size=samples)

    def by_pictures(self, drawn: np.ndarray) -> np.ndarray:
        """Rates (samples,) of resamples of pictures, counts (samples, pictures)."""
        return self._spread(drawn @ self.fooled.sum(0), drawn @ self.count.sum(0), self.shape[1])

    def _spread(self, fooled: np.ndarray, count: np.ndarray, n: int) -> np.ndarray:
        """Rates of resamples, their distance from the rate stretched: n things show (n - 1) / n of their variance."""
        return self.rate() + (fooled / np.maximum(count, 1) - self.rate()) * np.sqrt(n / (n - 1))


def _combined(people: float, pictures: float, chance: float) -> float:
    """Standard error from the variances by participants, by pictures and of residuals."""
    return float(np.sqrt(max(people + pictures - chance, people, pictures)))


def _interval(rate: float, error: float, quantile: float) -> tuple[float, float]:
    """Ends of the interval around a rate, symmetric in its logit; the rate itself where that is infinite."""
    if not 0 < rate < 1:
        return rate, rate
    half = quantile * error / (rate * (1 - rate))
    return float(expit(logit(rate) - half)), float(expit(logit(rate) + half))


def _mean_rate(middle: float, spread: float) -> float:
    """E sigma(m + N(0, spread^2))."""
    nodes, weights = roots_hermitenorm(60)
    return float(weights @ expit(middle + spread * nodes) / weights.sum())


def _logit_of(rate: float, spread: float) -> float:
    """m with E sigma(m + N(0, spread^2)) = rate."""
    return float(brentq(lambda m: _mean_rate(m, spread) - rate, -30, 30))


def _counting(answers: pd.DataFrame) -> pd.DataFrame:
    require_columns(answers, _COLUMNS, "answers")
    counting = answers[answers["kind"] == "method"]
    require(len(counting) > 0, "answers", "answers to pairs that count", "none")
    return counting


def _check_options(samples: int, level: float) -> None:
    require(samples >= 2, "samples", "at least 2", samples)
    require(0 < level < 1, "level", "a coverage in (0, 1)", level)
