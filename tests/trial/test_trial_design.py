"""The design of a trial: balance, repetition, and how many people it takes."""

import numpy as np
import pandas as pd
import pytest

from colorstudy.trial.analysis import compare, join
from colorstudy.trial.design import SIDES, Design, participants_needed, session, sessions, simulate

PICTURES = [f"picture-{i}" for i in range(57)]


def test_the_defaults_are_the_published_protocol():
    design = Design()
    assert (design.practice, design.trials, design.exposure, design.size) == (10, 40, 1.0, 256)
    assert design.catches == 4


@pytest.mark.parametrize(
    "design", [Design(), Design(trials=13, catch=0.2, practice=3), Design(trials=1, catch=0, practice=0)]
)
@pytest.mark.parametrize("number", [0, 7])
def test_sides_and_orders_are_balanced(design, number):
    plan = session(design, PICTURES, "full", number)
    assert len(plan) == design.practice + design.trials
    assert plan["trial"].tolist() == list(range(len(plan)))
    assert (plan["phase"] == "practice").sum() == design.practice
    assert (plan["kind"] == "catch").sum() == design.catches and (
        plan["phase"][plan["kind"] == "catch"] == "test"
    ).all()
    assert plan["picture"].is_unique and (plan["method"] == "full").all()
    for _, part in plan.groupby(["phase", "kind"]):
        assert abs((part["fake_side"] == "left").sum() * 2 - len(part)) <= 1
        assert abs(part["fake_first"].sum() * 2 - len(part)) <= 1
        cells = part.groupby(["fake_side", "fake_first"]).size()
        assert cells.max() - min(cells.min(), 4 * (len(cells) == 4) * 99) <= 1 or len(part) < 4


def test_a_session_repeats_and_differs_from_the_next():
    design = Design()
    first, again, other = (session(design, PICTURES, "full", number) for number in (3, 3, 4))
    pd.testing.assert_frame_equal(first, again)
    assert (first["picture"] != other["picture"]).any() and (first["fake_side"] != other["fake_side"]).any()
    assert (session(design, PICTURES, "full", 3, "a secret")["fake_side"] != first["fake_side"]).any()


def test_nothing_but_chance_tells_the_side():
    """Over many sessions each place in the order, and each picture, has the fake as often on either side."""
    plans = pd.concat([session(Design(), PICTURES, "full", number) for number in range(400)])
    for column in ("trial", "picture"):
        shares = (
            plans.assign(left=plans["fake_side"] == "left", first=plans["fake_first"])
            .groupby(column)[["left", "first"]]
            .mean()
        )
        assert shares.sub(0.5).abs().max().max() < 0.13


def test_methods_take_turns():
    key = sessions(Design(), PICTURES, ["l2", "class", "full"], 14)
    assert key["session"].nunique() == 14
    methods = key.groupby("session")["method"].first()
    assert (key.groupby("session")["method"].nunique() == 1).all()
    assert methods.value_counts().tolist() == [5, 5, 4]
    assert methods[:12].tolist() != [*["l2", "class", "full"] * 4]
    assert set(key["fake_side"]) == set(SIDES)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda: Design(trials=0), "trials"),
        (lambda: Design(practice=1.5), "practice"),
        (lambda: Design(catch=1.0), "catch"),
        (lambda: Design(exposure=0), "exposure"),
        (lambda: session(Design(), PICTURES[:49], "full", 0), "pictures"),
        (lambda: session(Design(), ["a", "a"] * 30, "full", 0), "pictures"),
        (lambda: sessions(Design(), PICTURES, [], 3), "methods"),
        (lambda: sessions(Design(), PICTURES, ["a"], 0), "participants"),
        (lambda: participants_needed(0.2, 0.2), "rate_b"),
        (lambda: participants_needed(0, 0.2), "rate_a"),
        (lambda: participants_needed(0.1, 0.2, spread=0.5), "spread"),
        (lambda: participants_needed(0.1, 0.2, 0), "trials"),
    ],
)
def test_bad_arguments_are_named(call, named):
    with pytest.raises(ValueError, match=f"{named}: expected"):
        call()


def test_as_many_people_as_the_formula_says_find_the_difference(one_plan):
    """Simulated: 80 % of trials with that many participants find it, by chance within [70 %, 90 %]."""
    people = 0.5  # in logits, which at these rates is about 0.09 in probability
    needed = participants_needed(0.2, 0.3, spread=0.09)
    found = []
    for seed in range(120):
        key, answers = simulate(
            Design(), {"a": 0.2, "b": 0.3}, PICTURES, 2 * needed, people=people, scenes=0.0, seed=seed
        )
        found.append(compare(join(key, answers))["p"][0] < 0.05)
    assert 0.7 <= np.mean(found) <= 0.9


def test_more_power_and_smaller_differences_take_more_people():
    assert participants_needed(0.2, 0.25) > participants_needed(0.2, 0.3)
    assert participants_needed(0.2, 0.3, power=0.95) > participants_needed(0.2, 0.3)
    assert participants_needed(0.2, 0.3, 10) > participants_needed(0.2, 0.3, 100)
