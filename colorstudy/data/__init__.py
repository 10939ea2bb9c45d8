"""Pictures: sources (embedded photographs, any folder), their decoded cache, and the crops to train on."""

from __future__ import annotations

import os
from pathlib import Path

from colorstudy._checks import require
from colorstudy.data.bank import ImageBank, ImageSet
from colorstudy.data.batches import batch, crops, to_float
from colorstudy.data.folder import folder
from colorstudy.data.photos import legacy_photos, photos
from colorstudy.data.readers import read

__all__ = ["ImageBank", "ImageSet", "batch", "crops", "folder", "legacy_photos", "load", "photos", "read", "to_float"]


def load(source: str | os.PathLike, **options) -> ImageBank:
    """The bank of a source.

    Parameters
    ----------
    source : "photos" or path
        The embedded photographs, or a folder of pictures (one called photos is ``"./photos"``).
    **options
        Those of `photos` or `folder`.

    Raises
    ------
    ValueError
        If `source` is neither.
    """
    if source == "photos":
        return photos(**options)
    expected = "'photos' or the path of a folder of pictures"
    require(Path(source).expanduser().is_dir(), "source", expected, repr(str(source)))
    return folder(source, **options)
