# The grid: papermill runs 03 and 04 for every method x seed, then the notebooks that read all runs, then the paper.
#
# `make study PROFILE=quick` calls this. A step's inputs are what it really uses: its notebook, the modules of the package
# that the notebook imports (however indirectly), its parameters, and the runs it reads. Change one of them, and the steps
# that use it run again; the others don't.
import sys
from pathlib import Path

import yaml

sys.path.insert(0, str(Path(workflow.basedir)))
from colorstudy import study
from colorstudy._files import write_text
from colorstudy.evaluation import BASELINES

# Unknown fields, methods, notebooks and parameters end the study here, before anything runs.
PROFILE = study.load_profile(f"notebooks/profiles/{config.get('profile', 'quick')}.yaml")
RESULTS = f"results/{PROFILE.name}"
RUNS = [f"{method}-s{seed}" for method, seed in PROFILE.runs()]
# Runs that are done for good: no rule makes them, so nothing that changes since can make them stale.
KEPT = study.kept(RESULTS, PROFILE)
if config.get("runs") == "done":  # tables and paper of what is there, without running more
    RUNS = KEPT = study.done(RESULTS, PROFILE)
PER_RUN = ("03-train", "04-evaluate")
# What a notebook reads besides the package: the scores of all runs, for some also their weights.
READS_RUNS = [notebook.stem for notebook in PROFILE.notebooks if notebook.stem > "04-evaluate"]
ONCE = [notebook.stem for notebook in PROFILE.notebooks if notebook.stem not in PER_RUN]


wildcard_constraints:
    run="|".join(run for run in RUNS if run not in KEPT) or "none",
    notebook="|".join(ONCE),


def parameters(notebook, **given):
    """The parameters of a step as a YAML file that changes only when they do; the step's input."""
    name = "-".join([notebook, *([Path(given["run"]).name] if "run" in given else [])])
    path = Path(RESULTS, "notebooks", f"{name}.yaml")
    text = yaml.safe_dump(given if notebook == "paper" else PROFILE.parameters(notebook, **given), sort_keys=False)
    if not path.exists() or path.read_text() != text:
        write_text(path, text)
    return str(path)


# What each notebook uses of the package. Found now: in an input function, Snakemake would take a notebook that Python
# cannot read for one that is up to date.
SOURCES = {
    notebook: [str(path) for path in study.notebook_sources(f"notebooks/{notebook}.ipynb")[1:]]
    for notebook in [*PER_RUN, *ONCE]
}


# Notebooks run in their own folder, as they do in JupyterLab, so their paths start with "..".
def run_parameters(notebook, method, seed):
    run = study.run_folder(RESULTS, method, seed)
    start = study.start_of(run)
    given = {"start": f"../{start}"} if start else {}
    return parameters(notebook, method=method, seed=seed, run=f"../{run}", overwrite=True, **given)


STEPS = {
    (notebook, f"{method}-s{seed}"): run_parameters(notebook, method, seed)
    for method, seed in PROFILE.runs()
    for notebook in PER_RUN
} | {notebook: parameters(notebook, results=f"../{RESULTS}") for notebook in ONCE}

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


def start(wildcards):
    """What a run that starts from another's network waits for."""
    folder = study.start_of(f"{RESULTS}/runs/{wildcards.run}")
    return [f"{folder}/train.json"] if folder else []


rule train:
    input:
        SOURCES["03-train"],
        start,
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
        lambda wildcards: [] if wildcards.run.rsplit("-s", 1)[0] in BASELINES else f"{RESULTS}/runs/{wildcards.run}/train.json",
        SOURCES["04-evaluate"],
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
        study.write_manifest(RESULTS)


# The paper reads what other profiles left, too, so it is made again whenever a study has run.
rule paper:
    input:
        f"{RESULTS}/manifest.json",
        [str(path) for path in study.notebook_sources("notebooks/paper.ipynb")],
        "colorstudy/paper.css",
        parameters=parameters("paper", results=f"../{RESULTS}"),
        notebook="notebooks/paper.ipynb",
    output:
        f"{RESULTS}/paper.html",
    log:
        notebook=f"{RESULTS}/notebooks/paper.ipynb",
    shell:
        PAPERMILL + " && python -m colorstudy.paper {log} {output}"
