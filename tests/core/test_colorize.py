"""Pictures of every kind and size through a model, and through networks whose colours are known."""

from dataclasses import replace

import numpy as np
import pytest
import skimage.color
import torch
import torch.nn.functional as F
from PIL import Image
from torch import nn

from colorstudy.color import lab_to_srgb, lightness_of, merge, split, srgb_to_lab, to_tensor, to_uint8
from colorstudy.colorize import WEIGHTS, Colorizer
from colorstudy.filters import joint_bilateral
from colorstudy.methods import METHODS
from colorstudy.model import Model


def pixels(height=40, width=52, seed=0):
    """A smooth picture in colour: uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(20, 236, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def as_tensor(picture):
    return to_tensor(picture)[None]


def model(method, seed=0):
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        images = np.stack([pixels(24, 24, seed) for seed in range(4)])
        return Model.build(METHODS[method] if isinstance(method, str) else method, images)


def vivid(name):
    """A colorizer with working size 32 whose last layer is enlarged so that its colours differ from place to place."""
    made = model(name).eval()
    *_, head = (layer for layer in made.network.modules() if isinstance(layer, nn.Conv2d))
    with torch.no_grad():
        spread = made.network(split(as_tensor(pixels()))[0]).std((2, 3)).mean()
        head.weight *= (0.1 if name == "l2" else 1.5) / spread
        head.bias.zero_()
    return Colorizer(made, 32, "cpu")


class Known(nn.Module):
    """A network that gives `maps` (2, h, w) in units of 110, or nothing but one colour, and remembers its input."""

    def __init__(self, maps):
        super().__init__()
        self.maps, self.seen = maps, None

    def forward(self, lightness):
        self.seen = lightness
        return self.maps.expand(len(lightness), -1, -1, -1)


def known(ab, size=32, method="l2"):
    maps = torch.as_tensor(ab, dtype=torch.float32) / 110
    made = model(method)
    made.network = Known(maps if maps.ndim == 3 else maps[:, None, None])
    return Colorizer(made, size, "cpu")


@pytest.fixture(scope="module", params=["l2", "class", "colorunet"])
def colorizer(request):
    return vivid(request.param)


@pytest.fixture
def lightness(colorizer):
    """Of two pictures, in the colorizer's space: (2, 1, 70, 90)."""
    return split(torch.cat([as_tensor(pixels(70, 90, seed)) for seed in (1, 2)]), colorizer.space)[0]


# --- what goes in and comes out; see tests/data/test_arrays.py for every layout ---


def test_every_kind_of_input_gives_the_same(colorizer, tmp_path):
    picture = pixels()
    Image.fromarray(picture).save(tmp_path / "picture.png")
    expected = colorizer.colorize(picture)
    assert expected.shape == picture.shape and expected.dtype == np.uint8
    assert np.ptp(expected.astype(int), axis=2).max() > 10  # it is in colour
    for same in (tmp_path / "picture.png", str(tmp_path / "picture.png"), Image.fromarray(picture)):
        assert np.array_equal(colorizer.colorize(same), expected)
    tensor = colorizer.colorize(as_tensor(picture))
    assert tensor.shape == (1, 3, 40, 52) and tensor.dtype == torch.float32 and not tensor.requires_grad
    assert np.array_equal(to_uint8(tensor)[0], expected)
    double = colorizer.colorize(as_tensor(picture).double())
    assert double.dtype == torch.float32 and torch.allclose(double, tensor, atol=1e-3)
    single = colorizer.colorize(as_tensor(picture)[0])
    assert single.shape == (3, 40, 52) and torch.equal(single, tensor[0])
    bytes_ = colorizer.colorize(torch.from_numpy(picture).permute(2, 0, 1))
    assert bytes_.dtype == torch.uint8 and np.array_equal(bytes_.permute(1, 2, 0).numpy(), expected)
    floats = colorizer.colorize(picture / 255)
    assert floats.shape == (40, 52, 3) and floats.dtype == np.float32
    assert np.abs(floats - np.moveaxis(tensor[0].numpy(), 0, -1)).max() < 1e-5
    first = colorizer.colorize(np.moveaxis(picture, -1, 0))
    assert np.array_equal(first, np.moveaxis(expected, -1, 0))


