"""Optical flow, warping, visibility and cuts, against clips whose motion is known."""

import hashlib
import os
import shutil
import tarfile
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from known_clips import known_clip

from colorstudy import color
from colorstudy.data import photos
from colorstudy.video import flow
from colorstudy.video.clips import CLIPS, clip
from colorstudy.video.files import Clip

needs_clips = pytest.mark.skipif("COLORSTUDY_DATA" not in os.environ, reason="$COLORSTUDY_DATA holds clips.tar")


@pytest.fixture(scope="module")
def pictures():
    """Lab of the test photographs, (N, 3, 256, 256)."""
    images = photos(size=256).test.images
    return color.srgb_to_lab(color.to_tensor(images))


@pytest.fixture(scope="module")
def affine():
    """Two maps (2, 200, 260) that bilinear interpolation meets exactly."""
    y, x = torch.meshgrid(torch.arange(200.0), torch.arange(260.0), indexing="ij")
    return torch.stack([0.3 * x - 20, 0.2 * y + 0.05 * x])


class TestWarp:
    def test_fetches_from_where_the_flow_points(self):
        maps = torch.arange(12.0).view(1, 3, 4)
        there = torch.zeros(2, 3, 4)
        there[0], there[1] = 1, -1  # to the right and up
        expected = torch.tensor([[1, 2, 3, 3], [1, 2, 3, 3], [5, 6, 7, 7]])
        assert torch.allclose(flow.warp(maps, there)[0], expected.float())

    def test_is_bilinear(self, affine):
        found = flow.warp(affine, torch.full((2, 200, 260), 0.25))[:, :-1, :-1]
        right, down = (affine.diff(dim=dim) for dim in (2, 1))
        expected = affine[:, :-1, :-1] + 0.25 * (right[:, :-1] + down[..., :-1])
        assert torch.allclose(found, expected, atol=1e-4)

    @pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 5), (1, 4, 1)])
    def test_takes_maps_of_one_row_or_column(self, shape):
        maps = torch.rand(shape)
        assert torch.allclose(flow.warp(maps, torch.zeros(2, *shape[1:])), maps)

    def test_refuses_another_size(self):
        with pytest.raises(ValueError, match="flow: expected shape"):
            flow.warp(torch.zeros(1, 4, 4), torch.zeros(2, 4, 5))


class TestKnownClips:
    MOVES = (
        {"velocity": (2, 1)},
        {"velocity": (1.3, -0.7)},
        {"zoom": 1.03},
        {"zoom": 0.98, "velocity": (0.5, 0)},
        {"velocity": (1, 0), "patch_velocity": (3, 2)},
    )

    @pytest.mark.parametrize("move", MOVES, ids=str)
    def test_every_visible_pixel_is_where_the_motion_says(self, affine, move):
        patch = {"patch": -affine[:, 40:80, 30:70]} if "patch_velocity" in move else {}
        made = known_clip(affine, 6, (96, 120), **move, **patch)
        assert len(made.motions) == 5
        for before, now, motion in zip(made.frames, made.frames[1:], made.motions):
            assert 0.9 < motion.visible.float().mean() <= 1
            change = (now - flow.warp(before, motion.flow)).abs().amax(0)
            assert change[motion.visible].max() < 2e-3

    def test_what_the_disc_uncovers_was_not_visible(self, affine):
        made = known_clip(affine, 3, (96, 120), patch=affine[:, :41, :41] + 100, patch_velocity=(8, 0))
        hidden = ~made.motions[1].visible
        x = hidden.nonzero()[:, 1].float()
        assert 200 < hidden.sum() < 500  # 41 pixels high, 8 wide, and the disc's rim
        assert 30 < x.median() - 8 < 60  # behind the disc, which moves to the right


@pytest.mark.parametrize(("by", "error"), [("dis", 0.25), ("tvl1", 0.12)])
def test_flow_is_found(pictures, by, error):
    """Mean distance from the known flow, in pixels, over pans, zooms and a disc in front."""
    errors, agreed = [], []
    for picture in pictures[:3]:
        for move in ({"velocity": (2.4, -1.2)}, {"zoom": 1.03}, {"velocity": (1, 0), "patch_velocity": (3, 2)}):
            patch = {"patch": picture[:, 100:140, 100:140]} if "patch_velocity" in move else {}
            made = known_clip(picture, 2, (128, 160), **move, **patch)
            found = flow.estimate(made.frames[0, 0], made.frames[1, 0], by)
            known = made.motions[0]
            inner = known.visible & torch.nn.functional.pad(torch.ones(112, 144, dtype=torch.bool), (8,) * 4)
            errors.append((found.flow - known.flow).norm(dim=0)[inner].mean())
            agreed.append((found.visible == known.visible).float().mean())
    assert torch.stack(errors).mean() < error and torch.stack(agreed).mean() > 0.96


def test_nothing_moves_between_equal_frames(pictures):
    motion = flow.estimate(pictures[0, 0], pictures[0, 0])
    assert motion.flow.abs().max() < 0.05
    assert motion.visible.all()


@pytest.mark.parametrize("size", [(1, 1), (3, 40), (9, 17)])
def test_tiny_frames_have_a_flow(size):
    motion = flow.estimate(torch.rand(size) * 100, torch.rand(size) * 100)
    assert motion.flow.shape == (2, *size) and motion.visible.shape == size
    assert motion.flow.isfinite().all()


def test_resizing_scales_the_flow():
    motion = flow.Motion(torch.ones(2, 20, 40), torch.arange(40).expand(20, 40) < 20)
    there, share = motion.resized((10, 10))
    assert torch.allclose(there[0], torch.tensor(0.25)) and torch.allclose(there[1], torch.tensor(0.5))
    assert share[:, :4].eq(1).all() and share[:, -4:].eq(0).all()


