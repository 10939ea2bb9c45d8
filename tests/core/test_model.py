"""Models that learn, and files that hold all of one and are refused when they don't."""

import json
import pickle
from dataclasses import asdict

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from colorstudy.color import split, to_tensor
from colorstudy.methods import METHODS, Method
from colorstudy.model import Model

KINDS = ["l2", "class", "full", "colorunet"]


@pytest.fixture(scope="module")
def images():
    """Four smooth colour pictures, uint8 (4, 24, 24, 3)."""
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), np.uint8)
    return np.stack([np.array(Image.fromarray(s).resize((24, 24), Image.Resampling.BICUBIC)) for s in small])


@pytest.fixture(scope="module")
def rgb(images):
    return to_tensor(images)


def build(name, images, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Model.build(METHODS[name], images)


def test_a_fresh_model_is_that_of_its_method_and_of_the_generator(images):
    model = build("full", images).eval()
    assert model.method is METHODS["full"] and model.data == "" and model.size == 128
    assert model.network(torch.rand(2, 1, 16, 20) * 100).shape == (2, 313, 4, 5)
    assert model.checksum == build("full", images).checksum
    assert model.checksum != build("full", images, seed=1).checksum
    assert model.checksum != build("full", images[::-1, ..., ::-1].copy()).checksum  # another prior
    assert build("class", images).checksum != build("class-posthoc", images).checksum  # only the method differs


# --- what goes through it ---


@pytest.mark.parametrize("name", KINDS)
def test_a_few_pictures_can_be_learned(name, images, rgb, losses):
    model = build(name, images).train()
    found = losses(model, rgb, 30, 3e-3)
    assert found[-1] < 0.7 * found[0]


@pytest.mark.parametrize("name", KINDS)
def test_the_loss_is_that_of_the_target_for_what_the_network_says(name, images, rgb):
    model = build(name, images).eval()
    lightness, chroma = split(rgb, model.method.space)
    with torch.no_grad():
        output = model(lightness)
        assert torch.equal(output, model.network(lightness))
        assert torch.equal(model.loss(rgb), model.target.loss(output, chroma))
        assert model.target.decode(output).shape == (4, 2, *output.shape[-2:])


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
    lightness, chroma = split(rgb, model.method.space)
    assert seen["output"].dtype == torch.bfloat16  # the network did run in half precision
    assert torch.equal(seen["chroma"], chroma) and torch.equal(seen["lightness"], lightness)
    assert half.dtype == torch.float32
    assert half.item() == pytest.approx(exact.item(), rel=0.02)


def test_a_model_in_double_precision_computes_in_it(images, rgb):
    single, double = build("class", images).eval(), build("class", images).eval()
    double.network.double()
    with torch.no_grad():
        assert double(split(rgb)[0]).dtype == torch.float64
        assert double.loss(rgb).item() == pytest.approx(single.loss(rgb).item(), rel=1e-4)


def test_training_may_start_from_the_network_of_another_but_for_its_last_layer(images):
    start, model, other = build("full", images, seed=1), build("l2-ft", images), build("colorunet", images)
    head = model.network.head.weight.clone()
    model.start_from(start)
    ours, theirs = model.network.state_dict(), start.network.state_dict()
    assert {key for key in ours if key.startswith("head.")} == {"head.weight", "head.bias"}
    assert all(torch.equal(ours[key], theirs[key]) for key in ours if not key.startswith("head."))
    assert torch.equal(model.network.head.weight, head)
    with pytest.raises(
        ValueError, match=r"^start: expected the network of l2-ft, compact, but for one layer, got color"
    ):
        model.start_from(other)


# --- files ---


@pytest.mark.parametrize("name", KINDS)
def test_files_bring_back_every_bit(name, images, rgb, tmp_path):
    model = build(name, images)
    model.loss(rgb)  # moves the running statistics of batch norm
    model.size, model.data = 24, "tiny"
    path = tmp_path / "deep" / "model.safetensors"
    model.save(path)
    loaded = Model.load(path)
    assert loaded.method == model.method and (loaded.size, loaded.data) == (24, "tiny")
    assert loaded.checksum == model.checksum
    ours, theirs = model.state_dict(), loaded.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) and ours[key].dtype == theirs[key].dtype for key in ours)
    assert not any(module.training for module in loaded.modules())
    lightness, _ = split(rgb, model.method.space)
    with torch.no_grad():
        assert torch.equal(model.eval()(lightness), loaded(lightness))
        assert torch.equal(model.loss(rgb), loaded.loss(rgb))
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


@pytest.mark.parametrize("name", KINDS)
def test_a_file_of_half_precision_is_smaller_and_colours_alike(name, images, rgb, tmp_path):
    model = build(name, images)
    model.loss(rgb)
    model.save(tmp_path / "False.safetensors")
    model.network.half()
    model.save(tmp_path / "True.safetensors")
    whole, rounded = (Model.load(tmp_path / f"{half}.safetensors") for half in (False, True))
    sizes = [(tmp_path / f"{half}.safetensors").stat().st_size for half in (False, True)]
    assert sizes[1] < 0.6 * sizes[0] and rounded.method == model.method
    for key, tensor in rounded.state_dict().items():
        is_weight = key.startswith("network.") and tensor.is_floating_point()
        expected = whole.state_dict()[key]
        assert tensor.dtype == expected.dtype
        assert torch.equal(tensor, expected.half().float() if is_weight else expected)


