# The grid: papermill runs 03 or 04 for every method x seed, then the notebooks that read all runs, then the
# paper, which docs/paper.md builds out of the result files of several profiles.
#
# 03 trains a run and scores it, in one kernel; 04 scores what is not trained: baselines, and methods that only decode
# another's network. Where only scoring changed, 03 runs again, but `fit`, which compares settings, data and training
# code with those of the run, returns the finished training at once. So train.json is no output here: Snakemake would
# delete it before.
#
# `make study PROFILE=quick` calls this. A step's inputs are what it really uses: its notebook, the modules of the package
# that the notebook imports (however indirectly), its parameters, and the runs it reads. Change one of them, and the steps
# that use it run again; the others don't.
import re
import sys
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

import yaml

# A module beside the notebooks, with a method of your own, is found here as it is by their kernels.
sys.path[:0] = [workflow.basedir, str(Path(workflow.basedir, "notebooks"))]
from colorstudy._files import write_text  # the package sets GOMP_SPINCOUNT, which all kernels inherit
from colorstudy.methods import METHODS
from colorstudy.study import grid, profiles
from tools import steps

# Unknown fields, methods, notebooks and parameters end the study here, before anything runs.
PROFILE = profiles.load_profile(f"notebooks/profiles/{config.get('profile', 'quick')}.yaml")
RESULTS = f"results/{PROFILE.name}"
ALL = {run.name: run for run in PROFILE.runs(RESULTS)}
# Runs that are done for good: no rule makes them, so nothing that changes since can make them stale.
RUNS, KEPT = [*ALL], [run.name for run in steps.kept(RESULTS, PROFILE)]
if config.get("runs") == "done":  # tables and paper of what is there, without running more
    RUNS = KEPT = [run.name for run in grid.done(RESULTS, PROFILE)]
TO_DO = {name: PROFILE.methods[ALL[name].method] for name in RUNS if name not in KEPT}
TRAINED = [name for name, method in TO_DO.items() if method and not method.decodes]
PER_RUN = ("03-train", "04-evaluate")
# What a notebook reads besides the package: the scores of all runs, for some also their weights.
READS_RUNS = [notebook for notebook in PROFILE.notebooks if notebook > "04-evaluate"]
ONCE = [notebook for notebook in PROFILE.notebooks if notebook not in PER_RUN]


wildcard_constraints:
    notebook="|".join(ONCE),


def parameters(notebook, **given):
    """The parameters of a step as a YAML file that changes only when they do; the step's input."""
    run = f"-{Path(given['run']).name}" if "run" in given else ""
    path = Path(RESULTS, "notebooks", f"{notebook}{run}.yaml")
    text = yaml.safe_dump(PROFILE.parameters(notebook, **given), sort_keys=False)
    if not path.exists() or path.read_text() != text:
        write_text(path, text)
    return str(path)


# What each notebook uses of the package. Found now: in an input function, Snakemake would take a notebook that Python
# cannot read for one that is up to date.
SOURCES = {
    notebook: [str(path) for path in steps.notebook_sources(f"notebooks/{notebook}.ipynb")[1:]]
    for notebook in [*PER_RUN, *ONCE]
}


def of_method(wildcards):
    """The modules outside of the package that define the method of a run, as ``target: "my_module:MyTarget"`` does."""
    method = TO_DO[wildcards.run]
    names = [path.partition(":")[0] for path in (method.target, method.network) if ":" in path]
    return [spec.origin for spec in map(find_spec, names) if spec.has_location]


# Notebooks run in their own folder, as they do in JupyterLab, so their paths start with "..".
def run_parameters(run):
    """The parameters of 03, or of 04 for a run that is not trained."""
    base, method = PROFILE.base_of(run), TO_DO[run.name]
    given = {"method": run.method, "seed": run.seed, "run": f"../{run.path}"}
    given |= {"definition": asdict(method)} if method and run.method not in METHODS else {}
    if run.name not in TRAINED:
        return parameters("04-evaluate", **given)
    given |= {"start": f"../{base.path}"} if base else {}
    training = asdict(PROFILE.train_config(run))
    del training["seed"]
    given |= {"training": training, "overwrite": True}
    given |= {"scoring": {name: PROFILE.defaults("04-evaluate")[name] for name in ("source", "size", *grid.SCORING)}}
    return parameters("03-train", **given)


STEPS = {name: run_parameters(ALL[name]) for name in TO_DO}
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
        "build/paper/docs/paper.html",
    default_target: True


def base(wildcards):
    """The scores, written last, of the run whose network this run starts from or decodes."""
    run = PROFILE.base_of(ALL[wildcards.run])
    return [f"{run.path}/metrics.json"] if run else []


def threads(notebook):
    """As many as its training takes, or that of the runs. Snakemake sets OMP_NUM_THREADS and its like to this."""
    training = PROFILE.defaults(notebook).get("training", PROFILE.defaults("03-train")["training"])
    return training.get("threads", 0) or workflow.cores or 1


def one_of(runs):
    return "|".join(map(re.escape, runs)) or "none"


rule train:
    input:
        SOURCES["03-train"],
        of_method,
        base,
        notebook="notebooks/03-train.ipynb",
        parameters=lambda wildcards: STEPS[wildcards.run],
    output:
        RESULTS + "/runs/{run}/metrics.json",
    wildcard_constraints:
        run=one_of(TRAINED),
    log:
        notebook=RESULTS + "/notebooks/03-train-{run}.ipynb",
    threads: lambda wildcards: PROFILE.train_config(ALL[wildcards.run]).threads or workflow.cores or 1
    shell:
        PAPERMILL


rule evaluate:
    input:
        SOURCES["04-evaluate"],
        base,
        notebook="notebooks/04-evaluate.ipynb",
        parameters=lambda wildcards: STEPS[wildcards.run],
    output:
        RESULTS + "/runs/{run}/metrics.json",
    wildcard_constraints:
        run=one_of(name for name in TO_DO if name not in TRAINED),
    threads: threads("04-evaluate")
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
    threads: lambda wildcards: threads(wildcards.notebook)
    shell:
        PAPERMILL


rule manifest:
    input:
        expand(RESULTS + "/records/{notebook}.json", notebook=ONCE),
        expand(RESULTS + "/runs/{run}/metrics.json", run=RUNS),
    output:
        f"{RESULTS}/manifest.json",
    run:
        steps.write_manifest(RESULTS)


# The paper reads what other profiles left, too, so it is made again whenever a study has run. Of a result that is not
# there it shows a gap; a sentence that the results contradict stops it, and is named.
rule paper:
    input:
        f"{RESULTS}/manifest.json",
        sorted(map(str, Path("docs").glob("*.py"))),
        sorted(map(str, Path("colorstudy/study").glob("*.py"))),
        "docs/paper.md",
        "docs/references.bib",
        "docs/_static/paper.css",
    output:
        "build/paper/docs/paper.html",
    shell:
        "sphinx-build -q -W -c docs -t paper . build/paper"
