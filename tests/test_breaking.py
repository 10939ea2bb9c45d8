"""What careless hands and failing machines do: kills, full disks, odd files, damaged checkpoints."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from colorstudy import prior
from colorstudy.bins import ColorBins
from colorstudy.cli import main
from colorstudy.data import photos, read
from colorstudy.methods import Model, get
from colorstudy.training import TrainConfig, fit

ROOT = Path(__file__).parents[1]

STUDY = """
from pathlib import Path
from colorstudy import metrics, study, tables
from colorstudy.data import folder
from colorstudy.training import TrainConfig, fit

def call(pictures, out):
    out = Path(out)
    bank = folder(pictures, 64, cache_dir=out / "cache")
    for method in ("l2", "class"):
        run = study.run_folder(out, method, 0)
        config = TrainConfig(steps=6, batch_size=4, crop=32, interval=1, accelerator="cpu", threads=1)
        fit(method, bank, config, run)
        study.evaluate_run(run, bank, method, 0)
    scores = study.scores([study.run_folder(out, method, 0) for method in ("l2", "class")])
    table = tables.paired_table(scores, [("l2", "class")], list(metrics.SCORES), samples=200)
    tables.save(table, out / "tables" / "differences")
    study.record(out, "05-compare", seeds=[0])
    study.write_manifest(out)
"""


@pytest.fixture(scope="module")
def studies(forks):
    return forks(STUDY)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory):
    """A folder of 40 small photographs."""
    out = tmp_path_factory.mktemp("pictures")
    for i, pixels in enumerate(photos(size=64).images[:40]):
        Image.fromarray(pixels).save(out / f"{i:02}.png")
    return out


def outcome(out):
    """What a study leaves, without times and provenance."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.suffix != ".lock" and path.name != ".lock" and path.name != "state.pt":
            content = path.read_bytes()
            if path.suffix == ".json":
                content = json.dumps(_plain(json.loads(content)), sort_keys=True).encode()
            found[path.relative_to(out).as_posix()] = content
    return found


def _plain(content):
    if isinstance(content, dict):
        drop = {"seconds", "train_seconds", "evaluate_seconds", "provenance"}
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
            elif path.name == "state.pt":
                torch.load(path, weights_only=True)
            elif path.name == "images.csv":
                assert path.read_text().endswith("\n")


def test_twenty_kills_at_random_moments_change_no_bit(studies, pictures, tmp_path):
    """Of decoding, training, evaluation and the writing of tables, in one go from an empty folder."""
    log = tmp_path / "log"

    def study(out, after=None):
        """Let a study run, or kill it so long after its start; its exit status."""
        pid = studies.start(log, str(pictures), str(out))
        if after is not None:
            time.sleep(after)
            os.kill(pid, signal.SIGKILL)
        return studies.wait(pid)

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


def shell(*arguments, limit=None, user=None):
    """`colorstudy` in a process of its own, which may not write files of more than `limit` bytes, or is not root."""
    before = "import os, resource, signal, sys\n"
    if limit is not None:
        before += "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        before += f"resource.setrlimit(resource.RLIMIT_FSIZE, ({limit},) * 2)\n"
    if user is not None:
        before += f"from colorstudy import cli, training, data\nos.setgid({user})\nos.setuid({user})\n"
    code = before + "from colorstudy.cli import main\nsys.exit(main(sys.argv[1:]))"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, text=True)


TRAIN = ("--size", "64", "--steps", "4", "--batch-size", "4", "--crop", "32", "--interval", "2", "--accelerator", "cpu")


