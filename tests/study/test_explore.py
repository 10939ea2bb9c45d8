"""The explorer: what its sliders and a click change, its figure for a viewer that runs nothing, and JupyterLab."""

import base64
import shutil

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
    explorer = cs.explore(picture, model="full")  # of which a higher temperature takes colour
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


def test_in_jupyterlab_a_click_and_a_slider_change_the_figure(jupyterlab, tmp_path):
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright drives the browser")
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    source = "import colorstudy as cs\nfrom colorstudy.data import photos\ncs.explore(photos(size=64).test.images[0])"
    address = jupyterlab(source)
    with playwright.sync_playwright() as driver:
        tab = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]).new_page()
        tab.goto(address)
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
    assert all(source.startswith("data:image/png;base64,") for source in sources) and len({*sources}) == 3
