"""`pretrained`: EfficientNet-Lite0, trained on ImageNet, under a small decoder to a quarter of the input's size."""

from itertools import pairwise

import torch
from torch import nn

from colorstudy.networks._layers import convs, upsample
from colorstudy.networks._trunk import Trunk, TrunkNetwork


class Pretrained(TrunkNetwork):
    """Features at 3 or 4 depths, each normalised, joined from the deepest up, as Ronneberger et al. 2015 join theirs.

    The trunk is frozen, or trained with the rest if `tuned`. A model is saved with it: 4 million weights in all. The
    trunk sees the picture `zoom` times as large, 1 or 2, without more detail: things are large in ImageNet, too.
    """

    def __init__(self, out_channels: int, *, tuned: bool = False, zoom: int = 1) -> None:
        super().__init__(stride=4, cell=32 // zoom)
        self.zoom, self.trunk = zoom, Trunk(5, tuned=tuned, imagenet=False)
        channels = self.trunk.channels[zoom:]  # of the features at a quarter of the picture's size, and deeper
        self.norms = nn.ModuleList(nn.BatchNorm2d(depth) for depth in channels)
        widths = (80, 96, 128, channels[-1])[zoom - 1 :]
        pairs = zip(pairwise(widths), channels, strict=False)
        self.merge = nn.ModuleList(convs(below + skip, width, width, norm=True) for (width, below), skip in pairs)
        self.head = nn.Conv2d(widths[0], out_channels, 1)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        x = x + 0.5  # in [0, 1]
        if self.zoom > 1:
            x = nn.functional.interpolate(x, scale_factor=self.zoom, mode="bicubic", align_corners=False)
        features = self.trunk(x)[self.zoom :]
        *finer, x = (norm(feature) for norm, feature in zip(self.norms, features, strict=True))
        for merge, feature in zip(reversed(self.merge), reversed(finer), strict=True):  # from the deepest, of 320 maps
            x = merge(torch.cat([upsample(x, feature), feature], dim=1))
        return self.head(x)  # (B, out_channels, H/4, W/4)
