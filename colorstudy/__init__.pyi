from .bins import ColorBins
from .colorize import Colorizer
from .data import load
from .methods import METHODS, Method
from .study.evaluation import evaluate
from .study.explore import explore
from .targets import Classification, Regression
from .training import TrainConfig, fit

__version__: str

__all__ = [
    "METHODS",
    "Classification",
    "ColorBins",
    "Colorizer",
    "Method",
    "Regression",
    "TrainConfig",
    "evaluate",
    "explore",
    "fit",
    "load",
]
