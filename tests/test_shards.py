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

from colorstudy import training
from colorstudy.data import Shards, load, shards, write_shards
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
    index = shards(packed)
    assert len(index) == 40 and list(index.counts.values()) == [6] * 6 + [4]
    with tarfile.open(packed / "000002.tar") as tar:
        assert [m.name for m in tar][:2] == ["000000012.jpg", "000000013.jpg"]
        assert Image.open(io.BytesIO(tar.extractfile("000000012.jpg").read())).size == (32, 32)
    assert index.images.shape == (40, 32, 32, 3) and len(set(which(index.images))) == 40
    assert not list(packed.parent.glob(".*"))


@pytest.mark.parametrize("workers, world_size", [(0, 1), (2, 1), (0, 2), (3, 2)])
def test_an_epoch_shows_every_picture_once(packed, workers, world_size):
    source = shards(packed, workers=workers)
    seen = []
    for rank in range(world_size):
        lanes = max(workers, 1) * world_size
        order = np.random.default_rng([3, 0]).permutation(7)
        counts = list(source.counts.values())
        # Batches of one picture, each lane until its shards of the first epoch end.
        most = [sum(counts[i] for i in order[lane::lanes]) for lane in range(lanes)]
        mine = most[rank * max(workers, 1) : (rank + 1) * max(workers, 1)]
        stream = source.stream(0, batch_size=world_size, seed=3, rank=rank, world_size=world_size)
        taken = list(itertools.islice(stream, max(mine) * len(mine)))
        for lane, count in enumerate(mine):
            seen += [which(b)[0] for b in taken[lane :: len(mine)][:count]]
    assert len(seen) == 40 and len(set(seen)) == 40


@pytest.mark.parametrize("workers", [0, 2, 3])
@pytest.mark.parametrize("step", [1, 4, 17])
def test_a_stream_goes_on_where_it_stopped(packed, workers, step):
    source = shards(packed, workers=workers)
    whole = list(itertools.islice(source.stream(0, batch_size=5, seed=1), 20))
    rest = list(itertools.islice(source.stream(step, batch_size=5, seed=1), 20 - step))
    assert all(np.array_equal(a, b) for a, b in zip(whole[step:], rest, strict=True))
    assert not np.array_equal(whole[0], next(source.stream(0, batch_size=5, seed=2)))


def test_training_on_shards_resumes_to_the_same_bits(packed, tmp_path, monkeypatch):
    source = shards(packed)
    fit("l2", source, CONFIG, tmp_path / "whole")
    save = training._save_checkpoint

    def stop(*args):
        save(*args)
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "_save_checkpoint", stop)
    with pytest.raises(KeyboardInterrupt):
        fit("l2", source, CONFIG, tmp_path / "stopped")
    monkeypatch.setattr(training, "_save_checkpoint", save)
    fit("l2", source, CONFIG, tmp_path / "stopped")
    a, b = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "stopped"))
    assert a == b and len(load_file(tmp_path / "whole" / "model.safetensors")) > 3
    with pytest.raises(ValueError, match=r"data\.hash was"):  # the order depends on the workers
        fit("l2", shards(packed, workers=1), CONFIG, tmp_path / "whole")
    fit("class", source, replace(CONFIG, steps=1), tmp_path / "class")


def test_a_folder_of_shards_is_a_source(packed):
    source = load(packed, size=24)
    assert isinstance(source, Shards) and source.images.shape[1] == 24
    assert next(source.stream(0, batch_size=2, seed=0)).shape == (2, 24, 24, 3)
    assert source.hash != shards(packed).hash


def test_what_is_wrong_is_named(packed, tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a folder with shards\.json"):
        shards(tmp_path)
    with pytest.raises(ValueError, match="workers: expected at most 7 in all, one a shard, got 8"):
        shards(packed, workers=4).stream(0, batch_size=4, seed=0, world_size=2)
    with pytest.raises(ValueError, match="out: expected a folder that is not there yet"):
        write_shards(packed, packed)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="source: expected a folder with pictures"):
        write_shards(tmp_path / "empty", tmp_path / "out")
    copy = tmp_path / "copy"
    shutil.copytree(packed, copy)
    (copy / "000003.tar").unlink()
    with pytest.raises(ValueError, match=r"path: expected every shard of the index, got no \['000003.tar'\]"):
        shards(copy)
    shutil.copy(copy / "000006.tar", copy / "000003.tar")  # 4 pictures where the index says 6
    with pytest.raises(ValueError, match=r"000003\.tar: expected 6 pictures, as shards\.json says, got 4"):
        list(itertools.islice(shards(copy, workers=0).stream(0, batch_size=6, seed=0), 7))
