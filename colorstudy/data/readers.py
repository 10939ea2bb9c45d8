"""Image files of any common kind -> uint8 sRGB arrays."""

from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms, ImageOps, UnidentifiedImageError

from colorstudy._checks import require
from colorstudy.color import srgb_to_lab

EXTENSIONS = (".bmp", ".gif", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp")
"""The file name extensions of what `read` decodes, in lower case; `read` itself goes by content."""

CLIP_EXTENSIONS = (".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv")
"""File name extensions that tell a clip from a picture, in lower case; `video.Clip` itself goes by content."""

GREY_CHROMA = 5.0
"""A picture whose largest chroma is at most this, in ab units, counts as grey."""

# An explicit list: Pillow would also hand EPS files to Ghostscript.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_BITS, _PHOTOMETRIC, _ORIENTATION, _PLANAR, _ICC_PROFILE = 258, 262, 274, 284, 34675  # TIFF tags


def read(path: str | os.PathLike) -> np.ndarray:
    """The picture in an image file, upright and in sRGB.

    EXIF orientation and an embedded ICC profile are applied, transparency is laid over white, 16-bit samples are scaled
    to 8 bits, floating-point samples are taken as sRGB in [0, 1]; of several frames or pages the first is read.

    Parameters
    ----------
    path : path
        A BMP, GIF, JPEG, PNG, TIFF or WebP file, whatever its extension.

    Returns
    -------
    uint8 array (H, W, 3)

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it cannot be decoded, or holds more than ``PIL.Image.MAX_IMAGE_PIXELS`` pixels.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"path: expected an image file, got {path}, which does not exist")
    try:
        return _decode(path)
    except MemoryError:  # no fault of the file
        raise
    except Exception as error:  # a damaged file makes decoders raise anything: OSError, SyntaxError, zlib.error, ...
        raise ValueError(f"{path}: expected a picture that can be decoded, got {_reason(path, error)}") from error


def decode(content: bytes) -> np.ndarray:
    """The picture in the content of an image file, as `read` gives it; a ``ValueError`` if it cannot be decoded."""
    try:
        return _decode(io.BytesIO(content))
    except MemoryError:
        raise
    except Exception as error:
        known = "no data of a known kind" if isinstance(error, UnidentifiedImageError) else str(error)
        raise ValueError(f"expected a picture that can be decoded, got {known or type(error).__name__}") from error


def fit(image: np.ndarray, size: int) -> np.ndarray:
    """The centre square of `image` (H, W, 3) uint8, resized with antialiasing to (size, size, 3)."""
    require(image.dtype == np.uint8 and image.ndim == 3 and image.shape[2] == 3, "image", "uint8 (H, W, 3)",
            f"{image.dtype} {image.shape}")  # fmt: skip
    return np.array(ImageOps.fit(Image.fromarray(image), (size, size), Image.Resampling.LANCZOS))


def max_chroma(image: np.ndarray) -> float:
    """The largest distance from grey of a pixel of `image` (H, W, 3) uint8, in ab units; see `GREY_CHROMA`."""
    lab = srgb_to_lab(torch.tensor(image).permute(2, 0, 1) / 255)  # (3, H, W)
    return lab[1:].norm(dim=0).max().item()


def _decode(path: Path | io.BytesIO) -> np.ndarray:
    """`read` without its promise about errors."""
    with _open(path) as image:
        _limit(image.width * image.height)
        image.load()
        profile = image.info.get("icc_profile")
        # Pillow inverts white-is-zero TIFFs of 8 bits and less only.
        inverted = image.format == "TIFF" and image.mode.startswith("I") and image.tag_v2.get(_PHOTOMETRIC) == 0
        image = _upright(image)
    if image.mode.startswith("I") or image.mode == "F":  # Pillow's own conversion would clip instead of scaling
        image = Image.fromarray(_to_uint8(np.asarray(image)))
        image = ImageOps.invert(image) if inverted else image
    if image.has_transparency_data:  # an alpha channel, or a transparent colour of the palette
        image = image.convert("RGBA")
    elif image.mode not in ("L", "RGB", "CMYK"):  # these three may have a profile of their own
        image = image.convert("RGB")
    alpha = image.getchannel("A") if image.mode == "RGBA" else None
    image = image.convert("RGB") if alpha else image
    image = _to_srgb(image, profile) if profile else image.convert("RGB")
    if alpha:
        image = Image.composite(image, Image.new("RGB", image.size, "white"), alpha)
    return np.array(image)  # (H, W, 3)


def _open(path: Path | io.BytesIO) -> Image.Image:
    """The file as a Pillow image."""
    try:
        image = Image.open(path, formats=_FORMATS)
    except UnidentifiedImageError:
        with io.BytesIO(path.getvalue()) if isinstance(path, io.BytesIO) else open(path, "rb") as file:
            if file.read(4) not in _TIFF_MAGIC:
                raise
        return _open_tiff(path)  # Pillow knows no floating-point RGB
    if image.format == "TIFF" and image.tag_v2.get(_PLANAR) == 2 and max(image.tag_v2.get(_BITS, (1,))) > 8:
        image.close()
        return _open_tiff(path)  # Pillow takes each byte of these for a sample
    return image


def _open_tiff(path: Path | io.BytesIO) -> Image.Image:
    """The first page of a grey or RGB TIFF file through tifffile, scaled to 8 bits."""
    with tifffile.TiffFile(path) as tiff:
        page = tiff.pages[0]
        _limit(page.imagewidth * page.imagelength)
        if page.photometric not in (tifffile.PHOTOMETRIC.MINISBLACK, tifffile.PHOTOMETRIC.RGB):
            raise ValueError(f"a TIFF file of kind {page.photometric!r}")
        samples = _to_uint8(page.asarray())
        tags = {code: page.tags[code].value for code in (_ORIENTATION, _ICC_PROFILE) if code in page.tags}
    if page.axes == "SYX":
        samples = np.moveaxis(samples, 0, -1)
    image = Image.fromarray(np.ascontiguousarray(samples))
    image.getexif()[_ORIENTATION] = int(tags.get(_ORIENTATION, 1))
    image.info["icc_profile"] = tags.get(_ICC_PROFILE)
    return image


def _limit(pixels: int) -> None:
    """Refuse what Pillow only warns of: a small file that unpacks to more pixels than its limit."""
    if Image.MAX_IMAGE_PIXELS is not None and pixels > Image.MAX_IMAGE_PIXELS:
        raise ValueError(f"{pixels} pixels, above the limit of {Image.MAX_IMAGE_PIXELS} (PIL.Image.MAX_IMAGE_PIXELS)")


def _upright(image: Image.Image) -> Image.Image:
    """`image` turned as its EXIF orientation says; broken EXIF data spoil no pixels and are ignored."""
    try:
        return ImageOps.exif_transpose(image)
    except Exception:
        return image.copy()


def _to_uint8(samples: np.ndarray) -> np.ndarray:
    """Samples of any type on the scale of 8 bits: integers out of 16 bits, floating-point numbers out of [0, 1]."""
    if samples.dtype == np.uint8:
        return samples
    top = 1 if samples.dtype.kind in "bf" else 65535
    if not (samples.min() >= 0 and samples.max() <= top):  # written so that nan is refused too
        raise ValueError(f"{samples.dtype} samples from {samples.min()} to {samples.max()} instead of 0 to {top}")
    return np.rint(samples * (255 / top)).astype(np.uint8)


def _to_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """`image` (L, RGB or CMYK) converted from its ICC profile; one that is broken or of another mode is ignored."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" not in (source.profile.profile_description or "").lower():
            return ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        pass
    return image.convert("RGB")


def _reason(path: Path, error: Exception) -> str:
    """Why `path` was not decoded, in words that hold no absolute path."""
    if path.is_dir():
        return "a folder"
    if isinstance(error, UnidentifiedImageError):
        return "no data of a known kind (BMP, GIF, JPEG, PNG, TIFF, WebP)" if path.stat().st_size else "an empty file"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
