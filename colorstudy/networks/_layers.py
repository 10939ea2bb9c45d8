"""What the networks share: input checks, normalisation and padding, once."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from colorstudy._checks import require, require_maps


class LightnessNetwork(nn.Module):
    """Base of the networks: checks and normalises lightness, pads it to whole cells of the deepest layer, and crops.

    A subclass sets `stride` (input pixels an output pixel) and `cell` (input pixels a pixel of its deepest layer), and
    writes ``maps(x)`` for inputs whose height and width are multiples of `cell`.
    """

    stride: int
    cell: int

    def maps(self, x: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        """Maps (B, out_channels, ceil(H / stride), ceil(W / stride)) of lightness (B, 1, H, W) in [0, 100]."""
        require_maps(lightness, "lightness", 1, "(B, 1, H, W)")
        require(lightness.ndim == 4, "lightness", "shape (B, 1, H, W)", tuple(lightness.shape))
        height, width = lightness.shape[-2:]
        x = (lightness - 50) / 100
        down, right = -height % self.cell, -width % self.cell
        if down or right:
            x = F.pad(x, (0, right, 0, down), mode="replicate")
        return self.maps(x)[..., : -(-height // self.stride), : -(-width // self.stride)]


def conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution and ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1), nn.ReLU(inplace=True))
