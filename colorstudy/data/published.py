"""Published data sets: their archives fetched with a checksum, and unpacked once into pictures for `bank.build`."""

from __future__ import annotations

import os
import shutil
import tarfile
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image
from tqdm.auto import tqdm

from colorstudy._checks import require
from colorstudy.data import cache
from colorstudy.data.bank import ImageBank, build

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Archive:
    """Where the archive of a data set is, the checksum that its authors (or users) publish, and how it is laid out."""

    url: str
    checksum: str
    """``<algorithm>:<hex>``."""
    megabytes: int
    side: int
    """The size of its pictures, or one that suits them, in pixels."""
    unpack: Callable[[tarfile.TarFile, Path], None]
    """Writes the pictures below ``train/`` and ``test/`` of a folder."""


def published(name: str, size: int | None = None, cache_dir: str | os.PathLike | None = None) -> ImageBank:
    """A published data set as a bank, with the split of its authors.

    Parameters
    ----------
    name : {"cifar10", "stl10", "bsds500"}
        CIFAR-10 (Krizhevsky 2009): 60,000 of 32 px. STL-10 (Coates et al. 2011): 13,000 and 100,000 unlabelled ones of
        96 px, these all for training. BSDS500 (Arbelaez et al. 2011): 500 photographs, 200 of them for testing.
    size : int, optional
        Side of the pictures in pixels; their own, or 128 for BSDS500, by default.
    cache_dir : path, optional
        For the archive, the pictures and the bank; see `cache.default_cache_dir`.

    Raises
    ------
    OSError
        If the archive cannot be fetched, or something cannot be written. An archive that arrived in part is kept, and
        the next call goes on after it.
    ValueError
        If there is no such data set, or what came is not what its checksum says; nothing is kept of it then.
    """
    require(name in ARCHIVES, "name", f"one of {list(ARCHIVES)}", repr(name))
    folder = Path(cache_dir).expanduser() if cache_dir is not None else cache.default_cache_dir()
    root = folder / "published" / name
    root.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{root}.lock"):
        if not root.is_dir():
            archive = fetch(name, folder)
            temporary = root.with_name(f".{name}")
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                with tarfile.open(archive) as tar:
                    ARCHIVES[name].unpack(tar, temporary)
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(f"{archive}: expected the archive of {name}, got {error}") from error
            temporary.rename(root)
    files = sorted(path.relative_to(root).as_posix() for path in root.glob("*/*"))
    sources = [(file, root / file, file.split("/")[0]) for file in files]
    return build(name, sources, ARCHIVES[name].side if size is None else size, cache_dir)


def fetch(name: str, folder: str | os.PathLike) -> Path:
    """The archive of a data set in `folder`, fetched unless it is there; errors as in `published`."""
    archive = ARCHIVES[name]
    path = Path(folder) / "published" / archive.url.rpartition("/")[2]
    if path.is_file():
        _check(path, archive.checksum)
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.part")
    try:
        _download(archive.url, part)
    except (OSError, HTTPException) as error:
        raise OSError(
            f"{name}: expected to fetch {path.name} ({archive.megabytes} MB) from {archive.url}; try again, which goes "
            f"on where this stopped, or put the file into {path.parent} by hand, as this failed with {error!r}"
        ) from error
    try:
        _check(part, archive.checksum)
    except ValueError:
        part.unlink()
        raise
    os.replace(part, path)
    return path


def _download(url: str, part: Path) -> None:
    """Fetch `url` into `part`, after what it holds already."""
    done = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={done}-"} if done else {})
    try:
        response = urllib.request.urlopen(request, timeout=60)
    except urllib.error.HTTPError as error:
        if error.code == 416 and done:  # nothing comes after it
            return
        raise
    with response:
        goes_on = response.status == 206  # a server that cannot go on sends all again
        length = int(response.headers["Content-Length"] or 0)
        bar = tqdm(
            desc=f"fetching {part.stem}",
            total=length + done * goes_on,
            initial=done * goes_on,
            unit="B",
            unit_scale=True,
            leave=False,
        )
        with open(part, "ab" if goes_on else "wb") as file, bar:
            while chunk := response.read(_CHUNK):
                file.write(chunk)
                length -= len(chunk)
                bar.update(len(chunk))
    if length > 0:
        raise ConnectionError(f"the connection ended {length} bytes early")


def _check(path: Path, checksum: str) -> None:
    algorithm, expected = checksum.split(":")
    found = cache.checksum(path, algorithm)
    require(found == expected, str(path), f"{algorithm} {expected}", found)


def _records(tar: tarfile.TarFile, name: str, length: int) -> Iterator[np.ndarray]:
    """The records of `length` bytes that the member `name` is made of."""
    file = tar.extractfile(name)
    require(file is not None, name, "a file", "something else")
    while record := file.read(length):
        require(len(record) == length, name, f"records of {length} bytes", f"one of {len(record)}")
        yield np.frombuffer(record, np.uint8)


def _write(pixels: np.ndarray, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(pixels)).save(path)


def _cifar10(tar: tarfile.TarFile, folder: Path) -> None:
    """The binary version: records of one label and 3 x 32 x 32 values, row by row."""
    for batch in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        split = "test" if batch.startswith("test") else "train"
        for i, record in enumerate(_records(tar, f"cifar-10-batches-bin/{batch}.bin", 1 + 3 * 32 * 32)):
            _write(record[1:].reshape(3, 32, 32).transpose(1, 2, 0), folder / split / f"{batch}-{i:05}.png")


def _stl10(tar: tarfile.TarFile, folder: Path) -> None:
    """Records of 3 x 96 x 96 values, column by column."""
    for part in ("train", "test", "unlabeled"):
        split = "test" if part == "test" else "train"
        for i, record in enumerate(_records(tar, f"stl10_binary/{part}_X.bin", 3 * 96 * 96)):
            _write(record.reshape(3, 96, 96).transpose(2, 1, 0), folder / split / f"{part}-{i:06}.png")


def _bsds500(tar: tarfile.TarFile, folder: Path) -> None:
    """JPEG files in folders; "val" is for training, too, since both are BSDS300, and "test" is what came later."""
    for member in tar:
        place = Path(member.name).parts
        if member.isfile() and place[:4] == ("BSR", "BSDS500", "data", "images") and place[-1].endswith(".jpg"):
            path = folder / ("test" if place[4] == "test" else "train") / place[-1]
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(tar.extractfile(member).read())


ARCHIVES = {
    "cifar10": Archive(
        "https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",
        "md5:c32a1d4ab5d03f1284b67883e8d87530",  # of its page
        170,
        32,
        _cifar10,
    ),
    "stl10": Archive(
        "https://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        "md5:91f7769df0f17e558f3565bffb0c7dfb",  # of torchvision, as its page has none
        2640,
        96,
        _stl10,
    ),
    "bsds500": Archive(
        "https://www2.eecs.berkeley.edu/Research/Projects/CS/vision/grouping/BSR/BSR_bsds500.tgz",
        "sha256:97e49d31764f3912f0c4122707d53062ac9e783ba0f095e447a4d53c1a41af8e",  # of a user, as its page has none
        71,
        128,
        _bsds500,
    ),
}
"""The data sets by name."""
