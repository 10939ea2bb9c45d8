"""The ledger: verdicts on claims whose truth is made, and what of a study an entry is."""

import itertools

import numpy as np
import pandas as pd
import pytest

from colorstudy.study import claims
from colorstudy.study.claims import CLAIMS, Claim
from colorstudy.study.scores import SCORES
from colorstudy.study.tables import published


def scores(shifts, *, seeds=3, images=40, noise=0.02, generator=0):
    """Per-image scores of methods that differ by `shifts` of everything, on common images."""
    rng = np.random.default_rng(generator)
    columns = sorted({column for pair in SCORES.values() for column in pair[:2] if column} | {"roughness_true"})
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
    ledger = claims.ledger({"ours": table}, tested)
    assert ledger["verdict"].tolist() == ["holds", "fails", "undecided", "holds"]
    assert ledger["each_seed"].tolist()[:2] == ["3 holds", "3 fails"]
    assert ledger["effect"].iloc[0] == pytest.approx(0.1, abs=0.01) and ledger["images"].tolist() == [40] * 4
    assert str(ledger["seeds"].tolist()) == "[3, 3, 3, 3]"  # whole numbers, as they are printed
    assert {*ledger["data"]} == {"ours"} and {*ledger["domain"]} == {"in"}
    assert (ledger["low"] < ledger["effect"]).all() and (ledger["sign_holm"] >= ledger["sign"]).all()


def test_noise_alone_is_rarely_called_a_finding():
    """Eight claims about methods that do not differ: Holm's correction keeps all of them undecided nearly always."""
    tested = tuple(claim(f"m{i}", f"m{i + 1}", 1) for i in range(8))
    wrong = 0
    for generator in range(20):
        table = scores({f"m{i}": 0.0 for i in range(9)}, generator=generator, images=30)
        wrong += (claims.ledger({"ours": table}, tested)["verdict"] != "undecided").any()
    assert wrong <= 4


def test_claims_without_runs_are_named_and_not_tested():
    table = scores({"l2": 0.0, "class": 0.1})
    tested = claims.ledger({"ours": table})["test"].tolist()
    missing = [c.text for c in claims.untested(table)]
    assert sorted(tested + missing) == sorted(c.text for c in CLAIMS) and "class has a higher AuC than l2" in tested
    with pytest.raises(ValueError, match=r"^table: expected the entries of a claim, got only \['gray'\]"):
        claims.ledger({"ours": scores({"gray": 0.0})})


def test_entries_are_methods_temperatures_and_the_truth():
    plain = scores({"l2": 0.0, "class": 0.1}, seeds=2)
    few = plain[(plain["method"] == "class") & (plain["image"] < "010")]
    table = claims.entries(plain, pd.concat([few.assign(T=1.0), few.assign(T=claims.MODE)]))
    assert {*table["method"]} == {"l2", "class", "class @ T=1", "class @ T=0.02", "truth"}
    truth = table[table["method"] == "truth"]
    assert len(truth) == 40 and (truth["auc"] == 1).all() and (truth["chroma"] == truth["chroma_true"]).all()
    # Compared on the pictures that both entries have.
    row = claims.ledger({"ours": table}, (claim("class @ T=1", "class", 1),)).iloc[0]
    assert row["images"] == 10 and row["effect"] == pytest.approx(0)


def test_one_training_seed_against_several():
    table = scores({"l2": 0.0, "full": 0.1})
    table = table[(table["method"] == "full") | (table["seed"] == 0)]
    row = claims.ledger({"ours": table}, (claim("full", "l2", 1),)).iloc[0]
    assert (row["seeds"], row["verdict"], row["each_seed"]) == ("3 / 1", "holds", "3 holds")


def test_the_ledger_says_where_a_claim_holds():
    """At home, with other seeds, and on pictures of another kind, where it fails."""
    home, again = (scores({"a": 0.1, "b": 0.0}, generator=generator) for generator in (0, 1))
    found = claims.ledger({"home": home, "again": again, "away": scores({"a": 0.0, "b": 0.1})},
                          (claim("a", "b", 1),), outside=["away"])  # fmt: skip
    assert found["data"].tolist() == ["home", "again", "away"] and found["domain"].tolist() == ["in", "in", "out"]
    assert found["verdict"].tolist() == ["holds", "holds", "fails"]
    assert {*found["stability"]} == {"2 holds, 1 fails"}


