"""The longest training: `class` on pretrained features, five times, each from what the one before ended with.

``python -m tools.longest FOLDER`` takes about four hours of one core. It can be stopped, and goes on where it was. It
writes ``results/longest`` and ``FOLDER/longest.safetensors``, a model that was the default of the package.

The network is trained on squares of 64 pixels, of windows of half a picture to a whole one, which teaches it pictures
as sharp as those that people have; on larger ones, of the size at which it is used; and on these with its trunk, twice,
at a rate so small that this keeps what it learned on ImageNet. At three times that rate it unlearned it. These learn
their pictures by heart; the mean of the last weights and the first does not, and was best on validation pictures. A
fifth training goes on from that mean, to see whether more helps.
"""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from colorstudy.colorize import Colorizer
from colorstudy.methods import METHODS
from colorstudy.study.evaluation import ColorizerLike, Gray
from colorstudy.training import TrainConfig, fit
from tools.ship import RESULTS, bank, compare, keep, mean, ship

FIRST = TrainConfig(6000, 24, 64, 1e-3, weight_decay=0.1, interval=250, threads=1)
SECOND = TrainConfig(2000, 24, 96, 5e-4, weight_decay=0.1, seed=1, interval=250, threads=1)
THIRD = TrainConfig(5000, 24, 96, 1e-4, weight_decay=0.1, seed=2, interval=250, threads=1)
FOURTH = replace(THIRD, steps=4400, seed=4)
FIFTH = replace(THIRD, steps=6000, seed=5)
DECODING: dict[str, Any] = {"size": 96, "rebalance": 0.3, "temperature": 1.0}  # chosen on validation pictures


def trained(folder: Path) -> list[Path]:
    """The run folders of the first four trainings."""
    pictures, frozen = bank(), METHODS["pretrained-class"]
    larger = replace(frozen, name="pretrained-class-96", start=frozen.name)
    tuned = replace(METHODS["tuned-class"], name="photos-tuned", start=larger.name)
    longer = replace(tuned, name="photos-tuned-on", start=tuned.name)
    runs: list[Path] = []
    for method, config in ((frozen, FIRST), (larger, SECOND), (tuned, THIRD), (longer, FOURTH)):
        runs.append(fit(method, pictures, config, folder / method.name, start=runs[-1] if runs else None))
    return runs


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    runs = trained(folder)
    began = folder / "longest"
    longest = ship(mean(runs[0], runs[-1]), **DECODING, path=folder / "longest.safetensors")
    began.mkdir(exist_ok=True)
    longest.model.save(began / "model.safetensors")
    method = replace(METHODS["tuned-class"], name="photos-on", start="longest")
    last = fit(method, bank(), FIFTH, folder / method.name, start=began)
    keep([*runs, last], RESULTS / "longest")
    models: dict[str, ColorizerLike] = {"gray": Gray(), "longest": longest}
    models["photos-on"] = Colorizer(mean(last), **DECODING)
    models["their mean"] = Colorizer(mean(began, last), **DECODING)
    pairs = [("longest", "gray"), ("photos-on", "longest"), ("their mean", "longest")]
    print(compare(models, pairs, RESULTS / "longest" / "longer").to_string())
