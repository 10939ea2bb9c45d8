"""`Colorizer`: a trained method applied to pictures of any size and kind, in two halves: predict and render."""

import copy
import inspect
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F

from colorstudy._checks import require
from colorstudy.color import in_blocks, lightness_of, merge
from colorstudy.data.arrays import Picture, as_batch
from colorstudy.filters import downscale, joint_bilateral
from colorstudy.model import Model

WEIGHTS = Path(__file__).parent / "weights"
"""The trained models that come with the package, with a model card; `Colorizer.load` knows them by name."""


class Colorizer:
    """Colours pictures with a trained model.

    The network sees the picture at its working size, the scale at which training showed it pictures: `size`, by default
    the model's, is the shorter side in pixels; smaller pictures stay as they are. Its colours are then enlarged
    bilinearly and joined to the lightness of the full picture, so that no detail is lost. `options` are those of the
    target's ``decode``, instead of the method's own. `device` is a GPU by default, if there is one.
    """

    def __init__(
        self, model: Model, size: int | None = None, device: str | torch.device | None = None, **options: Any
    ) -> None:
        require(size is None or size >= 1, "size", "pixels >= 1", size)
        self.device = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
        self.model, self.size = model.to(self.device).eval(), size or model.size
        self.options = {name: value for name, value in options.items() if value is not None}
        known = dict([*inspect.signature(model.target.decode).parameters.items()][1:])  # but for the output
        named = not any(parameter.kind is parameter.VAR_KEYWORD for parameter in known.values())
        for name in self.options:
            kind = f"None, as {model.method.name} is a {model.method.target}"
            require(name in known or not named, name, kind, self.options[name])

    def __repr__(self) -> str:
        parts = [self.model.method.name, f"size={self.size}", f"device={str(self.device)!r}"]
        return f"Colorizer({', '.join(parts + [f'{k}={v}' for k, v in self.options.items()])})"

    @classmethod
    def load(cls, run_or_file: str | os.PathLike = "photos", device: str | torch.device | None = None) -> "Colorizer":
        """The colorizer of a finished run folder, or of a file of weights.

        ``"photos"``, ``"l2"``, ``"class"`` and ``"full"`` are models in `WEIGHTS`; a folder called so is ``"./full"``.
        If there is nothing, or it is not finished, that is a ``FileNotFoundError``; if no model, a ``ValueError``.
        """
        shipped = {file.stem: file for file in WEIGHTS.glob("*.safetensors")}
        path = shipped[run_or_file] if run_or_file in shipped else Path(run_or_file)
        return cls(Model.load(path / "model.safetensors" if path.is_dir() else path), device=device)

    def decoding(self, **options: Any) -> "Colorizer":
        """The same with other `options` of the target's ``decode``, such as temperature and rebalance."""
        other = copy.copy(self)
        Colorizer.__init__(other, self.model, self.size, self.device, **(self.options | options))
        return other

    @property
    def space(self) -> str:
        """Of the lightness that `predict` takes, and the chroma that `decode` gives."""
        return self.model.method.space

    @property
    def is_distribution(self) -> bool:
        """Whether `predict` gives distributions over colours, not colours."""
        return hasattr(self.model.target, "distribution")

    def colorize(
        self, image: Picture | Sequence[Picture], temperature: float | None = None, rebalance: float | None = None
    ) -> Any:
        """Colour a picture, a batch or a list of pictures; what colours they have are ignored.

        `image` is a path, a PIL image, an array or a tensor, uint8 or floats in [0, 1], as `data.arrays.as_batch` takes
        and gives it back. `temperature` and `rebalance` are those of `Classification.decode`; a regression has none.
        What cannot be taken is a ``FileNotFoundError``, ``TypeError`` or ``ValueError``.
        """
        if temperature is not None or rebalance is not None:
            return self.decoding(temperature=temperature, rebalance=rebalance).colorize(image)
        if isinstance(image, (list, tuple)):
            return [self.colorize(one) for one in image]
        rgb, restore = as_batch(image)  # type: ignore[arg-type]  # a str is a Sequence, too
        lightness, as_bytes = lightness_of(rgb.to(self.device), self.space), rgb.dtype == torch.uint8
        del rgb  # of a file of 100 megapixels 300 MB
        return restore(self.render(lightness, self.predict(lightness), as_bytes=as_bytes))

    @torch.no_grad()
    def predict(self, lightness: torch.Tensor) -> torch.Tensor:
        """The first half: what the network says of lightness (B, 1, H, W), chroma (B, 2, h, w) or a distribution."""
        output = self.model(downscale(lightness, self.size / min(lightness.shape[-2:])))
        with torch.autocast(lightness.device.type, enabled=False):
            if self.is_distribution:
                return self.model.target.distribution(output)  # type: ignore[attr-defined]  # asked above
            return self.model.target.decode(output, **self.options)

    @torch.no_grad()
    def decode(self, prediction: torch.Tensor) -> torch.Tensor:
        """Chroma (B, 2, h, w), in the method's space, of what `predict` gave."""
        if not self.is_distribution:
            return prediction
        with torch.autocast(prediction.device.type, enabled=False):
            logits = prediction.clamp(min=torch.finfo(prediction.dtype).tiny).log()
            return self.model.target.decode(logits, **self.options)

    @torch.no_grad()
    def render(self, lightness: torch.Tensor, prediction: torch.Tensor, *, as_bytes: bool = False) -> torch.Tensor:
        """sRGB (B, 3, H, W) in [0, 1], or uint8, of lightness (B, 1, H, W) and what `predict` said: the second half."""
        chroma = self.decode(prediction)
        if self.model.method.bilateral > 0:
            guide = F.adaptive_avg_pool2d(lightness, (chroma.shape[-2], chroma.shape[-1]))
            chroma = joint_bilateral(chroma, guide, sigma_lightness=self.model.method.bilateral)
        # Two maps to enlarge bilinearly, instead of Q of a distribution: columns here, rows some at a time.
        (height, width), h = lightness.shape[-2:], chroma.shape[-2]
        chroma = F.interpolate(chroma, (h, width), mode="bilinear")  # (B, 2, h, W)
        places = ((torch.arange(height, device=chroma.device) + 0.5) * (h / height) - 0.5).clamp(0, h - 1)  # among h

        def convert(lightness: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
            upper = places.flatten().long()
            first, second = (chroma.index_select(-2, rows.clamp(max=h - 1)) for rows in (upper, upper + 1))
            rgb = merge(lightness, torch.lerp(first, second, places.frac().to(chroma.dtype)), self.space)
            return torch.stack((rgb * 255).round_().int().byte().unbind(1), -1).movedim(-1, 1) if as_bytes else rgb

        return in_blocks(convert, lightness, places[:, None])
