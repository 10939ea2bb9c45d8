"""The README: its length, links, commands and findings; and what the habits around it promise."""

import ast
import csv
import json
import re
import shlex
import subprocess
from importlib import import_module
from pathlib import Path

import pytest

from colorstudy import cli

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
pytestmark = pytest.mark.skipif(not README.exists() or not (ROOT / "docs").exists(), reason="runs in a checkout")
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
PAGES = [path for path in PAGES if "api" not in path.parts]
TARGETS = set(re.findall(r"^([a-z]+):.*##", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE))


def blocks(text, language):
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_it_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= 900


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_link_leads_to_a_file(page):
    for link in re.findall(
        r"\]\((?!https?:|#)([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    ):
        assert (page.parent / link).exists(), link


def test_every_link_of_the_readme_to_a_page_is_known_to_git():
    """A file that is only here would be a dead link in a clone."""
    known = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if known.returncode:
        pytest.skip("no repository")
    files = set(known.stdout.splitlines())
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", README.read_text(encoding="utf-8"))
    assert len(links) > 25 and {*links} <= files, {*links} - files


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_every_command_is_one(page, capsys):
    """`make` has the target; `colorstudy` knows every command and option; a script exists; Python can be read."""
    text = page.read_text(encoding="utf-8")
    for line in "".join(blocks(text, "sh")).replace("\\\n", " ").splitlines():
        words = shlex.split(line, comments=True)
        if words[:1] == ["make"]:
            assert all(word in TARGETS or "=" in word for word in words[1:]), line
        elif words[:1] == ["colorstudy"]:
            options = {word.partition("=")[0] for word in words if word.startswith("--")}
            found = help_of(words, capsys)
            assert options <= set(re.findall(r"--[a-z][\w-]*", found)), line
        elif words[:1] == ["python"]:
            assert words[1] == "-m" or (ROOT / words[1]).exists(), line
        else:
            assert words == [] or words[0] in {"cd", "pip", "papermill", "docker", "torchrun"}, line
    for line in re.findall(r"`make ([a-z]+)", text):
        assert line in TARGETS, line
    for path in re.findall(r"`python (docs/\w+\.py)", text):
        assert (ROOT / path).exists(), path
    for code in blocks(text, "python"):
        ast.parse(code)


def help_of(words, capsys):
    """The help of the command that `words` name, as the command line prints it."""
    with pytest.raises(SystemExit) as end:
        cli.main([*words[1 : 3 if words[1] == "trial" else 2], "--help"])
    assert end.value.code in (0, None)
    return capsys.readouterr().out


def test_the_first_command_colours_a_picture(tmp_path, monkeypatch):
    (line,) = [
        line for line in "".join(blocks(README.read_text(encoding="utf-8"), "sh")).splitlines() if "colorize" in line
    ]
    from skimage import data, io

    io.imsave(tmp_path / "old-photo.jpg", data.chelsea()[:64, :96].mean(-1).astype("uint8"))
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(line)[1:]) == 0
    assert [*tmp_path.glob("coloured/old-photo.*")]
    namespace = {}
    for code in blocks(README.read_text(encoding="utf-8"), "python"):
        exec(code, namespace)  # it is ours, and says what a reader runs
    assert namespace["cs"].Colorizer


def test_its_findings_are_those_of_the_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    findings = import_module("findings")

    text = README.read_text(encoding="utf-8")
    assert findings.in_readme(text) == text  # else: python docs/findings.py
    assert text.count("\n5. **") == 1


def test_the_readme_and_the_gallery_map_every_notebook():
    for page, where in ((README, "notebooks"), (ROOT / "docs" / "gallery.md", "../notebooks")):
        text = page.read_text(encoding="utf-8")
        for notebook in sorted((ROOT / "notebooks").glob("[0-9][0-9]-*.ipynb")):
            assert f"({where}/{notebook.name})" in text


@pytest.mark.parametrize("table", ["quick/tables/main-readable.md", "systems/tables/systems-readable.md"])
def test_the_site_shows_the_tables_of_the_results(table):
    assert (ROOT / "results" / table).exists()
    assert f"```{{include}} ../results/{table}\n" in (ROOT / "docs" / "results.md").read_text(encoding="utf-8")


def test_every_column_of_every_result_file_is_in_the_dictionary():
    text = re.sub(r"```.*?```", "", (ROOT / "docs" / "results.md").read_text(encoding="utf-8"), flags=re.DOTALL)
    known = set(re.findall(r"`([^`]+)`", text))
    names = set()
    for name in known:
        names |= {name.replace("<name>", weighted) for weighted in ("tail", "rebalanced", "half", "macro")}
    for path in sorted((ROOT / "results").rglob("*.csv")):
        if "tiny" not in path.parts and "measured" not in path.parts:
            with path.open(encoding="utf-8", newline="") as file:
                columns = next(csv.reader(file))
            plain = {re.sub(r"_(low|high|effective|gain|gain_low|gain_high)$", "", column) for column in columns}
            plain = {re.sub(r" \(\d+ effective\)$|^gain over grey, ", "", column) for column in plain}
            assert plain <= names | {"commit", "low", "high"}, (path.relative_to(ROOT), plain - names)


def test_the_container_has_the_environment_that_make_makes():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert "\nRUN make .venv/.installed\n" in text and "pip install" not in text
    about = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text(encoding="utf-8"))
    assert (ROOT / ".devcontainer" / about["build"]["dockerfile"]).resolve() == ROOT / "Dockerfile"


def test_binder_badges_are_those_of_the_repository(monkeypatch):
    """None as long as pyproject.toml names none; then the README has to show it, as the site does."""
    monkeypatch.syspath_prepend(ROOT / "docs")
    made = import_module("badge")
    text = README.read_text(encoding="utf-8")
    assert made.BADGE in text and ("mybinder.org" in text) == bool(made.BADGE)
    head = '[project]\nname = "a"\n\n[project.urls]\nHomepage = "https://a.org"\n'
    assert made.repository(head + "\n[tool.x]\n" + 'repository = "https://b.org"\n') == ""
    for url, place in {
        "https://github.com/me/colours": "gh/me/colours",
        "https://github.com/me/colours.git": "gh/me/colours",
        "https://git.example.org/a/b/": "git/https%3A%2F%2Fgit.example.org%2Fa%2Fb",
    }.items():
        found = made.badge(made.repository(f'{head}Repository = "{url}"\n\n[tool.x]\n'))
        assert found.endswith(f"(https://mybinder.org/v2/{place}/HEAD?urlpath=lab/tree/notebooks)")
