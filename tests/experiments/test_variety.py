"""Nested training sets of equal size, and the domains that each network is scored on."""

import numpy as np
import pytest

from colorstudy.data import ImageBank
from colorstudy.experiments import variety as module
from colorstudy.methods import METHODS


def made(name, folders, per_folder):
    images = np.random.default_rng(0).integers(256, size=(len(folders) * per_folder * 2, 32, 32, 3), dtype=np.uint8)
    names = tuple(f"{f}/{part}{i}" for part in ("train", "test") for f in folders for i in range(per_folder))
    half = len(names) // 2
    return ImageBank(name, images, names, ("train",) * half + ("test",) * half, name)


@pytest.fixture
def trained(monkeypatch):
    """What each network would be trained on, by run; the real training takes seconds each."""
    seen = {}

    def fit(method, bank, config, path, overwrite):
        seen[path.name] = {name.partition("/")[0] for name in bank.train.names}, len(bank.train), config.seed
        real_fit(method, bank, config, path, overwrite=overwrite)

    real_fit = module.fit
    monkeypatch.setattr(module, "fit", fit)
    return seen


def test_only_variety_differs(trained, tmp_path):
    training = {"steps": 1, "batch_size": 2, "crop": 32, "threads": 1}
    table = module.variety(
        tmp_path, [METHODS["l2"]], made("near", "abc", 6), made("far", "x", 3), counts=[1, 3], seeds=[0, 1],
        pictures=5, most=2, training=training,
    )  # fmt: skip
    assert {name: about[:2] for name, about in trained.items()} == {
        "variety-l2-1-s0": ({"a"}, 5), "variety-l2-3-s0": ({"a", "b", "c"}, 5),
        "variety-l2-1-s1": ({"c"}, 5), "variety-l2-3-s1": ({"a", "b", "c"}, 5),
    }  # fmt: skip
    assert [about[2] for about in trained.values()] == [0, 0, 1, 1]
    asked = table.groupby(["seed", "folders", "domain"])["image"].apply(lambda names: {n[0] for n in names})
    assert asked[0, 1].to_dict() == {"home": {"a"}, "away": {"c"}, "far": {"x"}}
    assert asked[1, 3].to_dict() == {"home": {"c"}, "away": {"b"}, "far": {"x"}}
    assert table.groupby(["seed", "folders", "domain"]).size().unstack("domain")[["home", "far"]].iloc[0].tolist() == [
        2,
        3,
    ]
