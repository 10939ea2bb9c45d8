"""Figures and tables: they draw on the given axes, hold what they were given, and save whole files."""

import shutil
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from matplotlib.testing.compare import compare_images

from colorstudy.bins import ColorBins
from colorstudy.color import to_tensor
from colorstudy.methods import METHODS
from colorstudy.metrics import per_image
from colorstudy.study import figures, tables
from colorstudy.study.evaluation import BASELINES, gray
from colorstudy.study.intervals import intervals
from colorstudy.study.scores import SCORES
from colorstudy.study.tables import VARIANTS


@pytest.fixture(autouse=True)
def close():
    yield
    plt.close("all")


@pytest.fixture
def scores():
    """Per-image scores of three methods, two seeds and ten images, in which each method is better than the last."""
    generator = np.random.default_rng(0)
    columns = sorted({column for pair in SCORES.values() for column in pair[:2] if column})
    rows = []
    for place, method in enumerate(("gray", "l2", "full")):
        for seed in (0, 1):
            for image in range(10):
                values = {column: 0.5 + 0.1 * place + 0.01 * generator.random() for column in columns}
                rows.append({"method": method, "seed": seed, "image": f"i{image}", **values})
    return pd.DataFrame(rows)


DRAWN = {
    "chroma_plane": lambda s: figures.chroma_plane(
        ColorBins.in_gamut(), values=torch.linspace(0, 1, 313), label="share"
    ),
    "intervals": lambda s: figures.intervals(tables.main_table(s, ["gray", "l2", "full"]), "auc", truth=0.75),
    "against": lambda s: figures.against(tables.main_table(s, ["gray", "l2", "full"]), "rmse", "auc"),
    "curves": lambda s: figures.curves(s.groupby(["method", "seed"], as_index=False)["auc"].mean(), "seed", "auc"),
    "effects": lambda s: figures.effects(
        tables.effects_table(s, {"full": {"base": "l2", "group": "targets", "words": "rebalanced"}}, ["auc"]), "auc"
    ),
}


@pytest.mark.parametrize("name", DRAWN)
def test_figures_look_as_they_did(name, scores, tmp_path):
    """Against pictures in `figures`; delete one to have it made anew, look at it, and run this again."""
    expected, actual = Path(__file__).with_name("figures") / f"{name}.png", tmp_path / f"{name}.png"
    drawn = DRAWN[name](scores)
    figure = drawn if isinstance(drawn, plt.Figure) else drawn.figure
    figure.savefig(actual, dpi=50, metadata={"Software": None})
    if not expected.exists():
        shutil.copy(actual, expected)
        pytest.fail(f"{expected} was made: look at it, and run this again")
    difference = compare_images(expected, actual, tol=0.5)
    assert difference is None, difference


def test_main_table_has_an_interval_for_every_score(scores):
    table = tables.main_table(scores, ["gray", "l2", "full"])
    assert table["method"].tolist() == ["gray", "l2", "full"]
    assert (table["seeds"] == 2).all() and (table["images"] == 10).all()
    for score in tables.HEADLINE:
        assert ((table[f"{score}_low"] <= table[score]) & (table[score] <= table[f"{score}_high"])).all()
    assert table.loc[1, "auc"] == pytest.approx(scores[scores["method"] == "l2"]["auc"].mean())
    with pytest.raises(ValueError, match="scores: expected rows of 'class'"):
        tables.main_table(scores, ["class"])


def test_tables_of_other_scores():
    """The same two functions, told what other scores mean, such as those of clips."""
    rng = np.random.default_rng(0)
    known = {"warp_error": ("warp_error", None), "warp_error_relative": ("warp_error", "chroma")}
    rows = [
        {"method": method, "seed": seed, "image": clip, "warp_error": rng.uniform(1, 2), "chroma": rng.uniform(1, 2)}
        for method in ("none", "flow")
        for seed in range(2)
        for clip in ("a", "b", "c")
    ]
    scores = pd.DataFrame(rows)
    table = tables.main_table(scores, ["flow", "none"], list(known), known=known)
    means = scores.groupby(["method", "seed"])[["warp_error", "chroma"]].sum()
    ratio = (means["warp_error"] / means["chroma"]).groupby("method").mean()
    assert table["warp_error_relative"].tolist() == pytest.approx(ratio[["flow", "none"]].tolist())
    ends = [f"warp_error{end}" for end in ("", "_low", "_high")]
    relative = [f"warp_error_relative{end}" for end in ("", "_low", "_high", "_effective")]
    assert list(table.columns) == ["method", "seeds", "images", "over", *ends, *relative]
    assert "[" in tables.readable(table, list(known))["warp error / chroma"][0]
    pairs = tables.paired_table(scores, [("flow", "none")], list(known), known=known)
    assert pairs["mean"][1] == pytest.approx(ratio["flow"] - ratio["none"])


