"""What the options of several commands share: how tyro is told of them."""

from typing import Annotated, Any

from tyro.conf import arg

GROUP: Any = arg(name="")  # the fields of a dataclass are options of the command


def option(words: str, value: str | None = None, *short: str) -> Any:
    """An option explained by `words`, its value called `value`; what nothing by default means is for them to say."""

    def hint(default: str) -> str:
        return f"(default: {default})" if default not in ("", "None") else ""

    return arg(help=words, metavar=value, aliases=short, help_behavior_hint=hint)


Source = Annotated[
    str, option("photos, the embedded ones; photos16k, scenes, kodak, bsds300; a folder; package.module:name", "SOURCE")
]
Size = Annotated[int, option("side of the pictures in pixels")]
