"""Scores against scikit-image, torchmetrics, brute force and cases worked out by hand."""

import numpy as np
import pandas as pd
import pytest
import skimage.color
import skimage.metrics
import torch
from scipy.integrate import trapezoid
from torchmetrics.functional.image import peak_signal_noise_ratio, structural_similarity_index_measure

from colorstudy import color, metrics
from colorstudy.study.scores import SCORES, aggregate, scores_in


@pytest.fixture(scope="module")
def chroma():
    """Predicted and true ab (4, 2, 9, 11), errors up to about 200, and weights (4, 9, 11)."""
    generator = torch.Generator().manual_seed(0)
    true = 160 * torch.rand(4, 2, 9, 11, generator=generator) - 80
    spread = torch.tensor([1.0, 10.0, 40.0, 90.0]).view(4, 1, 1, 1)
    weights = torch.rand(4, 9, 11, generator=generator) ** 4 * 50
    return true + spread * torch.randn(true.shape, generator=generator), true, weights


@pytest.fixture(scope="module")
def pictures():
    """Predicted and true sRGB (3, 3, 48, 64) in [0, 1]: smooth pictures, the predictions less and less true."""
    generator = torch.Generator().manual_seed(1)
    true = torch.nn.functional.interpolate(torch.rand(3, 3, 6, 8, generator=generator), size=(48, 64), mode="bilinear")
    spread = torch.tensor([0.01, 0.05, 0.2]).view(3, 1, 1, 1)
    return (true + spread * torch.randn(true.shape, generator=generator)).clamp(0, 1), true


def channels_last(maps):
    return maps.permute(0, 2, 3, 1).double().numpy()


def accuracy_curve(pred, true, weights, thresholds):
    """Weighted share of the pixels of one image within each distance, pixel by pixel."""
    distances = np.hypot(*(pred - true).double().numpy())
    return np.array([(weights * (distances <= d)).sum() / weights.sum() for d in thresholds])


@pytest.mark.parametrize("weighted", [False, True])
def test_auc_is_the_area_under_the_accuracy_curve(chroma, weighted):
    pred, true, weights = chroma
    ours = metrics.auc(pred, true, weights=weights if weighted else None)
    thresholds = np.arange(0, 150 + 1e-9, 0.01)
    for i in range(len(pred)):
        weight = weights[i].double().numpy() if weighted else np.ones((9, 11))
        curve = accuracy_curve(pred[i], true[i], weight, thresholds)
        # On a grid, a step of the curve is misplaced by at most one spacing.
        assert ours[i] == pytest.approx(trapezoid(curve, thresholds) / 150, abs=0.01 / 150)
        coarse = trapezoid(curve[::100], thresholds[::100]) / 150  # the 151 whole distances
        assert ours[i] == pytest.approx(coarse, abs=0.5 / 150)


def test_weighted_auc_pixel_by_pixel_and_pooled(chroma):
    pred, true, weights = chroma
    above, below = np.zeros(len(pred)), np.zeros(len(pred))
    for i, y, x in np.ndindex(weights.shape):
        distance = float(((pred[i, :, y, x] - true[i, :, y, x]) ** 2).sum() ** 0.5)
        above[i] += weights[i, y, x].item() * (1 - min(distance, 150) / 150)
        below[i] += weights[i, y, x].item()
    hits, weight = metrics.auc_parts(pred, true, weights=weights)
    assert hits.numpy() == pytest.approx(above / 99, rel=1e-5)
    assert weight.numpy() == pytest.approx(below / 99, rel=1e-5)
    assert metrics.auc(pred, true, weights=weights).numpy() == pytest.approx(above / below, rel=1e-5)
    table = pd.DataFrame({"rebalanced_hits": hits, "rebalanced_weight": weight})
    assert aggregate(table)["auc_rebalanced"] == pytest.approx(above.sum() / below.sum(), rel=1e-5)


def test_auc_known_values(chroma):
    _, true, weights = chroma
    assert torch.equal(metrics.auc(true, true), torch.ones(4))
    assert metrics.auc(true, true, weights=weights).numpy() == pytest.approx(1)
    target = torch.tensor([30.0, 40.0]).view(1, 2, 1, 1).expand(1, 2, 5, 6)
    grey = torch.zeros_like(target)
    assert metrics.auc(grey, target).item() == pytest.approx(1 - 50 / 150)
    assert metrics.auc(grey, target, max_distance=100.0).item() == pytest.approx(0.5)
    assert metrics.auc(grey, 10 * target).item() == 0  # further than the end of the curve