def test_intervals_of_groups_are_those_of_each_alone(scores):
    """Also of a group whose key is nan, as that of a method without a temperature."""
    table = scores.assign(T=scores["method"].map({"l2": 0.38, "full": 1.0}))
    chosen = {name: SCORES[name] for name in ("auc", "chroma_ratio")}
    alone = intervals(scores[scores["method"] == "l2"], chosen)
    found = tables.intervals_by(table, ["method", "T"], chosen)
    assert [*found.columns] == ["method", "T", "score", *alone.columns]
    assert found["method"].tolist() == ["gray", "gray", "l2", "l2", "full", "full"] and found["T"][:2].isna().all()
    pd.testing.assert_frame_equal(found.iloc[2:4, 3:].reset_index(drop=True), alone.reset_index(drop=True))
    with pytest.raises(ValueError, match=r"table: expected the columns \['strength'\]"):
        tables.intervals_by(table, ["strength"], chosen)
    with pytest.raises(ValueError, match="table: expected at least one row, got none"):
        tables.intervals_by(table[:0], ["method"], chosen)
    one_row_each = tables.wide(found)
    scores_of = ["auc", "auc_low", "auc_high", "chroma_ratio", "chroma_ratio_low", "chroma_ratio_high"]
    assert [*one_row_each.columns] == ["method", "T", "seeds", "images", "over", *scores_of, "chroma_ratio_effective"]
    assert one_row_each["chroma_ratio_low"].tolist() == found["low"][1::2].tolist()


def test_a_table_stands_beside_the_published_one(scores):
    renamed = scores.replace({"method": {"l2": "l2-ft", "full": "ours"}})
    table = tables.beside_published(tables.main_table(renamed, ["ours", "gray", "l2-ft"]))
    assert table["theirs"].tolist() == [*tables.published()["method"], ""]
    assert table["ours"].tolist() == ["", "gray", "", "", "", "", "l2-ft", "", "", "ours"]
    gray = table.iloc[1]
    assert (
        gray["AuC"].startswith("50.6 [49.4, 51.8]")
        and gray["AuC, theirs"] == 89.1
        and (gray["seeds"], gray["images"]) == (2, 10)
    )


def test_paired_table_gives_verdicts(scores):
    table = tables.paired_table(scores, [("full", "l2"), ("gray", "full"), ("l2", "l2")], ["auc"])
    assert table["verdict"].tolist() == ["higher", "lower", "undecided"]
    assert table["difference"].tolist() == ["full - l2", "gray - full", "l2 - l2"]


def test_effects_table_compares_each_variant_with_its_base(scores):
    variants = {
        "full": {"base": "l2", "group": "targets", "words": "rebalanced"},
        "gray": {"base": "full", "group": "baselines", "words": "no colour"},
        "class": {"base": "l2", "group": "targets", "words": "not run"},
    }
    table = tables.effects_table(scores, variants, ["auc", "rmse"])
    assert table[["group", "base", "variant", "change"]].drop_duplicates().to_numpy().tolist() == [
        ["targets", "l2", "full", "rebalanced"], ["baselines", "full", "gray", "no colour"],
    ]  # fmt: skip
    pairs = tables.paired_table(scores, [("full", "l2"), ("gray", "full")], ["auc", "rmse"])
    pd.testing.assert_frame_equal(table[pairs.columns[1:]], pairs.drop(columns="difference"))
    with pytest.raises(ValueError, match="scores: expected runs of a variant and its base, some of"):
        tables.effects_table(scores[scores["method"] == "l2"], variants, ["auc"])


def test_effects_are_filled_where_they_leave_out_zero(scores):
    variants = {
        "full": {"base": "l2", "group": "targets", "words": "rebalanced"},
        "l2": {"base": "l2", "group": "targets", "words": "the same"},
    }
    table = tables.effects_table(scores, variants, ["auc"])
    ax = figures.effects(table, "auc")
    assert [label.get_text() for label in ax.get_yticklabels()] == ["targets", "rebalanced", "the same"]
    dots = [line for line in ax.lines if line.get_marker() == "o"]
    assert [dot.get_markerfacecolor() != "white" for dot in dots] == [True, False]


def test_every_system_of_the_study_is_named():
    assert set(tables.SYSTEMS) == {*BASELINES, *METHODS} - set(VARIANTS)


def test_the_published_table_is_as_printed():
    table = tables.published().set_index("method")
    assert table.loc["full", ["auc", "auc_rebalanced", "amt_fooled"]].tolist() == [89.5, 67.3, 32.3]
    assert table.loc["gray", ["auc", "auc_rebalanced"]].tolist() == [89.1, 58.0] and len(table) == 9


