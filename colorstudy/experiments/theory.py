"""What theory says that each method learns in the controlled world, and how far a trained network is from it.

With p the distribution of the colour of a kind of object, squared error is least for the mean of p, cross-entropy for p
itself, and cross-entropy with class weights w for a distribution proportional to w p (`world.Kind`).
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy import prior
from colorstudy.bins import ColorBins
from colorstudy.color import split
from colorstudy.colorize import Colorizer
from colorstudy.experiments.world import GROUND, KINDS, pictures
from colorstudy.study.run import Run

_MARGIN = 2  # pixels around a cell that must show the same object


def interior(kinds: np.ndarray, stride: int) -> torch.Tensor:
    """Of int8 `kinds` (N, S, S), those of cells of `stride` pixels well inside of one object, elsewhere `GROUND`."""
    maps = torch.from_numpy(kinds).float()[:, None]
    lowest, highest = (sign * F.max_pool2d(sign * maps, stride + 2 * _MARGIN, stride, _MARGIN) for sign in (-1, 1))
    return torch.where(highest == lowest, highest, GROUND)[:, 0].long()


@torch.inference_mode()
def answers(
    colorizer: Colorizer, images: np.ndarray, kinds: np.ndarray, read: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[pd.DataFrame, torch.Tensor]:
    """What a model answers for every object in `world.pictures`: `read` of its prediction, mean over the inside.

    The colorizer's working size is at least that of the pictures. `read` makes (B, D, h, w) of (B, C, h, w), such as
    ``colorizer.decode``. Returns a table with ``image`` (picture and quarter, which tell objects apart) and ``kind`` of
    every object that is large enough to have an inside, and their values (len(table), D).
    """
    batches = (split(rgb.to(colorizer.device), colorizer.space)[0] for rgb in prior.batches(images))
    maps = torch.cat([read(colorizer.predict(lightness)).cpu() for lightness in batches])  # (N, D, h, w)
    side = maps.shape[-1]
    cells = interior(kinds, kinds.shape[-1] // side)  # (N, h, w)
    half = (torch.arange(side) >= side / 2).long()
    quarter = 2 * half[:, None] + half  # (h, w)
    rows, values = [], []
    for n, q in np.ndindex(len(maps), 4):
        inside = (cells[n] != GROUND) & (quarter == q)
        if inside.any():
            rows.append({"image": f"{n}-{q}", "kind": int(cells[n][inside][0])})
            values.append(maps[n][:, inside].mean(1))
    return pd.DataFrame(rows), torch.stack(values)


def errors(objects: pd.DataFrame, values: torch.Tensor, expected: list[torch.Tensor]) -> pd.DataFrame:
    """The `objects` of `answers`, with names of kinds, and ``error``: how far `values` are from what is `expected`.

    Of colours (2,) it is the distance in ab, of distributions (Q,) the total variation, in [0, 1].
    """
    difference = values - torch.stack(expected).cpu()[objects["kind"].tolist()]
    error = difference.norm(dim=1) if values.shape[1] == 2 else difference.abs().sum(1) / 2
    return objects.assign(kind=[KINDS[k].name for k in objects["kind"]], error=error.numpy())


def predictions(
    bins: ColorBins, weights: torch.Tensor
) -> dict[str, tuple[str, Callable[..., Any], list[torch.Tensor]]]:
    """Six predictions: of what "l2", "class" or "full" is, how a colorizer reads it, and the answer for each kind."""
    w = weights[:, None, None]
    p, wp = ([kind.distribution(bins, some) for kind in KINDS] for some in (None, weights))
    mean, mode = [kind.mean for kind in KINDS], [bins.centers[q.argmax()] for q in p]
    return {
        "l2 gives the mean": ("l2", lambda c, out: c.decode(out), mean),
        "class gives p": ("class", lambda c, out: out, p),
        "full gives w p": ("full", lambda c, out: out, wp),
        "class, rebalanced when decoding, gives w p": ("class", lambda c, out: F.normalize(w * out, p=1, dim=1), wp),
        "class at T = 1 gives the mean": ("class", lambda c, out: c.decoding(temperature=1).decode(out), mean),
        "class at T = 0.02 gives the mode": ("class", lambda c, out: c.decoding(temperature=0.02).decode(out), mode),
    }


def measure(arms: Mapping[str, Sequence[Run]], size: int, count: int) -> pd.DataFrame:
    """`errors` of the `predictions` for every object of `count` pictures of `size` pixels that no network has seen.

    `arms` are runs of l2, class and full, and have names; one at least has full. A row for each ``arm``,
    ``prediction``, ``steps``, ``seed`` and object, with what it is given, ``a`` and ``b``, if that is a colour.
    """
    images, kinds = pictures(size, count, seed=1)  # those to train on have seed 0
    networks, targets, parts = {}, {}, []
    for arm, runs in arms.items():
        for run in runs:
            model = run.colorizer().model
            plain = "class" if model.method.lam == 1 else "full"  # lambda 1 is no rebalancing
            name = "l2" if model.method.target == "regression" else plain
            networks[arm, name, run.config["steps"], run.seed] = Colorizer(model, size)
            if name == "full":
                targets[arm] = model.target
    for arm in arms:
        target: Any = targets.get(arm) or next(iter(targets.values()))  # an arm of l2 alone needs none
        for prediction, (whose, read, expected) in predictions(target.bins, target.weights).items():
            for (of, name, steps, seed), colorizer in networks.items():
                if (of, name) == (arm, whose):
                    objects, said = answers(colorizer, images, kinds, partial(read, colorizer))
                    about = {"arm": arm, "prediction": prediction, "steps": steps, "seed": seed}
                    about |= dict(zip("ab", said.T.numpy())) if said.shape[1] == 2 else {}
                    parts.append(errors(objects, said, expected).assign(**about))
    return pd.concat(parts, ignore_index=True)


def apart(images: np.ndarray) -> pd.DataFrame:
    """How far, by theory, weights when decoding lead from weights in training, in total variation, for each kind.

    The weights are those of uint8 `images` (N, S, S, 3): with targets of one neighbour, where it is 0; of five; and of
    five with a smoothed prior, as Zhang et al. 2016 have it.
    """
    bins = ColorBins.in_gamut()
    counts = prior.count(images, bins)
    table = pd.DataFrame({"kind": [kind.name for kind in KINDS]})
    for name, p, k in [("one-hot", counts, 1), ("soft", counts, 5), ("soft, smoothed", prior.smooth(counts, bins), 5)]:
        w = prior.rebalancing_weights(p).float()
        decoded = [kind.distribution(bins, neighbors=k) * w for kind in KINDS]
        trained = [kind.distribution(bins, w, k) for kind in KINDS]
        table[name] = [(a - b / b.sum()).abs().sum().item() / 2 for a, b in zip(trained, decoded)]
    return table
