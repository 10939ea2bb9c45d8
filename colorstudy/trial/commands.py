"""`colorstudy trial build | serve | answers`."""

from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import Positional

from colorstudy._checks import require
from colorstudy._files import replacing
from colorstudy.colorize import Colorizer
from colorstudy.data import load
from colorstudy.study.options import GROUP, option
from colorstudy.trial import page as pages
from colorstudy.trial.design import Design

Page = Annotated[Positional[Path], option("folder of trial build; its key lies beside it", "FOLDER")]
File = Annotated[Path | None, option("SQLite; FOLDER.answers.sqlite by default", "FILE")]


def build(
    runs: Annotated[Positional[tuple[str, ...]], option("finished runs, one a method", "RUN ...")],
    out: Annotated[Path, option("new folder for the page", "FOLDER", "-o")],
    participants: Annotated[int, option("sessions, each with a code")],
    design: Annotated[Design, GROUP],
    data: Annotated[str, option("as for train; its test pictures are shown", "SOURCE")] = "photos",
    post: Annotated[str | None, option("send every answer there as well", "URL")] = None,
    origin: Annotated[str | None, option("of the host that shows the page, if not that of --post", "URL")] = None,
) -> None:
    """Write the page of a trial, and its key beside it."""
    pictures = load(data, size=design.size).test
    true = {name: image.copy() for name, image in zip(pictures.names, pictures.images)}
    fakes: dict[str, dict[str, Any]] = {}
    for run in runs:
        colorizer = Colorizer.load(run)
        name = colorizer.model.method.name
        require(name not in fakes, "runs", "one of each method", f"two of {name}")
        fakes[name] = {picture: colorizer.colorize(image) for picture, image in true.items()}
    pages.build(out, true, fakes, participants, design, post=post, origin=origin)
    print(f"{out / 'index.html'}?code= and one of the codes in {out}.key.csv for each participant")


def serve(
    page: Page,
    answers: File = None,
    host: Annotated[str, option("address to listen on")] = "127.0.0.1",
    port: Annotated[int, option("port to listen on")] = 8000,
) -> None:
    """Serve the page and collect its answers, on this machine alone by default."""
    with _opened(page, answers, "rwc") as collected:
        from colorstudy.trial import server

        print(f"http://{host}:{port}/ (Ctrl+C ends it)", flush=True)
        server.serve(page, collected, host, port)


def answers(
    page: Page,
    answers: File = None,
    out: Annotated[Path | None, option("file for the answers", "CSV", "-o")] = None,
    delete: Annotated[str | None, option("erase all answers of this participant", "CODE")] = None,
) -> None:
    """Write the collected answers as CSV, or delete those of a participant."""
    with _opened(page, answers, "rw" if delete else "ro") as collected:
        if delete:
            print(f"{collected.delete(delete)} answers erased")
        if out:
            table = collected.table()
            require(len(table) > 0, "answers", "at least one", "none")
            with replacing(out) as temporary:
                table.to_csv(temporary, index=False)
            print(out)


def _opened(page: Path, answers: Path | None, mode: str) -> Any:
    from colorstudy.trial.server import Answers

    path = answers or page.with_name(f"{page.name}.answers.sqlite")
    return closing(Answers(path, pages.read_key(page), mode))
