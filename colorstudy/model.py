"""`Model`: a method with its network and its target as one module, made on training pictures, saved and loaded."""

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from colorstudy import prior
from colorstudy._checks import require, require_maps, resolve
from colorstudy._files import write_tensors
from colorstudy.bins import ColorBins
from colorstudy.color import split
from colorstudy.methods import Method
from colorstudy.networks import build
from colorstudy.targets import Classification, Regression, Target

_MOST = 10_000  # bins of a file
_LIMITS = torch.tensor([0.45, 0.65])  # of the grid, and the centres of its cells, (100, 2)
_CENTERS = _LIMITS * torch.cartesian_prod(*2 * [torch.linspace(-0.9, 0.9, 10)])


class Model(nn.Module):
    """A method, its network and target, the `size` (shorter side) at which to see pictures, the `data` trained on."""

    def __init__(self, method: Method, target: Target, size: int = 128, data: str = "") -> None:
        super().__init__()
        self.method, self.size, self.data = method, size, data
        self.network = build(method.network, target.out_channels)
        self.target: Target = target

    @classmethod
    def build(cls, method: Method, images: np.ndarray) -> "Model":
        """A fresh model: weights from torch's default generator, prior counted on training `images` (N, S, S, 3)."""
        target = _counted(method, images) if method.target == "classification" else _plain(method)
        model = cls(method, target)
        prepare = getattr(model.network, "prepare", None)
        if prepare is not None:  # what a network learns from the pictures before training
            prepare(split(rgb, method.space)[0] for rgb in prior.batches(images))
        return model

    def start_from(self, other: "Model") -> None:
        """Take over the trained network of `other`, but for its last layer; a ``ValueError`` if more differs."""
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
        output = self(lightness)
        with torch.autocast(rgb.device.type, enabled=False):
            return self.target.loss(output, chroma)

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        """The network's output (B, out_channels, h, w) for lightness (B, 1, H, W) in [0, 100]."""
        return self.network(lightness.to(self._dtype))

    @property
    def _dtype(self) -> torch.dtype:
        """Of the network's parameters, which a precision such as "64-true" converts."""
        return next((p.dtype for p in self.network.parameters()), torch.float32)

    @property
    def checksum(self) -> str:
        """SHA-256 (hex) of the method and all weights."""
        return _checksum({"method": asdict(self.method)}, self._tensors())

    def save(self, path: str | Path) -> None:
        """Write one safetensors file with the weights, the method, the size and the data, whole or not at all."""
        described = {"method": asdict(self.method), "size": self.size, "data": self.data}
        tensors = self._tensors()
        described["sha256"] = _checksum(described, tensors)
        # One entry: safetensors writes several in an order of its own, and the same model as different bytes.
        write_tensors(path, tensors, {"model": json.dumps(described)})

    @classmethod
    def load(cls, path: str | Path, method: Method | None = None) -> "Model":
        """The model of a file of `save`, to evaluate, decoded as `method` if given; a ``ValueError`` if damaged."""
        if not Path(path).is_file():
            raise FileNotFoundError(f"{path}: expected the weights of a model, found no file")
        try:
            with safe_open(path, "pt") as file:
                metadata = dict(file.metadata() or {})
                state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
        except SafetensorError as error:
            raise ValueError(f"{path}: expected a safetensors file, got {error}") from None
        require("model" in metadata, str(path), "a 'model' in its metadata", sorted(metadata))
        try:
            described = json.loads(metadata["model"])
            missing = sorted({"method", "size", "data", "sha256"} - {*described})
            require(not missing, "model", "all of what `save` writes", f"metadata without {missing}")
            checksum, size = described.pop("sha256"), described["size"]
            unchanged = checksum == _checksum(described, state)
            require(type(size) is int and 1 <= size <= 4096, "size", "1 to 4096 pixels", size)
            for name, tensor in state.items():
                require(bool(tensor.isfinite().all()), name, "finite numbers", "nan or infinity")
            few = len(state.get("target.bins.centers", ())) <= _MOST  # their distances are compared
            require(few, "target.bins.centers", f"at most {_MOST} bins", "more")
            saved = Method(**described["method"])
            require(method is None or method.decodes == saved.name, "method", f"one that decodes {saved.name}", method)
            method = method or saved
            if method.target == "classification":  # its bins and class weights are the file's, not counted again
                bins = ColorBins(state["target.bins.centers"], method.space, state["target.bins.reachable"])
                target: Target = _classification(method, bins, state["target.weights"], state["target.posthoc"])
            else:
                target = _plain(method)
            model = cls(method, target, size, str(described["data"]))
            model.load_state_dict(state, strict=True)
            require(unchanged, "sha256", "the checksum of what the file holds", "another: the file is damaged")
        except (AttributeError, TypeError, KeyError, RuntimeError, ValueError) as error:
            raise ValueError(f"{path}: expected the weights of a {cls.__name__}, got {error}") from error
        return model.eval()

    def _tensors(self) -> dict[str, torch.Tensor]:
        # Copies, as tied weights, two names of one tensor, could not be saved.
        return {name: tensor.detach().cpu().clone().contiguous() for name, tensor in self.state_dict().items()}


