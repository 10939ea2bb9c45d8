"""What shows the same stands on one side: hashes, groups, and the split of photos16k."""

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorstudy.data.published import manifest
from tools import splits

FILES = [row["file"] for row in manifest("photos16k")]
SPLIT = [row["split"] for row in manifest("photos16k")]
ROOT = next((p for p in (Path(os.environ.get("COLORSTUDY_DATA") or ".", name) for name in ("photos16k", "photos"))
             if (p / FILES[0]).is_file()), None)  # fmt: skip


def smooth(count, seed=0):
    """Grey pictures without sharp edges, as photographs are once they are small: (count, 32, 32)."""
    coarse = np.random.default_rng(seed).integers(256, size=(count, 6, 6), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(one).resize((32, 32), Image.Resampling.BICUBIC)) for one in coarse])


def groups(grey, same=None, **options):
    hashes, mirrored = splits.perceptual_hash(grey), splits.perceptual_hash(grey[..., ::-1])
    return splits.related(hashes, mirrored, same or [""] * len(grey), **options).tolist()


def test_the_hash_keeps_half_the_bits_and_passes_over_light_and_noise():
    grey = smooth(20)
    hashes = splits.perceptual_hash(grey)
    assert hashes.shape == (20, 64) and hashes.dtype == bool and (hashes.sum(-1) == 32).all()
    noise = np.random.default_rng(1).normal(0, 2, grey.shape)
    changed = splits.perceptual_hash(0.7 * grey + 20 + noise)
    assert (hashes != changed).sum(-1).max() <= 8
    assert (hashes[:10] != hashes[10:]).sum(-1).min() > 8  # others are far


def test_the_hash_is_that_of_the_transform_by_its_definition():
    grey = smooth(1)[0].astype(float)
    places = np.arange(32) + 0.5
    cosines = np.cos(np.pi / 32 * np.arange(8)[:, None] * places)  # (8, 32)
    low = (cosines @ grey @ cosines.T).ravel()
    assert (splits.perceptual_hash(grey) == (low > np.median(low))).all()


def test_doubles_and_mirror_images_are_related_and_others_are_not():
    grey = smooth(4)
    found = groups(np.concatenate([grey, grey[:1], grey[1:2, :, ::-1]]))
    assert found[4] == found[0] and found[5] == found[1] and len(set(found)) == 4


def test_relations_are_passed_on():
    """A is near B and B near C: one group, though A is far from C."""
    hashes = np.zeros((4, 64), bool)
    hashes[1, :8] = hashes[2, :16] = hashes[3, :25] = True
    apart = np.tile([False, True], 32) ^ hashes  # mirror images far from all
    assert splits.related(hashes, apart, [""] * 4).tolist() == [0, 0, 0, 1]
    assert splits.related(hashes, apart, [""] * 4, bits=7).tolist() == [0, 1, 2, 3]
    assert splits.related(hashes, apart, ["disc", "", "", "disc"]).tolist() == [0, 0, 0, 0]


def test_groups_stay_whole_and_no_picture_moves_another():
    names = [f"{i:05}.jpg" for i in range(6000)]
    of = [i // 3 for i in range(6000)]
    drawn = splits.assign(of, names)
    assert all(len(set(drawn[i : i + 3])) == 1 for i in range(0, 6000, 3))
    share = {split: count / 6000 for split, count in Counter(drawn).items()}
    assert share == pytest.approx({"train": 0.8125, "val": 0.0625, "test": 0.125}, abs=0.025)  # some 3 standard errors
    assert splits.assign(of[300:900], names[300:900]) == drawn[300:900]
    assert splits.assign(of[::-1], names[::-1]) == drawn[::-1]


def test_a_roll_is_a_disc_or_a_sequence():
    files = ["corel5k/101087.jpg", "corel5k/12003.jpg", "camvid/Seq05VD_f00000.jpg", "coco/000000000009.jpg"]
    assert [splits.roll(file) for file in files] == ["corel5k/101", "corel5k/12", "camvid/Seq05V", ""]


def test_no_roll_of_photos16k_is_on_two_sides():
    sides = {(roll, split) for file, split in zip(FILES, SPLIT) if (roll := splits.roll(file))}
    assert len(sides) == len({roll for roll, _ in sides}) > 40
    assert max(Counter(splits.roll(file) for file in FILES if file.startswith("corel5k")).values()) <= 100


@pytest.mark.skipif(ROOT is None, reason="needs the folder photos in $COLORSTUDY_DATA")
def test_the_split_of_photos16k_comes_of_its_content():
    assert splits.split(ROOT, FILES) == SPLIT
