"""Pictures: embedded photographs, any folder, published sets; their decoded cache, and batches to train on."""

import os
from pathlib import Path
from typing import Any

from colorstudy._checks import require, resolve
from colorstudy.data.bank import ImageBank, Stream
from colorstudy.data.batches import batch
from colorstudy.data.build import folder
from colorstudy.data.photos import legacy_photos, photos
from colorstudy.data.published import ARCHIVES, published
from colorstudy.data.readers import pictures_below, read

__all__ = ["ImageBank", "Stream", "batch", "folder", "legacy_photos", "load", "load_bank", "photos",
           "pictures_below", "published", "read"]  # fmt: skip


def load(source: str | os.PathLike, **options: Any) -> ImageBank | Stream:
    """The bank of a source, with the `options` of its function.

    `source` is "photos" (those embedded), "cifar10", "stl10" or "bsds500" (see `published`), the path of a folder of
    pictures (one called photos is ``"./photos"``), or "package.module:function" of what gives a bank or a stream.
    """
    known = ["photos", *ARCHIVES]
    if source not in known and Path(source).expanduser().is_dir():
        return folder(source, **options)
    if ":" in str(source):
        return resolve(str(source), "source")(**options)
    require(source in known, "source", f"one of {known} or the path of a folder of pictures", repr(str(source)))
    return photos(**options) if source == "photos" else published(str(source), **options)


def load_bank(source: str | os.PathLike, **options: Any) -> ImageBank:
    """What `load` gives, if it has pictures to test on; a ``ValueError`` if it is a stream."""
    bank = load(source, **options)
    if not isinstance(bank, ImageBank):
        raise ValueError(f"source: expected pictures, got the stream {bank.name!r}, which is for training alone")
    return bank
