"""A controlled world: pictures of four objects on grey ground, whose colours are drawn from distributions that we know.

Shape and texture, seen in grey, tell an object's distribution; its lightness is made without knowing its colour.
"""

import hashlib
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch

from colorstudy._checks import require
from colorstudy.bins import ColorBins
from colorstudy.color import lab_to_srgb, to_uint8
from colorstudy.data import ImageBank

GROUND = -1  # in a map of kinds: no object
_LIGHTNESS, _CONTRAST, _NOISE = 62.0, 9.0, 1.5  # every colour of every kind is in gamut from L* 45 to 76
_SHAPES = {
    "disc": lambda u, v: u**2 + v**2 <= 1,
    "square": lambda u, v: np.maximum(abs(u), abs(v)) <= 0.9,
    "diamond": lambda u, v: abs(u) + abs(v) <= 1,
}
_TEXTURES = {
    "plain": lambda u, v: np.zeros_like(u),
    "stripes": lambda u, v: np.sign(np.sin(3 * np.pi * v)),
    "bars": lambda u, v: np.sign(np.sin(3 * np.pi * u)),
    "ramp": lambda u, v: v,
    "checks": lambda u, v: np.sign(np.sin(2 * np.pi * u) * np.sin(2 * np.pi * v)),
    "rings": lambda u, v: np.sign(np.sin(3 * np.pi * np.hypot(u, v))),
}


class Kind(NamedTuple):
    """What an object can be: its texture and shape, and the chance of each colour."""

    name: str
    colors: tuple[tuple[float, float], ...]  # (a, b), on the grid of the bins of Zhang et al. 2016
    chances: tuple[float, ...]

    @property
    def mean(self) -> torch.Tensor:
        """The conditional mean (2,), for which squared error is least."""
        return torch.tensor(self.chances) @ torch.tensor(self.colors, dtype=torch.float32)

    def distribution(self, bins: ColorBins, weights: torch.Tensor | None = None, neighbors: int = 1) -> torch.Tensor:
        """The distribution (Q,) of least expected cross-entropy: p without `weights` w (Q,), of one neighbour w p.

        It is the sum over the colours c of P(c) w(c) Z(c), made to sum to 1, with Z the soft target of `neighbors`.
        """
        colors = torch.tensor(self.colors).T[None, :, None].to(bins.centers)  # (1, 2, 1, colours)
        indices, z = (part[0, 0] for part in bins.soft(colors, neighbors))  # (colours, k)
        w = 1 if weights is None else weights[indices[:, 0]].to(z)
        chances = torch.tensor(self.chances).to(z) * w
        p = torch.zeros(len(bins)).to(z).index_put_((indices,), chances[:, None] * z, accumulate=True)
        return p / p.sum()


KINDS = (  # two of one colour, two whose colours lie on opposite sides of grey, one with a rare colour, one with three
    Kind("stripes square", ((30, 40),), (1.0,)),
    Kind("rings disc", ((10, -40),), (1.0,)),
    Kind("checks square", ((40, 0), (-30, 0)), (0.7, 0.3)),
    Kind("ramp diamond", ((0, 40), (0, -30)), (0.6, 0.4)),
    Kind("plain disc", ((-20, 30), (30, -30)), (0.9, 0.1)),
    Kind("bars diamond", ((40, 20), (-30, 10), (0, -30)), (0.5, 0.3, 0.2)),
)


def fresh(size: int = 64) -> ImageBank:
    """A `world` of 48,000 training pictures, so that 3,000 steps of 16 show no picture twice."""
    return world(size, 60000)


@lru_cache(maxsize=1)  # training and scoring of a run ask for the same
def world(size: int = 64, count: int = 6000, seed: int = 0) -> ImageBank:
    """The `pictures` as a bank, every fifth for testing; 1,000 take about a second."""
    images, _ = pictures(size, count, seed)
    split = ("train",) * (count - count // 5) + ("test",) * (count // 5)
    names = tuple(f"{seed}/{i:06d}" for i in range(count))
    return ImageBank("world", images, names, split, hashlib.sha256(images.tobytes()).hexdigest())


def pictures(size: int, count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pictures uint8 (N, S, S, 3), and what their pixels show, int8 (N, S, S): indices into `KINDS`, or `GROUND`."""
    for name, (value, least) in {"size": (size, 32), "count": (count, 1), "seed": (seed, 0)}.items():
        require(type(value) is int and value >= least, name, f"an integer >= {least}", repr(value))
    rng = np.random.default_rng(seed)
    parts = [_drawn(size, min(1000, count - start), rng) for start in range(0, count, 1000)]
    images, kinds = (np.concatenate(part) for part in zip(*parts))
    return images, kinds


def _drawn(size: int, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    lab = np.zeros((count, 3, size, size), np.float32)
    lab[:, 0] = _LIGHTNESS + rng.uniform(-5, 5, (count, 1, 1))
    kinds = np.full((count, size, size), GROUND, np.int8)
    half = size / 2
    rows, columns = np.mgrid[:size, :size] + 0.5
    for i, quarter in np.ndindex(count, 4):
        k = int(rng.integers(len(KINDS)))
        texture, shape = KINDS[k].name.split()
        reach = half * 0.4 * rng.uniform(0.8, 1.2)  # half the side of the object, which lies anywhere in its quarter
        top, left = (half * np.array(divmod(quarter, 2))) + rng.uniform(reach, half - reach, 2)
        u, v = (columns - left) / reach, (rows - top) / reach
        inside = _SHAPES[shape](u, v)
        lab[i, 0, inside] = _LIGHTNESS + _CONTRAST * _TEXTURES[texture](u[inside], v[inside])
        lab[i, 1:, inside] = KINDS[k].colors[rng.choice(len(KINDS[k].colors), p=KINDS[k].chances)]
        kinds[i, inside] = k
    lab[:, 0] += rng.normal(0, _NOISE, (count, size, size)).clip(-3, 3)  # hides how sRGB rounds each colour
    return to_uint8(lab_to_srgb(torch.from_numpy(lab))), kinds
