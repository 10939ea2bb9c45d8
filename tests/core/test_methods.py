"""Named methods and their variants, and the open door: networks and targets that are not ours."""

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from colorstudy import prior
from colorstudy.bins import ColorBins
from colorstudy.color import merge, to_tensor, to_uint8
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.methods import METHODS, Method, get
from colorstudy.model import LostCenter, MergedCells, Model
from colorstudy.study.tables import VARIANTS
from colorstudy.targets import Regression
from colorstudy.training import TrainConfig, fit

pytestmark = pytest.mark.usefixtures("code_hash_once")


@pytest.fixture(scope="module")
def images():
    """40 smooth colour pictures, the last ten of them far bluer, uint8 (40, 24, 24, 3)."""
    small = np.random.default_rng(0).integers(0, 200, (40, 4, 4, 3))
    small[30:, ..., 2] += 55
    small = small.astype(np.uint8)
    return np.stack([np.array(Image.fromarray(s).resize((24, 24), Image.Resampling.BICUBIC)) for s in small])


@pytest.fixture(scope="module")
def rgb(images):
    return to_tensor(images[:4])


def build(method, images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Model.build(get(method), images)


# --- the named ones ---


def test_the_three_of_zhang_and_the_two_of_billaut():
    assert {"l2", "class", "full", "colorunet", "convnet"} <= set(METHODS)
    assert all(method.name == name for name, method in METHODS.items())
    assert [METHODS[name].lam for name in ("class", "full")] == [1, 0.5]
    assert METHODS["colorunet"].space == "yuv" and METHODS["colorunet"].neighbors == 1
    assert METHODS["colorunet"].lam == 0.5
    assert get("full") is METHODS["full"] and get(METHODS["l2"]) is METHODS["l2"]


def test_the_released_code_of_billaut_beside_their_paper():
    """Bins, lambda, prior, views and network are those of the code; the faults are variants of it."""
    for name in ("colorunet", "convnet"):
        differences = {"name", "network", "bins", "lam", "smoothing", "augmentation"}
        paper, released = asdict(METHODS[name]), asdict(METHODS[f"{name}-released"])
        assert {field for field in paper if paper[field] != released[field]} == differences
        assert released["network"] == f"{name}-released" and (released["lam"], released["smoothing"]) == (0.2, 0)
    assert VARIANTS["colorunet-lambda"]["base"] == "colorunet" and METHODS["colorunet-lambda"].lam == 0.2


def test_the_three_of_zhang_are_the_same_on_both_networks():
    for name in ("l2", "class", "full"):
        assert METHODS[f"zhang-{name}"] == replace(METHODS[name], name=f"zhang-{name}", network="zhang")


def test_class_weights(images):
    assert torch.equal(build("class", images).target.weights, torch.ones(313))
    full = build("full", images).target.weights
    p = prior.smooth(prior.count(images, ColorBins.in_gamut()), ColorBins.in_gamut(), 5.0)
    assert (p * full.double()).sum().item() == pytest.approx(1, abs=1e-6)
    assert full.max() / full.min() > 2
    assert torch.allclose(full.double(), prior.rebalancing_weights(p, 0.5), rtol=1e-6)


def test_class_posthoc_is_class_decoded_with_the_weights_of_full(images, rgb):
    plain, posthoc, full = (build(name, images) for name in ("class", "class-posthoc", "full"))
    assert torch.equal(posthoc.target.weights, plain.target.weights)
    assert torch.equal(posthoc.loss(rgb), plain.loss(rgb))  # so training is the same
    assert torch.equal(posthoc.target.posthoc, full.target.weights)
    logits = torch.randn(1, 313, 2, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(posthoc.target.decode(logits), plain.target.decode(logits, rebalance=1.0))
    assert not torch.equal(posthoc.target.decode(logits), plain.target.decode(logits))


DERIVED = {"class-posthoc": "class", "cheng-no-filter": "cheng", "colorunet-lost-center": "colorunet-released"}


def test_methods_that_differ_in_decoding_alone_say_so():
    plain = {"name": "-", "decodes": "", "temperature": 1.0, "rebalance": 0.0, "bilateral": 0.0}
    trained = {}
    for name, method in METHODS.items():  # in the order of the table, a base before what decodes it
        bins = method.bins.removesuffix("-lost-center")  # which labels as the others do
        trained.setdefault(replace(method, bins=bins, **plain), []).append(name)
    twins = {other: first for first, *others in trained.values() for other in others}
    assert twins == DERIVED == {name: method.decodes for name, method in METHODS.items() if method.decodes}


@pytest.mark.parametrize("name", ["class-posthoc", "colorunet-lost-center"])  # of the filter no training knows
def test_a_method_that_decodes_another_would_learn_the_same(name, images, rgb):
    derived, base = (build(method, images) for method in (name, DERIVED[name]))
    assert torch.equal(derived.loss(rgb), base.loss(rgb))
    assert all(torch.equal(a, b) for a, b in zip(derived.state_dict().values(), base.state_dict().values()))


@pytest.mark.parametrize("name", DERIVED)
def test_a_method_that_decodes_another_is_no_training(name, bank, tmp_path):
    expected = rf"^method: expected one to train, as {name} decodes {DERIVED[name]}, got {name}$"
    with pytest.raises(ValueError, match=expected):
        fit(name, bank, CONFIG, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_paper_and_released_code_differ_by_settings_that_all_build_and_learn(images, rgb):
    """Section 2 of Zhang et al. against their code: each switch changes the target and nothing else."""
    full = METHODS["full"]
    switches = [{"neighbors": 10}, {"sampling": "point"}, {"grey_mask": 5.0}, {"smoothing": 0.0}, {"bins": "reachable"}]
    for switch in switches:
        made = build(replace(full, **switch), images)
        assert made.loss(rgb).isfinite(), switch
        assert made.target.out_channels == (261 if "bins" in switch else 313)
    assert build(replace(METHODS["l2"], sampling="point"), images).target.sampling == "point"


def test_most_frequent_bins_are_those_of_the_training_pictures(images):
    target = build("colorunet", images).target
    assert target.out_channels == 32 and target.bins.space == "yuv"
    other = build("colorunet", images[:, :, :, ::-1].copy()).target.bins
    assert not torch.equal(other.centers, target.bins.centers)


CELLS = torch.stack(torch.meshgrid(torch.arange(10), torch.arange(10), indexing="ij"), -1).view(-1, 2)
CELL = torch.tensor([0.09, 0.13])  # of the grid over U in [-.45, .45], V in [-.65, .65]


def center(*cells):
    return (torch.tensor(cells) + 0.5) * CELL - torch.tensor([0.45, 0.65])


def merged_by_hand(cell, kept):
    """Number of the kept cell that `cell` is merged into: the nearest in rows and columns, of equals the first."""
    return min(range(len(kept)), key=lambda k: (kept[k][0] - cell[0]) ** 2 + (kept[k][1] - cell[1]) ** 2)


def test_merged_cells_label_by_cell_and_decode_to_its_center():
    kept = [(2, 5), (4, 4), (4, 6), (8, 4)]
    bins = MergedCells(center(*kept))
    assert torch.allclose(
        bins.centers, torch.tensor([[-0.225, 0.065], [-0.045, -0.065], [-0.045, 0.195], [0.315, -0.065]])
    )
    assert torch.allclose(bins.centers, center(*kept), atol=1e-6)
    expected = torch.tensor([merged_by_hand(cell, kept) for cell in CELLS.tolist()])
    assert expected[4 * 10 + 5] == 1 and expected[6 * 10 + 4] == 1  # halfway between two: the first
    for shift in (0.0, 0.49, -0.49):  # anywhere in a cell
        chroma = (center(*CELLS.tolist()) + shift * CELL).T[None, :, None]
        assert torch.equal(bins.nearest(chroma).flatten(), expected)
        indices, weights = bins.soft(chroma, 1)
        assert torch.equal(indices.flatten(), expected) and (weights == 1).all() and weights.shape == (1, 1, 100, 1)
    # The nearest centre by itself is another for some colours, of cells that are not kept.
    other = bins.nearest(chroma).flatten() != ColorBins(bins.centers, "yuv").nearest(chroma).flatten()
    assert other.any() and not other[torch.tensor([10 * row + column for row, column in kept])].any()
    one = bins.soft(chroma, 3)  # more than one are the neighbours of the bin
    assert torch.equal(one[0][..., 0].flatten(), expected) and torch.allclose(one[1].sum(-1), torch.ones(1, 1, 100))
    far = torch.tensor([[9.0, -9], [9, -9]]).view(1, 2, 1, 2)
    assert bins.nearest(far).flatten().tolist() == [merged_by_hand(c, kept) for c in ((9, 9), (0, 0))]
    sure = 100.0 * torch.eye(4).view(4, 4, 1, 1)
    assert torch.allclose(bins.annealed_mean(sure)[..., 0, 0], bins.centers)
    with pytest.raises(ValueError, match=r"^space: expected 'yuv', where the grid lies, got lab"):
        MergedCells(center((1, 1)), "lab")
    with pytest.raises(ValueError, match=r"^chroma: expected shape \(B, 2, h, w\), got \(1, 3, 2, 2\)"):
        bins.nearest(torch.zeros(1, 3, 2, 2))


def in_cells(counts):
    """One picture, uint8 (1, 100, 100, 3), with so many pixels in the cells, as near to their centres as bytes are."""
    chroma = center(*counts).repeat_interleave(torch.tensor([*counts.values()]), 0).T.reshape(1, 2, 100, 100)
    return to_uint8(merge(torch.full((1, 1, 100, 100), 50.0), chroma, "yuv"))


def test_the_bins_and_weights_of_the_released_code_by_hand():
    counts = {(5, 5): 6000, (4, 5): 2500, (4, 4): 1000, (6, 4): 500}
    target = build("colorunet-released", in_cells(counts)).target
    order = [(4, 4), (4, 5), (5, 5), (6, 4)]  # by U, then V
    assert torch.allclose(target.bins.centers, center(*order), atol=1e-6) and type(target.bins) is MergedCells
    p = torch.tensor([counts[cell] for cell in order]) / 10_000
    weights = 1 / (0.8 * p + 0.2 / 4)
    assert torch.allclose(target.weights, weights / (p * weights).sum())
    assert (p * target.weights).sum().item() == pytest.approx(1)
    # A cell of one pixel in a million or less is merged, and its pixels count for the cell that it goes to.
    many = np.concatenate([np.repeat(in_cells({(5, 5): 10_000}), 100, 0), in_cells({(5, 5): 9999, (4, 4): 1})])
    assert build("colorunet-released", many).target.out_channels == 1
    two = np.concatenate([many[1:-1], in_cells({(5, 5): 9998, (4, 4): 2})])
    assert build("colorunet-released", two).target.out_channels == 2
    merged = build("colorunet-released", in_cells({(5, 5): 10_000})).target
    assert merged.out_channels == 1 and merged.weights.tolist() == [1]


def test_at_most_64_cells_are_kept_the_most_frequent():
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (20, 64, 64, 3), generator=generator, dtype=torch.uint8).numpy()
    target = build("colorunet-released", images).target
    every = MergedCells(center(*CELLS.tolist()))
    found = prior.count(images, every)
    assert (found > 0).sum() > 64 == target.out_channels
    kept = torch.cdist(target.bins.centers, every.centers).argmin(1)
    dropped = torch.ones(100, dtype=torch.bool).index_fill(0, kept, False)
    assert found[kept].min() >= found[dropped].max() > 0 and found[kept].sum() + found[dropped].sum() == found.sum()
    assert prior.count(images, target.bins).sum() == found.sum()


# --- variants, and the defects of released code among them ---


def test_variants_differ_from_their_base_in_one_point():
    for name, variant in VARIANTS.items():
        method, base = METHODS[name], METHODS[variant["base"]]
        changed = {field for field in vars(method) if getattr(method, field) != getattr(base, field)}
        changed -= {"name", "decodes"}
        assert len(changed) == 1 and method.name == name
    assert {variant["group"] for variant in VARIANTS.values()} == {
        "released code", "augmentation", "parts of Cheng et al.", "faults of ColorUNet's code",
    }  # fmt: skip


def test_no_method_has_a_defect_but_the_variants_that_measure_one():
    defects = {
        "views-divided-twice",
        "colorunet-frozen-norm",
        "grid-lost-center",
        "grid-few-pictures",
    }
    faulty = {name for name, m in METHODS.items() if {m.augmentation, m.network, m.bins} & defects}
    assert faulty == {f"colorunet-{fault}" for fault in ("divided-twice", "frozen-norm", "lost-center", "few-pictures")}
    places = {(VARIANTS[name]["group"], VARIANTS[name]["base"]) for name in faulty}
    assert places == {("faults of ColorUNet's code", "colorunet-released")}


def test_lost_center_decodes_the_first_bin_to_no_colour_and_labels_as_before(images, tmp_path):
    sound, faulty = build("colorunet-released", images).eval(), build("colorunet-lost-center", images).eval()
    bins, lost = sound.target.bins, faulty.target.bins
    assert type(bins) is MergedCells and type(lost) is LostCenter and torch.equal(bins.centers, lost.centers)
    centers = bins.centers.clone()
    centers[0] = 0
    logits = torch.randn(2, len(bins), 3, 4, generator=torch.Generator().manual_seed(0))
    p = torch.softmax(logits / 0.38, dim=1)
    assert torch.allclose(lost.annealed_mean(logits), torch.einsum("bqhw,qc->bchw", p, centers), atol=1e-6)
    sure = torch.zeros(1, len(bins), 1, 1)
    sure[0, 0] = 100
    assert lost.annealed_mean(sure).abs().max() < 1e-6 and bins.annealed_mean(sure).abs().max() > 0.01
    chroma = torch.rand(2, 2, 5, 5) - 0.5
    assert torch.equal(lost.nearest(chroma), bins.nearest(chroma))
    faulty.save(tmp_path / "m.safetensors")
    loaded = Model.load(tmp_path / "m.safetensors")
    assert torch.equal(loaded.target.decode(logits), faulty.target.decode(logits))
    assert not torch.equal(loaded.target.decode(logits), sound.target.decode(logits))


def test_frozen_norm_keeps_the_initial_statistics(images, rgb):
    for name, moved in (("colorunet-released", True), ("colorunet-frozen-norm", False)):
        model = build(name, images).train()
        model.loss(rgb).backward()
        norms = [layer for layer in model.network.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert len(norms) == 5 and all(layer.training == moved for layer in norms)
        assert all((layer.running_mean.abs().max() > 0) == moved for layer in norms)
        assert all(layer.weight.grad is not None for layer in norms)
        assert not any(layer.training for layer in model.eval().modules())


def test_few_pictures_decide_bins_and_weights(images):
    sound, few = build("colorunet-released", images).target, build("colorunet-released", images[:30]).target
    faulty = build("colorunet-few-pictures", images).target
    assert not torch.equal(sound.bins.centers, faulty.bins.centers)
    assert torch.equal(faulty.bins.centers, few.bins.centers) and torch.equal(faulty.weights, few.weights)


# --- what a method may be ---


def test_methods_are_plain_data():
    for name in ("full", "dahl"):
        assert Method(**json.loads(json.dumps(asdict(METHODS[name])))) == METHODS[name]
    assert METHODS["dahl"].blurs == (3, 5)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"target": "both"}, r"^target: expected one of \['regression', 'classification'\], got 'both'"),
        ({"target": "regresion"}, r"^target: .* got 'regresion'; did you mean 'regression'\?"),
        ({"network": "resnet"}, r"^network: expected one of \['cheng', .*'compact', .*got 'resnet'"),
        ({"network": "compakt"}, r"^network: .* got 'compakt'; did you mean 'compact'\?"),
        ({"network": ""}, r"^network: expected one of .*, got ''"),
        ({"space": "hsv"}, r"^space: expected one of \['lab', 'yuv'\], got 'hsv'"),
        ({"bins": "all"}, r"^bins: expected one of \['in_gamut', 'reachable', 'most_frequent', .*\], got 'all'"),
        ({"sampling": "points"}, r"^sampling: .* did you mean 'point'\?"),
        ({"augmentation": "crop"}, r"^augmentation: .* did you mean 'crops'\?"),
        ({"lam": 1.5}, r"^lam: expected a share in \[0, 1\], got 1.5"),
        ({"lam": float("nan")}, r"^lam: expected a share in \[0, 1\], got nan"),
        ({"neighbors": 0}, r"^neighbors: expected an integer >= 1, got 0"),
        ({"smoothing": -1}, r"^smoothing: expected a number >= 0, got -1"),
        ({"temperature": 0}, r"^temperature: expected a number > 0, got 0"),
    ],
)
def test_fields_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        replace(METHODS["class"], **fields)