class TestCuts:
    def test_photographs_are_told_apart(self, pictures):
        pairs = [flow.is_cut(a[0], b[0]) for a, b in combinations(pictures, 2)]
        assert np.mean(pairs) > 0.9

    @pytest.mark.parametrize("shift", [4, 16, 32])
    def test_a_moving_camera_makes_no_cut(self, pictures, shift):
        assert not any(flow.is_cut(p[0, :, shift:], p[0, :, :-shift]) for p in pictures)

    def test_a_change_of_light_makes_no_cut(self, pictures):
        assert not any(flow.is_cut(p[0], 0.8 * p[0] + 5) for p in pictures)

    def test_uniform_frames(self, pictures):
        black, white = torch.zeros(64, 64), torch.full((64, 64), 100.0)
        assert not flow.is_cut(black, black)
        assert flow.is_cut(black, white)
        assert flow.is_cut(black, pictures[0, 0, :64, :64])

    def test_are_found_where_one_clip_follows_another_and_nowhere_else(self, pictures):
        frames = torch.cat([known_clip(p, 10, (64, 96), velocity=(2, 1)).frames[:, 0] for p in pictures[:4]])
        assert [i for i, pair in enumerate(pairwise(frames), 1) if flow.is_cut(*pair)] == [10, 20, 30]

    @needs_clips
    @pytest.mark.parametrize("name", ["traffic", *CLIPS])
    def test_no_clip_has_one(self, name):
        grey = [torch.from_numpy(f.pixels[::2, ::2, 1].copy()) / 2.55 for f in Clip(clip(name)).frames()]
        assert not any(flow.is_cut(*pair) for pair in pairwise(grey))


def test_bad_frames_are_named():
    with pytest.raises(ValueError, match=r"previous: expected shape \(H, W\), not empty"):
        flow.estimate(torch.zeros(1, 4, 4), torch.zeros(1, 4, 4))
    with pytest.raises(ValueError, match="current: expected the shape of previous"):
        flow.is_cut(torch.zeros(4, 4), torch.zeros(4, 5))
    with pytest.raises(ValueError, match="by: expected one of"):
        flow.estimate(torch.zeros(4, 4), torch.zeros(4, 4), "guess")


class TestNamedClips:
    @pytest.fixture(autouse=True)
    def empty(self, monkeypatch, tmp_path):
        """No data and no cache, but what a test puts there: two files that stand for clips."""
        monkeypatch.setenv("COLORSTUDY_DATA", str(tmp_path / "data"))
        monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path / "cache"))
        for name in ("mdn-flower", "mdn-stream"):
            monkeypatch.setitem(CLIPS, name, CLIPS[name] | {"sha256": hashlib.sha256(name.encode()).hexdigest()})
            path = tmp_path / "made" / "clips" / f"{name}.mp4"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)

    def test_in_a_folder(self, tmp_path):
        for place in ("data", "data/clips", "cache/published"):
            shutil.copytree(tmp_path / "made", tmp_path / place)
            assert clip("mdn-flower") == tmp_path / place / "clips" / "mdn-flower.mp4"
            shutil.rmtree(tmp_path / place)

    @pytest.mark.parametrize("place", ["data", "cache/published"])
    def test_in_a_tar_file(self, tmp_path, place):
        (tmp_path / place).mkdir(parents=True)
        with tarfile.open(tmp_path / place / "clips.tar", "w") as tar:
            tar.add(tmp_path / "made" / "clips", "clips")
        for name in ("mdn-flower", "mdn-stream"):
            assert clip(name) == tmp_path / "cache" / "published" / "clips" / f"{name}.mp4"
            assert clip(name).read_text() == name
        with pytest.raises(KeyError, match=r"clips/sam2-cups\.mp4"):
            clip("sam2-cups")

    def test_another_file_is_refused(self, tmp_path):
        shutil.copytree(tmp_path / "made", tmp_path / "data")
        (tmp_path / "data" / "clips" / "mdn-flower.mp4").write_text("another")
        with pytest.raises(ValueError, match=r"mdn-flower\.mp4: expected the file of the manifest, got another"):
            clip("mdn-flower")

    def test_none_says_where_to_put_them(self, tmp_path, monkeypatch):
        told = r"clips/mdn-flower\.mp4: expected clips\.tar, or its folder clips, in \$COLORSTUDY_DATA"
        with pytest.raises(FileNotFoundError, match=told) as error:
            clip("mdn-flower")
        assert str(tmp_path / "cache" / "published") in str(error.value)
        monkeypatch.delenv("COLORSTUDY_DATA")
        with pytest.raises(FileNotFoundError, match=told):
            clip("mdn-flower")
        with pytest.raises(ValueError, match="name: expected one of"):
            clip("matrix")
        assert clip("traffic").is_file()


def test_the_split_is_by_source_and_hash():
    rows = [*CLIPS.values()]
    sources = Counter(row["file"].partition("-")[0] for row in rows)
    alone = {source for source, count in sources.items() if count == 1}

    def place(row):
        source = row["file"].partition("-")[0]
        return source in alone, "" if source in alone else source, hashlib.sha256(row["file"].encode()).hexdigest()

    assert [row["split"] for row in sorted(rows, key=place)] == ["test", "tune"] * 12


@needs_clips
@pytest.mark.parametrize("name", CLIPS)
def test_clips_are_as_the_manifest_says(name):
    row, found = CLIPS[name], Clip(clip(name))
    assert "x".join(map(str, found.size[::-1])) == row["size"]
    assert float(found.rate) == pytest.approx(float(row["rate"]), abs=2e-3)
    assert len([*found.frames()]) == int(row["frames"]) and found.damaged == 0
