"""The study itself: profiles that say what to run, run folders that hold what came out, and the records of both.

A profile (``notebooks/profiles/<name>.yaml``) names methods and seeds and sets notebook parameters. Its results lie in
``results/<name>``:

    runs/<method>-s<seed>/   what `training.fit` writes, then what `evaluate_run` does, metrics.json last
    tables/, figures/        what the notebooks make of the runs
    records/<notebook>.json  the answer of each notebook with its provenance, written last: the notebook is done
    manifest.json            everything above in one file

The `Snakefile` runs a profile with papermill; `ensure_runs` does the same training in one process, for a reader who
steps through a notebook without it.
"""

from __future__ import annotations

import ast
import json
import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import yaml

from colorstudy import metrics
from colorstudy._checks import require
from colorstudy._files import read_json, replacing, write_json
from colorstudy._provenance import digest, provenance, sources
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank, load
from colorstudy.evaluation import BASELINES, baseline, evaluate
from colorstudy.methods import METHODS
from colorstudy.training import TrainConfig, fit

_TYPES = {"bool": bool, "int": int, "float": (int, float), "str": str, "list": list}


@dataclass(frozen=True)
class Profile:
    """What a study runs; see `load_profile`.

    Parameters
    ----------
    name : str
    methods : list of str
        Baselines and methods, in the order of the tables.
    seeds : list of int
    notebooks : list of Path
        In the order in which they run; those that the profile skips are not among them.
    settings : dict
        Per notebook (by stem) the parameters that the profile sets.
    keep_runs : bool
        Runs that are scored count as done, whatever code changed since; see `kept`.
    """

    name: str
    methods: list[str]
    seeds: list[int]
    notebooks: list[Path]
    settings: dict[str, dict[str, Any]]
    keep_runs: bool = False

    def runs(self) -> list[tuple[str, int]]:
        """Method and seed of every run; `gray` has nothing to draw, so it has one."""
        return [(m, s) for m in self.methods for s in (self.seeds[:1] if m == "gray" else self.seeds)]

    def parameters(self, notebook: str, **given: Any) -> dict[str, Any]:
        """The settings of a notebook, with those of `given` that it declares."""
        declared = notebook_parameters(self._path(notebook))
        return self.settings.get(notebook, {}) | {name: value for name, value in given.items() if name in declared}

    def defaults(self, notebook: str) -> dict[str, Any]:
        """The notebook's own defaults under the settings of the profile."""
        return notebook_parameters(self._path(notebook)) | self.settings.get(notebook, {})

    def _path(self, notebook: str) -> Path:
        return next(path for path in self.notebooks if path.stem == notebook)


