"""What a method costs: parameters, multiply-adds and time of one picture, and of a training step."""

import time
from collections.abc import Mapping
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
    _, lightness = _ready(model, size)
    with FlopCounterMode(display=False) as flops:
        model(lightness)
    return {"parameters": trained, "frozen": frozen, "multiply_adds": flops.get_total_flops() // 2}


def costs(methods: Mapping[str, Method], images: np.ndarray, size: int = 256) -> pd.DataFrame:
    """`cost` of `methods` by name, made afresh on uint8 `images`, and median time: a row for each ``method``.

    ``milliseconds`` are of colouring one picture of `size` x `size` pixels. The methods take turns, so that what else
    the machine does slows all of them alike; a first round is not counted.
    """
    models = {name: Model.build(method, images) for name, method in methods.items()}
    ready = {name: _ready(model, size) for name, model in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for name, (colorizer, lightness) in [*ready.items()] * 6:
        started = time.perf_counter()
        colorizer.render(lightness, colorizer.predict(lightness)).cpu()  # which waits for a GPU
        taken[name].append(1000 * (time.perf_counter() - started))
    times = {name: median(each[1:]) for name, each in taken.items()}
    return pd.DataFrame([{"method": m, **cost(model, size), "milliseconds": times[m]} for m, model in models.items()])


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


def _ready(model: Model, size: int) -> tuple[Colorizer, torch.Tensor]:
    """A colorizer that shows `model`, where it is, pictures of this size; and a noisy one, the same each time."""
    device = next(model.parameters()).device
    picture = 100 * torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    return Colorizer(model, size, device), picture.to(device)
