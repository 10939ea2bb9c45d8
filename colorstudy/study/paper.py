"""The paper: a notebook whose every number and figure is read from result files, and its export as HTML and PDF.

`Results` finds numbers, tables and figures; what is not there becomes a visible gap, so that a paper can be read before
all experiments are done. `export` makes one file that needs no network: pictures are inside, and equations are MathML.
"""

import base64
import html
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from colorstudy._checks import extra
from colorstudy._files import read_json, replacing, write_text
from colorstudy.study.tables import with_interval

with extra("docs"):
    import nbformat
    from latex2mathml.converter import convert
    from nbconvert import HTMLExporter
    from nbconvert.filters import markdown2html

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")  # what prints the PDF, if it is installed
_MATH = re.compile(r"(?P<code>`[^`]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\\w])\$(?P<inline>[^$\n]+?)\$(?!\d)", re.DOTALL)


class Results:
    """Result files of some profiles, each looked for in the first of the `folders` (``results/quick``) that has it."""

    def __init__(self, *folders: str | Path) -> None:
        self.folders = list(dict.fromkeys(map(Path, folders)))
        paths = [folder / "manifest.json" for folder in self.folders]
        self.manifests = [read_json(path) for path in paths if path.is_file()]

    def find(self, name: str) -> Path | None:
        """The file `name` (``"tables/main.csv"``) of the first folder that has it."""
        return next((folder / name for folder in self.folders if (folder / name).is_file()), None)

    def frame(self, table: str) -> pd.DataFrame | None:
        """A table by name (``"main"``), None if no profile has it."""
        path = self.find(f"tables/{table}.csv")
        return None if path is None else pd.read_csv(path)

    def number(self, table: str, column: str, *, show: str = ".3f", **where: Any) -> str:
        """The number, with its interval if it has one, or text in `column` of the row `where` column = value; or a gap.

        The interval is ``<column>_low`` to ``<column>_high``, else ``low`` to ``high``.
        """
        missing = gap(f"{table}: {column} of {', '.join(map(str, where.values()))}")
        frame = self.frame(table)
        if frame is None or not {column, *where} <= {*frame}:
            return missing
        rows = frame[(frame[[*where]] == pd.Series(where)).all(axis=1)]
        if len(rows) != 1 or rows[column].isna().any():
            return missing
        row, prefix = rows.iloc[0], f"{column}_" if f"{column}_low" in rows else ""
        if not isinstance(row[column], (int, float)):
            return html.escape(str(row[column]))
        if f"{prefix}low" not in row:
            return format(row[column], show).replace("-", "−")
        return with_interval(row[column], row[f"{prefix}low"], row[f"{prefix}high"], show).replace("-", "−")

    word = number  # for text in a cell, such as a verdict

    def answer(self, notebook: str, *keys: str, show: str = "") -> str:
        """What a notebook answered, from the first manifest that has it, formatted by `show`; a gap if none has."""
        for content in self.manifests:
            value = content.get("notebooks", {}).get(notebook, {}).get("answer")
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                return html.escape(format(value, show))
        return gap(f"{notebook}: {' / '.join(keys)}")

    def table(self, table: str, caption: str, columns: Sequence[str] | Mapping[str, str] | None = None) -> str:
        """A table with its caption as HTML: the `columns`, renamed where they are a mapping."""
        frame, path = self.frame(table), self.find(f"tables/{table}.csv")
        names = dict(columns) if isinstance(columns, Mapping) else {name: name for name in columns or ()}
        if frame is None or path is None or not {*names} <= {*frame}:
            return gap(f"Table: {caption} ({table})")
        frame = (frame[[*names]].rename(columns=names) if names else frame).map(_unbroken)
        body = frame.to_html(index=False, border=0, float_format=lambda x: f"{x:.4g}".replace("-", "−"), na_rep="")
        return f"<figure class='table'>{_caption(caption, path)}{body}</figure>"

    def figure(self, name: str, caption: str, height: str = "13cm") -> str:
        """A figure (``"scores.png"``) with its caption, inside of the HTML; `height` is the most that it takes."""
        path = self.find(f"figures/{name}")
        if path is None:
            return gap(f"Figure: {caption} ({name})")
        kind = "png" if path.suffix == ".png" else "jpeg"
        data = f"data:image/{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"
        style = f"style='max-height: {height}' alt='{html.escape(caption)}'"
        return f"<figure><img {style} src='{data}'>{_caption(caption, path)}</figure>"

    def runs(self) -> pd.DataFrame:
        """Where the numbers come from: profile, data, runs, commits and versions, a row a profile with a manifest."""
        rows = []
        for content in self.manifests:
            runs = list(content["runs"].values())
            made = [run["train_provenance"] for run in runs if run.get("train_provenance")]
            made += [about["provenance"] for about in [*runs, *content["notebooks"].values()]]
            columns = {
                "seeds": sorted(run["seed"] for run in runs),
                "test pictures": sorted(run["test_images"] for run in runs),
                "data hash": sorted(run["data_hash"][:8] for run in runs),
                "commits": [str(about["commit"])[:7] for about in made],
                "torch": [about["versions"]["torch"] for about in made],
                "device": [about["device"] for about in made],
            }
            different = {name: ", ".join(dict.fromkeys(map(str, values))) for name, values in columns.items()}
            rows.append({"profile": content["profile"], "runs": len(runs)} | different)
        return pd.DataFrame(rows)


