"""What `make bench` rests on: whose load it is, ratios of rounds in turn, fits, and that the page hides nothing."""

import importlib
import os
from pathlib import Path

import numpy as np
import pytest

PLACE = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(scope="module")
def measure():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLACE)
        yield importlib.import_module("measure")


@pytest.fixture(scope="module")
def performance(measure):
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(PLACE)
        yield importlib.import_module("performance")


class Clock:
    """A clock that goes on only as it is told."""

    now = 0.0

    def __call__(self):
        return self.now

    def passes(self, seconds):
        self.now += seconds


def ticks(proc, machine, processes):
    """A /proc of so many busy ticks of the whole machine, and of `processes`, pid -> (parent, ticks, of children)."""
    (proc / "stat").write_text(f"cpu {machine - 3} 1 1 5000 70 0 1 0 900 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n")
    for pid, (parent, own, ended) in processes.items():
        (proc / str(pid)).mkdir(exist_ok=True)
        words = ["S", parent, *[0] * 9, own, 0, ended, 0, *[0] * 30]
        (proc / str(pid) / "stat").write_text(f"{pid} (a) name (b) {' '.join(map(str, words))}")


def test_load_is_what_neither_we_nor_our_children_used(measure, tmp_path):
    us, clock, second = os.getpid(), Clock(), os.sysconf("SC_CLK_TCK")
    ticks(tmp_path, 1000, {us: (1, 50, 0), 71: (us, 10, 0), 72: (71, 20, 0), 80: (1, 500, 0)})
    load = measure.Load(tmp_path, clock)
    clock.passes(10)
    # Of 14 s, 2 are ours, 3 of a child that ended meanwhile, 4 of its child that is now ours, and 5 of others.
    (tmp_path / "71" / "stat").unlink()
    ended = 10 + 3 * second
    ticks(tmp_path, 1000 + 14 * second, {us: (1, 50 + 2 * second, ended), 72: (us, 20 + 4 * second, 0)})
    assert load() == pytest.approx(0.5)
    assert np.isnan(measure.Load(tmp_path / "absent")())


def test_rounds_take_turns_and_the_first_is_not_counted(measure):
    clock, order = Clock(), []

    def call(name, seconds):
        times = iter(seconds)
        return lambda: (order.append(name), clock.passes(next(times)))

    taken = measure.alternate(call("a", [90, 1, 2]), call("b", [90, 2, 8]), rounds=2, clock=clock)
    assert taken.tolist() == [[1, 2], [2, 8]]
    assert "".join(order) == "ababab"


def test_exponents_are_those_of_each_round(measure):
    work = np.array([1, 4, 16, 64])
    np.testing.assert_allclose(measure.exponents(work, [3 * work**1.5, 7 * work**0.9]), [1.5, 0.9])


def test_time_of_children_is_cpu_time(measure):
    before = measure.children()
    printed = measure.python("-c", "import time; time.sleep(.5); sum(range(10**6)); print(6 * 7)")
    assert printed.strip() == "42"
    assert 0 < measure.children() - before < 0.5
    with pytest.raises(AssertionError, match="no_such_module"):
        measure.python("-c", "import no_such_module")


def test_profiles_name_what_takes_the_time(measure):
    numbers = list(range(200_000))[::-1]
    assert "sorted" in measure.functions(lambda: [sorted(numbers, key=str), np.zeros(3)]).split(",")[0]
    assert "json" in measure.imports("-c", "import json")


@pytest.fixture
def bench(performance):
    found = performance.Bench()
    found.load = lambda: 0.1
    return found


@pytest.mark.parametrize("others, value", [(0.149, "120"), (0.4, ""), (float("nan"), "")])
def test_wall_clock_time_counts_only_where_others_are_quiet(others, value, bench):
    bench.load = lambda: others
    bench.row("waiting", [110, 120, 130], "ms", wall=True, details="of 3")
    bench.row("computing", [110, 120, 130], "CPU-ms")
    wall, cpu = bench.rows
    assert (wall["value"], cpu["value"]) == (value, "120")
    assert wall["details"] == ("of 3" if value else f"not measured: other load {others:.2g} cores")


def test_a_ratio_is_the_median_of_the_ratios_of_rounds(bench):
    clock, times = Clock(), iter([1, 1, 1, 2, 30, 10, 2, 1])
    call = lambda: clock.passes(next(times))  # noqa: E731
    bench.compare("row", call, call, "plain", "≤ 1", rounds=3, clock=clock, why=lambda _: "x")
    assert [bench.rows[0][key] for key in ("value", "low", "high", "why")] == ["2", "1.25", "2.5", "x"]
    bench.compare("row", None, None, "kornia")
    assert bench.rows[1]["details"] == "not measured: kornia is not installed"


def test_the_page_puts_missed_goals_first_and_keeps_the_history(bench, performance, tmp_path):
    bench.row("slow", 9, "ms", goal="≤ 5", plain="plain form", why=lambda: "pow 90 %")
    bench.row("quick", 0.25, "ratio", goal="≤ 0.5", why=lambda: pytest.fail("a profile that nobody needs"))
    bench.row("frames", 70.5, "frames/CPU-s", goal="≥ 70")
    bench.row("other", 1234.5, "s")
    bench.row("absent", [], "", details="not measured: a reason")
    bench.grow("square", "pixels", {n: lambda n=n: sum(range(20000 * n)) for n in (1, 4, 16)}, rounds=2)
    about = {"commit": "abc", "cpu": "a CPU", "gemm_start": "50.0", "gemm_end": "51.0"}
    path = tmp_path / "history.csv"
    for run, factor in (("2026-01-01 10:00", 2), ("2026-01-02 10:00", 1)):
        slow = {"value": f"{factor * 9}"}
        rows = [row | about | {"run": run} | (slow if row["row"] == "slow" else {}) for row in bench.rows]
        performance.append(rows, path)
    history = performance.read(path)
    assert len(history) == 2 * len(bench.rows) and path.read_text().count("gemm_start") == 1
    performance.write(history, tmp_path)
    page = (tmp_path / "performance.md").read_text(encoding="utf-8")
    assert "| slow | plain form | 9 ms | ≤ 5 | 18 |  | pow 90 % |" in page
    assert "| quick |  | 0.25 | ≤ 0.5 | 0.25 |  |" in page
    places = [page.index(f"\n| {name} |") for name in ("slow", "quick", "frames", "other", "absent", "square")]
    assert places == sorted(places) and "2026-01-02" in page and "1,234 s" in page and "not measured: a reason" in page
    assert "$" not in page
    assert (tmp_path / "scaling.svg").stat().st_size < 100_000
