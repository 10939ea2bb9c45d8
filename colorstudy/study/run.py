"""`Run`: a run folder, trained by `training.fit` and scored by `grid.evaluate_run`, as one object."""

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from colorstudy._files import read_json
from colorstudy.colorize import Colorizer
from colorstudy.runs import DESCRIPTION, SUMMARY

_METRICS = "metrics.json"


class Run:
    """A run of a method or baseline, whose name `method` is, with one `seed`, in the folder `path`.

    Method and seed are what the files of the folder say, unless they are given, as for a folder that is not there yet.
    """

    def __init__(self, path: str | Path, method: str | None = None, seed: int | None = None) -> None:
        self.path, self._method, self._seed = Path(path), method, seed
        self.name = self.path.name

    @property
    def method(self) -> str:
        return self._about[0] if self._method is None else self._method

    @property
    def seed(self) -> int:
        return self._about[1] if self._seed is None else self._seed

    @property
    def config(self) -> dict[str, Any]:
        """The settings of `TrainConfig` that decided what was learned; none of a baseline."""
        return self._about[2]

    @property
    def trained(self) -> bool:
        return (self.path / SUMMARY).is_file()

    @property
    def scored(self) -> bool:
        return (self.path / _METRICS).is_file()

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``: set-level scores and where they come from."""
        if not self.scored:
            raise FileNotFoundError(f"run: expected a scored run, found no {_METRICS} in {self.path}; see `make study`")
        return dict(read_json(self.path / _METRICS))

    def colorizer(self) -> Colorizer:
        """The trained model; a ``FileNotFoundError`` if the run is not finished."""
        return Colorizer.load(self.path)

    def scores(self, table: str = "images") -> pd.DataFrame:
        """Scores with a row a picture: columns ``method``, ``seed``, ``image`` and those of `evaluation.evaluate`."""
        return pd.read_csv(self.path / f"{table}.csv").assign(method=self.method, seed=self.seed)

    @cached_property
    def _about(self) -> tuple[str, int, dict[str, Any]]:
        """Method, seed and config, as the files say."""
        if (self.path / DESCRIPTION).is_file():
            run = read_json(self.path / DESCRIPTION)
            return run["method"]["name"], run["config"]["seed"], run["config"]
        return self.metrics["method"], self.metrics["seed"], self.metrics["config"].get("config", {})
