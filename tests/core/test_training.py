"""Runs: complete, refused where they differ, resumed to the same bits wherever they were killed."""

import csv
import itertools
import json
import math
import os
import random
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.loggers import CSVLogger
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from colorstudy import _provenance, runs, training
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.methods import METHODS, Method
from colorstudy.model import Model
from colorstudy.runs import history
from colorstudy.training import TrainConfig, fit

pytestmark = pytest.mark.usefixtures("code_hash_once")

CONFIG = TrainConfig(
    steps=6, batch_size=4, crop=16, learning_rate=2e-3, interval=2, accelerator="cpu", threads=1, precision="32-true"
)


def tiny_bank(seed=0, side=24):
    """Six smooth colour pictures to train on and two to test on."""
    small = np.random.default_rng(seed).integers(0, 256, (8, 4, 4, 3), np.uint8)
    images = np.stack([np.array(Image.fromarray(s).resize((side, side), Image.Resampling.BICUBIC)) for s in small])
    names = tuple(f"{i}.png" for i in range(8))
    return ImageBank("tiny", images, names, ("train",) * 6 + ("test",) * 2, f"hash of {seed}", {}, ())


@pytest.fixture(scope="module")
def bank():
    return tiny_bank()


@pytest.fixture(scope="module")
def finished(bank, tmp_path_factory):
    """A finished run, not to be changed."""
    return fit("l2", bank, CONFIG, tmp_path_factory.mktemp("runs") / "finished")


def weights(run):
    """The bits of every tensor of a trained model, by name; see test_methods for the bytes of whole files."""
    tensors = load_file(Path(run) / "model.safetensors")
    return {name: (tensor.dtype, tensor.shape, tensor.numpy().tobytes()) for name, tensor in tensors.items()}


def content(run):
    """Name -> bytes and time of change of every file of a run."""
    files = (path for path in sorted(Path(run).rglob("*")) if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(run).as_posix(): (path.read_bytes(), path.stat().st_mtime_ns) for path in files}


# --- what a run holds ---


def test_a_run_is_complete(finished):
    names = {path.name for path in finished.iterdir() if path.name != ".lock"}
    assert names == {"run.json", "train.csv", "checkpoint.pt", "model.safetensors", "train.json"}
    run, summary = (json.loads((finished / name).read_text()) for name in ("run.json", "train.json"))
    assert run["method"]["name"] == "l2" and run["data"] == {"name": "tiny", "hash": "hash of 0"}
    assert run["config"]["steps"] == 6 and "interval" not in run["config"]
    assert summary["config"]["interval"] == 2 and summary["seconds"] > 0
    assert summary["parameters"] == sum(p.numel() for p in Model.build(METHODS["l2"], tiny_bank().images).parameters())
    assert summary["provenance"]["threads"] == 1
    assert summary["loss"] == pytest.approx(np.mean([row["loss"] for row in history(finished)]))
    model = Model.load(finished / "model.safetensors")
    assert (model.size, model.data) == (19, "tiny")


