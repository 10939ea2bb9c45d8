"""Files -> `ImageBank`: hashed, split, freed of doubles, and decoded once into a cache, ``.npy`` with ``.json``."""

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import PIL
from filelock import FileLock
from tqdm.auto import tqdm

from colorstudy import _files
from colorstudy._checks import require
from colorstudy.data.bank import SPLITS, ImageBank
from colorstudy.data.readers import EXTENSIONS, GREY, colorful, pictures_below

DECODE_VERSION = 1  # in every bank's hash; to be raised whenever `readers` would give other pixels for the same file
WORKERS = min(8, os.cpu_count() or 1)  # threads that hash and decode files
_SAME = "same content as "
_Path = str | os.PathLike
_Source = tuple[str, _Path, str | float]  # name, path, split
_Cached = tuple[np.ndarray, dict[str, Any]]  # the pictures, and what became of every file


def folder(path: _Path, size: int = 128, test_fraction: float = 0.2, cache_dir: _Path | None = None) -> ImageBank:
    """The pictures below a folder, see `build`; a picture is for testing with probability `test_fraction`."""
    root = Path(path).expanduser()
    require(root.is_dir(), "path", "a folder", f"{path}, which is {'a file' if root.exists() else 'missing'}")
    require(0 <= test_fraction <= 1, "test_fraction", "a number in [0, 1]", test_fraction)
    names = pictures_below(root)
    require(len(names) > 0, "path", f"a folder with {', '.join(EXTENSIONS)} files", f"{path}, which has none")
    sources = [(name, os.path.join(root, name), float(test_fraction)) for name in names]
    return build(root.resolve().name or "folder", sources, size, cache_dir)


def build(name: str, sources: Iterable[_Source], size: int, cache_dir: _Path | None = None) -> ImageBank:
    """The bank `name` of `sources`, out of the cache if it is there and intact, decoded otherwise.

    `sources` are (name, path, split): names are unique and relative, with forward slashes; a split is one of `SPLITS`,
    or the probability of "test", not "train", which the content decides: no file moves another. Centre squares are
    resized to `size` pixels. Files that cannot be decoded are left out with a warning, grey ones and doubles without. A
    ``ValueError`` if a split that was asked for is empty; an ``OSError`` if `cache_dir` cannot be written. Files of the
    cache and of `sources` that have the size and times of last time are not read again.
    """
    sources = list(sources)
    require(isinstance(size, int) and size > 0, "size", "a positive integer", repr(size))
    require(len(sources) > 0, "sources", "at least one file", "none")
    require(len({source[0] for source in sources}) == len(sources), "sources", "unique names", "some name twice")
    memory = _files.cache_dir(cache_dir) / f"{name}.json"
    known: dict[str, str] = {}
    with suppress(OSError, ValueError, TypeError):  # no memory, or a damaged one, only costs time
        known = dict(json.loads(memory.read_text()))
    before = known.copy()
    entries, skipped = _identify(sources, known)
    identity = [DECODE_VERSION, size, [[file, split, sha256] for sha256, (file, _, split) in entries.items()], skipped]
    digest = hashlib.sha256(json.dumps(identity).encode()).hexdigest()
    origin: dict[str, Any] = {"hash": digest, "pillow": PIL.__version__}  # another may decode to other pixels
    array = memory.with_name(f"{name}-{size}-{digest[:12]}.npy")
    cached = _load(array, origin, known)  # before the lock, so that a read-only cache serves too
    if cached is None:
        try:
            with FileLock(array.with_suffix(".lock")):  # another process may have built it while this one waited
                made = origin | {"skipped": skipped}
                cached = _load(array, origin, known) or _store(array, name, entries, size, made, known)
        except OSError as error:
            expected = "a folder that can be written (COLORSTUDY_CACHE sets the default)"
            raise OSError(f"cache_dir: expected {expected}, got {array.parent}: {error}") from error
    if known != before:
        with suppress(OSError):  # a cache that cannot be written serves too
            _files.write_text(memory, json.dumps(known))  # in ASCII, as names may not be UTF-8
    images, record = cached
    unreadable = _unreadable(record["skipped"], 20)
    if not unreadable.startswith("0 "):
        warnings.warn(f"{name}: left out {unreadable}", stacklevel=2)
    for wanted in SPLITS:
        drawn = wanted != "val"
        asked = any(split == wanted if isinstance(split, str) else drawn and 0 < split < 1 for _, _, split in sources)
        got = f"none among {len(images)} in colour; another share of test pictures or more files would help"
        require(not asked or wanted in record["split"], name, f"at least one {wanted} picture", got)
    names, splits, grey = (tuple(record[key]) for key in ("names", "split", "grey"))
    return ImageBank(name, images, names, splits, digest, record["skipped"], grey)


