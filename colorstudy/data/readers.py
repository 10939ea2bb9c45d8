"""Image files of any common kind -> uint8 sRGB arrays."""

import io
import os
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from colorstudy.color import srgb_to_lab, to_tensor

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")  # `read` goes by content
GREY = "grey"
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # Pillow would also hand EPS files to Ghostscript


def read(file: str | os.PathLike | bytes) -> np.ndarray:
    """The picture in a BMP, GIF, JPEG, PNG, TIFF or WebP file (or its content), upright, in sRGB: uint8 (H, W, 3).

    EXIF orientation and an embedded ICC profile are applied, transparency is laid over white, 16-bit samples are scaled
    to 8 bits, floats are taken as sRGB in [0, 1]; of several frames the first is read. A ``FileNotFoundError`` if there
    is no such file; a ``ValueError`` if it is damaged or has more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels.
    """
    if not isinstance(file, bytes) and not Path(file).exists():
        raise FileNotFoundError(f"path: expected an image file, got {file}, which does not exist")
    try:
        with io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb") as content, _open(content) as image:
            _limit(image.width * image.height)
            return to_array(image)
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # a damaged file makes decoders raise anything: OSError, SyntaxError, zlib.error, ...
        got = getattr(error, "strerror", None) or str(error) or type(error).__name__
        got = "a folder" if isinstance(error, IsADirectoryError) else got
        name = "" if isinstance(file, bytes) else f"{file}: "
        raise ValueError(f"{name}expected a picture that can be decoded, got {got}") from error


def to_array(image: Image.Image) -> np.ndarray:
    """The pixels of a Pillow image of any mode, uint8 (H, W, 3), made upright, opaque and sRGB as in `read`."""
    image.load()
    profile = image.info.get("icc_profile")
    # Pillow inverts white-is-zero TIFFs of 8 bits and less only.
    is_inverted = image.mode.startswith("I") and getattr(image, "tag_v2", {}).get(Base.PhotometricInterpretation) == 0
    with suppress(Exception):  # broken EXIF data spoil no pixels
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion would clip instead of scaling
        image = Image.fromarray(_to_uint8(np.asarray(image)))
        image = ImageOps.invert(image) if is_inverted else image
    if image.has_transparency_data:  # an alpha channel, or a transparent colour of the palette
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    image = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")  # these may have their own profiles
    if profile:
        with suppress(ImageCms.PyCMSError, OSError, TypeError, ValueError):  # it is broken, or of another mode
            source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            if "srgb" not in (source.profile.profile_description or "").lower():
                image = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
    image = image.convert("RGB")
    return np.array(Image.composite(image, Image.new("RGB", image.size, "white"), alpha) if alpha else image)


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of `image` (H, W, 3) uint8, resized with antialiasing to (size, size, 3)."""
    return np.array(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.LANCZOS))


def colorful(path: str | os.PathLike, size: int) -> np.ndarray | str:
    """The centre square of a picture file, uint8 (size, size, 3), or why not: `GREY` (chroma up to 5) or an error."""
    try:
        pixels = fit(read(path), size)
    except (OSError, ValueError) as error:
        return str(error).removeprefix(f"{path}: ")
    return pixels if srgb_to_lab(to_tensor(pixels))[1:].norm(dim=0).max() > 5 else GREY


def pictures_below(root: Path) -> list[str]:
    """The sorted names of the image files under `root` but hidden ones; links are followed, each folder counts once."""
    names, seen = [], set()
    walk = os.walk(root, followlinks=True, onerror=lambda error: warnings.warn(f"left out: {error}", stacklevel=2))
    for base, folders, files in walk:
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(base)) in seen:
            folders.clear()
            continue
        seen.add(real)
        found = (name for name in files if not name.startswith(".") and name.lower().endswith(EXTENSIONS))
        place = f"{Path(base).relative_to(root).as_posix()}/".removeprefix("./")
        names += [place + name for name in found]
    return sorted(names)


def _open(content: BinaryIO) -> Image.Image:
    """A file as a Pillow image; TIFF files that Pillow cannot read, or reads wrongly, through tifffile."""
    try:
        image: Any = Image.open(content, formats=_FORMATS)
        tags = image.tag_v2 if image.format == "TIFF" else {}
        # Of samples of 16 bits in planes, Pillow takes each byte for a sample.
        if tags.get(Base.PlanarConfiguration) != 2 or max(tags.get(Base.BitsPerSample, (1,))) <= 8:
            return image
    except UnidentifiedImageError:  # Pillow knows no floating-point RGB
        content.seek(0)
        if (magic := content.read(4)) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            got = f"no data of a known kind ({', '.join(_FORMATS)})"
            raise ValueError(got if magic else "an empty file") from None
    content.seek(0)
    with tifffile.TiffFile(content) as tiff:
        page: Any = tiff.pages[0]
        _limit(page.imagewidth * page.imagelength)
        if page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
            raise ValueError(f"a TIFF file of kind {page.photometric!r}")
        samples = _to_uint8(page.asarray())
    image = Image.fromarray(np.ascontiguousarray(np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples))
    image.getexif()[Base.Orientation] = int(page.tags.valueof("Orientation", 1))
    image.info["icc_profile"] = page.tags.valueof("InterColorProfile")
    return image


def _limit(pixels: int) -> None:
    """Refuse what Pillow only warns of: a small file that unpacks to more pixels than its limit."""
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{pixels} pixels, above the limit of {Image.MAX_IMAGE_PIXELS} (PIL.Image.MAX_IMAGE_PIXELS)")


def _to_uint8(samples: np.ndarray) -> np.ndarray:
    """Samples of any type on the scale of 8 bits: integers out of 16 bits, floating-point numbers out of [0, 1]."""
    if samples.dtype == np.uint8:
        return samples
    top = 1 if samples.dtype.kind in "bf" else 65535
    if not (samples.min() >= 0 and samples.max() <= top):  # written so that nan is refused too
        raise ValueError(f"{samples.dtype} samples from {samples.min()} to {samples.max()} instead of 0 to {top}")
    return np.rint(samples * (255 / top)).astype(np.uint8)
