"""The grid as a user runs it: what is missing or out of date runs, the rest doesn't, and a failure stays local."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
pytest.importorskip("snakemake", reason="Snakemake 9 needs Python 3.11")
pytestmark = [
    pytest.mark.skipif(not (ROOT / "Snakefile").exists(), reason="runs in a checkout"),
    pytest.mark.random_order(disabled=True),  # all but the last are the steps of one study
]
HUBER = """
import torch.nn.functional as F

class Huber:
    out_channels = 2

    def loss(self, output, chroma):
        return F.smooth_l1_loss(output, F.adaptive_avg_pool2d(chroma, output.shape[-2:]) / 110)

    def decode(self, output):
        return output * 110
"""


# What the notebooks do by default, for the tests.
SMALL = {"01-color-bins": {"size: int = 128": "size: int = 64"}, "04-evaluate": {"size: int = 128": "size: int = 64"}}
SMALL["03-train"] = SMALL["01-color-bins"] | {r"\"steps\": 100": r"\"steps\": 12", r"\"crop\": 64": r"\"crop\": 32"}


class Checkout:
    """A copy of what the study runs on, with a profile of one seed and few notebooks."""

    def __init__(self, folder, methods, notebooks):
        self.folder, self.results = folder, folder / "results" / "one"
        ignored = shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
        for name in ("colorstudy", "notebooks", "docs", "tools"):
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        for name in ("Snakefile", "pyproject.toml"):
            shutil.copy(ROOT / name, folder)
        for notebook, pairs in SMALL.items():
            for old, new in pairs.items():
                self.edit(f"notebooks/{notebook}.ipynb", old, new)
        (folder / "notebooks" / "huber.py").write_text(HUBER)
        stems = [path.stem for path in (folder / "notebooks").glob("[0-9][0-9]-*.ipynb")]
        skip = sorted(stem for stem in stems if stem[:2] not in notebooks)
        self.text = f"methods: {methods}\nseeds: [0]\nskip: [{', '.join(skip)}]\n"
        self.text += "parameters: {outside: []}\n" * ("18" in notebooks)
        self.profile = folder / "notebooks" / "profiles" / "one.yaml"
        self.profile.write_text(self.text)
        # The copied package comes first, and papermill and the kernel are those of this environment.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        self.environment = os.environ | {"PATH": path, "PYTHONPATH": str(folder), "JUPYTER_PREFER_ENV_PATH": "1"}
        self.command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "profile=one", "--keep-going"]
        self.command += ["--scheduler", "greedy", "--rerun-incomplete"]

    def snakemake(self, *options):
        command = [*self.command, *options]
        done = subprocess.run(command, cwd=self.folder, env=self.environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def planned(self, *targets):
        """Rule -> number of jobs that would run now."""
        code, output = self.snakemake(*targets, "--dry-run", "--quiet", "rules")
        assert code == 0, output
        if "Nothing to be done" in output:
            return {}
        lines = output.split("Job stats:")[1].split("\n\n")[0].splitlines()
        return {
            line.split()[0]: int(line.split()[1]) for line in lines if line[:1].isalpha() and line.split()[1].isdigit()
        }

    def edit(self, name, old, new):
        path = self.folder / name
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))


@pytest.fixture(scope="module")
def checkout(tmp_path_factory):
    methods = '[gray, {name: huber, target: "huber:Huber"}, full, l2-ft, {name: soft, decodes: full, temperature: 1.0}]'
    return Checkout(tmp_path_factory.mktemp("checkout"), methods, ("01", "03", "04", "18"))


def test_a_failed_run_keeps_its_notebook_and_stops_only_what_depends_on_it(checkout):
    """First, since it leaves the study half done for the next test to finish."""
    good = (checkout.folder / "notebooks" / "03-train.ipynb").read_text()
    checkout.edit("notebooks/03-train.ipynb", "else get(method)", "else get(method if method != 'full' else 'broken')")
    code, _ = checkout.snakemake()
    assert code != 0
    kept = json.loads((checkout.results / "notebooks" / "03-train-full-s0.ipynb").read_text())
    errors = [o for cell in kept["cells"] for o in cell.get("outputs", []) if o["output_type"] == "error"]
    assert [error["ename"] for error in errors] == ["ValueError"] and "got 'broken'" in errors[0]["evalue"]
    assert (checkout.results / "runs" / "huber-s0" / "metrics.json").exists()
    assert (checkout.results / "records" / "01-color-bins.json").exists()
    assert not (checkout.results / "runs" / "l2-ft-s0").exists()
    assert not (checkout.results / "runs" / "soft-s0").exists()
    assert not (checkout.results / "records" / "18-claims.json").exists()
    (checkout.folder / "notebooks" / "03-train.ipynb").write_text(good)


def test_the_rest_is_done_and_then_nothing(checkout):
    code, output = checkout.snakemake()
    assert code == 0, output[-3000:]
    manifest = json.loads((checkout.results / "manifest.json").read_text())
    assert sorted(manifest["runs"]) == ["full-s0", "gray-s0", "huber-s0", "l2-ft-s0", "soft-s0"]
    assert "temperature: 1.0" in (checkout.results / "notebooks" / "04-evaluate-soft-s0.yaml").read_text()
    assert {path.name for path in (checkout.results / "runs" / "soft-s0").iterdir()} == {
        "images.csv", "metrics.json", "seen.csv", "temperatures.csv",
    }  # fmt: skip
    executed = {path.stem for path in (checkout.results / "notebooks").glob("0[34]-*.ipynb")}  # one a run
    assert executed == {f"03-train-{name}-s0" for name in ("huber", "full", "l2-ft")} | {
        f"04-evaluate-{name}-s0" for name in ("gray", "soft")
    }
    assert {"tables/claims.csv", "figures/claims.png"} <= set(manifest["files"])
    for about in manifest["runs"].values():
        assert {"config", "config_hash", "seed", "data_hash", "provenance", "train_seconds"} <= set(about)
        assert {"commit", "dirty", "versions", "device", "threads"} <= set(about["provenance"])
    assert manifest["runs"]["huber-s0"]["config"]["method"]["target"] == "huber:Huber"
    executed = json.loads((checkout.results / "notebooks" / "18-claims.ipynb").read_text())
    assert any("image/png" in o.get("data", {}) for cell in executed["cells"] for o in cell.get("outputs", []))
    assert (checkout.folder / "build" / "paper" / "docs" / "paper.html").exists()
    assert checkout.planned() == {}


def test_a_figure_retrains_nothing_and_a_method_of_your_own_its_runs_alone(checkout):
    checkout.edit("colorstudy/study/figures.py", '"0.35"', '"0.30"')
    checkout.edit("notebooks/huber.py", "* 110", "* 100")
    planned = checkout.planned()
    assert planned["train"] == 1 and "evaluate" not in planned and planned["notebook"] == 2


def test_scoring_code_scores_again_and_trains_nothing(checkout):
    runs = checkout.results / "runs"
    before = (runs / "full-s0" / "metrics.json").read_text()
    weights = {path: path.stat().st_mtime_ns for path in runs.glob("*/*") if path.name in ("train.json", "train.csv")}
    checkout.edit(
        "colorstudy/study/evaluation.py", "smooth(counts, bins)).float()", "smooth(counts, bins), lam=1).float()"
    )
    planned = checkout.planned()
    assert (planned["train"], planned["evaluate"]) == (3, 2)  # soft decodes full, which is scored again before
    code, output = checkout.snakemake(str((runs / "full-s0" / "metrics.json").relative_to(checkout.folder)))
    assert code == 0, output[-3000:]
    assert "already trained" in (checkout.results / "notebooks" / "03-train-full-s0.ipynb").read_text()
    after = json.loads((runs / "full-s0" / "metrics.json").read_text())
    assert after["scores"]["auc_half"] == pytest.approx(after["scores"]["auc"])  # no rebalancing any more
    assert json.loads(before)["scores"]["auc_half"] != pytest.approx(after["scores"]["auc"])
    assert weights == {path: path.stat().st_mtime_ns for path in weights}


def test_training_code_makes_all_runs_stale_and_the_slurm_profile_plans_a_job_for_each(checkout):
    checkout.edit("colorstudy/training.py", 'unit="step"', 'unit="steps"')
    shutil.copytree(ROOT / "profiles", checkout.folder / "profiles")
    code, output = checkout.snakemake("--dry-run")
    assert code == 0 and "threads: 2" not in output  # as `training` of the notebook says
    code, output = checkout.snakemake("--dry-run", "--workflow-profile", "profiles/slurm", "--cores", "128")
    assert code == 0, output[-3000:]
    trains = [part.split("rule ")[0] for part in output.split("rule train:")[1:]]
    assert len(trains) == 3
    for train in trains:
        assert "threads: 4" in train and "mem_mb=16000" in train and "runtime=720" in train and "gres=gpu:1" in train
    other = output.split("rule notebook:")[1].split("rule ")[0]
    assert "mem_mb=4000" in other and "runtime=60" in other and "gres" not in other


def test_a_config_makes_its_runs_stale_and_they_start_anew(checkout):
    run = checkout.results / "runs" / "huber-s0"
    before, scores = (run / "model.safetensors").read_bytes(), (run / "metrics.json").read_text()
    checkout.profile.write_text(checkout.text + "notebooks:\n  03-train: {training: {steps: 2, crop: 32}}\n")
    code, output = checkout.snakemake("--dry-run")
    assert "threads: 2" in output.split("rule train:")[1].split("rule ")[0]  # all cores, where no number is given
    code, output = checkout.snakemake(str((run / "metrics.json").relative_to(checkout.folder)))
    assert code == 0 and "03-train-huber-s0.yaml" in output, output[-3000:]
    assert (run / "model.safetensors").read_bytes() != before
    log = (checkout.results / "notebooks" / "03-train-huber-s0.ipynb").read_text()
    assert "starting anew, config.steps was 12 and is now 2" in log or "starting anew, code" in log
    (run / "metrics.json").write_text(scores)  # those of the profile as it was


def test_a_notebook_that_python_cannot_read_is_an_error_and_not_up_to_date(checkout):
    notebook = checkout.folder / "notebooks" / "18-claims.ipynb"
    good = notebook.read_text()
    edit = "from colorstudy.study import claims,", "from colorstudy.study import claims as,"
    checkout.edit("notebooks/18-claims.ipynb", *edit)
    code, output = checkout.snakemake("--dry-run")
    assert code != 0 and "SyntaxError" in output and "Nothing to be done" not in output
    notebook.write_text(good)


def test_an_unknown_parameter_stops_the_study_before_anything_runs(checkout):
    checkout.profile.write_text("methods: [l2]\nseeds: [7]\nnotebooks:\n  03-train: {training: {stepz: 2}}\n")
    code, output = checkout.snakemake()
    assert code != 0 and "got 'stepz'" in output
    assert not (checkout.results / "runs" / "l2-s7").exists()


def test_runs_whose_scores_are_there_count_as_done_on_another_machine(checkout):
    """A fresh clone has the scores of a profile with `keep_runs`, not the weights, and no record of what made them."""
    checkout.profile.write_text(checkout.text + "keep_runs: true\n")
    for folder in (checkout.folder / ".snakemake", checkout.results / "records"):
        shutil.rmtree(folder)
    for run in ("huber-s0", "full-s0", "l2-ft-s0"):
        for name in ("train.json", "run.json", "model.safetensors", "train.csv"):
            (checkout.results / "runs" / run / name).unlink()
    planned = checkout.planned()
    assert not {"train", "evaluate"} & {*planned} and planned["notebook"] == 2
    # A run that decodes another needs the weights of that one.
    scores = checkout.results / "runs" / "soft-s0" / "metrics.json"
    content = scores.read_text()
    scores.unlink()
    planned = checkout.planned()
    assert planned["train"] == planned["evaluate"] == 1
    scores.write_text(content)
    # One is missing: it runs, and so does the one that it starts from, as its weights are needed.
    (checkout.results / "runs" / "l2-ft-s0" / "metrics.json").unlink()
    planned = checkout.planned()
    assert planned["train"] == 2 and "evaluate" not in planned
    # Other settings are other runs.
    checkout.profile.write_text(checkout.profile.read_text() + "notebooks:\n  03-train: {training: {steps: 2}}\n")
    assert checkout.planned()["train"] == 3


NODE = """
import os, subprocess, sys, time
from pathlib import Path
queue, name = Path(sys.argv[1]), sys.argv[2]
while not (queue / "stop").exists():
    for job in sorted(queue.glob("*.job")):
        taken = job.with_suffix(f".{name}")
        try:
            job.rename(taken)  # one node alone gets it
        except FileNotFoundError:
            continue
        subprocess.run(["sh", str(taken)], env=os.environ | {"SLURMD_NODENAME": name})
        taken.with_suffix(f".done-{name}").touch()
    time.sleep(0.1)
