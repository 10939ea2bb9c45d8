"""`Method`: network x target x decoding under one name, and the named methods of the study."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import nn

from colorstudy import prior
from colorstudy._checks import require
from colorstudy._files import write_tensors
from colorstudy.bins import ColorBins
from colorstudy.color import check_space, split
from colorstudy.data.batches import AUGMENTATIONS
from colorstudy.faults import FAULTS, FEW, LostCenter, freeze_norms
from colorstudy.filters import joint_bilateral
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
    blurs : tuple of int
        Of a regression: widths of the blurs under which the error counts as well; see `Regression`.
    bilateral : float
        Width, in lightness units, of the joint bilateral filter over the decoded colours; 0 for none.
    augmentation : {"none", "crops", "views"}
        How training shows a picture: whole, by random windows and flips, or by the seven views of Billaut et al. 2018;
        see `data.batch`.
    start : str
        Name of the method whose trained network, but for its last layer, training starts from; "" for none.
    fault : str
        One of `FAULTS`, to measure it; "" for none.

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
    blurs: tuple[int, ...] = ()
    bilateral: float = 0.0
    augmentation: str = "crops"
    start: str = ""
    fault: str = ""

    def __post_init__(self) -> None:
        check_space(self.space)
        choices = {"target": ["regression", "classification"], "network": sorted(NETWORKS)}
        choices |= {"bins": ["in_gamut", "reachable", "most_frequent"], "sampling": ["area", "point"]}
        choices |= {"augmentation": list(AUGMENTATIONS), "fault": ["", *FAULTS]}
        for field, allowed in choices.items():
            require(getattr(self, field) in allowed, field, f"one of {allowed}", repr(getattr(self, field)))
        require(0 <= self.lam <= 1, "lam", "a share in [0, 1]", self.lam)
        require(self.neighbors >= 1, "neighbors", "an integer >= 1", self.neighbors)
        for name in ("smoothing", "rebalance", "grey_mask", "bilateral"):
            require(getattr(self, name) >= 0, name, "a number >= 0", getattr(self, name))
        for name in ("sigma", "temperature"):
            require(getattr(self, name) > 0, name, "a number > 0", getattr(self, name))
        object.__setattr__(self, "blurs", tuple(self.blurs))  # a list, where it comes from a file

    def build(self, images: np.ndarray) -> Model:
        """A fresh model, its weights drawn from torch's default generator, its prior counted on training `images`.

        Parameters
        ----------
        images : uint8 array (N, S, S, 3)
        """
        model = Model(self, self._regression() if self.target == "regression" else self._counted(images))
        model.network.prepare(split(rgb, self.space)[0] for rgb in prior.batches(images))
        return model

    def _regression(self) -> Regression:
        return Regression(self.space, sampling=self.sampling, blurs=self.blurs)

    def _counted(self, images: np.ndarray) -> Classification:
        """Bins and weights as training `images` have them."""
        if self.bins == "most_frequent":
            chosen = images[:FEW] if self.fault == "few-pictures" else images
            bins = ColorBins.most_frequent(prior.histogram(chosen, space=self.space), space=self.space)
        else:
            bins = ColorBins.in_gamut()
            bins = ColorBins(bins.centers[bins.reachable]) if self.bins == "reachable" else bins
        p = prior.smooth(prior.count(images, bins), bins, self.smoothing)
        # Post-hoc weights are the published ones, lambda 1/2, whatever the training used.
        return self._classification(bins, prior.rebalancing_weights(p, self.lam), prior.rebalancing_weights(p))

    def _classification(self, bins: ColorBins, weights: torch.Tensor, posthoc: torch.Tensor) -> Classification:
        if self.fault == "lost-center":
            bins = LostCenter(bins.centers, bins.space, bins.reachable)
        names = ("neighbors", "sigma", "temperature", "rebalance", "sampling", "grey_mask")
        return Classification(bins, weights, posthoc=posthoc, **{name: getattr(self, name) for name in names})


METHODS = {
    method.name: method
    for method in (
        # The four of Zhang et al. 2016 that the study compares, on our own network.
        Method("l2", "regression"),
        Method("l2-ft", "regression", start="full"),
        Method("class", "classification"),
        Method("full", "classification", lam=0.5),
        # The same training as `class`, rebalanced when decoding.
        Method("class-posthoc", "classification", rebalance=1.0),
        # The four of their table on the published network, and on its small twin, which a laptop trains.
        *(
            method
            for network in ("zhang", "zhang-small")
            for method in (
                Method(f"{network}-l2", "regression", network),
                Method(f"{network}-l2-ft", "regression", network, start=f"{network}-full"),
                Method(f"{network}-class", "classification", network),
                Method(f"{network}-full", "classification", network, lam=0.5),
            )
        ),
        # Dahl 2016 and Cheng et al. 2015: regression of UV on features of a network trained on ImageNet.
        Method("dahl", "regression", "dahl", "yuv", blurs=(3, 5)),
        Method("cheng", "regression", "cheng", "yuv", bilateral=10.0),
        # Billaut et al. 2018: YUV, 32 bins, one-hot targets, weighted; the width of the smoothing is our choice.
        *(
            Method(network, "classification", network, "yuv", "most_frequent", 0.5, 0.05, 1, 0.05, augmentation="views")
            for network in ("colorunet", "convnet")
        ),
    )
}
"""The named methods of the study; `VARIANTS` adds its own."""


@dataclass(frozen=True)
class Variant:
    """A method that differs from another in one point, so that the difference of their scores is the point's effect."""

    base: str
    group: str
    """Of the table that it belongs to."""
    words: str
    """What is different."""
    changes: dict[str, Any]


