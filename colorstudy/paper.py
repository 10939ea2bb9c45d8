"""The paper: a notebook whose every number and figure is read from result files, and its export as HTML and PDF.

`Results` finds numbers, tables and figures; what is not there becomes a visible gap, so that a paper can be read before
all experiments are done. `export` makes one file that needs no network: pictures are inside, and equations are MathML.

    python -m colorstudy.paper executed.ipynb paper.html
"""

from __future__ import annotations

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

from colorstudy._files import read_json, replacing, write_text

_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
_MATH = re.compile(r"(?P<code>`[^`]*`)|\$\$(?P<block>.+?)\$\$|(?<![\\\w])\$(?P<inline>[^$\n]+?)\$(?!\d)", re.DOTALL)


class Results:
    """Result files of some profiles, each looked for in the first folder that has it.

    Parameters
    ----------
    *folders : path
        Such as ``results/quick``; the paper's own profile first.
    """

    def __init__(self, *folders: str | Path) -> None:
        self.folders = list(dict.fromkeys(Path(folder) for folder in folders))

    def find(self, name: str) -> Path | None:
        """The file `name` (``"tables/main.csv"``) of the first folder that has it."""
        return next((folder / name for folder in self.folders if (folder / name).is_file()), None)

    def frame(self, table: str) -> pd.DataFrame | None:
        """A table by name (``"main"``), None if no profile has it."""
        path = self.find(f"tables/{table}.csv")
        return None if path is None else pd.read_csv(path)

    def number(
        self,
        table: str,
        column: str,
        *,
        low: str | None = None,
        high: str | None = None,
        show: str = ".3f",
        **where: Any,
    ) -> str:
        """A number of a table with its interval, such as ``0.861 [0.831, 0.892]``; a gap if it is not there.

        Parameters
        ----------
        table, column : str
        low, high : str, optional
            Columns of the interval: ``<column>_low`` and ``<column>_high`` by default, else ``low`` and ``high``, where
            there are such.
        show : str
            A format specification; one that ends on "%" counts in percent.
        **where
            Column = value: the row.
        """
        rows = self._rows(table, where)
        if rows is None or len(rows) != 1 or column not in rows:
            return gap(f"{table}: {column} of {', '.join(map(str, where.values()))}")
        row = rows.iloc[0]
        if not isinstance(row[column], (int, float)) or pd.isna(row[column]):
            return gap(f"{table}: {column}") if pd.isna(row[column]) else html.escape(str(row[column]))
        pairs = [(low, high), (f"{column}_low", f"{column}_high"), ("low", "high")]
        ends = next(([row[a], row[b]] for a, b in pairs if a in row and b in row), [])
        interval = f" [{', '.join(format(end, show) for end in ends)}]" if ends else ""
        return (format(row[column], show) + interval).replace("-", "−")

    def word(self, table: str, column: str, **where: Any) -> str:
        """The text in a cell of a table, such as a verdict; a gap if it is not there."""
        rows = self._rows(table, where)
        if rows is None or len(rows) != 1 or column not in rows:
            return gap(f"{table}: {column} of {', '.join(map(str, where.values()))}")
        return html.escape(str(rows.iloc[0][column]))

    def answer(self, notebook: str, *keys: str, show: str = "") -> str:
        """What a notebook answered, from the first manifest that has it, formatted by `show`; a gap if none has."""
        for folder in self.folders:
            content = read_json(folder / "manifest.json") if (folder / "manifest.json").is_file() else {}
            value = content.get("notebooks", {}).get(notebook, {}).get("answer")
            for key in keys:
                value = value.get(key) if isinstance(value, Mapping) else None
            if value is not None:
                return html.escape(format(value, show))
        return gap(f"{notebook}: {' / '.join(keys)}")

    def table(
        self,
        table: str,
        caption: str,
        columns: Sequence[str] | Mapping[str, str] | None = None,
    ) -> str:
        """A table with its caption as HTML: the `columns`, renamed where they are a mapping."""
        frame = self.frame(table)
        if frame is None:
            return gap(f"Table: {caption} ({table})")
        if columns is not None:
            missing = [name for name in columns if name not in frame]
            if missing:
                return gap(f"Table: {caption} ({table}: {', '.join(missing)})")
            frame = frame[list(columns)].rename(columns=columns if isinstance(columns, Mapping) else {})
        frame = frame.map(_unbroken)
        body = frame.to_html(index=False, border=0, float_format=lambda x: f"{x:.4g}".replace("-", "−"), na_rep="")
        caption = f"<figcaption>{caption} {self._origin(f'tables/{table}.csv')}</figcaption>"
        return f"<figure class='table'>{caption}{body}</figure>"

    def figure(self, name: str, caption: str, height: str = "13cm") -> str:
        """A figure (``"scores.png"``) with its caption, inside of the HTML; `height` is the most that it takes."""
        path = self.find(f"figures/{name}")
        if path is None:
            return gap(f"Figure: {caption} ({name})")
        kind = "png" if path.suffix == ".png" else "jpeg"
        content = base64.b64encode(path.read_bytes()).decode()
        style = f"style='max-height: {height}' alt='{html.escape(caption, quote=True)}'"
        picture = f"<img {style} src='data:image/{kind};base64,{content}'>"
        return f"<figure>{picture}<figcaption>{caption} {self._origin(f'figures/{name}')}</figcaption></figure>"

    def runs(self) -> pd.DataFrame:
        """Where the numbers come from: profile, data, runs, commits and versions, a row a profile with a manifest."""
        rows = []
        for folder in self.folders:
            if (folder / "manifest.json").is_file():
                content = read_json(folder / "manifest.json")
                runs, notebooks = content["runs"].values(), content["notebooks"].values()
                made = [run["train_provenance"] for run in runs if run.get("train_provenance")]
                made += [about["provenance"] for about in [*runs, *notebooks]]
                row = {"profile": content["profile"], "runs": len(runs)}
                row["seeds"] = ", ".join(map(str, sorted({run["seed"] for run in runs})))
                row["test pictures"] = ", ".join(map(str, sorted({run["test_images"] for run in runs})))
                row["data hash"] = ", ".join(sorted({run["data_hash"][:8] for run in runs}))
                row["commits"] = ", ".join(dict.fromkeys(str(about["commit"])[:7] for about in made))
                row["torch"] = ", ".join(dict.fromkeys(about["versions"]["torch"] for about in made))
                rows.append(row | {"device": ", ".join(dict.fromkeys(about["device"] for about in made))})
        return pd.DataFrame(rows)

    def _rows(self, table: str, where: Mapping[str, Any]) -> pd.DataFrame | None:
        frame = self.frame(table)
        if frame is None or not {*where} <= {*frame}:
            return None
        for name, value in where.items():
            frame = frame[frame[name] == value]
        return frame

    def _origin(self, name: str) -> str:
        path = self.find(name)
        return "" if path is None else f"<span class='origin'>(profile {path.parents[1].name})</span>"


