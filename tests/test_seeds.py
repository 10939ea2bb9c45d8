"""Confidence against hand-made distributions; diffusion against a dense solution; pictures coloured from seeds."""

import time
from pathlib import Path

import mvtbdata
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from colorstudy.color import lab_to_srgb, split
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank, read
from colorstudy.methods import METHODS
from colorstudy.seeds import SeedColorizer, by_confidence, colorize_by_seeds, confidence, confidence_map, diffuse


def distribution(*probabilities):
    return torch.tensor(probabilities).log().view(1, -1, 1, 1)


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
    logits = distribution(*probabilities)
    for shifted in (logits, logits + 50):  # logits are known up to a constant
        assert confidence(shifted).item() == pytest.approx(top, abs=1e-5)
        assert confidence(shifted, "ratio").item() == pytest.approx(ratio, abs=1e-5)


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
    sure = confidence(logits, kind)
    assert sure.shape == (2, 3, 4) and sure.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert sure.isfinite().all() and (sure >= 0).all() and (sure <= 1).all()


def two_regions(height=40, width=60, low=30.0, high=70.0):
    """Lightness with an edge in the middle, one seed on either side, and the colour that each side should get."""
    left = (torch.arange(width) < width // 2).expand(height, width)
    lightness = torch.where(left, low, high)[None]
    true = torch.where(left, torch.tensor([40.0, -30.0]).view(2, 1, 1), torch.tensor([-20.0, 50.0]).view(2, 1, 1))
    seeds = torch.zeros(height, width, dtype=torch.bool)
    seeds[height // 2, width // 4] = seeds[height // 3, 3 * width // 4] = True
    return lightness, true, seeds


@pytest.mark.parametrize("low, high", [(30, 70), (0, 100), (50, 53)])
def test_colours_stop_at_edges(low, high):
    lightness, true, seeds = two_regions(low=float(low), high=float(high))
    found = diffuse(lightness, torch.where(seeds, true, float("nan")), seeds)
    assert (found - true).abs().max() < 0.1


def test_without_an_edge_colours_mix():
    lightness, true, seeds = two_regions(low=50.0, high=50.0)
    found = diffuse(lightness, true, seeds)
    assert (found - true).abs().max() > 20
    assert (found[0, 20, 15:40].diff() < 0).all()  # from 40 at the left seed towards -20 at the right one


@pytest.fixture(scope="module")
def small():
    """Random lightness, chroma and seeds of 12 x 10 pixels."""
    generator = torch.Generator().manual_seed(1)
    lightness = torch.rand(1, 12, 10, generator=generator, dtype=torch.float64) * 100
    lightness[:, :5, :4] = 40.0  # a flat corner as well
    chroma = torch.rand(2, 12, 10, generator=generator, dtype=torch.float64) * 200 - 100
    return lightness, chroma, torch.rand(12, 10, generator=generator) < 0.1


def dense(lightness, chroma, seeds, radius, spread):
    """The same system, pixel by pixel, as the paper states it."""
    y, u, seeds = lightness[0].numpy(), chroma.numpy(), seeds.numpy()
    height, width = y.shape
    matrix, given = np.eye(y.size), np.zeros((y.size, 2))
    for r in np.ndindex(height, width):
        row = r[0] * width + r[1]
        if seeds[r]:
            given[row] = u[:, r[0], r[1]]
            continue
        around = np.ix_(*(range(max(0, x - radius), min(n, x + radius + 1)) for x, n in zip(r, y.shape)))
        weights = np.exp(-((y[around] - y[r]) ** 2) / max(spread * y[around].var(), 0.02))
        cells = (around[0] * width + around[1]).ravel()
        weights = weights.ravel()[cells != row]
        weights = np.maximum(weights, 1e-6 * weights.max())
        matrix[row, cells[cells != row]] -= weights / weights.sum()
    return np.linalg.solve(matrix, given).T.reshape(2, height, width)


@pytest.mark.parametrize("window", [3, 5])
@pytest.mark.parametrize("spread", [0.3, 2.0])
def test_diffusion_is_the_dense_solution(small, window, spread):
    found = diffuse(*small, window=window, spread=spread)
    assert np.abs(found.numpy() - dense(*small, window // 2, spread)).max() < 1e-6


def test_the_objective_is_minimal(small):
    """Every pixel but the seeds is a mean of its neighbours: the sum of squares that is minimised is 0."""
    lightness, _, seeds = small
    found = diffuse(*small)
    again = diffuse(lightness, found, seeds | (torch.arange(120).view(12, 10) % 3 == 0))
    assert (again - found).abs().max() < 1e-9


@pytest.mark.parametrize("share", [0.003, 0.1, 0.6])
def test_values_stay_within_those_of_the_seeds(share):
    generator = torch.Generator().manual_seed(2)
    lightness = torch.rand(1, 61, 83, generator=generator) * 100
    chroma, seeds = torch.randn(2, 61, 83, generator=generator) * 30, torch.rand(61, 83, generator=generator) < share
    found, given = diffuse(lightness, chroma, seeds), chroma[:, seeds]
    assert torch.equal(found[:, seeds], given)
    assert (found.amax((1, 2)) <= given.amax(1) + 1e-4).all() and (found.amin((1, 2)) >= given.amin(1) - 1e-4).all()


def test_one_colour_stays_one_colour():
    chroma = torch.tensor([12.5, -7.25]).view(2, 1, 1).expand(2, 30, 41)
    generator = torch.Generator().manual_seed(3)
    for lightness in (torch.full((1, 30, 41), 50.0), torch.rand(1, 30, 41, generator=generator) * 100):
        seeds = torch.zeros(30, 41, dtype=torch.bool)
        seeds[4, 7] = True
        assert (diffuse(lightness, chroma, seeds) - chroma).abs().max() < 1e-4


def test_a_region_without_seeds_is_reached():
    """A white square in black takes the colours around it, and the system stays regular."""
    lightness, chroma = torch.zeros(1, 40, 40), torch.tensor([30.0, -10.0]).view(2, 1, 1).expand(2, 40, 40)
    lightness[:, 10:30, 10:30] = 100
    seeds = torch.zeros(40, 40, dtype=torch.bool)
    seeds[0, 0] = seeds[39, 39] = True
    assert (diffuse(lightness, chroma, seeds) - chroma).abs().max() < 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 2), (3, 50)])
def test_any_size(shape):
    seeds = torch.zeros(shape, dtype=torch.bool)
    seeds[-1, -1] = True
    chroma = torch.where(seeds, 5.0, float("nan")).expand(2, *shape)
    lightness = torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)) * 100
    for window in (3, 5):
        assert torch.allclose(diffuse(lightness, chroma, seeds, window=window), torch.tensor(5.0), atol=1e-3)


