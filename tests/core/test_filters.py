"""The filters against SciPy, Pillow and their definitions."""

import math

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from colorstudy.filters import downscale, gaussian_blur, joint_bilateral


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("size, sigma", [(3, 0.8), (5, 1.1)])
def test_blur_is_a_gaussian_window(size, sigma, generator):
    maps = torch.randn(2, 3, 9, 7, generator=generator)
    weights = np.exp(-((np.arange(size) - size // 2) ** 2) / (2 * sigma**2))
    weights /= weights.sum()
    expected = maps.numpy()
    for axis in (2, 3):
        expected = ndimage.correlate1d(expected, weights, axis, mode="nearest")
    assert np.allclose(gaussian_blur(maps, size).numpy(), expected, atol=1e-5)


def test_blur_of_a_pixel_of_width_one_and_its_gradient(generator):
    maps = torch.randn(1, 2, 1, 1, generator=generator)
    assert torch.allclose(gaussian_blur(maps, 5), maps)
    assert torch.allclose(gaussian_blur(maps, 1), maps)
    small = torch.randn(1, 2, 3, 4, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: gaussian_blur(x, 3), small)
    with pytest.raises(ValueError, match="size: expected an odd number of pixels, got 4"):
        gaussian_blur(maps, 4)


@pytest.mark.parametrize("padding, mode", [("replicate", "nearest"), ("reflect", "mirror"), ("constant", "constant")])
def test_blur_of_any_width_and_border(padding, mode, generator):
    maps = torch.randn(2, 3, 15, 12, generator=generator, dtype=torch.float64)
    expected = ndimage.gaussian_filter(maps.numpy(), 1.5, axes=(2, 3), radius=5, mode=mode)
    assert np.allclose(gaussian_blur(maps, 11, 1.5, padding).numpy(), expected, atol=1e-12)


def test_over_a_flat_picture_it_is_a_gaussian_blur_within_the_border(generator):
    """SciPy's window is cut at two sigma as well; what lies outside of the picture has no weight in ours."""
    chroma = torch.randn(1, 2, 17, 23, generator=generator, dtype=torch.float64)
    ours = joint_bilateral(chroma, torch.full((1, 1, 17, 23), 50.0, dtype=torch.float64), 2.0)[0].numpy()

    def blurred(array):
        return ndimage.gaussian_filter(array, 2.0, axes=(-2, -1), truncate=2.0, mode="constant")

    assert np.allclose(ours, blurred(chroma[0].numpy()) / blurred(np.ones((17, 23))), atol=1e-12)


def test_the_joint_filter_is_its_definition(generator):
    chroma, lightness = torch.randn(1, 2, 4, 6, generator=generator), torch.rand(1, 1, 4, 6, generator=generator) * 100
    out, radius = joint_bilateral(chroma, lightness, 1.0, 20.0), math.ceil(2 * 1.0)
    for y, x in ((0, 0), (2, 3), (3, 5)):
        total, weight = torch.zeros(2), 0.0
        for v in range(max(0, y - radius), min(4, y + radius + 1)):
            for u in range(max(0, x - radius), min(6, x + radius + 1)):
                difference = (lightness[0, 0, v, u] - lightness[0, 0, y, x]).item()
                w = math.exp(-((v - y) ** 2 + (u - x) ** 2) / 2 - difference**2 / (2 * 400))
                total, weight = total + w * chroma[0, :, v, u], weight + w
        assert torch.allclose(out[0, :, y, x], total / weight, atol=1e-5)


def test_colours_do_not_cross_an_edge_and_mix_within_a_surface(generator):
    lightness = torch.full((1, 1, 12, 12), 20.0)
    lightness[..., 6:] = 80
    chroma = torch.where(lightness > 50, 40.0, -40.0) + 5 * torch.randn(1, 2, 12, 12, generator=generator)
    out = joint_bilateral(chroma, lightness)
    assert (out[..., :6] + 40).abs().max() < 4 and (out[..., 6:] - 40).abs().max() < 4
    assert out[..., :6].std() < 0.4 * chroma[..., :6].std()
    constant = torch.full((1, 2, 3, 1), 7.0)
    assert torch.allclose(joint_bilateral(constant, torch.rand(1, 1, 3, 1) * 100), constant)


@pytest.mark.parametrize("scale, size", [(0.5, (20, 26)), (0.3, (12, 16)), (0.001, (1, 1))])
def test_downscaling_is_the_triangle_filter_of_pillow(scale, size, generator):
    maps = torch.rand(1, 2, 40, 52, generator=generator) * 100
    small = downscale(maps, scale)
    assert small.shape == (1, 2, *size)
    for ours, plane in zip(small[0], maps[0]):
        expected = Image.fromarray(plane.numpy()).resize(size[::-1], Image.Resampling.BILINEAR)
        assert np.abs(ours.numpy() - np.asarray(expected)).max() < 1e-3


@pytest.mark.parametrize("scale", [1.0, 1.7, math.inf])
def test_nothing_is_enlarged(scale, generator):
    maps = torch.rand(1, 2, 4, 5, generator=generator)
    assert downscale(maps, scale) is maps


@pytest.mark.parametrize(
    "change, message",
    [
        ({"lightness": torch.zeros(1, 1, 5, 4)}, r"lightness: expected batch and size of chroma, \(1, 2, 4, 4\)"),
        ({"chroma": torch.zeros(1, 3, 4, 4)}, "chroma: expected"),
    ],
)
def test_errors_name_the_argument(change, message):
    with pytest.raises(ValueError, match=message):
        joint_bilateral(**({"chroma": torch.zeros(1, 2, 4, 4), "lightness": torch.zeros(1, 1, 4, 4)} | change))
