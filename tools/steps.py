"""What the `Snakefile` needs beside the package: what a step depends on, which runs are done for good, the manifest."""

from pathlib import Path

from colorstudy._files import read_json, write_json
from colorstudy._provenance import sources
from colorstudy.study import grid
from colorstudy.study.profiles import Profile
from colorstudy.study.run import Run


def notebook_sources(notebook: str | Path) -> list[Path]:
    """The notebook and the files of the package that it uses, however indirectly: the inputs of its step."""
    code = ["".join(cell["source"]) for cell in read_json(notebook)["cells"] if cell["cell_type"] == "code"]
    return [Path(notebook), *sources("\n".join(code))]


def kept(results: str | Path, profile: Profile) -> list[Run]:
    """Of a profile with ``keep_runs``, the runs that no change of code makes stale.

    All that are `grid.done`, but for those without their weights, if a run that is to be made needs these.
    """
    if not profile.keep_runs:
        return []
    found = {run.name: run for run in grid.done(results, profile)}
    making = [run for run in profile.runs(results) if run.name not in found]
    for run in making:  # which grows
        base = profile.base_of(run)
        if base and not base.trained and found.pop(base.name, None):
            making.append(base)
    return [*found.values()]


def write_manifest(results: str | Path) -> Path:
    """Gather the records and the ``metrics.json`` of all runs in ``manifest.json``, and name the tables and figures."""
    results = Path(results)
    made = sorted(p for kind in ("tables", "figures") for p in (results / kind).glob("*") if not p.name.startswith("."))
    content = {
        "profile": results.name,
        "runs": {p.parent.name: read_json(p) for p in sorted(results.glob("runs/*/metrics.json"))},
        "notebooks": {p.stem: read_json(p) for p in sorted(results.glob("records/*.json"))},
        "files": [p.relative_to(results).as_posix() for p in made],
    }
    write_json(results / "manifest.json", content)
    return results / "manifest.json"
