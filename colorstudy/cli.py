"""`colorstudy colorize | demo | train | methods | evaluate | data | weights | prior | trial`: the package from a shell.

A command is a function, of whose signature tyro makes the parser: it alone explains the fields of `TrainConfig` and
`Method` by their own comments (jsonargparse reads docstrings alone, typer no dataclasses). Only the command that is
asked for imports what it needs, so that ``colorstudy --help`` answers at once.
"""

import difflib
import io
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tyro.conf import Positional

import colorstudy as cs
from colorstudy.study.options import Size, Source, option

MODELS = sorted(file.stem for file in (Path(__file__).parent / "weights").glob("*.safetensors"))
_RUN = f"a finished run, its weights, or a model of the package ({', '.join(MODELS)})"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; 0 is success, 1 a failure among its inputs, 2 a wrong argument or file, 130 an interruption."""
    argv = list(sys.argv[1:] if argv is None else argv)
    argv = argv[1:] if argv[:2] == ["data", "weights"] else argv  # they are data, too
    if str(Path.cwd()) not in sys.path:  # where a network or a target of yours may lie; last, so that it hides nothing
        sys.path.append(str(Path.cwd()))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # else a file name that is no text would be an error
            stream.reconfigure(errors="backslashreplace")
    with warnings.catch_warnings():
        warnings.showwarning = lambda message, *_: print(f"colorstudy: warning: {message}", file=sys.stderr)
        try:
            return int(_call(argv) or 0)
        except (ValueError, OSError, ImportError, FloatingPointError) as error:
            print(f"colorstudy: error: {error}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("colorstudy: interrupted", file=sys.stderr)
            return 130


def _call(argv: list[str]) -> int | None:
    """Run the command that `argv` asks for; help, and a line that cannot be parsed, are a ``SystemExit``."""
    name, usage = (argv or [""])[0], "usage: colorstudy COMMAND [options]; colorstudy COMMAND --help explains each"
    listed = "".join(f"\n  {key:<9} {command.__doc__}" for key, command in COMMANDS.items())
    everything = f"{usage}\n\n{(cs.__doc__ or '').partition('.')[0]}.\n{listed}"
    if name in ("-h", "--help", "--version"):
        print(f"colorstudy {cs.__version__}" if name == "--version" else everything)
        raise SystemExit(0)
    if name not in COMMANDS:
        error = f"colorstudy: error: command: expected one of {[*COMMANDS]}, got {name!r}{_near(name, COMMANDS)}"
        print(f"{usage}\n{error}" if name else everything, file=sys.stderr)
        raise SystemExit(2)
    command = COMMANDS[name]() if name in ("train", "trial") else COMMANDS[name]
    parse: Callable = tyro.extras.subcommand_cli_from_dict if name == "trial" else tyro.cli
    try:
        return parse(command, prog=f"colorstudy {name}", args=argv[1:], config=(tyro.conf.FlagCreatePairsOff,))
    except SystemExit as error:
        if error.code:
            print(usage, file=sys.stderr)
        raise


def _near(word: str, known: Iterable[str]) -> str:
    return "".join(f"; did you mean {near!r}?" for near in difflib.get_close_matches(word, known, 1))


def _colorizer(run: str | None, device: str | None = None) -> "cs.Colorizer":
    """The colorizer of a run, of a file of weights, of a released ``.pth`` file, or of the package."""
    if run and run not in MODELS and not Path(run).exists():
        expected = f"one of the package's {MODELS}, or the path of a finished run or of its weights"
        raise FileNotFoundError(f"run: expected {expected}, found no file {run!r}{_near(run, MODELS)}")
    try:
        if run and run.endswith(".pth"):
            from colorstudy.experiments import release

            return cs.Colorizer(release.load(run), device=device)
        return cs.Colorizer.load(run, device=device) if run else cs.Colorizer.load(device=device)
    except (RuntimeError, AssertionError) as error:  # of torch
        raise ValueError(f"device: expected one of this machine, got {device!r}: {error}") from None


def colorize(
    first: Annotated[Positional[Path], option("picture, folder of pictures, or clip", "FILE")],
    more: Annotated[Positional[tuple[Path, ...]], option("more of them", "[FILES ...]")] = (),
    run: Annotated[str | None, option(f"{_RUN}; by default the best of the latter", "RUN")] = None,
    out: Annotated[Path, option("folder; of one source, a file, too", "PATH", "-o")] = Path("coloured"),
    temperature: Annotated[float | None, option("of the annealed mean, > 0; the method's own by default", "T")] = None,
    rebalance: Annotated[float | None, option("what rare colours gain, >= 0; the method's own by default", "S")] = None,
    device: Annotated[str | None, option("cpu or cuda; a GPU by default, if there is one", "NAME")] = None,
    overwrite: Annotated[bool, option("replace files, and make finished ones again")] = False,
    smoothing: Annotated[Literal["none", "exponential", "flow"], option("of clips: how to average frames")] = "flow",
    resume: Annotated[bool, option("of clips: go on with one where an earlier call was interrupted")] = False,
    strict: Annotated[bool, option("of clips: refuse damaged ones, of which FFmpeg patches up frames")] = False,
) -> int:
    """Colour pictures or clips with a trained model."""
    import numpy as np
    from tqdm import tqdm

    from colorstudy._checks import require
    from colorstudy._files import sha256
    from colorstudy._provenance import digest
    from colorstudy.study.album import mark_of, plan, write
    from colorstudy.video import CLIP_EXTENSIONS

    targets, skipped = plan([first, *more], out, CLIP_EXTENSIONS)
    colorizer = _colorizer(run, device).decoding(temperature=temperature, rebalance=rebalance)
    colorizer.colorize(np.zeros((8, 8), np.uint8))  # what fails here would fail for every picture
    clips = {source for source in targets.values() if source.suffix.lower() in CLIP_EXTENSIONS}
    done = {target for target in targets if target.exists() and not overwrite}
    job = [colorizer.model.checksum, colorizer.size, colorizer.options]

    def mark(source: Path) -> str:  # of what is finished: by it an interrupted call knows what to leave
        return f"colorstudy {cs.__version__} {digest([sha256(source), *job])}"

    for target in done:
        source = targets[target]
        is_ours = resume if source in clips else mark_of(target) == mark(source)
        expected = "no file there but those that this call has made before (of clips: with --resume)"
        require(is_ours, "out", f"{expected}, or --overwrite", target)

    def make(source: Path, target: Path) -> None:
        if source in clips:  # FFmpeg takes 100 MiB
            from colorstudy.video.smoothing import colorize_clip

            options: dict[str, Any] = {"smoothing": smoothing, "resume": resume, "strict": strict}
            colorize_clip(source, target, colorizer, overwrite=overwrite, **options)
            return
        for words in write(target, colorizer.colorize(source), source, mark(source)):
            print(f"colorstudy: lost of {source}: {words}", file=sys.stderr)

    try:
        for target in tqdm(targets, unit="file", leave=False, disable=None if len(targets) > 1 else True):
            try:
                if target not in done:
                    make(targets[target], target)
                tqdm.write(str(target))
            except (ImportError, OSError, ValueError) as error:
                # What is made cannot be written, as on a full disk; or all that is asked for needs an extra.
                if type(error) is OSError or (isinstance(error, ImportError) and clips == {*targets.values()}):
                    raise
                skipped.append(str(error))
    finally:
        for words in skipped:
            print(f"colorstudy: skipped {words}", file=sys.stderr)
    return int(bool(skipped))


def demo(out: Annotated[Path, option("the page", "FILE", "-o")] = Path("demo.html")) -> None:
    """Show the models that come with the package on four photographs, as one HTML page."""
    from colorstudy.study.demo import page

    print(page(out))


def methods() -> None:
    """List the methods that can be trained."""
    for name, method in cs.METHODS.items():
        values = [*vars(method).items()][3:]  # after name, target and network
        changed = [f", {key}={value}" for key, value in values if value != getattr(cs.Method, key)]
        print(f"{name:<25} {method.target} with {method.network}{''.join(changed)}")


def evaluate(
    run: Annotated[Positional[str], option(_RUN, "RUN")],
    data: Source = "photos",
    size: Size = 128,
    csv: Annotated[Path | None, option("write the scores of every picture here", "FILE")] = None,
) -> None:
    """Score a trained model on test pictures, with intervals over the pictures."""
    from colorstudy._files import replacing
    from colorstudy.study.intervals import intervals
    from colorstudy.study.scores import scores_in

    table = cs.evaluate(_colorizer(run), cs.load(data, size=size))
    if csv:
        with replacing(csv) as temporary:
            table.to_csv(temporary)
    scores = intervals(table.reset_index().assign(seed=0), scores_in(table))[["mean", "low", "high"]]
    print(scores.to_string(float_format="{:.4f}".format))


def data(data: Positional[Source], size: Size = 128) -> None:
    """Say what a source holds, and which files are left out."""
    warnings.simplefilter("ignore", UserWarning)  # the skipped files are named below
    bank = cs.load(data, size=size)
    lines = [f"{key:<8} {value}" for key, value in bank.summary().items()]
    lines += [f"skipped: {name} ({reason})" for name, reason in bank.skipped.items()]
    print(*lines, *(f"grey: {name}" for name in bank.grey), sep="\n")


def weights(
    name: Annotated[Positional[Literal["zhang"]], option("those of Zhang et al. 2016, 130 MB")],
    out: Annotated[Path | None, option("folder for the file; the cache by default", "DIR", "-o")] = None,
) -> None:
    """Download published weights, and print where they are."""
    from colorstudy.experiments import release

    print(release.download(out))


def prior(
    part: Annotated[Positional[Literal["audit"]], option("print the checks")],
    file: Annotated[Positional[Path], option(".npy, (Q,): the frequency of every bin", "FILE")],
    centers: Annotated[Path | None, option(".npy, (Q, 2), in ab; the 313 in gamut by default", "FILE")] = None,
) -> int:
    """Test whether a prior file can be what it claims."""
    from colorstudy.bins import ColorBins
    from colorstudy.prior import audit

    checks = audit(_array(centers) if centers else ColorBins.in_gamut().centers, _array(file))
    print(checks.to_string(float_format="{:.4g}".format))
    return int(not checks["passed"].all())


def _array(path: Path) -> Any:
    """The numbers in a .npy file, which is data and never code."""
    import numpy as np

    try:
        return np.asarray(np.load(path, allow_pickle=False)).astype(float)
    except (EOFError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: expected a .npy file of numbers, got {error}") from None


def train() -> Callable:
    """Train a method, or go on where an earlier call stopped."""
    from colorstudy.study.train import train  # with the settings of `fit`

    return train


def trial() -> dict[str, Callable]:
    """Ask people: real or fake?"""
    from colorstudy.trial.commands import answers, build, serve

    return {"build": build, "serve": serve, "answers": answers}


_ALL: list[Callable] = [colorize, demo, train, methods, evaluate, data, weights, prior, trial]
COMMANDS = {command.__name__: command for command in _ALL}
