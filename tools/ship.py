"""Train the model that the package colours with by default, choose its decoding on validation pictures, and score it.

``python -m tools.ship FOLDER`` takes about four hours of one core. It can be stopped, and goes on where it was. It
writes ``colorstudy/weights/photos.safetensors`` and ``results/shipped``. Then execute notebooks 07 and 21, and run
``docs/hero.py``.

The network is trained four times: on squares of 64 pixels, of windows of half a picture to a whole one, which teaches
it pictures as sharp as those that people have; on larger ones, of the size at which it is used; and on these with its
trunk, twice, at a rate so small that this keeps what it learned on ImageNet. At three times that rate it unlearned it.
These learn their pictures by heart; the mean of the last weights and the first does not (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", CVPR), and was best on validation pictures. A fifth training goes on from that mean,
to see whether more helps. It does not, so the model has none of it.
"""

import hashlib
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from colorstudy._files import read_json, write_json
from colorstudy.colorize import WEIGHTS, Colorizer
from colorstudy.data import ImageBank, load
from colorstudy.methods import METHODS
from colorstudy.model import Model
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
THIRD = TrainConfig(5000, 24, 96, 1e-4, weight_decay=0.1, seed=2, interval=250, threads=1)
FOURTH = replace(THIRD, steps=4400, seed=4)
FIFTH = replace(THIRD, steps=6000, seed=5)


def bank() -> ImageBank:
    """The training pictures of all `SOURCES`."""
    parts = [load(name, size=SIZE).train for name in SOURCES]
    images = np.concatenate([part.images for part in parts])
    names, split = (sum((getattr(part, field) for part in parts), ()) for field in ("names", "split"))
    digest = hashlib.sha256("".join(part.hash for part in parts).encode()).hexdigest()
    return ImageBank("+".join(SOURCES), images, names, split, digest)


def trained(folder: Path) -> list[Path]:
    """The run folders of the four trainings of the network."""
    pictures, frozen = bank(), METHODS["pretrained-class"]
    larger = replace(frozen, name="pretrained-class-96", start=frozen.name)
    tuned = replace(METHODS["tuned-class"], name="photos-tuned", start=larger.name)
    longer = replace(tuned, name="photos-tuned-on", start=tuned.name)
    runs: list[Path] = []
    for method, config in ((frozen, FIRST), (larger, SECOND), (tuned, THIRD), (longer, FOURTH)):
        runs.append(fit(method, pictures, config, folder / method.name, start=runs[-1] if runs else None))
    return runs


def go_on(folder: Path) -> tuple[Path, Path]:
    """A folder with the weights in the package, and the run folder of the fifth training, which begins with them."""
    began = folder / "photos"
    began.mkdir(exist_ok=True)
    shutil.copy(WEIGHTS / "photos.safetensors", began / "model.safetensors")
    method = replace(METHODS["tuned-class"], name="photos-on", start="photos")
    return began, fit(method, bank(), FIFTH, folder / method.name, start=began)


def keep(runs: list[Path]) -> None:
    """How the trainings were done, and the curve of all, in `RESULTS`."""
    about = [{name: read_json(run / f"{name}.json") for name in ("run", "train")} for run in runs]
    names = [one["run"]["method"]["name"] for one in about]
    write_json(RESULTS / "runs.json", dict(zip(names, about)))
    curves = pd.concat([pd.read_csv(run / "train.csv") for run in runs], keys=names, names=["method"])
    curves.droplevel(1).to_csv(RESULTS / "train.csv.xz", float_format="%.6g")


def halfway(first: Path, last: Path) -> Model:
    """The model of `last` with the mean of the weights of both."""
    model, other = (Model.load(run / "model.safetensors") for run in (last, first))
    own, theirs = model.network.state_dict(), other.network.state_dict()
    model.network.load_state_dict({name: (own[name] + theirs[name]) / 2 for name in own})
    return model


def choose(model: Model) -> pd.DataFrame:
    """Scores of validation pictures of photos16k at every size and decoding, in `RESULTS`; the best comes first."""
    pictures = load("photos16k", size=112)
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


def ship(model: Model, size: int, rebalance: float, temperature: float) -> Colorizer:
    """Write the model with its decoding, in half precision, among those of the package."""
    method = replace(METHODS["tuned-class"], name="photos", rebalance=rebalance, temperature=temperature)
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
        scores.to_csv(RESULTS / f"{name}.csv.xz", float_format="%.6g")
        table = tables.main_table(scores.reset_index().assign(seed=0), [*models], ["auc", "chroma_ratio"])
        table.insert(0, "pictures", name)
        rows.append(table)
    tables.save(pd.concat(rows), RESULTS / "scores")
    return pd.concat(rows)


def compare(began: Path, run: Path) -> pd.DataFrame:
    """What going on changes on validation pictures of photos16k, decoded alike: with the last weights, or the mean."""
    shipped = Colorizer.load(began)
    decoding = {name: getattr(shipped.model.method, name) for name in ("rebalance", "temperature")}
    models: dict[str, ColorizerLike] = {"gray": Gray(), "photos": shipped}
    for name, model in (("photos-on", Model.load(run / "model.safetensors")), ("their mean", halfway(began, run))):
        models[name] = Colorizer(model, shipped.size, **decoding)
    pictures = load("photos16k", size=112)
    scores = pd.concat({name: evaluate(model, pictures, "val") for name, model in models.items()}, names=["method"])
    pairs = [("photos", "gray"), ("photos-on", "photos"), ("their mean", "photos")]
    table = tables.paired_table(scores.reset_index().assign(seed=0), pairs, ["auc", "chroma_ratio"])
    tables.save(table, RESULTS / "longer")
    return table


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    runs = trained(folder)
    found = choose(model := halfway(runs[0], runs[-1]))
    best = found[found["chosen"]].iloc[0]
    print(found.to_string())
    print(score(ship(model, int(best["size"]), float(best["s"]), float(best["T"]))).to_string())
    began, last = go_on(folder)
    keep([*runs, last])
    print(compare(began, last).to_string())
