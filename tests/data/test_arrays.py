"""Whatever users have a picture in, and what they get back."""

import numpy as np
import pytest
import torch
from PIL import Image

from colorstudy.data import read
from colorstudy.data.arrays import as_batch

H, W = 6, 9
RGB = np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)
RGBA = np.random.default_rng(1).integers(0, 256, (H, W, 4), np.uint8)


def tensor(hwc):
    """uint8 (H, W, C) -> float32 (C, H, W) in [0, 1]."""
    return torch.from_numpy(hwc.astype(np.float32) / 255).permute(2, 0, 1)


COLORED = tensor(RGB[::-1])[None]  # stands for what a network made, on the grid of 8 bits


def equal(a, b):
    return type(a) is type(b) and a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


# --- kinds ---


@pytest.mark.parametrize("kind", ["path", "str", "PIL", "array"])
def test_files_pillow_images_and_bytes_give_an_array(tmp_path, kind):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    given = {"path": tmp_path / "a.png", "str": str(tmp_path / "a.png"), "PIL": Image.fromarray(RGB), "array": RGB}
    rgb, restore = as_batch(given[kind])
    assert equal(rgb, torch.from_numpy(RGB).permute(2, 0, 1)[None])
    assert equal(restore(COLORED), np.ascontiguousarray(RGB[::-1]))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16", "F"])
def test_a_pillow_image_of_any_mode_reads_as_its_file(tmp_path, mode):
    image = Image.fromarray(RGBA).convert("L" if mode in ("I;16", "F") else mode)
    if mode == "I;16":
        image = Image.fromarray(np.asarray(image).astype(np.uint16) * 257)
    if mode == "F":
        image = Image.fromarray(np.asarray(image).astype(np.float32) / 255)
    path = tmp_path / ("a.tif" if mode in ("CMYK", "F") else "a.png")
    image.save(path)
    rgb, restore = as_batch(image)
    assert np.array_equal(rgb[0].permute(1, 2, 0).numpy(), read(path))
    assert restore(COLORED).shape == (H, W, 3)


@pytest.mark.parametrize("batch", [0, 1, 3])  # 0: none
@pytest.mark.parametrize("layout", ["HWC", "CHW"])
@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_arrays_and_tensors_come_back_as_they_came(kind, dtype, channels, layout, batch):
    picture = RGBA[..., :channels]
    if dtype != "uint8":
        picture = (picture / 255).astype(dtype)
    laid_out = picture if layout == "HWC" else picture.transpose(2, 0, 1)
    given = kind(np.stack([laid_out] * batch) if batch else laid_out)
    rgb, restore = as_batch(given)
    assert rgb.shape == (max(1, batch), 3, H, W)
    assert rgb.dtype == (torch.uint8 if dtype == "uint8" else torch.float32)
    opaque = np.asarray(Image.alpha_composite(Image.new("RGBA", (W, H), "white"), Image.fromarray(RGBA)))[..., :3]
    seen = {1: RGBA[..., :1].repeat(3, 2), 3: RGBA[..., :3], 4: opaque}[channels]
    gap = rgb[-1].float() / (255 if dtype == "uint8" else 1) - tensor(seen)
    assert gap.abs().max() < (0.5 / 255 if channels == 4 else 1e-6)

    back = restore(COLORED.repeat(max(1, batch), 1, 1, 1))
    expected = RGB[::-1] if layout == "HWC" else RGB[::-1].transpose(2, 0, 1)
    expected = np.stack([expected] * batch) if batch else np.ascontiguousarray(expected)
    expected = expected if dtype == "uint8" else (expected / 255).astype(np.float32)
    expected = expected if kind is np.array else torch.from_numpy(expected)
    assert equal(back, expected)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_grey_without_channels_gets_three_where_its_kind_has_them(kind):
    rgb, restore = as_batch(kind(RGB[..., 0]))
    assert equal(rgb, torch.from_numpy(RGB[..., :1].repeat(3, 2)).permute(2, 0, 1)[None])
    assert restore(COLORED).shape == ((H, W, 3) if kind is np.array else (3, H, W))


def test_where_both_layouts_fit_arrays_end_and_tensors_begin_with_channels():
    pixels = np.zeros((3, 5, 3), np.uint8)
    assert as_batch(pixels)[0].shape == (1, 3, 3, 5)
    assert as_batch(torch.from_numpy(pixels))[0].shape == (1, 3, 5, 3)
    assert as_batch(np.zeros((4, 4, 7), np.uint8))[0].shape == (1, 3, 4, 7)  # channels first after all
    assert as_batch(torch.zeros(2, 7, 6, 4))[0].shape == (2, 3, 7, 6)


