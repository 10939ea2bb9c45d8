"""Costs against counts by hand."""

import numpy as np
import pytest
import torch
from torch import nn

from colorstudy.experiments import cost
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.targets import Regression


@pytest.fixture(scope="module")
def models():
    images = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)
    return {name: Model.build(METHODS[name], images) for name in ("l2", "zhang-small-full", "dahl")}


def wrapped(*layers):
    """A model whose network are these layers, which give two maps."""
    made = Model(METHODS["l2"], Regression())
    made.network = nn.Sequential(*layers)
    return made


@pytest.mark.parametrize(
    "layer, multiply_adds",
    [
        (nn.Conv2d(1, 2, 3, padding=1), 16 * 16 * 2 * 9),
        (nn.Conv2d(1, 2, 3, stride=2, padding=1), 8 * 8 * 2 * 9),
        (nn.Conv2d(1, 2, 3, dilation=2, padding=2), 16 * 16 * 2 * 9),
        (nn.ConvTranspose2d(1, 2, 4, stride=2, padding=1), 16 * 16 * 2 * 16),
        (nn.Sequential(nn.Conv2d(1, 4, 1), nn.Conv2d(4, 2, 3, padding=1, groups=2)), 256 * (4 + 2 * 2 * 9)),
    ],
)
def test_multiply_adds(layer, multiply_adds):
    assert cost.cost(wrapped(layer), 16)["multiply_adds"] == multiply_adds


def test_parameters_are_those_that_training_changes():
    norm = nn.BatchNorm2d(5)
    frozen = nn.Conv2d(5, 2, 1, bias=False).requires_grad_(False)
    counted = cost.cost(wrapped(nn.Conv2d(1, 5, 3, padding=1), norm, frozen), 8)
    assert counted["parameters"] == 5 * 9 + 5 + 10 and counted["frozen"] == 10 + 10


def test_the_trunk_is_frozen_and_its_work_counts(models):
    counted = cost.cost(models["dahl"], 64)
    assert 650_000 < counted["frozen"] < 750_000
    assert counted["parameters"] == sum(p.numel() for p in models["dahl"].parameters() if p.requires_grad)


def test_training_step(models):
    rgb = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    found = cost.training_step("l2", rgb, rounds=1)
    forward = cost.cost(models["l2"], 32)["multiply_adds"]
    assert found["seconds"] > 0
    assert 2 < found["multiply_adds"] / (2 * forward) <= 3  # backward: by weights and, but for the first layer, inputs
    with pytest.raises(ValueError, match="rounds: expected a number >= 1, got 0"):
        cost.training_step("l2", rgb, rounds=0)


def test_the_same_at_every_call(models):
    assert [cost.cost(models["l2"], 64) for _ in range(2)] == [cost.cost(models["l2"], 64)] * 2
    assert cost.cost(models["l2"], 128)["multiply_adds"] == 4 * cost.cost(models["l2"], 64)["multiply_adds"]


def test_no_gradient_is_kept(models):
    assert torch.is_grad_enabled()
    cost.cost(models["l2"], 32)
    assert torch.is_grad_enabled() and all(p.grad is None for p in models["l2"].parameters())


def test_a_table_of_costs_has_a_row_for_each_method(monkeypatch):
    order, render = [], cost.Colorizer.render
    seen = lambda self, *maps: order.append(self.model.method.name) or render(self, *maps)  # noqa: E731
    monkeypatch.setattr(cost.Colorizer, "render", seen)
    images = np.random.default_rng(0).integers(256, size=(2, 32, 32, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match="size: expected pixels >= 1, got -1"):
        cost.costs({"a": METHODS["l2"]}, images, -1)
    table = cost.costs({"a": METHODS["l2"], "b": METHODS["class"]}, images, 32).set_index("method")
    alone = cost.cost(Model.build(METHODS["class"], images), 32)
    assert table.loc["b", [*alone]].to_dict() == alone and (table["milliseconds"] > 0).all() and len(table) == 2
    assert order == ["l2", "class"] * 6  # they take turns
