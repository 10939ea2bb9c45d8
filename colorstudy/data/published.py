"""Published data sets: their archives fetched with a checksum, and unpacked once into pictures for `build.build`."""

import io
import os
import shutil
import tarfile
from pathlib import Path

import numpy as np
from filelock import FileLock
from PIL import Image

from colorstudy import _files
from colorstudy._checks import extra, require, require_choice
from colorstudy.data.bank import ImageBank
from colorstudy.data.build import build


def published(name: str, size: int | None = None, cache_dir: str | os.PathLike | None = None) -> ImageBank:
    """A published data set as a bank of `size` pixels, by default its own (or 128), with the split of its authors.

    "cifar10" (Krizhevsky 2009): 60,000 of 32 px. "stl10" (Coates et al. 2011): 13,000 and 100,000 unlabelled ones of
    96 px, these all for training. "bsds500" (Arbelaez et al. 2011): 500 photographs, 200 of them for testing. All files
    lie in `cache_dir`. An ``OSError`` if the archive cannot be fetched; a ``ValueError`` if its checksum is wrong.
    """
    require_choice(name, ARCHIVES, "name")
    url, checksum, megabytes, side, unpack = ARCHIVES[name]
    root = _files.cache_dir(cache_dir) / "published" / name
    with FileLock(f"{root}.lock"):
        if not root.is_dir():
            with extra("photos"):
                import pooch
            file = root.with_name(url.rpartition("/")[2])
            try:
                pooch.retrieve(url, checksum, file.name, root.parent, progressbar=True)
            except OSError as error:
                hint = f"try again, or put the file ({checksum}) into {root.parent} by hand, as this failed with"
                raise OSError(f"{name}: expected {file.name} ({megabytes} MB) from {url}; {hint} {error!r}") from error
            temporary = root.with_name(f".{name}")
            shutil.rmtree(temporary, ignore_errors=True)
            try:
                with tarfile.open(file) as tar:
                    unpack(tar, temporary)
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(f"{file}: expected the archive of {name}, got {error}") from error
            temporary.rename(root)
    sources = [(f"{path.parent.name}/{path.name}", path, path.parent.name) for path in sorted(root.glob("*/*"))]
    return build(name, sources, side if size is None else size, cache_dir)


def _cifar10(tar: tarfile.TarFile, folder: Path) -> None:
    """Records of one label and 3 x 32 x 32 values, row by row."""
    for part in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        _write(tar, f"cifar-10-batches-bin/{part}.bin", folder, f"{part}-{{:05}}.png", 32, 1, (1, 2, 0))


def _stl10(tar: tarfile.TarFile, folder: Path) -> None:
    """Records of 3 x 96 x 96 values, column by column."""
    for part in ("train", "test", "unlabeled"):
        _write(tar, f"stl10_binary/{part}_X.bin", folder, f"{part}-{{:06}}.png", 96, 0, (2, 1, 0))


def _write(tar: tarfile.TarFile, member: str, folder: Path, name: str, side: int, label: int, axes: tuple) -> None:
    """Write the pictures of a member that is made of records: `label` bytes, then 3 x side x side values."""
    file, length = tar.extractfile(member) or io.BytesIO(), label + 3 * side**2
    target = folder / ("test" if name.startswith("test") else "train")
    target.mkdir(parents=True, exist_ok=True)
    for i, record in enumerate(iter(lambda: file.read(length), b"")):
        require(len(record) == length, member, f"records of {length} bytes", f"one of {len(record)}")
        pixels = np.frombuffer(record, np.uint8)[label:].reshape(3, side, side).transpose(axes)
        Image.fromarray(np.ascontiguousarray(pixels)).save(target / name.format(i))


def _bsds500(tar: tarfile.TarFile, folder: Path) -> None:
    """JPEG files in folders; "val" is for training, too, since both are BSDS300, and "test" is what came later."""
    for member in tar:
        *place, name = member.name.split("/")
        if member.isfile() and place[:4] == ["BSR", "BSDS500", "data", "images"] and name.endswith(".jpg"):
            member.name = f"{'test' if place[4] == 'test' else 'train'}/{name}"
            tar.extract(member, folder, filter="data")


_UNPACK = {"cifar10": _cifar10, "stl10": _stl10, "bsds500": _bsds500}
# URL, checksum (where their pages have none, torchvision's and a user's), megabytes, side in pixels, what unpacks it
ARCHIVES = {
    name: (url, checksum, int(megabytes), int(side), _UNPACK[name])
    for name, url, checksum, megabytes, side in (row.values() for row in _files.table_of(__file__))
}