def test_paleness_and_overcolouring_are_distances_from_the_truth():
    """Of a pale and an overcoloured method, both further from the truth than a third."""
    table = scores({"pale": 0.0, "near": 0.0, "vivid": 0.0})
    shares = table["method"].map({"pale": 0.5, "near": 0.9, "vivid": 1.6}) + 0.01 * table["seed"]
    table["chroma"] = shares * table["chroma_true"]
    tested = [Claim("g", f"near, {other}", "us", "near", other, "chroma_error", -1) for other in ("pale", "vivid")]
    found = claims.ledger({"ours": table}, tested)
    assert found["verdict"].tolist() == ["holds", "holds"]
    assert found["effect"].tolist() == pytest.approx([0.09 - 0.49, 0.09 - 0.61])


def as_published():
    """Entries whose AuC are those of Zhang et al.'s Table 1, and of which the truth is that every claim holds."""
    table = scores({name: 0.0 for claim in CLAIMS for name in (claim.first, claim.second)})
    printed = published().replace({"method": {"l2 fine-tuned": "l2-ft"}}).set_index("method") / 100
    entry = table["method"].str.partition("@")[0].str.strip()
    base = entry.replace({"class-posthoc": "full", "colorunet": "full"}).str.removesuffix("-unaugmented")
    noise = 0.001 * np.random.default_rng(1).standard_normal(len(table))
    table["auc"] = base.map(printed["auc"]) - 0.002 * entry.str.endswith("-unaugmented") + noise
    grey = table["method"] == "gray"
    for kind in ("rebalanced", "macro", "half", "tail"):
        table[f"{kind}_hits"] = (base.map(printed["auc_rebalanced"]) + noise) * table[f"{kind}_weight"]
    pale = {"gray": 0, "l2": 0.5, "l2-ft": 0.6, "class": 0.7, "full @ T=1": 0.8, "class @ T=1": 0.4, "colorunet": 0.97}
    table["chroma"] = (table["method"].map(pale).fillna(1.0) + noise) * table["chroma_true"] * ~grey
    mode = table["method"].str.endswith("T=0.02")
    table["roughness"] = table["chroma"] * (0.1 + 0.05 * mode) + 1e-6
    table["colorfulness"] = (table["chroma"] + mode) * ~grey
    return claims.entries(table)


def test_grey_pictures_satisfy_no_claim():
    """Each method in turn is exchanged for grey pictures: what it was claimed to be better at never holds."""
    table = as_published()
    columns = ["seed", "image", *table.filter(regex="auc|hits|chroma$|rough|colorfulness$|_true|_weight")]
    truth = claims.ledger({"truth": table})
    wrong = truth[~truth["verdict"].isin(["holds"])]
    assert len(truth) == len(CLAIMS) and wrong["test"].tolist() == []
    for first in sorted({claim.first for claim in CLAIMS} - {"gray"}):
        grey = table.loc[table["method"] == "gray", columns].assign(method=first)
        fake = pd.concat([table[table["method"] != first], grey])
        mine = [claim for claim in CLAIMS if claim.first == first]
        assert "holds" not in {*claims.ledger({"fake": fake}, mine)["verdict"]}, first


def test_what_grey_satisfies_as_well_does_not_just_hold():
    """In AuC one may be above a method that is further from the truth than grey."""
    table = scores({"gray": 0.1, "good": 0.12, "bad": 0.0})
    tested = (claim("good", "bad", 1), claim("gray", "bad", 1), claim("good", "gray", 1))
    assert claims.ledger({"ours": table}, tested)["verdict"].tolist() == ["holds of gray too", "holds", "holds"]


def test_every_order_of_the_published_table_is_a_claim():
    """Of 7 systems in two scores: all pairs but for 5 that would be better than random, which grey is."""
    found = {(c.first, c.second, c.score, c.sign) for c in CLAIMS if c.group.startswith("the published order")}
    table = published().replace({"method": {"l2 fine-tuned": "l2-ft"}}).set_index("method")
    expected = set()
    for score in ("auc", "auc_rebalanced"):
        values = table[score].drop(["ground truth", "larsson"])
        pairs = itertools.permutations(values.index, 2)
        better = {(a, b, score, 1) for a, b in pairs if values[a] > values[b]}
        expected |= {claim for claim in better if claim[1] != "random" or claim[0] == "gray"}
    assert found == expected and len(found) == 32


def test_every_claim_can_be_put():
    assert len({c.text for c in CLAIMS}) == len(CLAIMS) >= 10
    with pytest.raises(ValueError, match=r"^sign: expected 1 or -1, got 0"):
        claim("a", "b", 0)
    with pytest.raises(ValueError, match=r"^score: expected one of"):
        Claim("g", "t", "s", "a", "b", "beauty", 1)
