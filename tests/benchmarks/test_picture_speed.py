"""`make bench`: colours, bins, colouring, scores, video."""

import importlib

import numpy as np
import pytest
import skimage.color
import skimage.metrics
import torch
from measure import alternate, functions, operators, python
from PIL import Image
from scipy.spatial import cKDTree

from colorstudy import metrics
from colorstudy.color import split, srgb_to_lab, to_tensor
from colorstudy.data import photos, read
from colorstudy.filters import downscale
from colorstudy.video.files import Clip
from colorstudy.video.smoothing import Smoother, colorize_frame


def peer(name):
    """A module that is for comparison only, or None."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def test_bins(bins, chroma, bench):
    logits = 3 * torch.randn(16, len(bins), 56, 56, generator=torch.Generator().manual_seed(0))
    points, tree = chroma.permute(0, 2, 3, 1).reshape(-1, 2), cKDTree(bins.centers.numpy())

    def mean():
        return torch.einsum("bqhw,qc->bchw", torch.softmax(logits / 0.38, 1), bins.centers)

    five, one = tree.query(points, k=5)[1], torch.cdist(points, bins.centers).argmin(1)
    assert (bins.annealed_mean(logits) - mean()).abs().max() < 1e-3
    assert np.mean(np.sort(bins.soft(chroma)[0].reshape(-1, 5), 1) == np.sort(five, 1)) > 0.99  # equally far for greys
    assert (bins.nearest(chroma).flatten() == one).float().mean() > 0.999
    bench.compare("Annealed mean, (16, 313, 56, 56)", lambda: bins.annealed_mean(logits), mean,
                  "softmax(logits / T), einsum with the centres", "≤ 35", unit="CPU-ms")  # fmt: skip
    bench.compare("Soft encoding, 262,144 pixels of photographs", lambda: bins.soft(chroma),
                  lambda: tree.query(points.numpy(), k=5), "SciPy's k-d tree, without weights", "≤ 55", unit="CPU-ms",
                  why=functions)  # fmt: skip
    bench.compare("Nearest bin of these pixels", lambda: bins.nearest(chroma),
                  lambda: torch.cdist(points, bins.centers).argmin(1), "cdist, argmin", "≤ 0.05", rounds=3)  # fmt: skip


def test_lab_of_12_megapixels(large, bench):
    rgb = to_tensor(large)[None]  # (1, 3, 3000, 4000)
    array = np.ascontiguousarray(rgb[0].movedim(0, -1).numpy())
    true = skimage.color.rgb2lab(array[:300].astype(np.float64))
    kornia, cv2 = peer("kornia.color"), peer("cv2")

    def ours():
        return srgb_to_lab(rgb)[0].movedim(0, -1).numpy()

    def error(call):
        return float(np.abs(call()[:300] - true).max())

    bench.row("Lab of 12 megapixels of float32", 1000 / 12 * alternate(ours, rounds=5)[:, 0], "CPU-ms/MP", goal="≤ 25",
              plain="the libraries below", why=lambda: operators(ours))  # fmt: skip
    bench.row("Largest error of that", error(ours), "", goal="≤ 0.0005", plain="scikit-image in float64")
    for name, theirs in {
        "scikit-image": lambda: skimage.color.rgb2lab(array),
        "kornia": kornia and (lambda: kornia.rgb_to_lab(rgb)[0].movedim(0, -1).numpy()),
        "OpenCV": cv2 and (lambda: cv2.cvtColor(array, cv2.COLOR_RGB2LAB)),
    }.items():
        details = f"; its largest error {error(theirs):.1g}" if theirs else ""
        bench.compare(f"Lab of 12 megapixels ({name})", ours, theirs, name, rounds=2, details=details)


# --- colouring ---


@pytest.mark.parametrize("what, goal, rounds", [("12 megapixels", "≤ 2.5", 4), ("256 px", "", 9), ("128 px", "", 9)])
def test_colouring(what, goal, rounds, large, images, colorizer, tmp_path, bench):
    """From one JPEG file to another, with the weights that come with the package."""
    source, target = tmp_path / "source.jpg", tmp_path / "out.jpg"
    pixels = {"12 megapixels": large, "128 px": images[0]}.get(what, large[:256, :256])
    Image.fromarray(pixels).save(source, quality=92)
    lightness = downscale(split(to_tensor(pixels)[None])[0], colorizer.size / min(pixels.shape[:2]))

    def ours():
        Image.fromarray(colorizer.colorize(read(source))).save(target, quality=95)

    def theirs():
        colored = read(source)
        with torch.inference_mode():
            colorizer.model(lightness)
        Image.fromarray(colored).save(target, quality=95)

    bench.compare(f"Colouring a picture of {what}", ours, theirs, "decode, network, encode", goal, rounds=rounds)


PEAK = """
def peak(reset=False):  # MiB; what `getrusage` gives is the parent's, where that was larger
    if reset:
        open("/proc/self/clear_refs", "w").write("5")
    return next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM"))
