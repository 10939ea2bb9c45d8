"""`dahl`: the residual encoder of Dahl 2016, "Automatic colorization" (tinyclouds.org/colorize)."""

import torch
from torch import nn

from colorstudy.networks._layers import convs, upsample
from colorstudy.networks._trunk import Trunk, TrunkNetwork


class Dahl(TrunkNetwork):
    """Features of a frozen trunk at four depths, added from the deepest up, each upsampled to the size of the next.

    Reconstructed from secondary accounts. Known: batch norm, a 1 x 1 convolution, upsampling and addition; 3 x 3
    convolutions of 128, 64, 3, 3 and 2 maps; a sigmoid to UV. Assumed: ReLU between the convolutions, bilinear
    upsampling, and that the picture itself joins where there are 3 maps. Ours: a 1 x 1 convolution for every feature,
    not the deepest only; half of the input size. Dahl used VGG-16 (conv1_2, 2_2, 3_3 and 4_3), not EfficientNet-Lite0.
    With 2 `out_channels`, a colour, the sigmoid is scaled to (-1, 1), in the target's units; other numbers are logits.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__(stride=2, cell=16)
        self.trunk = Trunk(imagenet=False)
        widths = zip(self.trunk.channels[:4], (64, 128, 256, 256), strict=True)  # the two deepest alike, as in VGG-16
        self.lateral = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(a), nn.Conv2d(a, b, 1)) for a, b in widths)
        self.merge = nn.ModuleList([convs(64, 3), convs(128, 64), convs(256, 128)])
        self.picture = nn.BatchNorm2d(3)
        self.head = nn.Sequential(convs(3, 3), nn.Conv2d(3, out_channels, 3, padding=1))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        gray = x + 0.5  # in [0, 1]
        *finer, x = (side(feature) for side, feature in zip(self.lateral, self.trunk(gray), strict=True))
        for merge, feature in zip(reversed(self.merge), reversed(finer), strict=True):  # from (B, 256, H/16, W/16)
            x = merge(upsample(x, feature) + feature)  # (B, 128, H/8, W/8), (B, 64, H/4, W/4), (B, 3, H/2, W/2)
        picture = nn.functional.avg_pool2d(gray, 2).expand(-1, 3, -1, -1)  # (B, 3, H/2, W/2)
        x = self.head(x + self.picture(picture))  # (B, out_channels, H/2, W/2)
        return 2 * torch.sigmoid(x) - 1 if x.shape[1] == 2 else x
