"""Who sees which pair, on which side and in which order, how many people it takes, and simulated answers of nobody.

The protocol is that of Zhang, Isola and Efros 2016, Section 3.1: a photograph beside its coloured twin, one second
each, then time to say which is fake; ten pairs with feedback, forty without, one method a participant. Ours are two
additions: the pictures come one after the other, and some pairs are easy to tell, to catch those who do not look.
"""

import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, roots_hermitenorm
from scipy.stats import norm

from colorstudy._checks import require

SIDES = ("left", "right")
OTHER_SIDE = {"left": "right", "right": "left"}


@dataclass(frozen=True)
class Design:
    """The numbers of a trial; a ``ValueError`` if one is out of range."""

    practice: int = 10  # pairs with feedback, which are not counted
    trials: int = 40  # pairs without feedback, catch pairs included
    catch: float = 0.1  # share of `trials` whose fake has another picture's colours, in [0, 1); rounded to whole pairs
    exposure: float = 1.0  # seconds that each picture is shown
    size: int = 256  # side of the pictures in pixels
    rest: int = 20  # pairs after which a break is offered; 0 for none

    def __post_init__(self) -> None:
        for name, least in {"practice": 0, "trials": 1, "size": 16, "rest": 0}.items():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= least, name, f"an integer >= {least}", value)
        require(0 <= self.catch < 1, "catch", "a share in [0, 1)", self.catch)
        require(0 < self.exposure <= 60, "exposure", "seconds in (0, 60]", self.exposure)

    @property
    def catches(self) -> int:
        """Number of catch pairs."""
        return round(self.catch * self.trials)


def draw(secret: str, *purpose: object) -> str:
    """64 hex digits that tell neither the `secret` nor what it gives for another purpose (HMAC, SHA-256)."""
    return hmac.new(secret.encode(), "/".join(map(str, purpose)).encode(), "sha256").hexdigest()


def generator(secret: str, *purpose: object) -> np.random.Generator:
    """Random numbers for one purpose, by `draw`."""
    return np.random.default_rng(int(draw(secret, *purpose), 16))


