"""Equations 1 to 3 against torch's own losses on dense targets, their gradients, and what they never allocate."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from colorstudy.bins import ColorBins
from colorstudy.filters import gaussian_blur
from colorstudy.targets import Classification, Regression, cross_entropy, pixel_weights, squared_error


@pytest.fixture(scope="module")
def bins():
    return ColorBins.in_gamut()


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def chroma(generator):
    return torch.randn(2, 2, 6, 5, generator=generator) * 40


@pytest.fixture
def logits(generator):
    return torch.randn(2, 313, 6, 5, generator=generator) * 3


def dense(bins, chroma, neighbors=5, sigma=5.0):
    """The dense soft target (B, Q, h, w), as other implementations build it."""
    distance = torch.cdist(chroma.permute(0, 2, 3, 1).reshape(-1, 2).double(), bins.centers.double())
    nearest, indices = distance.topk(neighbors, largest=False)
    gaussian = torch.exp(-nearest.square() / (2 * sigma**2))
    target = torch.zeros_like(distance).scatter(1, indices, gaussian / gaussian.sum(1, keepdim=True))
    return target.view(len(chroma), *chroma.shape[2:], -1).permute(0, 3, 1, 2).to(chroma)


def test_squared_error_is_equation_1(generator):
    pred, truth = torch.randn(2, 3, 2, 6, 5, generator=generator, dtype=torch.float64)
    expected = F.mse_loss(pred, truth, reduction="sum") / 2 / (3 * 6 * 5)
    assert squared_error(pred, truth).item() == pytest.approx(expected.item())


def test_cross_entropy_is_equation_2(bins, chroma, logits, generator):
    indices, z = bins.soft(chroma)
    v = torch.rand(2, 6, 5, generator=generator)
    pixelwise = F.cross_entropy(logits, dense(bins, chroma), reduction="none")  # (B, h, w)
    assert cross_entropy(logits, indices, z, v).item() == pytest.approx((v * pixelwise).mean().item(), rel=1e-5)


def test_pixel_weights_are_equation_3(bins, chroma, generator):
    weights = torch.rand(313, generator=generator)
    v = pixel_weights(weights, bins.soft(chroma)[0])
    assert torch.equal(v, weights[dense(bins, chroma).argmax(dim=1)])  # the bin of the largest Z


def test_classification_equals_cross_entropy_with_the_dense_target(bins, chroma, logits):
    ours = Classification(bins).loss(logits, chroma)
    assert ours.item() == pytest.approx(F.cross_entropy(logits, dense(bins, chroma)).item(), rel=1e-5)


def test_weighted_classification_takes_the_weight_of_the_nearest_bin(bins, chroma, logits, generator):
    weights = torch.rand(313, generator=generator) + 0.1
    ours = Classification(bins, weights).loss(logits, chroma)
    pixelwise = F.cross_entropy(logits, dense(bins, chroma), reduction="none")
    expected = (weights[bins.nearest(chroma)] * pixelwise).mean()
    assert ours.item() == pytest.approx(expected.item(), rel=1e-5)


def test_one_neighbor_is_hard_labels(bins, chroma, logits):
    ours = Classification(bins, neighbors=1).loss(logits, chroma)
    assert ours.item() == pytest.approx(F.cross_entropy(logits, bins.nearest(chroma)).item(), rel=1e-5)


def test_classification_gradient(bins, chroma, generator):
    few = ColorBins(bins.centers[::30])
    target = Classification(few, torch.rand(len(few), generator=generator) + 0.1)
    logits = torch.randn(2, len(few), 6, 5, generator=generator, dtype=torch.float64)

    ours, expected = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    target.loss(ours, chroma).backward()
    pixelwise = F.cross_entropy(expected, dense(few, chroma).double(), reduction="none")
    (target.weights[few.nearest(chroma)] * pixelwise).mean().backward()
    assert torch.allclose(ours.grad, expected.grad, atol=1e-7)


def test_cross_entropy_passes_gradcheck(generator):
    logits = torch.randn(2, 7, 3, 2, generator=generator, dtype=torch.float64, requires_grad=True)
    indices = torch.rand(2, 3, 2, 7, generator=generator).argsort(-1)[..., :3]
    z = torch.rand(2, 3, 2, 3, generator=generator, dtype=torch.float64)
    v = torch.rand(2, 3, 2, generator=generator, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: cross_entropy(x, indices, z, v), logits)


def test_no_dense_target_is_built(bins):
    """From logits to loss no tensor of the logits' size is made but their log-softmax."""
    logits, chroma = torch.randn(2, 313, 16, 16, requires_grad=True), torch.randn(2, 2, 16, 16) * 40
    large = []  # kept, so that no two of them share memory

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            new = result if isinstance(result, (tuple, list)) else [result]
            large.extend((function, t) for t in new if torch.is_tensor(t) and t.numel() >= logits.numel())
            return result

    target = Classification(bins, torch.rand(313) + 0.1)
    with Watch():
        target.loss(logits, chroma)
    assert large[0][0] is torch.ops.aten._log_softmax.default
    assert len({t.untyped_storage().data_ptr() for _, t in large}) == 1