def test_unknown_methods_are_named():
    with pytest.raises(ValueError, match=r"^method: expected one of \['l2', 'l2-ft', 'class', 'full', .*got 'zhang'"):
        get("zhang")
    with pytest.raises(ValueError, match=r"^method: .* got 'colourunet'; did you mean 'colorunet'\?"):
        get("colourunet")


# --- the open door ---

MINE = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Module):
    def __init__(self, out_channels):
        super().__init__()
        first = nn.Conv2d(1, 8, 3, stride=2, padding=1)
        self.layers = nn.Sequential(first, nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, out_channels, 3, padding=1))

    def forward(self, lightness):
        assert lightness.shape[1] == 1 and 0 <= lightness.min() and 10 < lightness.max() <= 100.01
        return self.layers(lightness / 50 - 1)


class Huber:  # no torch module
    out_channels = 2

    def loss(self, output, chroma):
        assert chroma.shape[1:] == (2, 16, 16)  # at full size
        return F.huber_loss(100 * output, F.adaptive_avg_pool2d(chroma, output.shape[-2:]), delta=20.0)

    def decode(self, output, gain=1.0):
        return 100 * gain * output


class Learned(Huber, nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def loss(self, output, chroma):
        return super().loss(self.scale[:, None, None] * output, chroma)

    def decode(self, output, **options):
        return super().decode(self.scale[:, None, None] * output, **options)


class Signs(nn.Module):  # a distribution over four colours
    out_channels = 4

    def __init__(self):
        super().__init__()
        self.register_buffer("colours", 40 * torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]]))

    def loss(self, output, chroma):
        small = F.adaptive_avg_pool2d(chroma, output.shape[-2:])
        return F.cross_entropy(output, 2 * (small[:, 0] < 0) + (small[:, 1] < 0))

    def distribution(self, output):
        return output.softmax(1)

    def decode(self, output, sharp=1.0):
        return torch.einsum("bqhw,qc->bchw", (sharp * output).softmax(1), self.colours)


