"""Bins against the published set and against brute force; decoding against closed forms."""

import pytest
import torch

from colorstudy.bins import ColorBins
from colorstudy.color import srgb_to_lab


@pytest.fixture(scope="module")
def bins():
    return ColorBins.in_gamut()


def test_in_gamut_is_the_published_set(bins, reference):
    published = torch.from_numpy(reference("pts_in_hull.npy")).float()
    assert {tuple(c) for c in bins.centers.tolist()} == {tuple(c) for c in published.tolist()}
    assert torch.equal(bins.centers, published)  # and in its order


def test_in_gamut_counts(bins):
    assert len(bins) == 313 and bins.reachable.sum() == 261
    assert bins.centers.tolist() == sorted(bins.centers.tolist())
    assert [0.0, 0.0] in bins.centers.tolist()


def test_reachable_agrees_with_a_scan_of_the_cube(bins):
    steps = torch.linspace(0, 1, 65)
    cube = torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).reshape(1, 3, 65, -1)
    labels = torch.cdist(srgb_to_lab(cube)[0, 1:].flatten(1).T, bins.centers).argmin(1).unique()
    assert bins.reachable[labels].all()  # nothing reached is called unreachable
    assert len(labels) >= 255  # and a scan as coarse as this one finds nearly all


@pytest.fixture(scope="module", params=["gamut", "plane"])
def chroma(request):
    """200,000 random colours: of the gamut, and of a plane that reaches far beyond the bins."""
    generator = torch.Generator().manual_seed(0)
    if request.param == "gamut":
        return srgb_to_lab(torch.rand(1, 3, 400, 500, generator=generator))[:, 1:]
    return torch.rand(1, 2, 400, 500, generator=generator) * 360 - 180


def brute_force(chroma, centers, k):
    """Sorted distances to the k nearest centres and the full distances, piece by piece, in float64."""
    for piece, points in enumerate(chroma[0].flatten(1).T.double().split(50_000)):
        distance = torch.cdist(points, centers.double(), compute_mode="donot_use_mm_for_euclid_dist")
        yield slice(50_000 * piece, 50_000 * piece + len(points)), distance, distance.topk(k, largest=False).values


def test_nearest_equals_brute_force(bins, chroma):
    ours = bins.nearest(chroma).flatten()
    assert ours.shape == (200_000,) and ours.dtype == torch.int64
    for part, distance, nearest in brute_force(chroma, bins.centers, 1):
        assert torch.allclose(distance.gather(1, ours[part, None]), nearest, atol=1e-4, rtol=0)  # ties aside


@pytest.mark.parametrize("neighbors, sigma", [(5, 5.0), (3, 5.0), (10, 5.0)])
def test_soft_equals_brute_force(bins, chroma, neighbors, sigma):
    indices, weights = bins.soft(chroma, neighbors, sigma)
    assert indices.shape == weights.shape == (1, 400, 500, neighbors)
    assert torch.allclose(weights.sum(-1), torch.ones(()), atol=1e-5)
    indices, weights = indices.view(-1, neighbors), weights.view(-1, neighbors)
    for part, distance, nearest in brute_force(chroma, bins.centers, neighbors):
        assert torch.allclose(distance.gather(1, indices[part]), nearest, atol=1e-4, rtol=0)
        gaussian = torch.exp(-(nearest**2 - nearest[:, :1] ** 2) / (2 * sigma**2))
        expected = gaussian / gaussian.sum(1, keepdim=True)
        # Far outside, squared distances of 1e5 leave float32 few digits for their differences.
        assert (weights[part] - expected).abs().max() < (1e-3 if chroma.max() > 120 else 1e-5)


@pytest.mark.parametrize(
    "centers",
    [
        torch.randn(40, 2, generator=torch.Generator().manual_seed(0)) * 30,  # on no grid
        torch.cartesian_prod(torch.arange(5.0) * 20, torch.arange(9.0) * 10),  # twice as fine across
        torch.tensor([[0.0, 0], [10, 0], [-100, 70]]),  # a grid with few of its points
        torch.tensor([[3.0, -4]]),
    ],
    ids=["scattered", "oblong", "sparse", "single"],
)
def test_any_bins_find_their_nearest(centers):
    bins = ColorBins(centers)
    points = torch.randn(1, 2, 50, 60, generator=torch.Generator().manual_seed(1)) * 60
    ours = bins.nearest(points).flatten()
    for part, distance, nearest in brute_force(points, bins.centers, 1):
        assert torch.allclose(distance.gather(1, ours[part, None]), nearest, atol=1e-4, rtol=0)
    assert torch.equal(bins.soft(points, neighbors=1)[0].flatten(), ours)
    k = min(5, len(centers))
    indices = bins.soft(points, k)[0].reshape(-1, k)
    for part, distance, nearest in brute_force(points, bins.centers, k):
        assert torch.allclose(distance.gather(1, indices[part]), nearest, atol=1e-4, rtol=0)


def test_boundary_is_rounded_not_floored(bins):
    """Half a bin off: the classic fault of flooring where centres need rounding."""
    near = bins.centers[:, :, None, None] + torch.tensor([4.9, -4.9]).view(1, 2, 1, 1) * 0.99
    inside = bins.nearest(near).flatten()
    assert (bins.centers[inside] - near.view(-1, 2)).norm(dim=1).max() < 7.1
    assert torch.equal(bins.nearest(bins.centers[:, :, None, None]).flatten(), torch.arange(313))


def test_a_distant_colour_gets_a_bin_and_finite_weights(bins):
    far = torch.tensor([1e4, -1e4]).view(1, 2, 1, 1)
    indices, weights = bins.soft(far)
    assert weights.isfinite().all() and weights.sum() == pytest.approx(1)
    assert indices.max() < 313 and torch.equal(bins.nearest(far), indices[..., 0])