def test_saved_table_reads_back(scores, tmp_path):
    table = tables.main_table(scores, ["gray", "l2"])
    path = tables.save(table, tmp_path / "tables" / "main")
    assert np.allclose(pd.read_csv(path)["auc"], table["auc"], rtol=1e-5)
    lines = (tmp_path / "tables" / "main.md").read_text().splitlines()
    assert len(lines) == 4 and lines[0].startswith("| method | seeds |")
    assert sorted(p.name for p in (tmp_path / "tables").iterdir()) == ["main.csv", "main.md"]
    readable = tables.readable(table, ["auc"])
    assert "[" in readable.loc[0, "AuC"]


def test_verdicts_are_corrected_for_the_number_of_rows():
    p = [0.01, 0.02, 0.04, np.nan]
    table = tables.judged(pd.DataFrame({"mean": [1.0, -1.0, 1.0, np.nan], "sign": p}))
    assert table["sign_holm"].tolist()[:3] == pytest.approx([0.03, 0.04, 0.04]) and np.isnan(table["sign_holm"][3])
    assert table["verdict"].tolist() == ["higher", "lower", "higher", "undecided"]
    alone = tables.judged(pd.DataFrame({"mean": [1.0] * 10, "sign": [0.04] * 10}))
    assert set(alone["verdict"]) == {"undecided"}


def test_a_long_table_can_still_find_something(scores):
    """No p-value has a floor that Holm's correction of many rows would lift above 0.05."""
    scores = pd.concat([scores.assign(seed=scores["seed"] + 2 * again) for again in range(5)])
    table = tables.paired_table(scores, [("l2", "gray")] * 300, ["auc", "colorfulness"])
    assert {*table["verdict"]} == {"higher"} and table["sign_holm"].max() < 1e-3


def test_every_auc_has_its_gain_over_grey_and_weighted_ones_say_what_they_rest_on(scores):
    table = tables.main_table(scores, ["gray", "l2"], ["auc", "auc_macro", "rmse"])
    gain = tables.paired_table(scores, [("l2", "gray")], ["auc"]).iloc[0]
    columns = ["auc_gain", "auc_gain_low", "auc_gain_high"]
    assert table.loc[1, columns].tolist() == gain[["mean", "low", "high"]].tolist() and gain["low"] > 0
    assert table.loc[0, columns].tolist() == [0, 0, 0] and "rmse_gain" not in table
    weight = scores[(scores["method"] == "l2") & (scores["seed"] == 0)]["macro_weight"]
    assert table.loc[1, "auc_macro_effective"] == pytest.approx(weight.sum() ** 2 / (weight**2).sum(), rel=1e-3)
    told = tables.readable(table, ["auc", "auc_macro", "rmse"])
    assert [*told][3:] == [
        "AuC", "gain over grey, AuC", "AuC, macro (10 effective)", "gain over grey, AuC, macro", "ab RMSE"
    ]  # fmt: skip
    assert "auc_gain" not in tables.main_table(scores[scores["method"] != "gray"], ["l2"])
    assert "psnr" not in tables.main_table(scores.drop(columns="psnr"), ["l2"])  # those that there are


@pytest.mark.parametrize(
    "draw",
    [
        lambda ax, s: figures.chroma_plane(ColorBins.in_gamut(), ax),
        lambda ax, s: figures.chroma_plane(ColorBins.in_gamut(), ax, values=torch.linspace(0, 1, 313), label="p"),
        lambda ax, s: figures.intervals(tables.main_table(s, ["l2", "full"]), "auc", ax, truth=1.0),
        lambda ax, s: figures.against(tables.main_table(s, ["l2", "full"]), "rmse", "auc", ax),
        lambda ax, s: figures.curves(s.groupby(["method", "seed"], as_index=False)["auc"].mean(), "seed", "auc", ax),
    ],
    ids=["chroma_plane", "with values", "intervals", "against", "curves"],
)  # fmt: skip
def test_figures_draw_on_the_given_axes_or_make_them(draw, scores):
    _, ax = plt.subplots()
    assert draw(ax, scores) is ax and ax.has_data()
    assert draw(None, scores) is not ax


def test_chroma_plane_fills_the_reachable_bins():
    ax = figures.chroma_plane(ColorBins.in_gamut())
    assert [len(points.get_offsets()) for points in ax.collections] == [52, 261]


