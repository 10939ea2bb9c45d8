"""Diffusion of colours over a picture, guided by its lightness.

Levin, Lischinski and Weiss, "Colorization using optimization", SIGGRAPH 2004.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy import sparse
from scipy.sparse.linalg import splu

from colorstudy._checks import require, require_maps

# Below this value of spread * variance a window is flat; 2e-6 for Y in [0, 1] in the released code of Levin et al.
_FLAT = 0.02
# The least weight of a neighbour beside the greatest: were it 0, a region without seeds could have any colour.
_FAINTEST = 1e-6


def diffuse(
    lightness: torch.Tensor, chroma: torch.Tensor, seeds: torch.Tensor, *, window: int = 3, spread: float = 0.3
) -> torch.Tensor:
    """Colours of the seeds, spread over a picture so that neighbours of like lightness get like colours.

    Minimises the sum over the pixels r that are no seeds of (U(r) - sum_s w_rs U(s))^2, the seeds' U given, as the
    released code of Levin et al. 2004 does; their Equation 1 has the terms of seeds as well. The minimum is 0: every
    other pixel is the weighted mean of its neighbours, so that no value leaves the range of the seeds. The weights are
    their Equation 2, w_rs proportional to exp(-(Y(r) - Y(s))^2 / (spread * variance of Y in the window of r)), and sum
    to 1 over the window, without its middle; none is less than 1e-6 of the greatest, so that every region is reached.

    Parameters
    ----------
    lightness : tensor (1, H, W)
        Y, in [0, 100].
    chroma : tensor (2, H, W)
        Of any space; only its values at seeds count.
    seeds : bool tensor (H, W)
        At least one.
    window : int
        Side of the neighbourhood, odd, >= 3. Time grows fast with it.
    spread : float
        > 0. 2 in the paper, 0.6 in its released code; at 0.3 nearly nothing passes a step of lightness, whose height
        cancels out, and the error on photographs is that of 0.6.

    Returns
    -------
    tensor (2, H, W)
        Like `chroma`, seeds unchanged. Computed in float64 by one sparse factorization for both maps.

    Raises
    ------
    TypeError
        If `lightness` or `chroma` is no floating-point tensor, or `seeds` no bool tensor.
    ValueError
        If a shape is another, there is no seed, a value that counts is not finite, or an option is out of its range.
    """
    require_maps(lightness, "lightness", 1, "(1, H, W)")
    require_maps(chroma, "chroma", 2, "(2, H, W)")
    shape = tuple(lightness.shape[-2:])
    require(lightness.ndim == 3 and lightness.numel() > 0, "lightness", "shape (1, H, W)", tuple(lightness.shape))
    require(chroma.shape == (2, *shape), "chroma", f"shape {(2, *shape)}, as lightness", tuple(chroma.shape))
    if not isinstance(seeds, torch.Tensor) or seeds.dtype != torch.bool:
        got = seeds.dtype if isinstance(seeds, torch.Tensor) else type(seeds).__name__
        raise TypeError(f"seeds: expected a bool tensor (H, W), got {got}")
    require(seeds.shape == shape, "seeds", f"shape {shape}, as lightness", tuple(seeds.shape))
    require(bool(seeds.any()), "seeds", "at least one seed", "none")
    require(window >= 3 and window % 2 == 1, "window", "an odd number >= 3", window)
    require(0 < spread < float("inf"), "spread", "a finite number > 0", spread)
    require(bool(lightness.isfinite().all()), "lightness", "finite values", "others")
    is_seed = seeds.detach().cpu().numpy().ravel()
    given = chroma.detach().cpu().double().numpy().reshape(2, -1)[:, is_seed]  # (2, seeds)
    require(bool(np.isfinite(given).all()), "chroma", "finite values at seeds", "others")
    result = chroma.detach().reshape(2, -1).clone()
    if is_seed.all():
        return result.unflatten(1, shape)

    weights = _affinities(lightness.detach()[0].cpu().double().numpy(), window, spread)
    free = np.concatenate(_dissection(np.arange(is_seed.size).reshape(shape), window // 2))
    free = free[~is_seed[free]]
    rows = weights[free]  # (free, H*W)
    system = sparse.identity(len(free), format="csc") - rows[:, free].tocsc()
    # The system is diagonally dominant, so it needs no pivoting, which would undo the order of the unknowns.
    factors = splu(system, permc_spec="NATURAL", diag_pivot_thresh=0.0, options={"SymmetricMode": True})
    found = torch.from_numpy(factors.solve(rows[:, is_seed] @ given.T))  # (free, 2)
    result[:, torch.from_numpy(free).to(result.device)] = found.T.to(result)
    return result.unflatten(1, shape)


def _affinities(lightness: np.ndarray, window: int, spread: float) -> sparse.csr_matrix:
    """The weights w_rs of `diffuse` for lightness (H, W), as an (H*W, H*W) matrix whose rows sum to 1."""
    radius = window // 2

    def windows(maps: np.ndarray, outside: float) -> np.ndarray:
        padded = np.pad(maps, radius, constant_values=outside)
        return np.lib.stride_tricks.sliding_window_view(padded, (window, window)).reshape(*maps.shape, -1)

    values = windows(lightness, np.nan)  # (H, W, window^2)
    scale = spread * np.nanvar(values, axis=-1, keepdims=True)
    exponents = -np.square(values - lightness[..., None]) / np.maximum(scale, _FLAT)
    exponents[..., window**2 // 2] = np.nan  # a pixel is no neighbour of itself
    inside = ~np.isnan(exponents)
    exponents[~inside] = -np.inf
    # The greatest goes first, so that one neighbour at least keeps its digits.
    best = exponents.max(axis=-1, keepdims=True)
    weights = np.where(inside, np.maximum(np.exp(exponents - best), _FAINTEST), 0)
    weights /= weights.sum(axis=-1, keepdims=True)
    pixels = np.arange(lightness.size).reshape(lightness.shape)
    columns = windows(pixels, 0)[inside]
    ends = np.cumsum(inside.sum(axis=-1).ravel())
    return sparse.csr_matrix((weights[inside], columns, np.r_[0, ends]), shape=(pixels.size, pixels.size))


def _dissection(pixels: np.ndarray, width: int) -> list[np.ndarray]:
    """Numbers (h, w) in an order that keeps factors sparse: two halves, then the strip of `width` between them.

    George, "Nested dissection of a regular finite element mesh", 1973; three times as fast here as SuperLU's own.
    """
    if pixels.shape[0] < pixels.shape[1]:
        pixels = pixels.T
    middle = len(pixels) // 2
    if middle < 4 * width:
        return [pixels.ravel()]
    halves = pixels[:middle], pixels[middle + width :]
    return [*_dissection(halves[0], width), *_dissection(halves[1], width), pixels[middle : middle + width].ravel()]
