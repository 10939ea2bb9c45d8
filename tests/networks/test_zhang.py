"""The network of Zhang et al. 2016 against the release, key by key and number by number."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from colorstudy.bins import ColorBins
from colorstudy.color import to_tensor
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.networks import build
from colorstudy.networks.zhang import Zhang

# Channels through each block's 3 x 3 convolutions, the stride of the last, the dilation of all.
BLOCKS = [
    ((1, 64, 64), 2, 1),
    ((64, 128, 128), 2, 1),
    ((128, 256, 256, 256), 2, 1),
    ((256, 512, 512, 512), 1, 1),
    ((512, 512, 512, 512), 1, 2),
    ((512, 512, 512, 512), 1, 2),
    ((512, 512, 512, 512), 1, 1),
]
NORM = ("weight", "bias", "running_mean", "running_var")


def published():
    """Key -> shape of every tensor of the release, from the architecture alone."""
    shapes = {}
    for block, (channels, _, _) in enumerate(BLOCKS, 1):
        for i, (before, after) in enumerate(pairwise(channels)):
            shapes[f"model{block}.{2 * i}.weight"] = (after, before, 3, 3)
            shapes[f"model{block}.{2 * i}.bias"] = (after,)
        norm = f"model{block}.{2 * len(channels) - 2}"
        shapes |= {f"{norm}.{name}": (channels[-1],) for name in NORM} | {f"{norm}.num_batches_tracked": ()}
    kernels = [(512, 256, 4, 4), (256, 256, 3, 3), (256, 256, 3, 3), (313, 256, 1, 1)]
    for i, kernel in enumerate(kernels):
        shapes[f"model8.{2 * i}.weight"] = kernel
        shapes[f"model8.{2 * i}.bias"] = (kernel[1] if i == 0 else kernel[0],)  # the first is transposed
    return shapes | {"model_out.weight": (2, 313, 1, 1)}


def is_counter(key):
    return key.endswith("num_batches_tracked")


@pytest.fixture(scope="module")
def state():
    """Random tensors of the release: signals keep their size through them, and no tensor is neutral."""
    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for key, shape in published().items():
        noise = torch.randn(shape, generator=generator)
        if is_counter(key):
            tensors[key] = torch.tensor(7)
        elif key == "model_out.weight":
            tensors[key] = ColorBins.in_gamut().centers.T[..., None, None].contiguous() / 110
        elif len(shape) == 4:
            tensors[key] = noise * (2 / shape[1 if key != "model8.0.weight" else 0] / (9 if shape[2] > 1 else 1)) ** 0.5
        elif key.endswith("running_var"):
            tensors[key] = 0.5 + noise.abs()
        elif key.endswith("weight"):
            tensors[key] = 1 + 0.2 * noise
        else:
            tensors[key] = 0.2 * noise
    return tensors


@pytest.fixture(scope="module")
def net(state):
    made = build("zhang", 313)
    made.load_state_dict(state, strict=True)
    return made.eval()


def by_hand(state, lightness):
    """Logits from the tensors alone; sides must be multiples of 8."""
    x = (lightness - 50) / 100
    for block, (channels, stride, dilation) in enumerate(BLOCKS, 1):
        last = len(channels) - 2
        for i in range(last + 1):
            weight, bias = (state[f"model{block}.{2 * i}.{name}"] for name in ("weight", "bias"))
            x = F.conv2d(x, weight, bias, stride if i == last else 1, dilation, dilation).clamp(min=0)
        scale, shift, mean, variance = (state[f"model{block}.{2 * last + 2}.{n}"][:, None, None] for n in NORM)
        x = (x - mean) / (variance + 1e-5).sqrt() * scale + shift
    x = F.conv_transpose2d(x, state["model8.0.weight"], state["model8.0.bias"], 2, 1).clamp(min=0)
    for i in (2, 4):
        x = F.conv2d(x, state[f"model8.{i}.weight"], state[f"model8.{i}.bias"], padding=1).clamp(min=0)
    return F.conv2d(x, state["model8.6.weight"], state["model8.6.bias"])


def lightness(height, width, batch=1):
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(height)) * 100


def shapes(module):
    return {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}


def test_keys_and_shapes_are_those_of_the_architecture(net):
    assert shapes(net) == published() and list(shapes(net)) == list(published())
    assert sum(p.numel() for p in net.parameters()) == 32_236_011


def test_keys_and_shapes_are_those_of_the_release(net, reference):
    rows = dict(line.split(",") for line in reference("eccv16_state_dict.csv").split()[1:])
    assert {key: "x".join(map(str, shape)) or "scalar" for key, shape in shapes(net).items()} == rows


@torch.no_grad()
def test_the_network_equals_its_evaluation_by_hand(net, state):
    for size in [(64, 40), (8, 8)]:
        ours, expected = net(lightness(*size, batch=2)), by_hand(state, lightness(*size, batch=2))
        assert ours.shape == (2, 313, size[0] // 4, size[1] // 4) and expected.std() > 0.1
        assert (ours - expected).norm() < 1e-5 * expected.norm()
        assert (ours - expected).abs().max() < 1e-5 * expected.abs().max()


@torch.no_grad()
def test_the_last_layer_of_the_release_is_the_mean_over_our_bins(net):
    logits = 3 * net(lightness(32, 32))
    mean = ColorBins.in_gamut().annealed_mean(logits, temperature=1)
    assert mean.abs().max() > 5
    assert torch.allclose(net.model_out(logits.softmax(1)) * 110, mean, atol=1e-3)
    assert torch.allclose(build("zhang-small", 313).model_out.weight, net.model_out.weight)


@torch.no_grad()
@pytest.mark.parametrize("height, width", [(1, 1), (7, 9), (33, 50), (64, 61)])
def test_any_size_gives_a_quarter(net, height, width):
    assert net(lightness(height, width)).shape == (1, 313, -(-height // 4), -(-width // 4))


def test_a_colour_or_other_bins_have_no_last_layer():
    for channels in (2, 32):
        assert not [key for key in shapes(build("zhang-small", channels)) if key.startswith("model_out")]
    assert shapes(build("zhang-small", 2))["model8.6.weight"] == (2, 64, 1, 1)


def test_the_small_twin_has_the_same_keys_and_a_quarter_of_the_width():
    small, whole = shapes(build("zhang-small", 313)), published()
    assert list(small) == list(whole) and small["model5.2.weight"] == (128, 128, 3, 3)
    assert sum(p.numel() for p in build("zhang-small", 313).parameters()) == 2_033_211
    assert shapes(Zhang(2, width=1e-3))["model7.6.weight"] == (1,)


@torch.no_grad()
@pytest.mark.parametrize("name", ["zhang", "zhang-small"])
def test_a_fresh_network_passes_its_input_on(name):
    """Under torch's own initial weights, batch norm's epsilon swallows what the convolutions leave."""
    made = build(name, 2).train()
    pictures = lightness(32, 32, batch=4)
    shallow = made.model1((pictures - 50) / 100)
    deep = made.model4(made.model3(made.model2(shallow)))
    assert deep.std((0, 2, 3)).median() > 0.9  # batch norm did reach unit variance
    assert (made(pictures) - made(pictures.flip(0))).std() > 0.1


@pytest.mark.parametrize("name", ["zhang-l2", "zhang-class", "zhang-full"])
def test_the_small_twin_learns(name, losses):
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), np.uint8)
    images = np.stack([np.array(Image.fromarray(s).resize((32, 32), Image.Resampling.BICUBIC)) for s in small])
    rgb = to_tensor(images)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Model.build(replace(METHODS[name], network="zhang-small"), images).train()
    fixed = model.network.model_out.weight.clone() if name != "zhang-l2" else None
    found = losses(model, rgb, 12, 1e-3)
    assert found[-1] < 0.8 * found[0]
    assert fixed is None or torch.equal(model.network.model_out.weight, fixed)