def load_profile(path: str | Path) -> Profile:
    """Read and check a profile; nothing runs before every one of its parameters is known to its notebook.

    Parameters
    ----------
    path : path
        A YAML file in ``notebooks/profiles``, with the fields ``methods``, ``seeds``, and if needed ``skip`` (notebooks
        that it leaves out), ``keep_runs`` (true: scored runs count as done), ``parameters`` (for every notebook that
        declares them) and ``notebooks`` (notebook -> parameters of that one).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If a field, a method, a notebook or a parameter is unknown, or a value is of another type than the default that
        it replaces. YAML reads ``1e-4`` as text: write ``1.0e-4``.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"profile: expected a YAML file, found none at {path}")
    content, at = _read_yaml(path)
    require(isinstance(content, dict), str(path), "a mapping", type(content).__name__)
    empty = {"skip": [], "keep_runs": False, "parameters": {}, "notebooks": {}}
    known = ["methods", "seeds", *empty]
    spare = [name for name in content if name not in known]
    content = empty | content
    require(not spare and {*known} == {*content}, at(*spare[:1]), f"the fields {known}", list(content))
    methods, seeds, skip, keep_runs, shared, own = (content[name] for name in known)
    require(isinstance(keep_runs, bool), at("keep_runs"), "true or false", repr(keep_runs))
    allowed = [*BASELINES, *METHODS]
    require(isinstance(methods, list) and len(methods) > 0, at("methods"), "a list of names", repr(methods))
    require(all(name in allowed for name in methods), at("methods"), f"some of {allowed}", methods)
    for method in methods:
        start = METHODS[method].start if method in METHODS else ""
        require(start in ("", *methods), at("methods"), f"{start} too, as {method} starts from it", methods)
    whole = isinstance(seeds, list) and all(type(seed) is int and seed >= 0 for seed in seeds)
    require(whole and 0 < len(seeds) == len(set(seeds)), at("seeds"), "different integers >= 0", repr(seeds))

    notebooks = sorted(path.parent.parent.glob("[0-9][0-9]-*.ipynb"))
    stems = [notebook.stem for notebook in notebooks]
    require(isinstance(skip, list) and all(name in stems for name in skip), at("skip"), f"some of {stems}", repr(skip))
    notebooks = [notebook for notebook in notebooks if notebook.stem not in skip]
    declared = {notebook.stem: notebook_parameters(notebook) for notebook in notebooks}
    require(isinstance(shared, dict), at("parameters"), "a mapping", repr(shared))
    for name in shared:
        somewhere = any(name in parameters for parameters in declared.values())
        require(somewhere, at("parameters", name), "a parameter that a notebook declares", repr(name))
    require(isinstance(own, dict), at("notebooks"), "a mapping", repr(own))
    for stem, values in own.items():
        require(stem in declared, at("notebooks", stem), f"one of {sorted(declared)}", repr(stem))
        require(values is None or isinstance(values, dict), at("notebooks", stem), "a mapping", repr(values))
    settings = {}
    for stem, defaults in declared.items():
        mine = own.get(stem) or {}
        settings[stem] = {name: value for name, value in shared.items() if name in defaults} | mine
        for name, value in settings[stem].items():
            place = at("notebooks", stem, name) if name in mine else at("parameters", name)
            require(name in defaults, place, f"one of the parameters {sorted(defaults)} of {stem}", repr(name))
            kind = type(defaults[name]).__name__
            good = isinstance(value, _TYPES[kind]) and (kind == "bool" or not isinstance(value, bool))
            require(good, place, f"{kind}, as its default {defaults[name]!r}", repr(value))
    return Profile(path.stem, methods, seeds, notebooks, settings, keep_runs)


def _read_yaml(path: Path) -> tuple[Any, Callable[..., str]]:
    """The content of a YAML file, and a function that says where it is: ``at("seeds")`` is "quick.yaml, line 3: seeds".

    Raises a ``ValueError`` if it is no YAML, needs more than YAML's plain types, or gives a key of a mapping twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content, root = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        raise ValueError(f"{path}: expected YAML, got {error}") from None
    lines: dict[tuple[str, ...], int] = {}

    def find(node: yaml.Node | None, keys: tuple[str, ...]) -> None:
        for key, value in node.value if isinstance(node, yaml.MappingNode) else []:
            inside = (*keys, str(key.value))
            line = key.start_mark.line + 1
            require(
                inside not in lines, f"{path}, line {line}", f"{key.value} once", f"it again after {lines.get(inside)}"
            )
            lines[inside] = line
            find(value, inside)

    def at(*keys: Any) -> str:
        names = tuple(map(str, keys))
        line = f", line {lines[names]}" if names in lines else ""
        return ": ".join([f"{path}{line}", *names[-2:]])

    find(root, ())
    return content, at


def notebook_parameters(notebook: str | Path) -> dict[str, Any]:
    """The parameters of a notebook and their defaults, from its cell tagged ``parameters``.

    Raises
    ------
    ValueError
        If the notebook has no such cell, or an assignment in it has no annotation or no literal value.
    """
    cells = read_json(notebook)["cells"]
    tagged = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    require(len(tagged) == 1, str(notebook), "one cell tagged 'parameters'", f"{len(tagged)} of them")
    found = {}
    for statement in ast.parse("".join(tagged[0]["source"])).body:
        annotated = isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
        require(
            annotated,
            f"{notebook}: parameters",
            "annotated assignments such as `steps: int = 10`",
            ast.unparse(statement),
        )
        found[statement.target.id] = ast.literal_eval(statement.value)
    return found


def notebook_sources(notebook: str | Path) -> list[Path]:
    """The notebook and the files of the package that it uses, however indirectly: the inputs of its step."""
    code = [cell["source"] for cell in read_json(notebook)["cells"] if cell["cell_type"] == "code"]
    return [Path(notebook), *sources("\n".join("".join(source) for source in code))]


