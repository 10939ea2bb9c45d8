"""`ImageBank`: pictures of one size, split into train and test, decoded once into a memory-mapped cache."""

from __future__ import annotations

import hashlib
import json
import os
import warnings
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import PIL
from filelock import FileLock
from tqdm.auto import tqdm

from colorstudy._checks import require
from colorstudy.data import cache
from colorstudy.data.readers import GREY_CHROMA, fit, max_chroma, read

DECODE_VERSION = 1
"""Part of every bank's hash; to be raised whenever `readers` would give other pixels for the same file."""

_SPLITS = ("train", "test")  # also their order in the cache: each split is one slice of it
_SAME = "same content as "
_GREY = "grey"
_QUIET = 200  # files that are decoded without a progress bar
_WORKERS = min(8, os.cpu_count() or 1)


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Pictures `images`, uint8 (n, S, S, 3), read-only, and their `names`."""

    images: np.ndarray
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)


@dataclass(frozen=True, eq=False)
class ImageBank:
    """The colour pictures of one source.

    Attributes
    ----------
    name : str
        What the source is called.
    images : uint8 memory map (N, S, S, 3)
        Read-only; training pictures first.
    names, split : tuples of N str
        Of each picture: its name, relative to the source, and "train" or "test".
    hash : str
        SHA-256 (hex) over names, contents and split of the source files, the size, and the version of the decoding.
    skipped : dict of str
        Why a file was left out, by its name: it cannot be decoded, or repeats another file.
    grey : tuple of str
        Names of the pictures left out because no pixel has a chroma above `readers.GREY_CHROMA`.
    """

    name: str
    images: np.ndarray
    names: tuple[str, ...]
    split: tuple[str, ...]
    hash: str
    skipped: dict[str, str]
    grey: tuple[str, ...]

    @property
    def train(self) -> ImageSet:
        """The training pictures, a view. Raises a ``ValueError`` where the source has none."""
        return self._subset("train")

    @property
    def test(self) -> ImageSet:
        """The test pictures, a view. Raises a ``ValueError`` where the source has none."""
        return self._subset("test")

    def summary(self) -> dict[str, str | int]:
        """Name, hash, size in pixels, and the number of pictures in each split, of grey ones, and of skipped files."""
        return {
            "name": self.name,
            "hash": self.hash,
            "size": self.images.shape[1],
            **{split: self.split.count(split) for split in _SPLITS},
            "grey": len(self.grey),
            "skipped": len(self.skipped),
        }

    def only(self, names: Collection[str]) -> ImageBank:
        """The pictures called `names` as a bank of its own, in the order of this one.

        Raises a ``ValueError`` if `names` is empty, or one is none of this bank.
        """
        wanted, known = set(names), set(self.names)
        require(bool(wanted) and wanted <= known, "names", f"some of the {len(known)} pictures of {self.name}",
                repr(next(iter(wanted - known), "none")))  # fmt: skip
        kept = [i for i, name in enumerate(self.names) if name in wanted]
        chosen, split = (tuple(column[i] for i in kept) for column in (self.names, self.split))
        digest = hashlib.sha256(json.dumps([self.hash, chosen]).encode()).hexdigest()
        return ImageBank(self.name, self.images[kept], chosen, split, digest, {}, ())

    def _subset(self, split: str) -> ImageSet:
        count = self.split.count(split)
        require(count > 0, self.name, f"at least one {split} picture", f"none among {len(self.names)}")
        start = self.split.index(split)
        return ImageSet(self.images[start : start + count], self.names[start : start + count])


def build(
    name: str,
    sources: Iterable[tuple[str, str | os.PathLike, str | float]],
    size: int,
    cache_dir: str | os.PathLike | None = None,
) -> ImageBank:
    """The bank of `sources`, out of the cache where it is there and intact, decoded otherwise.

    Parameters
    ----------
    name : str
        What the bank and its files are called.
    sources : iterable of (name, path, split)
        Names are unique and relative, with forward slashes. A split is "train", "test", or the probability of "test":
        a file's content then decides, so that adding or renaming a file moves no other. A file that repeats the content
        of an earlier one is skipped.
    size : int
        Side of the pictures in pixels: the centre square of each file, resized.
    cache_dir : path, optional
        `cache.default_cache_dir` unless given.

    Warns
    -----
    UserWarning
        Naming the files that cannot be decoded; they are left out.

    Raises
    ------
    ValueError
        If an argument is wrong, no picture in colour can be decoded, or a split that was asked for ends up empty.
    OSError
        If the cache cannot be written.
    """
    sources = list(sources)
    require(isinstance(size, int) and size > 0, "size", "a positive integer", repr(size))
    require(len(sources) > 0, "sources", "at least one file", "none")
    require(len({source[0] for source in sources}) == len(sources), "sources", "unique names", "some name twice")
    entries, skipped = _identify(sources)
    identity = [DECODE_VERSION, size, [[entry.name, entry.split, entry.sha256] for entry in entries], skipped]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    cache_dir = Path(cache_dir).expanduser() if cache_dir is not None else cache.default_cache_dir()
    stem = cache_dir / f"{name}-{size}-{digest[:12]}"
    # Another Pillow may decode what this one cannot, or to other pixels.
    origin = {"hash": digest, "pillow": PIL.__version__}

    cached = cache.load(stem, origin)  # before the lock, so that a read-only cache serves too
    if cached is None:
        try:
            cache_dir.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{stem}.lock"):
                cached = cache.load(stem, origin)  # another process may have built it while this one waited
                if cached is None:
                    record = origin | {"version": DECODE_VERSION, "names": [], "split": [], "grey": []}
                    record |= {"skipped": skipped, "sources": {entry.name: entry.sha256 for entry in entries}}
                    cache.store(stem, _colourful(name, entries, size, record), len(entries), size, record)
                    cached = cache.load(stem, origin)
        except OSError as error:
            expected = "a folder that can be written (COLORSTUDY_CACHE sets the default)"
            raise OSError(f"cache_dir: expected {expected}, got {cache_dir}: {error}") from error
        if cached is None:
            raise OSError(f"cache_dir: expected to read back what was written to {stem}.npy, got other content")
    images, record = cached
    names, split, grey = (tuple(record[key]) for key in ("names", "split", "grey"))

    unreadable = _unreadable(record["skipped"])
    if unreadable:
        warnings.warn(f"{name}: left out {len(unreadable)} unreadable files: {_listed(unreadable)}", stacklevel=2)
    for wanted in _SPLITS:
        asked = any(wish == wanted if isinstance(wish, str) else 0 < wish < 1 for _, _, wish in sources)
        got = f"none among {len(names)} in colour; another share of test pictures or more files would help"
        require(not asked or wanted in split, name, f"at least one {wanted} picture", got)
    return ImageBank(name, images, names, split, digest, record["skipped"], grey)


class _Entry(NamedTuple):
    name: str
    path: Path
    split: str
    sha256: str


def _identify(sources: list[tuple]) -> tuple[list[_Entry], dict[str, str]]:
    """Hash, split and deduplicate the source files, training files first; also why some are out already."""
    entries, skipped, first = [], {}, {}  # first: the first name of each content
    with ThreadPoolExecutor(_WORKERS) as pool:
        digests = pool.map(_try_sha256, [path for _, path, _ in sources])
        for (name, path, split), (digest, reason) in zip(sources, digests, strict=True):
            if digest is None:
                skipped[name] = reason
            elif digest in first:
                skipped[name] = _SAME + first[digest]
            else:
                first[digest] = name
                entries.append(_Entry(name, Path(path), _resolve(split, digest), digest))
    return sorted(entries, key=lambda entry: _SPLITS.index(entry.split)), skipped  # stable: in order within a split


def _resolve(split: str | float, digest: str) -> str:
    """The split itself, or the one that the content falls into, its hash read as a number in [0, 1)."""
    valid = split in _SPLITS if isinstance(split, str) else 0 <= split <= 1
    require(valid, "split", f"one of {_SPLITS} or a probability", repr(split))
    if isinstance(split, str):
        return split
    return "test" if int(digest[:12], 16) / 16**12 < split else "train"


def _colourful(name: str, entries: list[_Entry], size: int, record: dict) -> Iterator[np.ndarray]:
    """The pictures of `entries` that are in colour, (size, size, 3) each; `record` takes the fate of every file."""
    with ThreadPoolExecutor(_WORKERS) as pool:
        decoded = pool.map(lambda entry: _decode(entry.path, size), entries)
        progress = tqdm(decoded, f"decoding {name}", len(entries), unit="file", disable=len(entries) <= _QUIET)
        for entry, (pixels, reason) in zip(entries, progress, strict=True):
            if pixels is None and reason == _GREY:
                record["grey"].append(entry.name)
            elif pixels is None:
                record["skipped"][entry.name] = reason
            else:
                record["names"].append(entry.name)
                record["split"].append(entry.split)
                yield pixels
    unreadable = _unreadable(record["skipped"])
    got = f"{len(record['grey'])} grey and {len(unreadable)} unreadable files"
    got += f": {_listed(unreadable, 3)}" if unreadable else ""
    require(len(record["names"]) > 0, name, "at least one picture in colour", got)


def _decode(path: Path, size: int) -> tuple[np.ndarray | None, str]:
    """The pixels (size, size, 3) of a file and "", or None and why it is left out."""
    try:
        pixels = fit(read(path), size)
    except (OSError, ValueError) as error:
        return None, str(error).removeprefix(f"{path}: ")
    return (None, _GREY) if max_chroma(pixels) <= GREY_CHROMA else (pixels, "")


def _try_sha256(path: str | os.PathLike) -> tuple[str | None, str]:
    try:
        return cache.sha256(path), ""
    except OSError as error:
        return None, f"expected a file that can be read, got {error.strerror}"


def _unreadable(skipped: dict[str, str]) -> dict[str, str]:
    return {name: reason for name, reason in skipped.items() if not reason.startswith(_SAME)}


def _listed(reasons: dict[str, str], most: int = 20) -> str:
    """The first `most` names with their reasons, and how many more there are."""
    listed = "; ".join(f"{name} ({reason})" for name, reason in list(reasons.items())[:most])
    return listed + (f"; and {len(reasons) - most} more" if len(reasons) > most else "")
