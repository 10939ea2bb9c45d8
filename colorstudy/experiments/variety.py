"""What a network gains and loses by seeing more kinds of scenes, in equal numbers of pictures and steps."""

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank, load
from colorstudy.methods import Method
from colorstudy.study.evaluation import evaluate
from colorstudy.study.profiles import run_at
from colorstudy.training import TrainConfig, fit


def fourth(size: int = 112) -> ImageBank:
    """Every fourth picture of photos16k, of each side of its split."""
    bank = load("photos16k", size=size)
    names = [part.names[::4] for part in (bank.train, bank.val, bank.test)]
    return bank.only(sum(names, ()))


def variety(
    results: str | Path, methods: Sequence[Method], bank: ImageBank, far: ImageBank, *, counts: Sequence[int],
    seeds: Sequence[int], pictures: int, most: int, training: dict[str, Any],
) -> pd.DataFrame:  # fmt: skip
    """Scores of `methods` trained on `pictures` of the first 1, 2, ... (`counts`) folders of `bank`, resumable.

    Each of the `seeds` starts at a folder of its own and adds the next ones. Columns ``method``, ``seed``, ``folders``,
    ``domain`` and those of `evaluate`, of at most `most` test pictures of each domain: "home", the folder that the seed
    starts at; "away", the one that it would add last; "far", the bank of that name.
    """
    above = os.path.commonpath(bank.names)  # a folder that holds all of theirs, if there is one
    folder = {name: PurePosixPath(name).relative_to(above).parts[0] for name in bank.names}
    classes, parts = sorted({*folder.values()}), []
    train, test = (
        {c: [name for name in part.names if folder[name] == c] for c in classes} for part in (bank.train, bank.test)
    )
    for seed in seeds:
        order = [classes[(seed * 2 + i) % len(classes)] for i in range(len(classes))]
        domains = {d: bank.only(test[c][:most]) for d, c in (("home", order[0]), ("away", order[-1]))} | {"far": far}
        for count in counts:
            shares = [pictures // count + (i < pictures % count) for i in range(count)]
            shown = bank.only([name for c, share in zip(order, shares) for name in train[c][:share]])
            for method in methods:
                run = run_at(results, f"variety-{method.name}-{count}", seed).path
                fit(method, shown, TrainConfig(seed=seed, **training), run, overwrite=True)
                for domain, asked in domains.items():
                    scores = evaluate(Colorizer.load(run), asked).reset_index()
                    parts.append(scores.assign(method=method.name, seed=seed, folders=count, domain=domain))
    return pd.concat(parts, ignore_index=True)