class Inside:
    class Net(Net):
        pass


class Bare(nn.Module):  # without loss and decode, no target; without Net(out_channels), no network
    pass


made = Net(2)


def make(out_channels):
    raise SystemError("called")
"""
CONFIG = TrainConfig(steps=2, batch_size=4, crop=16, learning_rate=1e-2, accelerator="cpu", threads=1)


@pytest.fixture(scope="module")
def module(tmp_path_factory):
    """The imported module of a user's file, and the folder that it lies in."""
    folder = tmp_path_factory.mktemp("mine")
    (folder / "mine_of_test_methods.py").write_text(MINE)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        import mine_of_test_methods

        yield mine_of_test_methods, folder
    sys.modules.pop("mine_of_test_methods", None)


@pytest.fixture
def mine(module):
    return module[0]


@pytest.fixture(scope="module")
def bank(images):
    names = tuple(f"{i}.png" for i in range(40))
    return ImageBank("tiny", images, names, ("train",) * 32 + ("test",) * 8, "hash")


KINDS = {  # by the name that follows from it: network and target; of the capitals the module above has the class
    "net-classification": ("Net", "classification"),
    "net-regression": ("Net", "regression"),
    "compact-huber": ("compact", "Huber"),
    "net-learned": ("Net", "Learned"),
    "compact-signs": ("compact", "Signs"),
    "net-signs": ("Inside.Net", "Signs"),
}


