"""Profiles: what a study runs, read from ``notebooks/profiles/<name>.yaml`` and checked before anything runs."""

import ast
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from colorstudy._checks import extra, require, require_choice
from colorstudy._files import read_json
from colorstudy.data import ImageBank, load
from colorstudy.methods import METHODS, Method, get
from colorstudy.study.evaluation import BASELINES
from colorstudy.study.run import Run, run_at
from colorstudy.training import TrainConfig

with extra("study"):
    import yaml
    from IPython import get_ipython

# The fields of a profile, and what stands for those that it leaves out.
_FIELDS: dict[str, Any] = {"methods": [], "seeds": [], "only": [], "skip": []}
_FIELDS |= {"keep_runs": False, "parameters": {}, "notebooks": {}}
_METHOD = [*(field.name for field in fields(Method)), "like", "training"]
_DECODING = ["name", "decodes", "temperature", "rebalance", "bilateral"]
_WORDS = {list: "a list", dict: "a mapping", bool: "true or false", int: "an integer", float: "a number", str: "text"}
_Values = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Profile:
    """What a study runs; see `load_profile`.

    `methods` has each method by name, None for a baseline; `own_training` training settings that are a method's own;
    `notebooks` the own parameters of those that run, by stem; `settings` those that the profile sets.
    """

    name: str
    methods: dict[str, Method | None]
    own_training: _Values
    seeds: list[int]
    notebooks: _Values
    settings: _Values
    keep_runs: bool = False

    def runs(self, results: str | Path) -> list[Run]:
        """All runs of the study, made or not, in the order of the tables; `gray` has no randomness, so it has one."""
        seeds = {name: self.seeds[:1] if name == "gray" else self.seeds for name in self.methods}
        return [run_at(results, self.methods[name] or name, seed) for name in seeds for seed in seeds[name]]

    def method(self, name: str) -> Method:
        """The method, which is no baseline, of that name."""
        return self.methods.get(name) or get(name)

    def base_of(self, run: Run) -> Run | None:
        """The run, of the same seed, whose network `run` decodes or starts from, if any."""
        method = None if run.method in BASELINES else self.method(run.method)
        base = method and (method.decodes or method.start)
        return run_at(run.path.parents[1], self.method(base), run.seed) if base else None

    def train_config(self, run: Run) -> TrainConfig:
        """How `run` is trained: `training` of 03-train, over it what is its method's own, and the seed of the run."""
        training = self.defaults("03-train")["training"] | self.own_training.get(run.method, {})
        return TrainConfig(**training, seed=run.seed)

    def bank(self) -> ImageBank:
        """The pictures to train on: the parameters `source` and `size` of 03-train."""
        return load(self.defaults("03-train")["source"], size=self.defaults("03-train")["size"])

    def defaults(self, notebook: str) -> dict[str, Any]:
        """The notebook's own parameters under those that the profile sets."""
        return self.notebooks[notebook] | self.settings[notebook]

    def parameters(self, notebook: str, **given: Any) -> dict[str, Any]:
        """The settings of a notebook, with those of `given` that it declares."""
        return self.settings[notebook] | {k: value for k, value in given.items() if k in self.notebooks[notebook]}


