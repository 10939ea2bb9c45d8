"""What careless hands and failing machines do: kills, full disks, odd files, damaged checkpoints."""

import ast
import io
import json
import os
import random
import re
import shutil
import signal
import struct
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageFile

from colorstudy import model, prior, runs
from colorstudy._files import write_tensors
from colorstudy.bins import ColorBins
from colorstudy.cli import main
from colorstudy.colorize import Colorizer
from colorstudy.data import photos, read
from colorstudy.methods import Method
from colorstudy.model import Model
from colorstudy.study.run import Run
from colorstudy.training import TrainConfig, fit

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.usefixtures("code_hash_once")

CALLS = """
import contextlib, functools, io, json, os, random, resource, signal, sys, time, warnings
from pathlib import Path
import lightning_fabric.strategies
import numpy as np
from PIL import Image
import tifffile
from colorstudy import cli, training
from colorstudy.bins import ColorBins
from colorstudy.colorize import Colorizer
from colorstudy.data import folder, read
from colorstudy.study.run import Run
from colorstudy.study import grid, tables
from colorstudy.training import TrainConfig, fit
from tools.steps import write_manifest

training.code_hash = functools.cache(training.code_hash)
for target in ("regression", "classification"):
    training.code_hash("colorstudy.training", "compact", target)  # once, for all calls
ColorBins.in_gamut()

def study(pictures, out):
    out = Path(out)
    bank = folder(pictures, 32, cache_dir=out / "cache")
    runs = [Run(out / "runs" / f"{method}-s0", method, 0) for method in ("l2", "class")]
    for run in runs:
        config = TrainConfig(steps=4, batch_size=2, crop=16, interval=1, accelerator="cpu", threads=1)
        fit(run.method, bank, config, run.path)
        grid.evaluate_run(run, bank, most=4)
    table = tables.paired_table(grid.scores(runs), [("l2", "class")], ["auc", "psnr"])
    tables.save(table, out / "tables" / "differences")
    grid.record(out, "05-compare", seeds=[0])
    write_manifest(out)

def shell(limit, user, *arguments):
    # `colorstudy`, which may not write files of more than `limit` bytes, or is another user; prints code and output.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    if user is not None:
        os.setgid(user)
        os.setuid(user)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = cli.main(arguments)
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    print(json.dumps([code, printed.getvalue()]))

def bases(numbers):
    smooth = Image.fromarray(numbers.integers(256, size=(6, 8, 3), dtype=np.uint8)).resize((80, 60), Image.BICUBIC)
    formats = {"avif": {}, "bmp": {}, "gif": {}, "jpg": {"quality": 90}, "png": {}, "tif": {}, "webp": {}}
    for kind, options in formats.items():
        for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16"):
            file = io.BytesIO()
            try:
                deep = Image.fromarray(np.asarray(smooth.convert("L"), np.uint16) * 257)
                picture = deep if mode == "I;16" else smooth.convert(mode)
                picture.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()), **options)
            except (KeyError, OSError, ValueError):  # KeyError: a Pillow without AVIF
                continue
            yield kind, file.getvalue()
    exif = Image.Exif()
    exif[274] = 6
    file = io.BytesIO()
    smooth.save(file, "JPEG", exif=exif, progressive=True)
    yield "jpg", file.getvalue()
    for compression in ("tiff_lzw", "tiff_deflate", "jpeg", "packbits"):
        file = io.BytesIO()
        smooth.save(file, "TIFF", compression=compression)
        yield "tif", file.getvalue()
    for samples in (np.asarray(smooth, np.float32) / 255, np.asarray(smooth, np.uint16) * 257):
        file = io.BytesIO()
        tifffile.imwrite(file, samples, photometric="rgb")
        yield "tif", file.getvalue()

def mutate(content, rng):
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        where = rng.randrange(len(data)) if rng.random() < 0.5 else rng.randrange(min(len(data), 64))
        kind = rng.randrange(6)
        if kind == 0:
            data[where] ^= 1 << rng.randrange(8)
        elif kind == 1:
            data[where] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif kind == 2:
            del data[where:]
        elif kind == 3:
            data[where:where] = rng.randbytes(rng.randrange(1, 40))
        elif kind == 4:
            del data[where : where + rng.randrange(1, 40)]
        else:
            numbers = (b"\\xff" * 4, b"\\0" * 4, b"\\x7f\\xff\\xff\\xff", b"\\0\\0\\xff\\xff")
            data[where : where + 4] = rng.choice(numbers)
        if not data:
            break
    return bytes(data)

def fuzz(folder, count):
    warnings.simplefilter("ignore")
    rng = random.Random(0)
    kinds = list(bases(np.random.default_rng(0)))
    for kind, content in kinds:  # whole, they are pictures
        path = Path(folder) / f"whole.{kind}"
        path.write_bytes(content)
        assert read(path).shape == (60, 80, 3) or kind == "jpg", kind
    found = {"read": 0, "refused": 0, "slowest": 0.0, "other": []}
    for i in range(count):
        kind, content = kinds[i % len(kinds)]
        path = Path(folder) / f"file.{kind}"
        path.write_bytes(mutate(content, rng))
        started = time.perf_counter()
        try:
            pixels = read(path)
            good = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
            found["read"] += 1
            if not good:
                found["other"].append([i, str(pixels.shape)])
        except ValueError as error:
            found["refused"] += 1
            if str(path) not in str(error):
                found["other"].append([i, str(error)])
        except BaseException as error:
            found["other"].append([i, repr(error)])
        found["slowest"] = max(found["slowest"], time.perf_counter() - started)
    status = open("/proc/self/status").read().splitlines()
    found["peak"] = next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 1024
    print(json.dumps(found))

def memory(path):
    # The most memory, in bytes, that it takes to read and to colour a picture, beyond what the process has before.
    def status(name):
        return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

    colorizer = Colorizer.load("l2")
    colorizer.colorize(np.zeros((300, 300), np.uint8))
    rest = status("VmRSS")
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the peak so far is forgotten
    shape = colorizer.colorize(Path(path)).shape
    print(json.dumps([shape, status("VmHWM") - rest]))

def call(name, *arguments):
    globals()[name](*arguments)
"""