def test_lists_are_coloured_one_by_one(tmp_path):
    colorizer, pictures = vivid("l2"), [pixels(40, 52), pixels(33, 20, 1)]
    Image.fromarray(pictures[1]).save(tmp_path / "second.png")
    expected = [colorizer.colorize(picture) for picture in pictures]
    for given in (pictures, tuple(pictures), [pictures[0], tmp_path / "second.png"]):
        colored = colorizer.colorize(given)
        assert isinstance(colored, list) and all(map(np.array_equal, colored, expected))
    assert colorizer.colorize([]) == []
    few, default = (vivid("class").colorize(pictures, temperature=t) for t in (0.01, None))
    assert not np.array_equal(few[1], default[1])  # options hold for all


def test_grey_input_is_taken_as_such(colorizer):
    grey = pixels()[..., 0]
    expected = colorizer.colorize(np.repeat(grey[..., None], 3, axis=2))
    assert np.array_equal(colorizer.colorize(grey), expected)
    assert np.array_equal(colorizer.colorize(Image.fromarray(grey)), expected)
    assert Image.fromarray(grey).mode == "L"


def test_other_modes_of_pillow_are_converted():
    image, colorizer = Image.fromarray(pixels()), vivid("l2")
    for mode in ("RGBA", "P", "CMYK"):
        converted = image.convert(mode)
        assert np.array_equal(colorizer.colorize(converted), colorizer.colorize(converted.convert("RGB")))


def test_a_batch_is_coloured_picture_by_picture(colorizer):
    batch = torch.cat([as_tensor(pixels(seed=seed)) for seed in range(3)])
    together = colorizer.colorize(batch)
    for i in range(3):
        assert torch.allclose(together[i : i + 1], colorizer.colorize(batch[i : i + 1]), atol=1e-3)
    arrays = np.stack([pixels(seed=seed) for seed in range(3)])
    assert np.abs(colorizer.colorize(arrays).astype(int) - to_uint8(together)).max() <= 1


@pytest.mark.parametrize("height, width", [(1, 1), (5, 300), (200, 133), (31, 32)])
def test_any_size(colorizer, height, width):
    picture = pixels(height, width)
    assert colorizer.colorize(picture).shape == (height, width, 3)
    assert colorizer.colorize(as_tensor(picture)).isfinite().all()


@pytest.mark.parametrize(
    "size, seen",
    [
        ((200, 133), (48, 32)),
        ((33, 3300), (32, 3200)),
        ((5, 300), (5, 300)),
        ((32, 64), (32, 64)),
    ],
)
def test_the_network_sees_the_working_size(size, seen):
    colorizer = known((20, -30))
    colorizer.colorize(pixels(*size))
    assert colorizer.model.network.seen.shape == (1, 1, *seen)


def test_shrinking_averages():
    """Every pixel counts at the working size: stripes become their mean, not the one that is hit."""
    colorizer = known((0, 0), size=16)
    stripes = torch.zeros(1, 3, 128, 128)
    stripes[..., (torch.arange(128) + 2) % 8 < 4] = 1
    colorizer.colorize(stripes)
    assert (colorizer.model.network.seen[..., 2:-2] - 50).abs().max() < 3


@pytest.mark.parametrize("height, width", [(40, 52), (200, 133)])
@pytest.mark.parametrize("name", ["l2", "class"])
def test_lightness_stays(name, height, width):
    picture = pixels(height, width)
    colored = vivid(name).colorize(picture)
    before, after = (skimage.color.rgb2lab(p)[..., 0] for p in (picture, colored))
    inside = (colored > 0).all(2) & (colored < 255).all(2)
    assert inside.mean() > 0.5
    assert np.abs(after - before)[inside].max() < 1
    # And in between: nothing of the detail is lost, whatever size the network saw.
    assert np.corrcoef(after.ravel(), before.ravel())[0, 1] > 0.99


