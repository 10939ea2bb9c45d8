"""Costs against counts by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from colorstudy import cost
from colorstudy.methods import METHODS


@pytest.fixture(scope="module")
def models():
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    return {name: METHODS[name].build(images) for name in ("l2", "zhang-small-full", "dahl")}


class Wrapped(nn.Module):
    """A network alone, as `cost` takes a model."""

    def __init__(self, *layers):
        super().__init__()
        self.network = nn.Sequential(*layers)

    def forward(self, lightness):
        return self.network(lightness)


@pytest.mark.parametrize(
    "layer, multiply_adds",
    [
        (nn.Conv2d(1, 6, 3, padding=1), 16 * 16 * 6 * 9),
        (nn.Conv2d(1, 6, 3, stride=2, padding=1), 8 * 8 * 6 * 9),
        (nn.Conv2d(1, 6, 3, dilation=2, padding=2), 16 * 16 * 6 * 9),
        (nn.ConvTranspose2d(1, 6, 4, stride=2, padding=1), 16 * 16 * 6 * 16),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 8, 3, padding=1, groups=4)), 256 * (4 + 8 * 9)),
    ],
)
def test_multiply_adds(layer, multiply_adds):
    assert cost.cost(Wrapped(layer), 16)["multiply_adds"] == multiply_adds


def test_parameters_are_those_that_training_changes():
    norm = nn.BatchNorm2d(5)
    frozen = nn.Conv2d(5, 2, 1, bias=False).requires_grad_(False)
    counted = cost.cost(Wrapped(nn.Conv2d(1, 5, 3, padding=1), norm, frozen), 8)
    assert counted["parameters"] == 5 * 9 + 5 + 10 and counted["frozen"] == 10 + 10


def test_the_trunk_is_frozen_and_its_work_counts(models):
    counted = cost.cost(models["dahl"], 64)
    assert 700_000 < counted["frozen"] < 750_000
    assert counted["parameters"] == sum(p.numel() for p in models["dahl"].parameters())


def test_peak_is_the_most_that_is_held_at_once():
    class Steps(nn.Module):
        def forward(self, x):
            a = x + 1
            b = a.expand(2, -1, -1, -1) * 2  # holds 1 + 2
            del a
            c = b[:1].reshape(-1)  # a view
            del b  # whose memory the view keeps: 2
            return c * 3  # 3

    assert (
        cost.cost(Wrapped(nn.Conv2d(1, 1, 1), Steps()), 10)["peak_bytes"] == 100 * 4 * 4
    )  # with the convolution's own


def test_the_same_at_every_call(models):
    assert [cost.cost(models["l2"], 64) for _ in range(2)] == [cost.cost(models["l2"], 64)] * 2
    assert cost.cost(models["l2"], 128)["multiply_adds"] == 4 * cost.cost(models["l2"], 64)["multiply_adds"]


def test_milliseconds_take_turns(models):
    order = []
    hooks = [m.register_forward_hook(lambda *_, name=name: order.append(name)) for name, m in models.items()]
    times = cost.milliseconds(models, 64, rounds=2)
    for hook in hooks:
        hook.remove()
    assert order == list(models) * 3
    assert list(times) == list(models) and all(value > 0 for value in times.values())


def test_errors_name_the_argument(models):
    with pytest.raises(ValueError, match="size: expected pixels >= 1, got 0"):
        cost.cost(models["l2"], 0)
    with pytest.raises(ValueError, match="rounds: expected a number >= 1, got 0"):
        cost.milliseconds(models, 64, rounds=0)


def test_no_gradient_is_kept(models):
    assert torch.is_grad_enabled()
    cost.cost(models["l2"], 32)
    assert torch.is_grad_enabled() and all(p.grad is None for p in models["l2"].parameters())
