"""Random crops as a pure function of (seed, step).

Nothing is carried from step to step, so a resumed run needs no state of a sampler, and any number of processes cut the
same global batch.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch
from torch.nn import functional as F

from colorstudy._checks import require

AUGMENTATIONS = ("none", "crops", "views")
"""How training may show a picture: see `batch`."""

NOISE = (0.02, 0.05, 0.1)
"""Standard deviations of the three noise views, of values in [0, 1]."""

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
    divided_twice: bool = False,
) -> torch.Tensor:
    """What this process trains on in one step.

    Parameters
    ----------
    images, step, batch_size, crop, seed, rank, world_size
        As of `crops`.
    augmentation : {"none", "crops", "views"}
        Whole pictures; random windows and flips of them (`crops`); or one of seven views of each, drawn for it: whole,
        mirrored, whole with noise of three strengths, or one of two windows of side `crop` at random places. That
        Billaut et al. 2018 feed seven views, three of them noisy, is known; the other four, the strengths (`NOISE`) and
        the side are assumed.
    device : str or torch.device
    divided_twice : bool
        Reproduces a defect of their released code: noise views are divided by 255 once more.

    Returns
    -------
    float32 tensor (batch_size // world_size, 3, crop, crop)
        sRGB in [0, 1], on `device`.

    Raises
    ------
    ValueError
        As `crops`, or if there is no such augmentation.
    """
    require(augmentation in AUGMENTATIONS, "augmentation", f"one of {AUGMENTATIONS}", repr(augmentation))
    share = {"batch_size": batch_size, "crop": crop, "seed": seed, "rank": rank, "world_size": world_size}
    whole = crops(images, step, **share, augment=augmentation == "crops").to(device)
    rgb = to_float(whole, crop)
    if augmentation != "views":
        return rgb
    # Again all numbers of the global batch, then this process's slice.
    generator = _generator(seed, _VIEWS, step)
    kinds = torch.randint(7, (batch_size,), generator=generator)
    corners = torch.randint(whole.shape[-1] - crop + 1, (batch_size, 2), generator=generator)
    noise = torch.randn((batch_size, 3, crop, crop), generator=generator)
    mine = slice(rank * len(rgb), (rank + 1) * len(rgb))
    for i, (kind, (top, left)) in enumerate(zip(kinds[mine].tolist(), corners[mine].tolist())):
        if kind == 1:
            rgb[i] = rgb[i].flip(-1)
        elif 2 <= kind <= 4:
            rgb[i] = (rgb[i] + NOISE[kind - 2] * noise[mine][i].to(device)).clamp(0, 1) / (255 if divided_twice else 1)
        elif kind >= 5:
            rgb[i] = to_float(whole[i : i + 1, :, top : top + crop, left : left + crop], crop)[0]
    return rgb


def crops(
    images: np.ndarray,
    step: int,
    *,
    batch_size: int,
    crop: int,
    seed: int,
    rank: int = 0,
    world_size: int = 1,
    augment: bool = True,
) -> torch.Tensor:
    """This process's share of the batch of one training step.

    Every epoch visits each picture once, in a new order; a batch may reach into the next epoch. The side of the window,
    uniform in [crop, S], is common to the batch; its corner and a horizontal flip are each picture's own.

    Parameters
    ----------
    images : uint8 array (N, S, S, 3)
        For instance ``bank.train.images``.
    step : int
        Counted from 0.
    batch_size : int
        Of all processes together: process `rank` of `world_size` gets the `rank`-th of equal slices.
    crop : int
        Smallest side of the window in pixels, at most S.
    seed : int
        At least 0.
    augment : bool
        False gives the whole pictures in the same order, neither cropped nor flipped.

    Returns
    -------
    uint8 tensor (batch_size // world_size, 3, c, c), c in [crop, S]
        For `to_float`.

    Raises
    ------
    ValueError
        If an argument is out of its range or `images` is empty or of another shape or type.
    """
    shape = np.shape(images)
    square = len(shape) == 4 and shape[0] > 0 and shape[1] == shape[2] and shape[3] == 3
    dtype = getattr(images, "dtype", type(images).__name__)
    require(square and dtype == np.uint8, "images", "uint8 (N, S, S, 3) with N > 0", f"{dtype} {shape}")
    require(step >= 0, "step", "at least 0", step)
    require(seed >= 0, "seed", "at least 0", seed)
    require(world_size > 0 and 0 <= rank < world_size, "rank", f"in [0, world_size = {world_size})", rank)
    shared = batch_size > 0 and batch_size % world_size == 0
    require(shared, "batch_size", f"a positive multiple of world_size = {world_size}", batch_size)
    count, side = shape[:2]
    require(0 < crop <= side, "crop", f"in [1, {side}], the side of the pictures", crop)

    # All numbers of the global batch are drawn before this process takes its slice.
    generator = _generator(seed, _CROPS, step)
    window = side if not augment else int(torch.randint(crop, side + 1, (), generator=generator))
    corners = torch.randint(side - window + 1, (batch_size, 2), generator=generator).tolist()
    flips = (torch.rand(batch_size, generator=generator) < 0.5).tolist()

    local = batch_size // world_size
    batch = np.empty((local, 3, window, window), np.uint8)
    for row, i in zip(batch, range(rank * local, (rank + 1) * local), strict=True):
        epoch, position = divmod(step * batch_size + i, count)
        top, left = corners[i]
        picture = images[_order(seed, epoch, count)[position], top : top + window, left : left + window]  # (c, c, 3)
        row[:] = (picture[:, ::-1] if augment and flips[i] else picture).transpose(2, 0, 1)
    return torch.from_numpy(batch)


def to_float(batch: torch.Tensor, size: int) -> torch.Tensor:
    """A batch of `crops`, uint8 (B, 3, c, c), as float32 sRGB (B, 3, size, size) in [0, 1], on the batch's device.

    Raises
    ------
    ValueError
        If `batch` has another shape or type: one that is floating-point already was divided by 255 already.
    """
    shape = tuple(batch.shape)
    require(batch.ndim == 4 and shape[1] == 3 and batch.dtype == torch.uint8, "batch", "uint8 (B, 3, c, c)",
            f"{batch.dtype} {shape}")  # fmt: skip
    require(size > 0, "size", "at least 1", size)
    rgb = batch.float().div_(255)
    if shape[-2:] == (size, size):
        return rgb
    # The triangle filter has no negative weights, so nothing overshoots but by rounding.
    return F.interpolate(rgb, (size, size), mode="bilinear", antialias=True).clamp_(0, 1)


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, count: int) -> list[int]:
    """The order in which an epoch visits `count` pictures."""
    return torch.randperm(count, generator=_generator(seed, _ORDER, epoch)).tolist()


def _generator(*key: int) -> torch.Generator:
    """A generator for each tuple of non-negative integers; `SeedSequence` mixes them the same way everywhere."""
    state = np.random.SeedSequence(key).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(state))