def run_folder(results: str | Path, method: str, seed: int) -> Path:
    """``results/runs/<method>-s<seed>``."""
    return Path(results) / "runs" / f"{method}-s{seed}"


def start_of(run: str | Path) -> Path | None:
    """The run folder, of the same seed, that the run of a method starts from; None if it starts from none."""
    run = Path(run)
    method, _, seed = run.name.rpartition("-s")
    start = METHODS[method].start if method in METHODS else ""
    return run.with_name(f"{start}-s{seed}") if start else None


def evaluate_run(
    run: str | Path,
    bank: ImageBank,
    method: str,
    seed: int,
    *,
    temperatures: Sequence[float] = (),
    most: int = 300,
) -> pd.DataFrame:
    """Score a run on the pictures of `bank`; write tables with a row an image and, last, its ``metrics.json``.

    ``images.csv`` is of all test pictures. Of a trained method, ``seen.csv`` is of training pictures, and of a
    classification ``temperatures.csv`` of test pictures decoded at each of `temperatures`, in a column ``T``.

    Parameters
    ----------
    run : path
        A finished run, or for a baseline the folder to make.
    bank : ImageBank
    method, seed : str, int
    temperatures : sequence of float
        Of the annealed mean.
    most : int
        Pictures in ``seen.csv`` and at each temperature; see `evaluation.evaluate`.

    Returns
    -------
    DataFrame
        The content of ``images.csv``, as `evaluation.evaluate` gives it.

    Raises
    ------
    FileNotFoundError
        If `method` is no baseline and the run is not finished.
    """
    run = Path(run)
    started = time.perf_counter()
    training: dict[str, Any] = {}
    others: dict[str, pd.DataFrame] = {}
    if method in BASELINES:
        colorizer = baseline(method, bank, seed)
    else:
        colorizer = Colorizer.load(run)
        training = {"train": read_json(run / "run.json"), "summary": read_json(run / "train.json")}
        others["seen"] = evaluate(colorizer, bank, "train", most=most)
        if temperatures and colorizer.model.method.target == "classification":
            decoders = {t: SimpleNamespace(colorize=partial(colorizer.colorize, temperature=t)) for t in temperatures}
            decoded = {t: evaluate(decoder, bank, most=most) for t, decoder in decoders.items()}
            others["temperatures"] = pd.concat(decoded, names=["T"])
    table = evaluate(colorizer, bank)
    for name, scored in {"images": table, **others}.items():
        with replacing(run / f"{name}.csv") as temporary:
            scored.to_csv(temporary, float_format="%.8g")
    config = {
        "method": method,
        "seed": seed,
        "data": bank.name,
        "size": int(bank.images.shape[1]),
        **training.get("train", {}),
    }
    aggregated = {name: float(value) for name, value in metrics.aggregate(table).items()}
    write_json(
        run / "metrics.json",
        {
            "method": method,
            "seed": seed,
            "scores": {name: value if math.isfinite(value) else None for name, value in aggregated.items()},
            "test_images": len(table),
            "config": config,
            "config_hash": digest(config),
            "data_hash": bank.hash,
            "train_seconds": training.get("summary", {}).get("seconds", 0.0),
            "train_provenance": training.get("summary", {}).get("provenance"),
            "evaluate_seconds": round(time.perf_counter() - started, 2),
            "provenance": provenance(),
        },
    )
    return table


def done(results: str | Path, profile: Profile) -> list[str]:
    """The runs that have scores of a training with the settings that `profile` asks for, by whatever code."""
    folders = (run_folder(results, method, seed) for method, seed in profile.runs())
    return [folder.name for folder in folders if _stands(folder, profile)]


def kept(results: str | Path, profile: Profile) -> list[str]:
    """Of a profile with ``keep_runs``, the runs that are done for good: no change of code makes them stale.

    All that are `done`, but for those without their weights from which another run has yet to start.
    """
    if not profile.keep_runs:
        return []
    found = done(results, profile)
    folders = (run_folder(results, method, seed) for method, seed in profile.runs())
    needed = {start_of(folder) for folder in folders if folder.name not in found}
    folders = (Path(results) / "runs" / name for name in found)
    return [folder.name for folder in folders if folder not in needed or (folder / "train.json").is_file()]


