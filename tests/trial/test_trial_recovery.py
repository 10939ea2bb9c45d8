"""Simulated trials recover the rates that they were simulated with, and no two have the same people."""

import pytest

from colorstudy.trial.design import Design
from colorstudy.trial.recovery import recovery


def test_a_known_rate_is_found():
    truth, pictures = {"a": 0.1, "b": 0.4}, [f"{i}" for i in range(60)]
    table = recovery(Design(), truth, pictures, 20, 3, 50)
    assert len(table) == 6 and table.groupby("method")["rate"].nunique().tolist() == [3, 3]
    means = table.groupby("method")["rate"].mean()
    assert means["a"] == pytest.approx(0.1, abs=0.05) and means["b"] == pytest.approx(0.4, abs=0.08)
    assert (table["truth"] == table["method"].map(truth)).all()
    assert table["truth"].between(table["low"], table["high"]).mean() >= 0.5
