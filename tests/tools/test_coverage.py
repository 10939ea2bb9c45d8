"""How often the intervals of a study hold the truth, and what the committed table says of it."""

from pathlib import Path

import pandas as pd
import pytest

from tools.coverage import coverage


@pytest.mark.parametrize("ratio", [0.0, 0.5, 1.0, 1.7, 3.0])
@pytest.mark.parametrize("weights", [0.0, 1.0], ids=["equal", "weighted"])
def test_intervals_of_three_seeds_cover_the_truth(ratio, weights):
    """The whole table is results/coverage.md; 600 studies know their share within .02."""
    found = coverage(3, 60, ratio, 0.5, weights, studies=600)
    assert 0.925 <= found["coverage"] <= 0.985 and found["effective"] <= 60.01


def test_the_committed_coverage_is_near_what_is_promised():
    path = Path(__file__).parents[2] / "results" / "coverage.csv"
    if not path.exists():
        pytest.skip("needs the results, which are in a checkout")
    table = pd.read_csv(path)
    three = table[(table["seeds"] == 3) & (table["images"] == 200)]
    assert {*three["ratio"]} == {0, 0.5, 1, 1.7, 3} and (three["studies"] >= 4000).all()
    assert three["coverage"].between(0.93, 0.97).all()
