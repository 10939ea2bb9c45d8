"""The ledger: verdicts on claims whose truth is made, and what of a study an entry is."""

import numpy as np
import pandas as pd
import pytest

from colorstudy.study import claims
from colorstudy.study.claims import CLAIMS, Claim
from colorstudy.study.scores import SCORES


def scores(shifts, *, seeds=3, images=40, noise=0.02, generator=0):
    """Per-image scores of methods that differ by `shifts` of everything, on common images."""
    rng = np.random.default_rng(generator)
    columns = sorted(
        {column for pair in SCORES.values() for column in pair if column} | {"roughness_true", "rare_true"}
    )
    base = rng.uniform(0.4, 0.6, (images, len(columns)))
    parts = []
    for method, shift in shifts.items():
        for seed in range(seeds):
            values = pd.DataFrame(base + shift + noise * rng.standard_normal(base.shape), columns=columns)
            constant = [c for c in columns if c.endswith(("_true", "_weight"))]
            values[constant] = base[:, [columns.index(c) for c in constant]]
            parts.append(values.assign(method=method, seed=seed, image=[f"{i:03}" for i in range(images)]))
    return pd.concat(parts, ignore_index=True)


def claim(first, second, sign, **changes):
    return Claim("group", f"{first} against {second}", "us", first, second, "auc", sign, **changes)


def test_verdicts_follow_the_truth():
    table = scores({"low": 0.0, "high": 0.1, "same": 0.0})
    tested = (
        claim("high", "low", 1),
        claim("high", "low", -1),
        claim("same", "low", 1),
        claim("same", "low", 1, margin=-0.05),
    )
    ledger = claims.ledger(table, tested, samples=1000)
    assert ledger["verdict"].tolist() == ["holds", "fails", "undecided", "holds"]
    assert ledger["each_seed"].tolist()[:2] == ["3 holds", "3 fails"]
    assert ledger["effect"].iloc[0] == pytest.approx(0.1, abs=0.01) and ledger["images"].tolist() == [40] * 4
    assert str(ledger["seeds"].tolist()) == "[3, 3, 3, 3]"  # whole numbers, as they are printed
    assert (ledger["low"] < ledger["effect"]).all() and (ledger["sign_holm"] >= ledger["sign"]).all()


def test_noise_alone_is_rarely_called_a_finding():
    """Eight claims about methods that do not differ: Holm's correction keeps all of them undecided nearly always."""
    tested = tuple(claim(f"m{i}", f"m{i + 1}", 1) for i in range(8))
    wrong = 0
    for generator in range(20):
        table = scores({f"m{i}": 0.0 for i in range(9)}, generator=generator, images=30)
        wrong += (claims.ledger(table, tested, samples=400)["verdict"] != "undecided").any()
    assert wrong <= 4


def test_claims_without_runs_are_named_and_not_tested():
    table = scores({"l2": 0.0, "class": 0.1})
    tested = claims.ledger(table, samples=200)["test"].tolist()
    missing = [c.text for c in claims.untested(table)]
    assert sorted(tested + missing) == sorted(c.text for c in CLAIMS) and "class has a higher AuC than l2" in tested
    with pytest.raises(ValueError, match=r"^table: expected the entries of a claim, got only \['gray'\]"):
        claims.ledger(scores({"gray": 0.0}))


def test_entries_are_methods_temperatures_and_the_truth():
    plain = scores({"l2": 0.0, "class": 0.1}, seeds=2)
    few = plain[(plain["method"] == "class") & (plain["image"] < "010")]
    table = claims.entries(plain, pd.concat([few.assign(T=1.0), few.assign(T=claims.MODE)]))
    assert {*table["method"]} == {"l2", "class", "class @ T=1", "class @ T=0.02", "truth"}
    truth = table[table["method"] == "truth"]
    assert len(truth) == 40 and (truth["auc"] == 1).all() and (truth["chroma"] == truth["chroma_true"]).all()
    # Compared on the pictures that both entries have.
    row = claims.ledger(table, (claim("class @ T=1", "class", 1),), samples=200).iloc[0]
    assert row["images"] == 10 and row["effect"] == pytest.approx(0)


def test_one_training_seed_against_several():
    table = scores({"l2": 0.0, "full": 0.1})
    table = table[(table["method"] == "full") | (table["seed"] == 0)]
    row = claims.ledger(table, (claim("full", "l2", 1),), samples=500).iloc[0]
    assert (row["seeds"], row["verdict"], row["each_seed"]) == ("3 / 1", "holds", "3 holds")


def test_every_claim_can_be_put():
    assert len({c.text for c in CLAIMS}) == len(CLAIMS) >= 10
    with pytest.raises(ValueError, match=r"^sign: expected 1 or -1, got 0"):
        claim("a", "b", 0)
    with pytest.raises(ValueError, match=r"^score: expected one of"):
        Claim("g", "t", "s", "a", "b", "beauty", 1)
