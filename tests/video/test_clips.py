"""Clips of many kinds, made here, are read, coloured, resumed; broken ones are refused."""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from fractions import Fraction
from types import SimpleNamespace

import av
import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

from colorstudy import cli, color
from colorstudy.colorize import Colorizer
from colorstudy.data import photos
from colorstudy.methods import get
from colorstudy.model import Model
from colorstudy.video import files
from colorstudy.video import smoothing as smoothing_module
from colorstudy.video.clips import clip
from colorstudy.video.files import Clip, excerpt
from colorstudy.video.flow import is_cut
from colorstudy.video.smoothing import SMOOTHINGS, Smoother, colorize_clip, colorize_frame


def moving(frames, width, height):
    """Frames (H, W, 3) of a photograph before which the camera moves."""
    image = photos(size=256).test.images[0]
    return [np.ascontiguousarray(image[t : t + height, 2 * t : 2 * t + width]) for t in range(frames)]


def make(
    path,
    frames,
    *,
    pts=None,
    codec="libx264",
    pix_fmt="yuv420p",
    sound=0.0,
    rotation=0,
    exact=False,
    aspect=1,
    **options,
):
    """Write `frames` as a clip of 25 frames a second, or at times `pts` in ms, with `sound` seconds of a tone."""
    base = Fraction(1, 25) if pts is None else Fraction(1, 1000)
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=25, options={"crf": "1"} if exact else {})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt, stream.codec_context.time_base = pix_fmt, base
        stream.codec_context.sample_aspect_ratio = Fraction(aspect)
        if rotation:
            stream.set_display_rotation(rotation)
        tone = container.add_stream("aac", rate=8000, layout="mono") if sound else None
        for t, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = (t if pts is None else pts[t]), base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if tone:
            wave = (8000 * np.sin(np.arange(int(8000 * sound)) * 0.3)).astype(np.int16)[None]
            for i in range(0, wave.shape[1], 1024):
                frame = av.AudioFrame.from_ndarray(wave[:, i : i + 1024], format="s16", layout="mono")
                frame.sample_rate, frame.pts = 8000, i
                container.mux(tone.encode(frame))
            container.mux(tone.encode())
    return path


