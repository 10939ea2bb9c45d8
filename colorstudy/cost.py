"""What a method costs: parameters, multiply-adds, memory and time of one picture."""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Mapping

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from colorstudy._checks import require
from colorstudy.methods import Method, Model, get


@torch.no_grad()
def cost(model: Model, size: int = 256) -> dict[str, int]:
    """What colouring one square picture takes, apart from time; the same at every call.

    Parameters
    ----------
    model : Model
    size : int
        Side of the picture in pixels, as the network sees it.

    Returns
    -------
    dict
        ``parameters``: numbers that training changes. ``frozen``: other numbers of the network, such as a pretrained
        trunk or the statistics of batch norm. ``multiply_adds``: of the network's convolutions and matrix products.
        ``peak_bytes``: the most memory that tensors made on the way hold at once, network and decoding, without the
        weights.

    Raises
    ------
    ValueError
        If `size` is not positive.
    """
    require(size >= 1, "size", "pixels >= 1", size)
    model = model.eval()
    lightness = _picture(model, size)
    trained = sum(p.numel() for p in model.network.parameters() if p.requires_grad)
    everything = [*model.network.parameters(), *model.network.buffers()]
    with FlopCounterMode(display=False) as flops:
        model.network(lightness)
    with _Peak() as peak:
        model(lightness)
    return {
        "parameters": trained,
        "frozen": sum(t.numel() for t in everything if t.is_floating_point()) - trained,
        "multiply_adds": flops.get_total_flops() // 2,
        "peak_bytes": peak.most,
    }


def training_step(method: str | Method, rgb: torch.Tensor, rounds: int = 5) -> dict[str, float]:
    """What a training step takes: forward, loss, backward and optimizer, on a batch that is there already.

    Parameters
    ----------
    method : str or Method
    rgb : float32 tensor (B, 3, H, W)
        sRGB in [0, 1], on the device to measure.
    rounds : int
        After two that are not counted.

    Returns
    -------
    dict
        ``seconds``: median of a step. ``multiply_adds``: of a step, forward and backward. ``peak_bytes``: the most that
        tensors hold at once, without weights, their gradients and the optimizer's state; nan on a GPU, whose backward
        pass runs elsewhere.

    Raises
    ------
    ValueError
        If `rounds` is not positive.
    """
    require(rounds >= 1, "rounds", "a number >= 1", rounds)
    images = (rgb * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    model = get(method).build(images).to(rgb.device).train()
    optimizer = torch.optim.AdamW(model.parameters())
    found: dict[str, float] = {"peak_bytes": float("nan")}

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        model.loss(rgb).backward()
        optimizer.step()

    step()
    with FlopCounterMode(display=False) as flops:
        step()
    if rgb.device.type == "cpu":
        optimizer.zero_grad(set_to_none=False)  # gradients that are there already are not counted
        with _Peak() as peak:
            model.loss(rgb).backward()
        found["peak_bytes"] = peak.most
    taken = []
    for _ in range(rounds):
        started = time.perf_counter()
        step()
        if rgb.device.type == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - started)
    return found | {"seconds": statistics.median(taken), "multiply_adds": flops.get_total_flops() // 2}


def training_hours(
    multiply_adds: float, pictures: float, devices: int, *, peak: float, achieved: float, scaling: float = 1.0
) -> float:
    """Hours that a training takes whose time goes into multiply-adds.

    Parameters
    ----------
    multiply_adds : float
        Of a picture, forward and backward.
    pictures : float
        Shown in all: steps times the size of a batch.
    devices : int
        GPUs.
    peak : float
        Multiply-adds a second of one, as its maker says.
    achieved : float
        Share of `peak` that one reaches, in (0, 1].
    scaling : float
        Share of their sum that all reach together, in (0, 1].

    Raises
    ------
    ValueError
        If a number is not positive, or a share above 1.
    """
    for name, value in {"multiply_adds": multiply_adds, "pictures": pictures, "devices": devices, "peak": peak}.items():
        require(value > 0, name, "a number > 0", value)
    for name, value in {"achieved": achieved, "scaling": scaling}.items():
        require(0 < value <= 1, name, "a share in (0, 1]", value)
    return multiply_adds * pictures / (devices * peak * achieved * scaling) / 3600


@torch.inference_mode()
def milliseconds(models: Mapping[str, Model], size: int = 256, rounds: int = 5) -> dict[str, float]:
    """Median time of colouring one square picture, network and decoding, on the device of each model.

    The models take turns, round after round, so that what else the machine does slows all of them alike.

    Parameters
    ----------
    models : mapping of name -> Model
    size : int
        Side of the picture in pixels, as the network sees it.
    rounds : int
        After one that is not counted.
    """
    require(rounds >= 1, "rounds", "a number >= 1", rounds)
    taken: dict[str, list[float]] = {name: [] for name in models}
    for _ in range(rounds + 1):
        for name, model in models.items():
            lightness = _picture(model.eval(), size)
            started = time.perf_counter()
            model(lightness).cpu()  # which waits for a GPU
            taken[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(times[1:]) for name, times in taken.items()}


class _Peak(TorchDispatchMode):
    """Follows the memory of every tensor made within, and remembers the most that was held at once."""

    def __init__(self) -> None:
        super().__init__()
        self.most, self._held, self._known = 0, 0, set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        given = {t.untyped_storage().data_ptr() for t in tree_leaves((args, kwargs)) if isinstance(t, torch.Tensor)}
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, torch.Tensor):
                self._follow(tensor.untyped_storage(), given)
        return out

    def _follow(self, storage: torch.UntypedStorage, given: set[int]) -> None:
        # A view shares the storage of its origin, which is followed already, or was there before.
        place = storage.data_ptr()
        if place in self._known or place in given:
            return
        self._known.add(place)
        self._held += storage.nbytes()
        self.most = max(self.most, self._held)
        weakref.finalize(storage, self._release, place, storage.nbytes())

    def _release(self, place: int, size: int) -> None:
        self._known.discard(place)
        self._held -= size


def _picture(model: Model, size: int) -> torch.Tensor:
    """A noisy picture (1, 1, size, size), the same each time, on the model's device."""
    device = next(model.parameters()).device
    return 100 * torch.rand(1, 1, size, size, generator=torch.Generator().manual_seed(0)).to(device)
