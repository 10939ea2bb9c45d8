"""One HTML page that shows what the models of the package make of four photographs, which scikit-image brings along."""

import base64
import io
from inspect import signature
from pathlib import Path
from string import Template

import numpy as np
import skimage
from PIL import Image

from colorstudy._files import write_text
from colorstudy.color import split, to_tensor
from colorstudy.colorize import WEIGHTS, Colorizer
from colorstudy.methods import METHODS
from colorstudy.metrics import auc, mean_chroma
from colorstudy.study.evaluation import gray

PHOTOGRAPHS = ("astronaut.png", "chelsea.png", "coffee.png", "rocket.jpg")  # of NASA, CC0, CC0, and CC0 of SpaceX
SIDE = 384  # the longer one, in pixels, of what is coloured, scored and shown


def page(path: str | Path) -> Path:
    """Write the page to `path`, whole and with its pictures inside; a row is grey, the models, and the truth."""
    default = signature(Colorizer.load).parameters["run_or_file"].default
    names = {file.stem for file in WEIGHTS.glob("*.safetensors")} - {default}
    models = {name: Colorizer.load(name) for name in [*sorted(names, key=[*METHODS, *names].index), default]}
    rows = [["grey", *(_head(name, model, name == default) for name, model in models.items()), "truth"]]
    for name in PHOTOGRAPHS:
        with Image.open(Path(skimage.__file__).parent / "data" / name) as image:
            image.thumbnail((SIDE, SIDE))
            true = np.array(image.convert("RGB"))
        made = [gray(true), *(model.colorize(true) for model in models.values()), true]
        rows.append([_cell(pixels, true, name) for pixels in made])
    table = "\n".join(f"<tr><td>{'</td><td>'.join(row)}</td></tr>" for row in rows)
    template = Template(Path(__file__).with_suffix(".html").read_text(encoding="utf-8"))
    write_text(path, template.substitute(width=94 // len(rows[0]), table=table))
    return Path(path)


def _head(name: str, colorizer: Colorizer, is_default: bool) -> str:
    method = colorizer.model.method
    kind = method.target if method.lam == 1 else f"rebalanced {method.target}"
    note = f"{kind}, trained on {colorizer.model.data}"
    return f"{name}{' (default)' if is_default else ''}<br><small>{note}</small>"


def _cell(pixels: np.ndarray, true: np.ndarray, name: str) -> str:
    """A picture (H, W, 3), uint8 sRGB, and under it its AuC and chroma ratio."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    source = f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
    chroma, truth = (split(to_tensor(image[None]))[1] for image in (pixels, true))
    scores = f"AuC {auc(chroma, truth).item():.3f}, chroma {(mean_chroma(chroma) / mean_chroma(truth)).item():.2f}"
    return f'<img alt="{name}" src="{source}"><br>{scores}'
