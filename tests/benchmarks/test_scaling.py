"""`make bench`: how time grows with the work, as the exponent of a power law."""

import numpy as np
import pandas as pd
import pytest
from measure import alternate, functions
from test_training_speed import stepper, trained

from colorstudy.bins import ColorBins
from colorstudy.color import to_tensor
from colorstudy.data import ImageBank
from colorstudy.study.evaluation import evaluate
from colorstudy.study.intervals import intervals
from colorstudy.study.scores import aggregate, scores_in
from colorstudy.targets import Classification
from colorstudy.video.smoothing import colorize_clip


def test_step(images, bench):
    model, step = stepper("class", images)
    rgb = to_tensor(images[:32])
    shown = {side**2: rgb[:8, :, :side, :side].contiguous() for side in (32, 48, 64, 96, 128)}
    bench.grow("step (side)", "pixels", {n: lambda x=x: step(model.loss(x)) for n, x in shown.items()})
    shown = {count: rgb[:count, :, :64, :64].contiguous() for count in (4, 8, 16, 32)}
    bench.grow("step (batch)", "pictures", {n: lambda x=x: step(model.loss(x)) for n, x in shown.items()})


def test_loss(chroma, bench):
    targets = [Classification(ColorBins.in_gamut(spacing)) for spacing in (20, 14, 10, 7)]
    bench.grow("loss", "bins", {target.out_channels: trained(target, chroma) for target in targets})


@pytest.fixture(scope="module")
def evaluated(images, colorizer):
    """Evaluates so many pictures of 64 px: windows and mirror images of photographs."""
    corners = np.random.default_rng(0).integers(64, size=(1777, 2))
    windows = [images[i % len(images)][y : y + 64, x : x + 64] for i, (y, x) in enumerate(corners)]
    windows = np.stack([window[:, ::-1] if i % 2 else window for i, window in enumerate(windows)])

    def evaluated(count):
        split, names = ("train",) * 100 + ("test",) * count, tuple(f"{i:05}" for i in range(100 + count))
        return evaluate(colorizer, ImageBank(f"{count}", windows[: 100 + count], names, split, f"{count}"))

    return evaluated


def test_evaluation(images, colorizer, evaluated, bench):
    calls = {count: lambda count=count: evaluated(count) for count in (210, 419, 839, 1677)}
    taken = bench.grow("evaluation", "pictures", calls, rounds=1, warm=0)
    shown = to_tensor(np.resize(images[:, :64, :64], (1677, 64, 64, 3)))
    alone = alternate(lambda: [colorizer.colorize(part) for part in shown.split(16)], rounds=1, warm=0)
    bench.row("Evaluating 1,677 pictures of 64 px", taken[:, -1], "CPU-s", goal="≤ 5",
              plain=f"colouring them: {alone.item():.1f} CPU-s", why=lambda: functions(calls[210]))  # fmt: skip


def test_intervals(evaluated, bench):
    table, tables = evaluated(210), {}
    for count in (420, 839, 1677, 3354):
        runs = [table.sample(count, replace=True, random_state=seed).assign(seed=seed) for seed in range(3)]
        tables[count] = pd.concat([run.assign(image=[f"{i:05}" for i in range(count)]) for run in runs])
    calls = {n: lambda t=t: intervals(t, scores_in(t)) for n, t in tables.items()}
    taken = bench.grow("intervals", "images", calls)
    few = table.sample(1677, replace=True, random_state=0)
    each = np.median(alternate(lambda: aggregate(few.sample(frac=1, replace=True)), rounds=20))
    plain = f"a bootstrap that aggregates 2,000 draws: {2000 * 3 * each:.0f} CPU-s"
    bench.row("Intervals, 1,677 x 3", 1000 * taken[:, 2], "CPU-ms", goal="≤ 40", plain=plain,
              why=lambda: functions(calls[1677]))  # fmt: skip


def test_colouring(large, colorizer, bench):
    parts = {12 * k**2 / 16: np.ascontiguousarray(large[: 750 * k, : 1000 * k]) for k in (1, 2, 3, 4)}
    bench.grow("colouring", "megapixels", {n: lambda p=p: colorizer.colorize(p) for n, p in parts.items()}, rounds=2)


def test_video(pan, colorizer, tmp_path, bench):
    """With flow, from file to file."""
    options = {"overwrite": True, "progress": False}
    clips = {count: pan(count) for count in (8, 16, 32, 64)}
    calls = {n: lambda c=c: colorize_clip(c, tmp_path / "out.mp4", colorizer, **options) for n, c in clips.items()}
    bench.grow("video", "frames", calls, rounds=1)
