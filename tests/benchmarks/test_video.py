"""`make bench`: what smoothing costs, and that a long clip takes no more memory than a short one."""

import json
import subprocess
import sys
import time
from fractions import Fraction

import av
import mvtbdata
import numpy as np
import pytest
import torch
from PIL import Image

from colorstudy.color import to_tensor, to_uint8
from colorstudy.colorize import Colorizer
from colorstudy.data import photos
from colorstudy.methods import get
from colorstudy.model import Model
from colorstudy.video.files import Clip
from colorstudy.video.smoothing import Smoother, colorize_frame

SIZE = (640, 360)


def pan(path, seconds):
    """A clip of 640 x 360 at 30 frames a second: a camera that goes to and fro before a photograph."""
    picture = Image.open(f"{mvtbdata.__path__[0]}/images/flowers4.png").convert("RGB").resize((960, 540))
    picture = np.asarray(picture)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=30, options={"preset": "ultrafast"})
        (stream.width, stream.height), stream.pix_fmt = SIZE, "yuv420p"
        for t in range(30 * seconds):
            x, y = (int((1 + f(t / 40)) / 2 * (s - w)) for f, s, w in ((np.sin, 960, 640), (np.cos, 540, 360)))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[y : y + 360, x : x + 640]), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 30)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.fixture(scope="module")
def colorizer():
    torch.manual_seed(0)
    model = Model.build(get("full"), photos(size=64).train.images)
    model.size = 89
    return Colorizer(model)


@pytest.mark.parametrize(("kind", "bar"), [("exponential", 1.3), ("flow", None)])
def test_smoothing_against_colouring_each_frame(kind, bar, colorizer, tmp_path, report):
    """Both from the frames in memory to coloured frames in memory: reading and writing would only hide the cost."""
    frames = [frame.pixels for frame in Clip(pan(tmp_path / "clip.mp4", 4)).frames()]
    ratios, rates = [], []
    for _ in range(7):
        times = []
        for smoother in (Smoother(kind), Smoother("none")):
            started = time.perf_counter()
            for frame in frames[:60]:
                to_uint8(colorize_frame(colorizer, to_tensor(frame)[None], smoother))
            times.append(time.perf_counter() - started)
        ratios.append(times[0] / times[1])
        rates.append([60 / t for t in times])
    first, second = np.median(rates[1:], axis=0)
    details = f"640 x 360, {first:.1f} against {second:.1f} frames/s"
    report(f"colouring frames, {kind} / none", float(np.median(ratios[1:])), details, at_most=bar)


def test_a_long_clip_takes_no_more_memory(colorizer, tmp_path, report):
    """Peak resident memory of the command line, of 2 minutes against 10 seconds."""
    weights = tmp_path / "model.safetensors"
    colorizer.model.save(weights)
    code = """
import re, sys
from pathlib import Path
from colorstudy.cli import main
assert main(["colorize", *sys.argv[1:]]) == 0
# Not getrusage: its peak is inherited from the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 1024)
"""
    peaks = []
    for seconds in (10, 120):
        clip, out = pan(tmp_path / f"{seconds}.mp4", seconds), tmp_path / f"{seconds}-out.mp4"
        command = [sys.executable, "-c", code, str(clip), "--run", str(weights), "-o", str(out)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(json.loads(done.stdout.splitlines()[-1]))
        assert Clip(out).length == 30 * seconds
    details = f"640 x 360, flow: {peaks[1]:.0f} MiB against {peaks[0]:.0f} MiB"
    report("peak memory of 2 minutes - of 10 seconds, MiB", peaks[1] - peaks[0], details, at_most=300)
