"""The picture at the top of the README, in seconds, out of models that are in git: `python docs/hero.py`.

Four photographs that no network was trained on, in grey, by l2 and full of the package, by the model that
the package colours with by default, and in truth.
"""

from pathlib import Path

from matplotlib import use

from colorstudy.colorize import Colorizer
from colorstudy.data import load
from colorstudy.study import figures
from colorstudy.study.evaluation import gray

SHOWN = ("mvtb/church", "mvtb/parks", "skimage/chelsea", "skimage/coffee")


def main(out: Path, size: int = 256) -> Path:
    test = load("photos", size=size).test
    photographs = [test.images[list(test.names).index(name)] for name in SHOWN]
    models = [Colorizer.load("l2"), Colorizer.load("full"), Colorizer.load()]
    columns = [gray, *(model.colorize for model in models), lambda picture: picture]
    rows = {name.partition("/")[2]: [column(p) for column in columns] for name, p in zip(SHOWN, photographs)}
    figures.save(figures.pictures(rows, titles=["grey", "l2", "full", "shipped", "truth"], side=1.7), out)
    return out


if __name__ == "__main__":
    use("agg")
    print(main(Path(__file__).with_name("hero.jpg")))
