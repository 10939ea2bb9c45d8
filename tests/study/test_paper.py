"""The paper and the site: numbers come from files, what is missing shows, a sentence that is wrong stops the build."""

import ast
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pandas as pd
import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAPER = DOCS / "paper.md"
pytestmark = pytest.mark.skipif(not PAPER.exists(), reason="runs in a checkout, where the paper is")
if PAPER.exists():
    sys.path.append(str(DOCS))
    findings = import_module("findings")  # beside the paper, in no package
    Number, Reversed, all_of, claim, gap = (
        getattr(findings, name) for name in ("Number", "Reversed", "all_of", "claim", "gap")
    )


class TestClaim:
    def test_a_sentence_that_holds_is_said(self):
        assert claim("A is above B", True) == "A is above B"
        assert claim("A is above B", False, ("A is below B", True)) == "A is below B"

    def test_one_that_does_not_hold_stops_the_build_and_is_named(self):
        with pytest.raises(Reversed, match="'A is above B' or 'A is below B'"):
            claim("A is above B", False, ("A is below B", False))

    def test_one_of_which_nothing_is_known_yet_is_a_gap(self):
        assert claim("A is above B", None) == gap("the runs that decide whether “A is above B”")
        assert claim("A is above B", None, ("C", False)).startswith("**[missing:")

    def test_an_interval_decides(self):
        clear, wide, part = Number(0.2, 0.1, 0.3), Number(0.2, -0.1, 0.5), Number(0.2, 0.1, 0.3, decided=False)
        assert (clear.above(), clear.below(), clear.spans(), clear.above(0.15)) == (True, False, False, False)
        assert (wide.above(), wide.below(), wide.spans()) == (False, False, True)
        assert (part.above(), Number(missing="x").spans()) == (None, None)
        assert (all_of(True, None), all_of(None, False), all_of(True)) == (None, False, True)

    def test_numbers_come_with_their_intervals(self):
        assert f"{Number(-0.25, -0.5, 0.0) * 100:+.1f}" == "−25.0 [−50.0, +0.0]"
        assert f"{Number(0.25, 0.1, 0.5) * -1 + 1:+.2f}" == "+0.75 [0.50, 0.90]"
        assert f"{Number(0.25):~.2f} {Number(0.25):.1f}" == "0.25 0.2"
        assert f"{Number(missing='that'):.1f}" == gap("that")


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Results of a profile of two methods, whose per-image scores are made, and of a table."""
    monkeypatch.setattr(findings, "RESULTS", tmp_path)
    monkeypatch.setattr(findings, "plan", lambda profile: Plan)
    clear()
    for method, seed, offset in (("gray", 0, 0.0), ("full", 0, -0.1), ("full", 1, -0.101)):
        write_run(tmp_path, method, seed, offset)
    (tmp_path / "own" / "tables").mkdir()
    (tmp_path / "own" / "tables" / "t.csv").write_text("method,auc,auc_low,auc_high\nl2,0.8612,0.8,0.9\nfull,0.5,,\n")
    yield tmp_path
    clear()


class Plan:
    methods = {"gray": None, "full": None, "class": None}  # noqa: RUF012
    seeds = [0, 1]  # noqa: RUF012


def clear():
    for cached in (findings.scores, findings._scored, findings._compared, findings.decoded):
        cached.cache_clear()


def write_run(folder, method, seed, offset):
    run = folder / "own" / "runs" / f"{method}-s{seed}"
    run.mkdir(parents=True, exist_ok=True)
    (run / "metrics.json").write_text(f'{{"method": "{method}", "seed": {seed}, "config": {{}}}}')
    auc = [0.8 + offset + 0.01 * (i % 3) for i in range(30)]
    pd.DataFrame({"image": [f"{i:02}.jpg" for i in range(30)], "auc": auc}).to_csv(run / "images.csv", index=False)


class TestResults:
    def test_scores_and_differences_are_those_of_the_files(self, results):
        assert f"{findings.score('own', 'gray'):~.3f}" == "0.810"
        assert f"{findings.difference('own', 'full', 'gray'):~.3f}" == "−0.101"
        assert findings.difference("own", "full", "gray").below() is True

    def test_a_run_that_is_missing_decides_nothing_and_shows(self, results):
        shutil.rmtree(results / "own" / "runs" / "full-s1")
        clear()
        assert findings.difference("own", "full", "gray").below() is None
        table = findings.scores_table("own", ["auc"])
        assert "| full | 1 of 2 | 71.0" in table and "| class | 0 of 2 | **[missing]** |" in table

    def test_a_changed_score_changes_what_is_inserted(self, results):
        before = f"{findings.score('own', 'gray'):.3f}"
        write_run(results, "gray", 0, -0.3)
        clear()
        assert f"{findings.score('own', 'gray'):.3f}" != before
        with pytest.raises(Reversed, match="full is less accurate than grey"):
            claim("full is less accurate than grey", findings.difference("own", "full", "gray").below())

    def test_cells_of_tables(self, results):
        assert f"{findings.cell('own', 't', 'auc', method='l2'):.3f}" == "0.861 [0.800, 0.900]"
        assert f"{findings.cell('own', 't', 'auc', method='full'):.1f}" == "0.5"
        for missing in (findings.cell("own", "t", "auc", method="x"), findings.cell("own", "u", "auc", method="l2"),
                        findings.cell("own", "t", "psnr", method="l2"), findings.score("own", "full", "psnr"),
                        findings.difference("own", "class", "gray"), findings.score("none", "gray")):  # fmt: skip
            assert f"{missing:.3f}".startswith("**[missing: ") and missing.above() is None

    def test_without_any_result_there_are_gaps(self, tmp_path, monkeypatch):
        monkeypatch.setattr(findings, "RESULTS", tmp_path)
        clear()
        said = [findings.tally(findings.optima(), "met"), findings.worst(findings.optima()), findings.covered(3)]
        said += [findings.pivot(findings.frame("own", "t"), "a", "b", "c"), findings.shown("own", "t", {"a": "b"})]
        said += [findings.ledger("own"), findings.provenance("own")]
        assert all("**[missing" in text for text in said), said
        assert findings.decoded("own", "class", "decodings").empty and findings.picture("own", "x.png").axes


def built(folder, results, *options):
    environment = os.environ | {"COLORSTUDY_RESULTS": str(results), "PYTHONPATH": str(ROOT)}
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "-c",
        "docs",
        "-d",
        f"{folder}-trees",
        *options,
        ".",
        str(folder),
    ]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@pytest.fixture
def committed(tmp_path):
    """The results of the checkout, where one may be changed: links but for the scores of the landscapes."""
    folder = tmp_path / "results"
    folder.mkdir()
    for path in (ROOT / "results").iterdir():
        if path.name == "landscapes":
            shutil.copytree(path, folder / path.name, ignore=shutil.ignore_patterns("*.safetensors"))
        else:
            (folder / path.name).symlink_to(path)
    return folder


def test_the_site_is_built_without_a_warning_and_the_paper_in_it_is_whole(tmp_path, committed):
    done = built(tmp_path / "site", committed)
    assert done.returncode == 0, done.stderr[-3000:]
    text = (tmp_path / "site" / "docs" / "paper.html").read_text(encoding="utf-8")
    body = text[text.index("<article") : text.index("</article>")]
    assert not re.search(r"{(glue|numref|cite)|%%|Traceback|\$\$", body)
    assert "<math" in body and body.count("<img") >= 8
    tables, shown = (set(re.findall(rf"{kind} (\d+)", body)) for kind in ("Table", "Figure"))
    assert len(tables) >= 9 and len(shown) >= 8
    headings = [re.sub("<[^>]+>|[#¶]", "", h).strip() for h in re.findall(r"<h2.*?</h2>", body, re.DOTALL)]
    assert headings[:6] == ["Abstract", "Introduction", "Related work", "Methods", "Data", "Results"]
    assert {"Discussion", "Limits", "Acknowledgement", "References"} <= {*headings}
    for page in ("index", "docs/index", "docs/gallery", "docs/how-to/own-pictures", "docs/api/colorstudy.bins",
                 "notebooks/05-compare", "docs/results"):  # fmt: skip
        html = (tmp_path / "site" / f"{page}.html").read_text(encoding="utf-8")
        assert not re.search(r"<(script|link|img)[^>]*(src|href)=.https?:", html), page  # no network
    assert "colorstudy.bins.ColorBins.soft" in (tmp_path / "site/docs/api/colorstudy.bins.html").read_text(
        encoding="utf-8"
    )


def test_a_reversed_score_stops_the_paper_and_the_sentence_is_named(tmp_path, committed):
    for path in (committed / "landscapes" / "runs").glob("full-s*/images.csv.xz"):
        table = pd.read_csv(path)
        table["auc"] = (table["auc"] + 0.05).clip(upper=1)
        table.to_csv(path, index=False)
    done = built(tmp_path / "paper", committed, "-t", "paper")
    assert done.returncode != 0
    assert "the results do not bear out" in done.stderr and "also on landscapes" in done.stderr, done.stderr[-3000:]


def test_every_citation_has_its_reference_and_every_reference_is_cited():
    text = PAPER.read_text(encoding="utf-8")
    cited = {key for keys in re.findall(r"{cite:[pt]}`([^`]+)`", text) for key in keys.split(",")}
    listed = set(re.findall(r"^@\w+{(\w+),", (DOCS / "references.bib").read_text(encoding="utf-8"), flags=re.MULTILINE))
    assert cited == listed and len(listed) > 35


def cells():
    text = PAPER.read_text(encoding="utf-8")
    code = re.findall(r"^```{code-cell} python\n(?::[^\n]*\n)+(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return code, re.sub(r"^```{code-cell} python.*?^```\n", "", text, flags=re.MULTILINE | re.DOTALL)


def test_what_the_cells_say_is_what_the_prose_asks_for():
    code, prose = cells()
    said = {keyword.arg for cell in code for node in ast.walk(ast.parse(cell)) if isinstance(node, ast.Call)
            and getattr(node.func, "id", "") == "say" for keyword in node.keywords}  # fmt: skip
    asked = set(re.findall(r"{glue:md}`(\w+)`|{glue:(?:md|figure)} (\w+)", prose))
    assert said == {name for pair in asked for name in pair if name}


def test_no_result_is_typed():
    """Prose with digits after a point, or in percent, would be a typed result; settings are named here."""
    _, prose = cells()
    prose = re.sub(r"\$\$?[^$]+\$\$?|`[^`]+`", "", prose[prose.index("## Abstract") :])
    allowed = {"1.5", "2.3", "0.02", "95 %", "80 %", "20 %", "25 %"}  # what scores, intervals and designs are
    assert set(re.findall(r"\d*\.\d+|\d+ %", prose)) <= allowed


def test_the_api_page_names_the_public_names():
    import colorstudy

    text = (DOCS / "api.md").read_text(encoding="utf-8")
    assert {path.rpartition(".")[2] for path in re.findall(r"^   ~([\w.]+)$", text, flags=re.MULTILINE)} == {
        *colorstudy.__all__
    }
