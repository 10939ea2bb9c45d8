"""`make bench`: the speed of what matters, as ratios of two things timed in turn in one run, and the memory it takes.

Run it on an otherwise idle machine.
"""

import json
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import mvtbdata
import numpy as np
import pytest
import skimage.color
import torch
import torch.nn.functional as F
from PIL import Image
from scipy.spatial import cKDTree
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from colorstudy import metrics
from colorstudy.bins import ColorBins
from colorstudy.color import srgb_to_lab
from colorstudy.data import batch, folder, photos, read
from colorstudy.data import build as banks
from colorstudy.data.readers import fit as centre
from colorstudy.methods import get
from colorstudy.model import Model
from colorstudy.targets import Classification
from colorstudy.training import TrainConfig, fit


def timed(call):
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def ratio(ours, theirs, rounds=9):
    """Median of the ratios of `ours` to `theirs`, timed in turn, and the two medians in words."""
    times = [[timed(ours), timed(theirs)] for _ in range(rounds + 1)]
    times = torch.tensor(times[1:])  # the first round warms up
    first, second = (1000 * times.median(0).values).tolist()
    return (times[:, 0] / times[:, 1]).median().item(), f"{first:.3g} ms against {second:.3g} ms"


def in_a_process(code, *arguments):
    """The JSON that Python `code` prints last, in a process of its own."""
    done = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def bins():
    return ColorBins.in_gamut()


@pytest.fixture(scope="module")
def images():
    return photos(size=128).train.images


@pytest.fixture(scope="module")
def loss_inputs(bins):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(16, len(bins), 56, 56, generator=generator, requires_grad=True)
    return logits, torch.randn(16, 2, 56, 56, generator=generator) * 30


# --- 1: the loss ---


def test_classification_loss_against_cross_entropy(bins, loss_inputs, report):
    logits, chroma = loss_inputs
    labels, target = bins.nearest(chroma), Classification(bins)

    def ours():
        logits.grad = None
        target.loss(logits, chroma).backward()

    def theirs():
        logits.grad = None
        F.cross_entropy(logits, labels).backward()

    report("soft-encoded loss and gradient / cross_entropy with hard labels", *ratio(ours, theirs, 25), at_most=0.85)


def test_classification_loss_against_a_dense_target(bins, loss_inputs, report):
    """As the released code of Zhang et al. and its ports do: a k-d tree, a dense array of weights, its loss."""
    logits, chroma = loss_inputs
    target = Classification(bins)
    tree = cKDTree(bins.centers.numpy())

    def ours():
        logits.grad = None
        target.loss(logits, chroma).backward()

    def theirs():
        logits.grad = None
        points = chroma.permute(0, 2, 3, 1).reshape(-1, 2).numpy()
        distance, nearest = tree.query(points, k=5)
        weights = np.exp(-(distance**2) / (2 * 5.0**2))
        weights /= weights.sum(1, keepdims=True)
        dense = np.zeros((len(points), len(bins)))
        dense[np.arange(len(points))[:, None], nearest] = weights
        dense = torch.from_numpy(dense).float().view(16, 56, 56, -1).permute(0, 3, 1, 2)
        (-(dense * torch.log_softmax(logits, 1)).sum() / len(points)).backward()

    report("the same / dense target by nearest-neighbour search", *ratio(ours, theirs, 7), at_most=0.1)


# The peak of a process's own memory; what `getrusage` calls so is inherited from the parent.
_MEMORY = """
def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024
def reset():
    open("/proc/self/clear_refs", "w").write("5")
    return peak()
"""

_PEAK = (
    _MEMORY
    + """
import json, sys, torch, torch.nn.functional as F
from colorstudy.bins import ColorBins
from colorstudy.targets import Classification
bins, which = ColorBins.in_gamut(), sys.argv[1]
target = Classification(bins)
def run(batch):
    logits, chroma = torch.randn(batch, 313, 56, 56).requires_grad_(), torch.randn(batch, 2, 56, 56) * 30
    labels = bins.nearest(chroma)
    before = reset()
    loss = target.loss(logits, chroma) if which == "ours" else F.cross_entropy(logits, labels)
    loss.backward()
    return (peak() - before) / 2**20
run(1)
print(json.dumps(run(16)))
"""
)


def test_peak_memory_of_the_loss(report):
    ours, theirs = in_a_process(_PEAK, "ours"), in_a_process(_PEAK, "theirs")
    details = f"{ours:.0f} MiB against {theirs:.0f} MiB"
    report("its peak memory above the logits / that of cross_entropy", ours / theirs, details, at_most=1)