def test_a_file_says_what_it_holds(images, tmp_path):
    model = build("colorunet", images)
    model.size, model.data = 24, "tiny"
    model.save(tmp_path / "m.safetensors")
    with safe_open(tmp_path / "m.safetensors", "pt") as file:
        metadata = file.metadata()
        assert set(file.keys()) == set(model.state_dict())
    assert list(metadata) == ["model"]
    described = json.loads(metadata["model"])
    assert set(described) == {"method", "size", "data", "sha256"}
    assert Method(**described["method"]) == METHODS["colorunet"]
    assert described["size"] == 24 and described["data"] == "tiny" and len(described["sha256"]) == 64


def test_the_same_model_gives_the_same_file(images, tmp_path):
    """Byte for byte, so that the hash of a file says which model it holds."""
    model = build("l2", images)
    model.size, model.data = 24, "tiny"
    for i in range(12):
        model.save(tmp_path / f"{i}.safetensors")
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
    chroma = torch.rand(1, 2, 20, 20) - 0.5
    assert torch.equal(target.bins.nearest(chroma), target.bins.soft(chroma, 1)[0][..., 0])


@pytest.fixture
def saved(images, tmp_path):
    path = tmp_path / "model.safetensors"
    build("class", images).save(path)
    return path


def rewrite(path, change=lambda state: None, **other):
    """Change the tensors of a file, and fields of its description; its checksum stays."""
    state = load_file(path)
    with safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["model"])
    change(state)
    described["method"] |= other
    save_file(state, path, {"model": json.dumps(described)})


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
        (lambda state: state.update({"network.head.bias": state["network.head.bias"] + 1}), "sha256: expected"),
        (lambda state: state.update({"target.weights": state["target.weights"] * 2}), "sha256: expected"),
    ],
)
def test_spare_misshapen_and_changed_tensors_are_refused(saved, change, words):
    rewrite(saved, change)
    with pytest.raises(ValueError) as caught:
        Model.load(saved)
    assert str(saved) in str(caught.value) and words in str(caught.value)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"network": "colorunet"}, r"Missing key.*down1"),
        ({"colour": "blue"}, r"model\.safetensors: expected .*colour"),
        ({"space": "hsv"}, r"model\.safetensors: expected .*space: expected one of"),
        ({"temperature": 0.1}, r"sha256: expected the checksum of what the file holds"),
        ({"temperature": "cold"}, r"model\.safetensors: expected the weights of a Model, got"),
        ({"network": 5}, r"model\.safetensors: expected .* network: expected a name"),
        ({"network": ["compact"]}, r"model\.safetensors: expected .* network: expected a name"),
    ],
)
def test_a_method_that_does_not_fit_the_tensors_is_refused(saved, fields, message):
    rewrite(saved, **fields)
    with pytest.raises(ValueError, match=message):
        Model.load(saved)


@pytest.mark.parametrize("field", ["size", "data", "sha256", "method"])
def test_a_file_that_lacks_a_part_of_its_description_is_refused(saved, field):
    with safe_open(saved, "pt") as file:
        described = json.loads(file.metadata()["model"])
    del described[field]
    save_file(load_file(saved), saved, {"model": json.dumps(described)})
    with pytest.raises(ValueError, match=rf"model\.safetensors: expected the weights of a Model, got .*{field}"):
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


@pytest.mark.parametrize("metadata", [None, {"format": "pt"}, {"method": json.dumps(asdict(METHODS["class"]))}])
def test_tensors_without_a_description_are_refused(saved, metadata):
    save_file(load_file(saved), saved, metadata)
    with pytest.raises(ValueError, match=r"model\.safetensors: expected a 'model' in its metadata"):
        Model.load(saved)


@pytest.mark.parametrize("text", ["{", "5", "null", "[1]", '"l2"', "{}", '{"sha256": "", "method": 5}', "[" * 100_000])
def test_metadata_that_are_no_description_are_refused(saved, text):
    save_file(load_file(saved), saved, {"model": text})
    with pytest.raises(ValueError, match=r"model\.safetensors: expected"):
        Model.load(saved)


@pytest.mark.parametrize("name", ["class-posthoc", "colorunet-lost-center", "cheng-no-filter"])
def test_a_file_is_read_as_a_method_that_decodes_it_otherwise(name, images, tmp_path):
    method = METHODS[name]
    build(method.decodes, images).save(tmp_path / "m.safetensors")
    model = Model.load(tmp_path / "m.safetensors", method)
    made = build(name, images)
    assert model.method == method and type(model.target) is type(made.target)
    output = torch.randn(1, made.target.out_channels, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.target.decode(output), made.target.decode(output))
    with pytest.raises(ValueError, match=f"got method: expected one that decodes {method.decodes}, got .*name='full'"):
        Model.load(tmp_path / "m.safetensors", METHODS["full"])


def test_a_missing_file_is_not_found(tmp_path):
    for path in (tmp_path / "none.safetensors", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"expected the weights of a model, found no file"):
            Model.load(path)


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
