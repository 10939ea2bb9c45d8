"""Named methods, their weights, and files that hold all of a model and are refused when they don't."""

import json
import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from colorstudy import prior
from colorstudy.bins import ColorBins
from colorstudy.color import split
from colorstudy.methods import METHODS, Method, Model, get

KINDS = ["l2", "class", "full", "colorunet"]


@pytest.fixture(scope="module")
def images():
    """Four smooth colour pictures, uint8 (4, 24, 24, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), np.uint8)
    return np.stack([np.array(Image.fromarray(s).resize((24, 24), Image.Resampling.BICUBIC)) for s in small])


@pytest.fixture(scope="module")
def rgb(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2) / 255


def build(name, images, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get(name).build(images)


def test_the_three_of_zhang_and_the_two_of_billaut():
    assert {"l2", "class", "full", "colorunet", "convnet"} <= set(METHODS)
    assert all(method.name == name for name, method in METHODS.items())
    assert [METHODS[name].lam for name in ("class", "full")] == [1, 0.5]
    assert METHODS["colorunet"].space == "yuv" and METHODS["colorunet"].neighbors == 1
    assert get("full") is METHODS["full"] and get(METHODS["l2"]) is METHODS["l2"]


def test_the_three_of_zhang_are_the_same_on_both_networks():
    for name in ("l2", "class", "full"):
        assert METHODS[f"zhang-{name}"] == replace(METHODS[name], name=f"zhang-{name}", network="zhang")


def test_class_weights(images):
    assert torch.equal(build("class", images).target.weights, torch.ones(313))
    full = build("full", images).target.weights
    p = prior.smooth(prior.count(images, ColorBins.in_gamut()), ColorBins.in_gamut(), 5.0)
    assert (p * full.double()).sum().item() == pytest.approx(1, abs=1e-6)
    assert full.max() / full.min() > 2
    assert torch.allclose(full.double(), prior.rebalancing_weights(p, 0.5), rtol=1e-6)


def test_class_posthoc_is_class_decoded_with_the_weights_of_full(images, rgb):
    plain, posthoc, full = (build(name, images) for name in ("class", "class-posthoc", "full"))
    assert torch.equal(posthoc.target.weights, plain.target.weights)
    assert torch.equal(posthoc.loss(rgb), plain.loss(rgb))  # so training is the same
    assert torch.equal(posthoc.target.posthoc, full.target.weights)
    logits = torch.randn(1, 313, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(posthoc.target.decode(logits), plain.target.decode(logits, rebalance=1.0))
    assert not torch.equal(posthoc.target.decode(logits), plain.target.decode(logits))


def test_paper_and_released_code_differ_by_settings_that_all_build_and_learn(images, rgb):
    """Section 2 of Zhang et al. against their code: each switch changes the target and nothing else."""
    full = METHODS["full"]
    switches = [{"neighbors": 10}, {"sampling": "point"}, {"grey_mask": 5.0}, {"smoothing": 0.0}, {"bins": "reachable"}]
    for switch in switches:
        made = build(replace(full, **switch), images)
        assert made.loss(rgb).isfinite(), switch
        assert made.target.out_channels == (261 if "bins" in switch else 313)
    assert build(replace(METHODS["l2"], sampling="point"), images).target.sampling == "point"


def test_most_frequent_bins_are_those_of_the_training_pictures(images):
    target = build("colorunet", images).target
    assert target.out_channels == 32 and target.bins.space == "yuv"
    other = build("colorunet", images[:, :, :, ::-1].copy()).target.bins
    assert not torch.equal(other.centers, target.bins.centers)


@pytest.mark.parametrize("name", KINDS)
def test_files_bring_back_every_bit(name, images, rgb, tmp_path):
    model = build(name, images)
    model.loss(rgb)  # moves the running statistics of batch norm
    path = tmp_path / "deep" / "model.safetensors"
    model.save(path, size="24", data="tiny")
    loaded = Model.load(path)
    assert loaded.method == model.method and loaded.notes == {"size": "24", "data": "tiny"}
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
    assert not any(module.training for module in loaded.modules())
    lightness, _ = split(rgb, model.method.space)
    with torch.no_grad():
        assert torch.equal(model.eval()(lightness), loaded(lightness))
        assert torch.equal(model.loss(rgb), loaded.loss(rgb))
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_the_same_model_gives_the_same_file(images, tmp_path):
    """Byte for byte, so that the hash of a file says which model it holds."""
    model = build("l2", images)
    for i in range(12):
        model.save(tmp_path / f"{i}.safetensors", size="24", data="tiny", seed="0")
    assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1


@pytest.mark.parametrize("name", ["class", "colorunet"])
def test_files_hold_bins_and_weights(name, images, tmp_path):
    """Other bins and weights than a fresh model would have come back too: nothing is counted or derived again."""
    model = build(name, images)
    model.target.bins.centers += 0.125
    model.target.bins.reachable[3] = False
    model.target.weights *= 3
    model.save(tmp_path / "m.safetensors")
    target = Model.load(tmp_path / "m.safetensors").target
    assert torch.equal(target.bins.centers, model.target.bins.centers)
    assert torch.equal(target.bins.reachable, model.target.bins.reachable)
    assert torch.equal(target.weights, model.target.weights)


@pytest.fixture
def saved(images, tmp_path):
    path = tmp_path / "model.safetensors"
    build("class", images).save(path)
    return path


def rewrite(path, change, metadata=None):
    state = load_file(path)
    change(state)
    save_file(state, path, {"method": json.dumps({**vars(METHODS["class"]), **(metadata or {})})})


@pytest.mark.parametrize(
    "key",
    ["network.head.weight", "network.up4.mix.0.1.running_mean", "target.weights", "target.bins.centers"],
)
def test_missing_tensors_are_refused(saved, key):
    rewrite(saved, lambda state: state.pop(key))
    with pytest.raises(ValueError) as caught:
        Model.load(saved)
    assert str(saved) in str(caught.value) and key in str(caught.value)


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.update(spare=torch.zeros(2)), "spare"),
        (lambda state: state.update({"network.head.bias": torch.zeros(5)}), "network.head.bias"),
        (lambda state: state.update({"target.weights": torch.ones(5)}), "weights"),
        (lambda state: state.update({"target.bins.centers": torch.zeros(313, 3)}), "centers"),
        (lambda state: state.update({"target.weights": torch.zeros(313)}), "weights: expected positive"),
    ],
)
def test_spare_and_misshapen_tensors_are_refused(saved, change, words):
    rewrite(saved, change)
    with pytest.raises(ValueError) as caught:
        Model.load(saved)
    assert str(saved) in str(caught.value) and words in str(caught.value)


def test_a_method_that_does_not_fit_the_tensors_is_refused(saved):
    rewrite(saved, lambda state: None, {"network": "colorunet"})
    with pytest.raises(ValueError, match=r"Missing key.*down1"):
        Model.load(saved)
    rewrite(saved, lambda state: None, {"colour": "blue"})
    with pytest.raises(ValueError, match=r"model\.safetensors: expected .*colour"):
        Model.load(saved)
    rewrite(saved, lambda state: None, {"space": "hsv"})
    with pytest.raises(ValueError, match=r"model\.safetensors: expected .*space: expected one of"):
        Model.load(saved)


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: b"no tensors at all",
        lambda content: b"",
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:50],
        lambda content: b"\xff" * 8 + content[8:],
    ],
)
def test_damaged_files_are_refused(saved, damage):
    saved.write_bytes(damage(saved.read_bytes()))
    with pytest.raises(ValueError, match=r"model\.safetensors: expected a safetensors file, got"):
        Model.load(saved)


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}])
def test_tensors_without_a_method_are_refused(saved, metadata):
    save_file(load_file(saved), saved, metadata)
    with pytest.raises(ValueError, match=r"model\.safetensors: expected a 'method' in its metadata"):
        Model.load(saved)


@pytest.mark.parametrize("text", ["{", "5", "[1]", '"l2"', "{}"])
def test_metadata_that_are_no_method_are_refused(saved, text):
    save_file(load_file(saved), saved, {"method": text})
    with pytest.raises(ValueError, match=r"model\.safetensors: expected"):
        Model.load(saved)


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.safetensors: expected the weights of a model, found no file"):
        Model.load(tmp_path / "none.safetensors")


class Opened:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("write", [lambda o, p: p.write_bytes(pickle.dumps(o)), lambda o, p: torch.save({"a": o}, p)])
def test_nothing_is_unpickled(write, tmp_path):
    path, trace = tmp_path / "model.safetensors", tmp_path / "trace"
    write(Opened(trace), path)
    with pytest.raises(ValueError, match="expected a safetensors file"):
        Model.load(path)
    assert not trace.exists()
    pickle.loads(pickle.dumps(Opened(trace))).close()
    assert trace.exists()  # so the trap works


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"target": "both"}, r"^target: expected one of \['regression', 'classification'\], got 'both'"),
        ({"network": "resnet"}, r"^network: expected one of \['cheng', .*'compact', .*got 'resnet'"),
        ({"space": "hsv"}, r"^space: expected one of \['lab', 'yuv'\], got 'hsv'"),
        ({"bins": "all"}, r"^bins: expected one of \['in_gamut', 'reachable', 'most_frequent'\], got 'all'"),
        ({"lam": 1.5}, r"^lam: expected a share in \[0, 1\], got 1.5"),
        ({"lam": float("nan")}, r"^lam: expected a share in \[0, 1\], got nan"),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(METHODS["class"], **fields)


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match=r"^method: expected one of \['l2', 'l2-ft', 'class', 'full', .*got 'zhang'"):
        get("zhang")


@pytest.mark.parametrize("name", KINDS)
def test_a_few_pictures_can_be_learned(name, images, rgb):
    model = build(name, images).train()
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    losses = []
    for _ in range(30):
        loss = model.loss(rgb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize("name", KINDS)
def test_bfloat16_leaves_the_colours_alone(name, images, rgb, monkeypatch):
    model = build(name, images).eval()
    with torch.no_grad():
        exact = model.loss(rgb)
    seen = {}
    loss_of, forward = model.target.loss, model.network.forward
    monkeypatch.setattr(model.target, "loss", lambda o, c: seen.update(output=o, chroma=c) or loss_of(o, c))
    monkeypatch.setattr(model.network, "forward", lambda x: seen.update(lightness=x) or forward(x))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        half = model.loss(rgb)
        colours = model(seen["lightness"])
    lightness, chroma = split(rgb, model.method.space)
    assert seen["output"].dtype == torch.bfloat16  # the network did run in half precision
    assert torch.equal(seen["chroma"], chroma) and torch.equal(seen["lightness"], lightness)
    assert half.dtype == colours.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=0.02)


def test_colours_are_decoded_before_they_are_enlarged(images):
    model = build("class", images).eval()
    lightness = torch.rand(1, 1, 40, 24, generator=torch.Generator().manual_seed(0)) * 100
    with torch.no_grad():
        small = model.target.decode(model.network(lightness), temperature=0.1)
        ours = model(lightness, (80, 48), temperature=0.1)
    assert ours.shape == (1, 2, 80, 48) and small.shape == (1, 2, 10, 6)
    expected = torch.nn.functional.interpolate(small, (80, 48), mode="bilinear")
    assert torch.allclose(ours, expected, atol=1e-4)


def test_methods_are_plain_data():
    assert Method(**json.loads(json.dumps(vars(METHODS["full"])))) == METHODS["full"]
