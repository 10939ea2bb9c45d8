"""Colour spaces against scikit-image, on the whole gamut, and their gradients."""

import numpy as np
import pytest
import skimage.color
import torch

from colorstudy import color


@pytest.fixture(scope="module")
def grid():
    """All 32^3 colours of a regular grid: tensor (1, 3, 32, 1024) in [0, 1], float32."""
    steps = torch.linspace(0, 1, 32)
    return torch.stack(torch.meshgrid(steps, steps, steps, indexing="ij")).reshape(1, 3, 32, -1)


def channels_last(maps):
    return maps[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize(
    "ours, theirs, tolerance",
    [(color.srgb_to_lab, skimage.color.rgb2lab, 1e-3), (color.srgb_to_yuv, skimage.color.rgb2yuv, 1e-5)],
)
def test_agrees_with_scikit_image(grid, ours, theirs, tolerance):
    expected = theirs(channels_last(grid).astype(np.float64))
    assert np.abs(channels_last(ours(grid)) - expected).max() < tolerance


def test_lab_to_srgb_agrees_with_scikit_image_outside_the_gamut():
    generator = torch.Generator().manual_seed(0)
    lab = torch.rand(1, 3, 50, 50, generator=generator, dtype=torch.float64)
    lab = lab * torch.tensor([100.0, 220.0, 220.0])[:, None, None] - torch.tensor([0.0, 110.0, 110.0])[:, None, None]
    with pytest.warns(UserWarning, match="negative Z"):  # scikit-image sets those Z to 0; so compare only the others
        expected = skimage.color.lab2rgb(channels_last(lab))
    fz = (lab[0, 0] + 16) / 116 - lab[0, 2] / 200
    kept = (fz > 0.01).numpy()
    assert kept.mean() > 0.5
    assert np.abs(channels_last(color.lab_to_srgb(lab)) - expected)[kept].max() < 1e-5


def test_float64_follows_the_standards():
    """In one formula with `where`, as IEC 61966-2-1 and CIE 15:2004 print them; their own knees are rounded."""
    rgb = torch.linspace(0, 1, 9001, dtype=torch.float64).expand(3, 1, -1).clone()
    rgb[:, 0, :3] = torch.tensor([0.04045, 0.0404482, 0.0404483], dtype=torch.float64)
    rgb[1] = rgb[1].flip(-1)
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)[:, 0]
    m = [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
    t = m @ linear / np.array([[0.95047], [1.0], [1.08883]])
    fx, fy, fz = np.where(t > (6 / 29) ** 3, np.cbrt(t), t / 3 * (29 / 6) ** 2 + 4 / 29)
    expected = np.stack([116 * fy - 16, 500 * (fx - fy), 200 * (fy - fz)])
    lab = color.srgb_to_lab(rgb)
    assert np.abs(lab[:, 0].numpy() - expected).max() < 1e-5
    assert (color.lab_to_srgb(lab) - rgb).abs().max() < 1e-12  # the two directions are each other's inverse


def test_float32_without_gradient_is_fast_and_as_exact():
    generator = torch.Generator().manual_seed(0)
    rgb = torch.rand(2, 3, 300, 300, generator=generator)
    rgb[1] **= 4  # many dark values
    exact = color.srgb_to_lab(rgb.double())
    lab, plain = color.srgb_to_lab(rgb), color.srgb_to_lab(rgb.clone().requires_grad_())
    assert plain.requires_grad and not torch.equal(lab, plain)  # so two ways are compared
    assert (lab - exact).abs().max() < 2e-4 and (plain - exact).abs().max() < 2e-4
    outside = exact * torch.tensor([1.0, 1.3, 1.3]).view(3, 1, 1)
    assert (color.lab_to_srgb(outside.float()) - color.lab_to_srgb(outside)).abs().max() < 2e-5
    black = color.srgb_to_lab(torch.zeros(1, 3, 1, 1))
    assert black.abs().max() < 1e-5 and color.lab_to_srgb(black).max() < 1e-6


@pytest.mark.parametrize("space", color.SPACES)
def test_round_trip(grid, space):
    lightness, chroma = color.split(grid, space)
    assert lightness.shape == (1, 1, 32, 1024) and chroma.shape == (1, 2, 32, 1024)
    assert lightness.min() >= -1e-4 and lightness.max() <= 100 + 1e-4
    assert chroma.abs().max() <= color.SPACES[space] + 1e-4
    assert (color.merge(lightness, chroma, space) - grid).abs().max() < 1e-4


def test_lab_to_srgb_clips():
    vivid = torch.tensor([50.0, 200.0, -200.0]).view(1, 3, 1, 1)
    rgb = color.lab_to_srgb(vivid)
    assert rgb.min() >= 0 and rgb.max() <= 1


@pytest.mark.parametrize("convert", [color.srgb_to_lab, color.srgb_to_yuv])
def test_gradients_are_right_and_finite_everywhere(grid, convert):
    inside = (0.1 + 0.8 * grid[..., ::9, ::97].double()).requires_grad_()
    assert torch.autograd.gradcheck(convert, inside)
    corners = torch.tensor([0.0, 0.04045, 1.0]).view(1, 1, 3, 1).expand(1, 3, 3, 1).clone().requires_grad_()
    convert(corners).sum().backward()
    assert corners.grad.isfinite().all()


def test_lab_to_srgb_gradients(grid):
    lab = color.srgb_to_lab(0.1 + 0.8 * grid[..., ::9, ::97].double()).requires_grad_()
    assert torch.autograd.gradcheck(color.lab_to_srgb, lab)
    black = torch.zeros(1, 3, 2, 2, requires_grad=True)
    color.lab_to_srgb(black).sum().backward()
    assert black.grad.isfinite().all()


def test_leading_dimensions_are_free(grid):
    single = color.srgb_to_lab(grid[0])
    assert torch.equal(single, color.srgb_to_lab(grid)[0])
    assert color.srgb_to_lab(grid[None]).shape == (1, *grid.shape)


@pytest.mark.parametrize("name", ["srgb_to_lab", "lab_to_srgb", "srgb_to_yuv"])
def test_errors_name_argument_expected_and_got(name):
    argument = name.split("_")[0].removeprefix("s")
    with pytest.raises(ValueError, match=rf"{argument}: expected shape \(\*, 3, H, W\), got \(1, 4, 2, 2\)"):
        getattr(color, name)(torch.zeros(1, 4, 2, 2))
    with pytest.raises(TypeError, match=rf"{argument}: expected a floating-point tensor .* got torch.int16"):
        getattr(color, name)(torch.zeros(1, 3, 2, 2, dtype=torch.int16))
    with pytest.raises(ValueError, match=r"space: expected one of \['lab', 'yuv'\], got 'hsv'"):
        color.split(torch.zeros(1, 3, 2, 2), "hsv")


def test_errors_of_lightness_and_chroma():
    lightness, chroma = torch.zeros(1, 1, 2, 2), torch.zeros(1, 2, 2, 2)
    with pytest.raises(ValueError, match=r"lightness: expected shape \(\*, 1, H, W\), got \(1, 2, 2, 2\)"):
        color.merge(chroma, chroma)
    with pytest.raises(ValueError, match=r"chroma: expected shape \(\*, 2, H, W\), got \(1, 1, 2, 2\)"):
        color.merge(lightness, lightness)
    with pytest.raises(ValueError, match=r"space: .* got 'labs'; did you mean 'lab'\?"):
        color.merge(lightness, chroma, "labs")


@pytest.fixture(scope="module")
def pixels():
    return torch.randint(256, (2, 3, 40, 50), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_bytes_are_taken_as_floats_are(pixels):
    assert color.srgb_to_lab(pixels).dtype == torch.float32
    assert torch.equal(color.srgb_to_lab(pixels), color.srgb_to_lab(pixels / 255))
    for space in color.SPACES:
        for ours, expected in zip(color.split(pixels, space), color.split(pixels / 255, space)):
            assert ours.dtype == torch.float32 and torch.equal(ours, expected)
    with pytest.raises(ValueError, match=r"rgb: expected shape \(\*, 3, H, W\)"):
        color.srgb_to_lab(pixels[:, :2])


@pytest.mark.parametrize("space", color.SPACES)
def test_lightness_alone(space, pixels):
    for rgb in (pixels, pixels / 255, (pixels / 255).double(), pixels[0].movedim(0, -1).contiguous().movedim(-1, 0)):
        assert torch.equal(color.lightness_of(rgb, space), color.split(rgb, space)[0])
    large = pixels.repeat(1, 1, 8, 7)
    assert torch.allclose(color.lightness_of(large, space), color.split(large, space)[0], atol=1e-4)
    with pytest.raises(ValueError, match=r"space: expected one of \['lab', 'yuv'\], got 'hsv'"):
        color.lightness_of(pixels, "hsv")


def test_large_pictures_are_converted_in_blocks_to_the_same():
    """More than two million pixels, in rows of a number that no block is a multiple of."""
    rgb = torch.rand(1, 3, 1500, 1501, generator=torch.Generator().manual_seed(0))
    lab = color.srgb_to_lab(rgb)
    for rows in (slice(0, 100), slice(700, 800), slice(1400, None)):
        assert torch.allclose(color.srgb_to_lab(rgb[..., rows, :]), lab[..., rows, :], atol=1e-4)
        assert torch.allclose(color.lab_to_srgb(lab[..., rows, :]), rgb[..., rows, :], atol=1e-4)
    assert torch.allclose(color.lab_to_srgb(lab), rgb, atol=1e-4)
    assert color.srgb_to_lab(rgb[:, :, :0]).shape == (1, 3, 0, 1501)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.float64, torch.bfloat16])
