"""Every command, its exit codes and its one-line errors, with a tiny run trained by the command itself."""

import io
import json
import os
import re
import runpy
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import colorstudy
from colorstudy.bins import ColorBins
from colorstudy.cli import main
from colorstudy.colorize import WEIGHTS, Colorizer
from colorstudy.methods import METHODS
from colorstudy.model import Model
from colorstudy.runs import history
from colorstudy.training import TrainConfig

pytestmark = pytest.mark.usefixtures("code_hash_once")
COMMANDS = ("colorize", "demo", "train", "methods", "evaluate", "data", "weights", "prior", "trial")
SETTINGS = "--steps 2 --batch-size 2 --crop 16 --seed 3 --interval 1 --accelerator cpu --threads 1"


def picture(height=24, width=32, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """A folder of 30 pictures in colour, one in grey, and one that is none."""
    folder = tmp_path_factory.mktemp("source") / "pictures"
    folder.mkdir()
    for i in range(30):
        Image.fromarray(picture(seed=i)).save(folder / f"{i:02}.png")
    Image.fromarray(picture(seed=40)).convert("L").save(folder / "grey.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLORSTUDY_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


def train(photos, out, *more, method="class"):
    return main(["train", method, "--data", str(photos), "--size", "24", "-o", str(out), *SETTINGS.split(), *more])


@pytest.fixture(scope="module")
def run(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "tiny"
    assert train(photos, out) == 0
    return out


def refused(capsys, *arguments):
    """The one line of a refusal."""
    assert main(list(map(str, arguments))) == 2
    output, errors = capsys.readouterr()
    assert re.fullmatch(r"(colorstudy: warning: .*\n)*colorstudy: error: [^\n]+\n", errors) and output == ""
    return errors


# --- as a program ---


def shell(*arguments):
    environment = os.environ | {"PYTHONPATH": str(Path(colorstudy.__file__).parents[1])}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def test_help_imports_no_torch():
    code = "import sys; from colorstudy.cli import main\ntry: main(['--help'])\nfinally: print(sorted(sys.modules))"
    done = shell("-c", code)
    assert done.returncode == 0 and done.stderr == ""
    for name in COMMANDS:
        assert re.search(rf"^ +{name} +[A-Z]", done.stdout, re.MULTILINE)
    modules = done.stdout.splitlines()[-1]
    assert "'tyro'" in modules and "'torch'" not in modules and "'numpy'" not in modules


@pytest.mark.parametrize("own", [None, "77"])
def test_threads_of_torch_do_not_spin_for_long_unless_that_is_wanted(own, monkeypatch):
    """As the OpenMP library itself says when torch loads it."""
    monkeypatch.setenv("OMP_DISPLAY_ENV", "VERBOSE")
    monkeypatch.setenv("GOMP_SPINCOUNT", own) if own else monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    done = shell("-m", "colorstudy", "data", "nowhere")
    assert done.returncode == 2 and "OPENMP DISPLAY ENVIRONMENT" in done.stderr
    if "GOMP_" not in done.stderr:
        pytest.skip("this torch has another OpenMP library than GNU's")
    assert f"GOMP_SPINCOUNT = '{own or 1000}'" in done.stderr


def test_the_module_runs(capsys, monkeypatch):
    done = shell("-m", "colorstudy", "--version")
    assert (done.returncode, done.stdout) == (0, f"colorstudy {colorstudy.__version__}\n")
    monkeypatch.setattr(sys, "argv", ["colorstudy", "prior", "audit", "nothing.npy"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("colorstudy", run_name="__main__")
    assert caught.value.code == 2 and "nothing.npy" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [[], ["paint"], ["train", "l2"], ["colorize"], ["prior"], ["data"], ["evaluate", "x", "--size", "big"]]
)
def test_wrong_arguments_show_the_usage(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: colorstudy" in capsys.readouterr().err


def test_every_command_has_help(capsys):
    def shown(*arguments):
        with pytest.raises(SystemExit) as caught:
            main([*arguments, "--help"])
        assert caught.value.code == 0
        return " ".join(capsys.readouterr().out.split())

    everything = shown()
    for name in COMMANDS:
        if name != "trial":  # whose three commands have theirs
            (sentence,) = re.findall(rf" {name} ([A-Z].*?)(?= (?:{'|'.join(COMMANDS)}) [A-Z]|$)", everything)
            assert sentence in shown(name)
    for name in ("build", "serve", "answers"):
        assert "usage: colorstudy trial" in shown("trial", name)


@pytest.mark.parametrize("command", [*COMMANDS[:-1], "trial build", "trial serve", "trial answers"])
def test_every_setting_is_explained(command, capsys, monkeypatch):
    """By more than its name, its type and its default; those of dataclasses by the comments beside their fields."""
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit):
        main([*command.split(), "--help"])
    lines = [line.strip(" \n|\N{BOX DRAWINGS LIGHT VERTICAL}") for line in capsys.readouterr().out.splitlines()]
    options = re.findall(r"^(--?[a-z].*(?:\n(?![-+\u2500-\u257f]).*)*)", "\n".join(lines), re.MULTILINE)
    assert len(options) > (command != "methods")
    for text in options:
        words = re.sub(r"\(default: [^)]*\)|\(required\)|-[\w-]+,?|\{.*?\}|[A-Z]{2,}", "", text)
        assert len(re.findall("[a-z]+", words)) >= 2, text


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["colorise", "a.png"], "did you mean 'colorize'?"),
        (["colorize", "a.png", "--temprature", "1"], "--temperature"),
        (["train", "l2", "-o", "run", "--learningrate", "1"], "--learning-rate"),
    ],
)
def test_a_mistyped_word_is_answered_with_the_nearest(arguments, hint, capsys):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and hint in capsys.readouterr().err


def test_methods_are_listed_with_one_line_each(capsys):
    assert main(["methods"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*METHODS]
    assert "full                      classification with compact, lam=0.5" in lines
    assert "full-10-neighbors         classification with compact, lam=0.5, neighbors=10" in lines


# --- train ---


def test_training_takes_every_setting(run, capsys):
    with pytest.raises(SystemExit):
        main(["train", "--help"])
    shown = capsys.readouterr().out
    assert all(f"--{field.name.replace('_', '-')}" in shown for field in fields(TrainConfig))
    assert len(history(run)) == 2 and (run / "train.json").exists()
    model = Model.load(run / "model.safetensors")
    assert model.method.name == "class" and model.data == "pictures"


def test_settings_reach_the_training(photos, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("colorstudy.training.fit", lambda *args, **options: calls.append((args, options)))
    assert train(photos, tmp_path, "--learning-rate", "1e-4", "--precision", "bf16-mixed", "--overwrite") == 0
    ((method, bank, config, out), options) = calls[0]
    expected = TrainConfig(
        steps=2, batch_size=2, crop=16, seed=3, interval=1, accelerator="cpu", threads=1,
        learning_rate=1e-4, precision="bf16-mixed",
    )  # fmt: skip
    assert (method.name, bank.name, config, out, options) == (
        "class", "pictures", expected, str(tmp_path), {"overwrite": True, "start": None},
    )  # fmt: skip
    assert bank.images.shape[1] == 24
    assert main(["train", "l2", "--data", str(photos), "-o", str(tmp_path)]) == 0
    assert calls[1][0][2] == TrainConfig() and calls[1][1] == {"overwrite": False, "start": None}


def test_a_method_that_starts_from_another_takes_its_run(photos, tmp_path, capsys):
    settings = ["--data", str(photos), "--size", "24", *SETTINGS.split()]
    assert main(["train", "zhang-small-full", *settings, "-o", str(tmp_path / "full")]) == 0
    tuned = ["train", "zhang-small-l2-ft", *settings, "-o", str(tmp_path / "tuned")]
    assert main(tuned) == 2
    assert "start: expected a finished run of zhang-small-full, got none" in capsys.readouterr().err
    assert main([*tuned, "--start", str(tmp_path / "full")]) == 0
    assert "start" in json.loads((tmp_path / "tuned" / "run.json").read_text())


OWN = """
from torch import nn
from colorstudy.targets import Regression

class Net(nn.Conv2d):
    def __init__(self, out_channels):
        super().__init__(1, out_channels, 3, padding=1)

    def forward(self, lightness):
        return super().forward(lightness / 100)

class Target(Regression):
    pass
"""


def test_a_network_and_a_target_of_the_working_folder_train_and_colour(photos, tmp_path, monkeypatch):
    """As the program `colorstudy` does, whose path lacks that folder."""
    (tmp_path / "own_parts.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [place for place in sys.path if place not in ("", str(tmp_path))])
    settings = ["--data", str(photos), "--size", "24", *SETTINGS.split()]
    for name, options, parts in [
        ("network", ["--network", "own_parts:Net"], ("own_parts:Net", "classification", "net-classification")),
        ("target", ["--target", "own_parts:Target"], ("compact", "own_parts:Target", "compact-target")),
        ("both", ["--network", "own_parts:Net", "--target", "own_parts:Target"],
         ("own_parts:Net", "own_parts:Target", "net-target")),
        ("known", ["--network", "colorunet", "--target", "regression"],
         ("colorunet", "regression", "colorunet-regression")),
    ]:  # fmt: skip
        assert main(["train", *options, *settings, "-o", name]) == 0
        method = Model.load(tmp_path / name / "model.safetensors").method
        assert (method.network, method.target, method.name) == parts
        assert main(["colorize", str(photos / "00.png"), "--run", name, "-o", f"{name}-out"]) == 0
        assert Image.open(tmp_path / f"{name}-out" / "00.png").size == (32, 24)
    assert sys.path[-1] == str(tmp_path)  # last, so that it hides no other module


def test_a_method_is_named_or_made_of_parts(photos, tmp_path, capsys):
    out = ["-o", tmp_path / "run", "--data", photos, "--size", 24]
    line = refused(capsys, "train", "fulll", *out)
    assert "method: expected one of ['l2', 'l2-ft', 'class', 'full'" in line and "did you mean 'full'?" in line
    assert "did you mean 'compact'?" in refused(capsys, "train", "--network", "compakt", *out)
    assert "network: expected something that Python can import, got 'nowhere:Net'" in refused(
        capsys, "train", "--network", "nowhere:Net", *out
    )
    words = "method: expected a name, or --network or --target, got"
    assert f"{words} both" in refused(capsys, "train", "l2", "--network", "colorunet", *out)
    assert f"{words} neither" in refused(capsys, "train", *out)
    assert not (tmp_path / "run").exists()


def test_training_goes_on_or_refuses(run, photos, capsys):
    before = (run / "model.safetensors").stat().st_mtime_ns
    assert train(photos, run) == 0
    assert "already trained" in capsys.readouterr().out
    assert train(photos, run, "--learning-rate", "0.1") == 2
    errors = capsys.readouterr().err.splitlines()
    assert "config.learning_rate was 0.002 and is now 0.1" in errors[-1]
    assert (run / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    "more, words",
    [
        (("--steps", "0"), "steps: expected an integer >= 1, got 0"),
        (("--crop", "25"), "crop: expected at most 24"),
        (("--data", "nowhere"), "or the path of a folder of pictures, got 'nowhere'"),
        (("--size", "0"), "size: expected a positive integer, got 0"),
        (("--precision", "half"), "half"),
    ],
)
def test_training_errors(photos, tmp_path, capsys, more, words):
    arguments = ["train", "l2", "--data", photos, "--size", 24, "-o", tmp_path / "run", *SETTINGS.split(), *more]
    assert words in refused(capsys, *arguments)
    assert not (tmp_path / "run" / "train.csv").exists()


def test_a_diverging_loss_is_one_line(photos, tmp_path, capsys):
    assert train(photos, tmp_path, "--learning-rate", "1e30", "--steps", "4", method="l2") == 2
    errors = capsys.readouterr().err
    assert "colorstudy: error: " in errors and "loss is no longer finite" in errors and "Traceback" not in errors


def test_interruption(photos, tmp_path, capsys, monkeypatch):
    def interrupted(*args, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("colorstudy.training.fit", interrupted)
    assert train(photos, tmp_path) == 130
    assert capsys.readouterr().err.endswith("colorstudy: interrupted\n")


# --- colorize ---


def test_files_and_folders_are_coloured(run, tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "new" / "out"
    (source / "deep").mkdir(parents=True)
    for i, name in enumerate(["a.png", "B.JPG", "c.jpeg", "deep/d.webp", "e.tif"]):
        Image.fromarray(picture(40, 30, seed=i)).save(source / name)
    (source / "notes.txt").write_text("no picture")
    (source / ".hidden.png").write_text("no picture")
    single = tmp_path / "single"
    Image.fromarray(picture(5, 7)).convert("L").save(single, format="PNG")
    assert main(["colorize", str(source), str(single), "--run", str(run), "-o", str(out)]) == 0
    made = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert made == {"a.png", "B.JPG", "c.jpeg", "deep/d.png", "e.png", "single.png"}
    printed = capsys.readouterr().out.split("\n")
    assert sorted(printed[:-1]) == sorted(str(out / name) for name in made)
    assert Image.open(out / "B.JPG").format == "JPEG" and Image.open(out / "deep" / "d.png").format == "PNG"
    expected = Colorizer.load(run).colorize(source / "a.png")
    assert np.array_equal(np.array(Image.open(out / "a.png")), expected) and expected.shape == (40, 30, 3)
    jpeg = np.array(Image.open(out / "B.JPG")).astype(float)
    assert np.abs(jpeg - Colorizer.load(run).colorize(source / "B.JPG")).mean() < 3
    assert Image.open(out / "single.png").size == (7, 5)


def test_temperature_is_passed_on(run, tmp_path):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    model = run / "model.safetensors"
    for name in ("0.001", "1"):
        arguments = [str(tmp_path / "a.png"), "--run", str(model), "--temperature", name, "-o", str(tmp_path / name)]
        assert main(["colorize", *arguments]) == 0
        expected = Colorizer.load(run).colorize(tmp_path / "a.png", float(name))
        assert np.array_equal(np.array(Image.open(tmp_path / name / "a.png")), expected)
    assert (tmp_path / "0.001" / "a.png").read_bytes() != (tmp_path / "1" / "a.png").read_bytes()


def test_unreadable_pictures_are_named_and_skipped(run, tmp_path, capsys):
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    (source / "a.png").write_bytes(b"no picture")
    (source / "b.jpg").write_bytes(b"")
    Image.fromarray(picture()).save(source / "c.png")
    assert main(["colorize", str(source), "--run", str(run), "-o", str(out)]) == 1
    printed = capsys.readouterr()
    assert [path.name for path in out.iterdir()] == ["c.png"] and printed.out == f"{out / 'c.png'}\n"
    lines = printed.err.splitlines()
    assert len(lines) == 2 and all(line.startswith("colorstudy: skipped ") for line in lines)
    assert str(source / "a.png") in lines[0] and str(source / "b.jpg") in lines[1]


def test_existing_files_are_kept_unless_asked(run, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(picture()).save(tmp_path / name)
    out = tmp_path / "out"
    out.mkdir()
    (out / "b.png").write_bytes(b"mine")
    arguments = ["colorize", tmp_path / "a.png", tmp_path / "b.png", "--run", run, "-o", out]
    line = refused(capsys, *arguments)
    assert str(out / "b.png") in line and "--overwrite" in line
    assert (out / "b.png").read_bytes() == b"mine" and not (out / "a.png").exists()  # refused before any was made
    assert main([*map(str, arguments), "--overwrite"]) == 0
    assert Image.open(out / "b.png").size == (32, 24) and (out / "a.png").exists()


def test_sources_are_never_overwritten(run, tmp_path, capsys):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    before = (tmp_path / "a.png").read_bytes()
    line = refused(capsys, "colorize", tmp_path / "a.png", "--run", run, "-o", tmp_path, "--overwrite")
    assert "out: expected another place than that of the sources" in line
    assert (tmp_path / "a.png").read_bytes() == before


def test_a_picture_that_cannot_be_written_leaves_nothing(run, tmp_path, monkeypatch, capsys):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"old")

    def full(self, path, **options):
        Path(path).write_bytes(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    line = refused(capsys, "colorize", tmp_path / "a.png", "--run", run, "-o", out, "--overwrite")
    assert "no space left" in line
    assert [path.name for path in out.iterdir()] == ["a.png"] and (out / "a.png").read_bytes() == b"old"


def test_colorize_errors(run, tmp_path, capsys):
    a, twin, empty = tmp_path / "a.png", tmp_path / "more" / "a.png", tmp_path / "empty"
    twin.parent.mkdir(), empty.mkdir()
    for path in (a, twin):
        Image.fromarray(picture()).save(path)
    rest = ["--run", run, "-o", tmp_path / "out"]
    assert "missing.png, which does not exist" in refused(capsys, "colorize", a, tmp_path / "missing.png", *rest)
    assert f"{twin} and {a}" in refused(capsys, "colorize", a, twin, *rest)
    assert "empty, with none" in refused(capsys, "colorize", empty, *rest)
    unfinished = refused(capsys, "colorize", a, "--run", empty, "-o", tmp_path / "out")
    assert "model.safetensors: expected the weights of a model, found no file" in unfinished
    assert "found no file" in refused(capsys, "colorize", a, "--run", tmp_path / "no", "-o", tmp_path / "out")
    assert "expected a safetensors file" in refused(capsys, "colorize", a, "--run", a, "-o", tmp_path / "out")
    assert "temperature: expected a number > 0, got 0.0" in refused(capsys, "colorize", a, *rest, "--temperature", 0)
    assert str(twin) in refused(capsys, "colorize", a, "--run", run, "-o", twin)  # a file, no folder
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_a_single_picture_goes_to_a_file(run, tmp_path, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(picture()).save(tmp_path / name)
    out = tmp_path / "new" / "picture.jpg"
    assert main(["colorize", str(tmp_path / "a.png"), "--run", str(run), "-o", str(out)]) == 0
    assert capsys.readouterr().out == f"{out}\n" and Image.open(out).format == "JPEG"
    both = ["colorize", tmp_path / "a.png", tmp_path / "b.png", "--run", run]
    line = refused(capsys, *both, "-o", tmp_path / "other.jpg")
    assert "out: expected a folder, or, for one source, a file of one of .jpg, .jpeg" in line and "other.jpg" in line
    assert "a file of one of .jpg" in refused(capsys, *both[:2], "--run", run, "-o", tmp_path / "other.tif")
    assert "a file of one of .jpg" in refused(capsys, *both[:2], "--run", run, "-o", tmp_path / "other.mp4")
    (tmp_path / "folder.jpg").mkdir()
    assert main([*map(str, both), "-o", str(tmp_path / "folder.jpg")]) == 0
    assert sorted(path.name for path in (tmp_path / "folder.jpg").iterdir()) == ["a.png", "b.png"]
    assert not (tmp_path / "other.jpg").exists() and not (tmp_path / "other.tif").exists()


def test_results_lie_in_a_folder_by_default_and_are_no_sources(run, tmp_path, capsys, monkeypatch):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    monkeypatch.chdir(tmp_path)
    for _ in range(2):  # the second time there are results below the source
        assert main(["colorize", ".", "--run", str(run)]) == 0
        assert capsys.readouterr().out == f"{Path('coloured/a.png')}\n"
    assert [path.name for path in (tmp_path / "coloured").rglob("*")] == ["a.png"]


def test_rebalance_and_device_are_passed_on(run, tmp_path, capsys):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    call = ["colorize", str(tmp_path / "a.png"), "--run", str(run), "-o"]
    assert main([*call, str(tmp_path / "s"), "--rebalance", "0.5", "--temperature", "1", "--device", "cpu"]) == 0
    expected = Colorizer.load(run).colorize(tmp_path / "a.png", 1.0, 0.5)
    assert np.array_equal(np.array(Image.open(tmp_path / "s" / "a.png")), expected)
    assert (expected != Colorizer.load(run).colorize(tmp_path / "a.png", 1.0)).any()
    capsys.readouterr()
    for device in ("gpu", "cuda:99"):
        line = refused(capsys, *call, tmp_path / "none", "--device", device)
        assert f"device: expected one of this machine, got '{device}'" in line
    assert "rebalance: expected" in refused(capsys, *call, tmp_path / "none", "--rebalance", -1)
    assert not (tmp_path / "none").exists()


def test_an_unknown_model_is_answered_with_those_there_are(tmp_path, capsys):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    line = refused(capsys, "colorize", tmp_path / "a.png", "--run", "fulll", "-o", tmp_path / "out")
    assert "or the path of a finished run or of its weights, found no file 'fulll'; did you mean 'full'?" in line
    assert all(repr(file.stem) in line for file in WEIGHTS.glob("*.safetensors"))
    assert "'full'" in refused(capsys, "evaluate", "fulll") and not (tmp_path / "out").exists()


def test_progress_is_shown_on_a_terminal_alone(run, tmp_path, monkeypatch):
    for name in ("a.png", "b.png"):
        Image.fromarray(picture()).save(tmp_path / name)
    for is_terminal, sources in ((True, [tmp_path]), (False, [tmp_path]), (True, [tmp_path / "a.png"])):
        screen = io.StringIO()
        screen.isatty = lambda is_terminal=is_terminal: is_terminal
        monkeypatch.setattr(sys, "stderr", screen)
        assert main(["colorize", *map(str, sources), "--run", str(run), "-o", str(tmp_path / "out")]) == 0
        assert ("/2 [" in screen.getvalue()) == (is_terminal and len(sources) == 1 and sources[0].is_dir())


def test_a_released_file_is_loaded_as_such(run, tmp_path, capsys, monkeypatch):
    Image.fromarray(picture()).save(tmp_path / "a.png")
    arguments = ["colorize", str(tmp_path / "a.png"), "--run", str(tmp_path / "zhang.pth"), "-o", str(tmp_path / "out")]
    assert "found no file" in refused(capsys, *arguments)
    (tmp_path / "zhang.pth").write_bytes(b"anything")
    assert "zhang.pth: expected a name that ends in -<start of its SHA-256>.pth" in refused(capsys, *arguments)
    asked, model = [], Model.load(run / "model.safetensors")
    monkeypatch.setattr("colorstudy.experiments.release.load", lambda path: asked.append(path) or model)
    assert main(arguments) == 0 and asked == [str(tmp_path / "zhang.pth")]
    assert np.array_equal(np.array(Image.open(tmp_path / "out" / "a.png")), Colorizer(model).colorize(picture()))


# --- evaluate ---


def test_scores_are_printed_and_written(run, photos, tmp_path, capsys):
    csv = tmp_path / "tables" / "images.csv"
    assert main(["evaluate", str(run), "--data", str(photos), "--size", "24", "--csv", str(csv)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["mean", "low", "high"]
    printed = {line.split()[0]: list(map(float, line.split()[1:])) for line in lines[1:]}
    assert {"auc", "auc_rebalanced", "psnr", "ssim", "colorfulness_ratio"} <= set(printed)
    table = pd.read_csv(csv, index_col="image")
    assert printed["auc"][0] == pytest.approx(table["auc"].mean(), abs=1e-4)
    pooled = table["rebalanced_hits"].sum() / table["rebalanced_weight"].sum()
    assert printed["auc_rebalanced"][0] == pytest.approx(pooled, abs=1e-4)
    assert all(low <= mean <= high for mean, low, high in printed.values())
    assert len(table) >= 3 and set(table.index) <= {path.name for path in photos.iterdir()}
    assert [path.name for path in csv.parent.iterdir()] == ["images.csv"]


def test_evaluate_errors(run, photos, tmp_path, capsys):
    unfinished = refused(capsys, "evaluate", tmp_path, "--data", photos, "--size", 24)
    assert "model.safetensors: expected the weights of a model, found no file" in unfinished
    assert "or the path of a folder of pictures, got" in refused(capsys, "evaluate", run, "--data", tmp_path / "no")
    assert "at least 11 x 11 pixels" in refused(capsys, "evaluate", run, "--data", photos, "--size", 8)


# --- data ---


def test_a_source_is_summarised_with_what_is_left_out(photos, capsys):
    assert main(["data", str(photos), "--size", "24"]) == 0
    output, errors = capsys.readouterr()
    lines = output.splitlines()
    summary = dict(line.split(maxsplit=1) for line in lines if ":" not in line)
    assert summary["name"] == "pictures" and summary["size"] == "24" and len(summary["hash"]) == 64
    assert int(summary["train"]) + int(summary["test"]) == 30
    assert (summary["grey"], summary["skipped"]) == ("1", "1")
    assert "grey: grey.png" in lines and errors == ""
    skipped = next(line for line in lines if line.startswith("skipped: "))
    assert skipped.startswith("skipped: broken.png (") and "no data of a known kind" in skipped


def test_warnings_are_one_line(run, photos, capsys):
    main(["evaluate", str(run), "--data", str(photos), "--size", "24"])
    warned = capsys.readouterr().err.splitlines()
    assert len(warned) == 1 and warned[0].startswith(
        "colorstudy: warning: pictures: left out 1 unreadable files: broken"
    )


def test_data_errors(tmp_path, capsys):
    assert "source: expected" in refused(capsys, "data", tmp_path / "missing")
    assert "path: expected a folder with" in refused(capsys, "data", tmp_path)


# --- prior ---


def test_a_published_prior_passes_and_a_misaligned_one_fails(reference, tmp_path, capsys):
    for name, code in [("aligned", 0), ("misaligned", 1)]:
        np.save(tmp_path / f"{name}.npy", reference(f"imagenet_prior_{name}.npy"))
        assert main(["prior", "audit", str(tmp_path / f"{name}.npy")]) == code
        output = capsys.readouterr().out
        assert "alignment" in output and ("False" in output) == (code == 1)


def test_an_audit_takes_centers(tmp_path, capsys):
    centers = ColorBins.in_gamut().centers.numpy()
    p = np.exp(-np.square(centers).sum(1) / 800).astype(np.float64)
    p /= p.sum()
    np.save(tmp_path / "p.npy", p)
    np.save(tmp_path / "centers.npy", centers)
    np.save(tmp_path / "reversed.npy", np.roll(centers, 150, axis=0))
    assert main(["prior", "audit", str(tmp_path / "p.npy"), "--centers", str(tmp_path / "centers.npy")]) == 0
    assert main(["prior", "audit", str(tmp_path / "p.npy"), "--centers", str(tmp_path / "reversed.npy")]) == 1
    assert capsys.readouterr().out.count("grey share") == 2
    np.save(tmp_path / "few.npy", centers[:5])
    line = refused(capsys, "prior", "audit", tmp_path / "p.npy", "--centers", tmp_path / "few.npy")
    assert "p: expected shape (5,)" in line


def test_prior_files_are_data(tmp_path, capsys):
    path = tmp_path / "p.npy"
    np.save(path, np.array([{"code": "runs"}]), allow_pickle=True)
    assert "p.npy: expected a .npy file of numbers" in refused(capsys, "prior", "audit", path)
    for content in (b"", b"garbage", b"\x93NUMPY\x01\x00"):
        path.write_bytes(content)
        assert "p.npy: expected a .npy file of numbers" in refused(capsys, "prior", "audit", path)
    np.save(path, np.array(["a"]))
    assert "p.npy: expected a .npy file of numbers" in refused(capsys, "prior", "audit", path)
    np.savez(tmp_path / "p.npz", p=np.ones(3))
    assert "p.npz: expected a .npy file of numbers" in refused(capsys, "prior", "audit", tmp_path / "p.npz")
    assert "missing.npy" in refused(capsys, "prior", "audit", tmp_path / "missing.npy")
