"""The weights that Zhang et al. 2016 released: a file whose name ends in the start of its SHA-256, ``-<hex>.pth``."""

import pickle
import re
from pathlib import Path

import torch

from colorstudy._checks import extra, require
from colorstudy._files import cache_dir, replacing, sha256
from colorstudy.bins import ColorBins
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.targets import Classification

# The authors' own copy, about 130 MB: ``eccv16`` of https://github.com/richzhang/colorization.
URL = "https://colorizers.s3.us-east-2.amazonaws.com/colorization_release_v2-9b330a0b.pth"


def download(folder: str | Path | None = None) -> Path:
    """The released file in `folder`, ``weights`` in the cache folder by default, fetched from `URL` if it is not there.

    If it cannot be fetched, an ``OSError`` says where to put it by hand. Another file is a ``ValueError``, not kept.
    """
    path = Path(cache_dir() / "weights" if folder is None else folder) / URL.rpartition("/")[2]
    if path.is_file():
        _check(path, str(path))
        return path
    with extra("photos"):
        import pooch
    pooch.get_logger().setLevel("WARNING")  # it would advise to pass the hash, of which only the start is known
    with replacing(path) as temporary:
        try:
            pooch.retrieve(URL, None, temporary.name, temporary.parent, progressbar=True)
        except (OSError, ValueError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            by_hand = f"put it into {path.parent} by hand, as this failed with {reason}"
            raise OSError(f"weights: expected to fetch {path.name} (130 MB) from {URL}; {by_hand}") from error
        _check(temporary, path.name)
    return path


def load(path: str | Path) -> Model:
    """The model of a released file, in evaluation mode: `zhang-full` with temperature 0.38, at a working size of 256.

    Its authors squeeze a picture to that side; we keep its proportions. Class weights, which only a loss would need,
    are ones. A ``ValueError`` if it is not the file that its name says, or tensors are missing, spare or misshapen.
    """
    path = Path(path)
    _check(path, str(path))
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)  # runs nothing of the file
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected a file of tensors alone, got {type(error).__name__}") from error
    odd = [key for key in state if not isinstance(key, str)] if isinstance(state, dict) else type(state).__name__
    require(not odd, str(path), "a dict of tensors by name", odd)
    method = METHODS["zhang-full"]
    model = Model(method, Classification(ColorBins.in_gamut(), temperature=method.temperature), 256, path.name)
    try:
        model.network.load_state_dict(dict(state))  # without its versions: then torch adds counters that are missing
    except (AttributeError, RuntimeError) as error:
        got = " ".join(str(error).split())
        raise ValueError(f"{path}: expected the weights of {method.network}, got {got}") from None
    return model.eval()


def _check(path: Path, name: str) -> None:
    """Require that the SHA-256 of a file starts as its `name` says (``-<hex>.pth``)."""
    start = "".join(re.findall(r"-([0-9a-f]{8,64})\.pth$", name))
    require(start != "", name, "a name that ends in -<start of its SHA-256>.pth", "another")
    found = sha256(path)
    require(found.startswith(start), name, f"a SHA-256 that starts with {start}", found)