VARIANTS = {
    "full-10-neighbors": Variant("full", "released code", "10 neighbours instead of 5", {"neighbors": 10}),
    "full-point": Variant("full", "released code", "every fourth pixel instead of means", {"sampling": "point"}),
    "full-grey-mask": Variant("full", "released code", "no loss on grey pictures", {"grey_mask": 5.0}),
    "full-unsmoothed": Variant("full", "released code", "prior not smoothed", {"smoothing": 0.0}),
    "full-261": Variant("full", "released code", "the 261 reachable bins instead of 313", {"bins": "reachable"}),
    **{
        f"{base}-unaugmented": Variant(base, "augmentation", "whole pictures only", {"augmentation": "none"})
        for base in ("l2", "class", "full", "colorunet")
    },
    **{
        f"cheng-{name}": Variant("cheng", "parts of Cheng et al.", words, {"network": f"cheng-{name}"})
        for name, words in {
            "no-patch": "no grey patch",
            "no-daisy": "no DAISY",
            "no-semantic": "no semantic features",
            "one-cluster": "one network for all pictures",
        }.items()
    },
    "cheng-no-filter": Variant("cheng", "parts of Cheng et al.", "no joint bilateral filter", {"bilateral": 0.0}),
    **{
        f"colorunet-{fault}": Variant("colorunet", "faults of ColorUNet's code", words, {"fault": fault})
        for fault, words in FAULTS.items()
    },
    "colorunet-lambda": Variant("colorunet", "faults of ColorUNet's code", "lambda 0.2 instead of 0.5", {"lam": 0.2}),
}
"""Every switch of the ablation tables: a method of that name, and what it is compared with."""

METHODS |= {name: replace(METHODS[v.base], name=name, **v.changes) for name, v in VARIANTS.items()}


