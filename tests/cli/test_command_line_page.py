"""Every command of docs/command-line.md is one that there is, with options that there are; what is quick is run."""

import functools
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorstudy import cli
from colorstudy.bins import ColorBins
from colorstudy.colorize import WEIGHTS
from colorstudy.study import train
from colorstudy.trial import commands

PAGE = (Path(__file__).parents[2] / "docs" / "command-line.md").read_text(encoding="utf-8")
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]
CALLS = [shlex.split(line, comments=True)[1:] for line in LINES]


def test_the_page_shows_every_command():
    assert all(line.startswith("colorstudy ") for line in LINES) and {call[0] for call in CALLS} == {*cli.COMMANDS}


@pytest.mark.parametrize("call", CALLS, ids=" ".join)
def test_commands_are_parsed(call, monkeypatch):
    """Into what is called: the real signature above a function that does nothing."""
    called = []

    def idle(function):
        return functools.wraps(function)(lambda *arguments, **options: called.append((arguments, options)))

    for name in {*cli.COMMANDS} - {"train", "trial"}:
        monkeypatch.setitem(cli.COMMANDS, name, idle(cli.COMMANDS[name]))
    monkeypatch.setattr(train, "train", idle(train.train))
    for name in ("build", "serve", "answers"):
        monkeypatch.setattr(commands, name, idle(getattr(commands, name)))
    assert cli.main(call) == 0 and len(called) == 1


def test_quick_ones_do_what_the_page_says(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("old-photo.jpg", "album/a.png", "more/*.tif", "runs/full/model.safetensors"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        small = np.random.default_rng(len(name)).integers(0, 256, (4, 4, 3), np.uint8)
        if not name.endswith("safetensors"):
            Image.fromarray(small).resize((32, 24), Image.Resampling.BICUBIC).save(name)
    shutil.copy(WEIGHTS / "full.safetensors", "runs/full/model.safetensors")
    np.save("prior.npy", np.exp(-np.square(ColorBins.in_gamut().centers.numpy()).sum(1) / 800))
    made = {}
    for call in CALLS:
        if call[0] in ("colorize", "methods", "prior") and "clip.mp4" not in call:
            code = cli.main(call)
            assert code == 0 or call[0] == "prior", capsys.readouterr().err
            made[" ".join(call)] = capsys.readouterr().out.split()
    assert made["colorize old-photo.jpg"] == ["coloured/old-photo.jpg"]
    assert made["colorize old-photo.jpg -o new.png"] == ["new.png"] and Image.open("new.png").format == "PNG"
    vivid, plain = (np.array(Image.open(f"{folder}/a.png")) for folder in ("vivid", "coloured"))
    assert (vivid != plain).any() and len(made) == 9


def test_exit_codes_are_those_of_main():
    words = cli.main.__doc__
    table = dict(re.findall(r"^\| (\d+) \| (.*) \|$", PAGE, re.MULTILINE))
    assert set(table) == set(re.findall(r"\d+", words)) == {"0", "1", "2", "130"}
