"""`compact`: our default network, about a million parameters, made to train on a laptop's processor."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from colorstudy.networks._layers import LightnessNetwork


class Compact(LightnessNetwork):
    """A U-shaped residual network: four halvings down to 1/16, two doublings up to 1/4 of the input size.

    The shape is that of U-Net (Ronneberger, Fischer and Brox 2015) with residual blocks (He et al. 2016); like the
    network of Zhang et al. 2016 it ends at a quarter of the input size, since colour varies slowly. Convolutions at
    full and half size are few and thin, which is where the time of such networks goes; the parameters are in the deep
    layers.

    Parameters
    ----------
    out_channels : int
    widths : (int, int, int, int)
        Channels at 1/2, 1/4, 1/8 and 1/16 of the input size. Multiples of 16 fill a processor's vectors.
    """

    stride, cell = 4, 16

    def __init__(self, out_channels: int, widths: tuple[int, int, int, int] = (32, 48, 80, 96)) -> None:
        super().__init__()
        w2, w4, w8, w16 = widths
        self.down2 = _block(1, w2, stride=2)
        self.down4 = nn.Sequential(_block(w2, w4, stride=2), _Residual(w4))
        self.down8 = nn.Sequential(_block(w4, w8, stride=2), _Residual(w8))
        self.down16 = nn.Sequential(_block(w8, w16, stride=2), _Residual(w16), _Residual(w16))
        self.up8 = _Up(w16, w8, w8)
        self.up4 = _Up(w8, w4, 64)
        self.head = nn.Conv2d(64, out_channels, 1)

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        quarter = self.down4(self.down2(x))  # (B, w4, H/4, W/4)
        eighth = self.down8(quarter)  # (B, w8, H/8, W/8)
        sixteenth = self.down16(eighth)  # (B, w16, H/16, W/16)
        return self.head(self.up4(self.up8(sixteenth, eighth), quarter))


def _block(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """3 x 3 convolution, batch norm, ReLU; the bias is that of the norm."""
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(out_channels),
        nn.ReLU(inplace=True),
    )


class _Residual(nn.Module):
    """Two 3 x 3 convolutions added to their input (He et al. 2016)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = _block(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.second(self.first(x)))


class _Up(nn.Module):
    """Doubles the deep maps, joins the skipped ones and mixes both."""

    def __init__(self, deep: int, skipped: int, out_channels: int) -> None:
        super().__init__()
        self.mix = nn.Sequential(_block(deep + skipped, out_channels), _Residual(out_channels))

    def forward(self, deep: torch.Tensor, skipped: torch.Tensor) -> torch.Tensor:
        # Interpolation, since transposed convolutions leave a checkerboard (Odena, Dumoulin and Olah 2016).
        up = F.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        return self.mix(torch.cat([up, skipped], dim=1))
