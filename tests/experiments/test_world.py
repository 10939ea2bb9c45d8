"""The controlled world: its colours follow the stated distributions, and lightness does not give them away."""

import numpy as np
import pytest
import torch

from colorstudy import data, methods, training
from colorstudy.bins import ColorBins
from colorstudy.color import split, to_tensor
from colorstudy.experiments.world import GROUND, KINDS, pictures, world


@pytest.fixture(scope="module")
def drawn():
    images, kinds = pictures(48, 300, seed=3)
    lightness, chroma = split(to_tensor(images))
    return kinds, lightness[:, 0].numpy(), chroma.permute(0, 2, 3, 1).numpy()


@pytest.mark.parametrize("k", range(len(KINDS)), ids=[kind.name for kind in KINDS])
def test_every_object_has_one_of_its_colours_as_often_as_stated(drawn, k):
    kinds, _, chroma = drawn
    colors = np.array(KINDS[k].colors)
    objects = [chroma[i, :24, :24][kinds[i, :24, :24] == k] for i in range(len(kinds))]  # one quarter: one object
    objects = [pixels for pixels in objects if len(pixels)]
    chosen = []
    for pixels in objects:
        distance = np.linalg.norm(pixels[:, None] - colors, axis=2)
        assert distance.min(1).max() < 3  # the rounding of sRGB, and at the ends of the lightness the gamut
        assert len(set(distance.argmin(1))) == 1
        chosen.append(distance.argmin(1)[0])
    share = np.bincount(chosen, minlength=len(colors)) / len(chosen)
    assert np.abs(share - KINDS[k].chances).max() < 4 * np.sqrt(0.25 / len(chosen))


@pytest.mark.parametrize("k", [k for k, kind in enumerate(KINDS) if len(kind.colors) > 1])
def test_lightness_does_not_tell_the_colour(drawn, k):
    kinds, lightness, chroma = drawn
    inside = kinds == k
    which = np.linalg.norm(chroma[inside][:, None] - np.array(KINDS[k].colors), axis=2).argmin(1)
    groups = [lightness[inside][which == c] for c in range(len(KINDS[k].colors))]
    spread = lightness[inside].std()
    for group in groups[1:]:
        # A texture's phase differs from object to object, so that pixels of one are not independent.
        assert abs(group.mean() - groups[0].mean()) < 0.25 * spread
        assert abs(group.std() - groups[0].std()) < 0.25 * spread


def test_ground_is_grey(drawn):
    kinds, _, chroma = drawn
    assert np.abs(chroma[kinds == GROUND]).max() < 1


@pytest.mark.parametrize("neighbors", [1, 5])
def test_the_known_optimum_is_the_least_of_the_expected_loss(neighbors):
    bins = ColorBins.in_gamut()
    weights = torch.linspace(0.5, 2, len(bins))
    kind = KINDS[4]
    p = kind.distribution(bins, weights, neighbors)
    assert p.sum() == pytest.approx(1)
    indices, z = bins.soft(torch.tensor(kind.colors, dtype=torch.float32).T[None, :, :, None], neighbors, 5.0)
    z = z * weights[indices[..., :1]] * torch.tensor(kind.chances)[None, :, None, None]
    logits = torch.zeros(len(bins), requires_grad=True)
    optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

    def expected_loss():
        optimizer.zero_grad()
        loss = -(z * logits.log_softmax(0)[indices]).sum()
        loss.backward()
        return loss

    optimizer.step(expected_loss)
    assert (logits.softmax(0) - p).abs().max() < 1e-3


def test_one_neighbour_and_equal_weights_give_the_chances_themselves():
    bins = ColorBins.in_gamut()
    for kind in KINDS:
        p = kind.distribution(bins)
        places = bins.nearest(torch.tensor(kind.colors, dtype=torch.float32).T[None, :, :, None])[0, :, 0]
        assert p[places].tolist() == pytest.approx(kind.chances)
        # so its mean is the conditional mean
        assert (p[:, None] * bins.centers).sum(0).tolist() == pytest.approx(kind.mean.tolist(), abs=1e-5)


def test_it_is_a_bank_that_trains(tmp_path):
    bank = data.load("colorstudy.experiments.world:world", size=32, count=20, seed=1)
    assert (len(bank.train), len(bank.test), bank.name) == (16, 4, "world")
    assert bank.hash == world(32, 20, 1).hash != world(32, 20, 2).hash
    config = training.TrainConfig(steps=2, batch_size=4, crop=32, interval=1, threads=1)
    run = training.fit(methods.get("class"), bank, config, tmp_path / "run")
    assert (run / "train.json").exists()


@pytest.mark.parametrize(("argument", "value"), [("size", 31), ("count", 0), ("seed", -1), ("size", 64.0)])
def test_wrong_arguments_are_named(argument, value):
    with pytest.raises(ValueError, match=f"^{argument}: expected"):
        pictures(**{"size": 32, "count": 1, argument: value})


def test_part_of_a_bank():
    bank = world(32, 20, 1)
    part = bank.only(bank.names[10:18])
    assert part.names == bank.names[10:18] and part.split == ("train",) * 6 + ("test",) * 2
    assert (part.images == bank.images[10:18]).all() and part.hash != bank.hash
    for wrong in ([], ["nothing"]):
        with pytest.raises(ValueError, match=r"^names: expected some of the 20 pictures of world, got '?no"):
            bank.only(wrong)


def test_many_pictures_are_the_first_ones_and_more():
    """They are drawn a thousand at a time, which bounds memory: 60,000 at once would take gigabytes."""
    some, more = pictures(32, 1000, 2), pictures(32, 1003, 2)
    assert len(more[0]) == len(more[1]) == 1003
    for few, many in zip(some, more):
        assert (many[:1000] == few).all()