def test_the_log_has_one_row_a_step(finished):
    with open(finished / "train.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["step", "loss", "learning_rate"]
    assert [int(row[0]) for row in rows[1:]] == list(range(6))
    assert all(math.isfinite(float(cell)) for row in rows[1:] for cell in row)
    rates = [row["learning_rate"] for row in history(finished)]
    assert max(rates) <= CONFIG.learning_rate and rates[0] < max(rates) > rates[-1] > 0


def test_a_finished_run_is_not_repeated(finished, bank, capsys):
    before = content(finished)
    assert fit("l2", bank, CONFIG, finished) == finished
    assert fit(METHODS["l2"], bank, CONFIG, str(finished), overwrite=True) == finished
    assert fit("l2", bank, replace(CONFIG, interval=3, threads=2), finished) == finished  # neither changes what it is
    after = content(finished)
    assert all(after[name] == before[name] for name in before if name != "run.json")
    assert after["run.json"][0] == before["run.json"][0]
    assert capsys.readouterr().out.count("already trained") == 3


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_few_steps(bank, tmp_path, steps):
    fit("l2", bank, replace(CONFIG, steps=steps), tmp_path)
    assert [row["step"] for row in history(tmp_path)] == list(range(steps))
    assert (tmp_path / "train.json").exists() and (tmp_path / "checkpoint.pt").exists()


def test_the_interval_changes_no_bit(finished, bank, tmp_path):
    fit("l2", bank, replace(CONFIG, interval=100), tmp_path)
    assert weights(tmp_path) == weights(finished)
    assert (tmp_path / "train.csv").read_bytes() == (finished / "train.csv").read_bytes()


class Remembering:
    """A logger of someone else's: no class of Lightning's, but its two methods that training calls."""

    def __init__(self):
        self.rows, self.saved = [], []

    def log_metrics(self, metrics, step=None):
        self.rows.append({"step": step, **metrics})

    def save(self):
        self.saved.append(len(self.rows))


def test_a_logger_is_given_the_rows_of_the_log_and_changes_no_bit(finished, bank, tmp_path):
    mine, theirs = Remembering(), CSVLogger(tmp_path / "logs", name="", version="")
    fit("l2", bank, CONFIG, tmp_path / "run", logger=[mine, theirs])
    assert mine.rows == history(tmp_path / "run") and mine.saved == [2, 4, 6]
    with open(tmp_path / "logs" / "metrics.csv", newline="") as file:
        logged = [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]
    assert logged == history(finished)
    assert weights(tmp_path / "run") == weights(finished)
    assert (tmp_path / "run" / "train.csv").read_bytes() == (finished / "train.csv").read_bytes()
    assert fit("l2", bank, CONFIG, finished, logger=mine) == finished and len(mine.rows) == 6  # nothing to log


def test_a_logger_goes_on_where_the_run_does(finished, bank, tmp_path, monkeypatch):
    saves, original = itertools.count(), runs.save_checkpoint

    def save(*arguments):
        original(*arguments)
        if next(saves) == 1:
            raise KeyboardInterrupt

    mine = Remembering()
    monkeypatch.setattr(runs, "save_checkpoint", save)
    with pytest.raises(KeyboardInterrupt):
        fit("l2", bank, CONFIG, tmp_path, logger=mine)
    assert [row["step"] for row in mine.rows] == [0, 1, 2, 3] and mine.saved[-1] == 4
    fit("l2", bank, CONFIG, tmp_path, logger=mine)
    assert mine.rows == history(tmp_path) == history(finished)


def test_seeds(finished, bank, tmp_path):
    fit("l2", bank, CONFIG, tmp_path / "same")
    fit("l2", bank, replace(CONFIG, seed=1), tmp_path / "other")
    assert weights(tmp_path / "same") == weights(finished) != weights(tmp_path / "other")
    first = [history(run)[0]["loss"] for run in (finished, tmp_path / "other")]
    assert first[0] != first[1]


@pytest.mark.parametrize("method", ["class", "full", "convnet"])
def test_other_methods_train(bank, tmp_path, method):
    fit(method, bank, replace(CONFIG, steps=2), tmp_path)
    assert Model.load(tmp_path / "model.safetensors").method == METHODS[method]


def test_only_training_pictures_are_seen(finished, bank, tmp_path):
    blacked = bank.images.copy()
    blacked[6:] = 0
    fit("l2", replace(bank, images=blacked), CONFIG, tmp_path)
    assert weights(tmp_path) == weights(finished)


def test_augmentation_can_be_left_out(finished, bank, tmp_path):
    fit(replace(METHODS["l2"], augmentation="none"), bank, replace(CONFIG, crop=24), tmp_path)
    assert weights(tmp_path) != weights(finished)


def test_the_loss_falls(bank, tmp_path):
    fit("l2-unaugmented", bank, replace(CONFIG, steps=40, interval=20), tmp_path)
    losses = [row["loss"] for row in history(tmp_path)]
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_batch_norm_learns_in_training_and_rests_in_colouring(finished, bank):
    with torch.random.fork_rng():
        torch.manual_seed(CONFIG.seed)
        fresh = Model.build(METHODS["l2"], bank.train.images)
    loaded = Colorizer.load(finished).model
    pairs = zip(fresh.modules(), loaded.modules(), strict=True)
    norms = [(a, b) for a, b in pairs if isinstance(a, nn.BatchNorm2d)]
    assert norms and all((a.running_mean - b.running_mean).abs().max() > 1e-4 for a, b in norms)
    assert {b.num_batches_tracked.item() for _, b in norms} == {6}
    assert not any(module.training for module in loaded.modules())


def test_half_precision_trains_nearly_the_same(bank, tmp_path):
    """Nearly, but not quite: the network does run in bfloat16."""
    for precision in ("32-true", "bf16-mixed"):
        fit("class", bank, replace(CONFIG, crop=24, learning_rate=1e-4, precision=precision), tmp_path / precision)
    exact, half = ([row["loss"] for row in history(tmp_path / name)] for name in ("32-true", "bf16-mixed"))
    assert half != exact and half == pytest.approx(exact, rel=0.02)
    state = Model.load(tmp_path / "bf16-mixed" / "model.safetensors").state_dict()
    assert {value.dtype for value in state.values() if value.is_floating_point()} == {torch.float32}


@pytest.fixture(scope="module")
def trained(bank, tmp_path_factory):
    """A finished run of the small twin's `full`, not to be changed."""
    return fit("zhang-small-full", bank, replace(CONFIG, steps=2), tmp_path_factory.mktemp("runs") / "full")


def test_fine_tuning_starts_from_the_trained_network_but_for_its_last_layer(trained, bank, tmp_path):
    """Steps so small that nothing moves show where training started."""
    config = replace(CONFIG, steps=1, learning_rate=1e-12)
    tuned = Model.load(fit("zhang-small-l2-ft", bank, config, tmp_path / "tuned", start=trained) / "model.safetensors")
    full = Model.load(trained / "model.safetensors")
    shared = {name for name, p in full.network.named_parameters() if not name.startswith(("model8.6", "model_out"))}
    ours, theirs = dict(tuned.network.named_parameters()), dict(full.network.named_parameters())
    assert set(ours) - shared == {"model8.6.weight", "model8.6.bias"} and ours["model8.6.weight"].shape[0] == 2
    assert all(torch.allclose(ours[name], theirs[name], atol=1e-9) for name in shared)
    fresh = Model.load(fit("zhang-small-l2", bank, config, tmp_path / "fresh") / "model.safetensors").network
    assert not torch.allclose(fresh.model1[0].weight, ours["model1.0.weight"], atol=1e-3)


def test_a_start_is_part_of_what_a_run_is(trained, bank, tmp_path):
    config = replace(CONFIG, steps=1)
    run = fit("zhang-small-l2-ft", bank, config, tmp_path / "tuned", start=trained)
    fit("zhang-small-l2-ft", bank, config, run, start=trained)  # finished: nothing to do
    other = fit("zhang-small-full", bank, replace(CONFIG, steps=1), tmp_path / "other")
    with pytest.raises(ValueError, match=r"holds another run, start was '[0-9a-f]{16}' and is now"):
        fit("zhang-small-l2-ft", bank, config, run, start=other)


@pytest.mark.parametrize(
    "method, start, error, message",
    [
        ("zhang-small-l2-ft", None, ValueError, "start: expected a finished run of zhang-small-full, got none"),
        ("l2", "full", ValueError, "start: expected none, as l2 starts from none, got .*full"),
        ("zhang-small-l2-ft", "nowhere", FileNotFoundError, r"nowhere/model\.safetensors: expected the weights"),
        ("zhang-l2-ft", "full", ValueError, "start: expected a finished run of zhang-full, got zhang-small-full"),
        (replace(METHODS["l2"], start="zhang-small-full"), "full", ValueError,
         "start: expected the network of l2, compact, but for one layer, got zhang-small-full, zhang-small"),
    ],
)  # fmt: skip
def test_a_wrong_start_is_refused(trained, bank, tmp_path, method, start, error, message):
    with pytest.raises(error, match=message):
        fit(method, bank, CONFIG, tmp_path / "run", start=start and trained.with_name(start))


def test_what_the_caller_has_set_stays(bank, tmp_path):
    threads = torch.get_num_threads()
    torch.manual_seed(7), np.random.seed(7), random.seed(7)  # noqa: NPY002 - the global state is what is tested
    before = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    fit("l2", bank, replace(CONFIG, steps=1, threads=threads + 1), tmp_path)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.array_equal(np.random.get_state()[1], before[1]) and random.getstate() == before[2]  # noqa: NPY002
    assert torch.is_grad_enabled() and torch.get_default_dtype() == torch.float32


# --- another run in the folder ---


@pytest.mark.parametrize(
    "change, message",
    [
        ({"config": replace(CONFIG, learning_rate=1e-3)}, r"config\.learning_rate was 0\.002 and is now 0\.001"),
        ({"config": replace(CONFIG, seed=3)}, r"config\.seed was 0 and is now 3"),
        (
            {"method": replace(METHODS["l2"], augmentation="none")},
            r"method\.augmentation was 'crops' and is now 'none'",
        ),
        ({"method": "class"}, r"method\.name was 'l2' and is now 'class'"),
        ({"method": replace(METHODS["l2"], space="yuv")}, r"method\.space was 'lab' and is now 'yuv'"),
        ({"data": tiny_bank(1)}, r"data\.hash was 'hash of 0' and is now 'hash of 1'"),
    ],
)
def test_another_run_is_refused(finished, bank, change, message):
    before = content(finished)
    with pytest.raises(ValueError, match=r"^out_dir: .*finished holds another run, " + message):
        fit(**({"method": "l2", "data": bank, "config": CONFIG} | change), out_dir=finished)
    assert content(finished) == before


def test_other_code_is_refused(bank, tmp_path, monkeypatch):
    fit("l2", bank, replace(CONFIG, steps=1), tmp_path)
    monkeypatch.setattr(training, "code_hash", lambda *modules: "changed")
    with pytest.raises(ValueError, match=r"code was '[0-9a-f]{16}' and is now 'changed'"):
        fit("l2", bank, replace(CONFIG, steps=1), tmp_path)


OWN = """
import torch
from torch import nn
from torch.nn import functional as F


class Net(nn.Conv2d):
    def __init__(self, out_channels):
        super().__init__(1, out_channels, 3, padding=1)

    def forward(self, lightness):
        return super().forward(lightness / 100)


class Huber:
    out_channels = 2

    def loss(self, output, chroma):
        return F.smooth_l1_loss(100 * output, chroma)  # at full size

    def decode(self, output, gain=1.0):
        return 100 * gain * output
"""


@pytest.mark.parametrize("part", ["network", "target"])
def test_other_code_of_a_third_party_is_refused(part, bank, tmp_path, monkeypatch):
    monkeypatch.setattr(training, "code_hash", _provenance.code_hash)
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / f"trained_{part}.py"
    file.write_text(OWN)
    method = Method(target="regression") if part == "network" else Method(network="colorunet")
    method = replace(method, **{part: f"trained_{part}:{'Net' if part == 'network' else 'Huber'}"})
    run = fit(method, bank, replace(CONFIG, steps=1), tmp_path / "run")
    assert Colorizer.load(run).colorize(bank.images[0]).shape == (24, 24, 3)
    file.write_text(OWN.replace("  # at full size", ""))  # no code
    assert fit(method, bank, replace(CONFIG, steps=1), run) == run
    file.write_text(OWN.replace("100", "110"))
    with pytest.raises(ValueError, match=r"code was '[0-9a-f]{16}' and is now '[0-9a-f]{16}'"):
        fit(method, bank, replace(CONFIG, steps=1), run)


def test_overwriting_starts_anew(finished, bank, tmp_path, capsys):
    fit("class", bank, replace(CONFIG, steps=8), tmp_path)
    fit("l2", bank, CONFIG, tmp_path, overwrite=True)
    assert "starting anew, method.name was 'class' and is now 'l2'" in capsys.readouterr().out
    assert weights(tmp_path) == weights(finished)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in finished.iterdir()}
    assert len(history(tmp_path)) == 6


