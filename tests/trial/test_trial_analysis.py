"""The analysis of answers, against simulated observers whose truth is known."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from colorstudy.study.intervals import holm
from colorstudy.trial.analysis import analyse, attentive, compare, convincing, fooling_rates, join
from colorstudy.trial.design import OTHER_SIDE, Design, sessions, simulate

PICTURES = [f"picture-{i}" for i in range(60)]


@pytest.fixture(scope="module")
def answers():
    key, raw = simulate(Design(), {"l2": 0.2, "full": 0.35}, PICTURES, 60, seed=3)
    return join(key, raw)


class TestJoin:
    KEY = pd.DataFrame(
        {
            "session": [0, 0, 0],
            "trial": [0, 1, 2],
            "method": "full",
            "phase": ["practice", "test", "test"],
            "kind": ["method", "method", "catch"],
            "picture": ["a", "b", "c"],
            "fake_side": ["left", "left", "right"],
            "fake_first": True,
        }
    )

    def raw(self, **changes):
        columns = {
            "participant": "x",
            "session": 0,
            "trial": [0, 1, 2],
            "choice": ["left", "right", "right"],
            "seconds": 1.0,
        }
        return pd.DataFrame(columns | changes)

    def test_fooled_is_who_calls_the_truth_fake(self):
        joined = join(self.KEY, self.raw())
        assert joined["trial"].tolist() == [1, 2]
        assert joined["fooled"].tolist() == [True, False]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"choice": ["left", "up", "right"]}, "answers\\['choice'\\]: expected"),
            ({"trial": [0, 1, 1]}, "answers: expected one answer to a pair"),
            ({"session": 5}, "answers: expected pairs of the key"),
        ],
    )
    def test_what_does_not_fit_is_refused(self, changes, message):
        with pytest.raises(ValueError, match=message):
            join(self.KEY, self.raw(**changes))
        with pytest.raises(ValueError, match="answers: expected the columns"):
            join(self.KEY, self.raw().drop(columns="choice"))


def test_the_inattentive_are_left_out():
    key, raw = simulate(Design(catch=0.2), {"full": 0.3}, PICTURES, 80, inattentive=0.3, seed=1)
    joined = join(key, raw)
    kept = attentive(joined)
    missed = joined[joined["kind"] == "catch"].groupby("participant")["fooled"].mean()
    assert set(kept["participant"]) == set(missed.index[missed <= 0.25])
    assert 0.1 < 1 - kept["participant"].nunique() / 80 < 0.35
    assert len(attentive(joined, 0.0)) == len(joined)
    none = joined[joined["kind"] == "method"]
    assert len(attentive(none)) == len(none)  # without catch pairs nobody is


class TestFoolingRates:
    def test_the_rate_is_the_share_of_counting_answers(self, answers):
        table = fooling_rates(answers)
        counting = answers[answers["kind"] == "method"]
        expected = counting.groupby("method", sort=False)["fooled"].mean()
        pd.testing.assert_series_equal(table["rate"], expected, check_names=False)
        assert table["answers"].tolist() == [30 * 36, 30 * 36] and table["participants"].tolist() == [30, 30]
        assert ((table["low"] < table["rate"]) & (table["rate"] < table["high"])).all()

    def test_independent_answers_have_the_binomial_error(self, many_trials):
        table = fooling_rates(many_trials(40, 0.3, 40, people=0, scenes=0))
        binomial = table["rate"] * (1 - table["rate"]) / table["answers"]
        assert (table["error"] ** 2).mean() == pytest.approx(binomial.mean(), rel=0.25)

    def test_people_and_pictures_widen_it(self):
        errors = {}
        for name, spread in {"none": (0, 0), "people": (1, 0), "pictures": (0, 1), "both": (1, 1)}.items():
            key, raw = simulate(Design(), {"full": 0.3}, PICTURES, 40, people=spread[0], scenes=spread[1], seed=5)
            errors[name] = fooling_rates(join(key, raw)).loc["full", "error"]
        assert errors["none"] < min(errors["people"], errors["pictures"]) and max(errors.values()) == errors["both"]

    def test_nobody_fooled_and_everybody(self, answers):
        for value in (False, True):
            row = fooling_rates(answers.assign(fooled=value)).iloc[0]
            assert row[["rate", "low", "high"]].tolist() == [value] * 3

    def test_intervals_cover_the_truth(self, many_trials):
        """Of 1,000 simulated trials, 93 to 97 %; and the rate is not biased."""
        truth = 0.3
        table = fooling_rates(many_trials(1000, truth, 40))
        covered = (table["low"] <= truth) & (truth <= table["high"])
        print(f"covered {covered.mean():.3f}, bias {table['rate'].mean() - truth:+.4f}")
        assert len(table) == 1000 and 0.93 <= covered.mean() <= 0.97
        assert abs(table["rate"].mean() - truth) < 0.003


class TestCompare:
    def test_finds_what_differs(self, answers):
        (row,) = compare(answers).to_dict("records")
        assert row["difference"] == "l2 - full" and row["mean"] < 0 and row["high"] < 0 and row["p"] < 0.05

    def test_one_in_twenty_is_found_without_a_difference(self, one_plan):
        p = []
        for seed in range(300):
            key, raw = simulate(Design(), {"a": 0.3, "b": 0.3}, PICTURES, 40, seed=seed)
            p.append(compare(join(key, raw))["p"][0])
        assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.085

    def test_several_are_corrected(self):
        key, raw = simulate(Design(), {"a": 0.2, "b": 0.3, "c": 0.35}, PICTURES, 60, seed=1)
        table = compare(join(key, raw))
        assert len(table) == 3 and (table["p_holm"] >= table["p"]).all()
        assert table["p_holm"].tolist() == pytest.approx(holm(table["p"]).tolist())

    def test_one_method_cannot_be_compared(self, answers):
        with pytest.raises(ValueError, match="answers: expected at least two methods"):
            compare(answers[answers["method"] == "l2"])


def test_convincing_pictures_are_those_that_fool():
    key = sessions(Design(practice=0, trials=6, catch=0), [f"p{i}" for i in range(6)], ["full"], 30)
    raw = key.assign(participant=key["session"].astype(str), seconds=1.0)
    other = key["fake_side"].map(OTHER_SIDE)
    fooled = (key["picture"] == "p3") | ((key["picture"] == "p1") & (key["session"] < 15))
    table = convincing(join(key, raw.assign(choice=np.where(fooled, other, key["fake_side"]))[
        ["participant", "session", "trial", "choice", "seconds"]]))  # fmt: skip
    assert table["picture"][:2].tolist() == ["p3", "p1"] and table["rate"][:3].tolist() == [1, 0.5, 0]
    assert ((table["low"] <= table["rate"]) & (table["rate"] <= table["high"])).all()


def test_the_whole_analysis():
    key, raw = simulate(Design(), {"l2": 0.2, "full": 0.3}, PICTURES, 40, inattentive=0.1, seed=2)
    tables = analyse(key, raw)
    assert set(tables) == {"people", "rates", "differences", "pictures"}
    assert tables["people"]["kept"][0] < tables["people"]["participants"][0] == 40
    key, raw = simulate(Design(), {"l2": 0.2}, PICTURES, 10, seed=2)
    assert "differences" not in analyse(key, raw)


def test_a_mixed_model_agrees():
    """A logistic model with normal effects of people and pictures; its variational errors are on the small side."""
    mixed = pytest.importorskip("statsmodels.genmod.bayes_mixed_glm", reason="the model is that of statsmodels")
    truth = {"full": 0.35, "l2": 0.15}
    answers = join(*simulate(Design(), truth, PICTURES, 60, people=0.7, scenes=0.5, seed=4))
    counting = answers[answers["kind"] == "method"].astype({"fooled": int})
    effects = {name: f"0 + C({name})" for name in ("participant", "picture")}
    model = mixed.BinomialBayesMixedGLM.from_formula("fooled ~ 0 + C(method)", effects, counting).fit_vb()
    people, scenes = np.exp(model.vcp_mean)
    normal = np.random.default_rng(0).normal(0, np.hypot(people, scenes), 100_000)
    rates = fooling_rates(answers)["rate"]
    for (method, rate), middle in zip(truth.items(), model.fe_mean):  # methods are in order of their names
        assert expit(middle + normal).mean() == pytest.approx(rates[method], abs=0.04)
        assert expit(middle + normal).mean() == pytest.approx(rate, abs=0.1)
    assert 0.4 < people < 1 and 0.25 < scenes < 0.8


def test_simulated_observers_are_called_so():
    key, raw = simulate(Design(), {"l2": 0.2}, PICTURES, 4)
    assert raw["participant"].str.startswith("simulated-").all()
    assert len(raw) == len(key) == 4 * 50


def test_too_little_is_refused(answers):
    with pytest.raises(ValueError, match="answers: expected at least two participants"):
        fooling_rates(answers[answers["participant"] == answers["participant"][0]])
    with pytest.raises(ValueError, match="answers: expected answers to pairs that count"):
        fooling_rates(answers[answers["kind"] == "catch"])
    with pytest.raises(ValueError, match="rates: expected"):
        simulate(Design(), {"l2": 1.0}, PICTURES, 4)


class TestHolm:
    def test_agrees_with_the_definition(self):
        assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
        assert holm([0.5, 0.9]).tolist() == [1, 1]
        assert holm([0.02, np.nan, 0.01]).tolist() == pytest.approx([0.02, np.nan, 0.02], nan_ok=True)
        assert holm([]).tolist() == []

    def test_refuses_what_is_no_probability(self):
        for p in ([1.2], [float("nan"), -0.1], [[0.1]], [-1e-9]):
            with pytest.raises(ValueError, match="p: expected"):
                holm(p)
