"""Checks of arguments: one place for the sentence "name: expected this, got that"."""

import difflib
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch


def require(condition: bool, argument: str, expected: str, got: object) -> None:
    """Raise a ``ValueError`` naming `argument`, what was expected and what came, unless `condition` holds."""
    if not condition:
        raise ValueError(f"{argument}: expected {expected}, got {got}")


def require_choice(value: object, known: Collection[str], argument: str) -> None:
    """Require one of the `known` names; the error lists them, and says which is the nearest."""
    if value not in known:
        nearest = difflib.get_close_matches(str(value), known, 1)
        hint = f"; did you mean {nearest[0]!r}?" if nearest else ""
        raise ValueError(f"{argument}: expected one of {[*known]}, got {value!r}{hint}")


def require_maps(tensor: torch.Tensor, argument: str, channels: int, shape: str, or_bytes: bool = False) -> None:
    """Require a floating-point tensor (..., `channels`, H, W), or uint8 if `or_bytes`; else a ``TypeError``."""
    is_tensor = isinstance(tensor, torch.Tensor)
    if not is_tensor or not (tensor.is_floating_point() or (or_bytes and tensor.dtype == torch.uint8)):
        got = tensor.dtype if is_tensor else type(tensor).__name__
        raise TypeError(f"{argument}: expected a floating-point tensor {shape}, got {got}")
    good = tensor.ndim >= 3 and tensor.shape[-3] == channels and (tensor.ndim == 4 or "(B" not in shape)
    require(good, argument, f"shape {shape}", tuple(tensor.shape))


def resolve(path: str, argument: str) -> Any:
    """What ``"package.module:Name"`` names; a ``ValueError`` if there is no such thing."""
    module_name, _, name = path.partition(":")
    try:
        # A class of the script that runs is found there: importing the script would run it again.
        module = sys.modules["__main__"] if module_name == main_name() != "" else import_module(module_name)
        return attrgetter(name)(module)
    except Exception as error:  # a module may raise anything when it is imported
        near = difflib.get_close_matches(name, getattr(sys.modules.get(module_name), "__dict__", ()), 1)
        got = f"{path!r}: {error}" + (f"; did you mean '{module_name}:{near[0]}'?" if near else "")
        raise ValueError(f"{argument}: expected something that Python can import, got {got}") from error


def main_name() -> str:
    """The name by which another process imports the script or module that runs as ``__main__``; "" if it cannot."""
    main = sys.modules["__main__"]
    return main.__spec__.name if main.__spec__ else Path(getattr(main, "__file__", None) or "").stem


@contextmanager
def extra(name: str) -> Iterator[None]:
    """Within, a failed import says which extra of colorstudy to install."""
    try:
        yield
    except ImportError as error:
        raise ImportError(f"{error}; it comes with: pip install 'colorstudy[{name}]'", name=error.name) from error
