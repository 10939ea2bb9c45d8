"""Any folder of pictures as a bank."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

from colorstudy._checks import require
from colorstudy.data.bank import ImageBank, build
from colorstudy.data.readers import EXTENSIONS


def folder(
    path: str | os.PathLike, size: int = 128, test_fraction: float = 0.2, cache_dir: str | os.PathLike | None = None
) -> ImageBank:
    """The pictures under a folder, at any depth, as a bank called like the folder.

    Each picture's content decides its split, so adding, removing or renaming a file moves no other. Files with another
    extension than `readers.EXTENSIONS` and hidden ones (thumbnails, checkpoints) are ignored.

    Parameters
    ----------
    path : path
    size : int
        Side of the pictures in pixels.
    test_fraction : float in [0, 1]
        Probability that a picture is for testing; 0 and 1 leave a split empty on purpose.
    cache_dir : path, optional
        Where the decoded pictures go; see `cache.default_cache_dir`.

    Raises
    ------
    ValueError
        If `path` is no folder, holds no usable picture, or one of the splits ends up empty; see `bank.build`.
    """
    root = Path(path).expanduser()
    require(root.is_dir(), "path", "a folder", f"{path}, which is {'a file' if root.exists() else 'missing'}")
    require(0 <= test_fraction <= 1, "test_fraction", "a number in [0, 1]", test_fraction)
    names = pictures_below(root)
    require(len(names) > 0, "path", f"a folder with {', '.join(EXTENSIONS)} files", f"{path}, which has none")
    sources = [(name, root / name, float(test_fraction)) for name in names]
    return build(root.resolve().name or "folder", sources, size, cache_dir)


def pictures_below(root: Path) -> list[str]:
    """The sorted names of the image files under `root`, each folder once: links are followed and may go in circles."""
    names, seen = [], set()
    for base, folders, files in os.walk(root, followlinks=True, onerror=_report):
        real = os.path.realpath(base)
        folders[:] = sorted(name for name in folders if not name.startswith(".")) if real not in seen else []
        if real not in seen:
            seen.add(real)
            names += [
                (Path(base) / name).relative_to(root).as_posix()
                for name in files
                if not name.startswith(".") and name.lower().endswith(EXTENSIONS)
            ]
    return sorted(names)


def _report(error: OSError) -> None:
    warnings.warn(f"left out a folder that cannot be listed: {error}", stacklevel=2)
