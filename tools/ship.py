"""Train the model that the package colours with by default, choose its decoding on validation pictures, and score it.

``python -m tools.ship FOLDER`` takes about three hours of one core. It can be stopped, and goes on where it was. It
writes ``colorstudy/weights/photos.safetensors`` and ``results/shipped``. Then execute notebooks 07 and 21, and run
``docs/hero.py``. Files of weights named after FOLDER are compared with the model: that of ``tools.longest`` was the
default before.

The trunk sees pictures at twice their size, as things are small in ours, and large in those of ImageNet that it learned
from. The network is trained on squares of 64 pixels, of windows of half a picture to a whole one, with the trunk as it
is. From there it goes on in two ways: on squares of 96 pixels, and with the trunk, at a rate so small that this keeps
what it learned on ImageNet. Means of the weights of these trainings are candidates, too (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models", CVPR).
"""

import hashlib
import sys
from dataclasses import replace
from itertools import combinations
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

RESULTS = Path(__file__).parents[1] / "results"
SOURCES, SIZE = ("photos16k", "scenes"), 128  # trained on: their training pictures alone
PALEST = 0.85  # chroma, in that of the truth, of validation pictures: those of other sets come out paler by up to .1
FIRST = TrainConfig(2000, 24, 64, 1e-3, weight_decay=0.1, interval=125, threads=1)
LARGER = TrainConfig(2000, 24, 96, 5e-4, weight_decay=0.1, seed=1, interval=125, threads=1)
TUNED = TrainConfig(3000, 24, 64, 1e-4, weight_decay=0.1, seed=2, interval=125, threads=1)


def bank() -> ImageBank:
    """The training pictures of all `SOURCES`."""
    parts = [load(name, size=SIZE).train for name in SOURCES]
    images = np.concatenate([part.images for part in parts])
    names, split = (sum((getattr(part, field) for part in parts), ()) for field in ("names", "split"))
    digest = hashlib.sha256("".join(part.hash for part in parts).encode()).hexdigest()
    return ImageBank("+".join(SOURCES), images, names, split, digest)


def trained(folder: Path) -> list[Path]:
    """The run folders of the three trainings, and of the first with a trunk that sees pictures at their own size."""
    pictures, plain = bank(), METHODS["pretrained-class"]
    first = replace(plain, name="photos-64", network="pretrained-double")
    larger = replace(first, name="photos-96", start=first.name)
    tuned = replace(first, name="photos-tuned", network="pretrained-double-tuned", start=first.name)
    runs: list[Path] = []
    for method, config in ((first, FIRST), (larger, LARGER), (tuned, TUNED), (plain, FIRST)):
        runs.append(fit(method, pictures, config, folder / method.name, start=runs[0] if method.start else None))
    return runs


def keep(runs: list[Path], results: Path) -> None:
    """How the trainings were done, and the curve of all, in `results`."""
    about = [{name: read_json(run / f"{name}.json") for name in ("run", "train")} for run in runs]
    names = [one["run"]["method"]["name"] for one in about]
    write_json(results / "runs.json", dict(zip(names, about)))
    curves = pd.concat([pd.read_csv(run / "train.csv") for run in runs], keys=names, names=["method"])
    curves.droplevel(1).to_csv(results / "train.csv.xz", float_format="%.6g")


def mean(*runs: Path) -> Model:
    """The model of the last run with the mean of the weights of all."""
    models = [Model.load(run / "model.safetensors") for run in runs]
    states = [model.network.state_dict() for model in models]
    models[-1].network.load_state_dict({name: sum(state[name] for state in states) / len(states) for name in states[0]})
    return models[-1]


