"""Confidence against hand-made distributions; diffusion against a dense solution; pictures coloured from hints."""

import time
from pathlib import Path

import mvtbdata
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from colorstudy.color import lab_to_srgb, merge, split, to_tensor
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank, read
from colorstudy.experiments.hints import HintColorizer, by_confidence, confidence, confidence_map, diffuse
from colorstudy.methods import METHODS
from colorstudy.model import Model


def distribution(*probabilities):
    return torch.tensor(probabilities).view(1, -1, 1, 1)


@pytest.mark.parametrize(
    "probabilities, top, ratio",
    [
        ((0.5, 0.25, 0.25), 0.5, 0.5),
        ((0.1, 0.2, 0.7), 0.7, 1 - 2 / 7),
        ((0.25, 0.25, 0.25, 0.25), 0.25, 0.0),
        ((0.4, 0.4, 0.2), 0.4, 0.0),
    ],
)
def test_confidence_of_known_distributions(probabilities, top, ratio):
    p = distribution(*probabilities)
    assert confidence(p).item() == pytest.approx(top, abs=1e-5)
    assert confidence(p, "ratio").item() == pytest.approx(ratio, abs=1e-5)


def test_the_kinds_differ():
    """A tie of two bins has a fair top score and no ratio; one bin over a flat rest the reverse."""
    tie, peak = distribution(0.5, 0.5, *[1e-9] * 18), distribution(0.24, *[0.04] * 19)
    assert confidence(tie) > confidence(peak)
    assert confidence(tie, "ratio") < confidence(peak, "ratio")