@pytest.fixture(scope="module", autouse=True)
def open_folder():
    """A folder that another user may enter, as pytest's are not, with a cache of the pictures used here."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        Path(folder).chmod(0o755)
        patch.setenv("COLORSTUDY_CACHE", f"{folder}/cache")
        photos(size=64)
        yield Path(folder)


@pytest.fixture(scope="module")
def calls(forks, open_folder):
    return forks(CALLS)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 12 small photographs."""
    out = tmp_path_factory.mktemp("pictures")
    for i, pixels in enumerate(photos(size=64).images[:12]):
        Image.fromarray(pixels).save(out / f"{i:02}.png")
    return out


def outcome(out):
    """What a study leaves, without times and provenance."""
    found = {}
    for path in sorted(out.rglob("*")):
        seen = re.fullmatch(r"pictures\d*\.json", path.name)  # when the cache last saw which files, and where they lay
        if path.is_file() and path.suffix != ".lock" and path.name not in (".lock", "checkpoint.pt") and not seen:
            content = path.read_bytes()
            if path.suffix == ".json" and not path.name.startswith("."):  # else maybe half of what a kill met
                content = json.dumps(_plain(json.loads(content)), sort_keys=True).encode()
            found[path.relative_to(out).as_posix()] = content
    return found


def _plain(content):
    if isinstance(content, dict):
        drop = {"seconds", "train_seconds", "evaluate_seconds", "provenance", "train_provenance"}
        drop |= {"hash"} if "seconds" in content else set()  # of train.json, with its time
        return {key: _plain(value) for key, value in content.items() if key not in drop}
    return content


def check_whole(out):
    """Every file that a reader may meet is whole, whenever the study was killed."""
    for path in out.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(out).parts)  # being written when the kill came
        if path.is_file() and not hidden:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                Model.load(path)
            elif path.name == "checkpoint.pt":
                torch.load(path, weights_only=True)
            elif path.name == "images.csv":
                assert path.read_text().endswith("\n")


