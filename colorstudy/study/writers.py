"""Coloured pictures -> JPEG and PNG files that keep what their sources say beside the pixels."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from colorstudy._files import replacing
from colorstudy.data.readers import is_srgb, opened, upright

# Who, when, where and with what; a TIFF file has many more tags, of how its pixels lie.
_KEPT = (Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist, Base.Copyright,
         Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject)  # fmt: skip
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_SRGB = _SRGB[:24] + bytes(12) + _SRGB[36:]  # without the time at which it was made


def write(path: Path, pixels: np.ndarray, source: Path, mark: str) -> list[str]:
    """Write the coloured `pixels` (H, W, 3), uint8 sRGB, of the picture `source`, whole or not at all; what is lost.

    Kept are EXIF data, but for the orientation, which is applied; resolution; an ICC profile, that of sRGB in place of
    any other; transparency, if `path` is no JPEG file. `mark` becomes the EXIF tag ProcessingSoftware, see `mark_of`.
    """
    lost, alpha = [], None
    with opened(source) as image:
        options: dict[str, Any] = {"exif": _exif(image, mark, pixels.shape)}
        with suppress(Exception):  # a resolution that is none
            dpi = tuple(float(value) for value in image.info["dpi"])
            options |= {"dpi": dpi} if all(1 <= value <= 65535 for value in dpi) else {}
        if profile := image.info.get("icc_profile"):
            options["icc_profile"] = profile if is_srgb(profile) else _SRGB
        if image.mode[0] in "IF" or ";16" in str(getattr(image, "tile", "")) or image.info.get("bits", 8) > 8:
            lost.append("16 bits a sample, of which 8 are kept")
        if image.has_transparency_data and path.suffix.lower() == ".png":
            alpha = upright(image, 1, lambda block: block.convert("RGBA").getchannel("A"))
        elif image.has_transparency_data:
            lost.append("transparency, which JPEG files do not have")
    for part, a in zip(*(np.array_split(maps, len(pixels)) for maps in (pixels, alpha))) if alpha is not None else ():
        part[:] = (255 - (255 - part) * np.where(a > 0, 255 / np.maximum(a, 1), 0)).clip(0, 255).round()
    picture = Image.fromarray(pixels)
    if alpha is not None:
        picture.putalpha(Image.fromarray(alpha[..., 0]))
    with replacing(path) as temporary:
        picture.save(temporary, quality=95, **options)  # of JPEG; PNG loses nothing
    return lost


def mark_of(path: Path) -> str | None:
    """The mark that `write` has left in a picture, if it has."""
    with suppress(ValueError), opened(path) as image:
        return image.getexif().get(Base.ProcessingSoftware)
    return None


def _exif(image: Image.Image, mark: str, shape: tuple[int, ...]) -> bytes:
    exif, plain = Image.Exif(), Image.Exif()
    exif[Base.ProcessingSoftware] = plain[Base.ProcessingSoftware] = mark
    with suppress(Exception):  # what is broken is lost
        found = image.getexif()
        exif.update({tag: found[tag] for tag in _KEPT if tag in found})
        about = {Base.ColorSpace: 1, Base.ExifImageWidth: shape[1], Base.ExifImageHeight: shape[0]}
        for part in (IFD.Exif, IFD.GPSInfo):
            if values := {tag: value for tag, value in found.get_ifd(part).items() if tag != IFD.Interop}:
                exif[part] = values | {tag: value for tag, value in about.items() if tag in values}
        if len(data := exif.tobytes()) < 65_500:  # of which a JPEG file can hold no more
            return data
    return plain.tobytes()
