"""Options that commands share: for the fields of a dataclass, for pictures."""

import argparse
from dataclasses import fields
from typing import Any


def add_settings(parser: argparse.ArgumentParser, owner: Any) -> None:
    """An option for every field of the dataclass `owner`, named like it; `settings` reads them."""
    group = parser.add_argument_group("settings", f"see {owner.__module__}.{owner.__name__}")
    for field in fields(owner):
        name, default = f"--{field.name.replace('_', '-')}", field.default
        kind: dict[str, Any] = {"type": type(default)}
        if isinstance(default, bool):
            kind = {"action": argparse.BooleanOptionalAction}
        group.add_argument(name, default=default, help=f"{default} by default", **kind)


def settings(options: argparse.Namespace, owner: Any) -> Any:
    """The `owner` of what `add_settings` asked for."""
    return owner(**{field.name: getattr(options, field.name) for field in fields(owner)})


def add_data(parser: argparse.ArgumentParser, name: str, **options: str) -> None:
    """The argument or option `name` for a source of pictures, as `data.load` takes it, and ``--size``."""
    words = "photos, the embedded ones; photos16k, scenes, kodak or bsds300; a folder; or package.module:function"
    parser.add_argument(name, metavar="SOURCE", help=words, **options)  # type: ignore[arg-type]  # default= alone
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels, 128 by default")
