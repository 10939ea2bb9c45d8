"""The explorer: what its sliders and a click change, its figure for a viewer that runs nothing, and JupyterLab."""

import base64
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import colorstudy as cs
from colorstudy.color import split, to_tensor
from colorstudy.data import photos

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def picture():
    bank = photos(size=64)
    return bank.test.images[bank.test.names.index("mvtb/flowers4")]


def shown(explorer, tmp_path):
    """The figure as a viewer that runs nothing has it, (H, W, 3)."""
    (tmp_path / "shown.png").write_bytes(base64.b64decode(explorer._repr_mimebundle_()["image/png"]))
    return np.asarray(Image.open(tmp_path / "shown.png").convert("RGB"))


def test_sliders_and_a_click_change_the_figure(picture, tmp_path):
    explorer = cs.explore(picture)
    first = shown(explorer, tmp_path)
    assert first.shape[1] > 2 * first.shape[0] and explorer.place == [32, 32]
    explorer.temperature.value = 1.0
    pale = shown(explorer, tmp_path)
    left = (slice(None), slice(0, first.shape[1] // 3))  # the picture as the model colours it
    chroma = [split(to_tensor(np.ascontiguousarray(image[left])))[1].norm(dim=0).mean() for image in (first, pale)]
    assert chroma[1] < chroma[0]
    explorer.strength.value = 1.0
    assert (shown(explorer, tmp_path) != pale).any()

    explorer._image.clicked = [0.1, 0.5]  # right of the left edge of the first picture, at half its height
    assert abs(explorer.place[0] - 32) <= 4 and 8 < explorer.place[1] < 32
    before = shown(explorer, tmp_path)
    explorer._image.clicked = [0.9, 0.5]  # on the plane, which is no pixel
    assert (shown(explorer, tmp_path) == before).all()


def test_a_regression_has_no_distribution_to_explore(picture):
    with pytest.raises(ValueError, match="model: expected one that predicts a distribution, got l2"):
        cs.explore(picture, model="l2")


def test_in_jupyterlab_a_click_and_a_slider_change_the_figure(free_port, wait_for_port, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    source = "import colorstudy as cs\nfrom colorstudy.data import photos\ncs.explore(photos(size=64).test.images[0])"
    cell = {"cell_type": "code", "id": "c0", "metadata": {}, "outputs": [], "execution_count": None, "source": source}
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook = {"cells": [cell], "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}
    (tmp_path / "explore.ipynb").write_text(json.dumps(notebook))
    port = free_port()
    command = [sys.executable, "-m", "jupyter", "lab", "--no-browser", "--allow-root", f"--port={port}",
               "--IdentityProvider.token=", f"--ServerApp.root_dir={tmp_path}"]  # fmt: skip
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "JUPYTER_PREFER_ENV_PATH": "1"}
    environment |= {"JUPYTERLAB_SETTINGS_DIR": str(tmp_path / "s"), "JUPYTERLAB_WORKSPACES_DIR": str(tmp_path / "w")}
    server = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        with playwright.sync_playwright() as driver:
            tab = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
            tab.goto(f"http://127.0.0.1:{port}/lab/tree/explore.ipynb")
            code = tab.locator(".jp-CodeCell .cm-content")
            code.wait_for(timeout=60_000)
            tab.locator(".jp-Notebook-ExecutionIndicator[data-status='idle']").wait_for(timeout=60_000)
            image = tab.locator("img.colorstudy-explorer")
            for _ in range(8):  # a kernel that is not attached yet forgets what it is asked
                if tab.locator(".jp-Dialog").count():  # JupyterLab's own, on a slow machine
                    tab.keyboard.press("Escape")
                code.click()
                tab.keyboard.press("Control+Enter")
                try:
                    image.wait_for(timeout=20_000)
                    break
                except playwright.TimeoutError:
                    pass
            sources = [image.get_attribute("src")]
            box = image.bounding_box()
            for act in (
                lambda: image.click(position={"x": 0.1 * box["width"], "y": 0.4 * box["height"]}),
                lambda: tab.get_by_role("slider").first.press("ArrowRight"),
            ):
                act()
                changed = "before => document.querySelector('img.colorstudy-explorer').src !== before"
                tab.wait_for_function(changed, arg=sources[-1], timeout=30_000)
                sources.append(image.get_attribute("src"))
            tab.screenshot(path=tmp_path / "lab.png")
    finally:
        server.terminate()
        server.wait(20)
    assert all(source.startswith("data:image/png;base64,") for source in sources) and len({*sources}) == 3
