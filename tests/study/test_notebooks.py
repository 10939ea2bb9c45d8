"""The notebooks: their shape, their parameters, and a run of each with its defaults."""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from colorstudy.study.profiles import load_profile, notebook_parameters

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb"))
pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="runs in a checkout, where the notebooks are")


def cells(notebook, kind=None):
    return [c for c in json.loads(notebook.read_text())["cells"] if kind in (None, c["cell_type"])]


def test_every_number_is_given_once():
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{n:02}" for n in range(1, 20)]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
class TestQuestion:
    def test_opens_with_a_question_and_ends_with_an_answer(self, notebook):
        opening = "".join(cells(notebook)[0]["source"])
        assert opening.startswith("# ") and "?" in opening
        headings = [
            line for c in cells(notebook, "markdown") for line in "".join(c["source"]).splitlines() if line[:1] == "#"
        ]
        assert headings[-1] == "## Answer"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
class TestShape:
    def test_parameters_are_annotated_and_come_first(self, notebook):
        first = cells(notebook, "code")[0]
        assert first["metadata"]["tags"] == ["parameters"]
        assert notebook_parameters(notebook)

    def test_cells_are_short_and_define_nothing(self, notebook):
        for cell in cells(notebook, "code"):
            source = "".join(cell["source"])
            assert len(source.splitlines()) <= 20
            assert not [
                node for node in ast.walk(ast.parse(source)) if isinstance(node, (ast.FunctionDef, ast.ClassDef))
            ]

    def test_is_committed_clean(self, notebook):
        for cell in cells(notebook, "code"):
            tags = cell["metadata"].get("tags", [])
            assert "injected-parameters" not in tags
            assert not cell["outputs"] or "keep_output" in tags
            assert ("NBVAL_CHECK_OUTPUT" in "".join(cell["source"])) == bool(cell["outputs"])
            assert all(output["output_type"] != "error" for output in cell["outputs"])

    def test_mentions_no_path_of_a_machine(self, notebook):
        assert not re.search(r"/(home|root|work|Users|tmp)/", notebook.read_text())


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the notebooks, so that a test never meets, or makes, results in the checkout."""
    folder = tmp_path_factory.mktemp("study")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    return folder


def test_every_notebook_runs_with_its_defaults(copy):
    """nbval: no cell fails, and the outputs that we keep come out again."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    # The runs first, each once: two notebooks at the same time would score them twice.
    profile = load_profile(ROOT / "notebooks" / "profiles" / "tiny.yaml")
    code = "import sys; from colorstudy.study import grid; grid.ensure_runs('../results/tiny', sys.argv[1:])"
    shares = ([*profile.methods][start::2] for start in (0, 1))
    command = [sys.executable, "-c", code]
    workers = [subprocess.Popen([*command, *share], cwd=copy / "notebooks", env=environment) for share in shares]
    assert [worker.wait() for worker in workers] == [0, 0]

    command = [sys.executable, "-m", "pytest", "--nbval-lax", "--nbval-current-env", "--nbval-cell-timeout=300"]
    command += ["--nbval-sanitize-with", str(ROOT / "tests" / "sanitize.cfg"), "-n", "2", "--dist", "loadfile"]
    command += ["-p", "no:cacheprovider", "-q", "notebooks"]
    done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    count = sum(len(cells(notebook, "code")) for notebook in NOTEBOOKS)
    assert f"{count} passed" in done.stdout
    assert (copy / "results" / "tiny" / "tables" / "main.csv").exists()
    assert list((copy / "results" / "tiny" / "figures").glob("systems.*"))


@pytest.mark.parametrize("table", ["quick/tables/main-readable.md", "systems/tables/systems-readable.md"])
def test_the_readme_shows_the_tables_of_the_results(table):
    assert (ROOT / "results" / table).read_text() in (ROOT / "README.md").read_text()


def test_the_readme_maps_every_notebook_and_names_only_files_that_exist():
    text = (ROOT / "README.md").read_text()
    for notebook in NOTEBOOKS:
        assert f"(notebooks/{notebook.name})" in text
    for link in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        assert (ROOT / link).exists(), link