def test_rare_colors_decide_the_rebalanced_auc():
    """A grey prediction is right on the common grey pixels and wrong on the rare coloured one."""
    true = torch.zeros(1, 2, 1, 10)
    true[0, 0, 0, 0] = 75
    weights = torch.ones(1, 1, 10)
    weights[..., 0] = 9  # the inverse of its frequency, relative to the nine others
    grey = torch.zeros_like(true)
    assert metrics.auc(grey, true).item() == pytest.approx(0.95)
    assert metrics.auc(grey, true, weights=weights).item() == pytest.approx(0.75)


def test_rmse_averages_over_both_channels(chroma):
    pred, true, _ = chroma
    expected = [np.sqrt(np.mean((p - t) ** 2)) for p, t in zip(pred.double().numpy(), true.double().numpy())]
    assert metrics.rmse(pred, true).numpy() == pytest.approx(expected, rel=1e-5)
    target = torch.tensor([30.0, 40.0]).view(1, 2, 1, 1).expand(1, 2, 5, 6)
    assert metrics.rmse(0 * target, target).item() == pytest.approx(50 / np.sqrt(2))


def test_psnr_agrees_with_scikit_image_and_torchmetrics(pictures):
    pred, true = pictures
    theirs = peak_signal_noise_ratio(pred, true, data_range=1.0, reduction="none", dim=(1, 2, 3))
    assert torch.allclose(metrics.psnr(pred, true), theirs, rtol=1e-5)
    expected = [
        skimage.metrics.peak_signal_noise_ratio(t, p, data_range=1.0)
        for p, t in zip(channels_last(pred), channels_last(true))
    ]
    assert metrics.psnr(pred, true).numpy() == pytest.approx(expected, abs=1e-4)
    assert torch.isposinf(metrics.psnr(true, true)).all()
    black = torch.zeros(1, 3, 12, 12)
    assert metrics.psnr(black, black + 1).item() == 0 and metrics.psnr(black, black + 0.1).item() == pytest.approx(20)


def test_ssim_agrees_with_scikit_image(pictures):
    pred, true = pictures
    ours = metrics.ssim(pred, true)
    for i, (p, t) in enumerate(zip(channels_last(pred), channels_last(true))):
        options = {"data_range": 1.0, "channel_axis": -1, "gaussian_weights": True, "sigma": 1.5}
        _, full = skimage.metrics.structural_similarity(t, p, use_sample_covariance=False, full=True, **options)
        assert ours[i].item() == pytest.approx(full.mean(), abs=1e-3)  # which mirrors the edge pixel as well
    assert metrics.ssim(true, true).numpy() == pytest.approx(1)


@pytest.mark.parametrize("height, width", [(48, 64), (11, 11), (11, 30)])
def test_ssim_agrees_with_torchmetrics(pictures, height, width):
    pred, true = (rgb[..., :height, :width].double() for rgb in pictures)
    for pair in ((pred, true), (true, pred), (true, true), (torch.full_like(true, 0.3), true)):
        theirs = structural_similarity_index_measure(*pair, data_range=1.0, reduction="none")
        assert metrics.ssim(*pair).numpy() == pytest.approx(theirs.numpy(), abs=1e-9)


def test_ssim_of_flat_pictures_compares_their_means():
    """Where there is no variance, all but rounding, and only the constants are left to divide by."""
    dark, bright = torch.full((1, 3, 20, 30), 0.3), torch.full((1, 3, 20, 30), 0.8)
    expected = (2 * 0.3 * 0.8 + 0.01**2) / (0.3**2 + 0.8**2 + 0.01**2)
    assert metrics.ssim(dark, bright).item() == pytest.approx(expected, abs=1e-4)


def test_ssim_in_single_precision_is_enough(pictures):
    pred, true = pictures
    expected = metrics.ssim(pred.double(), true.double()).numpy()
    assert metrics.ssim(pred, true).numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("dtype, tolerance", [(torch.float32, 2e-6), (torch.float64, 1e-12)])
def test_ciede2000_agrees_with_scikit_image(pictures, dtype, tolerance):
    generator = torch.Generator().manual_seed(4)
    spread, low = torch.tensor([100.0, 200, 200]).view(3, 1, 1), torch.tensor([0.0, -100, -100]).view(3, 1, 1)
    scattered = [torch.rand(3, 3, 48, 64, generator=generator) * spread + low for _ in range(2)]  # hues far apart
    for pair in ([color.srgb_to_lab(rgb) for rgb in pictures], scattered):
        pred, true = (lab.to(dtype) for lab in pair)
        theirs = [skimage.color.deltaE_ciede2000(t, p).mean() for p, t in zip(channels_last(pred), channels_last(true))]
        ours = metrics.ciede2000(pred, true)
        assert ours.dtype == dtype and ours.numpy() == pytest.approx(theirs, rel=tolerance)
        assert torch.equal(metrics.ciede2000(true, true), torch.zeros(3, dtype=dtype))


