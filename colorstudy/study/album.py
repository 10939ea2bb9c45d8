"""Coloured pictures and clips as files: where they go, and how pictures keep what their sources say beside pixels."""

import warnings
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.data.readers import EXTENSIONS, is_srgb, opened, pictures_below, upright

# Who, when, where and with what; a TIFF file has many more tags, of how its pixels lie.
_KEPT = (Base.ImageDescription, Base.Make, Base.Model, Base.Software, Base.DateTime, Base.Artist, Base.Copyright,
         Base.XPTitle, Base.XPComment, Base.XPAuthor, Base.XPKeywords, Base.XPSubject)  # fmt: skip
_WRITTEN = (".jpg", ".jpeg", ".jfif", ".jpe", ".png")
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
_SRGB = _SRGB[:24] + bytes(12) + _SRGB[36:]  # without the time at which it was made


def plan(places: Sequence[Path], out: Path, clips: tuple[str, ...]) -> tuple[dict[Path, Path], list[str]]:
    """Coloured file -> source, of the files and folders `places`; and what is left out, in words.

    A picture of a folder keeps its place below it. JPEG files stay JPEG, those that end on one of `clips` become MP4,
    all others PNG: ``a.png`` of ``a.tif``, but ``a.tif.png`` where another is to have that name. A single picture or
    clip goes to `out` itself, if that has the name of a file. What lies below `out` is no source. A ``ValueError`` if a
    place is missing, a folder has no pictures, two sources have one name, a source would be overwritten, or `out` is a
    file that cannot hold what it should.
    """
    sources: dict[Path, Path] = {}  # picture -> its name
    skipped: list[str] = []
    for place in places:
        require(place.exists(), "pictures", "files or folders", f"{place}, which does not exist")
        if place.is_dir():
            with warnings.catch_warnings(record=True) as left_out:
                warnings.simplefilter("always")
                names = pictures_below(place, EXTENSIONS + clips)
            skipped += [str(warning.message).removeprefix("left out: ") for warning in left_out]
            require(len(names + left_out) > 0, "pictures", "files or folders of pictures", f"{place}, with none")
            made = out.resolve() if place.resolve() in out.resolve().parents else None  # by an earlier call
            sources |= {place / name: Path(name) for name in names if made not in (place / name).resolve().parents}
        elif place.is_file():
            sources[place] = Path(place.name)
        else:
            skipped.append(f"{place}, which is no regular file")
    single = out.suffix.lower() in EXTENSIONS + clips and not out.is_dir()
    if single and sources:
        suffixes = (".mkv", ".mov", ".mp4") if next(iter(sources)).suffix.lower() in clips else _WRITTEN
        good = len(sources) == 1 and out.suffix.lower() in suffixes
        require(good, "out", f"a folder, or, for one source, a file of one of {', '.join(suffixes)}", out)
    require(single or out.is_dir() or not out.exists(), "out", "a folder", out)

    def short(name: Path) -> Path:
        kept = name.suffix.lower() in (*_WRITTEN, ".mp4")
        return name if kept else name.with_suffix(".mp4" if name.suffix.lower() in clips else ".png")

    often, originals = Counter(map(short, sources.values())), {source.resolve() for source in sources}
    targets: dict[Path, Path] = {}
    for source, name in sources.items():
        is_free = short(name) == name or often[short(name)] == 1
        target = out if single else out / (short(name) if is_free else f"{name}{short(name).suffix}")
        require(target not in targets, "pictures", f"one for {target}", f"{source} and {targets.get(target)}")
        require(target.resolve() not in originals, "out", "another place than that of the sources", out)
        targets[target] = source
    return targets, skipped


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
