"""The notebooks: their shape, their parameters, and that what is stored in them is what they print."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from colorstudy.study.profiles import notebook_parameters

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
TRAIN = ("03-train", "04-evaluate")  # by default, so what they print differs from one machine to another
WAITING = [path for path in NOTEBOOKS if "source" not in nbformat.read(path, 4).metadata]  # for their outputs
SHOWING = [path for path in NOTEBOOKS if path not in WAITING]
pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="runs in a checkout, where the notebooks are")


def cells(notebook, kind=None):
    return [cell for cell in nbformat.read(notebook, 4).cells if kind in (None, cell.cell_type)]


def tags(cell):
    return cell.metadata.get("tags", [])


def test_every_number_is_given_once():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{n:02}" for n in range(1, len(NOTEBOOKS) + 1)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_opens_with_a_question_and_ends_with_an_answer(notebook):
    opening = cells(notebook)[0].source
    assert opening.startswith("# ") and "?" in opening
    headings = [line for c in cells(notebook, "markdown") for line in c.source.splitlines() if line[:1] == "#"]
    assert headings[-1] == "## Answer"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
class TestShape:
    def test_parameters_are_annotated_and_come_first(self, notebook):
        assert tags(cells(notebook, "code")[0]) == ["parameters"]
        assert notebook_parameters(notebook)

    def test_cells_are_short_and_define_nothing(self, notebook):
        for cell in cells(notebook, "code"):
            assert len(cell.source.splitlines()) <= 20
            kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
            assert not kinds & {ast.FunctionDef, ast.ClassDef}

    def test_mentions_no_path_of_a_machine(self, notebook):
        assert not re.search(r"/(home|root|work|Users|tmp)/", notebook.read_text())


@pytest.mark.parametrize("notebook", SHOWING, ids=lambda path: path.stem)
class TestOutputs:
    def test_are_of_this_source(self, notebook):
        source_hash = runpy.run_path(str(ROOT / "notebooks" / "execute.py"))["source_hash"]
        content = nbformat.read(notebook, 4)
        assert content.metadata["source"] == source_hash(content), f"make notebooks ARGS={notebook.stem}"

    def test_are_there_and_hold_nothing_that_went_wrong(self, notebook):
        code = cells(notebook, "code")
        assert [cell.execution_count for cell in code] == [*range(1, len(code) + 1)]
        outputs = [output for cell in code for output in cell.outputs]
        assert not [o for o in outputs if o.output_type == "error" or o.get("name") == "stderr"]
        assert "injected-parameters" not in [tag for cell in code for tag in tags(cell)]
        text = [str(output.get("text", output.get("data", {}).get("text/plain", ""))) for output in outputs]
        assert not [line for line in text if re.search(r" at 0x[0-9a-f]+", line)]  # differs each time

    def test_a_parameter_that_it_lacks_is_an_error(self, notebook):
        assert "profiles.check_parameters()" in "\n".join(cell.source for cell in cells(notebook, "code")[:3])


def test_what_is_stored_stays_small():
    sizes = {path.stem: path.stat().st_size for path in NOTEBOOKS}
    assert max(sizes.values()) <= 1.5e6 and sum(sizes.values()) <= 15e6, sizes


def test_nearly_all_tables_are_compared():
    """Of the cells that print a table 90 %, but in the notebooks that train."""
    printing = [
        "nbval-ignore-output" not in tags(cell)
        for notebook in SHOWING
        for cell in cells(notebook, "code")
        if notebook.stem not in TRAIN and any("<table" in o.get("data", {}).get("text/html", "") for o in cell.outputs)
    ]
    assert printing and sum(printing) >= 0.9 * len(printing), f"{sum(printing)} of {len(printing)}"


def test_a_picture_stands_in_for_a_widget():
    """Who reads the notebook on a web page runs none."""
    notebook = next(path for path in NOTEBOOKS if path.stem.startswith("06"))
    (cell,) = [cell for cell in cells(notebook, "code") if "\nexplore(" in cell.source]
    assert [sorted(output.data) for output in cell.outputs] == [["image/png", "text/plain"]]


@pytest.fixture
def copy(tmp_path):
    """A copy of the notebooks and of what they read, in which they may write."""
    left_out = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", ".lock", "checkpoint.pt", "first", "tiny")
    for name in ("notebooks", "results"):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=left_out)
    return tmp_path


def nbval(folder, notebooks, *options):
    """`pytest --nbval` as a user calls it, with no further option but for speed; its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    environment |= {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}
    names = [f"notebooks/{path.name}" for path in notebooks]
    command = [sys.executable, "-m", "pytest", "--nbval", "-q", "-p", "no:cacheprovider", "-p", "no:randomly"]
    done = subprocess.run([*command, *options, *names], cwd=folder, env=environment, capture_output=True, text=True)
    return done.stdout


def test_every_notebook_prints_what_is_stored_in_it(copy):
    shown = [path for path in SHOWING if path.stem not in TRAIN]
    output = nbval(copy, shown, "-n", "2", "--dist", "loadfile")
    assert f"{sum(len(cells(path, 'code')) for path in shown)} passed" in output, output[-6000:]


def test_one_changed_score_fails_the_notebook_that_shows_it(copy):
    if "05-compare" in [path.stem for path in WAITING]:
        pytest.skip("05-compare waits for its outputs")
    path = copy / "results" / "photos16k" / "runs" / "gray-s0" / "images.csv.xz"
    scores = pd.read_csv(path)
    scores.loc[0, "auc"] -= 0.5
    scores.to_csv(path, index=False)
    output = nbval(copy, [copy / "notebooks" / "05-compare.ipynb"])
    assert "Cell outputs differ" in output and re.search(r"[1-9]\d* failed", output), output[-3000:]


def test_an_unknown_parameter_stops_a_notebook(copy):
    command = [sys.executable, "-m", "papermill", "01-color-bins.ipynb", "out.ipynb", "-p", "stepp", "20"]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JUPYTER_PREFER_ENV_PATH": "1"}
    done = subprocess.run(command, cwd=copy / "notebooks", env=environment, capture_output=True, text=True)
    expected = "parameter: expected one of ['step', 'size', 'results'], got 'stepp'; did you mean 'step'?"
    assert done.returncode != 0 and expected in done.stderr
