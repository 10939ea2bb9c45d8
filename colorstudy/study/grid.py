"""The grid of a study, which the `Snakefile` runs with papermill, and `ensure_runs` in one process for one notebook.

The results of a profile (see `profiles`) lie in ``results/<name>``:

runs/<method>-s<seed>/   what `training.fit` writes, then what `evaluate_run` does, metrics.json last; the latter alone
                         of a baseline, and of a method that decodes another
measured/<name>.csv.xz   what took a notebook long to measure, which it reads from then on
tables/, figures/        what the notebooks make of the runs
records/<notebook>.json  the answer of each notebook with its provenance, written last: the notebook is done
manifest.json            everything above in one file
"""

import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from colorstudy._checks import extra, require_choice
from colorstudy._files import read_json, replacing, write_json
from colorstudy._provenance import digest, provenance
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank, load
from colorstudy.methods import Method
from colorstudy.runs import DESCRIPTION, METRICS, SUMMARY
from colorstudy.study.evaluation import BASELINES, ColorizerLike, Gray, RandomColors, decodings, evaluate
from colorstudy.study.profiles import Profile, load_profile
from colorstudy.study.run import Run
from colorstudy.study.scores import aggregate
from colorstudy.training import fit

with extra("study"):
    from IPython.display import Markdown

SCORING = ("temperatures", "strengths", "others", "most")
"""The parameters of 04-evaluate that `evaluate_run` takes."""


def profile_of(results: str | Path) -> Profile:
    """The profile ``profiles/<results>.yaml`` beside the notebook that asks."""
    return load_profile(_path_of(results))


def _path_of(results: str | Path) -> Path:
    return Path("profiles") / f"{Path(results).name}.yaml"


def ensure_trained(run: Run) -> Run:
    """`run`, its network trained in this process, as its profile says, if it is not yet; a baseline has none."""
    if run.method in BASELINES or run.trained:
        return run
    profile = profile_of(run.path.parents[1])
    method, base = profile.method(run.method), profile.base_of(run)
    start = ensure_trained(base).path if base else None
    if not method.decodes:
        fit(method, profile.bank(), profile.train_config(run), run.path, start=start)
    return Run(run.path, method, run.seed)


def ensure_runs(results: str | Path, methods: Sequence[str] | None = None) -> list[Run]:
    """The scored runs of the profile of `results`, of `methods` alone if given; what is missing is trained and scored.

    A profile with ``keep_runs`` grows over days, so once it has a scored run, what is missing is not waited for: it is
    named and left out. Of a folder without a profile, the scored run folders anywhere below it.
    """
    folders = [] if _path_of(results).exists() else sorted(path.parent for path in Path(results).rglob(METRICS))
    profile = None if folders else profile_of(results)
    every = profile.runs(results) if profile else [Run(folder) for folder in folders]
    for name in methods or ():
        require_choice(name, [*dict.fromkeys(run.method for run in every)], "methods")
    asked = [run for run in every if methods is None or run.method in methods]
    if not profile:
        return asked
    grown = profile.keep_runs and any(run.scored for run in every)
    runs = [run for run in asked if run.scored or not grown]
    if missing := [run for run in runs if not run.scored]:
        settings = profile.defaults("04-evaluate")
        bank = load(settings["source"], size=settings["size"])
        for run in missing:
            evaluate_run(run, bank, **{name: settings[name] for name in SCORING})
    if len(runs) < len(asked):
        print("left out, as they have not run yet:", ", ".join(run.name for run in asked if not run.scored))
    return runs


def colorizer_of(run: Run, bank: ImageBank) -> ColorizerLike:
    """What colours as `run` does: its network, trained first if need be, or a baseline, which draws on `bank`."""
    if run.method == "random":
        return RandomColors(bank.train.images, run.seed)
    return Gray() if run.method == "gray" else ensure_trained(run).colorizer()