def choose(runs: list[Path]) -> pd.DataFrame:
    """Scores of validation pictures of photos16k by every mean of `runs`, size and decoding; the best comes first."""
    pictures = load("photos16k", size=112)
    grey = aggregate(evaluate(Gray(), pictures, "val", most=250))["auc"]
    ways: dict[str, Any] = {"strengths": (0.3, 0.35, 0.4, 0.45, 0.5, 0.55, 0.6), "temperatures": (0.5, 0.7)}
    tried = {}
    for some in (some for count in range(1, len(runs) + 1) for some in combinations(runs, count)):
        for size in (96, 112):
            found = decodings(Colorizer(mean(*some), size), pictures, "val", **ways, most=250)
            tried[" + ".join(run.name for run in some), size] = found
    names = ["weights", "size", "s", "T"]
    table = pd.concat(tried, names=names[:2]).groupby(level=names).apply(aggregate)[["auc", "chroma_ratio"]]
    table = table.reset_index()
    table.insert(4, "auc_gain", table.pop("auc") - grey)
    vivid = table["auc_gain"].where(table["chroma_ratio"] >= PALEST)
    table["chosen"] = vivid == vivid.max()
    table = table.sort_values(["chosen", "auc_gain"], ascending=False)
    tables.save(table, RESULTS / "shipped" / "choice")
    return table


def ship(model: Model, size: int, path: Path, **decoding: Any) -> Colorizer:
    """Write the model with its decoding, in half precision, and load it again."""
    model.method = replace(model.method, name=path.stem, start="", **decoding)
    model.size = size
    model.network.half()
    model.save(path)
    return Colorizer.load(path)


def compare(models: dict[str, ColorizerLike], pairs: list[tuple[str, str]], path: Path) -> pd.DataFrame:
    """What one model of `pairs` changes against the other on the validation pictures of photos16k, at `path`."""
    pictures = load("photos16k", size=112)
    scores = pd.concat({name: evaluate(model, pictures, "val") for name, model in models.items()}, names=["method"])
    table = tables.paired_table(scores.reset_index().assign(seed=0), pairs, ["auc", "chroma_ratio"])
    tables.save(table, path)
    return table


def score(models: dict[str, ColorizerLike]) -> pd.DataFrame:
    """Test pictures, by grey, `models` and those of the package: gains over grey, with intervals."""
    models = models | {name: Colorizer.load(name) for name in ("l2", "class", "full")}
    rows = []
    for name in ("photos16k", "kodak", "bsds300"):
        found = {method: evaluate(model, load(name, size=112)) for method, model in models.items()}
        scores = pd.concat(found, names=["method"])[["auc", "ciede2000", "chroma", "chroma_true"]]
        scores.to_csv(RESULTS / "shipped" / f"{name}.csv.xz", float_format="%.6g")
        table = tables.main_table(scores.reset_index().assign(seed=0), [*models], ["auc", "chroma_ratio"])
        table.insert(0, "pictures", name)
        rows.append(table)
    tables.save(pd.concat(rows), RESULTS / "shipped" / "scores")
    return pd.concat(rows)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    *runs, plain = trained(folder)
    keep([*runs, plain], RESULTS / "shipped")
    found = choose(runs)
    best = found[found["chosen"]].iloc[0]
    print(found.to_string())
    model = mean(*(folder / name for name in best["weights"].split(" + ")))
    decoding: dict[str, Any] = {"rebalance": float(best["s"]), "temperature": float(best["T"])}
    decoding["size"] = int(best["size"])
    shipped = ship(model, **decoding, path=WEIGHTS / "photos.safetensors")
    others = {Path(path).stem: Colorizer.load(path) for path in sys.argv[2:]}
    models: dict[str, ColorizerLike] = {"gray": Gray(), "photos": shipped, **others}
    pairs = [("photos", name) for name in models if name != "photos"]
    parts = {run.name: Colorizer(mean(run), **decoding) for run in (runs[0], plain)}
    pairs += [("photos", runs[0].name), (runs[0].name, plain.name)]
    print(compare(models | parts, pairs, RESULTS / "shipped" / "differences").to_string())
    print(score(models).to_string())
