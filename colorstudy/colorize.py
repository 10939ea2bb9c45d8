"""`Colorizer`: a trained method applied to a picture of any size and kind."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from colorstudy import release
from colorstudy._checks import require, require_maps
from colorstudy.color import merge, split
from colorstudy.data import read
from colorstudy.filters import shrunk
from colorstudy.methods import Model

WEIGHTS = Path(__file__).parent / "weights"
"""The trained models that come with the package, with a model card; `Colorizer.load` knows them by name."""

Smooth = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Of lightness (B, 1, H, W) and of maps (B, C, h, w) that can be averaged, the average with those of frames before."""


class Colorizer:
    """Colours pictures with a trained model.

    The network sees the picture at its working size, the scale at which training showed it pictures; its colours are
    then enlarged bilinearly and joined to the lightness of the full picture, so that no detail is lost.

    Parameters
    ----------
    model : Model
    size : int
        Working size: the shorter side, in pixels, at which the network sees a picture. Smaller pictures stay as they
        are.
    device : str or torch.device, optional
        A GPU where there is one, by default.
    """

    def __init__(self, model: Model, size: int = 128, device: str | torch.device | None = None) -> None:
        require(size >= 1, "size", "pixels >= 1", size)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.size = model.to(self.device).eval(), size

    @classmethod
    def load(cls, run_or_file: str | os.PathLike, device: str | torch.device | None = None) -> Colorizer:
        """The colorizer of a finished run folder, of a safetensors file of weights, or of a released ``.pth`` file.

        ``"full"`` and ``"l2"`` are the models in `WEIGHTS`, unless there are runs or files of these names.

        Raises
        ------
        FileNotFoundError
            If there is no such run or file, or the run is not finished.
        ValueError
            If the file holds no model of ours, or is not the release that its name says (see `release.load`).
        """
        path = Path(run_or_file)
        if not path.exists():
            path = {file.stem: file for file in WEIGHTS.glob("*.safetensors")}.get(str(run_or_file), path)
        if path.is_dir():
            if not (path / "model.safetensors").exists():
                raise FileNotFoundError(f"run_or_file: expected a finished run, found no model.safetensors in {path}")
            path = path / "model.safetensors"
        model = release.load(path) if path.suffix == ".pth" else Model.load(path)
        return cls(model, int(model.notes.get("size", 128)), device)

    def colorize(
        self,
        image: str | os.PathLike | Image.Image | np.ndarray | torch.Tensor,
        temperature: float | None = None,
        rebalance: float | None = None,
        smoother: Smooth | None = None,
    ) -> np.ndarray | torch.Tensor:
        """Colour a picture; what colours it has are ignored.

        Parameters
        ----------
        image : path, PIL image, uint8 array (H, W) or (H, W, 3), or tensor (B, 3, H, W) in [0, 1]
            Gamma-encoded sRGB, grey or not.
        temperature : float, optional
            Of the annealed mean, > 0, instead of the method's own; a regression has none.
        rebalance : float, optional
            Rebalancing after training, >= 0, instead of the method's own; see `Classification.decode`.
        smoother : callable, optional
            The `temporal.Smoother` of the clip that `image` is the next frame of.

        Returns
        -------
        uint8 array (H, W, 3), or float32 tensor (B, 3, H, W) for a tensor

        Raises
        ------
        FileNotFoundError, ValueError
            If `image` cannot be read, or has another shape.
        TypeError
            If `image` is of another kind.
        """
        options = {"temperature": temperature, "rebalance": rebalance, "smoother": smoother}
        if isinstance(image, torch.Tensor):
            require_maps(image, "image", 3, "(B, 3, H, W)")
            require(image.ndim == 4 and image.numel() > 0, "image", "shape (B, 3, H, W), not empty", tuple(image.shape))
            return self._colorize(image.to(self.device).float(), options).to(image.device)
        if isinstance(image, (str, os.PathLike)):
            image = read(image)
        pixels = np.asarray(image.convert("RGB") if isinstance(image, Image.Image) else image)
        if not isinstance(image, (np.ndarray, Image.Image)) or pixels.dtype != np.uint8:
            kind = f"an array of {pixels.dtype}" if isinstance(image, np.ndarray) else type(image).__name__
            raise TypeError(f"image: expected a path, a PIL image, a uint8 array or a float tensor, got {kind}")
        if pixels.ndim == 2:
            pixels = np.repeat(pixels[..., None], 3, axis=2)
        valid = pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size > 0
        require(valid, "image", "shape (H, W) or (H, W, 3), not empty", pixels.shape)
        rgb = torch.from_numpy(pixels.copy()).to(self.device).permute(2, 0, 1).contiguous()[None]
        if self.model.method.space != "lab":  # which takes bytes as they are
            rgb = rgb / 255
        with torch.inference_mode():
            colored = self._colorize(rgb, options)[0].mul_(255).round_().byte()  # in place: a picture may be large
        return colored.permute(1, 2, 0).contiguous().cpu().numpy()

    def chroma(self, lightness: torch.Tensor, smoother: Smooth | None = None, **options: float | None) -> torch.Tensor:
        """Chroma (B, 2, H, W), in the method's space, for lightness (B, 1, H, W) in [0, 100] of that space.

        `smoother` is as in `colorize`. `options` go to the target's ``decode``; those that are None are left to the
        method.
        """
        smooth = smoother and partial(smoother, lightness)
        options = {name: value for name, value in options.items() if value is not None}
        if options and self.model.method.target == "regression":
            name, value = next(iter(options.items()))
            raise ValueError(f"{name}: expected None, as {self.model.method.name} is a regression, got {value}")
        return self.model(self.at_working_size(lightness), lightness.shape[-2:], smooth, **options)

    def at_working_size(self, lightness: torch.Tensor) -> torch.Tensor:
        """What the network sees of lightness (B, 1, H, W): the same, or smaller."""
        return shrunk(lightness, self.size / min(lightness.shape[-2:]))

    @torch.inference_mode()
    def _colorize(self, rgb: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
        space = self.model.method.space
        lightness, _ = split(rgb, space)
        return merge(lightness, self.chroma(lightness, **options), space)
