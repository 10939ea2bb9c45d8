"""The colour photographs that come inside two wheels, `mvtb-data` and `scikit-image`: a bank that needs no download.

Left out of the table: grey pictures; calibration targets and markers (arucoboard, tags, yellowtargets, lab-scene,
fisheye_target); drawings, paintings and charts (adelson, monalisa, logo, color); science pictures (ihc, retina,
hubble); 58060, a picture of BSDS, so that BSDS stays an independent test; and what shows a picture of the table again
(church.png, the right halves of the stereo pairs, the aerial views that overlap the ninth).
"""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path

import mvtbdata
import skimage

from colorstudy.data.bank import ImageBank, build

_FOLDERS = {
    "mvtb": ("mvtb-data", Path(mvtbdata.__file__).parent / "images"),
    "skimage": ("scikit-image", Path(skimage.__file__).parent / "data"),
}
_CAMPUS_TRAIN = (491, *range(493, 502), *range(503, 508), 509, 510, 512, 514, 515)
_CAMPUS_TEST = (492, 502, 508, 511, 513)

PHOTOS = (
    # Two shots of one scene share a split; only the campus is in both, by its authors' own holdout.
    *((f"mvtb/campus/P1070{number}.png", "campus", "train") for number in _CAMPUS_TRAIN),
    ("mvtb/building2-3.png", "building", "train"),
    ("mvtb/eiffel-1.png", "eiffel", "train"),
    ("mvtb/eiffel-2.png", "eiffel", "train"),
    *((f"mvtb/flowers{number}.png", "pink tulips", "train") for number in (1, 8)),
    *((f"mvtb/flowers{number}.png", f"flowers {number}", "train") for number in (3, 5, 6, 7, 9)),
    ("mvtb/greenscreen.png", "greenscreen", "train"),
    ("mvtb/image3.jpg", "street", "train"),
    ("mvtb/mosaic/aerial-09.png", "aerial", "train"),
    ("mvtb/notre-dame.png", "notre-dame", "train"),
    ("mvtb/road.png", "road", "train"),
    ("mvtb/rocks2-l.png", "rocks", "train"),
    ("mvtb/roof.png", "roof", "train"),
    *((f"mvtb/tomato_{number}.png", "tomatoes", "train") for number in (124, 14, 35, 54)),
    ("mvtb/walls-l.png", "walls", "train"),
    ("skimage/astronaut.png", "astronaut", "train"),
    ("skimage/motorcycle_left.png", "motorcycle", "train"),
    *((f"mvtb/campus/holdout/P1070{number}.png", "campus", "test") for number in _CAMPUS_TEST),
    ("mvtb/butterfly.jpg", "butterfly", "test"),
    ("mvtb/church.jpg", "church", "test"),
    ("mvtb/flowers2.png", "flowers 2", "test"),
    ("mvtb/flowers4.png", "flowers 4", "test"),
    ("mvtb/parks.png", "park", "test"),
    ("skimage/chelsea.png", "chelsea", "test"),
    ("skimage/coffee.png", "coffee", "test"),
    ("skimage/rocket.jpg", "rocket", "test"),
)
"""(file, scene, split) of each photograph; the first part of `file` says which wheel holds it."""

LEGACY = ("mvtb/castle.png", "mvtb/street.png", "mvtb/penguins.png", "skimage/camera.png")
"""Photographs of the same wheels that are grey: they have no colours to compare with."""


def photos(size: int = 128, cache_dir: str | os.PathLike | None = None) -> ImageBank:
    """The 57 embedded colour photographs, 44 to train on and 13 to test on.

    Parameters
    ----------
    size : int
        Side of the pictures in pixels.
    cache_dir : path, optional
        Where the decoded pictures go; see `cache.default_cache_dir`.

    Raises
    ------
    FileNotFoundError
        If an installed wheel lacks one of the files.
    """
    return build("photos", [(_name(file), _path(file), split) for file, _, split in PHOTOS], size, cache_dir)


def legacy_photos() -> dict[str, Path]:
    """The paths of the `LEGACY` photographs by name; raises a ``FileNotFoundError`` as `photos` does."""
    return {_name(file): _path(file) for file in LEGACY}


def _name(file: str) -> str:
    return file.rsplit(".", 1)[0]


def _path(file: str) -> Path:
    wheel, rest = file.split("/", 1)
    package, folder = _FOLDERS[wheel]
    path = folder / rest
    if not path.is_file():
        raise FileNotFoundError(f"{file}: expected in the wheel of {package} {version(package)}, got no file {path}")
    return path
