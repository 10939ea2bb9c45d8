"""Published data sets: their archives fetched with a checksum, and unpacked once into pictures for `build.build`."""

import os
import shutil
import tarfile
from pathlib import Path

from filelock import FileLock

from colorstudy import _files
from colorstudy._checks import extra, require_choice
from colorstudy.data.bank import ImageBank
from colorstudy.data.build import build

ARCHIVES = {row["name"]: (row["url"], row["checksum"], row["megabytes"]) for row in _files.table_of(__file__)}


def published(name: str, size: int = 128, cache_dir: str | os.PathLike | None = None) -> ImageBank:
    """A published data set as a bank of `size` pixels, with the split of its authors; all files lie in `cache_dir`.

    "bsds500" (Arbelaez et al. 2011): 500 photographs, 200 of them for testing. An ``OSError`` if the archive cannot be
    fetched; a ``ValueError`` if its checksum is wrong.
    """
    require_choice(name, ARCHIVES, "name")
    url, checksum, megabytes = ARCHIVES[name]
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
                    _unpack(tar, temporary)
            except (tarfile.TarError, EOFError) as error:
                raise ValueError(f"{file}: expected the archive of {name}, got {error}") from error
            temporary.rename(root)
    sources = [(f"{path.parent.name}/{path.name}", path, path.parent.name) for path in sorted(root.glob("*/*"))]
    return build(name, sources, size, cache_dir)


def _unpack(tar: tarfile.TarFile, folder: Path) -> None:
    """JPEG files in folders; "val" is for training, too, since both are BSDS300, and "test" is what came later."""
    for member in tar:
        *place, name = member.name.split("/")
        if member.isfile() and place[:4] == ["BSR", "BSDS500", "data", "images"] and name.endswith(".jpg"):
            member.name = f"{'test' if place[4] == 'test' else 'train'}/{name}"
            tar.extract(member, folder, filter="data")