class Model(nn.Module):
    """A method with its network and its target: loss while training, colours while colouring."""

    def __init__(self, method: Method, target: Regression | Classification) -> None:
        super().__init__()
        self.method = method
        self.network = build(method.network, target.out_channels)
        self.target = target

    def train(self, mode: bool = True) -> Model:
        super().train(mode)
        if self.method.fault == "frozen-norm":
            freeze_norms(self.network)
        return self

    def start_from(self, other: Model) -> None:
        """Take over the trained network of `other`, but for its last layer, whose maps mean something else.

        Raises
        ------
        ValueError
            If the networks differ in more than that layer.
        """
        own, theirs = self.network.state_dict(), other.network.state_dict()
        shared = {name: theirs[name] for name in own if name in theirs and own[name].shape == theirs[name].shape}
        new = {name.rpartition(".")[0] for name in own.keys() - shared.keys()}
        require(len(new) <= 1, "start", f"the network of {self.method.name}, {self.method.network}, but for one layer",
                f"{other.method.name}, {other.method.network}")  # fmt: skip
        self.network.load_state_dict(own | shared)

    def loss(self, rgb: torch.Tensor) -> torch.Tensor:
        """Training loss () of sRGB pictures (B, 3, H, W) in [0, 1]."""
        # Under autocast only the network may lose precision: the colours themselves are data.
        with torch.autocast(rgb.device.type, enabled=False):
            lightness, chroma = split(rgb.to(torch.promote_types(rgb.dtype, self._dtype)), self.method.space)
        output = self.network(lightness.to(self._dtype))
        with torch.autocast(rgb.device.type, enabled=False):
            return self.target.loss(output, chroma)

    def forward(
        self,
        lightness: torch.Tensor,
        size: tuple[int, int] | None = None,
        smooth: Callable[[torch.Tensor], torch.Tensor] | None = None,
        **options: float,
    ) -> torch.Tensor:
        """Chroma of lightness (B, 1, H, W) in [0, 100], as (B, 2, *size), the size of `lightness` by default.

        `smooth` replaces what of the network's output can be averaged, a distribution or a colour (B, C, h, w), by its
        average with that of other frames. `options` go to the target's ``decode``.
        """
        output = self.network(lightness.to(self._dtype))
        with torch.autocast(lightness.device.type, enabled=False):
            if smooth is not None:
                output = self.target.unmixed(smooth(self.target.mixable(output)))
            chroma = self.target.decode(output, **options)
            if self.method.bilateral > 0:
                guide = F.adaptive_avg_pool2d(lightness, chroma.shape[-2:])
                chroma = joint_bilateral(chroma, guide, sigma_lightness=self.method.bilateral)
        # Colours are decoded first, at the network's own size: two maps to enlarge instead of Q.
        return F.interpolate(chroma, size or lightness.shape[-2:], mode="bilinear", align_corners=False)

    @property
    def _dtype(self) -> torch.dtype:
        """Of the network's parameters, which a precision such as "64-true" converts."""
        return next((p.dtype for p in self.network.parameters()), torch.float32)

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) of the method and all weights."""
        return _checksum(
            asdict(self.method), {name: tensor.detach().cpu() for name, tensor in self.state_dict().items()}
        )

    def save(self, path: str | Path, **notes: str) -> None:
        """Write one safetensors file with the weights, the method and `notes`, whole or not at all."""
        tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in self.state_dict().items()}
        described = asdict(self.method) | {"notes": notes}
        described["sha256"] = _checksum(described, tensors)
        # One entry: safetensors writes several in an order of its own, and the same model as different bytes.
        write_tensors(path, tensors, {"method": json.dumps(described)})

    @classmethod
    def load(cls, path: str | Path) -> Model:
        """The model of a file that `save` wrote, in evaluation mode; `notes` becomes a dict of its other metadata.

        Raises
        ------
        FileNotFoundError
            If there is no such file.
        ValueError
            If it is no such file, weights are missing, spare or of another shape, or a bit of it was changed since.
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
            checksum = described.pop("sha256", None)
            unchanged = checksum is None or checksum == _checksum(described, state)
            notes = described.pop("notes", {})
            method = Method(**described)
            model = cls(method, _restored_target(method, state))
            model.load_state_dict(state, strict=True)
            require(unchanged, "sha256", "the checksum of what the file holds", "another: the file is damaged")
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


def _checksum(described: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 (hex) over a method with its notes, and names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _restored_target(method: Method, state: dict[str, torch.Tensor]) -> Regression | Classification:
    """The target of saved weights: bins and class weights are theirs, not counted again."""
    if method.target == "regression":
        return method._regression()
    bins = ColorBins(state["target.bins.centers"], method.space, state["target.bins.reachable"])
    return method._classification(bins, state["target.weights"], state["target.posthoc"])
