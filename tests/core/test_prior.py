"""The prior and its weights against the formulas, and the audit against a good and a bad published file."""

import numpy as np
import pytest
import torch

from colorstudy import prior
from colorstudy.bins import ColorBins
from colorstudy.color import lab_to_srgb, srgb_to_yuv, to_tensor, to_uint8


@pytest.fixture(scope="module")
def bins():
    return ColorBins.in_gamut()


@pytest.fixture(scope="module")
def images():
    return torch.rand(3, 3, 20, 30, generator=torch.Generator().manual_seed(0))


def test_count_puts_each_pixel_in_its_bin(bins):
    a, b = 20.0, -30.0
    lab = torch.tensor([50.0, a, b]).view(1, 3, 1, 1).expand(2, 3, 4, 5)
    counts = prior.count(lab_to_srgb(lab), bins)
    assert counts.sum() == 40
    assert bins.centers[counts.argmax()].tolist() == [a, b] and counts.max() == 40


def test_count_takes_tensors_arrays_and_iterables_alike(bins, images):
    array = to_uint8(images)
    rounded = to_tensor(array)
    counts = prior.count(rounded, bins)
    assert counts.sum() == 3 * 20 * 30
    assert torch.equal(counts, prior.count(array, bins))
    assert torch.equal(counts, prior.count((image[None] for image in rounded), bins))
    assert [len(batch) for batch in prior.batches(array, size=2)] == [2, 1]


def test_histogram_agrees_with_numpy(images):
    u, v = srgb_to_yuv(images)[:, 1:].permute(1, 0, 2, 3).flatten(1).double().numpy()
    expected, _, _ = np.histogram2d(u, v, bins=(8, 12), range=[(-0.615, 0.615)] * 2)
    assert np.array_equal(prior.histogram(images, (8, 12)).numpy(), expected)


def test_smooth_keeps_mass_and_spreads_it_by_the_gaussian(bins):
    p = torch.zeros(313)
    middle = bins.centers.tolist().index([0.0, 0.0])
    p[middle] = 7.0
    smoothed = prior.smooth(p, bins, sigma=5.0)
    assert smoothed.sum() == pytest.approx(1)
    beside = bins.centers.tolist().index([10.0, 0.0])
    assert smoothed[beside] / smoothed[middle] == pytest.approx(np.exp(-100 / 50))
    assert torch.equal(prior.smooth(p, bins, sigma=0), p.double() / 7)


@pytest.mark.parametrize("lam", [0.0, 0.2, 0.5, 1.0])
def test_rebalancing_weights_are_equation_4(lam):
    p = torch.rand(313, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1e-3
    weights = prior.rebalancing_weights(p, lam)
    p = p / p.sum()
    assert (p * weights).sum() == pytest.approx(1)
    ratio = weights * ((1 - lam) * p + lam / 313)  # constant, if w is proportional to the inverse
    assert torch.allclose(ratio, ratio[0].expand(313))
    if lam == 1:
        assert torch.allclose(weights, torch.ones(313, dtype=torch.float64))


def test_aligned_prior_passes_the_audit(reference):
    table = prior.audit(reference("pts_in_hull.npy"), reference("imagenet_prior_aligned.npy"))
    assert table["passed"].all(), table


def test_misaligned_prior_fails_the_audit_with_reasons(reference):
    table = prior.audit(reference("pts_in_hull.npy"), reference("imagenet_prior_misaligned.npy"))
    assert not table.loc[["unreachable mass", "grey share", "alignment"], "passed"].any()
    assert "order is not that of the centres" in table.loc["alignment", "reason"]


def test_audit_of_our_own_prior(bins):
    """A smooth hill around grey passes; shuffled, unnormalised or with an empty bin it fails on that check."""
    p = torch.exp(-bins.centers.double().norm(dim=1) / 15)
    p = prior.smooth(torch.where(bins.reachable, p, 0), bins)
    assert prior.audit(bins.centers, p)["passed"].all()
    order = torch.randperm(313, generator=torch.Generator().manual_seed(0))
    assert not prior.audit(bins.centers, p[order]).loc["alignment", "passed"]
    assert not prior.audit(bins.centers, 2 * p).loc["normalised", "passed"]
    holed = torch.where(torch.arange(313) == 150, 0, p)
    assert not prior.audit(bins.centers, holed / holed.sum()).loc["smoothing", "passed"]


def test_a_smoothed_prior_of_few_pictures_passes_and_its_raw_count_fails_on_smoothing(bins, images):
    dull = torch.lerp(images.mean(1, keepdim=True), images, 0.3)  # random colours, near grey as photographs are
    counts = prior.count(dull, bins)
    assert prior.audit(bins.centers, prior.smooth(counts, bins))["passed"].all()
    raw = prior.audit(bins.centers, counts / counts.sum())
    assert raw.index[~raw["passed"]].tolist() == ["smoothing"]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda b: prior.count([], b), "images: expected at least one picture, got none"),
        (lambda b: prior.count(np.zeros((0, 2, 2, 3), np.uint8), b), "images: expected at least one picture, got none"),
        (lambda b: prior.count([torch.zeros(3, 2, 2)], b), r"images: expected shape \(B, 3, H, W\), got \(3, 2, 2\)"),
        (
            lambda b: prior.count(np.zeros((1, 2, 2, 3)), b),
            r"images: expected a uint8 array \(N, H, W, 3\), got float64",
        ),
        (lambda b: prior.smooth(torch.ones(3), b), r"p: expected shape \(313,\), got \(3,\)"),
        (lambda b: prior.smooth(torch.zeros(313), b), "p: expected a positive sum, got 0.0"),
        (lambda b: prior.smooth(torch.ones(313), b, -1), "sigma: expected a width >= 0, got -1"),
        (lambda b: prior.rebalancing_weights(torch.ones(3), 2), r"lam: expected a share in \[0, 1\], got 2"),
        (lambda b: prior.rebalancing_weights(torch.tensor([1.0, 0]), 0), "p: expected no empty bin .* got 1 empty"),
        (lambda b: prior.rebalancing_weights(torch.tensor([1.0, -1])), "p: expected finite numbers >= 0"),
        (
            lambda b: prior.audit(b.centers, torch.ones(3)),
            r"p: expected shape \(313,\), one number a centre, got \(3,\)",
        ),
        (
            lambda b: prior.audit(b.centers.T, torch.ones(313)),
            r"centers: expected shape \(Q, 2\), got \(2, 313\)",
        ),
        (lambda b: prior.histogram(torch.zeros(1, 3, 2, 2), (0, 2)), "shape: expected two numbers of cells >= 1"),
        (lambda b: prior.histogram(torch.zeros(1, 3, 2, 2), space="hsv"), "space: expected one of"),
    ],
)
def test_errors_name_argument_expected_and_got(bins, call, message):
    with pytest.raises(ValueError, match=message):
        call(bins)
