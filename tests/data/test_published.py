"""Published sets: small ones, whose archives are served from loopback in the form in which GitHub serves them."""

import hashlib
import io
import os
import re
import sys
import tarfile
import threading
import zipfile
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from colorstudy.cli import main
from colorstudy.data import load
from colorstudy.data.published import SETS, manifest, published, recognize

MODULE = sys.modules["colorstudy.data.published"]
SIDE, BORDER = 24, 8
COMMITS = {"one/photos": "1" * 40, "two/slides": "2" * 40}
SPLITS = ["train", "val", "test"]
REAL = os.environ.get("COLORSTUDY_DATA")


def blob(content):
    return hashlib.sha1(f"blob {len(content)}\0".encode() + content).hexdigest()


def sha256(contents):
    return hashlib.sha256(b"".join(contents)).hexdigest()


def encoded(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


class Server(ThreadingHTTPServer):
    """Serves `files`, path -> content, and lists what was asked for; those in `cut` end in their middle, once."""

    def __init__(self):
        self.files, self.cut, self.asked = {}, set(), []
        super().__init__(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.asked.append(self.path)
        if (content := self.server.files.get(self.path)) is None:
            return self.send_error(404)
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = self.path in self.server.cut
        self.server.cut.discard(self.path)
        self.wfile.write(content[: len(content) // 2] if half else content)

    def log_message(self, *_):
        pass


class Served:
    """Nine pictures of two repositories: three JPEG files and three PNG files of one, three slides in a black frame of
    the other; `made` has the files that shall come of them, made here by the words of the README of the set."""

    def __init__(self, server):
        self.server, self.originals, self.made, self.rows = server, {}, {}, []
        rng = np.random.default_rng(0)
        for i in range(9):
            pixels = np.array(Image.fromarray(rng.integers(256, size=(5, 7, 3), dtype=np.uint8)).resize((70, 50)))
            slide, kind = i >= 6, "PNG" if 3 <= i < 6 else "JPEG"
            if slide:  # 30 x 24 pixels within the frame, which are not made larger
                pixels = np.pad(pixels[:SIDE, :30], ((BORDER, BORDER), (BORDER, BORDER), (0, 0)))
            repository = "two/slides" if slide else "one/photos"
            path, content = f"db/{i}.{kind.lower()}", encoded(pixels, kind, **{"quality": 90} if kind == "JPEG" else {})
            seen = Image.open(io.BytesIO(content))
            seen = Image.fromarray(np.asarray(seen)[BORDER:-BORDER, BORDER:-BORDER]) if slide else seen
            small = seen if slide else seen.resize((34, SIDE), Image.Resampling.LANCZOS)  # 33.6 x 24
            file = f"{'slides' if slide else 'photos'}/{i}.jpg"
            self.made[file] = encoded(np.asarray(small), "JPEG", quality=92, subsampling=2, optimize=True)
            self.originals[repository, path] = content
            row = (file, SPLITS[i % 3], BORDER * slide, repository, COMMITS[repository], path, blob(content), "")
            self.rows.append(dict(zip(FIELDS, map(str, row))))
        self.serve()

    def serve(self):
        for repository, commit in COMMITS.items():
            top, archive = f"{repository.partition('/')[2]}-{commit}", io.BytesIO()
            with zipfile.ZipFile(archive, "w") as made:
                made.writestr(f"{top}/", b"")
                made.writestr(f"{top}/README.md", b"no picture")
                for (owner, path), content in self.originals.items():
                    if owner == repository:
                        made.writestr(f"{top}/{path}", content)
            self.server.files[self.url(repository)] = archive.getvalue()

    def url(self, repository):
        return f"/{repository}/archive/{COMMITS[repository]}.zip"

    def folder(self, place):
        for file, content in self.made.items():
            (place / file).parent.mkdir(parents=True, exist_ok=True)
            (place / file).write_bytes(content)
        return place

    def tar(self, path, **more):
        with tarfile.open(path, "w") as tar:
            for name, content in (self.made | more).items():
                info = tarfile.TarInfo(name)
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
        return path


FIELDS = list(manifest("kodak")[0])
ABOUT = {"archive": "few", "pictures": "9", "side": str(SIDE), "quality": "92", "subsampling": "4:2:0"}


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The set "small", in place of GitHub on loopback; the cache is empty, and no data lie at hand."""
    server = Server()
    served = Served(server)
    monkeypatch.setitem(SETS, "small", {"name": "small", "sha256": sha256(served.made.values())} | ABOUT)
    monkeypatch.setattr(MODULE, "manifest", lambda name: served.rows if name == "small" else manifest(name))
    monkeypatch.setattr(MODULE, "HOME", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("COLORSTUDY_DATA", raising=False)
    yield served
    server.shutdown()
    server.server_close()


def kept(tmp_path):
    """What is below the folder of published sets, but locks."""
    root = tmp_path / "cache" / "published"
    return sorted(p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")


# --- fetched ----------------------------------------------------------------------------------------------------------


def test_a_set_is_rebuilt_bit_for_bit(small, tmp_path):
    bank = published("small", size=16)
    assert kept(tmp_path) == sorted(f"small/{file}" for file in small.made)  # and no archive
    for file, content in small.made.items():
        assert (tmp_path / "cache" / "published" / "small" / file).read_bytes() == content, file
    assert bank.split == ("train",) * 3 + ("val",) * 3 + ("test",) * 3 and bank.name == "small"
    assert bank.val.names == ("photos/1.jpg", "photos/4.jpg", "slides/7.jpg")
    assert published("small", size=16).hash == bank.hash and len(small.server.asked) == 2


def test_without_a_side_files_stay_as_they_are(small, monkeypatch, tmp_path):
    monkeypatch.setitem(SETS["small"], "side", "")
    monkeypatch.setitem(SETS["small"], "sha256", sha256(small.originals.values()))
    published("small", size=16)
    for row in small.rows:
        content = (tmp_path / "cache" / "published" / "small" / row["file"]).read_bytes()
        assert content == small.originals[row["repository"], row["path"]]


def test_another_picture_is_refused_and_nothing_of_it_kept(small, tmp_path):
    true = small.originals["two/slides", "db/7.jpeg"]
    small.originals["two/slides", "db/7.jpeg"] = other = true[:-2] + b"!" + true[-2:]
    small.serve()
    message = rf"slides/archive/2{{40}}.zip: .*db/7.jpeg: expected the git blob {blob(true)}, got {blob(other)}"
    with pytest.raises(ValueError, match=message):
        published("small", size=16)
    assert kept(tmp_path) == [f"small.zips/{'1' * 40}.zip"]  # what was right need not be fetched again
    small.originals["two/slides", "db/7.jpeg"] = true
    small.serve()
    assert len(published("small", size=16)) == 9
    assert Counter(small.server.asked) == {small.url("one/photos"): 1, small.url("two/slides"): 2}


@pytest.mark.parametrize("side", ["", str(SIDE)])
@pytest.mark.parametrize("way", ["fetched", "tar"])
def test_another_picture_under_the_same_blob_is_noticed(small, monkeypatch, tmp_path, side, way):
    """As if SHA-1 were broken. What is a copy is refused; what is made here warns, as other libraries make others."""
    files = dict(small.made)
    if side == "":
        files = {row["file"]: small.originals[row["repository"], row["path"]] for row in small.rows}
    monkeypatch.setitem(SETS["small"], "side", side)
    monkeypatch.setitem(SETS["small"], "sha256", sha256(files.values()))
    (row,) = (row for row in small.rows if row["file"] == "photos/4.jpg")
    forged = np.array(Image.open(io.BytesIO(small.originals["one/photos", row["path"]])))
    forged[10:20, 10:20] = 255, 0, 0
    if way == "fetched":
        small.originals["one/photos", row["path"]] = encoded(forged, "PNG")
        row["blob"] = blob(small.originals["one/photos", row["path"]])
        small.serve()
        data = None
    else:
        small.made = files | {"photos/4.jpg": encoded(forged, "JPEG")}
        data = small.tar(tmp_path / "any.tar")
    notes = f"{re.escape(SETS['small']['sha256'])}"
    if side == "":
        with pytest.raises(ValueError, match=f"small: expected files with the SHA-256 {notes}, got [0-9a-f]{{64}}"):
            published("small", size=16, data=data)
        assert kept(tmp_path) == []
    else:
        with pytest.warns(UserWarning, match=f"small: SHA-256 [0-9a-f]{{64}}, not {notes}: of another Pillow, or"):
            assert len(published("small", size=16, data=data)) == 9


def test_an_unknown_blob_is_passed(small):
    for row in small.rows:
        row["blob"] = ""
    assert len(published("small", size=16)) == 9


def test_nothing_is_kept_of_a_cut_download(small, tmp_path):
    small.server.cut.add(small.url("one/photos"))
    with pytest.raises(OSError, match=r"small: expected http.*one/photos/archive/1{40}.zip; try again, or put it into"):
        published("small", size=16)
    assert kept(tmp_path) == []
    assert len(published("small", size=16)) == 9


def test_offline_an_archive_put_there_by_hand_serves(small, tmp_path):
    archives = dict(small.server.files)
    small.server.files.clear()
    place = tmp_path / "cache" / "published" / "small.zips"
    with pytest.raises(OSError, match=rf"or put it into {re.escape(str(place))} by hand, or the pictures into \$COLOR"):
        published("small", size=16)
    for (url, content), commit in zip(archives.items(), COMMITS.values()):
        place.mkdir(exist_ok=True)
        (place / f"{commit}.zip").write_bytes(content)
        assert commit in url
    assert len(published("small", size=16)) == 9


@pytest.mark.parametrize("content", [b"an error page", "no pictures"])
def test_another_archive_is_named_and_not_kept(small, tmp_path, content):
    if content == "no pictures":
        small.originals.clear()
        small.serve()
    else:
        small.server.files[small.url("one/photos")] = content
    with pytest.raises(ValueError, match=r"one/photos/archive/1{40}.zip: expected an archive with the pictures of sma"):
        published("small", size=16)
    assert kept(tmp_path) == []


def test_without_pooch_the_extra_is_named(small, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(ImportError, match=r"pooch.*pip install 'colorstudy\[photos\]'"):
        published("small")


def test_only_what_is_known_is_fetched(tmp_path):
    with pytest.raises(ValueError, match=r"name: expected one of .*'photos16k'.*, got 'imagenet'"):
        published("imagenet", cache_dir=tmp_path)
    assert not list(tmp_path.iterdir())


# --- on disk ----------------------------------------------------------------------------------------------------------


def test_a_folder_or_a_tar_file_serves_offline(small, tmp_path, monkeypatch):
    """By its path or in $COLORSTUDY_DATA, under the name of the set or of its archive: the same bank."""
    fetched = published("small", size=16, cache_dir=tmp_path / "other").hash
    asked = len(small.server.asked)
    small.folder(tmp_path / "mine")
    small.tar(tmp_path / "any.tar")
    assert recognize(tmp_path / "mine") == recognize(tmp_path / "any.tar") == "small"
    assert load(tmp_path / "mine", size=16).hash == fetched and kept(tmp_path) == []  # it is used in its place
    for i, make in enumerate([lambda p: small.folder(p / "small"), lambda p: small.folder(p / "few"), small.folder,
                              lambda p: small.tar(p / "small.tar"), lambda p: small.tar(p / "few.tar")]):  # fmt: skip
        (tmp_path / f"data{i}").mkdir()
        make(tmp_path / f"data{i}")
        monkeypatch.setenv("COLORSTUDY_DATA", str(tmp_path / f"data{i}"))
        assert load("small", size=16, cache_dir=tmp_path / f"cache{i}").hash == fetched
    bank = load(str(tmp_path / "any.tar"), size=16)
    assert (bank.hash, bank.name, len(bank.val)) == (fetched, "small", 3)
    assert kept(tmp_path) == sorted(f"small/{file}" for file in small.made)
    (tmp_path / "any.tar").touch()
    assert load(tmp_path / "any.tar", size=16).hash == fetched and len(small.server.asked) == asked


def test_a_folder_with_other_pictures_is_an_ordinary_one(small, tmp_path):
    place = small.folder(tmp_path / "mine")
    (place / "more.jpg").write_bytes(encoded(np.full((16, 16, 3), [200, 100, 50], np.uint8), "JPEG"))
    assert recognize(place) is None and recognize(tmp_path) is None
    bank = load(place, size=16, test_fraction=0)
    assert (bank.name, len(bank.train)) == ("mine", 10)


def test_a_set_that_is_not_whole_is_refused(small, tmp_path):
    del small.made["slides/8.jpg"]
    for data in (small.folder(tmp_path / "mine"), small.tar(tmp_path / "some.tar")):
        with pytest.raises(ValueError, match=r"small: expected 9 files in .*, got all but 1, such as \['slides/8.jpg'"):
            published("small", size=16, data=data)
    with pytest.raises(ValueError, match=r"source: expected a tar file of one of \['photos16k', .*some.tar, of none"):
        load(tmp_path / "some.tar")
    (tmp_path / "no.tar").write_bytes(b"no tar file")
    with pytest.raises(ValueError, match=r"no.tar: expected a folder or a tar file, got "):
        load(tmp_path / "no.tar")
    assert not (tmp_path / "cache").exists()


def test_no_file_of_a_tar_leaves_its_folder(small, tmp_path):
    path = small.tar(tmp_path / "evil.tar", **{"../../evil.jpg": b"x", "more.jpg": b"y"})
    assert len(published("small", size=16, data=path)) == 9
    assert kept(tmp_path) == sorted(f"small/{file}" for file in small.made) and not list(tmp_path.rglob("evil.jpg"))


def test_from_a_shell(small, tmp_path, capsys):
    assert main(["data", "small", "--size", "16"]) == 0
    fetched = capsys.readouterr().out
    assert "train    3\nval      3\ntest     3\n" in fetched
    assert main(["data", str(small.tar(tmp_path / "any.tar")), "--size", "16"]) == 0
    assert capsys.readouterr().out == fetched


# --- the manifests ----------------------------------------------------------------------------------------------------


def test_a_manifest_for_every_set():
    assert list(SETS) == ["photos16k", "scenes", "kodak", "bsds300"]
    held = {path.name for path in Path(MODULE.__file__).parent.glob("*.csv.xz")}
    assert held == {f"{name}.csv.xz" for name in SETS}


@pytest.mark.parametrize("name", SETS)
def test_a_manifest_says_all(name):
    rows = manifest(name)
    assert len(rows) == int(SETS[name]["pictures"])
    for column in ("file", "path", "blob"):  # the same picture does not come twice out of one repository
        values = [(row["repository"], row[column]) for row in rows if row[column]]
        assert column == "blob" or len(set(values)) == len(rows)
    for row in rows:
        assert re.fullmatch(r"[\w.~+-]+(/[\w.~+-]+)+\.jpg", row["file"]) and ".." not in row["file"], row
        assert re.fullmatch(r"[\w.-]+/[\w.-]+", row["repository"]) and re.fullmatch(r"[0-9a-f]{40}", row["commit"]), row
        assert re.fullmatch(r"[0-9a-f]{40}", row["blob"]) or (name == "kodak" and row["blob"] == ""), row
        assert row["split"] in SPLITS and row["border"] == ("8" if row["file"].startswith("corel5k/") else "0"), row
    repositories = {row["repository"]: row["commit"] for row in rows}
    assert all(row["commit"] == repositories[row["repository"]] for row in rows)


def test_what_is_for_testing_is_never_trained_on():
    assert {row["split"] for name in ("kodak", "bsds300") for row in manifest(name)} == {"test"}
    seen = [row["blob"] for name in ("photos16k", "scenes") for row in manifest(name)]
    assert not {row["blob"] for row in manifest("bsds300")} & {*seen}


def test_the_parts_of_photos16k_and_of_the_scenes():
    counts = {name: Counter(row["split"] for row in manifest(name)) for name in ("photos16k", "scenes")}
    assert counts["photos16k"] == {"train": 12989, "val": 1004, "test": 2145}
    assert counts["scenes"] == {"train": 6442, "val": 536, "test": 1763}
    sides = {}
    for row in manifest("photos16k") + manifest("scenes"):
        assert sides.setdefault(row["blob"], row["split"]) == row["split"], row


@pytest.mark.parametrize("name", SETS)
@pytest.mark.skipif(not REAL, reason="needs the pictures in $COLORSTUDY_DATA")
def test_the_real_files_are_those_of_the_manifest(name, tmp_path):
    """Their names; of those that are copies their git blobs; of those that are made their size and compression."""
    places = (Path(REAL, f"{stem}{end}") for end in (".tar", "") for stem in (SETS[name]["archive"], name))
    place = next(place for place in places if place.exists())
    assert recognize(place) == name
    if place.is_file():
        with tarfile.open(place) as tar:
            tar.extractall(tmp_path, filter="data")
        place = tmp_path
    assert sha256((place / row["file"]).read_bytes() for row in manifest(name)) == SETS[name]["sha256"]
    side = int(SETS[name]["side"] or 0)
    for row in manifest(name)[:: 100 if name == "photos16k" else 1]:
        content = (place / row["file"]).read_bytes()
        image = Image.open(io.BytesIO(content))
        again = Image.open(io.BytesIO(MODULE._shrunk(content, row | {"border": "0"}, SETS[name])))
        assert blob(content) == row["blob"] or side, row["file"]
        assert not side or 96 <= min(image.size) <= side, row["file"]
        assert again.size == image.size and again.quantization == image.quantization, row["file"]
        assert again.layer == image.layer, row["file"]  # the subsampling


@pytest.mark.skipif(not (REAL and Path(REAL, "scenes").is_dir()), reason="needs the folder scenes in $COLORSTUDY_DATA")
def test_the_test_part_of_the_scenes_is_that_of_the_folder_rule():
    """A bank of the folder, tested by content with probability .2, had the same test pictures."""
    rows = manifest("scenes")
    place = next(place for place in (Path(REAL, "scenes"), Path(REAL)) if (place / rows[0]["file"]).exists())
    drawn = {split: [] for split in SPLITS}
    for row in rows:
        digest = hashlib.sha256((place / row["file"]).read_bytes()).hexdigest()
        drawn[row["split"]].append(int(digest[:12], 16) / 16**12)
    assert max(drawn["test"]) < 0.2 <= min(drawn["val"]) and max(drawn["val"]) < 0.26 <= min(drawn["train"])