def test_types_and_inputs_are_kept(small):
    lightness, chroma, seeds = small
    before = chroma.clone()
    expected = diffuse(*small)
    assert expected.dtype == torch.float64 and torch.equal(chroma, before)
    single = diffuse(lightness.float(), chroma.float(), seeds)
    assert single.dtype == torch.float32 and torch.allclose(single.double(), expected, atol=1e-2)
    flipped = diffuse(lightness.mT, chroma.mT, seeds.mT)  # views that are not contiguous
    assert torch.allclose(flipped.mT, expected, atol=1e-8)
    everything = torch.ones_like(seeds)
    assert torch.equal(diffuse(lightness, chroma, everything), chroma)


@pytest.mark.parametrize("share", [0.0006, 0.02, 0.2])
def test_a_photograph_takes_seconds(share):
    picture = read(Path(mvtbdata.__file__).parent / "images" / "campus" / "P1070493.png")
    assert picture.shape == (426, 640, 3)
    lightness, chroma = split(as_tensor(picture)[0])
    seeds = torch.rand(426, 640, generator=torch.Generator().manual_seed(4)) < share
    start = time.perf_counter()
    found = diffuse(lightness, torch.where(seeds, chroma, 0.0), seeds)
    elapsed = time.perf_counter() - start
    error = (found - chroma).square().sum(0).mean().sqrt()
    print(f"{share:.2%} seeds: {elapsed:.2f} s, RMSE {error:.2f}")
    assert elapsed < 5
    assert torch.equal(found[:, seeds], chroma[:, seeds])
    assert error < 0.5 * chroma.square().sum(0).mean().sqrt()  # the error of leaving it grey


def pixels(height=40, width=52, seed=0):
    """A smooth picture in colour: uint8 (height, width, 3)."""
    corners = np.random.default_rng(seed).integers(20, 236, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(corners).resize((width, height), Image.Resampling.BICUBIC))


def as_tensor(picture):
    return torch.from_numpy(picture.copy()).permute(2, 0, 1)[None] / 255


