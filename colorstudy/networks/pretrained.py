"""`pretrained`: EfficientNet-Lite0, trained on ImageNet, under a small decoder to a quarter of the input's size."""

import torch
from torch import nn

from colorstudy.networks._layers import convs, upsample
from colorstudy.networks._trunk import Trunk, TrunkNetwork


class Pretrained(TrunkNetwork):
    """Features at four depths, each normalised, joined from the deepest up, as Ronneberger et al. 2015 join theirs.

    The trunk is frozen, or trained with the rest if `tuned`. A model is saved with it: 4 million weights in all.
    """

    def __init__(self, out_channels: int, *, tuned: bool = False) -> None:
        super().__init__(stride=4, cell=32)
        self.trunk = Trunk(5, tuned=tuned, imagenet=False)
        channels = self.trunk.channels[1:]
        self.norms = nn.ModuleList(nn.BatchNorm2d(depth) for depth in channels)
        widths = zip((80, 96, 128), channels, (96, 128, channels[-1]), strict=False)
        self.merge = nn.ModuleList(convs(below + skip, width, width, norm=True) for width, skip, below in widths)
        self.head = nn.Conv2d(80, out_channels, 1)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        features = self.trunk(x + 0.5)[1:]  # x + 0.5 is in [0, 1]
        *finer, x = (norm(feature) for norm, feature in zip(self.norms, features, strict=True))
        for merge, feature in zip(reversed(self.merge), reversed(finer), strict=True):  # from (B, 320, H/32, W/32)
            x = merge(torch.cat([upsample(x, feature), feature], dim=1))
        return self.head(x)  # (B, out_channels, H/4, W/4)
