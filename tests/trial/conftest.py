"""Fixtures of the tests that simulate a trial again and again."""

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
