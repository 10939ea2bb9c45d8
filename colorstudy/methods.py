"""`Method`: network x target x decoding under one name, and the named methods of the study."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from colorstudy import prior
from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.bins import ColorBins
from colorstudy.color import check_space, split
from colorstudy.networks import NETWORKS, build
from colorstudy.targets import Classification, Regression


@dataclass(frozen=True)
class Method:
    """A row of the paper's table.

    Parameters
    ----------
    name : str
    target : {"regression", "classification"}
    network : str
        A name that `networks.build` knows.
    space : {"lab", "yuv"}
    bins : {"in_gamut", "reachable", "most_frequent"}
        Of a classification: the 313 of Zhang et al., the 261 of them that are some colour's nearest, or the 32 most
        frequent of the training pictures.
    lam : float
        Of a classification: lambda of the rebalancing weights, in [0, 1]; 1 is no rebalancing.
    smoothing : float
        Of a classification: width of the Gaussian that smooths the prior, in chroma units.
    neighbors, sigma : int, float
        Of a classification: the soft target.
    temperature : float
        Of a classification: the annealed mean, unless colouring asks for another.
    rebalance : float
        Of a classification: s, how much of the rebalancing is made up for after training, unless colouring asks for
        another; see `Classification.decode`.
    sampling : {"area", "point"}
        How the truth comes to the size of the network's output; see `Regression`.
    grey_mask : float
        Of a classification: pictures with no chroma above it count nothing; 0 counts all.

    Raises
    ------
    ValueError
        If a value is outside of its range.
    """

    name: str
    target: str
    network: str = "compact"
    space: str = "lab"
    bins: str = "in_gamut"
    lam: float = 1.0
    smoothing: float = 5.0
    neighbors: int = 5
    sigma: float = 5.0
    temperature: float = 0.38
    rebalance: float = 0.0
    sampling: str = "area"
    grey_mask: float = 0.0

    def __post_init__(self) -> None:
        check_space(self.space)
        choices = {"target": ["regression", "classification"], "network": sorted(NETWORKS)}
        choices |= {"bins": ["in_gamut", "reachable", "most_frequent"], "sampling": ["area", "point"]}
        for field, allowed in choices.items():
            require(getattr(self, field) in allowed, field, f"one of {allowed}", repr(getattr(self, field)))
        require(0 <= self.lam <= 1, "lam", "a share in [0, 1]", self.lam)
        require(self.neighbors >= 1, "neighbors", "an integer >= 1", self.neighbors)
        for name in ("smoothing", "rebalance", "grey_mask"):
            require(getattr(self, name) >= 0, name, "a number >= 0", getattr(self, name))
        for name in ("sigma", "temperature"):
            require(getattr(self, name) > 0, name, "a number > 0", getattr(self, name))

    def build(self, images: np.ndarray) -> Model:
        """A fresh model, its weights drawn from torch's default generator, its prior counted on training `images`.

        Parameters
        ----------
        images : uint8 array (N, S, S, 3)
        """
        if self.target == "regression":
            return Model(self, Regression(self.space, sampling=self.sampling))
        if self.bins == "most_frequent":
            bins = ColorBins.most_frequent(prior.histogram(images, space=self.space), space=self.space)
        else:
            bins = ColorBins.in_gamut()
            bins = ColorBins(bins.centers[bins.reachable]) if self.bins == "reachable" else bins
        p = prior.smooth(prior.count(images, bins), bins, self.smoothing)
        # Post-hoc weights are the published ones, lambda 1/2, whatever the training used.
        return Model(
            self, self._classification(bins, prior.rebalancing_weights(p, self.lam), prior.rebalancing_weights(p))
        )

    def _classification(self, bins: ColorBins, weights: torch.Tensor, posthoc: torch.Tensor) -> Classification:
        names = ("neighbors", "sigma", "temperature", "rebalance", "sampling", "grey_mask")
        return Classification(bins, weights, posthoc=posthoc, **{name: getattr(self, name) for name in names})


METHODS = {
    method.name: method
    for method in (
        # The three of Zhang et al. 2016 that the study compares, on our own network.
        Method("l2", "regression"),
        Method("class", "classification"),
        Method("full", "classification", lam=0.5),
        # The same training as `class`, rebalanced when decoding.
        Method("class-posthoc", "classification", rebalance=1.0),
        # The same three on the published network.
        Method("zhang-l2", "regression", "zhang"),
        Method("zhang-class", "classification", "zhang"),
        Method("zhang-full", "classification", "zhang", lam=0.5),
        # Billaut et al. 2018: YUV, 32 bins, one-hot targets, weighted; the width of the smoothing is our choice.
        Method("colorunet", "classification", "colorunet", "yuv", "most_frequent", 0.5, 0.05, 1, 0.05),
        Method("convnet", "classification", "convnet", "yuv", "most_frequent", 0.5, 0.05, 1, 0.05),
    )
}
"""The named methods of the study.

