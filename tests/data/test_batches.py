"""Training batches against their definition."""

import time
import warnings
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from colorstudy.color import split
from colorstudy.data.batches import NOISE, RELEASED_NOISE, batch, to_float, windows, working_size


def crops(images, step, *, batch_size, crop, seed, rank=0, world_size=1, augment=True):
    """The windows of a batch, uint8, before they are resized."""
    return windows(images, step, batch_size, crop, seed, rank, world_size, augment)


@pytest.fixture(scope="module")
def coded():
    """20 pictures (20, 16, 16, 3) whose pixels hold (picture, row, column)."""
    return np.stack(np.meshgrid(range(20), range(16), range(16), indexing="ij"), -1).astype(np.uint8)


def test_crops_are_windows_of_their_pictures(coded):
    sides, flips = set(), 0
    # The order is that of the whole pictures.
    whole = crops(coded, 0, batch_size=640, crop=16, seed=3, augment=False)[:, 0, 0, 0].tolist()
    for step in range(80):
        batch = crops(coded, step, batch_size=8, crop=6, seed=3)
        sides.add(batch.shape[-1])
        assert batch.dtype == torch.uint8 and batch.shape[:2] == (8, 3) and batch.shape[2] == batch.shape[3]
        for i, image in enumerate(batch.numpy()):
            index, top, left = int(image[0, 0, 0]), int(image[1, 0, 0]), int(image[2].min())
            side = image.shape[-1]
            window = coded[index, top : top + side, left : left + side].transpose(2, 0, 1)
            flipped = image[2, 0, 0] > image[2, 0, -1]
            assert np.array_equal(image, window[:, :, ::-1] if flipped else window)
            assert index == whole[step * 8 + i]
            flips += flipped
    assert sides == set(range(6, 17)) and 270 < flips < 370  # of 640


def test_every_epoch_visits_each_picture_once_in_a_new_order(coded):
    steps = [crops(coded, step, batch_size=8, crop=6, seed=0)[:, 0, 0, 0] for step in range(10)]
    epochs = torch.cat(steps).view(4, 20).tolist()  # batches of 8 straddle the epochs of 20
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    whole = crops(coded, 0, batch_size=80, crop=6, seed=0)[:, 0, 0, 0]  # one batch may hold several epochs
    assert whole.view(4, 20).tolist() == epochs


def test_crops_depend_on_seed_and_step_only(coded):
    one = crops(coded, 7, batch_size=8, crop=16, seed=1)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what must not matter
    crops(coded, 3, batch_size=4, crop=6, seed=9)
    assert torch.equal(crops(coded, 7, batch_size=8, crop=16, seed=1), one)
    assert not torch.equal(crops(coded, 8, batch_size=8, crop=16, seed=1), one)
    assert not torch.equal(crops(coded, 7, batch_size=8, crop=16, seed=2), one)
    assert not torch.equal(crops(coded, 1, batch_size=8, crop=16, seed=7), one)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_processes_share_the_global_batch(coded, world_size):
    for step in range(5):
        options = {"batch_size": 8, "crop": 6, "seed": 0}
        shares = [crops(coded, step, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
        assert torch.equal(torch.cat(shares), crops(coded, step, **options))


def test_without_augmentation_whole_pictures_come(coded):
    batch = crops(coded, 2, batch_size=8, crop=6, seed=0, augment=False)
    order = crops(coded, 2, batch_size=8, crop=16, seed=0)[:, 0, 0, 0].tolist()  # which are not cropped at 16
    assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), coded[order])


def test_crops_of_read_only_pictures_warn_of_nothing(coded):
    images = coded.copy()
    images.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = crops(images, 0, batch_size=64, crop=16, seed=0)
    batch.zero_()  # and may be written to
    assert np.array_equal(images, coded)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"crop": 17}, r"crop: expected in \[1, 16\], the side of the pictures, got 17"),
        ({"crop": 0}, "crop: expected in"),
        ({"batch_size": 9, "world_size": 2}, "batch_size: expected a positive multiple of world_size = 2, got 9"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"rank": 2, "world_size": 2}, r"rank: expected in \[0, world_size = 2\), got 2"),
        ({"step": -1}, "non-negative"),
        ({"seed": -1}, "non-negative"),
        ({"images": np.zeros((0, 16, 16, 3), np.uint8)}, r"images: expected uint8 \(N, S, S, 3\) with N > 0, got"),
        ({"images": np.zeros((2, 16, 16, 3), np.float32)}, "images: expected uint8.*got float32"),
        ({"images": np.zeros((2, 16, 12, 3), np.uint8)}, "images: expected uint8"),
    ],
)
def test_batch_checks_its_arguments(coded, changes, message):
    with pytest.raises(ValueError, match=message):
        batch(
            **({"images": coded, "step": 0, "batch_size": 8, "crop": 6, "seed": 0, "augmentation": "crops"} | changes)
        )