"""


def test_two_nodes_of_a_cluster_do_the_study_together_and_a_second_study_is_refused(tmp_path):
    """Two workers that take submitted scripts from a queue, each with a name of its own, as nodes of a cluster do."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    small = Checkout(tmp_path / "checkout", "[gray, l2]", ("01", "03", "04"))
    queue, submit, target = tmp_path / "queue", tmp_path / "submit", "results/one/manifest.json"
    queue.mkdir()
    submit.write_text(f'#!/bin/sh\ncp "$1" {queue}/$$.part && mv {queue}/$$.part {queue}/$$.job && echo $$\n')
    submit.chmod(0o755)
    nodes = [
        subprocess.Popen([sys.executable, "-c", NODE, str(queue), name], cwd=small.folder, env=small.environment)
        for name in ("node1", "node2")
    ]
    options = ["--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit), "--jobs", "2"]
    options += ["--latency-wait", "10", "--seconds-between-status-checks", "1", target]
    with open(tmp_path / "log", "w") as log:
        first = subprocess.Popen([*small.command, *options], cwd=small.folder, env=small.environment,
                                 stdout=log, stderr=log)  # fmt: skip
    try:
        locks, deadline = small.folder / ".snakemake" / "locks", time.monotonic() + 120
        while not (locks.exists() and any(locks.iterdir())) and time.monotonic() < deadline:
            time.sleep(0.05)
        code, output = small.snakemake(target)
        assert code != 0 and "cannot be locked" in output, output[-3000:]
        assert first.wait(timeout=300) == 0, (tmp_path / "log").read_text()[-3000:]
    finally:
        first.terminate()
        first.wait(timeout=60)
        (queue / "stop").touch()
        for worker in nodes:
            worker.wait(timeout=60)
    done = [len(list(queue.glob(f"*.done-{name}"))) for name in ("node1", "node2")]
    assert sum(done) == 3 and min(done) > 0  # 01, a training with its scores, those of gray; the manifest is made here
    manifest = json.loads((small.results / "manifest.json").read_text())
    assert [*manifest["runs"]] == ["gray-s0", "l2-s0"] and [*manifest["notebooks"]] == ["01-color-bins"]
    assert small.planned(target) == {}