@pytest.fixture(scope="module")
def trained(module, bank, tmp_path_factory):
    """A run of each of `KINDS`, every other one given as a path instead of a class."""
    mine, _ = module
    out = tmp_path_factory.mktemp("runs")
    for i, (name, parts) in enumerate(KINDS.items()):
        network, target = (part if part.islower() else f"mine_of_test_methods:{part}" for part in parts)
        if i % 2 == 0:
            network, target = (getattr(mine, part, part) for part in parts)
        method = Method(network=network, target=target)
        assert method.name == name
        fit(method, bank, CONFIG, out / name)
    return out


def test_a_class_and_its_path_are_one_method(mine):
    given = Method(network=mine.Net, target=mine.Huber)
    assert given == Method("net-huber", "mine_of_test_methods:Huber", "mine_of_test_methods:Net")
    assert Method(network=mine.Inside.Net).network == "mine_of_test_methods:Inside.Net"
    assert Method("mine", network=mine.Net).name == "mine"
    assert Method().name == "compact-classification"
    assert Method(target=Regression).target == "colorstudy.targets:Regression"
    assert Method(**json.loads(json.dumps(asdict(given)))) == given
    assert replace(given, lam=0.5).name == "net-huber" and get(given) is given


@pytest.mark.parametrize("name", KINDS)
def test_what_is_not_ours_trains_is_saved_and_loads(name, trained, mine, bank):
    run, (network, target) = trained / name, KINDS[name]
    colorizer = Colorizer.load(run, "cpu")
    model = colorizer.model
    assert json.loads((run / "run.json").read_text())["method"] == json.loads(json.dumps(asdict(model.method)))
    assert isinstance(model.network, mine.Net) == network.endswith("Net")
    assert target.islower() or type(model.target) is getattr(mine, target)
    fresh = build(model.method, bank.train.images).state_dict()
    moved = {key for key, value in model.state_dict().items() if not torch.equal(value, fresh[key])}
    assert moved == {key for key in fresh if key.startswith("network.")} | ({"target.scale"} & {*fresh})
    colored = colorizer.colorize(bank.test.images[0])
    assert colored.shape == (24, 24, 3) and np.ptp(colored.astype(int), axis=2).max() > 0
    assert colorizer.is_distribution == (target in ("classification", "Signs"))


