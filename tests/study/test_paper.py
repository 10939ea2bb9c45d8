"""The paper: what it inserts comes from files, what is missing shows, and its export needs no network."""

import json
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from colorstudy.study import paper

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "paper.ipynb"
in_checkout = pytest.mark.skipif(not NOTEBOOK.exists(), reason="runs in a checkout, where the paper is")


@pytest.fixture
def results(tmp_path):
    folder = tmp_path / "results" / "own"
    (folder / "tables").mkdir(parents=True)
    (folder / "figures").mkdir()
    main = {"method": ["l2", "full"], "auc": [0.8612, -0.25], "auc_low": [0.8, -0.5], "auc_high": [0.9, 0.0]}
    pd.DataFrame(main).to_csv(folder / "tables" / "main.csv", index=False)
    claims = {"test": ["a & b"], "effect": [0.5], "low": [0.25], "high": [0.75], "verdict": ["holds"]}
    pd.DataFrame(claims).to_csv(folder / "tables" / "claims.csv", index=False)
    (folder / "figures" / "x.png").write_bytes(b"picture")
    about = {"answer": {"bank": {"name": "<b>", "test": 13}}, "provenance": provenance()}
    content = {"profile": "own", "runs": {"l2-s0": run()}, "notebooks": {"02": about}}
    (folder / "manifest.json").write_text(json.dumps(content))
    return folder


def provenance():
    return {"commit": "0123456789", "versions": {"torch": "2"}, "device": "cpu"}


def run():
    return {"seed": 0, "test_images": 13, "data_hash": "abcdefghij", "provenance": provenance()}


class TestResults:
    def test_numbers_come_with_their_intervals(self, results):
        own = paper.Results(results)
        assert own.number("main", "auc", method="l2") == "0.861 [0.800, 0.900]"
        assert own.number("main", "auc", method="full", show="+.1f") == "−0.2 [−0.5, +0.0]"
        assert own.number("claims", "effect", test="a & b", show=".0%") == "50% [25%, 75%]"
        assert own.word("claims", "verdict", test="a & b") == "holds"
        assert own.answer("02", "bank", "test") == "13" and own.answer("02", "bank", "name") == "&lt;b&gt;"

    def test_changing_a_number_in_a_file_changes_what_is_inserted(self, results):
        path = results / "tables" / "main.csv"
        path.write_text(path.read_text().replace("0.8612", "0.7777"))
        assert paper.Results(results).number("main", "auc", method="l2").startswith("0.778 [")

    def test_what_is_missing_is_a_gap_and_no_error(self, results):
        own = paper.Results(results, results.parent / "nowhere")
        gaps = [
            own.number("main", "auc", method="class"),
            own.number("main", "psnr", method="l2"),
            own.number("nothing", "auc", method="l2"),
            own.number("main", "auc", system="l2"),
            own.word("main", "verdict", method="l2"),
            own.answer("02", "bank", "train"),
            own.answer("03", "x"),
            own.table("nothing", "of <b>nothing</b>"),
            own.table("main", "of nothing", ["method", "psnr"]),
            own.figure("nothing.png", "of nothing"),
        ]
        assert all(text.startswith("<span class='gap'>[missing: ") for text in gaps), gaps
        assert paper.Results(results.parent / "nowhere").runs().empty

    def test_the_first_folder_that_has_it_is_taken_and_named(self, results, tmp_path):
        other = tmp_path / "results" / "other"
        shutil.copytree(results, other)
        (other / "tables" / "more.csv").write_text("a\n1.5 [1, 2]\n")
        (results / "tables" / "main.csv").write_text("method,auc\nl2,0.5\n")
        both = paper.Results(results, other)
        assert both.number("main", "auc", method="l2") == "0.500"
        assert "(profile other)" in both.table("more", "More") and "(profile own)" in both.figure("x.png", "X")
        assert both.runs()["profile"].tolist() == ["own", "own"]  # as their manifests say

    def test_tables_keep_a_number_and_its_interval_together(self, results):
        (results / "tables" / "t.csv").write_text('a,b\n"-1 [-2, 3]",x y\n"nan [nan, nan]",z\n')
        table = paper.Results(results).table("t", "T", {"a": "first", "b": "second"})
        assert "−1\u00a0[−2,\u00a03]" in table and "<td>–</td>" in table
        assert "<th>first</th>" in table and "x y" in table
        table = paper.Results(results).table("t", "T", ["b"])
        assert "x y" in table and "<th>b</th>" in table and "[−2" not in table


