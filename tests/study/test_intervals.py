"""Intervals against scipy and statsmodels, and in simulated studies whose truth is known."""

import re

import numpy as np
import pandas as pd
import pytest
import scipy.stats

from colorstudy.study.intervals import holm, intervals, paired
from colorstudy.study.scores import aggregate

MEAN = {"score": ("score", None)}
BOTH = {"score": ("score", None), "ratio": ("score", "size")}


def study(rng, seeds, images, *, truth=0.0, of_seed=0.3, of_image=1.0, noise=0.5, image_effects=None):
    """A long table of scores: truth + an effect of the seed + one of the image + noise."""
    image_effects = of_image * rng.standard_normal(images) if image_effects is None else image_effects
    effects = of_seed * rng.standard_normal(seeds)[:, None] + image_effects  # (seeds, images)
    score = truth + effects + noise * rng.standard_normal((seeds, images))
    index = pd.MultiIndex.from_product([range(seeds), [f"{i:03}.png" for i in range(images)]], names=["seed", "image"])
    return pd.DataFrame({"score": score.ravel(), "size": rng.uniform(1, 3, seeds * images)}, index=index).reset_index()


@pytest.fixture
def table():
    return study(np.random.default_rng(0), seeds=3, images=30, truth=5.0)


def test_pool_means_and_ratios():
    table = pd.DataFrame({"score": [1.0, 2.0, np.inf], "hits": [1.0, 1.0, 4.0], "size": [1.0, 2.0, 5.0]})
    scores = aggregate(table, {"mean": ("score", None), "ratio": ("hits", "size")})
    assert dict(scores) == {"mean": 1.5, "ratio": 0.75}
    assert np.isnan(aggregate(table.assign(size=0), {"ratio": ("hits", "size")})["ratio"])


def test_one_seed_agrees_with_students_t():
    table = study(np.random.default_rng(2), seeds=1, images=60)
    ours = intervals(table, BOTH)
    theirs = scipy.stats.ttest_1samp(table["score"], 0).confidence_interval()
    assert ours.loc["score", ["low", "high"]].tolist() == pytest.approx([*theirs])
    assert ours["over"].tolist() == ["images only"] * 2