def test_parameters_of_a_target_are_trained_and_saved(trained, mine, bank):
    model = Model.load(trained / "net-learned" / "model.safetensors")
    assert (model.target.scale != 1).all()
    state = load_file(trained / "net-learned" / "model.safetensors")
    assert torch.equal(state["target.scale"], model.target.scale) and "network.layers.0.weight" in state
    assert "target.colours" in load_file(trained / "net-signs" / "model.safetensors")


def test_options_of_ones_own_target_are_known(trained, mine, bank):
    picture, colorizer = bank.test.images[0], Colorizer.load(trained / "compact-signs", "cpu")
    assert not np.array_equal(colorizer.decoding(sharp=50.0).colorize(picture), colorizer.colorize(picture))
    expected = r"^temperature: expected None, as compact-signs is a mine_of_test_methods:Signs, got 1\.0"
    with pytest.raises(ValueError, match=expected):
        colorizer.colorize(picture, temperature=1.0)
    learned = Colorizer.load(trained / "net-learned", "cpu")  # whose decode takes any options, and hands them on
    assert np.ptp(learned.decoding(gain=0.0).colorize(picture), axis=2).max() <= 1


def test_a_new_process_colours_the_same_bytes(trained, module, bank, tmp_path):
    np.save(tmp_path / "pictures.npy", bank.test.images[:2])
    code = """
import sys, numpy as np, torch
from colorstudy.colorize import Colorizer
torch.set_num_threads(1)
pictures, runs, out = np.load(sys.argv[1]), sys.argv[3:], sys.argv[2]
np.savez(out, **{run: Colorizer.load(run, "cpu").colorize(pictures) for run in runs})
"""
    runs = [str(trained / name) for name in KINDS]
    command = [sys.executable, "-c", code, str(tmp_path / "pictures.npy"), str(tmp_path / "out.npz"), *runs]
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(module[1])])
    environment = os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with np.load(tmp_path / "out.npz") as there:
            for run in runs:
                assert np.array_equal(there[run], Colorizer.load(run, "cpu").colorize(bank.test.images[:2])), run
    finally:
        torch.set_num_threads(threads)


