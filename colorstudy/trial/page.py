"""The stand-alone page of a trial: a folder that works from a disk and from any static host.

What the files cannot hide is in the pixels. Whoever has the original photographs finds them again; whoever holds two
sessions that show one photograph beside different fakes sees which picture is common to both; and a classifier may
know a method by its looks. So choose photographs that are nowhere published, and give every participant one code.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
from PIL import Image

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.color import merge, split, to_tensor, to_uint8
from colorstudy.trial.design import OTHER_SIDE, SIDES, Design, draw, generator, sessions


def build(
    out: str | os.PathLike,
    true: Mapping[str, np.ndarray],  # uint8 arrays (S, S, 3) by name, at least one a pair, with S = Design.size
    fakes: Mapping[str, Mapping[str, np.ndarray]],  # by method, the same pictures coloured
    participants: int,  # so many sessions, each under a code of its own: ?code= in the address
    design: Design | None = None,
    *,
    post: str | None = None,  # http(s) address to which answers are sent as well, see `server`
    origin: str | None = None,  # http(s) origin of the page, if another host than that of `post` shows it
    consent: Sequence[str] | None = None,  # paragraphs; if not those of consent.txt, with a name to write to
    secret: str | None = None,  # gives the same page again; by default 128 bits drawn now
) -> pd.DataFrame:
    """Write the page of a trial to the new folder `out`, and its key, which is returned, to ``<out>.key.csv``.

    Sides, orders, codes and names follow from the `secret`, which is in the key alone (readable by its owner alone).
    The page has its SHA-256, ``build``: published afterwards, the secret proves that the key was not changed.
    Every picture of every pair is a file of its own: BMP, one header and the pixels, so that no length or table tells
    anything; a tenth of its values are one higher or lower at random, so that none repeats. Keep the key off the host.
    """
    design, out, secret = design or Design(), Path(out), secret or token_hex(16)
    key_file = out.with_name(f"{out.name}.key.csv")
    for place in (out, key_file):
        if place.exists():
            raise FileExistsError(f"out: expected a new folder, got {place}, which exists")
    for name, address in {"post": post, "origin": origin}.items():
        require(address is None or address.startswith(("http://", "https://")), name, "an http(s) address", address)
    shape = (design.size, design.size, 3)
    for name, pictures in {"true": true, **{f"fakes[{m!r}]": p for m, p in fakes.items()}}.items():
        require(set(pictures) == set(true), name, "the pictures of true", f"{len(pictures)} of {len(true)}, or others")
        wrong = [p for p, image in pictures.items() if image.dtype != np.uint8 or image.shape != shape]
        require(not wrong, name, f"uint8 {shape}, the size of the design", f"another in {wrong[:3]}")
    key = sessions(design, list(true), list(fakes), participants, secret)
    key = key.assign(build=hashlib.sha256(secret.encode()).hexdigest(), secret=secret)
    key["code"] = [draw(secret, "code", number)[:32] for number in key["session"]]
    # The colours of the next picture, turned upside down, are easy to see through. Pictures of counted pairs lend none.
    aside = key.loc[(key["phase"] == "practice") | (key["kind"] == "catch"), "picture"].unique().tolist()
    catch = {p: _catch(true[p], true[q]) for p, q in zip(aside, aside[1:] + aside[:1])}
    data = {
        "build": key["build"][0],
        **{name: getattr(design, name) for name in ("size", "exposure", "practice", "rest")},
        "consent": resource("consent.txt").splitlines() if consent is None else list(consent),
        "post": post,
        "origin": origin,
    }
    scripts: dict[str, dict[str, Any]] = {}
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".", dir=out.parent) as temporary:
        partial = Path(temporary, "page")
        for folder in ("images", "sessions"):
            (partial / folder).mkdir(parents=True)
        for number, trial, phase, method, kind, picture, fake, first, _, _, code in key.itertuples(index=False):
            pair = {side: f"images/{draw(secret, 'name', number, trial, side)[:32]}.bmp" for side in SIDES}
            for side in SIDES:
                image = (true if side != fake else catch if kind == "catch" else fakes[method])[picture]
                _write(partial / pair[side], image, generator(secret, "noise", number, trial, side))
            pair |= {"first": fake if first else OTHER_SIDE[fake]} | ({"fake": fake} if phase == "practice" else {})
            scripts.setdefault(code, {"session": number, "code": code, "trials": []})["trials"].append(pair)
        for code, script in scripts.items():
            _write_script(partial / "sessions" / f"{code}.js", "COLORSTUDY_SESSION", script)
        _write_script(partial / "data.js", "COLORSTUDY_TRIAL", data)
        for name in ("index.html", "trial.css", "trial.js", "page.js"):
            text = resource(name).replace("connect-src *", "connect-src " + (origin_of(post) or "'none'"))
            (partial / name).write_text(text, encoding="utf-8")
        for path in [*partial.rglob("*"), partial]:
            os.utime(path, (0, 0))
        with replacing(key_file) as new_key:
            new_key.touch(0o600)
            key.to_csv(new_key, index=False)
        partial.rename(out)
    return key


def read_key(page: str | os.PathLike) -> pd.DataFrame:
    """The key that `build` wrote beside the folder `page`; a ``FileNotFoundError`` if it is not there."""
    page = Path(page)
    path = page.with_name(f"{page.name}.key.csv")
    if not (page / "index.html").is_file() or not path.is_file():
        raise FileNotFoundError(f"page: expected a folder of `trial build` with {path.name} beside it, got {page}")
    return pd.read_csv(path, dtype={"build": str, "secret": str, "code": str})


def read_script(path: str | os.PathLike) -> dict[str, Any]:
    """What a data file of the page holds: ``data.js``, or a session's."""
    text = Path(path).read_text(encoding="utf-8")
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


def resource(name: str) -> str:
    """The text of one of the files of the page."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def origin_of(address: str | None) -> str | None:
    """The origin of an http(s) address, as browsers send it."""
    return address and "{0.scheme}://{0.netloc}".format(urlsplit(address)).lower()


def _catch(image: np.ndarray, other: np.ndarray) -> np.ndarray:
    """A picture with the colours of another, more vivid and upside down."""
    lightness, chroma = split(to_tensor(np.stack([image, other])))
    return to_uint8(merge(lightness[0], 1.5 * chroma[1].flip(-2)))


def _write(path: Path, image: np.ndarray, rng: np.random.Generator) -> None:
    """Write a picture with its own noise, which nobody sees."""
    noise = np.array([-1, 1] + [0] * 18)[rng.integers(0, 20, image.shape)]
    Image.fromarray(np.clip(image + noise, 0, 255).astype(np.uint8)).save(path)


def _write_script(path: Path, name: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")  # nothing in it may end the script
    path.write_text(f"window.{name} = {text};\n", encoding="utf-8")
