"""Colour hints: keep the confident pixels of a predicted distribution and diffuse their colours over the lightness.

Billaut, de Rochemonteix and Thibault, "ColorUNet", 2018, propose it (with "seeds") and do not build it: how many hints
and where is our choice. They spread as in Levin, Lischinski and Weiss, "Colorization using optimization", 2004.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from scipy import sparse
from scipy.sparse.linalg import splu

from colorstudy._checks import require, require_choice
from colorstudy.color import merge, split, to_tensor
from colorstudy.colorize import Colorizer
from colorstudy.data import ImageBank
from colorstudy.filters import downscale
from colorstudy.study.evaluation import ColorizerLike, Gray, evaluate

KINDS = ("top", "ratio")  # of `confidence`
_LIMIT = 640  # pixels of the longer side of what colours are diffused over, which bounds time and memory
_SPREAD = 0.3  # 2 in the paper of Levin et al. and 0.6 in their code; at 0.3 nearly nothing passes a step of lightness
_FLAT = 0.02  # below this spread * variance a window is flat; 2e-6 for Y in [0, 1] in their code
_FAINTEST = 1e-6  # least weight of a neighbour beside the greatest: were it 0, a region without hints had any colour


def confidence(probabilities: torch.Tensor, kind: str = "top") -> torch.Tensor:
    """How sure a predicted distribution (B, Q, h, w) is, pixel by pixel: (B, h, w) in [0, 1], at least float32.

    Billaut et al. 2018 name the top probability p1, our "top", and the ratio of the first two. As p1 / p2 has no bound,
    "ratio" is 1 - p2 / p1: the same order of pixels, 0 where two bins tie, 1 where all but one are impossible.
    """
    require_choice(kind, KINDS, "kind")
    p = probabilities.to(torch.promote_types(probabilities.dtype, torch.float32))
    first, second = p.topk(2, dim=1).values.unbind(dim=1)
    return first if kind == "top" else 1 - second / first


@torch.inference_mode()
def confidence_map(colorizer: Colorizer, image: np.ndarray, kind: str = "top") -> np.ndarray:
    """How sure a classifier is of each part of a uint8 picture (H, W, 3): (h, w) in [0, 1], the size of its output."""
    require(colorizer.is_distribution, "colorizer", "a classification", f"a {colorizer.model.method.target}")
    lightness, _ = split(to_tensor(image)[None].to(colorizer.device), colorizer.space)
    return confidence(colorizer.predict(lightness), kind)[0].cpu().numpy()


@torch.inference_mode()
def by_confidence(
    colorizer: Colorizer, bank: ImageBank, kind: str = "top", groups: int = 10, most: int | None = None
) -> pd.DataFrame:
    """Error and chroma where a network is unsure and where it is sure; the model is a classification in Lab.

    The pixels of the network's output over all test pictures, or `most`, evenly spaced, are ordered by `confidence` and
    cut into equal groups. A row for every picture and group: ``image``, ``group`` (1 the least confident), ``pixels``,
    maybe none, and the sums over these of ``error`` (distance of the decoded from the true ab), ``chroma`` (of the
    truth) and ``confidence``.
    """
    got = f"a {colorizer.model.method.target} in {colorizer.space}"
    require(colorizer.is_distribution and colorizer.space == "lab", "colorizer", "a classification in lab", got)
    require(groups >= 1, "groups", "a number >= 1", groups)
    parts, test = [], bank.test
    some = slice(None, None, -(-len(test) // (most or len(test))))
    for name, image in zip(test.names[some], test.images[some], strict=True):
        lightness, chroma = split(to_tensor(image)[None].to(colorizer.device))
        prediction = colorizer.predict(lightness)  # (1, Q, h, w)
        truth = F.interpolate(chroma, prediction.shape[-2:], mode="area")
        error = (colorizer.decode(prediction) - truth).norm(dim=1)  # (1, h, w)
        columns = {"pixels": torch.ones_like(error, dtype=torch.long), "error": error, "chroma": truth.norm(dim=1)}
        columns["confidence"] = confidence(prediction, kind)
        parts.append(pd.DataFrame({k: v.flatten().cpu().numpy() for k, v in columns.items()}).assign(image=name))
    pixels = pd.concat(parts, ignore_index=True)
    rank = pixels["confidence"].rank(method="first") - 1  # ties keep their order
    pixels["group"] = (rank * groups // len(pixels)).astype(int) + 1
    whole = pd.MultiIndex.from_product([test.names[some], range(1, groups + 1)], names=["image", "group"])
    return pixels.groupby(["image", "group"]).sum().reindex(whole, fill_value=0).reset_index()


class HintColorizer(Colorizer):
    """A `Colorizer` that trusts the network where it is sure, and diffuses these colours over the rest.

    Of a classification's output the `share` in (0, 1] of the pixels, at least one, with the greatest `confidence` of a
    `kind` become hints, each at the middle of its cell. They are diffused over the downscaled lightness and enlarged.
    """

    def __init__(self, *args: Any, share: float = 0.1, kind: str = "top", **options: Any) -> None:
        super().__init__(*args, **options)
        got = f"{self.model.method.name}, a {self.model.method.target}, which has no confidence"
        require(self.is_distribution, "model", "a classification", got)
        require(0 < share <= 1, "share", "a share in (0, 1]", share)
        self.share, self.kind = share, kind

    @torch.inference_mode()
    def render(self, lightness: torch.Tensor, prediction: torch.Tensor, *, as_bytes: bool = False) -> torch.Tensor:
        """sRGB (B, 3, H, W) of lightness (B, 1, H, W), coloured from the hints of a prediction (B, Q, h, w)."""
        size, (h, w) = lightness.shape[-2:], prediction.shape[-2:]
        guides = downscale(lightness, _LIMIT / max(size))
        height, width = guides.shape[-2:]
        colors, sure = self.decode(prediction).cpu().numpy(), confidence(prediction, self.kind).cpu().numpy()
        chroma = []
        for n, guide in enumerate(guides):
            # Least confident first: where a long output has several cells in one pixel, the surest is written last.
            order = np.argsort(sure[n], axis=None, kind="stable")[-max(1, round(self.share * h * w)) :]
            i, j = order // w, order % w
            rows, columns = (2 * i + 1) * height // (2 * h), (2 * j + 1) * width // (2 * w)
            given, hints = np.zeros((2, height, width), np.float32), np.zeros((height, width), bool)
            given[:, rows, columns] = colors[n][:, i, j]
            hints[rows, columns] = True
            chroma.append(diffuse(guide, torch.from_numpy(given).to(guide.device), torch.from_numpy(hints)))
        return merge(lightness, F.interpolate(torch.stack(chroma), size, mode="bilinear"), self.space)


def scored(
    colorizer: Colorizer, bank: ImageBank, shares: Sequence[float], kind: str = "top", most: int | None = None
) -> pd.DataFrame:
    """`evaluate` of grey, the annealed mean and hints of each of `shares`, in words in the column ``decoding``."""
    decoders: dict[str, ColorizerLike] = {"gray": Gray(), "annealed mean": colorizer}
    for share in shares:
        decoders[f"{share:.0%} hints"] = HintColorizer(colorizer.model, colorizer.size, share=share, kind=kind)
    found = {name: evaluate(decoder, bank, most=most) for name, decoder in decoders.items()}
    return pd.concat(found, names=["decoding"]).reset_index()


def diffuse(lightness: torch.Tensor, chroma: torch.Tensor, hints: torch.Tensor) -> torch.Tensor:
    """Chroma (2, H, W) of the hints, spread over a picture so that neighbours of like lightness get like colours.

    `chroma` (2, H, W) stays as it is where the bool tensor `hints` (H, W) is true, at one pixel at least. Every other
    pixel r becomes the mean of its eight neighbours s with the weights of Levin et al. 2004, Equation 2: w_rs is
    proportional to exp(-(Y(r) - Y(s))^2 / (spread * variance of Y around r)), with Y the `lightness` (1, H, W) in
    [0, 100]. There what their code minimises, Equation 1 without the terms of hints, is 0.
    """
    is_hint = hints.cpu().numpy().ravel()
    pixels = _dissection(np.arange(is_hint.size).reshape(hints.shape))
    free = pixels[~is_hint[pixels]]
    if len(free) == 0:
        return chroma.clone()
    given = chroma.cpu().double().numpy().reshape(2, -1)[:, is_hint]  # (2, hints)
    rows = _affinities(lightness[0].cpu().double().numpy())[free]  # (free, H*W)
    system = sparse.identity(len(free), format="csc") - rows[:, free].tocsc()
    # The system is diagonally dominant, so it needs no pivoting, which would undo the order of the unknowns.
    factors = splu(system, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    found = torch.from_numpy(factors.solve(rows[:, is_hint] @ given.T))  # (free, 2)
    result = chroma.reshape(2, -1).clone()
    result[:, torch.from_numpy(free).to(result.device)] = found.T.to(result)
    return result.view_as(chroma)


def _affinities(lightness: np.ndarray) -> sparse.csr_matrix:
    """The weights w_rs of `diffuse` for lightness (H, W), as an (H*W, H*W) matrix whose rows sum to 1."""
    y, size = lightness.ravel(), lightness.size
    padded = np.pad(np.arange(size).reshape(lightness.shape), 1, constant_values=size)  # those outside have this number
    around = np.lib.stride_tricks.sliding_window_view(padded, (3, 3)).reshape(size, 9)
    values = np.append(y, np.nan)[around]  # (H*W, 9)
    scale = np.maximum(_SPREAD * np.nanvar(values, axis=1, keepdims=True), _FLAT)
    exponents = np.nan_to_num(-np.square(values - y[:, None]) / scale, nan=-np.inf)
    exponents[:, 4] = -np.inf  # a pixel is no neighbour of itself
    # The greatest goes first, so that one neighbour at least keeps its digits.
    weights = np.maximum(np.exp(exponents - exponents.max(axis=1, keepdims=True)), _FAINTEST)
    weights[np.isneginf(exponents)] = 0
    weights /= weights.sum(axis=1, keepdims=True)
    row, column = weights.nonzero()
    return sparse.csr_matrix((weights[row, column], (row, around[row, column])), shape=(size, size))


def _dissection(pixels: np.ndarray) -> np.ndarray:
    """Numbers (h, w) ordered so that factors stay sparse: two halves, then the line between them (George 1973)."""
    pixels = pixels.T if pixels.shape[0] < pixels.shape[1] else pixels
    middle = len(pixels) // 2
    if middle < 4:
        return pixels.ravel()
    return np.concatenate([_dissection(pixels[:middle]), _dissection(pixels[middle + 1 :]), pixels[middle]])