@pytest.mark.parametrize("then", ["new", "old"])
def test_overwriting_may_be_killed_at_any_moment(finished, bank, tmp_path, monkeypatch, then):
    """Whatever was removed when it stopped, neither run goes on from what the other has left."""

    class Killed(BaseException):
        pass

    class Claimed(BaseException):
        """The removals of overwriting are over, those of training to come."""

    def claimed(*args, **options):
        raise Claimed

    def limited(limit, remove, count):
        """`remove`, stopped before the removal `limit`."""

        def call(path, *args, **options):
            if next(count) < limit:
                return remove(path, *args, **options)
            raise Killed

        return call

    old = replace(CONFIG, seed=1, steps=2)
    before = fit("l2", bank, old, tmp_path / "old")
    expected = weights(finished if then == "new" else before)
    for limit in itertools.count():
        run, count = shutil.copytree(before, tmp_path / str(limit)), itertools.count()
        with monkeypatch.context() as patch:
            patch.setattr(Path, "unlink", limited(limit, Path.unlink, count))
            patch.setattr(runs, "resume", claimed)
            with pytest.raises((Killed, Claimed)) as caught:
                fit("l2", bank, CONFIG, run, overwrite=True)
            killed = caught.type is Killed
        is_old = json.loads((run / "run.json").read_text())["config"]["seed"] == 1
        assert is_old or then == "old" or not (run / "checkpoint.pt").exists(), f"stopped before removal {limit}"
        fit("l2", bank, CONFIG if then == "new" else old, run, overwrite=then == "new" or not is_old)
        assert weights(run) == expected, f"stopped before removal {limit}"
        if not killed:
            break
    assert limit >= 3