def _stands(run: Path, profile: Profile) -> bool:
    """Whether `run` has scores, of the settings that `profile` asks for."""
    if not (run / "metrics.json").is_file():
        return False
    method, _, seed = run.name.rpartition("-s")
    config, settings = read_json(run / "metrics.json")["config"], profile.defaults("03-train")
    if config["size"] != settings["size"]:
        return False
    if method in BASELINES:
        return config["method"] == method and config["seed"] == int(seed)
    wanted = {"method": asdict(METHODS[method]), "config": _train_config(settings, int(seed)).identity()}
    return all(config[name] == json.loads(json.dumps(value)) for name, value in wanted.items())


def ensure_trained(run: str | Path) -> Path:
    """Train, in this process, the run of a profile whose folder is `run`, unless it is trained; return the folder.

    After `make study` there is nothing to do. Else the profile is ``profiles/<results>.yaml`` beside the notebook that
    asks, for ``<results>/runs/<method>-s<seed>``.
    """
    run = Path(run)
    method, _, seed = run.name.rpartition("-s")
    if method in BASELINES or (run / "train.json").exists():
        return run
    settings = load_profile(Path("profiles") / f"{run.parents[1].name}.yaml").defaults("03-train")
    start = start_of(run)
    if start is not None:
        ensure_trained(start)
    bank = load(settings["source"], size=settings["size"])
    return fit(method, bank, _train_config(settings, int(seed)), run, start=start)


def _train_config(settings: dict[str, Any], seed: int) -> TrainConfig:
    """What the settings of 03-train say of training."""
    chosen = {f.name: settings[f.name] for f in fields(TrainConfig) if f.name in settings}
    return TrainConfig(**chosen | {"seed": seed})


def ensure_runs(results: str | Path) -> list[Path]:
    """Train and score, as `ensure_trained`, every run that the profile of `results` asks for and `results` lacks.

    A profile with ``keep_runs`` grows over days, so of a method that has a scored run the others are not waited for:
    they are named and left out.

    Returns
    -------
    list of Path
        The scored run folders of the profile, in its order.
    """
    results = Path(results)
    profile = load_profile(Path("profiles") / f"{results.name}.yaml")
    folders = {run_folder(results, method, seed): (method, seed) for method, seed in profile.runs()}
    there = {method for folder, (method, _) in folders.items() if (folder / "metrics.json").exists()}
    left_out = []
    for folder, (method, seed) in folders.items():
        if (folder / "metrics.json").exists():
            continue
        if profile.keep_runs and method in there:
            left_out.append(folder)
            continue
        ensure_trained(folder)
        settings = profile.defaults("04-evaluate")
        chosen = {name: settings[name] for name in ("temperatures", "most")}
        evaluate_run(folder, load(settings["source"], size=settings["size"]), method, seed, **chosen)
    if left_out:
        print("left out, as they have not run yet:", ", ".join(folder.name for folder in left_out))
    return [folder for folder in folders if folder not in left_out]


def scores(runs: Iterable[str | Path], table: str = "images") -> pd.DataFrame:
    """The per-image scores of run folders: columns ``method``, ``seed``, ``image`` and those of `evaluate`.

    The folders are those of the profile, as `ensure_runs` gives them: a results folder may hold runs of an earlier one.
    `table` is one of those that `evaluate_run` writes; runs that have none by nature are left out.

    Raises
    ------
    FileNotFoundError
        If a run is not scored, or there is none.
    """
    parts = []
    for folder in map(Path, runs):
        if not (folder / "metrics.json").exists():
            raise FileNotFoundError(f"runs: expected scored runs, found no metrics.json in {folder}; see `make study`")
        about = read_json(folder / "metrics.json")
        if not (folder / f"{table}.csv").exists():
            continue
        part = pd.read_csv(folder / f"{table}.csv")
        part.insert(0, "seed", about["seed"])
        part.insert(0, "method", about["method"])
        parts.append(part)
    if not parts:
        raise FileNotFoundError(f"runs: expected scored runs with {table}.csv, found none; see `make study`")
    return pd.concat(parts, ignore_index=True)


def record(results: str | Path, notebook: str, **answer: Any) -> Path:
    """Write ``records/<notebook>.json``: the numbers that a notebook answers with, and where they come from.

    Its last call: the file says that the notebook ended well.
    """
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
