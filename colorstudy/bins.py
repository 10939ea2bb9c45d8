"""Colour bins: a quantization of the chroma plane, and the maps between chroma and bins of Zhang, Isola, Efros 2016."""

from functools import lru_cache

import scipy  # whose parts are imported when they are used
import torch
from torch import nn

from colorstudy._checks import require, require_choice, require_maps
from colorstudy.color import SPACES, srgb_to_lab


class ColorBins(nn.Module):
    """A set of Q colour bins in the chroma plane of a space, kept as buffers, so that they move and save with a model.

    `centers` (Q, 2) differ, in the units of `space`; they are stored as float32, sorted by (first, second) coordinate.
    `reachable`, bool (Q,) in the order of `centers`, says which bins are the nearest of some sRGB colour.
    """

    centers: torch.Tensor
    reachable: torch.Tensor

    def __init__(self, centers: torch.Tensor, space: str = "lab", reachable: torch.Tensor | None = None) -> None:
        super().__init__()
        require_choice(space, SPACES, "space")
        centers = torch.as_tensor(centers, dtype=torch.float32)
        good = centers.ndim == 2 and centers.shape[1] == 2 and len(centers) > 0
        require(good, "centers", "shape (Q, 2) with Q > 0", tuple(centers.shape))
        require(bool(centers.isfinite().all()), "centers", "finite values", centers[~centers.isfinite()].tolist())
        require(len(centers.unique(dim=0)) == len(centers), "centers", "Q different centres", "a centre twice")
        reachable = torch.as_tensor(torch.ones(len(centers)) if reachable is None else reachable, dtype=torch.bool)
        require(reachable.shape == (len(centers),), "reachable", f"shape ({len(centers)},)", tuple(reachable.shape))
        order = centers[:, 1].argsort(stable=True)
        order = order[centers[order, 0].argsort(stable=True)]
        self.space = space
        self.register_buffer("centers", centers[order].contiguous())
        self.register_buffer("reachable", reachable[order])
        self._grid = _Grid(self.centers)

    @classmethod
    def in_gamut(cls, step: int = 10) -> "ColorBins":
        """The bins of Zhang et al. 2016, derived here: grid points on [-110, 110]^2, `step` in [1, 110] apart.

        Those inside the convex hull of the sRGB gamut projected on the ab plane (233 for step 10), dilated by their
        8-neighbourhood: the 313 published bins. 261 of them are `reachable`; the others can never be a label.
        """
        require(1 <= step <= 110, "step", "a spacing in [1, 110]", step)
        centers, reachable = _gamut_bins(step)
        return cls(centers, "lab", reachable)

    @classmethod
    def most_frequent(cls, counts: torch.Tensor, n: int = 32, space: str = "yuv") -> "ColorBins":
        """Billaut et al. 2018: the `n` most frequent cells of `counts` (rows, columns), as of `prior.histogram`."""
        counts = torch.as_tensor(counts)
        require(counts.ndim == 2, "counts", "shape (rows, columns)", tuple(counts.shape))
        require(bool((counts >= 0).all()), "counts", "non-negative numbers", counts.min().item())
        occurring = int((counts > 0).sum())
        require(1 <= n <= occurring, "n", f"between 1 and the {occurring} cells that occur", n)
        require_choice(space, SPACES, "space")
        cells = counts.flatten().argsort(descending=True, stable=True)[:n]
        places = torch.stack([cells // counts.shape[1], cells % counts.shape[1]], dim=1)  # (n, 2)
        return cls(SPACES[space] * ((2 * places + 1) / torch.tensor(counts.shape) - 1), space)

    def __len__(self) -> int:
        return len(self.centers)

    def extra_repr(self) -> str:
        return f"{len(self)} bins in {self.space}, {int(self.reachable.sum())} reachable"

    def nearest(self, chroma: torch.Tensor) -> torch.Tensor:
        """Index of the nearest bin of every pixel of chroma (B, 2, h, w): int64 (B, h, w) in [0, Q)."""
        points = _points(chroma)
        require(bool(points.isfinite().all()), "chroma", "finite values", "others")
        found = self._grid(points)
        missed = found < 0
        if bool(missed.any()):
            found[missed] = self._search(points[missed], 1)[0][0]
        return found

    def soft(self, chroma: torch.Tensor, neighbors: int = 5, sigma: float = 5.0) -> tuple[torch.Tensor, torch.Tensor]:
        """Sparse soft encoding: the k nearest bins of every pixel, weighted by a Gaussian of their distance.

        H^-1 of Zhang et al. 2016, Section 2.2 (5 bins, sigma 5; the released code uses 10): of chroma (B, 2, h, w) the
        indices, int64, nearest first, and the weights, with sum 1, each (B, h, w, k). `sigma` is in the units of
        `space`. The dense (B, Q, h, w) target is never built.
        """
        require(1 <= neighbors <= len(self), "neighbors", f"an integer in [1, {len(self)}]", neighbors)
        require(sigma > 0, "sigma", "a width > 0", sigma)
        points = _points(chroma)
        indices, squares = self._neighbors(points.flatten(0, 2), neighbors)  # each (k, N)
        # A softmax is the normalised Gaussian, and stays finite where every exp(-d^2 / 2 sigma^2) underflows.
        weights = torch.softmax(squares / (-2 * sigma**2), dim=0)
        shape = (neighbors, *points.shape[:3])
        return indices.view(shape).movedim(0, -1), weights.view(shape).movedim(0, -1)

    def annealed_mean(self, logits: torch.Tensor, temperature: float = 0.38) -> torch.Tensor:
        """Chroma (B, 2, h, w) of a predicted distribution: the mean of softmax(logits / T) over the bin centres.

        Zhang et al. 2016, Equation 5. T = 1 is the mean of the distribution, T -> 0 its mode. `logits` (B, Q, h, w) are
        any finite values, and T > 0; computed in float32 at least.
        """
        require_maps(logits, "logits", len(self), f"(B, {len(self)}, h, w)")
        require(temperature > 0, "temperature", "a number > 0", temperature)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
        sums = torch.cat([self.centers, torch.ones_like(self.centers[:, :1])], dim=1).T.to(logits)  # (3, Q)
        means = []
        for one in logits.flatten(2):  # (Q, h*w); one picture after the other, which fits into a processor's cache
            # The maximum goes first: logits / T may overflow, (logits - max) / T only falls to -inf, whose exp is 0.
            p = (one - one.amax(0)).div_(max(temperature, torch.finfo(one.dtype).tiny)).exp_()
            moments = sums @ p  # (3, h*w): sum of p a, sum of p b, sum of p
            means.append(moments[:2] / moments[2])
        return torch.stack(means).unflatten(-1, logits.shape[-2:])

    def _neighbors(self, points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices and squared distances (k, N) of the k centres nearest to each of `points` (N, 2), nearest first."""
        if k > 5:
            return self._search(points, k)
        indices, squares = self._grid.around(points, k)
        missed = (indices < 0).any(0)
        if bool(missed.any()):
            indices[:, missed], squares[:, missed] = self._search(points[missed], k)
        return indices, squares

    def _search(self, points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """The same among all centres, wherever they lie."""
        if points.device.type != "cpu":  # all distances, where they are cheaper than to ask the processor
            nearest = torch.cdist(self.centers.to(points), points).topk(k, dim=0, largest=False)
            return nearest.indices, nearest.values.square()
        distances, indices = scipy.spatial.cKDTree(self.centers.cpu()).query(points.numpy(), range(1, k + 1))
        return torch.as_tensor(indices).T, torch.as_tensor(distances, dtype=points.dtype).T.square()


class _Grid:
    """The centres nearest to a colour, on a square grid, found by rounding; -1 for no centre there, or no grid."""

    def __init__(self, centers: torch.Tensor) -> None:
        self.low = centers.amin(0)
        self.spacing = torch.pdist(centers).min().item() if len(centers) > 1 else 1.0
        places = (centers - self.low) / self.spacing
        rows, columns = places.round().long().unbind(1)
        shape = [int(n.max()) + 5 for n in (rows, columns)]  # with a border of no centres, for what lies outside
        # A grid of many more cells than centres would be one by accident.
        regular = (places - places.round()).abs().max() <= 1e-3 and shape[0] * shape[1] <= 100 * len(centers) + 1000
        self.table = torch.full(shape if regular else [5, 5], -1)
        if regular:
            self.table[rows + 2, columns + 2] = torch.arange(len(centers))

    def __call__(self, points: torch.Tensor) -> torch.Tensor:
        """Index (*) of the centre nearest to each of `points` (*, 2), or -1."""
        return self.table.to(points.device).view(-1)[self._cell(self._place(points))]

    def around(self, points: torch.Tensor, k: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Indices, or -1, and squared distances (k, N) of the k <= 5 grid points nearest to `points` (N, 2)."""
        place = self._place(points)
        offset = place - place.round()  # from the nearest grid point; the five nearest are among the 3 x 3 around it
        steps = torch.cartesian_prod(*2 * [torch.arange(-1, 2, device=points.device)])  # (9, 2)
        squares = (offset.T[:, None] - steps.T[:, :, None]).square_().sum(0)  # (9, N)
        nearest = squares.topk(k, dim=0, largest=False)
        cells = self._cell(place) + (steps[:, 0] * self.table.shape[1] + steps[:, 1])[nearest.indices]
        return self.table.to(points.device).view(-1)[cells], self.spacing**2 * nearest.values

    def _place(self, points: torch.Tensor) -> torch.Tensor:
        """Coordinates on the grid."""
        return (points - self.low.to(points)) * (1 / self.spacing)

    def _cell(self, place: torch.Tensor) -> torch.Tensor:
        """Where in the flat table the grid point nearest to a `place` (*, 2) stands; far ones in its border."""
        row, column = (place[..., i].round().add_(2).clamp_(1, self.table.shape[i] - 2) for i in (0, 1))
        return row.mul_(self.table.shape[1]).add_(column).long()


@lru_cache
def _gamut_bins(step: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Centres (Q, 2) of `ColorBins.in_gamut` and which of them are reachable."""
    hull = torch.from_numpy(scipy.spatial.ConvexHull(_gamut_surface()).equations)  # (faces, 3): n . x + c <= 0 inside
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
    _, labels = scipy.spatial.cKDTree(centers).query(_gamut_surface())
    found = torch.zeros(len(centers), dtype=torch.bool)
    found[torch.from_numpy(labels).unique()] = True
    return found


@lru_cache
def _gamut_surface() -> torch.Tensor:
    """Chroma (N, 2) of all 8-bit colours on the faces of the RGB cube, where every chroma of the gamut occurs.

    Along a line of constant (a, b) only lightness changes, and the line leaves the cube through its faces.
    """
    steps = torch.linspace(0, 1, 256, dtype=torch.float64)
    u, v = torch.meshgrid(steps, steps, indexing="ij")
    ends = [torch.stack([u, v, torch.full_like(u, end)]).roll(axis, 0) for axis in range(3) for end in (0.0, 1.0)]
    return srgb_to_lab(torch.stack(ends))[:, 1:].permute(0, 2, 3, 1).reshape(-1, 2)


def _points(chroma: torch.Tensor) -> torch.Tensor:
    """Chroma (B, 2, h, w) as points (B, h, w, 2) in at least float32, without gradient."""
    require_maps(chroma, "chroma", 2, "(B, 2, h, w)")
    return chroma.detach().to(torch.promote_types(chroma.dtype, torch.float32)).permute(0, 2, 3, 1)