def test_to_float_divides_once(coded):
    batch = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(to_float(batch, 16), batch.double().div(255).float())
    with pytest.raises(ValueError, match=r"batch: expected uint8 .* got torch.float32"):
        to_float(to_float(batch, 16), 16)


@pytest.mark.parametrize("size", [8, 16, 24])
def test_to_float_resizes_within_the_range(smooth, size):
    batch = torch.from_numpy(smooth[:1, :24, :24]).permute(0, 3, 1, 2)
    rgb = to_float(batch, size)
    assert rgb.shape == (1, 3, size, size) and rgb.dtype == torch.float32
    assert rgb.min() >= 0 and rgb.max() <= 1
    assert (rgb.mean((2, 3)) - batch.double().mean((2, 3)) / 255).abs().max() < 0.01
    checker = (torch.arange(48)[:, None] + torch.arange(48)) % 2 * 255
    flat = to_float(checker.to(torch.uint8).expand(1, 3, 48, 48), size)
    assert (flat - 0.5).abs().max() < 0.07  # antialiased: no checker survives


def test_crops_are_fast():
    images = np.zeros((500, 96, 96, 3), np.uint8)
    start = time.perf_counter()
    for step in range(20):
        crops(images, step, batch_size=64, crop=64, seed=0)
    assert 20 * 64 / (time.perf_counter() - start) > 2000  # usually above 50,000 a second; a loaded machine gets slack


# --- batches as training sees them ---


def test_batch_is_the_crops_or_the_whole_pictures_as_numbers(coded):
    options = {"batch_size": 8, "crop": 6, "seed": 3}
    for augmentation, augment in (("crops", True), ("none", False)):
        rgb = batch(coded, 5, augmentation=augmentation, **options)
        assert torch.equal(rgb, to_float(crops(coded, 5, augment=augment, **options), 6))
    with pytest.raises(ValueError, match=r"augmentation: expected one of \['none', .*\], got 'all'"):
        batch(coded, 5, augmentation="all", **options)


@pytest.fixture(scope="module")
def smooth():
    """Six smooth pictures (6, 32, 32, 3) without symmetry."""
    small = np.random.default_rng(1).integers(30, 226, (6, 5, 5, 3), np.uint8)
    return np.stack([np.array(Image.fromarray(s).resize((32, 32), Image.Resampling.BICUBIC)) for s in small])


def test_views_are_the_seven_and_equally_frequent(smooth):
    """Each view is recognised by what it must equal; the noise by its strength."""
    counts = Counter()
    for step in range(60):
        options = {"batch_size": 12, "crop": 16, "seed": 0}
        whole = crops(smooth, step, **options, augment=False)
        for source, view in zip(whole, batch(smooth, step, augmentation="views", **options)):
            plain = to_float(source[None], 16)[0]
            windows = (source.float() / 255).unfold(1, 16, 1).unfold(2, 16, 1)  # (3, 17, 17, 16, 16)
            if torch.equal(view, plain):
                counts["whole"] += 1
            elif torch.equal(view, plain.flip(-1)):
                counts["mirrored"] += 1
            elif (windows == view[:, None, None]).all(dim=(0, 3, 4)).any():
                counts["window"] += 1
            else:
                strength = (view - plain)[(plain > 0.3) & (plain < 0.7)].std()
                nearest = min(NOISE, key=lambda s: abs(s - strength))
                assert strength == pytest.approx(nearest, rel=0.2)
                counts[f"noise {nearest}"] += 1
    assert set(counts) == {"whole", "mirrored", "window", *(f"noise {s}" for s in NOISE)}
    expected = {name: 720 / 7 * (2 if name == "window" else 1) for name in counts}
    assert all(abs(counts[name] - n) < 4 * n**0.5 for name, n in expected.items()), counts


