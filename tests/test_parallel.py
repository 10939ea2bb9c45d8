"""Several processes train as one does: the same curve, one writer, a death that loses nothing."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from colorstudy.training import history

SETTINGS = {"steps": 8, "batch-size": 8, "crop": 32, "interval": 4, "threads": 1, "accelerator": "cpu"}


def command(processes, method, out, **settings):
    """`colorstudy train` by so many processes."""
    start = [sys.executable, "-m"]
    if processes > 1:
        start += ["torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", "-m"]
    options = [f"--{name}={value}" for name, value in (SETTINGS | settings).items()]
    return [*start, "colorstudy", "train", method, "-o", str(out), "--size=64", *options]


def train(*arguments, **settings):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command(*arguments, **settings), env=environment, capture_output=True, text=True)


def difference(first, second):
    """The largest relative difference of the losses of two runs."""
    a, b = (torch.tensor([row["loss"] for row in history(run)], dtype=torch.float64) for run in (first, second))
    assert len(a) == len(b) > 0
    return ((a - b).abs() / a).max().item()


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """One process's run of `full` in double precision."""
    out = tmp_path_factory.mktemp("alone") / "run"
    done = train(1, "full", out, precision="64-true")
    assert done.returncode == 0, done.stderr
    return out


def test_two_processes_draw_the_curve_of_one(alone, tmp_path):
    """In double precision, as 32 bits would tell two orders of one sum apart, and training makes it more."""
    done = train(2, "full", tmp_path / "run", precision="64-true")
    assert done.returncode == 0, done.stderr
    assert difference(alone, tmp_path / "run") < 1e-5
    ours, theirs = (load_file(run / "model.safetensors") for run in (tmp_path / "run", alone))
    assert all(torch.allclose(ours[name], theirs[name], rtol=1e-4, atol=1e-6) for name in theirs)
    assert done.stdout.count("step 8/8") == 1  # and one of them speaks
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == sorted(p.name for p in alone.iterdir())
    again = train(2, "full", tmp_path / "run", precision="64-true")
    assert again.returncode == 0 and again.stdout.count("already trained") == 1


@pytest.mark.parametrize("method", ["colorunet", "cheng"])
def test_views_and_networks_that_see_nothing_are_shared_too(method, tmp_path):
    """In 32 bits the first losses agree; `cheng` has networks that get no pixel of a batch."""
    for processes in (1, 2):
        done = train(processes, method, tmp_path / str(processes), steps=2)
        assert done.returncode == 0, done.stderr
    assert difference(tmp_path / "1", tmp_path / "2") < 1e-5


def test_another_number_of_processes_goes_on(alone, tmp_path):
    """Stopped after the first interval by a second process that dies: a clear end, a usable checkpoint."""
    out = tmp_path / "run"
    # Long enough to be met in the middle; its schedule is then that of the run that goes on.
    settings = {"precision": "64-true", "steps": 400}
    running = subprocess.Popen(
        command(2, "full", out, **settings),
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("checkpoint-*")) and time.monotonic() < deadline:
        time.sleep(0.05)
    os.kill(_rank(running.pid, 1), signal.SIGKILL)
    output, _ = running.communicate(timeout=120)
    assert running.returncode != 0
    assert "another process of this run ended, or it was told to stop; the last checkpoint is whole" in output
    assert "Signal 9 (SIGKILL)" in output  # torchrun says which one
    assert not (out / "train.json").exists()
    (checkpoint,) = out.glob("checkpoint-*")
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert len(load_file(checkpoint / "model.safetensors")) == len(load_file(alone / "model.safetensors"))

    resumed = subprocess.Popen(
        command(1, "full", out, **settings), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    deadline = time.monotonic() + 120
    while not list(out.glob(f"checkpoint-*{step + 4}")) and time.monotonic() < deadline:
        time.sleep(0.05)
    resumed.kill()
    output, _ = resumed.communicate()
    assert f"resumed at step {step}" in output
    assert [int(row["step"]) for row in history(out)][: step + 4] == list(range(step + 4))


def _rank(launcher, rank):
    """The process id of a rank that torchrun, of process id `launcher`, started."""
    for environ in Path("/proc").glob("[0-9]*/environ"):
        try:
            found = environ.read_bytes().split(b"\0")
            parent = int((environ.parent / "stat").read_text().rpartition(")")[2].split()[1])
        except (OSError, IndexError):
            continue
        if parent == launcher and b"RANK=%d" % rank in found:
            return int(environ.parent.name)
    raise AssertionError(f"no rank {rank} below {launcher}")


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_written(tmp_path):
    done = train(2, "l2", tmp_path / "run", **{"batch-size": 7})
    assert done.returncode != 0
    assert "batch_size: expected a multiple of the 2 processes, got 7" in done.stderr
    assert not (tmp_path / "run").exists()