def test_blocks_keep_type_layout_and_gradient(dtype):
    maps = torch.randint(100, (2, 331, 401, 3), generator=torch.Generator().manual_seed(0)).to(dtype).movedim(-1, -3)
    rows = torch.arange(331)[:, None].to(dtype)
    calls = []

    def convert(maps, rows):
        calls.append(maps.shape[-2])
        return maps + rows // 3

    whole = color.in_blocks(convert, maps, rows)
    assert whole.dtype == dtype and torch.equal(whole, maps + rows // 3) and whole.stride() == maps.stride()
    assert (max(calls) < 331) == (dtype != torch.bfloat16)  # which numpy has not
    leaf = torch.ones(3, 331, 401, requires_grad=True)
    color.in_blocks(convert, leaf, rows).sum().backward()
    assert torch.equal(leaf.grad, torch.ones_like(leaf))


@pytest.mark.parametrize("shape", [(5, 7, 3), (2, 5, 7, 3), (4, 2, 5, 7, 3), (0, 5, 7, 3)])
def test_arrays_become_tensors_and_come_back(shape):
    images = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    images.flags.writeable = False
    rgb = color.to_tensor(images)
    assert rgb.shape == (*shape[:-3], 3, 5, 7) and rgb.dtype == torch.float32
    assert np.array_equal(np.moveaxis(rgb.numpy(), -3, -1), images.astype(np.float32) / 255)
    back = color.to_uint8(rgb)
    assert back.dtype == np.uint8 and back.flags.c_contiguous and np.array_equal(back, images)


def test_bytes_are_rounded_not_cut_off():
    rgb = (torch.tensor([0.4, 0.6, 254.4, 254.6]) / 255).view(1, 1, 4).expand(3, 1, 4)
    before = rgb.clone()
    assert color.to_uint8(rgb)[0, :, 0].tolist() == [0, 1, 254, 255]
    assert torch.equal(rgb, before)  # and what was given stays
