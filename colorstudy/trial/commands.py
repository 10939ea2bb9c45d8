"""`colorstudy trial build | serve | answers`."""

import argparse
from contextlib import closing
from pathlib import Path

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.colorize import Colorizer
from colorstudy.data import load
from colorstudy.study.options import add_settings, settings
from colorstudy.trial.design import Design
from colorstudy.trial.page import build, read_key


def add_commands(parser: argparse.ArgumentParser) -> None:
    """Add the commands build, serve and answers."""
    parts = parser.add_subparsers(dest="part", required=True, metavar="build | serve | answers")
    page = parts.add_parser("build", help="write the page of a trial, and its key beside it")
    page.set_defaults(run=_build)
    page.add_argument("runs", nargs="+", metavar="RUN", help="finished runs, one a method")
    page.add_argument("--data", metavar="SOURCE", default="photos", help="as for train; its test pictures are shown")
    page.add_argument("-o", "--out", required=True, type=Path, metavar="FOLDER", help="new folder for the page")
    page.add_argument("--participants", type=int, required=True, help="sessions, each with a code")
    page.add_argument("--post", metavar="URL", help="send every answer there as well")
    page.add_argument("--origin", metavar="URL", help="of the host that shows the page, if not that of --post")
    add_settings(page, Design)
    serve = parts.add_parser("serve", help="serve the page and collect its answers, on this machine alone by default")
    answers = parts.add_parser("answers", help="write the collected answers as CSV, or delete those of a participant")
    for part in (serve, answers):
        part.set_defaults(run=_collect, out=None, delete=None)
        part.add_argument("page", type=Path, metavar="FOLDER", help="of trial build; its key lies beside it")
        part.add_argument("--answers", type=Path, metavar="FILE", help="SQLite; <FOLDER>.answers.sqlite by default")
    serve.add_argument("--host", default="127.0.0.1", help="127.0.0.1 by default")
    serve.add_argument("--port", type=int, default=8000, help="8000 by default")
    answers.add_argument("-o", "--out", type=Path, metavar="CSV", help="file for the answers")
    answers.add_argument("--delete", metavar="CODE", help="erase all answers of this participant")


def _build(options: argparse.Namespace) -> int:
    """The page of a trial from finished runs."""
    design = settings(options, Design)
    pictures = load(options.data, size=design.size).test
    true = {name: image.copy() for name, image in zip(pictures.names, pictures.images)}
    fakes = {}
    for run in options.runs:
        colorizer = Colorizer.load(run)
        name = colorizer.model.method.name
        require(name not in fakes, "runs", "one of each method", f"two of {name}")
        fakes[name] = {picture: colorizer.colorize(image) for picture, image in true.items()}
    build(options.out, true, fakes, options.participants, design, post=options.post, origin=options.origin)
    print(f"{options.out / 'index.html'}?code= and one of the codes in {options.out}.key.csv for each participant")
    return 0


def _collect(options: argparse.Namespace) -> int:
    """Serve a page, or write or delete what was collected."""
    from colorstudy.trial.server import Answers, serve

    path = options.answers or options.page.with_name(f"{options.page.name}.answers.sqlite")
    mode = "rwc" if options.part == "serve" else "rw" if options.delete else "ro"
    with closing(Answers(path, read_key(options.page), mode)) as answers:
        if options.part == "serve":
            print(f"http://{options.host}:{options.port}/ (Ctrl+C ends it)", flush=True)
            serve(options.page, answers, options.host, options.port)
        if options.delete:
            print(f"{answers.delete(options.delete)} answers erased")
        if options.out:
            table = answers.table()
            require(len(table) > 0, "answers", "at least one", f"none in {path}")
            with replacing(options.out) as temporary:
                table.to_csv(temporary, index=False)
            print(options.out)
    return 0