def flip(path, bits):
    """Flip `bits` random bits of a file, by their generator and number."""
    data, (rng, number) = bytearray(path.read_bytes()), bits
    for place in rng.integers(8 * len(data), size=number):
        data[place // 8] ^= 1 << (place % 8)
    path.write_bytes(data)


def content(path):
    """Pixels and times, in seconds, of all frames."""
    found = Clip(path)
    return [(frame.pixels, frame.pts * found.time_base) for frame in found.frames()]


@pytest.fixture(scope="module")
def colorizer():
    """With random weights, scaled so that its colours are strong and depend on every pixel."""
    torch.manual_seed(0)
    model = Model.build(get("class"), photos(size=64).train.images)
    model.network.head.weight.data *= 300
    model.size = 48
    return Colorizer(model)


@pytest.fixture(scope="module")
def weights(colorizer, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    colorizer.model.save(path)
    return path


@pytest.fixture(scope="module")
def command(forks):
    """Starts the command line, with segments of some frames and a limit on the size of files, in bytes, or None."""
    code = """
import os, resource, signal
import colorstudy.video.smoothing as video
from colorstudy.cli import main
def call(segment, limit, *argv):
    video.colorize_clip.__kwdefaults__["segment"] = segment
    if limit:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    os._exit(main(argv))
"""
    return forks(code)


class TestReading:
    def test_frames_come_with_their_times(self, tmp_path):
        pts = [0, 40, 60, 200, 210, 1000]
        path = make(tmp_path / "variable.mkv", moving(6, 96, 64), pts=pts, exact=True)
        assert [time for _, time in content(path)] == [Fraction(t, 1000) for t in pts]

    @pytest.mark.parametrize(("codec", "suffix", "pix_fmt"), [
        ("libx264", ".mp4", "yuv420p"), ("mpeg4", ".avi", "yuv420p"), ("ffv1", ".mkv", "gray"),
        ("libvpx-vp9", ".webm", "yuv420p"), ("ffv1", ".mkv", "yuv422p10le"), ("mjpeg", ".mov", "yuvj420p"),
        ("mpeg2video", ".ts", "yuv420p"),
    ])  # fmt: skip
    def test_of_many_kinds(self, tmp_path, codec, suffix, pix_fmt):
        frames = moving(12, 96, 64)
        path = make(tmp_path / f"clip{suffix}", frames, codec=codec, pix_fmt=pix_fmt, pts=None)
        found = content(path)
        assert len(found) == 12
        for (pixels, _), frame in zip(found, frames):
            lightness, truth = (p.astype(float) @ [0.299, 0.587, 0.114] for p in (pixels, frame))
            assert abs(lightness - truth).mean() < 10
        if pix_fmt == "gray":
            assert np.ptp(found[0][0], axis=2).max() == 0

    @pytest.mark.parametrize("width", [95, 96])
    def test_rotation_is_applied(self, tmp_path, width):
        frames = moving(4, width, 64)
        upright = make(tmp_path / "upright.mp4", frames, exact=True, pix_fmt="yuv444p")
        turned = make(tmp_path / "turned.mp4", frames, exact=True, pix_fmt="yuv444p", rotation=90)
        found = Clip(turned)
        assert found.size == (width, 64)
        for (a, _), (b, _) in zip(content(upright), content(turned)):
            assert np.array_equal(np.rot90(a, found.turns), b)

    def test_a_phone_held_upright_is_turned_clockwise(self, tmp_path):
        """The matrix that phones write: (x, y) on the sensor is (-y, x) on the screen."""
        path = make(tmp_path / "phone.mov", moving(3, 96, 64), exact=True)
        content_ = bytearray(path.read_bytes())
        matrix = content_.index(b"tkhd") + 4 + 40
        one = 1 << 16
        content_[matrix : matrix + 36] = b"".join(
            v.to_bytes(4, "big", signed=True) for v in (0, one, 0, -one, 0, 0, 0, 0, 1 << 30)
        )
        path.write_bytes(content_)
        assert Clip(path).turns == 3
        stored = np.rot90(content(path)[0][0], 1)
        assert abs(stored.astype(float) - moving(1, 96, 64)[0]).mean() < 12

    def test_music_with_a_picture_is_no_clip(self, tmp_path):
        with av.open(str(tmp_path / "song.m4a"), "w", format="mp4") as container:
            tone = container.add_stream("aac", rate=8000, layout="mono")
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.int16), format="s16", layout="mono")
            frame.sample_rate = 8000
            container.mux(tone.encode(frame))
            container.mux(tone.encode())
        with pytest.raises(ValueError, match=r"song\.m4a: expected a clip with a video stream, got only \['audio'\]"):
            Clip(tmp_path / "song.m4a")

    def test_what_is_no_clip_is_named(self, tmp_path):
        with pytest.raises(FileNotFoundError, match="path: expected a clip"):
            Clip(tmp_path / "none.mp4")
        for name, data in {"empty.mp4": b"", "noise.mp4": os.urandom(5000), "text.mkv": b"hello " * 100}.items():
            (tmp_path / name).write_bytes(data)
            with pytest.raises(ValueError, match=f"{name}: expected a clip that FFmpeg decodes"):
                Clip(tmp_path / name)
        with pytest.raises(ValueError, match="expected a clip that FFmpeg decodes"):
            Clip(tmp_path)

    def test_a_clip_without_frames(self, tmp_path):
        with av.open(str(tmp_path / "none.mkv"), "w") as container:
            stream = container.add_stream("libx264", rate=25)
            stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
            container.start_encoding()
        with pytest.raises(ValueError, match=r"none\.mkv: expected a clip"):
            Clip(tmp_path / "none.mkv")

    @pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
    @pytest.mark.parametrize("suffix", [".mp4", ".mov", ".mkv", ".webm"])
    def test_a_clip_that_is_cut_off(self, tmp_path, suffix, share):
        options = {"movflags": "faststart"} if suffix in (".mp4", ".mov") else {}
        codec = "libvpx-vp9" if suffix == ".webm" else "libx264"
        whole = make(tmp_path / f"whole{suffix}", moving(100, 56, 48), codec=codec, **options).read_bytes()
        path = tmp_path / f"cut{suffix}"
        path.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=rf"cut{suffix}: expected"):
            content(path)


