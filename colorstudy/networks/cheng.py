"""`cheng`: Cheng, Yang and Sheng 2015, "Deep colorization", and the same without each of its parts."""

from collections.abc import Iterable
from contextlib import suppress

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from colorstudy._checks import require
from colorstudy.networks._layers import convs, upsample
from colorstudy.networks._trunk import Trunk, TrunkNetwork

PATCH = 7  # side of the grey patch in pixels
RADIUS = 15  # how far a DAISY descriptor looks, in pixels


class Cheng(TrunkNetwork):
    """A small dense network for every pixel, on its patch (49 numbers), its texture (32) and its meaning (112).

    Reconstructed from secondary accounts. Known: a 7 x 7 grey patch, a DAISY descriptor of 32 numbers and a semantic
    histogram a pixel; three hidden layers, each about half of its input; pictures clustered by a global descriptor, one
    network a cluster. Assumed: DAISY's layout (a ring of 3 histograms and the centre, 8 orientations, radius 15), ReLU,
    inputs normalised by batch norm. Ours: the deepest features of a frozen trunk for their scene labels, and their mean
    as global descriptor, in one k-means before training. Their bilateral filter is decoding: `Method.bilateral`.
    """

    centers: torch.Tensor

    def __init__(
        self, out_channels: int, *, patch: bool = True, daisy: bool = True, semantic: bool = True, clusters: int = 4
    ) -> None:
        super().__init__(stride=1, cell=16)
        self.patch, self.daisy, self.semantic = patch, daisy, semantic
        self.trunk = Trunk(imagenet=False) if semantic or clusters > 1 else None
        depth = self.trunk.channels[3] if self.trunk else 0
        width = patch * PATCH**2 + daisy * 32 + semantic * depth
        widths = (width, width // 2, width // 4, width // 8)
        self.norm = nn.BatchNorm2d(width, affine=False)
        experts = ((convs(*widths, kernel=1), nn.Conv2d(widths[-1], out_channels, 1)) for _ in range(clusters))
        self.experts = nn.ModuleList(nn.Sequential(*hidden, last) for hidden, last in experts)
        self.register_buffer("centers", torch.zeros(clusters, depth))

    def prepare(self, batches: Iterable[torch.Tensor]) -> None:
        """And cluster the training pictures, batches of lightness, by the global descriptor: the best of ten runs."""
        from scipy.cluster import vq  # slow to import, as is scikit-image, and of use to this network alone

        super().prepare(batches)
        count = len(self.centers)
        if count == 1:
            return
        found = torch.cat([self._meaning(self.padded(lightness))[1] for lightness in batches])
        require(len(found) >= count, "batches", f"pictures for {count} clusters", len(found))
        runs = {float("inf"): found[:count]}  # centres by their spread; these if every run leaves a cluster empty
        for seed in torch.randint(2**31, (10,)).tolist():  # from torch's generator, so that the seed of a run decides
            with suppress(vq.ClusterError):
                means, labels = vq.kmeans2(found.double().cpu().numpy(), count, minit="++", missing="raise", seed=seed)
                centers = torch.from_numpy(means).to(found)
                spread = (found - centers[torch.from_numpy(labels).long()]).square().sum().item()
                runs.setdefault(spread, centers)
        self.centers.copy_(runs[min(runs)])

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        (deepest, descriptor), features = self._meaning(x), []
        if self.patch:
            around = F.pad(x, (PATCH // 2,) * 4, mode="replicate")
            features.append(F.unfold(around, PATCH).view(len(x), PATCH**2, *x.shape[-2:]))  # (B, 49, H, W)
        if self.daisy:
            features.append(daisy_maps(x))
        if self.semantic:
            features.append(upsample(deepest, x))
        x = self.norm(torch.cat(features, dim=1))  # (B, width, H, W)
        if len(self.experts) == 1:
            return self.experts[0](x)
        cluster = torch.cdist(descriptor, self.centers).argmin(dim=1).tolist()
        return torch.cat([self.experts[k](x[i : i + 1]) for i, k in enumerate(cluster)])

    def _meaning(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The trunk's last maps (B, 112, H/16, W/16) and their mean, of length 1, (B, 112); no channel without one."""
        with torch.autocast(x.device.type, enabled=False):
            deepest = self.trunk(x + 0.5)[-1] if self.trunk else x[:, :0]
            return deepest, F.normalize(deepest.mean(dim=(2, 3)), dim=1)


def daisy_maps(x: torch.Tensor) -> torch.Tensor:
    """DAISY (Tola, Lepetit and Fua 2010) of every pixel of (B, 1, H, W): (B, 32, H, W), on the CPU, no gradient."""
    from skimage.feature import daisy

    described = []
    for picture in x.detach().float().cpu().numpy()[:, 0]:
        padded = np.pad(picture, RADIUS, mode="reflect" if min(picture.shape) > RADIUS else "edge")
        described.append(daisy(padded, step=1, radius=RADIUS, rings=1, histograms=3, orientations=8))
    return torch.from_numpy(np.stack(described)).permute(0, 3, 1, 2).to(x)
