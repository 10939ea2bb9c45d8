"""`Method`: network x target x decoding under one name, and the named methods of the study."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass, fields, replace
from typing import Any

from torch import nn

from colorstudy._checks import main_name, require, require_choice, resolve
from colorstudy._files import table_of
from colorstudy.color import SPACES
from colorstudy.networks import NETWORKS
from colorstudy.targets import SAMPLINGS

TARGETS = ("regression", "classification")
BINS = ("in_gamut", "reachable", "most_frequent", "grid", "grid-lost-center", "grid-few-pictures")
"""The 313 of Zhang et al.; the 261 of them that are some colour's nearest; the 32 most frequent of the training
pictures; those of the released code of ColorUNet, see `model.MergedCells`. The last two have a defect of that code: the
first bin decodes to no colour; bins and weights are those of the first 30 pictures."""
AUGMENTATIONS = ("none", "crops", "views", "views-released", "views-divided-twice")
"""How training shows a picture, see `data.batch`; the last divides noisy views by 255 twice, a defect of that code."""


@dataclass(frozen=True)
class Method:
    """A row of the paper's table. Defects of released code are values of the fields that they concern.

    `target` and `network` are names, or of your own: a class, or its path ``"package.module:Name"``, which then stands
    for it. Yours are called as ``Target()``, see `targets.Target`, and ``Net(out_channels)``, see `networks`.
    """

    name: str = ""  # by default made of those of network and target
    target: str = "classification"  # or "regression"
    network: str = "compact"  # one of networks.NETWORKS
    space: str = "lab"  # of the colours; or "yuv"
    bins: str = "in_gamut"  # one of BINS; this and the next seven are of a classification
    lam: float = 1.0  # lambda of the rebalancing weights, in [0, 1]; 1 is no rebalancing
    smoothing: float = 5.0  # width of the Gaussian that smooths the prior, in chroma units
    neighbors: int = 5  # bins that a soft target shares a pixel out to
    sigma: float = 5.0  # width of the Gaussian by which it does, in chroma units
    temperature: float = 0.38  # of the annealed mean
    rebalance: float = 0.0  # s, how much of rebalancing is made up for when decoding
    sampling: str = "area"  # one of targets.SAMPLINGS
    grey_mask: float = 0.0  # pictures with no chroma above it count nothing
    blurs: tuple[int, ...] = ()  # of a regression: widths under which the error counts as well
    bilateral: float = 0.0  # width in lightness units of the joint bilateral filter over decoded colours; 0 for none
    augmentation: str = "crops"  # one of AUGMENTATIONS
    start: str = ""  # name of the method whose trained network training starts from, but for its last layer
    decodes: str = ""  # name of the method whose trained network this one decodes otherwise, and never trains

    def __post_init__(self) -> None:
        require_choice(self.space, SPACES, "space")
        self._known("target", TARGETS, lambda found: hasattr(found, "loss") and hasattr(found, "decode"))
        self._known("network", sorted(NETWORKS), lambda found: issubclass(found, nn.Module))
        require_choice(self.bins, BINS, "bins")
        require_choice(self.sampling, SAMPLINGS, "sampling")
        require_choice(self.augmentation, AUGMENTATIONS, "augmentation")
        require(isinstance(self.lam, (int, float)) and 0 <= self.lam <= 1, "lam", "a share in [0, 1]", self.lam)
        require(isinstance(self.neighbors, int) and self.neighbors >= 1, "neighbors", "an integer >= 1", self.neighbors)
        for name in ("smoothing", "rebalance", "grey_mask", "bilateral", "sigma", "temperature"):
            value, may_be_0 = getattr(self, name), name not in ("sigma", "temperature")
            good = isinstance(value, (int, float)) and (value >= 0 if may_be_0 else value > 0)
            require(good, name, f"a number {'>=' if may_be_0 else '>'} 0", value)
            require(value == 0 or 1e-9 <= value <= 1e9, name, "a number from 1e-9 to 1e9", value)  # which has a square
        object.__setattr__(self, "blurs", tuple(self.blurs))  # a list, where it comes from a file
        parts = (part.rpartition(":")[2].rpartition(".")[2].lower() for part in (self.network, self.target))
        object.__setattr__(self, "name", self.name or "-".join(parts))
        is_name = re.fullmatch(r"[\w.+-]+", self.name) is not None  # folders are called so
        require(is_name, "name", "letters, digits, '.', '_', '+' or '-'", repr(self.name))

    def _known(self, field: str, names: Collection[str], fits: Callable[[type], bool]) -> None:
        """Require a known name, or a class that another process can import, whose path then stands for it."""
        value = getattr(self, field)
        if isinstance(value, str) and ":" not in value:
            require_choice(value, names, field)
            return
        path = value if isinstance(value, str) else _path_of(value, field)
        found = resolve(path, field)
        # Nothing else is ever called: the path may come out of a file of weights.
        require(isinstance(found, type) and fits(found), field, f"a {field} class", path)
        object.__setattr__(self, field, path)


def _path_of(given: Any, field: str) -> str:
    """The import path ``"package.module:Name"`` of a class or function."""
    module, name = getattr(given, "__module__", None), getattr(given, "__qualname__", "<locals>")
    path = f"{main_name() if module == '__main__' else module}:{name}"
    require(not path.startswith(":") and "<" not in path and resolve(path, field) is given, field,
            "a name, or a class at the top of a .py file, which other processes can import", repr(given))  # fmt: skip
    return path


def _value(field: str, text: str) -> Any:
    """The value of a field in the table of methods; of `blurs` numbers with a space between them."""
    return tuple(map(int, text.split())) if field == "blurs" else type(getattr(Method(), field))(text)


METHODS: dict[str, Method] = {}
"""The named methods of the study, the rows of ``methods.csv``: an empty field is that of the base, or the default. The
smoothing of `colorunet` and `convnet`, by Billaut et al. 2018, is our choice; those `-released` follow their code."""
for row in table_of(__file__):
    changes = {field.name: _value(field.name, row[field.name]) for field in fields(Method) if row[field.name]}
    METHODS[row["name"]] = replace(METHODS[row["base"]] if row["base"] else Method(), **changes)


def get(method: str | Method) -> Method:
    """The method of that name, or `method` itself."""
    if isinstance(method, Method):
        return method
    require_choice(method, METHODS, "method")
    return METHODS[method]