@pytest.mark.parametrize("kind", ["top", "ratio"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("scale", [1.0, 34.0, 1e4, 3e38])
def test_confidence_is_finite_for_finite_logits(kind, dtype, scale):
    logits = (torch.randn(2, 313, 3, 4, generator=torch.Generator().manual_seed(0)).clamp(-1, 1) * scale).to(dtype)
    sure = confidence(logits.softmax(1), kind)
    assert sure.shape == (2, 3, 4) and sure.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert sure.isfinite().all() and (sure >= 0).all() and (sure <= 1).all()


def two_regions(height=40, width=60, low=30.0, high=70.0):
    """Lightness with an edge in the middle, one hint on either side, and the colour that each side should get."""
    left = (torch.arange(width) < width // 2).expand(height, width)
    lightness = torch.where(left, low, high)[None]
    true = torch.where(left, torch.tensor([40.0, -30.0]).view(2, 1, 1), torch.tensor([-20.0, 50.0]).view(2, 1, 1))
    hints = torch.zeros(height, width, dtype=torch.bool)
    hints[height // 2, width // 4] = hints[height // 3, 3 * width // 4] = True
    return lightness, true, hints


@pytest.mark.parametrize("low, high", [(30, 70), (0, 100), (50, 53)])
def test_colours_stop_at_edges(low, high):
    lightness, true, hints = two_regions(low=float(low), high=float(high))
    found = diffuse(lightness, torch.where(hints, true, float("nan")), hints)
    assert (found - true).abs().max() < 0.1


def test_without_an_edge_colours_mix():
    lightness, true, hints = two_regions(low=50.0, high=50.0)
    found = diffuse(lightness, true, hints)
    assert (found - true).abs().max() > 20
    assert (found[0, 20, 15:40].diff() < 0).all()  # from 40 at the left hint towards -20 at the right one


@pytest.fixture(scope="module")
def small():
    """Random lightness, chroma and hints of 12 x 10 pixels."""
    generator = torch.Generator().manual_seed(1)
    lightness = torch.rand(1, 12, 10, generator=generator, dtype=torch.float64) * 100
    lightness[:, :5, :4] = 40.0  # a flat corner as well
    chroma = torch.rand(2, 12, 10, generator=generator, dtype=torch.float64) * 200 - 100
    return lightness, chroma, torch.rand(12, 10, generator=generator) < 0.1


def dense(lightness, chroma, hints, spread=0.3):
    """The same system, pixel by pixel, as the paper states it."""
    y, u, hints = lightness[0].numpy(), chroma.numpy(), hints.numpy()
    height, width = y.shape
    matrix, given = np.eye(y.size), np.zeros((y.size, 2))
    for r in np.ndindex(height, width):
        row = r[0] * width + r[1]
        if hints[r]:
            given[row] = u[:, r[0], r[1]]
            continue
        around = np.ix_(*(range(max(0, x - 1), min(n, x + 2)) for x, n in zip(r, y.shape)))
        weights = np.exp(-((y[around] - y[r]) ** 2) / max(spread * y[around].var(), 0.02))
        cells = (around[0] * width + around[1]).ravel()
        weights = weights.ravel()[cells != row]
        weights = np.maximum(weights, 1e-6 * weights.max())
        matrix[row, cells[cells != row]] -= weights / weights.sum()
    return np.linalg.solve(matrix, given).T.reshape(2, height, width)


def test_diffusion_is_the_dense_solution(small):
    assert np.abs(diffuse(*small).numpy() - dense(*small)).max() < 1e-6


def test_the_objective_is_minimal(small):
    """Every pixel but the hints is a mean of its neighbours: the sum of squares that is minimised is 0."""
    lightness, _, hints = small
    found = diffuse(*small)
    again = diffuse(lightness, found, hints | (torch.arange(120).view(12, 10) % 3 == 0))
    assert (again - found).abs().max() < 1e-9


@pytest.mark.parametrize("share", [0.003, 0.1, 0.6])
def test_values_stay_within_those_of_the_hints(share):
    generator = torch.Generator().manual_seed(2)
    lightness = torch.rand(1, 61, 83, generator=generator) * 100
    chroma, hints = torch.randn(2, 61, 83, generator=generator) * 30, torch.rand(61, 83, generator=generator) < share
    found, given = diffuse(lightness, chroma, hints), chroma[:, hints]
    assert torch.equal(found[:, hints], given)
    assert (found.amax((1, 2)) <= given.amax(1) + 1e-4).all() and (found.amin((1, 2)) >= given.amin(1) - 1e-4).all()


def test_one_colour_stays_one_colour():
    chroma = torch.tensor([12.5, -7.25]).view(2, 1, 1).expand(2, 30, 41)
    generator = torch.Generator().manual_seed(3)
    for lightness in (torch.full((1, 30, 41), 50.0), torch.rand(1, 30, 41, generator=generator) * 100):
        hints = torch.zeros(30, 41, dtype=torch.bool)
        hints[4, 7] = True
        assert (diffuse(lightness, chroma, hints) - chroma).abs().max() < 1e-4


def test_a_region_without_hints_is_reached():
    """A white square in black takes the colours around it, and the system stays regular."""
    lightness, chroma = torch.zeros(1, 40, 40), torch.tensor([30.0, -10.0]).view(2, 1, 1).expand(2, 40, 40)
    lightness[:, 10:30, 10:30] = 100
    hints = torch.zeros(40, 40, dtype=torch.bool)
    hints[0, 0] = hints[39, 39] = True
    assert (diffuse(lightness, chroma, hints) - chroma).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 50)])
def test_any_size(shape):
    hints = torch.zeros(shape, dtype=torch.bool)
    hints[-1, -1] = True
    chroma = torch.where(hints, 5.0, float("nan")).expand(2, *shape)
    lightness = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) * 100
    assert torch.allclose(diffuse(lightness, chroma, hints), torch.tensor(5.0), atol=1e-3)


def test_types_and_inputs_are_kept(small):
    lightness, chroma, hints = small
    before = chroma.clone()
    expected = diffuse(*small)
    assert expected.dtype == torch.float64 and torch.equal(chroma, before)
    single = diffuse(lightness.float(), chroma.float(), hints)
    assert single.dtype == torch.float32 and torch.allclose(single.double(), expected, atol=1e-2)
    flipped = diffuse(lightness.mT, chroma.mT, hints.mT)  # views that are not contiguous
    assert torch.allclose(flipped.mT, expected, atol=1e-8)
    everything = torch.ones_like(hints)
    assert torch.equal(diffuse(lightness, chroma, everything), chroma)