def test_ciede2000_of_grey_black_and_opposite_colours():
    """Where an angle has no value, or the two are half a turn apart: never nan, and the order makes no difference."""
    colors = [[0, 0, 0], [100, 0, 0], [50, 0, 0], [50, 40, 0], [50, -40, 0], [50, 0, 1e-30], [0, 1e4, -1e4], [50, 1, 1]]
    pairs = torch.tensor([[one, other] for one in colors for other in colors], dtype=torch.float32)
    first, second = pairs.view(-1, 2, 3, 1, 1).unbind(1)
    theirs = skimage.color.deltaE_ciede2000(first.double().numpy(), second.double().numpy(), channel_axis=1)
    for ours in (metrics.ciede2000(first, second), metrics.ciede2000(second, first)):
        assert ours.numpy() == pytest.approx(theirs.flatten(), rel=1e-4, abs=1e-5)


# L1, a1, b1, L2, a2, b2 and the difference: Table 1 of Sharma, Wu, Dalal 2005.
PUBLISHED = """
50 2.6772 -79.7751 50 0 -82.7485 2.0425
50 3.1571 -77.2803 50 0 -82.7485 2.8615
50 2.8361 -74.0200 50 0 -82.7485 3.4412
50 -1.3802 -84.2814 50 0 -82.7485 1.0000
50 -1.1848 -84.8006 50 0 -82.7485 1.0000
50 -0.9009 -85.5211 50 0 -82.7485 1.0000
50 0 0 50 -1 2 2.3669
50 -1 2 50 0 0 2.3669
50 2.4900 -0.0010 50 -2.4900 0.0009 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0010 7.1792
50 2.4900 -0.0010 50 -2.4900 0.0011 7.2195
50 2.4900 -0.0010 50 -2.4900 0.0012 7.2195
50 -0.0010 2.4900 50 0.0009 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0010 -2.4900 4.8045
50 -0.0010 2.4900 50 0.0011 -2.4900 4.7461
50 2.5 0 50 0 -2.5 4.3065
50 2.5 0 73 25 -18 27.1492
50 2.5 0 61 -5 29 22.8977
50 2.5 0 56 -27 -3 31.9030
50 2.5 0 58 24 15 19.4535
50 2.5 0 50 3.1736 0.5854 1.0000
50 2.5 0 50 3.2972 0 1.0000
50 2.5 0 50 1.8634 0.5757 1.0000
50 2.5 0 50 3.2592 0.3350 1.0000
60.2574 -34.0099 36.2677 60.4626 -34.1751 39.4387 1.2644
63.0109 -31.0961 -5.8663 62.8187 -29.7946 -4.0864 1.2630
61.2901 3.7196 -5.3901 61.4292 2.2480 -4.9620 1.8731
35.0831 -44.1164 3.7933 35.0232 -40.0716 1.5901 1.8645
22.7233 20.0904 -46.6940 23.0331 14.9730 -42.5619 2.0373
36.4612 47.8580 18.3852 36.2715 50.5065 21.2231 1.4146
90.8027 -2.0831 1.4410 91.1528 -1.6435 0.0447 1.4441
90.9257 -0.5406 -0.9208 88.6381 -0.8985 -0.7239 1.5381
6.7747 -0.2908 -2.4247 5.8714 -0.0985 -2.2286 0.6377
2.0776 0.0795 -1.1350 0.9033 -0.0636 -0.5514 0.9082
"""


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_ciede2000_of_the_published_pairs(dtype):
    pairs = torch.tensor([[float(n) for n in line.split()] for line in PUBLISHED.split("\n")[1:-1]], dtype=dtype)
    assert len(pairs) == 34
    if dtype == torch.float32:  # hues exactly half a turn apart, where the formula jumps and rounding decides
        pairs = pairs[[i for i in range(34) if i not in (9, 13)]]
    first, second = (lab.view(-1, 3, 1, 1) for lab in (pairs[:, :3], pairs[:, 3:6]))
    for one, other in ((first, second), (second, first)):
        assert metrics.ciede2000(one, other).numpy() == pytest.approx(pairs[:, 6].numpy(), abs=6e-5)


def hasler(rgb, opponent=lambda channel: channel):
    """Colourfulness of one picture (H, W, 3) in [0, 255], from the paper."""
    red, green, blue = np.moveaxis(rgb, -1, 0)
    rg, yb = opponent(red - green), opponent(0.5 * (red + green) - blue)
    return np.sqrt(np.std(rg) ** 2 + np.std(yb) ** 2) + 0.3 * np.sqrt(np.mean(rg) ** 2 + np.mean(yb) ** 2)


