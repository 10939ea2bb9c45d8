"""Published pictures: a manifest names the origin and the split of each; they are fetched by it, or found on disk."""

import csv
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import zipfile
from functools import lru_cache
from itertools import groupby
from operator import itemgetter
from pathlib import Path

from filelock import FileLock
from PIL import Image

from colorstudy import _files
from colorstudy._checks import extra, require, require_choice
from colorstudy.data.bank import ImageBank
from colorstudy.data.build import build
from colorstudy.data.readers import pictures_below

SETS = {row["name"]: row for row in _files.table_of(__file__)}
HOME = "https://github.com"  # of the repositories of all manifests


@lru_cache
def manifest(name: str) -> list[dict[str, str]]:
    """One row a picture: file, split, border (pixels cut off), repository, commit, path, blob (SHA-1 of git), credit.

    `name` is "photos16k", 16,138 varied photographs; "scenes", 8,741 of the Intel Image Classification; or, for testing
    alone, "kodak", the 24 of the Kodak suite, and "bsds300", the 300 of BSDS300.
    """
    require_choice(name, SETS, "name")
    with lzma.open(Path(__file__).with_name(f"{name}.csv.xz"), "rt", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recognize(path: str | os.PathLike) -> str | None:
    """The name of the set whose files, by their names, are those in a folder or tar file; None if there is none."""
    held = _held(Path(path))
    return next((name for name in SETS if held == {row["file"] for row in manifest(name)}), None)


def published(
    name: str, size: int = 128, cache_dir: str | os.PathLike | None = None, data: str | os.PathLike | None = None
) -> ImageBank:
    """The pictures of a `manifest` as a bank of `size` pixels, with its split.

    They are in `data`, a folder or tar file; or in the cache; or in such a file or folder in ``$COLORSTUDY_DATA``; or
    fetched into the cache. An ``OSError`` if an archive cannot be fetched; a ``ValueError`` if a file is not as said.
    """
    rows = manifest(name)
    cached = _files.cache_dir(cache_dir) / "published" / name
    root = Path(data) if data is not None else cached if cached.is_dir() else _local(name)
    if root is None or root.is_file():
        with FileLock(f"{cached}.lock"):
            if not cached.is_dir():
                temporary = cached.with_name(f".{name}")
                shutil.rmtree(temporary, ignore_errors=True)
                try:
                    _fetch(name, temporary) if root is None else _unpack(name, root, temporary)
                    temporary.rename(cached)
                finally:
                    shutil.rmtree(temporary, ignore_errors=True)
        root = cached
    missing = sorted({row["file"] for row in rows} - _held(root))
    require(not missing, name, f"{len(rows)} files in {root}", f"all but {len(missing)}, such as {missing[:1]}")
    return build(name, [(row["file"], root / row["file"], row["split"]) for row in rows], size, cache_dir)


def _held(root: Path) -> set[str]:
    """The names of the pictures in a folder, or of the files in a tar file."""
    if root.is_dir():
        return set(pictures_below(root))
    try:
        with tarfile.open(root) as tar:
            return {member.name for member in tar if member.isfile()}
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{root}: expected a folder or a tar file, got {error}") from error


def _local(name: str) -> Path | None:
    """The folder or tar file in ``$COLORSTUDY_DATA`` that holds a set: its own name, or that of its archive."""
    folder, first = Path(os.environ.get("COLORSTUDY_DATA") or os.devnull), manifest(name)[0]["file"]
    names = ["", name, SETS[name]["archive"]]
    places = [folder / place for place in names] + [folder / f"{place}.tar" for place in names[1:]]
    return next((place for place in places if place.is_file() or (place / first).is_file()), None)


def _unpack(name: str, file: Path, folder: Path) -> None:
    """The pictures of a set out of a tar file."""
    wanted = {row["file"] for row in manifest(name)}
    with tarfile.open(file) as tar:
        tar.extractall(folder, [member for member in tar if member.name in wanted], filter="data")


def _fetch(name: str, folder: Path) -> None:
    """The pictures of a set into `folder`, out of the archives of its commits; whole archives wait beside it."""
    with extra("photos"):
        import pooch
    kept, origin = folder.with_name(f"{name}.zips"), itemgetter("repository", "commit")
    for (repository, commit), rows in groupby(sorted(manifest(name), key=origin), origin):
        url, path = f"{HOME}/{repository}/archive/{commit}.zip", kept / f"{commit}.zip"
        try:
            pooch.retrieve(url, None, path.name, kept, progressbar=True)
        except OSError as error:
            hint = f"try again, or put that file into {kept} by hand, as this failed with"
            raise OSError(f"{name}: expected {path.name} from {url}; {hint} {error!r}") from error
        try:
            with zipfile.ZipFile(path) as archive:
                top = archive.namelist()[0].partition("/")[0]
                for row in rows:
                    content = archive.read(f"{top}/{row['path']}")
                    sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                    require(row["blob"] in ("", sha1), row["path"], f"the git blob {row['blob']}", sha1)
                    (folder / row["file"]).parent.mkdir(parents=True, exist_ok=True)
                    (folder / row["file"]).write_bytes(_shrunk(content, row, SETS[name]))
        except (zipfile.BadZipFile, KeyError, IndexError, ValueError) as error:
            path.unlink()
            raise ValueError(f"{url}: expected an archive with the pictures of {name}, got {error}") from error
    shutil.rmtree(kept)


def _shrunk(content: bytes, row: dict[str, str], about: dict[str, str]) -> bytes:
    """The file of a set that is made of a file of its origin: cut, made small and compressed, or the same."""
    if not about["side"]:
        return content
    image, border, made = Image.open(io.BytesIO(content)).convert("RGB"), int(row["border"]), io.BytesIO()
    image = image.crop((border, border, image.width - border, image.height - border))
    scale = min(1, int(about["side"]) / min(image.size))
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    image.save(made, "JPEG", quality=int(about["quality"]), subsampling=about["subsampling"], optimize=True)
    return made.getvalue()
