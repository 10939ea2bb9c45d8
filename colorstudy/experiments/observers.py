"""Machines that look at coloured pictures: one that names what it sees, and one that tells real from coloured.

Colours that fit make the first, trained on ImageNet, see what it sees in the truth. The second is asked the question of
the human trial, but sees other things than people do: it stands beside the trial, never in its place.
"""

from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy import prior
from colorstudy._checks import extra, require, require_choice
from colorstudy.networks import Trunk, lite0
from colorstudy.study.intervals import paired

with extra("study"):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler

NORMALISATIONS = {  # the two published scalings, mean and deviation, of the pixels that EfficientNet-Lite0 takes
    "centred": ([127 / 255] * 3, [128 / 255] * 3),  # (x - 127) / 128, of its authors' code for TPUs
    "imagenet": ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),  # in the package that holds the converted weights
}


@lru_cache
def classes() -> tuple[str, ...]:
    """The names of the 1,000 classes of ILSVRC 2012, in order: WordNet's first word for each."""
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


class Recognizer:
    """EfficientNet-Lite0 with its ImageNet weights: pictures in, probabilities of `classes` out."""

    def __init__(self, normalisation: str = "centred") -> None:
        require_choice(normalisation, NORMALISATIONS, "normalisation")
        self.network = lite0().requires_grad_(False).eval()
        self.mean, self.std = (torch.tensor(rgb).view(1, 3, 1, 1) for rgb in NORMALISATIONS[normalisation])

    @torch.inference_mode()
    def probabilities(self, images: prior.Pictures) -> torch.Tensor:
        """(N, 1000) of `images`, resized to 224 x 224 pixels as in its training."""
        scaled = ((_resized(rgb, 224) - self.mean) / self.std for rgb in prior.batches(images))
        return torch.cat([self.network(batch).softmax(1) for batch in scaled])


def recognition(of_truth: torch.Tensor, of_colored: torch.Tensor) -> pd.DataFrame:
    """How far a classifier sees in coloured pictures what it sees in the true ones, by probabilities (N, 1000) of both.

    A row a picture: ``label``, the likeliest class of the truth; ``top1`` and ``top5``, 1 where that is the first, or
    among the first five, when coloured; ``confidence`` and ``confidence_true``, its probability there and in the truth.
    """
    label = of_truth.argmax(1, keepdim=True)
    return pd.DataFrame({
        "label": [classes()[i] for i in label[:, 0]],
        "top1": (of_colored.argmax(1, keepdim=True) == label)[:, 0].double(),
        "top5": (of_colored.topk(5).indices == label).any(1).double(),
        "confidence": of_colored.gather(1, label)[:, 0],
        "confidence_true": of_truth.gather(1, label)[:, 0],
    })  # fmt: skip


class ColorFeatures:
    """The mean of each of the 192 channels that EfficientNet-Lite0 has at its four resolutions from 1/2 to 1/16.

    Colours and their edges in the first, parts of things in the last; few enough for a covariance of some hundred
    pictures. They are not Inception's, so a distance between them is no FID.
    """

    def __init__(self) -> None:
        self.trunk = Trunk()

    @torch.inference_mode()
    def of(self, images: prior.Pictures) -> torch.Tensor:
        """(N, 192) of `images`, resized to 128 x 128 pixels."""
        maps = (self.trunk(_resized(rgb, 128)) for rgb in prior.batches(images))
        return torch.cat([torch.cat([scale.mean((2, 3)) for scale in scales], dim=1) for scales in maps])