class TestColorizing:
    @pytest.mark.parametrize("smoothing", SMOOTHINGS)
    def test_lightness_and_times_stay(self, colorizer, tmp_path, smoothing):
        pts = [0, 40, 60, 200, 210, 240, 280, 300]
        source = make(tmp_path / "in.mkv", moving(8, 96, 64), pts=pts, exact=True)
        out = colorize_clip(source, tmp_path / "out.mkv", colorizer, smoothing=smoothing, progress=False, segment=3)
        before, after = content(source), content(out)
        assert [t for _, t in after] == [t for _, t in before]
        for (a, _), (b, _) in zip(before, after):
            grey = [p.astype(float) @ [0.2126, 0.7152, 0.0722] for p in (a, b)]
            assert abs(grey[0] - grey[1]).mean() < 6
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mkv", "out.mkv"]

    def test_without_smoothing_a_frame_is_a_picture(self, colorizer, tmp_path):
        source = make(tmp_path / "in.mp4", moving(3, 96, 64))
        out = colorize_clip(source, tmp_path / "out.mp4", colorizer, smoothing="none", progress=False)
        for (grey, _), (colored, _) in zip(content(source), content(out)):
            assert abs(colorizer.colorize(grey).astype(float) - colored).mean() < 5  # 4:2:0, compressed

    def test_colours_of_the_source_are_ignored(self, colorizer):
        """As far as a byte can hold the lightness of a colour."""
        frames = moving(6, 96, 64)
        others = [colorizer.colorize(frame) for frame in frames]  # other colours of the same lightness
        for kind in ("exponential", "flow"):
            smoothers = [(Smoother(kind), clip) for clip in (frames, others)]
            a, b = ([colorize_frame(colorizer, color.to_tensor(frame)[None], smoother) for frame in clip]
                    for smoother, clip in smoothers)  # fmt: skip
            assert 255 * (torch.cat(a) - torch.cat(b)).abs().mean() < 3

    @pytest.mark.parametrize(("width", "height"), [(95, 63), (96, 63), (17, 33)])
    def test_odd_sizes_stay(self, colorizer, tmp_path, width, height):
        source = make(tmp_path / "in.mkv", moving(3, width, height), pix_fmt="yuv444p")
        found = Clip(colorize_clip(source, tmp_path / "out.mp4", colorizer, progress=False))
        assert found.size == (height, width)

    def test_pixels_keep_their_shape(self, colorizer, tmp_path):
        source = make(tmp_path / "in.mp4", moving(3, 88, 72), aspect=Fraction(128, 117))
        out = colorize_clip(source, tmp_path / "out.mp4", colorizer, smoothing="none", progress=False)
        assert Clip(out).pixel_aspect == Fraction(128, 117)

    @pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
    def test_sound_is_copied(self, colorizer, tmp_path, suffix):
        source = make(tmp_path / "in.mp4", moving(30, 64, 48), sound=1.2)
        out = colorize_clip(source, tmp_path / f"out{suffix}", colorizer, progress=False, segment=8)
        packets = []
        for path in (source, out):
            with av.open(str(path)) as container:
                packets.append([bytes(p) for p in container.demux(audio=0) if p.size])
        assert packets[0] == packets[1] and len(packets[0]) > 5

    def test_a_regression_is_smoothed_too(self, tmp_path):
        torch.manual_seed(0)
        regression = Colorizer(Model.build(get("l2"), photos(size=64).train.images), 48)
        source = make(tmp_path / "in.mp4", moving(5, 96, 64))
        for smoothing in SMOOTHINGS:
            colorize_clip(source, tmp_path / f"{smoothing}.mp4", regression, smoothing=smoothing, progress=False)
        a, b, _ = (np.stack([p for p, _ in content(tmp_path / f"{s}.mp4")]).astype(int) for s in SMOOTHINGS)
        assert abs(a - b)[1:].max() > 0

    def test_smoothing_steadies(self, colorizer, tmp_path):
        """Noise in the source makes colours flicker."""
        rng = np.random.default_rng(0)
        still = moving(1, 96, 64)[0].astype(float)
        frames = [np.clip(still + rng.normal(0, 12, still.shape), 0, 255).astype(np.uint8) for _ in range(16)]
        changes = {}
        for smoothing in SMOOTHINGS:
            source = make(tmp_path / "in.mkv", frames, exact=True, pix_fmt="yuv444p")
            out = colorize_clip(
                source, tmp_path / "out.mkv", colorizer, smoothing=smoothing, progress=False, overwrite=True
            )
            rgb = np.stack([pixels for pixels, _ in content(out)]).astype(float)
            opponent = np.stack([rgb[..., 0] - rgb[..., 1], rgb[..., 2] - rgb[..., 1]])
            changes[smoothing] = abs(np.diff(opponent, axis=1))[:, 4:].mean()
        assert changes["exponential"] < 0.7 * changes["none"]
        assert changes["flow"] < 0.8 * changes["none"]

    def test_bad_arguments_are_named(self, colorizer, tmp_path):
        source = make(tmp_path / "in.mp4", moving(2, 64, 48))
        (tmp_path / "there.mp4").write_bytes(b"mine")
        for options, error, named in [
            ({"out": "out.webm"}, ValueError, "out: expected a file of one of"),
            ({"out": "in.mp4", "overwrite": True}, ValueError, "out: expected another file than the source"),
            ({"out": "there.mp4"}, FileExistsError, "out: expected a new file, or overwrite"),
            ({"smoothing": "magic"}, ValueError, "kind: expected one of"),
            ({"segment": 0}, ValueError, "segment: expected"),
            ({"colorizer": colorizer.decoding(temperature=-1.0)}, ValueError, "temperature: expected"),
        ]:
            options = {"out": "out.mp4", "colorizer": colorizer, "progress": False} | options
            with pytest.raises(error, match=named):
                colorize_clip(source, tmp_path / options.pop("out"), **options)
        assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "there.mp4"]
        assert (tmp_path / "there.mp4").read_bytes() == b"mine"

    @pytest.mark.parametrize("share", [0.5, 0.95])
    def test_a_clip_that_is_cut_off_gives_no_output(self, colorizer, tmp_path, share):
        whole = make(tmp_path / "whole.mp4", moving(100, 56, 48), movflags="faststart").read_bytes()
        source = tmp_path / "cut.mp4"
        source.write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match=r"cut\.mp4: expected"):
            colorize_clip(source, tmp_path / "out.mp4", colorizer, progress=False)
        assert not (tmp_path / "out.mp4").exists()


