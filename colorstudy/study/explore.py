"""`explore`: in a notebook, how a picture's colours depend on how they are read from a distribution."""

import os
from pathlib import Path
from typing import Any

import torch

from colorstudy._checks import extra, require
from colorstudy.color import lightness_of, to_uint8
from colorstudy.colorize import Colorizer
from colorstudy.data.arrays import Picture, as_batch
from colorstudy.filters import downscale
from colorstudy.study.figures import COLORS, chroma_plane

with extra("study"):
    import anywidget
    import ipywidgets
    import traitlets
    from IPython.core.pylabtools import print_figure
    from matplotlib.figure import Figure


class _Image(anywidget.AnyWidget):
    _esm = Path(__file__).with_suffix(".js")
    source = traitlets.Unicode().tag(sync=True)
    clicked: Any = traitlets.List().tag(sync=True)


class Explorer(ipywidgets.VBox):
    """Sliders for the temperature T and the strength s of rebalancing over a figure that can be clicked."""

    def __init__(self, picture: Picture, model: Colorizer, regression: Colorizer) -> None:
        require(model.is_distribution, "model", "one that predicts a distribution", model.model.method.name)
        rgb = as_batch(picture)[0][:1]
        rgb = downscale(rgb / 255 if rgb.dtype == torch.uint8 else rgb, 256 / min(rgb.shape[-2:]))
        self._model, self._lightness = model, lightness_of(rgb, model.space)
        self._prediction = model.predict(self._lightness)
        self._other = to_uint8(regression.colorize(rgb))[0]
        self.place = [side // 2 for side in rgb.shape[-2:]]  # row and column of the pixel that was clicked
        style: Any = {"max": 1.0, "step": 0.01, "continuous_update": False}
        self.temperature = ipywidgets.FloatSlider(0.38, min=0.02, description="T", **style)
        self.strength = ipywidgets.FloatSlider(0.0, min=0.0, description="s", **style)
        self._image = _Image()
        self._image.observe(self._click, "clicked")
        for slider in (self.temperature, self.strength):
            slider.observe(self._draw, "value")
        self._draw()
        super().__init__([ipywidgets.HBox([self.temperature, self.strength]), self._image])

    def _draw(self, change: Any = None) -> None:
        t, s = self.temperature.value, self.strength.value
        colorizer, sizes = self._model.decoding(temperature=t, rebalance=s), self._prediction.shape[-2:]
        row, column = (at * n // side for at, n, side in zip(self.place, sizes, self._lightness.shape[-2:]))
        said, read = (maps[0, :, row, column] for maps in (self._prediction, colorizer.decode(self._prediction)))
        self._axes = Figure(figsize=(11, 3.6), layout="constrained").subplots(1, 3)
        colored = to_uint8(colorizer.render(self._lightness, self._prediction))[0]
        titles = (f"{self._model.model.method.name}, T = {t:.2f}, s = {s:.2f}", "regression")
        for ax, image, words in zip(self._axes, (colored, self._other), titles):
            ax.imshow(image)
            ax.plot(*self.place[::-1], "o", ms=9, mfc="none", mec="white", mew=2)
            ax.set(title=words, xticks=[], yticks=[])
        bins = self._model.model.target.bins  # type: ignore[attr-defined]  # it is a distribution
        plane = chroma_plane(bins, self._axes[2], values=said, decades=3, label="probability")
        plane.plot(*read.tolist(), "o", ms=9, mfc="none", mec=COLORS["truth"], mew=2)
        plane.set_title("predicted in the ring, and read")
        png = print_figure(self._axes[0].figure, "png", dpi=80, bbox_inches=None, base64=True)
        self._image.source = f"data:image/png;base64,{png}"

    def _click(self, change: Any) -> None:
        at = self._axes[0].figure.transFigure.transform(change["new"])
        for ax in self._axes[:2]:
            if ax.bbox.contains(*at):
                column, row = ax.transData.inverted().transform(at)
                self.place = [min(max(round(n), 0), side - 1) for n, side in zip((row, column), self._other.shape)]
                self._draw()

    def _repr_mimebundle_(self, **options: Any) -> Any:
        picture = {"text/plain": "Explorer", "image/png": self._image.source.partition(",")[2]}
        return (super()._repr_mimebundle_(**options) or {}) | picture  # for a viewer that runs no widgets


def explore(picture: Picture, model: str | os.PathLike = "photos", regression: str | os.PathLike = "l2") -> Explorer:
    """A picture as `model`, a classification, and `regression` colour it, both what `Colorizer.load` takes.

    Sliders change temperature and strength of rebalancing; a click on a pixel shows what the model predicts for it, and
    which colour is read from that. For a viewer that runs nothing it is a figure.
    """
    return Explorer(picture, Colorizer.load(model, "cpu"), Colorizer.load(regression, "cpu"))
