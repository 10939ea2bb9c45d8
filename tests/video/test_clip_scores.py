"""Measures of how steady a clip is, against clips whose motion is known."""

from itertools import islice

import numpy as np
import pytest
import torch
from known_clips import known_clip

from colorstudy import color
from colorstudy.colorize import Colorizer
from colorstudy.data import photos
from colorstudy.methods import get
from colorstudy.model import Model
from colorstudy.video import scores
from colorstudy.video.clips import made_clips
from colorstudy.video.flow import Motion, warp
from colorstudy.video.smoothing import colorize_frames


def still(frames, size):
    return [Motion(torch.zeros(2, *size), torch.ones(size, dtype=torch.bool)) for _ in range(frames - 1)]


@pytest.fixture(scope="module")
def steady():
    """Clips whose colours, affine in the picture, move exactly as it does."""
    y, x = torch.meshgrid(torch.arange(160.0), torch.arange(220.0), indexing="ij")
    image = torch.stack([0.2 * x - 20, 0.15 * y - 0.05 * x])
    moves = {
        "pan": {"velocity": (2, 1)},
        "slow pan": {"velocity": (0.3, -0.6)},
        "zoom": {"zoom": 1.02},
        "occlusion": {"velocity": (1, 0), "patch": 3 - image[:, :31, :31], "patch_velocity": (3, 2)},
    }
    return {name: known_clip(image, 12, (80, 100), **move) for name, move in moves.items()}


class TestWarpError:
    def test_is_zero_where_colours_follow_the_motion(self, steady):
        for clip in steady.values():
            assert scores.warp_error(clip.frames, clip.motions) < 1e-3

    def test_grows_with_flicker(self, steady):
        noise = torch.randn(12, 2, 1, 1, generator=torch.Generator().manual_seed(0))
        for clip in steady.values():
            errors = [scores.warp_error(clip.frames + a * noise, clip.motions) for a in (0, 0.1, 0.5, 1, 4, 16)]
            assert errors == sorted(errors) and errors[1] > 50 * errors[0]

    @pytest.mark.parametrize("name", ["pan", "slow pan"])
    def test_of_noise_is_what_theory_says(self, steady, name):
        """Noise of width s in both channels: s^2 from now, s^2 times the squared weights of the warp from before."""
        clip, s = steady[name], 3.0
        noise = s * torch.randn(clip.frames.shape, generator=torch.Generator().manual_seed(0))
        x, y = (abs(v) % 1 for v in clip.motions[0].flow[:, 0, 0].tolist())
        squares = ((1 - x) ** 2 + x**2) * ((1 - y) ** 2 + y**2)
        expected = (2 * s**2 * (1 + squares)) ** 0.5
        assert scores.warp_error(clip.frames + noise, clip.motions) == pytest.approx(expected, rel=0.01)

    def test_of_a_flicker_of_whole_frames_is_exact(self, steady):
        for clip in steady.values():
            shift = torch.zeros(12, 2, 1, 1)
            shift[::2, 0], shift[::2, 1] = 3.0, 4.0
            assert scores.warp_error(clip.frames + shift, clip.motions) == pytest.approx(5, rel=1e-3)

    def test_cuts_and_hidden_pixels_count_nothing(self, steady):
        clip = steady["pan"]
        frames = clip.frames.clone()
        frames[6:] += 50
        motions = [None if t == 5 else motion for t, motion in enumerate(clip.motions)]
        assert scores.warp_error(frames, motions) < 1e-3
        frames = clip.frames.clone()
        frames[:, :, :4] = torch.rand(12, 2, 4, 100) * 50
        seen = [Motion(m.flow, m.visible & (torch.arange(80)[:, None] >= 8)) for m in clip.motions]
        assert scores.warp_error(frames, seen) < 1e-3

    def test_nothing_visible_is_no_number(self):
        hidden = [Motion(torch.zeros(2, 8, 8), torch.zeros(8, 8, dtype=torch.bool))]
        for motions in (hidden, [None]):
            assert np.isnan(scores.warp_error(torch.zeros(2, 2, 8, 8), motions))


