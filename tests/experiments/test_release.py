"""The released weights of Zhang et al. 2016: loading their file, files that pretend to be it, and fetching it."""

import http.server
import pickle
import re
import threading
from collections import OrderedDict
from functools import partial
from hashlib import sha256

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from colorstudy.bins import ColorBins
from colorstudy.cli import main
from colorstudy.color import merge, split, to_tensor, to_uint8
from colorstudy.colorize import Colorizer
from colorstudy.experiments import release
from colorstudy.methods import METHODS
from colorstudy.networks import build


def is_counter(key):
    return key.endswith("num_batches_tracked")


@pytest.fixture(scope="module")
def net():
    """The published network with random weights, norms that are not neutral, and counters that are not zero."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        made = build("zhang", 313)
        for key, tensor in made.state_dict().items():
            if is_counter(key):
                tensor.fill_(7)
            elif tensor.ndim == 1:
                tensor += 0.2 * torch.rand_like(tensor)
    return made.eval()


@pytest.fixture(scope="module")
def state(net):
    return net.state_dict()


def publish(content, folder, name="colorization_release_v2"):
    """Save tensors, or bytes, under a name that carries the start of their hash."""
    plain = folder / "plain"
    plain.write_bytes(content) if isinstance(content, bytes) else torch.save(content, plain)
    return plain.rename(folder / f"{name}-{sha256(plain.read_bytes()).hexdigest()[:8]}.pth")


@pytest.fixture
def hollow(state):
    """The release in a file of few bytes: one number stands for all of a tensor."""
    return {key: torch.ones((), dtype=tensor.dtype).expand(tensor.shape) for key, tensor in state.items()}


@pytest.fixture(scope="module")
def released(state, tmp_path_factory):
    """The whole release as its authors may have saved it, in order and without counters."""
    tensors = OrderedDict((key, tensor) for key, tensor in state.items() if not is_counter(key))
    tensors._metadata = state._metadata  # without versions torch would fill the counters itself
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


@torch.no_grad()
def test_a_colorizer_takes_the_release(released, net):
    model = release.load(released)
    assert model.size == 256 and model.data == released.name
    colorizer = Colorizer(model, device="cpu")
    assert colorizer.size == 256 and colorizer.is_distribution
    picture = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)
    lightness = split(to_tensor(picture[None]))[0]
    logits = net(lightness).double()
    prediction = colorizer.predict(lightness)
    assert (prediction - logits.softmax(1)).abs().max() < 1e-5
    ab = torch.einsum("bqhw,qc->bchw", (logits / 0.38).softmax(1), ColorBins.in_gamut().centers.double())
    assert ab.std() > 1 and (colorizer.decode(prediction) - ab).abs().max() < 1e-2
    ours = colorizer.colorize(picture)
    ab = F.interpolate(ab.float(), (24, 32), mode="bilinear")
    expected = to_uint8(merge(lightness, ab))[0]
    assert ours.shape == picture.shape and np.abs(ours.astype(int) - expected).max() <= 1


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
        (lambda state: state.update({5: torch.ones(2)}), "expected a dict of tensors by name, got [5]"),
    ],
)
def test_other_tensors_are_refused(hollow, tmp_path, change, words):
    change(hollow)
    path = publish(hollow, tmp_path)
    with pytest.raises(ValueError) as caught:
        release.load(path)
    assert str(caught.value).startswith(f"{path}: expected ") and words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_what_its_name_says_is_refused(hollow, tmp_path):
    path = publish(hollow, tmp_path)
    found = sha256(path.read_bytes()).hexdigest()
    other = path.rename(tmp_path / "colorization_release_v2-9b330a0b.pth")
    with pytest.raises(ValueError, match=rf"9b330a0b\.pth: expected a SHA-256 that starts with 9b330a0b, got {found}$"):
        release.load(other)
    for name in ("weights.pth", "weights-9b33.pth", "weights-9b330a0b (1).pth"):
        other = other.rename(tmp_path / name)
        with pytest.raises(ValueError, match=re.escape(f"{other}: expected a name that ends in -<start of its SHA")):
            release.load(other)
    with pytest.raises(FileNotFoundError, match=r"none-00000000\.pth"):
        release.load(tmp_path / "none-00000000.pth")


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
            release.load(publish(content, tmp_path))
        assert not trace.exists()
    pickle.loads(pickle.dumps(Opened(trace))).close()
    assert trace.exists()  # so the trap works


@pytest.mark.parametrize("damage", [lambda b: b"", lambda b: b"text", lambda b: b[: len(b) // 2], lambda b: b[:-30]])
def test_damaged_files_are_refused(hollow, tmp_path, damage):
    content = publish(hollow, tmp_path).read_bytes()
    with pytest.raises(ValueError, match=r"\.pth: expected a file of tensors alone, got \w+$"):
        release.load(publish(damage(content), tmp_path))
    with pytest.raises(ValueError, match=r"\.pth: expected a dict of tensors by name, got list"):
        release.load(publish([torch.ones(2)], tmp_path))


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
    assert main(["weights", "zhang"]) == 0  # no server needed now
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
    assert "invalid choice 'vgg'" in capsys.readouterr().err