def test_luma_stays_in_yuv():
    picture = as_tensor(pixels(60, 50))
    colored = vivid("colorunet").colorize(picture)
    inside = ((colored > 0) & (colored < 1)).all(1)
    before, after = (split(p, "yuv")[0][:, 0] for p in (picture, colored))
    assert inside.float().mean() > 0.5 and (after - before)[inside].abs().max() < 0.1


def test_known_colours_are_joined_to_the_lightness():
    picture = as_tensor(pixels(70, 90))
    colored = known((20, -30)).colorize(picture)
    lab = torch.cat([srgb_to_lab(picture)[:, :1], torch.tensor([20.0, -30]).view(1, 2, 1, 1).expand(1, 2, 70, 90)], 1)
    assert torch.allclose(colored, lab_to_srgb(lab), atol=1e-5)


def test_colours_are_enlarged_smoothly():
    """Bilinearly: no steps of the network's cells in the picture, and places stay where they are."""
    ramp = torch.stack([torch.linspace(-20, 20, 8).expand(8, 8), torch.zeros(8, 8)])
    colored = known(ramp, size=32).colorize(torch.full((1, 3, 128, 128), 0.5))
    a = srgb_to_lab(colored)[0, 1, 64]
    expected = F.interpolate(ramp[None], (128, 128), mode="bilinear")[0, 0, 64]
    assert (a - expected).abs().max() < 0.1
    assert a.diff().abs().max() < 1.5 * 40 / 7 / 16  # nearest neighbour would jump by 40 / 7


@pytest.mark.parametrize("grey", [0, 1, 60, 119, 188, 255])
def test_grey_values_are_linearised(grey):
    colorizer = known((0, 0))
    colored = colorizer.colorize(np.full((8, 8), grey, np.uint8))
    expected = skimage.color.rgb2lab(np.full((1, 1, 3), grey, np.uint8))[0, 0, 0]
    assert colorizer.model.network.seen.unique().tolist() == pytest.approx([expected], abs=1e-2)
    assert np.abs(colored.astype(int) - grey).max() <= 1
    if grey == 119:
        assert expected == pytest.approx(50, abs=0.1)


def test_colours_of_the_input_are_ignored(colorizer):
    picture = as_tensor(pixels(40, 40))
    lightness, chroma = split(picture, colorizer.space)
    grey = merge(lightness, torch.zeros_like(chroma), colorizer.space)
    assert (grey - picture).abs().max() > 0.1
    assert (colorizer.colorize(grey) - colorizer.colorize(picture)).abs().max() < 5e-3


def test_the_input_is_left_alone(colorizer):
    picture, tensor = pixels(), as_tensor(pixels())
    colorizer.colorize(picture), colorizer.colorize(tensor)
    assert np.array_equal(picture, pixels()) and torch.equal(tensor, as_tensor(pixels()))
    picture.flags.writeable = False
    colorizer.colorize(picture[::-1, ::-1])  # views with negative strides, which torch does not take


# --- the two halves ---


def test_colorize_is_render_of_predict(colorizer, lightness):
    prediction = colorizer.predict(lightness)
    rgb = colorizer.render(lightness, prediction)
    assert rgb.shape == (2, 3, 70, 90) and rgb.min() >= 0 and rgb.max() <= 1
    # Decoded first, then enlarged.
    chroma = F.interpolate(colorizer.decode(prediction), (70, 90), mode="bilinear")
    assert torch.allclose(rgb, merge(lightness, chroma, colorizer.space), atol=1e-5)
    picture = torch.cat([as_tensor(pixels(70, 90, seed)) for seed in (1, 2)])
    alone = lightness_of(picture, colorizer.space)  # from that of `split` its last bit may differ
    assert torch.allclose(alone, lightness, atol=1e-4)
    assert torch.equal(colorizer.colorize(picture), colorizer.render(alone, colorizer.predict(alone)))


