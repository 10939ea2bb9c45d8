"""The stand-alone page of a trial: a folder that works from a disk and from any static host."""

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.color import merge, split, to_tensor, to_uint8
from colorstudy.trial.design import OTHER_SIDE, Design, sessions


def build(
    out: str | os.PathLike,
    true: Mapping[str, np.ndarray],  # uint8 arrays (S, S, 3) by name, at least one a pair, with S = Design.size
    fakes: Mapping[str, Mapping[str, np.ndarray]],  # by method, the same pictures coloured
    participants: int,  # a participant gets one of so many sessions by chance, or that of ?session= in the address
    design: Design | None = None,
    *,
    post: str | None = None,  # http(s) address to which answers are sent as well, see `server`
    consent: Sequence[str] | None = None,  # paragraphs; if not those of consent.txt, with a name to write to
    secret: int | None = None,  # gives the same page again; by default nobody knows it
) -> pd.DataFrame:
    """Write the page of a trial to the new folder `out`, and its key, which is returned, to ``<out>.key.csv``.

    The page holds nothing that tells the fake of a pair that counts: a pair has two files of its own, with random
    names, one size and one time, filled up with random bytes, and is written by sides and order alone, which are
    balanced. Keep the key away from the host. Practice pairs, whose answers the page tells, have files of their own.
    """
    design, out = design or Design(), Path(out)
    key_file = out.with_name(f"{out.name}.key.csv")
    for place in (out, key_file):
        if place.exists():
            raise FileExistsError(f"out: expected a new folder, got {place}, which exists")
    require(post is None or post.startswith(("http://", "https://")), "post", "an http(s) address", post)
    shape = (design.size, design.size, 3)
    for name, pictures in {"true": true, **{f"fakes[{m!r}]": p for m, p in fakes.items()}}.items():
        require(set(pictures) == set(true), name, "the pictures of true", f"{len(pictures)} of {len(true)}, or others")
        wrong = [p for p, image in pictures.items() if image.dtype != np.uint8 or image.shape != shape]
        require(not wrong, name, f"uint8 {shape}, the size of the design", f"another in {wrong[:3]}")
    key = sessions(design, list(true), list(fakes), participants)

    rng = np.random.default_rng(secret)
    following = dict(zip(true, [*true][1:] + [*true][:1]))
    files: dict[tuple, list[str]] = {}  # method, phase, kind, picture -> the truth and the fake
    content: dict[str, bytes] = {}
    trials: list[list[dict]] = [[] for _ in range(participants)]
    for session, _, phase, method, kind, picture, side, first in key.itertuples(index=False):
        pair = method, phase, kind, picture
        if pair not in files:
            files[pair] = [rng.bytes(8).hex(), rng.bytes(8).hex()]
            if kind == "method":
                fake = fakes[method][picture]
            else:  # the colours of the next picture, turned upside down: easy to see through
                lightness, chroma = split(to_tensor(np.stack([true[picture], true[following[picture]]])))
                fake = to_uint8(merge(lightness[0], 1.5 * chroma[1].flip(-2)))
            for name, image in zip(files[pair], (true[picture], fake)):
                stream = io.BytesIO()
                Image.fromarray(image).save(stream, "JPEG", quality=95, subsampling=0)
                content[name] = stream.getvalue()
        left, right = files[pair] if side == "right" else reversed(files[pair])
        shown = {"left": left, "right": right, "first": side if first else OTHER_SIDE[side]}
        trials[session].append(shown | ({"fake": side} if phase == "practice" else {}))
    length = max(map(len, content.values()))
    data = {
        "build": rng.bytes(6).hex(),
        **{name: getattr(design, name) for name in ("size", "exposure", "practice", "rest")},
        "consent": resource("consent.txt").splitlines() if consent is None else list(consent),
        "post": post,
        "images": {name: f"images/{name}.jpg" for name in sorted(content)},
        "sessions": trials,
    }
    partial = out.with_name(f".{out.name}.{rng.bytes(4).hex()}")
    try:
        (partial / "images").mkdir(parents=True)
        for name, jpeg in sorted(content.items()):  # in random order, as the names are
            (partial / "images" / f"{name}.jpg").write_bytes(jpeg + rng.bytes(length - len(jpeg)))
        for name in ("index.html", "trial.css", "trial.js", "page.js"):
            (partial / name).write_text(resource(name), encoding="utf-8")
        text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")  # nothing in it may end the script
        (partial / "data.js").write_text(f"window.COLORSTUDY_TRIAL = {text};\n", encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            os.utime(path, (0, 0))
        with replacing(key_file) as temporary:
            key.assign(build=data["build"]).to_csv(temporary, index=False)
        partial.rename(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return key


def read_key(page: str | os.PathLike) -> pd.DataFrame:
    """The key that `build` wrote beside the folder `page`; a ``FileNotFoundError`` if it is not there."""
    page = Path(page)
    path = page.with_name(f"{page.name}.key.csv")
    if not (page / "index.html").is_file() or not path.is_file():
        raise FileNotFoundError(f"page: expected a folder of `trial build` with {path.name} beside it, got {page}")
    return pd.read_csv(path, dtype={"build": str})


def resource(name: str) -> str:
    """The text of one of the files of the page."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
