"""Readers against files of every kind made here; banks and their cache."""

import csv
import json
import logging
import os
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import skimage
import tifffile
from PIL import Image, ImageCms

from colorstudy import data
from colorstudy._files import cache_dir, sha256
from colorstudy.data import build as builds
from colorstudy.data import folder, legacy_photos, load, read, readers
from colorstudy.data.readers import GREY, colorful, fit, to_array


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


def test_a_damaged_pillow_image_is_refused_as_its_file_is(tmp_path):
    broken_files(tmp_path)
    with Image.open(tmp_path / "garbled.png") as image, pytest.raises(OSError, match="broken data stream"):
        to_array(image)


def test_what_is_in_memory_reads_as_from_a_file(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    rgba = np.dstack([picture(), picture(seed=1)[..., 0]])
    deep = picture()[..., 0].astype(np.uint16) * 257
    for image, options in ((rgba, {}), (deep, {}), (picture(), {"exif": exif, "icc_profile": linear_profile()})):
        path = save(tmp_path / "a.png", image, **options)
        assert np.array_equal(read(path.read_bytes()), read(path))
        with Image.open(path) as opened:
            assert np.array_equal(to_array(opened), read(path))
    tifffile.imwrite(tmp_path / "a.tif", picture().astype(np.float32) / 255, photometric="rgb")
    assert np.array_equal(read((tmp_path / "a.tif").read_bytes()), read(tmp_path / "a.tif"))
    for content, reason in ((b"", "an empty file"), (b"no picture", "no data of a known kind")):
        with pytest.raises(ValueError, match=f"^expected a picture that can be decoded, got {reason}"):
            read(content)


def test_what_would_take_too_much_memory_is_refused(tmp_path, monkeypatch):
    """By kind, as some decoders hold several copies: a TIFF of float32 takes 24 bytes a pixel, a plain PNG 7."""
    save(tmp_path / "plain.png", picture())
    save(tmp_path / "clear.png", np.dstack([picture(), picture()[..., :1]]))
    save(tmp_path / "progressive.jpg", picture(), progressive=True)
    save(tmp_path / "lzw.tif", picture(), compression="tiff_lzw")
    save(tmp_path / "a.webp", picture())
    tifffile.imwrite(tmp_path / "float.tif", (picture() / 255).astype(np.float32), photometric="rgb")
    costs = {"plain.png": 7, "clear.png": 12, "progressive.jpg": 12, "lzw.tif": 11, "a.webp": 17, "float.tif": 24}
    for name, cost in costs.items():
        monkeypatch.setattr(readers, "_MEMORY", 768 * cost)
        assert read(tmp_path / name).shape == (24, 32, 3)
        monkeypatch.setattr(readers, "_MEMORY", 768 * cost - 1)
        with pytest.raises(ValueError, match=rf"{name}.*768 pixels \(32 x 24\), above the limit of 767"):
            read(tmp_path / name)


def test_fit_takes_the_centre_and_does_not_alias():
    assert np.array_equal(fit(picture(24, 32), 24), picture(24, 32)[:, 4:28])
    assert np.array_equal(fit(picture(33, 24), 24).shape, (24, 24, 3))
    assert fit(picture(8, 8), 20).shape == (20, 20, 3)
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(fit(stripes, 8).astype(int) - 128).max() < 10


def test_one_pixel_in_colour_makes_a_picture_colourful(tmp_path):
    image = np.full((8, 8, 3), 90, np.uint8)
    assert colorful(save(tmp_path / "a.png", image), 8) == GREY
    for pixel, is_colorful in [((97, 90, 85), False), ((98, 90, 84), True)]:  # of chroma 4.3 and 5.1
        image[2, 3] = pixel
        found = colorful(save(tmp_path / "a.png", image), 8)
        assert np.array_equal(found, image) if is_colorful else found == GREY
    (tmp_path / "a.png").write_bytes(b"")
    assert colorful(tmp_path / "a.png", 8) == "expected a picture that can be decoded, got an empty file"


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


def test_a_bank_holds_train_then_val_then_test(tmp_path):
    wanted = ["test", "val", "train", "val", "train", "test", "train"]
    sources = [(f"{i}.png", save(tmp_path / f"{i}.png", picture(seed=i)), split) for i, split in enumerate(wanted)]
    bank = builds.build("bank", sources, 16, tmp_path / "cache")
    assert bank.split == ("train",) * 3 + ("val",) * 2 + ("test",) * 2
    parts = {"train": ("2.png", "4.png", "6.png"), "val": ("1.png", "3.png"), "test": ("0.png", "5.png")}
    assert bank.names == sum(parts.values(), ())
    for split, names in parts.items():
        part = getattr(bank, split)
        assert part.names == names and part.split == (split,) * len(names)
        for name, image in zip(names, part.images, strict=True):
            assert np.array_equal(image, fit(picture(seed=int(name[0])), 16))
    assert len({bank.hash, *(getattr(bank, split).hash for split in parts)}) == 4
    assert {split: bank.summary()[split] for split in parts} == {"train": 3, "val": 2, "test": 2}
    assert bank.only(["3.png", "0.png"]).split == ("val", "test")
    rest = builds.build("rest", [one for one in sources if one[2] != "val"], 16, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"^rest: expected at least one val picture, got none among 5"):
        rest.val  # noqa: B018
    grey = save(tmp_path / "grey.png", picture()[..., :1].repeat(3, 2))
    with pytest.raises(ValueError, match=r"^bank: expected at least one val picture, got none among 1 in colour"):
        builds.build("bank", [sources[0], ("grey.png", grey, "val")], 16, tmp_path / "cache")


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


def test_split_follows_the_fraction(tmp_path):
    for i in range(250):
        save(tmp_path / f"many/{i}.bmp", np.full((2, 2, 3), (i, 255 - i, 200), np.uint8))
    shares = {share: len(folder(tmp_path / "many", 2, share, tmp_path / "c").test) / 250 for share in (0.2, 0.6)}
    assert all(abs(found - share) < 3 * (share * (1 - share) / 250) ** 0.5 for share, found in shares.items()), shares


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
        ([("a", path, "valid")], 8, r"split: expected one of \('train', 'val', 'test'\) or a probability, got 'valid'"),
        ([("a", path, 1.5)], 8, "split: expected"),
        ([("a", path, "train"), ("a", path, "test")], 8, "sources: expected unique names"),
    ]:
        with pytest.raises(ValueError, match=message):
            builds.build("bank", sources, size, tmp_path)
    with pytest.warns(UserWarning, match=r"bank: left out 1 unreadable files: gone \(.*No such file"):
        bank = builds.build("bank", [("a", path, "train"), ("gone", tmp_path / "gone.png", "train")], 8, tmp_path)
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
    monkeypatch.setattr(builds, "colorful", None)  # decoding would fail
    assert np.array_equal(again().images, images)
    assert before == [(path.stat().st_mtime_ns, path.stat().st_ino) for path in (array, sidecar)]
    record = json.loads(sidecar.read_text())
    assert record["sha256"] == sha256(array) and record["names"] == list(again().names)
    assert record["sources"]["00.png"] == sha256(cached[0] / "00.png")


