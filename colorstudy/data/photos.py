"""The colour photographs inside two wheels, `mvtb-data` and `scikit-image`: a bank that needs no download."""

import os
from importlib.metadata import version
from pathlib import Path

import skimage

from colorstudy._checks import extra
from colorstudy._files import table_of
from colorstudy.data.bank import ImageBank
from colorstudy.data.build import build


def photos(size: int = 128, cache_dir: str | os.PathLike | None = None) -> ImageBank:
    """The 57 colour photographs, 44 to train on and 13 to test on, of `size` pixels; see `build.build`."""
    rows = [(row["file"].rsplit(".", 1)[0], _path(row["file"]), row["split"]) for row in table_of(__file__)]
    return build("photos", rows, size, cache_dir)


def legacy_photos() -> dict[str, Path]:
    """The paths of four grey photographs of the same wheels, by name: they have no colours to compare with."""
    return {name: _path(f"{name}.png") for name in ("mvtb/castle", "mvtb/street", "mvtb/penguins", "skimage/camera")}


def _path(file: str) -> Path:
    """Where a file is, by "mvtb" or "skimage" and its name; a ``FileNotFoundError`` if the wheel lacks it."""
    with extra("photos"):
        import mvtbdata
    wheel, _, rest = file.partition("/")
    package, folder = "mvtb-data", Path(mvtbdata.__file__).parent / "images"
    if wheel == "skimage":
        package, folder = "scikit-image", Path(skimage.__file__).parent / "data"
    path = folder / rest
    if not path.is_file():
        raise FileNotFoundError(f"{file}: expected in the wheel of {package} {version(package)}, got no file {path}")
    return path
