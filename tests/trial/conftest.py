"""Fixtures of the tests that simulate a trial again and again, and of those that start a server."""

import socket
import time

import pandas as pd
import pytest

from colorstudy.trial import design
from colorstudy.trial.analysis import join

PICTURES = [f"picture-{i}" for i in range(60)]


@pytest.fixture
def one_plan(monkeypatch):
    """The plan of a trial is made once: it is the same for every seed of the observers, and takes most of the time."""
    plans, sessions = {}, design.sessions

    def once(*arguments):
        if (name := repr(arguments)) not in plans:
            plans[name] = sessions(*arguments)
        return plans[name]

    monkeypatch.setattr(design, "sessions", once)


@pytest.fixture
def many_trials(one_plan):
    """Joined answers to many simulated trials of a method, one a seed, by which it is called: one table is faster."""

    def simulated(seeds, rate, participants, **options):
        keys, answers = [], []
        for seed in range(seeds):
            tables = design.simulate(design.Design(), {"full": rate}, PICTURES, participants, seed=seed, **options)
            key, raw = (table.assign(session=table["session"] + seed * participants) for table in tables)
            keys.append(key.assign(method=seed))
            answers.append(raw.assign(participant=raw["session"]))
        return join(pd.concat(keys), pd.concat(answers))

    return simulated


@pytest.fixture(scope="session")
def free_port():
    """Gives a port of this machine on which nothing listens."""

    def find():
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            return free.getsockname()[1]

    return find


@pytest.fixture(scope="session")
def wait_for_port():
    """Waits until something listens on a port of this machine."""

    def wait(port):
        for _ in range(1200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return
            time.sleep(0.05)
        raise TimeoutError("the server did not start")

    return wait
