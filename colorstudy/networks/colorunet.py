"""`colorunet` and `convnet` of Billaut, de Rochemonteix and Thibault 2018, "ColorUNet".

The order of layers and their widths are the paper's. That a ReLU follows every 3 x 3 convolution but not the transposed
ones, and that both networks end in a ReLU-free 1 x 1 convolution, is our reading of its figure.
"""

from __future__ import annotations

import torch
from torch import nn

from colorstudy.networks._layers import LightnessNetwork, conv


class ColorUNet(LightnessNetwork):
    """The U-Net of the paper, at the input's own size: three poolings down, three transposed convolutions up, two
    skips.

    2 x conv16, pool, BN -> 2 x conv32, pool, BN -> 2 x conv64, pool, BN -> convT32, 2 x conv32, BN, concat -> convT16,
    2 x conv32, BN, concat -> convT16, conv16, 1 x 1 conv.
    """

    stride, cell = 1, 8

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.down1, self.down2, self.down3 = _down(1, 16), _down(16, 32), _down(32, 64)
        self.up1, self.up2 = _up(64, 32, 32), _up(32 + 32, 16, 32)
        self.head = nn.Sequential(_double(32 + 16, 16), conv(16, 16), nn.Conv2d(16, out_channels, 1))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        half = self.down1(x)  # (B, 16, H/2, W/2)
        quarter = self.down2(half)  # (B, 32, H/4, W/4)
        x = self.up1(self.down3(quarter))  # (B, 32, H/4, W/4)
        x = self.up2(torch.cat([x, quarter], dim=1))  # (B, 32, H/2, W/2)
        return self.head(torch.cat([x, half], dim=1))  # (B, out_channels, H, W)


class ConvNet(LightnessNetwork):
    """The baseline of the paper's milestone: the same bottleneck without skips, 32, 64, 64 down and 32, 32, 16 up."""

    stride, cell = 1, 8

    def __init__(self, out_channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            _down(1, 32),
            _down(32, 64),
            _down(64, 64),
            _up(64, 32, 32),
            _up(32, 32, 32),
            _double(32, 16),
            conv(16, 16),
            nn.Conv2d(16, out_channels, 1),
        )

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


def _down(in_channels: int, out_channels: int) -> nn.Sequential:
    """2 x conv, pool, BN."""
    return nn.Sequential(
        conv(in_channels, out_channels),
        conv(out_channels, out_channels),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(out_channels),
    )


def _up(in_channels: int, middle: int, out_channels: int) -> nn.Sequential:
    """convT, 2 x conv, BN."""
    return nn.Sequential(
        _double(in_channels, middle),
        conv(middle, out_channels),
        conv(out_channels, out_channels),
        nn.BatchNorm2d(out_channels),
    )


def _double(in_channels: int, out_channels: int) -> nn.ConvTranspose2d:
    """A 3 x 3 transposed convolution of stride 2 that doubles height and width exactly."""
    return nn.ConvTranspose2d(in_channels, out_channels, 3, stride=2, padding=1, output_padding=1)
