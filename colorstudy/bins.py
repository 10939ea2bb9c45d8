"""Colour bins: a quantization of the chroma plane, and the three maps between chroma and bins.

Nearest bin (labels), sparse soft encoding (training targets) and annealed mean (decoding) are Section 2 of Zhang, Isola
and Efros, "Colorful image colorization", ECCV 2016.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from scipy.spatial import ConvexHull
from torch import nn

from colorstudy._checks import require, require_maps
from colorstudy.color import SPACES, check_space, srgb_to_lab


class ColorBins(nn.Module):
    """A set of Q colour bins in the chroma plane of a space, kept as buffers, so that they move and save with a model.

    Parameters
    ----------
    centers : tensor (Q, 2)
        Bin centres in the units of `space`; stored sorted by (first, second) coordinate.
    space : {"lab", "yuv"}
    reachable : bool tensor (Q,), optional
        Which bins are the nearest bin of some sRGB colour, in the order of `centers`; all of them by default.

    Attributes
    ----------
    centers : float32 tensor (Q, 2)
    reachable : bool tensor (Q,)
    space : str

    Raises
    ------
    ValueError
        If `centers` is not (Q, 2), holds a centre twice or a value that is not finite, or `reachable` is not (Q,).
    """

    def __init__(self, centers: torch.Tensor, space: str = "lab", reachable: torch.Tensor | None = None) -> None:
        super().__init__()
        check_space(space)
        centers = torch.as_tensor(centers, dtype=torch.float32)
        require(
            centers.ndim == 2 and centers.shape[1] == 2 and len(centers) > 0,
            "centers",
            "shape (Q, 2) with Q > 0",
            tuple(centers.shape),
        )
        require(bool(centers.isfinite().all()), "centers", "finite values", centers[~centers.isfinite()].tolist())
        require(len(centers.unique(dim=0)) == len(centers), "centers", "Q different centres", "a centre twice")
        if reachable is None:
            reachable = torch.ones(len(centers), dtype=torch.bool)
        reachable = torch.as_tensor(reachable, dtype=torch.bool)
        require(reachable.shape == (len(centers),), "reachable", f"shape ({len(centers)},)", tuple(reachable.shape))

        order = centers[:, 1].argsort(stable=True)
        order = order[centers[order, 0].argsort(stable=True)]
        self.space = space
        self.register_buffer("centers", centers[order].contiguous())
        self.register_buffer("reachable", reachable[order])
        self._index: dict[int, _NeighborIndex] = {}
        self._grid: _Grid | None = None

    @classmethod
    def in_gamut(cls, step: int = 10) -> ColorBins:
        """The bins of Zhang et al. 2016: the ab grid points in gamut or beside it, derived here, not downloaded.

        Grid points with spacing `step` on [-110, 110]^2 are kept inside the convex hull of the sRGB gamut projected on
        the ab plane (233 for step 10) and dilated by their 8-neighbourhood: the 313 published bins. 261 of them are the
        nearest bin of some sRGB colour (`reachable`); the others can never be a label.

        Parameters
        ----------
        step : int
            Grid spacing in ab units, in [1, 110].

        Raises
        ------
        ValueError
            If `step` is outside of its range.
        """
        require(1 <= step <= 110, "step", "a spacing in [1, 110]", step)
        centers, reachable = _gamut_bins(step)
        return cls(centers, "lab", reachable)

    @classmethod
    def most_frequent(cls, counts: torch.Tensor, n: int = 32, space: str = "yuv") -> ColorBins:
        """The bins of Billaut et al. 2018: the `n` most frequent cells of an equal-sized grid over the chroma plane.

        Parameters
        ----------
        counts : tensor (rows, columns)
            How many pixels fall in each cell; see `prior.histogram`. Row i and column j cover the intervals i and j of
            an equal division of [-s, s], s the largest chroma of the space (`color.SPACES`).
        n : int
            Number of bins; ties are broken towards the smaller cell number.
        space : {"lab", "yuv"}

        Raises
        ------
        ValueError
            If `counts` is not a matrix of non-negative numbers, or has fewer than `n` cells that occur.
        """
        counts = torch.as_tensor(counts)
        require(counts.ndim == 2, "counts", "shape (rows, columns)", tuple(counts.shape))
        require(bool((counts >= 0).all()), "counts", "non-negative numbers", counts.min().item())
        occurring = int((counts > 0).sum())
        require(1 <= n <= occurring, "n", f"between 1 and the {occurring} cells that occur", n)
        cells = counts.flatten().argsort(descending=True, stable=True)[:n]
        rows, columns = cells // counts.shape[1], cells % counts.shape[1]
        return cls(grid_centers(counts.shape, space)[rows, columns], space)

    def __len__(self) -> int:
        return len(self.centers)

    def extra_repr(self) -> str:
        return f"{len(self)} bins in {self.space}, {int(self.reachable.sum())} reachable"

    def nearest(self, chroma: torch.Tensor) -> torch.Tensor:
        """Index of the nearest bin of every pixel.

        Parameters
        ----------
        chroma : tensor (B, 2, h, w)
            In the units of `space`.

        Returns
        -------
        int64 tensor (B, h, w)
            In [0, Q).

        Raises
        ------
        TypeError, ValueError
            If `chroma` is not a floating-point tensor of that shape.
        """
        points = _points(chroma)
        if self._grid is None or self._grid.centers.device != points.device:
            self._grid = _Grid(self.centers.to(points.device), self._index_of(points.device, 1))
        return self._grid(points.reshape(-1, 2)).view(points.shape[:3])

    def soft(self, chroma: torch.Tensor, neighbors: int = 5, sigma: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Sparse soft encoding: the nearest bins of every pixel, weighted by a Gaussian of their distance.

        This is H^-1 of Zhang et al. 2016, Section 2.2 (5 bins, sigma 5; the released code uses 10). The dense
        (B, Q, h, w) target is never built: the loss needs these indices and weights only.

        Parameters
        ----------
        chroma : tensor (B, 2, h, w)
            In the units of `space`.
        neighbors : int
            k, in [1, Q].
        sigma : float
            Width of the Gaussian in the units of `space`, > 0.

        Returns
        -------
        indices : int64 tensor (B, h, w, k)
            Nearest first.
        weights : tensor (B, h, w, k)
            In [0, 1]; they sum to 1 over k.

        Raises
        ------
        TypeError, ValueError
            If `chroma` has another shape, or `neighbors` or `sigma` is outside of its range.
        """
        require(1 <= neighbors <= len(self), "neighbors", f"an integer in [1, {len(self)}]", neighbors)
        require(sigma > 0, "sigma", "a width > 0", sigma)
        indices, squared = self._neighbors(chroma, neighbors)
        # A softmax is the normalised Gaussian, and stays finite where every exp(-d^2 / 2 sigma^2) underflows.
        return indices, torch.softmax(squared / (-2 * sigma**2), dim=-1)

    def annealed_mean(self, logits: torch.Tensor, temperature: float = 0.38) -> torch.Tensor:
        """Chroma of a predicted distribution: the mean of softmax(logits / T) over the bin centres.

        Zhang et al. 2016, Equation 5. T = 1 is the mean of the distribution, T -> 0 its mode.

        Parameters
        ----------
        logits : tensor (B, Q, h, w)
            Any finite values.
        temperature : float
            T > 0.

        Returns
        -------
        tensor (B, 2, h, w)
            In the units of `space`, at least float32.

        Raises
        ------
        TypeError, ValueError
            If `logits` has another shape or `temperature` is not positive.
        """
        require_maps(logits, "logits", len(self), f"(B, {len(self)}, h, w)")
        require(temperature > 0, "temperature", "a number > 0", temperature)
        logits = _at_least_float32(logits)
        # The maximum goes first: logits / T may overflow, (logits - max) / T only falls to -inf, whose exp is 0.
        shifted = logits - logits.amax(dim=-3, keepdim=True)
        shifted /= max(temperature, torch.finfo(logits.dtype).tiny)
        probabilities = torch.softmax(shifted, dim=-3).flatten(-2)  # (B, Q, h*w)
        mean = self.centers.T.to(probabilities) @ probabilities  # (2, Q) @ (B, Q, h*w)
        return mean.unflatten(-1, logits.shape[-2:])

    def _neighbors(self, chroma: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices and squared distances (B, h, w, k) of the k nearest bins, nearest first."""
        points = _points(chroma)
        indices, squared = self._index_of(points.device, k)(points.reshape(-1, 2))
        return indices.view(*points.shape[:3], k), squared.view(*points.shape[:3], k)

    def _index_of(self, device: torch.device, k: int) -> _NeighborIndex:
        index = self._index.get(k)
        if index is None or index.centers.device != device:
            index = self._index[k] = _NeighborIndex(self.centers.to(device), k)
        return index


class _Grid:
    """The nearest of centres that lie on a square grid: rounding finds the grid point of a colour, a table its centre.

    Colours whose grid point is no centre, and all colours if the centres lie on no grid, go to `index`.
    """

    def __init__(self, centers: torch.Tensor, index: _NeighborIndex) -> None:
        self.centers, self.index, self.table = centers, index, None
        self.low = centers.amin(0)
        self.spacing = torch.pdist(centers.cpu()).min().item() if len(centers) > 1 else 1.0
        places = (centers - self.low) / self.spacing
        self.shape = (places.round().amax(0) + 1).long().tolist()
        # A grid of many more cells than centres would be one by accident.
        if (places - places.round()).abs().max() > 1e-3 or self.shape[0] * self.shape[1] > 100 * len(centers) + 100:
            return
        rows, columns = places.round().long().unbind(1)
        # A border of no centres all around takes what lies outside.
        self.table = torch.full((self.shape[0] + 2, self.shape[1] + 2), -1, dtype=torch.long, device=centers.device)
        self.table[rows + 1, columns + 1] = torch.arange(len(centers), device=centers.device)

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Index (N,) of the centre nearest to each of `points` (N, 2)."""
        if self.table is None:
            return self.index(points)[0][:, 0]
        place = ((points - self.low) * (1 / self.spacing)).round_() + 1
        row, column = (place[:, i].clamp_(0, self.table.shape[i] - 1) for i in (0, 1))
        found = self.table.view(-1)[row.mul_(self.table.shape[1]).add_(column).long()]
        missed = (found < 0).nonzero()[:, 0]
        if len(missed) > 0:
            found[missed] = self.index(points[missed])[0][:, 0]
        return found


class _NeighborIndex:
    """Exact k nearest centres of many points, by a table of candidates.

    The plane around the centres is cut into small square cells. A cell of half-diagonal r around its middle m holds no
    point whose k nearest centres lie farther from m than d_k(m) + 2 r, by the triangle inequality; so a point is
    compared with those few candidates instead of all Q. Points outside of the table are compared with all.
    """

    _CELLS_PER_SPACING = 4

    def __init__(self, centers: torch.Tensor, k: int) -> None:
        self.centers, self.k = centers, k
        low, high = centers.amin(0), centers.amax(0)
        spacing = torch.pdist(centers.cpu()).min().item() if len(centers) > 1 else 1.0
        extent = (high - low).max().item() + 2 * spacing
        self.cell = max(spacing / self._CELLS_PER_SPACING, extent / 256)
        self.origin = low - spacing
        rows, columns = (((high - low + 2 * spacing) / self.cell).ceil().long() + 1).tolist()
        self.shape = (rows, columns)

        i, j = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        middles = self.origin + self.cell * (torch.stack([i, j], -1).view(-1, 2).to(centers) + 0.5)
        distance = torch.cdist(middles, centers)  # (cells, Q)
        bound = distance.kthvalue(k, dim=1, keepdim=True).values + self.cell * 2**0.5
        close = distance <= bound * (1 + 1e-5)
        width = int(close.sum(1).max())
        # The nearest `width` centres of a cell hold all its candidates; spare places hold centres that are farther.
        self.candidates = distance.topk(width, dim=1, largest=False).indices  # (cells, width)

    def __call__(self, points: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices and squared distances (N, k) of the nearest centres of `points` (N, 2), nearest first."""
        place = (points - self.origin) / self.cell
        inside = (place >= 0).all(1) & (place[:, 0] < self.shape[0]) & (place[:, 1] < self.shape[1])
        if bool(inside.all()):
            return self._search(points, place)
        indices = torch.empty(len(points), self.k, dtype=torch.long, device=points.device)
        squared = torch.empty(len(points), self.k, dtype=points.dtype, device=points.device)
        indices[inside], squared[inside] = self._search(points[inside], place[inside])
        outside = (~inside).nonzero()[:, 0]
        for some in outside.split(65536):  # bounds the memory of the (N, Q) distances
            # Through a matrix product, as cdist prefers, distances of far points would lose half of their digits.
            distance = torch.cdist(points[some], self.centers.to(points), compute_mode="donot_use_mm_for_euclid_dist")
            nearest, indices[some] = distance.topk(self.k, dim=1, largest=False, sorted=True)
            squared[some] = nearest.square()
        return indices, squared

    def _search(self, points: torch.Tensor, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        cell = place.long()
        candidates = self.candidates[cell[:, 0] * self.shape[1] + cell[:, 1]]  # (N, width)
        squared = (self.centers[candidates].to(points) - points[:, None]).square().sum(-1)
        nearest, which = squared.topk(self.k, dim=1, largest=False, sorted=True) if self.k > 1 else squared.min(1, True)
        return candidates.gather(1, which), nearest


def grid_centers(shape: tuple[int, int], space: str) -> torch.Tensor:
    """Centres (rows, columns, 2) of the equal-sized cells that divide [-s, s]^2, s the largest chroma of `space`."""
    check_space(space)
    axes = [SPACES[space] * ((2 * torch.arange(cells) + 1) / cells - 1) for cells in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1)


@lru_cache
def _gamut_bins(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres (Q, 2) of `ColorBins.in_gamut` and which of them are reachable."""
    surface = _gamut_surface()
    hull = torch.from_numpy(ConvexHull(surface.numpy()).equations)  # (faces, 3): n . x + c <= 0 inside
    half = 110 // step
    axis = step * torch.arange(-half, half + 1, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)  # (G, 2), sorted by (a, b)
    inside = (grid @ hull[:, :2].T + hull[:, 2] <= 0).all(1).view(len(axis), len(axis))
    # Dilation by the 8-neighbourhood is a maximum over 3 x 3.
    dilated = nn.functional.max_pool2d(inside[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    centers = grid[dilated.flatten()].float()
    return centers, reachable(centers)


def reachable(centers: torch.Tensor) -> torch.Tensor:
    """Which of the ab `centers` (Q, 2) are the nearest centre of some 8-bit sRGB colour: bool tensor (Q,)."""
    labels, _ = _NeighborIndex(centers, 1)(_gamut_surface().to(centers))
    found = torch.zeros(len(centers), dtype=torch.bool)
    found[labels.unique()] = True
    return found


@lru_cache
def _gamut_surface() -> torch.Tensor:
    """Chroma (N, 2) of all 8-bit colours on the faces of the RGB cube.

    Every chroma of the gamut occurs there: along a line of constant (a, b) only lightness changes, and the line leaves
    the cube through its faces.
    """
    steps = torch.linspace(0, 1, 256, dtype=torch.float64)
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    faces = [
        torch.stack(torch.stack([u, v, torch.full_like(u, end)]).roll(axis, 0).unbind())
        for axis in range(3)
        for end in (0.0, 1.0)
    ]
    return srgb_to_lab(torch.stack(faces))[:, 1:].permute(0, 2, 3, 1).reshape(-1, 2)


def _points(chroma: torch.Tensor) -> torch.Tensor:
    """Chroma (B, 2, h, w), checked, as points (B, h, w, 2) in at least float32."""
    require_maps(chroma, "chroma", 2, "(B, 2, h, w)")
    require(chroma.ndim == 4, "chroma", "shape (B, 2, h, w)", tuple(chroma.shape))
    return _at_least_float32(chroma.detach()).permute(0, 2, 3, 1)


def _at_least_float32(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.dtype == torch.float64 else tensor.float()
