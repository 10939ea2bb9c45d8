"""`make bench`: what starts or is opened: imports, a notebook, the command line, a bank."""

import io
from contextlib import redirect_stderr
from pathlib import Path

import nbformat
import numpy as np
from measure import alternate, children, functions, imports, python
from PIL import Image

from colorstudy.data import folder

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
TORCH = ["-c", "import torch"]


def test_imports(bench):
    goals = {"training": "≤ 0.5", "metrics": "≤ 0.5", "colorize": "≤ 0.3"}
    codes = [TORCH, *(["-c", f"import torch, colorstudy.{module}"] for module in goals), ["-c", "import colorstudy"]]
    taken = alternate(*(lambda code=code: python(*code) for code in codes), rounds=3, clock=children)
    plain = f"import of torch: {np.median(taken[:, 0]):.2f} CPU-s"
    for (module, goal), code, seconds in zip(goals.items(), codes[1:], taken.T[1:]):
        bench.row(f"Import of `colorstudy.{module}` beyond torch", seconds - taken[:, 0], "CPU-s", goal=goal,
                  plain=plain, why=lambda code=code: imports(*code))  # fmt: skip
    bench.row("Import of `colorstudy` alone", taken[:, -1], "CPU-s", goal="≤ 0.1", plain=plain)


def test_notebook(tmp_path, bench):
    """What `make study` starts most often: papermill, on the imports of a notebook of the study."""
    cells = nbformat.read(NOTEBOOKS / "05-compare.ipynb", as_version=4).cells
    cell = next(cell for cell in cells if cell.cell_type == "code" and "import" in cell.source)
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "in.ipynb")
    options = ["--kernel", "python3", "--cwd", NOTEBOOKS, "--no-progress-bar", "--log-level", "ERROR"]
    command = ["-m", "papermill", tmp_path / "in.ipynb", tmp_path / "out.ipynb", *options]
    bench.compare("Notebook that imports the study, by papermill", lambda: python(*command), lambda: python(*TORCH),
                  "import of torch", "≤ 5", unit="CPU-s", rounds=2, clock=children,
                  why=lambda _: imports(*command))  # fmt: skip


def test_command_line(images, tmp_path, bench):
    Image.fromarray(images[0]).save(tmp_path / "picture.png")
    command = ["-m", "colorstudy", "colorize", tmp_path / "picture.png", "-o", tmp_path / "out", "--overwrite"]
    bench.compare("`colorstudy colorize` of a picture of 128 px", lambda: python(*command), lambda: python(*TORCH),
                  "import of torch", "≤ 2.3", unit="CPU-s", rounds=3, clock=children,
                  why=lambda _: imports(*command))  # fmt: skip
    train = f"-m colorstudy train l2 --steps=1 --size=32 --crop=32 --overwrite -o {tmp_path / 'run'}".split()
    bench.compare("`colorstudy train` of one step", lambda: python(*train), lambda: python(*TORCH), "import of torch",
                  unit="CPU-s", rounds=2, clock=children, warm=0)  # fmt: skip


def test_banks(images, tmp_path, bench):
    """Folders of small JPEGs, made as large as those of 128 px by bytes behind the picture, which decoders skip."""
    counts, contents = (1000, 4000, 16000), []
    for pixels in images:
        Image.fromarray(pixels).resize((32, 32)).save(file := io.BytesIO(), "JPEG")
        contents.append(file.getvalue() + bytes(6000))
    for count in counts:
        (tmp_path / f"{count}").mkdir()
        for i in range(count):
            (tmp_path / f"{count}" / f"{i:05}.jpg").write_bytes(contents[i % len(contents)] + i.to_bytes(4, "big"))
    calls = {n: lambda n=n: folder(tmp_path / f"{n}", 64, cache_dir=tmp_path / "cache") for n in counts}
    with redirect_stderr(io.StringIO()):  # bars of progress
        built = bench.grow("building a bank", "pictures", calls, rounds=1, warm=0)
    taken = bench.grow("opening a bank", "pictures", calls, rounds=5)
    bench.row("Opening a cached bank of 16,000 pictures of 64 px", taken[:, -1], "CPU-s", goal="≤ 0.3",
              plain=f"building it: {built[0, -1]:.0f} CPU-s", why=lambda: functions(calls[16000]))  # fmt: skip