def test_a_prediction_is_chroma_or_a_distribution_at_the_working_size(colorizer, lightness):
    prediction, target = colorizer.predict(lightness), colorizer.model.target
    assert not prediction.requires_grad
    with torch.no_grad():  # 70 x 90 pixels at a working size of 32
        output = colorizer.model(F.interpolate(lightness, (32, 41), mode="bilinear", antialias=True))
    assert prediction.shape == output.shape
    if colorizer.is_distribution:
        assert (prediction >= 0).all() and torch.allclose(prediction.sum(1), torch.ones(()), atol=1e-5)
        assert torch.allclose(prediction, torch.softmax(output, 1), atol=1e-5)
        assert torch.allclose(colorizer.decode(prediction), target.decode(output), atol=1e-2)
    else:
        assert torch.allclose(prediction, target.decode(output), atol=1e-3) and prediction.abs().max() > 2  # in ab
        assert torch.equal(colorizer.decode(prediction), prediction)
    assert colorizer.decode(prediction).shape == (2, 2, *output.shape[-2:])


def test_a_prediction_in_half_precision_loses_no_more_than_the_network_does(colorizer, lightness):
    exact = colorizer.predict(lightness)
    with torch.autocast("cpu", torch.bfloat16):
        half = colorizer.predict(lightness)
    assert half.dtype == torch.float32 and not torch.equal(half, exact)
    assert (half - exact).abs().max() < 0.05 * exact.abs().max()


def test_the_space_and_kind_of_a_prediction():
    made = {name: Colorizer(model(name), device="cpu") for name in ("l2", "class", "colorunet", "cheng")}
    assert {name: colorizer.space for name, colorizer in made.items()} == {
        "l2": "lab", "class": "lab", "colorunet": "yuv", "cheng": "yuv",
    }  # fmt: skip
    assert [name for name, colorizer in made.items() if colorizer.is_distribution] == ["class", "colorunet"]


def test_predictions_can_be_averaged(colorizer, lightness):
    """As a smoother of video does: of equal ones the mean is the same, of two it is neither."""
    prediction = colorizer.predict(lightness[:1])
    mirrored = colorizer.predict(lightness[:1].flip(-1)).flip(-1)
    same = colorizer.render(lightness[:1], (prediction + prediction) / 2)
    assert torch.allclose(same, colorizer.render(lightness[:1], prediction), atol=1e-4)
    mean = (prediction + mirrored) / 2
    if colorizer.is_distribution:
        assert torch.allclose(mean.sum(1), torch.ones(()), atol=1e-5)
    colours = [colorizer.render(lightness[:1], one) for one in (prediction, mirrored, mean)]
    assert all(rgb.isfinite().all() for rgb in colours)
    assert not torch.allclose(colours[2], colours[0], atol=1e-3)
    assert not torch.allclose(colours[2], colours[1], atol=1e-3)


def test_a_certain_distribution_is_its_colour():
    """Zeros have no logarithm; they come of logits so far below the others that they underflow."""
    colorizer = vivid("class")
    bins = colorizer.model.target.bins
    certain = torch.zeros(1, 313, 2, 3)
    certain[:, 200] = 1
    assert torch.allclose(colorizer.decode(certain), bins.centers[200].view(1, 2, 1, 1).expand(1, 2, 2, 3), atol=1e-3)
    assert colorizer.decoding(temperature=1e-6).decode(certain).isfinite().all()
    flat = colorizer.decoding(temperature=1e9).decode(certain)  # as of finite logits: all bins alike
    assert torch.allclose(flat, bins.centers.mean(0).view(1, 2, 1, 1), atol=1e-3)


