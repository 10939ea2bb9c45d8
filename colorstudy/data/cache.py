"""Decoded pictures on disk: one ``.npy`` file and a ``.json`` sidecar.

Both are renamed into place when complete, the sidecar last, so a reader sees a whole cache or none.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from colorstudy._checks import require
from colorstudy._files import replacing, write_text

_log = logging.getLogger(__name__)


def default_cache_dir() -> Path:
    """``$COLORSTUDY_CACHE``, else ``colorstudy`` in ``$XDG_CACHE_HOME``, else in ``~/.cache``."""
    if os.environ.get("COLORSTUDY_CACHE"):
        return Path(os.environ["COLORSTUDY_CACHE"]).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "colorstudy"


def sha256(path: str | os.PathLike) -> str:
    """The SHA-256 of a file's content, in hex."""
    return checksum(path, "sha256")


def checksum(path: str | os.PathLike, algorithm: str) -> str:
    """The checksum of a file's content by an algorithm of `hashlib`, in hex."""
    digest = hashlib.new(algorithm, usedforsecurity=False)
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def store(stem: Path, pictures: Iterable[np.ndarray], most: int, size: int, record: dict) -> None:
    """Write ``<stem>.npy`` and ``<stem>.json``.

    Parameters
    ----------
    stem : path
    pictures : iterable of at most `most` uint8 arrays (size, size, 3)
        Written as they come, so that they need not fit into memory together.
    record : dict
        What `load` gives back with the pictures, JSON; `pictures` may still fill it while it is iterated over.
    """
    array = Path(f"{stem}.npy")
    with replacing(array) as temporary:
        with open(temporary, "wb") as file:
            _write_header(file, (most, size, size, 3))
            count = sum(1 for picture in pictures if file.write(picture.tobytes()))
            # numpy pads headers so that the first axis can be rewritten in place once it is known.
            file.seek(0)
            _write_header(file, (count, size, size, 3))
        record = record | {"shape": [count, size, size, 3], "sha256": sha256(temporary)}
    write_text(f"{stem}.json", json.dumps(record, indent=1))  # ASCII: file names may hold bytes that are no UTF-8


def load(stem: Path, expected: dict) -> tuple[np.ndarray, dict] | None:
    """The pictures, a read-only uint8 memory map (N, S, S, 3), and their record; None if they are absent or damaged.

    Parameters
    ----------
    stem : path
    expected : dict
        Items that the record has to hold.
    """
    array, sidecar = Path(f"{stem}.npy"), Path(f"{stem}.json")
    if not array.exists() and not sidecar.exists():
        return None
    try:
        record = json.loads(sidecar.read_text())
        pictures = np.load(array, mmap_mode="r")
        expected = expected | {"shape": list(pictures.shape), "sha256": sha256(array)}
        found = {key: record[key] for key in expected}
        require(found == expected, sidecar.name, str(expected), found)
        return pictures, record
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        _log.warning("cache %s is damaged and will be rebuilt: %s", array, error)
        return None


def _write_header(file, shape: tuple[int, ...]) -> None:
    np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
