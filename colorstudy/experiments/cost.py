"""What a method costs: parameters, multiply-adds, memory and time of one picture, and of a training step."""

import time
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary

from colorstudy._checks import require
from colorstudy.color import to_uint8
from colorstudy.colorize import Colorizer
from colorstudy.data import load
from colorstudy.methods import Method, get
from colorstudy.model import Model


@torch.no_grad()
def cost(model: Model, size: int = 256) -> dict[str, int]:
    """What colouring one picture of `size` x `size` pixels takes, apart from time; the same at every call.

    ``parameters``: numbers that training changes. ``frozen``: other numbers of the network, such as a pretrained trunk
    or the statistics of batch norm. ``multiply_adds``: of the network's convolutions and matrix products.
    ``peak_bytes``: the most that tensors made between lightness and picture hold at once, without the weights.
    """
    colorizer, lightness = _ready(model, size)
    trained = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    everything = [*model.network.parameters(), *model.network.buffers()]
    with FlopCounterMode(display=False) as flops:
        model(lightness)
    with _Peak() as peak:
        colorizer.render(lightness, colorizer.predict(lightness))
    return {
        "parameters": trained,
        "frozen": sum(t.numel() for t in everything if t.is_floating_point()) - trained,
        "multiply_adds": flops.get_total_flops() // 2,
        "peak_bytes": peak.most,
    }


@torch.inference_mode()
def milliseconds(models: dict[str, Model], size: int = 256, rounds: int = 5) -> dict[str, float]:
    """Median time of colouring one picture of `size` x `size` pixels, on the device of each model.

    The models take turns, so that what else the machine does slows all of them alike; a first round is not counted.
    """
    require(rounds >= 1, "rounds", "a number >= 1", rounds)
    ready = {name: _ready(model, size) for name, model in models.items()}
    taken: dict[str, list[float]] = {name: [] for name in models}
    for name, (colorizer, lightness) in [*ready.items()] * (rounds + 1):
        started = time.perf_counter()
        colorizer.render(lightness, colorizer.predict(lightness)).cpu()  # which waits for a GPU
        taken[name].append(1000 * (time.perf_counter() - started))
    return {name: median(times[1:]) for name, times in taken.items()}


def costs(methods: Mapping[str, Method], images: np.ndarray, size: int = 256) -> pd.DataFrame:
    """`cost` and `milliseconds` of `methods` by name, made afresh on uint8 `images`: a row for each ``method``."""
    models = {name: Model.build(method, images) for name, method in methods.items()}
    times = milliseconds(models, size)
    return pd.DataFrame([{"method": m, **cost(model, size), "milliseconds": times[m]} for m, model in models.items()])


def training_step(method: str | Method, rgb: torch.Tensor, rounds: int = 5) -> dict[str, float]:
    """What a training step takes: forward, loss, backward and optimizer, on a batch (B, 3, H, W) in [0, 1].

    ``seconds``: median of `rounds` steps, after two, on the device of the batch. ``multiply_adds``: forward and
    backward. ``peak_bytes``: the most that tensors hold at once, without weights, their gradients and the optimizer's
    state; nan on a GPU, whose backward pass runs elsewhere.
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
    peak_bytes = float("nan")
    if rgb.device.type == "cpu":
        optimizer.zero_grad(set_to_none=False)  # gradients that are there already are not counted
        with _Peak() as peak:
            model.loss(rgb).backward()
        peak_bytes = peak.most
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        if rgb.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return {"peak_bytes": peak_bytes, "seconds": median(taken), "multiply_adds": flops.get_total_flops() // 2}


def decoding(images: np.ndarray) -> dict[str, float]:
    """What reading uint8 `images` (N, S, S, 3) as JPEG files takes: ``pictures_per_s`` of a core, ``bytes`` of each."""
    with TemporaryDirectory() as place:
        for i, image in enumerate(images):
            Image.fromarray(image).save(Path(place) / f"{i}.jpg", quality=95)
        size = sum(path.stat().st_size for path in Path(place).glob("*.jpg")) / len(images)
        started = time.process_time()  # of all threads
        bank = load(place, size=images.shape[1], cache_dir=f"{place}/cache")
        return {"pictures_per_s": len(bank) / (time.process_time() - started), "bytes": size}


class _Peak(TorchDispatchMode):
    """Follows the memory of every tensor made within, and remembers the most that was held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self._held = 0, WeakIdKeyDictionary()  # storage -> bytes

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = {id(storage) for storage in _storages((args, kwargs))}
        out = func(*args, **(kwargs or {}))
        # A view shares the storage of its origin, which is known already, or was there before.
        for storage in _storages(out):
            if id(storage) not in given:
                self._held[storage] = storage.nbytes()
        self.most = max(self.most, sum(self._held.values()))
        return out


def _storages(tree: object) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, torch.Tensor)]


def _ready(model: Model, size: int) -> tuple[Colorizer, torch.Tensor]:
    """A colorizer that shows `model`, where it is, pictures of this size; and a noisy one, the same each time."""
    device = next(model.parameters()).device
    picture = 100 * torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0))
    return Colorizer(model, size, device), picture.to(device)
