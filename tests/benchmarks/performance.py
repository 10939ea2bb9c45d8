"""Rows: measured, kept in ``results/benchmarks.csv`` for every whole run, shown in ``docs/performance.md``."""

import csv
import time
from pathlib import Path
from string import Template

import matplotlib.pyplot as plt
import numpy as np
from measure import LIMIT, Load, alternate, exponents, operators

ROOT = Path(__file__).parents[2]
HISTORY, DOCS = ROOT / "results" / "benchmarks.csv", ROOT / "docs"
FIELDS = ["run", "commit", "row", "value", "low", "high", "unit", "goal", "plain", "details", "why", "other_load"]
FIELDS += ["cpu", "gemm_start", "gemm_end"]
EXPONENT = "exponent"
UNITS = {"CPU-ms": 1000, "CPU-s": 1}


class Bench:
    """Measures and prints the rows of a run; `load` is what others have computed since the benchmark began."""

    def __init__(self):
        self.rows, self.load = [], Load()

    def row(self, name, samples, unit, *, goal="", plain="", details="", wall=False, why=None):
        """A row with the median and the quartiles of `samples`, a number or several; none if it was not measured.

        `plain` names the other side. Wall-clock time does not count where others computed. `why` is called for where
        the time goes, if the goal is missed.
        """
        samples, others = np.atleast_1d(samples), self.load()
        if wall and not others <= LIMIT:
            samples, details = [], f"not measured: other load {others:.2g} cores"
        row = dict.fromkeys(FIELDS, "") | {"row": name, "unit": unit, "goal": goal, "plain": plain, "details": details}
        if len(samples):
            quantiles = [0.5] if len(samples) == 1 else [0.5, 0.25, 0.75]
            found = zip(("value", "low", "high"), np.quantile(samples, quantiles))
            row |= {key: f"{value:.5g}" for key, value in found}
        is_missed = meets(row) is False
        row |= {"other_load": f"{others:.3f}", "why": why() if why and is_missed else ""}
        self.rows.append(row)
        words = [f"{name}: {measured(row)}", goal + " MISSED" * is_missed, details if row["value"] else "", row["why"]]
        print("\n" + "; ".join(filter(None, words)), flush=True)

    def is_quiet(self):
        """Whether nobody else computes: otherwise there is no use in measuring wall-clock time."""
        time.sleep(2)
        return self.load() <= LIMIT

    def compare(
        self, name, ours, theirs, plain, goal="", *, unit="ratio", rounds=9, why=operators, details="", **timing
    ):
        """The ratio of two calls, or in another of `UNITS` the time of the first, with that of both in words.

        `theirs` is None where the library that it needs, `plain`, is not there.
        """
        if theirs is None:
            return self.row(name, [], unit, plain=plain, details=f"not measured: {plain} is not installed")
        taken = alternate(ours, theirs, rounds=rounds, **timing)
        words = "{} against {} ms".format(*map(number, 1000 * np.median(taken, axis=0)))
        samples = taken[:, 0] / taken[:, 1] if unit == "ratio" else UNITS[unit] * taken[:, 0]
        self.row(name, samples, unit, goal=goal, plain=plain, details=words + details, why=lambda: why(ours))

    def grow(self, name, work, calls, rounds=3, warm=1):
        """The exponent with which the time of `calls`, amount of `work` -> call, grows; all seconds (rounds, calls)."""
        taken = alternate(*calls.values(), rounds=rounds, warm=warm)
        points = " ".join(f"{amount}:{seconds:.4g}" for amount, seconds in zip(calls, np.median(taken, axis=0)))
        self.row(name, exponents([*calls], taken), EXPONENT, goal="≤ 1.1", plain=work, details=points)
        return taken