@pytest.mark.parametrize("target", [Regression("lab"), Classification(ColorBins.in_gamut())], ids=["l2", "class"])
def test_larger_chroma_is_averaged_and_extremes_stay_finite(target, chroma, generator):
    output = torch.randn(2, target.out_channels, 6, 5, generator=generator)
    large = chroma.repeat_interleave(4, 2).repeat_interleave(4, 3)
    assert target.loss(output, large).item() == pytest.approx(target.loss(output, chroma).item(), rel=1e-5)
    extreme = (output * 1e4).requires_grad_()
    target.loss(extreme, chroma * 100).backward()
    assert extreme.grad.isfinite().all()


def test_point_sampling_takes_the_first_pixel_of_each_area(bins, chroma, logits, generator):
    """As a convolution of stride 4 with a 1 x 1 kernel does, which the released code of Zhang et al. samples with."""
    large = torch.randn(2, 2, 24, 20, generator=generator) * 40
    by_point = Classification(bins, sampling="point").loss(logits, large)
    assert by_point.item() == pytest.approx(Classification(bins).loss(logits, large[..., ::4, ::4]).item(), rel=1e-6)
    assert by_point.item() != pytest.approx(Classification(bins).loss(logits, large).item(), rel=1e-3)
    regression = Regression("lab", sampling="point").loss(logits[:, :2], large)
    assert regression.item() == pytest.approx(Regression("lab").loss(logits[:, :2], large[..., ::4, ::4]).item())


def test_grey_mask_leaves_out_grey_pictures_only(bins, chroma, logits):
    chroma = chroma.clone()
    chroma[0] = chroma[0].clamp(-4.9, 4.9)
    masked = Classification(bins, grey_mask=5.0).loss(logits, chroma)
    plain = Classification(bins)
    assert masked.item() == pytest.approx(plain.loss(logits[1:], chroma[1:]).item() / 2, rel=1e-5)  # still per pixel
    chroma[0, 0, 3, 2] = -5.1
    assert Classification(bins, grey_mask=5.0).loss(logits, chroma).item() == pytest.approx(
        plain.loss(logits, chroma).item()
    )


def test_regression_is_equation_1(chroma, generator):
    output = torch.randn(2, 2, 6, 5, generator=generator, requires_grad=True)
    target = Regression("lab")
    loss = target.loss(output, chroma)
    assert loss.item() == pytest.approx(((target.decode(output) - chroma) ** 2).sum().item() / 2 / 60, rel=1e-5)
    assert target.loss(chroma / 110, chroma).item() == pytest.approx(0, abs=1e-6)
    loss.backward()
    assert torch.allclose(output.grad, 110 * (target.decode(output) - chroma).detach() / 60, rtol=1e-4)


