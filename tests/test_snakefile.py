"""The grid as a user runs it: what is missing or out of date runs, the rest doesn't, and a failure stays local."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytest.importorskip("snakemake", reason="Snakemake 9 needs Python 3.11")
pytestmark = [
    pytest.mark.skipif(not (ROOT / "Snakefile").exists(), reason="runs in a checkout"),
    pytest.mark.random_order(disabled=True),  # the first ones are the steps of one study
]


class Checkout:
    """A copy of what the study runs on, with a profile of one seed."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("colorstudy", "notebooks"):
            shutil.copytree(
                ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", ".ipynb_checkpoints")
            )
        shutil.copy(ROOT / "Snakefile", folder)
        self.profile = folder / "notebooks" / "profiles" / "one.yaml"
        skipped = (
            "skip: [08-systems, 09-ablations, 10-confidence, 11-controlled-world, 12-semantics, 15-scale, 17-variety]"
        )
        self.profile.write_text(f"methods: [gray, random, l2, class, full]\nseeds: [0]\n{skipped}\n")
        self.results = folder / "results" / "one"

    def snakemake(self, *options):
        command = [sys.executable, "-m", "snakemake", "--cores", "2", "--config", "profile=one", "--keep-going"]
        # The copied package comes first, and papermill and the kernel are those of this environment.
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        environment = os.environ | {"PATH": path, "PYTHONPATH": str(self.folder), "JUPYTER_PREFER_ENV_PATH": "1"}
        command += ["--scheduler", "greedy", "--rerun-incomplete", *options]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        return done.returncode, done.stdout + done.stderr

    def planned(self):
        """Rule -> number of jobs that would run now."""
        code, output = self.snakemake("--dry-run", "--quiet", "rules")
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
    return Checkout(tmp_path_factory.mktemp("checkout"))


def test_a_failed_run_keeps_its_notebook_and_stops_only_what_depends_on_it(checkout):
    """First, since it leaves the study half done for the next test to finish."""
    good = (checkout.folder / "notebooks" / "03-train.ipynb").read_text()
    broken = "METHODS[method if method != 'full' else 'broken']"
    checkout.edit("notebooks/03-train.ipynb", '"METHODS[method]"', f'"{broken}"')
    code, _ = checkout.snakemake()
    assert code != 0
    kept = json.loads((checkout.results / "notebooks" / "03-train-full-s0.ipynb").read_text())
    errors = [o for cell in kept["cells"] for o in cell.get("outputs", []) if o["output_type"] == "error"]
    assert [error["ename"] for error in errors] == ["KeyError"]
    assert (checkout.results / "runs" / "l2-s0" / "metrics.json").exists()
    assert (checkout.results / "records" / "01-color-bins.json").exists()
    assert not (checkout.results / "records" / "05-compare.json").exists()
    (checkout.folder / "notebooks" / "03-train.ipynb").write_text(good)


def test_the_rest_is_done_and_then_nothing(checkout):
    code, output = checkout.snakemake()
    assert code == 0, output[-3000:]
    manifest = json.loads((checkout.results / "manifest.json").read_text())
    assert sorted(manifest["runs"]) == ["class-s0", "full-s0", "gray-s0", "l2-s0", "random-s0"]
    assert {"tables/main.csv", "figures/scores.png"} <= set(manifest["files"])
    for about in manifest["runs"].values():
        assert {"config", "config_hash", "seed", "data_hash", "provenance", "train_seconds"} <= set(about)
        assert {"commit", "dirty", "versions", "device", "threads"} <= set(about["provenance"])
    executed = json.loads((checkout.results / "notebooks" / "05-compare.ipynb").read_text())
    assert any("image/png" in o.get("data", {}) for cell in executed["cells"] for o in cell.get("outputs", []))
    assert checkout.planned() == {}


def test_a_figure_retrains_nothing(checkout):
    checkout.edit("colorstudy/figures.py", '"0.35"', '"0.30"')
    planned = checkout.planned()
    assert "train" not in planned and "evaluate" not in planned and planned["notebook"] >= 4


def test_training_code_makes_runs_stale(checkout):
    checkout.edit("colorstudy/training.py", 'unit="step"', 'unit="steps"')
    assert checkout.planned()["train"] == 3


def test_a_config_makes_its_runs_stale_and_they_start_anew(checkout):
    before = (checkout.results / "runs" / "l2-s0" / "model.safetensors").read_bytes()
    checkout.profile.write_text(checkout.profile.read_text() + "notebooks:\n  03-train: {steps: 2}\n")
    target = str((checkout.results / "runs" / "l2-s0" / "train.json").relative_to(checkout.folder))
    code, output = checkout.snakemake(target)
    assert code == 0 and "03-train-l2-s0.yaml" in output, output[-3000:]
    assert (checkout.results / "runs" / "l2-s0" / "model.safetensors").read_bytes() != before
    log = (checkout.results / "notebooks" / "03-train-l2-s0.ipynb").read_text()
    assert "starting anew, config.steps was 12 and is now 2" in log or "starting anew, code" in log


def test_a_notebook_that_python_cannot_read_is_an_error_and_not_up_to_date(checkout):
    notebook = checkout.folder / "notebooks" / "05-compare.ipynb"
    good = notebook.read_text()
    notebook.write_text(good.replace('"import pandas as pd\\n"', '"import pandas as\\n"', 1))
    assert notebook.read_text() != good
    code, output = checkout.snakemake("--dry-run")
    assert code != 0 and "SyntaxError" in output and "Nothing to be done" not in output
    notebook.write_text(good)


