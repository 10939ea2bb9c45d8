"""Pictures: embedded photographs, any folder, published sets, a made world; their decoded cache, crops to train on."""

from __future__ import annotations

import os
from pathlib import Path

from colorstudy._checks import require
from colorstudy.data.bank import ImageBank, ImageSet
from colorstudy.data.batches import batch, crops, to_float
from colorstudy.data.folder import folder
from colorstudy.data.photos import legacy_photos, photos
from colorstudy.data.published import ARCHIVES, published
from colorstudy.data.readers import read
from colorstudy.data.shards import INDEX, Shards, shards, write_shards
from colorstudy.data.world import world

__all__ = [
    "ImageBank",
    "ImageSet",
    "Shards",
    "batch",
    "crops",
    "folder",
    "legacy_photos",
    "load",
    "photos",
    "published",
    "read",
    "shards",
    "to_float",
    "world",
    "write_shards",
]


def load(source: str | os.PathLike, **options) -> ImageBank | Shards:
    """The bank of a source; for a folder of shards, which is for training alone, the `Shards`.

    Parameters
    ----------
    source : "photos", "world", "cifar10", "stl10", "bsds500" or path
        The embedded photographs, the controlled world, a published set, or a folder of pictures (one called photos is
        ``"./photos"``).
    **options
        Those of `photos`, `world`, `published`, `folder` or `shards`.

    Raises
    ------
    ValueError
        If `source` is neither.
    """
    if source == "photos":
        return photos(**options)
    if source == "world":
        return world(**options)
    if source in ARCHIVES:
        return published(source, **options)
    expected = "'photos' or the path of a folder of pictures"
    require(Path(source).expanduser().is_dir(), "source", expected, repr(str(source)))
    return shards(source, **options) if (Path(source).expanduser() / INDEX).is_file() else folder(source, **options)
