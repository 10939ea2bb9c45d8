"""`colorstudy colorize | train | evaluate | data | weights | prior | trial`: the package from a shell.

Only the command that is asked for imports what it needs, so that ``colorstudy --help`` answers at once.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import colorstudy


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 a failure among its inputs, 2 a wrong argument or file, 130 an interruption."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if argv[:2] == ["data", "weights"]:  # they are data, too
        argv = argv[1:]
    options = _parser(argv).parse_args(argv)
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"colorstudy: warning: {message}", file=sys.stderr)
        try:
            return options.run(options)
        except (ValueError, OSError, FloatingPointError) as error:
            print(f"colorstudy: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("colorstudy: interrupted", file=sys.stderr)
            return 130


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("colorstudy", description=colorstudy.__doc__)
    parser.add_argument("--version", action="version", version=f"%(prog)s {colorstudy.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__[1:], help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    colorize = command(_colorize)
    colorize.add_argument("pictures", nargs="+", type=Path, metavar="FILES", help="pictures, folders of them, or clips")
    run = "a finished run, its weights, or full (the default) or l2, which come with the package"
    colorize.add_argument("--run", dest="model", default="full", metavar="RUN", help=run)
    colorize.add_argument(
        "-o", "--out", required=True, type=Path, help="folder for what is coloured; of one clip, a file"
    )
    colorize.add_argument("--temperature", type=float, help="of the annealed mean, > 0; the method's own by default")
    colorize.add_argument("--overwrite", action="store_true", help="replace files that are there already")
    clips = colorize.add_argument_group("clips")
    clips.add_argument(
        "--smoothing",
        choices=["none", "exponential", "flow"],
        default="flow",
        help="average over the frames before: not at all, in place, or along the motion (the default)",
    )
    clips.add_argument("--resume", action="store_true", help="go on with a clip where an earlier call was interrupted")

    train = command(_train)
    train.add_argument("method", metavar="METHOD", help="such as l2, class or full")
    _add_data(train, "--data", default="photos")
    train.add_argument("-o", "--out", required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--start", metavar="RUN", help="a finished run, for a method that starts from another's network")
    train.add_argument("--overwrite", action="store_true", help="start anew where the folder holds another run")
    if argv[:1] == ["train"]:
        from colorstudy.training import TrainConfig

        _add_settings(train, TrainConfig)

    evaluate = command(_evaluate)
    evaluate.add_argument("model", metavar="RUN", help="a finished run, or its weights")
    _add_data(evaluate, "--data", default="photos")
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="write the scores of every picture here")

    _add_data(command(_data), "data")
    weights = command(_weights)
    weights.add_argument("name", choices=["zhang"], help="those of Zhang et al. 2016, 130 MB")
    weights.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder for the file; the cache by default")
    audit = command(_prior).add_subparsers(required=True, metavar="audit").add_parser("audit", help="print the checks")
    audit.add_argument("file", type=Path, metavar="FILE", help=".npy, (Q,): the frequency of every bin")
    audit.add_argument("--centers", type=Path, metavar="FILE", help=".npy, (Q, 2), in ab; the 313 in gamut by default")
    _add_trial(command(_trial), argv)
    return parser


def _add_data(parser: argparse.ArgumentParser, name: str, **options: str) -> None:
    parser.add_argument(
        name,
        metavar="SOURCE",
        help="photos, the embedded ones; cifar10, stl10 or bsds500; or a folder of pictures",
        **options,
    )
    parser.add_argument("--size", type=int, default=128, help="side of the pictures in pixels, 128 by default")


def _add_trial(parser: argparse.ArgumentParser, argv: list[str]) -> None:
    """The commands of the human trial: build, serve, answers."""
    parts = parser.add_subparsers(dest="part", required=True, metavar="build | serve | answers")
    build = parts.add_parser("build", help="write the page of a trial, and its key beside it")
    build.add_argument("runs", nargs="+", metavar="RUN", help="finished runs, one a method")
    build.add_argument("--data", metavar="SOURCE", default="photos", help="as for train; its test pictures are shown")
    build.add_argument("-o", "--out", required=True, type=Path, metavar="FOLDER", help="new folder for the page")
    build.add_argument("--participants", type=int, required=True, help="sessions that the page has")
    build.add_argument("--post", metavar="URL", help="send every answer there as well")
    if argv[:2] == ["trial", "build"]:
        from colorstudy.trial.design import Design

        _add_settings(build, Design)
    serve = parts.add_parser("serve", help="serve the page and collect its answers, on this machine alone by default")
    answers = parts.add_parser("answers", help="write the collected answers as CSV, or delete those of a participant")
    for part in (serve, answers):
        part.add_argument("page", type=Path, metavar="FOLDER", help="of trial build; its key lies beside it")
        part.add_argument("--answers", type=Path, metavar="FILE", help="SQLite; <FOLDER>.answers.sqlite by default")
    serve.add_argument("--host", default="127.0.0.1", help="127.0.0.1 by default")
    serve.add_argument("--port", type=int, default=8000, help="8000 by default")
    answers.add_argument("-o", "--out", type=Path, metavar="CSV", help="file for the answers")
    answers.add_argument("--delete", metavar="CODE", help="remove all answers of this participant")


def _add_settings(parser: argparse.ArgumentParser, owner: type) -> None:
    """An option for every field of the dataclass `owner`, named like it; `_settings` reads them."""
    settings = parser.add_argument_group("settings", f"see {owner.__module__}.{owner.__name__}")
    for field in fields(owner):
        name, default = f"--{field.name.replace('_', '-')}", field.default
        kind = {"action": argparse.BooleanOptionalAction} if isinstance(default, bool) else {"type": type(default)}
        settings.add_argument(name, default=default, help=f"{default} by default", **kind)


def _settings(options: argparse.Namespace, owner: type) -> Any:
    """The `owner` of what `_add_settings` asked for."""
    return owner(**{field.name: getattr(options, field.name) for field in fields(owner)})


def _colorize(options: argparse.Namespace) -> int:
    """Colour pictures or clips with a trained model."""
    from PIL import Image

    from colorstudy._files import replacing
    from colorstudy.colorize import Colorizer
    from colorstudy.data import read
    from colorstudy.data.readers import CLIP_EXTENSIONS

    targets = _targets(options.pictures, options.out, options.overwrite, CLIP_EXTENSIONS)
    if any(source.suffix.lower() in CLIP_EXTENSIONS for source in targets.values()):  # FFmpeg takes 100 MiB
        from colorstudy.video import Clip, colorize_clip
    colorizer = Colorizer.load(options.model)
    chosen = {name: getattr(options, name) for name in ("smoothing", "temperature", "resume", "overwrite")}
    failed = False
    for target, source in targets.items():
        try:
            is_clip = source.suffix.lower() in CLIP_EXTENSIONS
            content = Clip(source) if is_clip else read(source)
        except (OSError, ValueError) as error:
            failed = True
            print(f"colorstudy: skipped {error}", file=sys.stderr)
            continue
        if is_clip:
            colorize_clip(content, target, colorizer, **chosen)
        else:
            with replacing(target) as temporary:
                colored = colorizer.colorize(content, options.temperature)
                Image.fromarray(colored).save(temporary, quality=95)  # of JPEG; PNG loses nothing
        print(target)
    return int(failed)


def _targets(places: list[Path], out: Path, overwrite: bool, clips: Sequence[str]) -> dict[Path, Path]:
    """Where each picture or clip goes: coloured file -> source, checked before any is made.

    A picture out of a folder keeps its place below that folder. JPEG files stay JPEG, all others become PNG; what ends
    on one of `clips` becomes MP4. A single clip goes to `out` itself, if that has the name of a file.
    """
    from colorstudy._checks import require
    from colorstudy.data.folder import pictures_below

    sources: dict[Path, Path] = {}  # picture -> its name
    for place in places:
        if not place.exists():
            raise FileNotFoundError(f"pictures: expected files or folders, got {place}, which does not exist")
        names = pictures_below(place) if place.is_dir() else []
        require(place.is_file() or len(names) > 0, "pictures", "files or folders of pictures", f"{place}, with none")
        sources |= {place / name: Path(name) for name in names} or {place: Path(place.name)}
    originals = {source.resolve() for source in sources}
    targets: dict[Path, Path] = {}
    kept = {".jpg", ".jpeg", ".png", ".mp4"}
    for source, name in sources.items():
        suffix = name.suffix.lower()
        target = out / (name if suffix in kept else name.with_suffix(".mp4" if suffix in clips else ".png"))
        if suffix in clips and len(sources) == 1 and out.suffix:
            target = out
        require(target not in targets, "pictures", f"one for {target}", f"{source} and {targets.get(target)}")
        require(target.resolve() not in originals, "out", "another place than that of the sources", out)
        require(overwrite or not target.exists(), "out", "no such file there, or --overwrite", target)
        targets[target] = source
    return targets


def _train(options: argparse.Namespace) -> int:
    """Train a method, or go on where an earlier call stopped."""
    from colorstudy import _parallel
    from colorstudy.data import load
    from colorstudy.methods import get
    from colorstudy.training import TrainConfig, fit

    config = _settings(options, TrainConfig)
    bank = load(options.data, size=options.size)
    fit(get(options.method), bank, config, options.out, start=options.start, overwrite=options.overwrite)
    _parallel.leave()
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    """Score a trained model on test pictures, with intervals over the pictures."""
    from colorstudy import metrics, statistics
    from colorstudy._files import replacing
    from colorstudy.colorize import Colorizer
    from colorstudy.data import load
    from colorstudy.evaluation import evaluate

    table = evaluate(Colorizer.load(options.model), load(options.data, size=options.size))
    if options.csv:
        with replacing(options.csv) as temporary:
            table.to_csv(temporary)
    scores = statistics.bootstrap(table.reset_index().assign(seed=0), metrics.scores_in(table))
    print(scores[["mean", "low", "high"]].to_string(float_format="{:.4f}".format))
    return 0


def _data(options: argparse.Namespace) -> int:
    """Say what a source holds, and which files are left out."""
    from colorstudy.data import load

    warnings.simplefilter("ignore", UserWarning)  # it would name the skipped files once more
    bank = load(options.data, size=options.size)
    lines = [f"{key:<8} {value}" for key, value in bank.summary().items()]
    lines += [f"skipped: {name} ({reason})" for name, reason in bank.skipped.items()]
    print(*lines, *(f"grey: {name}" for name in bank.grey), sep="\n")
    return 0


def _weights(options: argparse.Namespace) -> int:
    """Download published weights, and print where they are."""
    from colorstudy import release

    print(release.download(options.out))
    return 0


def _trial(options: argparse.Namespace) -> int:
    """Ask people: real or fake?"""
    from colorstudy._files import replacing

    if options.part == "build":
        return _build_trial(options)
    from colorstudy.trial.page import read_key
    from colorstudy.trial.server import Answers, serve

    key = read_key(options.page)
    answers = Answers(options.answers or options.page.with_name(f"{options.page.name}.answers.sqlite"), key)
    try:
        if options.part == "serve":
            print(f"http://{options.host}:{options.port}/ (Ctrl+C ends it)", flush=True)
            serve(options.page, answers, options.host, options.port)
        if getattr(options, "delete", None):
            print(f"{answers.delete(options.delete)} answers of {options.delete} deleted")
        if getattr(options, "out", None):
            with replacing(options.out) as temporary:
                answers.table().to_csv(temporary, index=False)
            print(options.out)
    finally:
        answers.close()
    return 0


def _build_trial(options: argparse.Namespace) -> int:
    """The page of a trial from finished runs."""
    from colorstudy._checks import require
    from colorstudy.colorize import Colorizer
    from colorstudy.data import load
    from colorstudy.trial.design import Design
    from colorstudy.trial.page import build

    design = _settings(options, Design)
    bank = load(options.data, size=design.size).test
    true = {name: image.copy() for name, image in zip(bank.names, bank.images)}
    fakes = {}
    for run in options.runs:
        colorizer = Colorizer.load(run)
        name = colorizer.model.method.name
        require(name not in fakes, "runs", "one of each method", f"two of {name}")
        fakes[name] = {picture: colorizer.colorize(image) for picture, image in true.items()}
    build(options.out, true, fakes, options.participants, design, post=options.post)
    print(options.out / "index.html")
    return 0


def _prior(options: argparse.Namespace) -> int:
    """Test whether a prior file can be what it claims."""
    from colorstudy import prior
    from colorstudy.bins import ColorBins

    centers = _array(options.centers) if options.centers else ColorBins.in_gamut().centers
    checks = prior.audit(centers, _array(options.file))
    print(checks.to_string(float_format="{:.4g}".format))
    return int(not checks["passed"].all())


def _array(path: Path):
    """The numbers in a .npy file, which is data and never code."""
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (EOFError, ValueError) as error:
        raise ValueError(f"{path}: expected a .npy file of numbers, got {error}") from None
    if getattr(array, "dtype", np.dtype(object)).kind not in "iuf":
        raise ValueError(f"{path}: expected a .npy file of numbers, got {array}")
    return array
