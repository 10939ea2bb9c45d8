"""Who sees which pair, on which side and in which order, and how many people it takes.

The protocol is that of Zhang, Isola and Efros 2016, Section 3.1: a photograph beside its coloured twin, one second
each, then as long as it takes to say which is fake; ten pairs to practise with feedback, forty without, one method a
participant. That the two pictures come one after the other, and that some pairs are easy to tell, to catch whoever does
not look, is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from colorstudy._checks import require

SIDES = ("left", "right")


@dataclass(frozen=True)
class Design:
    """The numbers of a trial.

    Parameters
    ----------
    practice : int
        Pairs with feedback, which count nothing.
    trials : int
        Pairs without, catch pairs included.
    catch : float
        Share of `trials` whose fake has the colours of another picture, in [0, 1); rounded to whole pairs.
    exposure : float
        Seconds that each picture is shown.
    size : int
        Side of the pictures in pixels.
    rest : int
        Pairs after which a break is offered; 0 for none.
    seed : int
        Of sides, orders and the choice of pictures.

    Raises
    ------
    ValueError
        If a number is outside of its range.
    """

    practice: int = 10
    trials: int = 40
    catch: float = 0.1
    exposure: float = 1.0
    size: int = 256
    rest: int = 20
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in {"practice": 0, "trials": 1, "size": 16, "rest": 0, "seed": 0}.items():
            value = getattr(self, name)
            require(isinstance(value, int) and value >= least, name, f"an integer >= {least}", value)
        require(0 <= self.catch < 1, "catch", "a share in [0, 1)", self.catch)
        require(0 < self.exposure <= 60, "exposure", "seconds in (0, 60]", self.exposure)

    @property
    def catches(self) -> int:
        """Number of catch pairs."""
        return round(self.catch * self.trials)


def session(design: Design, pictures: Sequence[str], method: str, number: int) -> pd.DataFrame:
    """What one participant sees: a row a pair, the same for the same arguments.

    No picture comes twice. Among the pairs that count, and among the catch pairs, the fake is as often on the left as
    on the right, and as often first as second, up to one; both are balanced against each other.

    Parameters
    ----------
    design : Design
    pictures : sequence of str
        Names, from which each session draws its own.
    method : str
    number : int
        Of the session.

    Returns
    -------
    DataFrame
        ``session``, ``trial`` (from 0), ``phase`` ("practice" or "test"), ``method``, ``kind`` ("method" or "catch"),
        ``picture``, ``fake_side`` ("left" or "right"), ``fake_first`` (bool).

    Raises
    ------
    ValueError
        If there are fewer pictures than pairs, or one comes twice.
    """
    total = design.practice + design.trials
    require(len(set(pictures)) == len(pictures), "pictures", "different names", "a name twice")
    require(len(pictures) >= total, "pictures", f"at least {total}, one a pair", len(pictures))
    rng = np.random.default_rng([design.seed, number])
    kinds = np.array(["method"] * (design.trials - design.catches) + ["catch"] * design.catches)
    parts = []
    for of_phase in (np.array(["method"] * design.practice), kinds):
        cells = np.empty(len(of_phase), int)  # 2 x side + order
        for kind in ("method", "catch"):
            count = int((of_phase == kind).sum())
            # Whole blocks of the four cells, then a part of one that is as balanced as its size allows.
            block = [[0, 3, 1, 2], [1, 2, 0, 3]][rng.integers(2)]
            cells[of_phase == kind] = np.resize(block, count)
        order = rng.permutation(len(of_phase))
        parts.append((of_phase[order], cells[order]))
    cells = np.concatenate([cells for _, cells in parts])
    columns = {
        "session": number,
        "trial": np.arange(total),
        "phase": np.repeat(["practice", "test"], [design.practice, design.trials]),
        "method": method,
        "kind": np.concatenate([kinds for kinds, _ in parts]),
        "picture": rng.permutation(np.array(pictures, dtype=object))[:total],
        "fake_side": np.array(SIDES, dtype=object)[cells // 2],
        "fake_first": cells % 2 == 0,
    }
    return pd.DataFrame(columns)


def sessions(design: Design, pictures: Sequence[str], methods: Sequence[str], participants: int) -> pd.DataFrame:
    """The sessions of all participants, one below the other; methods take turns, in an order shuffled in each round.

    Raises a ``ValueError`` as `session`, or if there are no methods or participants.
    """
    require(len(methods) > 0 and len(set(methods)) == len(methods), "methods", "different names", list(methods))
    require(participants >= 1, "participants", "at least 1", participants)
    rng = np.random.default_rng([design.seed, 1_000_003])
    turns = [method for _ in range(-(-participants // len(methods))) for method in rng.permutation(list(methods))]
    plans = [session(design, pictures, str(method), i) for i, method in enumerate(turns[:participants])]
    return pd.concat(plans, ignore_index=True)


def participants_needed(
    rate_a: float, rate_b: float, trials: int = 36, *, spread: float = 0.1, power: float = 0.8, level: float = 0.05
) -> int:
    """Participants for each of two methods, so that a difference of their fooling rates is likely found.

    Each participant's own rate varies around the method's with standard deviation `spread`, and their answers around
    it like coins, so that the mean of n participants has variance (spread^2 + (p (1 - p) - spread^2) / trials) / n; the
    normal approximation of a two-sided test at `level` follows. That some pictures are easier than others is left out:
    both methods are shown on the same.

    Parameters
    ----------
    rate_a, rate_b : float
        Fooling rates in (0, 1), different.
    trials : int
        Counting pairs a participant.
    spread : float
        In [0, 0.5).
    power, level : float
        In (0, 1).

    Raises
    ------
    ValueError
        If a number is outside of its range.
    """
    for name, value in {"rate_a": rate_a, "rate_b": rate_b, "power": power, "level": level}.items():
        require(0 < value < 1, name, "a number in (0, 1)", value)
    require(rate_a != rate_b, "rate_b", "another rate than rate_a", rate_b)
    require(trials >= 1, "trials", "at least 1", trials)
    require(0 <= spread < 0.5, "spread", "a standard deviation in [0, 0.5)", spread)
    variances = [spread**2 + max(p * (1 - p) - spread**2, 0) / trials for p in (rate_a, rate_b)]
    quantiles = norm.ppf(1 - level / 2) + norm.ppf(power)
    return int(np.ceil(quantiles**2 * sum(variances) / (rate_a - rate_b) ** 2))
