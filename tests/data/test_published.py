"""Published sets: archives in the exact published formats, small, served from loopback."""

import hashlib
import io
import re
import sys
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from PIL import Image

from colorstudy.cli import main
from colorstudy.data import load
from colorstudy.data.published import ARCHIVES, published

COUNT = 6  # pictures a part


def _tar(members):
    """A .tar.gz of name -> bytes."""
    whole = io.BytesIO()
    with tarfile.open(fileobj=whole, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return whole.getvalue()


def _pictures(rng, side, count=COUNT):
    return rng.integers(256, size=(count, side, side, 3), dtype=np.uint8)


def _cifar10(rng):
    members, pictures = {}, {}
    for batch in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        pictures[batch] = _pictures(rng, 32)
        records = [bytes([7]) + picture.transpose(2, 0, 1).tobytes() for picture in pictures[batch]]
        members[f"cifar-10-batches-bin/{batch}.bin"] = b"".join(records)
    members["cifar-10-batches-bin/batches.meta.txt"] = b"airplane\n"
    return _tar(members), {"train/data_batch_2-00003.png": pictures["data_batch_2"][3]}, (5 * COUNT, COUNT)


def _stl10(rng):
    members, pictures = {}, {part: _pictures(rng, 96) for part in ("train", "test", "unlabeled")}
    for part, some in pictures.items():
        members[f"stl10_binary/{part}_X.bin"] = some.transpose(0, 3, 2, 1).tobytes()  # colour, column, row
        members[f"stl10_binary/{part}_y.bin"] = bytes(COUNT)
    return _tar(members), {"train/unlabeled-000001.png": pictures["unlabeled"][1]}, (2 * COUNT, COUNT)


def _bsds500(rng):
    members = {"BSR/BSDS500/data/groundTruth/train/2092.mat": b"no picture", "BSR/bench/benchmarks/x.m": b"code"}
    for part in ("train", "val", "test"):
        for i, picture in enumerate(_pictures(rng, 128)):
            file = io.BytesIO()
            Image.fromarray(picture).resize((481, 321)).save(file, "JPEG")
            members[f"BSR/BSDS500/data/images/{part}/{part}{i}.jpg"] = file.getvalue()
        members[f"BSR/BSDS500/data/images/{part}/Thumbs.db"] = b"no picture either"
    return _tar(members), {}, (2 * COUNT, COUNT)


MADE = {"cifar10": _cifar10, "stl10": _stl10, "bsds500": _bsds500}


class Server(ThreadingHTTPServer):
    """Serves `content`, and counts how often; the first `cuts` answers end in their middle."""

    def __init__(self, content, cuts=0):
        self.content, self.cuts, self.asked = content, cuts, 0
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        content = self.server.content
        self.server.asked += 1
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.server.asked <= self.server.cuts else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Serves an archive in place of a published one."""
    servers = []

    def start(name, content, **options):
        server = Server(content, **options)
        servers.append(server)
        published_url, _, *rest = ARCHIVES[name]
        url = f"http://127.0.0.1:{server.server_port}/{published_url.rpartition('/')[2]}"
        monkeypatch.setitem(ARCHIVES, name, (url, f"sha256:{hashlib.sha256(content).hexdigest()}", *rest))
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("name", MADE)
def test_an_archive_in_the_published_format_becomes_a_bank(name, serve, tmp_path):
    content, known, (train, test) = MADE[name](np.random.default_rng(0))
    server = serve(name, content)
    bank = published(name, cache_dir=tmp_path)
    assert (bank.name, bank.images.shape[1]) == (name, {"cifar10": 32, "stl10": 96, "bsds500": 128}[name])
    assert (len(bank.train), len(bank.test)) == (train, test)
    for file, pixels in known.items():
        assert np.array_equal(bank.images[bank.names.index(file)], pixels)
    assert published(name, cache_dir=tmp_path).hash == bank.hash and server.asked == 1


def test_nothing_is_kept_of_a_cut_download(serve, tmp_path):
    server = serve("cifar10", _cifar10(np.random.default_rng(0))[0], cuts=1)
    with pytest.raises(OSError, match=r"try again, or put the file .* by hand, as this failed with"):
        published("cifar10", cache_dir=tmp_path)
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["cifar10.lock"]
    assert len(published("cifar10", cache_dir=tmp_path).test) == COUNT and server.asked == 2


def test_another_file_is_refused_and_not_kept(serve, tmp_path, monkeypatch):
    server = serve("cifar10", b"an error page")
    url, _, *rest = ARCHIVES["cifar10"]
    monkeypatch.setitem(ARCHIVES, "cifar10", (url, "md5:" + "0" * 32, *rest))
    with pytest.raises(ValueError, match=r"cifar-10-binary.*expected md5:0{32} but got [0-9a-f]{32}"):
        published("cifar10", cache_dir=tmp_path)
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["cifar10.lock"] and server.asked == 1


def test_offline_says_what_to_do_and_a_file_put_there_by_hand_serves(serve, tmp_path):
    content, *_ = _cifar10(np.random.default_rng(0))
    server = serve("cifar10", content)
    server.shutdown()
    server.server_close()
    place = re.escape(str(tmp_path / "published"))
    message = (
        rf"cifar-10-binary.tar.gz \(170 MB\) from .*the file \(sha256:.*\) into {place} by hand, as this failed with"
    )
    with pytest.raises(OSError, match=message):
        published("cifar10", cache_dir=tmp_path)
    path = tmp_path / "published" / "cifar-10-binary.tar.gz"
    path.write_bytes(b"another file")
    with pytest.raises(OSError, match=message):
        published("cifar10", cache_dir=tmp_path)
    path.write_bytes(content)
    assert len(published("cifar10", cache_dir=tmp_path).train) == 5 * COUNT


def test_without_pooch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pooch.*pip install 'colorstudy\[photos\]'"):
        published("cifar10", cache_dir=tmp_path)


def test_a_truncated_record_is_named_and_leaves_no_pictures(serve, tmp_path):
    serve("cifar10", _tar({"cifar-10-batches-bin/data_batch_1.bin": bytes(3073 + 5)}))
    with pytest.raises(ValueError, match=r"data_batch_1.bin: expected records of 3073 bytes, got one of 5"):
        published("cifar10", cache_dir=tmp_path)
    assert not (tmp_path / "published" / "cifar10").exists()


def test_what_is_no_archive_is_named(serve, tmp_path):
    serve("cifar10", b"no tar file")
    with pytest.raises(ValueError, match=r"cifar-10-binary.tar.gz: expected the archive of cifar10, got "):
        published("cifar10", cache_dir=tmp_path)


def test_no_file_leaves_its_folder(serve, tmp_path):
    members = {
        f"BSR/BSDS500/data/images/{name}": b"x" for name in ("test/../../../../../../../evil.jpg", "train/..jpg")
    }
    serve("bsds500", _tar(members))
    with pytest.raises(ValueError, match="bsds500: expected at least one picture in colour"):
        published("bsds500", cache_dir=tmp_path)
    made = sorted(p.relative_to(tmp_path / "published" / "bsds500") for p in tmp_path.rglob("*.jpg"))
    assert [str(path) for path in made] == ["test/evil.jpg", "train/..jpg"]


def test_from_a_shell(serve, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path))
    serve("bsds500", _bsds500(np.random.default_rng(0))[0])
    assert main(["data", "bsds500", "--size", "64"]) == 0
    assert f"train    {2 * COUNT}" in capsys.readouterr().out
    assert load("bsds500", size=64).images.shape[1] == 64


def test_only_what_is_known_is_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"name: expected one of .*'stl10'.*, got 'imagenet'"):
        published("imagenet", cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())
