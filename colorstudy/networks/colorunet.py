"""`colorunet` and `convnet` of Billaut, de Rochemonteix and Thibault 2018, "ColorUNet".

Order and widths are the paper's. Our reading of its figure: ReLU after each 3 x 3 convolution, not after transposed
ones, and a 1 x 1 convolution without ReLU at the end of both networks.
"""

import torch
from torch import nn

from colorstudy.networks._layers import LightnessNetwork, convs


class ColorUNet(LightnessNetwork):
    """The U-Net of the paper, at the input's own size: 16, 32, 64 down and 32, 16, 16 up."""

    def __init__(self, out_channels: int) -> None:
        super().__init__(stride=1, cell=8)
        self.down1, self.down2, self.down3 = _down(1, 16), _down(16, 32), _down(32, 64)
        self.up1, self.up2 = _up(64, 32, 32), _up(32 + 32, 16, 32)
        self.head = nn.Sequential(_double(32 + 16, 16), convs(16, 16), nn.Conv2d(16, out_channels, 1))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        half = self.down1(x)  # (B, 16, H/2, W/2)
        quarter = self.down2(half)  # (B, 32, H/4, W/4)
        x = self.up1(self.down3(quarter))  # (B, 32, H/4, W/4)
        x = self.up2(torch.cat([x, quarter], dim=1))  # (B, 32, H/2, W/2)
        return self.head(torch.cat([x, half], dim=1))  # (B, out_channels, H, W)


class ColorUNetFrozenNorm(ColorUNet):
    """`ColorUNet` with a defect of its released code: batch norm never is in training mode, so normalises nothing."""

    def __init__(self, out_channels: int) -> None:
        super().__init__(out_channels)
        self.train()

    def train(self, mode: bool = True) -> "ColorUNetFrozenNorm":
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                layer.eval()  # it scales and shifts, by statistics that stay the initial ones
        return self


class ConvNet(LightnessNetwork):
    """The baseline of the paper's milestone: the same bottleneck without skips, 32, 64, 64 down and 32, 32, 16 up."""

    def __init__(self, out_channels: int) -> None:
        super().__init__(stride=1, cell=8)
        down, up = [_down(1, 32), _down(32, 64), _down(64, 64)], [_up(64, 32, 32), _up(32, 32, 32)]
        self.layers = nn.Sequential(*down, *up, _double(32, 16), convs(16, 16), nn.Conv2d(16, out_channels, 1))

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # (B, out_channels, H, W)


def _down(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(convs(before, after), convs(after, after), nn.MaxPool2d(2), nn.BatchNorm2d(after))


def _up(before: int, middle: int, after: int) -> nn.Sequential:
    return nn.Sequential(_double(before, middle), convs(middle, after), convs(after, after), nn.BatchNorm2d(after))


def _double(before: int, after: int) -> nn.ConvTranspose2d:
    return nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)  # exactly twice as high and wide