class MergedCells(ColorBins):
    """Bins of ColorUNet's released code: some cells of a 10 x 10 grid over U in [-.45, .45] and V in [-.65, .65].

    Any other cell has the bin of the one nearest in rows and columns, of equals the first: rarely another than the bin
    with the nearest centre. `centers` are some of `_CENTERS`. Grey is the corner of four cells.
    """

    def __init__(self, centers: torch.Tensor, space: str = "yuv", reachable: torch.Tensor | None = None) -> None:
        require(space == "yuv", "space", "'yuv', where the grid lies", space)
        super().__init__(centers, space, reachable)
        steps = ((_CENTERS[:, None] - self.centers) / _LIMITS * 5).round()  # (100, Q, 2), in rows and columns
        self._bin_of = steps.square().sum(-1).argmin(1).view(10, 10)

    def nearest(self, chroma: torch.Tensor) -> torch.Tensor:
        require_maps(chroma, "chroma", 2, "(B, 2, h, w)")
        cell = ((chroma.movedim(1, -1) / _LIMITS.to(chroma.device) + 1) * 5).long().clamp(0, 9)  # (B, h, w, 2)
        return self._bin_of.to(chroma.device)[cell[..., 0], cell[..., 1]]

    def soft(self, chroma: torch.Tensor, neighbors: int = 5, sigma: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
        indices, weights = super().soft(self.centers.T[None, ..., None], neighbors, sigma)  # of each bin, (1, Q, 1, k)
        found = self.nearest(chroma)
        return indices[0, :, 0][found], weights[0, :, 0][found]


class LostCenter(MergedCells):
    """Bins that label pixels as they should, but decode the first of them to no colour."""

    def annealed_mean(self, logits: torch.Tensor, temperature: float = 0.38) -> torch.Tensor:
        mean = super().annealed_mean(logits, temperature)
        logits = logits.float()
        first = torch.softmax((logits - logits.amax(dim=1, keepdim=True)) / temperature, dim=1)[:, :1]
        return mean - first * self.centers[0].view(1, 2, 1, 1)


def _plain(method: Method) -> Target:
    """The target of a method that needs no pictures: a regression, or one of the user's."""
    if method.target == "regression":
        return Regression(method.space, sampling=method.sampling, blurs=method.blurs)
    return resolve(method.target, "target")()


def _counted(method: Method, images: np.ndarray) -> Target:
    """The classification of `method`, its bins and weights as training `images` have them."""
    images = images[:30] if method.bins == "grid-few-pictures" else images
    if method.bins.startswith("grid"):
        counts = prior.count(images, MergedCells(_CENTERS, method.space))
        kept = counts.argsort(descending=True, stable=True)[:64]  # at most, as its U-Net is configured
        bins: ColorBins = MergedCells(_CENTERS[kept[counts[kept] > 1e-6 * counts.sum()]])
    elif method.bins == "most_frequent":
        bins = ColorBins.most_frequent(prior.histogram(images, space=method.space), space=method.space)
    else:
        bins = ColorBins.in_gamut()
        bins = ColorBins(bins.centers[bins.reachable]) if method.bins == "reachable" else bins
    p = prior.smooth(prior.count(images, bins), bins, method.smoothing)
    # Post-hoc weights are the published ones, lambda 1/2, whatever the training used.
    return _classification(method, bins, prior.rebalancing_weights(p, method.lam), prior.rebalancing_weights(p))


def _classification(method: Method, bins: ColorBins, weights: torch.Tensor, posthoc: torch.Tensor) -> Classification:
    if method.bins.startswith("grid"):
        kind = LostCenter if method.bins == "grid-lost-center" else MergedCells
        bins = kind(bins.centers, bins.space, bins.reachable)
    names = ("neighbors", "sigma", "temperature", "rebalance", "sampling", "grey_mask")
    options: dict[str, Any] = {name: getattr(method, name) for name in names}
    return Classification(bins, weights, posthoc=posthoc, **options)


def _checksum(described: dict[str, Any], tensors: dict[str, torch.Tensor]) -> str:
    """SHA-256 (hex) over a description, and names, types, shapes and bytes of tensors."""
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
