"""`colorstudy train`: its options are the fields of `TrainConfig` and `Method`."""

from dataclasses import dataclass
from typing import Annotated

from tyro.conf import Positional, Suppress

from colorstudy import training
from colorstudy._checks import require
from colorstudy.data import load
from colorstudy.methods import Method, get
from colorstudy.study.options import GROUP, Size, Source, option


@dataclass(frozen=True)
class Own(Method):
    """The fields of a method of your own, but for those that name another; not checked before one is made of them."""

    network: Annotated[str, option("a known one, compact by default, or package.module:Name of yours")] = ""
    target: Annotated[str, option("regression, classification (the default), or package.module:Name of yours")] = ""
    start: Annotated[str, Suppress] = ""
    decodes: Annotated[str, Suppress] = ""

    def __post_init__(self) -> None: ...


def train(
    out: Annotated[str, option("folder of the run", "RUN", "-o")],
    config: Annotated[training.TrainConfig, GROUP],
    own: Annotated[Own, GROUP],
    method: Annotated[Positional[str | None], option("one of `colorstudy methods`; or make your own", "METHOD")] = None,
    data: Source = "photos",
    size: Size = 128,
    start: Annotated[str | None, option("a finished run, for a method that starts from its network", "RUN")] = None,
    overwrite: Annotated[bool, option("start anew where the folder holds another run")] = False,
) -> None:
    """Train a method, or go on where an earlier call stopped."""
    parts = {name: value for name, value in vars(own).items() if value != getattr(Own, name)}
    got = "both" if parts else "neither"
    require(bool(parts) != bool(method), "method", "a name, or --network or --target", got)
    made, bank = get(method or Method(**parts)), load(data, size=size)
    training.fit(made, bank, config, out, start=start, overwrite=overwrite)
    training.leave()
