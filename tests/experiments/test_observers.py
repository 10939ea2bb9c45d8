"""Machine observers: what they say of pictures and features whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from colorstudy.data import photos
from colorstudy.experiments import observers
from colorstudy.study.evaluation import Gray, gray
from colorstudy.study.run import run_at


@pytest.fixture(scope="module")
def photographs():
    bank = photos(size=256)
    return {name: bank.images[bank.names.index(name)] for name in ("skimage/chelsea", "skimage/coffee", "mvtb/church")}


def test_the_recognizer_names_what_is_in_a_photograph(photographs):
    images = np.stack([*photographs.values()])
    p = observers.recognized(images)
    assert p.shape == (3, 1000) and torch.allclose(p.sum(1), torch.ones(3), atol=1e-5)
    cat, *others = p.argmax(1).tolist()
    assert cat in (281, 282, 285) and others == [967, 497]  # tabby, tiger cat, Egyptian cat; espresso, church


def test_recognition_compares_with_the_truth():
    truth = torch.zeros(3, 1000)
    truth[:, 7] = 1.0
    colored = torch.zeros(3, 1000)
    colored[0, 7] = 1.0
    colored[1, :5] = torch.tensor([0.3, 0.2, 0.2, 0.1, 0.1])
    colored[1, 7] = 0.1 + 1e-6  # fourth
    colored[2, :6] = 1 / 6
    table = observers.recognition(truth, colored)
    assert table["top1"].tolist() == [1, 0, 0] and table["top5"].tolist() == [1, 1, 0]
    assert table["shift"].tolist() == pytest.approx([0, -0.9, -1], abs=1e-5)


class TestTwoAlternative:
    def made(self, shift, n=60, d=8):
        rng = np.random.default_rng(0)
        true = torch.from_numpy(rng.standard_normal((n, d)))
        colored = torch.from_numpy(rng.standard_normal((n, d)))
        colored[:, 0] += shift
        return true, colored

    def test_finds_what_differs_and_not_what_does_not(self):
        assert observers.two_alternative(*self.made(4.0)).mean() > 0.95
        assert 0.3 < observers.two_alternative(*self.made(0.0)).mean() < 0.7

    def test_sees_no_pair_that_it_was_trained_on(self):
        """More features than pictures: a classifier that had met the pairs would know every one of them by heart."""
        assert 0.25 < observers.two_alternative(*self.made(0.0, d=400)).mean() < 0.75

    def test_the_same_on_both_sides_is_a_tie(self):
        true, _ = self.made(0.0)
        assert (observers.two_alternative(true, true) == 0.5).all()


def test_color_features_see_colour(photographs):
    images = np.stack([*photographs.values()])
    true, grey = (observers.color_features(shown) for shown in (images, np.stack([gray(image) for image in images])))
    assert true.shape == (3, 192) and (true - grey).abs().max() > 0.1


class TestRuns:
    """Of two colorizers, of which one knows the truth, the observers must say which."""

    @pytest.fixture
    def runs(self, tmp_path, monkeypatch):
        made = {name: run_at(tmp_path, name, 0) for name in ("gray", "knowing")}
        known = SimpleNamespace(colorize=lambda images: images)
        monkeypatch.setattr(observers.grid, "colorizer_of", lambda run, bank: Gray() if run.method == "gray" else known)
        return [*made.values()]

    def test_what_a_recognizer_sees(self, runs):
        table = observers.semantics(runs, photos(size=64), 4)
        means = table.groupby("method")[["top1", "top5", "shift"]].mean()
        assert table.groupby("method").size().to_dict() == {"gray": 4, "knowing": 4}
        assert means.loc["knowing"].tolist() == [1, 1, 0] and means.loc["gray", "shift"] != 0

    def test_what_an_observer_finds(self, runs):
        table = observers.observed(runs, photos(size=64), 8, folds=2).set_index("method")
        assert (table.loc["knowing", "found"] == 0.5).all() and (table.loc["coarse truth", "found_coarse"] == 0.5).all()
        assert table["image"].nunique() == 8 and len(table) == 24
