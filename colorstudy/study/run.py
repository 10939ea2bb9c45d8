"""`Run`: a run folder, trained by `training.fit` and scored by `grid.evaluate_run`, as one object."""

from pathlib import Path
from typing import Any

import pandas as pd

from colorstudy._files import read_json
from colorstudy.colorize import Colorizer
from colorstudy.methods import METHODS, Method
from colorstudy.model import Model
from colorstudy.runs import DESCRIPTION, METRICS, SUMMARY, WEIGHTS


class Run:
    """A run of a method or baseline, whose name `method` is, with one `seed`, in the folder `path`.

    Method and seed are what the files of the folder say, unless they are given, as for a folder that is not there yet.
    A run of a method that decodes another has scores only; if `METHODS` lacks that method, it is to be given itself.
    """

    def __init__(self, path: str | Path, method: Method | str | None = None, seed: int | None = None) -> None:
        self.path = Path(path)
        self.name = self.path.name
        about = self._about if method is None or seed is None else {}
        method = about["method"] if method is None else method
        self.method: str = method.name if isinstance(method, Method) else method
        self.seed: int = about["seed"] if seed is None else seed
        definition = method if isinstance(method, Method) else METHODS.get(method)
        self._derived = definition if definition and definition.decodes else None

    @property
    def config(self) -> dict[str, Any]:
        """The settings of `TrainConfig` that decided what was learned; none of a baseline."""
        return dict(self._about["config"])

    @property
    def trained(self) -> bool:
        return (self.network / SUMMARY).is_file()

    @property
    def scored(self) -> bool:
        return (self.path / METRICS).is_file()

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of ``metrics.json``: set-level scores and where they come from."""
        if not self.scored:
            raise FileNotFoundError(f"run: expected a scored run, found no {METRICS} in {self.path}; see `make study`")
        return dict(read_json(self.path / METRICS))

    @property
    def network(self) -> Path:
        """The run folder of the trained network: this one, or that of the run whose network this one decodes."""
        return run_at(self.path.parents[1], self._derived.decodes, self.seed).path if self._derived else self.path

    def colorizer(self) -> Colorizer:
        """The trained model, decoded as the method says; a ``FileNotFoundError`` if its training is not finished."""
        return Colorizer(Model.load(self.network / WEIGHTS, self._derived))

    def scores(self, table: str = "images") -> pd.DataFrame:
        """Scores with a row a picture: columns ``method``, ``seed``, ``image`` and those of `evaluation.evaluate`."""
        return pd.read_csv(self.table(table)).assign(method=self.method, seed=self.seed)

    def table(self, name: str) -> Path:
        """The file of a table of scores, ``<name>.csv`` or, compressed, ``<name>.csv.xz``, there or not."""
        plain = self.path / f"{name}.csv"
        return next(self.path.glob(f"{name}.csv*"), plain)

    @property
    def _about(self) -> dict[str, Any]:
        """Method, seed and config, as the files say."""
        if (self.path / DESCRIPTION).is_file():
            run = read_json(self.path / DESCRIPTION)
            return {"method": run["method"]["name"], "seed": run["config"]["seed"], "config": run["config"]}
        return self.metrics | {"config": self.metrics["config"].get("config", {})}


def run_at(results: str | Path, method: Method | str, seed: int) -> Run:
    """The run ``results/runs/<method>-s<seed>``, made or not."""
    name = method.name if isinstance(method, Method) else method
    return Run(Path(results) / "runs" / f"{name}-s{seed}", method, seed)
