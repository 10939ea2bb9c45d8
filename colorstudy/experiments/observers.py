"""Machines that look at coloured pictures: one that names what it sees, and one that tells real from coloured.

Colours that fit make the first, trained on ImageNet, see what it sees in the truth. The second is asked the question of
the human trial, but sees other things than people do: it stands beside the trial, never in its place.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy import prior
from colorstudy._checks import extra, require
from colorstudy.color import merge, split, to_tensor
from colorstudy.data import ImageBank
from colorstudy.networks import Trunk, lite0
from colorstudy.study import grid
from colorstudy.study.run import Run

with extra("study"):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import Pipeline, make_pipeline
    from sklearn.preprocessing import StandardScaler


@lru_cache
def classes() -> tuple[str, ...]:
    """The names of the 1,000 classes of ILSVRC 2012, in order: WordNet's first word for each."""
    return tuple(Path(__file__).with_name("imagenet_classes.txt").read_text(encoding="utf-8").splitlines())


class Recognizer:
    """EfficientNet-Lite0 with its ImageNet weights: pictures in, probabilities of `classes` out."""

    def __init__(self) -> None:
        self.network = lite0().requires_grad_(False).eval()

    @torch.inference_mode()
    def probabilities(self, images: prior.Pictures) -> torch.Tensor:
        """(N, 1000) of `images`, resized to 224 x 224 pixels as in its training, and scaled as in its authors' code."""
        scaled = ((_resized(rgb, 224) - 127 / 255) * (255 / 128) for rgb in prior.batches(images))
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

    Colours and their edges in the first, parts of things in the last.
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


def semantics(runs: Sequence[Run], bank: ImageBank, most: int) -> pd.DataFrame:
    """`recognition` of `most` test pictures as `runs` colour them, and ``shift``: how much surer than of the truth."""
    names, true = _shown(bank.test, most)
    network, parts = Recognizer(), []
    truth = network.probabilities(true)
    for method, seed, colored in _painted(runs, bank, true):
        parts.append(recognition(truth, network.probabilities(colored)).assign(image=names, method=method, seed=seed))
    table = pd.concat(parts, ignore_index=True)
    return table.assign(shift=table["confidence"] - table["confidence_true"])


def observed(runs: Sequence[Run], bank: ImageBank, most: int, *, folds: int = 5, coarse: int = 5) -> pd.DataFrame:
    """`two_alternative` of `most` test pictures as `runs` colour them: ``found`` against the truth.

    And ``found_coarse`` against the control, "coarse truth": true colours averaged over squares of `coarse` pixels and
    enlarged again, as those of networks are.
    """
    names, true = _shown(bank.test, most)
    network, folds = ColorFeatures(), min(folds, len(names))
    lightness, chroma = split(true)
    blurred = F.interpolate(F.avg_pool2d(chroma, coarse), true.shape[-2:], mode="bilinear")
    looks = [("coarse truth", 0, _rounded(merge(lightness, blurred))), *_painted(runs, bank, true)]
    real, control = network.of(true), network.of(looks[0][2])
    parts = []
    for method, seed, look in looks:
        features = network.of(look)
        found = two_alternative(real, features, names, folds=folds).assign(method=method, seed=seed)
        parts.append(found.assign(found_coarse=two_alternative(control, features, names, folds=folds)["found"]))
    return pd.concat(parts, ignore_index=True)


def _shown(bank: ImageBank, most: int) -> tuple[list[str], torch.Tensor]:
    """The names of at most `most` pictures of a bank, evenly spaced, and the pictures (N, 3, H, W)."""
    chosen = np.unique(np.linspace(0, len(bank) - 1, min(most, len(bank))).round().astype(int))
    return [bank.names[i] for i in chosen], to_tensor(bank.images[chosen])


def _painted(runs: Sequence[Run], bank: ImageBank, images: torch.Tensor) -> Iterator[tuple[str, int, torch.Tensor]]:
    """Method and seed of each run, and `images` (N, 3, H, W) as it colours them, in steps of 1 / 255."""
    for run in runs:
        painter = grid.colorizer_of(run, bank)
        colored = torch.cat([painter.colorize(batch) for batch in images.split(16)])
        yield run.method, run.seed, _rounded(colored)


def _rounded(rgb: torch.Tensor) -> torch.Tensor:
    """In steps of 1 / 255, as true pictures are: a machine could see that too."""
    return (rgb * 255).round() / 255


def _classifier(strength: float) -> Pipeline:
    """Logistic regression on standardised features; `strength` is the inverse of the regularisation."""
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def _resized(rgb: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(rgb, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