# --- stopped runs ---

FIT = """
import functools, sys
import lightning_fabric.strategies
import numpy as np
from colorstudy import training
from colorstudy.data import ImageBank
from colorstudy.training import TrainConfig, fit

training.code_hash = functools.cache(training.code_hash)
training.code_hash("colorstudy.training", "compact", "regression")
images, names = np.load(sys.argv[1]), tuple(f"{i}.png" for i in range(8))
bank = ImageBank("tiny", images, names, ("train",) * 6 + ("test",) * 2, "hash of 0", {}, ())

def call(out, config):
    fit("l2", bank, TrainConfig(**config), out)
"""


@pytest.fixture(scope="module")
def started(bank, forks, tmp_path_factory):
    images = tmp_path_factory.mktemp("bank") / "images.npy"
    np.save(images, bank.images)
    return forks(FIT, images)


def test_a_killed_run_ends_with_the_same_bits(bank, started, tmp_path):
    config = replace(CONFIG, steps=60)
    whole = fit("l2", bank, config, tmp_path / "whole")
    run, printed, stops = tmp_path / "killed", tmp_path / "printed", []
    for least in (2, 15, 30):  # rows in the log before the kill, which then comes at a moment of its own
        pid = started.start(printed, str(run), vars(config))
        deadline = time.monotonic() + 60
        log = run / "train.csv"
        while time.monotonic() < deadline and not (log.exists() and log.read_bytes().count(b"\n") > least):
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.03))
        os.kill(pid, signal.SIGKILL)
        assert started.wait(pid) == -signal.SIGKILL, printed.read_text()
        stops.append(len(history(run)))
        assert not (run / "train.json").exists()
    assert stops[0] < stops[1] < stops[2] < 60
    assert started.wait(started.start(printed, str(run), vars(config))) == 0, printed.read_text()
    assert "resumed at step" in printed.read_text()
    assert weights(run) == weights(whole)
    assert (run / "train.csv").read_bytes() == (whole / "train.csv").read_bytes()
    assert [row["step"] for row in history(run)] == list(range(60))