def test_transparency_is_laid_over_white_as_in_a_file(tmp_path):
    Image.fromarray(RGBA).save(tmp_path / "a.png")
    assert torch.equal(as_batch(RGBA)[0], as_batch(tmp_path / "a.png")[0])
    clear = torch.tensor([0.2, 0.4, 0.6, 0.0])[:, None, None].expand(4, 2, 2)
    assert torch.equal(as_batch(clear)[0], torch.ones(1, 3, 2, 2))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_floats_of_any_size_become_float32(dtype):
    rgb, restore = as_batch(torch.full((1, 3, 4, 4), 0.5, dtype=dtype))
    assert rgb.dtype == torch.float32 and restore(rgb).dtype == torch.float32


def test_strange_memory_is_no_matter():
    flipped = RGB[::-1, :, ::-1]
    assert np.array_equal(as_batch(flipped)[0][0].permute(1, 2, 0).numpy(), flipped)
    frozen = RGB.copy()
    frozen.flags.writeable = False
    assert as_batch(frozen)[0].shape == (1, 3, H, W)
    assert torch.equal(as_batch((RGB / 255).astype(">f8"))[0][0], tensor(RGB))


def test_what_was_given_is_never_written_to():
    array, image = RGB.copy(), torch.full((1, 3, 4, 4), -0.0005)
    rgb, restore = as_batch(array)
    restore(rgb.float() / 255)
    rgb.add_(1)
    assert np.array_equal(array, RGB)
    assert as_batch(image)[0].min() == 0 and image.min() < 0
    colored = COLORED.clone()
    restore(colored)
    assert torch.equal(colored, COLORED)


@pytest.mark.parametrize("kind", [np.array, torch.tensor])
def test_bytes_are_restored_as_they_are(kind):
    _, restore = as_batch(kind(RGB))
    colored = torch.from_numpy(RGB[::-1].copy()).movedim(-1, 0)[None]
    assert equal(restore(colored), restore(colored / 255)) and equal(restore(colored), kind(RGB[::-1].copy()))


# --- what is refused ---


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize(
    "values, got",
    [
        ([0.0, 255.0], r"\[0, 255\]; divide by 255"),
        ([0.5, 1.01], r"\[0.5, 1.01\]; divide by 255"),
        ([-0.2, 0.5], r"\[-0.2, 0.5\]$"),
        ([0.5, float("nan")], r"\[nan, nan\]"),
        ([0.5, float("inf")], r"\[0.5, inf\]"),
    ],
)
def test_values_out_of_range_are_named(kind, values, got):
    with pytest.raises(ValueError, match=r"^image: expected values in \[0, 1\], got " + got):
        as_batch(kind(np.full((2, 2, 3), values[0], np.float32) + np.float32([values[1] - values[0], 0, 0])))


def test_rounding_errors_pass():
    rgb, _ = as_batch(np.array([[[-0.0009, 0.5, 1.0009]]]))
    assert rgb.flatten().tolist() == [0, 0.5, 1]


@pytest.mark.parametrize(
    "shape",
    [(), (5,), (2, 16, 16), (16, 16, 2), (5, 6, 7), (2, 5, 6, 7), (1, 1, 3, 4, 4), (0, 4, 3), (0, 3, 4, 4), (0,)],
)
@pytest.mark.parametrize("kind", [np.zeros, torch.zeros])
def test_other_shapes_are_named(kind, shape):
    with pytest.raises(ValueError, match=r"^image: expected \(H, W\), \(H, W, C\) or \(C, H, W\) .*, got \("):
        as_batch(kind(shape))


@pytest.mark.parametrize(
    "image, got",
    [
        (5, "int"),
        (None, "NoneType"),
        ([RGB], "list"),
        (b"bytes", "bytes"),
        (RGB.astype(np.uint16), "ndarray of uint16, not uint8 or floats"),
        (RGB > 9, "ndarray of bool"),
        (RGB.astype(complex), "ndarray of complex128"),
        (RGB.astype(object), "ndarray of object"),
        (torch.zeros(3, 4, 4, dtype=torch.int64), "Tensor of torch.int64"),
    ],
)
def test_other_kinds_are_named(image, got):
    with pytest.raises(TypeError, match=f"^image: expected a path, a PIL image, an array or a tensor, got {got}"):
        as_batch(image)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.png"):
        as_batch(tmp_path / "missing.png")
