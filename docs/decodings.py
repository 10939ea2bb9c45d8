"""The fronts of the paper out of the domain: `python docs/decodings.py results/photos16k kodak bsds300`.

Of every run there that is a classification and has its model, the pictures of each set at every strength and
temperature at which the profile decodes validation pictures: runs/<run>/decodings-<set>.csv. Minutes a run and core.
"""

import sys
from pathlib import Path

from findings import plan

from colorstudy._files import replacing
from colorstudy.data import load
from colorstudy.study.evaluation import decodings
from colorstudy.study.run import Run


def main(results: Path, sets: list[str]) -> None:
    settings = plan(results.name).defaults("04-evaluate")
    for path in sorted(results.glob("runs/*/model.safetensors")):
        run = Run(path.parent)
        colorizer = run.colorizer()
        for name in sets if colorizer.is_distribution else []:
            bank, target = load(name, size=settings["size"]), run.path / f"decodings-{name}.csv"
            if target.exists():
                continue
            table = decodings(colorizer, bank, settings["strengths"], settings["temperatures"])
            with replacing(target) as temporary:
                table.to_csv(temporary, float_format="%.8g")
            print(target, flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