def test_twenty_kills_at_random_moments_change_no_bit(calls, pictures, tmp_path):
    """Of decoding, training, evaluation and the writing of tables, in one go from an empty folder."""
    log = tmp_path / "log"

    def study(out, after=None):
        """Let a study run, or kill it so long after its start; its exit status."""
        pid = calls.start(log, "study", str(pictures), str(out))
        if after is not None:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
        return calls.wait(pid)

    out = tmp_path / "1" / "study"
    assert study(out) == 0, log.read_text()
    whole = outcome(out)
    assert {"manifest.json", "tables/differences.csv", "runs/class-s0/images.csv"} <= set(whole)
    started = time.perf_counter()
    assert study(tmp_path / "2" / "study") == 0  # the first one also waited for imports
    duration = time.perf_counter() - started

    moments = random.Random(0)
    same = kills = late = 0
    while kills < 20:
        out = tmp_path / f"killed-{kills}-{late}" / "study"
        if study(out, moments.uniform(0.02, 0.98) * duration) != -signal.SIGKILL:
            late += 1  # it had ended: studies have become faster
            duration *= 0.9
            assert late < 20
            continue
        kills += 1
        check_whole(out)
        assert study(out) == 0, log.read_text()
        found = outcome(out)
        left = [name for name in found if name not in whole]
        # Temporary files of the killed process are hidden, and never taken for results.
        assert all(Path(name).name.startswith(".") or "/." in name for name in left), left
        same += {name: found.get(name) for name in whole} == whole
        shutil.rmtree(out)
    print(f"\n{same} of {kills} killed studies ended with the same bits")
    assert same == 20


# --- disks, permissions, things in the way ---


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("run") / "l2"
    return fit("l2", photos(size=64), TrainConfig(steps=2, batch_size=4, crop=32, accelerator="cpu"), out)


@pytest.fixture
def shell(calls, tmp_path):
    """`colorstudy` in a process of its own: its exit code and its output."""

    def run(*arguments, limit=None, user=None):
        log = tmp_path / "printed"
        status = calls.wait(calls.start(log, "shell", limit, user, *map(str, arguments)))
        assert status == 0, log.read_text()
        return json.loads(log.read_text().splitlines()[-1])

    return run


TRAIN = ("--size", "64", "--steps", "4", "--batch-size", "4", "--crop", "32", "--interval", "2", "--accelerator", "cpu")