# --- 2: a training step, an evaluation ---


def _updater(method, images):
    model = Model.build(get(method), images).train()
    optimizer = torch.optim.AdamW(model.parameters())

    def update(loss):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return model, update


_BATCH = {"augmentation": "crops", "batch_size": 32, "crop": 64, "seed": 0}


@pytest.mark.parametrize("method", ["l2", "class", "full"])
def test_training_step_against_a_fixed_batch(method, images, report):
    """The right side is forward, backward and optimizer on lightness and chroma that are there already."""
    model, update = _updater(method, images)
    step = iter(range(10_000))
    rgb = batch(images, 0, **_BATCH)
    lab = srgb_to_lab(rgb)

    def ours():
        update(model.loss(batch(images, next(step), **_BATCH)))

    def theirs():
        update(model.target.loss(model.network(lab[:, :1]), lab[:, 1:]))

    report(f"training step of {method}, data included / on a fixed batch", *ratio(ours, theirs, 25), at_most=1.10)


def test_multiply_add_rate_of_a_step(images, report):
    model, update = _updater("class", images)
    rgb = batch(images, 0, **_BATCH)
    with FlopCounterMode(display=False) as counter:
        update(model.loss(rgb))
    seen = {}
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, _: seen.update({layer: inputs[0].detach().clone()}))
        for layer in model.network.modules()
        if isinstance(layer, nn.Conv2d)
    ]
    model.loss(rgb)
    for hook in hooks:
        hook.remove()
    rates = []
    for layer, x in seen.items():
        x = x.requires_grad_(x.shape[1] > 1)
        out = layer(x)
        grad = torch.randn_like(out)

        def call(layer=layer, x=x, grad=grad):
            layer(x).backward(grad)

        with FlopCounterMode(display=False) as own:
            call()
        call()
        rates.append(own.get_total_flops() / np.median([timed(call) for _ in range(7)]))
    step = counter.get_total_flops() / np.median([timed(lambda: update(model.loss(rgb))) for _ in range(15)])
    details = f"{step / 2e9:.0f} against {max(rates) / 2e9:.0f} G multiply-adds/s, forward and backward"
    report("multiply-add rate of a step / of its best convolution", step / max(rates), details, at_least=0.75)


def test_metrics_against_the_network(report):
    """Both per picture, on 32 of 256 px."""
    bank = photos(size=256)
    rgb = torch.from_numpy(bank.images[:32].copy()).permute(0, 3, 1, 2) / 255
    model = Model.build(get("class"), bank.images[:32]).eval()
    lab = srgb_to_lab(rgb)
    predicted = (rgb * 0.9 + 0.05).clamp(0, 1)

    @torch.inference_mode()
    def network():
        for some in lab[:, :1].split(8):
            model.network(some)

    def scores():
        for a, b in zip(predicted.split(8), rgb.split(8), strict=True):
            metrics.per_image(a, b, torch.ones(len(a), 256, 256))

    value, details = ratio(scores, network, 5)
    slowest = {
        "SSIM": timed(lambda: metrics.ssim(predicted, rgb)),
        "CIEDE2000": timed(lambda: metrics.ciede2000(srgb_to_lab(predicted), lab)),
    }
    details += "".join(f"; {name} alone {1000 * seconds:.0f} ms" for name, seconds in slowest.items())
    report("all metrics of pictures of 256 px / the network's forward pass", value, details, at_most=0.2)


# --- 3: colours, bins, AuC ---


def test_lab_of_a_large_picture_against_scikit_image(report):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (3000, 4000, 3), dtype=torch.uint8, generator=generator)
    floats = (pixels / 255).numpy()
    for name, bar, theirs, ours in (
        ("float32", 1 / 4, floats, torch.from_numpy(floats).permute(2, 0, 1).contiguous()),
        ("uint8", 1 / 8, pixels.numpy(), pixels.permute(2, 0, 1).contiguous()),
    ):
        value, details = ratio(lambda: srgb_to_lab(ours), lambda: skimage.color.rgb2lab(theirs), 5)  # noqa: B023
        report(f"srgb_to_lab of 12 megapixels of {name} / scikit-image", value, details, at_most=bar)


def test_nearest_bin_against_all_distances(bins, report):
    chroma = torch.randn(1, 2, 500, 500, generator=torch.Generator().manual_seed(0)) * 25
    points = chroma[0].flatten(1).T.contiguous()
    measured = ratio(lambda: bins.nearest(chroma), lambda: torch.cdist(points, bins.centers).argmin(1))
    report("nearest bin / cdist().argmin", *measured, at_most=1 / 20)


