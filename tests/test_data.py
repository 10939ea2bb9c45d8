"""Readers against files of every kind made here; banks and their cache; batches against their definition."""

import json
import logging
import os
import subprocess
import sys
import time
import warnings
import zlib
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image, ImageCms

from colorstudy import data
from colorstudy.data import bank as banks
from colorstudy.data import batch, cache, crops, folder, legacy_photos, load, read, to_float
from colorstudy.data.batches import NOISE, _order
from colorstudy.data.photos import PHOTOS
from colorstudy.data.readers import fit, max_chroma

photos_module = sys.modules["colorstudy.data.photos"]  # the package's attribute of that name is the function


def picture(height=24, width=32, seed=0):
    """A smooth picture in colour: uint8 (height, width, 3)."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
    return np.array(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def save(path, array, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)
    return path


def tree(root, count=12, start=0):
    for i in range(start, start + count):
        save(root / f"{i:02}.png", picture(seed=i))
    return root


def png(width, height, bits, color, rows):
    """A PNG file out of raw `rows`, for the kinds that Pillow does not write."""

    def chunk(kind, body):
        return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")

    header = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([bits, color, 0, 0, 0])
    packed = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", packed) + chunk(b"IEND", b"")


# --- readers ---


@pytest.mark.parametrize(
    "name, options",
    [("a.png", {}), ("a.bmp", {}), ("a.tif", {}), ("a.webp", {"lossless": True}), ("no-extension", {"format": "PNG"})],
)
def test_reads_lossless_kinds_exactly(tmp_path, name, options):
    image = read(save(tmp_path / name, picture(), **options))
    assert image.dtype == np.uint8 and np.array_equal(image, picture())


@pytest.mark.parametrize("name, options", [("a.jpg", {"quality": 95}), ("a.webp", {"quality": 95}), ("a.gif", {})])
def test_reads_lossy_kinds_closely(tmp_path, name, options):
    assert np.abs(read(save(tmp_path / name, picture(), **options)).astype(int) - picture()).mean() < 6


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif"])
def test_applies_exif_orientation(tmp_path, name, orientation):
    upright = picture(16, 32)
    undo = {1: lambda x: x, 2: lambda x: x[:, ::-1], 3: lambda x: x[::-1, ::-1], 4: lambda x: x[::-1],
            5: lambda x: x.swapaxes(0, 1), 6: lambda x: np.rot90(x, 1), 7: lambda x: np.rot90(x.swapaxes(0, 1), 2),
            8: lambda x: np.rot90(x, -1)}[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[274] = orientation
    quality = {"quality": 100, "subsampling": 0} if name == "a.jpg" else {}
    path = save(tmp_path / name, np.ascontiguousarray(undo(upright)), exif=exif, **quality)
    image = read(path)
    assert image.shape == upright.shape and np.abs(image.astype(int) - upright).max() < 8


def test_broken_exif_spoils_no_pixels(tmp_path):
    assert read(save(tmp_path / "a.jpg", picture(), exif=b"Exif\0\0II*\0garbage")).shape == (24, 32, 3)


def test_reads_cmyk_jpeg(tmp_path):
    Image.fromarray(picture()).convert("CMYK").save(tmp_path / "a.jpg", quality=95)
    assert np.abs(read(tmp_path / "a.jpg").astype(int) - picture()).mean() < 6


def test_reads_palette_and_lays_transparency_over_white(tmp_path):
    image = Image.new("P", (2, 1))
    image.putpalette([200, 0, 0, 0, 0, 200])
    image.putdata([0, 1])
    image.save(tmp_path / "a.png", transparency=1)
    assert read(tmp_path / "a.png").tolist() == [[[200, 0, 0], [255, 255, 255]]]
    image.save(tmp_path / "b.png", transparency=bytes([255, 51]))
    assert read(tmp_path / "b.png").tolist() == [[[200, 0, 0], [204, 204, 244]]]


def test_lays_alpha_over_white(tmp_path):
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [55, 55, 255, 51]]], np.uint8)
    for name in ("a.png", "a.tif"):
        assert read(save(tmp_path / name, rgba)).tolist() == [[[10, 20, 30], [255, 255, 255], [215, 215, 255]]]
    assert read(save(tmp_path / "la.png", rgba[:, :, 2:])).tolist() == [[[30] * 3, [255] * 3, [255] * 3]]


def test_reads_one_bit_and_grey(tmp_path):
    bits = np.array([[True, False], [False, True]])
    for name in ("a.png", "a.tif", "a.bmp"):
        assert np.array_equal(read(save(tmp_path / name, bits)), 255 * bits[..., None].repeat(3, 2))
    grey = picture()[..., 0]
    for name in ("g.png", "g.tif", "g.bmp"):
        assert np.array_equal(read(save(tmp_path / name, grey)), grey[..., None].repeat(3, 2))


def test_scales_16_bit_grey(tmp_path):
    values = np.array([[0, 255, 30000, 65535]], np.uint16)
    expected = [[0, 1, 117, 255]]
    for name in ("a.png", "a.tif"):
        assert read(save(tmp_path / name, values))[..., 0].tolist() == expected
    tifffile.imwrite(tmp_path / "big-endian.tif", values, byteorder=">")
    assert read(tmp_path / "big-endian.tif")[..., 0].tolist() == expected
    tifffile.imwrite(tmp_path / "white-is-zero.tif", values, photometric="miniswhite")
    assert read(tmp_path / "white-is-zero.tif")[..., 0].tolist() == [[255, 254, 138, 0]]
    tifffile.imwrite(tmp_path / "int32.tif", values.astype(np.int32))
    assert read(tmp_path / "int32.tif")[..., 0].tolist() == expected


def test_scales_16_bit_colour(tmp_path):
    values = picture().astype(np.uint16) * 257
    rows = [row.astype(">u2").tobytes() for row in values]
    (tmp_path / "a.png").write_bytes(png(32, 24, 16, 2, rows))
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb")
    tifffile.imwrite(tmp_path / "planar.tif", values.transpose(2, 0, 1), photometric="rgb", planarconfig="separate")
    for order in ("<", ">"):  # compressed files take another way through Pillow
        tifffile.imwrite(tmp_path / f"zip{order}.tif", values, photometric="rgb", compression="zlib", byteorder=order)
    for name in ("a.png", "a.tif", "planar.tif", "zip<.tif", "zip>.tif"):
        assert np.abs(read(tmp_path / name).astype(int) - picture()).max() <= 1


def test_reads_float_tiff(tmp_path):
    for dtype in (np.float32, np.float16):
        tifffile.imwrite(tmp_path / "rgb.tif", (picture() / 255).astype(dtype), photometric="rgb", compression="zlib")
        assert np.abs(read(tmp_path / "rgb.tif").astype(int) - picture()).max() <= 1
    tifffile.imwrite(tmp_path / "grey.tif", picture()[..., 0].astype(np.float32) / 255)
    assert np.array_equal(read(tmp_path / "grey.tif")[..., 1], picture()[..., 0])
    tifffile.imwrite(tmp_path / "range.tif", picture().astype(np.float32), photometric="rgb")
    with pytest.raises(ValueError, match=r"range\.tif.*float32 samples from .* instead of 0 to 1"):
        read(tmp_path / "range.tif")


def test_float_tiff_is_turned_upright(tmp_path):
    extra = [(274, "H", 1, 3, True)]
    tifffile.imwrite(tmp_path / "a.tif", (picture() / 255).astype(np.float32), photometric="rgb", extratags=extra)
    assert np.array_equal(read(tmp_path / "a.tif"), picture()[::-1, ::-1])


def linear_profile():
    """A matrix profile of the sRGB primaries without gamma, built byte by byte: nothing here ships one."""
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    count = int.from_bytes(srgb[128:132], "big")
    profile = bytearray(srgb)
    for i in range(count):
        entry = 132 + 12 * i
        tag, offset, size = srgb[entry : entry + 4], *(int.from_bytes(srgb[entry + k :][:4], "big") for k in (4, 8))
        if tag in (b"rTRC", b"gTRC", b"bTRC"):  # an empty curve is the identity
            profile[offset : offset + size] = b"curv".ljust(size, b"\0")
        if tag == b"desc":
            renamed = srgb[offset : offset + size].replace("sRGB".encode("utf-16-be"), "line".encode("utf-16-be"))
            profile[offset : offset + size] = renamed
    return bytes(profile)


def test_converts_an_icc_profile(tmp_path):
    path = save(tmp_path / "a.png", picture(), icc_profile=linear_profile())
    x = picture() / 255
    expected = 255 * np.where(x <= 0.0031308, 12.92 * x, 1.055 * x ** (1 / 2.4) - 0.055)
    assert np.abs(read(path) - expected).max() < 3
    assert np.abs(expected - picture()).max() > 50
    alpha = np.dstack([picture(), np.full((24, 32), 255, np.uint8)])
    assert np.array_equal(read(save(tmp_path / "b.png", alpha, icc_profile=linear_profile())), read(path))


def test_leaves_srgb_and_ignores_a_broken_or_foreign_profile(tmp_path):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"nonsense", srgb[:200]):
        assert np.array_equal(read(save(tmp_path / "a.png", picture(), icc_profile=profile)), picture())
    grey = picture()[..., 0]
    assert np.array_equal(read(save(tmp_path / "g.png", grey, icc_profile=linear_profile()))[..., 2], grey)


def test_reads_the_first_frame(tmp_path):
    frames = [Image.fromarray(picture(seed=i)) for i in range(3)]
    for name, options in (("a.tif", {}), ("a.webp", {"lossless": True}), ("a.png", {})):
        frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
        assert np.array_equal(read(tmp_path / name), picture(seed=0))


def broken_files(root):
    """Files that are no pictures, each with a word of the reason."""
    good = save(root / "good.jpg", picture(200, 200)).read_bytes()
    ping = save(root / "good.png", picture(200, 200)).read_bytes()
    tiff = save(root / "good.tif", picture(200, 200)).read_bytes()
    webp = save(root / "good.webp", picture(200, 200)).read_bytes()
    files = {
        "truncated.jpg": (good[: len(good) // 2], "truncated"),
        "truncated.png": (ping[: len(ping) // 2], "truncated"),
        "truncated.tif": (tiff[: len(tiff) // 2], ""),
        "truncated.webp": (webp[: len(webp) // 2], ""),
        "head-only.jpg": (good[:3], "known kind"),
        "empty.jpg": (b"", "empty file"),
        "text.jpg": (b"This is no picture.\n" * 20, "known kind"),
        "text.tif": (b"II*\0 is how a TIFF file starts", ""),
        "no-pixels.png": (png(0, 0, 8, 2, []), ""),
        "garbled.png": (ping[:60] + bytes(100) + ping[160:], ""),
        "script.bmp": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "known kind"),
    }
    for name in ("good.jpg", "good.png", "good.tif", "good.webp"):
        (root / name).unlink()
    for name, (content, _) in files.items():
        (root / name).write_bytes(content)
    return {name: reason for name, (_, reason) in files.items()}


def test_a_broken_file_is_named_with_the_reason(tmp_path):
    for name, reason in broken_files(tmp_path).items():
        with pytest.raises(ValueError, match=rf"{name}: expected a picture that can be decoded, got .*{reason}"):
            read(tmp_path / name)
    with pytest.raises(ValueError, match="got a folder"):
        read(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"path: expected an image file, got .*missing\.jpg"):
        read(tmp_path / "missing.jpg")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("limit", [500, 100])  # Pillow would warn at the first and refuse at the second
def test_refuses_a_decompression_bomb(tmp_path, monkeypatch, limit):
    save(tmp_path / "bomb.png", picture())
    tifffile.imwrite(tmp_path / "bomb.tif", (picture() / 255).astype(np.float32), photometric="rgb")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    for path in tmp_path.iterdir():
        with pytest.raises(ValueError, match=rf"bomb.*768 pixels.* limit of ({limit}|{2 * limit})"):
            read(path)


def test_fit_takes_the_centre_and_does_not_alias():
    assert np.array_equal(fit(picture(24, 32), 24), picture(24, 32)[:, 4:28])
    assert np.array_equal(fit(picture(33, 24), 24).shape, (24, 24, 3))
    assert fit(picture(8, 8), 20).shape == (20, 20, 3)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit(stripes, 8).astype(int) - 128).max() < 10
    with pytest.raises(ValueError, match="image: expected uint8"):
        fit(stripes / 255, 8)


def test_max_chroma():
    image = np.full((4, 4, 3), 90, np.uint8)
    assert max_chroma(image) < 0.1
    image[2, 3] = 255, 0, 0  # a* = 80.1, b* = 67.2
    assert max_chroma(image) == pytest.approx(104.55, abs=0.1)


# --- banks ---


def test_folder_reports_grey_doubles_and_broken_files(tmp_path):
    root = tree(tmp_path / "mine")
    save(root / "sub/deep/ER.JPG", picture(seed=90), quality=95)
    save(root / "grey.jpg", picture()[..., :1].repeat(3, 2), quality=50)
    (root / "zz-copy.png").write_bytes((root / "03.png").read_bytes())
    (root / "notes.txt").write_text("ignored")
    save(root / ".hidden/thumb.png", picture(seed=91))
    broken = broken_files(root)
    with pytest.warns(UserWarning, match=f"mine: left out {len(broken)} unreadable files: .*empty.jpg") as caught:
        bank = folder(root, 16, cache_dir=tmp_path / "cache")
    assert sum("unreadable" in str(warning.message) for warning in caught) == 1
    assert all(name in str(caught[-1].message) for name in broken)
    assert bank.skipped.keys() == {*broken, "zz-copy.png"}
    assert bank.skipped["zz-copy.png"] == "same content as 03.png"
    assert not any(str(tmp_path) in reason for reason in bank.skipped.values())
    assert bank.grey == ("grey.jpg",)
    assert sorted(bank.names) == sorted([*(f"{i:02}.png" for i in range(12)), "sub/deep/ER.JPG"])
    assert bank.name == "mine" and bank.images.shape == (13, 16, 16, 3)
    counts = bank.summary()
    assert (counts["grey"], counts["skipped"], counts["train"] + counts["test"]) == (1, len(broken) + 1, 13)


def test_bank_is_read_only_and_its_splits_are_slices(tmp_path):
    bank = folder(tree(tmp_path / "mine"), 16, cache_dir=tmp_path / "cache")
    assert isinstance(bank.images, np.memmap) and not bank.images.flags.writeable
    assert len(bank.train) + len(bank.test) == 12 and len(bank.train) == bank.split.count("train")
    assert np.shares_memory(bank.train.images, bank.images) and np.shares_memory(bank.test.images, bank.images)
    for subset in (bank.train, bank.test):
        for name, image in zip(subset.names, subset.images, strict=True):
            assert np.array_equal(image, fit(picture(seed=int(name[:2])), 16))


def test_adding_or_renaming_a_file_moves_no_other(tmp_path):
    root = tree(tmp_path / "mine")
    before = folder(root, 16, cache_dir=tmp_path / "cache")
    tree(root, 20, start=40)
    (root / "05.png").rename(root / "renamed.png")
    after = folder(root, 16, cache_dir=tmp_path / "cache")
    old, new = (dict(zip(bank.names, bank.split, strict=True)) for bank in (before, after))
    new["05.png"] = new.pop("renamed.png")
    assert len(new) == 32 and old.items() <= new.items()
    assert before.hash != after.hash


def test_split_follows_the_fraction():
    digests = [f"{(2 * i + 1) * 16**12 // 2000:012x}" + 52 * "0" for i in range(1000)]
    assert sum(banks._resolve(0.2, digest) == "test" for digest in digests) == 200


def test_fractions_0_and_1_leave_a_split_empty_on_purpose(tmp_path):
    root = tree(tmp_path / "mine", 3)
    bank = folder(root, 16, test_fraction=0, cache_dir=tmp_path)
    assert len(bank.train) == 3
    with pytest.raises(ValueError, match="mine: expected at least one test picture, got none among 3"):
        _ = bank.test
    assert len(folder(root, 16, test_fraction=1, cache_dir=tmp_path).test) == 3


def test_hash_knows_no_path_but_everything_else(tmp_path):
    first = folder(tree(tmp_path / "a/mine"), 16, cache_dir=tmp_path / "c1")
    tree(tmp_path / "b/mine")
    os.utime(tmp_path / "b/mine/00.png", (1, 1))
    assert folder(tmp_path / "b/mine", 16, cache_dir=tmp_path / "c2").hash == first.hash
    others = [folder(tmp_path / "a/mine", 17, cache_dir=tmp_path / "c1")]
    others += [folder(tmp_path / "a/mine", 16, 0.5, cache_dir=tmp_path / "c1")]
    (tmp_path / "a/mine/00.png").rename(tmp_path / "a/mine/000.png")
    others += [folder(tmp_path / "a/mine", 16, cache_dir=tmp_path / "c1")]
    assert len({first.hash, *(other.hash for other in others)}) == 4


def test_links_in_circles_end(tmp_path):
    root = tree(tmp_path / "mine", 4)
    tree(tmp_path / "elsewhere", 4, start=50)
    (root / "loop").symlink_to(root)
    (root / "up").symlink_to(tmp_path)
    (root / "linked").symlink_to(tmp_path / "elsewhere")
    bank = folder(root, 16, test_fraction=0, cache_dir=tmp_path / "cache")
    assert len(bank.names) == 8 and "linked/50.png" in bank.names and not bank.skipped


def test_nothing_usable_says_why(tmp_path):
    with pytest.raises(ValueError, match=r"path: expected a folder, got .*nowhere, which is missing"):
        folder(tmp_path / "nowhere")
    (tmp_path / "bare/sub").mkdir(parents=True)
    (tmp_path / "bare/notes.txt").write_text("no picture")
    with pytest.raises(ValueError, match=r"path: expected a folder with \.bmp, .* files, got .*bare, which has none"):
        folder(tmp_path / "bare")
    (tmp_path / "bad").mkdir()
    broken_files(tmp_path / "bad")
    message = r"bad: expected at least one picture in colour, got 0 grey and 11 unreadable files: "
    with pytest.raises(ValueError, match=message + r"empty\.jpg \(.*an empty file\); .*; and 8 more"):
        folder(tmp_path / "bad", cache_dir=tmp_path / "cache")
    for i in range(3):
        save(tmp_path / f"grey/{i}.png", picture(seed=i)[..., 0])
    with pytest.raises(ValueError, match="grey: expected at least one picture in colour, got 3 grey and 0 unreadable"):
        folder(tmp_path / "grey", cache_dir=tmp_path / "cache")
    tree(tmp_path / "one", 1)
    with pytest.raises(
        ValueError, match=r"one: expected at least one (test|train) picture, got none among 1 in colour"
    ):
        folder(tmp_path / "one", 16, cache_dir=tmp_path / "cache")
    with pytest.raises(ValueError, match=r"test_fraction: expected a number in \[0, 1\], got 20"):
        folder(tmp_path / "one", test_fraction=20)
    assert not list(tmp_path.glob("cache/.*"))  # a failed build leaves no temporary files


def test_build_checks_its_arguments(tmp_path):
    path = save(tmp_path / "a.png", picture())
    for sources, size, message in [
        ([], 8, "sources: expected at least one file"),
        ([("a", path, "train")], 0, "size: expected a positive integer, got 0"),
        ([("a", path, "valid")], 8, "split: expected one of"),
        ([("a", path, "train"), ("a", path, "test")], 8, "sources: expected unique names"),
    ]:
        with pytest.raises(ValueError, match=message):
            banks.build("bank", sources, size, tmp_path)
    with pytest.warns(UserWarning, match=r"bank: left out 1 unreadable files: gone \(.*No such file"):
        bank = banks.build("bank", [("a", path, "train"), ("gone", tmp_path / "gone.png", "train")], 8, tmp_path)
    assert bank.names == ("a",) and "gone" in bank.skipped


# --- the cache ---


@pytest.fixture
def cached(tmp_path):
    """A source folder, the function that loads it, and its two cache files."""
    root, where = tree(tmp_path / "mine"), tmp_path / "cache"
    bank = folder(root, 16, cache_dir=where)
    array = where / f"mine-16-{bank.hash[:12]}.npy"
    return root, lambda: folder(root, 16, cache_dir=where), array, array.with_suffix(".json"), np.array(bank.images)


def test_cache_is_built_once(cached, monkeypatch):
    _, again, array, sidecar, images = cached
    before = [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (array, sidecar)]
    monkeypatch.setattr(banks, "read", None)  # decoding would fail
    assert np.array_equal(again().images, images)
    assert before == [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (array, sidecar)]
    record = json.loads(sidecar.read_text())
    assert record["sha256"] == cache.sha256(array) and record["shape"] == list(images.shape)
    assert record["sources"]["00.png"] == cache.sha256(cached[0] / "00.png")


def test_a_changed_source_is_decoded_again(cached):
    root, again, *_ = cached
    stat = (root / "04.png").stat()
    save(root / "04.png", picture(seed=77))
    os.utime(root / "04.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the content counts, not its date
    bank = again()
    assert np.array_equal(bank.images[bank.names.index("04.png")], fit(picture(seed=77), 16))


def damage_array(change):
    def damage(array, sidecar):
        content = bytearray(array.read_bytes())
        array.write_bytes(change(content))

    return damage


def flip_bit(content):
    content[-5] ^= 1
    return content


def edit_sidecar(**changes):
    return lambda array, sidecar: sidecar.write_text(json.dumps(json.loads(sidecar.read_text()) | changes))


@pytest.mark.parametrize(
    "damage",
    [
        damage_array(lambda content: content[:-1000]),
        damage_array(lambda content: content[:10]),
        damage_array(lambda content: b""),
        damage_array(flip_bit),
        lambda array, sidecar: array.unlink(),
        lambda array, sidecar: np.save(array, np.zeros((12, 8, 8, 3), np.uint8)),
        lambda array, sidecar: sidecar.unlink(),
        lambda array, sidecar: sidecar.write_text("{garbled"),
        lambda array, sidecar: sidecar.write_bytes(b"\xff\xfe\x00"),
        lambda array, sidecar: sidecar.write_text("[]"),
        edit_sidecar(shape=[3, 16, 16, 3]),
        edit_sidecar(hash="another"),
        edit_sidecar(pillow="another version"),
    ],
)
def test_a_damaged_cache_is_rebuilt_with_a_line_in_the_log(cached, damage, caplog):
    _, again, array, sidecar, images = cached
    damage(array, sidecar)
    with caplog.at_level(logging.INFO), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(again().images, images)
    assert "will be rebuilt" in caplog.text
    assert json.loads(sidecar.read_text())["sha256"] == cache.sha256(array)
    assert {path.suffix for path in array.parent.iterdir()} <= {".npy", ".json", ".lock"}


def test_two_processes_may_build_at_once(tmp_path):
    root = tree(tmp_path / "mine", 60)
    code = f"from colorstudy.data import folder; b = folder({str(root)!r}, 16, cache_dir={str(tmp_path / 'cache')!r}); "
    code += "print(b.hash, int(b.images.astype('int64').sum()))"
    env = os.environ | {"PYTHONPATH": str(Path(data.__file__).parents[2])}
    runs = [
        subprocess.Popen([sys.executable, "-c", code], env=env, stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    outputs = {run.communicate(timeout=120)[0] for run in runs}
    assert [run.returncode for run in runs] == [0, 0]
    bank = folder(root, 16, cache_dir=tmp_path / "cache")
    assert outputs == {f"{bank.hash} {int(bank.images.astype(np.int64).sum())}\n"}
    assert len(list((tmp_path / "cache").glob("*.npy"))) == 1


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path / "mine"))
    assert cache.default_cache_dir() == tmp_path / "mine"
    monkeypatch.delenv("COLORSTUDY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache.default_cache_dir() == tmp_path / "colorstudy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache.default_cache_dir() == tmp_path / ".cache/colorstudy"


def test_a_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cache_dir: expected a folder that can be written .*COLORSTUDY_CACHE.*file/"):
        folder(tree(tmp_path / "mine"), 16, cache_dir=tmp_path / "file/cache")


# --- the embedded photographs ---


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return data.photos(32, tmp_path_factory.mktemp("cache"))


def test_photos_are_all_there(photos):
    assert photos.images.shape == (57, 32, 32, 3)
    assert (len(photos.train), len(photos.test)) == (44, 13)
    assert photos.skipped == {} and photos.grey == ()
    assert photos.train.names[0] == "mvtb/campus/P1070491" and "skimage/chelsea" in photos.test.names


def test_no_scene_is_on_both_sides():
    assert len(PHOTOS) == 57
    sides = {}
    for _, scene, split in PHOTOS:
        sides.setdefault(scene, set()).add(split)
    assert [scene for scene, splits in sides.items() if len(splits) > 1] == ["campus"]


def test_no_photo_is_nearly_another(photos):
    """Shots of one scene the table would not know: thumbnails of any train and test picture correlate below 0.9."""
    small = photos.images.reshape(57, 8, 4, 8, 4, 3).mean((2, 4)).reshape(57, -1)
    correlation = np.corrcoef(small)[: len(photos.train), len(photos.train) :]
    assert correlation.max() < 0.9


def test_legacy_photos_are_grey():
    assert len(legacy_photos()) == 4
    assert all(max_chroma(read(path)) < 1 for path in legacy_photos().values())


def test_a_missing_photo_names_the_wheel(monkeypatch, tmp_path):
    monkeypatch.setitem(photos_module._FOLDERS, "skimage", ("scikit-image", tmp_path))
    with pytest.raises(FileNotFoundError, match=r"skimage/astronaut.png: expected in the wheel of scikit-image \d"):
        data.photos()


def test_load(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path / "cache"))
    assert load(tree(tmp_path / "mine"), size=16, test_fraction=0.5).name == "mine"
    assert load(str(tmp_path / "mine"), size=16).name == "mine"
    monkeypatch.setattr(data, "photos", lambda **options: options)
    assert load("photos", size=16) == {"size": 16}
    with pytest.raises(ValueError, match=r"source: expected 'photos' or the path of a folder of .* got 'imagenet'"):
        load("imagenet")


# --- batches ---


@pytest.fixture(scope="module")
def coded():
    """20 pictures (20, 16, 16, 3) whose pixels hold (picture, row, column)."""
    return np.stack(np.meshgrid(range(20), range(16), range(16), indexing="ij"), -1).astype(np.uint8)


def test_crops_are_windows_of_their_pictures(coded):
    sides, flips = set(), 0
    for step in range(80):
        batch = crops(coded, step, batch_size=8, crop=6, seed=3)
        sides.add(batch.shape[-1])
        assert batch.dtype == torch.uint8 and batch.shape[:2] == (8, 3) and batch.shape[2] == batch.shape[3]
        for i, image in enumerate(batch.numpy()):
            index, top, left = int(image[0, 0, 0]), int(image[1, 0, 0]), int(image[2].min())
            side = image.shape[-1]
            window = coded[index, top : top + side, left : left + side].transpose(2, 0, 1)
            flipped = image[2, 0, 0] > image[2, 0, -1]
            assert np.array_equal(image, window[:, :, ::-1] if flipped else window)
            assert index == _order(3, (step * 8 + i) // 20, 20)[(step * 8 + i) % 20]
            flips += flipped
    assert sides == set(range(6, 17)) and 270 < flips < 370  # of 640


def test_every_epoch_visits_each_picture_once_in_a_new_order(coded):
    steps = [crops(coded, step, batch_size=8, crop=6, seed=0)[:, 0, 0, 0] for step in range(10)]
    epochs = torch.cat(steps).view(4, 20).tolist()  # batches of 8 straddle the epochs of 20
    assert all(sorted(epoch) == list(range(20)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    whole = crops(coded, 0, batch_size=80, crop=6, seed=0)[:, 0, 0, 0]  # one batch may hold several epochs
    assert whole.view(4, 20).tolist() == epochs


def test_crops_depend_on_seed_and_step_only(coded):
    one = crops(coded, 7, batch_size=8, crop=16, seed=1)
    torch.manual_seed(5)
    np.random.seed(5)  # noqa: NPY002 - the global state is what must not matter
    crops(coded, 3, batch_size=4, crop=6, seed=9)
    assert torch.equal(crops(coded, 7, batch_size=8, crop=16, seed=1), one)
    assert not torch.equal(crops(coded, 8, batch_size=8, crop=16, seed=1), one)
    assert not torch.equal(crops(coded, 7, batch_size=8, crop=16, seed=2), one)
    assert not torch.equal(crops(coded, 1, batch_size=8, crop=16, seed=7), one)


@pytest.mark.parametrize("world_size", [2, 4, 8])
def test_processes_share_the_global_batch(coded, world_size):
    for step in range(5):
        options = {"batch_size": 8, "crop": 6, "seed": 0}
        shares = [crops(coded, step, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
        assert torch.equal(torch.cat(shares), crops(coded, step, **options))


def test_without_augmentation_whole_pictures_come(coded):
    batch = crops(coded, 2, batch_size=8, crop=6, seed=0, augment=False)
    order = [_order(0, (16 + i) // 20, 20)[(16 + i) % 20] for i in range(8)]
    assert np.array_equal(batch.permute(0, 2, 3, 1).numpy(), coded[order])


def test_crops_of_a_read_only_bank_warn_of_nothing(photos):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        batch = crops(photos.train.images, 0, batch_size=64, crop=16, seed=0)
    batch.zero_()  # and may be written to
    assert photos.images.any()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"crop": 17}, r"crop: expected in \[1, 16\], the side of the pictures, got 17"),
        ({"crop": 0}, "crop: expected in"),
        ({"batch_size": 9, "world_size": 2}, "batch_size: expected a positive multiple of world_size = 2, got 9"),
        ({"batch_size": 0}, "batch_size: expected"),
        ({"rank": 2, "world_size": 2}, r"rank: expected in \[0, world_size = 2\), got 2"),
        ({"step": -1}, "step: expected at least 0, got -1"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
        ({"images": np.zeros((0, 16, 16, 3), np.uint8)}, r"images: expected uint8 \(N, S, S, 3\) with N > 0, got"),
        ({"images": np.zeros((2, 16, 16, 3), np.float32)}, "images: expected uint8.*got float32"),
        ({"images": np.zeros((2, 16, 12, 3), np.uint8)}, "images: expected uint8"),
    ],
)
def test_crops_checks_its_arguments(coded, changes, message):
    with pytest.raises(ValueError, match=message):
        crops(**({"images": coded, "step": 0, "batch_size": 8, "crop": 6, "seed": 0} | changes))


def test_to_float_divides_once(coded):
    batch = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16).expand(1, 3, 16, 16)
    assert torch.equal(to_float(batch, 16), batch.double().div(255).float())
    with pytest.raises(ValueError, match=r"batch: expected uint8 .* got torch.float32"):
        to_float(to_float(batch, 16), 16)
    with pytest.raises(ValueError, match="size: expected at least 1, got 0"):
        to_float(batch, 0)


@pytest.mark.parametrize("size", [8, 16, 24])
def test_to_float_resizes_within_the_range(size):
    batch = torch.from_numpy(picture(24, 24)).permute(2, 0, 1)[None]
    rgb = to_float(batch, size)
    assert rgb.shape == (1, 3, size, size) and rgb.dtype == torch.float32
    assert rgb.min() >= 0 and rgb.max() <= 1
    assert (rgb.mean((2, 3)) - batch.double().mean((2, 3)) / 255).abs().max() < 0.01
    checker = (torch.arange(48)[:, None] + torch.arange(48)) % 2 * 255
    flat = to_float(checker.to(torch.uint8).expand(1, 3, 48, 48), size)
    assert (flat - 0.5).abs().max() < 0.07  # antialiased: no checker survives


def test_crops_are_fast():
    images = np.zeros((500, 96, 96, 3), np.uint8)
    start = time.perf_counter()
    for step in range(20):
        crops(images, step, batch_size=64, crop=64, seed=0)
    assert 20 * 64 / (time.perf_counter() - start) > 2000  # usually above 50,000 a second; a loaded machine gets slack


# --- batches as training sees them ---


def test_batch_is_the_crops_or_the_whole_pictures_as_numbers(coded):
    options = {"batch_size": 8, "crop": 6, "seed": 3}
    for augmentation, augment in (("crops", True), ("none", False)):
        rgb = batch(coded, 5, augmentation=augmentation, **options)
        assert torch.equal(rgb, to_float(crops(coded, 5, augment=augment, **options), 6))
    with pytest.raises(ValueError, match=r"augmentation: expected one of \('none', 'crops', 'views'\), got 'all'"):
        batch(coded, 5, augmentation="all", **options)


@pytest.fixture(scope="module")
def smooth():
    """Six smooth pictures (6, 32, 32, 3) without symmetry."""
    small = np.random.default_rng(1).integers(30, 226, (6, 5, 5, 3), np.uint8)
    return np.stack([np.array(Image.fromarray(s).resize((32, 32), Image.Resampling.BICUBIC)) for s in small])


def test_views_are_the_seven_and_equally_frequent(smooth):
    """Each view is recognised by what it must equal; the noise by its strength."""
    counts = Counter()
    for step in range(60):
        options = {"batch_size": 12, "crop": 16, "seed": 0}
        whole = crops(smooth, step, **options, augment=False)
        for source, view in zip(whole, batch(smooth, step, augmentation="views", **options)):
            plain = to_float(source[None], 16)[0]
            windows = (source.float() / 255).unfold(1, 16, 1).unfold(2, 16, 1)  # (3, 17, 17, 16, 16)
            if torch.equal(view, plain):
                counts["whole"] += 1
            elif torch.equal(view, plain.flip(-1)):
                counts["mirrored"] += 1
            elif (windows == view[:, None, None]).all(dim=(0, 3, 4)).any():
                counts["window"] += 1
            else:
                strength = (view - plain)[(plain > 0.3) & (plain < 0.7)].std()
                nearest = min(NOISE, key=lambda s: abs(s - strength))
                assert strength == pytest.approx(nearest, rel=0.2)
                counts[f"noise {nearest}"] += 1
    assert set(counts) == {"whole", "mirrored", "window", *(f"noise {s}" for s in NOISE)}
    expected = {name: 720 / 7 * (2 if name == "window" else 1) for name in counts}
    assert all(abs(counts[name] - n) < 4 * n**0.5 for name, n in expected.items()), counts


def test_views_divided_twice_are_nearly_black_in_three_of_seven(smooth):
    options = {"augmentation": "views", "batch_size": 280, "crop": 16, "seed": 0}
    sound, faulty = batch(smooth, 0, **options), batch(smooth, 0, **options, divided_twice=True)
    black = faulty.amax((1, 2, 3)) < 0.004
    assert 0.3 < black.float().mean() < 0.55
    assert torch.equal(sound[~black], faulty[~black])
    assert torch.allclose(sound[black], faulty[black] * 255, atol=1e-6)
    assert sound.min() >= 0 and sound.max() <= 1 and sound.amax((1, 2, 3)).min() > 0.1


@pytest.mark.parametrize("world_size", [2, 4])
def test_processes_share_the_global_views(smooth, world_size):
    options = {"augmentation": "views", "batch_size": 8, "crop": 12, "seed": 4}
    shares = [batch(smooth, 3, rank=rank, world_size=world_size, **options) for rank in range(world_size)]
    assert torch.equal(torch.cat(shares), batch(smooth, 3, **options))
