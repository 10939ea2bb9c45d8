"""Training batches as a pure function of (seed, step): a resumed run needs no sampler, and processes share a batch."""

import math
from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from colorstudy._checks import require, require_choice
from colorstudy.methods import AUGMENTATIONS

NOISE = (0.02, 0.05, 0.1)  # standard deviations of the three noise views, of values in [0, 1]; assumed
RELEASED_NOISE = (0.0255, 0.051, 0.0765)  # theirs: 1, 2 and 3e-4 of a luminance that was divided by 255 too often
_WINDOW = 0.7  # side of their windows, in sides of the picture
_CROPS, _ORDER, _VIEWS = range(3)  # the streams of random numbers under one seed


def batch(
    images: np.ndarray,
    step: int,
    *,
    augmentation: str,
    batch_size: int,
    crop: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    device: str | torch.device = "cpu",
) -> torch.Tensor:
    """What this process trains on in one step: float32 sRGB (batch_size // world_size, 3, crop, crop) in [0, 1].

    `images` is uint8 (N, S, S, 3). Process `rank` gets the `rank`-th of `world_size` slices of a batch. Every epoch
    visits each picture once, in a new order; a batch may reach into the next. `augmentation` is "none", whole pictures;
    "crops", windows of a side that the batch shares, uniform in [crop, S], at corners and with flips of their own; or
    "views", one of seven of each picture: whole, mirrored, with noise of three strengths (`NOISE`), or two windows of
    side `crop`. That Billaut et al. 2018 feed seven views, three of them noisy, is known, all else assumed.
    "views-released" are those of their code: noise uniform in [0, `RELEASED_NOISE`), of luminance alone, and windows of
    .7 of the side, which we shrink as the rest, where they pad them and mask the loss.
    """
    require_choice(augmentation, AUGMENTATIONS, "augmentation")
    shape, dtype = np.shape(images), getattr(images, "dtype", type(images).__name__)
    square = len(shape) == 4 and shape[0] > 0 and shape[1] == shape[2] and shape[3] == 3
    require(square and dtype == np.uint8, "images", "uint8 (N, S, S, 3) with N > 0", f"{dtype} {shape}")
    require(0 < crop <= shape[1], "crop", f"in [1, {shape[1]}], the side of the pictures", crop)
    require(world_size > 0 and 0 <= rank < world_size, "rank", f"in [0, world_size = {world_size})", rank)
    shared = batch_size > 0 and batch_size % world_size == 0
    require(shared, "batch_size", f"a positive multiple of world_size = {world_size}", batch_size)
    whole = windows(images, step, batch_size, crop, seed, rank, world_size, augmentation == "crops").to(device)
    rgb = to_float(whole, crop)
    if not augmentation.startswith("views"):
        return rgb
    generator = _generator(seed, _VIEWS, step)
    kinds = torch.randint(7, (batch_size,), generator=generator)  # all numbers of the global batch, as in `windows`
    ours = augmentation == "views"
    side = crop if ours else int(_WINDOW * whole.shape[-1]) or 1
    corners = torch.randint(whole.shape[-1] - side + 1, (batch_size, 2), generator=generator)
    draw, channels, strengths = (torch.randn, 3, NOISE) if ours else (torch.rand, 1, RELEASED_NOISE)
    noise = draw((batch_size, channels, crop, crop), generator=generator)  # luminance adds alike to R, G and B
    mine = slice(rank * len(rgb), (rank + 1) * len(rgb))
    divisor = 255 if augmentation == "views-divided-twice" else 1
    for i, (kind, (top, left)) in enumerate(zip(kinds[mine].tolist(), corners[mine].tolist())):
        if kind == 1:
            rgb[i] = rgb[i].flip(-1)
        elif 2 <= kind <= 4:
            rgb[i] = (rgb[i] + strengths[kind - 2] * noise[mine][i].to(device)).clamp(0, 1) / divisor
        elif kind >= 5:
            rgb[i] = to_float(whole[i : i + 1, :, top : top + side, left : left + side], crop)[0]
    return rgb


def windows(
    images: np.ndarray, step: int, batch_size: int, crop: int, seed: int, rank: int, world_size: int, augment: bool
) -> torch.Tensor:
    """This process's windows, uint8 (batch_size // world_size, 3, c, c), c in [crop, S]; whole unless `augment`."""
    images = np.asarray(images)  # a slice of a memory map is slow to make
    count, side = images.shape[:2]
    # All numbers of the global batch are drawn before this process takes its slice.
    generator = _generator(seed, _CROPS, step)
    window = int(torch.randint(crop, side + 1, (), generator=generator)) if augment else side
    corners = torch.randint(side - window + 1, (batch_size, 2), generator=generator).tolist()
    flips = (torch.rand(batch_size, generator=generator) < 0.5).tolist()
    batch = np.empty((batch_size // world_size, 3, window, window), np.uint8)
    for i, row in enumerate(batch, rank * len(batch)):
        epoch, position = divmod(step * batch_size + i, count)
        top, left = corners[i]
        picture = images[_order(seed, epoch, count)[position], top : top + window, left : left + window]  # (c, c, 3)
        row[:] = (picture[:, ::-1] if augment and flips[i] else picture).transpose(2, 0, 1)
    return torch.from_numpy(batch)


def to_float(batch: torch.Tensor, size: int) -> torch.Tensor:
    """uint8 (B, 3, c, c) as float32 sRGB (B, 3, size, size) in [0, 1]; floats were divided by 255 already."""
    require(batch.dtype == torch.uint8, "batch", "uint8 (B, 3, c, c)", f"{batch.dtype} {tuple(batch.shape)}")
    rgb = batch.float()
    if rgb.shape[-1] != size:  # the triangle filter has no negative weights, so nothing overshoots but by rounding
        rgb = F.interpolate(rgb, (size, size), mode="bilinear", antialias=True)
    return rgb.div_(255).clamp_(0, 1)


def working_size(side: int, crop: int, augmentation: str = "crops") -> int:
    """The mean size of pictures of `side` in training: at another, networks do worse (Touvron et al. 2019)."""
    if augmentation.startswith("views"):  # two are windows, which are not shrunk, or as the rest
        return round((5 * crop + 2 * (side if augmentation == "views" else crop / _WINDOW)) / 7)
    if augmentation == "none" or side == crop:
        return crop
    return round(side * math.log(side / crop) / (side / crop - 1))  # uniform windows, shrunk by crop / window


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    """The order in which an epoch visits `count` pictures."""
    return torch.randperm(count, generator=_generator(seed, _ORDER, epoch)).tolist()


def _generator(*key: int) -> torch.Generator:
    """A generator for each tuple of non-negative integers; `SeedSequence` mixes them the same way everywhere."""
    return torch.Generator().manual_seed(int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0]))