def test_math_becomes_mathml():
    text = paper.with_mathml("A $x^2$ and `$HOME` and \\$5, $$ \\sum_q p_q $$ end, 3$ and 4$.")
    assert text.count("<math") == 2 and 'display="block"' in text and "`$HOME`" in text and "3$ and 4$" in text


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The paper of this checkout's results, exported; and another one, of the results after one number was changed."""
    folder = tmp_path_factory.mktemp("paper")
    shutil.copytree(ROOT / "notebooks", folder / "notebooks")
    for name, profile in {"before": "quick", "after": "quick", "systems": "systems"}.items():
        ignore = shutil.ignore_patterns("runs", "notebooks", "records", "*.mp4", "paper.*")
        shutil.copytree(ROOT / "results" / profile, folder / "results" / name, ignore=ignore)
    path = folder / "results" / "after" / "tables" / "main.csv"
    table = pd.read_csv(path)
    table.loc[table["method"] == "l2", "auc"] = 0.12345
    table.to_csv(path, index=False)
    runs = []
    for name in ("before", "after"):  # at once, as each waits for its kernel most of the time
        command = [sys.executable, "-m", "papermill", "paper.ipynb", f"../{name}.ipynb", "-k", "python3"]
        command += ["-p", "results", f"../results/{name}", "--no-progress-bar"]
        runs.append(subprocess.Popen(command, cwd=folder / "notebooks", stderr=subprocess.PIPE, text=True))
    for name, run in zip(("before", "after"), runs):
        _, errors = run.communicate()
        assert run.returncode == 0, errors[-3000:]
        paper.export(folder / f"{name}.ipynb", folder / f"{name}.html")
    return folder


@in_checkout
class TestThePaper:
    def test_a_changed_number_in_a_result_file_changes_the_paper(self, exported):
        before, after = ((exported / f"{name}.html").read_text() for name in ("before", "after"))
        assert "0.123 [" in after and "0.123 [" not in before

    def test_it_needs_no_network_and_shows_no_code(self, exported):
        text = (exported / "before.html").read_text()
        assert not re.search(r"<(script|link|iframe)\b", text) and not re.search(r"src=.https?:", text)
        assert "<math" in text and "$" not in re.sub(r"<annotation.*?</annotation>|base64,[^'\"]*", "", text)
        assert "own.number" not in text and text.count("<img") >= 5
        assert "Traceback" not in text

    def test_missing_results_show_as_gaps(self, exported):
        assert "[missing: " in (exported / "before.html").read_text()  # landscapes was left out

    def test_it_has_the_sections_of_the_draft(self, exported):
        text = (exported / "before.html").read_text()
        headings = [re.sub("<[^>]+>|¶", "", h).strip() for h in re.findall(r"<h2.*?</h2>", text, re.DOTALL)]
        assert headings[:7] == [
            "Abstract",
            "1 Introduction",
            "2 Related work",
            "3 Methods",
            "4 Data and features",
            "5 Results and discussion",
            "6 Conclusion and perspectives",
        ]
        assert headings[-1] == "References"

    @pytest.mark.skipif(not any(map(shutil.which, paper.BROWSERS)), reason="needs Chromium")
    def test_it_is_printed(self, exported):
        assert (exported / "before.pdf").read_bytes().startswith(b"%PDF")


@in_checkout
def test_every_citation_has_its_reference_and_every_reference_is_cited():
    text = "\n".join(cell.source for cell in nbformat.read(NOTEBOOK, as_version=4).cells)
    cited, listed = set(re.findall(r"\]\(#(\w+)\)", text)), set(re.findall(r'<a id="(\w+)">', text))
    assert cited == listed and len(listed) > 20


@in_checkout
def test_no_result_is_typed():
    """Prose with digits after a point would be a typed result; formulas have cells of their own."""
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            prose = re.sub(r"\{[^{}]*(\{[^{}]*\}[^{}]*)*\}", "", cell.source)
            numbers = set(re.findall(r"(?<![\w.])\d*\.\d+%?", prose))
            assert numbers <= {"0.38", "0.2", ".01"}, (numbers, cell.source)  # T, the kernel of the video, a margin


def test_the_command_says_how_it_is_used(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["paper", "one"])
    with pytest.raises(SystemExit, match="usage: python -m colorstudy"):
        runpy.run_path(paper.__file__, run_name="__main__")


def test_without_a_browser_there_is_no_pdf(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", "")
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# A title\n\n$x$")])
    nbformat.write(notebook, tmp_path / "n.ipynb")
    paper.export(tmp_path / "n.ipynb", tmp_path / "p.html")
    assert "<title>A title</title>" in (tmp_path / "p.html").read_text()
    assert not (tmp_path / "p.pdf").exists() and "no Chromium" in capsys.readouterr().err