@pytest.fixture(scope="module")
def clip():
    """A pan over a photograph."""
    bank = photos(size=256).test
    picture = color.to_tensor(bank.images[bank.names.index("mvtb/parks")])
    return known_clip(picture, 8, (96, 120), velocity=(2, 0))


class TestClipScores:
    def test_the_truth_is_its_own_reference(self, clip):
        found = scores.clip_scores(clip.frames, clip.frames, clip.motions)
        for name in ("warp_error", "colorfulness", "chroma"):
            assert found[name] == pytest.approx(found[f"{name}_true"], nan_ok=True)
        assert found["auc"] == 1 and found["warp_error"] < 1e-4

    def test_grey_is_steady_but_neither_colourful_nor_right(self, clip):
        grey = clip.frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        found = scores.clip_scores(grey, clip.frames, clip.motions)
        assert found["warp_error"] < 0.01 and found["colorfulness"] < 0.01 < found["colorfulness_true"]
        assert found["auc"] < 0.95

    def test_paling_lowers_the_error_but_not_its_ratio_to_chroma(self, clip):
        lab = color.srgb_to_lab(clip.frames)
        noise = torch.randn(8, 2, 1, 1, generator=torch.Generator().manual_seed(0))
        found = []
        for share in (0.4, 0.2):
            pale = torch.cat([lab[:, :1], share * (lab[:, 1:] + 4 * noise)], dim=1)
            found.append(scores.clip_scores(color.lab_to_srgb(pale), clip.frames, clip.motions))
        first, second = found
        assert second["warp_error"] == pytest.approx(first["warp_error"] / 2, rel=0.1)
        ratios = [s["warp_error"] / s["chroma"] for s in found]
        assert ratios[1] == pytest.approx(ratios[0], rel=0.1)

    def test_measured_motions_are_those_known(self, clip):
        found = scores.measured_motions(clip.frames[:3])
        for a, b in zip(found, clip.motions):
            assert (a.flow - b.flow).norm(dim=0)[b.visible].mean() < 0.15

    def test_bad_arguments_are_named(self, clip):
        with pytest.raises(ValueError, match="pred: expected the shape of true"):
            scores.clip_scores(clip.frames[1:], clip.frames, clip.motions)
        with pytest.raises(ValueError, match="motions: expected 7"):
            scores.clip_scores(clip.frames, clip.frames, clip.motions[1:])
        with pytest.raises(ValueError, match=r"motions: expected the size \(96, 120\)"):
            scores.warp_error(clip.frames[:, :2], still(8, (9, 9)))
        with pytest.raises(ValueError, match="chroma: expected at least two frames"):
            scores.warp_error(clip.frames[:1, :2], [])


def test_made_clips_move_as_their_motions_say():
    bank = photos(size=128).test
    made = made_clips(bank, 6, 32)
    assert [*made] == [*bank.names]
    for frames, motions in made.values():
        assert frames.shape == (6, 3, 32, 42) and len(motions) == 5
        errors = []
        for flow in (motions[0].flow, torch.zeros(2, 32, 42)):
            found = torch.stack([warp(before, flow) for before in frames[:-1]])
            errors.append((frames[1:] - found)[..., motions[0].visible].square().mean().sqrt())
        assert errors[0] < 0.5 * errors[1] and 0.9 < motions[0].visible.float().mean() < 1


def test_a_clip_is_a_row():
    torch.manual_seed(0)
    colorizer = Colorizer(Model.build(get("l2"), photos(size=64).train.images), 32)
    made = dict(islice(made_clips(photos(size=128).test, 6, 32).items(), 2))
    found = scores.scored(colorizer, made, [("none", 0.2), ("exponential", 0.1)])
    rows = [(name, kind) for name in made for kind in ("none", "exponential")]
    assert found[["image", "smoothing"]].apply(tuple, axis=1).tolist() == rows
    true, motions = next(iter(made.values()))
    expected = scores.clip_scores(colorize_frames(colorizer, true, "exponential", 0.1), true, motions)
    got = found.loc[1, [*expected]].astype(float).to_dict()
    assert got == pytest.approx(expected, rel=1e-4, nan_ok=True)
