"""`Run`: what a folder is, read from its files; the folder of a run from outside of training."""

import json
import re

import numpy as np
import pandas as pd
import pytest
import torch

from colorstudy import runs
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.runs import history
from colorstudy.study.grid import evaluate_run
from colorstudy.study.run import Run
from colorstudy.training import TrainConfig, fit

CONFIG = TrainConfig(steps=2, batch_size=2, crop=16, seed=4, accelerator="cpu", threads=1)


@pytest.fixture(scope="module")
def bank():
    images = np.random.default_rng(0).integers(256, size=(6, 4, 4, 3), dtype=np.uint8).repeat(6, 1).repeat(6, 2)
    return ImageBank("tiny", images, tuple(f"{i}.png" for i in range(6)), ("train",) * 3 + ("test",) * 3, "hash")


@pytest.fixture(scope="module")
def done(bank, tmp_path_factory):
    """A trained and scored run, whose folder says another method and seed than its files; not to be changed."""
    path = fit("l2", bank, CONFIG, tmp_path_factory.mktemp("runs") / "full-s7")
    evaluate_run(Run(path), bank)
    return path


@pytest.fixture
def model(bank):
    return Model.build(METHODS["l2"], bank.train.images)


def test_a_run_is_what_its_files_say(done, bank):
    run = Run(done)
    assert (run.method, run.seed, run.name) == ("l2", 4, "full-s7")
    assert run.config == CONFIG.identity() and run.config["steps"] == 2
    assert run.trained and run.scored
    assert run.metrics["scores"]["auc"] == pytest.approx(run.scores()["auc"].mean(), rel=1e-6)
    assert isinstance(run.colorizer(), Colorizer) and run.colorizer().model.method == METHODS["l2"]
    table = run.scores()
    assert set(table["method"]) == {"l2"} and set(table["seed"]) == {4}
    assert list(table["image"]) == list(bank.test.names)
    assert list(run.scores("seen")["image"]) == list(bank.train.names)


def test_a_folder_may_be_renamed(done, tmp_path):
    (tmp_path / "any name").symlink_to(done)
    other = Run(tmp_path / "any name")
    run = Run(str(done))
    assert (other.method, other.seed, other.config) == (run.method, run.seed, run.config)
    pd.testing.assert_frame_equal(other.scores(), run.scores())
    assert other.colorizer().model.checksum == run.colorizer().model.checksum


@pytest.mark.parametrize("name", ["class-posthoc", "colorunet-lost-center"])
def test_a_derived_run_has_scores_and_the_network_of_another(name, bank, tmp_path):
    method = METHODS[name]
    run = Run(tmp_path / "runs" / f"{name}-s4", method, 4)
    assert not run.trained and not run.scored
    with pytest.raises(FileNotFoundError, match=rf"runs/{method.decodes}-s4/model\.safetensors: expected"):
        run.colorizer()
    base = fit(method.decodes, bank, CONFIG, tmp_path / "runs" / f"{method.decodes}-s4")
    assert run.trained and run.network == base
    evaluate_run(run, bank, temperatures=[1.0])
    assert {path.name for path in run.path.iterdir()} == {"images.csv", "seen.csv", "temperatures.csv", "metrics.json"}
    found, picture = Run(run.path), bank.test.images[0]  # from the files alone
    assert (found.method, found.seed, found.config, found.trained) == (name, 4, CONFIG.identity(), True)
    assert found.colorizer().model.method == method
    plain = Colorizer.load(base)
    expected = plain.decoding(rebalance=1.0) if name == "class-posthoc" else plain
    same = np.array_equal(found.colorizer().colorize(picture), expected.colorize(picture))
    assert same == (name == "class-posthoc")  # a lost centre is no option of decoding
    assert not np.array_equal(found.colorizer().colorize(picture), plain.colorize(picture))


@pytest.mark.parametrize("name", ["gray", "random"])
def test_a_baseline_is_a_run_without_training(name, bank, tmp_path):
    path = tmp_path / "x"
    evaluate_run(Run(path, name, 3), bank)
    run = Run(path)
    assert (run.method, run.seed, run.config) == (name, 3, {})
    assert run.scored and not run.trained
    assert set(run.scores()["method"]) == {name} and set(run.scores()["seed"]) == {3}
    with pytest.raises(
        FileNotFoundError, match=r"x/model\.safetensors: expected the weights of a model, found no file"
    ):
        run.colorizer()