def random_colorizer(name="class", size=32):
    """A colorizer that was not trained, its last layer enlarged so that colours differ from place to place."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        made = METHODS[name].build(np.stack([pixels(24, 24, seed) for seed in range(4)])).eval()
    *_, head = (layer for layer in made.network.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        head.weight *= 1.5 / made.network(split(as_tensor(pixels()))[0]).std((2, 3)).mean()
    return Colorizer(made, size, "cpu")


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
    rgb = torch.from_numpy(image.copy()).permute(2, 0, 1)[None] / 255
    lightness, truth = split(rgb)
    with torch.no_grad():
        logits = classifier.model.network(lightness)
    truth = F.avg_pool2d(truth, 4)
    error = (classifier.model.target.decode(logits) - truth).norm(dim=1).sum()
    assert whole.loc["2.png", "error"] == pytest.approx(error.item(), rel=1e-4)
    assert whole.loc["2.png", "chroma"] == pytest.approx(truth.norm(dim=1).sum().item(), rel=1e-4)
    assert whole.loc["1.png", "chroma"] < 0.6 * whole.loc["2.png", "chroma"]
    assert np.allclose(confidence_map(classifier, image), confidence(logits)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    "method, options, message",
    [
        ("colorunet", {}, "colorizer: expected a classification in lab, got a classification in yuv"),
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
    colored = colorize_by_seeds(colorizer, picture, kind=kind)
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
    grey, colored = (colorize_by_seeds(made, image, share=1.0) for image in (grey, picture))
    assert (grey - colored).abs().max() < 5e-3


def test_every_kind_of_input_is_taken(colorizer, tmp_path):
    picture = pixels()
    Image.fromarray(picture).save(tmp_path / "picture.png")
    expected = colorize_by_seeds(colorizer, picture)
    assert np.array_equal(colorize_by_seeds(colorizer, tmp_path / "picture.png"), expected)
    batch = torch.cat([as_tensor(picture), as_tensor(pixels(seed=1))])
    together = colorize_by_seeds(colorizer, batch)
    assert together.shape == batch.shape
    assert np.abs((together[0].permute(1, 2, 0) * 255).round().numpy() - expected).max() <= 2


def test_seeds_are_the_surest_cells_at_their_middle():
    """Two sure cells of a network that otherwise wavers, of one colour each: nothing but these colours is seen."""
    made = random_colorizer()
    bins = made.model.target.bins
    logits = torch.zeros(1, len(bins), 8, 8)
    logits[0, 20, :, :] = 1.0  # what the unsure would say
    red, blue = bins.nearest(torch.tensor([[40.0, 20], [-10, -40]]).view(2, 2, 1, 1)).flatten().tolist()
    logits[0, red, 4, 1] = logits[0, blue, 4, 6] = 50.0
    made.model.network = Known(logits)
    seeded = SeedColorizer(made.model, 32, "cpu", share=2 / 64)
    lightness, _, _ = two_regions(80, 80)
    found = seeded.chroma(lightness[None])[0]
    for column, index in ((15, red), (65, blue)):  # the middles of cells of 10 x 10 pixels
        assert torch.allclose(found[:, 45, column], bins.centers[index], atol=1e-3)
    for side, index in ((found[:, :, :40], red), (found[:, :, 40:], blue)):
        assert (side - bins.centers[index].view(2, 1, 1)).abs().max() < 0.1
    one = SeedColorizer(made.model, 32, "cpu", share=1e-9).chroma(lightness[None])[0]
    assert (one - one[:, :1, :1]).abs().max() < 1e-3  # one seed remains, and colours all


def test_edges_of_the_full_picture_guide():
    """An edge that the network's cells straddle: bilinear enlargement blurs over it, seeds do not."""
    made = random_colorizer(size=16)
    bins = made.model.target.bins
    red, blue = bins.nearest(torch.tensor([[40.0, 20], [-10, -40]]).view(2, 2, 1, 1)).flatten().tolist()
    logits = torch.zeros(1, len(bins), 4, 4)
    logits[0, red, :, :2], logits[0, blue, :, 2:] = 50.0, 50.0
    made.model.network = Known(logits)
    lightness, _, _ = two_regions(64, 64)
    true = bins.centers[torch.where(torch.arange(64) < 32, red, blue)].T[:, None]
    by_seeds = SeedColorizer(made.model, 16, "cpu", share=1.0).chroma(lightness[None])[0]
    assert (by_seeds - true).abs().max() < 1
    assert (made.chroma(lightness[None])[0] - true).abs().max() > 20


def test_great_pictures_are_diffused_small(monkeypatch):
    seen = []

    def spy(lightness, chroma, seeds):
        seen.append((lightness.shape, int(seeds.sum())))
        return chroma

    monkeypatch.setattr("colorstudy.seeds.diffuse", spy)
    made = random_colorizer()
    assert colorize_by_seeds(made, pixels(900, 1300)).shape == (900, 1300, 3)
    assert colorize_by_seeds(made, pixels(33, 3300), share=1.0).shape == (33, 3300, 3)
    (first, count), (second, crowded) = seen
    assert first == (1, 443, 640) and count == round(0.1 * 8 * 12)  # 32 x 46 at working size
    assert second == (1, 6, 640) and crowded <= 6 * 640  # several cells in one pixel


