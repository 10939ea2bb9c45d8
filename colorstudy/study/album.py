"""Where coloured pictures and clips go, and by what a finished one is known."""

import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from colorstudy import __version__
from colorstudy._checks import require
from colorstudy._files import sha256
from colorstudy._provenance import digest
from colorstudy.colorize import Colorizer
from colorstudy.data.readers import EXTENSIONS, pictures_below

_KEPT = {".jpg", ".jpeg", ".jfif", ".jpe", ".png", ".mp4"}


def plan(places: Sequence[Path], out: Path, clips: tuple[str, ...]) -> tuple[dict[Path, Path], list[str]]:
    """Coloured file -> source, of the files and folders `places`; and what is left out, in words.

    A picture of a folder keeps its place below it. JPEG files stay JPEG, those that end on one of `clips` become MP4,
    all others PNG: ``a.png`` of ``a.tif``, but ``a.tif.png`` where another is to have that name. A single clip goes to
    `out` itself, if that has the name of a file. A ``ValueError`` if a place is missing, a folder has no pictures, two
    sources have one name, or a source would be overwritten.
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
            sources |= {place / name: Path(name) for name in names}
        elif place.is_file():
            sources[place] = Path(place.name)
        else:
            skipped.append(f"{place}, which is no regular file")
    single = len(sources) == 1 and bool(out.suffix) and next(iter(sources)).suffix.lower() in clips
    require(single or out.is_dir() or not out.exists(), "out", "a folder", out)
    suffixes = {source: ".mp4" if source.suffix.lower() in clips else ".png" for source in sources}
    kept = {source: source.suffix.lower() in _KEPT for source in sources}
    short = {source: name if kept[source] else name.with_suffix(suffixes[source]) for source, name in sources.items()}
    often, originals = Counter(short.values()), {source.resolve() for source in sources}
    targets: dict[Path, Path] = {}
    for source, name in sources.items():
        is_alone = kept[source] or often[short[source]] == 1
        target = out if single else out / (short[source] if is_alone else f"{name}{suffixes[source]}")
        require(target not in targets, "pictures", f"one for {target}", f"{source} and {targets.get(target)}")
        require(target.resolve() not in originals, "out", "another place than that of the sources", out)
        targets[target] = source
    return targets, skipped


def mark_for(source: Path, colorizer: Colorizer) -> str:
    """What the coloured picture of `source` is marked with: the version, and a hash of source, model and options."""
    job = [sha256(source), colorizer.model.checksum, colorizer.size, colorizer.options]
    return f"colorstudy {__version__} {digest(job)}"
