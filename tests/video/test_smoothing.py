"""Averages over frames: the kernels, the flow, and what they do to coloured frames."""

import pytest
import torch
from known_clips import known_clip

from colorstudy import color
from colorstudy.colorize import Colorizer
from colorstudy.data import photos
from colorstudy.methods import get
from colorstudy.model import Model
from colorstudy.video.smoothing import SMOOTHINGS, Smoother, colorize_frame, colorize_frames

KINDS = [kind for kind in SMOOTHINGS if kind != "none"]


@pytest.fixture(scope="module")
def scene():
    """Lightness (1, 1, 48, 64) with structure, so that it is one scene."""
    return 50 + 40 * torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0))


def predictions(frames, channels=5, seed=1):
    return torch.rand(frames, 1, channels, 12, 16, generator=torch.Generator().manual_seed(seed))


class TestSmoother:
    @pytest.mark.parametrize("decay", [0.2, 0.5, 0.0])
    def test_exponential_is_the_papers_sum(self, scene, decay):
        """p_t = sum over i = 0..20 of p_(t-i) exp(-decay i), normalised."""
        maps = predictions(60)
        smoother = Smoother("exponential", decay)
        for t, now in enumerate(maps):
            weights = torch.exp(-decay * torch.arange(min(t, 20) + 1.0))
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
        for kind in KINDS:
            smoother = Smoother(kind)
            for _ in range(25):
                assert torch.allclose(smoother(scene, torch.full((1, 3, 4, 4), 0.25)), torch.tensor(0.25), atol=1e-6)

    @pytest.mark.parametrize("scale", [1, 2])
    def test_flow_follows_what_moves(self, scale):
        """A colour that moves with the picture is kept by flow, and smeared in place; also if the frames are large."""
        bank = photos(size=256).test
        picture = color.to_tensor(bank.images[bank.names.index("mvtb/parks")])
        picture = torch.nn.functional.interpolate(picture[None], scale_factor=scale, mode="bilinear")[0]
        made = known_clip(color.srgb_to_lab(picture), 16, (128 * scale, 160 * scale), velocity=(3 * scale, 0))
        errors = {}
        for kind in KINDS:
            smoother = Smoother(kind)
            for frame in made.frames:
                smooth = smoother(frame[None, :1], frame[None, 1:])
            errors[kind] = (smooth - made.frames[-1:, 1:])[..., 8:-8, 8:-8].square().mean().sqrt()
        assert errors["flow"] < 0.5 * errors["exponential"]

    def test_nothing_goes_across_a_cut(self, scene):
        other = 100 - scene.flip(3)
        for kind in KINDS:
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

    @pytest.mark.parametrize("kind", KINDS)
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
        one = predictions(1, channels=6).numel()  # with the map of weights
        assert sum(t.numel() for t in smoother.state_dict().values()) < 23 * one + 2 * scene.numel()

    @pytest.mark.parametrize(("arguments", "named"), [({"kind": "magic"}, "kind"), ({"decay": -0.1}, "decay")])
    def test_bad_arguments_are_named(self, arguments, named):
        with pytest.raises(ValueError, match=f"{named}: expected"):
            Smoother(**arguments)

    def test_wants_one_frame_at_a_time(self, scene):
        with pytest.raises(ValueError, match="prediction: expected one frame"):
            Smoother()(scene.expand(2, -1, -1, -1), torch.zeros(2, 3, 4, 4))
        smoother = Smoother()
        smoother(scene, torch.zeros(1, 3, 4, 4))
        with pytest.raises(ValueError, match="current: expected the shape of previous"):
            smoother(scene[..., :-2], torch.zeros(1, 3, 4, 4))


@pytest.fixture(scope="module", params=["class", "l2"])
def colorizer(request):
    """With random weights, scaled so that its colours are strong."""
    torch.manual_seed(0)
    model = Model.build(get(request.param), photos(size=64).train.images)
    model.network.head.weight.data *= 300
    return Colorizer(model, 48)


@pytest.fixture(scope="module")
def frames():
    """Two frames (1, 3, 64, 96) of one scene."""
    picture = color.to_tensor(photos(size=256).test.images[0])
    return [picture[None, :, t : t + 64, t : t + 96] for t in (0, 2)]


class TestColorizing:
    def test_smooths_between_predicting_and_rendering(self, colorizer, frames):
        """Of a classification, the distributions are averaged."""
        smoother, keep = Smoother("exponential"), torch.tensor(-0.2).exp()
        for rgb in frames:
            found = colorize_frame(colorizer, rgb, smoother)
        lightness = [color.split(rgb, colorizer.space)[0] for rgb in frames]
        first, second = map(colorizer.predict, lightness)
        average = (keep * first + second) / (keep + 1)
        assert not colorizer.is_distribution or torch.allclose(average.sum(1), torch.tensor(1.0), atol=1e-5)
        assert torch.allclose(found, colorizer.render(lightness[1], average), atol=1e-4)

    def test_without_smoothing_a_frame_is_a_picture(self, colorizer, frames):
        found = colorize_frames(colorizer, torch.cat(frames))
        assert torch.allclose(found, torch.cat([colorizer.colorize(rgb) for rgb in frames]), atol=1e-5)

    def test_bytes_come_back_as_bytes(self, colorizer, frames):
        smoothers = Smoother("exponential"), Smoother("exponential")
        for rgb in frames:
            pixels = color.to_uint8(rgb)[0]
            found = colorize_frame(colorizer, pixels, smoothers[0])
            expected = color.to_uint8(colorize_frame(colorizer, color.to_tensor(pixels)[None], smoothers[1]))[0]
            difference = abs(found.astype(int) - expected)
            assert found.dtype == pixels.dtype and difference.max() <= 1 and (difference > 0).mean() < 0.01

    @pytest.mark.parametrize("kind", KINDS)
    def test_a_clip_begins_with_its_first_frame(self, colorizer, frames, kind):
        found = colorize_frames(colorizer, torch.cat(frames), kind)
        assert torch.allclose(found[:1], colorizer.colorize(frames[0]), atol=1e-5)
        assert not torch.allclose(found[1:], colorizer.colorize(frames[1]), atol=1e-3)
