"""Pictures: embedded photographs, any folder, published sets; their decoded cache, and batches to train on."""

import os
from pathlib import Path
from typing import Any

from colorstudy._checks import require, resolve
from colorstudy.data.bank import ImageBank
from colorstudy.data.batches import batch
from colorstudy.data.build import folder
from colorstudy.data.published import SETS, legacy_photos, photos, published, recognize
from colorstudy.data.readers import pictures_below, read

__all__ = ["ImageBank", "batch", "folder", "legacy_photos", "load", "photos", "pictures_below", "published", "read"]


def load(source: str | os.PathLike, **options: Any) -> ImageBank:
    """The bank of a source, with the `options` of its function.

    `source` is "photos" (those embedded), a published set such as "photos16k" (see `published`), the path of a folder
    of pictures (one called photos is ``"./photos"``), the path of a published set as a folder or tar file, or
    "package.module:function" of what gives a bank.
    """
    known, path = ["photos", *SETS], Path(source).expanduser()
    if source not in known and (path.is_dir() or path.suffix == ".tar"):
        name = recognize(path)
        require(name is not None or path.is_dir(), "source", f"a tar file of one of {[*SETS]}", f"{path}, of none")
        return published(name, data=path, **options) if name else folder(source, **options)
    if ":" in str(source):
        return resolve(str(source), "source")(**options)
    require(source in known, "source", f"one of {known} or the path of a folder of pictures", repr(str(source)))
    return photos(**options) if source == "photos" else published(str(source), **options)
