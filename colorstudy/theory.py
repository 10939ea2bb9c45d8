"""What theory says that each method learns in the controlled world, and how far a trained network is from it.

With p the distribution of the colour of a kind of object, squared error is least for the mean of p, cross-entropy for p
itself, and cross-entropy with class weights w for a distribution proportional to w p (`data.world.Kind`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F

from colorstudy import prior
from colorstudy.color import split
from colorstudy.data.world import GROUND, KINDS
from colorstudy.methods import Model

_MARGIN = 2  # pixels around a cell that must show the same object


def interior(kinds: np.ndarray, stride: int) -> torch.Tensor:
    """The kind of every cell of `stride` x `stride` pixels that lies well inside of one object, `GROUND` elsewhere.

    Parameters
    ----------
    kinds : int8 array (N, S, S)
        As `data.world.pictures` gives it.
    stride : int
        Of a network: its output has a number a cell.

    Returns
    -------
    int64 tensor (N, S / stride, S / stride)
    """
    maps = torch.from_numpy(kinds).float()[:, None]
    window = {"kernel_size": stride + 2 * _MARGIN, "stride": stride, "padding": _MARGIN}
    highest, lowest = F.max_pool2d(maps, **window), -F.max_pool2d(-maps, **window)
    return torch.where(highest == lowest, highest, GROUND)[:, 0].long()


@torch.inference_mode()
def answers(
    model: Model, images: np.ndarray, kinds: np.ndarray, read: Callable[[torch.Tensor], torch.Tensor]
) -> tuple[pd.DataFrame, torch.Tensor]:
    """What a model answers for every object: `read` of its network's output, mean over the object's inside.

    Parameters
    ----------
    model : Model
    images, kinds : uint8 array (N, S, S, 3), int8 array (N, S, S)
        As `data.world.pictures` gives them, S a multiple of the network's cell.
    read : callable
        Of the output (B, C, h, w), something to average (B, D, h, w): a distribution, a colour.

    Returns
    -------
    objects : DataFrame
        Columns ``image`` (picture and quarter: what tells objects apart) and ``kind``; objects too small to have an
        inside have no row.
    values : tensor (len(objects), D)
    """
    model = model.eval()
    cells = interior(kinds, model.network.stride)  # (N, h, w)
    rows, values = [], []
    side = cells.shape[1]
    quarter = 2 * (torch.arange(side) >= side / 2)[:, None] + (torch.arange(side) >= side / 2)  # (h, w)
    start = 0
    for rgb in prior.batches(images):
        maps = read(model.network(split(rgb, model.method.space)[0])).permute(0, 2, 3, 1)  # (B, h, w, D)
        for i, here in enumerate(cells[start : start + len(maps)]):
            for q in range(4):
                inside = (here != GROUND) & (quarter == q)
                if inside.any():
                    rows.append({"image": f"{start + i}-{q}", "kind": int(here[inside][0])})
                    values.append(maps[i][inside].mean(0))
        start += len(maps)
    return pd.DataFrame(rows), torch.stack(values)


def errors(objects: pd.DataFrame, values: torch.Tensor, expected: list[torch.Tensor]) -> pd.DataFrame:
    """How far the answers for objects are from what is `expected` of their kinds.

    Parameters
    ----------
    objects, values
        As `answers` gives them.
    expected : list of tensor (D,)
        Of every kind: a distribution, or a colour (D = 2).

    Returns
    -------
    DataFrame
        `objects` with the names of the kinds, and ``error``: between colours the distance in ab, between distributions
        the total variation, half the sum of absolute differences, in [0, 1].
    """
    difference = values - torch.stack(expected)[objects["kind"].tolist()]
    colors = values.shape[1] == 2
    error = difference.norm(dim=1) if colors else difference.abs().sum(1) / 2
    return objects.assign(kind=[KINDS[k].name for k in objects["kind"]], error=error.numpy())