def test_temperature():
    made, picture = random_colorizer(), pixels()
    default = colorize_by_seeds(made, picture)
    assert np.array_equal(colorize_by_seeds(made, picture, temperature=0.38), default)
    flat = as_tensor(colorize_by_seeds(made, picture, temperature=1e6))
    assert (split(flat)[1].mean((0, 2, 3)) - made.model.target.bins.centers.mean(0)).abs().max() < 3
    with pytest.raises(ValueError, match=r"^temperature: expected a number > 0, got 0"):
        colorize_by_seeds(made, picture, temperature=0)


def test_all_seeds_at_full_resolution_are_the_plain_colours():
    """With every cell a seed, seeds agree with the plain colorizer at the middles of cells."""
    made = random_colorizer()
    picture = as_tensor(pixels(32, 32))
    lightness, _ = split(picture)
    with torch.inference_mode():
        plain = made.model.target.decode(made.model.network(lightness))
        ours = SeedColorizer(made.model, 32, "cpu", share=1.0).chroma(lightness)
    step = 32 // plain.shape[-1]
    assert torch.allclose(ours[..., step // 2 :: step, step // 2 :: step], plain, atol=1e-4)
    assert (ours - F.interpolate(plain, (32, 32), mode="bilinear")).abs().mean() < 10


FLAT, CHROMA, ONE = torch.zeros(1, 4, 5), torch.zeros(2, 4, 5), torch.eye(4, 5) > 0


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: confidence(torch.zeros(1, 3, 2, 2), "sum"), ValueError, "^kind: expected one of .*, got 'sum'"),
        (lambda: confidence(torch.zeros(3, 2, 2)), ValueError, r"^logits: .* \(B, Q, h, w\), got \(3, 2, 2\)"),
        (lambda: confidence(np.zeros((1, 3, 2, 2))), TypeError, "^logits: expected a floating-point tensor .* ndarray"),
        (lambda: confidence(torch.zeros(1, 1, 2, 2), "ratio"), ValueError, "^logits: .* bins for 'ratio', got 1"),
        (lambda: diffuse(FLAT, CHROMA, ~ONE & ONE), ValueError, "^seeds: expected at least one seed, got none"),
        (lambda: diffuse(FLAT, CHROMA, ONE.float()), TypeError, "^seeds: expected a bool tensor .*, got torch.float32"),
        (lambda: diffuse(FLAT, CHROMA, ONE[None]), ValueError, r"^seeds: expected shape \(4, 5\).*, got \(1, 4, 5\)"),
        (lambda: diffuse(FLAT[0], CHROMA, ONE), ValueError, r"^lightness: expected shape \(1, H, W\), got \(4, 5\)"),
        (lambda: diffuse(FLAT[None], CHROMA, ONE), ValueError, r"^lightness: .*, got \(1, 1, 4, 5\)"),
        (lambda: diffuse(FLAT, CHROMA[..., 1:], ONE), ValueError, r"^chroma: expected shape \(2, 4, 5\).*\(2, 4, 4\)"),
        (lambda: diffuse(FLAT / 0, CHROMA, ONE), ValueError, "^lightness: expected finite values"),
        (lambda: diffuse(FLAT, CHROMA / 0, ONE), ValueError, "^chroma: expected finite values at seeds"),
        (lambda: diffuse(FLAT, CHROMA, ONE, window=4), ValueError, "^window: expected an odd number >= 3, got 4"),
        (lambda: diffuse(FLAT, CHROMA, ONE, window=1), ValueError, "^window: expected an odd number >= 3, got 1"),
        (lambda: diffuse(FLAT, CHROMA, ONE, spread=0), ValueError, "^spread: expected a finite number > 0, got 0"),
        (
            lambda: colorize_by_seeds(random_colorizer("l2"), pixels()),
            ValueError,
            "^model: expected a classification, got l2, a regression, which has no confidence",
        ),
        (
            lambda: colorize_by_seeds(random_colorizer(), pixels(), share=0),
            ValueError,
            r"^share: expected a share in \(0, 1\], got 0",
        ),
        (
            lambda: colorize_by_seeds(random_colorizer(), pixels(), kind="sum"),
            ValueError,
            "^kind: expected one of .*, got 'sum'",
        ),
        (
            lambda: SeedColorizer(random_colorizer().model, limit=0),
            ValueError,
            "^limit: expected pixels >= 1, got 0",
        ),
    ],
)
def test_errors_name_argument_expected_and_got(call, error, message):
    with pytest.raises(error, match=message):
        call()
