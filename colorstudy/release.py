"""The weights that Zhang et al. 2016 released: fetching their file, checking it, and the model it makes.

The file carries the start of its own SHA-256 in its name, ``<name>-<hex>.pth``, as the files of torch hub do.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import torch

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.bins import ColorBins
from colorstudy.data.cache import default_cache_dir, sha256
from colorstudy.methods import METHODS, Model
from colorstudy.targets import Classification

URL = "https://colorizers.s3.us-east-2.amazonaws.com/colorization_release_v2-9b330a0b.pth"
"""The authors' own copy, about 130 MB: ``eccv16`` of https://github.com/richzhang/colorization."""

SIZE = 256
"""The side of the authors' inputs, in pixels: they squeeze a picture to a square, we keep its proportions."""


def download(folder: str | Path | None = None) -> Path:
    """The released file in `folder`, fetched from `URL` unless it is there already.

    Parameters
    ----------
    folder : path, optional
        ``weights`` in the cache folder by default.

    Raises
    ------
    OSError
        If it cannot be fetched; the message says where to put it by hand.
    ValueError
        If what came is another file; nothing is kept of it then.
    """
    path = Path(default_cache_dir() / "weights" if folder is None else folder) / URL.rpartition("/")[2]
    if path.is_file():
        check(path)
        return path
    import pooch

    pooch.get_logger().setLevel("WARNING")  # it would advise to pass the hash
    with replacing(path) as temporary:
        try:
            # Only the start of the hash is known, which pooch cannot check.
            pooch.retrieve(URL, None, temporary.name, temporary.parent, progressbar=True)
        except (OSError, ValueError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise OSError(
                f"weights: expected to fetch {path.name} (130 MB) from {URL}; put it into {path.parent} by hand, "
                f"as this failed with {reason}"
            ) from error
        check(temporary, path.name)
    return path


def check(path: Path, name: str | None = None) -> None:
    """Require that the SHA-256 of a file starts as its name, or the `name` it is to get, says (``-<hex>.pth``).

    Raises
    ------
    ValueError
        If it does not, or the name says nothing.
    """
    says = re.search(r"-([0-9a-f]{8,64})\.pth$", name or path.name)
    require(says is not None, name or str(path), "a name that ends in -<start of its SHA-256>.pth", "another")
    found = sha256(path)
    require(found.startswith(says[1]), name or str(path), f"a SHA-256 that starts with {says[1]}", found)


def load(path: str | Path) -> Model:
    """The model of a released file, in evaluation mode: `zhang-full` with temperature 0.38.

    The file holds no class weights, which only a loss would need: they are ones. Counters of batch norm
    (``num_batches_tracked``) may be absent from it and are zero then; everything else has to be there. Its bins are in
    the order of `ColorBins.in_gamut`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not the file that its name says, or tensors are missing, spare or of another shape.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: expected the weights of a model, found no file")
    check(path)
    try:
        # Nothing in the file is run: with `weights_only` torch unpickles tensors and plain containers alone.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, EOFError, OSError) as error:
        raise ValueError(f"{path}: expected a file of tensors alone, got {type(error).__name__}") from error
    require(isinstance(state, dict), str(path), "a dict of tensors", type(state).__name__)
    others = [name for name in state if not isinstance(name, str)]
    require(not others, str(path), "a dict of tensors by name", others[:3])
    method = METHODS["zhang-full"]
    model = Model(method, Classification(ColorBins.in_gamut(), temperature=method.temperature))
    counters = {k: v.new_zeros(()) for k, v in model.network.state_dict().items() if k.endswith("num_batches_tracked")}
    try:
        model.network.load_state_dict(counters | state, strict=True)
    except (AttributeError, RuntimeError) as error:
        got = " ".join(str(error).split())
        raise ValueError(f"{path}: expected the weights of {method.network}, got {got}") from None
    model.notes = {"size": str(SIZE), "data": path.name}
    return model.eval()