def test_two_processes_may_ask_for_one_run(finished, started, tmp_path):
    logs = [tmp_path / "one", tmp_path / "two"]
    pids = [started.start(log, str(tmp_path / "run"), vars(CONFIG)) for log in logs]
    assert [started.wait(pid) for pid in pids] == [0, 0], [log.read_text() for log in logs]
    assert sum("already trained" in log.read_text() for log in logs) == 1
    assert weights(tmp_path / "run") == weights(finished)
    assert len(history(tmp_path / "run")) == 6


@pytest.mark.parametrize("name", ["log", "save_checkpoint", "write_json"])
@pytest.mark.parametrize("after", [False, True])
def test_a_run_may_stop_around_every_write(finished, bank, tmp_path, monkeypatch, name, after):
    """Before and after each of its writes in turn, the next call ends with the same bits."""
    write = getattr(runs, name)

    def stopping(limit):
        count = itertools.count()

        def call(*args):
            stop = next(count) == limit
            if not stop or after:
                write(*args)
            if stop:
                raise KeyboardInterrupt

        return call

    for limit in range(4):
        run = tmp_path / str(limit)
        monkeypatch.setattr(runs, name, stopping(limit))
        try:
            fit("l2", bank, CONFIG, run)
        except KeyboardInterrupt:
            pass
        else:
            break
        monkeypatch.setattr(runs, name, write)
        fit("l2", bank, CONFIG, run)
        assert weights(run) == weights(finished)
        assert (run / "train.csv").read_bytes() == (finished / "train.csv").read_bytes()
    assert limit == (2 if name == "write_json" else 3)