def test_a_changed_source_is_decoded_again(cached):
    root, again, *_ = cached
    stat = (root / "04.png").stat()
    save(root / "04.png", picture(seed=77))
    os.utime(root / "04.png", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the content counts, not its date
    bank = again()
    assert np.array_equal(bank.images[bank.names.index("04.png")], fit(picture(seed=77), 16))


def test_untouched_files_are_not_read_again(cached, monkeypatch):
    root, again, array, sidecar, images = cached
    hashed = []

    def opened(path, mode):
        hashed.append(Path(path))
        return open(path, mode)

    monkeypatch.setattr(builds._files, "open", opened, raising=False)
    monkeypatch.setattr(builds, "colorful", None)  # decoding would fail
    bank = again()
    assert np.array_equal(bank.images, images) and bank.hash == json.loads(sidecar.read_text())["hash"]
    assert hashed == []
    os.utime(root / "04.png", (1, 1))
    assert again().hash == bank.hash and hashed == [root / "04.png"]
    assert again().hash == bank.hash and len(hashed) == 1
    array.with_name("mine.json").unlink()  # without the hashes all is read
    assert again().hash == bank.hash
    assert sorted(hashed[1:]) == sorted([array, *root.iterdir()])


# With its time set back, that of its inode still tells, but on Windows, which has none.
@pytest.mark.parametrize("later", [1, pytest.param(0, marks=pytest.mark.skipif(os.name == "nt", reason="no ctime"))])
def test_a_picture_of_the_same_size_and_another_time_is_noticed(tmp_path, later):
    for i in range(12):
        save(tmp_path / f"mine/{i:02}.bmp", picture(seed=i))
    path, caches = tmp_path / "mine/04.bmp", [tmp_path / "cache", tmp_path / "another"]
    before, stat = folder(tmp_path / "mine", 16, cache_dir=caches[0]), path.stat()
    save(path, picture(seed=77))
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + later))
    assert path.stat().st_size == stat.st_size
    after, anew = (folder(tmp_path / "mine", 16, cache_dir=cache) for cache in caches)
    assert after.hash == anew.hash != before.hash and np.array_equal(after.images, anew.images)
    assert np.array_equal(after.images[after.names.index("04.bmp")], fit(picture(seed=77), 16))