def evaluate_run(
    run: Run,
    bank: ImageBank,
    *,
    temperatures: Sequence[float] = (),
    strengths: Sequence[float] = (),
    others: Sequence[str] = (),
    most: int = 300,
) -> pd.DataFrame:
    """Score a run on the pictures of `bank`; write tables with a row an image and, last, its ``metrics.json``.

    ``images.csv``, which is returned, is of all test pictures, and ``<name>.csv`` of those of each of the `others`,
    sources that are out of its domain. Of a trained method, ``seen.csv`` is of training pictures, and of a
    classification ``temperatures.csv`` of test pictures decoded at each of `temperatures`, in a column ``T``, and
    ``decodings.csv`` of validation pictures at each of these and each of the `strengths` of rebalancing, ``s``;
    ``decodings-<name>.csv`` is of the same for the `others`. All but the first two kinds are of `most` pictures at most
    (see `evaluation.evaluate`). A table that is there compressed, ``.csv.xz``, is written so again.
    """
    started = time.perf_counter()
    run = ensure_trained(run)
    colorizer = colorizer_of(run, bank)
    banks = {"images": bank} | {source: load(source, size=bank.images.shape[1]) for source in others}
    scored = {name: evaluate(colorizer, pictures) for name, pictures in banks.items()}
    about, summary = {}, {}
    if isinstance(colorizer, Colorizer):
        about, summary = (read_json(run.network / name) for name in (DESCRIPTION, SUMMARY))
        about["method"] = asdict(colorizer.model.method)  # not the one that a run decodes
        scored["seen"] = evaluate(colorizer, bank, "train", most=most)
        if temperatures and colorizer.is_distribution:
            found = decodings(colorizer, bank, "test", temperatures=temperatures, most=most)
            scored["temperatures"] = found.droplevel("s")
        # What is chosen is chosen on validation pictures. A method that decodes another has the decodings of that.
        if strengths and colorizer.is_distribution and not colorizer.model.method.decodes:
            tried: dict[str, Any] = {"strengths": strengths, "temperatures": temperatures, "most": most}
            scored["decodings"] = decodings(colorizer, bank, "val", **tried)
            for source in others:
                scored[f"decodings-{source}"] = decodings(colorizer, banks[source], "test", **tried)
    for name, table in scored.items():
        with replacing(run.table(name)) as temporary:
            table.to_csv(temporary, float_format="%.6g")
    content: dict[str, Any] = {"method": run.method, "seed": run.seed}
    config = content | {"data": bank.name, "size": int(bank.images.shape[1])} | about
    means = {name: float(value) for name, value in aggregate(scored["images"]).items()}
    content["scores"] = {name: value if math.isfinite(value) else None for name, value in means.items()}
    content |= {"train_images": len(bank.train), "test_images": len(scored["images"])}
    content |= {"config": config, "config_hash": digest(config), "data_hash": bank.hash}
    content |= {"train_seconds": summary.get("seconds", 0.0)}
    content |= {"train_provenance": summary.get("provenance"), "provenance": provenance()}
    write_json(run.path / METRICS, content | {"evaluate_seconds": round(time.perf_counter() - started, 2)})
    return scored["images"]


def done(results: str | Path, profile: Profile) -> list[Run]:
    """The runs that have scores of a training with the settings that `profile` asks for, by whatever code."""
    return [run for run in profile.runs(results) if is_current(run, profile)]


def is_current(run: Run, profile: Profile) -> bool:
    """Whether `run` has scores, of the settings that `profile` asks for."""
    if not run.scored:
        return False
    wanted = {"size": profile.defaults("03-train")["size"], "method": run.method, "seed": run.seed}
    found = run.metrics["config"]
    if run.method not in BASELINES:
        wanted |= {"method": asdict(profile.method(run.method)), "config": profile.train_config(run).identity()}
        found["method"] = asdict(Method()) | found["method"]  # a field that is younger than the scores has its default
    return all(found.get(name) == value for name, value in json.loads(json.dumps(wanted)).items())


def scores(runs: Iterable[Run], table: str = "images") -> pd.DataFrame:
    """The per-image scores of `runs`: columns ``method``, ``seed``, ``image`` and those of `evaluation.evaluate`.

    And ``cluster``, where some belong together (see `roll`). `table` is one of those that `evaluate_run`
    writes; runs that have none by nature are left out. A ``FileNotFoundError`` if one is not scored, or there is none.
    """
    parts = [run.scores(table) for run in runs if run.metrics and run.table(table).exists()]
    if not parts:
        raise FileNotFoundError(f"runs: expected scored runs with {table}.csv, found none; see `make study`")
    return clustered(pd.concat(parts, ignore_index=True))


def clustered(found: pd.DataFrame) -> pd.DataFrame:
    """A per-image table with the column ``cluster``, which intervals go by, where some pictures are of one `roll`."""
    rolls = found["image"].map(roll)
    return found.assign(cluster=rolls.where(rolls != "", found["image"])) if rolls.any() else found


def roll(file: str) -> str:
    """What a picture of photos16k belongs to: a Corel disc, of 100 pictures, or a CamVid sequence; "" of others."""
    source, _, stem = file.removesuffix(".jpg").partition("/")
    discs = {"corel5k": stem[:-3], "camvid": stem[:6]}
    return f"{source}/{discs[source]}" if source in discs else ""


def measured(results: str | Path, name: str, measure: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table ``measured/<name>.csv.xz`` of `results`, made by `measure` if it is not there, its index left out.

    It is read from the file in either case, so a notebook shows the same digits both times.
    """
    path = Path(results) / "measured" / f"{name}.csv.xz"
    if not path.exists():
        with replacing(path) as temporary:
            measure().to_csv(temporary, index=False, float_format="%.8g")
    return pd.read_csv(path)


def answer(*sentences: str) -> Markdown:
    """The answer of a notebook, which shows it as a paragraph."""
    return Markdown(" ".join(sentences))


def of_runs(runs: Iterable[Run], data: Any, measure: Callable[[Any, Any], pd.DataFrame]) -> pd.DataFrame:
    """What `measure` finds of the colorizer of each run and `data`, a bank, in a table with ``method`` and ``seed``."""
    found = ((run, measure(colorizer_of(run, data), data)) for run in runs)
    return pd.concat([part.assign(method=run.method, seed=run.seed) for run, part in found], ignore_index=True)


def record(results: str | Path, notebook: str, **answer: Any) -> None:
    """Write what a notebook answers, and where that comes from: its last call, as the file says that it ended well."""
    path = Path(results) / "records" / f"{notebook}.json"
    write_json(path, {"answer": json.loads(json.dumps(answer, default=float)), "provenance": provenance()})