Another network is ``dataclasses.replace(METHODS["zhang-full"], network="zhang-small")``, the twin that a laptop trains.
"""


class Model(nn.Module):
    """A method with its network and its target: loss while training, colours while colouring."""

    def __init__(self, method: Method, target: Regression | Classification) -> None:
        super().__init__()
        self.method = method
        self.network = build(method.network, target.out_channels)
        self.target = target

    def loss(self, rgb: torch.Tensor) -> torch.Tensor:
        """Training loss () of sRGB pictures (B, 3, H, W) in [0, 1]."""
        # Under autocast only the network may lose precision: the colours themselves are data.
        with torch.autocast(rgb.device.type, enabled=False):
            lightness, chroma = split(rgb, self.method.space)
        output = self.network(lightness)
        with torch.autocast(rgb.device.type, enabled=False):
            return self.target.loss(output, chroma)

    def forward(self, lightness: torch.Tensor, size: tuple[int, int] | None = None, **options: float) -> torch.Tensor:
        """Chroma of lightness (B, 1, H, W) in [0, 100], as (B, 2, *size), the size of `lightness` by default.

        `options` go to the target's ``decode``.
        """
        output = self.network(lightness)
        with torch.autocast(lightness.device.type, enabled=False):
            chroma = self.target.decode(output, **options)
        # Colours are decoded first, at the network's own size: two maps to enlarge instead of Q.
        return F.interpolate(chroma, size or lightness.shape[-2:], mode="bilinear", align_corners=False)

    def save(self, path: str | Path, **notes: str) -> None:
        """Write one safetensors file with the weights, the method and `notes`, whole or not at all."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        with replacing(path) as temporary:
            # One entry: safetensors writes several in an order of its own, and the same model as different bytes.
            save_file(tensors, temporary, {"method": json.dumps(asdict(self.method) | {"notes": notes})})

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """The model of a file that `save` wrote, in evaluation mode; `notes` becomes a dict of its other metadata.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no such file, or weights are missing, spare or of another shape.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: expected the weights of a model, found no file")
        try:
            with safe_open(path, "pt") as file:
                notes = dict(file.metadata() or {})
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except SafetensorError as error:
            raise ValueError(f"{path}: expected a safetensors file, got {error}") from None
        require("method" in notes, str(path), "a 'method' in its metadata", sorted(notes))
        try:
            described = json.loads(notes["method"])
            notes = described.pop("notes", {})
            method = Method(**described)
            model = cls(method, _restored_target(method, state))
            model.load_state_dict(state, strict=True)
        except (AttributeError, TypeError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path}: expected the weights of a {cls.__name__}, got {error}") from None
        model.notes = notes
        return model.eval()


def get(method: str | Method) -> Method:
    """The method of that name, or `method` itself."""
    if isinstance(method, Method):
        return method
    require(method in METHODS, "method", f"one of {list(METHODS)}", repr(method))
    return METHODS[method]


def _restored_target(method: Method, state: dict[str, torch.Tensor]) -> Regression | Classification:
    """The target of saved weights: bins and class weights are theirs, not counted again."""
    if method.target == "regression":
        return Regression(method.space, sampling=method.sampling)
    bins = ColorBins(state["target.bins.centers"], method.space, state["target.bins.reachable"])
    return method._classification(bins, state["target.weights"], state["target.posthoc"])
