"""`colorstudy colorize | train | evaluate | data | weights | prior | trial`: the package from a shell.

Only the command that is asked for imports what it needs, so that ``colorstudy --help`` answers at once.
"""

import argparse
import io
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import colorstudy
from colorstudy.study.options import add_data, add_settings, settings

if TYPE_CHECKING:
    from colorstudy.colorize import Colorizer


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 a failure among its inputs, 2 a wrong argument or file, 130 an interruption."""
    argv = list(sys.argv[1:] if argv is None else argv)
    argv = argv[1:] if argv[:2] == ["data", "weights"] else argv  # they are data, too
    if str(Path.cwd()) not in sys.path:  # where a network or a target of yours may lie; last, so that it hides nothing
        sys.path.append(str(Path.cwd()))
    options = _parser(argv).parse_args(argv)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else a file name that is no text would be an error
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"colorstudy: warning: {message}", file=sys.stderr)
        try:
            return options.run(options)
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            print(f"colorstudy: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("colorstudy: interrupted", file=sys.stderr)
            return 130


def _parser(argv: list[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("colorstudy", description=(colorstudy.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"%(prog)s {colorstudy.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser:
        added = commands.add_parser(run.__name__[1:], help=run.__doc__, description=run.__doc__)
        added.set_defaults(run=run)
        return added

    colorize = command(_colorize)
    colorize.add_argument("pictures", nargs="+", type=Path, metavar="FILES", help="pictures, folders of them, or clips")
    run = "a finished run, its weights, or full (the default) or l2, which come with the package"
    colorize.add_argument("--run", dest="model", default="full", metavar="RUN", help=run)
    colorize.add_argument("-o", "--out", required=True, type=Path, help="folder for the results; of one clip, a file")
    colorize.add_argument("--temperature", type=float, help="of the annealed mean, > 0; the method's own by default")
    colorize.add_argument("--overwrite", action="store_true", help="replace files, and make finished ones again")
    clips = colorize.add_argument_group("clips")
    words = "average over the frames before: not at all, in place, or along the motion (the default)"
    clips.add_argument("--smoothing", choices=["none", "exponential", "flow"], default="flow", help=words)
    clips.add_argument("--resume", action="store_true", help="go on with a clip where an earlier call was interrupted")
    clips.add_argument("--strict", action="store_true", help="refuse damaged clips, of which FFmpeg patches up frames")

    train = command(_train)
    train.add_argument("method", nargs="?", metavar="METHOD", help="such as l2 or full; or say what it is made of:")
    train.add_argument("--network", help="a known one, compact by default, or package.module:Name of yours")
    train.add_argument("--target", help="regression, classification (the default), or package.module:Name of yours")
    add_data(train, "--data", default="photos")
    train.add_argument("-o", "--out", required=True, metavar="RUN", help="folder of the run")
    train.add_argument("--start", metavar="RUN", help="a finished run, for a method that starts from another's network")
    train.add_argument("--overwrite", action="store_true", help="start anew where the folder holds another run")
    if argv[:1] == ["train"]:
        from colorstudy.training import TrainConfig

        add_settings(train, TrainConfig)

    evaluate = command(_evaluate)
    evaluate.add_argument("model", metavar="RUN", help="a finished run, or its weights")
    add_data(evaluate, "--data", default="photos")
    evaluate.add_argument("--csv", type=Path, metavar="FILE", help="write the scores of every picture here")

    add_data(command(_data), "data")
    weights = command(_weights)
    weights.add_argument("name", choices=["zhang"], help="those of Zhang et al. 2016, 130 MB")
    weights.add_argument("-o", "--out", type=Path, metavar="DIR", help="folder for the file; the cache by default")
    audit = command(_prior).add_subparsers(required=True, metavar="audit").add_parser("audit", help="print the checks")
    audit.add_argument("file", type=Path, metavar="FILE", help=".npy, (Q,): the frequency of every bin")
    audit.add_argument("--centers", type=Path, metavar="FILE", help=".npy, (Q, 2), in ab; the 313 in gamut by default")
    trial = commands.add_parser("trial", help="Ask people: real or fake?")
    if argv[:1] == ["trial"]:
        from colorstudy.trial.commands import add_commands

        add_commands(trial)
    return parser


def _colorize(options: argparse.Namespace) -> int:
    """Colour pictures or clips with a trained model."""
    import numpy as np

    from colorstudy._checks import require
    from colorstudy._files import sha256
    from colorstudy._provenance import digest
    from colorstudy.study.album import mark_of, plan, write
    from colorstudy.video import CLIP_EXTENSIONS

    targets, skipped = plan(options.pictures, options.out, CLIP_EXTENSIONS)
    colorizer = _colorizer(options.model).decoding(temperature=options.temperature)
    colorizer.colorize(np.zeros((8, 8), np.uint8))  # what fails here would fail for every picture
    chosen = {name: getattr(options, name) for name in ("smoothing", "resume", "strict", "overwrite")}
    clips = {source for source in targets.values() if source.suffix.lower() in CLIP_EXTENSIONS}
    done = {target for target in targets if target.exists() and not options.overwrite}
    job = [colorizer.model.checksum, colorizer.size, colorizer.options]

    def mark(source: Path) -> str:  # of what is finished: by it an interrupted call knows what to leave
        return f"colorstudy {colorstudy.__version__} {digest([sha256(source), *job])}"

    for target in done:
        source = targets[target]
        is_ours = options.resume if source in clips else mark_of(target) == mark(source)
        expected = "no file there but those that this call has made before (of clips: with --resume), or --overwrite"
        require(is_ours, "out", expected, target)

    def make(source: Path, target: Path) -> None:
        if source in clips:  # FFmpeg takes 100 MiB
            from colorstudy.video.files import Clip
            from colorstudy.video.smoothing import colorize_clip

            colorize_clip(Clip(source), target, colorizer, **chosen)
            return
        for words in write(target, colorizer.colorize(source), source, mark(source)):
            print(f"colorstudy: lost of {source}: {words}", file=sys.stderr)

    try:
        for target in targets:
            try:
                if target not in done:
                    make(targets[target], target)
                print(target)
            except (ImportError, OSError, ValueError) as error:
                # What is made cannot be written, as on a full disk; or all that is asked for needs an extra.
                if type(error) is OSError or (isinstance(error, ImportError) and clips == {*targets.values()}):
                    raise
                skipped.append(str(error))
    finally:
        for words in skipped:
            print(f"colorstudy: skipped {words}", file=sys.stderr)
    return int(bool(skipped))


def _colorizer(run: str) -> "Colorizer":
    """The colorizer of a run, of a file of weights, or of a released ``.pth`` file."""
    from colorstudy.colorize import Colorizer

    if run.endswith(".pth"):
        from colorstudy.experiments import release

        return Colorizer(release.load(run))
    return Colorizer.load(run)


def _train(options: argparse.Namespace) -> int:
    """Train a method, or go on where an earlier call stopped."""
    from colorstudy._checks import require
    from colorstudy.data import load
    from colorstudy.methods import Method, get
    from colorstudy.training import TrainConfig, fit, leave

    own = {name: value for name in ("network", "target") if (value := getattr(options, name))}
    got = "both" if own else "neither"
    require(bool(own) != bool(options.method), "method", "a name, or --network or --target", got)
    method, bank = get(options.method or Method(**own)), load(options.data, size=options.size)
    config = settings(options, TrainConfig)
    fit(method, bank, config, options.out, start=options.start, overwrite=options.overwrite)
    leave()
    return 0


def _evaluate(options: argparse.Namespace) -> int:
    """Score a trained model on test pictures, with intervals over the pictures."""
    from colorstudy._files import replacing
    from colorstudy.data import load
    from colorstudy.study.evaluation import evaluate
    from colorstudy.study.intervals import intervals
    from colorstudy.study.scores import scores_in

    table = evaluate(_colorizer(options.model), load(options.data, size=options.size))
    if options.csv:
        with replacing(options.csv) as temporary:
            table.to_csv(temporary)
    scores = intervals(table.reset_index().assign(seed=0), scores_in(table))[["mean", "low", "high"]]
    print(scores.to_string(float_format="{:.4f}".format))
    return 0


def _data(options: argparse.Namespace) -> int:
    """Say what a source holds, and which files are left out."""
    from colorstudy.data import load

    warnings.simplefilter("ignore", UserWarning)  # the skipped files are named below
    bank = load(options.data, size=options.size)
    lines = [f"{key:<8} {value}" for key, value in bank.summary().items()]
    lines += [f"skipped: {name} ({reason})" for name, reason in bank.skipped.items()]
    print(*lines, *(f"grey: {name}" for name in bank.grey), sep="\n")
    return 0


def _weights(options: argparse.Namespace) -> int:
    """Download published weights, and print where they are."""
    from colorstudy.experiments import release

    print(release.download(options.out))
    return 0


def _prior(options: argparse.Namespace) -> int:
    """Test whether a prior file can be what it claims."""
    from colorstudy import prior
    from colorstudy.bins import ColorBins

    centers = _array(options.centers) if options.centers else ColorBins.in_gamut().centers
    checks = prior.audit(centers, _array(options.file))
    print(checks.to_string(float_format="{:.4g}".format))
    return int(not checks["passed"].all())


def _array(path: Path) -> Any:
    """The numbers in a .npy file, which is data and never code."""
    import numpy as np

    try:
        return np.asarray(np.load(path, allow_pickle=False)).astype(float)
    except (EOFError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a .npy file of numbers, got {error}") from None
