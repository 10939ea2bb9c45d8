"""Each defect of the released ColorUNet changes what it should and nothing else, and none of them is a default."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from colorstudy.bins import ColorBins
from colorstudy.faults import FAULTS, FEW, LostCenter
from colorstudy.methods import METHODS, VARIANTS, Method, Model

LOGITS = torch.randn(2, 32, 3, 4, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def images():
    """40 noisy pictures, the last ten of them far bluer, uint8 (40, 16, 16, 3)."""
    pixels = np.random.default_rng(0).integers(40, 200, (40, 16, 16, 3))
    pixels[30:, ..., 2] += 55
    return pixels.astype(np.uint8)


def build(fault, images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return replace(METHODS["colorunet"], fault=fault).build(images)


def test_no_method_has_a_fault_but_the_variants_that_measure_one():
    faulty = {name: method.fault for name, method in METHODS.items() if method.fault}
    assert faulty == {f"colorunet-{fault}": fault for fault in FAULTS}
    assert Method("x", "regression").fault == "" and METHODS["colorunet"].lam == 0.5
    with pytest.raises(ValueError, match=r"fault: expected one of \['', 'divided-twice'.*got 'broken'"):
        replace(METHODS["colorunet"], fault="broken")


def test_lost_center_decodes_the_first_bin_to_no_colour_and_labels_as_before(images, tmp_path):
    sound, faulty = build("", images).eval(), build("lost-center", images).eval()
    bins, lost = sound.target.bins, faulty.target.bins
    assert type(bins) is ColorBins and type(lost) is LostCenter and torch.equal(bins.centers, lost.centers)
    centers = bins.centers.clone()
    centers[0] = 0
    p = torch.softmax(LOGITS / 0.38, dim=1)
    assert torch.allclose(lost.annealed_mean(LOGITS), torch.einsum("bqhw,qc->bchw", p, centers), atol=1e-6)
    sure = torch.zeros(1, 32, 1, 1)
    sure[0, 0] = 100
    assert lost.annealed_mean(sure).abs().max() < 1e-6 and bins.annealed_mean(sure).abs().max() > 0.01
    chroma = torch.rand(2, 2, 5, 5) - 0.5
    assert torch.equal(lost.nearest(chroma), bins.nearest(chroma))
    faulty.save(tmp_path / "m.safetensors")
    loaded = Model.load(tmp_path / "m.safetensors")
    lightness = torch.rand(1, 1, 16, 16) * 100
    with torch.no_grad():
        assert torch.equal(loaded(lightness), faulty(lightness)) and not torch.equal(
            loaded(lightness), sound(lightness)
        )


def test_frozen_norm_keeps_the_initial_statistics(images):
    rgb = torch.from_numpy(images[:4]).permute(0, 3, 1, 2) / 255
    for fault, moved in (("", True), ("frozen-norm", False)):
        model = build(fault, images).train()
        model.loss(rgb).backward()
        norms = [layer for layer in model.network.modules() if isinstance(layer, nn.BatchNorm2d)]
        assert len(norms) == 5 and all(layer.training == moved for layer in norms)
        assert all((layer.running_mean.abs().max() > 0) == moved for layer in norms)
        assert all(layer.weight.grad is not None for layer in norms)
        assert not any(layer.training for layer in model.eval().modules())


def test_few_pictures_decide_the_bins(images):
    sound, faulty, few = (build(fault, i) for fault, i in (("", images), ("few-pictures", images), ("", images[:FEW])))
    assert not torch.equal(sound.target.bins.centers, faulty.target.bins.centers)
    assert torch.equal(faulty.target.bins.centers, few.target.bins.centers)


def test_variants_differ_from_their_base_in_one_point():
    for name, variant in VARIANTS.items():
        method, base = METHODS[name], METHODS[variant.base]
        changed = {field for field in vars(method) if getattr(method, field) != getattr(base, field)} - {"name"}
        assert changed == set(variant.changes) and len(changed) == 1 and method.name == name
    assert {variant.group for variant in VARIANTS.values()} == {
        "released code", "augmentation", "parts of Cheng et al.", "faults of ColorUNet's code",
    }  # fmt: skip
