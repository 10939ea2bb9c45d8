"""A network that answers what theory says has no error; one that answers something else has the error of that."""

import pytest
import torch
from torch import nn

from colorstudy import theory
from colorstudy.bins import ColorBins
from colorstudy.color import split
from colorstudy.data.world import GROUND, KINDS, pictures
from colorstudy.methods import METHODS, Model
from colorstudy.targets import Classification, Regression


@pytest.fixture(scope="module")
def drawn():
    return pictures(64, 12, seed=5)


class Knowing(nn.Module):
    """Answers from a table of the kinds, as if it had learned them: a stand-in for a network."""

    stride = 4

    def __init__(self, kinds, answers):
        super().__init__()
        self.cells, self.answers, self.seen = theory.interior(kinds, self.stride), answers, 0

    def forward(self, lightness):
        cells = self.cells[self.seen : self.seen + len(lightness)]
        self.seen += len(lightness)
        table = torch.stack([*self.answers, torch.zeros_like(self.answers[0])])  # the last is the ground's
        return table[cells].permute(0, 3, 1, 2)


def model(target, kinds, answers):
    made = Model(METHODS["l2" if target.out_channels == 2 else "class"], target)
    made.network = Knowing(kinds, answers)
    return made


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
    perfect = model(Regression(), kinds, [m / 110 for m in mean])
    objects, values = theory.answers(perfect, images, kinds, perfect.target.decode)
    errors = theory.errors(objects, values, mean)
    assert len(errors) > 20 and errors["error"].max() < 1e-4 and errors["image"].is_unique
    p = [kind.distribution(bins) for kind in KINDS]
    perfect = model(Classification(bins), kinds, [(q + 1e-12).log() for q in p])
    errors = theory.errors(*theory.answers(perfect, images, kinds, lambda out: out.softmax(1)), p)
    assert errors["error"].max() < 1e-4


def test_the_error_is_the_distance_from_theory(drawn):
    images, kinds = drawn
    mean = [kind.mean for kind in KINDS]
    off = model(Regression(), kinds, [(m + torch.tensor([3.0, 4.0])) / 110 for m in mean])
    errors = theory.errors(*theory.answers(off, images, kinds, off.target.decode), mean)
    assert errors["error"].tolist() == pytest.approx([5.0] * len(errors), abs=1e-3)
    bins = ColorBins.in_gamut()
    p = [kind.distribution(bins) for kind in KINDS]
    off = model(Classification(bins), kinds, [torch.zeros(len(bins))] * len(KINDS))  # uniform
    errors = theory.errors(*theory.answers(off, images, kinds, lambda out: out.softmax(1)), p)
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
    lightness = split(torch.from_numpy(images).permute(0, 3, 1, 2) / 255)[0]
    assert lightness.shape == (12, 1, 64, 64)
    right = model(Regression(), kinds, [kind.mean / 110 for kind in KINDS])
    objects, _ = theory.answers(right, images, kinds, right.target.decode)
    assert all(0 <= int(name.split("-")[1]) < 4 for name in objects["image"])