def test_a_full_disk_is_an_error_and_keeps_what_was_there(run, tmp_path):
    """A limit on the size of files fails as a full disk does: in the middle of a write."""
    out = tmp_path / "run"
    shutil.copytree(run, out)
    before = (out / "model.safetensors").read_bytes()
    done = shell("train", "l2", "-o", tmp_path / "other", *TRAIN, limit=100_000)
    assert done.returncode == 2 and "colorstudy: error:" in done.stderr, done.stderr
    assert "File too large" in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "other" / "train.json").exists()
    done = shell("train", "l2", "-o", out, "--overwrite", *TRAIN, limit=100)
    assert done.returncode == 2 and (out / "run.json").exists()
    done = shell("evaluate", out, "--size", "64", "--csv", tmp_path / "scores.csv", limit=100)
    assert done.returncode == 2 and not list(tmp_path.glob("*scores*"))
    assert (run / "model.safetensors").read_bytes() == before
    done = shell("train", "l2", "-o", tmp_path / "other", *TRAIN)  # room again
    assert done.returncode == 0 and (tmp_path / "other" / "train.json").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_log_that_cannot_grow_stops_training(run, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "train.csv").symlink_to("/dev/full")
    done = shell("train", "l2", "-o", tmp_path / "run", *TRAIN, "--overwrite")
    assert done.returncode in (0, 2) and "Traceback" not in done.stderr, done.stderr


