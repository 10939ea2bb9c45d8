"""Profiles are checked before anything runs; records and manifests hold what they must."""

import json
import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

from colorstudy import study
from colorstudy.methods import METHODS

ROOT = Path(__file__).parents[1]
PROFILES = sorted((ROOT / "notebooks" / "profiles").glob("*.yaml"))
pytestmark = pytest.mark.skipif(not PROFILES, reason="runs in a checkout, where the profiles are")


@pytest.fixture
def write(tmp_path):
    """Writes a profile beside copies of the notebooks and returns its path."""
    notebooks = tmp_path / "notebooks"
    shutil.copytree(ROOT / "notebooks", notebooks)

    def write(text):
        path = notebooks / "profiles" / "test.yaml"
        path.write_text(text)
        return path

    return write


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_the_profiles_of_the_project_are_valid(path):
    profile = study.load_profile(path)
    assert profile.name == path.stem and profile.methods and profile.seeds
    assert ("gray", profile.seeds[0]) in profile.runs()
    assert len([run for run in profile.runs() if run[0] == "gray"]) == 1


def test_tiny_is_the_notebooks_own_defaults():
    """So that a notebook stepped through by hand and `make study PROFILE=tiny` share their runs."""
    profile = study.load_profile(ROOT / "notebooks" / "profiles" / "tiny.yaml")
    assert all(settings == {} for settings in profile.settings.values())


def test_settings_reach_the_notebooks_that_declare_them(write):
    profile = study.load_profile(
        write("methods: [gray, l2]\nseeds: [3]\nparameters: {size: 96}\nnotebooks:\n  03-train: {steps: 5}\n")
    )
    assert profile.runs() == [("gray", 3), ("l2", 3)]
    given = profile.parameters("03-train", method="l2", seed=3, results="nowhere", run="here")
    assert given == {"size": 96, "steps": 5, "method": "l2", "seed": 3, "run": "here"}  # 03 has no `results`
    assert profile.defaults("03-train")["steps"] == 5 and profile.defaults("03-train")["batch_size"] == 8
    assert profile.parameters("07-legacy-photos", results="there", size=9) == {"results": "there"}


BASE = "methods: [l2]\nseeds: [0]\n"


@pytest.mark.parametrize(
    "text, message",
    [
        ("methods: [l2]\n", "expected the fields"),
        ("- a\n", "expected a mapping, got list"),
        ("methods: [l2\n", "expected YAML"),
        ("methods: [l3]\nseeds: [0]\n", r"methods: expected some of \['gray', 'random', 'l2'.*got \['l3'\]"),
        ("methods: [l2]\nseeds: [0, 0]\n", "seeds: expected different integers >= 0"),
        ("methods: [l2]\nseeds: [-1]\n", "seeds: expected different integers >= 0"),
        (
            BASE + "parameters: {stepz: 5}\n",
            r"line 3: parameters: stepz: expected a parameter that a notebook declares, got 'stepz'",
        ),
        (
            BASE + "notebooks: {03-train: {stepz: 5}}\n",
            "line 3: 03-train: stepz: expected one of the parameters .*'steps'.* got 'stepz'",
        ),
        (
            BASE + "notebooks: {03-trian: {steps: 5}}\n",
            "line 3: notebooks: 03-trian: expected one of .* got '03-trian'",
        ),
        (
            BASE + "notebooks: {03-train: {learning_rate: 1e-4}}\n",
            "line 3: 03-train: learning_rate: expected float, .* got '1e-4'",
        ),
        (BASE + "notebooks: {03-train: {overwrite: 'true'}}\n", "overwrite: expected bool, .* got 'true'"),
        (BASE + "notebooks: {03-train: {steps: true}}\n", "steps: expected int, .* got True"),
        (BASE + "seed: 3\n", "line 3: seed: expected the fields"),
        (BASE + "seeds: [1]\n", "line 3: expected seeds once, got it again after 2"),
        (BASE + "\n\nskip: 9\n", "line 5: skip: expected some of"),
        (BASE + "skip: [[9]]\n", "line 3: skip: expected some of"),
        (BASE + "parameters: 5\n", "line 3: parameters: expected a mapping, got 5"),
        (BASE + "notebooks: [03-train]\n", "line 3: notebooks: expected a mapping"),
        (BASE + "notebooks:\n  03-train: 5\n", "line 4: notebooks: 03-train: expected a mapping, got 5"),
        (BASE + "parameters: {steps: x}\n", "line 3: parameters: steps: expected int"),
        ("methods: [l2]\nseeds: !!python/object/apply:os.getcwd []\n", "expected YAML, got could not determine"),
        ("methods: [[l2]]\nseeds: [0]\n", "line 1: methods: expected some of"),
    ],
)
def test_a_bad_profile_is_refused_and_says_why(write, text, message):
    with pytest.raises(ValueError, match=message):
        study.load_profile(write(text))


