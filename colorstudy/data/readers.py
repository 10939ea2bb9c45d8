"""Image files of any common kind -> uint8 sRGB arrays."""

import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError
from PIL.ExifTags import Base

from colorstudy.color import srgb_to_lab, to_tensor

# Of what may be a picture; `read` goes by content.
EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp", ".avif", ".heic", ".jfif", ".jpe")
GREY = "grey"
_FORMATS = {"AVIF", "BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP"}  # Pillow would also hand EPS files to Ghostscript
_MEMORY = 700_000_000  # bytes to decode and to colour a picture; torch, model and buffers take less than 300 MB more
_BLOCK = 1 << 20  # pixels converted at once
warnings.filterwarnings("ignore", category=Image.DecompressionBombWarning)  # which comes below the limit here


def read(file: str | os.PathLike | bytes) -> np.ndarray:
    """The picture in an AVIF, BMP, GIF, JPEG, PNG, TIFF or WebP file (or its content), upright, sRGB: uint8 (H, W, 3).

    EXIF orientation and an embedded ICC profile are applied, transparency is laid over white, 16-bit samples are scaled
    to 8 bits, floats are taken as sRGB in [0, 1]; of several frames the first is read. A ``FileNotFoundError`` if there
    is no such file; a ``ValueError`` if it is damaged, no regular file, or too large: a side over 50 times the other,
    or more than 100 megapixels (63 of a TIFF that is compressed or turned, 58 of a progressive JPEG or with
    transparency, 41 of AVIF and WebP), so that to read and to colour it takes less than 1 GiB of memory.
    """
    with opened(file) as image:
        return to_array(image)


@contextmanager
def opened(file: str | os.PathLike | bytes) -> Iterator[Image.Image]:
    """The Pillow image of a file, or of its content; whatever fails in the block is an error as of `read`."""
    if not isinstance(file, bytes) and not Path(file).exists():
        raise FileNotFoundError(f"path: expected an image file, got {file}, which does not exist")
    try:
        if not isinstance(file, bytes) and not Path(file).is_file():  # to open a pipe would wait for who writes to it
            raise ValueError("a folder" if Path(file).is_dir() else "a pipe, a socket or a device")
        with io.BytesIO(file) if isinstance(file, bytes) else open(file, "rb") as content, _open(content) as image:
            _limit(*image.size, _cost(image))
            yield image
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # a damaged file makes decoders raise anything: OSError, SyntaxError, zlib.error, ...
        got = getattr(error, "strerror", None) or str(error) or type(error).__name__
        name = "" if isinstance(file, bytes) else f"{file}: "
        raise ValueError(f"{name}expected a picture that can be decoded, got {got}") from error


def to_array(image: Image.Image) -> np.ndarray:
    """The pixels of a Pillow image of any mode, uint8 (H, W, 3), made upright, opaque and sRGB as in `read`."""
    image.load()
    # Pillow inverts white-is-zero TIFFs of 8 bits and less only.
    is_inverted = image.mode.startswith("I") and getattr(image, "tag_v2", {}).get(Base.PhotometricInterpretation) == 0
    return upright(image, 3, lambda block: _opaque(block, is_inverted))


