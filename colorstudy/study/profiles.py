"""Profiles: what a study runs, read from ``notebooks/profiles/<name>.yaml`` and checked before anything runs."""

import ast
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from colorstudy._checks import extra, require, require_choice
from colorstudy._files import read_json
from colorstudy._provenance import sources
from colorstudy.data import ImageBank, Stream, load
from colorstudy.evaluation import BASELINES
from colorstudy.methods import METHODS, Method, get
from colorstudy.study.run import Run
from colorstudy.training import TrainConfig

with extra("study"):
    import yaml

# The fields of a profile and, of those that it may leave out, what stands for them.
_FIELDS: dict[str, Any] = {"methods": [], "seeds": [], "skip": []}
_FIELDS |= {"keep_runs": False, "parameters": {}, "notebooks": {}}
_WORDS = {list: "a list", bool: "true or false", dict: "a mapping"}
_Values = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Profile:
    """What a study runs; see `load_profile`.

    `methods` has, by name, the fields of each method that the profile defines itself, {} for known ones; `notebooks`
    has the own parameters of those that run, by stem; `settings` those that the profile sets.
    """

    name: str
    methods: _Values
    seeds: list[int]
    notebooks: _Values
    settings: _Values
    keep_runs: bool = False

    def runs(self, results: str | Path) -> list[Run]:
        """All runs of the study, made or not, in the order of the tables; `gray` has no randomness, so it has one."""
        return [run_at(results, m, s) for m in self.methods for s in (self.seeds[:1] if m == "gray" else self.seeds)]

    def method(self, name: str) -> Method:
        """The method, which is no baseline, of that name."""
        own = self.methods.get(name)
        return Method(**own) if own else get(name)

    def start_of(self, run: Run) -> Run | None:
        """The run, of the same seed, from whose network `run` starts, if any."""
        start = "" if run.method in BASELINES else self.method(run.method).start
        return run_at(run.path.parents[1], start, run.seed) if start else None

    def train_config(self, run: Run) -> TrainConfig:
        """How `run` is trained: the parameter `training` of 03-train, with the seed of the run."""
        return TrainConfig(**self.defaults("03-train")["training"], seed=run.seed)

    def bank(self) -> ImageBank | Stream:
        """The pictures to train on: the parameters `source` and `size` of 03-train."""
        return load(self.defaults("03-train")["source"], size=self.defaults("03-train")["size"])

    def defaults(self, notebook: str) -> dict[str, Any]:
        """The notebook's own parameters under those that the profile sets."""
        return self.notebooks[notebook] | self.settings[notebook]

    def parameters(self, notebook: str, **given: Any) -> dict[str, Any]:
        """The settings of a notebook, with those of `given` that it declares."""
        return self.settings[notebook] | {k: value for k, value in given.items() if k in self.notebooks[notebook]}


def run_at(results: str | Path, method: str, seed: int) -> Run:
    """The run ``results/runs/<method>-s<seed>``, made or not."""
    return Run(Path(results) / "runs" / f"{method}-s{seed}", method, seed)


