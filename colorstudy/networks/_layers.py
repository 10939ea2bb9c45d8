"""What the networks share: input checks, normalisation and padding, once."""

from __future__ import annotations

from collections.abc import Iterable

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

    def prepare(self, batches: Iterable[torch.Tensor]) -> None:
        """What a network learns from the training pictures before training: nothing, unless it says otherwise.

        `batches` give their lightness, (B, 1, H, W) in [0, 100] each.
        """

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        """Maps (B, out_channels, ceil(H / stride), ceil(W / stride)) of lightness (B, 1, H, W) in [0, 100]."""
        require_maps(lightness, "lightness", 1, "(B, 1, H, W)")
        require(lightness.ndim == 4, "lightness", "shape (B, 1, H, W)", tuple(lightness.shape))
        height, width = lightness.shape[-2:]
        return self.maps(self.padded(lightness))[..., : -(-height // self.stride), : -(-width // self.stride)]

    def padded(self, lightness: torch.Tensor) -> torch.Tensor:
        """Lightness (B, 1, H, W) as what `maps` takes: (L - 50) / 100, of whole cells."""
        x = (lightness - 50) / 100
        down, right = (-side % self.cell for side in lightness.shape[-2:])
        return F.pad(x, (0, right, 0, down), mode="replicate") if down or right else x


def conv(in_channels: int, out_channels: int, stride: int = 1) -> nn.Sequential:
    """A 3 x 3 convolution and ReLU."""
    return nn.Sequential(nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1), nn.ReLU(inplace=True))