def test_colorfulness_agrees_with_the_paper(pictures):
    expected = [hasler(255 * picture) for picture in channels_last(pictures[0])]
    assert metrics.colorfulness(pictures[0]).numpy() == pytest.approx(expected, rel=1e-5)


def test_colorfulness_by_hand():
    red = torch.zeros(1, 3, 4, 4)
    red[:, 0] = 1
    assert metrics.colorfulness(red).item() == pytest.approx(0.3 * np.hypot(255, 127.5), rel=1e-6)  # no spread
    grey = torch.rand(1, 1, 4, 4, generator=torch.Generator().manual_seed(2)).expand(1, 3, 4, 4)
    assert metrics.colorfulness(grey).item() == pytest.approx(0, abs=1e-4)


def test_colorfulness_opponents_are_signed():
    """Half red, half green: rg is +-255, which has a spread of 255; without its sign it has none."""
    halves = torch.zeros(1, 3, 4, 4)
    halves[:, 0, :, :2], halves[:, 1, :, 2:] = 1, 1
    assert metrics.colorfulness(halves).item() == pytest.approx(255 + 0.3 * 127.5, rel=1e-6)
    assert hasler(255 * channels_last(halves)[0], np.abs) == pytest.approx(0.3 * np.hypot(255, 127.5))


def test_mean_chroma():
    assert metrics.mean_chroma(torch.tensor([[3.0, 0.0], [4.0, 0.0]]).view(1, 2, 1, 2)).item() == pytest.approx(2.5)


def test_per_image_holds_every_score_the_right_way_round(pictures):
    pred, true = pictures
    weights = torch.rand(3, 48, 64, generator=torch.Generator().manual_seed(3))
    scores = metrics.per_image(pred, true, {"mine": weights})
    columns = {column for pair in SCORES.values() for column in pair[:2] if column and "_weight" not in column}
    columns -= {"macro_hits", "half_hits", "rebalanced_hits"}
    assert columns == set(scores) - {"roughness_true", "tail_weight", "mine_hits", "mine_weight"}
    assert all(score.shape == (3,) and score.isfinite().all() for score in scores.values())
    ab, true_ab = color.srgb_to_lab(pred)[:, 1:], color.srgb_to_lab(true)[:, 1:]
    assert torch.equal(scores["auc"], metrics.auc(ab, true_ab))
    assert torch.equal(scores["mine_hits"], metrics.auc_parts(ab, true_ab, weights=weights)[0])
    assert torch.equal(scores["colorfulness"], metrics.colorfulness(pred))
    assert torch.equal(scores["colorfulness_true"], metrics.colorfulness(true))
    assert torch.equal(scores["chroma"], metrics.mean_chroma(ab))
    assert torch.equal(scores["chroma_true"], metrics.mean_chroma(true_ab))
    assert "mine_hits" not in metrics.per_image(pred, true)
    vivid = (true_ab.square().sum(1) > metrics.TAIL**2).float()
    assert torch.equal(scores["tail_weight"], vivid.mean((1, 2)))
    assert torch.allclose(scores["tail_hits"] / scores["tail_weight"], metrics.auc(ab, true_ab, weights=vivid))
    assert torch.equal(scores["roughness"], metrics.roughness(ab))


def test_roughness_is_the_mean_step_between_neighbours():
    flat = torch.full((1, 2, 4, 5), 30.0)
    assert metrics.roughness(flat).item() == 0
    ramp = torch.arange(5.0).expand(1, 1, 4, 5)  # steps of (3, 4) across, none down
    assert metrics.roughness(torch.cat([3 * ramp, 4 * ramp], 1)).item() == pytest.approx(2.5)
    assert metrics.roughness(torch.cat([3 * ramp, 4 * ramp], 1).transpose(2, 3)).item() == pytest.approx(2.5)


def test_scores_of_an_image_do_not_depend_on_its_batch(pictures):
    together = metrics.per_image(*pictures)
    for i in range(3):
        alone = metrics.per_image(*(rgb[i : i + 1] for rgb in pictures))
        for name, score in alone.items():
            assert score.item() == pytest.approx(together[name][i].item(), rel=1e-4), name


