"""`colorunet` and `convnet` of Billaut, de Rochemonteix and Thibault 2018, "ColorUNet", by the paper and as released.

Order and widths are the paper's. Our reading of its figure: ReLU after each 3 x 3 convolution, not after transposed
ones, and a 1 x 1 convolution without ReLU at the end of both networks. In the released code ReLU follows transposed
convolutions, too, but for that before the scores of its `ConvNet`, and weights start as in Glorot and Bengio 2010.
"""

import torch
from torch import nn

from colorstudy.networks._layers import LightnessNetwork, convs


class ColorUNet(LightnessNetwork):
    """The U-Net of the paper, at the input's own size: 16, 32, 64 down and 32, 16, 16 up."""

    def __init__(self, out_channels: int, released: bool = False) -> None:
        super().__init__(stride=1, cell=8)
        self.down1, self.down2, self.down3 = _down(1, 16), _down(16, 32), _down(32, 64)
        self.up1, self.up2 = _up(64, 32, 32, released), _up(32 + 32, 16, 32, released)
        self.head = nn.Sequential(_double(32 + 16, 16, released), convs(16, 16), nn.Conv2d(16, out_channels, 1))
        if released:
            self.apply(_glorot)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        half = self.down1(x)  # (B, 16, H/2, W/2)
        quarter = self.down2(half)  # (B, 32, H/4, W/4)
        x = self.up1(self.down3(quarter))  # (B, 32, H/4, W/4)
        x = self.up2(torch.cat([x, quarter], dim=1))  # (B, 32, H/2, W/2)
        return self.head(torch.cat([x, half], dim=1))  # (B, out_channels, H, W)


class ColorUNetFrozenNorm(ColorUNet):
    """The released `ColorUNet` with its defect: batch norm never is in training mode, so normalises nothing."""

    def __init__(self, out_channels: int) -> None:
        super().__init__(out_channels, released=True)
        self.train()

    def train(self, mode: bool = True) -> "ColorUNetFrozenNorm":
        super().train(mode)
        for layer in self.modules():
            if isinstance(layer, (nn.BatchNorm2d, nn.SyncBatchNorm)):
                layer.eval()  # it scales and shifts, by statistics that stay the initial ones
        return self


class ConvNet(LightnessNetwork):
    """The baseline of the paper's milestone: the same bottleneck without skips, 32, 64, 64 down and 32, 32, 16 up.

    `released`, `next_convnet` of their code: a first stride of 2, two pools, no norm going up, no conv16 at the end.
    """

    def __init__(self, out_channels: int, released: bool = False) -> None:
        super().__init__(stride=1, cell=8)
        if released:
            layers = [convs(1, 32, stride=2), convs(32, 32), nn.MaxPool2d(2), nn.BatchNorm2d(32), _down(32, 64)]
            layers += [convs(64, 64, 64), nn.BatchNorm2d(64), _double(64, 32, relu=True), convs(32, 32, 32)]
            layers += [_double(32, 16, relu=True), convs(16, 32, 32), _double(32, 16)]
        else:
            layers = [_down(1, 32), _down(32, 64), _down(64, 64), _up(64, 32, 32), _up(32, 32, 32)]
            layers += [_double(32, 16), convs(16, 16)]
        self.layers = nn.Sequential(*layers, nn.Conv2d(16, out_channels, 1))
        if released:
            self.apply(_glorot)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)  # (B, out_channels, H, W)


def _down(before: int, after: int) -> nn.Sequential:
    return nn.Sequential(convs(before, after), convs(after, after), nn.MaxPool2d(2), nn.BatchNorm2d(after))


def _up(before: int, mid: int, after: int, relu: bool = False) -> nn.Sequential:
    return nn.Sequential(_double(before, mid, relu), convs(mid, after), convs(after, after), nn.BatchNorm2d(after))


def _double(before: int, after: int, relu: bool = False) -> nn.Module:
    up = nn.ConvTranspose2d(before, after, 3, stride=2, padding=1, output_padding=1)  # exactly twice as high and wide
    return nn.Sequential(up, nn.ReLU(inplace=True)) if relu else up


def _glorot(layer: nn.Module) -> None:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d) and layer.bias is not None:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
