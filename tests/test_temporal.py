"""Averages over frames, and measures of how steady a clip is, against clips whose motion is known."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon

from colorstudy import color, temporal
from colorstudy.data import photos
from colorstudy.data.clips import known_clip
from colorstudy.flow import Motion
from colorstudy.temporal import Smoother


def still(frames, size):
    return [Motion(torch.zeros(2, *size), torch.ones(size, dtype=torch.bool)) for _ in range(frames - 1)]


@pytest.fixture(scope="module")
def scene():
    """Lightness (1, 1, 48, 64) with structure, so that it is one scene."""
    return 50 + 40 * torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0))


def predictions(frames, channels=5, seed=1):
    return torch.rand(frames, 1, channels, 12, 16, generator=torch.Generator().manual_seed(seed))


class TestSmoother:
    @pytest.mark.parametrize(("frames", "decay"), [(20, 0.2), (3, 0.5), (0, 0.2), (5, 0.0)])
    def test_exponential_is_the_papers_sum(self, scene, frames, decay):
        """p_t = sum over i = 0..frames of p_(t-i) exp(-decay i), normalised."""
        maps = predictions(60)
        smoother = Smoother("exponential", frames=frames, decay=decay)
        for t, now in enumerate(maps):
            weights = torch.exp(-decay * torch.arange(min(t, frames) + 1.0))
            expected = sum(w * maps[t - i] for i, w in enumerate(weights)) / weights.sum()
            assert torch.allclose(smoother(scene, now), expected, atol=1e-5)

    def test_flow_without_motion_is_the_endless_kernel(self, scene):
        maps = predictions(30)
        smoother = Smoother("flow", decay=0.2)
        for t, now in enumerate(maps):
            weights = torch.exp(-0.2 * torch.arange(t + 1.0))
            expected = sum(w * maps[t - i] for i, w in enumerate(weights)) / weights.sum()
            assert torch.allclose(smoother(scene, now), expected, atol=2e-3)

    def test_a_constant_stays(self, scene):
        for kind in temporal.SMOOTHINGS:
            smoother = Smoother(kind)
            for _ in range(25):
                assert torch.allclose(smoother(scene, torch.full((1, 3, 4, 4), 0.25)), torch.tensor(0.25), atol=1e-6)

    def test_flow_follows_what_moves(self):
        """A colour that moves with the picture is kept by flow, and smeared in place."""
        bank = photos(size=256).test
        picture = torch.from_numpy(np.array(bank.images[bank.names.index("mvtb/parks")])).permute(2, 0, 1)
        made = known_clip(color.srgb_to_lab(picture), 16, (128, 160), velocity=(3, 0))
        errors = {}
        for kind in temporal.SMOOTHINGS:
            smoother = Smoother(kind)
            for frame in made.frames:
                smooth = smoother(frame[None, :1], frame[None, 1:])
            errors[kind] = (smooth - made.frames[-1:, 1:])[..., 8:-8, 8:-8].square().mean().sqrt()
        assert errors["flow"] < 0.5 * errors["exponential"]

    def test_nothing_goes_across_a_cut(self, scene):
        other = 100 - scene.flip(3)
        for kind in temporal.SMOOTHINGS:
            smoother = Smoother(kind)
            for now in predictions(5):
                smoother(scene, now)
            first = predictions(1, seed=9)[0]
            assert torch.equal(smoother(other, first), first)

    def test_what_is_newly_seen_takes_no_old_colour(self):
        grey = 100 * torch.rand(1, 60, 200, generator=torch.Generator().manual_seed(3))
        grey = torch.nn.functional.avg_pool2d(grey, 5, 1, 2)
        made = known_clip(grey, 6, (48, 96), velocity=(6, 0))
        smoother = Smoother("flow")
        for t, frame in enumerate(made.frames):
            smooth = smoother(frame[None], torch.full((1, 1, 48, 96), float(t)))
        assert (smooth[..., -5:] > 4.5).float().mean() > 0.8  # just seen: of the last frame alone
        assert smooth[..., :40].mean() < 3.5

    @pytest.mark.parametrize("kind", temporal.SMOOTHINGS)
    def test_goes_on_from_a_state(self, scene, kind, tmp_path):
        maps = predictions(50)
        whole, first, second = (Smoother(kind) for _ in range(3))
        expected = [whole(scene, now) for now in maps]
        for now in maps[:30]:
            first(scene, now)
        second.load_state_dict(first.state_dict())
        assert all(torch.equal(second(scene, now), e) for now, e in zip(maps[30:], expected[30:]))
        second.load_state_dict({})
        assert torch.equal(second(scene, maps[0]), maps[0])

    def test_costs_no_memory_with_length(self, scene):
        smoother = Smoother("exponential")
        for now in predictions(100):
            smoother(scene, now)
        assert sum(t.numel() for t in smoother.state_dict().values()) < 23 * predictions(1).numel() + 2 * scene.numel()

    @pytest.mark.parametrize(
        ("arguments", "named"), [({"kind": "none"}, "kind"), ({"frames": -1}, "frames"), ({"decay": -0.1}, "decay"),
                                 ({"size": 0}, "size")]
    )  # fmt: skip
    def test_bad_arguments_are_named(self, arguments, named):
        with pytest.raises(ValueError, match=f"{named}: expected"):
            Smoother(**arguments)

    def test_wants_one_frame_at_a_time(self, scene):
        with pytest.raises(ValueError, match="maps: expected one frame"):
            Smoother()(scene.expand(2, -1, -1, -1), torch.zeros(2, 3, 4, 4))
        smoother = Smoother()
        smoother(scene, torch.zeros(1, 3, 4, 4))
        with pytest.raises(ValueError, match="current: expected the shape of previous"):
            smoother(scene[..., :-2], torch.zeros(1, 3, 4, 4))


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
            assert temporal.warp_error(clip.frames, clip.motions) < 1e-3

    def test_grows_with_flicker(self, steady):
        noise = torch.randn(12, 2, 1, 1, generator=torch.Generator().manual_seed(0))
        for clip in steady.values():
            errors = [temporal.warp_error(clip.frames + a * noise, clip.motions) for a in (0, 0.1, 0.5, 1, 4, 16)]
            assert errors == sorted(errors) and errors[1] > 50 * errors[0]

    @pytest.mark.parametrize("name", ["pan", "slow pan"])
    def test_of_noise_is_what_theory_says(self, steady, name):
        """Noise of width s in both channels: s^2 from now, s^2 times the squared weights of the warp from before."""
        clip, s = steady[name], 3.0
        noise = s * torch.randn(clip.frames.shape, generator=torch.Generator().manual_seed(0))
        x, y = (abs(v) % 1 for v in clip.motions[0].flow[:, 0, 0].tolist())
        squares = ((1 - x) ** 2 + x**2) * ((1 - y) ** 2 + y**2)
        expected = (2 * s**2 * (1 + squares)) ** 0.5
        assert temporal.warp_error(clip.frames + noise, clip.motions) == pytest.approx(expected, rel=0.01)

    def test_of_a_flicker_of_whole_frames_is_exact(self, steady):
        for clip in steady.values():
            shift = torch.zeros(12, 2, 1, 1)
            shift[::2, 0], shift[::2, 1] = 3.0, 4.0
            assert temporal.warp_error(clip.frames + shift, clip.motions) == pytest.approx(5, rel=1e-3)

    def test_cuts_and_hidden_pixels_count_nothing(self, steady):
        clip = steady["pan"]
        frames = clip.frames.clone()
        frames[6:] += 50
        motions = [None if t == 5 else motion for t, motion in enumerate(clip.motions)]
        assert temporal.warp_error(frames, motions) < 1e-3
        frames = clip.frames.clone()
        frames[:, :, :4] = torch.rand(12, 2, 4, 100) * 50
        seen = [Motion(m.flow, m.visible & (torch.arange(80)[:, None] >= 8)) for m in clip.motions]
        assert temporal.warp_error(frames, seen) < 1e-3

    def test_nothing_visible_is_no_number(self):
        hidden = [Motion(torch.zeros(2, 8, 8), torch.zeros(8, 8, dtype=torch.bool))]
        assert np.isnan(temporal.warp_error(torch.zeros(2, 2, 8, 8), hidden))


class TestFlicker:
    def test_is_the_change_of_what_stands_still(self):
        lightness = torch.full((4, 1, 8, 8), 50.0)
        lightness[1, :, 4:] = 70  # changes: not still in frames 1 and 2
        chroma = torch.zeros(4, 2, 8, 8)
        chroma[1::2, 0], chroma[1::2, 1] = 3, 4
        chroma[1, :, 4:] = 90
        assert temporal.flicker(lightness, chroma, still(4, (8, 8))) == pytest.approx(5)

    def test_leaves_out_what_moves(self, steady):
        clip = steady["pan"]
        assert np.isnan(temporal.flicker(torch.full((12, 1, 80, 100), 50.0), clip.frames, clip.motions))


class TestColorDistributionConsistency:
    def test_is_zero_if_the_colours_only_change_places(self):
        """A pan over a picture without ends."""
        picture = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
        rgb = torch.stack([picture.roll(3 * t, 2) for t in range(8)])
        assert temporal.color_distribution_consistency(rgb) == pytest.approx(0, abs=1e-12)

    def test_agrees_with_scipy(self):
        rgb = torch.rand(7, 3, 16, 16, generator=torch.Generator().manual_seed(0)) ** torch.linspace(1, 3, 7).view(
            -1, 1, 1, 1
        )
        levels = (rgb * 255).round().numpy().reshape(7, 3, -1)
        counts = [[np.histogram(c, 256, (-0.5, 255.5))[0] for c in frame] for frame in levels]
        means = [
            np.mean([jensenshannon(counts[i][c], counts[i + t][c]) ** 2 for i in range(7 - t) for c in range(3)])
            for t in (1, 2, 4)
        ]
        assert temporal.color_distribution_consistency(rgb) == pytest.approx(np.mean(means), rel=1e-9)

    def test_grows_with_flicker(self):
        picture = 0.3 + 0.4 * torch.rand(3, 40, 40, generator=torch.Generator().manual_seed(0))
        noise = torch.randn(9, 3, 1, 1, generator=torch.Generator().manual_seed(1))
        found = [temporal.color_distribution_consistency(picture + a * noise) for a in (0, 0.004, 0.01, 0.03, 0.09)]
        assert found[0] < 1e-12 and found == sorted(found) and found[-1] < np.log(2)

    def test_pairs_across_a_cut_are_left_out(self):
        rgb = torch.cat([torch.full((6, 3, 8, 8), 0.2), torch.full((6, 3, 8, 8), 0.8)])
        motions = [None if t == 5 else m for t, m in enumerate(still(12, (8, 8)))]
        assert temporal.color_distribution_consistency(rgb, motions=motions) == 0
        assert temporal.color_distribution_consistency(rgb) > 0.1


@pytest.fixture(scope="module")
def clip():
    """A pan over a photograph."""
    bank = photos(size=256).test
    picture = torch.from_numpy(np.array(bank.images[bank.names.index("mvtb/parks")])).permute(2, 0, 1) / 255
    return known_clip(picture, 8, (96, 120), velocity=(2, 0))


class TestClipScores:
    def test_the_truth_is_its_own_reference(self, clip):
        scores = temporal.clip_scores(clip.frames, clip.frames, clip.motions)
        for name in ("warp_error", "cdc", "flicker", "colorfulness", "chroma"):
            assert scores[name] == pytest.approx(scores[f"{name}_true"], nan_ok=True)
        assert scores["auc"] == 1 and scores["warp_error"] < 1e-4

    def test_grey_is_steady_but_neither_colourful_nor_right(self, clip):
        grey = clip.frames.mean(1, keepdim=True).expand(-1, 3, -1, -1)
        scores = temporal.clip_scores(grey, clip.frames, clip.motions)
        assert scores["warp_error"] < 0.01 and scores["colorfulness"] < 0.01 < scores["colorfulness_true"]
        assert scores["auc"] < 0.95

    def test_paling_lowers_the_error_but_not_its_ratio_to_chroma(self, clip):
        lab = color.srgb_to_lab(clip.frames)
        noise = torch.randn(8, 2, 1, 1, generator=torch.Generator().manual_seed(0))
        scores = []
        for share in (0.4, 0.2):
            pale = torch.cat([lab[:, :1], share * (lab[:, 1:] + 4 * noise)], dim=1)
            scores.append(temporal.clip_scores(color.lab_to_srgb(pale), clip.frames, clip.motions))
        first, second = scores
        assert second["warp_error"] == pytest.approx(first["warp_error"] / 2, rel=0.1)
        ratios = [s["warp_error"] / s["chroma"] for s in scores]
        assert ratios[1] == pytest.approx(ratios[0], rel=0.1)

    def test_measured_motions_are_those_known(self, clip):
        found = temporal.measured_motions(clip.frames[:3])
        for a, b in zip(found, clip.motions):
            assert (a.flow - b.flow).norm(dim=0)[b.visible].mean() < 0.15

    def test_bad_arguments_are_named(self, clip):
        with pytest.raises(ValueError, match="pred: expected the shape of true"):
            temporal.clip_scores(clip.frames[1:], clip.frames, clip.motions)
        with pytest.raises(ValueError, match="motions: expected 7"):
            temporal.clip_scores(clip.frames, clip.frames, clip.motions[1:])
        with pytest.raises(ValueError, match=r"motions: expected the size \(96, 120\)"):
            temporal.warp_error(clip.frames[:, :2], still(8, (9, 9)))
        with pytest.raises(ValueError, match="chroma: expected at least two frames"):
            temporal.warp_error(clip.frames[:1, :2], [])
