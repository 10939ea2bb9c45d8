"""`cheng`: Cheng, Yang and Sheng 2015, "Deep colorization", and the same without each of its parts."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import torch
import torch.nn.functional as F
from scipy.cluster.vq import ClusterError, kmeans2
from skimage.feature import daisy
from torch import nn

from colorstudy._checks import require
from colorstudy.networks._layers import LightnessNetwork
from colorstudy.networks._trunk import Trunk

PATCH = 7
"""Side of the grey patch in pixels."""

RADIUS = 15
"""How far a DAISY descriptor looks, in pixels."""


class Cheng(LightnessNetwork):
    """A small dense network for every pixel, on what is known of the pixel: its patch, its texture and its meaning.

    Reconstructed from secondary accounts. Known: a 7 x 7 grey patch, a DAISY descriptor of 32 numbers and a semantic
    histogram a pixel; three hidden layers, each about half of its input; pictures clustered by a global descriptor, one
    network a cluster. Assumed: DAISY's layout (a ring of 3 histograms and the centre, 8 orientations, radius 15), ReLU
    and the normalisation of the inputs by batch norm. Ours: for their scene labels the deepest features of a frozen
    trunk stand, the mean of these over the picture is the global descriptor, and k-means clusters them once, before
    training. Their joint bilateral filter is part of decoding, not of the network: `Method.bilateral`.

    Parameters
    ----------
    out_channels : int
    patch, daisy, semantic : bool
        Which features a pixel has: 49, 32 and 112 numbers.
    clusters : int
        Networks; 1 for one network of all pictures.

    Raises
    ------
    ValueError
        If no feature is left, or `clusters` is not positive.
    """

    stride, cell = 1, 16

    def __init__(
        self, out_channels: int, *, patch: bool = True, daisy: bool = True, semantic: bool = True, clusters: int = 4
    ) -> None:
        super().__init__()
        require(patch or daisy or semantic, "patch, daisy, semantic", "one of them at least", "none")
        require(clusters >= 1, "clusters", "a number >= 1", clusters)
        self.patch, self.daisy, self.semantic = patch, daisy, semantic
        self.trunk = Trunk() if semantic or clusters > 1 else None
        depth = self.trunk.channels[-1] if self.trunk else 0
        width = patch * PATCH**2 + daisy * 32 + semantic * depth
        self.norm = nn.BatchNorm2d(width, affine=False)
        self.experts = nn.ModuleList(_dense(width, out_channels) for _ in range(clusters))
        self.register_buffer("centers", torch.zeros(clusters, depth))

    def prepare(self, batches: Iterable[torch.Tensor]) -> None:
        """Cluster the training pictures by k-means on their global descriptors.

        Raises
        ------
        ValueError
            If there are fewer pictures than clusters.
        """
        count = len(self.centers)
        if count == 1:
            return
        found = torch.cat([_global(self._deepest(self.padded(lightness))) for lightness in batches])
        require(len(found) >= count, "batches", f"pictures for {count} clusters", len(found))
        self.centers.copy_(_kmeans(found, count))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        deepest = self._deepest(x) if self.trunk else None
        features = []
        if self.patch:
            around = F.pad(x, (PATCH // 2,) * 4, mode="replicate")
            features.append(F.unfold(around, PATCH).view(len(x), PATCH**2, *x.shape[-2:]))
        if self.daisy:
            features.append(daisy_maps(x))
        if self.semantic:
            features.append(F.interpolate(deepest, x.shape[-2:], mode="bilinear", align_corners=False))
        x = self.norm(torch.cat(features, dim=1))  # (B, width, H, W)
        if len(self.experts) == 1:
            return self.experts[0](x)
        cluster = torch.cdist(_global(deepest), self.centers).argmin(dim=1).tolist()
        return torch.cat([self.experts[k](x[i : i + 1]) for i, k in enumerate(cluster)])

    def _deepest(self, x: torch.Tensor) -> torch.Tensor:
        """The trunk's last maps (B, 112, H/16, W/16)."""
        with torch.autocast(x.device.type, enabled=False):
            return self.trunk(x + 0.5)[-1]


def daisy_maps(x: torch.Tensor) -> torch.Tensor:
    """DAISY descriptors (Tola, Lepetit and Fua 2010; scikit-image) of every pixel of (B, 1, H, W): (B, 32, H, W).

    On the processor, picture by picture, and without a gradient.
    """
    described = []
    for picture in x.detach().float().cpu().numpy()[:, 0]:
        padded = np.pad(picture, RADIUS, mode="reflect" if min(picture.shape) > RADIUS else "edge")
        described.append(daisy(padded, step=1, radius=RADIUS, rings=1, histograms=3, orientations=8))
    return torch.from_numpy(np.stack(described)).permute(0, 3, 1, 2).to(x)


def _global(deepest: torch.Tensor) -> torch.Tensor:
    """A descriptor (B, 112) of each picture: the mean of its deepest maps, of length 1."""
    return F.normalize(deepest.mean(dim=(2, 3)), dim=1)


def _kmeans(points: torch.Tensor, count: int) -> torch.Tensor:
    """The centres (count, D) of the tightest of ten clusterings of `points` (N, D) without an empty cluster."""
    # From torch's generator, so that the seed of a run decides.
    seeds = torch.randint(2**31, (10,)).tolist()
    best, least = points[:count], float("inf")
    for seed in seeds:
        try:
            centers, labels = kmeans2(points.double().cpu().numpy(), count, minit="++", missing="raise", seed=seed)
        except ClusterError:
            continue
        centers = torch.from_numpy(centers).to(points)
        spread = (points - centers[torch.from_numpy(labels).long()]).square().sum().item()
        if spread < least:
            best, least = centers, spread
    return best


def _dense(width: int, out_channels: int) -> nn.Sequential:
    """Three hidden layers, each half of its input, applied to every pixel alike."""
    layers: list[nn.Module] = []
    for _ in range(3):
        layers += [nn.Conv2d(width, width // 2, 1), nn.ReLU(inplace=True)]
        width //= 2
    return nn.Sequential(*layers, nn.Conv2d(width, out_channels, 1))