def test_blurred_regression_is_the_mean_error_under_each_blur(chroma, generator):
    """Dahl's loss as he states it: blurred copies of both sides are compared."""
    output = torch.randn(2, 2, 6, 5, generator=generator)
    target = Regression("lab", blurs=(3, 5))
    sides = [(target.decode(output), chroma)]
    sides += [tuple(gaussian_blur(side, size) for side in sides[0]) for size in (3, 5)]
    expected = sum((a - b).square().sum(1).mean() / 2 for a, b in sides) / 3
    assert target.loss(output, chroma).item() == pytest.approx(expected.item(), rel=1e-5)
    assert target.loss(output, chroma) < Regression("lab").loss(output, chroma)  # noise is blurred away
    with pytest.raises(ValueError, match=r"blurs: expected odd widths, got \(4,\)"):
        Regression("lab", blurs=(4,))


def test_decode_inverts_a_certain_prediction(bins):
    colour = bins.centers[torch.tensor([0, 100, 312])].T[None, :, None, :]  # (1, 2, 1, 3)
    certain = F.one_hot(bins.nearest(colour), 313).permute(0, 3, 1, 2) * 100.0
    assert torch.allclose(Classification(bins).decode(certain), colour, atol=1e-3)
    even = torch.zeros(1, 313, 1, 1)
    target = Classification(bins, temperature=1.0)
    assert torch.equal(target.decode(even), target.decode(even, temperature=0.5))


def test_posthoc_rebalancing_multiplies_the_distribution_by_the_weights(bins, logits, generator):
    """A classifier of p becomes one of w p, which is what training with the weights w tends to."""
    w = torch.rand(313, generator=generator) + 0.1
    target = Classification(bins, posthoc=w, temperature=1.0)
    p = torch.softmax(logits, 1)
    for s in (0.0, 0.5, 1.0):
        tilted = p * w[:, None, None] ** s
        tilted = tilted / tilted.sum(1, keepdim=True)
        expected = torch.einsum("bqhw,qc->bchw", tilted, bins.centers)
        assert torch.allclose(target.decode(logits, rebalance=s), expected, atol=1e-3)
    assert torch.equal(target.decode(logits), target.decode(logits, rebalance=0.0))
    by_default = Classification(bins, posthoc=w, temperature=1.0, rebalance=0.5)
    assert torch.equal(by_default.decode(logits), target.decode(logits, rebalance=0.5))


def test_posthoc_rebalancing_finds_the_minimum_of_the_weighted_loss(generator):
    """On one pixel whose colour is drawn from p, the logits log(w p) minimise the weighted loss."""
    few = ColorBins(torch.tensor([[0.0, 0.0], [50.0, 0.0], [0.0, 50.0]]))
    p, w = torch.tensor([0.6, 0.3, 0.1]), torch.tensor([0.5, 1.0, 4.0])
    colours = few.centers[:, :, None, None]  # each bin's own colour, (3, 2, 1, 1)
    target = Classification(few, w, neighbors=1)

    def risk(logits):
        return sum(p[q] * target.loss(logits.view(1, 3, 1, 1), colours[q : q + 1]) for q in range(3))

    best = (w * p).log().requires_grad_()
    risk(best).backward()
    assert best.grad.abs().max() < 1e-6
    assert risk(best.detach()) < risk(p.log())


def test_bfloat16_output_is_taken_in_float32(bins, chroma, logits):
    target = Classification(bins)
    half = logits.bfloat16()
    assert target.loss(half, chroma).dtype == torch.float32
    assert target.loss(half, chroma).item() == pytest.approx(target.loss(half.float(), chroma).item())


def test_out_channels(bins):
    assert Regression("yuv").out_channels == 2 and Classification(bins).out_channels == 313