def test_colours_are_filtered_at_their_own_size():
    """The joint bilateral filter of Cheng et al. sees the lightness at the size of the network's maps."""
    noise = torch.randn(2, 10, 12, generator=torch.Generator().manual_seed(0)) * 20
    plain, filtered = (known(noise, method=replace(METHODS["l2"], bilateral=width)) for width in (0.0, 10.0))
    picture = as_tensor(pixels(40, 48))
    lightness = split(picture)[0]
    smooth = joint_bilateral(plain.predict(lightness), F.adaptive_avg_pool2d(lightness, (10, 12)), sigma_lightness=10.0)
    expected = merge(lightness, F.interpolate(smooth, (40, 48), mode="bilinear"))
    assert torch.allclose(filtered.colorize(picture), expected, atol=1e-5)
    assert (plain.colorize(picture) - expected).abs().max() > 0.05


# --- large pictures, which are coloured in strips ---


@pytest.fixture
def large(colorizer):
    """A picture of a size that no strip divides, and its colours the plain way: (500, 331, 3), (3, 500, 331)."""
    picture = pixels(500, 331)
    lightness = split(as_tensor(picture), colorizer.space)[0]
    chroma = colorizer.decode(colorizer.predict(lightness))
    return picture, merge(lightness, F.interpolate(chroma, (500, 331), mode="bilinear"), colorizer.space)[0]


def test_strips_make_no_difference(colorizer, large):
    picture, expected = large
    assert (colorizer.colorize(as_tensor(picture))[0] - expected).abs().max() < 1e-5
    levels = np.abs(colorizer.colorize(picture).astype(int) - to_uint8(expected))
    assert levels.max() <= 1 and (levels > 0).mean() <= 0.005


def test_large_bytes_of_every_kind(colorizer, large):
    picture = large[0]
    expected = colorizer.colorize(picture)
    assert expected.flags.c_contiguous and expected.flags.writeable
    assert np.array_equal(colorizer.colorize(Image.fromarray(picture)), expected)
    rgba = np.dstack([picture, np.full(picture.shape[:2], 255, np.uint8)])
    assert np.array_equal(colorizer.colorize(rgba), expected)
    for given in (torch.from_numpy(picture).movedim(-1, 0), torch.from_numpy(picture).movedim(-1, 0).contiguous()):
        colored = colorizer.colorize(given)
        assert colored.dtype == torch.uint8 and np.array_equal(colored.movedim(0, -1), expected)
    grey, three = picture[..., 0], np.repeat(picture[..., :1], 3, 2)
    assert np.array_equal(colorizer.colorize(grey), colorizer.colorize(three))
    levels = np.abs(colorizer.colorize(np.stack([picture, three])).astype(int) - [expected, colorizer.colorize(three)])
    assert levels.max() <= 1 and (levels > 0).mean() <= 0.005


@pytest.mark.parametrize("h, w", [(1, 1), (37, 53), (400, 300), (411, 20), (20, 311)])
def test_colours_of_any_size_are_brought_to_that_of_the_lightness(h, w):
    generator = torch.Generator().manual_seed(0)
    lightness = torch.rand(2, 1, 400, 300, generator=generator) * 100
    chroma = torch.randn(2, 2, h, w, generator=generator) * 20
    expected = merge(lightness, F.interpolate(chroma, (400, 300), mode="bilinear"))
    assert (known((0, 0)).render(lightness, chroma) - expected).abs().max() < 1e-4


@pytest.mark.parametrize("side", [8, 300])
def test_bytes_meet_the_rendering_of_a_subclass(side):
    class Red(Colorizer):
        def render(self, lightness, prediction, **_):
            return torch.tensor([1.0, 0, 0]).view(1, 3, 1, 1).expand(len(lightness), 3, *lightness.shape[-2:])

    colored = Red(vivid("l2").model, 32, "cpu").colorize(pixels(side, side))
    assert (colored == [255, 0, 0]).all()


# --- options of decoding ---