"""
_MEMORY = f"""{PEAK}
import sys
from PIL import Image
from colorstudy.colorize import Colorizer
from colorstudy.data import read
colorizer = Colorizer.load("full", device="cpu")
colorizer.colorize(read(sys.argv[1])[:64, :64].copy())
before = peak(reset=True)
Image.fromarray(colorizer.colorize(read(sys.argv[1]))).save(sys.argv[2], quality=95)
print(peak() - before)
"""


def test_memory_of_colouring(large, tmp_path, bench):
    Image.fromarray(large).save(tmp_path / "source.jpg", quality=92)
    found = float(python("-c", _MEMORY, tmp_path / "source.jpg", tmp_path / "out.jpg"))
    plain = f"the picture as bytes: {large.nbytes / 2**20:.0f} MiB"
    bench.row("Peak memory of colouring 12 megapixels", found, "MiB", goal="≤ 200", plain=plain)


# --- scores ---


def test_scores(colorizer, bench):
    true = to_tensor(photos(size=256).images[:8])
    pred = (true * 0.9 + 0.05 + 0.02 * torch.sin(40 * true)).clamp(0, 1)
    pred_lab, true_lab, weights = srgb_to_lab(pred), srgb_to_lab(true), torch.ones(8, 256, 256)
    what, ours = "8 pictures of 256 px", lambda: metrics.per_image(pred, true, {"rebalanced": weights})
    with torch.inference_mode():
        bench.compare(f"All scores of {what}", ours, lambda: colorizer.model(true_lab[:, :1]), "network's forward pass",
                      "≤ 0.5", rounds=5, why=lambda call: f"{operators(call)}; or {functions(call)}")  # fmt: skip
    torchmetrics, kornia = peer("torchmetrics.functional.image"), peer("kornia.metrics")
    arrays = [maps.movedim(1, -1).double().numpy() for maps in (pred, true, pred_lab, true_lab)]
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 1.0}
    options["channel_axis"] = -1
    similar, window = skimage.metrics.structural_similarity, {"data_range": 1.0, "reduction": "none"}
    ssim, ciede = (lambda: metrics.ssim(pred, true)), (lambda: metrics.ciede2000(pred_lab, true_lab))
    for score, name, ours, theirs in (
        ("SSIM", "scikit-image", ssim, lambda: [similar(a, b, **options) for a, b in zip(*arrays[:2])]),
        ("SSIM", "torchmetrics", ssim,
         torchmetrics and (lambda: torchmetrics.structural_similarity_index_measure(pred, true, **window))),
        ("SSIM", "kornia", ssim, kornia and (lambda: kornia.ssim(pred, true, 11).mean((1, 2, 3)))),
        ("CIEDE2000", "scikit-image", ciede, lambda: skimage.color.deltaE_ciede2000(*arrays[2:]).mean((1, 2))),
    ):  # fmt: skip
        gap = np.abs(np.asarray(ours()) - np.asarray(theirs())).max() if theirs else 0
        details = f"; scores differ by up to {gap:.1g}"
        bench.compare(f"{score} of {what} ({name})", ours, theirs, name, rounds=3, details=details)


def test_auc(chroma, bench):
    def loop():
        distance = (chroma - chroma.flip(0)).norm(dim=1)
        return torch.trapezoid(torch.stack([(distance <= d).float().mean((1, 2)) for d in range(151)]), dim=0) / 150

    def ours():
        return metrics.auc(chroma, chroma.flip(0))

    assert (ours() - loop()).abs().max() <= 0.5 / 150  # half a step of 1 in 150
    bench.compare("AuC, 262,144 pixels", ours, loop, "loop over 151 thresholds", "≤ 0.04", rounds=3)


# --- video ---


def test_video(pan, colorizer, bench):
    """From frames in memory to coloured frames in memory: reading and writing would only hide the cost."""
    clip = Clip(pan(20))
    frames = [frame.pixels for frame in clip.frames()]

    def colored(kind):
        smoother = Smoother(kind)
        for frame in frames:
            colorize_frame(colorizer, frame, smoother)

    goals = {"flow": "≥ 30", "exponential": "≥ 60", "none": "≥ 70"}
    calls = {kind: lambda kind=kind: colored(kind) for kind in goals}
    taken = alternate(*calls.values(), lambda: [*clip.frames()], rounds=5)
    for (kind, goal), seconds in zip(goals.items(), taken.T):
        bench.row(f"Video of 640 x 360, smoothing {kind}", len(frames) / seconds, "frames/CPU-s", goal=goal,
                  plain="no smoothing", why=lambda kind=kind: functions(calls[kind]))  # fmt: skip
    bench.row("Decoding that video", len(frames) / taken[:, -1], "frames/CPU-s")