@pytest.mark.parametrize("share", [0.0006, 0.02, 0.2])
def test_a_photograph_takes_seconds(share):
    picture = read(Path(mvtbdata.__file__).parent / "images" / "campus" / "P1070493.png")
    assert picture.shape == (426, 640, 3)
    lightness, chroma = split(to_tensor(picture))
    hints = torch.rand(426, 640, generator=torch.Generator().manual_seed(4)) < share
    start = time.process_time()
    found = diffuse(lightness, torch.where(hints, chroma, 0.0), hints)
    elapsed = time.process_time() - start
    error = (found - chroma).square().sum(0).mean().sqrt()
    print(f"{share:.2%} hints: {elapsed:.2f} s, RMSE {error:.2f}")
    assert elapsed < 5
    assert torch.equal(found[:, hints], chroma[:, hints])
    assert error < 0.5 * chroma.square().sum(0).mean().sqrt()  # the error of leaving it grey


def pixels(height=40, width=52, seed=0):
    """A smooth picture in colour: uint8 (height, width, 3)."""
    corners = np.random.default_rng(seed).integers(20, 236, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC))


def as_tensor(picture):
    return to_tensor(picture)[None]


def random_colorizer(name="class", size=32):
    """A colorizer that was not trained, its last layer enlarged so that colours differ from place to place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = Model.build(METHODS[name], np.stack([pixels(24, 24, seed) for seed in range(4)])).eval()
    *_, head = (layer for layer in made.network.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        head.weight *= 1.5 / made(split(as_tensor(pixels()))[0]).std((2, 3)).mean()
    return Colorizer(made, size, "cpu")


def colorize_by_hints(colorizer, picture, temperature=None, **options):
    """A picture coloured as by `colorizer`, but from hints."""
    hinted = HintColorizer(colorizer.model, colorizer.size, colorizer.device, **colorizer.options, **options)
    return hinted.colorize(picture, temperature)


class Known(nn.Module):
    """A network that gives `logits` (1, Q, h, w) whatever it sees."""

    def __init__(self, logits):
        super().__init__()
        self.logits = logits

    def forward(self, lightness):
        return self.logits.expand(len(lightness), -1, -1, -1)


@pytest.fixture(scope="module", params=["class", "colorunet"])
def colorizer(request):
    return random_colorizer(request.param)


def tiny_bank(count=3, side=24):
    """`count` noisy test pictures, the first of them nearly grey."""
    images = np.random.default_rng(0).integers(60, 200, (count + 1, side, side, 3)).astype(np.uint8)
    images[1] = images[1].mean(axis=2, keepdims=True).astype(np.uint8) + np.array([0, 0, 6], np.uint8)
    names = tuple(f"{i}.png" for i in range(count + 1))
    return ImageBank("tiny", images, names, ("train",) + ("test",) * count, "hash", {}, ())


def test_groups_of_confidence_are_equal_and_ordered_and_hold_the_errors_of_their_pixels():
    bank, classifier = tiny_bank(), random_colorizer("class")
    for kind in ("top", "ratio"):
        table = by_confidence(classifier, bank, kind, groups=4)
        assert list(table["image"].unique()) == list(bank.test.names) and len(table) == 3 * 4
        sums = table.groupby("group")[["pixels", "error", "chroma", "confidence"]].sum()
        assert sums["pixels"].sum() == 3 * 6 * 6 and sums["pixels"].max() - sums["pixels"].min() <= 1
        assert (sums["confidence"] / sums["pixels"]).is_monotonic_increasing
    whole = by_confidence(classifier, bank, groups=1).set_index("image")
    image = bank.test.images[1]
    lightness, truth = split(as_tensor(image))
    with torch.no_grad():
        logits = classifier.model(lightness)
    truth = F.avg_pool2d(truth, 4)
    error = (classifier.model.target.decode(logits) - truth).norm(dim=1).sum()
    assert whole.loc["2.png", "error"] == pytest.approx(error.item(), rel=1e-4)
    assert whole.loc["2.png", "chroma"] == pytest.approx(truth.norm(dim=1).sum().item(), rel=1e-4)
    assert whole.loc["1.png", "chroma"] < 0.6 * whole.loc["2.png", "chroma"]
    assert np.allclose(confidence_map(classifier, image), confidence(logits.softmax(1))[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("colorunet", {}, "colorizer: expected a classification in lab, got a classification in yuv"),
        ("l2", {}, "colorizer: expected a classification in lab, got a regression in lab"),
        ("class", {"kind": "best"}, "kind: expected one of"),
        ("class", {"groups": 0}, "groups: expected a number >= 1, got 0"),
    ],
)
def test_groups_of_confidence_check_their_arguments(method, options, message):
    with pytest.raises(ValueError, match=message):
        by_confidence(random_colorizer(method), tiny_bank(), **options)


@pytest.mark.parametrize("kind", ["top", "ratio"])
@pytest.mark.parametrize("height, width", [(40, 52), (150, 101)])
def test_lightness_stays(colorizer, kind, height, width):
    picture, space = pixels(height, width), colorizer.model.method.space
    colored = colorize_by_hints(colorizer, picture, kind=kind)
    assert colored.shape == picture.shape and colored.dtype == np.uint8
    assert np.ptp(colored.astype(int), axis=2).max() > 10  # it is in colour
    before, after = (split(as_tensor(p), space)[0][0, 0].numpy() for p in (picture, colored))
    inside = ((colored > 0) & (colored < 255)).all(2)
    assert inside.mean() > 0.5 and np.abs(after - before)[inside].max() < 1


def test_colours_of_the_input_are_ignored():
    picture = as_tensor(pixels())
    lightness, chroma = split(picture)
    grey = lab_to_srgb(torch.cat([lightness, torch.zeros_like(chroma)], 1))
    made = random_colorizer()
    grey, colored = (colorize_by_hints(made, image, share=1.0) for image in (grey, picture))
    assert (grey - colored).abs().max() < 5e-3


def test_every_kind_of_input_is_taken(colorizer, tmp_path):
    picture = pixels()
    Image.fromarray(picture).save(tmp_path / "picture.png")
    expected = colorize_by_hints(colorizer, picture)
    assert np.array_equal(colorize_by_hints(colorizer, tmp_path / "picture.png"), expected)
    batch = torch.cat([as_tensor(picture), as_tensor(pixels(seed=1))])
    together = colorize_by_hints(colorizer, batch)
    assert together.shape == batch.shape
    assert np.abs((together[0].permute(1, 2, 0) * 255).round().numpy() - expected).max() <= 2


def chroma_of(colorizer, lightness):
    return split(colorizer.render(lightness, colorizer.predict(lightness)))[1]


def test_hints_are_the_surest_cells_at_their_middle():
    """Two sure cells of a network that otherwise wavers, of one colour each: nothing but these colours is seen."""
    made = random_colorizer()
    bins = made.model.target.bins
    logits = torch.zeros(1, len(bins), 8, 8)
    logits[0, 20, :, :] = 1.0  # what the unsure would say
    red, blue = bins.nearest(torch.tensor([[40.0, 20], [-10, -40]]).view(2, 2, 1, 1)).flatten().tolist()
    logits[0, red, 4, 1] = logits[0, blue, 4, 6] = 50.0
    made.model.network = Known(logits)
    hinted = HintColorizer(made.model, 32, "cpu", share=2 / 64)
    lightness, _, _ = two_regions(80, 80)
    found = chroma_of(hinted, lightness[None])[0]
    for column, index in ((15, red), (65, blue)):  # the middles of cells of 10 x 10 pixels
        assert torch.allclose(found[:, 45, column], bins.centers[index], atol=1e-2)
    for side, index in ((found[:, :, :40], red), (found[:, :, 40:], blue)):
        assert (side - bins.centers[index].view(2, 1, 1)).abs().max() < 0.1
    rgb = HintColorizer(made.model, 32, "cpu", share=1e-9).render(lightness[None], made.predict(lightness[None]))
    blended = [merge(lightness, bins.centers[index].view(2, 1, 1).expand(2, 80, 80)) for index in (red, blue)]
    assert min((rgb[0] - one).abs().max() for one in blended) < 1e-3  # one hint remains, and colours all


def test_edges_of_the_full_picture_guide():
    """An edge that the network's cells straddle: bilinear enlargement blurs over it, hints do not."""
    made = random_colorizer(size=16)
    bins = made.model.target.bins
    red, blue = bins.nearest(torch.tensor([[40.0, 20], [-10, -40]]).view(2, 2, 1, 1)).flatten().tolist()
    logits = torch.zeros(1, len(bins), 4, 4)
    logits[0, red, :, :2], logits[0, blue, :, 2:] = 50.0, 50.0
    made.model.network = Known(logits)
    lightness, _, _ = two_regions(64, 64)
    true = bins.centers[torch.where(torch.arange(64) < 32, red, blue)].T[:, None]
    by_hints = chroma_of(HintColorizer(made.model, 16, "cpu", share=1.0), lightness[None])[0]
    assert (by_hints - true).abs().max() < 1
    assert (chroma_of(made, lightness[None])[0] - true).abs().max() > 20