def test_distribution_is_the_softmax_of_the_logits(bins, logits):
    target = Classification(bins, rebalance=1.0, temperature=0.1)  # which are of the decoding, not of the prediction
    assert torch.equal(target.distribution(logits), torch.softmax(logits, dim=1))
    half = target.distribution(logits.bfloat16())
    assert half.dtype == torch.float32 and torch.allclose(half.sum(1), torch.ones(()))


@pytest.mark.parametrize("target", [Regression, lambda: Classification(ColorBins.in_gamut())], ids=["l2", "class"])
def test_scaled_chroma_is_warned_of_once(target, generator):
    target, scaled = target(), torch.rand(2, 2, 6, 5, generator=generator) * 2 - 1
    output = torch.zeros(2, target.out_channels, 6, 5)
    expected = r"^chroma: expected lab units, up to about 110, got values in \[-1, 1\]; were they scaled\?"
    with pytest.warns(UserWarning, match=expected) as caught:
        target.loss(output, scaled)
    assert [warning.filename for warning in caught] == [__file__]  # it points to who called
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        target.loss(output, scaled)


@pytest.mark.parametrize(
    "space, chroma",
    [
        ("lab", torch.randn(1, 2, 6, 5, generator=torch.Generator().manual_seed(0)) * 20),
        ("lab", torch.zeros(1, 2, 6, 5)),
        ("lab", torch.full((1, 2, 6, 5), 0.01)),  # grey, but for the rounding of a conversion
        ("yuv", torch.rand(1, 2, 6, 5, generator=torch.Generator().manual_seed(0)) - 0.5),
    ],
    ids=["colour", "grey", "rounded", "yuv"],
)
def test_real_chroma_is_not_warned_of(space, chroma):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Regression(space).loss(torch.zeros(1, 2, 6, 5), chroma)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda b: Regression("rgb"), r"space: expected one of \['lab', 'yuv'\], got 'rgb'"),
        (lambda b: Classification(b, torch.ones(5)), r"weights: expected shape \(313,\), got \(5,\)"),
        (lambda b: Classification(b, torch.zeros(313)), "weights: expected positive finite numbers"),
        (lambda b: Classification(b, torch.full((313,), torch.inf)), "weights: expected positive finite numbers"),
        (lambda b: Regression(sampling="mean"), r"sampling: expected one of \['area', 'point'\], got 'mean'"),
        (lambda b: Classification(b, sigma=0), "sigma: expected a width > 0, got 0"),
        (lambda b: Classification(b, temperature=0), "temperature: expected a number > 0, got 0"),
        (lambda b: Classification(b, rebalance=-1), "rebalance: expected a number >= 0, got -1"),
        (lambda b: Classification(b, grey_mask=-1), "grey_mask: expected a chroma >= 0, got -1"),
        (lambda b: Classification(b, neighbors=400), r"neighbors: expected an integer in \[1, 313\], got 400"),
        (
            lambda b: Classification(b).loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 2, 4, 4)),
            r"output: expected shape \(B, 313, h, w\), got \(1, 2, 4, 4\)",
        ),
        (
            lambda b: Regression().loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 3, 4, 4)),
            r"chroma: expected shape \(B, 2, H, W\), got \(1, 3, 4, 4\)",
        ),
        (
            lambda b: Regression().loss(torch.zeros(1, 2, 4, 4), torch.zeros(2, 2, 4, 4)),
            "chroma: expected a batch of 1",
        ),
        (lambda b: Classification(b).decode(torch.zeros(1, 313, 2, 2), temperature=-1), "temperature: expected"),
        (
            lambda b: Classification(b).decode(torch.zeros(1, 313, 2, 2), rebalance=-1),
            "rebalance: expected a number >= 0",
        ),
        (lambda b: Classification(b, posthoc=torch.ones(5)), r"posthoc: expected shape \(313,\), got \(5,\)"),
    ],
)
def test_errors_name_argument_expected_and_got(bins, call, message):
    with pytest.raises(ValueError, match=message):
        call(bins)
