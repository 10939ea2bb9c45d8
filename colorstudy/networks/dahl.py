"""`dahl` and `dahl-vgg16`: the residual encoder of Dahl 2016, "Automatic colorization" (tinyclouds.org/colorize)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from colorstudy.networks._layers import LightnessNetwork
from colorstudy.networks._trunk import Trunk


class Dahl(LightnessNetwork):
    """Features of a frozen trunk at four depths, added from the deepest up, each upsampled to the size of the next.

    Reconstructed from secondary accounts. Known: VGG-16's features at conv1_2, 2_2, 3_3 and 4_3; batch norm, a 1 x 1
    convolution, upsampling and addition; 3 x 3 convolutions of 128, 64, 3, 3 and 2 maps; a sigmoid to UV. Assumed: ReLU
    between the convolutions, bilinear upsampling, and that the picture itself joins where there are 3 maps. Ours: every
    feature has a 1 x 1 convolution, not only the deepest, so that trunks of other widths fit the same layout.

    Parameters
    ----------
    out_channels : int
        With 2, a colour, the output is in (-1, 1), for a target that knows what 1 is worth: the published sigmoid,
        scaled. Other numbers are logits, without one.
    trunk : {"efficientnet-lite0", "vgg16"}
        See `Trunk`. Dahl's own, VGG-16, gives maps of the input's size, EfficientNet-Lite0 of half of it.
    """

    def __init__(self, out_channels: int, trunk: str = "efficientnet-lite0") -> None:
        super().__init__()
        self.trunk = Trunk(trunk)
        self.stride, self.cell = self.trunk.strides[0], self.trunk.strides[-1]
        # From the finest to the deepest; the two deepest meet in 256 maps, as in VGG-16.
        widths = (64, 128, 256, 256)
        self.lateral = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(before), nn.Conv2d(before, width, 1))
            for before, width in zip(self.trunk.channels, widths, strict=True)
        )
        self.merge = nn.ModuleList(_conv(*pair) for pair in ((64, 3), (128, 64), (256, 128)))
        self.picture = nn.BatchNorm2d(3)
        self.head = nn.Sequential(_conv(3, 3), nn.Conv2d(3, out_channels, 3, padding=1))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        gray = x + 0.5  # in [0, 1]
        features = [side(f) for side, f in zip(self.lateral, self.trunk(gray), strict=True)]
        x = features.pop()  # (B, 256, H/16, W/16), for EfficientNet-Lite0
        for merge, finer in zip(reversed(self.merge), reversed(features), strict=True):
            x = F.interpolate(x, finer.shape[-2:], mode="bilinear", align_corners=False)
            x = merge(x + finer)  # (B, 128, H/8, W/8), (B, 64, H/4, W/4), (B, 3, H/2, W/2)
        small = F.avg_pool2d(gray, self.stride).expand(-1, 3, -1, -1)
        x = self.head(x + self.picture(small))  # (B, out_channels, H/2, W/2)
        return 2 * torch.sigmoid(x) - 1 if x.shape[1] == 2 else x


def _conv(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.ReLU(inplace=True))