def test_an_unknown_parameter_stops_the_study_before_anything_runs(checkout):
    checkout.profile.write_text("methods: [l2]\nseeds: [7]\nnotebooks:\n  03-train: {stepz: 2}\n")
    code, output = checkout.snakemake()
    assert code != 0 and "got 'stepz'" in output
    assert not (checkout.results / "runs" / "l2-s7").exists()


# --- clusters ---

SMALL = "methods: [gray, l2]\nseeds: [0]\nskip: [{}]\n".format(
    ", ".join(
        p.stem for p in sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb")) if p.stem[:2] not in ("01", "03", "04")
    )
)


@pytest.fixture
def small(tmp_path):
    """A study of five steps."""
    made = Checkout(tmp_path / "checkout")
    made.profile.write_text(SMALL)
    return made


def test_the_slurm_profile_plans_a_job_for_every_run(small):
    shutil.copytree(ROOT / "profiles", small.folder / "profiles")
    code, output = small.snakemake("--dry-run", "--workflow-profile", "profiles/slurm", "--cores", "128")
    assert code == 0, output[-3000:]
    train = output.split("rule train:")[1].split("rule ")[0]
    assert "threads: 4" in train and "mem_mb=16000" in train and "runtime=720" in train and "gres=gpu:1" in train
    other = output.split("rule notebook:")[1].split("rule ")[0]
    assert "mem_mb=4000" in other and "runtime=60" in other and "gres" not in other


def test_two_nodes_of_a_cluster_do_the_study_together(small):
    """Two workers that take submitted scripts from a queue, each with a name of its own, as nodes of a cluster do."""
    pytest.importorskip("snakemake_executor_plugin_cluster_generic")
    queue = small.folder.parent / "queue"
    queue.mkdir()
    submit = small.folder.parent / "submit"
    submit.write_text(f'#!/bin/sh\ncp "$1" {queue}/$$.part && mv {queue}/$$.part {queue}/$$.job && echo $$\n')
    submit.chmod(0o755)
    node = """
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
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(small.folder), "JUPYTER_PREFER_ENV_PATH": "1"}
    nodes = [
        subprocess.Popen([sys.executable, "-c", node, str(queue), name], cwd=small.folder, env=environment)
        for name in ("node1", "node2")
    ]
    try:
        code, output = small.snakemake(
            "--executor", "cluster-generic", "--cluster-generic-submit-cmd", str(submit), "--jobs", "2",
            "--latency-wait", "10", "--seconds-between-status-checks", "1",
        )  # fmt: skip
    finally:
        (queue / "stop").touch()
        for worker in nodes:
            worker.wait(timeout=60)
    assert code == 0, output[-3000:]
    done = [len(list(queue.glob(f"*.done-{name}"))) for name in ("node1", "node2")]
    print(f"\njobs of the two nodes: {done}")
    assert sum(done) == 4 and min(done) > 0  # 01, a training, two evaluations; the manifest is made here
    manifest = json.loads((small.results / "manifest.json").read_text())
    assert sorted(manifest["runs"]) == ["gray-s0", "l2-s0"]
    assert small.planned() == {}


def test_a_second_study_in_one_checkout_says_so_and_mixes_nothing(small):
    lock = small.folder / ".snakemake" / "locks"
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "profile=one"]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {"PATH": path, "PYTHONPATH": str(small.folder), "JUPYTER_PREFER_ENV_PATH": "1"}
    log = open(small.folder.parent / "log", "w")  # noqa: SIM115 - open as long as the process
    first = subprocess.Popen(command, cwd=small.folder, env=environment, stdout=log, stderr=log)
    deadline = time.monotonic() + 120
    while not (lock.exists() and any(lock.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.05)
    code, output = small.snakemake()
    assert code != 0 and "cannot be locked" in output, output[-3000:]
    assert first.wait(timeout=300) == 0, (small.folder.parent / "log").read_text()[-3000:]
    log.close()
    assert sorted(json.loads((small.results / "manifest.json").read_text())["runs"]) == ["gray-s0", "l2-s0"]
    assert small.planned() == {}


def test_runs_whose_scores_are_there_count_as_done_on_another_machine(small):
    """A fresh clone has the scores of a profile with `keep_runs`, not the weights, and no record of what made them."""
    small.profile.write_text(SMALL.replace("[gray, l2]", "[gray, l2, full, l2-ft]") + "keep_runs: true\n")
    code, output = small.snakemake("--until", "evaluate")
    assert code == 0, output[-3000:]
    shutil.rmtree(small.folder / ".snakemake")
    for run in ("l2-s0", "full-s0", "l2-ft-s0"):
        for name in ("train.json", "run.json", "model.safetensors", "train.csv"):
            (small.results / "runs" / run / name).unlink()
    small.edit("colorstudy/training.py", 'unit="step"', 'unit="steps"')
    planned = small.planned()
    assert not {"train", "evaluate"} & {*planned} and planned["notebook"] == 1  # 01, of which nothing is left
    # One is missing: it runs, and so does the one that it starts from, as its weights are needed.
    (small.results / "runs" / "l2-ft-s0" / "metrics.json").unlink()
    assert small.planned()["train"] == small.planned()["evaluate"] == 2
    # Other settings are other runs.
    small.edit("notebooks/profiles/one.yaml", "keep_runs: true", "keep_runs: true\nnotebooks:\n  03-train: {steps: 2}")
    assert small.planned()["train"] == 3