def test_temperature():
    colorizer, picture = vivid("class"), as_tensor(pixels())
    default = colorizer.colorize(picture)
    assert torch.equal(colorizer.colorize(picture, temperature=0.38), default)
    sharp, flat = (colorizer.colorize(picture, temperature=t) for t in (0.01, 1e6))
    assert (sharp - default).abs().max() > 0.05 and (flat - default).abs().max() > 0.05
    mean = colorizer.model.target.bins.centers.mean(0)  # what remains of any distribution at a great temperature
    middle = (split(picture)[0][:, 0] - 50).abs() < 10
    assert (split(flat)[1][0, :, middle[0]] - mean[:, None]).abs().max() < 0.1
    with pytest.raises(ValueError, match=r"^temperature: expected a number > 0, got 0"):
        colorizer.colorize(picture, temperature=0)


def test_rebalancing_after_training():
    colorizer, picture = vivid("class"), as_tensor(pixels())
    plain = colorizer.colorize(picture)
    assert torch.equal(colorizer.colorize(picture, rebalance=0.0), plain)
    assert (colorizer.colorize(picture, rebalance=3.0) - plain).abs().max() > 1e-3


def test_options_can_be_set_once_for_all():
    colorizer, picture = vivid("class"), as_tensor(pixels())
    cold = colorizer.decoding(temperature=0.01)
    assert cold.model is colorizer.model and cold.size == 32 and cold.device == colorizer.device
    assert cold.options == {"temperature": 0.01} and colorizer.options == {}
    assert torch.equal(cold.colorize(picture), colorizer.colorize(picture, temperature=0.01))
    both = cold.decoding(rebalance=3.0)
    assert both.options == {"temperature": 0.01, "rebalance": 3.0}
    assert torch.equal(both.colorize(picture), colorizer.colorize(picture, temperature=0.01, rebalance=3.0))
    assert torch.equal(cold.colorize(picture, temperature=0.38), colorizer.colorize(picture))
    assert torch.equal(
        Colorizer(colorizer.model, 32, "cpu", temperature=0.01).colorize(picture), cold.colorize(picture)
    )
    # Options are of the decoding: what the network says stays.
    lightness = split(picture)[0]
    assert torch.equal(cold.predict(lightness), colorizer.predict(lightness))
    assert torch.equal(cold.render(lightness, colorizer.predict(lightness)), cold.colorize(picture))


def test_a_regression_has_no_temperature_and_no_rebalancing():
    for options, got in (
        ({"rebalance": 1.0}, "rebalance: .* got 1"),
        ({"temperature": 0.38}, "temperature: .* got 0.38"),
    ):
        expected = "^" + got.replace(".*", "expected None, as l2 is a regression,")
        with pytest.raises(ValueError, match=expected):
            vivid("l2").colorize(pixels(), **options)
        with pytest.raises(ValueError, match=expected):
            vivid("l2").decoding(**options)
    with pytest.raises(ValueError, match=r"^temprature: expected None, as class is a classification, got 1"):
        vivid("class").decoding(temprature=1)


def test_the_repr_says_what_it_is():
    colorizer = vivid("class")
    assert repr(colorizer) == "Colorizer(class, size=32, device='cpu')"
    assert repr(colorizer.decoding(temperature=0.2)) == "Colorizer(class, size=32, device='cpu', temperature=0.2)"


def test_a_model_in_training_mode_is_put_to_rest():
    made = model("l2").train()
    colorizer = Colorizer(made, 32, "cpu")
    state = {key: value.clone() for key, value in made.state_dict().items()}
    colorizer.colorize(pixels())
    assert not made.training and all(torch.equal(value, state[key]) for key, value in made.state_dict().items())


