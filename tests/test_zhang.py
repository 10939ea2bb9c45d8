"""The network of Zhang et al. 2016 against the release, key by key and number by number, and files that pretend."""

import http.server
import pickle
import re
import threading
from collections import OrderedDict
from dataclasses import replace
from functools import partial
from hashlib import sha256
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from colorstudy import release
from colorstudy.bins import ColorBins
from colorstudy.cli import main
from colorstudy.color import split
from colorstudy.colorize import Colorizer
from colorstudy.methods import METHODS
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


# --- the network ---


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
    with pytest.raises(ValueError, match=r"^width: expected a number > 0, got 0"):
        Zhang(2, width=0)


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
def test_the_small_twin_learns(name):
    small = np.random.default_rng(0).integers(0, 256, (4, 4, 4, 3), np.uint8)
    images = np.stack([np.array(Image.fromarray(s).resize((32, 32), Image.Resampling.BICUBIC)) for s in small])
    rgb = torch.from_numpy(images).permute(0, 3, 1, 2) / 255
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = replace(METHODS[name], network="zhang-small").build(images).train()
    fixed = model.network.model_out.weight.clone() if name != "zhang-l2" else None
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    losses = []
    for _ in range(12):
        loss = model.loss(rgb)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert fixed is None or torch.equal(model.network.model_out.weight, fixed)


# --- the released file ---


def publish(content, folder, name="colorization_release_v2"):
    """Save tensors, or bytes, under a name that carries the start of their hash."""
    plain = folder / "plain"
    plain.write_bytes(content) if isinstance(content, bytes) else torch.save(content, plain)
    return plain.rename(folder / f"{name}-{sha256(plain.read_bytes()).hexdigest()[:8]}.pth")


@pytest.fixture
def hollow():
    """The release in a file of few bytes: one number stands for all of a tensor."""
    return {k: torch.ones((), dtype=torch.long if is_counter(k) else None).expand(s) for k, s in published().items()}


@pytest.fixture(scope="module")
def released(net, state, tmp_path_factory):
    """The whole release as its authors may have saved it, in order and without counters."""
    tensors = OrderedDict((key, tensor) for key, tensor in state.items() if not is_counter(key))
    tensors._metadata = net.state_dict()._metadata  # without versions torch would fill the counters itself
    path = publish(tensors, tmp_path_factory.mktemp("release"))
    yield path
    path.unlink()  # 130 MB


def test_the_release_loads_without_counters(released, state):
    model = release.load(released)
    assert model.method == METHODS["zhang-full"] and not any(module.training for module in model.modules())
    loaded = model.network.state_dict()
    assert all(torch.equal(loaded[key], tensor) for key, tensor in state.items() if not is_counter(key))
    assert all(loaded[key] == 0 for key in state if is_counter(key))
    assert torch.equal(model.target.bins.centers, ColorBins.in_gamut().centers)
    assert torch.equal(model.target.weights, torch.ones(313)) and model.target.temperature == 0.38


def test_bins_are_in_the_order_of_the_release(reference):
    assert np.array_equal(ColorBins.in_gamut().centers.numpy(), reference("pts_in_hull.npy"))


def test_a_colorizer_takes_the_release(released, state):
    colorizer = Colorizer.load(released, "cpu")
    assert colorizer.size == 256
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    colored = colorizer.colorize(picture)
    assert colored.shape == picture.shape
    with torch.no_grad():
        maps = split(torch.from_numpy(picture).permute(2, 0, 1)[None] / 255)[0]
        q = (by_hand(state, maps).double() / 0.38).softmax(1)
        ab = torch.einsum("bqhw,qc->bchw", q, ColorBins.in_gamut().centers.double())
        ab = F.interpolate(ab, (24, 32), mode="bilinear")
        assert (colorizer.chroma(maps) - ab).abs().max() < 1e-2


def test_counters_that_are_there_are_kept(hollow, tmp_path):
    loaded = release.load(publish(hollow, tmp_path)).network.state_dict()
    assert all(loaded[key] == 1 for key in loaded if is_counter(key))


