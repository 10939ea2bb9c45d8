"""Profiles are checked before anything runs; runs, records and manifests hold what they must."""

import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from colorstudy.methods import METHODS, Method
from colorstudy.study import grid, tables
from colorstudy.study.profiles import load_profile, notebook_parameters, run_at
from colorstudy.study.run import Run
from colorstudy.training import TrainConfig
from tools import steps

ROOT = Path(__file__).parents[2]
PROFILES = sorted((ROOT / "notebooks" / "profiles").glob("*.yaml"))
pytestmark = pytest.mark.skipif(not PROFILES, reason="runs in a checkout, where the profiles are")


@pytest.fixture
def write(tmp_path):
    """Writes a profile beside copies of the notebooks and returns its path."""
    notebooks = tmp_path / "notebooks"
    shutil.copytree(ROOT / "notebooks", notebooks, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints"))

    def write(text):
        path = notebooks / "profiles" / "test.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    """A module outside of the package with a target."""
    text = "import torch\nclass Own:\n    out_channels = 2\n"
    text += "    def loss(self, output, chroma):\n        return output.square().mean()\n"
    text += "    def decode(self, output):\n        return output\n"
    (tmp_path / "target_of_the_profile.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "target_of_the_profile:Own"


def named(runs):
    return [(run.method, run.seed) for run in runs]


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_profiles_of_the_project_are_valid(path, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "notebooks"))  # where huber.py lies
    profile = load_profile(path)
    runs = named(profile.runs(tmp_path))
    assert profile.name == path.stem and profile.methods and profile.seeds
    assert [run for run in runs if run[0] == "gray"] == [("gray", profile.seeds[0])][: "gray" in profile.methods]


def test_a_profile_runs_only_some_notebooks_or_skips_some(write):
    assert [*load_profile(write(BASE + "only: [05-compare]\n")).notebooks] == ["03-train", "04-evaluate", "05-compare"]
    every, fewer = (load_profile(write(BASE + skip)).notebooks for skip in ("", "skip: [05-compare]\n"))
    assert {*every} - {*fewer} == {"05-compare"}


def test_first_is_the_own_defaults_of_03_and_04():
    """So that 04 trains what it is to score, where 03 has not, and 03 finds it trained."""
    profile = load_profile(ROOT / "notebooks" / "profiles" / "first.yaml")
    assert profile.settings == {"03-train": {}, "04-evaluate": {}}
    for notebook in profile.notebooks.values():
        folder = Path(notebook["run"])
        assert (folder.parents[1], folder.name) == (Path("../results/first"), f"{notebook['method']}-s0")
        assert notebook["method"] in profile.methods and notebook["seed"] in profile.seeds


def test_a_folder_without_a_profile_has_the_scored_runs_below_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for method in ("l2", "full"):
        (tmp_path / "mine" / f"{method}-again").mkdir(parents=True)
        about = {"method": method, "seed": 4, "config": {}}
        (tmp_path / "mine" / f"{method}-again" / "metrics.json").write_text(json.dumps(about))
    assert named(grid.ensure_runs("mine")) == [("full", 4), ("l2", 4)]
    assert named(grid.ensure_runs("mine", ["l2"])) == [("l2", 4)]
    with pytest.raises(ValueError, match=r"methods: expected one of \['full', 'l2'\], got 'fill'; did you mean 'full'"):
        grid.ensure_runs("mine", ["fill"])
    with pytest.raises(FileNotFoundError, match="profile: expected a YAML file, found none at"):
        grid.ensure_runs("other")


def test_settings_reach_the_notebooks_that_declare_them(write, tmp_path):
    text = "methods: [gray, l2]\nseeds: [3]\nparameters: {size: 96}\n"
    profile = load_profile(write(text + "notebooks:\n  03-train: {training: {steps: 5}}\n"))
    _, l2 = profile.runs(tmp_path)
    assert (l2.method, l2.seed, l2.path) == ("l2", 3, tmp_path / "runs" / "l2-s3")
    given = profile.parameters("03-train", method="l2", seed=3, results="nowhere", run="here")
    expected = {"size": 96, "training": {"steps": 5}, "method": "l2", "seed": 3, "run": "here"}  # 03 has no `results`
    assert given == expected
    assert profile.train_config(l2) == TrainConfig(steps=5, seed=3)  # the rest is TrainConfig's, not the notebook's
    assert profile.parameters("07-legacy-photos", results="there", size=9) == {"results": "there"}
    assert profile.bank().images.shape[1] == 96


BASE = "methods: [l2]\nseeds: [0]\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("methods: [l2]\n", r"seeds: expected different integers >= 0, got \[\]"),
        ("- a\n", r"expected a mapping, got \['a'\]"),
        ("methods: [l2\n", "expected YAML"),
        ("", "expected a mapping, got None"),
        ("methods: []\nseeds: [0]\n", "line 1: methods: expected at least one method, got none"),
        ("methods: l2\nseeds: [0]\n", "line 1: methods: expected a list, got 'l2'"),
        (
            "methods: [l2, fulll]\nseeds: [0]\n",
            r"line 1: methods: 1: expected one of \['gray', 'random', 'l2'.*got 'fulll'; did you mean 'full'\?",
        ),
        ("methods: [[l2]]\nseeds: [0]\n", r"line 1: methods: 0: expected one of .* got \['l2'\]"),
        ("methods:\n  - l2\n  - l2\nseeds: [0]\n", "line 3: methods: 1: expected every method once, got 'l2'"),
        ("methods: [l2-ft]\nseeds: [0]\n", "line 1: methods: expected full too, as l2-ft starts from it"),
        ("methods: [class-posthoc]\nseeds: [0]\n", "methods: expected class too, as class-posthoc decodes it, .* got "),
        ("methods: [full, {name: a, start: gray}]\nseeds: [0]\n", r"expected gray too, as a starts from it, .*'full'"),
        (
            "methods: [class, class-posthoc, {name: a, decodes: class-posthoc}]\nseeds: [0]\n",
            r"line 1: methods: expected class-posthoc too, as a decodes it, among the trained, got \['class'\]",
        ),
        (
            "methods:\n  - class\n  - name: a\n    decodes: class\n    lam: 0.5\nseeds: [0]\n",
            r"line 5: 1: lam: expected one of \['name', 'decodes', .*, 'rebalance', 'bilateral'\], got 'lam'",
        ),
        (
            "methods: [class, {name: a, decodes: class, training: {steps: 5}}]\nseeds: [0]\n",
            r"line 1: 1: training: expected one of \['name', 'decodes', .*, got 'training'",
        ),
        (
            "methods: [class, {name: a, like: full, decodes: class}]\nseeds: [0]\n",
            r"line 1: 1: like: expected one of \['name', 'decodes', .*, got 'like'",
        ),
        (
            "methods: [{name: a, decodes: clas}]\nseeds: [0]\n",
            "0: decodes: expected one of .* got 'clas'; did you mean 'class'",
        ),
        (
            "methods:\n  - name: a\n    like: ful\nseeds: [0]\n",
            "line 3: 0: like: expected one of .* did you mean 'full'",
        ),
        ("methods: [{name: a, like: [l2]}]\nseeds: [0]\n", r"0: like: expected one of .* got \['l2'\]"),
        ("methods: [{name: a, like: gray}]\nseeds: [0]\n", "0: like: expected one of .* got 'gray'"),
        ("methods: [{like: l2, training: {steps: 5}}]\nseeds: [0]\n", "expected a name of its own, got 'l2'"),
        ("methods: [{name: a, lik: l2}]\nseeds: [0]\n", "0: lik: expected one of .*; did you mean 'like'"),
        (
            "methods: [{name: a, like: l2, training: {stepz: 5}}]\nseeds: [0]\n",
            "line 1: training: stepz: expected one of .* did you mean 'steps'",
        ),
        (
            "methods: [{name: a, like: l2, training: {seed: 5}}]\nseeds: [0]\n",
            "training: seed: expected none, as `seeds` says it, got 5",
        ),
        ("methods: [{name: a, like: l2, training: 5}]\nseeds: [0]\n", "0: training: expected a mapping, got 5"),
        ("methods: [l2]\nseeds: [0, 0]\n", "seeds: expected different integers >= 0"),
        ("methods: [l2]\nseeds: [-1]\n", "seeds: expected different integers >= 0"),
        ("methods: [l2]\nseeds: 3\n", "seeds: expected a list, got 3"),
        (
            BASE + "parameters: {sizes_: 5}\n",
            r"line 3: parameters: sizes_: expected one of .*'size'.*, got 'sizes_'; did you mean 'sizes'\?",
        ),
        (
            BASE + "notebooks: {03-train: {sizee: 5}}\n",
            r"line 3: 03-train: sizee: expected one of .*'size'.* got 'sizee'; did you mean 'size'\?",
        ),
        (
            BASE + "notebooks: {03-trian: {size: 5}}\n",
            "line 3: notebooks: 03-trian: expected one of .* got '03-trian'; did you mean '03-train'",
        ),
        (
            BASE + "notebooks:\n  03-train:\n    training:\n      stepz: 5\n",
            r"line 6: training: stepz: expected one of \['steps', .* got 'stepz'; did you mean 'steps'\?",
        ),
        (
            BASE + "notebooks: {03-train: {training: {learning_rate: 1e-4}}}\n",
            "line 3: training: learning_rate: expected a number > 0, got '1e-4'",
        ),
        (
            BASE + "parameters:\n  training: {steps: true}\n",
            "line 4: training: steps: expected an integer >= 1, got True",
        ),
        (BASE + "parameters: {training: {seed: 3}}\n", "line 3: training: seed: expected none, as `seeds` says it"),
        (
            BASE + "parameters: {training: 600}\n",
            "line 3: parameters: training: expected a mapping, got 600",
        ),
        (BASE + "notebooks: {17-variety: {training: {steps: 0}}}\n", "line 3: training: steps: expected"),
        (BASE + "notebooks: {03-train: {overwrite: 'true'}}\n", "overwrite: expected true or false, got 'true'"),
        (BASE + "notebooks: {03-train: {size: true}}\n", "size: expected an integer, got True"),
        (BASE + "seed: 3\n", "line 3: seed: expected one of .* got 'seed'; did you mean 'seeds'"),
        (BASE + "seeds: [1]\n", "line 3: expected seeds once, got it again after 2"),
        (BASE + "\n\nskip: 9\n", "line 5: skip: expected a list, got 9"),
        (BASE + "skip: [[9]]\n", r"line 3: skip: expected one of .* got \[9\]"),
        (BASE + "only: [05-compair]\n", "line 3: only: expected one of .* did you mean '05-compare'"),
        (BASE + "keep_runs: maybe\n", "line 3: keep_runs: expected true or false, got 'maybe'"),
        (BASE + "parameters: 5\n", "line 3: parameters: expected a mapping, got 5"),
        (BASE + "notebooks: [03-train]\n", "line 3: notebooks: expected a mapping"),
        (BASE + "notebooks:\n  03-train: 5\n", "line 4: notebooks: 03-train: expected a mapping, got 5"),
        (BASE + "parameters: {size: x}\n", "line 3: parameters: size: expected an integer, got 'x'"),
        (BASE + "parameters: &a\n  size: *a\n", r"expected YAML, got .*: expected no alias, got \['a'\]"),
        (  # a few lines that stand for 10^30 names
            "a0: &a0 [l2, l2]\n"
            + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}*a{i - 1}]\n" for i in range(1, 30))
            + "methods: *a29\nseeds: [0]\n",
            "expected no alias",
        ),
        ("methods: " + "[" * 5000, "expected YAML"),
        ("methods: [l2]\nseeds: !!python/object/apply:os.getcwd []\n", "expected YAML, got could not determine"),
        ("methods:\n  - {name: a, lamb: 1}\nseeds: [0]\n", "line 2: 0: lamb: expected one of .*; did you mean 'lam'"),
        (
            "methods:\n  - l2\n  - name: a\n    lam: 2\nseeds: [0]\n",
            r"line 4: 1: lam: expected a share in \[0, 1\], got 2",
        ),
        ("methods: [{name: a, lam: much}]\nseeds: [0]\n", "line 1: 0: lam: expected a share in "),
        ("methods: [{name: a, network: compakt}]\nseeds: [0]\n", "line 1: 0: network: .* did you mean 'compact'"),
        (
            "methods: [{name: a, target: 'no_such:Target'}]\nseeds: [0]\n",
            "line 1: 0: target: expected .*'no_such:Target'",
        ),
        (
            "methods: [{name: full, lam: 0.3}]\nseeds: [0]\n",
            "line 1: 0: name: expected a name of its own, got 'full'",
        ),
        ("methods: [{name: a/b, lam: 0.3}]\nseeds: [0]\n", "line 1: 0: name: expected letters, .* got 'a/b'"),
        ("methods: [{name: a, start: full}]\nseeds: [0]\n", "methods: expected full too, as a starts from it"),
    ],
)
def test_a_bad_profile_is_refused_and_says_why(write, text, message):
    with pytest.raises(ValueError, match=message):
        load_profile(write(text))


def test_a_profile_defines_methods_of_its_own(write, tmp_path, own_module):
    text = f"methods: [l2, {{name: own, target: '{own_module}'}}, {{name: mild, lam: 0.9}}, {{name: ft, start: own}}]\n"
    profile = load_profile(write(text + "seeds: [0, 2]\n"))
    assert [*profile.methods] == ["l2", "own", "mild", "ft"]
    assert profile.method("own") == Method(name="own", target=own_module)
    assert profile.method("mild") == Method(name="mild", lam=0.9) and profile.method("l2") == METHODS["l2"]
    base = profile.base_of(profile.runs(tmp_path)[-1])
    assert (base.method, base.seed) == ("own", 2) and base.path == tmp_path / "runs" / "own-s2"
    assert profile.base_of(profile.runs(tmp_path)[0]) is None and profile.methods["l2"] is METHODS["l2"]


def test_a_method_is_like_another_with_settings_of_its_own(write, tmp_path):
    text = (
        "methods:\n  - {name: soft, like: full, neighbors: 7}\n  - {name: soft-5, like: soft, training: {steps: 5}}\n"
    )
    text += "seeds: [2]\nnotebooks:\n  03-train: {training: {steps: 9, crop: 32}}\n"
    profile = load_profile(write(text))
    assert profile.method("soft") == replace(METHODS["full"], name="soft", neighbors=7)
    assert profile.method("soft-5") == replace(METHODS["full"], name="soft-5", neighbors=7)
    whole, short = profile.runs(tmp_path)
    assert profile.train_config(whole) == TrainConfig(steps=9, crop=32, seed=2)
    assert profile.train_config(short) == TrainConfig(steps=5, crop=32, seed=2)
    # Scores of other settings are no scores of this run.
    short.path.mkdir(parents=True)
    for budget, current in [(9, False), (5, True)]:
        config = TrainConfig(steps=budget, crop=32, seed=2).identity()
        config = {"method": asdict(profile.method("soft-5")), "seed": 2, "size": 128, "config": config}
        (short.path / "metrics.json").write_text(json.dumps({"config": config}))
        assert grid.is_current(short, profile) == current


def test_a_method_of_the_profile_that_decodes_another_is_never_trained(write, tmp_path, monkeypatch):
    path = write(
        "methods: [class, {name: class-s25, decodes: class, rebalance: 0.25}]\nseeds: [1]\n"
        "parameters: {size: 32}\nnotebooks:\n  03-train: {training: {steps: 1, batch_size: 2, crop: 32, threads: 1}}\n"
    )
    monkeypatch.chdir(path.parents[1])
    (run,) = grid.ensure_runs(tmp_path / "results" / "test", ["class-s25"])  # which trains class, and does not score it
    base = run_at(tmp_path / "results" / "test", "class", 1)
    assert base.trained and not base.scored and run.trained and run.scored and run.network == base.path
    assert not {"train.json", "run.json", "model.safetensors"} & {file.name for file in run.path.iterdir()}
    assert run.colorizer().model.target.rebalance == 0.25 and run.config["seed"] == 1
    assert run.metrics["config"]["method"]["decodes"] == "class" and run.metrics["train_seconds"] > 0
    assert grid.is_current(run, load_profile(path))
    # What 04-evaluate makes of name and seed is the same run.
    assert grid.ensure_trained(Run(run.path, "class-s25", 1)).network == base.path


def test_a_method_of_the_profile_is_trained_and_scored(write, tmp_path, own_module, monkeypatch):
    path = write(
        f"methods: [gray, {{name: own, target: '{own_module}'}}]\nseeds: [0]\nparameters: {{size: 32}}\n"
        "notebooks:\n  03-train: {training: {steps: 1, batch_size: 2, crop: 32}}\n"
    )
    monkeypatch.chdir(path.parents[1])
    (run,) = grid.ensure_runs(tmp_path / "results" / "test", ["own"])
    assert run.trained and run.scored and run.colorizer().model.method.target == own_module
    assert not (run.path / "temperatures.csv").exists()  # it has no distribution
    assert (grid.scores([run])["method"] == "own").all() and len(grid.scores([run], "seen")) > 0
    assert grid.is_current(run, load_profile(path))
    expected = r"methods: expected one of \['gray', 'own'\], got 'l2'"
    with pytest.raises(ValueError, match=expected):
        grid.ensure_runs(tmp_path / "results" / "test", ["l2"])


def test_runs_are_kept_where_the_profile_says_so(write, tmp_path):
    text = "methods: [gray, full, l2-ft]\nseeds: [0]\n"
    profile = load_profile(write(text + "keep_runs: true\n"))
    assert steps.kept(tmp_path, profile) == []
    for run in profile.runs(tmp_path)[:2]:
        run.path.mkdir(parents=True)
        config = {"method": run.method, "seed": 0, "size": 128}
        if run.method == "full":
            config |= {"method": asdict(METHODS["full"]), "config": profile.train_config(run).identity()}
        (run.path / "metrics.json").write_text(json.dumps({"config": config}))
    assert named(steps.kept(tmp_path, profile)) == [("gray", 0)]  # l2-ft, which is to come, needs the weights of full
    assert named(grid.done(tmp_path, profile)) == [("gray", 0), ("full", 0)]
    (run.path / "train.json").write_text("{}")
    assert named(steps.kept(tmp_path, profile)) == [("gray", 0), ("full", 0)]
    assert steps.kept(tmp_path, load_profile(write(text))) == []
    other = load_profile(write(text + "keep_runs: true\nparameters: {size: 96}\n"))
    assert steps.kept(tmp_path, other) == []


def test_a_chain_of_bases_without_weights_is_made_again(write, tmp_path):
    text = "methods: [full, l2-ft, {name: faint, decodes: l2-ft, bilateral: 5.0}]\nseeds: [0]\nkeep_runs: true\n"
    profile = load_profile(write(text))
    full, l2_ft, _ = profile.runs(tmp_path)
    for run in (full, l2_ft):
        run.path.mkdir(parents=True)
        config = {"method": asdict(profile.method(run.method)), "seed": 0, "size": 128}
        config["config"] = profile.train_config(run).identity()
        (run.path / "metrics.json").write_text(json.dumps({"config": config}))
    assert steps.kept(tmp_path, profile) == []  # `faint` needs the weights of l2-ft, which needs those of full
    (l2_ft.path / "train.json").write_text("{}")
    assert named(steps.kept(tmp_path, profile)) == [("full", 0), ("l2-ft", 0)]


def test_the_committed_runs_of_landscapes_count_as_done():
    """Whoever clones the repository need not train for hours."""
    profile = load_profile(ROOT / "notebooks" / "profiles" / "landscapes.yaml")
    found = {run.name for run in grid.done(ROOT / "results" / "landscapes", profile)}
    assert (
        found == {path.parent.name for path in (ROOT / "results" / "landscapes").glob("runs/*/metrics.json")} != set()
    )


def test_what_is_yet_to_run_of_a_long_profile_is_named_and_left_out(write, monkeypatch, capsys):
    path = write("methods: [gray, random]\nseeds: [0, 1]\nkeep_runs: true\nparameters: {size: 32}\n")
    monkeypatch.chdir(path.parents[1])
    results = path.parents[2] / "results" / "test"
    assert all(run.scored for run in grid.ensure_runs(results))  # there was none
    shutil.rmtree(run_at(results, "random", 1).path)
    capsys.readouterr()
    assert named(grid.ensure_runs(results)) == [("gray", 0), ("random", 0)]
    assert "left out, as they have not run yet: random-s1" in capsys.readouterr().out
    shutil.rmtree(run_at(results, "random", 0).path)  # a method that has none yet is not trained, either
    assert named(grid.ensure_runs(results)) == [("gray", 0)]
    assert "left out, as they have not run yet: random-s0, random-s1" in capsys.readouterr().out
    assert named(grid.ensure_runs(results, ["gray"])) == [("gray", 0)]
    assert capsys.readouterr().out == ""


def test_a_missing_profile_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none at .*nothing\.yaml"):
        load_profile(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    "source, message",
    [
        ("steps = 5\n", "annotated assignments such as"),
        ("steps: int\n", "annotated assignments such as"),
        ("steps: int = 2 + x\n", "malformed node"),
    ],
)
def test_parameters_must_be_annotated_literals(tmp_path, source, message):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [source]}
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(ValueError, match=message):
        notebook_parameters(tmp_path / "x.ipynb")
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": []}))
    with pytest.raises(ValueError, match="expected one cell tagged 'parameters', got 0"):
        notebook_parameters(tmp_path / "x.ipynb")


def test_a_step_depends_on_what_it_imports_and_nothing_else():
    def names(notebook):
        return {path.name for path in steps.notebook_sources(ROOT / "notebooks" / f"{notebook}.ipynb")}

    assert {"training.py", "color.py", "bank.py", "03-train.ipynb"} <= names("03-train")
    assert "metrics.py" in names("03-train") and not {"figures.py", "tables.py"} & names("03-train")  # it scores, too
    assert {"figures.py", "metrics.py", "intervals.py"} <= names("05-compare")


def test_record_and_manifest(tmp_path):
    results = tmp_path / "demo"
    grid.record(results, "01-color-bins", bins=313)
    (results / "tables").mkdir()
    (results / "tables" / "main.csv").write_text("a\n")
    manifest = json.loads(steps.write_manifest(results).read_text())
    assert manifest["profile"] == "demo" and manifest["files"] == ["tables/main.csv"]
    about = manifest["notebooks"]["01-color-bins"]
    assert about["answer"] == {"bins": 313}
    assert {"commit", "dirty", "versions", "device", "threads"} <= set(about["provenance"])


def test_what_took_long_to_measure_is_measured_once_and_shown_with_the_same_digits(tmp_path):
    calls = []

    def measure():
        calls.append(1)
        return pd.DataFrame({"method": ["l2"], "auc": [1 / 3]}, index=["left out"])

    first = grid.measured(tmp_path, "shares", measure)
    pd.testing.assert_frame_equal(grid.measured(tmp_path, "shares", measure), first, check_exact=True)
    assert calls == [1] and first.columns.tolist() == ["method", "auc"]
    with pytest.raises(ZeroDivisionError):
        grid.measured(tmp_path, "failed", lambda: 1 / 0)
    assert [path.name for path in (tmp_path / "measured").iterdir()] == ["shares.csv.xz"]


def test_of_runs_asks_each_colorizer_about_the_same(tmp_path):
    bank = SimpleNamespace(train=SimpleNamespace(images="pictures"))
    runs = [run_at(tmp_path, "gray", 0), run_at(tmp_path, "random", 3)]
    asked = []

    def measure(colorizer, data):
        asked.append((type(colorizer).__name__, data))
        return pd.DataFrame({"image": ["a", "b"]})

    table = grid.of_runs(runs, bank, measure)
    assert asked == [("Gray", bank), ("RandomColors", bank)]
    assert table[["method", "seed", "image"]].to_numpy().tolist() == [
        ["gray", 0, "a"], ["gray", 0, "b"], ["random", 3, "a"], ["random", 3, "b"],
    ]  # fmt: skip


def test_verdicts_are_counted():
    columns = ["difference", "score", "mean", "verdict"]
    rows = [["a - g", "auc", -0.04, "lower"], ["b - g", "auc", -0.02, "lower"], ["c - g", "auc", 0.01, "undecided"]]
    table = pd.DataFrame([*rows, ["a - g", "psnr", 1.0, "higher"]], columns=columns)
    assert tables.tally(table, "auc") == "AuC 2 lower, 1 undecided (-0.040 to +0.010)"


def test_scores_needs_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected scored runs with images.csv, found none; see `make study`"):
        grid.scores([])
    with pytest.raises(
        FileNotFoundError, match=r"expected a scored run, found no metrics.json in .*l2-s0; see `make st"
    ):
        grid.scores([run_at(tmp_path, "l2", 0)])


def test_scores_say_which_pictures_belong_together(tmp_path):
    (tmp_path / "runs" / "l2-s0").mkdir(parents=True)
    (tmp_path / "runs" / "l2-s0" / "metrics.json").write_text('{"method": "l2", "seed": 0}')
    table = "image,auc\ncorel5k/101087.jpg,0.9\ncorel5k/101003.jpg,0.9\ncoco/1.jpg,0.9\n"
    (tmp_path / "runs" / "l2-s0" / "images.csv").write_text(table)
    assert [*grid.scores([run_at(tmp_path, "l2", 0)])["cluster"]] == ["corel5k/101", "corel5k/101", "coco/1.jpg"]


def test_scores_reads_the_runs_that_it_is_given_and_no_others(tmp_path):
    for seed in (0, 1, 7):
        folder = run_at(tmp_path, "l2", seed).path
        folder.mkdir(parents=True)
        (folder / "metrics.json").write_text(json.dumps({"method": "l2", "seed": seed, "config": {}}))
        (folder / "images.csv").write_text("image,auc\na,0.5\n")
    table = grid.scores([run_at(tmp_path, "l2", 0), Run(tmp_path / "runs" / "l2-s1")])
    assert table["seed"].tolist() == [0, 1] and table["method"].unique().tolist() == ["l2"]
