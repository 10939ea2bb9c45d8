"""The grid of a study, which the `Snakefile` runs with papermill, and `ensure_runs` in one process for one notebook.

The results of a profile (see `profiles`) lie in ``results/<name>``:

runs/<method>-s<seed>/   what `training.fit` writes, then what `evaluate_run` does, metrics.json last
tables/, figures/        what the notebooks make of the runs
records/<notebook>.json  the answer of each notebook with its provenance, written last: the notebook is done
manifest.json            everything above in one file
"""

import json
import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from colorstudy._checks import require_choice
from colorstudy._files import read_json, replacing, write_json
from colorstudy._provenance import digest, provenance
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank, load_bank
from colorstudy.evaluation import BASELINES, ColorizerLike, baseline, evaluate
from colorstudy.study.profiles import Profile, load_profile
from colorstudy.study.run import Run
from colorstudy.study.scores import aggregate
from colorstudy.training import fit


def profile_of(results: str | Path) -> Profile:
    """The profile ``profiles/<results>.yaml`` beside the notebook that asks."""
    return load_profile(Path("profiles") / f"{Path(results).name}.yaml")


def ensure_trained(run: Run) -> Run:
    """`run`, trained in this process, with the settings of its profile, if it is not; a baseline needs no training."""
    if run.method in BASELINES or run.trained:
        return run
    profile = profile_of(run.path.parents[1])
    start = profile.start_of(run)
    begin = ensure_trained(start).path if start else None
    fit(profile.method(run.method), profile.bank(), profile.train_config(run), run.path, start=begin)
    return run


def ensure_runs(results: str | Path, methods: Sequence[str] | None = None) -> list[Run]:
    """The scored runs of the profile of `results`, of `methods` alone if given; what is missing is trained and scored.

    A profile with ``keep_runs`` grows over days, so of a method that has a scored run the others are not waited for:
    they are named and left out.
    """
    profile = profile_of(results)
    for name in methods or ():
        require_choice(name, [*profile.methods], "methods")
    asked = [run for run in profile.runs(results) if methods is None or run.method in methods]
    there = {run.method for run in asked if run.scored}
    runs = [run for run in asked if run.scored or not (profile.keep_runs and run.method in there)]
    settings = profile.defaults("04-evaluate")
    for run in runs:
        if not run.scored:
            bank = load_bank(settings["source"], size=settings["size"])
            evaluate_run(run, bank, temperatures=settings["temperatures"], most=settings["most"])
    if len(runs) < len(asked):
        print("left out, as they have not run yet:", ", ".join(run.name for run in asked if not run.scored))
    return runs


def colorizer_of(run: Run, bank: ImageBank) -> ColorizerLike:
    """What colours as `run` does: its network, trained first if need be, or a baseline, which draws on `bank`."""
    return baseline(run.method, bank, run.seed) if run.method in BASELINES else ensure_trained(run).colorizer()


def evaluate_run(run: Run, bank: ImageBank, *, temperatures: Sequence[float] = (), most: int = 300) -> pd.DataFrame:
    """Score a run on the pictures of `bank`; write tables with a row an image and, last, its ``metrics.json``.

    ``images.csv``, which is returned, is of all test pictures. Of a trained method, ``seen.csv`` is of training
    pictures, and of a classification ``temperatures.csv`` of test pictures decoded at each of `temperatures`, in a
    column ``T``. These two are of `most` pictures at most (see `evaluation.evaluate`).
    """
    started = time.perf_counter()
    colorizer = colorizer_of(run, bank)
    scored = {"images": evaluate(colorizer, bank)}
    about, summary = {}, {}
    if run.method not in BASELINES:
        about, summary = read_json(run.path / "run.json"), read_json(run.path / "train.json")
        scored["seen"] = evaluate(colorizer, bank, "train", most=most)
        if temperatures and isinstance(colorizer, Colorizer) and colorizer.is_distribution:
            decoded = {t: evaluate(colorizer.decoding(temperature=t), bank, most=most) for t in temperatures}
            scored["temperatures"] = pd.concat(decoded, names=["T"])
    for name, table in scored.items():
        with replacing(run.path / f"{name}.csv") as temporary:
            table.to_csv(temporary, float_format="%.8g")
    content: dict[str, Any] = {"method": run.method, "seed": run.seed}
    config = content | {"data": bank.name, "size": int(bank.images.shape[1])} | about
    means = {name: float(value) for name, value in aggregate(scored["images"]).items()}
    content["scores"] = {name: value if math.isfinite(value) else None for name, value in means.items()}
    content |= {"test_images": len(scored["images"]), "config": config, "config_hash": digest(config)}
    content |= {"data_hash": bank.hash, "train_seconds": summary.get("seconds", 0.0)}
    content |= {"train_provenance": summary.get("provenance"), "provenance": provenance()}
    write_json(run.path / "metrics.json", content | {"evaluate_seconds": round(time.perf_counter() - started, 2)})
    return scored["images"]


