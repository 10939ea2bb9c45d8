"""What the networks share: the check of the input, its normalisation and padding, convolutions and upsampling."""

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import nn

from colorstudy._checks import require_maps


class LightnessNetwork(nn.Module):
    """Base of the networks: checks and normalises lightness, pads it to whole cells of the deepest layer, and crops."""

    maps: Callable[[torch.Tensor], torch.Tensor]  # what a subclass makes of normalised lightness, sides whole cells

    def __init__(self, stride: int, cell: int) -> None:
        super().__init__()
        self.stride, self.cell = stride, cell  # input pixels a pixel of the output, and of the deepest layer

    def forward(self, lightness: torch.Tensor) -> torch.Tensor:
        """Maps (B, out_channels, ceil(H / stride), ceil(W / stride)) of lightness (B, 1, H, W) in [0, 100]."""
        require_maps(lightness, "lightness", 1, "(B, 1, H, W)")
        height, width = (-(-side // self.stride) for side in lightness.shape[-2:])
        return self.maps(self.padded(lightness))[..., :height, :width]

    def padded(self, lightness: torch.Tensor) -> torch.Tensor:
        """What `maps` takes: (L - 50) / 100, mirrored at its edges up to whole cells, or repeated if too small."""
        down, right = (-side % self.cell for side in lightness.shape[-2:])
        mode = "reflect" if down < lightness.shape[-2] and right < lightness.shape[-1] else "replicate"
        return nn.functional.pad((lightness - 50) / 100, (0, right, 0, down), mode=mode)


def convs(*channels: int, kernel: int = 3, stride: int = 1, dilation: int = 1, norm: bool = False) -> nn.Sequential:
    """Convolutions through `channels`, the last with `stride`, each with ReLU, and batch norm before it if `norm`."""
    layers: list[nn.Module] = []
    for (before, after), step in zip(pairwise(channels), [1] * (len(channels) - 2) + [stride], strict=True):
        conv = nn.Conv2d(before, after, kernel, step, kernel // 2 * dilation, dilation, bias=not norm)
        layers += [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)] if norm else [conv, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def upsample(x: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Bilinear, to the height and width of `like`: transposed convolutions leave a checkerboard (Odena et al. 2016)."""
    return nn.functional.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)
