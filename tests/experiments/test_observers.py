"""Machine observers: what they say of pictures and features whose truth is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torchmetrics.image.fid import FrechetInceptionDistance

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
    p = observers.Recognizer().probabilities(images)
    assert p.shape == (3, 1000) and torch.allclose(p.sum(1), torch.ones(3), atol=1e-5)
    named = [observers.classes()[i] for i in p.argmax(1)]
    assert named[0] in ("tabby", "tiger cat", "Egyptian cat") and named[1:] == ["espresso", "church"]
    assert len(set(observers.classes())) == 1000


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
    assert table["confidence"].tolist() == pytest.approx([1, 0.1, 0], abs=1e-5)
    assert (table["confidence_true"] == 1).all() and (table["label"] == observers.classes()[7]).all()


class TestTwoAlternative:
    def made(self, shift, n=60, d=8):
        rng = np.random.default_rng(0)
        true = torch.from_numpy(rng.standard_normal((n, d)))
        colored = torch.from_numpy(rng.standard_normal((n, d)))
        colored[:, 0] += shift
        return true, colored, [f"{i}" for i in range(n)]

    def test_finds_what_differs_and_not_what_does_not(self):
        assert observers.two_alternative(*self.made(4.0))["found"].mean() > 0.95
        assert 0.3 < observers.two_alternative(*self.made(0.0))["found"].mean() < 0.7

    def test_sees_no_pair_that_it_was_trained_on(self):
        """More features than pictures: a classifier that had met the pairs would know every one of them by heart."""
        true, colored, names = self.made(0.0, d=400)
        assert 0.25 < observers.two_alternative(true, colored, names)["found"].mean() < 0.75

    def test_the_same_on_both_sides_is_a_tie(self):
        true, _, names = self.made(0.0)
        assert (observers.two_alternative(true, true, names)["found"] == 0.5).all()

    def test_refuses_what_does_not_fit(self):
        true, colored, names = self.made(0.0)
        with pytest.raises(ValueError, match=r"^names: expected 60 of them, got 59"):
            observers.two_alternative(true, colored, names[1:])
        with pytest.raises(ValueError, match=r"^folds: expected a number in \[2, 60\], got 61"):
            observers.two_alternative(true, colored, names, folds=61)
        with pytest.raises(ValueError, match=r"^colored: expected shape"):
            observers.two_alternative(true, colored[1:], names)


def test_frechet_distance_has_the_closed_form():
    """Of Gaussians with one covariance: the squared distance of their means; scaled by 2: the trace of one."""
    rng = np.random.default_rng(1)
    true = torch.from_numpy(rng.standard_normal((500, 4)))
    shifted = true + torch.tensor([1.0, 2.0, 0.0, 0.0])
    assert observers.frechet_distance(true, shifted) == pytest.approx(5.0, rel=1e-3)
    assert observers.frechet_distance(true, true) == pytest.approx(0, abs=1e-6)
    trace = torch.cov(true.T).trace().item() + (true.mean(0) ** 2).sum().item()
    assert observers.frechet_distance(true, 2 * true) == pytest.approx(trace, rel=1e-3)
    found, low, high = observers.frechet_interval(true, [shifted], samples=20)
    assert (found, low, high) == pytest.approx((5.0, 5.0, 5.0), rel=1e-3)


def test_frechet_distance_is_that_of_torchmetrics():
    rng = np.random.default_rng(2)
    true, other = (torch.from_numpy(rng.standard_normal((60, 8)) @ rng.standard_normal((8, 8))) for _ in range(2))
    given = torch.nn.Identity()  # the features are there already, where torchmetrics asks for a network
    given.num_features = 8
    metric = FrechetInceptionDistance(given)
    metric.update(true, real=True)
    metric.update(other, real=False)
    assert observers.frechet_distance(true, other) == pytest.approx(metric.compute().item(), rel=1e-9)


def test_the_frechet_interval_is_corrected_for_few_pictures():
    """Two samples of one distribution: the plain distance is far from 0, the corrected one is near it."""
    rng = np.random.default_rng(4)
    true, other = (torch.from_numpy(rng.standard_normal((120, 20))) for _ in range(2))
    plain = observers.frechet_distance(true, other)
    found, low, high = observers.frechet_interval(true, [other], samples=60)
    assert plain > 1 and abs(found) < plain / 2 and low < found < high


def test_color_features_see_colour(photographs):
    network = observers.ColorFeatures()
    images = np.stack([*photographs.values()])
    true, grey = network.of(images), network.of(np.stack([gray(image) for image in images]))
    assert true.shape == (3, 192) and (true - grey).abs().max() > 0.1
    assert not any(p.requires_grad for p in network.trunk.parameters())


def test_a_probe_learns_labels():
    rng = np.random.default_rng(2)
    centers = {"a": 0.0, "b": 6.0}
    labels = ["a", "b"] * 20
    features = torch.from_numpy(rng.standard_normal((40, 3)) + np.array([[centers[x]] for x in labels]))
    assert (observers.probe(features[:20], labels[:20], features[20:]) == labels[20:]).all()


class TestRuns:
    """Of two colorizers, of which one knows the truth, the observers must say which."""

    @pytest.fixture
    def runs(self, tmp_path, monkeypatch):
        made = {name: run_at(tmp_path, name, 0) for name in ("gray", "knowing")}
        known = SimpleNamespace(colorize=lambda images: images)
        monkeypatch.setattr(observers.grid, "colorizer_of", lambda run, bank: Gray() if run.method == "gray" else known)
        return [*made.values()]

    def test_what_a_recognizer_sees(self, runs):
        bank = photos(size=64)
        table = observers.semantics(runs, bank, 4, labelled=True)
        means = table.groupby("method")[["top1", "shift", "confidence", "accuracy"]].mean()
        assert table.groupby("method").size().to_dict() == {"gray": 4, "knowing": 4, "truth": 4}
        assert means.loc["knowing"].tolist() == pytest.approx(means.loc["truth"].tolist())
        assert means.loc["knowing", "top1"] == 1 and means.loc["knowing", "shift"] == 0 != means.loc["gray", "shift"]
        assert "accuracy" not in observers.semantics(runs[:1], bank, 2)

    def test_what_an_observer_finds(self, runs):
        table = observers.observed(runs, photos(size=64), 8, folds=2, samples=5).set_index("method")
        assert (table.loc["knowing", "found"] == 0.5).all() and (table.loc["coarse truth", "found_coarse"] == 0.5).all()
        distances = table["frechet"].groupby("method").first()
        assert distances["knowing"] < distances["coarse truth"] < distances["gray"]
        assert table["image"].nunique() == 8 and len(table) == 24