def test_a_run_to_come_is_what_it_was_asked_for(tmp_path):
    run = Run(tmp_path / "to-come", "class", 2)
    assert (run.method, run.seed, run.name, run.trained, run.scored) == ("class", 2, "to-come", False, False)


def test_a_folder_that_is_not_there_is_named(tmp_path):
    expected = r"^run: expected .* run, found no .*metrics\.json in .*l2-s0"
    with pytest.raises(FileNotFoundError, match=expected):
        Run(tmp_path / "l2-s0")
    run = Run(tmp_path / "l2-s0", "l2", 0)
    for ask in (lambda: run.config, lambda: run.metrics):
        with pytest.raises(FileNotFoundError, match=expected):
            ask()
    for ask in (run.colorizer, run.scores):
        with pytest.raises(FileNotFoundError, match="l2-s0"):
            ask()
    run.path.mkdir()
    with pytest.raises(FileNotFoundError, match=expected):
        Run(run.path)


def test_a_run_in_progress_says_what_it_is(done, tmp_path):
    (tmp_path / "run.json").write_bytes((done / "run.json").read_bytes())
    run = Run(tmp_path)
    assert (run.method, run.seed, run.trained, run.scored) == ("l2", 4, False, False)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json: expected JSON"):
        _ = Run(tmp_path).method


# --- the folder ---


def test_a_checkpoint_restores_model_optimizer_schedule_and_generator(model, tmp_path, capsys):
    def states():
        optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
        return optimizer, torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=5)

    with torch.random.fork_rng():
        optimizer, schedule = states()
        model.loss(torch.rand(2, 3, 16, 16)).backward()
        optimizer.step(), schedule.step()
        runs.log(tmp_path, 0, [2.5, 2.0], [0.1, 0.2])
        runs.save_checkpoint(tmp_path, 2, 3.0, model, optimizer, schedule)
        runs.log(tmp_path, 2, [1.5], [0.3])
        drawn, before = torch.rand(3), model.checksum
        with torch.no_grad():
            next(model.parameters()).add_(1)
        fresh = states()
        assert runs.resume(tmp_path, model, *fresh) == (2, 3.0)
        assert torch.equal(torch.rand(3), drawn)
    assert model.checksum == before and fresh[1].state_dict() == schedule.state_dict()
    ours, theirs = (o.state_dict()["state"] for o in (fresh[0], optimizer))
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k]["exp_avg"], theirs[k]["exp_avg"]) for k in ours)
    assert [row["loss"] for row in history(tmp_path)] == [2.5, 2.0]  # what came after it is cut
    assert capsys.readouterr().out == f"{tmp_path.name}: resumed at step 2\n"


def test_a_folder_is_claimed_for_one_run(tmp_path):
    assert runs.claim(tmp_path, {"a": {"b": 1}, "c": (1, 2)}, overwrite=False) is False
    assert runs.claim(tmp_path, {"a": {"b": 1}, "c": [1, 2]}, overwrite=False) is False
    described = json.loads((tmp_path / "run.json").read_text())
    assert re.fullmatch("[0-9a-f]{16}", described["hash"])
    with pytest.raises(
        ValueError, match=r"holds another run, a\.b was 1 and is now 2; take another folder, or overwrite"
    ):
        runs.claim(tmp_path, {"a": {"b": 2}, "c": [1, 2]}, overwrite=False)
    (tmp_path / "train.json").write_text("{}")  # which `finish` has not written
    with pytest.raises(ValueError, match=r"holds a damaged run, .*model\.safetensors"):
        runs.claim(tmp_path, {"a": {"b": 1}, "c": [1, 2]}, overwrite=False)
    assert runs.claim(tmp_path, {"a": {"b": 2}, "c": [1, 2]}, overwrite=True) is False
    assert not (tmp_path / "train.json").exists()