def upright(image: Image.Image, channels: int, convert: Callable[[Image.Image], Image.Image]) -> np.ndarray:
    """uint8 (H, W, `channels`) as EXIF turns it: what `convert` makes of an image, some rows at a time."""
    image.load()
    turn, (width, height) = 1, image.size
    with suppress(Exception):  # broken EXIF data spoil no pixels
        turn = int(image.getexif().get(Base.Orientation, 1))
    lies = turn in (5, 6, 7, 8)
    pixels = np.empty((*((width, height) if lies else (height, width)), channels), np.uint8)
    stored = pixels.swapaxes(0, 1) if lies else pixels  # a view, in the order of the file
    stored = stored[:: -1 if turn in (3, 4, 6, 7) else 1, :: -1 if turn in (2, 3, 7, 8) else 1]
    rows = max(1, _BLOCK // width)
    for top in range(0, height, rows):
        block = convert(image.crop((0, top, width, min(top + rows, height))))
        stored[top : top + rows] = np.asarray(block).reshape(block.height, width, channels)
    return pixels


def is_srgb(profile: bytes) -> bool:
    """Whether an ICC profile says that it is one of sRGB."""
    with suppress(ImageCms.PyCMSError, OSError, TypeError):  # it is broken
        return "srgb" in (ImageCms.ImageCmsProfile(io.BytesIO(profile)).profile.profile_description or "").lower()
    return False


def _opaque(image: Image.Image, is_inverted: bool) -> Image.Image:
    """An image of any mode in sRGB, laid over white."""
    profile = image.info.get("icc_profile")
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion would clip instead of scaling
        image = Image.fromarray(_to_uint8(np.asarray(image)))
        image = ImageOps.invert(image) if is_inverted else image
    if image.has_transparency_data:  # an alpha channel, or a transparent colour of the palette
        image = image.convert("RGBA")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    image = image if image.mode in ("L", "RGB", "CMYK") else image.convert("RGB")  # these may have their own profiles
    if profile and not is_srgb(profile):
        with suppress(ImageCms.PyCMSError, OSError, TypeError, ValueError):  # it is broken, or of another mode
            source, srgb = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
            image = ImageCms.profileToProfile(image, source, srgb, outputMode="RGB") or image
    image = image.convert("RGB")
    return Image.composite(image, Image.new("RGB", image.size, "white"), alpha) if alpha else image


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


def pictures_below(root: Path, extensions: tuple[str, ...] = EXTENSIONS) -> list[str]:
    """The sorted names of the files of these `extensions` under `root` but hidden ones, links followed, a folder once.

    A folder that cannot be read, a link to nothing, a pipe, a socket and a device are left out with a warning each.
    """
    names, seen = [], set()
    walk = os.walk(root, followlinks=True, onerror=lambda error: warnings.warn(f"left out: {error}", stacklevel=2))
    for base, folders, files in walk:
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if (real := os.path.realpath(base)) in seen:
            folders.clear()
            continue
        seen.add(real)
        place = f"{Path(base).relative_to(root).as_posix()}/".removeprefix("./")
        for name in (name for name in files if not name.startswith(".") and name.lower().endswith(extensions)):
            if os.path.isfile(os.path.join(base, name)):
                names.append(place + name)
            else:
                warnings.warn(f"left out: {os.path.join(base, name)}, which is no regular file", stacklevel=2)
    return sorted(names)


def _open(content: BinaryIO) -> Image.Image:
    """A file as a Pillow image; TIFF files that Pillow cannot read, or reads wrongly, through tifffile."""
    try:
        Image.init()
        image: Any = Image.open(content, formats=[*_FORMATS & {*Image.OPEN}])  # AVIF came late
        tags = image.tag_v2 if image.format == "TIFF" else {}
        # Of samples of 16 bits in planes, Pillow takes each byte for a sample.
        if tags.get(Base.PlanarConfiguration) != 2 or max(tags.get(Base.BitsPerSample, (1,))) <= 8:
            return image
    except UnidentifiedImageError:  # Pillow knows no floating-point RGB
        content.seek(0)
        if (magic := content.read(4)) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            got = f"no data of a known kind ({', '.join(sorted(_FORMATS))})"
            raise ValueError(got if magic else "an empty file") from None
    content.seek(0)
    with tifffile.TiffFile(content) as tiff:
        page: Any = tiff.pages[0]
        if page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
            raise ValueError(f"a TIFF file of kind {page.photometric!r}")
        if page.samplesperpixel > 4:
            raise ValueError(f"{page.samplesperpixel} samples a pixel")
        # Samples are there twice, as a strip and in the whole, or once beside the bytes made of them.
        _limit(page.imagewidth, page.imagelength, 2 * page.nbytes // max(1, page.imagewidth * page.imagelength))
        samples = page.asarray()
    samples = np.moveaxis(samples, 0, -1) if page.axes == "SYX" else samples
    parts = np.array_split(samples, min(len(samples), 1 + samples.size // _BLOCK))
    image = Image.fromarray(np.concatenate([_to_uint8(part) for part in parts]))
    image.getexif()[Base.Orientation] = int(page.tags.valueof("Orientation", 1))
    image.info |= {"icc_profile": page.tags.valueof("InterColorProfile"), "bits": 8 * samples.itemsize}
    return image


def _cost(image: Image.Image) -> int:
    """The most bytes a pixel that it takes to decode and to colour an image, as measured; 4 of 7 are in Pillow."""
    if image.format in ("AVIF", "WEBP"):
        return 17
    if "progressive" in image.info or image.has_transparency_data:
        return 12
    tiff = getattr(image, "tag_v2", {})
    if tiff and (image.info.get("compression") != "raw" or tiff.get(Base.Orientation, 1) != 1):
        return 11
    return 7


def _limit(width: int, height: int, cost: int) -> None:
    """Refuse what would take more than `_MEMORY`, at `cost` bytes a pixel, and what is much longer than wide."""
    if width * height * cost > _MEMORY:
        most = _MEMORY // cost
        raise ValueError(f"{width * height} pixels ({width} x {height}), above the limit of {most} for its kind")
    if max(width, height) > 50 * min(width, height):  # the network sees the whole length at a width of 128
        raise ValueError(f"{width} x {height} pixels, a side above the limit of 50 times the other")


def _to_uint8(samples: np.ndarray) -> np.ndarray:
    """Samples of any type on the scale of 8 bits: integers out of 16 bits, floating-point numbers out of [0, 1]."""
    if samples.dtype == np.uint8:
        return samples
    top = 1 if samples.dtype.kind in "bf" else 65535
    if not (samples.min() >= 0 and samples.max() <= top):  # written so that nan is refused too
        raise ValueError(f"{samples.dtype} samples from {samples.min()} to {samples.max()} instead of 0 to {top}")
    return np.rint(samples * (255 / top)).astype(np.uint8)
