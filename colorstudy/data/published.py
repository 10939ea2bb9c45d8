"""Pictures that a table names, with the split of each: inside two wheels, or published, then fetched or found."""

import csv
import hashlib
import io
import lzma
import os
import shutil
import tarfile
import warnings
import zipfile
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import skimage
from filelock import FileLock
from PIL import Image, ImageOps

from colorstudy import _files
from colorstudy._checks import extra, require, require_choice
from colorstudy.data.bank import ImageBank
from colorstudy.data.build import build
from colorstudy.data.readers import pictures_below

SETS = {row["name"]: row for row in _files.table_of(__file__)}
HOME = "https://github.com"  # of all repositories in the manifests
_Path = str | os.PathLike


def photos(size: int = 128, cache_dir: _Path | None = None) -> ImageBank:
    """The 57 colour photographs inside two wheels, 44 to train on and 13 to test on, of `size` pixels; no download."""
    rows = _files.table_of(Path(__file__).with_name("photos.csv"))
    return build("photos", [(row["file"][:-4], in_wheel(row["file"]), row["split"]) for row in rows], size, cache_dir)


def legacy_photos() -> dict[str, Path]:
    """The paths of four grey photographs of the same wheels, by name: they have no colours to compare with."""
    return {name: in_wheel(f"{name}.png") for name in ("mvtb/castle", "mvtb/street", "mvtb/penguins", "skimage/camera")}


def in_wheel(file: str) -> Path:
    """Where a file is, by "mvtb" or "skimage" and its name; a ``FileNotFoundError`` if the wheel lacks it."""
    with extra("photos"):
        import mvtbdata
    wheel, _, rest = file.partition("/")
    wheels = {"mvtb": ("mvtb-data", mvtbdata, "images"), "skimage": ("scikit-image", skimage, "data")}
    package, module, folder = wheels[wheel]
    path = Path(module.__file__).parent / folder / rest
    if not path.is_file():
        raise FileNotFoundError(f"{file}: expected in the wheel of {package} {version(package)}, got no file {path}")
    return path