def test_chroma_plane_draws_values_as_squares_that_grow_with_their_logarithm():
    bins = ColorBins.in_gamut()
    values = torch.full((313,), 1e-6)
    values[[0, 150, 312]] = torch.tensor([1.0, 0.1, 0.01])
    values[7] = 0.0
    ax = figures.chroma_plane(bins, values=values, decades=4, label="p")
    drawn = ax.collections[-1]
    assert np.allclose(drawn.get_offsets(), bins.centers[[0, 150, 312]])
    assert np.allclose(np.sqrt(drawn.get_sizes() / drawn.get_sizes()[0]), [1, 0.75, 0.5])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["1", "0.1", "0.01", "0.001"]
    with pytest.raises(ValueError, match=r"values: expected shape \(313,\), got \(3,\)"):
        figures.chroma_plane(bins, values=torch.ones(3))


@pytest.mark.parametrize("name, like", [("pretrained-full", "full"), ("class, T = 1", "class"), ("l2-ft", "l2")])
def test_a_target_has_one_colour_everywhere(name, like):
    assert figures.color_of(name) == figures.COLORS[like]
    assert figures.color_of("colorunet") is None


def test_pictures_is_a_grid_with_labels():
    image = np.zeros((20, 30, 3), np.uint8)
    figure = figures.pictures({"gray": [image] * 3, "truth": [image] * 3}, titles=["a", "b", "c"])
    assert len(figure.axes) == 6
    assert figure.axes[0].get_ylabel() == "gray" and figure.axes[2].get_title() == "c"
    with pytest.raises(ValueError, match="rows: expected as many pictures in each"):
        figures.pictures({"a": [image], "b": [image] * 2})


def test_pictures_say_what_their_rows_score():
    truth = np.random.default_rng(0).integers(0, 256, (2, 16, 16, 3), np.uint8)
    rows = figures.scored({"gray": [gray(image) for image in truth], "same": truth}, truth)
    assert [*rows] == ["gray\n+0.000, 0.00", [*rows][1], "truth"]
    gain = 1 - pd.DataFrame(per_image(to_tensor(np.stack([gray(i) for i in truth])), to_tensor(truth)))["auc"].mean()
    assert [*rows][1] == f"same\n{gain:+.3f}, 1.00"


def test_verdicts_show_effects_in_the_claimed_direction():
    """Above or below, an effect as claimed lies to the right; a margin stands as a bar."""
    row = {"test": "a", "score": "auc", "claimed": "above", "effect": 0.2, "low": 0.1, "high": 0.3, "margin": 0.0}
    rows = [row | {"verdict": "holds"}, row | {"test": "b", "claimed": "below", "verdict": "fails", "margin": -0.05}]
    rows.append(row | {"test": "c", "score": "rmse", "verdict": "undecided"})
    figure = figures.verdicts(pd.DataFrame(rows))
    first, second = figure.axes
    assert [label.get_text() for label in first.get_yticklabels()] == ["a", "b"] and len(second.get_yticks()) == 1
    dots = [line.get_xdata()[0] for line in first.lines if line.get_marker() == "o" and len(line.get_xdata())]
    bars = [line.get_xdata()[0] for line in first.lines if line.get_marker() == "|"]
    assert dots == [0.2, -0.2] and bars == [0.05]
    counts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert counts == ["holds: 1", "holds of gray too: 0", "undecided: 1", "fails: 1"]


def test_a_difference_is_told_in_words():
    row = pd.Series({"mean": -0.027, "low": -0.034, "high": -0.02, "verdict": "lower"})
    assert tables.change(row, "auc") == "lowers AuC by 0.027 [0.020, 0.034]"
    higher = pd.Series({"mean": 0.027, "low": 0.02, "high": 0.034, "verdict": "higher"})
    assert tables.change(higher, "auc") == "raises AuC by 0.027 [0.020, 0.034]"
    row["verdict"] = "undecided"
    assert tables.change(row, "auc") == "leaves open whether AuC changes (-0.027 [-0.034, -0.020])"


def test_a_shown_table_is_the_same_each_time():
    table = pd.DataFrame({"name": ["a", "b"], "x": [-1e-9, 2.0], "y": [np.nan, 1.23456]})
    shown = tables.show(table).data
    assert shown == tables.show(table.copy()).data and "-0.000" not in shown and " id=" not in shown
    assert (
        "<td>0.000</td>" in shown and "<td>1.235</td>" in shown and "<td></td>" in shown and "<th>0</th>" not in shown
    )


def test_save_is_whole_and_repeatable(tmp_path):
    ax = figures.chroma_plane(ColorBins.in_gamut(20))
    for name in ("a.png", "b.png"):
        figures.save(ax, tmp_path / "new" / name)
    assert (tmp_path / "new" / "a.png").read_bytes() == (tmp_path / "new" / "b.png").read_bytes()
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == ["a.png", "b.png"]
    with pytest.raises(ValueError, match="xyz"):
        figures.save(ax, tmp_path / "new" / "c.xyz")
    assert len(list((tmp_path / "new").iterdir())) == 2