def _identify(sources: list[_Source], known: dict[str, str]) -> tuple[dict[str, _Source], dict[str, str]]:
    """SHA-256 -> source of the distinct files, by split; name -> reason of those that are out already."""
    entries: dict[str, _Source] = {}
    skipped: dict[str, str] = {}
    for name, path, split in sources:
        valid = split in SPLITS if isinstance(split, str) else 0 <= split <= 1
        require(valid, "split", f"one of {SPLITS} or a probability", repr(split))
        try:
            digest = _files.sha256(path, known)
        except OSError as error:
            skipped[name] = f"expected a file that can be read, got {error.strerror}"
            continue
        if digest in entries:
            skipped[name] = _SAME + entries[digest][0]
        else:  # the content's hash is read as a number in [0, 1)
            drawn = "test" if not isinstance(split, str) and int(digest[:12], 16) / 16**12 < split else "train"
            entries[digest] = name, path, split if isinstance(split, str) else drawn
    ordered = sorted(entries.items(), key=lambda entry: SPLITS.index(str(entry[1][2])))  # as they came within a split
    return dict(ordered), skipped


def _store(array: Path, name: str, entries: dict[str, _Source], size: int, record: dict, known: dict) -> _Cached:
    """Decode the files into `array`; its pictures, and what the sidecar says: what became of every file."""
    record |= {"names": [], "split": [], "grey": []}
    record["sources"] = {source[0]: digest for digest, source in entries.items()}
    with _files.replacing(array) as temporary, open(temporary, "wb") as file, ThreadPoolExecutor(WORKERS) as pool:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(entries), size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        decoded = pool.map(lambda source: colorful(source[1], size), entries.values())
        bar = tqdm(decoded, f"decoding {name}", len(entries), unit="file", disable=len(entries) <= 200)
        for (source, _, split), pixels in zip(entries.values(), bar, strict=True):
            if isinstance(pixels, np.ndarray):
                record["names"].append(source)
                record["split"].append(split)
                file.write(pixels.tobytes())
            elif pixels == GREY:
                record["grey"].append(source)
            else:
                record["skipped"][source] = pixels
        got = f"{len(record['grey'])} grey and {_unreadable(record['skipped'], 3)}"
        require(len(record["names"]) > 0, name, "at least one picture in colour", got)
        file.seek(0)  # numpy pads headers so that the first axis can be rewritten once it is known
        np.lib.format.write_array_header_1_0(file, header | {"shape": (len(record["names"]), size, size, 3)})
    record["sha256"] = _files.sha256(array, known)
    # Last, so that a reader sees a whole cache or none; in ASCII, as names may not be UTF-8.
    _files.write_text(array.with_suffix(".json"), json.dumps(record, indent=1))
    return np.load(array, mmap_mode="r"), record


def _load(array: Path, expected: dict, known: dict) -> _Cached | None:
    """The pictures and the sidecar, which has to hold the `expected` items; None if they are absent or damaged."""
    sidecar = array.with_suffix(".json")
    try:
        record = json.loads(sidecar.read_text())
        expected = expected | {"sha256": _files.sha256(array, known)}
        found = {key: record[key] for key in expected}
        require(found == expected, sidecar.name, str(expected), found)
        return np.load(array, mmap_mode="r"), record
    except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
        if array.exists() or sidecar.exists():
            logging.getLogger(__name__).warning("cache %s is damaged and will be rebuilt: %s", array, error)
        return None


def _unreadable(skipped: dict[str, str], most: int) -> str:
    """How many files cannot be read, and the first `most` of them with the reasons."""
    bad = [f"{name} ({reason})" for name, reason in skipped.items() if not reason.startswith(_SAME)]
    listed = "; ".join(bad[:most] + [f"and {len(bad) - most} more"] * (len(bad) > most))
    return f"{len(bad)} unreadable files" + (f": {listed}" if bad else "")