@pytest.mark.parametrize("content", [b"{garbled", b"\xff\xfe", b"[5]", b'{"a": 5}', None])
def test_without_hashes_that_can_be_read_or_written_all_goes_on(cached, content):
    _, again, array, sidecar, images = cached
    memory = array.with_name("mine.json")
    assert len(json.loads(memory.read_text())) == 13  # the pictures and the array
    memory.unlink()
    memory.mkdir() if content is None else memory.write_bytes(content)
    bank = again()
    assert np.array_equal(bank.images, images) and bank.hash == json.loads(sidecar.read_text())["hash"]
    assert memory.is_dir() if content is None else len(json.loads(memory.read_text())) >= 13
    assert not list(array.parent.glob(".*"))


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
        edit_sidecar(sha256="another"),
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
    assert json.loads(sidecar.read_text())["sha256"] == sha256(array)
    assert {path.suffix for path in array.parent.iterdir()} <= {".npy", ".json", ".lock"}


@pytest.fixture(scope="module")
def others(forks):
    """Processes that make a bank; without arguments, they say what importing took."""
    code = """
import sys
from colorstudy.data import folder

def call(*arguments):
    if not arguments:
        return print(*sys.modules)
    bank = folder(arguments[0], 16, cache_dir=arguments[1])
    print(bank.hash, int(bank.images.astype("int64").sum()))
"""
    return forks(code)


def test_two_processes_may_build_at_once(others, tmp_path):
    root, cache, logs = tree(tmp_path / "mine", 60), tmp_path / "cache", [tmp_path / "a", tmp_path / "b"]
    started = [others.start(log, str(root), str(cache)) for log in logs]
    assert [others.wait(pid) for pid in started] == [0, 0]
    bank = folder(root, 16, cache_dir=cache)
    assert {log.read_text() for log in logs} == {f"{bank.hash} {int(bank.images.astype(np.int64).sum())}\n"}
    assert len(list(cache.glob("*.npy"))) == 1


def test_importing_takes_no_extra(others, tmp_path):
    assert others.wait(others.start(tmp_path / "log")) == 0
    imported = (tmp_path / "log").read_text().split()
    assert "colorstudy.data.published" in imported
    assert not {"mvtbdata", "pooch", "torchvision", "matplotlib", "av", "cv2"} & {*imported}


def test_a_checksum_is_that_of_the_content(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")  # the test vectors of FIPS 180 and RFC 1321
    assert sha256(tmp_path / "file") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_default_cache_dir(monkeypatch, tmp_path):
    monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path / "mine"))
    assert cache_dir() == tmp_path / "mine" and cache_dir(tmp_path / "given") == tmp_path / "given"
    monkeypatch.delenv("COLORSTUDY_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_dir() == tmp_path / "colorstudy"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_dir() == tmp_path / ".cache/colorstudy" and cache_dir("~/given") == tmp_path / "given"


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
    rows = list(csv.DictReader(Path(data.__file__).with_name("photos.csv").read_text().splitlines()))
    assert len(rows) == 57
    sides = {}
    for row in rows:
        sides.setdefault(row["scene"], set()).add(row["split"])
    assert [scene for scene, splits in sides.items() if len(splits) > 1] == ["campus"]


def test_no_photo_is_nearly_another(photos):
    """Shots of one scene the table would not know: thumbnails of any train and test picture correlate below 0.9."""
    small = photos.images.reshape(57, 8, 4, 8, 4, 3).mean((2, 4)).reshape(57, -1)
    correlation = np.corrcoef(small)[: len(photos.train), len(photos.train) :]
    assert correlation.max() < 0.9


def test_legacy_photos_are_grey():
    assert len(legacy_photos()) == 4
    assert all(colorful(path, 128) == GREY for path in legacy_photos().values())


def test_a_missing_photo_names_the_wheel(monkeypatch, tmp_path):
    monkeypatch.setattr(skimage, "__file__", str(tmp_path / "__init__.py"))
    with pytest.raises(FileNotFoundError, match=r"skimage/astronaut.png: expected in the wheel of scikit-image \d"):
        data.photos()
    monkeypatch.setitem(sys.modules, "mvtbdata", None)
    with pytest.raises(ImportError, match=r"mvtbdata.*pip install 'colorstudy\[photos\]'"):
        data.photos()


def test_load(tmp_path, monkeypatch):
    monkeypatch.setenv("COLORSTUDY_CACHE", str(tmp_path / "cache"))
    assert load(tree(tmp_path / "mine"), size=16, test_fraction=0.5).name == "mine"
    assert load(str(tmp_path / "mine"), size=16).name == "mine"
    monkeypatch.setattr(data, "photos", lambda **options: options)
    assert load("photos", size=16) == {"size": 16}
    known = r"\['photos', 'photos16k', 'scenes', 'kodak', 'bsds300'\]"
    with pytest.raises(ValueError, match=rf"source: expected one of {known} or the path of a folder of .* 'imagenet'"):
        load("imagenet")
