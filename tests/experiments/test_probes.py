"""Probes of synthetic features and pictures, whose labels are known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from colorstudy.color import split, to_tensor
from colorstudy.data import ImageBank
from colorstudy.experiments import probes
from colorstudy.networks import build


def test_only_pictures_of_caltech_have_a_category():
    assert probes.category("caltech101/flamingo_head_image_0012.jpg") == "flamingo_head"
    assert probes.category("corel5k/1000.jpg") == ""


def test_a_probe_learns_labels_and_nothing_where_there_is_nothing():
    rng = np.random.default_rng(2)
    labels = ["a", "b", "c"] * 40
    noise = rng.standard_normal((120, 10))
    told = noise.copy()
    told[:, :3] += 4 * np.eye(3)[["abc".index(label) for label in labels]]
    right = np.array(labels[60:])
    assert (probes.probe(told[:60], labels[:60], told[60:]) == right).mean() > 0.9
    assert (probes.probe(noise[:60], labels[:60], noise[60:]) == right).mean() < 0.6


@pytest.mark.parametrize(("name", "channels"), [("compact", (32, 48, 80, 96)), ("pretrained", (16, 24, 40, 112, 320))])
def test_features_are_means_over_quarters_at_every_depth(name, channels):
    network = build(name, 2).eval()
    images = np.random.default_rng(0).integers(256, size=(3, 64, 64, 3), dtype=np.uint8)
    found = probes.features(network, images)
    assert [*found] == ["grey", *(f"1/{2 << i}" for i in range(len(channels)))]
    assert [part.shape for part in found.values()] == [(3, 64), *((3, 4 * c) for c in channels)]
    colored = images.copy()
    colored[..., 0] = 255 - colored[..., 0]
    assert not np.allclose(found["1/2"], probes.features(network, colored)["1/2"])  # another lightness


def test_the_maps_are_those_that_the_network_makes():
    """What hooks catch while it colours."""
    network, caught = build("compact", 2).eval(), []
    network.down8.register_forward_hook(lambda _, given, maps: caught.append(maps))
    images = np.random.default_rng(0).integers(256, size=(2, 64, 64, 3), dtype=np.uint8)
    with torch.inference_mode():
        network(split(to_tensor(images))[0])
    quarters = torch.nn.functional.adaptive_avg_pool2d(caught[0], 2).flatten(1)
    assert np.allclose(quarters, probes.features(network, images)["1/8"])


def test_every_network_is_asked_about_the_same_pictures():
    """Bright and dark pictures: even their pixels tell them apart, and those of other sets are left out."""
    rng = np.random.default_rng(1)
    dark = np.arange(40) % 2
    images = (rng.integers(60, size=(40, 64, 64, 3)) + 150 * (1 - dark)[:, None, None, None]).astype(np.uint8)
    names = tuple(f"caltech101/{'dark' if d else 'bright'}_image_{i:04}.jpg" for i, d in enumerate(dark[:-1]))
    bank = ImageBank("made", images, (*names, "other/1.jpg"), ("train",) * 24 + ("test",) * 16, "")
    with torch.random.fork_rng():
        run = SimpleNamespace(
            method="l2", seed=0, colorizer=lambda: SimpleNamespace(model=SimpleNamespace(network=build("compact", 2)))
        )
    table = probes.probes([run], bank)
    assert table.groupby(["method", "layer"]).size().eq(15).all()
    assert table.groupby("method")["layer"].nunique().to_dict() == {"imagenet": 6, "l2": 5, "random": 5}
    assert table.loc[table["layer"] == "grey", "accuracy"].mean() == 1
