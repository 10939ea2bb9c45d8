"""The guided filter against its definition, window by window; and each way of upsampling on a known edge."""

import numpy as np
import torch

from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.experiments.upsampling import UPSAMPLINGS, Upsampling, guided, upsamplings
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.targets import Regression


def test_guided_is_least_squares_in_every_window():
    """He et al. 2010: ridge regression of chroma on lightness in each window, and the mean of all that hold a pixel."""
    generator = torch.Generator().manual_seed(0)
    lightness, chroma = 100 * torch.rand(1, 1, 6, 7, generator=generator), torch.randn(1, 2, 6, 7, generator=generator)
    radius, smooth = 1, 4.0
    total, count = np.zeros((2, 6, 7)), np.zeros((6, 7))
    for i in range(6):
        for j in range(7):
            window = (slice(max(0, i - radius), i + radius + 1), slice(max(0, j - radius), j + radius + 1))
            guide = lightness[0, 0].numpy().astype(float)[window]
            for c in range(2):
                values = chroma[0, c].numpy().astype(float)[window]
                slope = ((guide * values).mean() - guide.mean() * values.mean()) / (guide.var() + smooth**2)
                total[(c, *window)] += slope * lightness[0, 0].numpy()[window] + values.mean() - slope * guide.mean()
            count[window] += 1
    assert np.allclose(guided(chroma, lightness, radius, smooth)[0].numpy(), total / count, atol=1e-4)


def test_a_filter_brings_a_blurred_edge_of_colour_back_to_that_of_lightness():
    lightness = torch.full((1, 1, 32, 32), 20.0)
    lightness[..., 16:] = 80.0
    sharp = torch.where(lightness > 50, 40.0, -40.0).expand(-1, 2, -1, -1)
    blurred = torch.nn.functional.interpolate(sharp[..., 2::4, 2::4].roll(1, -1), (32, 32), mode="bilinear")
    errors = {name: (filtered(blurred, lightness) - sharp).abs().mean() for name, filtered in UPSAMPLINGS.items()}
    assert errors["guided"] < errors["bilinear"] and errors["joint bilateral"] < errors["bilinear"]


def test_bilinear_is_what_a_colorizer_does():
    model = Model(METHODS["l2"], Regression(), 32)
    images = np.random.default_rng(0).integers(256, size=(6, 48, 48, 3), dtype=np.uint8)
    same = Upsampling(model, 32, "cpu", by="bilinear").colorize(images)
    assert np.abs(same.astype(int) - Colorizer(model, 32, "cpu").colorize(images)).max() <= 1
    bank = ImageBank("made", images, tuple("abcdef"), ("train",) * 2 + ("val",) * 3 + ("test",), "")
    table = upsamplings(Colorizer(model, 32, "cpu"), bank, [32, 48], 2)
    assert table.groupby(["size", "by"])["image"].apply(list).tolist() == [["c", "e"]] * 5  # also filters and grey
    seen = Upsampling(model, 96, "cpu", by="guided").predict(torch.full((1, 1, 48, 48), 50.0))
    assert seen.shape[-2:] == (24, 24)  # a quarter of what the network was shown
