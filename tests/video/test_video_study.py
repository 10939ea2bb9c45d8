"""Which strength is chosen, what is scored with it, and what stands in for real clips."""

from types import SimpleNamespace

import pandas as pd
import pytest

from colorstudy.study.evaluation import Gray
from colorstudy.video import study


def test_the_most_accurate_of_the_steady_is_chosen_and_the_steadiest_if_none_is():
    rows = [  # truth has a warp error of 1 at a chroma of 10
        ("a", "flow", 0.1, 1.0, 0.90), ("a", "flow", 0.2, 0.9, 0.95), ("a", "flow", 0.4, 2.0, 0.99),
        ("b", "flow", 0.1, 3.0, 0.99), ("b", "flow", 0.2, 2.0, 0.90),
    ]  # fmt: skip
    tried = pd.DataFrame(rows, columns=["method", "smoothing", "decay", "warp_error", "auc"])
    tried = tried.assign(chroma=10.0, chroma_true=10.0, warp_error_true=1.0, image="clip")
    table = study.strengths(tried)
    assert table[table["chosen"]][["method", "decay"]].to_numpy().tolist() == [["a", 0.2], ["b", 0.2]]
    assert table["steadiness"].tolist() == pytest.approx([1, 1 / 0.9, 0.5, 1 / 3, 0.5])


def test_without_real_clips_made_ones_tune_and_others_test(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("COLORSTUDY_DATA", str(tmp_path))
    monkeypatch.setattr(study, "clip", lambda name: (_ for _ in ()).throw(FileNotFoundError("no clips.tar")))
    halves = [study.films(part, 2, 5, 32) for part in ("tune", "test")]
    assert [len(half) for half in halves] == [2, 2] and not {*halves[0]} & {*halves[1]}
    assert "no clips.tar" in capsys.readouterr().out
    assert {clip.frames.shape for half in halves for clip in half.values()} == {(5, 3, 32, 42)}


def test_truth_and_grey_stand_beside_every_method(monkeypatch):
    clips = study.made_clips(study.photos(size=128).test, 5, 32)
    clips = {name: clips[name] for name in [*clips][:2]}
    asked = []

    def scored(colorizer, given, options):
        asked.append((colorizer.model.method.name, [(kind, float(decay)) for kind, decay in options]))
        return pd.DataFrame({"image": [*given], "smoothing": "none", "decay": 0.0, "auc": 0.5})

    colorizer = SimpleNamespace(model=SimpleNamespace(method=SimpleNamespace(name="l2")), colorize=Gray().colorize)
    monkeypatch.setattr(study, "scored", scored)
    monkeypatch.setattr(study.grid, "colorizer_of", lambda run, data: colorizer)
    chosen = pd.DataFrame({"method": "l2", "smoothing": ["flow", "flow"], "decay": [0.1, 0.2], "chosen": [False, True]})
    table = study.smoothed([SimpleNamespace(method="l2", seed=3)], clips, chosen)
    assert asked == [("l2", [("none", 0.0), ("flow", 0.2)])]
    assert table.groupby("method")["image"].nunique().to_dict() == {"gray": 2, "l2, none": 2, "truth": 2}
    assert (table.loc[table["method"] == "truth", "auc"] == 1).all()
    assert (
        table.loc[table["method"] == "gray", "warp_error"].max()
        < 0.05
        < table.loc[table["method"] == "truth", "warp_error"].min()
    )
