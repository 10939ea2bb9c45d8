"""How things are timed, and when a time is not to be believed.

The measure is CPU time of one thread, with the sides of a comparison in turn, so that whatever else the machine does
meets all of them alike. Wall-clock time is for what waits, and counts only while hardly anything else computes.
"""

import cProfile
import os
import pstats
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

LIMIT = 0.15  # cores of other load above which a wall-clock time is not reported


def alternate(*calls, rounds=9, warm=1, clock=time.process_time):
    """Seconds (rounds, calls) that each call takes, in turn; the first `warm` rounds are not counted."""
    taken = np.empty((warm + rounds, len(calls)))
    for row in taken:
        for i, call in enumerate(calls):
            started = clock()
            call()
            row[i] = clock() - started
    return taken[warm:]


def exponents(work, taken):
    """The exponent e of time = c work^e in each round of `taken` (rounds, sizes), by least squares of logarithms."""
    return np.polyfit(np.log(work), np.log(taken).T, 1)[0]


def children():
    """A clock: CPU-seconds of all child processes that have ended, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def python(*arguments, **environment):
    """What a Python process prints; `environment` is added to ours."""
    command = [sys.executable, *map(str, arguments)]
    places = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    environment = os.environ | {"PYTHONPATH": places.rstrip(os.pathsep)} | environment
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-1000:]
    return done.stdout + done.stderr


class Load:
    """Cores that other processes, and other virtual machines, have used since this was made."""

    def __init__(self, proc="/proc", clock=time.perf_counter):
        self.proc, self.clock = Path(proc), clock
        self.began, self.before = clock(), self._others()

    def __call__(self):
        """The mean so far; nan on a system that does not say."""
        return (self._others() - self.before) / max(self.clock() - self.began, 1e-9)

    def _others(self):
        """CPU-seconds of the whole machine but for this process and its descendants."""
        if not (self.proc / "stat").exists():
            return float("nan")
        user, nice, system, _, _, irq, softirq, steal = map(int, (self.proc / "stat").read_text().split()[1:9])
        parent, used = {}, {}
        for path in self.proc.glob("[0-9]*/stat"):
            try:
                words = path.read_text().rpartition(")")[2].split()  # a name may hold spaces and brackets
            except OSError:
                continue  # it has ended meanwhile
            pid = int(path.parent.name)
            parent[pid], used[pid] = int(words[1]), sum(map(int, words[11:15]))  # with what its ended children used
        ours, before = {os.getpid()}, set()
        while ours != before:
            before, ours = ours, ours | {pid for pid in parent if parent[pid] in ours}
        busy = user + nice + system + irq + softirq + steal
        return (busy - sum(used.get(pid, 0) for pid in ours)) / os.sysconf("SC_CLK_TCK")


def gemm_rate(side=1024):
    """G floating-point operations a second of a float32 matrix product: how fast the machine is at this moment."""
    a = torch.rand(side, side)
    return 2e-9 * side**3 / np.median(alternate(lambda: a @ a))


def cpu_model():
    info = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return found[1] if found else "unknown CPU"


# --- where the time goes: the largest shares, for what misses its goal ---


def operators(call):
    """Of torch's operators, each without what it calls."""
    call()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        call()
    return _shares({event.key: event.self_cpu_time_total for event in profiler.key_averages()})


def functions(call):
    """Of functions of Python and C, each without what it calls."""
    profiler = cProfile.Profile()
    profiler.runcall(call)
    found = Counter()
    for (file, _, name), row in pstats.Stats(profiler).stats.items():
        found[name.strip("<>") if file == "~" else f"{Path(file).name} {name}"] += row[2]
    return _shares(found)


def imports(*arguments):
    """Of packages in the imports of a Python process, and of its children if their messages come out of it."""
    found = Counter()
    text = python(*arguments, PYTHONPROFILEIMPORTTIME="1")
    for own, package in re.findall(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\w+)", text):
        found[package] += int(own)
    return f"imports: {_shares(found, 8)}"


def _shares(found, most=5):
    total = sum(found.values())
    return ", ".join(f"{name} {100 * part / total:.0f} %" for name, part in Counter(found).most_common(most))
