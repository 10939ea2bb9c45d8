"""A network that answers what theory says has no error; one that answers something else has the error of that."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from colorstudy.bins import ColorBins
from colorstudy.color import split, to_tensor
from colorstudy.colorize import Colorizer
from colorstudy.experiments import theory
from colorstudy.experiments.world import GROUND, KINDS, pictures
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.targets import Classification, Regression


@pytest.fixture(scope="module")
def drawn():
    return pictures(64, 12, seed=5)


class Knowing(nn.Module):
    """Answers from a table of the kinds, as if it had learned them: a stand-in for a network."""

    def __init__(self, kinds, answers):
        super().__init__()
        self.cells, self.answers, self.seen = theory.interior(kinds, 4), answers, 0

    def forward(self, lightness):
        self.seen %= len(self.cells)  # it may be asked again
        cells = self.cells[self.seen : self.seen + len(lightness)]
        self.seen += len(lightness)
        table = torch.stack([*self.answers, torch.zeros_like(self.answers[0])])  # the last is the ground's
        return table[cells].permute(0, 3, 1, 2)


def knowing(target, kinds, answers):
    made = Model(METHODS["l2" if target.out_channels == 2 else "class"], target)
    made.network = Knowing(kinds, answers)
    return Colorizer(made, 64, "cpu")


def test_the_inside_of_an_object_is_of_one_kind(drawn):
    _, kinds = drawn
    cells = theory.interior(kinds, 4)
    assert cells.shape == (12, 16, 16) and (cells != GROUND).any()
    for picture, row, column in (cells != GROUND).nonzero().tolist():
        block = kinds[picture, 4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        assert (block == cells[picture, row, column].item()).all()


def test_the_answer_of_theory_has_no_error(drawn):
    images, kinds = drawn
    bins = ColorBins.in_gamut()
    mean = [kind.mean for kind in KINDS]
    perfect = knowing(Regression(), kinds, [m / 110 for m in mean])
    errors = theory.errors(*theory.answers(perfect, images, kinds, perfect.decode), mean)
    assert len(errors) > 20 and errors["error"].max() < 1e-4 and errors["image"].is_unique
    p = [kind.distribution(bins) for kind in KINDS]
    w = torch.linspace(0.2, 3, len(bins))
    wp = [kind.distribution(bins, w) for kind in KINDS]
    mode = [bins.centers[q.argmax()] for q in p]
    questions = [
        (lambda colorizer: lambda prediction: prediction, p, 1e-4),
        (lambda colorizer: lambda prediction: F.normalize(prediction * w[:, None, None], p=1, dim=1), wp, 1e-4),
        (lambda colorizer: colorizer.decoding(temperature=1.0).decode, mean, 1e-3),
        (lambda colorizer: colorizer.decoding(temperature=0.02).decode, mode, 0.1),
    ]
    for read, expected, tolerance in questions:
        perfect = knowing(Classification(bins), kinds, [(q + 1e-12).log() for q in p])
        errors = theory.errors(*theory.answers(perfect, images, kinds, read(perfect)), expected)
        assert errors["error"].max() < tolerance


def test_the_error_is_the_distance_from_theory(drawn):
    images, kinds = drawn
    mean = [kind.mean for kind in KINDS]
    off = knowing(Regression(), kinds, [(m + torch.tensor([3.0, 4.0])) / 110 for m in mean])
    errors = theory.errors(*theory.answers(off, images, kinds, off.decode), mean)
    assert errors["error"].tolist() == pytest.approx([5.0] * len(errors), abs=1e-3)
    bins = ColorBins.in_gamut()
    p = [kind.distribution(bins) for kind in KINDS]
    off = knowing(Classification(bins), kinds, [torch.zeros(len(bins))] * len(KINDS))  # uniform
    errors = theory.errors(*theory.answers(off, images, kinds, lambda prediction: prediction), p)
    expected = {kind.name: 1 - len(kind.colors) / len(bins) for kind in KINDS}
    assert errors["error"].tolist() == pytest.approx([expected[name] for name in errors["kind"]], abs=1e-4)


def test_rebalancing_afterwards_gives_what_weighted_training_does_with_one_neighbour():
    bins = ColorBins.in_gamut()
    weights = torch.linspace(0.2, 3, len(bins))
    for kind in KINDS:
        decoded = kind.distribution(bins) * weights
        assert torch.allclose(decoded / decoded.sum(), kind.distribution(bins, weights), atol=1e-6)
        soft = kind.distribution(bins, neighbors=5) * weights
        assert not torch.allclose(soft / soft.sum(), kind.distribution(bins, weights, neighbors=5), atol=1e-4)


def test_objects_are_found_in_their_quarter(drawn):
    images, kinds = drawn
    assert split(to_tensor(images))[0].shape == (12, 1, 64, 64)
    right = knowing(Regression(), kinds, [kind.mean / 110 for kind in KINDS])
    objects, values = theory.answers(right, images, kinds, right.decode)
    assert values.shape == (len(objects), 2)
    for name, kind in zip(objects["image"], objects["kind"]):
        picture, quarter = map(int, name.split("-"))
        top, left = 32 * (quarter // 2), 32 * (quarter % 2)
        assert set(np.unique(kinds[picture, top : top + 32, left : left + 32])) <= {GROUND, kind}


def test_a_network_that_knows_the_theory_has_no_error_in_any_row():
    """`measure` of three networks that answer as they should, and of an l2 that is off by (3, 4)."""
    _, kinds = pictures(64, 12, seed=1)
    bins, weights = ColorBins.in_gamut(), torch.linspace(0.2, 3, 313)
    log_p, log_wp = ([(k.distribution(bins, w) + 1e-12).log() for k in KINDS] for w in (None, weights))
    means = [kind.mean / 110 for kind in KINDS]
    off = [(kind.mean + torch.tensor([3.0, 4.0])) / 110 for kind in KINDS]
    classification = Classification(bins, weights)
    made = {"l2": (Regression(), means), "class": (classification, log_p), "full": (classification, log_wp)}

    def run(name, target, answers):
        colorizer = knowing(target, kinds, answers)
        colorizer.model.method = METHODS[name]
        return SimpleNamespace(colorizer=lambda: colorizer, config={"steps": 5}, seed=0)

    right = [run(name, *parts) for name, parts in made.items()]
    wrong = [run("l2", Regression(), off), *right[1:]]
    table = theory.measure({"right": right, "wrong": wrong}, 64, 12)
    worst = table.groupby(["arm", "prediction"])["error"].max().unstack("arm")
    assert len(worst) == 6 and worst["right"].max() < 0.11
    assert worst.loc["l2 gives the mean", "wrong"] == pytest.approx(5, abs=1e-3)
    assert table.loc[table["prediction"] == "l2 gives the mean", ["a", "b"]].notna().all(axis=None)
    assert table.loc[table["prediction"] == "class gives p", "a"].isna().all()


def test_weights_afterwards_and_in_training_agree_with_one_neighbour_alone():
    images, _ = pictures(64, 40)
    table = theory.apart(images).set_index("kind")
    assert table["one-hot"].max() < 1e-5 and (table["soft"] > table["soft, smoothed"]).all()
