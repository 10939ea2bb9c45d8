"""Checks of arguments: one place for the sentence "name: expected this, got that"."""

import difflib
import inspect
import sys
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch

_P = ParamSpec("_P")
_R = TypeVar("_R")


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


def require_columns(table: Any, columns: Iterable[str], argument: str) -> None:
    """Require that `table` has the `columns`; the error names those that it lacks."""
    missing = sorted({*columns} - {*table.columns})
    require(not missing, argument, f"the columns {missing}", f"only {[*table.columns]}")


def require_maps(tensor: torch.Tensor, argument: str, channels: int, shape: str) -> None:
    """Require a floating-point tensor (..., `channels`, H, W); a ``TypeError`` if it is none, else a ``ValueError``."""
    if not isinstance(tensor, torch.Tensor) or not tensor.is_floating_point():
        got = tensor.dtype if isinstance(tensor, torch.Tensor) else type(tensor).__name__
        raise TypeError(f"{argument}: expected a floating-point tensor {shape}, got {got}")
    good = tensor.ndim >= 3 and tensor.shape[-3] == channels and (tensor.ndim == 4 or "(B" not in shape)
    require(good, argument, f"shape {shape}", tuple(tensor.shape))


def takes(**shapes: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorator: `require_maps` of the named arguments, of shapes such as "(B, 2, h, w)" or "uint8 or (*, 3, H, W)"."""

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        names = list(inspect.signature(function).parameters)

        @wraps(function)
        def checked(*args: _P.args, **options: _P.kwargs) -> _R:
            given: dict[str, Any] = dict(zip(names, args)) | options
            for name in (name for name in shapes if name in given):
                tensor, (either, _, shape) = given[name], shapes[name].rpartition(" or ")
                if either and getattr(tensor, "dtype", None) == torch.uint8:
                    tensor = tensor[..., :0, :0].float()
                require_maps(tensor, name, int(shape.split(",")[1]), shape)
            return function(*args, **options)

        return checked

    return decorate


def resolve(path: str, argument: str) -> Any:
    """What ``"package.module:Name"`` names; a ``ValueError`` if there is no such thing."""
    module_name, _, name = path.partition(":")
    try:
        # A class of the script that runs is found there: importing the script would run it again.
        found = sys.modules["__main__"] if module_name == main_name() != "" else import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except Exception as error:  # a module may raise anything when it is imported
        near = difflib.get_close_matches(name, getattr(sys.modules.get(module_name), "__dict__", ()), 1)
        hint = f"; did you mean '{module_name}:{near[0]}'?" if near else ""
        raise ValueError(
            f"{argument}: expected something that Python can import, got {path!r}: {error}{hint}"
        ) from error
    return found


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