def test_great_pictures_are_diffused_small(monkeypatch):
    seen = []

    def spy(lightness, chroma, hints):
        seen.append((lightness.shape, int(hints.sum())))
        return chroma

    monkeypatch.setattr("colorstudy.experiments.hints.diffuse", spy)
    made = random_colorizer()
    assert colorize_by_hints(made, pixels(900, 1300)).shape == (900, 1300, 3)
    assert colorize_by_hints(made, pixels(33, 3300), share=1.0).shape == (33, 3300, 3)
    (first, count), (second, crowded) = seen
    assert first == (1, 443, 640) and count == round(0.1 * 8 * 12)  # 32 x 46 at working size
    assert second == (1, 6, 640) and crowded <= 6 * 640  # several cells in one pixel


def test_temperature():
    made, picture = random_colorizer(), pixels()
    default = colorize_by_hints(made, picture)
    assert np.array_equal(colorize_by_hints(made, picture, temperature=0.38), default)
    flat = colorize_by_hints(made, picture, temperature=1e6)
    assert (split(as_tensor(flat))[1].mean((0, 2, 3)) - made.model.target.bins.centers.mean(0)).abs().max() < 3
    assert np.array_equal(colorize_by_hints(made.decoding(temperature=1e6), picture), flat)
    with pytest.raises(ValueError, match=r"^temperature: expected a number > 0, got 0"):
        colorize_by_hints(made, picture, temperature=0)