def test_released_views_have_uniform_noise_on_luminance_alone(smooth):
    """The whole, its mirror, two windows of .7 of the side, and three noises: 255 v rand with v = 1, 2 and 3e-4."""
    assert pytest.approx([255 * v for v in (1e-4, 2e-4, 3e-4)]) == RELEASED_NOISE
    counts, noises = Counter(), {width: [] for width in RELEASED_NOISE}
    for step in range(60):
        options = {"batch_size": 12, "crop": 16, "seed": 0}
        whole = crops(smooth, step, **options, augment=False)
        for source, view in zip(whole, batch(smooth, step, augmentation="views-released", **options)):
            plain = to_float(source[None], 16)[0]
            more = view - plain
            windows = source.unfold(1, 22, 1).unfold(2, 22, 1)  # (3, 11, 11, 22, 22); 22 is .7 of 32
            if torch.equal(view, plain):
                counts["whole"] += 1
            elif torch.equal(view, plain.flip(-1)):
                counts["mirrored"] += 1
            elif more.min() >= 0 and more.max() < RELEASED_NOISE[-1]:
                width = next(w for w in RELEASED_NOISE if more.max() < w)
                counts[f"noise {width}"] += 1
                inside = view.amax(0) < 1  # what the gamut does not clip
                (lightness, chroma), (lightness0, chroma0) = split(view, "yuv"), split(plain, "yuv")
                assert (chroma - chroma0)[:, inside].abs().max() < 1e-6
                noises[width].append((lightness - lightness0)[:, inside].flatten() / 100)
            else:
                rows = windows.permute(1, 2, 0, 3, 4).reshape(-1, 3, 22, 22)
                assert (to_float(rows, 16) == view).all(dim=(1, 2, 3)).any()
                counts["window"] += 1
    expected = {name: 720 / 7 * (2 if name == "window" else 1) for name in counts}
    assert len(counts) == 6 and all(abs(counts[name] - n) < 4 * n**0.5 for name, n in expected.items()), counts
    for width, parts in noises.items():  # uniform from 0 to the width
        drawn = torch.cat(parts) / width
        assert drawn.min() > -1e-4 and drawn.max() < 1 + 1e-4
        assert torch.allclose(torch.histc(drawn, 10, 0, 1) / len(drawn), torch.full((10,), 0.1), atol=0.01)


def test_views_divided_twice_are_nearly_black_in_three_of_seven(smooth):
    options = {"batch_size": 280, "crop": 16, "seed": 0}
    sound, faulty = (
        batch(smooth, 0, augmentation=name, **options) for name in ("views-released", "views-divided-twice")
    )
    black = faulty.amax((1, 2, 3)) < 0.004
    assert 0.3 < black.float().mean() < 0.55
    assert torch.equal(sound[~black], faulty[~black])
    assert torch.allclose(sound[black], faulty[black] * 255, atol=1e-6)
    assert sound.min() >= 0 and sound.max() <= 1 and sound.amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("world_size", [2, 4])
@pytest.mark.parametrize("augmentation", ["views", "views-released"])
def test_processes_share_the_global_views(smooth, world_size, augmentation):
    options = {"augmentation": augmentation, "batch_size": 8, "crop": 12, "seed": 4}
    shares = [batch(smooth, 3, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    assert torch.equal(torch.cat(shares), batch(smooth, 3, **options))


# --- the size of training ---


@pytest.mark.parametrize("side, crop", [(128, 64), (24, 16), (96, 95), (64, 64)])
def test_the_working_size_is_that_of_training_on_average(side, crop):
    windows = np.arange(crop, side + 1)
    assert working_size(side, crop) == pytest.approx((side * crop / windows).mean(), abs=1)
    assert working_size(side, crop, "none") == crop
    assert working_size(side, crop, "views") == round((5 * crop + 2 * side) / 7)
    for augmentation in ("views-released", "views-divided-twice"):
        assert working_size(side, crop, augmentation) == round(crop * (5 + 2 / 0.7) / 7)