def test_runs_are_kept_where_the_profile_says_so(write, tmp_path):
    text = "methods: [gray, full, l2-ft]\nseeds: [0]\n"
    profile = study.load_profile(write(text + "keep_runs: true\n"))
    assert study.kept(tmp_path, profile) == []
    for method in ("gray", "full"):
        run = study.run_folder(tmp_path, method, 0)
        run.mkdir(parents=True)
        config = {"method": method, "seed": 0, "size": 64}
        if method == "full":
            settings = study._train_config(profile.defaults("03-train"), 0).identity()
            config |= {"method": json.loads(json.dumps(asdict(METHODS["full"]))), "config": settings}
        (run / "metrics.json").write_text(json.dumps({"config": config}))
    assert study.kept(tmp_path, profile) == ["gray-s0"]  # l2-ft, which is to come, needs the weights of full
    assert study.done(tmp_path, profile) == ["gray-s0", "full-s0"]
    (run / "train.json").write_text("{}")
    assert study.kept(tmp_path, profile) == ["gray-s0", "full-s0"]
    assert study.kept(tmp_path, study.load_profile(write(text))) == []
    other = study.load_profile(write(text + "keep_runs: true\nparameters: {size: 96}\n"))
    assert study.kept(tmp_path, other) == []
    with pytest.raises(ValueError, match=r"line 3: keep_runs: expected true or false, got 'maybe'"):
        study.load_profile(write(text + "keep_runs: maybe\n"))


def test_what_is_yet_to_run_of_a_long_profile_is_named_and_left_out(write, monkeypatch, capsys):
    path = write("methods: [gray, random]\nseeds: [0, 1]\nkeep_runs: true\nparameters: {size: 32}\n")
    monkeypatch.chdir(path.parents[1])
    results = path.parents[2] / "results" / "test"
    for folder in study.ensure_runs(results)[1:]:  # of each method the first was missing
        assert (folder / "metrics.json").exists()
    shutil.rmtree(study.run_folder(results, "random", 1))
    capsys.readouterr()
    assert [folder.name for folder in study.ensure_runs(results)] == ["gray-s0", "random-s0"]
    assert "left out, as they have not run yet: random-s1" in capsys.readouterr().out


def test_a_missing_profile_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"found none at .*nothing\.yaml"):
        study.load_profile(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    "source, message",
    [("steps = 5\n", "annotated assignments such as"), ("steps: int = 2 + x\n", "malformed node")],
)
def test_parameters_must_be_annotated_literals(tmp_path, source, message):
    cell = {"cell_type": "code", "metadata": {"tags": ["parameters"]}, "source": [source]}
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": [cell]}))
    with pytest.raises(ValueError, match=message):
        study.notebook_parameters(tmp_path / "x.ipynb")
    (tmp_path / "x.ipynb").write_text(json.dumps({"cells": []}))
    with pytest.raises(ValueError, match="expected one cell tagged 'parameters', got 0"):
        study.notebook_parameters(tmp_path / "x.ipynb")


def test_a_step_depends_on_what_it_imports_and_nothing_else():
    def names(notebook):
        return {path.name for path in study.notebook_sources(ROOT / "notebooks" / f"{notebook}.ipynb")}

    assert {"training.py", "color.py", "bank.py", "03-train.ipynb"} <= names("03-train")
    assert not {"figures.py", "tables.py", "metrics.py", "study.py", "colorize.py"} & names("03-train")
    assert {"figures.py", "metrics.py", "statistics.py"} <= names("05-compare")


def test_record_and_manifest(tmp_path):
    results = tmp_path / "demo"
    study.record(results, "01-color-bins", bins=313)
    (results / "tables").mkdir()
    (results / "tables" / "main.csv").write_text("a\n")
    manifest = json.loads(study.write_manifest(results).read_text())
    assert manifest["profile"] == "demo" and manifest["files"] == ["tables/main.csv"]
    assert manifest["notebooks"]["01-color-bins"]["answer"] == {"bins": 313}
    assert {"commit", "dirty", "versions", "device", "threads"} <= set(
        manifest["notebooks"]["01-color-bins"]["provenance"]
    )


def test_scores_needs_runs(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"expected scored runs with images.csv, found none; see `make study`"):
        study.scores([])
    with pytest.raises(
        FileNotFoundError, match=r"expected scored runs, found no metrics.json in .*l2-s0; see `make study`"
    ):
        study.scores([tmp_path / "l2-s0"])


def test_scores_reads_the_runs_that_it_is_given_and_no_others(tmp_path):
    for seed in (0, 1, 7):
        folder = tmp_path / f"l2-s{seed}"
        folder.mkdir()
        (folder / "metrics.json").write_text(json.dumps({"method": "l2", "seed": seed}))
        (folder / "images.csv").write_text("image,auc\na,0.5\n")
    table = study.scores([tmp_path / "l2-s0", tmp_path / "l2-s1"])
    assert table["seed"].tolist() == [0, 1] and table["method"].unique().tolist() == ["l2"]
