"""Whether the analysis of a trial finds a truth that is known: many simulated trials, each with people of its own."""

from collections.abc import Mapping, Sequence
from itertools import product

import pandas as pd

from colorstudy.trial.analysis import attentive, fooling_rates, join
from colorstudy.trial.design import Design, simulate


def recovery(
    design: Design, truth: Mapping[str, float], pictures: Sequence[str], people: int, simulations: int, samples: int
) -> pd.DataFrame:
    """`fooling_rates` in each of `simulations` trials of every method, whose `people` it fools at its rate in `truth`.

    A row for each trial: ``method``, ``truth``, ``seed`` and the columns of `fooling_rates`.
    """
    rows = []
    for seed, (method, rate) in product(range(simulations), truth.items()):
        answers = join(*simulate(design, {method: rate}, pictures, people, seed=seed))
        found = fooling_rates(attentive(answers), samples=samples).loc[method]
        rows.append({"method": method, "truth": rate, "seed": seed} | found.to_dict())
    return pd.DataFrame(rows)