@pytest.mark.parametrize("name", ["l2", "class", "colorunet"])
def test_loading_brings_back_the_colours(name, tmp_path):
    colorizer, picture = vivid(name), pixels(60, 80)
    colorizer.model.size = 32
    colorizer.model.save(tmp_path / "run" / "model.safetensors")
    expected = colorizer.colorize(picture)
    for place in (tmp_path / "run", str(tmp_path / "run"), tmp_path / "run" / "model.safetensors"):
        loaded = Colorizer.load(place, "cpu")
        assert loaded.size == 32 and np.array_equal(loaded.colorize(picture), expected)


def test_loading_an_unfinished_or_missing_run(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors: expected the weights of a model, found no file"):
        Colorizer.load(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"none: expected the weights of a model, found no file"):
        Colorizer.load(tmp_path / "none")
    with pytest.raises(ValueError, match=r"run\.json: expected a safetensors file"):
        Colorizer.load(tmp_path / "run.json")


@pytest.mark.parametrize(
    "image, error, message",
    [
        ("none.png", FileNotFoundError, "expected an image file, got none.png, which does not exist"),
        (np.zeros((4, 4, 3), bool), TypeError, "^image: expected a path, .* or a tensor, got ndarray of bool"),
        (torch.zeros(1, 3, 4, 4).long(), TypeError, "^image: .* got Tensor of torch.int64"),
        (5, TypeError, "^image: expected a path, a PIL image, an array or a tensor, got int"),
        (None, TypeError, "^image: .* got NoneType"),
        ([None], TypeError, "^image: .* got NoneType"),
        (np.zeros((5, 5, 2), np.uint8), ValueError, r"^image: expected \(H, W\), .*, got \(5, 5, 2\)"),
        (np.zeros(4, np.uint8), ValueError, r"^image: expected \(H, W\), .*, got \(4,\)"),
        (np.zeros((0, 4, 3), np.uint8), ValueError, r"^image: expected .*, not empty, got \(0, 4, 3\)"),
        (torch.zeros(2, 1, 3, 4, 4), ValueError, r"^image: expected \(H, W\), .*, got \(2, 1, 3, 4, 4\)"),
        (torch.zeros(1, 3, 0, 4), ValueError, r"^image: expected .*, not empty, got \(1, 3, 0, 4\)"),
        (
            torch.full((1, 3, 4, 4), 255.0),
            ValueError,
            r"^image: expected values in \[0, 1\], got \[255, 255\]; divide by 255",
        ),
        (
            np.full((4, 4, 3), 128.0),
            ValueError,
            r"^image: expected values in \[0, 1\], got \[128, 128\]; divide by 255",
        ),
        (torch.full((1, 3, 4, 4), -0.5), ValueError, r"^image: expected values in \[0, 1\], got \[-0.5, -0.5\]"),
        (torch.full((3, 4, 4), torch.nan), ValueError, r"^image: expected values in \[0, 1\], got \[nan, nan\]"),
    ],
)
def test_errors_name_argument_expected_and_got(image, error, message):
    with pytest.raises(error, match=message):
        known((0, 0)).colorize(image)


def test_the_working_size_is_checked():
    with pytest.raises(ValueError, match=r"^size: expected pixels >= 1, got 0"):
        Colorizer(model("l2"), 0)


@pytest.mark.parametrize("name", ["full", "l2", "class", "photos"])
def test_models_come_with_the_package(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # no runs or files of these names
    colorizer = Colorizer.load(name)
    assert colorizer.model.method.name == name
    assert colorizer.size == colorizer.model.size == (96 if name == "photos" else 79)
    assert (repr(Colorizer.load()) == repr(colorizer)) == (name == "photos")  # the default
    picture = np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)
    assert colorizer.colorize(picture).shape == picture.shape
    assert (WEIGHTS / f"{name}.safetensors").stat().st_size <= 12e6
    (tmp_path / name).mkdir()  # whatever lies in the working folder, the name is that of the packaged model
    assert repr(Colorizer.load(name)) == repr(colorizer)
    with pytest.raises(FileNotFoundError, match=rf"{name}/model\.safetensors: expected the weights of a model"):
        Colorizer.load(f"./{name}")
