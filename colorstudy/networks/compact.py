"""`compact`: our default network, about a million parameters, made to train on a laptop's processor."""

import torch
from torch import nn

from colorstudy.networks._layers import LightnessNetwork, convs, upsample


class Compact(LightnessNetwork):
    """U-Net (Ronneberger, Fischer and Brox 2015) of residual blocks (He et al. 2016), at a quarter of the input size.

    That of Zhang et al. 2016 ends there too: colour varies slowly. Full and half size, where time goes, are thin.
    """

    def __init__(self, out_channels: int) -> None:
        super().__init__(stride=4, cell=16)
        w2, w4, w8, w16 = 32, 48, 80, 96  # channels at 1/2 to 1/16; multiples of 16 fill a processor's vectors
        self.down2 = convs(1, w2, stride=2, norm=True)
        self.down4 = nn.Sequential(convs(w2, w4, stride=2, norm=True), _Residual(w4))
        self.down8 = nn.Sequential(convs(w4, w8, stride=2, norm=True), _Residual(w8))
        self.down16 = nn.Sequential(convs(w8, w16, stride=2, norm=True), _Residual(w16), _Residual(w16))
        self.up8, self.up4 = _Up(w16, w8, w8), _Up(w8, w4, 64)
        self.head = nn.Conv2d(64, out_channels, 1)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        quarter = self.down4(self.down2(x))  # (B, w4, H/4, W/4)
        eighth = self.down8(quarter)  # (B, w8, H/8, W/8)
        sixteenth = self.down16(eighth)  # (B, w16, H/16, W/16)
        return self.head(self.up4(self.up8(sixteenth, eighth), quarter))  # (B, out_channels, H/4, W/4)


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = convs(channels, channels, norm=True)
        self.second = convs(channels, channels, norm=True)[:2]  # its ReLU follows the sum

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x + self.second(self.first(x)))


class _Up(nn.Module):
    def __init__(self, deep: int, skipped: int, after: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(convs(deep + skipped, after, norm=True), _Residual(after))

    def forward(self, deep: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:
        return self.mix(torch.cat([upsample(deep, skipped), skipped], dim=1))