def test_a_ratio_agrees_with_a_intervals():
    table = study(np.random.default_rng(3), seeds=1, images=200, truth=2.0)
    ours = intervals(table, BOTH).loc["ratio"]
    theirs = scipy.stats.bootstrap(
        (table["score"], table["size"]), lambda above, below, axis: above.sum(axis) / below.sum(axis),
        paired=True, n_resamples=5000, method="percentile", rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    assert [*ours[["low", "high"]]] == pytest.approx([*theirs], abs=0.05 * (theirs.high - theirs.low))
    assert ours["effective"] == pytest.approx(table["size"].sum() ** 2 / (table["size"] ** 2).sum())


def test_the_variance_is_that_of_a_two_way_analysis(table):
    """Its parts by the mean squares that statsmodels finds; t has as many degrees of freedom as they say."""
    statsmodels = pytest.importorskip("statsmodels.formula.api")
    from statsmodels.stats.anova import anova_lm

    fit = statsmodels.ols("score ~ C(seed) + C(image)", table).fit()
    seed, image, residual = anova_lm(fit)["mean_sq"]
    parts = np.array([seed, image - residual]) / 90
    freedom = parts.sum() / (parts / [2, 29]).sum()
    result = intervals(table, MEAN).loc["score"]
    half = scipy.stats.t.ppf(0.975, freedom) * np.sqrt(parts.sum())
    assert result["high"] - result["mean"] == pytest.approx(half) == result["mean"] - result["low"]
    zero = paired(table, table.assign(score=5.0), MEAN).loc["score"]
    assert zero["sign"] == pytest.approx(2 * scipy.stats.t.sf(abs(zero["mean"]) / np.sqrt(parts.sum()), freedom))


def test_small_differences_of_large_scores_keep_their_digits():
    rng = np.random.default_rng(8)
    b = study(rng, seeds=3, images=30, truth=1e6)
    noise = pd.Series(1e-3 * rng.standard_normal(len(b)))
    result = paired(b.assign(score=b["score"] + noise), b, MEAN).loc["score"]
    alone = intervals(b.assign(score=noise), MEAN).loc["score"]
    assert [*result[["mean", "low", "high"]]] == pytest.approx([*alone[["mean", "low", "high"]]], rel=1e-4)


def test_clusters_are_the_unit(table):
    """Of images that repeat each other, a cluster says as much as one."""
    twice = pd.concat([table, table.assign(image=table["image"] + " again")])
    clustered = intervals(twice.assign(cluster=twice["image"].str[:7]), BOTH)
    once = intervals(table, BOTH)
    columns = ["mean", "low", "high", "effective"]
    pd.testing.assert_frame_equal(clustered[columns], once[columns])
    assert clustered["over"].tolist() == ["30 clusters and seeds"] * 2 and (clustered["images"] == 60).all()
    assert intervals(twice, MEAN).eval("high - low").item() < once.eval("high - low")["score"]
    alone = intervals(table.assign(cluster=None), BOTH)  # an image without a cluster is one
    pd.testing.assert_frame_equal(alone[columns], once[columns])
    with pytest.raises(ValueError, match="table_b: expected the clusters of table_a, got others"):
        paired(table.assign(cluster="one"), table, MEAN)


def test_an_error_is_a_distance_from_its_origin(table):
    """Two ratios as far below 1 as above it do not differ in their distance from it."""
    pale, vivid = (table.assign(size=10.0, score=10 * (1 + shift) + table["score"] - 5) for shift in (-0.4, 0.4))
    error = {"error": ("score", "size", 1.0)}
    ratios = [intervals(part, {"ratio": ("score", "size")}).loc["ratio"] for part in (pale, vivid)]
    errors = [intervals(part, error).loc["error"] for part in (pale, vivid)]
    assert [*errors[0][["mean", "low", "high"]]] == pytest.approx([*(1 - ratios[0][["mean", "high", "low"]])])
    assert [*errors[1][["mean", "low", "high"]]] == pytest.approx([*(ratios[1][["mean", "low", "high"]] - 1)])
    assert paired(pale, vivid, {"ratio": ("score", "size")})["sign"].item() < 1e-6
    assert aggregate(pale, error)["error"] == pytest.approx(1 - aggregate(pale, {"ratio": ("score", "size")})["ratio"])


def test_mean_is_over_seeds_of_the_score_of_each(table):
    result = intervals(table, BOTH)
    each = table.groupby("seed")[["score", "size"]].sum()
    assert result.loc["ratio", "mean"] == pytest.approx((each["score"] / each["size"]).mean())
    assert [*result.columns] == ["mean", "low", "high", "images", "seeds", "effective", "over"]
    assert [*result.index] == [*BOTH] and result["over"].tolist() == ["images and seeds"] * 2
    assert (result["low"] < result["mean"]).all() and (result["mean"] < result["high"]).all()
    assert (result["images"] == 30).all() and (result["seeds"] == 3).all()


def test_seeds_widen_the_interval(table):
    shifted = table.assign(score=table["score"] + 3 * table["seed"])
    here, there = (intervals(part, MEAN).eval("high - low").item() for part in (table, shifted))
    assert there > 3 * here


def test_the_order_of_rows_does_not_matter(table):
    shuffled = table.sample(frac=1, random_state=1)
    pd.testing.assert_frame_equal(intervals(table, BOTH), intervals(shuffled, BOTH))


def test_paired_can_test_against_another_difference(table):
    better = table.assign(score=table["score"] + 0.1)
    found = {null: paired(better, table, MEAN, null=null).loc["score"] for null in (0.0, 0.1, 0.2)}
    assert found[0.0]["sign"] < 1e-6 > found[0.2]["sign"] and found[0.0]["images"] == 30
    assert paired(better[better["seed"] == 0], table, MEAN).loc["score", "seeds"] == "1 / 3"


def test_paired_is_narrower_than_unpaired():
    rng = np.random.default_rng(5)
    image_effects = rng.standard_normal(40)  # how hard each image is, for both methods
    a, b = (study(rng, 3, 40, truth=t, image_effects=image_effects, of_seed=0.05) for t in (0.3, 0.0))
    difference = paired(a, b, MEAN).loc["score"]
    assert difference["mean"] == pytest.approx(a["score"].mean() - b["score"].mean())
    alone = [intervals(table, MEAN).eval("high - low").item() for table in (a, b)]
    assert difference["high"] - difference["low"] < 0.7 * np.hypot(*alone)
    assert difference["low"] > 0 and difference["sign"] < 0.05


def test_paired_sign_and_swap(table):
    better = table.assign(score=table["score"] + 1)
    result = paired(better, table, MEAN).loc["score"]
    assert [result["mean"], result["low"], result["high"]] == pytest.approx([1, 1, 1])
    assert result["sign"] < 1e-9  # there is no floor
    assert paired(table, better, MEAN).loc["score", "mean"] == pytest.approx(-1)
    same = paired(table, table, MEAN).loc["score"]
    assert same["mean"] == 0 and same["sign"] == 1


def test_paired_p_value_is_uniform_without_a_difference():
    rng = np.random.default_rng(6)
    signs = []
    for _ in range(200):
        a, b = study(rng, 1, 40, of_seed=0), study(rng, 1, 40, of_seed=0)
        signs.append(paired(a, b, MEAN).loc["score", "sign"])
    assert 0.01 <= np.mean(np.array(signs) < 0.05) <= 0.12
    assert 0.4 <= np.mean(np.array(signs) < 0.5) <= 0.6


def test_seeds_that_differ_have_parts_of_their_own(table):
    baseline = table[table["seed"] == 0].assign(seed=0)
    result = paired(table, baseline, MEAN).loc["score"]
    assert result["low"] <= result["mean"] <= result["high"]
    renamed = table.assign(seed=table["seed"] + 10)
    shifted = table.assign(score=table["score"] + 3 * table["seed"])
    same, other = (paired(shifted, t.assign(score=shifted["score"]), MEAN) for t in (table, renamed))
    assert same.eval("high - low").item() == 0 < other.eval("high - low").item()


def test_one_image_gives_no_interval_and_nothing_to_divide_by_no_score(table):
    result = intervals(table[table["image"] == "000.png"], MEAN).loc["score"]
    assert np.isfinite(result["mean"]) and np.isnan(result["low"]) and np.isnan(result["high"])
    nothing = table.assign(size=0.0)
    assert intervals(nothing, BOTH).loc["ratio", ["mean", "low", "high"]].isna().all()
    assert paired(nothing, nothing, BOTH)["sign"].isna().tolist() == [False, True]
    infinite = table.assign(score=table["score"].where(table["image"] != "003.png", np.inf))
    assert intervals(infinite, MEAN).loc["score", "mean"] == pytest.approx(
        table[table["image"] != "003.png"]["score"].mean()
    )


def broken(table, change):
    if change == "nan":
        return table.assign(score=table["score"].where(table.index != 31))
    if change == "infinite":
        return table.assign(size=table["size"].where(table.index != 31, np.inf))
    if change == "missing":
        return table.drop(index=31)
    if change == "doubled":
        return pd.concat([table, table.iloc[31:32]])
    if change == "unnamed":
        return table.assign(image=table["image"].where(table.index != 31))
    return {"empty": table.iloc[:0], "column": table.drop(columns="size"), "seed": table.drop(columns="seed")}[change]


@pytest.mark.parametrize(
    "change, message",
    [
        ("nan", "table['score']: expected a number in every row, got nan at seed 1, image 001.png"),
        ("infinite", "table['size']: expected a number in every row, got inf at seed 1, image 001.png"),
        ("missing", "table: expected a row for each seed and image, got none of seed 1, image 001.png"),
        ("doubled", "table: expected one row for each seed and image, got several of seed 1, image 001.png"),
        ("unnamed", "table: expected a seed and an image in every row, got an empty cell"),
        ("empty", "table: expected at least one row, got none"),
        ("column", "table: expected the columns ['size'], got only ['seed', 'image', 'score']"),
        ("seed", "table: expected the columns ['seed'], got only ['image', 'score', 'size']"),
    ],
)
def test_errors_of_tables(table, change, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        intervals(broken(table, change), BOTH)
    with pytest.raises(ValueError, match=re.escape(message.replace("table", "table_b", 1))):
        paired(table, broken(table, change), BOTH)


def test_holm_agrees_with_statsmodels():
    multitest = pytest.importorskip("statsmodels.stats.multitest")
    p = np.random.default_rng(7).uniform(size=12) ** 3
    assert holm(p) == pytest.approx(multitest.multipletests(p, method="holm")[1])
    assert holm([0.5, np.nan, 0.01]).tolist() == pytest.approx([0.5, np.nan, 0.02], nan_ok=True) and len(holm([])) == 0
    with pytest.raises(ValueError, match=r"^p: expected numbers in \[0, 1\], got \[1.5\]"):
        holm([1.5])


def test_errors_of_options(table):
    with pytest.raises(ValueError, match="table: expected at least one row, got none"):
        aggregate(table.iloc[:0], BOTH)
    with pytest.raises(ValueError, match=r"table\['score'\]: expected a number in every row, got nan at row 31"):
        aggregate(broken(table, "nan"), BOTH)
    other = table.replace({"image": {"003.png": "3.png"}})
    with pytest.raises(ValueError, match="table_b: expected the images of table_a, got 2 only in one, such as"):
        paired(table, other, MEAN)