def append(rows, path=HISTORY):
    """Add the rows of a run to the history."""
    is_new = not path.exists()
    with open(path, "a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, FIELDS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerows(rows)


def read(path=HISTORY):
    """The rows of all runs, each a dict of text, in order of time."""
    with open(path, newline="", encoding="utf-8") as file:
        return [*csv.DictReader(file)]


def meets(row):
    """Whether a row meets its goal, "≤ 1" or "≥ 1"; None if it has none, or was not measured."""
    if not row["goal"] or not row["value"]:
        return None
    sign, bar = row["goal"].split()
    return float(row["value"]) <= float(bar) if sign == "≤" else float(row["value"]) >= float(bar)


def number(text):
    """Three digits, without an exponent where it is large."""
    return f"{float(text):,.0f}" if abs(float(text)) >= 100 else f"{float(text):.3g}"


def measured(row):
    if not row["value"]:
        return row["details"]
    unit = "" if row["unit"] in ("", "ratio", EXPONENT) else f" {row['unit']}"
    spread = f" [{number(row['low'])}, {number(row['high'])}]" if row["low"] else ""
    return number(row["value"]) + unit + spread


def page(history):
    """The Markdown about the last run in `history`."""
    rows = [row for row in history if row["run"] == history[-1]["run"]]
    first = {row["row"]: number(row["value"]) for row in reversed(history) if row["value"]}
    scaling, others = ([row for row in rows if (row["unit"] == EXPONENT) == is_one] for is_one in (True, False))
    groups = {
        "Misses its goal": [row for row in others if meets(row) is False],
        "Meets its goal": [row for row in others if meets(row)],
        "Without a goal": [row for row in others if row["value"] and not row["goal"]],
        "Not measured": [row for row in others if not row["value"]],
    }
    parts = []
    for title, members in groups.items():
        head, rest = ["what", "against", "measured", "goal", "in the first run"], ["details"]
        rest += ["where the time goes"] * title.startswith("Misses")
        rest *= not title.startswith("Not")
        common = [[row["row"], row["plain"], measured(row), row["goal"], first.get(row["row"], "")] for row in members]
        cells = [[*line, *[row["details"], row["why"]][: len(rest)]] for line, row in zip(common, members)]
        parts += [f"### {title}", _table(head + rest, cells)] if members else []
    said = {True: "yes", False: "**no**", None: ""}
    cells = [[row["row"], row["plain"], measured(row), row["goal"], said[meets(row)]] for row in scaling]
    about = {name: rows[0][name] for name in ("run", "commit", "cpu", "gemm_start", "gemm_end")}
    about |= {"load": number(np.nanmedian([float(row["other_load"]) for row in rows])), "limit": LIMIT}
    about |= {"runs": len({row["run"] for row in history}), "tables": "\n\n".join(parts)}
    about["scaling"] = _table(["time of", "against", "exponent", "goal", "met"], cells)
    return Template(Path(__file__).with_suffix(".md").read_text(encoding="utf-8")).substitute(about)


def figure(history):
    """Time against work in the last run in `history`, a panel each, with the fitted powers."""
    rows = [row for row in history if row["run"] == history[-1]["run"] and row["unit"] == EXPONENT and row["value"]]
    fig, axes = plt.subplots(-(-len(rows) // 3), 3, figsize=(8, 2.2 * -(-len(rows) // 3)), squeeze=False)
    for ax, row in zip(axes.flat, rows):
        work, seconds = np.array([point.split(":") for point in row["details"].split()], float).T
        slope, start = np.polyfit(np.log(work), np.log(seconds), 1)
        ax.loglog(work, seconds, "o", color="tab:blue")
        ax.loglog(work, np.exp(start) * work**slope, color="tab:grey")
        ax.minorticks_off()
        ax.set_xticks(work, [f"{w:g}" for w in work], rotation=45)
        ax.set_yticks(seconds[[0, -1]], [f"{s:.2g}" for s in seconds[[0, -1]]])
        ax.set(title=f"{row['row']}: {slope:.2f}", xlabel=row["plain"], ylabel="CPU-s")
    for ax in axes.flat[len(rows) :]:
        ax.set_axis_off()
    fig.tight_layout()
    return fig


def write(history, docs=DOCS):
    """The page and its figure."""
    docs.mkdir(exist_ok=True)
    (docs / "performance.md").write_text(page(history), encoding="utf-8")
    with plt.rc_context({"svg.fonttype": "none", "svg.hashsalt": "performance", "font.size": 8}):
        figure(history).savefig(docs / "scaling.svg", metadata={"Date": None})
    plt.close()


def _table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "/") for cell in line) + " |" for line in lines)
