"""`make bench`: the loss, a training step, two threads and two processes."""

import json
import os

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from measure import alternate, operators, python
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from colorstudy.color import srgb_to_lab
from colorstudy.data import batch
from colorstudy.methods import get
from colorstudy.model import Model
from colorstudy.targets import Classification

BATCH = {"augmentation": "crops", "batch_size": 32, "crop": 64, "seed": 0}


def trained(target, chroma, loss=None):
    """A call of a loss (by default the target's) of logits of 56 x 56 for `chroma`, and its gradient."""
    logits = torch.randn(16, target.out_channels, 56, 56, generator=torch.Generator().manual_seed(0))
    logits, truth, loss = logits.requires_grad_(), F.adaptive_avg_pool2d(chroma, 56), loss or target.loss

    def call():
        logits.grad = None
        found = loss(logits, truth)
        found.backward()
        return found.item()

    return call


def dense_loss(logits, chroma, centers, sigma=5.0):
    """Zhang et al. 2016, Equation 2, with a target for every bin, as Time0o's code goes about it: all bins sorted."""
    distance = torch.cdist(centers, chroma.permute(1, 0, 2, 3).flatten(1).T)  # (Q, N)
    nearest = distance.argsort(dim=0)[:5]
    weights = torch.softmax(distance.gather(0, nearest).square() / (-2 * sigma**2), 0)
    dense = torch.zeros_like(distance).scatter_(0, nearest, weights)
    dense = dense.view(-1, len(logits), *logits.shape[2:]).transpose(0, 1)  # (B, Q, h, w)
    log_dense = torch.where(dense > 0, dense, 1).log()
    return -((torch.log_softmax(logits, 1) - log_dense) * dense).sum() / distance.shape[1]


def test_loss(bins, chroma, bench):
    target, name = Classification(bins), "Loss and gradient, (16, 313, 56, 56)"
    ours, truth = trained(target, chroma), F.adaptive_avg_pool2d(chroma, 56)
    labels, entropy = bins.nearest(truth), torch.special.entr(bins.soft(truth)[1]).sum(-1).mean().item()
    dense = trained(target, chroma, lambda logits, truth: dense_loss(logits, truth, bins.centers))
    assert ours() - dense() == pytest.approx(entropy, abs=1e-3)  # the dense form is the divergence
    hard = trained(target, chroma, lambda logits, _: F.cross_entropy(logits, labels))
    bench.compare(name, ours, hard, "cross-entropy with hard labels, which are given", "≤ 0.65")
    bench.compare(
        f"{name} (dense)", ours, dense, "dense target, every bin sorted, as in Time0o's code", "≤ 0.1", rounds=2
    )


# --- a training step ---


def stepper(method, images):
    """A fresh model that trains, and a call that takes a step down the loss that a function gives."""
    model = Model.build(get(method), images).train()
    optimizer = torch.optim.AdamW(model.parameters())

    def step(loss):
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return model, step


@pytest.mark.parametrize("method", ["class", "full", "l2"])
def test_training_step(method, images, bench):
    model, step = stepper(method, images)
    number, lab = iter(range(10_000)), srgb_to_lab(batch(images, 0, **BATCH))
    ours = lambda: step(model.loss(batch(images, next(number), **BATCH)))  # noqa: E731
    theirs = lambda: step(model.target.loss(model.network(lab[:, :1]), lab[:, 1:]))  # noqa: E731
    name, plain = f"Training step of `{method}`, batch included", "fixed batch in Lab, network, loss, optimizer"
    bench.compare(name, ours, theirs, plain, "≤ 1.03")


def test_bfloat16(images, bench):
    model, step = stepper("class", images)
    rgb = batch(images, 0, **BATCH)

    def half():
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(rgb)
        step(loss)

    bench.compare("Training step of `class` in bfloat16", half, lambda: step(model.loss(rgb)), "in float32")


