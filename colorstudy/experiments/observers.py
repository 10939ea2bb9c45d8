"""Machines that look at coloured pictures: one that names what it sees, and one that tells real from coloured.

Colours that fit make the first, trained on ImageNet, see what it sees in the truth. The second is asked the question of
the human trial, but sees other things than people do: it stands beside the trial, never in its place.
"""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy import prior
from colorstudy._checks import extra
from colorstudy.color import merge, split, to_tensor, to_uint8
from colorstudy.data import ImageBank
from colorstudy.networks import Trunk, lite0
from colorstudy.study import grid
from colorstudy.study.evaluation import ColorizerLike
from colorstudy.study.run import Run

with extra("study"):
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler


@torch.inference_mode()
def recognized(images: prior.Pictures) -> torch.Tensor:
    """Probabilities (N, 1000) of the classes of ILSVRC 2012 in `images`, by EfficientNet-Lite0 as trained on ImageNet.

    They are resized to 224 x 224 pixels as in its training, and scaled as in its authors' code.
    """
    network = lite0().eval()
    scaled = ((_resized(rgb, 224) - 127 / 255) * (255 / 128) for rgb in prior.batches(images))
    return torch.cat([network(batch).softmax(1) for batch in scaled])


def recognition(of_truth: torch.Tensor, of_colored: torch.Tensor) -> pd.DataFrame:
    """How far a classifier sees in coloured pictures what it sees in the true ones, by probabilities (N, 1000) of both.

    A row a picture: ``top1`` and ``top5``, 1 where the likeliest class of the truth is the first, or among the first
    five, when coloured; ``shift``, by how much its probability is greater than in the truth.
    """
    label = of_truth.argmax(1, keepdim=True)
    found = of_colored.topk(5).indices == label  # (N, 5)
    shift = of_colored.gather(1, label) - of_truth.gather(1, label)
    return pd.DataFrame({"top1": found[:, 0].double(), "top5": found.any(1).double(), "shift": shift[:, 0]})


@torch.inference_mode()
def color_features(images: prior.Pictures) -> torch.Tensor:
    """(N, 192) of `images`: the means of all channels of EfficientNet-Lite0 at four resolutions from 1/2 to 1/16.

    Colours and their edges in the first, parts of things in the last. Pictures are resized to 128 x 128 pixels.
    """
    trunk = Trunk()
    maps = (trunk(_resized(rgb, 128)) for rgb in prior.batches(images))
    return torch.cat([torch.cat([scale.mean((2, 3)) for scale in scales], dim=1) for scales in maps])


def two_alternative(true: torch.Tensor, colored: torch.Tensor, folds: int = 5) -> np.ndarray:
    """Whether a classifier picks the real one out of each pair: cross-validated, so that it never saw the pair before.

    Logistic regression on standardised features (N, D), trained on the pairs of the other folds, gives both pictures a
    score; the one with the higher score is picked. (N,): 1 where the real one was picked, 0 where not, 0.5 for a tie.
    0.5 on average is chance, 1 a colouring that always gives itself away.
    """
    n = len(true)
    features = torch.cat([true, colored]).double().cpu().numpy()
    real, pairs = np.repeat([1, 0], n), np.tile(np.arange(n), 2)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000))
    parts = GroupKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_predict(classifier, features, real, groups=pairs, cv=parts, method="decision_function")
    return (np.sign(scores[:n] - scores[n:]) + 1) / 2


def semantics(runs: Sequence[Run], bank: ImageBank, most: int) -> pd.DataFrame:
    """`recognition` of `most` test pictures as `runs` colour them: columns ``image``, ``method`` and ``seed``, too."""
    names, true = _shown(bank.test, most)
    truth = recognized(true)

    def seen(painter: ColorizerLike, _: ImageBank) -> pd.DataFrame:
        return recognition(truth, recognized(_painted(painter, true))).assign(image=names)

    return grid.of_runs(runs, bank, seen)


def observed(runs: Sequence[Run], bank: ImageBank, most: int, *, folds: int = 5, coarse: int = 5) -> pd.DataFrame:
    """`two_alternative` of `most` test pictures as `runs` colour them: ``found`` against the truth.

    And ``found_coarse`` against the control, "coarse truth": true colours averaged over squares of `coarse` pixels and
    enlarged again, as those of networks are.
    """
    names, true = _shown(bank.test, most)
    folds = min(folds, len(names))
    lightness, chroma = split(to_tensor(true))
    blurred = F.interpolate(F.avg_pool2d(chroma, coarse), lightness.shape[-2:], mode="bilinear")
    real, control = color_features(true), color_features(to_uint8(merge(lightness, blurred)))

    def found(features: torch.Tensor) -> pd.DataFrame:
        against = {"found": real, "found_coarse": control}
        columns = {name: two_alternative(other, features, folds) for name, other in against.items()}
        return pd.DataFrame({"image": names} | columns)

    colored = grid.of_runs(runs, bank, lambda painter, _: found(color_features(_painted(painter, true))))
    return pd.concat([found(control).assign(method="coarse truth", seed=0), colored], ignore_index=True)


def _shown(bank: ImageBank, most: int) -> tuple[list[str], np.ndarray]:
    """The names of at most `most` pictures of a bank, evenly spaced, and the pictures, uint8 (N, S, S, 3)."""
    chosen = np.linspace(0, len(bank) - 1, min(most, len(bank))).round().astype(int)
    return [bank.names[i] for i in chosen], bank.images[chosen]


def _painted(painter: ColorizerLike, images: np.ndarray) -> np.ndarray:
    """`images` (N, S, S, 3) as coloured by `painter`, in steps of 1 / 255 as they are: a machine could see that too."""
    return np.concatenate([to_uint8(painter.colorize(rgb)) for rgb in prior.batches(images, 16)])


def _resized(rgb: torch.Tensor, size: int) -> torch.Tensor:
    return F.interpolate(rgb, (size, size), mode="bicubic", antialias=True, align_corners=False).clamp(0, 1)