def two_alternative(true: torch.Tensor, colored: torch.Tensor, names: list[str], *, folds: int = 5) -> pd.DataFrame:
    """Whether a classifier picks the real one out of each pair: cross-validated, so that it never saw the pair before.

    Logistic regression on standardised features (N, D), trained on the pairs of the other folds, gives both pictures a
    score; the one with the higher score is picked. Columns ``image``, of the N `names`, and ``found``: 1 where the real
    one was picked, 0 where not, 0.5 for a tie. 0.5 on average is chance, 1 a colouring that always gives itself away.
    """
    n = len(true)
    require(true.shape == colored.shape, "colored", f"shape {tuple(true.shape)}", tuple(colored.shape))
    require(len(names) == n, "names", f"{n} of them", len(names))
    require(2 <= folds <= n, "folds", f"a number in [2, {n}]", folds)
    features = torch.cat([true, colored]).double().cpu().numpy()
    real, pairs = np.repeat([1, 0], n), np.tile(np.arange(n), 2)
    parts = GroupKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_predict(_classifier(0.01), features, real, groups=pairs, cv=parts, method="decision_function")
    return pd.DataFrame({"image": names, "found": (np.sign(scores[:n] - scores[n:]) + 1) / 2})


def frechet_distance(true: torch.Tensor, colored: torch.Tensor) -> float:
    """Distance of the Gaussians fitted to two sets of features (N, D): Heusel et al. 2017.

    |m - n|^2 + tr(A + B - 2 (A B)^1/2) of means m, n and covariances A, B. It is biased upward where pictures are few,
    so compare sets of one size only.
    """
    a, b = true.T.double().cov(), colored.T.double().cov()  # (D, D)
    means = (true.double().mean(0) - colored.double().mean(0)).square().sum()
    roots = torch.linalg.eigvals(a @ b).sqrt().real  # whose sum is the trace of the root
    return max(0.0, (means + a.trace() + b.trace() - 2 * roots.sum()).item())


def frechet_interval(true: torch.Tensor, colored: list[torch.Tensor], samples: int = 200) -> tuple[float, float, float]:
    """`frechet_distance`, corrected for its bias, with a 95 % interval over pictures and seeds: estimate, low and high.

    `true` (N, D) are features of pictures, `colored` those of their colourings by each seed. Few pictures make the
    distance too large, a resample, which repeats some, once more by about as much: the estimate is twice the mean
    distance minus the mean of the resamples, as in the basic bootstrap.
    """
    rng = np.random.default_rng(0)
    found = float(np.mean([frechet_distance(true, part) for part in colored]))
    draws = ((rng.integers(len(true), size=len(true)), rng.integers(len(colored))) for _ in range(samples))
    resampled = [frechet_distance(true[rows], colored[run][rows]) for rows, run in draws]
    corrected, low, high = (2 * found - x for x in (np.mean(resampled), *np.quantile(resampled, [0.975, 0.025])))
    return corrected, low, high


def probe(train: torch.Tensor, labels: list[str], test: torch.Tensor) -> np.ndarray:
    """The labels of features `test` (N, D) by a linear classifier fitted to features `train` with their `labels`."""
    return _classifier(0.1).fit(train.double().numpy(), labels).predict(test.double().numpy())


def helped_and_hurt(table: pd.DataFrame, against: pd.DataFrame) -> pd.DataFrame:
    """By what the classifier sees in the truth: how much surer of it a colouring makes it than another.

    Both tables are as of `recognition`, with columns ``image`` and ``seed``. A row for every class of two pictures or
    more, the most helped first, with ``shift`` (mean difference of ``confidence``), and its 95 % ``low`` and ``high``.
    """
    rows = []
    for label, part in table.groupby("label"):
        if part["image"].nunique() >= 2:
            other = against[against["image"].isin(part["image"])]
            found = paired(part, other, {"confidence": ("confidence", None)}).iloc[0]
            rows.append([label, *found[["images", "seeds", "mean", "low", "high"]]])
    shifts = pd.DataFrame(rows, columns=["label", "pictures", "seeds", "shift", "low", "high"])
    return shifts.sort_values("shift", ascending=False, ignore_index=True)


def _classifier(strength: float) -> Pipeline:
    """Logistic regression on standardised features; `strength` is the inverse of the regularisation."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def _resized(rgb: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(rgb, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