def test_auc_against_a_loop_over_thresholds(report):
    generator = torch.Generator().manual_seed(0)
    pred, true = (torch.randn(16, 2, 256, 256, generator=generator) * 30 for _ in range(2))

    def loop():
        distance = (pred - true).norm(dim=1)
        shares = torch.stack([(distance <= d).float().mean((1, 2)) for d in range(151)])
        return torch.trapezoid(shares, dim=0) / 150

    gap = (metrics.auc(pred, true) - loop()).abs().max().item()
    value, details = ratio(lambda: metrics.auc(pred, true), loop, 5)
    assert gap <= 0.5 / 150  # half a step of 1 in 150
    words = f"{details}; they differ by {gap:.1e}, and half a step of 1 in 150 is 3.3e-3"
    report("AuC / loop over 151 thresholds", value, words, at_most=1 / 25)


# --- 4: data ---


def test_batches_against_training(images, report):
    model, update = _updater("class", images)
    step = iter(range(10_000))
    value, details = ratio(
        lambda: batch(images, next(step), **_BATCH), lambda: update(model.loss(batch(images, 0, **_BATCH))), 25
    )
    report("random batches of 64 px / training step", value, details, at_most=1 / 50)


def test_decoding_uses_all_cores(tmp_path, report):
    """A folder of JPEGs of 640 x 480, decoded as a user's folder is, against one thread doing the same work."""
    generator = np.random.default_rng(0)
    pictures = [Image.fromarray(centre(photos(size=128).images[i], 640)) for i in range(8)]
    count = 1000
    for i in range(count):
        picture = pictures[i % 8].rotate(int(generator.integers(360)), expand=False)
        picture.crop((0, 0, 640, 480)).save(tmp_path / f"{i:05}.jpg", quality=90)
    rates = {}
    for workers in (1, banks.WORKERS, 1, banks.WORKERS):
        before, banks.WORKERS = banks.WORKERS, workers
        try:
            seconds = timed(lambda: folder(tmp_path, 128, cache_dir=tmp_path / f"cache{len(rates)}-{time.time()}"))
        finally:
            banks.WORKERS = before
        rates.setdefault(workers, []).append(count / seconds)
    one, all_ = max(rates[1]), max(rates[max(rates)])
    cores = os.cpu_count() if max(rates) >= os.cpu_count() else max(rates)
    details = f"{all_:.0f} pictures/s with {max(rates)} workers, {one:.0f} with one"
    report("decoding rate of a folder / (cores x rate of one)", all_ / (cores * one), details, at_least=0.9)


# --- 5: colouring ---

_COLOR = (
    _MEMORY
    + """
import json, sys, time
from pathlib import Path
import numpy as np, torch
from PIL import Image
from colorstudy.colorize import Colorizer
from colorstudy.data import read
run, source, target = sys.argv[1:]
colorizer = Colorizer.load(run)
small = np.zeros((64, 64, 3), np.uint8)
colorizer.colorize(small)
before = reset()
Image.fromarray(colorizer.colorize(read(source))).save(target, quality=95)
memory = peak() - before
parts, whole = [], []
for _ in range(4):
    started = time.perf_counter()
    Image.fromarray(colorizer.colorize(read(source))).save(target, quality=95)
    whole.append(time.perf_counter() - started)
    started = time.perf_counter()
    pixels = read(source)
    with torch.inference_mode():
        colorizer.model(torch.rand(1, 1, 96, 128) * 100)
    Image.fromarray(pixels).save(target, quality=95)
    parts.append(time.perf_counter() - started)
print(json.dumps([memory, min(whole), min(parts)]))
"""
)


_CAMPUS = Path(mvtbdata.__file__).parent / "images" / "campus"


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory):
    config = TrainConfig(steps=2, batch_size=4, crop=32)
    return fit("class", photos(size=64), config, tmp_path_factory.mktemp("run") / "class")