def load_profile(path: str | Path) -> Profile:
    """Read and check a profile, a YAML file in ``notebooks/profiles``.

    ``methods`` are names of methods and baselines, or mappings of fields of `Method`: of all, or of those in which it
    differs from the one that it is ``like`` or ``decodes``. Such a mapping may also have ``training``: settings over
    those of 03-train. ``seeds`` are integers; ``only`` the notebooks that it runs besides 03 and 04, ``skip`` those
    that it leaves out; ``parameters`` are set in every notebook that declares them, those of ``notebooks`` in one; with
    ``keep_runs: true`` no change of code makes scored runs stale. A ``ValueError`` names line and field of what is
    unknown or has another type than the default that it replaces (YAML reads ``1e-4`` as text: write 1.0e-4).
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"profile: expected a YAML file, found none at {path}")
    content, at = _read_yaml(path)
    _check(content, _FIELDS, at)
    content = _FIELDS | content
    seeds, only, skip, shared, own = (content[name] for name in ("seeds", "only", "skip", "parameters", "notebooks"))
    whole = all(type(seed) is int and seed >= 0 for seed in seeds)
    require(whole and 0 < len(seeds) == len({*seeds}), at("seeds"), "different integers >= 0", repr(seeds))

    found = {notebook.stem: notebook for notebook in sorted(path.parent.parent.glob("[0-9][0-9]-*.ipynb"))}
    for field, names in {"only": only, "skip": skip}.items():
        for name in names:
            require_choice(name, [*found], at(field))
    run = {*(["03-train", "04-evaluate", *only] if only else found)} - {*skip}
    notebooks = {stem: notebook_parameters(notebook) for stem, notebook in found.items() if stem in run}
    _check(shared, {name: value for known in notebooks.values() for name, value in known.items()}, at, "parameters")
    for stem, values in own.items():
        require_choice(stem, notebooks, at("notebooks", stem))
        _check(values, notebooks[stem], at, "notebooks", stem)
    settings = {
        stem: {name: value for name, value in shared.items() if name in known} | own.get(stem, {})
        for stem, known in notebooks.items()
    }
    return Profile(path.stem, *_methods(content["methods"], at), seeds, notebooks, settings, content["keep_runs"])


def _check(values: Any, known: dict[str, Any], at: Callable[..., str], *keys: Any) -> None:
    """Require a mapping of names that are `known`, to values of the types that they have there."""
    require(isinstance(values, dict), at(*keys), "a mapping", repr(values))
    for name, value in values.items():
        require_choice(name, known, at(*keys, name))
        kind = type(known[name])
        good = type(value) is kind or (kind is float and type(value) is int)
        require(good, at(*keys, name), _WORDS[kind], repr(value))
        if name == "training":
            _build(TrainConfig, value, at, *keys, name)


def _methods(entries: list[Any], at: Callable[..., str]) -> tuple[dict[str, Method | None], _Values]:
    """The methods in a profile by name, None for a baseline, and the training settings that are a method's own."""
    require(len(entries) > 0, at("methods"), "at least one method", "none")
    found: dict[str, Method | None] = {}
    training: _Values = {}
    method: Method | None
    for number, entry in enumerate(entries):
        keys = ("methods", number)
        if isinstance(entry, dict):
            link, names = ("decodes", _DECODING) if "decodes" in entry else ("like", _METHOD)
            for name in entry:
                require_choice(name, names, at(*keys, name))
            known = METHODS | {name: method for name, method in found.items() if method}
            if link in entry:
                require_choice(entry[link], [*known], at(*keys, link))
            values = {name: value for name, value in entry.items() if name not in ("like", "training")}
            method = made = _build(Method, values, at, *keys, like=known.get(entry.get(link, "")))
            name = made.name
            require(name not in (*BASELINES, *METHODS), at(*keys, "name"), "a name of its own", repr(name))
            training[name] = entry.get("training", {})
            _build(TrainConfig, training[name], at, *keys, "training")
        else:
            require_choice(entry, [*BASELINES, *METHODS], at(*keys))
            name, method = entry, METHODS.get(entry)
        require(name not in found, at(*keys), "every method once", repr(name))
        found[name] = method
    trained = [name for name, method in found.items() if method and not method.decodes]
    for name, method in found.items():
        if method and (base := method.decodes or method.start):
            how = "decodes" if method.decodes else "starts from"
            require(base in trained, at("methods"), f"{base} too, as {name} {how} it, among the trained", trained)
    return found, training


def _build(kind: type, values: Any, at: Callable[..., str], *keys: Any, like: Any = None) -> Any:
    """A dataclass from a mapping in the file, else as `like`; errors name the place of the field."""
    require(isinstance(values, dict), at(*keys), "a mapping", repr(values))
    require("seed" not in values, at(*keys, "seed"), "none, as `seeds` says it", values.get("seed"))
    for name in values:
        require_choice(name, [field.name for field in fields(kind)], at(*keys, name))
    try:
        return kind(**values) if like is None else replace(like, **values)
    except (TypeError, ValueError) as error:
        field, _, words = str(error).partition(": ")
        place = f"{at(*keys, field)}: {words}" if field in values else f"{at(*keys)}: {error}"
        raise ValueError(place) from None


def _read_yaml(path: Path) -> tuple[Any, Callable[..., str]]:
    """The content of a YAML file, and a function that says where it is: ``at("seeds")`` is "quick.yaml, line 3: seeds".

    A ``ValueError`` if it is no YAML, needs more than YAML's plain types, has an alias, by which a few lines can stand
    for a billion, or gives a key of a mapping twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        aliases = [token.value for token in yaml.scan(text, yaml.SafeLoader) if isinstance(token, yaml.AliasToken)]
        require(not aliases, str(path), "no alias", aliases[:1])
        content, root = yaml.safe_load(text), yaml.compose(text, yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected YAML, got {error}") from None
    lines: dict[tuple[str, ...], int] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), root)]
    while waiting:
        keys, node = waiting.pop()
        if not isinstance(node, yaml.CollectionNode):
            continue
        for number, item in enumerate(node.value):
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
    return _assigned("".join(cells[0]["source"]), str(notebook))


def check_parameters() -> None:
    """In a notebook: a ``ValueError`` if papermill, which only warns, was given a parameter that the notebook lacks."""
    executed = getattr(get_ipython(), "user_ns", {}).get("In", [])
    if len(executed) > 2 and executed[2].startswith("# Parameters"):
        for statement in ast.parse(executed[2]).body:
            require_choice(ast.unparse(statement).split(" = ")[0], _assigned(executed[1], "parameters"), "parameter")


def _assigned(source: str, place: str) -> dict[str, Any]:
    """The values of the annotated assignments that `source` consists of."""
    found = {}
    for statement in ast.parse(source).body:
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            expected = "annotated assignments such as `steps: int = 10`"
            raise ValueError(f"{place}: parameters: expected {expected}, got {ast.unparse(statement)}")
        found[statement.target.id] = ast.literal_eval(statement.value)
    return found