def test_a_full_disk_is_an_error_and_keeps_what_was_there(run, shell, tmp_path):
    """A limit on the size of files fails as a full disk does: in the middle of a write."""
    out = tmp_path / "run"
    shutil.copytree(run, out)
    code, printed = shell("train", "l2", "-o", tmp_path / "other", *TRAIN, limit=100_000)
    assert code == 2 and "colorstudy: error:" in printed, printed
    assert "File too large" in printed and "Traceback" not in printed
    assert not (tmp_path / "other" / "train.json").exists()
    code, _ = shell("train", "l2", "-o", out, "--overwrite", *TRAIN, limit=100)
    assert code == 2 and (out / "run.json").exists()
    code, _ = shell("evaluate", run, "--size", "64", "--csv", tmp_path / "scores.csv", limit=100)
    assert code == 2 and not list(tmp_path.glob("*scores*"))
    code, printed = shell("train", "l2", "-o", tmp_path / "other", *TRAIN)  # room again
    assert code == 0 and (tmp_path / "other" / "train.json").exists(), printed


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_grow_stops_training(shell, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.csv").symlink_to("/dev/full")
    code, printed = shell("train", "l2", "-o", tmp_path / "run", *TRAIN, "--overwrite")
    assert code in (0, 2) and "Traceback" not in printed, printed


def test_results_that_may_not_be_written_are_named(run, shell, open_folder):
    user = 65534 if os.geteuid() == 0 else None
    out = open_folder / "results"
    shutil.copytree(run, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    out.chmod(0o555)
    try:
        code, printed = shell("train", "l2", "-o", out, "--overwrite", *TRAIN, user=user)
    finally:
        out.chmod(0o755)
    assert code == 2 and "Permission denied" in printed, printed
    assert str(out) in printed and "Traceback" not in printed
    assert before == {path: path.read_bytes() for path in before}


@pytest.mark.parametrize("name", ["run.json", "train.csv", "model.safetensors", "train.json"])
def test_a_folder_where_a_file_should_be_is_named(name, tmp_path, capsys):
    (tmp_path / "run" / name).mkdir(parents=True)
    code = main(["train", "l2", "-o", str(tmp_path / "run"), *TRAIN])
    words = capsys.readouterr()
    if name == "train.json":  # what says "finished" says it as a folder, too
        assert code in (0, 2)
    else:
        assert code == 2 and name in words.err and "colorstudy: error:" in words.err


def test_a_file_where_a_folder_should_be_is_named(tmp_path, capsys):
    (tmp_path / "run").write_text("mine")
    assert main(["train", "l2", "-o", str(tmp_path / "run"), *TRAIN]) == 2
    assert "run" in capsys.readouterr().err and (tmp_path / "run").read_text() == "mine"


# --- image files ---


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_two_thousand_mutated_files_are_read_or_refused(calls, tmp_path):
    """In a process of its own, so that a crash of a decoder is seen, and its memory."""
    log = tmp_path / "log"
    assert calls.wait(calls.start(log, "fuzz", str(tmp_path), 2000)) == 0, log.read_text()[-3000:]
    found = json.loads(log.read_text().splitlines()[-1])
    print(f"\n{found}")
    assert found["read"] + found["refused"] == 2000 and found["other"] == []
    assert min(found["read"], found["refused"]) > 200  # the mutations are neither harmless nor hopeless
    assert found["slowest"] < 20 and found["peak"] < 1500


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_a_bomb_is_refused_before_it_unpacks(kind, tmp_path):
    """A header that promises more pixels than the limit, in front of little."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, kind, **({"lossless": True} if kind == "WEBP" else {}))
    data = file.getvalue()
    side = 60_000
    if kind == "PNG":  # width and height of IHDR, and its checksum
        header = data[12:16] + side.to_bytes(4, "big") * 2 + data[24:29]
        data = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    elif kind == "GIF":
        data = data[:6] + side.to_bytes(2, "little") * 2 + data[10:]
    elif kind == "BMP":
        data = data[:18] + side.to_bytes(4, "little") * 2 + data[26:]
    elif kind == "TIFF":
        data = bytearray(data)
        (start,) = struct.unpack_from("<I", data, 4)
        for i in range(struct.unpack_from("<H", data, start)[0]):
            tag = struct.unpack_from("<H", data, start + 2 + 12 * i)[0]
            if tag in (256, 257):  # width, height, as LONG
                struct.pack_into("<HHII", data, start + 2 + 12 * i, tag, 4, 1, side)
    else:  # a lossless WebP may have 16,383 x 16,383 pixels, more than the limit; 14 bits for each side less one
        size = (int.from_bytes(data[21:25], "little") >> 28 << 28) | 11_999 << 14 | 16_382
        data = data[:21] + size.to_bytes(4, "little") + data[25:]
    path = tmp_path / f"bomb.{kind.lower()}"
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"bomb.*(pixels|limit)"):
        read(path)


@pytest.mark.parametrize(
    "name, shape, words",
    [
        ("long.png", (127, 7_000, 3), "7000 x 127 pixels, a side above the limit of 50 times"),
        ("long.tif", (96, 5_000, 3), "5000 x 96 pixels"),
        ("deep.tif", (64, 64, 500), "500 samples a pixel"),
        ("deep.tif", (7000, 50, 9), "9 samples a pixel"),
    ],
)
def test_extreme_sizes_are_refused_before_they_are_decoded(name, shape, words, tmp_path, monkeypatch):
    path = tmp_path / name
    if shape[2] == 3:
        Image.new("RGB", shape[1::-1]).save(path)
    else:
        tifffile.imwrite(path, np.zeros(shape, np.uint8), photometric="rgb", planarconfig="contig", compression="zlib")
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: pytest.fail("decoded"))
    monkeypatch.setattr(tifffile.TiffPage, "asarray", lambda self: pytest.fail("decoded"))
    with pytest.raises(ValueError, match=rf"{name}: expected a picture that can be decoded, got .*{words}"):
        read(path)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
@pytest.mark.parametrize(
    "kind, cost",  # bytes a pixel: what is accepted is 700 MB divided by it
    [("rgb.jpg", 7), ("grey.png", 7), ("deep.tif", 7), ("turned.jpg", 7), ("turned-lzw.tif", 11), ("alpha.png", 12),
     ("progressive.jpg", 12), ("a.webp", 17), ("a.avif", 17)],
)  # fmt: skip
def test_memory_is_bounded(kind, cost, calls, tmp_path):
    """What is accepted takes 700 MB beside the 300 MB of torch, less than 1 GiB; so a ninth of it takes 78 MB."""
    path, side = tmp_path / kind, int((78e6 / cost) ** 0.5)
    noise = np.random.default_rng(0).integers(256, size=(9, 9, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((side, side))
    exif = Image.Exif()
    exif[274] = 6 if kind.startswith("turned") else 1
    options = {"exif": exif} | {"turned-lzw.tif": {"compression": "tiff_lzw"}, "a.avif": {"speed": 10}}.get(kind, {})
    options |= {"progressive": True, "subsampling": 0} if kind == "progressive.jpg" else {}
    try:
        if kind == "deep.tif":
            tifffile.imwrite(path, np.asarray(picture, np.uint16) * 257, photometric="rgb")
        else:
            picture.convert({"grey.png": "L", "alpha.png": "RGBA"}.get(kind, "RGB")).save(path, **options)
    except (ValueError, KeyError):
        pytest.skip("a Pillow without AVIF")
    log = tmp_path / "log"
    assert calls.wait(calls.start(log, "memory", str(path))) == 0, log.read_text()[-3000:]
    shape, most = json.loads(log.read_text().splitlines()[-1])
    print(f"\n{kind}: {most / 1e6:.0f} MB")
    assert shape == [side, side, 3]
    assert most < 78e6 + 40e6  # buffers do not grow with the picture


# --- runs ---

CONFIG = TrainConfig(steps=2, batch_size=4, crop=32, accelerator="cpu")


@pytest.fixture
def copied(run, tmp_path):
    """A finished run, to be damaged; and what it was asked for."""
    out = shutil.copytree(run, tmp_path / "run")
    description = json.loads((out / "run.json").read_text())
    del description["hash"]
    assert runs.claim(out, description, overwrite=False)
    return out, description


@pytest.mark.parametrize("name", ["run.json", "train.csv", "checkpoint.pt", "model.safetensors", "train.json"])
def test_no_flipped_bit_in_a_run_is_silent(name, copied):
    out, description = copied
    content, numbers, refused = (out / name).read_bytes(), random.Random(0), 0
    good = torch.load(out / name, weights_only=True) if name == "checkpoint.pt" else None
    for _ in range(40):
        data = bytearray(content)
        data[numbers.randrange(len(data))] ^= 1 << numbers.randrange(8)
        (out / name).write_bytes(data)
        try:
            runs.claim(out, description, overwrite=False)
        except ValueError as error:
            # A field of the description that has changed its name or value may be that of another run.
            refused += name in str(error) or (name == "run.json" and "holds another run" in str(error))
        else:  # padding between the parts of an archive
            assert name == "checkpoint.pt"
            assert str(torch.load(out / name, weights_only=True)) == str(good)
            refused += 1
    assert refused == 40


@pytest.mark.parametrize("name", ["run.json", "train.csv", "model.safetensors"])
def test_a_missing_file_of_a_run_is_named_before_anything_is_written(name, copied):
    out, _ = copied
    (out / name).unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(ValueError, match=rf"holds .*{name}"):
        fit("l2", photos(size=64), CONFIG, out)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-3])])
def test_a_finished_run_without_its_model_is_made_again(damage, copied, run, capsys):
    out, _ = copied
    damage(out / "model.safetensors")
    fit("l2", photos(size=64), CONFIG, out, overwrite=True)
    assert "resumed at step 2" in capsys.readouterr().out  # nothing is trained twice
    assert (out / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()
    (out / "checkpoint.pt").write_bytes(b"")
    fit("l2", photos(size=64), CONFIG, out, overwrite=True)
    assert Model.load(out / "model.safetensors").checksum == Model.load(run / "model.safetensors").checksum


@pytest.mark.parametrize("damage", [lambda rows: rows[:1], lambda rows: rows[:2], lambda rows: [], None])
def test_a_log_that_lost_rows_before_the_checkpoint_is_refused(damage, copied):
    out, _ = copied
    (out / "train.json").unlink(), (out / "model.safetensors").unlink()
    log = out / "train.csv"
    log.write_bytes(b"".join(damage(log.read_bytes().splitlines(True)))) if damage else log.unlink()
    with pytest.raises(ValueError, match=r"train\.csv: expected the 2 rows before the checkpoint"):
        fit("l2", photos(size=64), CONFIG, out)
    assert not (out / "model.safetensors").exists()


def test_a_checkpoint_is_on_the_disk_before_it_replaces_the_one_before(copied, monkeypatch):
    out, _ = copied
    before, synced = (out / "checkpoint.pt").read_bytes(), []

    def lost(descriptor):
        synced.append(os.fstat(descriptor).st_size)
        raise OSError("the power is gone")

    monkeypatch.setattr(os, "fsync", lost)
    with pytest.raises(OSError, match="the power is gone"):
        runs.save_checkpoint(out, 3, 1.0, torch.nn.Linear(9, 9))
    assert synced[0] > 9 * 9 * 4 and (out / "checkpoint.pt").read_bytes() == before


@pytest.mark.parametrize("content", ["[]", "5", "null", "[" * 100_000, '{"a":' * 100_000, "\xff"])
def test_a_description_that_is_none_is_named(content, copied):
    out, description = copied
    (out / "run.json").write_text(content, encoding="latin-1")
    with pytest.raises(ValueError, match=r"run\.json: expected (JSON|a mapping)"):
        runs.claim(out, description, overwrite=False)
    with pytest.raises(ValueError, match=r"run\.json: expected (JSON|a mapping)"):
        Run(out)


def test_absurd_threads_are_refused(tmp_path, capsys):
    assert main(["train", "l2", "-o", str(tmp_path / "run"), *TRAIN, "--threads", "100000"]) == 2
    assert "threads: expected at most 1024, got 100000" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


# --- checkpoints ---


def forged(path, out, tensors=None, **changes):
    """A copy of a model's file with other metadata or tensors, under a right checksum; `out`."""
    from safetensors import safe_open

    with safe_open(path, "pt") as file:
        described = json.loads(file.metadata()["model"])
        state = {name: file.get_tensor(name) for name in file.keys()} | (tensors or {})  # noqa: SIM118
    method = {name: changes.pop(name) for name in [*changes] if name in described["method"]}
    described |= changes
    described["method"] = described["method"] | method if isinstance(described["method"], dict) else method
    del described["sha256"]
    described["sha256"] = model._checksum(described, state)
    write_tensors(out, state, {"model": json.dumps(described)})
    return out


@pytest.mark.parametrize(
    "changes, field",
    [
        ({"bilateral": 1e308}, "bilateral: expected a number from 1e-9 to 1e9"),
        ({"bilateral": 1e-300}, "bilateral: expected a number from 1e-9 to 1e9"),
        ({"temperature": float("inf")}, "temperature: expected"),
        ({"sigma": "5"}, "sigma: expected a number > 0"),
        ({"neighbors": 1e9}, "neighbors: expected an integer"),
        ({"size": 10**9}, "size: expected 1 to 4096 pixels"),
        ({"size": 0}, "size: expected 1 to 4096 pixels"),
        ({"size": "128"}, "size: expected 1 to 4096 pixels"),
    ],
)
def test_absurd_metadata_are_refused_by_field(changes, field, saved, tmp_path):
    with pytest.raises(ValueError, match=rf"forged\.safetensors: .*{field}"):
        Model.load(forged(saved, tmp_path / "forged.safetensors", **changes))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_numbers_are_refused_by_name(value, saved, tmp_path):
    name, tensor = next((name, tensor) for name, tensor in Model.load(saved).state_dict().items() if tensor.ndim == 4)
    tensor = tensor.clone()
    tensor.view(-1)[-1] = value
    with pytest.raises(ValueError, match=rf"{re.escape(name)}: expected finite numbers"):
        Model.load(forged(saved, tmp_path / "forged.safetensors", {name: tensor}))


def test_millions_of_bins_are_refused(saved, tmp_path):
    centers = torch.rand(2_000_000, 2)
    path = forged(saved, tmp_path / "forged.safetensors", {"target.bins.centers": centers}, target="classification")
    with pytest.raises(ValueError, match=r"target\.bins\.centers: expected at most 10000 bins"):
        Model.load(path)


def test_a_folder_called_full_hides_no_model(tmp_path, monkeypatch):
    expected = Colorizer.load("full").model.checksum
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    assert Colorizer.load("full").model.checksum == expected
    for path in ("./full", Path("full")):
        with pytest.raises(FileNotFoundError, match="full"):
            Colorizer.load(path)


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    images = np.random.default_rng(0).integers(256, size=(4, 24, 24, 3), dtype=np.uint8)
    Model.build(Method(target="regression", network="colorunet"), images).save(path)
    return path


def test_a_flipped_bit_is_refused_wherever_it_is(saved, tmp_path):
    good, content = Model.load(saved).state_dict(), saved.read_bytes()
    length = 8 + int.from_bytes(content[:8], "little")
    numbers, refused, harmless = random.Random(0), 0, 0
    for i in range(150):
        where = numbers.randrange(length if i % 2 else len(content))
        data = bytearray(content)
        data[where] ^= 1 << numbers.randrange(8)
        path = tmp_path / "model.safetensors"
        path.write_bytes(data)
        try:
            state = Model.load(path).state_dict()
        except ValueError as error:
            refused += str(path) in str(error)
        else:  # a space between two words of the header
            harmless += all(torch.equal(state[name], value) for name, value in good.items())
    print(f"\n{refused} of 150 flipped bits refused, {harmless} without effect")
    assert refused + harmless == 150 and refused > 140


@pytest.mark.parametrize(
    "damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:2000] + b"?" * 999 + c[2999:]]
)
def test_a_damaged_checkpoint_is_named_and_stays(run, damage, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "train.json").unlink()
    checkpoint, log = damage((out / "checkpoint.pt").read_bytes()), (out / "train.csv").read_bytes()
    (out / "checkpoint.pt").write_bytes(checkpoint)
    with pytest.raises(ValueError, match=r"checkpoint\.pt: expected a checkpoint, got "):
        fit("l2", photos(size=64), TrainConfig(steps=2, batch_size=4, crop=32, accelerator="cpu"), out)
    assert (out / "train.csv").read_bytes() == log and (out / "checkpoint.pt").read_bytes() == checkpoint


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
def test_a_few_wrong_numbers_in_a_checkpoint_are_noticed(run, share, tmp_path):
    """Which would be numbers as good as others: in the middle of the tensors."""
    shutil.copytree(run, tmp_path, dirs_exist_ok=True)
    content = bytearray((tmp_path / "checkpoint.pt").read_bytes())
    where = int(share * len(content))
    content[where : where + 99] = bytes(255 - byte for byte in content[where : where + 99])
    (tmp_path / "checkpoint.pt").write_bytes(content)
    (tmp_path / "train.json").unlink()
    with pytest.raises(ValueError, match="got ValueError: checksums: expected those of the content"):
        fit("l2", photos(size=64), TrainConfig(steps=2, batch_size=4, crop=32, accelerator="cpu"), tmp_path)


def test_the_package_unpickles_nothing_but_tensors():
    """Every `torch.load` says `weights_only=True`, every `np.load` stays without pickles, YAML is safe."""
    for path in (ROOT / "colorstudy").rglob("*.py"):
        text = path.read_text()
        assert "pickle.load" not in text and "yaml.load(" not in text, path
        for call in (node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)):
            options = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
            assert ast.unparse(call.func) != "torch.load" or options.get("weights_only") == "True", path
            assert options.get("allow_pickle", "False") == "False", path


def test_a_prior_of_pickled_objects_is_refused(tmp_path, capsys):
    path = tmp_path / "prior.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert main(["prior", "audit", str(path)]) == 2
    assert "expected a .npy file of numbers" in capsys.readouterr().err
    assert prior.audit(ColorBins.in_gamut().centers, torch.ones(313) / 313) is not None
