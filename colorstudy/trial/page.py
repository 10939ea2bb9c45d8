"""The stand-alone page of a trial: a folder that works from a disk and from any static host."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.color import merge, split
from colorstudy.trial.design import Design, sessions

CONSENT = (
    "This is a study of how well computers colour grey photographs. It takes about ten minutes.",
    "Your answers, the time they take, and how long each picture was really shown are recorded under a random code. "
    "No name, address, cookie or other personal data is collected. You may stop at any time by closing the page.",
    "Answers are kept for research and may be published. Whoever runs this study deletes yours if you send the code.",
)
"""What a participant agrees to; whoever runs a trial adds a name and an address to write to."""

_FILES = ("index.html", "trial.css", "trial.js", "page.js")
_QUALITY = 95  # of JPEG
_PAIR = ["method", "phase", "kind", "picture"]  # what two files belong to


def build(
    out: str | os.PathLike,
    true: Mapping[str, np.ndarray],
    fakes: Mapping[str, Mapping[str, np.ndarray]],
    participants: int,
    design: Design | None = None,
    *,
    post: str | None = None,
    consent: Sequence[str] = CONSENT,
    secret: int | None = None,
) -> pd.DataFrame:
    """Write the page of a trial to the folder `out`, and its key beside it, to ``<out>.key.csv``.

    The page holds nothing that tells the fake of a pair that counts: a pair has two files of its own, with random
    names, one size and one time, filled up with random bytes, and is written by sides and order alone, which are
    balanced. Keep the key away from the host. The answers of practice pairs, which have files of their own, are in the
    page: it has to say them.

    Parameters
    ----------
    out : path
        A folder that is not there yet.
    true : mapping of picture -> uint8 array (S, S, 3)
        At least `Design.practice` + `Design.trials`, with S = `Design.size`.
    fakes : mapping of method -> mapping of picture -> uint8 array (S, S, 3)
        The same pictures, coloured by each method.
    participants : int
        How many sessions the page has; a participant gets one by chance, or that of ``?session=`` in the address.
    design : Design, optional
    post : str, optional
        An http(s) address to which every answer is sent as well; see `server`.
    consent : sequence of str
        Paragraphs that a participant agrees to.
    secret : int, optional
        Seed of the names of files, to build the same page again; by default nobody knows it.

    Returns
    -------
    DataFrame
        The key, as `design.sessions` gives it.

    Raises
    ------
    FileExistsError
        If `out` or its key exists.
    ValueError
        If pictures differ in size or number, or `post` is no http(s) address.
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
    names: dict[tuple[str, ...], tuple[str, str]] = {}  # pair, see _PAIR -> files of the truth and of the fake
    content: dict[str, bytes] = {}
    for method, phase, kind, picture in key[_PAIR].drop_duplicates().itertuples(index=False):
        fake = fakes[method][picture] if kind == "method" else _miscolored(picture, true)
        names[method, phase, kind, picture] = pair = (rng.bytes(8).hex(), rng.bytes(8).hex())
        content |= {name: _jpeg(image) for name, image in zip(pair, (true[picture], fake))}
    length = max(map(len, content.values()))
    data = {
        "build": rng.bytes(6).hex(),
        "size": design.size,
        "exposure": design.exposure,
        "practice": design.practice,
        "rest": design.rest,
        "consent": list(consent),
        "post": post,
        "images": {name: f"images/{name}.jpg" for name in sorted(content)},
        "sessions": [_trials(part, names) for _, part in key.groupby("session")],
    }
    partial = out.with_name(f".{out.name}.{rng.bytes(4).hex()}")
    try:
        (partial / "images").mkdir(parents=True)
        for name, image in sorted(content.items()):  # in random order, as the names are
            (partial / "images" / f"{name}.jpg").write_bytes(image + rng.bytes(length - len(image)))
        for name in _FILES:
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
    return resources.files("colorstudy.trial").joinpath(name).read_text(encoding="utf-8")


def _trials(part: pd.DataFrame, names: Mapping[tuple[str, ...], tuple[str, str]]) -> list[dict[str, str]]:
    """The pairs of one session as the page takes them; what is fake is said in practice alone."""
    trials = []
    for row in part.itertuples():
        truth, fake = names[row.method, row.phase, row.kind, row.picture]
        other = "right" if row.fake_side == "left" else "left"
        sides = {row.fake_side: fake, other: truth}
        trial = {"left": sides["left"], "right": sides["right"], "first": row.fake_side if row.fake_first else other}
        trials.append(trial | ({"fake": row.fake_side} if row.phase == "practice" else {}))
    return trials


def _miscolored(picture: str, true: Mapping[str, np.ndarray]) -> np.ndarray:
    """A picture with the colours of the next one, turned upside down: easy to see through."""
    others = list(true)
    other = others[(others.index(picture) + 1) % len(others)]
    pair = [
        torch.from_numpy(np.ascontiguousarray(true[name])).permute(2, 0, 1)[None] / 255 for name in (picture, other)
    ]
    rgb = merge(split(pair[0])[0], 1.5 * split(pair[1])[1].flip(-2))
    return (rgb[0] * 255).round().byte().permute(1, 2, 0).numpy()


def _jpeg(image: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=_QUALITY, subsampling=0)
    return stream.getvalue()