def test_share_of_the_best_convolution(images, bench):
    """Multiply-adds a second of a step, and of that convolution of its network which has the most, alone."""
    model, step = stepper("class", images)
    rgb, seen = batch(images, 0, **BATCH), {}
    convolutions = [layer for layer in model.network.modules() if isinstance(layer, nn.Conv2d)]
    hooks = [layer.register_forward_hook(lambda layer, x, y: seen.update({layer: (x[0], y)})) for layer in convolutions]
    model.loss(rgb)
    for hook in hooks:
        hook.remove()
    calls, flops = [lambda: step(model.loss(rgb))], []
    for layer, (x, y) in seen.items():
        x, grad = x.detach().requires_grad_(x.requires_grad), torch.randn_like(y)
        calls.append(lambda layer=layer, x=x, grad=grad: layer(x).backward(grad))
    for call in calls:
        with FlopCounterMode(display=False) as counter:
            call()
        flops.append(counter.get_total_flops())
    rates = np.array(flops) / 2e9 / alternate(*calls)  # (rounds, calls)
    best = 1 + np.median(rates, axis=0)[1:].argmax()
    details = "{:.0f} against {:.0f} G multiply-adds/s".format(*np.median(rates, axis=0)[[0, best]])
    plain = "its best convolution alone, forward and backward"
    bench.row("Multiply-add rate of a step of `class`", rates[:, 0] / rates[:, best], "ratio", goal="≥ 0.78",
              plain=plain, details=details, why=lambda: operators(calls[0]))  # fmt: skip


# --- two threads, two processes: wall-clock time ---

_TWO_THREADS = """
import json, subprocess, sys, time, torch
from test_training_speed import BATCH, batch, stepper
from colorstudy.data import photos
images = photos(size=128).images
model, step = stepper("class", images)
rgb = batch(images, 0, **BATCH)
def timed(count):
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        step(model.loss(rgb))
        taken.append(1000 * (time.perf_counter() - started))
    return taken[3:]
quiet, busy = timed(18), [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
try:
    print(json.dumps([quiet, timed(12)]))
finally:
    for process in busy:
        process.kill()
        process.wait()
"""


def test_two_threads(bench):
    """With GOMP_SPINCOUNT=1000, and with what libgomp takes by itself."""
    taken = [[[], []], [[], []]]
    if bench.is_quiet():
        environments = ({"GOMP_SPINCOUNT": spins, "OMP_NUM_THREADS": "2"} for spins in ("1000", "300000"))
        taken = [json.loads(python("-c", _TWO_THREADS, **environment)) for environment in environments]
    for (when, goal), *sides in zip({"quiet machine": 135, "beside two busy processes": 350}.items(), *taken):
        words = "{:.0f} against {:.0f} ms".format(*(np.median(side or np.nan) for side in sides))
        bench.row(f"Step of `class` with two threads, {when}", sides[0], "ms", goal=f"≤ {goal}", details=words,
                  plain="waiting threads that spin as long as libgomp lets them", wall=True)  # fmt: skip


def test_two_processes(tmp_path, bench):
    def seconds(processes, threads, name):
        launch = ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"] * (processes > 1)
        options = ["--steps=30", "--interval=30", f"--threads={threads}", "--accelerator=cpu", "--size=128"]
        train = ["colorstudy", "train", "class", "-o", tmp_path / name, *options]
        python("-m", *launch, *train, OMP_NUM_THREADS=f"{threads}")
        return json.loads((tmp_path / name / "train.json").read_text())["seconds"]

    taken = np.full((1, 2), np.nan)
    if bench.is_quiet():
        taken = np.array([[seconds(2, 1, f"two-{i}"), seconds(1, 2, f"one-{i}")] for i in range(2)])
    details = "{:.0f} against {:.0f} pictures/s".format(*32 * 30 / taken.mean(0))
    bench.row("Training rate of two processes of one thread", taken[:, 1] / taken[:, 0], "ratio", goal="≥ 0.9",
              plain=f"one process of two threads, {os.cpu_count()} cores", details=details, wall=True)  # fmt: skip
