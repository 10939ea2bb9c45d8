"""`make bench`: the speed of what matters, as ratios of two things timed in turn in one run.

Run it on an otherwise idle machine; each test prints its ratio and holds it to a bound.
"""

import time

import pytest
import torch
import torch.nn.functional as F

from colorstudy.bins import ColorBins
from colorstudy.data import crops, photos, to_float
from colorstudy.methods import get
from colorstudy.targets import Classification


def ratio(ours, theirs, rounds=9):
    """Median of the ratios of `ours` to `theirs`, timed in turn, and the two medians in ms."""
    times = []
    for _ in range(rounds + 1):
        pair = []
        for call in (ours, theirs):
            started = time.perf_counter()
            call()
            pair.append(time.perf_counter() - started)
        times.append(pair)
    times = torch.tensor(times[1:])  # the first round warms up
    return (times[:, 0] / times[:, 1]).median().item(), *(1000 * times.median(0).values).tolist()


def report(name, value, ours, theirs, bound):
    print(f"\n{name}: {value:.2f} (bound {bound}); {ours:.1f} ms against {theirs:.1f} ms")
    assert value <= bound


def test_classification_loss_against_cross_entropy():
    generator = torch.Generator().manual_seed(0)
    bins = ColorBins.in_gamut()
    logits = torch.randn(16, len(bins), 56, 56, generator=generator, requires_grad=True)
    chroma = torch.randn(16, 2, 56, 56, generator=generator) * 30
    labels = bins.nearest(chroma)
    target = Classification(bins)

    def ours():
        logits.grad = None
        target.loss(logits, chroma).backward()

    def theirs():
        logits.grad = None
        F.cross_entropy(logits, labels).backward()

    report("soft-encoded loss and backward / F.cross_entropy with hard labels", *ratio(ours, theirs), bound=1.2)


@pytest.mark.parametrize("method", ["l2", "class", "full"])
def test_training_step_against_a_fixed_batch(method):
    images = photos(size=128).train.images
    model = get(method).build(images).train()
    optimizer = torch.optim.AdamW(model.parameters())
    step = iter(range(10_000))
    fixed = torch.rand(32, 1, 64, 64) * 100

    def update(loss):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    def ours():
        batch = crops(images, next(step), batch_size=32, crop=64, seed=0)
        update(model.loss(to_float(batch, 64)))

    def theirs():
        update(model.network(fixed).square().mean())

    report(f"training step of {method}, data and loss / network on a fixed batch", *ratio(ours, theirs, 25), bound=1.25)


def test_nearest_bin_against_all_distances():
    bins = ColorBins.in_gamut()
    chroma = torch.randn(1, 2, 500, 500, generator=torch.Generator().manual_seed(0)) * 25
    points = chroma[0].flatten(1).T.contiguous()
    report(
        "nearest bin / cdist().argmin",
        *ratio(lambda: bins.nearest(chroma), lambda: torch.cdist(points, bins.centers).argmin(1)),
        bound=0.2,
    )