def test_results_that_may_not_be_written_are_named(run, tmp_path):
    if os.geteuid() == 0:
        user = 65534
        # Everything on the way must be open to another user, but the folder itself.
        for parent in [tmp_path, *tmp_path.parents][:4]:
            parent.chmod(0o755)
    else:
        user = None
    out = tmp_path / "results"
    shutil.copytree(run, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    out.chmod(0o555)
    cache = tmp_path / "cache"
    cache.mkdir()
    cache.chmod(0o777)
    os.environ["COLORSTUDY_CACHE"] = str(cache)
    try:
        done = shell("train", "l2", "-o", out, "--overwrite", *TRAIN, user=user)
    finally:
        del os.environ["COLORSTUDY_CACHE"]
        out.chmod(0o755)
    assert done.returncode == 2 and "Permission denied" in done.stderr, done.stderr
    assert str(out) in done.stderr and "Traceback" not in done.stderr
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

_FUZZ = """
import io, json, random, resource, sys, time, warnings
from pathlib import Path
import numpy as np
from PIL import Image
import tifffile
from colorstudy.data import read

warnings.simplefilter("ignore")
folder, count = Path(sys.argv[1]), int(sys.argv[2])
rng, numbers = random.Random(0), np.random.default_rng(0)

def bases():
    smooth = Image.fromarray(numbers.integers(256, size=(6, 8, 3), dtype=np.uint8)).resize((80, 60), Image.BICUBIC)
    formats = {"bmp": {}, "gif": {}, "jpg": {"quality": 90}, "png": {}, "tif": {}, "webp": {}}
    for kind, options in formats.items():
        for mode in ("RGB", "L", "P", "RGBA", "1", "CMYK", "I;16"):
            file = io.BytesIO()
            try:
                deep = Image.fromarray(np.asarray(smooth.convert("L"), np.uint16) * 257)
                picture = deep if mode == "I;16" else smooth.convert(mode)
                picture.save(file, {"jpg": "JPEG", "tif": "TIFF"}.get(kind, kind.upper()), **options)
            except (OSError, ValueError):
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

def mutate(content):
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
            numbers_ = (b"\\xff" * 4, b"\\0" * 4, b"\\x7f\\xff\\xff\\xff", b"\\0\\0\\xff\\xff")
            data[where : where + 4] = rng.choice(numbers_)
        if not data:
            break
    return bytes(data)

kinds = list(bases())
for kind, content in kinds:  # whole, they are pictures
    path = folder / f"whole.{kind}"
    path.write_bytes(content)
    assert read(path).shape == (60, 80, 3) or kind == "jpg", kind
read_, refused, slowest, other = 0, 0, 0.0, []
for i in range(count):
    kind, content = kinds[i % len(kinds)]
    path = folder / f"file.{kind}"
    path.write_bytes(mutate(content))
    started = time.perf_counter()
    try:
        pixels = read(path)
        good = pixels.dtype == np.uint8 and pixels.ndim == 3 and pixels.shape[2] == 3
        read_ += 1
        if not good:
            other.append([i, str(pixels.shape)])
    except ValueError as error:
        refused += 1
        if str(path) not in str(error):
            other.append([i, str(error)])
    except BaseException as error:
        other.append([i, repr(error)])
    slowest = max(slowest, time.perf_counter() - started)
peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
print(json.dumps({"read": read_, "refused": refused, "slowest": slowest, "peak": peak, "other": other}))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="needs Linux")
def test_two_thousand_mutated_files_are_read_or_refused(tmp_path):
    """In a process of its own, so that a crash of a decoder is seen, and its memory."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", _FUZZ, str(tmp_path), "2000"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(f"\n{found}")
    assert found["read"] + found["refused"] == 2000 and found["other"] == []
    assert min(found["read"], found["refused"]) > 200  # the mutations are neither harmless nor hopeless
    assert found["slowest"] < 20 and found["peak"] < 2500


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "GIF", "BMP", "WEBP"])
def test_a_bomb_is_refused_before_it_unpacks(kind, tmp_path):
    """A header that promises more pixels than the limit, in front of little."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, kind)
    data = file.getvalue()
    side = 60_000
    if kind == "PNG":  # width and height of IHDR, and its checksum
        import zlib

        header = data[12:16] + side.to_bytes(4, "big") * 2 + data[24:29]
        data = data[:12] + header + zlib.crc32(header).to_bytes(4, "big") + data[33:]
    elif kind == "GIF":
        data = data[:6] + side.to_bytes(2, "little") * 2 + data[10:]
    elif kind == "BMP":
        data = data[:18] + side.to_bytes(4, "little") * 2 + data[26:]
    elif kind == "TIFF":
        import struct

        data = bytearray(data)
        (start,) = struct.unpack_from("<I", data, 4)
        for i in range(struct.unpack_from("<H", data, start)[0]):
            tag = struct.unpack_from("<H", data, start + 2 + 12 * i)[0]
            if tag in (256, 257):  # width, height, as LONG
                struct.pack_into("<HHII", data, start + 2 + 12 * i, tag, 4, 1, side)
    else:  # a lossless WebP may have 16,383 x 16,383 pixels, more than the limit
        file = io.BytesIO()
        Image.new("RGB", (16_383, 12_000)).save(file, kind, lossless=True, method=0)
        data = file.getvalue()
    path = tmp_path / f"bomb.{kind.lower()}"
    path.write_bytes(bytes(data))
    with pytest.raises(ValueError, match=r"bomb.*(pixels|limit)"):
        read(path)


# --- checkpoints ---


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.safetensors"
    images = np.random.default_rng(0).integers(256, size=(4, 24, 24, 3), dtype=np.uint8)
    get("l2").build(images).save(path)
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


@pytest.mark.parametrize("name", ["model.safetensors", "state.pt"])
@pytest.mark.parametrize(
    "damage", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: c[:2000] + b"\0" * 9 + c[2009:]]
)
def test_a_damaged_checkpoint_is_named_and_stays(run, name, damage, tmp_path, capsys):
    out = tmp_path / "run"
    shutil.copytree(run, out)
    (out / "train.json").unlink()
    (checkpoint,) = out.glob("checkpoint-*")
    (checkpoint / name).write_bytes(damage((checkpoint / name).read_bytes()))
    log = (out / "train.csv").read_bytes()
    with pytest.raises(ValueError, match=rf"checkpoint-000002/{name}: expected"):
        fit("l2", photos(size=64), TrainConfig(steps=2, batch_size=4, crop=32, accelerator="cpu"), out)
    assert (out / "train.csv").read_bytes() == log and checkpoint.exists()


def test_the_package_unpickles_nothing_but_tensors():
    """Every `torch.load` says `weights_only=True`, every `np.load` stays without pickles, YAML is safe."""
    text = {path: path.read_text() for path in (ROOT / "colorstudy").rglob("*.py")}
    assert not [path for path, code in text.items() if "pickle.load" in code or "yaml.load(" in code]
    for path, code in text.items():
        for call in code.split("torch.load(")[1:]:
            assert "weights_only=True" in call.split("\n")[0], path
        assert "allow_pickle=True" not in code


def test_a_prior_of_pickled_objects_is_refused(tmp_path, capsys):
    path = tmp_path / "prior.npy"
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    assert main(["prior", "audit", str(path)]) == 2
    assert "expected a .npy file of numbers" in capsys.readouterr().err
    assert prior.audit(ColorBins.in_gamut().centers, torch.ones(313) / 313) is not None