def test_other_decodings_keep_the_hints():
    made = random_colorizer()
    hinted = HintColorizer(made.model, 32, "cpu", share=0.5, kind="ratio").decoding(temperature=1.0)
    assert (hinted.share, hinted.kind) == (0.5, "ratio")
    expected = HintColorizer(made.model, 32, "cpu", share=0.5, kind="ratio", temperature=1.0)
    assert np.array_equal(hinted.colorize(pixels()), expected.colorize(pixels()))


def test_all_hints_at_full_resolution_are_the_plain_colours():
    """With every cell a hint, hints agree with the plain colorizer at the middles of cells."""
    made = random_colorizer()
    lightness, _ = split(as_tensor(pixels(32, 32)))
    prediction = made.predict(lightness)
    plain = made.decode(prediction)
    ours = HintColorizer(made.model, 32, "cpu", share=1.0).render(lightness, prediction)
    step = 32 // plain.shape[-1]
    middles = (..., slice(step // 2, None, step), slice(step // 2, None, step))
    assert torch.allclose(ours[middles], merge(lightness[middles], plain), atol=1e-5)
    assert (ours - made.render(lightness, prediction)).abs().mean() < 0.05


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: confidence(torch.zeros(1, 3, 2, 2), "sum"), ValueError, "^kind: expected one of .*, got 'sum'"),
        (
            lambda: confidence_map(random_colorizer("l2"), pixels()),
            ValueError,
            "^colorizer: expected a classification, got a regression",
        ),
        (
            lambda: colorize_by_hints(random_colorizer("l2"), pixels()),
            ValueError,
            "^model: expected a classification, got l2, a regression, which has no confidence",
        ),
        (
            lambda: colorize_by_hints(random_colorizer(), pixels(), share=0),
            ValueError,
            r"^share: expected a share in \(0, 1\], got 0",
        ),
        (
            lambda: colorize_by_hints(random_colorizer(), pixels(), kind="sum"),
            ValueError,
            "^kind: expected one of .*, got 'sum'",
        ),
    ],
)
def test_errors_name_argument_expected_and_got(call, error, message):
    with pytest.raises(error, match=message):
        call()