def session(design: Design, pictures: Sequence[str], method: str, number: int, secret: str = "") -> pd.DataFrame:
    """What one participant sees: one row per pair, the same for the same arguments.

    `pictures` are different names, at least one per pair, and none comes twice. The `secret` parts them, alike for all
    sessions, into those for practice, for catch pairs and for pairs that count: what practice tells helps nowhere else.
    Without a secret everybody can compute the sides, as simulations may. Among the pairs that count, and among the
    catch pairs, fakes are as often left as right, and as often first as second, up to one. Columns ``session``,
    ``trial`` (from 0), ``phase`` ("practice" or "test"), ``method``, ``kind`` ("method" or "catch"), ``picture``,
    ``fake_side`` (one of `SIDES`), ``fake_first`` (bool).
    """
    total = design.practice + design.trials
    require(len(set(pictures)) == len(pictures), "pictures", "different names", "a name twice")
    require(len(pictures) >= total, "pictures", f"at least {total}, one a pair", len(pictures))
    rng, order = generator(secret, "sides", number), generator(secret, "order", number)
    pairs = []
    for counts in ((design.practice, 0), (design.trials - design.catches, design.catches)):  # of method, of catch
        # Whole blocks of the four cells (2 x side + order), then a part of one that is as balanced as its size allows.
        blocks = [np.resize([[0, 3, 1, 2], [1, 2, 0, 3]][rng.integers(2)], count) for count in counts]
        pairs.append(np.c_[np.repeat([0, 1], counts), np.concatenate(blocks)][rng.permutation(sum(counts))])
    is_catch, cell = np.concatenate(pairs).T
    is_practice = np.arange(total) < design.practice
    parted = generator(secret, "pictures").permutation(np.array(pictures, dtype=object))
    parts = np.split(parted, np.cumsum([design.practice, design.catches]))
    shown = np.empty(total, dtype=object)
    for where, part in zip((is_practice, is_catch == 1, ~is_practice & (is_catch == 0)), parts):
        shown[where] = order.permutation(part)[: where.sum()]
    plan = {
        "session": number,
        "trial": np.arange(total),
        "phase": np.where(is_practice, "practice", "test"),
        "method": method,
        "kind": np.where(is_catch, "catch", "method"),
        "picture": shown,
        "fake_side": np.array(SIDES, dtype=object)[cell // 2],
        "fake_first": cell % 2 == 0,
    }
    return pd.DataFrame(plan)


def sessions(
    design: Design, pictures: Sequence[str], methods: Sequence[str], participants: int, secret: str = ""
) -> pd.DataFrame:
    """The sessions of all `participants`; methods take turns, in an order that is shuffled in each round."""
    require(len(methods) > 0 and len(set(methods)) == len(methods), "methods", "different names", list(methods))
    require(participants >= 1, "participants", "at least 1", participants)
    rng = generator(secret, "methods")
    turns = [method for _ in range(-(-participants // len(methods))) for method in rng.permutation(list(methods))]
    plans = [session(design, pictures, str(method), i, secret) for i, method in enumerate(turns[:participants])]
    return pd.concat(plans, ignore_index=True)


def participants_needed(
    rate_a: float, rate_b: float, trials: int = 36, *, spread: float = 0.1, power: float = 0.8
) -> int:
    """Participants for each of two methods, to find a difference of their fooling rates with that `power`, at 5 %.

    A participant's own rate varies around the method's with standard deviation `spread`, and the answers to `trials`
    pairs around it like coins: the mean of n has variance (spread^2 + (p (1 - p) - spread^2) / trials) / n. That some
    pictures are easier than others is left out: both methods show the same.
    """
    for name, value in {"rate_a": rate_a, "rate_b": rate_b, "power": power}.items():
        require(0 < value < 1, name, "a number in (0, 1)", value)
    require(rate_a != rate_b, "rate_b", "another rate than rate_a", rate_b)
    require(trials >= 1, "trials", "at least 1", trials)
    require(0 <= spread < 0.5, "spread", "a standard deviation in [0, 0.5)", spread)
    variances = [spread**2 + max(p * (1 - p) - spread**2, 0) / trials for p in (rate_a, rate_b)]
    quantiles = norm.ppf(0.975) + norm.ppf(power)
    return int(np.ceil(quantiles**2 * sum(variances) / (rate_a - rate_b) ** 2))


def simulate(
    design: Design,
    rates: Mapping[str, float],  # of the methods, means over all people and pictures, in (0, 1)
    pictures: Sequence[str],
    participants: int,
    *,
    people: float = 0.5,  # standard deviations of the effects of people and of pictures, in logits, >= 0
    scenes: float = 0.5,
    inattentive: float = 0.0,  # share of the participants who toss a coin
    seed: int = 0,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The key of a trial by `sessions`, and answers of simulated observers to it, as `analysis.join` takes them.

    Person i is fooled by picture j with probability sigma(m + a_i + b_j), a and b normal; a catch pair fools with 2 %.
    """
    require(all(0 < rate < 1 for rate in rates.values()), "rates", "rates in (0, 1)", dict(rates))
    require(people >= 0 and scenes >= 0, "people", "standard deviations >= 0", (people, scenes))
    key = sessions(design, pictures, list(rates), participants)
    rng = np.random.default_rng(seed)
    nodes, weights = roots_hermitenorm(60)  # of the normal distribution
    effects, weights = np.hypot(people, scenes) * nodes, weights / weights.sum()
    m = {name: brentq(lambda m, rate: weights @ expit(m + effects) - rate, -30, 30, (p,)) for name, p in rates.items()}
    person = rng.normal(0, people, participants)
    scene = pd.Series(rng.normal(0, scenes, len(pictures)), index=list(pictures))
    careless = rng.random(participants) < inattentive
    logits = key["method"].map(m) + person[key["session"]] + key["picture"].map(scene).to_numpy()
    chance = np.where(key["kind"] == "catch", 0.02, expit(logits))
    fooled = rng.random(len(key)) < np.where(careless[key["session"]], 0.5, chance)
    answers = key[["session", "trial"]].assign(
        participant=[f"simulated-{number}" for number in key["session"]],
        choice=np.where(fooled, key["fake_side"].map(OTHER_SIDE), key["fake_side"]),
        seconds=rng.lognormal(0, 0.5, len(key)).round(3),
    )
    return key, answers
