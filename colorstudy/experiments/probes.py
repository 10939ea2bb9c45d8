"""Linear probes, after Zhang, Isola and Efros 2016, Section 3.2: what features of colouring tell of what is seen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy import prior
from colorstudy._checks import extra
from colorstudy.color import split
from colorstudy.data import ImageBank
from colorstudy.networks import build
from colorstudy.study.run import Run

with extra("study"):
    from sklearn.linear_model import RidgeClassifierCV
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler


def category(name: str) -> str:
    """What a picture of photos16k shows, by its name, if it is of Caltech-101, such as "Faces"; else ""."""
    return name.partition("/")[2].partition("_image_")[0] if name.startswith("caltech101/") else ""


@torch.inference_mode()
def features(network: Any, images: prior.Pictures) -> dict[str, np.ndarray]:
    """Means over quarters of grey `images`, (N, 4 C), by depth of `compact` or `pretrained`; "grey": of 8 x 8."""
    found = []
    for rgb in prior.batches(images):
        lightness = split(rgb)[0]
        maps = [network.padded(lightness)]
        if hasattr(network, "trunk"):
            maps += network.trunk(maps[0] + 0.5)
        else:
            for layer in (network.down2, network.down4, network.down8, network.down16):
                maps.append(layer(maps[-1]))
        found.append([F.adaptive_avg_pool2d(part, 2 if i else 8).flatten(1) for i, part in enumerate(maps)])
    depths = [torch.cat(parts).numpy() for parts in zip(*found)]
    return {f"1/{2**i}" if i else "grey": depth for i, depth in enumerate(depths)}


def probe(train: np.ndarray, labels: Sequence[str], test: np.ndarray) -> np.ndarray:
    """The labels of features `test` (N, D) by ridge regression on `train`; its penalty is chosen by leave-one-out."""
    return make_pipeline(StandardScaler(), RidgeClassifierCV(np.logspace(0, 4, 5))).fit(train, labels).predict(test)


def probes(runs: Sequence[Run], bank: ImageBank) -> pd.DataFrame:
    """Whether a `probe` of each ``layer`` names what test pictures of Caltech-101 show: ``accuracy``, 1 or 0.

    Of the networks of `runs`; of an untrained `compact`, "random"; and of the trunk as ImageNet left it, "imagenet".
    """
    names = [[name for name in part.names if category(name)] for part in (bank.train, bank.test)]
    train, test = (bank.only(some).images for some in names)
    labels, truth = ([category(name) for name in some] for some in names)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        networks: dict[tuple[str, int], Any] = {("random", 0): build("compact", 2)}
    networks["imagenet", 0] = build("pretrained", 2)
    networks["imagenet", 0].prepare(())
    networks |= {(run.method, run.seed): run.colorizer().model.network for run in runs}
    parts = []
    for (method, seed), network in networks.items():
        known, asked = (features(network.eval(), images) for images in (train, test))
        for layer in known:
            right = pd.DataFrame({"image": names[1], "accuracy": probe(known[layer], labels, asked[layer]) == truth})
            parts.append(right.astype({"accuracy": float}).assign(method=method, seed=seed, layer=layer))
    return pd.concat(parts, ignore_index=True)