def gap(what: str) -> str:
    """What stands where a result is missing; `what` may hold HTML."""
    return f"<span class='gap'>[missing: {html.escape(re.sub('<[^>]+>', '', what))}]</span>"


def _unbroken(cell: Any) -> Any:
    """A cell as it is, but a number with its interval on one line."""
    if not isinstance(cell, str) or not re.fullmatch(r"\S+ \[\S+, \S+\]", cell):
        return cell
    return "–" if cell.startswith("nan") else cell.replace(" ", "\u00a0").replace("-", "−")


def export(notebook: str | Path, path: str | Path) -> Path:
    """Write an executed notebook as one HTML file, without its code, and beside it a PDF where Chromium is installed.

    Parameters
    ----------
    notebook : path
    path : path
        Of the HTML file; the PDF takes its name.

    Returns
    -------
    Path
        That of the HTML file.
    """
    import nbformat
    from nbconvert import HTMLExporter

    content = nbformat.read(notebook, as_version=4)
    for cell in content.cells:
        if cell.cell_type == "markdown":
            cell.source = with_mathml(cell.source)
        for output in cell.get("outputs", []):
            if "text/markdown" in output.get("data", {}):
                output["data"] = {"text/markdown": with_mathml(output["data"]["text/markdown"])}
    exporter = HTMLExporter(template_name="basic", exclude_input=True, exclude_output_prompt=True)
    body, _ = exporter.from_notebook_node(content)
    title = re.search(r"^# (.+)$", content.cells[0].source, re.MULTILINE)
    style = Path(__file__).with_name("paper.css").read_text(encoding="utf-8")
    head = f"<meta charset='utf-8'><title>{html.escape(title[1] if title else 'Paper')}</title><style>{style}</style>"
    write_text(path, f"<!doctype html><html lang='en'><head>{head}</head><body><main>{body}</main></body></html>\n")
    _print(Path(path))
    return Path(path)


def with_mathml(text: str) -> str:
    """Markdown `text` with its LaTeX, between $ or $$, as MathML, which browsers show without a network."""
    from latex2mathml.converter import convert

    def replaced(match: re.Match) -> str:
        if match["code"]:
            return match["code"]
        display = "block" if match["block"] else "inline"
        return convert((match["block"] or match["inline"]).strip(), display=display).replace("\n", " ")

    return _MATH.sub(replaced, text)


def _print(path: Path) -> None:
    """The HTML file as a PDF beside it, if there is a Chromium to print it."""
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    if browser is None:
        print(f"{path.with_suffix('.pdf')}: not made, as no Chromium was found", file=sys.stderr)
        return
    with replacing(path.with_suffix(".pdf")) as temporary:
        command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-pdf-header-footer"]
        command += [f"--print-to-pdf={temporary.resolve()}", path.resolve().as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        if done.returncode != 0 or not temporary.is_file():
            raise OSError(f"{path}: expected Chromium to print it, got {done.stderr.strip()[-500:]}")


def main(arguments: Sequence[str]) -> int:
    """`python -m colorstudy.paper executed.ipynb paper.html`."""
    if len(arguments) != 2:
        print("usage: python -m colorstudy.paper EXECUTED_NOTEBOOK HTML", file=sys.stderr)
        return 2
    print(export(*arguments))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