@pytest.fixture
def stopped(bank, tmp_path, monkeypatch):
    """A run that was stopped before its second checkpoint, after step 4, was written."""
    save = runs.save_checkpoint

    def stop_at_four(out_dir, step, *rest):
        if step == 4:
            raise KeyboardInterrupt
        save(out_dir, step, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", stop_at_four)
        with pytest.raises(KeyboardInterrupt):
            fit("l2", bank, CONFIG, tmp_path)
    assert len(history(tmp_path)) == 4
    return tmp_path


def test_half_a_row_is_cut(finished, bank, stopped):
    """A kill may leave a part of the rows after the last checkpoint."""
    log = stopped / "train.csv"
    log.write_bytes(log.read_bytes()[:-7])
    fit("l2", bank, CONFIG, stopped)
    assert log.read_bytes() == (finished / "train.csv").read_bytes() and weights(stopped) == weights(finished)


def test_the_log_is_cut_whole_or_not_at_all(finished, bank, stopped, monkeypatch):
    """A second kill, while a resumed run cuts the rows after its checkpoint, costs no row before it."""

    def half(path, content):
        with open(path, "wb") as file:
            file.write(content[: len(content) // 2])
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", half)
        with pytest.raises(KeyboardInterrupt):
            fit("l2", bank, CONFIG, stopped)
    fit("l2", bank, CONFIG, stopped)
    assert (stopped / "train.csv").read_bytes() == (finished / "train.csv").read_bytes()


def test_a_loss_that_is_not_finite_keeps_the_last_checkpoint(finished, bank, tmp_path, monkeypatch):
    loss, count = Model.loss, itertools.count()
    monkeypatch.setattr(Model, "loss", lambda self, rgb: loss(self, rgb) * (math.nan if next(count) == 5 else 1))
    with pytest.raises(FloatingPointError, match=r"no longer finite before step 6; .*learning_rate than 0\.002"):
        fit("l2", bank, CONFIG, tmp_path)
    monkeypatch.setattr(Model, "loss", loss)
    assert {path.name for path in tmp_path.glob("*[!k]")} == {"run.json", "train.csv", "checkpoint.pt"}
    assert len(history(tmp_path)) == 4
    fit("l2", bank, CONFIG, tmp_path)
    assert weights(tmp_path) == weights(finished)


def test_an_absurd_learning_rate_is_noticed(bank, tmp_path):
    with pytest.raises(FloatingPointError, match="try a smaller learning_rate than 1e\\+30"):
        fit("l2", bank, replace(CONFIG, learning_rate=1e30), tmp_path)
    assert not (tmp_path / "model.safetensors").exists() and not (tmp_path / "train.json").exists()


def test_a_checkpoint_is_read_without_unpickling_objects(bank, tmp_path):
    fit("l2", bank, CONFIG, tmp_path)
    (tmp_path / "train.json").unlink()
    torch.save({"step": 6, "evil": Path("x")}, tmp_path / "checkpoint.pt")
    with pytest.raises(ValueError, match=r"checkpoint\.pt: expected a checkpoint, got Unpickling.*weights_only"):
        fit("l2", bank, CONFIG, tmp_path)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_resumes_on_a_gpu(bank, tmp_path, monkeypatch):
    config, save = replace(CONFIG, accelerator="cuda"), runs.save_checkpoint

    def stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(runs, "save_checkpoint", stop)
        with pytest.raises(KeyboardInterrupt):
            fit("l2", bank, config, tmp_path)
    fit("l2", bank, config, tmp_path)
    assert len(history(tmp_path)) == 6


def test_weights_and_optimizer_are_restored_on_the_device_of_the_model(bank, tmp_path, monkeypatch):
    """The optimizer's state is loaded once its parameters are where they stay: Fabric moves them, but not the state."""
    order = []
    resume, setup = runs.resume, Fabric.setup
    monkeypatch.setattr(runs, "resume", lambda *args, **kw: order.append("resume") or resume(*args, **kw))
    monkeypatch.setattr(Fabric, "setup", lambda *args, **kw: order.append("setup") or setup(*args, **kw))
    fit("l2", bank, replace(CONFIG, steps=1), tmp_path)
    assert order == ["setup", "resume"]


# --- settings ---


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"steps": 0}, "^steps: expected an integer >= 1, got 0"),
        ({"steps": 2.0}, "^steps: expected an integer >= 1, got 2.0"),
        ({"steps": True}, "^steps: expected an integer >= 1, got True"),
        ({"batch_size": "32"}, "^batch_size: expected an integer >= 1, got '32'"),
        ({"crop": -1}, "^crop: expected an integer >= 1, got -1"),
        ({"interval": 0}, "^interval: expected an integer >= 1, got 0"),
        ({"seed": -1}, "^seed: expected an integer >= 0, got -1"),
        ({"seed": False}, "^seed: expected an integer >= 0, got False"),
        ({"threads": 1.5}, "^threads: expected an integer >= 0, got 1.5"),
        ({"learning_rate": "1e-4"}, "^learning_rate: expected a number > 0, got '1e-4'"),
        ({"learning_rate": 0}, "^learning_rate: expected a number > 0, got 0"),
        ({"learning_rate": True}, "^learning_rate: expected a number > 0, got True"),
        ({"learning_rate": float("nan")}, "^learning_rate: expected a number > 0, got nan"),
        ({"weight_decay": -0.1}, "^weight_decay: expected a number >= 0, got -0.1"),
    ],
)
def test_settings_are_checked(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig(**fields)


def test_a_crop_larger_than_the_pictures_is_refused(bank, tmp_path):
    with pytest.raises(ValueError, match=r"^crop: expected at most 24, the side of the pictures, got 25"):
        fit("l2", bank, replace(CONFIG, crop=25), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_bank_without_training_pictures_is_refused(bank, tmp_path):
    with pytest.raises(ValueError, match=r"^tiny: expected at least one train picture"):
        fit("l2", replace(bank, split=("test",) * 8), CONFIG, tmp_path / "run")
