"""`bench` times and keeps rows; a whole run adds them to the history and writes the page about it."""

import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import mvtbdata
import numpy as np
import performance
import pytest
import torch
from measure import Load, cpu_model, gemm_rate
from PIL import Image

from colorstudy._provenance import provenance
from colorstudy.bins import ColorBins
from colorstudy.color import srgb_to_lab, to_tensor
from colorstudy.colorize import Colorizer
from colorstudy.data import photos, read
from colorstudy.video.files import Frame, encoded, write

PICTURES = Path(mvtbdata.__file__).parent / "images"


def pytest_sessionstart(session):
    torch.set_num_threads(1)
    session.config.bench, session.config.whole = performance.Bench(), Load()
    session.config.gemm = gemm_rate()


@pytest.fixture
def bench(request):
    request.config.bench.load = Load()
    return request.config.bench


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """What breaks is a row, too: it is not to be missing without a word."""
    done = yield
    if done.failed:
        item.config.bench.row(item.name, [], "", details=f"not measured: {call.excinfo.typename}")
    return done


def pytest_sessionfinish(session):
    bench, whole, options = session.config.bench, session.config.whole, session.config.option
    seconds, bench.load = time.perf_counter() - whole.began, whole
    print(f"\n{len(bench.rows)} rows in {seconds:.0f} s")
    chosen = options.keyword or options.markexpr or options.deselect or options.lf
    if not bench.rows or chosen or any(".py" in arg for arg in session.config.args):
        return
    bench.row("`make bench`", seconds, "s", goal="≤ 480", plain="everything on this page", wall=True)
    made = provenance()
    about = {"run": time.strftime("%Y-%m-%d %H:%M"), "commit": str(made["commit"])[:12] + "+" * bool(made["dirty"])}
    about |= {"cpu": cpu_model(), "gemm_start": f"{session.config.gemm:.1f}", "gemm_end": f"{gemm_rate():.1f}"}
    performance.append([row | about for row in bench.rows])
    performance.write(performance.read())


# --- what several files use ---


@pytest.fixture(scope="session")
def bins():
    return ColorBins.in_gamut()


@pytest.fixture(scope="session")
def images():
    """The embedded photographs, uint8 (57, 128, 128, 3)."""
    return photos(size=128).images


@pytest.fixture(scope="session")
def chroma(images):
    """ab (16, 2, 128, 128) of photographs."""
    return srgb_to_lab(to_tensor(images[:16]))[:, 1:].contiguous()


@pytest.fixture(scope="session")
def large():
    """12 megapixels, as rich in detail as those of a camera: photographs of 640 x 426 side by side."""
    tiles = [read(path) for path in sorted((PICTURES / "campus").glob("*.png"))[:16]]
    rows = [np.concatenate([tiles[(7 * i + 3 * j) % 16] for j in range(7)], 1) for i in range(8)]
    return np.concatenate(rows)[:3000, :4000]


@pytest.fixture(scope="session")
def pan(tmp_path_factory):
    """Makes a clip of 640 x 360 of so many frames: a camera that goes to and fro before a photograph."""
    picture, folder = read(PICTURES / "flowers4.png"), tmp_path_factory.mktemp("clips")
    picture = np.asarray(Image.fromarray(picture).resize((960, 540)))

    def make(count):
        corners = [(int(90 * (1 + np.cos(t / 40))), int(160 * (1 + np.sin(t / 40)))) for t in range(count)]
        form = SimpleNamespace(rate=30, time_base=Fraction(1, 30), size=(360, 640), pixel_aspect=Fraction(1))
        pixels = (np.ascontiguousarray(picture[y : y + 360, x : x + 640]) for y, x in corners)
        write(folder / f"{count}.mp4", encoded, (Frame(frame, t) for t, frame in enumerate(pixels)), form)
        return folder / f"{count}.mp4"

    return make


@pytest.fixture(scope="session")
def colorizer():
    """The trained model that comes with the package."""
    return Colorizer.load("full", device="cpu")
