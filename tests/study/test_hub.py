"""Models on the Hugging Face Hub: folders of `save_pretrained`, repositories of a fake Hub, calls of the real one."""

import fnmatch
import inspect
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from colorstudy.colorize import WEIGHTS, Colorizer
from colorstudy.methods import METHODS, Method
from colorstudy.model import Model
from colorstudy.study.hub import from_pretrained, save_pretrained

PICTURE = np.random.default_rng(0).integers(0, 256, (24, 30), np.uint8)


@pytest.fixture(scope="module")
def colorizer():
    return Colorizer.load("class", "cpu")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A Hub in a folder, as `huggingface_hub` without a network; the calls are in `.calls`."""
    root, calls = tmp_path / "the hub", []

    def create_repo(repo_id, **options):
        calls.append(("create_repo", repo_id, options))
        (root / repo_id / "main").mkdir(parents=True, exist_ok=options["exist_ok"])

    def upload_folder(*, repo_id, folder_path, allow_patterns):
        for path in folder_path.iterdir():
            if any(fnmatch.fnmatch(path.name, pattern) for pattern in allow_patterns):
                shutil.copy(path, root / repo_id / "main")

    def hf_hub_download(repo_id, filename, *, revision):
        calls.append(("hf_hub_download", repo_id, {"revision": revision}))
        return str(root / repo_id / (revision or "main") / filename)

    made = SimpleNamespace(create_repo=create_repo, upload_folder=upload_folder, hf_hub_download=hf_hub_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", made)
    return SimpleNamespace(root=root, calls=calls)


def same(first, second):
    return np.array_equal(first.colorize(PICTURE), second.colorize(PICTURE))


def test_a_folder_brings_back_the_colorizer(colorizer, tmp_path):
    save_pretrained(colorizer, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"model.safetensors", "README.md"}
    back = from_pretrained(tmp_path, device="cpu")
    assert same(back, colorizer) and back.model.checksum == colorizer.model.checksum
    colorizer.model.save(tmp_path / "plain")
    assert (tmp_path / "model.safetensors").read_bytes() == (tmp_path / "plain").read_bytes()
    assert same(Colorizer.load(tmp_path), colorizer)  # it is a folder like that of a run


def test_size_and_decoding_are_kept_and_the_colorizer_is_left_alone(colorizer, tmp_path):
    changed = Colorizer(colorizer.model, 16, "cpu", temperature=0.9, rebalance=0.25)
    before = changed.model.method, changed.model.size
    save_pretrained(changed, tmp_path)
    back = from_pretrained(tmp_path, device="cpu")
    assert (back.size, back.model.method.temperature, back.model.method.rebalance) == (16, 0.9, 0.25)
    assert same(back, changed) and not same(back, colorizer)
    assert (changed.model.method, changed.model.size) == before


class Scaled:
    """A target whose decoding has an option of its own, which no file holds."""

    out_channels = 2

    def loss(self, output, chroma):
        return output.mean()

    def decode(self, output, temperature=1.0):
        return output * temperature


def test_an_option_that_a_file_cannot_hold_is_refused(tmp_path):
    made = Colorizer(Model(Method(target=Scaled), Scaled()), device="cpu")
    save_pretrained(made, tmp_path / "plain")
    with pytest.raises(ValueError, match=r"^options: expected none, as .*, got \{'temperature': 2\.0\}"):
        save_pretrained(made.decoding(temperature=2.0), tmp_path / "scaled")
    assert not (tmp_path / "scaled").exists()


def test_the_card_says_what_the_model_is(colorizer, tmp_path):
    save_pretrained(colorizer, tmp_path)
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    _, head, body = text.split("---\n", 2)
    expected = {"library_name": "colorstudy", "license": "other", "pipeline_tag": "image-to-image"}
    assert yaml.safe_load(head) == expected | {"tags": ["colorization", "class"]}
    for words in (f"# {tmp_path.name}\n", "`compact`", f"`{colorizer.model.data}`", f"{colorizer.size} pixels"):
        assert words in body
    assert f'from_pretrained("{tmp_path.name}")' in body and "{" not in body


def test_a_card_that_is_there_stays(colorizer, tmp_path):
    (tmp_path / "README.md").write_text("my own words")
    save_pretrained(colorizer, tmp_path)
    assert (tmp_path / "README.md").read_text() == "my own words"


def test_a_repository_brings_back_the_colorizer(colorizer, hub, tmp_path):
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "secret.txt").write_text("of no concern to others")
    save_pretrained(colorizer, folder, repo_id="me/colours", private=True)
    assert hub.calls == [("create_repo", "me/colours", {"private": True, "exist_ok": True})]
    assert {path.name for path in (hub.root / "me/colours/main").iterdir()} == {"model.safetensors", "README.md"}
    assert 'from_pretrained("me/colours")' in (hub.root / "me/colours/main/README.md").read_text(encoding="utf-8")
    assert same(from_pretrained("me/colours", device="cpu"), colorizer)
    save_pretrained(colorizer, folder, "me/colours")  # again


def test_a_revision_is_asked_for(colorizer, hub):
    save_pretrained(colorizer, hub.root / "me/colours/v1")
    from_pretrained("me/colours", revision="v1", device="cpu")
    assert hub.calls == [("hf_hub_download", "me/colours", {"revision": "v1"})]


def test_without_a_repository_nothing_is_uploaded(colorizer, hub, tmp_path):
    save_pretrained(colorizer, tmp_path / "mine")
    from_pretrained(tmp_path / "mine", device="cpu")
    assert hub.calls == []


def damaged(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [damaged, lambda path: path.write_bytes(pickle.dumps({"weights": 1}))])
def test_what_comes_from_a_repository_is_checked_as_any_file(colorizer, hub, spoil):
    save_pretrained(colorizer, hub.root / "me/colours/main")
    spoil(hub.root / "me/colours/main/model.safetensors")
    with pytest.raises(ValueError, match=r"model\.safetensors: expected"):
        from_pretrained("me/colours")


def test_a_repository_cannot_have_anything_called(colorizer, hub):
    """The network of a file may be named by an import path: only a class of networks is ever made."""
    model = Model.load(WEIGHTS / "class.safetensors")
    method = replace(METHODS["class"])
    object.__setattr__(method, "network", "os:abort")
    model.method = method
    model.save(hub.root / "me/colours/main/model.safetensors")
    with pytest.raises(ValueError, match="network: expected a network class, got os:abort"):
        from_pretrained("me/colours")


def test_a_folder_without_a_model_is_not_found(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: expected the weights of a model"):
        from_pretrained(tmp_path)


def test_a_missing_extra_is_named(colorizer, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for call in (
        lambda: from_pretrained("me/colours"),
        lambda: save_pretrained(colorizer, tmp_path, "me/colours"),
    ):
        with pytest.raises(ImportError, match=r"pip install 'colorstudy\[hub\]'"):
            call()
    save_pretrained(colorizer, tmp_path)  # which needs no Hub, as does the next
    assert same(from_pretrained(tmp_path, device="cpu"), colorizer)


def test_a_model_of_the_package_loads_without_the_hub():
    code = "import sys, colorstudy as cs; cs.Colorizer.load(); print('huggingface_hub' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_the_real_hub_takes_these_calls():
    hub = pytest.importorskip("huggingface_hub")
    inspect.signature(hub.create_repo).bind("me/colours", private=None, exist_ok=True)
    inspect.signature(hub.upload_folder).bind(repo_id="me/colours", folder_path="folder", allow_patterns=["README.md"])
    inspect.signature(hub.hf_hub_download).bind("me/colours", "model.safetensors", revision=None)


def test_the_card_is_one_that_the_hub_reads(colorizer, tmp_path):
    hub = pytest.importorskip("huggingface_hub")
    save_pretrained(colorizer, tmp_path)
    data = hub.ModelCard.load(tmp_path / "README.md").data
    assert (data.license, data.library_name, data.pipeline_tag) == ("other", "colorstudy", "image-to-image")


def test_half_precision_goes_through(tmp_path):
    """The default model, whose file holds half of the bits: what comes back colours alike."""
    default = Colorizer.load(device="cpu")
    save_pretrained(default, tmp_path)
    back = from_pretrained(tmp_path, device="cpu")
    assert torch.allclose(*(torch.from_numpy(one.colorize(PICTURE / 255.0)) for one in (default, back)), atol=1e-6)
