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


def _bsds500(rng):
    members = {"BSR/BSDS500/data/groundTruth/train/2092.mat": b"no picture", "BSR/bench/benchmarks/x.m": b"code"}
    for part in ("train", "val", "test"):
        for i, picture in enumerate(_pictures(rng, 128)):
            file = io.BytesIO()
            Image.fromarray(picture).resize((481, 321)).save(file, "JPEG")
            members[f"BSR/BSDS500/data/images/{part}/{part}{i}.jpg"] = file.getvalue()
        members[f"BSR/BSDS500/data/images/{part}/Thumbs.db"] = b"no picture either"
    return _tar(members)


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


def test_an_archive_in_the_published_format_becomes_a_bank(serve, tmp_path):
    server = serve("bsds500", _bsds500(np.random.default_rng(0)))
    bank = published("bsds500", cache_dir=tmp_path)
    assert (bank.name, bank.images.shape[1], len(bank.train), len(bank.test)) == ("bsds500", 128, 2 * COUNT, COUNT)
    assert published("bsds500", cache_dir=tmp_path).hash == bank.hash and server.asked == 1


def test_nothing_is_kept_of_a_cut_download(serve, tmp_path):
    server = serve("bsds500", _bsds500(np.random.default_rng(0)), cuts=1)
    with pytest.raises(OSError, match=r"try again, or put the file .* by hand, as this failed with"):
        published("bsds500", cache_dir=tmp_path)
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["bsds500.lock"]
    assert len(published("bsds500", cache_dir=tmp_path).test) == COUNT and server.asked == 2


def test_another_file_is_refused_and_not_kept(serve, tmp_path, monkeypatch):
    server = serve("bsds500", b"an error page")
    url, _, *rest = ARCHIVES["bsds500"]
    monkeypatch.setitem(ARCHIVES, "bsds500", (url, "md5:" + "0" * 32, *rest))
    with pytest.raises(ValueError, match=r"BSR_bsds500.*expected md5:0{32} but got [0-9a-f]{32}"):
        published("bsds500", cache_dir=tmp_path)
    assert [p.name for p in (tmp_path / "published").iterdir()] == ["bsds500.lock"] and server.asked == 1


def test_offline_says_what_to_do_and_a_file_put_there_by_hand_serves(serve, tmp_path):
    content = _bsds500(np.random.default_rng(0))
    server = serve("bsds500", content)
    server.shutdown()
    server.server_close()
    place = re.escape(str(tmp_path / "published"))
    message = rf"BSR_bsds500.tgz \(71 MB\) from .*the file \(sha256:.*\) into {place} by hand, as this failed with"
    with pytest.raises(OSError, match=message):
        published("bsds500", cache_dir=tmp_path)
    path = tmp_path / "published" / "BSR_bsds500.tgz"
    path.write_bytes(b"another file")
    with pytest.raises(OSError, match=message):
        published("bsds500", cache_dir=tmp_path)
    path.write_bytes(content)
    assert len(published("bsds500", cache_dir=tmp_path).train) == 2 * COUNT


def test_without_pooch_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pooch.*pip install 'colorstudy\[photos\]'"):
        published("bsds500", cache_dir=tmp_path)


def test_what_is_no_archive_is_named(serve, tmp_path):
    serve("bsds500", b"no tar file")
    with pytest.raises(ValueError, match=r"BSR_bsds500.tgz: expected the archive of bsds500, got "):
        published("bsds500", cache_dir=tmp_path)


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
    serve("bsds500", _bsds500(np.random.default_rng(0)))
    assert main(["data", "bsds500", "--size", "64"]) == 0
    assert f"train    {2 * COUNT}" in capsys.readouterr().out
    assert load("bsds500", size=64).images.shape[1] == 64


def test_only_what_is_known_is_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"name: expected one of .*'bsds500'.*, got 'imagenet'"):
        published("imagenet", cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())
