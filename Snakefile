# The grid: papermill runs 03 and 04 for every method x seed, then the notebooks that read all runs, then the paper.
#
# `make study PROFILE=quick` calls this. A step's inputs are what it really uses: its notebook, the modules of the package
# that the notebook imports (however indirectly), its parameters, and the runs it reads. Change one of them, and the steps
# that use it run again; the others don't.
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import yaml

# A module beside the notebooks, with a method of your own, is found here as it is by their kernels.
sys.path[:0] = [workflow.basedir, str(Path(workflow.basedir, "notebooks"))]
from colorstudy._files import write_text
from colorstudy.evaluation import BASELINES
from colorstudy.study import grid, profiles

# Unknown fields, methods, notebooks and parameters end the study here, before anything runs.
PROFILE = profiles.load_profile(f"notebooks/profiles/{config.get('profile', 'quick')}.yaml")
RESULTS = f"results/{PROFILE.name}"
ALL = {run.name: run for run in PROFILE.runs(RESULTS)}
# Runs that are done for good: no rule makes them, so nothing that changes since can make them stale.
RUNS, KEPT = [*ALL], [run.name for run in grid.kept(RESULTS, PROFILE)]
if config.get("runs") == "done":  # tables and paper of what is there, without running more
    RUNS = KEPT = [run.name for run in grid.done(RESULTS, PROFILE)]
PER_RUN = ("03-train", "04-evaluate")
# What a notebook reads besides the package: the scores of all runs, for some also their weights.
READS_RUNS = [notebook for notebook in PROFILE.notebooks if notebook > "04-evaluate"]
ONCE = [notebook for notebook in PROFILE.notebooks if notebook not in PER_RUN]


wildcard_constraints:
    run="|".join(re.escape(run) for run in RUNS if run not in KEPT) or "none",
    notebook="|".join(ONCE),


def parameters(notebook, **given):
    """The parameters of a step as a YAML file that changes only when they do; the step's input."""
    run = f"-{Path(given['run']).name}" if "run" in given else ""
    path = Path(RESULTS, "notebooks", f"{notebook}{run}.yaml")
    text = yaml.safe_dump(given if notebook == "paper" else PROFILE.parameters(notebook, **given), sort_keys=False)
    if not path.exists() or path.read_text() != text:
        write_text(path, text)
    return str(path)


# What each notebook uses of the package. Found now: in an input function, Snakemake would take a notebook that Python
# cannot read for one that is up to date.
SOURCES = {
    notebook: [str(path) for path in profiles.notebook_sources(f"notebooks/{notebook}.ipynb")[1:]]
    for notebook in [*PER_RUN, *ONCE]
}


def of_method(wildcards):
    """The modules outside of the package that define the method of a run, as ``target: "my_module:MyTarget"`` does."""
    fields = PROFILE.methods[ALL[wildcards.run].method]
    names = [fields[name].partition(":")[0] for name in ("target", "network") if ":" in fields.get(name, "")]
    return [spec.origin for spec in map(find_spec, names) if spec.has_location]


# Notebooks run in their own folder, as they do in JupyterLab, so their paths start with "..".
def run_parameters(notebook, run):
    given = {"method": run.method, "definition": PROFILE.methods[run.method], "seed": run.seed, "overwrite": True}
    start = PROFILE.start_of(run)
    given |= {"start": f"../{start.path}"} if start else {}
    return parameters(notebook, run=f"../{run.path}", **given)


STEPS = {(notebook, name): run_parameters(notebook, run) for name, run in ALL.items() for notebook in PER_RUN}
STEPS |= {notebook: parameters(notebook, results=f"../{RESULTS}") for notebook in ONCE}

PAPERMILL = (
    "papermill {input.notebook} {log} --parameters_file {input.parameters} --cwd notebooks --kernel python3"
    " --execution-timeout 7200 --no-progress-bar --log-level WARNING"
)


localrules:
    all,
    manifest,
    paper,


rule all:
    input:
        f"{RESULTS}/manifest.json",
        f"{RESULTS}/paper.html",
    default_target: True


def trained(run):
    """What waits for the training of `run` waits for; a baseline has none."""
    return [f"{run.path}/train.json"] if run and run.method not in BASELINES else []


rule train:
    input:
        SOURCES["03-train"],
        of_method,
        lambda wildcards: trained(PROFILE.start_of(ALL[wildcards.run])),
        notebook="notebooks/03-train.ipynb",
        parameters=lambda wildcards: STEPS["03-train", wildcards.run],
    output:
        RESULTS + "/runs/{run}/train.json",
    log:
        notebook=RESULTS + "/notebooks/03-train-{run}.ipynb",
    shell:
        PAPERMILL


rule evaluate:
    input:
        SOURCES["04-evaluate"],
        lambda wildcards: trained(ALL[wildcards.run]),
        notebook="notebooks/04-evaluate.ipynb",
        parameters=lambda wildcards: STEPS["04-evaluate", wildcards.run],
    output:
        RESULTS + "/runs/{run}/metrics.json",
    log:
        notebook=RESULTS + "/notebooks/04-evaluate-{run}.ipynb",
    shell:
        PAPERMILL


rule notebook:
    input:
        lambda wildcards: SOURCES[wildcards.notebook],
        lambda wildcards: expand(RESULTS + "/runs/{run}/metrics.json", run=RUNS) if wildcards.notebook in READS_RUNS else [],
        notebook="notebooks/{notebook}.ipynb",
        parameters=lambda wildcards: STEPS[wildcards.notebook],
    output:
        RESULTS + "/records/{notebook}.json",
    log:
        notebook=RESULTS + "/notebooks/{notebook}.ipynb",
    shell:
        PAPERMILL


rule manifest:
    input:
        expand(RESULTS + "/records/{notebook}.json", notebook=ONCE),
        expand(RESULTS + "/runs/{run}/metrics.json", run=RUNS),
    output:
        f"{RESULTS}/manifest.json",
    run:
        grid.write_manifest(RESULTS)


# The paper reads what other profiles left, too, so it is made again whenever a study has run.
rule paper:
    input:
        f"{RESULTS}/manifest.json",
        [str(path) for path in profiles.notebook_sources("notebooks/paper.ipynb")],
        "colorstudy/study/paper.css",
        parameters=parameters("paper", results=f"../{RESULTS}"),
        notebook="notebooks/paper.ipynb",
    output:
        f"{RESULTS}/paper.html",
    log:
        notebook=f"{RESULTS}/notebooks/paper.ipynb",
    shell:
        PAPERMILL + " && python -m colorstudy.study.paper {log} {output}"
