"""Execute the notebooks and keep their outputs: `make notebooks`, or ``python notebooks/execute.py [--all] [05 ...]``.

Without names, those whose source differs from the one that their outputs were made of. A hash of that source stands in
the metadata of each notebook; tests/study/test_notebooks.py compares it.
"""

import argparse
import hashlib
import json
import shutil
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
MOST = 1.5e6  # bytes of a notebook


def source_hash(notebook: nbformat.NotebookNode) -> str:
    """SHA-256 (hex) of what a notebook is without its outputs: kind, source and tags of every cell."""
    cells = [[cell.cell_type, cell.source, cell.metadata.get("tags", [])] for cell in notebook.cells]
    return hashlib.sha256(json.dumps(cells).encode()).hexdigest()


def execute(path: Path) -> None:
    """Run a notebook from its folder in a kernel of this environment, and write it with its outputs."""
    notebook, started = nbformat.read(path, as_version=4), time.perf_counter()
    NotebookClient(notebook, timeout=7200, kernel_name="python3", resources={"metadata": {"path": FOLDER}}).execute()
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)  # times, which differ from run to run
        if cell.cell_type == "code":  # warnings and widgets are for who runs it; a picture may stand in
            widget = "application/vnd.jupyter.widget-view+json"
            kept = [output for output in cell.outputs if output.get("name") != "stderr"]
            cell.outputs = [o for o in kept if widget not in o.get("data", {}) or "image/png" in o.data]
            for output in cell.outputs:
                output.get("data", {}).pop(widget, None)
    kernel = {"name": "python3", "display_name": "Python 3 (ipykernel)", "language": "python"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}, "source": source_hash(notebook)}
    text = nbformat.writes(notebook) + "\n"
    if len(text.encode()) > MOST:
        raise SystemExit(f"{path.name}: expected at most {MOST / 1e6} MB, got {len(text) / 1e6:.1f}: smaller figures")
    path.write_text(text, encoding="utf-8")
    print(f"{path.name}: {time.perf_counter() - started:.0f} s, {len(text) / 1e6:.2f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="such as 05-compare or 05; all that changed by default")
    parser.add_argument("--all", action="store_true", help="also what did not change")
    options = parser.parse_args()
    paths = sorted(FOLDER.glob("[0-9][0-9]-*.ipynb"))
    if options.names:
        paths = [path for path in paths if path.stem.startswith(tuple(options.names))]
    elif not options.all:
        read = {path: nbformat.read(path, as_version=4) for path in paths}
        paths = [path for path, notebook in read.items() if notebook.metadata.get("source") != source_hash(notebook)]
    for path in paths:
        if path.stem.startswith("03"):  # shows a training, not that there was one
            shutil.rmtree(FOLDER.parent / "results" / "first", ignore_errors=True)
        execute(path)


if __name__ == "__main__":
    main()