def load_profile(path: str | Path) -> Profile:
    """Read and check a profile, a YAML file in ``notebooks/profiles``.

    ``methods`` are names of methods and baselines, or mappings of fields of `Method`; ``seeds`` integers; ``skip``
    notebooks that it leaves out; ``parameters`` are set in every notebook that declares them, those of ``notebooks`` in
    one; with ``keep_runs: true`` scored runs count as done, see `grid.kept`. A ``ValueError`` names line and field of
    what is unknown or has another type than the default that it replaces (YAML reads ``1e-4`` as text: write 1.0e-4).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"profile: expected a YAML file, found none at {path}")
    content, at = _read_yaml(path)
    require(isinstance(content, dict), str(path), "a mapping", type(content).__name__)
    require({"methods", "seeds"} <= {*content}, str(path), "the fields methods and seeds", list(content))
    for name, value in content.items():
        require_choice(name, _FIELDS, at(name))
        require(isinstance(value, type(_FIELDS[name])), at(name), _WORDS[type(_FIELDS[name])], repr(value))
    content = _FIELDS | content
    seeds, skip = content["seeds"], content["skip"]
    whole = all(type(seed) is int and seed >= 0 for seed in seeds)
    require(whole and 0 < len(seeds) == len({*seeds}), at("seeds"), "different integers >= 0", repr(seeds))

    found = {notebook.stem: notebook for notebook in sorted(path.parent.parent.glob("[0-9][0-9]-*.ipynb"))}
    for name in skip:
        require_choice(name, [*found], at("skip"))
    notebooks = {stem: notebook_parameters(notebook) for stem, notebook in found.items() if stem not in skip}
    settings = _settings(notebooks, content["parameters"], content["notebooks"], at)
    return Profile(path.stem, _methods(content["methods"], at), seeds, notebooks, settings, content["keep_runs"])


def _methods(entries: list[Any], at: Callable[..., str]) -> _Values:
    """Name -> own fields, {} for a known name, of the methods in a profile."""
    require(len(entries) > 0, at("methods"), "at least one method", "none")
    known, found, starts = [*BASELINES, *METHODS], {}, {}
    for number, entry in enumerate(entries):
        if isinstance(entry, dict):
            method = _build(Method, entry, at, "methods", number)
            place = at("methods", number, "name")
            require(method.name not in known, place, "a name of its own", repr(method.name))
        else:
            require_choice(entry, known, at("methods", number))
            method = METHODS.get(entry)
        name = method.name if method else entry
        require(name not in found, at("methods", number), "every method once", repr(name))
        found[name], starts[name] = entry if isinstance(entry, dict) else {}, method.start if method else ""
    for name, start in starts.items():
        require(start in ("", *found), at("methods"), f"{start} too, as {name} starts from it", [*found])
    return found


def _settings(notebooks: _Values, shared: dict[str, Any], own: _Values, at: Callable[..., str]) -> _Values:
    """The parameters that a profile sets, for all notebooks and for single ones, checked against what they declare."""
    for name in shared:
        require_choice(name, sorted({name for known in notebooks.values() for name in known}), at("parameters", name))
    for stem, values in own.items():
        require_choice(stem, notebooks, at("notebooks", stem))
        require(isinstance(values, dict), at("notebooks", stem), "a mapping", repr(values))
    settings: _Values = {}
    for stem, defaults in notebooks.items():
        mine = own.get(stem, {})
        settings[stem] = {name: value for name, value in shared.items() if name in defaults} | mine
        for name, value in settings[stem].items():
            keys = ("notebooks", stem, name) if name in mine else ("parameters", name)
            require_choice(name, sorted(defaults), at(*keys))
            kind = type(defaults[name])
            good = type(value) is kind or (kind is float and type(value) is int)
            require(good, at(*keys), f"{kind.__name__}, as its default {defaults[name]!r}", repr(value))
            if name == "training":
                require("seed" not in value, at(*keys, "seed"), "none, as `seeds` says it", value.get("seed"))
                _build(TrainConfig, value, at, *keys)
    return settings


def _build(kind: type, values: dict[str, Any], at: Callable[..., str], *keys: Any) -> Any:
    """A dataclass from a mapping in the file; errors name the place of the field."""
    for name in values:
        require_choice(name, [field.name for field in fields(kind)], at(*keys, name))
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        field, _, words = str(error).partition(": ")
        place = f"{at(*keys, field)}: {words}" if field in values else f"{at(*keys)}: {error}"
        raise ValueError(place) from None


def _read_yaml(path: Path) -> tuple[Any, Callable[..., str]]:
    """The content of a YAML file, and a function that says where it is: ``at("seeds")`` is "quick.yaml, line 3: seeds".

    A ``ValueError`` if it is no YAML, needs more than YAML's plain types, or gives a key of a mapping twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content, root = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: expected YAML, got {error}") from None
    lines: dict[tuple[str, ...], int] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    while waiting:
        keys, node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode):
            continue
        items, node.value = node.value, []  # an alias may contain itself
        for number, item in enumerate(items):
            name, key, value = (item[0].value, *item) if isinstance(item, tuple) else (number, item, item)
            inside, line = (*keys, str(name)), key.start_mark.line + 1
            require(inside not in lines, f"{path}, line {line}", f"{name} once", f"it again after {lines.get(inside)}")
            lines[inside] = line
            waiting.append((inside, value))

    def at(*keys: Any) -> str:
        names = tuple(map(str, keys))
        line = f", line {lines[names]}" if names in lines else ""
        return ": ".join([f"{path}{line}", *names[-2:]])

    return content, at


def notebook_parameters(notebook: str | Path) -> dict[str, Any]:
    """The parameters of a notebook and their defaults, from its cell tagged ``parameters``.

    A ``ValueError`` if it has no such cell, or an assignment in it has no annotation or no literal value.
    """
    cells = [cell for cell in read_json(notebook)["cells"] if "parameters" in cell["metadata"].get("tags", [])]
    require(len(cells) == 1, str(notebook), "one cell tagged 'parameters'", f"{len(cells)} of them")
    found = {}
    for statement in ast.parse("".join(cells[0]["source"])).body:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            expected = "annotated assignments such as `steps: int = 10`"
            raise ValueError(f"{notebook}: parameters: expected {expected}, got {ast.unparse(statement)}")
        found[statement.target.id] = ast.literal_eval(statement.value)
    return found


def notebook_sources(notebook: str | Path) -> list[Path]:
    """The notebook and the files of the package that it uses, however indirectly: the inputs of its step."""
    code = ["".join(cell["source"]) for cell in read_json(notebook)["cells"] if cell["cell_type"] == "code"]
    return [Path(notebook), *sources("\n".join(code))]
