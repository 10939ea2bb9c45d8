"""A controlled world: procedural pictures whose colours are drawn from distributions that we know.

Photographs never tell how likely each colour of a place was; here everyone can say what each method should answer. A
picture shows four objects on grey ground. Shape and texture, which are visible in grey, tell the kind of an object; its
colour is drawn from the distribution of that kind alone, some with modes on opposite sides of grey. Lightness is made
without knowing the colour, and carries noise well above the rounding of sRGB, so that it cannot give the colour away.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import torch

from colorstudy._checks import require
from colorstudy.bins import ColorBins
from colorstudy.color import lab_to_srgb
from colorstudy.data.bank import ImageBank

GROUND = -1
"""In a map of kinds: no object."""

_LIGHTNESS, _CONTRAST, _NOISE = 62.0, 9.0, 1.5  # every colour of every kind is in gamut from L* 45 to 76
_REACH = 0.4  # half the side of an object, of that of its quarter of the picture
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


@dataclass(frozen=True)
class Kind:
    """What an object can be, and how its colour is drawn.

    Attributes
    ----------
    shape, texture : str
        What is seen in grey.
    colors : tuple of (a, b)
        On the grid of the bins of Zhang et al., so that each is the centre of one.
    chances : tuple of float
        Of each colour; they sum to 1.
    """

    shape: str
    texture: str
    colors: tuple[tuple[float, float], ...]
    chances: tuple[float, ...]

    @property
    def name(self) -> str:
        return f"{self.texture} {self.shape}"

    @property
    def mean(self) -> torch.Tensor:
        """The conditional mean (2,): what squared error is least for."""
        return torch.tensor(self.chances) @ torch.tensor(self.colors, dtype=torch.float32)

    def distribution(
        self, bins: ColorBins, weights: torch.Tensor | None = None, neighbors: int = 1, sigma: float = 5.0
    ) -> torch.Tensor:
        """The distribution (Q,) for which the expected cross-entropy of `targets.Classification` is least.

        The sum over the colours c of P(c) w(c) Z(c), made to sum to 1, with Z the soft target: p for equal `weights`
        (Q,) and one neighbour, and proportional to w p with others.
        """
        colors = torch.tensor(self.colors).T[None, :, None].to(bins.centers)  # (1, 2, 1, colours)
        indices, z = (part[0, 0] for part in bins.soft(colors, neighbors, sigma))  # (colours, k)
        chances = torch.tensor(self.chances).to(z)
        if weights is not None:
            chances = chances * weights[indices[:, 0]].to(z)
        p = torch.zeros(len(bins)).to(z).index_put_((indices,), chances[:, None] * z, accumulate=True)
        return p / p.sum()


KINDS = (
    Kind("square", "stripes", ((30, 40),), (1.0,)),
    Kind("disc", "rings", ((10, -40),), (1.0,)),
    Kind("square", "checks", ((40, 0), (-30, 0)), (0.7, 0.3)),
    Kind("diamond", "ramp", ((0, 40), (0, -30)), (0.6, 0.4)),
    Kind("disc", "plain", ((-20, 30), (30, -30)), (0.9, 0.1)),
    Kind("diamond", "bars", ((40, 20), (-30, 10), (0, -30)), (0.5, 0.3, 0.2)),
)
"""Two of one colour, two whose colours lie on opposite sides of grey, one with a rare colour, one with three."""


def world(size: int = 64, count: int = 2500, seed: int = 0) -> ImageBank:
    """Pictures of the world as a bank, every fifth for testing; made in a few seconds, cached nowhere.

    Parameters
    ----------
    size : int
        Side of the pictures in pixels, at least 32.
    count, seed : int
        Of `pictures`.
    """
    images, _ = pictures(size, count, seed)
    tests = count // 5
    split = ("train",) * (count - tests) + ("test",) * tests
    names = tuple(f"{seed}/{i:06d}" for i in range(count))
    return ImageBank("world", images, names, split, hashlib.sha256(images.tobytes()).hexdigest(), {}, ())


def pictures(size: int = 64, count: int = 2500, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """The pictures of `world`, with the kind of every pixel.

    Returns
    -------
    images : uint8 array (count, size, size, 3)
        sRGB.
    kinds : int8 array (count, size, size)
        Index into `KINDS`, or `GROUND`.

    Raises
    ------
    ValueError
        If `size` is below 32, where textures get lost, `count` below 1 or `seed` negative.
    """
    require(type(size) is int and size >= 32, "size", "pixels >= 32", repr(size))
    require(type(count) is int and count >= 1, "count", "an integer >= 1", repr(count))
    require(type(seed) is int and seed >= 0, "seed", "an integer >= 0", repr(seed))
    rng = np.random.default_rng(seed)
    lab = np.zeros((count, 3, size, size), np.float32)
    lab[:, 0] = _LIGHTNESS + rng.uniform(-5, 5, (count, 1, 1))
    kinds = np.full((count, size, size), GROUND, np.int8)
    half = size / 2
    rows, columns = np.mgrid[:size, :size] + 0.5
    for i in range(count):
        for quarter in range(4):
            k = int(rng.integers(len(KINDS)))
            kind = KINDS[k]
            # Anywhere in its quarter, a fifth smaller or larger.
            reach = half * _REACH * rng.uniform(0.8, 1.2)
            top, left = (half * np.array(divmod(quarter, 2))) + rng.uniform(reach, half - reach, 2)
            u, v = (columns - left) / reach, (rows - top) / reach
            inside = _SHAPES[kind.shape](u, v)
            a, b = kind.colors[rng.choice(len(kind.chances), p=kind.chances)]
            texture = _TEXTURES[kind.texture](u[inside], v[inside])
            lab[i, :, inside] = np.stack([_LIGHTNESS + _CONTRAST * texture, *np.broadcast_arrays(a, b, texture)[:2]], 1)
            kinds[i, inside] = k
    lab[:, 0] += rng.normal(0, _NOISE, (count, size, size)).clip(-3, 3)
    rgb = (lab_to_srgb(torch.from_numpy(lab)) * 255).round().byte()
    return rgb.permute(0, 2, 3, 1).contiguous().numpy(), kinds
