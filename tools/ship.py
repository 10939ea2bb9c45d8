"""Train the model that the package colours with by default, choose its decoding on validation pictures, and score it.

``python -m tools.ship FOLDER`` takes about an hour and a half of one core. It can be stopped, and goes on where it was.
It writes ``colorstudy/weights/photos.safetensors`` and ``results/shipped``.

The network is trained twice: on squares of 64 pixels, of windows of half a picture to a whole one, which teaches it
pictures as sharp as those that people have, then on larger ones, of the size at which it is used.
"""

import hashlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from colorstudy.colorize import WEIGHTS, Colorizer
from colorstudy.data import ImageBank, load
from colorstudy.methods import METHODS
from colorstudy.study import tables
from colorstudy.study.evaluation import ColorizerLike, Gray, decodings, evaluate
from colorstudy.study.scores import aggregate
from colorstudy.training import TrainConfig, fit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "shipped"
SOURCES, SIZE = ("photos16k", "scenes"), 128  # trained on: their training pictures alone
PALEST = 0.85  # chroma, in that of the truth, of validation pictures: those of other sets come out paler by up to .1
FIRST = TrainConfig(6000, 24, 64, 1e-3, weight_decay=0.1, interval=250, threads=1)
SECOND = TrainConfig(2000, 24, 96, 5e-4, weight_decay=0.1, seed=1, interval=250, threads=1)


def bank() -> ImageBank:
    """The training pictures of all `SOURCES`."""
    parts = [load(name, size=SIZE).train for name in SOURCES]
    images = np.concatenate([part.images for part in parts])
    names, split = (sum((getattr(part, field) for part in parts), ()) for field in ("names", "split"))
    digest = hashlib.sha256("".join(part.hash for part in parts).encode()).hexdigest()
    return ImageBank("+".join(SOURCES), images, names, split, digest)


def trained(folder: Path) -> Path:
    """The run folder of the trained network."""
    pictures, method = bank(), METHODS["pretrained-class"]
    first = fit(method, pictures, FIRST, folder / "first")
    return fit(replace(method, name="pretrained-class-96", start=method.name), pictures, SECOND, folder / "second",
               start=first)  # fmt: skip


def choose(run: Path) -> pd.DataFrame:
    """Scores of validation pictures of photos16k at every size and decoding, in `RESULTS`; the best comes first."""
    model, pictures = Colorizer.load(run).model, load("photos16k", size=112)
    grey = aggregate(evaluate(Gray(), pictures, "val", most=250))["auc"]
    ways: dict[str, Any] = {"strengths": (0.2, 0.3, 0.4, 0.5), "temperatures": (0.7, 1.0, 1.3)}
    tried = {size: decodings(Colorizer(model, size), pictures, "val", **ways, most=250) for size in (80, 96, 112)}
    names = ["size", "s", "T"]
    table = pd.concat(tried, names=names[:1]).groupby(level=names).apply(aggregate)[["auc", "chroma_ratio"]]
    table = table.reset_index()
    table.insert(3, "auc_gain", table.pop("auc") - grey)
    vivid = table["auc_gain"].where(table["chroma_ratio"] >= PALEST)
    table["chosen"] = vivid == vivid.max()
    tables.save(table.sort_values(["chosen", "auc_gain"], ascending=False), RESULTS / "choice")
    return table


def ship(run: Path, size: int, rebalance: float, temperature: float) -> Colorizer:
    """Write the model with its decoding, in half precision, among those of the package."""
    model = Colorizer.load(run).model
    method = replace(METHODS["pretrained-class"], name="photos", rebalance=rebalance, temperature=temperature)
    model.method, model.size = method, size
    model.network.half()
    model.save(WEIGHTS / "photos.safetensors")
    return Colorizer.load(WEIGHTS / "photos.safetensors")


def score(shipped: Colorizer) -> pd.DataFrame:
    """Test pictures, by grey and by the models of the package: gains over grey, with intervals."""
    models: dict[str, ColorizerLike] = {"gray": Gray(), "photos": shipped}
    models |= {name: Colorizer.load(name) for name in ("l2", "class", "full")}
    rows = []
    for name in ("photos16k", "kodak", "bsds300"):
        found = {method: evaluate(model, load(name, size=112)) for method, model in models.items()}
        scores = pd.concat(found, names=["method"])
        scores.to_csv(RESULTS / f"{name}.csv.gz", float_format="%.6g")
        table = tables.main_table(scores.reset_index().assign(seed=0), [*models], ["auc", "chroma_ratio"])
        table.insert(0, "pictures", name)
        rows.append(table)
    tables.save(pd.concat(rows), RESULTS / "scores")
    return pd.concat(rows)


if __name__ == "__main__":
    network = trained(Path(sys.argv[1]))
    found = choose(network)
    best = found[found["chosen"]].iloc[0]
    print(found.to_string())
    print(score(ship(network, int(best["size"]), float(best["s"]), float(best["T"]))).to_string())