@pytest.mark.parametrize(
    "change, words",
    [
        (lambda state: state.pop("model_out.weight"), 'Missing key(s) in state_dict: "model_out.weight"'),
        (lambda state: state.pop("model3.6.running_var"), 'Missing key(s) in state_dict: "model3.6.running_var"'),
        (lambda state: state.update(spare=torch.ones(2)), 'Unexpected key(s) in state_dict: "spare"'),
        (
            lambda state: state.update({"model8.6.bias": torch.ones(312)}),
            "size mismatch for model8.6.bias: copying a param with shape torch.Size([312])",
        ),
        (lambda state: state.update({"model1.0.bias": "text"}), "model1.0.bias"),
        (lambda state: state.update({5: torch.ones(2)}), "5"),
    ],
)
def test_other_tensors_are_refused(hollow, tmp_path, change, words):
    change(hollow)
    path = publish(hollow, tmp_path)
    with pytest.raises(ValueError) as caught:
        Colorizer.load(path)
    assert str(caught.value).startswith(f"{path}: expected ") and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_what_its_name_says_is_refused(hollow, tmp_path):
    path = publish(hollow, tmp_path)
    found = sha256(path.read_bytes()).hexdigest()
    other = path.rename(tmp_path / "colorization_release_v2-9b330a0b.pth")
    with pytest.raises(ValueError, match=rf"9b330a0b\.pth: expected a SHA-256 that starts with 9b330a0b, got {found}$"):
        Colorizer.load(other)
    for name in ("weights.pth", "weights-9b33.pth", "weights-9b330a0b (1).pth"):
        other = other.rename(tmp_path / name)
        with pytest.raises(ValueError, match=re.escape(f"{other}: expected a name that ends in -<start of its SHA")):
            Colorizer.load(other)
    with pytest.raises(FileNotFoundError, match=r"none-00000000\.pth: expected the weights of a model, found no file"):
        Colorizer.load(tmp_path / "none-00000000.pth")


class Opened:
    """Writes a file when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_file_is_run(hollow, tmp_path):
    trace = tmp_path / "trace"
    for content in (hollow | {"model1.0.bias": Opened(trace)}, pickle.dumps(Opened(trace), protocol=2)):
        with pytest.raises(ValueError, match=r"\.pth: expected a file of tensors alone, got UnpicklingError"):
            Colorizer.load(publish(content, tmp_path))
        assert not trace.exists()
    pickle.loads(pickle.dumps(Opened(trace))).close()
    assert trace.exists()  # so the trap works


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"text", lambda b: b[: len(b) // 2], lambda b: b[:-30]])
def test_damaged_files_are_refused(hollow, tmp_path, damage):
    content = publish(hollow, tmp_path).read_bytes()
    with pytest.raises(ValueError, match=r"\.pth: expected a file of tensors alone, got \w+$"):
        Colorizer.load(publish(damage(content), tmp_path))
    with pytest.raises(ValueError, match=r"\.pth: expected a dict of tensors, got list"):
        Colorizer.load(publish([torch.ones(2)], tmp_path))


# --- fetching it ---


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A server on this machine that holds a file, and its address in place of the authors'."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    folder = tmp_path / "server"
    folder.mkdir()
    file = publish({"a": torch.ones(3)}, folder)
    monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path / "cache"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        monkeypatch.setattr(release, "URL", f"http://127.0.0.1:{server.server_port}/{file.name}")
        yield file
        server.shutdown()
        thread.join()


def test_the_file_is_fetched_once(served, tmp_path, capsys):
    assert main(["weights", "zhang"]) == 0
    path = tmp_path / "cache" / "weights" / served.name
    assert capsys.readouterr().out == f"{path}\n"
    assert path.read_bytes() == served.read_bytes() and [p.name for p in path.parent.iterdir()] == [served.name]
    served.unlink()
    assert main(["data", "weights", "zhang"]) == 0  # no server needed now
    assert release.download() == path


def test_another_folder_can_be_named(served, tmp_path, capsys):
    assert main(["weights", "zhang", "-o", str(tmp_path / "mine")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'mine' / served.name}\n"
    assert (tmp_path / "mine" / served.name).is_file() and not (tmp_path / "cache").exists()


def test_a_wrong_file_is_not_kept(served, tmp_path, capsys):
    served.write_bytes(b"not what the name says")
    assert main(["weights", "zhang", "-o", str(tmp_path / "mine")]) == 2
    assert f"error: {served.name}: expected a SHA-256 that starts with" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())
    (tmp_path / "mine" / served.name).write_bytes(b"half")
    assert main(["weights", "zhang", "-o", str(tmp_path / "mine")]) == 2
    assert f"error: {tmp_path / 'mine' / served.name}: expected a SHA-256" in capsys.readouterr().err


def test_a_file_that_the_server_lacks(served, tmp_path, capsys):
    served.unlink()
    assert main(["weights", "zhang", "-o", str(tmp_path / "mine")]) == 2
    assert "failed with HTTPError: 404" in capsys.readouterr().err
    assert not list((tmp_path / "mine").iterdir())


def test_without_a_network_one_line_says_what_to_do(tmp_path, monkeypatch, capsys):
    import pooch

    def offline(*args, **options):
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(pooch, "retrieve", offline)
    assert main(["weights", "zhang", "-o", str(tmp_path)]) == 2
    output, errors = capsys.readouterr()
    assert output == "" and errors == (
        "colorstudy: error: weights: expected to fetch colorization_release_v2-9b330a0b.pth (130 MB) from "
        "https://colorizers.s3.us-east-2.amazonaws.com/colorization_release_v2-9b330a0b.pth; "
        f"put it into {tmp_path} by hand, as this failed with ConnectionError: no route\n"
    )
    assert not list(tmp_path.iterdir())


def test_other_weights_are_unknown(capsys):
    with pytest.raises(SystemExit):
        main(["weights", "vgg"])
    assert "invalid choice: 'vgg'" in capsys.readouterr().err
