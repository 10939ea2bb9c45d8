"""`report`: prints each measured figure, holds it to its bar, and writes them all to ``results/benchmarks.md``."""

import platform
import time
from pathlib import Path

import pytest
import torch

from colorstudy._files import write_text
from colorstudy._provenance import provenance

TABLE = Path(__file__).parents[2] / "results" / "benchmarks.md"
_ROWS = []


@pytest.fixture
def report():
    """Adds a row to the table; the test fails at its end if a figure of its rows misses its bar."""
    missed = []

    def add(name, value, details, *, at_most=None, at_least=None):
        bar = at_least if at_most is None else at_most
        good = bar is None or (value <= bar if at_least is None else value >= bar)
        wanted = "" if bar is None else f"{'≥' if at_most is None else '≤'} {bar:.3g}"
        met = "" if bar is None else "yes" if good else "**no**"
        _ROWS.append(f"| {name} | {value:.3g} | {wanted} | {met} | {details} |")
        print(f"\n{name}: {value:.3g} {wanted} {met}; {details}", flush=True)
        if not good:
            missed.append(f"{name}: expected {wanted}, got {value:.3g}")

    yield add
    assert not missed, missed


def pytest_sessionfinish(session):
    """Only a whole run replaces the table."""
    if not _ROWS or session.config.option.keyword or any("::" in str(arg) for arg in session.config.args):
        return
    about = provenance()
    changed = ", with uncommitted changes" if about["dirty"] else ""
    lines = [
        "# Benchmarks",
        "",
        f"Made by `make bench` on {time.strftime('%Y-%m-%d')} at commit {about['commit']}{changed}: {about['device']}, "
        f"{platform.machine()}, {about['threads']} threads, torch {torch.__version__}. A ratio is the median over "
        "rounds in which both sides were timed in turn; times are medians.",
        "",
        "| what | measured | bar | met | details |",
        "| --- | --- | --- | --- | --- |",
        *_ROWS,
    ]
    write_text(TABLE, "\n".join(lines) + "\n")
