"""Baselines against closed forms, and the per-image table of colorizers whose scores are known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from colorstudy.bins import ColorBins
from colorstudy.color import split, to_tensor
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.prior import count, rebalancing_weights, smooth
from colorstudy.study import evaluation
from colorstudy.study.evaluation import (
    Gray,
    RandomColors,
    decodings,
    evaluate,
    gray,
    inverse_frequency,
    per_bin,
)
from colorstudy.study.scores import SCORES, aggregate


@pytest.fixture(scope="module")
def bank():
    """Seven smooth colour pictures to train on and five to test on, of 24 pixels."""
    small = np.random.default_rng(0).integers(0, 256, (12, 4, 4, 3), np.uint8)
    images = np.stack([np.array(Image.fromarray(s).resize((24, 24), Image.Resampling.BICUBIC)) for s in small])
    names = tuple(f"{i}.png" for i in range(12))
    return ImageBank("tiny", images, names, ("train",) * 7 + ("test",) * 5, "hash", {}, ())


@pytest.fixture(scope="module")
def true(bank):
    return to_tensor(bank.test.images)


class Truth:
    """Cheats."""

    def colorize(self, image):
        return image


class Recorded:
    """Gray, with a record of what it was asked for."""

    def __init__(self):
        self.seen = []

    def colorize(self, image):
        self.seen.append(image)
        return Gray().colorize(image)


def test_the_table_has_a_row_a_test_picture(bank):
    table = evaluate(Gray(), bank)
    assert table.index.name == "image" and list(table.index) == list(bank.test.names)
    columns = {"auc", "rmse", "psnr", "ssim", "ciede2000", "colorfulness", "colorfulness_true", "chroma", "chroma_true"}
    columns |= {"rebalanced_hits", "rebalanced_weight", "tail_hits", "tail_weight", "roughness", "roughness_true"}
    columns |= {"macro_hits", "macro_weight", "half_hits", "half_weight"}
    assert set(table.columns) == columns
    assert table.dtypes.map(lambda dtype: dtype.kind == "f").all() and np.isfinite(table).all(axis=None)
    assert set(aggregate(table).index) == set(SCORES)


def test_a_subset_may_be_thinned_evenly(bank):
    names = list(evaluate(Gray(), bank).index)
    few = list(evaluate(Gray(), bank, most=2).index)
    assert few == [names[0], names[-1]] and list(evaluate(Gray(), bank, most=99).index) == names
    with pytest.raises(ValueError, match=r"^most: expected a number of pictures >= 1, got 0"):
        evaluate(Gray(), bank, most=0)


def test_every_subset_can_be_scored(bank):
    assert list(evaluate(Gray(), bank, "train").index) == list(bank.train.names)
    with pytest.raises(ValueError, match=r"^tiny: expected at least one val picture, got none among 12"):
        evaluate(Gray(), bank, "val")
    three = replace(bank, split=("train",) * 7 + ("val",) * 2 + ("test",) * 3)
    assert list(evaluate(Gray(), three, "val").index) == ["7.png", "8.png"]
    assert list(evaluate(Gray(), three).index) == ["9.png", "10.png", "11.png"]
    with pytest.raises(ValueError, match=r"^subset: expected one of \['train', 'val', 'test'\], got 'valid'"):
        evaluate(Gray(), bank, "valid")


@pytest.mark.parametrize("batch_size", [1, 2, 5, 100])
def test_the_size_of_batches_changes_no_score(bank, true, batch_size, monkeypatch):
    whole, recorded = evaluate(Gray(), bank), Recorded()
    monkeypatch.setattr(evaluation, "BATCH", batch_size)
    table = evaluate(recorded, bank)
    assert [len(batch) for batch in recorded.seen] == [len(part) for part in true.split(batch_size)]
    assert torch.equal(torch.cat(recorded.seen), true)
    pd.testing.assert_frame_equal(table, whole, rtol=1e-4)


def test_the_truth_is_perfect(bank):
    table = evaluate(Truth(), bank)
    assert np.allclose(table["auc"], 1) and np.allclose(table["ssim"], 1)
    assert np.isinf(table["psnr"]).all() and np.allclose(table[["rmse", "ciede2000"]], 0)
    scores = aggregate(table)
    assert scores["auc"] == pytest.approx(1) and scores["auc_rebalanced"] == pytest.approx(1)
    assert scores["colorfulness_ratio"] == pytest.approx(1) and scores["chroma_ratio"] == pytest.approx(1)


def test_gray_has_the_scores_of_its_closed_forms(bank, true):
    table = evaluate(Gray(), bank)
    chroma = split(true)[1].norm(dim=1)  # (B, H, W): the distance from grey is the chroma of the truth
    expected = 1 - chroma.clamp(max=150).mean((1, 2)) / 150
    assert np.allclose(table["auc"], expected, atol=1e-4)
    assert table["colorfulness"].max() < 0.1 and table["chroma"].max() < 0.1
    assert np.allclose(table["rmse"], (chroma.square().mean((1, 2)) / 2).sqrt(), rtol=1e-3)
    bins = ColorBins.in_gamut()
    weights = inverse_frequency(count(bank.images, bins), bins)[bins.nearest(split(true)[1])]
    pooled = (weights * (1 - chroma.clamp(max=150) / 150)).sum() / weights.sum()
    assert aggregate(table)["auc_rebalanced"] == pytest.approx(pooled.item(), abs=1e-4)


def test_gray_keeps_lightness(true):
    grey = Gray().colorize(true)
    assert (grey.amax(1) - grey.amin(1)).max() < 1e-3
    assert torch.allclose(split(grey)[0], split(true)[0], atol=1e-2)


def test_gray_of_an_array(bank, true):
    picture = gray(bank.test.images[0])
    assert picture.shape == (24, 24, 3) and picture.dtype == np.uint8 and np.ptp(picture, axis=2).max() <= 1
    lightness = split(to_tensor(picture))[0]
    assert torch.allclose(lightness, split(true[0])[0], atol=0.5)


def test_random_gives_the_colours_of_training_pictures(bank):
    """Of a picture without detail, the colours are those of one training picture wherever they are in gamut."""
    grey = torch.full((4, 3, 24, 24), 0.5)
    colored = RandomColors(bank.train.images, seed=3).colorize(grey)
    train = split(to_tensor(bank.train.images))[1]
    for picture in colored:
        inside = ((picture > 0) & (picture < 1)).all(0)
        distance = (split(picture)[1] - train).norm(dim=1)[:, inside]  # (7, pixels)
        assert inside.sum() > 50 and distance.amax(1).min() < 0.1


def test_true_bins_are_found_once_for_many_colorizers(bank, monkeypatch):
    found, nearest = [], ColorBins.nearest

    def noted(bins, chroma):
        found.append(len(chroma))
        return nearest(bins, chroma)

    monkeypatch.setattr(ColorBins, "nearest", noted)
    own = replace(bank, hash="another")
    tables = [evaluate(Gray(), own) for _ in range(3)]
    assert sum(found) == len(own) + len(own.test)  # the weights of the bank, and the pictures scored
    pd.testing.assert_frame_equal(tables[0], tables[2])
    assert len(evaluate(Gray(), own, most=2)) == 2 and sum(found) == len(own) + len(own.test) + 2


def test_a_picture_goes_through_the_network_once_for_all_its_decodings(bank, monkeypatch):
    seen, predict = [], Colorizer.predict
    monkeypatch.setattr(
        Colorizer, "predict", lambda self, lightness: seen.append(len(lightness)) or predict(self, lightness)
    )
    table = decodings(
        Colorizer.load("class"), bank, "test", strengths=(0.0, 0.5, 1.0), temperatures=(0.38, 1.0), most=2
    )
    assert len(table) == 12 and seen == [2]


def test_decodings_are_those_of_evaluate_at_every_strength_and_temperature(bank):
    colorizer = Colorizer.load("class")
    table = decodings(colorizer, bank, "test", strengths=(0.0, 1.0), temperatures=(0.38, 1.0), most=2)
    assert table.index.names == ["s", "T", "image"] and len(table) == 8
    for s, t in ((0.0, 1.0), (1.0, 0.38)):
        one = evaluate(colorizer.decoding(rebalance=s, temperature=t), bank, most=2)
        pd.testing.assert_frame_equal(table.loc[(s, t)], one)
    own = decodings(colorizer, bank, "test", temperatures=(1.0,), most=2).droplevel("s").loc[1.0]
    pd.testing.assert_frame_equal(own, evaluate(colorizer.decoding(temperature=1.0), bank, most=2))


def test_random_repeats_with_its_seed(bank):
    first, again, other = (evaluate(RandomColors(bank.train.images, seed), bank) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert not np.allclose(first["auc"], other["auc"])
    assert (first["colorfulness"] > 1).all()


def test_random_depends_on_no_batch_size(bank, monkeypatch):
    whole = evaluate(RandomColors(bank.train.images, 0), bank)
    monkeypatch.setattr(evaluation, "BATCH", 1)
    single = evaluate(RandomColors(bank.train.images, 0), bank)
    pd.testing.assert_frame_equal(whole, single, rtol=1e-4)


def test_random_gives_every_picture_every_colour():
    """Whatever its place in the batch, a picture is as likely to get the first training picture as the last."""
    images = np.zeros((2, 2, 2, 3), np.uint8)
    images[0], images[1] = (200, 60, 60), (60, 60, 200)
    grey = torch.full((2, 3, 2, 2), 0.4)
    pairs = set()
    for seed in range(30):
        colored = RandomColors(images, seed).colorize(grey)[:, :, 0, 0]
        pairs.add(tuple("red" if r > b else "blue" for r, _, b in colored.tolist()))
    assert pairs == {("red", "red"), ("red", "blue"), ("blue", "red"), ("blue", "blue")}


def test_random_leaves_the_global_generators_alone(bank):
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # noqa: NPY002 - the global state is what is tested
    evaluate(RandomColors(bank.train.images, 0), bank)
    assert np.array_equal(np.random.get_state()[1], before[0])  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])


def test_inverse_frequency_is_that_of_the_smoothed_counts(bank):
    bins = ColorBins.in_gamut()
    weights = inverse_frequency(count(bank.images, bins), bins)
    assert weights.shape == (313,) and weights.dtype == torch.float32
    assert weights.isfinite().all() and (weights > 0).all()
    rgb = to_tensor(bank.images)
    counts = torch.bincount(bins.nearest(split(rgb)[1]).flatten(), minlength=313).double()
    kernel = torch.exp(-(torch.cdist(bins.centers.double(), bins.centers.double()) ** 2) / 50)
    p = kernel @ counts / (kernel @ counts).sum()
    seen = p > 1e-6
    product = (weights.double() * p)[seen]
    assert seen.sum() > 100 and torch.allclose(product, product[0], rtol=1e-4)  # w is proportional to 1 / p
    assert (p * weights.double()).sum().item() == pytest.approx(1, rel=1e-3)


def test_frequencies_are_of_the_whole_bank(bank):
    """A training picture counts in the weights of the test pictures."""
    changed = bank.images.copy()
    changed[0] = bank.test.images[0]
    other = ImageBank(bank.name, changed, bank.names, bank.split, bank.hash, {}, ())
    table, expected = evaluate(Gray(), other), evaluate(Gray(), bank)
    for column in ("rebalanced_weight", "half_weight"):
        assert not np.allclose(table[column], expected[column])
    pd.testing.assert_frame_equal(table[["auc", "macro_weight"]], expected[["auc", "macro_weight"]])


class Shifted:
    """The truth in grey but for its blue half, so that bins are served unlike."""

    def colorize(self, image):
        keep = (split(image)[1][:, 1:2] < 0).float()
        return keep * image + (1 - keep) * Gray().colorize(image)


def test_macro_auc_is_the_mean_over_bins_seen_in_enough_pictures(bank, true, monkeypatch):
    """In a quarter of five pictures, rounded up. By a plain loop over the bins, of the column sums that it divides."""
    bins, floor = ColorBins.in_gamut(), 2
    monkeypatch.setattr(evaluation, "BATCH", 2)
    table = evaluate(Shifted(), bank)
    distance = (split(Shifted().colorize(true))[1] - split(true)[1]).norm(dim=1)
    labels, closeness = bins.nearest(split(true)[1]), 1 - distance.clamp(max=150) / 150
    common = [q for q in range(313) if sum(bool((picture == q).any()) for picture in labels) >= floor]
    expected = np.mean([closeness[labels == q].mean().item() for q in common])
    assert len(common) > 1 and aggregate(table)["auc_macro"] == pytest.approx(expected, abs=1e-4)
    assert table["macro_weight"].mean() == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("floor", [1, 2, 4, 50])
def test_bins_seen_in_enough_pictures_count_the_same(bank, true, floor):
    """Where no bin is common, there is no macro AuC."""
    labels = ColorBins.in_gamut().nearest(split(true)[1])
    weights = per_bin(labels, floor, 313)
    common = torch.tensor([sum(bool((picture == q).any()) for picture in labels) >= floor for q in range(313)])
    share = weights * torch.bincount(labels.flatten(), minlength=313) / labels.numel()  # of the weight of all pixels
    assert torch.equal(weights > 0, common) and common.any() == (floor < 50)
    assert torch.allclose(share[common], torch.tensor(1 / max(common.sum().item(), 1)))
    none = evaluate(Gray(), bank).assign(macro_weight=0.0)
    assert np.isnan(aggregate(none)["auc_macro"])


def test_half_rebalanced_weights_are_those_of_a_rebalanced_loss(bank, true):
    bins = ColorBins.in_gamut()
    weights = rebalancing_weights(smooth(count(bank.images, bins), bins), lam=0.5)[bins.nearest(split(true)[1])]
    assert np.allclose(evaluate(Gray(), bank)["half_weight"], weights.mean((1, 2)), rtol=1e-4)


def test_a_bank_without_test_pictures_is_refused(bank):
    lone = ImageBank("lone", bank.images, bank.names, ("train",) * 12, "hash", {}, ())
    with pytest.raises(ValueError, match=r"lone: expected at least one test picture"):
        evaluate(Gray(), lone)