def gap(what: str) -> str:
    """What stands where a result is missing; `what` may hold HTML."""
    return f"<span class='gap'>[missing: {html.escape(re.sub('<[^>]+>', '', what))}]</span>"


def _caption(caption: str, path: Path) -> str:
    """`caption` with the profile from which the file at `path` comes."""
    return f"<figcaption>{caption} <span class='origin'>(profile {path.parents[1].name})</span></figcaption>"


def _unbroken(cell: Any) -> Any:
    """A cell as it is, but a number with its interval on one line."""
    if not isinstance(cell, str) or not re.fullmatch(r"\S+ \[\S+, \S+\]", cell):
        return cell
    return "–" if cell.startswith("nan") else cell.replace(" ", "\u00a0").replace("-", "−")


def export(notebook: str | Path, path: str | Path) -> Path:
    """Write an executed notebook without its code as one HTML file `path`, and return that.

    Chromium, where it is installed, prints a PDF beside it; an ``OSError`` if that goes wrong.
    """
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    exporter.register_filter("markdown2html", lambda text: markdown2html(with_mathml(text)))
    body, _ = exporter.from_notebook_node(nbformat.read(notebook, as_version=4))
    title = re.search(r"<h1.*?>(.+?)<", body)
    style = Path(__file__).with_name("paper.css").read_text(encoding="utf-8")
    head = f"<meta charset='utf-8'><title>{title[1] if title else 'Paper'}</title><style>{style}</style>"
    path = Path(path)
    write_text(path, f"<!doctype html><html lang='en'><head>{head}</head><body><main>{body}</main></body></html>\n")
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print(f"{path.with_suffix('.pdf')}: not made, as no Chromium was found", file=sys.stderr)
        return path
    with replacing(path.with_suffix(".pdf")) as temporary:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--print-to-pdf={temporary.resolve()}", path.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0 or not temporary.is_file():
            raise OSError(f"{path}: expected Chromium to print it, got {done.stderr.strip()[-500:]}")
    return path


def with_mathml(text: str) -> str:
    """Markdown `text` with its LaTeX, between $ or $$, as MathML, which browsers show without a network."""

    def replaced(match: re.Match[str]) -> str:
        kind = match.lastgroup or ""
        return match[0] if kind == "code" else convert(match[kind].strip(), display=kind).replace("\n", " ")

    return _MATH.sub(replaced, text)


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("usage: python -m colorstudy.study.paper EXECUTED_NOTEBOOK HTML")
    print(export(*sys.argv[1:]))
