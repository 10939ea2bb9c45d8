"""Folders of pictures as people have them: odd files are named and stop nothing, and pictures keep what they had."""

import io
import os
import socket
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.ExifTags import IFD, Base

from colorstudy.cli import main
from colorstudy.colorize import Colorizer
from colorstudy.data import pictures_below, read
from colorstudy.methods import Method
from colorstudy.model import Model

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def picture(height=24, width=32, seed=0):
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    Model.build(Method(target="regression"), np.stack([np.array(picture(24, 24, seed)) for seed in range(4)])).save(
        path
    )
    return path


@pytest.fixture
def album(tmp_path):
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def colorize(weights, album, capsys):
    """Colours the album, or other places; the exit code, the names made, and the lines of errors."""

    def call(*more, places=(album,), out=album.parent / "out"):
        code = main(["colorize", *map(str, places), "--run", str(weights), "-o", str(out), *more])
        made = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
        return code, made, capsys.readouterr().err.splitlines()

    return call


# --- odd files ---


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs pipes")
def test_no_odd_file_stops_an_album(colorize, album):
    long = "n" * 230 + ".png"
    for name in ("a.png", long, "b.jfif", "c.jpe"):
        picture().save(album / name, "PNG" if name.endswith("png") else "JPEG")
    os.mkfifo(album / "pipe.png")
    server = socket.socket(socket.AF_UNIX)
    here = os.getcwd()
    os.chdir(album)  # the name of a socket is short
    server.bind("socket.jpg")
    os.chdir(here)
    (album / "loop.png").symlink_to("loop.png")
    (album / "to-nothing.png").symlink_to("nothing")
    (album / "null.png").symlink_to("/dev/zero")
    (album / "around").symlink_to(album)
    (album / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (album / "broken.mp4").write_bytes(b"no clip")
    code, made, errors = colorize()
    assert code == 1 and made == ["a.png", "b.jfif", "c.jpe", long]
    odd = ["broken.mp4", "loop.png", "null.png", "phone.heic", "pipe.png", "socket.jpg", "to-nothing.png"]
    assert len(errors) == len(odd) and all(sum(name in line for line in errors) == 1 for name in odd), errors
    assert all(line.startswith("colorstudy: skipped ") for line in errors)
    code, _, errors = colorize("--overwrite", places=[album / "a.png", album / "pipe.png"])
    assert code == 1 and len(errors) == 1 and "pipe.png, which is no regular file" in errors[0]
    with pytest.raises(ValueError, match=r"pipe\.png: expected a picture that can be decoded, got a pipe, a socket"):
        read(album / "pipe.png")
    with pytest.warns(UserWarning, match="left out: .*(pipe|socket|loop|null|nothing)") as left_out:
        assert "pipe.png" not in pictures_below(album)
    assert len(left_out) == 5


def test_a_name_that_is_no_text_is_printed_all_the_same(weights, album, monkeypatch):
    name = os.fsdecode(b"caf\xe9.png")
    try:
        picture().save(album / name)
    except OSError:
        pytest.skip("this file system has text for names")
    printed = io.TextIOWrapper(io.BytesIO(), "utf-8", "strict")
    monkeypatch.setattr(sys, "stdout", printed)
    assert main(["colorize", str(album), "--run", str(weights), "-o", str(album.parent / "out")]) == 0
    printed.flush()
    assert b"caf\\udce9.png\n" in printed.buffer.getvalue() and (album.parent / "out" / name).exists()


def test_pictures_of_one_stem_do_not_collide(colorize, album):
    for seed, name in enumerate(["a.png", "a.tif", "a.webp", "a.jpg", "b.tif"]):
        picture(seed=seed).save(album / name)
    code, made, _ = colorize()
    assert code == 0 and made == ["a.jpg", "a.png", "a.tif.png", "a.webp.png", "b.png"]
    pixels = [np.array(Image.open(album.parent / "out" / name)) for name in made]
    assert all((one != other).any() for i, one in enumerate(pixels) for other in pixels[:i])


def test_a_folder_that_cannot_be_read_is_named(colorize, album, monkeypatch):
    picture().save(album / "a.png")
    (album / "private").mkdir()
    scandir = os.scandir

    def guarded(path):
        if os.fspath(path).endswith("private"):
            raise PermissionError(13, "Permission denied", os.fspath(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    code, made, errors = colorize()
    assert code == 1 and made == ["a.png"] and len(errors) == 1 and "private" in errors[0]


def test_an_interrupted_album_goes_on(colorize, album, weights, monkeypatch):
    for seed in range(4):
        picture(seed=seed).save(album / f"{seed}.png")
    (album / "broken.png").write_bytes(b"")
    colored, own = [], Colorizer.colorize

    def counted(self, image):
        if isinstance(image, Path):
            colored.append(image.name)
            if len(colored) == 3:
                raise KeyboardInterrupt
        return own(self, image)

    monkeypatch.setattr(Colorizer, "colorize", counted)
    code, made, _ = colorize()
    assert code == 130 and made == ["0.png", "1.png"]
    before = {name: (album.parent / "out" / name).stat().st_mtime_ns for name in made}
    code, made, errors = colorize()
    assert code == 1 and made == ["0.png", "1.png", "2.png", "3.png"] and "broken.png" in errors[0]
    assert colored == ["0.png", "1.png", "2.png", "2.png", "3.png", "broken.png"]  # what is finished is not done again
    assert before == {name: (album.parent / "out" / name).stat().st_mtime_ns for name in before}
    picture(seed=9).save(album / "3.png")  # a file there is of another picture now
    code, _, errors = colorize()
    assert code == 2 and "3.png" in errors[0] and "--overwrite" in errors[0]
    assert colorize("--overwrite")[0] == 1 and len(colored) == 6 + 5
    assert colorize()[0] == 1 and len(colored) == 6 + 5 + 1  # the broken one


def test_a_long_name_can_be_replaced(tmp_path):
    from colorstudy._files import write_text

    write_text(tmp_path / ("n" * 250 + ".txt"), "content")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["content"]


# --- what pictures keep ---


def described(orientation=6):
    exif = Image.Exif()
    exif.update({Base.Make: "Kodak", Base.Artist: "Ansel", Base.Software: "scanner", Base.Orientation: orientation})
    exif[IFD.Exif] = {Base.DateTimeOriginal: "1943:05:06 07:08:09", Base.ColorSpace: 65535, Base.ExifImageWidth: 32}
    exif[IFD.GPSInfo] = {1: "N", 2: (46.0, 30.0, 0.0)}
    return exif


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
def test_exif_and_resolution_are_kept_and_orientation_is_applied_once(name, colorize, album):
    picture(24, 32).save(album / name, exif=described().tobytes(), dpi=(300, 300))
    code, made, errors = colorize()
    assert code == 0 and errors == []
    with Image.open(album.parent / "out" / made[0]) as image:
        assert image.size == (24, 32) == read(album / name).shape[1::-1]  # upright
        exif = image.getexif()
        assert Base.Orientation not in exif
        assert (exif[Base.Make], exif[Base.Artist], exif[Base.Software]) == ("Kodak", "Ansel", "scanner")
        about = exif.get_ifd(IFD.Exif)
        assert about[Base.DateTimeOriginal] == "1943:05:06 07:08:09" and exif.get_ifd(IFD.GPSInfo)[1] == "N"
        assert (about[Base.ColorSpace], about[Base.ExifImageWidth]) == (1, 24)  # of the pixels that are there now
        assert exif[Base.ProcessingSoftware].startswith("colorstudy ")
        assert not set(exif) & {Base.StripOffsets, Base.Compression, Base.BitsPerSample}
        if name != "a.webp":  # which has none
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)


def test_a_profile_is_kept_or_that_of_the_pixels(colorize, album):
    wide = bytearray(SRGB.replace("sRGB".encode("utf-16-be"), "wide".encode("utf-16-be")))
    for name, profile in [("srgb", SRGB), ("wide", bytes(wide)), ("broken", b"nonsense"), ("none", None)]:
        picture().save(album / f"{name}.png", icc_profile=profile)
    assert colorize()[0] == 0
    found = {path.stem: Image.open(path).info.get("icc_profile") for path in (album.parent / "out").iterdir()}
    assert found["srgb"] == SRGB and found["none"] is None
    for name in ("wide", "broken"):  # the pixels are sRGB, whatever the source was
        profile = ImageCms.ImageCmsProfile(io.BytesIO(found[name]))
        assert "sRGB" in profile.profile.profile_description and found[name][24:36] == bytes(12)


def test_transparency_is_kept(colorize, album, weights):
    alpha = np.tile(np.linspace(0, 255, 32).astype(np.uint8), (24, 1))
    clear = picture()
    clear.putalpha(Image.fromarray(alpha))
    clear.save(album / "a.png", exif=described(3).tobytes())
    clear.convert("P").save(album / "b.gif", transparency=0)
    assert colorize()[0] == 0
    with Image.open(album.parent / "out" / "a.png") as image:
        assert image.mode == "RGBA" and np.array_equal(np.array(image)[..., 3], alpha[::-1, ::-1])
        white = Image.new("RGBA", image.size, "white")
        shown = np.array(Image.alpha_composite(white, image).convert("RGB")).astype(int)
    # Over white it looks as the picture over white does, coloured, as far as so thin a layer can.
    expected = Colorizer.load(weights).colorize(album / "a.png").astype(int)
    assert np.abs(shown - np.maximum(expected, 255 - alpha[::-1, ::-1, None].astype(int))).max() <= 2
    assert Image.open(album.parent / "out" / "b.png").mode == "RGBA"


def test_what_is_lost_is_said(colorize, album):
    Image.fromarray(np.asarray(picture().convert("L"), np.uint16) * 257).save(album / "deep.png")
    clear = picture()
    clear.putalpha(100)
    clear.save(album / "clear.jpg", "PNG")
    code, made, errors = colorize()
    assert code == 0 and made == ["clear.jpg", "deep.png"] and len(errors) == 2
    assert "clear.jpg: transparency" in errors[0] and "deep.png: 16 bits a sample" in errors[1]


def test_broken_metadata_cost_no_picture(colorize, album):
    picture().save(album / "a.jpg", exif=b"Exif\0\0II*\0garbage")
    exif = described(1)
    exif[Base.ImageDescription] = "x" * 70_000  # more than a JPEG file can hold
    picture().save(album / "b.png", exif=exif, dpi=(1e-9, 72))
    (album / "b.png").rename(album / "b.jpg")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        code, made, _ = colorize()
    assert code == 0 and made == ["a.jpg", "b.jpg"]