def done(results: str | Path, profile: Profile) -> list[Run]:
    """The runs that have scores of a training with the settings that `profile` asks for, by whatever code."""
    return [run for run in profile.runs(results) if is_current(run, profile)]


def kept(results: str | Path, profile: Profile) -> list[Run]:
    """Of a profile with ``keep_runs``, the runs that no change of code makes stale.

    All that are `done`, but for those without their weights from which another run has yet to start.
    """
    if not profile.keep_runs:
        return []
    current = {run: is_current(run, profile) for run in profile.runs(results)}
    starts = [profile.start_of(run) for run, there in current.items() if not there]
    needed = {start.path for start in starts if start}
    return [run for run, there in current.items() if there and (run.path not in needed or run.trained)]


def is_current(run: Run, profile: Profile) -> bool:
    """Whether `run` has scores, of the settings that `profile` asks for."""
    if not run.scored:
        return False
    wanted = {"size": profile.defaults("03-train")["size"], "method": run.method, "seed": run.seed}
    if run.method not in BASELINES:
        wanted |= {"method": asdict(profile.method(run.method)), "config": profile.train_config(run).identity()}
    found = run.metrics["config"]
    return all(found.get(name) == value for name, value in json.loads(json.dumps(wanted)).items())


def scores(runs: Iterable[Run], table: str = "images") -> pd.DataFrame:
    """The per-image scores of `runs`: columns ``method``, ``seed``, ``image`` and those of `evaluation.evaluate`.

    `table` is one of those that `evaluate_run` writes; runs that have none by nature are left out. A
    ``FileNotFoundError`` if a run is not scored, or there is none.
    """
    parts = [run.scores(table) for run in runs if run.metrics and (run.path / f"{table}.csv").exists()]
    if not parts:
        raise FileNotFoundError(f"runs: expected scored runs with {table}.csv, found none; see `make study`")
    return pd.concat(parts, ignore_index=True)


def record(results: str | Path, notebook: str, **answer: Any) -> Path:
    """Write what a notebook answers, and where that comes from: its last call, as the file says that it ended well."""
    path = Path(results) / "records" / f"{notebook}.json"
    write_json(path, {"answer": json.loads(json.dumps(answer, default=float)), "provenance": provenance()})
    return path


def write_manifest(results: str | Path) -> Path:
    """Gather the records and the ``metrics.json`` of all runs in ``manifest.json``, and name the tables and figures."""
    results = Path(results)
    made = sorted(p for kind in ("tables", "figures") for p in (results / kind).glob("*") if not p.name.startswith("."))
    content = {
        "profile": results.name,
        "runs": {p.parent.name: read_json(p) for p in sorted(results.glob("runs/*/metrics.json"))},
        "notebooks": {p.stem: read_json(p) for p in sorted(results.glob("records/*.json"))},
        "files": [p.relative_to(results).as_posix() for p in made],
    }
    write_json(results / "manifest.json", content)
    return results / "manifest.json"
