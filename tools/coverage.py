"""How often the intervals of `study.intervals` hold the truth, in simulated studies whose truth is known.

``python -m tools.coverage results/coverage`` writes the table.
"""

import sys

import numpy as np
import pandas as pd

from colorstudy.study import tables
from colorstudy.study.intervals import intervals

RATIOS = (0.0, 0.5, 1.0, 1.7, 3.0)  # standard error of the mean over seeds, by that over images


def coverage(
    seeds: int, images: int, ratio: float, noise: float, weights: float = 0.0, *, studies: int = 10000
) -> dict[str, float]:
    """The share of `studies` whose 95 % interval holds the true score, which is 0.

    The score of an image is a sum of normal effects: its own, of standard deviation 1; that of the seed, such that the
    standard errors of their means are in `ratio`; and one of both, of standard deviation `noise`. Images have weights
    whose logarithm is normal, of standard deviation `weights`.
    """
    rng, shape = np.random.default_rng(0), (seeds, images, studies)
    score = ratio * np.sqrt(seeds / images) * rng.standard_normal((seeds, 1, studies))
    score = score + rng.standard_normal((1, images, studies)) + noise * rng.standard_normal(shape)
    weight = np.broadcast_to(np.exp(weights * rng.standard_normal((images, studies))), shape)
    index = pd.MultiIndex.from_product([range(seeds), range(images)], names=["seed", "image"])
    columns = np.concatenate([weight * score, weight], axis=2).reshape(seeds * images, -1)
    names = [f"{kind}{i}" for kind in ("hits", "weight") for i in range(studies)]
    scores = {f"{i}": (f"hits{i}", f"weight{i}") for i in range(studies)}
    found = intervals(pd.DataFrame(columns, index, names).reset_index(), scores)
    about = {"seeds": seeds, "images": images, "ratio": ratio, "noise": noise, "effective": found["effective"].median()}
    return about | {"studies": studies, "coverage": ((found["low"] <= 0) & (found["high"] >= 0)).mean()}


if __name__ == "__main__":
    cases = [(3, images, ratio, noise, 0.0) for images in (24, 200) for noise in (0.3, 1.0, 3.0) for ratio in RATIOS]
    cases += [(seeds, 200, ratio, 1.0, 0.0) for seeds in (2, 5) for ratio in RATIOS]
    cases += [(seeds, 200, ratio, 1.0, 2.0) for seeds in (1, 3) for ratio in RATIOS[: 4 * seeds - 3]]
    tables.save(pd.DataFrame([coverage(*case) for case in cases]), sys.argv[1])