def test_colouring_a_large_picture(run_folder, tmp_path, report):
    source = tmp_path / "large.jpg"
    # Photographs at their own size, side by side, so that it is as rich in detail as one of a camera.
    tiles = [read(path)[:480, :640] for path in sorted(_CAMPUS.glob("*.png"))[:16]]
    tiles = [np.pad(tile, ((0, 480 - tile.shape[0]), (0, 640 - tile.shape[1]), (0, 0)), "reflect") for tile in tiles]
    rows = [np.concatenate([tiles[(7 * i + 3 * j) % len(tiles)] for j in range(7)], 1) for i in range(7)]
    Image.fromarray(np.concatenate(rows)[:3000, :4000]).save(source, quality=92)
    peak, whole, parts = in_a_process(_COLOR, str(run_folder), str(source), str(tmp_path / "out.jpg"))
    floats = 4000 * 3000 * 3 * 4
    report("colouring 12 megapixels: peak memory / size as floats", peak / floats, f"{peak / 2**20:.0f} MiB", at_most=8)
    details = f"{1000 * whole:.0f} ms against {1000 * parts:.0f} ms"
    report("the same: time / (decode + network + encode)", whole / parts, details, at_most=1.5)


_STREAM = (
    _MEMORY
    + """
import json, sys
from colorstudy.cli import main
marks = []
import colorstudy.colorize as c
old = c.Colorizer.colorize
def colorize(self, *a, **k):
    marks.append(peak())
    return old(self, *a, **k)
c.Colorizer.colorize = colorize
assert main(["colorize", sys.argv[1], "--run", sys.argv[2], "-o", sys.argv[3]]) == 0
print(json.dumps([len(marks), marks[len(marks) // 10] / 2**20, marks[-1] / 2**20]))
"""
)


def test_a_folder_streams(run_folder, tmp_path, report):
    pictures = tmp_path / "in"
    pictures.mkdir()
    for i in range(1000):
        Image.fromarray(centre(photos(size=128).images[i % 50], 256)).save(pictures / f"{i:04}.jpg")
    count, early, late = in_a_process(_STREAM, str(pictures), str(run_folder), str(tmp_path / "out"))
    assert count == 1000
    details = f"{early:.0f} MiB after 100, {late:.0f} MiB after 1,000 pictures"
    report("colouring 1,000 pictures: peak memory at the end / after 100", late / early, details, at_most=1.05)


# --- 6: imports ---


def test_import_time(report):
    def python(code):
        subprocess.run([sys.executable, "-c", code], check=True)

    modules = "bins, targets, training, colorize, metrics, data"
    value, details = ratio(lambda: python("import colorstudy"), lambda: python("import torch"), 7)
    report("import colorstudy / import torch", value, details, at_most=1.1)
    loaded = "import sys; from colorstudy.cli import main\ntry: main(['--help'])\nexcept SystemExit: pass\n"
    done = subprocess.run(
        [sys.executable, "-c", loaded + "print('torch' in sys.modules)"], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "False"
    value, details = ratio(lambda: python(f"from colorstudy import {modules}"), lambda: python("import torch"), 3)
    report("all modules of training and colouring / import torch", value, details)


# --- 7: options ---


def test_options(images, report):
    """Steps/s of `class`, relative to the plain step of 32 bits, timed in turn."""
    steps = {}
    for name, change in {
        "32-true": {},
        "bf16-mixed": {"precision": "bf16-mixed"},
        "channels_last": {"channels_last": True},
        "compile": {"compile": True},
    }.items():
        config = replace(TrainConfig(), **change)
        model, update = _updater("class", images)
        if config.channels_last:
            model.network.to(memory_format=torch.channels_last)
        if config.compile:
            model.network.compile()

        def step(model=model, update=update, half=config.precision == "bf16-mixed"):
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = model.loss(batch(images, 0, **_BATCH))
            update(loss)

        step()
        steps[name] = step
    for name in list(steps)[1:]:
        value, details = ratio(steps[name], steps["32-true"], 9)
        report(f"training step with {name} / 32 bits", value, details)


# --- 8: processes ---


def test_two_processes_against_two_threads(tmp_path, report):
    def seconds(processes, threads, name):
        launch = (
            ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"] if processes > 1 else []
        )
        options = ["--steps=60", "--interval=60", f"--threads={threads}", "--accelerator=cpu", "--size=128"]
        command = [sys.executable, *launch, "-m", "colorstudy", "train", "class", "-o", str(tmp_path / name), *options]
        environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return json.loads((tmp_path / name / "train.json").read_text())["seconds"]

    pairs = [(seconds(2, 1, f"two-{i}"), seconds(1, 2, f"one-{i}")) for i in range(3)]
    value = np.median([one / two for two, one in pairs])
    rates = [32 * 60 / np.median(times) for times in zip(*pairs, strict=True)]
    details = f"{rates[0]:.0f} against {rates[1]:.0f} pictures/s"
    report("throughput of 2 processes x 1 thread / 1 process x 2 threads", value, details, at_least=0.9)
