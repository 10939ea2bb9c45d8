"""Published sets: archives in the exact published formats, small, served from loopback."""

import hashlib
import io
import tarfile
import threading
from dataclasses import replace
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
    """Serves `content`; keeps the ranges asked for; the first `cuts` answers end in their middle."""

    def __init__(self, content, cuts=0):
        self.content, self.cuts, self.ranges = content, cuts, []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        asked = self.headers["Range"]
        self.server.ranges.append(asked)
        start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
        rest = self.server.content[start:]
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.end_headers()
        if self.server.cuts > 0:
            self.server.cuts -= 1
            rest = rest[: len(rest) // 2]
        self.wfile.write(rest)

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(monkeypatch):
    """Serves an archive in place of a published one."""
    servers = []

    def start(name, content, **options):
        server = Server(content, **options)
        servers.append(server)
        file = ARCHIVES[name].url.rpartition("/")[2]
        archive = replace(
            ARCHIVES[name],
            url=f"http://127.0.0.1:{server.server_port}/{file}",
            checksum=f"sha256:{hashlib.sha256(content).hexdigest()}",
        )
        monkeypatch.setitem(ARCHIVES, name, archive)
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
    assert (bank.name, bank.images.shape[1]) == (name, ARCHIVES[name].side)
    assert (len(bank.train), len(bank.test)) == (train, test)
    for file, pixels in known.items():
        assert np.array_equal(bank.images[bank.names.index(file)], pixels)
    assert published(name, cache_dir=tmp_path).hash == bank.hash and len(server.ranges) == 1  # fetched once


def test_a_cut_download_goes_on_where_it_stopped(serve, tmp_path):
    content, *_ = _cifar10(np.random.default_rng(0))
    server = serve("cifar10", content, cuts=2)
    for _ in range(2):
        with pytest.raises(OSError, match="try again, which goes on where this stopped, or put the file into"):
            published("cifar10", cache_dir=tmp_path)
    assert len(published("cifar10", cache_dir=tmp_path).test) == COUNT
    starts = [int(asked.removeprefix("bytes=").removesuffix("-")) for asked in server.ranges[1:]]
    assert server.ranges[0] is None and starts == sorted(set(starts)) and starts[0] == len(content) // 2
    assert not list((tmp_path / "published").glob("*.part"))


def test_another_file_is_refused_and_not_kept(serve, tmp_path, monkeypatch):
    server = serve("cifar10", b"an error page")
    monkeypatch.setitem(ARCHIVES, "cifar10", replace(ARCHIVES["cifar10"], checksum="md5:" + "0" * 32))
    with pytest.raises(ValueError, match=r"expected md5 0{32}, got [0-9a-f]{32}"):
        published("cifar10", cache_dir=tmp_path)
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["cifar10.lock"] and len(server.ranges) == 1


def test_offline_says_what_to_do_and_a_file_put_there_by_hand_serves(serve, tmp_path, capsys):
    content, *_ = _cifar10(np.random.default_rng(0))
    server = serve("cifar10", content)
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"cifar-10-binary.tar.gz \(170 MB\) from .* by hand, as this failed with"):
        published("cifar10", cache_dir=tmp_path)
    (tmp_path / "published" / "cifar-10-binary.tar.gz").write_bytes(content)
    assert len(published("cifar10", cache_dir=tmp_path).train) == 5 * COUNT


def test_a_truncated_record_is_named_and_leaves_no_pictures(serve, tmp_path):
    serve("cifar10", _tar({"cifar-10-batches-bin/data_batch_1.bin": bytes(3073 + 5)}))
    with pytest.raises(ValueError, match=r"data_batch_1.bin: expected records of 3073 bytes, got one of 5"):
        published("cifar10", cache_dir=tmp_path)
    assert not (tmp_path / "published" / "cifar10").exists()


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
