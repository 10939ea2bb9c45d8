"""Shards: every picture once an epoch, each process its own, and a stream that goes on exactly where it stopped."""

import io
import itertools
import shutil
import tarfile
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

from colorstudy import runs
from colorstudy.data import load
from colorstudy.experiments.shards import Shards, write_shards
from colorstudy.training import TrainConfig, fit

CONFIG = TrainConfig(steps=6, batch_size=4, crop=24, interval=2, accelerator="cpu", threads=1)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """40 pictures, whose mean colours tell them apart, in shards of 6."""
    root = tmp_path_factory.mktemp("shards")
    (root / "in" / "deep").mkdir(parents=True)
    for i in range(40):
        hue = np.array(Image.new("HSV", (40, 32), (i * 6, 200, 200)).convert("RGB"))
        Image.fromarray(hue).save(root / "in" / "deep" / f"{i}.png")
    Image.new("L", (40, 32), 90).save(root / "in" / "grey.png")
    (root / "in" / "broken.jpg").write_bytes(b"no picture")
    with pytest.warns(UserWarning, match="left out 2 grey or unreadable files"):
        return write_shards(root / "in", root / "out", size=32, per_shard=6)


def which(batch):
    """What tells pictures apart: their mean colours, rounded beyond JPEG's errors."""
    return [tuple(np.round(x.reshape(-1, 3).mean(0) / 4).astype(int)) for x in batch]


def test_shards_are_plain_tar_files_of_pictures(packed):
    index = Shards(packed)
    assert len(index) == 40 and list(index.counts.values()) == [6] * 6 + [4]
    with tarfile.open(packed / "000002.tar") as tar:
        assert [m.name for m in tar][:2] == ["000000012.jpg", "000000013.jpg"]
        assert Image.open(io.BytesIO(tar.extractfile("000000012.jpg").read())).size == (32, 32)
    assert index.images.shape == (40, 32, 32, 3) and len(set(which(index.images))) == 40
    assert not list(packed.parent.glob(".*"))


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_an_epoch_shows_every_picture_once(packed, world_size):
    source = Shards(packed)
    counts = np.array([*source.counts.values()])[np.random.default_rng([3, 0]).permutation(7)]
    seen = []
    for rank in range(world_size):
        stream = source.stream(0, batch_size=world_size, seed=3, rank=rank, world_size=world_size)
        # Batches of one picture, until the shards of this process end.
        seen += [which(batch)[0] for batch in itertools.islice(stream, int(counts[rank::world_size].sum()))]
    assert len(seen) == 40 and len(set(seen)) == 40


@pytest.mark.parametrize("world_size", [1, 3])
def test_a_stream_goes_on_where_it_stopped(packed, world_size):
    source, about = Shards(packed), {"batch_size": 6, "rank": world_size - 1, "world_size": world_size}
    whole = list(itertools.islice(source.stream(0, seed=1, **about), 20))
    for step in (1, 4, 17):
        rest = list(itertools.islice(source.stream(step, seed=1, **about), 20 - step))
        assert all(np.array_equal(a, b) for a, b in zip(whole[step:], rest, strict=True))
    assert not np.array_equal(whole[0], next(source.stream(0, seed=2, **about)))


def test_of_what_is_skipped_only_the_last_shard_is_opened(packed, monkeypatch):
    source, opened = Shards(packed), []
    monkeypatch.setattr(tarfile, "open", lambda path, real=tarfile.open: opened.append(path.name) or real(path))
    next(source.stream(100, batch_size=1, seed=1))  # in the third epoch
    order = np.random.default_rng([1, 2]).permutation(7)
    ends = np.cumsum(np.array([*source.counts.values()])[order])
    assert opened[0] == f"{order[np.searchsorted(ends, 20, side='right')]:06}.tar" and len(opened) <= 2


def test_training_on_shards_resumes_to_the_same_bits(packed, tmp_path, monkeypatch):
    source = Shards(packed)
    fit("l2", source, CONFIG, tmp_path / "whole")
    save = runs.save_checkpoint

    def stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(runs, "save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        fit("l2", source, CONFIG, tmp_path / "stopped")
    monkeypatch.setattr(runs, "save_checkpoint", save)
    fit("l2", source, CONFIG, tmp_path / "stopped")
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert a == b and len(load_file(tmp_path / "whole" / "model.safetensors")) > 3
    with pytest.raises(ValueError, match=r"data\.hash was"):
        fit("l2", Shards(packed, size=28), CONFIG, tmp_path / "whole")
    fit("class", source, replace(CONFIG, steps=1), tmp_path / "class")


def test_shards_made_again_are_the_same(packed, tmp_path):
    with pytest.warns(UserWarning, match="left out 2"):
        again = write_shards(packed.parent / "in", tmp_path / "again", size=32, per_shard=6)
    assert Shards(again).hash == Shards(packed).hash


def test_a_folder_of_shards_is_a_source(packed):
    source = load("colorstudy.experiments.shards:Shards", path=packed, size=24)
    assert isinstance(source, Shards) and source.images.shape[1] == 24
    assert next(source.stream(0, batch_size=2, seed=0)).shape == (2, 24, 24, 3)
    assert source.hash != Shards(packed).hash


def test_what_is_wrong_is_named(packed, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a folder with shards\.json"):
        Shards(tmp_path)
    with pytest.raises(ValueError, match="world_size: expected at most 7, one a shard, got 8"):
        next(Shards(packed).stream(0, batch_size=8, seed=0, world_size=8))
    with pytest.raises(ValueError, match="batch_size: expected a multiple of 2, got 5"):
        next(Shards(packed).stream(0, batch_size=5, seed=0, world_size=2))
    with pytest.raises(ValueError, match="out: expected a folder that is not there yet"):
        write_shards(packed, packed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="source: expected a folder with pictures"):
        write_shards(tmp_path / "empty", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    words = "source: expected a folder with pictures in colour, got 0 grey or unreadable"
    with pytest.warns(UserWarning, match="nothing"), pytest.raises(ValueError, match=words):
        write_shards(tmp_path / "nothing", tmp_path / "out")


def test_damage_is_named(packed, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(packed, copy)
    source = Shards(copy)
    shutil.copy(copy / "000006.tar", copy / "000003.tar")  # 4 pictures where the index says 6
    for broken in (lambda: next(source.stream(0, batch_size=40, seed=0)), lambda: Shards(copy)):
        with pytest.raises(ValueError, match=r"000003\.tar: expected 6 pictures, as in shards\.json, got 4"):
            broken()
    content = (packed / "000003.tar").read_bytes()
    (copy / "000003.tar").write_bytes(content[:600] + bytes(200) + content[800:])  # within the first picture
    with pytest.raises(ValueError, match=r"000003\.tar/000000018\.jpg: expected a picture that can be decoded"):
        next(source.stream(0, batch_size=40, seed=0))
    (copy / "000003.tar").unlink()
    with pytest.raises(ValueError, match=r"path: expected every shard of the index, got no \['000003.tar'\]"):
        Shards(copy)