def test_an_unimportable_module_is_an_error_and_nothing_else_takes_its_place(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "mine_of_test_methods", None)  # as where the file is not at hand
    for name in KINDS:
        with pytest.raises(ValueError, match=r"expected something that Python can import, got 'mine_of_test_methods:"):
            Colorizer.load(trained / name)


def test_a_changed_class_is_an_error(trained, mine, monkeypatch):
    class Other(mine.Net):
        def __init__(self, out_channels):
            super().__init__(out_channels)
            self.more = nn.Linear(2, 2)

    monkeypatch.setattr(mine, "Net", Other)
    with pytest.raises(ValueError, match=r"Missing key.*network\.more\.weight"):
        Model.load(trained / "net-regression" / "model.safetensors")
    monkeypatch.delattr(mine, "Net")
    with pytest.raises(ValueError, match="has no attribute 'Net'"):
        Model.load(trained / "net-regression" / "model.safetensors")


def test_classes_that_other_processes_cannot_import_are_refused(mine, monkeypatch):
    class Local(nn.Module):
        pass

    expected = "expected a name, or a class at the top of a .py file, which other processes can import, got"
    for given in (Local, lambda out_channels: nn.Conv2d(1, out_channels, 1), nn.Conv2d(1, 2, 1), 5):
        with pytest.raises(ValueError, match=f"^network: {expected}"):
            Method(network=given)
    with pytest.raises(ValueError, match=rf"^target: {expected} <class '.*Local'>"):
        Method(target=Local)
    hidden = mine.Net
    monkeypatch.setattr(mine, "Net", mine.Bare)  # a file would bring back this one instead
    with pytest.raises(ValueError, match=f"^network: {expected}"):
        Method(network=hidden)