class TestResuming:
    @pytest.mark.parametrize("smoothing", SMOOTHINGS)
    def test_gives_the_frames_of_an_uninterrupted_run(self, colorizer, tmp_path, monkeypatch, smoothing):
        source = make(tmp_path / "in.mp4", moving(20, 96, 64), sound=0.8)
        whole = colorize_clip(source, tmp_path / "whole.mp4", colorizer, smoothing=smoothing, progress=False, segment=4)
        seen = []

        def stop(lightness):
            seen.append(lightness)
            if len(seen) == 11:
                raise KeyboardInterrupt
            return Colorizer.predict(colorizer, lightness)

        options = {"smoothing": smoothing, "progress": False, "segment": 4}
        with monkeypatch.context() as patched:
            patched.setattr(colorizer, "predict", stop, raising=False)
            with pytest.raises(KeyboardInterrupt):
                colorize_clip(source, tmp_path / "out.mp4", colorizer, **options)
            assert not (tmp_path / "out.mp4").exists()
            other = {"smoothing": "flow" if smoothing != "flow" else "none"}
            with pytest.raises(ValueError, match="resume: expected segments of the same smoothing"):
                colorize_clip(source, tmp_path / "out.mp4", colorizer, **options | other, resume=True)
            with pytest.raises(ValueError, match="resume: expected segments of the same options"):
                colorize_clip(source, tmp_path / "out.mp4", colorizer.decoding(temperature=0.9), **options, resume=True)
            patched.setitem(files.H264, "crf", "30")
            with pytest.raises(ValueError, match="resume: expected segments of the same encoding"):
                colorize_clip(source, tmp_path / "out.mp4", colorizer, **options, resume=True)
            patched.setitem(files.H264, "crf", "17")
            seen[:] = [None] * 20
            out = colorize_clip(source, tmp_path / "out.mp4", colorizer, **options, resume=True)
            assert len(seen) == 20 + 12  # 8 of 20 frames were there
        for (a, s), (b, t) in zip(content(whole), content(out), strict=True):
            assert s == t and np.array_equal(a, b)
        assert whole.read_bytes() == out.read_bytes()

    def test_a_killed_process(self, weights, command, tmp_path):
        """From the command line, by SIGKILL, as an interruption really is."""
        source = make(tmp_path / "in.mp4", moving(60, 96, 64))
        log = tmp_path / "log"

        def colorize(name, *options):
            arguments = ["colorize", str(source), "--run", str(weights), "-o", str(tmp_path / name), *options]
            return command.start(log, 6, None, *arguments)

        assert command.wait(colorize("whole.mp4")) == 0, log.read_text()
        pid = colorize("out.mp4")
        parts, end = tmp_path / ".out.mp4.parts", time.monotonic() + 60
        while not list(parts.glob("00000[3-9].*.nut")) and time.monotonic() < end:
            time.sleep(0.002)
        os.kill(pid, signal.SIGKILL)
        assert command.wait(pid) == -9
        assert not (tmp_path / "out.mp4").exists()
        assert command.wait(colorize("out.mp4", "--resume")) == 0, log.read_text()
        assert (tmp_path / "whole.mp4").read_bytes() == (tmp_path / "out.mp4").read_bytes()
        assert not parts.exists()

    @pytest.mark.parametrize("smoothing", ["none", "exponential", "flow"])
    def test_what_is_damaged_is_made_again(self, colorizer, tmp_path, monkeypatch, smoothing):
        """One bit of each segment and state in turn, of an earlier call that was interrupted."""
        source = make(tmp_path / "in.mp4", moving(18, 64, 48))
        options = {"smoothing": smoothing, "progress": False, "segment": 4}
        whole = colorize_clip(source, tmp_path / "whole.mp4", colorizer, **options)
        parts, saved = tmp_path / ".out.mp4.parts", tmp_path / "saved"
        with monkeypatch.context() as patched:
            patched.setattr(smoothing_module, "joined", stop)
            with pytest.raises(KeyboardInterrupt):
                colorize_clip(source, tmp_path / "out.mp4", colorizer, **options)
        shutil.copytree(parts, saved)
        rng, names = (
            np.random.default_rng(0),
            sorted(p.name for p in saved.iterdir() if p.suffix in (".nut", ".safetensors")),
        )
        assert len(names) == 5 + 1
        for name in names:
            shutil.copytree(saved, parts, dirs_exist_ok=True)
            flip(parts / name, (rng, 1))
            with pytest.warns(UserWarning, match=f"{name}'. are damaged"):
                out = colorize_clip(source, tmp_path / "out.mp4", colorizer, **options, resume=True, overwrite=True)
            assert out.read_bytes() == whole.read_bytes(), name

    def test_goes_on_from_the_last_good_state(self, colorizer, tmp_path, monkeypatch):
        """Of 70 segments of one frame the state of every 64th stays, and only what comes after is made again."""
        source = make(tmp_path / "in.mp4", moving(70, 32, 24))
        options = {"smoothing": "exponential", "progress": False, "segment": 1}
        whole = colorize_clip(source, tmp_path / "whole.mp4", colorizer, **options)
        with monkeypatch.context() as patched:
            patched.setattr(smoothing_module, "joined", stop)
            with pytest.raises(KeyboardInterrupt):
                colorize_clip(source, tmp_path / "out.mp4", colorizer, **options)
        (segment,) = (tmp_path / ".out.mp4.parts").glob("000067.*.nut")
        segment.write_bytes(segment.read_bytes()[:-1])
        seen = []

        def count(lightness):
            seen.append(lightness)
            return Colorizer.predict(colorizer, lightness)

        monkeypatch.setattr(colorizer, "predict", count, raising=False)
        with pytest.warns(UserWarning, match="are damaged"):
            out = colorize_clip(source, tmp_path / "out.mp4", colorizer, **options, resume=True)
        assert len(seen) == 70 - 64 and out.read_bytes() == whole.read_bytes()

    def test_two_at_once(self, colorizer, tmp_path):
        source = make(tmp_path / "in.mp4", moving(3, 64, 48))
        (tmp_path / ".out.mp4.parts").mkdir()
        with (
            FileLock(tmp_path / ".out.mp4.parts" / "lock"),
            pytest.raises(ValueError, match="out: expected a clip that no other process makes"),
        ):
            colorize_clip(source, tmp_path / "out.mp4", colorizer, progress=False)


