"""What theory says that each method learns in the controlled world, and how far a trained network is from it.

With p the distribution of the colour of a kind of object, squared error is least for the mean of p, cross-entropy for p
itself, and cross-entropy with class weights w for a distribution proportional to w p (`world.Kind`).
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy import prior
from colorstudy.color import split
from colorstudy.colorize import Colorizer
from colorstudy.experiments.world import GROUND, KINDS

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