@lru_cache
def manifest(name: str) -> list[dict[str, str]]:
    """One row a picture: file, split, border (pixels to cut), repository, commit, path, blob (SHA-1 of git), credit."""
    require_choice(name, SETS, "name")
    with lzma.open(Path(__file__).with_name(f"{name}.csv.xz"), "rt", newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def recognize(path: _Path) -> str | None:
    """The name of the set whose files, by their names, are those in a folder or tar file; None if there is none."""
    held = _held(Path(path))
    likely = (name for name in SETS if len(held) == int(SETS[name]["pictures"]))
    return next((name for name in likely if held == {row["file"] for row in manifest(name)}), None)


def published(name: str, size: int = 128, cache_dir: _Path | None = None, data: _Path | None = None) -> ImageBank:
    """The pictures of a set as a bank of `size` pixels, with the split of its `manifest`.

    `name` is "photos16k" or "scenes", or "kodak" or "bsds300", which are for testing alone. The files are in `data`, a
    folder or tar file, or in the cache, or in such a folder or file in ``$COLORSTUDY_DATA``, or fetched into the cache.
    An ``OSError`` if an archive cannot be fetched; a ``ValueError`` if a file is not what its manifest says.
    """
    split = {row["file"]: row["split"] for row in manifest(name)}
    cached = _files.cache_dir(cache_dir) / "published" / name
    names = name, SETS[name]["archive"]
    root = Path(data) if data is not None else cached if cached.is_dir() else local(next(iter(split)), *names)
    if root is not None:
        missing = sorted(split.keys() - _held(root))
        require(not missing, name, f"{len(split)} files in {root}", f"all but {len(missing)}, such as {missing[:1]}")
    if root is None or root.is_file():
        temporary = cached.with_name(f".{name}")
        with FileLock(f"{cached}.lock"):
            try:
                if not cached.is_dir():  # another process may have made it while this one waited
                    if root is None:
                        _fetch(name, temporary)
                    else:
                        with tarfile.open(root) as tar:
                            tar.extractall(temporary, [one for one in tar if one.name in split], filter="data")
                    _compare(name, temporary)
                    temporary.rename(cached)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
        root = cached
    return build(name, [(file, root / file, split[file]) for file in split], size, cache_dir)


def local(file: str, *names: str) -> Path | None:
    """The folder or tar file that holds the `file` of a set: ``$COLORSTUDY_DATA``, or one of the `names` in it."""
    folder = os.environ.get("COLORSTUDY_DATA")
    places = [Path(folder, name) for name in ("", *names, *(f"{name}.tar" for name in names))] if folder else []
    return next((place for place in places if place.is_file() or (place / file).is_file()), None)


def _held(root: Path) -> set[str]:
    """The names of the pictures in a folder, or of the files in a tar file."""
    if root.is_dir():
        return set(pictures_below(root))
    try:
        with tarfile.open(root) as tar:
            return {member.name for member in tar if member.isfile()}
    except (tarfile.TarError, EOFError) as error:
        raise ValueError(f"{root}: expected a folder or a tar file, got {error}") from error


def _fetch(name: str, folder: Path) -> None:
    """The pictures of a set into `folder`, out of the archives of its commits, which wait beside it for one another."""
    with extra("photos"):
        import pooch
    pooch.get_logger().setLevel("WARNING")  # it would advise to note a hash
    kept, rows = folder.with_name(f"{name}.zips"), manifest(name)
    for repository, commit in dict.fromkeys((row["repository"], row["commit"]) for row in rows):
        url, path = f"{HOME}/{repository}/archive/{commit}.zip", kept / f"{commit}.zip"
        try:
            pooch.retrieve(url, None, path.name, kept, progressbar=True)
        except OSError as error:
            hint = f"try again, or put it into {kept} by hand, or the pictures into $COLORSTUDY_DATA; this failed with"
            raise OSError(f"{name}: expected {url}; {hint} {error!r}") from error
        try:
            with zipfile.ZipFile(path) as archive:
                for row in (row for row in rows if row["commit"] == commit):
                    content = archive.read(f"{repository.partition('/')[2]}-{commit}/{row['path']}")
                    sha1 = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                    require(row["blob"] in ("", sha1), row["path"], f"the git blob {row['blob']}", sha1)
                    (folder / row["file"]).parent.mkdir(parents=True, exist_ok=True)
                    (folder / row["file"]).write_bytes(_shrunk(content, row, SETS[name]))
        except (zipfile.BadZipFile, KeyError, ValueError) as error:
            path.unlink()
            raise ValueError(f"{url}: expected an archive with the pictures of {name}, got {error}") from error
    shutil.rmtree(kept)


def _compare(name: str, folder: Path) -> None:
    """Refuse copies of other content than the study had; of files that are made here, only warn."""
    digest = hashlib.sha256()
    for row in manifest(name):
        digest.update((folder / row["file"]).read_bytes())
    expected, got = SETS[name]["sha256"], digest.hexdigest()
    require(got == expected or SETS[name]["side"] != "", name, f"files with the SHA-256 {expected}", got)
    if got != expected:
        warnings.warn(f"{name}: SHA-256 {got}, not {expected}: of another Pillow, or of other pictures", stacklevel=3)


def _shrunk(content: bytes, row: dict[str, str], about: dict[str, str]) -> bytes:
    """The file of a set that is made of a file of its origin: cut, made small and compressed, or the same."""
    if not about["side"]:
        return content
    image, made = ImageOps.crop(Image.open(io.BytesIO(content)).convert("RGB"), int(row["border"])), io.BytesIO()
    scale = min(1, int(about["side"]) / min(image.size))
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    image.save(made, "JPEG", quality=int(about["quality"]), subsampling=about["subsampling"], optimize=True)
    return made.getvalue()