def stop(*_):
    raise KeyboardInterrupt


class TestDamage:
    @pytest.fixture
    def concealed(self, tmp_path):
        """A clip of which FFmpeg decodes every frame, and patches some up."""
        path = make(tmp_path / "damaged.mp4", moving(40, 96, 64), movflags="faststart")
        sound = path.read_bytes()  # not the same bytes each time, so the damage that FFmpeg notices is looked for
        for start in range(len(sound) // 2, len(sound), 40):
            path.write_bytes(sound[:start] + b"U" * 40 + sound[start + 40 :])
            with suppress(av.FFmpegError), av.open(str(path)) as container:
                noticed = [frame.is_corrupt for frame in container.decode(video=0)]
                if len(noticed) == 40 and any(noticed):
                    return path
        raise AssertionError("FFmpeg patches up no frame, wherever the clip is damaged")

    def test_patched_frames_are_counted(self, concealed):
        found = Clip(concealed)
        assert found.damaged == 0
        assert len([*found.frames()]) == 40 and 1 <= found.damaged < 40
        with pytest.raises(ValueError, match=r"damaged\.mp4: expected an undamaged clip, got a damaged frame after"):
            list(found.frames(strict=True))

    def test_they_are_reported_or_refused(self, concealed, weights, tmp_path, capsys):
        out = tmp_path / "out.mp4"
        command = ["colorize", str(concealed), "--run", str(weights), "-o", str(out), "--smoothing", "none"]
        assert cli.main([*command, "--strict"]) == 1 and not out.exists()
        assert "damaged.mp4: expected an undamaged clip" in capsys.readouterr().err
        assert cli.main(command) == 0 and len(content(out)) == 40
        assert f"{concealed}: {patched(concealed)} damaged frames, patched up by FFmpeg" in capsys.readouterr().err

    def test_a_sound_clip_has_none(self, tmp_path):
        for codec, suffix in (("libx264", ".mp4"), ("mpeg4", ".avi"), ("libvpx-vp9", ".webm"), ("mpeg2video", ".ts")):
            assert patched(make(tmp_path / f"clip{suffix}", moving(12, 96, 64), codec=codec)) == 0

    def test_one_that_breaks_midway_stops_no_batch(self, weights, tmp_path, capsys):
        sources = [make(tmp_path / f"{name}.mp4", moving(60, 56, 48), movflags="faststart") for name in "abc"]
        sources[1].write_bytes(sources[1].read_bytes()[: sources[1].stat().st_size // 2])
        picture = tmp_path / "d.png"
        Image.fromarray(moving(1, 64, 48)[0]).save(picture)
        command = ["colorize", *map(str, [*sources, picture]), "--run", str(weights), "-o", str(tmp_path / "out")]
        assert cli.main([*command, "--smoothing", "none"]) == 1
        assert sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_file()) == ["a.mp4", "c.mp4", "d.png"]
        assert "skipped" in (told := capsys.readouterr().err) and "b.mp4: expected" in told

    def test_frames_of_noise_are_written(self, tmp_path):
        """The first packet is larger than the 5 MB that FFmpeg looks at to tell what a file holds."""
        noise = np.random.default_rng(0).integers(0, 256, (2160, 3840, 3), dtype=np.uint8)
        form = SimpleNamespace(rate=25, time_base=Fraction(1, 25), size=(2160, 3840), pixel_aspect=Fraction(1))
        for suffix in (".nut", ".mkv"):
            path = tmp_path / f"noise{suffix}"
            files.write(path, files.encoded, [files.Frame(noise, t) for t in range(2)], form)
            assert path.stat().st_size > 5e6


def patched(path):
    found = Clip(path)
    assert len([*found.frames()]) > 0
    return found.damaged


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files by a POSIX call")
@pytest.mark.parametrize(("smoothing", "limit"), [("none", 1_500), ("exponential", 50_000), ("none", None)])
def test_a_full_disk_leaves_no_output(colorizer, weights, command, tmp_path, smoothing, limit):
    """A limit on the size of files fails as a full disk does: in a segment, in the state, or in the joined file."""
    source = make(tmp_path / "in.mp4", moving(60, 56, 48), sound=2.4)
    if limit is None:
        options = {"smoothing": smoothing, "segment": 10, "progress": False}
        whole = colorize_clip(source, tmp_path / "whole.mp4", colorizer, **options)
        limit = whole.stat().st_size - 500
    out, log = tmp_path / "out.mp4", tmp_path / "log"
    arguments = ["colorize", str(source), "--run", str(weights), "-o", str(out), "--smoothing", smoothing]
    assert command.wait(command.start(log, 10, limit, *arguments)) == 2, log.read_text()[-500:]
    assert "colorstudy: error:" in log.read_text() and "expected" in log.read_text(), log.read_text()[-500:]
    assert not out.exists()


class TestCommand:
    def test_a_clip_to_a_file(self, weights, tmp_path, capsys):
        source = make(tmp_path / "in.mp4", moving(4, 64, 48))
        out = tmp_path / "out.mp4"
        assert cli.main(["colorize", str(source), "--run", str(weights), "-o", str(out), "--smoothing", "flow"]) == 0
        assert capsys.readouterr().out.strip() == str(out)
        assert len(content(out)) == 4

    def test_clips_and_pictures_to_a_folder(self, weights, tmp_path, capsys):
        sources = [make(tmp_path / name, moving(3, 64, 48)) for name in ("a.mp4", "b.mkv")]
        (tmp_path / "broken.mov").write_bytes(b"no clip")
        picture = tmp_path / "c.png"
        Image.fromarray(moving(1, 64, 48)[0]).save(picture)
        command = ["colorize", *map(str, [*sources, tmp_path / "broken.mov", picture])]
        assert cli.main([*command, "--run", str(weights), "-o", str(tmp_path / "out")]) == 1
        assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["a.mp4", "b.mp4", "c.png"]
        assert "skipped" in capsys.readouterr().err


class TestExcerpt:
    def test_is_shrunk(self, tmp_path):
        path = make(tmp_path / "clip.mp4", moving(5, 96, 64))
        found = excerpt(path, 3, 32)
        assert found.shape == (3, 3, 32, 48) and found.min() >= 0 and found.max() <= 1
        assert excerpt(path, 9, 640).shape == (5, 3, 64, 96)

    def test_bad_arguments_are_named(self, tmp_path):
        with pytest.raises(ValueError, match="frames: expected at least 1"):
            excerpt(tmp_path / "clip.mp4", 0, 32)


def test_the_grey_clip_is_grey():
    frames = Clip(clip("traffic")).frames()
    first = next(frames).pixels
    assert np.ptp(first, axis=2).max() <= 2
    assert not is_cut(*(torch.from_numpy(f[..., 0].copy()) / 2.55 for f in (first, next(frames).pixels)))