@pytest.fixture
def logits():
    return torch.randn(2, 313, 3, 4, generator=torch.Generator().manual_seed(1)) * 3


def test_annealed_mean_is_the_formula(bins, logits):
    z = torch.softmax(logits, 1)  # Equation 5 of Zhang et al., written as there: f_T(z) = exp(log(z)/T) / sum
    annealed = torch.exp(z.log() / 0.38)
    annealed = annealed / annealed.sum(1, keepdim=True)
    expected = torch.einsum("bqhw,qc->bchw", annealed, bins.centers)
    assert torch.allclose(bins.annealed_mean(logits), expected, atol=1e-3)


def test_temperature_limits(bins, logits):
    mean = torch.einsum("bqhw,qc->bchw", torch.softmax(logits, 1), bins.centers)
    mode = bins.centers[logits.argmax(1)].permute(0, 3, 1, 2)
    assert torch.allclose(bins.annealed_mean(logits, 1.0), mean, atol=1e-4)
    assert torch.allclose(bins.annealed_mean(logits, 1e-4), mode, atol=1e-3)
    assert torch.allclose(bins.annealed_mean(logits, 1e9), bins.centers.mean(0).view(1, 2, 1, 1), atol=1e-3)


@pytest.mark.parametrize("temperature", [1e-300, 1e-45, 1e-38, 1e-6, 0.38, 1.0, 1e38])
@pytest.mark.parametrize("scale", [1.0, 34.0, 1e4, 3e38])
def test_annealed_mean_is_finite_for_finite_logits(bins, logits, temperature, scale):
    extreme = (logits.sign() * logits.abs().clamp(max=1)) * scale
    assert extreme.isfinite().all()
    mean = bins.annealed_mean(extreme, temperature)
    assert mean.isfinite().all() and mean.abs().max() <= 110 + 1e-3


def test_annealed_mean_takes_half_precision(bins, logits):
    assert torch.allclose(
        bins.annealed_mean(logits.bfloat16()), bins.annealed_mean(logits.bfloat16().float()), atol=1e-4
    )


def test_annealed_mean_gradients(bins):
    few = ColorBins(bins.centers[::60])
    logits = torch.randn(1, len(few), 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: few.annealed_mean(x, 0.38), logits)


def test_most_frequent_takes_the_fullest_cells():
    counts = torch.zeros(10, 10)
    counts[2, 3], counts[7, 1], counts[5, 5] = 5, 9, 7
    bins = ColorBins.most_frequent(counts, n=2)
    side = 0.615
    cell = lambda i: -side + 2 * side * (i + 0.5) / 10  # noqa: E731
    expected = torch.tensor([[cell(5), cell(5)], [cell(7), cell(1)]])
    assert torch.allclose(bins.centers, expected) and bins.space == "yuv"
    assert torch.equal(bins.nearest(expected.T[None, :, None, :]).flatten(), torch.arange(2))


def test_centres_are_sorted_with_their_reachability():
    bins = ColorBins(torch.tensor([[10.0, 0], [0, 10], [0, 0]]), reachable=torch.tensor([True, False, True]))
    assert bins.centers.tolist() == [[0, 0], [0, 10], [10, 0]]
    assert bins.reachable.tolist() == [True, False, True]


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda b: ColorBins.in_gamut(0), r"step: expected a spacing in \[1, 110\], got 0"),
        (lambda b: b.nearest(torch.zeros(1, 3, 2, 2)), r"chroma: expected shape \(B, 2, h, w\), got \(1, 3, 2, 2\)"),
        (lambda b: b.nearest(torch.zeros(2, 2, 2)), r"chroma: expected shape \(B, 2, h, w\), got \(2, 2, 2\)"),
        (
            lambda b: b.soft(torch.zeros(1, 2, 2, 2), neighbors=0),
            r"neighbors: expected an integer in \[1, 313\], got 0",
        ),
        (lambda b: b.soft(torch.zeros(1, 2, 2, 2), sigma=0), "sigma: expected a width > 0, got 0"),
        (lambda b: b.annealed_mean(torch.zeros(1, 2, 2, 2)), r"logits: expected shape \(B, 313, h, w\)"),
        (lambda b: b.annealed_mean(torch.zeros(1, 313, 2, 2), 0), "temperature: expected a number > 0, got 0"),
        (lambda b: b.annealed_mean(torch.zeros(1, 313, 2, 2), float("nan")), "temperature: .* got nan"),
        (lambda b: ColorBins(torch.zeros(3, 3)), r"centers: expected shape \(Q, 2\) with Q > 0, got \(3, 3\)"),
        (lambda b: ColorBins(torch.zeros(3, 2)), "centers: expected Q different centres"),
        (lambda b: ColorBins(torch.zeros(1, 2), "hsv"), "space: expected one of"),
        (lambda b: ColorBins(torch.full((1, 2), torch.nan)), "centers: expected finite values"),
        (
            lambda b: ColorBins(torch.zeros(1, 2), reachable=torch.ones(3)),
            r"reachable: expected shape \(1,\), got \(3,\)",
        ),
        (lambda b: ColorBins.most_frequent(-torch.ones(2, 2)), "counts: expected non-negative numbers, got -1"),
        (
            lambda b: ColorBins.most_frequent(torch.ones(2, 2), n=5),
            "n: expected between 1 and the 4 cells that occur, got 5",
        ),
        (
            lambda b: ColorBins.most_frequent(torch.ones(4), n=2),
            r"counts: expected shape \(rows, columns\), got \(4,\)",
        ),
    ],
)
def test_errors_name_argument_expected_and_got(bins, call, message):
    with pytest.raises(ValueError, match=message):
        call(bins)