@pytest.mark.parametrize("score", [metrics.ssim, metrics.ciede2000])
def test_large_batches_are_scored_in_parts(pictures, score):
    """50 pictures of 48 x 64 are three parts: two of 21 pictures, one of 8."""
    order = torch.arange(50) % 3
    assert score(*(rgb[order] for rgb in pictures)).numpy() == pytest.approx(score(*pictures)[order].numpy(), rel=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_single(pictures, dtype):
    halves = tuple(rgb.to(dtype) for rgb in pictures)
    expected = metrics.per_image(*(rgb.float() for rgb in halves))
    for name, score in metrics.per_image(*halves).items():
        assert score.dtype == torch.float32 and torch.equal(score, expected[name]), name
    assert torch.equal(metrics.psnr(halves[0], pictures[1]), metrics.psnr(halves[0].float(), pictures[1]))


def test_aggregate_means_ratios_and_infinite_psnr():
    table = pd.DataFrame(
        {
            "auc": [0.8, 0.9, 1.0],
            "psnr": [20.0, 30.0, np.inf],
            "colorfulness": [10.0, 20.0, 60.0],
            "colorfulness_true": [20.0, 20.0, 80.0],
        }
    )
    assert scores_in(table) == {name: SCORES[name] for name in ("auc", "psnr", "colorfulness", "colorfulness_ratio")}
    scores = aggregate(table)
    assert [*scores.index] == ["auc", "psnr", "colorfulness", "colorfulness_ratio"]
    assert [*scores] == pytest.approx([0.9, 25.0, 30.0, 0.75])
    resample = aggregate(table.iloc[[1, 1, 0]])
    assert [*resample] == pytest.approx([(0.9 + 0.9 + 0.8) / 3, 80 / 3, 50 / 3, 5 / 6])
    assert np.isnan(aggregate(table.iloc[[2]])["psnr"])
    chosen = aggregate(table, {"mine": ("colorfulness_true", "auc")})
    assert chosen.to_dict() == {"mine": pytest.approx(120 / 2.7)}


@pytest.mark.parametrize("score", [metrics.auc, metrics.rmse])
def test_errors_of_chroma(score):
    two = torch.zeros(1, 2, 4, 5)
    with pytest.raises(ValueError, match=r"pred: expected the shape of target \(1, 2, 4, 5\), got \(1, 2, 4, 6\)"):
        score(torch.zeros(1, 2, 4, 6), two)
    with pytest.raises(ValueError, match=r"target: expected shape \(B, 2, h, w\), got \(1, 3, 4, 5\)"):
        score(two, torch.zeros(1, 3, 4, 5))
    with pytest.raises(ValueError, match=r"pred: expected shape \(B, 2, h, w\), got \(2, 4, 5\)"):
        score(two[0], two)
    with pytest.raises(ValueError, match=r"pred: expected shape \(B, 2, h, w\), not empty, got \(1, 2, 0, 5\)"):
        score(two[:, :, :0], two[:, :, :0])
    with pytest.raises(TypeError, match=r"pred: expected a floating-point tensor \(B, 2, h, w\), got torch.int64"):
        score(two.long(), two)


def test_errors_of_weights():
    two, weights = torch.zeros(2, 2, 4, 5), torch.ones(2, 4, 5)
    with pytest.raises(ValueError, match=r"weights: expected a tensor \(B, h, w\) = \(2, 4, 5\), got \(4, 5\)"):
        metrics.auc(two, two, weights=weights[0])
    with pytest.raises(ValueError, match=r"weights: expected finite values of at least 0, got \[-1, 1\]"):
        metrics.auc(two, two, weights=weights.index_fill(2, torch.tensor(1), -1.0))
    with pytest.raises(ValueError, match="weights: expected finite values of at least 0"):
        metrics.auc(two, two, weights=weights * torch.nan)
    with pytest.raises(ValueError, match="weights: expected a positive sum in every image, got 0 in image 1"):
        metrics.auc(two, two, weights=weights.index_fill(0, torch.tensor(1), 0.0))
    with pytest.raises(ValueError, match="max_distance: expected a positive number, got 0"):
        metrics.auc(two, two, max_distance=0)


def test_errors_of_pictures():
    picture = torch.rand(1, 3, 12, 12)
    with pytest.raises(ValueError, match=r"rgb: expected values in \[0, 1\], got \[.*\]"):
        metrics.colorfulness(255 * picture)
    with pytest.raises(ValueError, match=r"target: expected values in \[0, 1\]"):
        metrics.per_image(picture, picture - 0.5)
    with pytest.raises(ValueError, match=r"pred: expected pictures of at least 11 x 11 pixels.* got 10 x 12"):
        metrics.ssim(picture[:, :, :10], picture[:, :, :10])
    with pytest.raises(ValueError, match=r"lab_chroma: expected shape \(B, 2, h, w\), got \(1, 3, 12, 12\)"):
        metrics.mean_chroma(picture)