SCRIPT = """
import sys
from torch import nn
from colorstudy.methods import Method
from colorstudy.model import Model

class Net(nn.Conv2d):
    def __init__(self, out_channels):
        super().__init__(1, out_channels, 3, padding=1)

if __name__ == "__main__":
    model = Model.build(Method(network=Net, target="regression"), None)
    assert model.method.network == "script_of_test_methods:Net" and type(model.network) is Net
    model.save(sys.argv[1])
    del __file__  # as in a notebook, or in what `python -c` runs
    try:
        Method(network=Net)
    except ValueError as error:
        print(error)
"""


def test_classes_of_a_script_are_found_by_its_name_and_those_of_a_session_refused(tmp_path, monkeypatch):
    """The latter has no file from which another process could import them."""
    script, path = tmp_path / "script_of_test_methods.py", tmp_path / "model.safetensors"
    script.write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, str(script), str(path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.stdout.startswith("network: expected a name, or a class at the top of a .py file"), done.stderr[-2000:]
    with pytest.raises(ValueError, match="network: expected something that Python can import, got 'script_of_test"):
        Model.load(path)
    monkeypatch.syspath_prepend(tmp_path)
    assert type(Model.load(path).network).__name__ == "Net"


ELSEWHERE = ["os:system", "builtins:print", "builtins:exec", "subprocess:Popen", "pathlib:Path", "torch.nn:functional"]


@pytest.mark.parametrize("path", [*ELSEWHERE, "mine_of_test_methods:make", "mine_of_test_methods:made"])
def test_a_path_to_anything_else_is_refused_and_never_called(path, module):
    for field in ("network", "target"):
        with pytest.raises(ValueError, match=rf"^{field}: expected a {field} class, got {path}$"):
            Method(**{field: path})


def test_a_path_to_a_class_of_another_kind_is_refused(module):
    with pytest.raises(ValueError, match=r"^target: expected a target class, got mine_of_test_methods:Bare"):
        Method(target="mine_of_test_methods:Bare")
    with pytest.raises(ValueError, match=r"^network: expected a network class, got mine_of_test_methods:Huber"):
        Method(network="mine_of_test_methods:Huber")


@pytest.mark.parametrize(
    "path", ["nowhere_at_all:Net", "mine_of_test_methods:Nett", "mine_of_test_methods:", ":Net", "a:b:c", "torch.nn:"]
)
def test_a_path_to_nothing_is_refused(path, module):
    for field in ("network", "target"):
        with pytest.raises(ValueError, match=rf"^{field}: expected something that Python can import, got '{path}'"):
            Method(**{field: path})


@pytest.mark.parametrize("name, nearest", [("Nett", "Net"), ("huber", "Huber"), ("Sign", "Signs")])
def test_a_misspelt_class_is_told_from_its_nearest(name, nearest, module):
    with pytest.raises(
        ValueError, match=rf"mine_of_test_methods:{name}'.*; did you mean 'mine_of_test_methods:{nearest}'\?$"
    ):
        Method(network=f"mine_of_test_methods:{name}")


@pytest.mark.parametrize(
    "field, path", [("network", "os:system"), ("target", "builtins:print"), ("network", "os:Nothing")]
)
def test_a_file_that_names_anything_else_is_refused(field, path, trained, tmp_path):
    source = trained / "net-regression" / "model.safetensors"
    with safe_open(source, "pt") as file:
        described = json.loads(file.metadata()["model"])
    described["method"][field] = path
    save_file(load_file(source), tmp_path / "m.safetensors", {"model": json.dumps(described)})
    with pytest.raises(ValueError, match=rf"m\.safetensors: expected the weights of a Model, got {field}: expected"):
        Model.load(tmp_path / "m.safetensors")
