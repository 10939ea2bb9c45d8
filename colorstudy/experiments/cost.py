"""What a method costs: parameters, multiply-adds and time of one picture, and of a training step."""

import time
from collections.abc import Mapping
from itertools import product
from statistics import median

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

from colorstudy._checks import require
from colorstudy.color import to_uint8
from colorstudy.colorize import Colorizer
from colorstudy.methods import Method, get
from colorstudy.model import Model


@torch.no_grad()
def cost(model: Model, size: int = 256) -> dict[str, int]:
    """What colouring one picture of `size` x `size` pixels takes, apart from time; the same at every call.

    ``parameters``: numbers that training changes. ``frozen``: other numbers of the network, such as a pretrained trunk
    or the statistics of batch norm. ``multiply_adds``: of the network's convolutions and matrix products.
    """
    trained = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    everything = [*model.network.parameters(), *model.network.buffers()]
    frozen = sum(t.numel() for t in everything if t.is_floating_point()) - trained
    with FlopCounterMode(display=False) as flops:
        model(_lightness(size))
    return {"parameters": trained, "frozen": frozen, "multiply_adds": flops.get_total_flops() // 2}


def costs(methods: Mapping[str, Method], images: np.ndarray, size: int = 256) -> pd.DataFrame:
    """`cost` of `methods` by name, made afresh on uint8 `images`, and median time: a row for each ``method``.

    ``milliseconds`` are of colouring one picture of `size` x `size` pixels on the processor. The methods take turns, so
    that what else the machine does slows all of them alike; a first round is not counted.
    """
    colorizers = {name: Colorizer(Model.build(method, images), size, "cpu") for name, method in methods.items()}
    lightness, taken = _lightness(size), pd.DataFrame(0.0, index=range(6), columns=[*colorizers])
    for i, name in product(taken.index, colorizers):
        started = time.perf_counter()
        colorizers[name].render(lightness, colorizers[name].predict(lightness))
        taken.loc[i, name] = 1000 * (time.perf_counter() - started)
    rows = {name: cost(colorizer.model, size) for name, colorizer in colorizers.items()}
    table = pd.DataFrame.from_dict(rows, orient="index").assign(milliseconds=taken[1:].median())
    return table.rename_axis("method").reset_index()


def training_step(method: str | Method, rgb: torch.Tensor, rounds: int = 5) -> dict[str, float]:
    """What a training step takes: forward, loss, backward and optimizer, on a batch (B, 3, H, W) in [0, 1].

    ``seconds``: median of `rounds` steps, after two, on the device of the batch. ``multiply_adds``: forward and
    backward.
    """
    require(rounds >= 1, "rounds", "a number >= 1", rounds)
    model = Model.build(get(method), to_uint8(rgb)).to(rgb.device).train()
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        model.loss(rgb).backward()
        optimizer.step()

    step()
    with FlopCounterMode(display=False) as flops:
        step()
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        if rgb.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return {"seconds": median(taken), "multiply_adds": flops.get_total_flops() // 2}


def _lightness(size: int) -> torch.Tensor:
    """A noisy picture, the same each time."""
    return 100 * torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
