"""The shape of the package: which room imports which, how long modules are, what an import needs, what is private."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from importlinter.cli import lint_imports

from colorstudy import prior

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "colorstudy"
MODULES = {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in PACKAGE.rglob("*.py")}
ROOMS = ("study/", "video/", "trial/", "experiments/", "cli.py")
MATHEMATICS = [f"{name}.py" for name in ("color", "bins", "prior", "targets", "filters", "metrics")]


def lines(names):
    return sum(MODULES[name].count("\n") for name in names)


def test_the_contracts_of_imports_hold(capsys, monkeypatch):
    """Those of pyproject.toml: rooms use the core and the study, never each other; the core uses no room."""
    monkeypatch.chdir(ROOT)
    broken = lint_imports(config_filename="pyproject.toml", cache_dir=None, no_cache=True)
    report = capsys.readouterr().out
    assert broken == 0, report
    assert " 0 broken" in report and " 0 kept" not in report


def test_no_module_is_long():
    assert {name: lines([name]) for name in MODULES if lines([name]) > 250} == {}


@pytest.mark.parametrize(
    ("names", "most"),
    [
        ([*MODULES], 7780),  # the goal is 7,000: what notebooks measured in their cells came on top, and probes
        ([name for name in MODULES if not name.startswith(ROOMS)], 3400),
        (MATHEMATICS, 1000),
    ],
    ids=["package", "core", "mathematics"],
)
def test_the_package_stays_small(names, most):
    assert lines(names) <= most


def test_equation_4_stands_in_one_place():
    """The rebalancing weights of Zhang et al. 2016: a formula that stands twice is one day changed once."""
    places = [name for name, text in MODULES.items() for _ in re.finditer(r"\bEq(uation|\.)\s+\(?4\b", text)]
    assert places == ["prior.py"]
    assert re.search(r"\bEq(uation|\.)\s+\(?4\b", prior.rebalancing_weights.__doc__)


# What the extras bring.
OPTIONAL = [
    "anywidget", "av", "cv2", "efficientnet_lite_pytorch", "huggingface_hub", "matplotlib", "mvtbdata",
    "papermill", "pooch", "sklearn", "snakemake", "starlette", "statsmodels", "torchmetrics", "traitlets",
    "uvicorn", "yaml",
]  # fmt: skip


@pytest.mark.parametrize(
    ("modules", "unwanted"),
    [
        ("colorstudy", ["torch", "numpy", *OPTIONAL]),
        ("colorstudy.study, colorstudy.video, colorstudy.trial, colorstudy.experiments", ["torch", *OPTIONAL]),
        ("colorstudy.colorize, colorstudy.study.evaluation, colorstudy.training, colorstudy.cli", OPTIONAL),
        ("colorstudy.trial.analysis, colorstudy.trial.commands, colorstudy.trial.page", OPTIONAL),
    ],
    ids=["the package", "the rooms", "the core", "what a trial needs without its extra"],
)
def test_importing_needs_nothing_heavy(modules, unwanted):
    """As if the `unwanted` were not installed: where torchmetrics is, Lightning Fabric loads it, and matplotlib."""
    code = f"import sys; sys.modules.update(dict.fromkeys({unwanted})); import {modules}"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def test_what_takes_long_to_import_waits_for_its_use():
    code = """
import sys
import colorstudy.colorize, colorstudy.metrics, colorstudy.training
slow = {"scipy.cluster", "skimage.feature", "pandas", "matplotlib", "lightning_fabric", "torch._dynamo"}
assert not slow & {*sys.modules}, slow & {*sys.modules}
"""
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr


def private_names(text):
    """The private names that a module binds, and those that it names: as attributes, imports or strings."""
    bound, named = set(), set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                bound.add(name)
            case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()) | ast.arg(arg=name):
                bound.add(name)
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.Constant(value=str(name)):
                named.add(name)
            case ast.ImportFrom(names=aliases):
                named.update(alias.name for alias in aliases)
    return [{name for name in names if re.fullmatch("_[a-z]\\w*", name, re.I)} for names in (bound, named)]


def test_private_names_stay_in_their_module():
    found = {name: private_names(text) for name, text in MODULES.items()}
    for name, (own, named) in found.items():
        others = {private for other, (bound, _) in found.items() if other != name for private in bound}
        assert (named - own) & others == set(), name
